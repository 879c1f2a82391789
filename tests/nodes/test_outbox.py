"""Policy, console and recorder on one bus: what is acknowledged is in log and replay, once, in order, whoever was away."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from robotrl import log as log_module
from robotrl import replay as replay_module
from robotrl import replaycheck, rundir, transitions
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.config import Agent, Run, to_dict
from robotrl.labelled import open_labelled
from robotrl.log import Took
from robotrl.logformat import Kind
from robotrl.messages import Ack, Guard, Label, Operator
from robotrl.node import Node
from robotrl.nodes import keeper as keeper_module
from robotrl.nodes import outbox as outbox_module
from robotrl.nodes import policy as policy_module
from robotrl.nodes import recorder as recorder_module
from robotrl.nodes.estate import HEAD, Estate, left
from robotrl.nodes.keeper import Keeper
from robotrl.nodes.outbox import Outbox
from robotrl.nodes.policy import hand_over, inherit
from robotrl.replay import Replay, ReplayError
from robotrl.replaycheck import compared, rebuild
from robotrl.replayfiles import NoRoom
from tests import logwitness

SIZE, ACTIONS = 112, 8


class World:
    """A run directory and its bus; the recorder in it can be ended, killed, and begun again."""

    def __init__(self, folder: Path) -> None:
        self.run, self.clock, self.directory = (
            Run(steps=400, agent=Agent(capacity=2000, random_steps=10, learn_after=10)),
            WallClock(),
            folder / "run",
        )
        self.directory.mkdir()
        (self.directory / "run.json").write_text(json.dumps({"config": to_dict(self.run)}))
        self.sockets = folder / "ipc"
        self.sockets.mkdir(mode=0o700)
        self.said: list[str] = []
        self.policy, self.console = (Bus(self.sockets, name, self.clock) for name in ("policy", "console"))
        self.acks = self.policy.subscriber("ack")
        self.box: Outbox = Outbox(self.policy.publisher("transition"), self.clock, Kind.TRANSITION, "policy", self.policy.boot)
        self.labels: Outbox = Outbox(self.console.publisher("label"), self.clock, Kind.LABEL, "console", 99)
        self.keeper: Keeper | None = None
        self.begin()

    def say(self, what: object) -> None:
        self.said.append(str(what))

    def begin(self) -> None:
        self.bus = Bus(self.sockets, "recorder", self.clock)
        self.keeper = Keeper(self)  # type: ignore[arg-type]  # of a node it takes these alone

    def end(self) -> None:
        assert self.keeper is not None
        self.keeper.close()
        self.bus.close()
        self.keeper = None

    def kill(self) -> None:
        """As kill -9 leaves it: nothing is sealed, synced or told; the locks are free."""
        assert self.keeper is not None
        log = self.keeper.log
        with log._change:
            log._waiting.clear()
            log._closing = True
            log._change.notify_all()
        log._thread.join()
        for handle in (log._fd, log._lock_fd):
            os.close(handle)
        self.keeper._flusher.close()
        self.keeper.replay._release()
        self.bus.close()
        self.keeper = None

    def act(self, number: int) -> None:
        """The policy's transition of this number; its values tell which."""
        o = np.full(SIZE, number, np.float32)
        self.box.keep(
            transitions.make(o, np.zeros(ACTIONS), number / 4, o + 1, terminated=number % 10 == 9, truncated=False,
                             episode=number // 10, step=number % 10, tick=number, policy_version=1)
        )  # fmt: skip

    def turn(self) -> None:
        if self.keeper is not None:
            self.keeper.cycle()
        ack, now = self.acks.latest(), self.clock.now()
        self.box.tend(ack, now)
        self.labels.tend(ack, now)
        time.sleep(0.001)

    def until(self, true, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end
            self.turn()

    def kept(self) -> None:
        """All that was given is acknowledged, and is in the log and in the replay as it was given."""
        self.until(lambda: not self.box.unacked and not self.labels.unacked)
        seen = logwitness.records(self.directory / "log")
        assert logwitness.faults(seen) == {"lost": 0, "doubled": 0, "reordered": 0}
        assert sum(r.kind == Kind.TRANSITION for r in seen) == self.box.given == self.box.acked
        assert sum(r.kind == Kind.LABEL for r in seen) == self.labels.given == self.labels.acked
        self.until(lambda: Replay.open(self.directory / "replay").count == self.box.given)
        replay = Replay.open(self.directory / "replay")
        assert replay.columns["tick"][: replay.count].tolist() == list(range(self.box.given))
        assert replay.columns["observation"][: replay.count, 5].tolist() == list(range(self.box.given))
        assert compared(self.directory, []) == {"logged": self.box.given, "differ": 0}


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_module, "STALL_NS", 50_000_000)
    made = World(tmp_path)
    yield made
    if made.keeper is not None:
        made.kill()
    for bus in (made.policy, made.console):
        bus.close()


def test_what_is_given_is_acknowledged_and_in_the_replay_in_order(world):
    for number in range(100):
        world.act(number)
        world.turn()
        if number % 7 == 0:
            world.labels.keep(Label(press=number, value=1.0, tick=number, giver=99))
    world.kept()
    world.end()
    assert all(logwitness.segment(p.read_bytes())[1] for p in (world.directory / "log").glob("*.log")) and not world.said


def test_a_recorder_that_dies_again_and_again_loses_nothing_that_was_acknowledged_and_nothing_else(world):
    promised = 0
    for number in range(300):
        world.act(number)
        if number % 3 == 0:
            world.labels.keep(Label(press=number, value=-1.0, tick=number, giver=99))
        world.turn()
        if number % 37 == 20:
            promised = world.box.acked
            world.kill()
        if number % 37 == 30:
            world.begin()
            assert world.keeper.log.acked(Kind.TRANSITION, "policy", world.policy.boot) >= promised
    if world.keeper is None:
        world.begin()
    world.kept()


def test_a_recorder_that_is_another_gets_at_once_what_the_last_one_did_not_acknowledge(world, monkeypatch):
    world.act(0)
    world.kept()
    monkeypatch.setattr(outbox_module, "STALL_NS", 10**18)
    world.kill()
    for number in range(1, 40):
        world.act(number)
    world.begin()
    end = time.monotonic() + 60.0
    while not world.keeper.streams[0].count:  # a fresh subscriber misses the first ones, whatever they are
        assert time.monotonic() < end
        world.act(world.box.given)
        world.keeper.cycle()
        time.sleep(0.01)
    assert world.keeper.log.acked(Kind.TRANSITION, "policy", world.policy.boot) == 1, "the others wait for their forerunners"
    world.kept()


def test_what_was_lost_on_the_way_is_sent_again_and_nothing_is_taken_before_it(world):
    world.act(0)
    world.kept()
    world.act(1)
    world.bus.wait(world.keeper.streams, 10.0)
    assert len(world.keeper.streams[0].drain()) == 1, "it is gone"
    for number in range(2, 20):
        world.act(number)
    world.keeper.cycle()
    assert world.keeper.log.sequence == 2, "the session's begin and the first transition"
    world.kept()


def test_another_life_of_the_policy_goes_on_behind_the_last_one(world):
    for number in range(30):
        world.act(number)
    world.kept()
    world.policy.close()
    world.policy = Bus(world.sockets, "policy", world.clock)
    world.acks = world.policy.subscriber("ack")
    world.box = Outbox(world.policy.publisher("transition"), world.clock, Kind.TRANSITION, "policy", world.policy.boot)
    world.until(lambda: (ack := world.acks.latest()) is not None and ack.transitions == 30)
    for number in range(30, 50):
        world.act(number)
    world.until(lambda: not world.box.unacked)
    assert Replay.open(world.directory / "replay").count == 50
    assert compared(world.directory, []) == {"logged": 50, "differ": 0}


class Killed:
    """The policy of `world`, whose process is killed and begun again."""

    def __init__(self, world: World) -> None:
        self.world, self.clock, self.source, self.say, self.rounds = world, world.clock, "policy", world.say, 0
        self.again()

    def again(self) -> None:
        self.world.policy.close()
        self.world.policy = self.bus = Bus(self.world.sockets, "policy", self.clock)
        self.world.acks = self.world.policy.subscriber("ack")
        publisher = self.world.policy.publisher("transition")
        inherit(self, publisher, self.world.acks)  # type: ignore[arg-type]  # of a node it takes these alone
        estate = Estate(self.world.sockets, self.world.policy.boot, self.world.say)
        life = self.world.policy.boot
        self.world.box = Outbox(publisher, self.clock, Kind.TRANSITION, "policy", life, estate)

    def over(self) -> bool:
        """Asked in each round of `inherit`; where the recorder is away it is back after the first rounds."""
        self.rounds += 1
        if self.world.keeper is None and self.rounds > 3:
            self.world.begin()
        if self.world.keeper is not None:
            self.world.keeper.cycle()
        return False


def test_a_policy_killed_while_the_recorder_is_away_leaves_to_its_next_life_what_was_not_acknowledged(world):
    policy = Killed(world)
    for number in range(30):
        world.act(number)
    world.until(lambda: not world.box.unacked)
    assert left(world.sockets, 0)[0][1] == [], "what is acknowledged is nobody's to keep"
    world.kill()
    for number in range(30, 50):
        world.act(number)
    (life, kept, path), first = left(world.sockets, 0)[0], world.policy.boot
    assert life == first and [t.number for t in kept] == list(range(31, 51))
    path.write_bytes(path.read_bytes()[:-9])  # killed in the midst of the last one's writing
    policy.again()
    for number in range(49, 60):  # the one that was torn is not known to anybody; the next life goes on behind the others
        world.act(number)
    world.until(lambda: not world.box.unacked)
    world.until(lambda: Replay.open(world.directory / "replay").count == 60)
    replay = Replay.open(world.directory / "replay")
    assert replay.columns["tick"][:60].tolist() == list(range(60)) and not path.exists()
    seen = [r for r in logwitness.records(world.directory / "log") if r.kind == Kind.TRANSITION]
    assert [(r.boot == first, r.number) for r in seen] == [
        *((True, n) for n in range(1, 50)),
        *((False, n) for n in range(1, 12)),
    ]
    assert logwitness.faults(seen) == {"lost": 0, "doubled": 0, "reordered": 0} and not world.said
    assert rebuild(world.directory, []) == 60


def test_what_is_left_to_the_next_life_is_taken_once_also_when_it_had_arrived(world):
    policy = Killed(world)
    for number in range(10):
        world.act(number)
    while world.keeper.replay.count < 10:
        world.keeper.cycle()
        world.box.tend(None, world.clock.now())  # the recorder takes a while to connect
    assert [t.number for t in left(world.sockets, 0)[0][1]]  # the log has them, and the policy has not heard of it
    for _ in range(2):  # a next life that is killed at once, and one more
        policy.again()
    assert [path.stat().st_size for _, _, path in left(world.sockets, 0)] == [0]
    seen = [r for r in logwitness.records(world.directory / "log") if r.kind == Kind.TRANSITION]
    assert [r.number for r in seen] == list(range(1, 11))


def test_what_the_recorder_never_takes_is_given_up_and_said(world, monkeypatch):
    policy = Killed(world)
    world.act(0)
    assert len(left(world.sockets, 0)[0][1]) == 1
    monkeypatch.setattr(policy_module, "INHERIT_NS", 200_000_000)
    monkeypatch.setattr(world.keeper, "_take", lambda message: None)
    policy.again()
    assert world.said == ["1 transitions of an earlier life are not taken by the recorder; see logs/recorder.log"]
    assert [kept for _, kept, _ in left(world.sockets, 0)] == [[]]


def test_a_disk_without_room_for_what_is_left_is_said_once_and_ends_nothing(tmp_path):
    said: list[object] = []
    estate = Estate(tmp_path, 5, said.append)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, estate._fd)
    os.close(full)
    made = transitions.make(np.zeros(2), np.zeros(1), 0.0, np.zeros(2), terminated=False, truncated=False, episode=0, step=0,
                            tick=0, policy_version=0)  # fmt: skip
    for _ in range(2):
        estate.add(made)
        estate.clear()
    assert len(said) == 1 and "No space left" in str(said[0]) and not list(tmp_path.iterdir())


