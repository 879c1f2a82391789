"""A classifier is taught, measured, used and asked about, on a run whose frames say by themselves what they show."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import torch

from robotrl import classified, config, rundir
from robotrl.agents.classifier import Classifier
from robotrl.clock import LockstepClock
from robotrl.labelled import LABELS, LabelFile, write_all
from robotrl.labels import Given
from robotrl.log import Log
from robotrl.messages import Label
from robotrl.nodes.classifier import Assessor, serve
from robotrl.nodes.labelbook import BookFile
from robotrl.nodes.school import School
from robotrl.relabel import RelabelError
from robotrl.replay import Replay
from robotrl.rewards import classifier, lessons, trust

CAMERAS = (("eye", 32, 32, 3),)
STEPS, SAID = 16, 14  # of an episode; the step that a person calls a success, 10 Hz: two steps after it could be seen
SETTINGS = config.Classifier(precision=0.5, held_out=0.5, updates=150, in_a_row=2, queue=4)


def picture(success: bool, rng: np.random.Generator) -> bytes:
    image = rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)
    column = 6 if success else 20
    image[12:18, column : column + 6] = 255
    return image.tobytes()


def successful(episode: int) -> bool:
    return episode % 4 < 2


class World:
    """A run directory with episodes whose frames show a success from step SAID - 2 on, in half of them."""

    def __init__(self, path, **settings):
        run = config.Run()
        self.run = replace(
            run, task=replace(run.task, rate_hz=20.0, reward="classifier"), classifier=replace(SETTINGS, **settings)
        )
        self.directory = rundir.create(self.run, path, "lockstep")
        self.replay = Replay.create(self.directory / "replay", 1, 1, 2000, CAMERAS)
        self.rng, self.given, self.count = np.random.default_rng(0), [], 0

    def play(self, episodes: int, judged: bool = True):
        zero = np.zeros(1, np.float32)
        for episode in range(self.count, self.count + episodes):
            for step in range(STEPS):
                seen = picture(successful(episode) and step >= SAID - 2, self.rng)
                self.replay.add(zero, zero, 0.0, zero, terminated=False, truncated=step == STEPS - 1, episode=episode, step=step,
                                tick=100 * episode + step, policy_version=0, next_images=seen,
                                images=b"" if step else picture(False, self.rng))  # fmt: skip
            if judged and successful(episode):
                self.say(Label(press=0, value=1.0, tick=-1, kind="success", episode=episode, step=SAID))
        self.count += episodes

    def say(self, label):
        self.given.append(Given(len(self.given) + 1, label))
        write_all(self.directory / LABELS, self.given)

    def school(self):
        return School(self.run, self.directory, self.replay)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A world of 40 judged episodes, one version, 8 episodes more, and the next version."""
    torch.set_num_threads(1)
    world = World(tmp_path_factory.mktemp("runs"))
    world.play(40)
    school = world.school()
    world.first = school.teach(world.replay.count), school.version
    world.play(8)
    world.second = school.teach(world.replay.count), school.version
    yield world
    world.replay.close()


def test_a_version_is_measured_on_the_episodes_that_it_was_not_taught(taught):
    answer, version = taught.first
    held = [e for e in range(40) if lessons.held_out(e, 0.5)]
    assert answer["version"] == 1 and version.about["held_out"] == len(held) and 10 < len(held) < 30
    successes = sum(map(successful, held))
    for _, said, right, of, _ in version.about["trials"]:
        assert of == successes and right <= said <= len(held)
    assert answer["why"] == version.why == "" and version.about["trials"][0][1:4] == [successes] * 3
    taught_from = sum(version.about["taught"])
    assert taught_from == sum(11 + 3 if successful(e) else STEPS for e in set(range(40)) - set(held))
    assert version.about["calibration_error"] < 0.2 and not {e for e, _, _ in version.about["queue"]} & set(held)


