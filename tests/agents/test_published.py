"""Who goes on with a run acts with what it has learnt, or is told why not: never at random."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import safetensors.numpy

from robotrl import checkpoint, manager, rundir
from robotrl.agents import nets
from robotrl.agents.actor import Actor
from robotrl.agents.published import POLICY, Pace, put_back
from robotrl.agents.weights import metadata, packed
from robotrl.checkpoint import CheckpointError, newest
from robotrl.config import Run
from robotrl.replay import Replay
from robotrl.tasks.task import sizes

RUN = dataclasses.replace(
    Run(), steps=100, agent=dataclasses.replace(Run().agent, hidden=(16, 16), capacity=100, publish_every=50)
)
OBSERVATION, ACTION = sizes(RUN)


def weights(seed: int, version: int, **more: str) -> bytes:
    about = {"version": str(version)} | more
    drawn = nets.initial(nets.shapes(OBSERVATION, ACTION, (16, 16), 1), 0.1, np.random.default_rng(seed))
    return packed({name: value for name, value in drawn.items() if name.startswith("actor.")}, about)


@pytest.fixture
def run_dir(tmp_path):
    """A run on the wall clock, its newest checkpoint of version 5, the robot moved by version 7, 20 transitions."""
    path = rundir.create(RUN, tmp_path, "wall", sim=True)
    checkpoint.save(path, 10, 300, {"agent.safetensors": b"x", POLICY: weights(5, 5)}, {"version": 5})
    (path / "weights" / POLICY).write_bytes(weights(7, 7))
    replay = Replay.create(path / "replay", OBSERVATION, ACTION, 100)
    o, a = np.zeros(OBSERVATION, np.float32), np.zeros(ACTION, np.float32)
    for step in range(20):
        replay.add(o, a, 0.0, o, terminated=False, truncated=False, episode=0, step=step, tick=step, policy_version=step // 3 + 1)
    replay.close()
    return path


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def acts_like(path, seed):
    o = np.linspace(-1, 1, OBSERVATION).astype(np.float32)
    return np.array_equal(Actor.load(path).act(o), Actor(safetensors.numpy.load(weights(seed, 1))).act(o))


def resumed(run_dir, monkeypatch):
    """What `robotrl resume` says before it starts anything; what it would start."""
    begun: list[dict] = []

    def operate(run, directory, seconds, held, **more):
        with pytest.raises(rundir.RunError, match="is alive"):
            rundir.hold(directory)
        os.close(held)
        begun.append(more)
        return 0

    monkeypatch.setattr(manager, "operate", operate)
    manager.resume(run_dir, None, 0.0, None, as_json=False)
    return begun


def test_whole_weights_are_acted_with_as_they_are(run_dir, monkeypatch, capsys):
    before = files(run_dir)
    assert resumed(run_dir, monkeypatch)[0]["begun"] == 20
    assert {k: v for k, v in files(run_dir).items() if k.name != "run.json"} == {
        k: v for k, v in before.items() if k.name != "run.json"
    }
    assert capsys.readouterr().out == "goes on after 20 transitions\n"


def test_nobody_else_goes_on_with_a_run_while_it_is_seen_to(run_dir, monkeypatch):
    """From its first look on: what is put back, and the configuration, would be changed under another's robot."""
    real, tried = manager.rundir.amend, []

    def amend(directory, run):
        with pytest.raises(rundir.RunError, match="is alive"):
            manager.resume(directory, None, 0.0, None, as_json=False)
        tried.append(run)
        real(directory, run)

    monkeypatch.setattr(rundir, "amend", amend)
    assert len(resumed(run_dir, monkeypatch)) == len(tried) == 1
    with pytest.raises(rundir.RunError, match="fewer --steps"):
        manager.resume(run_dir, 101, 0.0, None, as_json=False)
    os.close(rundir.hold(run_dir))  # who was refused holds it no more


def gone(path):
    path.unlink()


