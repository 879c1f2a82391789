"""The policy's node: it goes on with the replay it left, and acts with no weights that do not check out."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from robotrl import rundir
from robotrl.agents import encoder, nets
from robotrl.agents.actor import Actor
from robotrl.agents.published import POLICY
from robotrl.agents.weights import WeightsError, packed
from robotrl.checkpoint import newest
from robotrl.config import CameraPort, Run, load
from robotrl.nodes import policy
from robotrl.nodes.gaze import Gaze, Glance
from robotrl.nodes.keeper import Flusher, open_replay
from robotrl.nodes.learner import Student
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.policy import Weights, note_episode, resumed
from robotrl.nodes.readiness import EARLY_NS, LATE_NS, Readiness
from robotrl.nodes.rethink import Rethink
from robotrl.replay import Replay, ReplayError
from robotrl.tasks.task import cameras

RUN = Run()
LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def add(replay, episode, step):
    o, a = np.zeros(replay.observation_size, np.float32), np.zeros(replay.action_size, np.float32)
    replay.add(o, a, 0.0, o, terminated=False, truncated=False, episode=episode, step=step, tick=step, policy_version=0)


def test_steps_and_episodes_are_numbered_on(tmp_path):
    replay = open_replay(tmp_path, RUN)
    assert resumed(RUN, replay).episode == -1
    for step in range(3):
        add(replay, 4, step)
    replay.close()
    again = open_replay(tmp_path, RUN)
    pilot = resumed(RUN, again)
    assert (pilot.steps, pilot.episode) == (3, 4)
    assert not np.array_equal(pilot.noise.draw(), resumed(RUN, open_replay(tmp_path / "new", RUN)).noise.draw())
    add(again, pilot.episode + 1, 0)
    found = again.check()
    assert (found["gaps"], found["doubles"], found["unfinished"]) == (0, 0, 2)
    with pytest.raises(ReplayError, match="another process is writing"):
        open_replay(tmp_path, RUN)
    again.close()


class Wires:
    """A node, its clock, its bus and its pilot, in which cycles come at known times and every look costs 20 us."""

    def __init__(self, comes_ns):
        self.run, self.bus, self.clock = RUN, self, self
        self.t, self.comes, self.warmed, self.waits = 0, list(comes_ns), [], []

    def now(self):
        return self.t

    def warm(self):
        self.warmed.append(self.t)

    def wait(self, _streams, timeout_s):
        until = self.t + max(20_000, round(timeout_s * 1e9))
        self.waits.append(timeout_s)
        came = bool(self.comes) and self.comes[0] <= until
        self.t = max(self.t + 20_000, self.comes.pop(0)) if came else until
        return came


def test_at_real_time_priority_the_policy_is_warm_when_a_cycle_comes_and_never_late_for_it():
    period, late = 20_000_000, 50_000_000
    comes = [period, 2 * period, 3 * period - 900_000, 4 * period, 5 * period + 3_000_000, 6 * period + late]
    wires = Wires(comes)
    ready = Readiness(wires, wires, None)
    ready._awake = True
    arrived = []
    while wires.comes:
        ready.wait()
        arrived.append(wires.t)
    assert all(at - due <= 20_000 for at, due in zip(arrived, comes, strict=True))
    due = [at + period for at in arrived]
    assert all(any(d - EARLY_NS - 1_000_000 <= t <= d + LATE_NS for d in due) for t in wires.warmed)
    for at in arrived[1:4]:  # those that came about when they were expected
        assert any(at - 50_000 <= t <= at for t in wires.warmed)
    assert 0.1 in wires.waits, "one that stays away is waited for without burning a core"


def test_without_the_priority_it_only_waits():
    wires = Wires([20_000_000, 40_000_000])
    ready = Readiness(wires, wires, None)
    ready._awake = False
    ready.wait(), ready.wait()
    assert wires.waits == [0.1, 0.1] and not wires.warmed


SIZES = (12, 2)
SEEN = [np.full(12, 0.5, np.float32)]


def actor_file(path, version: int | str | None, scale=1.0, sizes=SIZES, dtype=np.float32, sign=lambda x: x) -> bytes:
    """An actor's file put into place as the learner does it: whole, under another inode."""
    drawn = nets.initial(nets.shapes(*sizes, (16, 16), 1), 0.1, np.random.default_rng(0))
    actor = {name: (scale * sign(value)).astype(dtype) for name, value in drawn.items() if name.startswith("actor.")}
    data = packed(actor, {} if version is None else {"version": str(version)})
    put(path, data)
    return data


