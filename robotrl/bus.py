"""The bus carries topics between the processes of one machine: ZeroMQ publish/subscribe over ipc sockets in a 0700 directory.

One socket file per (topic, source), one frame per message, msgpack of the topic's one type: nothing that arrives can run code.
A second bind to the same ipc path would succeed and steal it, so a publisher first takes an advisory lock beside the socket.
Options are set before connect: a CONFLATE set later keeps the oldest instead of the newest.
"""

from __future__ import annotations

import fcntl
import math
import os
from pathlib import Path
from typing import Any

import msgspec
import zmq

from robotrl.clock import Clock
from robotrl.complaint import Complaint
from robotrl.messages import Message
from robotrl.topics import TOPICS

MAX_BYTES = 64 * 1024  # largest message; images will go by shared memory
QUEUE = 4096  # messages a queue topic may hold for a slow reader: 80 s at 50 Hz


class BusError(Complaint):
    """What is wrong on the bus, where, and what to do; one line."""


class Publisher:
    """The only writer of one (topic, source). Fills in who, which life, which number, and when."""

    def __init__(self, context: zmq.Context, directory: Path, topic: str, source: str, boot: int, clock: Clock) -> None:
        if source not in TOPICS[topic].sources:
            raise BusError(f"{source} may not publish {topic!r}; robotrl/topics.py allows {TOPICS[topic].sources}")
        self.topic, self.source, self.boot, self.clock, self.seq = topic, source, boot, clock, 0
        path = directory / f"{topic}.{source}"
        self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise BusError(f"{path}: another process already publishes {topic!r} as {source}; stop it first") from None
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE)
        self._socket.bind(f"ipc://{path}")
        self._encode = msgspec.msgpack.Encoder().encode

    def send(self, message: Message) -> Message:
        """Stamp and send; returns the message as it went out. Never blocks."""
        assert type(message) is TOPICS[self.topic].type, (self.topic, type(message))
        self.seq += 1
        message = msgspec.structs.replace(
            message, source=self.source, boot=self.boot, seq=self.seq, t=message.t or self.clock.now()
        )
        self._socket.send(self._encode(message), zmq.NOBLOCK)
        return message

    def close(self) -> None:
        self._socket.close(0)
        os.close(self._lock)


class Subscriber:
    """A reader of one topic from all its sources. `lost` counts gaps in the running numbers, `bad` undecodable frames."""

    def __init__(self, context: zmq.Context, directory: Path, topic: str, clock: Clock) -> None:
        self.topic, self.clock = topic, clock
        entry = TOPICS[topic]
        self._decode = msgspec.msgpack.Decoder(entry.type).decode
        self._sources = dict.fromkeys(entry.sources)
        self.sockets: list[zmq.Socket] = []
        for source in entry.sources:
            socket = context.socket(zmq.SUB)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, QUEUE)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
            socket.setsockopt(zmq.RECONNECT_IVL, 20)
            if entry.latest:
                socket.setsockopt(zmq.CONFLATE, 1)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(f"ipc://{directory / f'{topic}.{source}'}")
            self.sockets.append(socket)
        self._newest: dict[str, Any] = {}
        self._numbers: dict[str, tuple[int, int]] = {}  # by source: its life and last number, not one for every life
        self._arrival: int | None = None
        self._arrivals: list[int] = []
        self.lost = self.bad = self.count = 0

    def drain(self) -> list[Any]:
        """Everything that has arrived since the last call, in order of arrival per source."""
        out = []
        for socket in self.sockets:
            while True:
                try:
                    frame = socket.recv(zmq.NOBLOCK)
                except zmq.Again:
                    break
                if (message := self.take(frame)) is not None:
                    out.append(message)
        return out

    def take(self, frame: bytes) -> Any | None:
        """The message in a frame, accounted for; None, and counted as bad, when it holds none of this topic's. Never raises."""
        try:
            message = self._decode(frame)
        except (ValueError, RecursionError):  # besides DecodeError: text that is no UTF-8; unknown values nested without end
            message = None
        if message is None or message.source not in self._sources:
            self.bad += 1
            return None
        self._account(message)
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
        self._arrivals = [t for t in self._arrivals if now - t < 1_000_000_000]
        return float(len(self._arrivals))

    def _account(self, message: Message) -> None:
        boot, last = self._numbers.get(message.source, (message.boot, message.seq))
        if boot == message.boot and message.seq > last + 1:
            self.lost += message.seq - last - 1
        self._numbers[message.source] = message.boot, message.seq
        self._newest[message.source] = message
        self._arrival = self.clock.now()
        self._arrivals.append(self._arrival)
        if len(self._arrivals) > 2000:
            del self._arrivals[:1000]
        self.count += 1

    def close(self) -> None:
        for socket in self.sockets:
            socket.close(0)


def _known(topic: str) -> None:
    if topic not in TOPICS:
        raise BusError(f"no topic {topic!r}; robotrl/topics.py has {', '.join(TOPICS)}")


class Bus:
    """One process's door to the bus. `source` is the node's name; `boot` tells this life of it from the last."""

    def __init__(self, directory: Path, source: str, clock: Clock) -> None:
        if not directory.is_dir():
            raise BusError(f"no bus at {directory}: the run is not live; start one with launch/real_walk.sh")
        self.directory, self.source, self.clock = directory, source, clock
        self.boot = int.from_bytes(os.urandom(6), "big")
        self._context = zmq.Context()
        self._ends: list[Publisher | Subscriber] = []

    def publisher(self, topic: str) -> Publisher:
        _known(topic)
        publisher = Publisher(self._context, self.directory, topic, self.source, self.boot, self.clock)
        self._ends.append(publisher)
        return publisher

    def subscriber(self, topic: str) -> Subscriber:
        _known(topic)
        subscriber = Subscriber(self._context, self.directory, topic, self.clock)
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