def torn(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("spoil", "says"), [(gone, "missing"), (torn, "damaged"), (empty, "damaged"), (flipped, "damaged")])
def test_what_a_power_cut_has_taken_is_put_back_from_the_checkpoint(spoil, says, run_dir, monkeypatch, capsys):
    spoil(path := run_dir / "weights" / POLICY)
    spoilt = path.read_bytes() if path.exists() else None
    assert resumed(run_dir, monkeypatch)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}: {says}") and "put back from 000000010-000000300" in first and second.startswith("goes on")
    assert acts_like(path, 5)
    about = metadata(path.read_bytes())
    assert int(about["version"]) == 8, "no transition was driven by another of that version"
    assert int(about["updates"]) == 300, "a learner that goes on from there is not to do again what was lost before it publishes"
    assert spoilt is None or path.with_name(POLICY + ".damaged").read_bytes() == spoilt
    assert put_back(RUN, run_dir, newest(run_dir), 7) == "", "and now it is whole"


@pytest.mark.parametrize("spoil", [gone, torn])
def test_where_nothing_holds_what_was_learnt_the_run_does_not_go_on(spoil, run_dir, monkeypatch):
    kept = run_dir / "checkpoint" / "000000010-000000300"
    spoil(run_dir / "weights" / POLICY)
    for child in kept.iterdir():
        child.unlink()
    kept.rmdir()
    before = files(run_dir)
    with pytest.raises(CheckpointError, match=r"no checkpoint holds one, and none would mean to act at random; restore a copy"):
        resumed(run_dir, monkeypatch)
    checkpoint.save(run_dir, 10, 300, {"agent.safetensors": b"x"}, {"version": 5})  # as checkpoints were before
    before |= {k: v for k, v in files(run_dir).items() if "checkpoint" in k.parts}
    with pytest.raises(CheckpointError, match=r"no checkpoint holds one"):
        resumed(run_dir, monkeypatch)
    assert files(run_dir) == before


def test_checkpoints_that_must_have_been_and_are_gone_are_missed(run_dir):
    path = run_dir / "weights" / POLICY
    assert put_back(RUN, run_dir, None, 7) == "", "of 350 updates there need not be one yet"
    path.write_bytes(weights(7, 43))
    with pytest.raises(CheckpointError, match=r"weights are of version 43, of its checkpoints none is there"):
        put_back(RUN, run_dir, None, 43)
    path.unlink()
    assert put_back(RUN, run_dir, None, -1) == "", "nothing was learnt yet"


@pytest.mark.parametrize("per_step", [0.1, 1.0, 20.0])
def test_whether_there_must_have_been_one_is_told_by_the_updates_however_often_it_published(per_step, run_dir):
    run = dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, updates_per_step=per_step))
    path = run_dir / "weights" / POLICY
    path.write_bytes(weights(7, 900, updates="1999"))
    assert put_back(run, run_dir, None, 900) == "", "a slow learner's, of two or three updates each"
    path.write_bytes(weights(7, 1, updates="2000"))
    with pytest.raises(CheckpointError, match=r"weights are of version 1, of its checkpoints none is there"):
        put_back(run, run_dir, None, 1)
    path.write_bytes(weights(7, 1, updates="many"))
    with pytest.raises(CheckpointError, match=r"damaged, no checkpoint holds one"):
        put_back(run, run_dir, None, 1)


def paced(publish_every: int, per_step: float, updates: int = 0, count: int = 0) -> Pace:
    agent = dataclasses.replace(RUN.agent, publish_every=publish_every, updates_per_step=per_step, learn_after=100)
    return Pace(dataclasses.replace(RUN, agent=agent), updates, count)


def test_weights_are_due_after_so_many_steps_or_their_worth_of_updates():
    pace = paced(50, 2.0)
    assert not pace.due(0, 400) and not pace.due(0, 500), "nothing was learnt"
    assert pace.due(1, 500) and not pace.due(1, 600), "the same are not published twice"
    assert pace.due(2, 600) and not pace.due(101, 649) and pace.due(101, 650)
    assert not pace.due(200, 650) and pace.due(213, 650), "a learner that catches up: the robot need not move"
    assert not pace.due(300, 650) and pace.due(301, 650), "twelve were done already"
    assert not pace.due(310, 699) and pace.due(310, 700)


def test_the_first_weights_are_due_as_long_after_learning_began_as_any_others():
    pace = paced(50, 20.0)
    assert not pace.due(3, 101) and not pace.due(900, 149) and pace.due(901, 150)


def test_older_weights_than_those_that_are_out_are_never_due():
    pace = paced(50, 20.0, updates=3900, count=10_000)
    assert not pace.due(2000, 12_000) and not pace.due(3900, 20_000) and pace.due(3901, 20_000)