def test_of_what_is_left_nothing_is_read_that_is_not_whole(tmp_path):
    estate = Estate(tmp_path, 5, print)
    for number in (1, 2, 3):
        estate.add(transitions.make(np.zeros(2), np.zeros(1), number, np.zeros(2), terminated=False, truncated=False, episode=0,
                                    step=0, tick=0, policy_version=0))  # fmt: skip
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    ends = [0]
    while ends[-1] < len(whole):
        ends.append(ends[-1] + HEAD.size + HEAD.unpack_from(whole, ends[-1])[0])
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert len(left(tmp_path, 0)[0][1]) == sum(end <= cut for end in ends[1:])
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        assert len(left(tmp_path, 0)[0][1]) == sum(end <= byte for end in ends[1:])
    assert left(tmp_path, 5) == []
    path.write_bytes(whole)
    estate.close()  # by a complaint: not all is acknowledged
    assert [len(kept) for _, kept, _ in left(tmp_path, 0)] == [3]
    ended = Estate(tmp_path, 6, print)
    ended.close()
    assert [life for life, _, _ in left(tmp_path, 0)] == [5]


def test_on_a_full_disk_nothing_is_acknowledged_and_it_is_said_until_there_is_room(world, monkeypatch):
    full, real = [True], os.posix_fallocate

    def fallocate(fd, at, size):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, at, size)

    monkeypatch.setattr(log_module, "RETRY_S", 0.01)
    world.keeper.log._size = 30_000  # so much more goes into this segment
    for number in range(10):
        world.act(number)
    world.kept()
    monkeypatch.setattr(log_module.os, "posix_fallocate", fallocate)
    for number in range(10, 200):
        world.act(number)
    world.until(lambda: "disk full" in (world.acks.latest() or Ack(kept=(), durable=0, transitions=0)).trouble)
    assert world.keeper.trouble and "disk full" in world.said[-1] and 0 < world.box.unacked < 191
    full[0] = False
    world.kept()
    assert not world.keeper.trouble and "there is room again" in world.said[-1] and len(world.said) == 2