def put(path, data: bytes) -> None:
    aside = path.with_name(".aside")
    aside.write_bytes(data)
    aside.replace(path)


@pytest.fixture
def weights(tmp_path):
    """Version 7 is acted with; `told` holds what was said to the person."""
    told: list[str] = []
    made = Weights(tmp_path / "policy.safetensors", *SIZES, told.append)
    made.told = told
    assert made.poll(SEEN) is None and not told
    actor_file(made.path, 7)
    actor, version = made.poll(SEEN)
    assert version == 7 and (actor.observation_size, actor.action_size) == SIZES
    assert made.poll(SEEN) is None and not told, "the same file twice"
    return made


def half(path):
    put(path, actor_file(path, 8)[:-700])


def text(path):
    put(path, b"no weights at all")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: actor_file(path, 8, scale=np.nan), "must be finite"),
        (lambda path: actor_file(path, 8, sizes=(13, 2)), "(13, 2), not (12, 2)"),
        (lambda path: actor_file(path, 8, sizes=(12, 3)), "(12, 3), not (12, 2)"),
        (lambda path: actor_file(path, 8, dtype=np.float64), "float32"),
        (lambda path: actor_file(path, 8, scale=1e30), "is no number"),  # finite themselves, but products overflow
        (lambda path: actor_file(path, 8, scale=1e30, sign=abs), "is no number"),  # the same, where tanh would hide it
        (lambda path: actor_file(path, 6), "no newer than version 7"),
        (lambda path: actor_file(path, 7), "no newer than version 7"),
        (lambda path: actor_file(path, None), "publish them again"),
        (lambda path: actor_file(path, "9" * 30), "publish them again"),  # no message could carry it
        (lambda path: actor_file(path, "newest"), "'newest'"),
        (half, "policy.safetensors"),
        (text, "policy.safetensors"),
    ],
)
def test_weights_that_do_not_check_out_are_refused_and_said_once(spoil, says, weights):
    for _ in range(3):
        spoil(weights.path)
        assert weights.poll(SEEN) is None and weights.poll(SEEN) is None
    (line,) = weights.told
    assert says in line and "the old ones stay" in line and "\n" not in line and weights.refused == line
    actor_file(weights.path, 9)
    found = weights.poll(SEEN)
    assert found is not None and found[1] == 9 and not weights.refused and len(weights.told) == 1
    spoil(weights.path)
    assert weights.poll(SEEN) is None and weights.refused and len(weights.told) == 2, "after good ones it is news again"


def test_weights_that_see_must_answer_the_pictures_of_this_runs_cameras(tmp_path):
    """Also before anything was seen: two grey cameras of 32 x 32."""
    run = load(LAUNCH / "reach_pixels.toml", ["task.pixels.size=32"])
    gaze, told = Gaze(cameras(run)), []
    loader = Weights(tmp_path / "policy.safetensors", 12, 2, told.append)

    def publish(version, image):
        shapes = nets.shapes(12 + encoder.FEATURES, 2, (8,), 1) | encoder.shapes(image)
        drawn = nets.initial(shapes, 0.1, np.random.default_rng(0))
        actor = {name: value for name, value in drawn.items() if name.startswith(("actor.", "encoder."))}
        put(loader.path, packed(actor, {"version": str(version)}))

    for version, image in ((1, (32, 32, 1)), (2, (64, 64, 2)), (3, (32, 32, 6))):
        publish(version, image)
        assert loader.poll(SEEN, gaze) is None and len(told) == version, image
    actor_file(loader.path, 4)
    assert loader.poll(SEEN, gaze) is not None, "one that sees nothing acts on numbers alone"
    publish(5, (32, 32, 2))
    found = loader.poll(SEEN, gaze)
    assert found is not None and found[1] == 5
    gaze.eyes = lambda: Glance(bytes(range(256)) * 8, (1, 2))
    gaze.look()
    publish(6, (32, 32, 2))
    found = loader.poll(SEEN, gaze)
    assert found is not None and np.isfinite(found[0].act(SEEN[0], None, *gaze.picture(found[0]))).all()


