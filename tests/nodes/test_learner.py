"""What the learner draws: rows as they are and, where the run asks for it, in the mirror, of demonstrations, steps together."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from robotrl import rundir
from robotrl.checkpoint import CheckpointError
from robotrl.config import Agent, Run
from robotrl.nodes import learner
from robotrl.nodes.student import learns
from robotrl.replay import Replay
from tests.agents.test_fused import one_thread  # noqa: F401

ROWS, UPDATES, BATCH = 40, 50, 64
ROOT = Path(__file__).resolve().parent.parent.parent


class Listener:
    """In the agent's place: keeps the indices it is given."""

    def __init__(self, mirror) -> None:
        self.mirror, self.indices, self.step = mirror, [], 0

    def update(self, indices):
        self.indices.append(indices.copy())
        return {}


@pytest.mark.parametrize("mirror", [True, False])
def test_half_of_the_rows_are_seen_in_the_mirror(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr("robotrl.nodes.student.make_agent", lambda *arguments, cameras: Listener(arguments[-1]))
    replay = Replay.create(tmp_path / "replay", 112, 8, ROWS)
    for k in range(ROWS):
        replay.add(np.zeros(112), np.zeros(8), 0.0, np.zeros(112), terminated=False, truncated=k == ROWS - 1, episode=0, step=k,
                   tick=k, policy_version=0)  # fmt: skip
    agent = Agent(mirror=mirror, batch=BATCH, learn_after=0, updates_per_step=UPDATES / ROWS)
    student = learner.Student(dataclasses.replace(Run(), agent=agent), tmp_path, replay)
    assert student.study(ROWS) == UPDATES and student.study(ROWS) == 0, "as many updates as the data is worth, and no more"
    drawn = np.concatenate(student.agent.indices)
    assert (student.agent.mirror is not None) == mirror
    rows = np.where(drawn < 0, ~drawn, drawn)
    assert set(rows) == set(range(ROWS))
    assert (drawn < 0).mean() == pytest.approx(0.5 if mirror else 0.0, abs=0.04)  # 4.5 sigma of 3,200 draws
    for row in range(ROWS):
        assert not mirror or {row, ~row} <= set(drawn), "every row both ways"
    replay.close()


def recorded(path: Path, seed: int, rows: int = ROWS, capacity: int = 60) -> Replay:
    """Episodes of eleven steps, random numbers."""
    rng, replay = np.random.default_rng(seed), Replay.create(path, 112, 8, capacity)
    for k in range(rows):
        replay.add(
            rng.standard_normal(112), rng.uniform(-1, 1, 8), rng.standard_normal(), rng.standard_normal(112), terminated=False,
            truncated=k % 11 == 10, episode=k // 11, step=k % 11, tick=k, policy_version=0,
        )  # fmt: skip
    return replay


def asking(given: Path, **fields) -> Run:
    """A run of a small agent with both: three steps at a time, half of them demonstrations."""
    agent = Agent(engine="reference", hidden=(16, 16), batch=8, learn_after=4, n_step=3, demonstrations=str(given))
    return dataclasses.replace(Run(), agent=dataclasses.replace(agent, **fields))


def same(one: learner.Student, other: learner.Student) -> bool:
    a, b = one.agent.state(), other.agent.state()
    return all(np.array_equal(a[name], b[name]) for name in a | b)


@pytest.fixture
def given(tmp_path):
    recorded(tmp_path / "given" / "replay", 1, rows=15).close()
    return tmp_path / "given"


@pytest.mark.parametrize("mirror", [True, False])
def test_half_of_the_rows_are_demonstrations(mirror, given, tmp_path, monkeypatch):
    monkeypatch.setattr("robotrl.nodes.student.make_agent", lambda *arguments, cameras: Listener(arguments[-1]))
    run = asking(given, mirror=mirror, batch=BATCH, learn_after=0, updates_per_step=UPDATES / ROWS)
    with contextlib.closing(recorded(tmp_path / "replay", 0)) as replay:
        student = learner.Student(run, tmp_path, replay)
        assert student.study(ROWS) == UPDATES
        drawn = np.array(student.agent.indices)
        rows = np.where(drawn < 0, ~drawn, drawn)
        assert ((rows >= replay.capacity).sum(axis=1) == BATCH // 2).all(), "of every batch"
        assert set(rows.ravel()) == set(range(ROWS)) | set(range(replay.capacity, replay.capacity + 15))
        for half in (drawn[rows < replay.capacity], drawn[rows >= replay.capacity]):
            assert (half < 0).mean() == pytest.approx(0.5 if mirror else 0.0, abs=0.06)


def test_a_learner_goes_on_from_its_checkpoint_with_both(given, tmp_path):
    run = asking(given)
    with contextlib.closing(recorded(tmp_path / "replay", 0)) as replay:
        whole, halves = learner.Student(run, tmp_path, replay), learner.Student(run, tmp_path, replay)
        for count in (20, 33, ROWS):
            whole.study(count)
        halves.study(20)
        halves.study(33, limit=6)
        halves.save()
        again = learner.Student(run, tmp_path, replay)
        assert again.resume() and again.updates == 22 and not same(again, whole)
        again.study(33)
        again.study(ROWS)
        assert again.updates == whole.updates and same(again, whole)
        assert again.rng.bit_generator.state == whole.rng.bit_generator.state


def test_it_goes_on_with_the_demonstrations_it_began_with_or_not_at_all(given, tmp_path):
    """More of them by now change nothing; others in their place, or fewer, are refused in one line."""
    run = asking(given, demonstrations_share=0.25)
    with contextlib.closing(recorded(tmp_path / "replay", 0)) as replay:
        whole, halves = learner.Student(run, tmp_path, replay), learner.Student(run, tmp_path, replay)
        for student in (whole, halves):
            student.study(20)
        halves.save()
        with contextlib.closing(Replay.open(given / "replay", write=True)) as more:
            for k in range(20):
                more.add(np.ones(112), np.ones(8), 1.0, np.ones(112), terminated=False, truncated=True, episode=100 + k, step=0,
                         tick=k, policy_version=0)  # fmt: skip
        again = learner.Student(run, tmp_path, replay)
        assert again.resume()
        for student in (whole, again):
            student.study(ROWS)
        assert same(again, whole)
        for seed, rows in ((2, 15), (1, 14)):
            shutil.rmtree(given)
            recorded(given / "replay", seed, rows=rows).close()
            with pytest.raises(CheckpointError, match=r"learnt from other rows.*put those back"):
                learner.Student(run, tmp_path, replay).resume()


def test_checkpoints_from_before_there_was_a_share_are_gone_on_from(tmp_path):
    """The hash of what a run learns, as it was told of the defaults then."""
    default = Run()
    later = ("threads", "engine", "demonstrations_share", "shift_px")
    agent = {k: v for k, v in dataclasses.asdict(default.agent).items() if k not in later}
    task = {k: v for k, v in dataclasses.asdict(default.task).items() if k not in ("reward", "pixels")}
    said = json.dumps([task, agent], sort_keys=True, default=list)
    assert learns(default) == hashlib.sha256(said.encode()).hexdigest()
    other = dataclasses.replace(default, agent=dataclasses.replace(default.agent, demonstrations_share=0.25))
    assert learns(other) != learns(default)


def test_rows_that_do_not_count_yet_change_nothing(given, tmp_path):
    """In lockstep the robot goes on while the learner studies: how far it is must not matter."""
    run, students = asking(given), []
    for rows in (20, 21, ROWS):
        with contextlib.closing(recorded(tmp_path / f"replay-{rows}", 0, rows)) as replay:
            students.append(learner.Student(run, tmp_path, replay))
            assert students[-1].study(20) == 16
    assert same(students[0], students[1]) and same(students[0], students[2])


def wrong(tmp_path: Path) -> Path:
    """The directory of a run that names demonstrations which are not there."""
    return rundir.create(asking(tmp_path / "nowhere"), tmp_path, "wall")


def test_in_lockstep_demonstrations_that_are_not_there_are_the_answer(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # that what a learner says there is taken back
    directory = wrong(tmp_path)
    recorded(directory / "replay", 0).close()
    assert learner.lockstep(directory) == 2
    assert json.loads(capsys.readouterr().out)["error"].startswith(f"agent.demonstrations: {tmp_path}/nowhere: no such directory")


def test_on_the_wall_clock_they_are_said_before_the_policy_has_begun(tmp_path):
    directory = wrong(tmp_path)
    with tempfile.TemporaryDirectory(prefix="robotrl-") as sockets:
        rundir.write_json(directory / "bus.json", {"directory": sockets})
        words = [sys.executable, "-m", "robotrl.nodes.learner", str(directory)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as node:
            try:
                assert node.wait(60) == 2
            finally:
                node.kill()
            assert node.stderr is not None and node.stderr.read() == (
                f"agent.demonstrations: {tmp_path}/nowhere: no such directory; name a run that has recorded\n"
            )
