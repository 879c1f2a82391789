"""The one door to other machines: a TCP socket behind CURVE keys, an authenticator, roles and bounds. `robotrl/remote.py` knocks.

It opens only with authorised keys, and the authenticator stands before it does. A peer says `hello` and is given a session; what
it sends must carry that session and a rising number, so nothing recorded is taken, in or out of session. One frame a message:
the topic's name, a zero byte, msgpack. Its role is its key's. What is over its rate is dropped; who is refused for anything else
too often in too short a time (`patience.py`) is out for a while: of him a stop is taken, `STOPS` a second as ever, and nothing
else. He alone loses his connection, when he goes on at full speed. A peer that the library cannot tell us of (an endless message,
which it collects before it hands it over) is found by the memory it takes, and then all connections are cut: the others come back
by themselves.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import zmq

from robotrl.bus import BusError
from robotrl.clock import Clock
from robotrl.connection import resident, shut, user
from robotrl.greeting import DECODE, HELLO, LIMIT, WANT, WELCOME, Shown, Welcome
from robotrl.keyring import Key, Keyring
from robotrl.messages import Message, Operator
from robotrl.patience import Patience
from robotrl.roles import ASKED, refusal
from robotrl.topics import TOPICS

HANDSHAKE_MS = 2000  # who has not proved his key by then is cut off
TURN = 256  # frames taken in one go
STOPS = 20  # stops a second that count even of a peer that sends too much
BEATS = 20  # and a console's beats: by what else it says it must not fall silent
STAMP = 64  # bytes by which our own stamp may be longer than the one that came: source, life, number, time, role
SHUT_NS = 100_000_000  # how often one loses his connection: what he has left behind is read by then
MEMORY = 48 << 20  # bytes that the connections may take together; what comes before the next look is to stay below 64 MB
BACKLOG = 64
HWM = 256  # messages waiting for, or from, one peer


class NoAddress(BusError):
    """The machine has no such address, now: at its start it may get it yet."""


@dataclass
class Peer:
    """One key's holder, from its first word on."""

    name: str
    role: str
    address: bytes = b""  # of the connection that said hello last
    session: int = 0
    seq: int = 0
    tokens: float = 0.0
    stops: float = 0.0
    beats: float = 0.0
    wants: dict[str, set[str]] = field(default_factory=dict)  # of `ASKED`: whose it has been sent since it asked last
    counted: int = 0  # when the tokens were counted last, ns


class Received(NamedTuple):
    peer: Peer
    topic: str
    message: Message


