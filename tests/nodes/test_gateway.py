"""The gateway between door and bus: what goes out, what comes in, under whose name, and how old it may be."""

from __future__ import annotations

import errno
import io
import os
import sys

import msgspec
import pytest

from robotrl import keyring
from robotrl.bus import Bus
from robotrl.clock import LockstepClock
from robotrl.door import Door, Peer, Received
from robotrl.messages import Action, Guard, Label, Operator, Picture
from robotrl.nodes.gateway import FRESH_NS, Authorised, Gateway, opened, renew
from robotrl.roles import ROLES, refusal

SECOND = 1_000_000_000


class FakeDoor:
    def __init__(self):
        self.sent, self.waiting, self.refused = [], [], {}

    def send(self, topic, data):
        self.sent.append((topic, data))

    def wanted(self, topic, source):
        return source == "camera2"

    def show(self, topic, source, data):
        self.sent.append((topic, data))

    def receive(self):
        out, self.waiting = self.waiting, []
        return out

    def says(self, role, topic, message):
        self.waiting.append(Received(Peer("somebody", role), topic, message))


class World:
    def __init__(self, path):
        self.clock = LockstepClock()
        self.clock.advance(10**12)
        self.door, bus = FakeDoor(), Bus(path, "gateway", self.clock)
        guard, node = Bus(path, "guard", self.clock), Bus(path, "servos", self.clock)
        self.voice = guard.publisher("guard")
        self.gateway = Gateway(bus, self.door)
        self.ears = {topic: node.subscriber(topic) for topic in ("operator", "label", "action")}
        self.buses, self.node = (bus, guard, node), node
        self.speak(1)
        self.hear("console", Operator(command="stop", press=0), again=True)

    def speak(self, nonce):
        """Until the guard's nonce has come."""
        for _ in range(500):
            self.voice.send(Guard(state="RUN", causes=(), last_cause="", session=True, epoch=1, holder="policy", nonce=nonce))
            self.node.wait([], 0.002)
            self.gateway.turn_out()
            if nonce in self.gateway._nonces:
                return
        raise AssertionError("never heard")

    def hear(self, role, message, topic="operator", again=False):
        """What the nodes get of it; None when nothing comes."""
        for _ in range(500 if again else 1):
            self.door.says(role, topic, message)
            self.gateway.turn_in()
            if self.node.wait([self.ears[topic]], 0.05) and (got := self.ears[topic].drain()):
                return got[-1]
        return None


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for bus in made.buses:
        bus.close()


def test_a_word_goes_in_under_the_role_of_its_key_and_the_robots_clock(world):
    said = Operator(source="console", role="agent", command="clear", press=3, nonce=1, pid=1, t=5, valid_ns=9, boot=4, seq=77)
    got = world.hear("console", said)
    assert (got.source, got.role, got.command, got.press, got.pid, got.valid_ns) == ("gateway", "console", "clear", 3, 0, 0)
    assert got.t == world.clock.now() and got.boot == world.gateway.bus.boot


def test_a_word_that_answers_no_fresh_nonce_is_not_passed_on_but_a_stop_is(world):
    beat, stop = Operator(command="beat", press=0, nonce=1), Operator(command="stop", press=1)
    assert world.hear("console", beat).command == "beat"
    assert world.hear("console", Operator(command="beat", press=0, nonce=2)) is None
    world.clock.advance(FRESH_NS - 1)
    assert world.hear("console", beat).command == "beat"
    world.clock.advance(1)
    assert world.hear("console", beat) is None and world.hear("viewer", stop).role == "viewer"
    assert world.gateway.stale == 2
    world.speak(2)
    assert world.hear("console", beat) is None
    assert world.hear("console", Operator(command="beat", press=0, nonce=2)).command == "beat"


def test_a_nonce_that_the_guard_repeats_is_no_fresher(world):
    world.clock.advance(FRESH_NS)
    world.speak(1)
    world.clock.advance(0)
    assert world.hear("console", Operator(command="beat", press=0, nonce=1)) is None


