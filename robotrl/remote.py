"""The bus as another machine sees it, through a run's network door: the same face as `bus.Bus`, one encrypted connection.

    bus = Remote("tcp://192.168.1.5:5555", keyring.read(Path("laptop.secret.json")), clock)

It says hello at once when a connection is made, and again when nothing comes any more: a robot whose door was shut for a moment
is back by itself, before the guard misses a console's beats. What is published without a welcome is lost, as on every bus; a stop
alone is sent all the same, and once more at a welcome that comes soon after it: a door that was shut under it has not heard it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import msgspec
import zmq

from robotrl.bus import BusError
from robotrl.clock import Clock
from robotrl.greeting import DECODE, HELLO, LIMIT, WANT, WELCOME, Welcome
from robotrl.keyring import Key, library
from robotrl.messages import Message, Operator
from robotrl.roles import ASKED
from robotrl.topics import TOPICS

AGAIN_NS = 300_000_000  # without a word for so long: hello again
WANT_NS = 250_000_000  # how often pictures are asked for: no screen shows more of them, and the door's rate is for the keys
RETRY_NS = 10_000_000  # a connection has been made, and took no hello yet
DRIFT = 5000  # of so many parts two clocks part by less than one: each crystal is off by less than 100 ppm
HWM = 1024
STOP_NS = 1_000_000_000  # so long a stop is repeated at a welcome
LARGEST = LIMIT + max(TOPICS[topic].limit for topic in ASKED)  # bytes of a frame from the robot


class RemotePublisher:
    """What this machine says of one topic; the door decides by its key whether it may."""

    def __init__(self, bus: Remote, topic: str) -> None:
        self._bus, self.topic = bus, topic

    def send(self, message: Message) -> Message:
        """Stamped with the session and the next number. Never blocks."""
        assert type(message) is TOPICS[self.topic].type, (self.topic, type(message))
        return self._bus.post(self.topic, message)


class RemoteSubscriber:
    """What has come of one topic; the rest of `bus.Subscriber`'s face is for nodes on the robot."""

    def __init__(self, bus: Remote, topic: str) -> None:
        self._bus, self.topic = bus, topic
        self.waiting: deque[Any] = deque(
            maxlen=1 if TOPICS[topic].latest and len(TOPICS[topic].sources) == 1 else TOPICS[topic].queue
        )
        self._newest: Any | None = None

    def drain(self) -> list[Any]:
        """Everything that has arrived since the last call."""
        self._bus.listen()
        out = list(self.waiting)
        self.waiting.clear()
        self._newest = out[-1] if out else self._newest
        return out

    def latest(self) -> Any | None:
        self.drain()
        return self._newest

    def close(self) -> None:
        """Nobody here reads it any more: it is asked for no longer."""
        self._bus.forget(self)


