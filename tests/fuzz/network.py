"""What comes over the network from an authorised peer into the door, and from the robot into a console elsewhere."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import msgspec
import zmq
from zmq.utils import z85

from robotrl.clock import LockstepClock
from robotrl.door import STAMP, Door, Peer, Received
from robotrl.greeting import HELLO, LIMIT, WANT, WELCOME, Welcome
from robotrl.keyring import Key, Keyring, pair
from robotrl.messages import Operator
from robotrl.remote import Remote
from robotrl.roles import ASKED, READ, ROLES
from robotrl.topics import TOPICS
from tests.fuzz import ends
from tests.fuzz.engine import Broken, held

SESSION = 77
WORDS = (*ends.Messages.words, HELLO, WELCOME, WANT, *(topic.encode() + b"\0" for topic in TOPICS),
         b"\x81\xa1x" + b"\x91" * 8000, b"\xa7session", b"\xa7command\xa4stop", b"\xa4boot\x4d")  # fmt: skip


def frame(rng: random.Random, topics: tuple[str, ...], boot: int) -> bytes:
    """A message of one of these topics as the network carries it."""
    topic = rng.choice(topics)
    values: dict[str, Any] = {name: ends.value(rng, kind) for name, kind in ends.fields(TOPICS[topic].type)}
    values |= {"source": "console", "boot": boot, "seq": rng.randrange(1, 1 << 30)}
    if topic == "operator":
        values["command"] = rng.choice(("stop", "clear", "beat", "enable", "pause"))
    return topic.encode() + b"\0" + msgspec.msgpack.encode(TOPICS[topic].type(**values))


class Unasked:
    """Nobody is behind the door's socket: what it answers is lost."""

    def send_multipart(self, frames: list[bytes], flags: int) -> None:
        pass


@cache
def door() -> Door:
    server, peer = (Key(name, role, *pair()) for name, role in (("server", "server"), ("laptop", "console")))
    made = Door("inproc://door", Keyring(server, {z85.decode(peer.public): peer}), LockstepClock())
    made.socket.close(0)
    made.socket = Unasked()  # type: ignore[assignment]
    return made


class Knocking:
    """`Door._take`: of each role's peer a message that he may send and the bus can carry, or a word why it is refused."""

    name = "door frames"
    words = WORDS

    def __init__(self) -> None:
        self._door = door()

    def example(self, rng: random.Random) -> bytes:
        if rng.random() < 0.1:
            return rng.choice((HELLO, WANT + b"picture", WANT))
        return frame(rng, ("operator", "operator", "label", "action", *READ), SESSION)

    def check(self, data: bytes) -> None:
        for role in ROLES:
            peer = Peer(role, role, b"x", SESSION, tokens=1.0, stops=1.0, counted=self._door.clock.now())
            got = self._door._take(peer, [zmq.Frame(b"x"), zmq.Frame(data)], self._door.clock.now())
            if isinstance(got, Received):
                self._may(role, got)
            elif got not in ("", "topic", "size", "malformed", "role", "beat", "motion", "session", "replayed"):
                raise Broken(f"refused for {got!r}")

    def _may(self, role: str, got: Received) -> None:
        ends.typed(got.topic, got.message)
        stop = isinstance(got.message, Operator) and got.message.command == "stop"
        if not stop and got.topic not in ROLES[role]:
            raise Broken(f"a {role} may not say {got}")
        if len(msgspec.msgpack.encode(got.message)) > TOPICS[got.topic].limit - STAMP and not stop:
            raise Broken(f"longer than the bus takes: {got}")

    def held(self) -> int:
        return held(self._door.refused)


@cache
def remote() -> Remote:
    return Remote("inproc://nobody", Key("laptop", "console", *pair(), server=pair()[0]), LockstepClock())


class Answering:
    """`Remote._sort`: a message of its topic is kept, whatever else comes is nothing."""

    name = "network frames"
    words = WORDS

    def __init__(self) -> None:
        self._remote = remote()
        self._readers = [self._remote.subscriber(topic) for topic in (*READ, *ASKED)]

    def example(self, rng: random.Random) -> bytes:
        if rng.random() < 0.1:
            return WELCOME + msgspec.msgpack.encode(Welcome(rng.randrange(1 << 48), "laptop", rng.choice(list(ROLES))))
        return frame(rng, (*READ, *ASKED), SESSION)

    def check(self, data: bytes) -> None:
        self._remote._sort(data[:LIMIT])
        if not ends.fits(self._remote.welcome.session, int) or not ends.fits(self._remote.welcome.role, str):
            raise Broken(f"welcome as {self._remote.welcome}")
        for reader in self._readers:
            while reader.waiting:
                ends.typed(reader.topic, reader.waiting.popleft())

    def held(self) -> int:
        return sum(held(reader.waiting) for reader in self._readers)


TARGETS = (Knocking, Answering)
