"""The bus carries topics between the processes of one machine: ZeroMQ publish/subscribe over ipc sockets in a 0700 directory.

One socket file per (topic, source), one frame per message, msgpack of the topic's one type: nothing that arrives can run code.
A second bind to the same ipc path would succeed and steal it, so a publisher first takes an advisory lock beside the socket,
refuses a path at which somebody listens, and looks once a second whether the path is still its own. A reader knows who speaks
by the socket, not by what the message says. Nothing here listens on a network: that is `robotrl/door.py`, when asked.
Options are set before connect: a CONFLATE set later keeps the oldest instead of the newest.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket as sockets
import stat
from collections import Counter, deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import zmq

from robotrl.clock import Clock
from robotrl.complaint import Complaint
from robotrl.messages import Message
from robotrl.patience import Patience
from robotrl.topics import TOPICS

LIVES = 1000  # of all sources of a topic, remembered so that none is replayed
STOPS = frozenset(("operator",))  # topics with stops: however much else of a source's is refused, they are heard
FLOOD = 1000  # messages that one drain takes there of a source that is out
LOOK_NS = 1_000_000_000  # how often a publisher looks whether its path is still its own


class BusError(Complaint):
    """What is wrong on the bus, where, and what to do; one line."""


class Publisher:
    """The only writer of one (topic, source). Fills in who, which life, which number, and when."""

    def __init__(self, context: zmq.Context, directory: Path, topic: str, source: str, boot: int, clock: Clock) -> None:
        if source not in TOPICS[topic].sources:
            raise BusError(f"{source} may not publish {topic!r}; robotrl/topics.py allows {TOPICS[topic].sources}")
        self.topic, self.source, self.boot, self.clock, self.seq = topic, source, boot, clock, 0
        self._limit = TOPICS[topic].limit
        self._path = path = directory / f"{topic}.{source}"
        self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._socket = context.socket(zmq.PUB)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            vacate(path)
        except (OSError, BusError) as error:
            self.close()
            if isinstance(error, BusError):
                raise
            raise BusError(f"{path}: another process already publishes {topic!r} as {source}; stop it first") from None
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, TOPICS[topic].queue)
        before = os.umask(0o177)
        try:
            self._socket.bind(f"ipc://{path}")
        finally:
            os.umask(before)
        self._inode, self._look = path.stat().st_ino, clock.now() + LOOK_NS
        self._encode = msgspec.msgpack.Encoder().encode

    def send(self, message: Message) -> Message:
        """Stamp and send; returns the message as it went out. Never blocks. BusError when the path was taken from us."""
        assert type(message) is TOPICS[self.topic].type, (self.topic, type(message))
        self.seq += 1
        now = self.clock.now()
        message = msgspec.structs.replace(message, source=self.source, boot=self.boot, seq=self.seq, t=message.t or now)
        frame = self._encode(message)
        assert len(frame) <= self._limit, (self.topic, len(frame), self._limit)
        if now >= self._look:
            self._look = now + LOOK_NS
            self._hold()
        self._socket.send(frame, zmq.NOBLOCK)
        return message

    def _hold(self) -> None:
        """BusError when another socket stands at our path: who connects from now on would hear a stranger."""
        try:
            held = os.lstat(self._path).st_ino == self._inode
        except FileNotFoundError:  # the run ends: the manager has removed the directory
            return
        if not held:
            raise BusError(f"{self._path}: another process has taken this socket; end it, then start the run again")

    def close(self) -> None:
        self._socket.close(0)
        os.close(self._lock)


class Subscriber:
    """A reader of one topic from all its sources. `lost` counts gaps in the running numbers, `refused` what was not taken.

    Refused are: several frames, what is no message of the topic, another source than the socket's, and a number or a life that
    has been before. Whoever sends too many of them (`patience.py`) is heard no more for a while; on a topic of `STOPS` he is
    heard, but nobody wakes up for him.
    """

    def __init__(self, context: zmq.Context, directory: Path, topic: str, clock: Clock, whole: bool = False,
                 sources: Collection[str] | None = None) -> None:  # fmt: skip
        self.topic, self.clock = topic, clock
        self._context, self._directory, self._whole = context, directory, whole
        entry = TOPICS[topic]
        self._most = entry.queue
        self._decode = msgspec.msgpack.Decoder(entry.type).decode
        self._open = {source: self._connected(source) for source in (entry.sources if sources is None else sources)}
        self._newest: dict[str, Any] = {}
        self._past: dict[tuple[str, int], None] = {}  # lives that another one has followed, the last LIVES of them
        self._patience = Patience()
        self._arrival: int | None = None
        self._arrivals: deque[int] = deque()  # of the last second
        self.refused: Counter[str] = Counter()  # frames, malformed, source, replayed
        self.lost = self.count = 0

    def _connected(self, source: str) -> zmq.Socket:
        entry, socket = TOPICS[self.topic], self._context.socket(zmq.SUB)
        for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, entry.queue), (zmq.MAXMSGSIZE, entry.limit), (zmq.RECONNECT_IVL, 20)):
            socket.setsockopt(option, value)
        if entry.latest and not self._whole:
            socket.setsockopt(zmq.CONFLATE, 1)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(f"ipc://{self._directory / f'{self.topic}.{source}'}")
        return socket

    @property
    def bad(self) -> int:
        """How many messages were refused."""
        return self.refused.total()

    @property
    def sockets(self) -> list[zmq.Socket]:
        """To wait for: of those who are not out."""
        return [socket for source, socket in self._open.items() if source not in self._patience.out]

    def drain(self) -> list[Any]:
        """Everything that has arrived since the last call, in order of arrival per source; at most its `queue` of each."""
        out: list[Any] = []
        if flooding := self._patience.out:
            self._forgive()
        for source, socket in tuple(self._open.items()):
            for taken in range(self._most):
                try:
                    frame = socket.recv(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                if frame.more:
                    while socket.recv(copy=False).more:
                        pass
                    self._refuse("frames", source)
                elif (message := self.take(frame.buffer, source)) is not None:
                    out.append(message)
                if source in flooding and (taken >= FLOOD or source not in self._open):
                    break
        return out

    def take(self, frame: bytes | memoryview, source: str) -> Any | None:
        """The message in a frame of `source`'s, accounted for; None, and refused, when it holds none of his. Never raises."""
        try:
            message = self._decode(frame)
        except (ValueError, RecursionError):  # besides DecodeError: text that is no UTF-8; unknown values nested without end
            self._refuse("malformed", source)
            return None
        if why := self._account(message, source):
            self._refuse(why, source)
            return None
        return message

    def latest(self, source: str = "") -> Any | None:
        """The newest message received so far (of one source, or of any), None before the first."""
        self.drain()
        if source:
            return self._newest.get(source)
        return max(self._newest.values(), key=lambda m: m.t, default=None)

    def age_ns(self, now: int) -> int | None:
        """Time since the last arrival; None before the first."""
        self.drain()
        return None if self._arrival is None else now - self._arrival

    def rate_hz(self, now: int) -> float:
        """Arrivals per second over the last second. For a *latest* topic: those that this reader saw."""
        self._forget(now)
        return float(len(self._arrivals))

    def _forget(self, now: int) -> None:
        """Arrivals that are a second old: they would be kept by the thousand."""
        while self._arrivals and now - self._arrivals[0] >= 1_000_000_000:
            self._arrivals.popleft()

    def _account(self, message: Message, source: str) -> str:
        """Take the message into the books, or say why not."""
        if message.source != source:
            return "source"
        last = self._newest.get(source)
        if last is not None and message.boot == last.boot:
            if message.seq <= last.seq:
                return "replayed"
            self.lost += message.seq - last.seq - 1
        elif (source, message.boot) in self._past:
            return "replayed"
        elif last is not None:
            self._past[source, last.boot] = None
            if len(self._past) > LIVES:
                del self._past[next(iter(self._past))]
        self._newest[source] = message
        self._arrival = self.clock.now()
        self._arrivals.append(self._arrival)
        self._forget(self._arrival)
        self.count += 1
        return ""

    def _refuse(self, why: str, source: str) -> None:
        self.refused[why] += 1
        if self._patience.lost(source, self.clock.now()) and self.topic not in STOPS and source in self._open:
            self._open.pop(source).close(0)

    def _forgive(self) -> None:
        for source in self._patience.forgive(self.clock.now()):
            if source not in self._open:
                self._open[source] = self._connected(source)

    def close(self) -> None:
        for socket in self._open.values():
            socket.close(0)