def test_what_is_on_the_disk_is_what_was_measured(taught):
    kept = classifier.newest(taught.directory)
    assert kept is not None and kept[0].number == 2 and kept[0].transitions == 48 * STEPS
    used = Classifier(safetensors.numpy.load(kept[1]), (32, 32, 3))
    rng = np.random.default_rng(9)
    for success in (True, False):
        image = np.frombuffer(picture(success, rng), np.uint8).reshape(32, 32, 3)
        assert (used.probability(image) > 0.5) == success


def test_confusion_over_time_is_of_what_came_after_each_version(taught):
    (row,) = taught.second[1].about["then"]
    assert row[:2] == [1, 40 * STEPS] and sum(row[2:]) == 8 and row[2] == 4 and taught.first[1].about["then"] == []


def test_a_school_that_was_started_again_makes_the_same_version(taught):
    whole = (taught.directory / "classifier" / f"{48 * STEPS:09d}-{2:09d}" / classifier.WEIGHTS).read_bytes()
    shutil.rmtree(taught.directory / "classifier" / f"{48 * STEPS:09d}-{2:09d}")
    assert taught.school().teach(48 * STEPS)["version"] == 2
    assert classifier.newest(taught.directory)[1] == whole


def test_a_verdict_that_a_person_denied_is_asked_about_and_his_second_word_counts(tmp_path):
    """Held-out successes of which he said nothing: the version says success, he is shown the frame, and says yes."""
    world = World(tmp_path)
    world.play(40)
    held = [e for e in range(40) if lessons.held_out(e, 0.5) and successful(e)][:3]
    world.given = [g for g in world.given if g.label.episode not in held]
    write_all(world.directory / LABELS, world.given)
    first = world.school()
    first.teach(world.replay.count)
    about = first.version.about
    said = {t[0]: t[1:4] for t in about["trials"]}
    total, right, _ = said[about["threshold"]]
    assert total - right == 3 and [row[0] for row in about["denied"]] == held[:-3:-1], "the newest first, half of the queue"
    assert about["queue"][:2] == about["denied"] and len(about["queue"]) == 4
    assert not {e for e, _, _ in about["queue"][2:]} & {e for e in range(40) if lessons.held_out(e, 0.5)}
    for episode, step, _ in about["denied"]:
        world.say(Label(press=0, value=0.0, tick=-1, kind="yes", episode=episode, step=step))
    world.play(1)
    first.teach(world.replay.count)
    about = first.version.about
    again = {t[0]: t[1:4] for t in about["trials"]}[about["threshold"]]
    assert again[0] - again[1] == 1 and [row[0] for row in about["denied"]] == held[:1], "the third is asked about now"
    world.say(Label(press=0, value=0.0, tick=-1, kind="no", episode=held[0], step=about["denied"][0][1]))
    world.play(1)
    first.teach(world.replay.count)
    assert first.version.about["denied"] == [], "nobody is asked twice"
    world.replay.close()


def test_the_threshold_is_chosen_by_episodes_that_are_taught(taught):
    tried = taught.second[1].about["tried"]
    new = [e for e in range(40, 48) if not lessons.held_out(e, 0.5)]
    assert taught.first[1].about["tried"] == [] and [row[0] for row in tried] == new
    for episode, *came_to in tried:
        assert came_to[0] == (trust.RIGHT if successful(episode) else trust.SILENT)
    assert taught.second[1].threshold == trust.choose([row[1:] for row in tried], 0.95)


def test_below_the_stated_precision_it_may_not_be_used_and_without_a_success_there_is_none(tmp_path):
    world = World(tmp_path, precision=0.9, updates=1)
    world.play(4, judged=False)
    assert "none shows a success" in world.school().teach(world.replay.count)["why"]
    world.play(16)
    answer = world.school().teach(world.replay.count)
    assert answer["version"] == 1 and "label more" in answer["why"]
    judge = classifier.Judge(world.run)
    judge.take(classifier.newest(world.directory)[0], lambda _: 1.0)
    assert not judge.judges(99)
    world.replay.close()