@dataclass
class Door:
    """Listens at `listen` (tcp://address:port; port 0: any). BusError when it cannot, `NoAddress` where it may
    yet. Times in ns, `rate_hz` messages a peer."""

    listen: str
    keys: Keyring
    clock: Clock
    motion: bool = False
    rate_hz: int = 100
    memory: int = MEMORY
    shown: Shown = field(default_factory=Shown)
    peers: dict[str, Peer] = field(default_factory=dict)  # by the name of the key
    refused: Counter[str] = field(default_factory=Counter)
    cut: int = 0  # how often all connections were cut

    def __post_init__(self) -> None:
        if not self.keys.authorised:
            raise BusError(f"{self.listen}: nobody is authorised, so nothing may listen there")
        self._context = zmq.Context()
        # Before the door: without it CURVE would let in whoever has any key at all (safety facts, m).
        self.zap = self._context.socket(zmq.REP)
        self.zap.setsockopt(zmq.LINGER, 0)
        self.zap.bind("inproc://zeromq.zap.01")
        self.patience = Patience()
        self._shut: dict[str, int] = {}  # whose connection was ended last when, ns: by the name, of strangers by the public key
        self._more = False  # in the midst of a message that is being thrown away
        self._frames: list[zmq.Frame] = []  # of the next one, whose sender may be the last that a turn took
        self.address = self.listen
        self._open()

    def _open(self) -> None:
        self.socket = router = self._context.socket(zmq.ROUTER)
        secret = self.keys.server.secret.encode()
        for option, value in (
            (zmq.LINGER, 0), (zmq.CURVE_SERVER, 1), (zmq.CURVE_SECRETKEY, secret), (zmq.ZAP_DOMAIN, b"robotrl"),
            (zmq.MAXMSGSIZE, LIMIT), (zmq.HANDSHAKE_IVL, HANDSHAKE_MS), (zmq.BACKLOG, BACKLOG), (zmq.RCVHWM, HWM),
            (zmq.SNDHWM, HWM), (zmq.ROUTER_MANDATORY, 1), (zmq.TCP_KEEPALIVE, 1), (zmq.HEARTBEAT_IVL, 2000),
            (zmq.HEARTBEAT_TIMEOUT, 5000), (zmq.IPV6, int("[" in self.listen)),
        ):  # fmt: skip
            router.setsockopt(option, value)
        until = time.monotonic() + 2.0
        while True:  # after a cut the old socket may not have let go yet
            try:
                router.bind(self.address)
                break
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or not self.cut or time.monotonic() > until:
                    self.close()
                    kind = NoAddress if error.errno == errno.EADDRNOTAVAIL else BusError
                    raise kind(f"{self.listen}: cannot listen there: {error.strerror}; see network.listen") from None
                time.sleep(0.005)
        self.address = router.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._base = resident()

    @property
    def loopback(self) -> bool:
        """No other machine can reach it."""
        return ipaddress.ip_address(self.address.removeprefix("tcp://").rpartition(":")[0].strip("[]")).is_loopback

    def receive(self) -> list[Received]:
        """What may be acted on, of at most `TURN` frames. Never waits."""
        self._admit()
        now, out = self.clock.now(), []
        self.patience.forgive(now)
        for frames in self._messages():
            public = user(frames)
            peer = self._known(public) if public else None
            taken = self._take(peer, frames, now) if peer is not None else "user"
            if public and peer is None:  # his key was taken away while he was connected
                self._end(public, frames[1], now)
            if isinstance(taken, Received):
                out.append(taken)
            elif taken:
                self._refuse(peer, taken, now)
        if resident() > self._base + self.memory:
            self.refused["memory"] += 1
            self._cut()
        return out

    def authorise(self, known: dict[bytes, Key]) -> None:
        """From now on these may come in, by public key. Who no longer may is shown nothing from now on, nothing that he says is
        taken, and his next word ends his connection; as what else somebody may he hears at his next hello.
        """
        gone = {key.name for public, key in self.keys.authorised.items() if known.get(public) != key}
        self.keys = Keyring(self.keys.server, known)
        self.peers = {name: peer for name, peer in self.peers.items() if name not in gone}

    def _admit(self) -> None:
        """The authenticator (ZAP, rfc.zeromq.org 27): only a key that is authorised.

        300, and never 400: of an error said to it the library's client gives up for good, and whoever is refused now may come in
        once a key file is mended. Left without an answer it tries again every two seconds; who floods heeds neither.
        """
        while True:
            try:
                version, number, _, _, _, mechanism, *credentials = self.zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            curve = version == b"1.0" and mechanism == b"CURVE" and len(credentials) == 1
            key = self.keys.authorised.get(credentials[0]) if curve else None
            if key is None:
                self.refused["key"] += 1
                self.zap.send_multipart([version, number, b"300", b"refused", b"", b""])
            else:
                self.zap.send_multipart([version, number, b"200", b"", key.public.encode(), b""])

    def _messages(self) -> Iterator[list[zmq.Frame]]:
        """Sender and content; of a message in several frames the rest is thrown away, however long it is."""
        for _ in range(TURN):
            try:
                frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if not self._more:
                self._frames.append(frame)
            if len(self._frames) == 2:
                whole, self._frames, self._more = self._frames, [], True
                yield whole
            if not frame.more:
                self._frames, self._more = [], False

    def _known(self, public: str) -> Peer | None:
        """The peer of an authorised key. Not of a name: another key may have it by now."""
        key = next((key for key in self.keys.authorised.values() if key.public == public), None)
        if key is None:
            return None
        if key.name not in self.peers:
            now = self.clock.now()
            self.peers[key.name] = Peer(key.name, key.role, tokens=self.rate_hz, stops=STOPS, beats=BEATS, counted=now)
        return self.peers[key.name]

    def _take(self, peer: Peer, frames: list[zmq.Frame], now: int) -> Received | str:
        """The message, "" for a hello, or why it is refused."""
        dear = self._dear(peer, frames[1], now)
        if frames[1].more:
            return "frames"
        content = frames[1].bytes
        if content == HELLO:
            return dear or self._welcome(peer, frames[0].bytes)
        name, _, data = content.partition(b"\0")
        topic = name.decode(errors="replace")
        if content.startswith(WANT):
            return dear or self._want(peer, frames[0].bytes, data.decode(errors="replace"))
        if topic not in TOPICS:
            return dear or "topic"
        if len(data) > TOPICS[topic].limit:
            return dear or "size"
        try:
            message = DECODE[topic](data)
        except (ValueError, RecursionError):  # besides DecodeError: text that is no UTF-8; unknown values nested without end
            return dear or "malformed"
        if isinstance(message, Operator) and message.command == "stop" and peer.stops >= 1:
            peer.stops -= 1
            return Received(peer, topic, message)
        if isinstance(message, Operator) and message.command == "beat" and dear == "rate" and peer.beats >= 1:
            peer.beats -= 1
            dear = ""
        why = dear or refusal(peer.role, topic, message, self.motion) or _grown(topic, message)
        if why:
            return why
        if message.boot != peer.session or not peer.session or frames[0].bytes != peer.address:
            return "session"
        if message.seq <= peer.seq:
            return "replayed"
        peer.seq = message.seq
        return Received(peer, topic, message)

    def _dear(self, peer: Peer, frame: zmq.Frame, now: int) -> str:
        """Why nothing but a stop is taken of the peer now; empty where more is."""
        spent = self._spend(peer, now)
        if peer.name not in self.patience.out:
            return spent
        if spent:
            self._end(peer.name, frame, now)
        return "out"

    def _end(self, who: str, frame: zmq.Frame, now: int) -> None:
        """His connection, and no other."""
        if now - self._shut.get(who, -SHUT_NS) >= SHUT_NS:
            self._shut[who] = now
            shut(frame)

    def _spend(self, peer: Peer, now: int) -> str:
        """One message of what the peer may send; "rate" when there is nothing left."""
        passed, peer.counted = (now - peer.counted) * 1e-9, now
        peer.tokens = min(self.rate_hz, peer.tokens + passed * self.rate_hz)
        peer.stops = min(STOPS, peer.stops + passed * STOPS)
        peer.beats = min(BEATS, peer.beats + passed * BEATS)
        if peer.tokens < 1:
            return "rate"
        peer.tokens -= 1
        return ""

    def _welcome(self, peer: Peer, address: bytes) -> str:
        peer.address, peer.session, peer.seq, peer.wants = address, int.from_bytes(os.urandom(6), "big") | 1, 0, {}
        self._post(peer, WELCOME + msgspec.msgpack.encode(Welcome(peer.session, peer.name, peer.role, self.shown)))
        return ""

    def _want(self, peer: Peer, address: bytes, topic: str) -> str:
        """From now on the peer may be sent one more of each source."""
        if topic not in ASKED:
            return "topic"
        if not peer.session or address != peer.address:
            return "session"
        peer.wants[topic] = set()
        return ""

    def _refuse(self, peer: Peer | None, why: str, now: int) -> None:
        self.refused[why] += 1
        # A session ends without the peer's fault; a beat of a viewer's, and a key that moves the robot, are only not heeded;
        # and of what is over the rate it is enough that it is dropped.
        if peer is None or why in ("out", "rate", "session", "motion", "beat"):
            return
        if self.patience.lost(peer.name, now):
            peer.address, peer.session = b"", 0

    def _cut(self) -> None:
        """End every connection, which frees what they hold; who may will be back in a moment."""
        self.cut += 1
        self.socket.close(0)
        for peer in self.peers.values():
            peer.address, peer.session = b"", 0
        self._frames, self._more = [], False
        self._open()

    def send(self, topic: str, data: bytes) -> None:
        """To every peer that has said hello; one that does not read loses it."""
        for peer in self.peers.values():
            if peer.session:
                self._post(peer, topic.encode() + b"\0" + data)

    def wanted(self, topic: str, source: str) -> list[Peer]:
        """Who has asked for it, and has not been sent one of this source since."""
        return [peer for peer in self.peers.values() if peer.session and source not in peer.wants.get(topic, {source})]

    def show(self, topic: str, source: str, data: bytes) -> None:
        """To those alone who want it."""
        for peer in self.wanted(topic, source):
            peer.wants[topic].add(source)
            self._post(peer, topic.encode() + b"\0" + data)

    def _post(self, peer: Peer, content: bytes) -> None:
        try:
            self.socket.send_multipart([peer.address, content], zmq.NOBLOCK)
        except zmq.Again:
            self.refused["slow"] += 1
        except zmq.ZMQError:  # it has gone
            peer.address, peer.session = b"", 0

    def close(self) -> None:
        for end in (self.socket, self.zap):
            end.close(0)
        self._context.term()


def _grown(topic: str, message: Message) -> str:
    """ "size" for what came short, and is too long for the bus as we write it there: whole numbers in the place of others."""
    return "size" if len(msgspec.msgpack.encode(message)) > TOPICS[topic].limit - STAMP else ""