def vacate(path: Path) -> None:
    """Remove the socket that a dead process left at `path`; BusError when it is not ours to remove, or somebody listens there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise BusError(f"{path}: is not a socket of this user's; remove it")
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as knock:
        knock.setblocking(False)
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:  # nobody is at home
            path.unlink()
        except OSError:  # one whose queue is full is at home too
            raise BusError(f"{path}: another process listens here; end it first") from None
        else:
            raise BusError(f"{path}: another process listens here; end it first")


def private(directory: Path) -> None:
    """BusError unless `directory` is this user's alone: whoever can write in it could put his sockets in the place of ours."""
    if not directory.is_dir():
        raise BusError(f"no bus at {directory}: the run is not live; start one with launch/real_walk.sh")
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        mine = "this user's" if found.st_uid == os.geteuid() else f"of user {found.st_uid}"
        kind = f"mode {stat.S_IMODE(found.st_mode):04o}" if stat.S_ISDIR(found.st_mode) else "a link"
        raise BusError(f"{directory}: the bus needs a directory of mode 0700 of this user's; this is {mine}, {kind}")


def _known(topic: str) -> None:
    if topic not in TOPICS:
        raise BusError(f"no topic {topic!r}; robotrl/topics.py has {', '.join(TOPICS)}")


class Bus:
    """One process's door to the bus. `source` is the node's name; `boot` tells this life of it from the last."""

    def __init__(self, directory: Path, source: str, clock: Clock) -> None:
        private(directory)
        self.directory, self.source, self.clock = directory, source, clock
        self.boot = int.from_bytes(os.urandom(6), "big")
        self._context = zmq.Context()
        self._ends: list[Publisher | Subscriber] = []

    def publisher(self, topic: str) -> Publisher:
        _known(topic)
        publisher = Publisher(self._context, self.directory, topic, self.source, self.boot, self.clock)
        self._ends.append(publisher)
        return publisher

    def subscriber(self, topic: str, whole: bool = False, sources: Collection[str] | None = None) -> Subscriber:
        """A reader of `topic`; `whole`: every message of it, where others keep only the newest. `sources`: of these alone: one
        that is never there is looked for fifty times a second.
        """
        _known(topic)
        subscriber = Subscriber(self._context, self.directory, topic, self.clock, whole, sources)
        self._ends.append(subscriber)
        return subscriber

    def wait(self, subscribers: list[Subscriber], timeout_s: float) -> bool:
        """True as soon as one of the subscribers has something, False after `timeout_s`."""
        poller = zmq.Poller()
        for subscriber in subscribers:
            for socket in subscriber.sockets:
                poller.register(socket, zmq.POLLIN)
        return bool(poller.poll(math.ceil(max(0.0, timeout_s) * 1000)))

    def close(self) -> None:
        for end in self._ends:
            end.close()
        self._context.term()