def test_what_answers_a_word_from_before_a_suspension_is_not_passed_on_but_a_stop_is(world):
    """The machine's clock stood still: the guard's number is as young as it was, and the guard may repeat it once."""
    world.gateway._suspended = iter([True, *[False] * 1000]).__next__
    world.gateway.door.motion = True
    assert world.hear("console", Operator(command="enable", press=1, nonce=1)) is None and world.gateway.stale == 1
    world.speak(1)
    assert world.hear("console", Operator(command="enable", press=1, nonce=1)) is None
    assert world.hear("viewer", Operator(command="stop", press=2)).command == "stop"
    world.speak(2)
    assert world.hear("console", Operator(command="enable", press=3, nonce=2)).command == "enable"


def test_what_the_robot_says_goes_out_and_what_consoles_say_does_not(world):
    assert {topic for topic, _ in world.door.sent} == {"guard"}
    assert not {"operator", "label", "action"} & {s.topic for s in world.gateway._theirs}


def test_of_pictures_the_newest_goes_to_who_wants_it(world, tmp_path):
    eyes = [Bus(tmp_path, name, world.clock) for name in ("camera1", "camera2")]
    world.gateway._pictures = [world.gateway.bus.subscriber("picture", sources=("camera1", "camera2"))]
    ends = [eye.publisher("picture") for eye in eyes]
    for count in range(1, 500):
        for end in ends:
            end.send(Picture(camera="x", count=count, data=b"jpeg"))
        world.node.wait([], 0.002)
        world.gateway.turn_out()
        if got := [msgspec.msgpack.decode(data, type=Picture) for topic, data in world.door.sent if topic == "picture"]:
            break
    assert len(got) == 1 and got[0].source == "camera2"
    for eye in eyes:
        eye.close()


@pytest.mark.parametrize("role", ["", "guard", "manager", "Console"])
def test_a_role_that_is_none_may_not_even_stop(role):
    assert refusal(role, "operator", Operator(command="stop", press=1), True) == "role"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "command", ["stop", "clear", "enable", "run", "reset", "pause", "disable", "good", "bad", "beat", "fly", ""]
)
@pytest.mark.parametrize("motion", [False, True])
def test_every_role_and_command(role, command, motion):
    """The rule of the safety facts (3.7), said another way than the table says it."""
    allowed = command == "stop" or (
        role == "console"
        and (
            command in ("clear", "pause", "disable", "good", "bad", "beat") or (motion and command in ("enable", "run", "reset"))
        )
    )
    assert (refusal(role, "operator", Operator(command=command, press=1), motion) == "") == allowed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(value):
    assert refusal("console", "operator", Operator(command="beat", press=0, value=value), False) == "malformed"
    assert refusal("console", "label", Label(press=1, value=value, tick=1), False) == "malformed"


def test_an_agent_acts_and_nobody_else(world):
    action = Action(epoch=1, tick=1, target=(0.0,))
    assert [role for role in ROLES if not refusal(role, "action", action, True)] == ["agent"]
    assert world.hear("agent", action, "action", again=True).source == "gateway"


def test_the_keys_file_of_a_peer_names_no_role_to_the_door(tmp_path):
    """The holder may write into his own file what he likes: the door has its own."""
    file = keyring.new(tmp_path / "keys", "screen", "viewer")
    file.write_text(file.read_text().replace("viewer", "console"))
    (key,) = keyring.load(tmp_path / "keys").authorised.values()
    assert key.role == "viewer" and keyring.read(file).role == "console"


class Own:
    """The node's face, as far as `renew` needs it."""

    def __init__(self):
        self.clock, self.said = LockstepClock(), []

    def say(self, what):
        self.said.append(what)


def test_keys_are_read_again_when_their_files_have_changed(tmp_path):
    keyring.new(tmp_path, "screen", "viewer")
    keyring.new(tmp_path, "laptop", "console")
    authorised, own, door = Authorised(tmp_path), Own(), FakeDoor()
    door.known = []
    door.authorise = lambda known: door.known.append(sorted(key.name for key in known.values()))
    renew(own, door, authorised)
    assert door.known == []
    keyring.revoke(tmp_path, "laptop")
    for _ in range(2):
        renew(own, door, authorised)
    assert door.known == [["screen"]]
    keyring.new(tmp_path, "tablet", "console")
    renew(own, door, authorised)
    assert door.known[-1] == ["screen", "tablet"] and not own.said
    (tmp_path / "authorised" / "tablet.json").chmod(0o644)
    (tmp_path / "authorised" / "screen.json").unlink()
    renew(own, door, authorised)
    assert door.known[-1] == [] and "tablet.json" in str(own.said) and "nobody may come in" in str(own.said)


