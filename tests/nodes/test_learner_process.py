"""The learner on the wall clock: it does not wait while it owes, owes only so much, is heard, and says what went wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from robotrl import checkpoint, rundir
from robotrl.agents import nets
from robotrl.agents.published import put_back
from robotrl.bus import Publisher
from robotrl.clock import WallClock
from robotrl.config import Agent, Run
from robotrl.messages import Beat, Learner
from robotrl.node import Node
from robotrl.nodes import learner
from robotrl.nodes.student import RanAway, Student
from robotrl.replay import Replay
from tests.nodes.test_learner import recorded

ROWS = 3000
METRICS = {"critic_loss": 0.5, "actor_loss": 0.5, "entropy": 1.0, "temperature": 0.1}


class Puppet:
    """In the agent's place: an update takes `seconds`; `then` is done after each, with the number of updates so far."""

    engine, engine_note = "puppet", ""

    def __init__(self, seconds: float = 0.0, then=lambda updates: None) -> None:
        self.seconds, self.then, self.step = seconds, then, 0
        self.values = {"actor.0.weight": np.zeros((2, 2), np.float32)}

    def update(self, indices):
        time.sleep(self.seconds)
        self.step += 1
        self.then(self.step)
        return METRICS

    def weights(self):
        return self.values

    state = weights

    def random_state(self):
        return {}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Signals, and a standard input that nobody holds, are pytest's own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(Node, "orphaned", lambda self: False)
    monkeypatch.setattr(os, "nice", lambda by: 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # that what a learner says there is taken back
    monkeypatch.setattr(learner, "expendable", lambda: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def directory(tmp_path, tmp_path_factory):
    return made(tmp_path, tmp_path_factory.mktemp("bus"))


def made(where: Path, sockets: Path, **fields) -> Path:
    """A run with ROWS transitions, each worth an update from the first on."""
    asked = {"learn_after": 0, "mirror": False, "batch": 1} | fields
    directory = rundir.create(dataclasses.replace(Run(), agent=Agent(**asked)), where, "wall")
    recorded(directory / "replay", 0, rows=ROWS, capacity=ROWS).close()
    rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
    return directory


def plays(monkeypatch, puppet: Puppet) -> Puppet:
    monkeypatch.setattr("robotrl.nodes.student.make_agent", lambda *arguments, **named: puppet)
    return puppet


def end_at(number: int):
    """Tells this process to end after so many updates."""
    return lambda updates: os.kill(os.getpid(), signal.SIGTERM) if updates == number else None


def test_a_learner_that_owes_does_not_wait(directory, monkeypatch):
    puppet, slept = plays(monkeypatch, Puppet(seconds=0.0001, then=end_at(ROWS))), []
    monkeypatch.setattr(WallClock, "sleep_until", lambda self, deadline: slept.append(deadline))
    assert learner.wall_clock(directory) == 0
    assert puppet.step == ROWS
    assert len(slept) <= 2, "while it waits for the replay, and when all is done"


def test_but_looks_up_between_updates(directory, monkeypatch):
    """A signal is seen, weights are published and the state is told 20 ms after the updates of a lump have begun."""
    puppet = plays(monkeypatch, Puppet(seconds=0.003, then=end_at(100)))
    assert learner.wall_clock(directory) == 0
    assert puppet.step - 100 < 0.05 / puppet.seconds
    kept = checkpoint.newest(directory)
    assert kept.updates == puppet.step and kept.about["version"] == puppet.step // 50


def test_each_batch_has_its_share_of_demonstrations(tmp_path, tmp_path_factory, monkeypatch):
    given, drawn = tmp_path / "given", []
    recorded(given / "replay", 1, rows=15).close()
    asked = {"demonstrations": str(given), "demonstrations_share": 0.25, "batch": 8}
    directory = made(tmp_path, tmp_path_factory.mktemp("bus"), **asked)
    puppet = plays(monkeypatch, Puppet(then=end_at(60)))
    monkeypatch.setattr(puppet, "update", lambda indices: drawn.append(indices) or Puppet.update(puppet, indices))
    assert learner.wall_clock(directory) == 0
    assert len(drawn) >= 60 and ((np.array(drawn) >= ROWS).sum(axis=1) == 2).all()
    assert checkpoint.newest(directory).about["demonstrations"]["rows"] == 15


def test_what_is_owed_beyond_the_backlog_is_dropped_counted_and_said(tmp_path, tmp_path_factory, monkeypatch, capsys):
    directory = made(tmp_path, tmp_path_factory.mktemp("bus"), max_backlog=100, updates_per_step=2.0)
    told, status = [], learner._status
    monkeypatch.setattr(learner, "_status", lambda *arguments: told.append(status(*arguments)) or told[-1])
    puppet = plays(monkeypatch, Puppet(then=end_at(200)))
    assert learner.wall_clock(directory) == 0
    assert puppet.step == 200, "a hundred steps' worth, and nothing after"
    assert checkpoint.newest(directory).about["dropped"] == 2 * ROWS - 200
    assert told[0].dropped == 2 * ROWS - 200 and told[0].updates + told[0].owed == 200
    assert told[0].updates_per_step == told[0].updates / ROWS
    assert "owed more than 100 steps' updates" in capsys.readouterr().err


def test_dropped_updates_stay_dropped(tmp_path, monkeypatch):
    plays(monkeypatch, Puppet())
    agent = Agent(learn_after=10, max_backlog=20, updates_per_step=0.5, mirror=False)
    with contextlib.closing(recorded(tmp_path / "replay", 0)) as replay:
        student = Student(dataclasses.replace(Run(), agent=agent), tmp_path, replay)
        assert student.forgive(30) == 0 and student.owed(30) == 10
        assert student.forgive(130) == 50 and student.owed(130) == 10 and student.forgive(130) == 0
        assert student.study(40) == 0 and student.owed(132) == 11


def test_it_is_heard_while_its_engine_is_built(directory, monkeypatch):
    """The guard takes a learner that has been silent for 5 s for gone, and a compiler takes 10."""
    sent, send = [], Publisher.send
    monkeypatch.setattr(Publisher, "send", lambda self, message: sent.append(send(self, message)) or sent[-1])

    def slow(*arguments, **named):
        time.sleep(1.0)
        return Puppet(then=end_at(1))

    monkeypatch.setattr("robotrl.nodes.student.make_agent", slow)
    assert learner.wall_clock(directory) == 0
    assert [m.note for m in sent if isinstance(m, Beat)].count("building the engine") >= 5
    assert [m.engine for m in sent if isinstance(m, Learner)].count("building") >= 3
    assert max(np.diff([m.t for m in sent])) < 0.5e9


def test_told_to_end_it_does_not_wait_for_the_compiler(directory, monkeypatch):
    def slow(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3.0)

    monkeypatch.setattr("robotrl.nodes.student.make_agent", slow)
    begun = time.monotonic()
    assert learner.wall_clock(directory) == 0
    assert time.monotonic() - begun < 2.0


def fails(updates: int) -> None:
    if updates == 120:
        raise FloatingPointError("sac.update: critic_loss is nan; the last good state is the one to go back to")


def test_a_loss_that_is_no_number_is_one_line_and_the_weights_stay(directory, monkeypatch, capsys):
    plays(monkeypatch, Puppet(seconds=0.001, then=fails))
    assert learner.wall_clock(directory) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("learner: update 120: sac.update: critic_loss is nan; ")
    assert f"{directory}/weights/policy.safetensors, version 2;" in said[0]
    assert not (directory / "checkpoint").exists(), "the state after it is not kept"


def test_in_lockstep_it_is_the_answer(directory, monkeypatch, capsys):
    plays(monkeypatch, Puppet(then=fails))
    monkeypatch.setattr("sys.stdin", ['{"count": 100}\n', '{"count": 200}\n', '{"count": 300}\n'])
    assert learner.lockstep(directory) == 3
    *_, good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["updates"] == 100 and bad["error"].startswith("update 120: sac.update: critic_loss is nan; ")


def test_weights_that_are_no_numbers_are_not_published_and_not_kept(directory, monkeypatch):
    puppet = plays(monkeypatch, Puppet())
    with contextlib.closing(recorded(directory / "again", 0)) as replay:
        student = Student(rundir.load(directory), directory, replay)
        student.publish()
        student.save()
        puppet.values["actor.0.weight"][1, 0] = np.inf
        for write in (student.publish, student.save):
            with pytest.raises(RanAway, match=r"^update 0: actor.0.weight is not finite; .*, version 1;"):
                write()
        assert student.version == student.published() == 1
    for path in (student.weights, checkpoint.newest(directory).path / "agent.safetensors"):
        assert not safetensors.numpy.load_file(path)["actor.0.weight"].any()


def test_a_disk_that_takes_nothing_is_one_line(directory, monkeypatch, capsys):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    plays(monkeypatch, Puppet(then=end_at(10)))
    monkeypatch.setattr(checkpoint.os, "fsync", broken)
    assert learner.wall_clock(directory) == 3
    assert capsys.readouterr().err == (
        f"learner: {directory}: weights or checkpoint not written: Input/output error; check disk and permissions, resume\n"
    )
    assert not list((directory / "checkpoint").iterdir())


def test_a_disk_that_is_full_for_a_while_ends_no_learning(directory, monkeypatch, capsys):
    """It died of it again and again, within seconds for good; now all is written when there is room, the checkpoint first."""
    full, left, order = [True], [], []

    def takes(descriptor):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def then(updates):
        if updates == 300:
            left.extend(path.name for path in (directory / "weights").iterdir())
            full.clear()
        end_at(600)(updates)

    plays(monkeypatch, Puppet(seconds=0.001, then=then))
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, takes)
    for name in ("save", "publish"):
        made = getattr(Student, name)
        monkeypatch.setattr(Student, name, lambda *a, made=made, name=name, **b: [made(*a, **b), order.append(name)])
    monkeypatch.setattr(learner, "AGAIN_NS", 50_000_000)
    monkeypatch.setattr(checkpoint, "EVERY", 100)
    assert learner.wall_clock(directory) == 0
    assert not left, "nothing half written stays"
    assert order[:2] == ["save", "publish"], "of weights that are out, what they were learnt by is kept"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "disk full" in said[0] and "goes on" in said[0] and "room again" in said[1]
    with safetensors.safe_open(directory / "weights" / "policy.safetensors", "numpy") as file:
        assert int(file.metadata()["version"]) == order.count("publish"), "one that was not written has no number"


def test_threads_are_two_at_most_where_none_are_asked_for_and_as_many_as_asked(monkeypatch):
    """Of the cores that it may use, not of those that there are; torch hears of them where it is imported."""
    for cores, asked, given in ((8, 0, 2), (1, 3, 3), (1, 0, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: set(range(cores)))
        run = learner._prepare(dataclasses.replace(Run(), agent=Agent(threads=asked)), threads=2)
        assert run.agent.threads == int(os.environ["OMP_NUM_THREADS"]) == given
    words = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1\n"


def test_torch_is_not_imported_by_a_learner_whose_engine_does_without(directory):
    """Each start of one would take two seconds more of the robot's processor."""
    code = "import sys; from robotrl.nodes import learner; learner.main(sys.argv[1:]); print('torch' in sys.modules)"
    words = [sys.executable, "-c", code, str(directory), "--lockstep"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    said, imported = done.stdout.splitlines()
    assert imported == str(not json.loads(said)["engine"].startswith("fused"))


class Hours:
    """Virtual time, in which a robot makes 50 transitions a second and nothing else takes any."""

    def __init__(self, monkeypatch, capacity: int) -> None:
        self.now = 0
        monkeypatch.setattr(WallClock, "now", lambda clock: self.now)
        monkeypatch.setattr(WallClock, "sleep_until", lambda clock, deadline: self.pass_by(deadline - self.now))
        monkeypatch.setattr(Replay, "count", property(lambda replay: min(capacity, self.now * 50 // 10**9)))

    def pass_by(self, ns: int) -> None:
        self.now += max(0, ns)

    def worked(self, rate: int, then=lambda updates: None):
        """For a Puppet that does `rate` updates a second: `then`, in its time."""
        return lambda updates: (self.pass_by(10**9 // rate), then(updates))[-1]


class Killed(BaseException):
    """Nothing is done any more."""


def hourly(tmp_path: Path, tmp_path_factory, monkeypatch, agent: Agent) -> tuple[Path, Hours]:
    """A run whose robot moves in virtual time, from nothing on."""
    directory = rundir.create(dataclasses.replace(Run(), agent=agent), tmp_path, "wall")
    Replay.create(directory / "replay", 112, 8, agent.capacity).close()
    rundir.write_json(directory / "bus.json", {"directory": str(tmp_path_factory.mktemp("bus"))})
    return directory, Hours(monkeypatch, agent.capacity)


def dies(monkeypatch, directory: Path) -> None:
    """A life of the learner until something raises Killed."""
    nodes = []
    monkeypatch.setattr(learner, "Node", lambda *arguments: nodes.append(Node(*arguments)) or nodes[-1])
    with pytest.raises(Killed):
        learner.wall_clock(directory)
    nodes[-1].close()
    monkeypatch.setattr(learner, "Node", Node)


def raises(number: int):
    """What Hours and a Puppet do at so many updates: nothing any more."""

    def then(updates: int) -> None:
        if updates >= number:
            raise Killed

    return then


@pytest.mark.parametrize("rate", [120, 300])  # updates a second: a slow machine's, and a fast one's
def test_killed_and_back_after_ten_minutes_it_has_caught_up_within_one(tmp_path, tmp_path_factory, monkeypatch, capsys, rate):
    """From its checkpoint of long before: what is beyond the backlog is dropped and counted, none is counted twice."""
    agent = Agent(learn_after=100, mirror=False, batch=1, capacity=100_000)
    directory, hours = hourly(tmp_path, tmp_path_factory, monkeypatch, agent)
    told, out = [], []
    status, publish = learner._status, Student.publish
    monkeypatch.setattr(learner, "_status", lambda *arguments: told.append(status(*arguments)) or told[-1])
    monkeypatch.setattr(Student, "publish", lambda student, **words: out.append(hours.now) or publish(student, **words))
    plays(monkeypatch, Puppet(then=hours.worked(rate, raises(3900))))
    dies(monkeypatch, directory)
    hours.pass_by(600 * 10**9)
    back, before = hours.now, len(out)
    told.clear()

    def catches_up(updates: int) -> None:
        if told and told[-1].owed <= 50:
            os.kill(os.getpid(), signal.SIGTERM)

    puppet = plays(monkeypatch, Puppet(then=hours.worked(rate, catches_up)))
    puppet.load_state = lambda values, random_state: setattr(puppet, "step", checkpoint.newest(directory).updates)
    assert learner.wall_clock(directory) == 0
    assert "goes on after 2000 updates" in (said := capsys.readouterr().err) and "at its start" in said and "kept up" not in said
    assert hours.now - back < 60e9, "caught up"
    assert out[before] - back < 20e9 and max(np.diff(out[before:])) < 2e9, (
        "new weights as soon as they are newer than the old ones"
    )
    first, last = told[0], told[-1]
    assert first.owed <= agent.max_backlog and first.dropped == last.dropped > 26_000
    assert last.updates + last.dropped + last.owed == last.transitions - agent.learn_after, (
        "each step's update is done, dropped or owed"
    )


def test_a_learner_too_slow_for_its_updates_publishes_as_often_and_goes_on_to_when_it_was_killed(
    tmp_path, tmp_path_factory, monkeypatch
):
    """Twenty updates a step ask for 1,000 a second, and it does 150: weights go out each 50 steps, not each 1,000 updates."""
    agent = Agent(learn_after=100, mirror=False, batch=1, capacity=100_000, updates_per_step=20.0)
    directory, hours = hourly(tmp_path, tmp_path_factory, monkeypatch, agent)
    out, publish = [], Student.publish
    monkeypatch.setattr(
        Student, "publish", lambda student, **words: out.append((hours.now, student.updates)) or publish(student, **words)
    )
    plays(monkeypatch, Puppet(then=hours.worked(150, raises(3900))))
    dies(monkeypatch, directory)
    times, updates = np.array(out).T
    assert len(out) > 20 and np.diff(times).max() < 1.1e9 and np.diff(times).min() > 0.9e9 and np.diff(updates).min() > 100
    known = len(out)
    puppet = plays(monkeypatch, Puppet(then=hours.worked(150, end_at(5000))))
    puppet.load_state = lambda values, random_state: setattr(puppet, "step", checkpoint.newest(directory).updates)
    assert learner.wall_clock(directory) == 0
    times, after = np.array(out[known:]).T
    assert updates[-1] < after[0] < updates[-1] + 10, "as soon as they are newer than the old ones, and not before"
    assert np.diff(times).max() < 1.1e9 and np.diff(times).min() > 0.9e9


def test_weights_that_a_checkpoint_would_be_missed_of_are_not_out_before_it(tmp_path, tmp_path_factory, monkeypatch):
    """Killed before its first: it can be gone on with, though so fast a learner does 2,400 updates before it looks up."""
    agent = Agent(learn_after=100, mirror=False, batch=1, capacity=100_000)
    directory, hours = hourly(tmp_path, tmp_path_factory, monkeypatch, agent)
    puppet = plays(monkeypatch, Puppet(then=hours.worked(120_000)))
    drawn = nets.initial(nets.shapes(112, 8, (16,), 1), 0.1, np.random.default_rng(0))
    puppet.values = {name: value for name, value in drawn.items() if name.startswith("actor.")}

    def killed(student: Student) -> None:
        raise Killed

    monkeypatch.setattr(Student, "save", killed)
    hours.pass_by(60 * 10**9)
    dies(monkeypatch, directory)
    assert puppet.step > checkpoint.EVERY and checkpoint.newest(directory) is None
    assert put_back(rundir.load(directory), directory, None, -1) == ""