def test_a_policy_without_its_cameras_is_refused_in_a_line(tmp_path, capsys):
    run = load(LAUNCH / "reach_pixels.toml")
    cameras = {"front": CameraPort(serial="7")}
    run = dataclasses.replace(run, robot=dataclasses.replace(run.robot, cameras=cameras))
    directory, sockets = rundir.create(run, tmp_path, "wall"), tmp_path / "bus"
    sockets.mkdir(mode=0o700)
    rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
    assert policy.main([str(directory)]) == 2
    said = capsys.readouterr().err
    assert said == "task.pixels.cameras: side: no [cameras.NAME] of so101's robot file\n"


def test_no_damage_to_a_file_is_acted_with(weights):
    """A bit flipped anywhere, or an end cut off anywhere, is refused, or it was in the header's padding; it never raises."""
    whole, rng = actor_file(weights.path, 8), np.random.default_rng(0)
    for k in range(600):
        data = bytearray(whole)
        at = int(rng.integers(len(data) if k % 2 else 700))  # every other time in the header
        data[at] ^= 1 << int(rng.integers(8))
        put(weights.path, bytes(data if k % 3 else data[:at]))
        weights.version = 7
        assert weights.poll(SEEN) is None or whole[at : at + 1] == b" "
    assert weights.told


def test_weights_without_a_check_sum_are_for_looking_at_and_not_for_a_robot(weights):
    data = safetensors.numpy.save(safetensors.numpy.load(actor_file(weights.path, 8)), {"version": "8"})
    put(weights.path, data)
    assert weights.poll(SEEN) is None and "crc32" in weights.refused
    assert Actor.load(weights.path).action_size == 2
    put(weights.path, actor_file(weights.path, 8).replace(b'"version":"8"', b'"version":"9"'))
    with pytest.raises(WeightsError, match="damaged"):
        Actor.load(weights.path)


def test_a_learner_that_counts_up_from_too_low_is_told_of_once(weights):
    for version in (3, 4, 5):
        actor_file(weights.path, version)
        assert weights.poll(SEEN) is None
    assert len(weights.told) == 1


def test_a_sensor_that_gives_no_number_does_not_condemn_the_weights(weights):
    actor_file(weights.path, 8)
    assert weights.poll([np.full(12, np.nan, np.float32), *SEEN]) is not None


def test_a_learner_goes_on_from_its_checkpoint_and_its_files_are_the_same_bytes(tmp_path):
    agent = dataclasses.replace(RUN.agent, engine="reference", hidden=(16, 16), batch=8, learn_after=4)
    run = dataclasses.replace(RUN, agent=agent)
    replay = open_replay(tmp_path, run)
    for step in range(40):
        add(replay, 0, step)
    (tmp_path / "weights").mkdir()
    whole, halves = Student(run, tmp_path, replay), Student(run, tmp_path, replay)
    assert not whole.resume() and whole.published() == 0
    whole.study(24)
    expected = whole.publish().read_bytes()
    halves.study(14)
    halves.save()
    assert Actor(safetensors.numpy.load(newest(tmp_path).read(POLICY))).action_size == replay.action_size
    assert newest(tmp_path).read(POLICY) == packed(halves.agent.weights(), {"version": "0"})
    again = Student(run, tmp_path, replay)
    assert again.resume() and again.updates == 10 and again.published() == 1
    again.study(24)
    assert again.publish().read_bytes() == expected
    replay.close()