class Remote:
    """One peer's connection. `key`: the file that `robotrl keys new` made. BusError when the address cannot be one."""

    def __init__(self, address: str, key: Key, clock: Clock) -> None:
        library()
        if not key.secret or not key.server:
            raise BusError(f"the key of {key.name!r} is not one to connect with; take NAME.secret.json of robotrl keys new")
        self.clock, self.welcome = clock, Welcome(0, key.name, "")
        self._seq = 0
        self._offset: int | None = None  # this machine's clock less the robot's, ns, and the shortest way between them
        self._compared = 0  # when that was
        self._new = False  # a connection, by which no hello has gone yet
        self._first, self._early = True, False  # the first hello may go before its connection is told of
        self._stop: tuple[str, Message, int] | None = None  # the last one, and when
        self._heard = self._asked = clock.now() - AGAIN_NS
        self._readers: dict[str, RemoteSubscriber] = {}
        self._wanted = 0  # when pictures were asked for last
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 100), (zmq.CURVE_PUBLICKEY, key.public.encode()), (zmq.CURVE_SECRETKEY, key.secret.encode()),
            (zmq.CURVE_SERVERKEY, key.server.encode()), (zmq.MAXMSGSIZE, LARGEST), (zmq.RCVHWM, HWM), (zmq.SNDHWM, HWM),
            (zmq.RECONNECT_IVL, 20), (zmq.RECONNECT_IVL_MAX, 500), (zmq.HANDSHAKE_IVL, 2000), (zmq.IPV6, 1),
            (zmq.IMMEDIATE, 1),
        ):  # fmt: skip
            self._socket.setsockopt(option, value)  # IMMEDIATE: what cannot go now is lost, not kept to be obeyed later
        self._made = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._poller = zmq.Poller()
        for socket in (self._socket, self._made):
            self._poller.register(socket, zmq.POLLIN)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise BusError(f"{address}: no address to connect to ({error.strerror}); write tcp://192.168.1.5:5555") from None

    def publisher(self, topic: str) -> RemotePublisher:
        return RemotePublisher(self, topic)

    def subscriber(self, topic: str) -> RemoteSubscriber:
        return self._readers.setdefault(topic, RemoteSubscriber(self, topic))

    def forget(self, reader: RemoteSubscriber) -> None:
        if self._readers.get(reader.topic) is reader:
            del self._readers[reader.topic]

    def post(self, topic: str, message: Message) -> Message:
        """Send; without a session nothing but a stop."""
        self.listen()
        stop = isinstance(message, Operator) and message.command == "stop"
        if stop:
            self._stop = (topic, message, self.clock.now())
        return self._send(topic, message) if self.welcome.session or stop else message

    def _send(self, topic: str, message: Message) -> Message:
        self._seq += 1
        message = msgspec.structs.replace(message, source=self.welcome.name, boot=self.welcome.session, seq=self._seq)
        self._say(topic.encode() + b"\0" + msgspec.msgpack.encode(message))
        return message

    def listen(self) -> None:
        """Take what has come, and say hello where that is due."""
        self._take()
        self._greet()

    def _take(self) -> None:
        while True:
            try:
                frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            more = frame.more
            while more:
                more = self._socket.recv(copy=False).more
            if not frame.more:
                self._heard = self.clock.now()
                self._sort(frame.bytes)

    def _greet(self) -> None:
        now = self.clock.now()
        while self._made.poll(0):
            self._made.recv_multipart()
            self._new, self._early = self._new or not self._early, False
        if self._new or (now - self._asked >= AGAIN_NS and (not self.welcome.session or now - self._heard >= AGAIN_NS)):
            self._asked = now
            if self._say(HELLO):
                self._new, self._early = False, self._first and not self._new
                self._first = False
        if self.welcome.session and now - self._wanted >= WANT_NS:
            self._want()

    def _want(self) -> None:
        """Ask for the next picture of each camera, where somebody here looks at them."""
        self._wanted = self.clock.now()
        for topic in ASKED:
            if topic in self._readers:
                self._say(WANT + topic.encode())

    def _sort(self, content: bytes) -> None:
        name, _, data = content.partition(b"\0")
        topic = name.decode(errors="replace")
        try:
            if content.startswith(WELCOME):
                self.welcome, self._seq = msgspec.msgpack.decode(data, type=Welcome), 0
                self._offset = None  # the robot may have been started again
                self._stop_again()
            elif topic in self._readers:
                self._readers[topic].waiting.append(self._here(DECODE[topic](data)))
        except (ValueError, RecursionError):  # another version's, or no message (as in `door.py`): the stream is shown as silent
            return

    def _here(self, message: Message) -> Message:
        """With `t` on this machine's clock: the message that was under way for the shortest time tells how the two differ.

        For ever it does not: by some parts in a million they run apart, in hours by more than a message may be old. Were more
        allowed, as clocks part for minutes while one is set right, a line that is late and stays so would soon be forgotten.
        """
        now = self.clock.now()
        lead = now - message.t
        self._offset = lead if self._offset is None else min(lead, self._offset + (now - self._compared) // DRIFT)
        self._compared = now
        return msgspec.structs.replace(message, t=message.t + self._offset)

    def _stop_again(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None and self.clock.now() - stop[2] < STOP_NS:
            self._send(*stop[:2])

    def _say(self, content: bytes) -> bool:
        """Whether there was a connection to say it by."""
        try:
            self._socket.send(content, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def wait(self, subscribers: list[RemoteSubscriber], timeout_s: float) -> bool:
        """True as soon as one of the subscribers may have something, False after `timeout_s`."""
        until = self.clock.now() + int(max(0.0, timeout_s) * 1e9)
        while True:
            self._greet()
            if any(reader.waiting for reader in subscribers):
                return True
            left = min(until - self.clock.now(), RETRY_NS if self._new else AGAIN_NS)
            if self._socket in dict(self._poller.poll(max(0, math.ceil(left * 1e-6)))):
                return True
            if self.clock.now() >= until:
                return False

    def close(self) -> None:
        self._socket.disable_monitor()
        self._made.close(0)
        self._socket.close()
        self._context.term()