def test_who_mends_a_key_file_as_he_is_told_lets_them_in_again(tmp_path):
    """Of `chmod` a file has neither another time nor another number. And the complaint is said once."""
    keyring.new(tmp_path, "screen", "viewer")
    keyring.new(tmp_path, "laptop", "console")
    file, folder = tmp_path / "authorised" / "laptop.json", tmp_path / "authorised"
    authorised, own, door = Authorised(tmp_path), Own(), FakeDoor()
    door.known = []
    door.authorise = lambda known: door.known.append(sorted(key.name for key in known.values()))
    for path, right in ((file, 0o600), (folder, 0o700)):
        path.chmod(right | 0o044)  # opened to others while the run goes on
        for _ in range(3):
            renew(own, door, authorised)
        assert door.known == [[]] and len(own.said) == 1 and f"{path}: others can read" in own.said[0]
        path.chmod(right)
        for _ in range(3):
            renew(own, door, authorised)
        assert door.known == [[], ["laptop", "screen"]] and len(own.said) == 1
        door.known.clear()
        own.said.clear()


def test_after_a_complaint_it_looks_again_whatever_the_files_show(tmp_path, monkeypatch):
    keyring.new(tmp_path, "laptop", "console")
    authorised, own, door = Authorised(tmp_path), Own(), FakeDoor()
    door.known = []
    door.authorise = lambda known: door.known.append(len(known))
    (tmp_path / "authorised" / "laptop.json").chmod(0o644)
    looked = authorised._look()
    monkeypatch.setattr(authorised, "_look", lambda: looked)  # and from now on all looks the same
    renew(own, door, authorised)
    (tmp_path / "authorised" / "laptop.json").chmod(0o600)
    renew(own, door, authorised)
    assert door.known == [0, 1]


@pytest.mark.parametrize(("comes", "ends"), [(3, False), (500, False), (500, True)])
def test_an_address_that_is_not_there_yet_is_waited_for(tmp_path, comes, ends):
    """A service at boot: its network came later, and with exit code 2 the run stayed down, or ended while it went."""
    keyring.new(tmp_path / "keys", "laptop", "console")
    own, tries = Own(), []

    def every(period):
        while not (ends and len(tries) > 3):
            yield 0
            own.clock.advance(period)

    own.every = every

    def door():
        tries.append(own.clock.now())
        if len(tries) <= comes:
            Door("tcp://192.0.2.1:5555", keyring.load(tmp_path / "keys"), own.clock)  # of nobody (RFC 5737)
        return "open"

    assert opened(own, door) == (None if ends else "open")
    (said,) = own.said
    assert "tcp://192.0.2.1:5555: cannot listen there" in said and "looked for" in said


class FullDisk(io.StringIO):
    """A log that takes no line."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_takes_no_line_and_no_stop(world, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert world.hear("viewer", Operator(command="stop", press=1)).command == "stop"
    keyring.new(tmp_path / "keys", "screen", "viewer")
    authorised, door = Authorised(tmp_path / "keys"), FakeDoor()
    door.authorise = lambda known: None
    keyring.revoke(tmp_path / "keys", "screen")
    renew(Own(), door, authorised)


def test_what_a_peer_said_is_in_the_log_once_it_is_on_the_bus(world, monkeypatch):
    sent, line = world.gateway._mine["operator"], io.StringIO()
    monkeypatch.setattr(sys, "stdout", line)
    world.gateway._mine["operator"] = Watched(lambda message: (line.getvalue(), sent.send(message)))
    world.hear("viewer", Operator(command="stop", press=1))
    assert world.gateway._mine["operator"].seen == [""] and "somebody (viewer): stop" in line.getvalue()


class Watched:
    """A publisher, and what there was to see before it sent."""

    def __init__(self, send):
        self.seen, self._send = [], send

    def send(self, message):
        self.seen.append(self._send(message)[0])