def test_the_age_of_weights_counts_from_when_they_were_written_and_not_from_when_they_were_taken(weights):
    """A learner that died long ago, and a policy that is started again: the weights on the disk are as old as they are."""
    drawn = nets.initial(nets.shapes(*SIZES, (16, 16), 1), 0.1, np.random.default_rng(0))
    actor = {name: value for name, value in drawn.items() if name.startswith("actor.")}
    weights.version = -1
    put(weights.path, packed(actor, {"version": "9", "published_ns": "5000000000"}))
    assert weights.poll(SEEN) is not None and weights.published(65 * 10**9) == 5 * 10**9
    assert weights.published(10**9) == 10**9, "a stamp from the future is of another boot of this machine"
    actor_file(weights.path, 10)
    assert weights.poll(SEEN) is not None and weights.published(65 * 10**9) == 65 * 10**9, "no stamp: as old as its taking"


def test_what_the_learner_publishes_on_the_wall_clock_is_stamped(tmp_path):
    agent = dataclasses.replace(RUN.agent, engine="reference", hidden=(16, 16), batch=8, learn_after=4)
    run = dataclasses.replace(RUN, agent=agent)
    replay = open_replay(tmp_path, run)
    (tmp_path / "weights").mkdir()
    path = Student(run, tmp_path, replay).publish(now=123)
    found = Weights(path, replay.observation_size, replay.action_size, print)
    assert found.poll([np.zeros(replay.observation_size, np.float32)]) is not None and found.published(10**9) == 123
    replay.close()


def test_metrics_have_no_age_before_the_first_weights(tmp_path):
    metrics = rundir.Metrics(tmp_path)
    note_episode(metrics, Pilot(RUN, None, 0).report(10**15))
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["policy_age_s"] is None and json.loads(line)["policy_version"] == -1
    metrics.close()


def test_rows_become_durable_while_the_policy_runs(tmp_path):
    replay, said = open_replay(tmp_path, RUN), []
    flusher = Flusher(replay, said.append, every_s=0.01)
    for step in range(5):
        add(replay, 0, step)
    until = time.monotonic() + 10.0
    while replay.durable < 5 and time.monotonic() < until:
        time.sleep(0.01)
    assert replay.durable == 5 and Replay.open(tmp_path / "replay").durable == 5 and not said
    flusher.close()
    replay.close()


def test_a_disk_that_fails_is_said_once_and_nothing_is_promised_after_it(tmp_path, monkeypatch):
    replay, said = open_replay(tmp_path, RUN), []
    add(replay, 0, 0)
    replay.flush()
    add(replay, 0, 1)

    def fails(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    flusher = Flusher(replay, said.append, every_s=0.01)
    flusher._thread.join(10.0)
    (line,) = said
    assert "rows after 1 may be lost: Input/output error" in line and "\n" not in line
    monkeypatch.undo()
    flusher.close()
    replay.close()
    assert Replay.open(tmp_path / "replay").durable == 1


def test_what_a_task_draws_for_an_episode_is_the_same_in_every_life_and_when_it_is_played_again():
    """Who stands beside the twin with the thing in his hand was told by an earlier life."""
    run = load(Path(__file__).resolve().parents[2] / "launch" / "push.toml", ["seed=4"])
    lives = [resumed(run, SimpleNamespace(count=n, columns={"episode": [2] * n})) for n in (0, 3)]  # type: ignore[arg-type]
    again = Rethink(run)
    again._begin()
    drawn = [pilot.task.set_up(7) for pilot in (*lives, again._pilot)]
    assert drawn[0] == drawn[1] == drawn[2] != lives[0].task.set_up(8)
    assert lives[1].set_up == lives[1].task.set_up(3) and not np.array_equal(lives[0].noise.draw(), lives[1].noise.draw())
