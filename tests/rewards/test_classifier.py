"""A version at work: which labels follow from what it sees, when it changes hands, and when it is not used."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from robotrl import checkpoint, config, transitions
from robotrl.labels import Given
from robotrl.messages import Label
from robotrl.replay import Replay
from robotrl.rewards import classifier
from robotrl.rewards.classifier import FOLDER, NONE_YET, WEIGHTS, Judge, Seen, Version, image_of, image_shape, images_of

CAMERAS = (("a", 2, 2, 3), ("b", 2, 2, 1))
RUN = replace(config.Run(), classifier=config.Classifier(in_a_row=2))
ZERO = np.zeros(1, np.float32)


def version(number=1, why=""):
    return Version(number, 100, 0.8, why, {})


def step(episode, number, seen, last=False):
    """A transition whose next frame shows `seen` in all of its pixels."""
    made = transitions.make(ZERO, ZERO, 0.0, ZERO, terminated=False, truncated=last, episode=episode, step=number, tick=number,
                            policy_version=0)  # fmt: skip
    return transitions.framed(made, CAMERAS, bytes(16), bytes([seen] * 16), None)


def look(judge, made):
    seen = Seen(made.episode, made.step, made.tick, 0, made.terminated or made.truncated)
    return judge.look(seen, lambda: image_of(made))


def played(judge, episode, seen):
    """What it says of an episode whose frames show this."""
    said = [look(judge, step(episode, i, value, i == len(seen) - 1)) for i, value in enumerate(seen)]
    return [(label.kind, label.step, label.version, label.value) for label in said if label is not None]


@pytest.fixture
def judge():
    made = Judge(RUN)
    made.take(version(), lambda image: float(image[0, 0, 0]) / 100)
    return made


def test_the_second_frame_in_a_row_is_a_success_and_is_said_once(judge):
    assert played(judge, 0, [90, 10, 80, 80, 99, 99]) == [("success", 3, 1, 1.0)]


def test_an_episode_without_one_is_said_to_have_none(judge):
    assert played(judge, 0, [90, 79, 90]) == [("no", 2, 1, 0.0)]
    said = Judge(RUN)
    said.take(version(), lambda _: 0.0)
    label = look(said, step(4, 0, 0, last=True))
    assert label is not None and label.first == 0 and label.episode == 4


def test_frames_in_a_row_are_of_one_episode(judge):
    assert played(judge, 0, [10, 90]) == [("no", 1, 1, 0.0)] and played(judge, 1, [90, 10]) == [("no", 1, 1, 0.0)]


def test_a_new_version_takes_over_between_two_episodes(judge):
    look(judge, step(0, 0, 90))
    judge.take(version(2), lambda _: 1.0)
    assert judge.judges(0) and look(judge, step(0, 1, 10, last=True)).version == 1
    assert judge.judges(1) and played(judge, 1, [0, 0]) == [("success", 1, 2, 1.0)]


def test_one_whose_precision_is_not_shown_gives_no_reward_and_says_why():
    judge = Judge(RUN)
    assert judge.why == NONE_YET and played(judge, 0, [99] * 5) == [] and not judge.judges(1)
    judge.take(version(1, "precision 3 of 4 on held-out episodes shows 0.171, asked is 0.8"), lambda _: 1.0)
    assert not judge.judges(1) and played(judge, 1, [99] * 5) == [] and "shows 0.171" in judge.why
    judge.take(version(2), lambda _: 1.0)
    assert played(judge, 2, [99] * 5) != [] and judge.why == ""


def test_one_that_is_shown_goes_on_where_the_next_is_not_and_is_found_again(judge, tmp_path):
    judge.take(version(2, "too often wrong"), lambda _: 0.0)
    assert judge.judges(0) and played(judge, 0, [90, 90]) == [("success", 1, 1, 1.0)], "what it has shown stands"
    judge.take(version(3), lambda _: 1.0)
    judge.take(version(4, "too often wrong"), lambda _: 0.0)
    assert played(judge, 1, [0, 0]) == [("success", 1, 3, 1.0)], "one that waits for the episode's end is not lost either"
    judge.suspended = "a person denies it"
    judge.take(version(5, "too often wrong"), lambda _: 1.0)
    assert not judge.judges(2) and played(judge, 2, [90, 90]) == [] and judge.why == "too often wrong"
    for number, why in ((1, "not yet"), (2, ""), (3, "not yet")):
        checkpoint.save(tmp_path, 100 * number, number, {WEIGHTS: bytes([number])}, {"threshold": 0.8, "why": why}, FOLDER, 1000)
        assert classifier.usable(tmp_path)[0].number == (1, 2, 2)[number - 1]
    assert classifier.usable(tmp_path)[1] == b"\x02" and classifier.usable(tmp_path / "none") is None


def test_one_that_a_person_disagrees_with_is_suspended_until_the_next(judge, tmp_path):
    replay = Replay.create(tmp_path / "replay", 1, 1, 100, CAMERAS)
    given = []
    for episode in range(3):
        transitions.add(replay, step(episode, 0, 90)), transitions.add(replay, step(episode, 1, 90, last=True))
        label = next(label for label in (look(judge, step(episode, i, 90, i == 1)) for i in (0, 1)) if label)
        given.append(Given(2 * episode, label))
        assert judge.hear(replay, given) == "", "nobody but itself has said anything"
        if episode:
            fail = Label(press=0, value=0.0, tick=-1, kind="fail", episode=episode, step=1)
            given.append(Given(2 * episode + 1, fail))
    assert "2 were none" in judge.hear(replay, given) and judge.hear(replay, given) == "", "it is said once"
    assert not judge.judges(3) and played(judge, 3, [99, 99]) == [] and "2 were none" in judge.why
    again = Judge(RUN)
    again.take(version(), lambda _: 1.0)
    assert again.hear(replay, given) and not again.judges(3), "one that is started again knows it too"
    judge.take(version(2), lambda _: 1.0)
    assert judge.judges(4) and played(judge, 4, [99, 99]) != []
    replay.close()


def test_what_all_cameras_saw_is_one_image(tmp_path):
    replay = Replay.create(tmp_path / "replay", 1, 1, 100, CAMERAS)
    second = bytes(range(16))
    made = transitions.framed(step(0, 0, 7), CAMERAS, bytes(16), second, None)
    transitions.add(replay, made)
    assert image_shape(CAMERAS) == (2, 2, 4)
    image = images_of(replay, np.zeros(1, np.int64))[0]
    assert (image == image_of(made)).all() and image[1, 0].tolist() == [6, 7, 8, 14]
    replay.close()
    for odd in ((), (("a", 2, 2, 3), ("b", 4, 4, 3))):
        with pytest.raises(ValueError, match="of one size"):
            image_shape(odd)


def test_the_newest_whole_version_is_found_and_a_damaged_one_passed_over(tmp_path):
    assert classifier.newest(tmp_path) is None
    for number in range(1, 7):
        about = {"threshold": 0.8, "why": "" if number < 6 else "not yet"}
        checkpoint.save(tmp_path, 100 * number, number, {WEIGHTS: bytes([number])}, about, FOLDER, 1000)
    found = classifier.newest(tmp_path)
    assert found is not None and (found[0].number, found[0].why, found[1]) == (6, "not yet", b"\x06")
    assert len(list((tmp_path / FOLDER).iterdir())) == 6, "every one stays: a reward is to be traced to what gave it"
    (tmp_path / FOLDER / "000000600-000000006" / WEIGHTS).write_bytes(b"\x07")
    assert classifier.newest(tmp_path)[0].number == 5
    assert json.loads((tmp_path / FOLDER / "000000500-000000005" / "manifest.json").read_text())["about"]["threshold"] == 0.8
    with pytest.raises(checkpoint.CheckpointError, match="train it anew"):
        Version.of(SimpleNamespace(about={}, path=tmp_path, updates=1, transitions=1))