@pytest.mark.parametrize("how", ["lives", "dies", "ends"])
def test_rows_that_a_full_disk_has_no_room_for_wait_in_the_log_and_come_once_and_in_order(world, monkeypatch, how):
    """The log has its room beforehand: it goes on keeping, and acknowledging, what the replay cannot take."""
    full, real = [False], os.posix_fallocate

    def fallocate(fd, at, size):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, at, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    monkeypatch.setattr(replay_module, "RESERVE", 16)
    monkeypatch.setattr(keeper_module, "AGAIN_NS", 0)
    for number in range(10):
        world.act(number)
    world.kept()
    full[0] = True
    for number in range(10, 100):
        world.act(number)
    world.until(lambda: "not learned from" in world.acks.latest().trouble and not world.box.unacked)
    assert world.keeper.replay.count == 16 + 10 - 10 and world.keeper.trouble in world.said[-1]
    if how == "dies":
        world.kill()
    elif how == "ends":
        world.end()
        assert "is in the log alone" in world.said[-1]
    full[0] = False
    if how != "lives":
        world.begin()
    world.kept()
    assert not world.keeper.trouble


class Full:
    """labels.jsonl on a disk that has so many bytes of room, unbuffered: a write takes a part, and the next one none."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room, self.close = file, room, file.close

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return self.file.write(part)


def test_labels_that_a_full_disk_has_no_room_for_are_written_where_the_file_broke_off(world, monkeypatch):
    monkeypatch.setattr(keeper_module, "AGAIN_NS", 0)
    for number in range(10):
        world.act(number)
    world.kept()
    world.keeper.book._file = full = Full(world.keeper.book._file, 150)
    for number in range(10):
        world.labels.keep(Label(press=number, value=1.0, episode=0, step=number, tick=number, giver=99))
    world.until(lambda: "disk full" in world.acks.latest().trouble and not world.labels.unacked)
    assert len((world.directory / "labels.jsonl").read_bytes()) == 150, "in the middle of a line"
    full.room = 10**6
    world.until(lambda: not world.keeper.trouble)
    lines = (world.directory / "labels.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"]["step"] for line in lines] == list(range(10))
    assert open_labelled(world.directory).labels == 10
    full.write = lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
    world.labels.keep(Label(press=10, value=1.0, episode=0, step=0, tick=0, giver=99))
    with pytest.raises(ReplayError, match=r"labels.jsonl: Input/output error; free"):
        world.until(lambda: False)


def test_a_recorder_that_died_on_a_full_disk_begins_again_when_there_is_room_and_says_what_it_waits_for(tmp_path, monkeypatch):
    """Refused again and again it would end the run; the guard holds the robot by its word."""
    done: list[str] = []
    lacks = ["disk full: free 48 MB", "disk full: free 48 MB", ""]

    class Node:
        def __init__(self, directory, source):
            self.directory = directory
            self.beat, self.say = (lambda note: done.append(f"beat {note}")), (lambda what: done.append(f"say {what}"))
            self.every = lambda _: iter(range(3))

        def refuse(self, why):
            done.append(f"refused {why}")
            return 2

    def begins(node):
        done.append("begins")
        raise OSError(errno.EIO, "Input/output error")  # also then: one line

    monkeypatch.setattr(recorder_module, "Node", Node)
    monkeypatch.setattr(recorder_module, "Recorder", begins)
    monkeypatch.setattr(recorder_module, "lacking", lambda *_: lacks.pop(0))
    assert recorder_module.main([str(tmp_path), "--restarted"]) == 2 and not lacks
    ends = ["begins", "refused [Errno 5] Input/output error"]
    assert done == [f"say {(full := 'disk full: free 48 MB')}", f"beat {full}", f"beat {full}", *ends]
    done.clear()
    assert recorder_module.main([str(tmp_path)]) == 2 and done == ends, "a run that has not begun does not wait"


def test_a_recorder_that_has_no_room_for_what_its_log_holds_waits_too_and_leaves_nothing_open(world, tmp_path, monkeypatch):
    """Frames may take more than what was looked for: it begins, and is refused."""
    for number in range(5):
        world.act(number)
    world.kept()
    world.end()
    real, tries, said = keeper_module.top_up, [], []

    def topped(*args):
        tries.append(args)
        if len(tries) < 3:
            raise NoRoom("replay: No space left on device; free some space, resume")
        return real(*args)

    class Here(Node):
        def say(self, what):
            said.append(str(what))

        def every(self, *_):
            return iter(range(9))

        def over(self):
            return True

    (world.directory / "bus.json").write_text(json.dumps({"directory": str(world.sockets)}))
    monkeypatch.setattr(keeper_module, "top_up", topped)
    monkeypatch.setattr(recorder_module, "Node", Here)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert recorder_module.main([str(world.directory), "--restarted"]) == 0
    assert len(tries) == 3 and said == ["replay: No space left on device; free some space, resume"]
    world.begin()
    assert world.keeper.replay.count == 5
    world.end()


def test_a_recorder_that_was_refused_room_looks_for_twice_as_much_before_it_tries_again(world, monkeypatch):
    """It tried twice a second: each time a segment of the log, and memory, for as long as nobody had seen to the disk."""
    world.end()
    tries, said = [], []

    def topped(*_):
        tries.append(0)
        raise NoRoom("replay: No space left on device; free some space, resume")

    class Here(Node):
        say = staticmethod(lambda what: said.append(str(what)))

        def every(self, *_):
            return iter(range(50))

    def allocate(fd, size):
        if size > 100 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    (world.directory / "bus.json").write_text(json.dumps({"directory": str(world.sockets)}))
    monkeypatch.setattr(keeper_module, "top_up", topped)
    monkeypatch.setattr(recorder_module, "allocate", allocate)
    monkeypatch.setattr(recorder_module, "Node", Here)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    before = len(list((world.directory / "log").iterdir()))
    assert recorder_module.main([str(world.directory), "--restarted"]) == 0
    assert len(tries) == 2 and "free 192 MB" in said[-1]
    assert len(list((world.directory / "log").iterdir())) <= before + 2
    monkeypatch.setattr(recorder_module, "allocate", lambda *_: None)
    monkeypatch.setattr(Here, "every", lambda *_: iter(range(9)))
    assert recorder_module.main([str(world.directory), "--restarted"]) == 0 and len(tries) == 11, "it is asked for no end"


def test_a_recorder_that_waits_for_room_ends_when_it_is_told_to(tmp_path, monkeypatch):
    (tmp_path / "ipc").mkdir(mode=0o700)
    (tmp_path / "run.json").write_text(json.dumps({"config": to_dict(Run())}))
    (tmp_path / "bus.json").write_text(json.dumps({"directory": str(tmp_path / "ipc")}))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(Node, "every", lambda *_: iter(range(2)))
    monkeypatch.setattr(recorder_module, "lacking", lambda *_: "disk full: free 48 MB")
    assert recorder_module.main([str(tmp_path), "--restarted"]) == 0 and not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "free 48 MB"), (errno.EDQUOT, "free 48 MB"), (errno.EIO, ""), (0, "")]
)
def test_only_a_disk_without_room_is_waited_for(tmp_path, monkeypatch, number, says):
    def fallocate(fd, at, size):
        if number:
            raise OSError(number, os.strerror(number))
        assert size == recorder_module.ROOM

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    assert says in recorder_module.lacking(tmp_path) and bool(says) == bool(recorder_module.lacking(tmp_path))
    assert not list(tmp_path.iterdir())


def test_on_a_disk_that_fails_nothing_is_acknowledged_any_more(world, monkeypatch):
    world.act(0)
    world.kept()

    def fails(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(log_module.os, "fdatasync", fails)
        world.act(1)
        world.until(lambda: world.keeper.log.failed)
    for number in range(2, 20):
        world.act(number)
    for _ in range(100):
        world.turn()
    assert world.box.unacked == 19 and "the disk failed" in world.acks.latest().trouble
    world.kill()
    world.begin()  # on a disk that is well
    world.kept()


def test_what_the_replay_lacks_is_added_from_the_log(world, monkeypatch):
    for number in range(40):
        world.act(number)
    world.kept()
    world.kill()
    replay = Replay.open(world.directory / "replay", write=True)
    replay.cut(17)  # as after a power cut
    replay.close()
    world.begin()
    assert world.said == ["23 transitions of the log were not in the replay yet"]
    world.kept()


def test_the_replay_is_made_anew_from_the_log_byte_by_byte(world):
    for number in range(40):
        world.act(number)
    world.kept()
    world.end()
    before = {p.name: p.read_bytes() for p in (world.directory / "replay").iterdir()}
    with open(world.directory / "replay" / "reward.f32", "r+b") as file:
        file.write(b"rot!")
    assert compared(world.directory, [])["differ"] == 0, "the check sum is that of the row as it was"
    assert Replay.open(world.directory / "replay").check()["damaged"] == 1
    assert rebuild(world.directory, []) == 40
    assert {p.name: p.read_bytes() for p in (world.directory / "replay").iterdir()} == before
    assert (world.directory / "replay.old" / "reward.f32").read_bytes()[:4] == b"rot!"


def test_the_commands_say_what_the_log_and_the_replay_hold(world, capsys):
    for number in range(25):
        world.act(number)
    world.kept()
    world.end()
    assert replaycheck.main(["check", str(world.directory), "--json"]) == 0
    *said, told = capsys.readouterr().out.splitlines()
    assert said == [
        "replay  25 transitions in 3 episodes: none lost, none doubled",
        "log     25 transitions, 0 of them otherwise in the replay",
    ]
    assert json.loads(told)["logged"] == 25
    replay = Replay.open(world.directory / "replay", write=True)
    replay.cut(20)
    replay.close()
    assert replaycheck.main(["check", str(world.directory)]) == 2 and "5 of them otherwise" in capsys.readouterr().out
    assert replaycheck.main(["rebuild", str(world.directory)]) == 0
    assert capsys.readouterr().out.startswith("replay  25 transitions rebuilt from the log")
    held = rundir.hold(world.directory)
    with pytest.raises(rundir.RunError, match="this run is alive"):
        replaycheck.main(["rebuild", str(world.directory)])
    os.close(held)


def test_one_that_nobody_could_learn_from_is_not_given_away(world):
    replay = Replay.open(world.directory / "replay")
    o = np.zeros(SIZE, np.float32)
    rest = dict(terminated=False, truncated=False, episode=0, step=0, tick=0, policy_version=0)
    for wrong in (transitions.make(o, np.full(ACTIONS, np.nan), 0.0, o, **rest), transitions.make(o[1:], o[:8], 0.0, o, **rest)):
        with pytest.raises(ReplayError, match="episode 0 step 0"):
            hand_over(world.box, replay, wrong)
    assert not world.box.given


def test_more_than_may_be_kept_is_counted_as_lost(world, monkeypatch):
    monkeypatch.setattr(outbox_module, "MOST", 5)
    world.kill()
    for number in range(8):
        world.act(number)
    assert (world.box.given, world.box.unacked, world.box.lost) == (5, 5, 3)


def test_what_happened_is_kept_too_and_beats_are_not(world):
    shown = dict(state="PSTOP", causes=("tilt",), last_cause="tilt", session=False, epoch=1, holder="", nonce=1)
    world.keeper.note("cause", Guard(source="guard", boot=4, seq=1, **shown))
    world.keeper.note("guard", Guard(source="guard", boot=4, seq=2, **shown))
    for seq, command in enumerate(("beat", "stop", "good"), 1):
        world.keeper.note("operator", Operator(source="console", boot=5, seq=seq, command=command, press=seq))
    assert world.keeper.log.append(Kind.CAUSE, "guard", 4, 1, b"") is Took.DUPLICATE
    world.end()
    kinds = [r.kind for r in logwitness.records(world.directory / "log")]
    assert kinds == [Kind.SESSION, Kind.CAUSE, Kind.OPERATOR, Kind.OPERATOR, Kind.SESSION]


def test_images_come_with_their_transitions_over_the_bus_also_after_the_recorder_was_killed(world, monkeypatch):
    """Each frame is sent, logged and stored once, and the replay that is topped up after a power cut shows the same."""
    cameras = (("wrist", 84, 84, 3), ("front", 84, 84, 3))
    monkeypatch.setattr(keeper_module, "cameras", lambda run: cameras)
    world.end()
    shutil.rmtree(world.directory / "replay")
    world.begin()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, 2 * 84 * 84 * 3, np.uint8).tobytes() for _ in range(41)]
    sent, keep = [], world.box.keep
    for number in range(40):
        if number == 25:
            world.kill()
            world.begin()
        world.box.keep = sent.append
        world.act(number)
        world.box.keep = keep
        before = sent[-2] if number else None
        sent[-1] = transitions.framed(sent[-1], cameras, frames[number], frames[number + 1], before)
        assert (not sent[-1].images) == (number % 10 > 0), "an episode has ten steps"
        keep(sent[-1])
        world.turn()
    world.kept()
    world.end()
    replay = Replay.open(world.directory / "replay", write=True)
    replay.cut(17)  # a power cut
    replay.close()
    world.begin()
    assert world.said[-1] == "23 transitions of the log were not in the replay yet"
    replay, rows = Replay.open(world.directory / "replay"), np.arange(40)
    images = replay.images(rows, rows)
    for which, first in ((images.observation, 0), (images.next_observation, 1)):
        for k in rows:
            assert b"".join(which[name][k].tobytes() for name, *_ in cameras) == frames[k + first]
    assert replay.frame_count == 44 and replay.check()["damaged"] == 0
    assert compared(world.directory, []) == {"logged": 40, "differ": 0}


def said_of(number: int) -> dict:
    """That the step of this number of `World.act` was good, as a console names it."""
    return dict(press=number, value=1.0, tick=number, giver=99, episode=number // 10, step=number % 10)


def test_labels_are_bound_to_their_own_steps_once_whoever_dies_when(world):
    """Kills of the recorder between any two of them: what a learner reads is what was said, of the step it was said of."""
    for number in range(200):
        world.act(number)
        if number % 3 == 0:
            world.labels.keep(Label(**said_of(number)))
            if number % 9 == 0:  # of a step that has not come
                world.labels.keep(Label(**said_of(number + 2)))
        world.turn()
        if number % 41 == 17:
            world.kill()
        if number % 41 == 30:
            world.begin()
    if world.keeper is None:
        world.begin()
    world.act(200)
    world.kept()
    world.until(lambda: world.keeper.book.book.counts[1] == 0)
    rows = open_labelled(world.directory)
    wanted = [number / 4 + (number % 3 == 0) + (number % 9 == 2) for number in range(201)]
    assert rows.columns["reward"][:201].tolist() == wanted
    assert rows.labels == world.labels.given == 67 + 23 and world.keeper.book.book.counts == (90, 0, 0)


def test_a_label_of_a_step_that_never_came_is_refused_and_told(world):
    world.act(0)
    world.labels.keep(Label(**said_of(0) | {"step": 7, "tick": 7}))
    for number in range(1, 12):
        world.act(number if number < 7 else number + 3)  # the rest of this episode was lost
    world.until(lambda: (world.acks.latest() or Ack(kept=(), durable=0, transitions=0)).labels[2] == 1)
    assert world.acks.latest().refused == "+1 at 0/7 is refused: its step was never recorded"