def test_the_node_gives_labels_of_the_steps_that_are_new_with_the_life_and_the_version(taught):
    node = SimpleNamespace(run=taught.run, directory=taught.directory, say=lambda _: None, clock=LockstepClock())
    assessor = Assessor(node, taught.replay)
    assert assessor.new() == [], "what was there before is not judged again"
    assessor.lives[48] = 77
    taught.play(2, judged=False)
    first, second = assessor.new()
    assert (first.kind, first.episode, first.life, first.version, first.tick) == ("success", 48, 77, 2, 4800 + first.step)
    assert SAID - 2 <= first.step < SAID + 1 and (second.kind, second.episode) == ("success", 49)
    taught.say(first)
    taught.say(Label(press=0, value=0.0, tick=-1, kind="fail", episode=48, step=STEPS - 1))
    assessor.hear()
    report = assessor.report()
    assert report.disagreements == 1 and report.last == "episode 48: classifier 2 said a success, the person none"
    assert (report.version, report.why, report.episode) == (2, "", 49)


class Voice:
    """A publisher that remembers."""

    def __init__(self):
        self.said = []

    def send(self, message):
        self.said.append(message)
        return message


def test_the_node_says_how_it_stands_and_a_label_again_until_it_is_kept(taught):
    """Its loop on a clock of ours: five times a second its word, and an unkept label once more after the outbox's patience."""
    clock, voices = LockstepClock(), {"label": Voice(), "classifier": Voice()}
    silent = SimpleNamespace(latest=lambda: None)
    bus = SimpleNamespace(publisher=voices.__getitem__, subscriber=lambda topic: silent)

    def every(period):
        for number in range(250):
            clock.advance(period)
            if number == 10:
                taught.play(1, judged=False)
            yield number

    node = SimpleNamespace(run=taught.run, directory=taught.directory, say=lambda _: None, clock=clock, bus=bus, every=every,
                           beat=lambda _: None)  # fmt: skip
    every_time = replace(taught.run, classifier=replace(taught.run.classifier, every=10**6))
    node.run = every_time
    serve(node, Assessor(node, taught.replay), SimpleNamespace(pending=False))
    assert 20 <= len(voices["classifier"].said) <= 26 and voices["classifier"].said[-1].episode == taught.count - 1
    labels = voices["label"].said
    assert (
        len(labels) >= 2
        and {label.number for label in labels} == {1}
        and {label.episode for label in labels} == {taught.count - 1}
    )


def test_the_command_shows_whether_it_deserves_trust_and_what_it_asks(taught, capsys):
    assert classified.main([str(taught.directory), "--json"]) == 0
    out = capsys.readouterr().out
    assert "version 2, from 768 transitions: used at threshold" in out and "over time" in out and "calibration" in out
    assert classified.main([str(taught.directory), "queue"]) == 0
    asked = [f"{e}:{s}" for e, s, _ in taught.second[1].about["queue"]]
    assert all(frame in capsys.readouterr().out for frame in asked[:1])
    assert (taught.directory / classified.QUEUE).stat().st_size > 1000


def test_what_is_said_of_a_frame_is_in_the_log_and_the_next_training_has_it(tmp_path, capsys):
    world = World(tmp_path, updates=1)
    world.play(3, judged=False)
    Log.open(world.directory / "log").close()
    with pytest.raises(RelabelError, match="no step 99"):
        classified.main([str(world.directory), "yes", "1:99"])
    with pytest.raises(RelabelError, match="EPISODE:STEP"):
        classified.main([str(world.directory), "no", "12"])
    assert classified.main([str(world.directory), "yes", "1:3", "1:4"]) == 0 and "2 frames" in capsys.readouterr().out
    assert [g.label.kind for g in LabelFile(world.directory / LABELS).poll()[0]] in ([], ["yes", "yes"])
    BookFile(world.directory, world.replay).close()
    world.replay.close()
    assert "no version yet" in classified.summary(None, "")
