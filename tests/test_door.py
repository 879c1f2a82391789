"""The network door under attack: the eight of the safety facts (4, row 18). Each counts what got in, and a friend gets through.

The attackers are written against the wire (`bench/attacks.py`), not with the product's client. Full size: `bench/attacks.py`.
"""

from __future__ import annotations

import socket
import threading
import time
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest
import zmq

from bench import attacks
from robotrl import door as door_module
from robotrl import keyring
from robotrl.bus import BusError
from robotrl.clock import LockstepClock, WallClock
from robotrl.config import Network
from robotrl.door import Door
from robotrl.greeting import HELLO, WANT, Welcome
from robotrl.keyring import Keyring
from robotrl.messages import Action, Guard, Label, Operator, Picture
from robotrl.nodes.desk import Link
from robotrl.nodes.outbox import STALL_NS
from robotrl.patience import OUT_NS, REJECTS, WITHIN_NS
from robotrl.remote import Remote
from robotrl.topics import TOPICS

PATIENCE_S = 20.0  # for a loaded machine; nothing here measures time
ROLES = ("console", "agent", "learner", "viewer")


class Place:
    """A door with one authorised key a role, and all that it let in."""

    def __init__(self, folder, listen="tcp://127.0.0.1:0"):
        self.keys = {role: keyring.read(keyring.new(folder, role, role)) for role in ROLES}
        self.door = Door(listen, keyring.load(folder), WallClock())
        self.got, self.friends, self.context = [], [], zmq.Context()

    def turn(self):
        self.got += self.door.receive()
        for friend in self.friends:
            friend.listen()

    def until(self, true, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, (self.door.refused, self.got)
            self.turn()
            self.door.socket.poll(2)

    def friend(self, role):
        remote = Remote(self.door.address, self.keys[role], self.door.clock)
        self.friends.append(remote)
        self.until(lambda: remote.welcome.session)
        return remote

    def stop_gets_through(self):
        """A viewer presses stop, as often as a frightened person would."""
        viewer, before = self.friend("viewer"), len(self.got)
        press = viewer.publisher("operator")

        def arrived():
            press.send(Operator(command="stop", press=1))
            return [r for r in self.got[before:] if r.peer.role == "viewer" and r.message.command == "stop"]

        self.until(arrived)
        del self.got[before:]

    def attacker(self, key):
        return attacks.dealer(self.door.address, self.context, key)

    def close(self):
        for friend in self.friends:
            friend.close()
        self.door.close()
        self.context.destroy(0)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "keys")
    yield made
    made.close()


def hello(place, peer):
    """Say hello by hand; the session."""
    peer.send(HELLO)
    answer = []

    def welcomed():
        if peer.poll(0):
            answer.append(peer.recv())
        return answer

    place.until(welcomed)
    name, _, data = answer[0].partition(b"\0")
    assert name == b"welcome"
    return msgspec.msgpack.decode(data)["session"]


def stranger():
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def nobody(place):  # a pair that nobody has authorised
    public, secret = stranger()
    return attacks.dealer("", place.context, msgspec.structs.replace(place.keys["console"], public=public, secret=secret))


def thief(place):  # knows a console's public key, as everybody may, and not its secret
    return attacks.dealer("", place.context, msgspec.structs.replace(place.keys["console"], secret=stranger()[1]))


def misled(place):  # a console that takes another machine for the robot
    return attacks.dealer("", place.context, msgspec.structs.replace(place.keys["console"], server=stranger()[0]))


def null(place):
    return attacks.dealer("", place.context, None)


def plain(place):
    peer = attacks.dealer("", place.context, None)
    peer.plain_username, peer.plain_password = b"console", b"console"
    return peer


TURNED_AWAY = (
    zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)  # fmt: skip


@pytest.mark.parametrize("way", [nobody, thief, misled, null, plain])
def test_without_the_right_key_no_byte_is_delivered_and_none_comes_out(place, way):
    peer = way(place)
    watch = peer.get_monitor_socket(TURNED_AWAY)
    peer.connect(place.door.address)
    for content in (HELLO, attacks.packed("stop"), attacks.packed("clear")):
        peer.send(content)
    place.until(lambda: watch.poll(0))
    for _ in range(50):
        place.door.send("guard", b"\x80")
        place.turn()
        assert not peer.poll(1)
    assert not place.got and not place.door.peers
    assert place.door.refused["key"] or way is not nobody
    peer.disable_monitor()
    place.stop_gets_through()


def test_what_the_authenticator_has_not_named_is_refused_all_the_same(place):
    """The second lock: a door whose authenticator says yes to all without a name, as where none runs."""
    place.door._admit = lambda: None
    place.door.zap.close(0)
    peer = nobody(place)
    peer.connect(place.door.address)
    for content in (HELLO, attacks.packed("stop")):
        peer.send(content)
    for _ in range(100):
        place.turn()
        time.sleep(0.002)
    assert not place.got and not place.door.peers


OPERATOR = [Operator(command=c, press=1) for c in ("clear", "pause", "enable", "run", "reset", "disable", "good", "beat")]
LABEL, ACTION = Label(press=1, value=1.0, tick=1), Action(epoch=1, tick=1, target=(0.0,))
MAY = {
    "console": {"clear", "pause", "disable", "good", "beat", "label"},
    "agent": {"action"},
    "learner": set(),
    "viewer": set(),
}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_what_it_may_and_stop(place, role):
    friend = place.friend(role)
    operator, label, action = (friend.publisher(topic) for topic in ("operator", "label", "action"))
    for message in OPERATOR:
        operator.send(message)
    label.send(LABEL)
    action.send(ACTION)
    operator.send(Operator(command="stop", press=2))
    place.until(lambda: place.got and getattr(place.got[-1].message, "command", "") == "stop")
    names = [getattr(r.message, "command", r.topic) for r in place.got]
    assert names[-1] == "stop" and set(names[:-1]) == MAY[role] and {r.peer.role for r in place.got} == {role}


def test_the_role_is_the_keys_and_not_the_messages(place):
    peer = place.attacker(place.keys["viewer"])
    peer.send(attacks.packed("clear", hello(place, peer), 1, role="console", source="console"))
    place.until(lambda: place.door.refused["role"])
    assert not place.got


def test_motion_from_afar_only_where_the_run_says_so(place):
    place.door.motion = True
    press = place.friend("console").publisher("operator")
    for command in ("enable", "run", "reset"):
        press.send(Operator(command=command, press=1))
    place.until(lambda: len(place.got) == 3)


def test_connections_that_say_nothing_do_not_stop_a_stop(place):
    held = attacks.hold_connections(place.door.address, 300)
    try:
        place.stop_gets_through()
        assert not place.got
    finally:
        for plain_socket in held:
            plain_socket.close()
    place.stop_gets_through()


def test_a_frame_announced_too_long_ends_the_connection_before_its_first_byte(place, monkeypatch):
    monkeypatch.setattr(door_module, "HANDSHAKE_MS", 600_000)  # not the handshake's end is to end it
    place.door._cut()
    before = door_module.resident()
    with attacks.announce(place.door.address, 1 << 30) as peer:
        peer.setblocking(False)

        def ended():
            try:
                return peer.recv(4096) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        place.until(ended, 10)
    assert door_module.resident() - before < 64 << 20
    place.stop_gets_through()


@pytest.mark.parametrize("size", [20_000, 8_000])
def test_a_long_message_of_an_authorised_peer_is_not_taken(place, size):
    """Longer than any topic's: its connection ends. Longer than its own topic's: refused."""
    peer = place.attacker(place.keys["console"])
    peer.send(attacks.packed("clear", hello(place, peer), 1, note="x" * size))
    if size < door_module.LIMIT:
        place.until(lambda: place.door.refused["size"])
    place.stop_gets_through()
    assert not place.got


@pytest.mark.parametrize(("length", "taken"), [(500, True), (900, False)])
def test_what_is_too_long_for_the_bus_only_as_we_write_it_is_refused_here(place, length, taken):
    """A bus's publisher takes none that is too long: it would be the gateway's end, and every stop's with it."""
    peer = place.attacker(place.keys["console"])
    label = {"source": "console", "boot": hello(place, peer), "seq": 1, "press": 1, "value": 1.0, "tick": 1, "text": "x" * length}
    content = msgspec.msgpack.encode(label)
    assert len(content) < TOPICS["label"].limit
    peer.send(b"label\0" + content)
    place.until(lambda: place.got if taken else place.door.refused["size"])
    assert len(place.got) == taken
    place.stop_gets_through()


NO_TEXT = msgspec.msgpack.encode(Operator(command="XXXX", press=1)).replace(b"XXXX", b"\xff\xfe\xfd\xfc")
NO_END = b"\x81\xa3zzz" + b"\x91" * 7000 + b"\xc0"  # of a value that nobody knows


@pytest.mark.parametrize("frame", [b"operator\0" + NO_TEXT, b"joints\0" + NO_END], ids=["no text", "nested without end"])
def test_what_is_no_message_is_counted_and_the_door_goes_on(place, frame):
    """The holder of any key's could end the gateway by it, and every stop's way with it."""
    peer = place.attacker(place.keys["viewer"])
    hello(place, peer)
    peer.send(frame)
    place.until(lambda: place.door.refused["malformed"])
    place.stop_gets_through()
    assert not place.got


@pytest.mark.parametrize("frame", [b"operator\0" + NO_TEXT, b"joints\0" + NO_END, b"welcome\0" + NO_END])
def test_what_is_no_message_of_the_robots_is_nothing_to_a_console_elsewhere(place, frame):
    friend = place.friend("viewer")
    for topic in ("operator", "joints"):
        friend.subscriber(topic)
    guard = friend.subscriber("guard")
    place.door._post(place.door.peers["viewer"], frame)
    place.door.send("guard", msgspec.msgpack.encode(GUARD))
    place.until(lambda: guard.waiting)
    assert friend.welcome.session and not friend.subscriber("joints").waiting


GUARD = Guard(state="RUN", causes=(), last_cause="", session=True, epoch=1, holder="policy", nonce=1)


def test_an_endless_message_is_found_by_its_memory_and_cut_off(place):
    place.door.memory = 8 << 20
    with attacks.endless(place.door.address, place.keys["viewer"], 4000):  # 32 MB
        place.until(lambda: place.door.cut, 60)
        assert place.door.refused["memory"] and not place.got
    place.stop_gets_through()


def test_a_message_in_many_frames_is_refused_whole(place):
    peer = place.attacker(place.keys["console"])
    session = hello(place, peer)
    peer.send_multipart([attacks.packed("clear", session, 1)] * 1000)
    peer.send(attacks.packed("pause", session, 2))
    place.until(lambda: place.got)
    assert [r.message.command for r in place.got] == ["pause"] and place.door.refused["frames"] == 1


def test_a_turn_that_ends_between_a_stop_and_its_sender_loses_neither(place):
    """What comes in several frames is three of a turn's, so a turn may take the sender alone: the stop is the next one's."""
    peer = place.attacker(place.keys["viewer"])
    hello(place, peer)
    assert door_module.TURN % 3 == 1
    for _ in range(door_module.TURN // 3):
        peer.send_multipart([b"x", b"y"])
    peer.send(attacks.packed("stop"))
    time.sleep(0.3)  # all of it is there before the door looks
    place.until(lambda: place.got or place.door.refused["topic"], 5)
    assert [r.message.command for r in place.got] == ["stop"] and place.door.refused["frames"] == door_module.TURN // 3


class Later(WallClock):
    """One that can be set forwards."""

    ahead = 0

    def now(self):
        return super().now() + self.ahead


def put_out(place, peer):
    """Its role is a viewer's, and it says `clear` until it is heard no more."""
    thread = threading.Thread(target=attacks.flood, args=(peer, 20_000, lambda: "viewer" in place.door.patience.out))
    thread.start()
    place.until(lambda: "viewer" in place.door.patience.out)
    thread.join()


def test_who_is_refused_a_hundred_times_at_once_is_out_and_nobody_else_is_cut_off(place):
    console, second = place.friend("console"), place.friend("learner")
    sessions = [friend.welcome.session for friend in place.friends]
    peer = place.attacker(place.keys["viewer"])
    hello(place, peer)
    put_out(place, peer)
    assert not place.got and place.door.refused["role"] == REJECTS
    watch = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    over = threading.Event()
    thread = threading.Thread(target=attacks.flood, args=(peer, 100_000_000, over.is_set))
    thread.start()
    try:
        place.until(lambda: watch.poll(0))  # it goes on at full speed, and loses its connection
        press = console.publisher("operator")
        place.until(lambda: press.send(Operator(command="stop", press=1)) and place.got)
    finally:
        over.set()
        thread.join()
    assert {r.peer.role for r in place.got} == {"console"} and place.door.cut == 0 and place.door.refused["out"]
    assert [friend.welcome.session for friend in place.friends] == sessions
    assert all(place.door.peers[friend.welcome.name].session == friend.welcome.session for friend in (console, second))
    peer.disable_monitor()


def test_who_is_out_may_stop_a_bounded_number_of_times_and_is_back_after_a_while(place):
    place.door.clock = clock = Later()
    peer = place.attacker(place.keys["viewer"])
    hello(place, peer)
    put_out(place, peer)
    viewer = Remote(place.door.address, place.keys["viewer"], clock)  # whom nobody welcomes now
    place.friends.append(viewer)
    press = viewer.publisher("operator")
    place.until(lambda: press.send(Operator(command="stop", press=1)) and place.got)
    assert {(r.peer.role, r.message.command) for r in place.got} == {("viewer", "stop")} and not viewer.welcome.session
    before, stops = len(place.got), place.door.peers["viewer"].stops
    out, began = place.door.refused["out"], clock.now()
    for _ in range(10 * door_module.STOPS):
        press.send(Operator(command="stop", press=2))
    place.until(lambda: place.door.refused["out"] + len(place.got) >= out + before + 9 * door_module.STOPS)
    passed = (clock.now() - began) * 1e-9
    assert len(place.got) - before <= stops + passed * door_module.STOPS + 1
    clock.ahead = OUT_NS
    place.until(lambda: viewer.welcome.session)


def test_a_viewers_beats_are_but_not_heeded_and_what_is_refused_now_and_then_leads_nobody_out(place):
    """The console of a viewer's key before it knew so beat ten times a second; a wrong key now and then is no flood."""
    place.door.clock, place.door.rate_hz = Later(), 1_000_000
    press = place.friend("viewer").publisher("operator")

    def refused(command, why, count):
        def enough():
            press.send(Operator(command=command, press=1))
            return place.door.refused[why] >= count

        place.until(enough)

    refused("beat", "beat", 3 * REJECTS)
    for _ in range(3):
        refused("clear", "role", place.door.refused["role"] + REJECTS // 3)
        place.door.clock.ahead += WITHIN_NS
    assert not place.door.patience.out and not place.door.cut and not place.got
    press.send(Operator(command="stop", press=2))
    place.until(lambda: place.got)


def test_a_console_that_asks_for_motion_in_vain_may_still_stop(place):
    """A held key repeats: that it is not obeyed is said to whom holds it, and no reason to cut him off from the stop."""
    assert not place.door.motion
    place.door.rate_hz = 1_000_000  # what it says too much is not what is tried here
    press = place.friend("console").publisher("operator")

    def refused():
        press.send(Operator(command="enable", press=1))
        return place.door.refused["motion"] > 2 * REJECTS

    place.until(refused)
    press.send(Operator(command="stop", press=2))
    place.until(lambda: any(r.message.command == "stop" for r in place.got))
    assert not place.door.cut


def test_who_says_too_much_is_not_heard_but_for_a_stop(place):
    place.door.rate_hz = 5
    friend = place.friend("console")
    press = friend.publisher("operator")
    for _ in range(40):
        press.send(Operator(command="mark", press=1))
    press.send(Operator(command="stop", press=1))
    place.until(lambda: place.got and place.got[-1].message.command == "stop")
    assert place.door.refused["rate"] >= 30 and len(place.got) < 10


def test_what_is_over_the_rate_puts_nobody_out_and_no_beat_is_over_it(place):
    """A console's labels that nobody acknowledges come again and again: the operator beside it supervises all the same."""
    place.door.rate_hz = 20
    friend = place.friend("console")
    label, press = friend.publisher("label"), friend.publisher("operator")
    place.door.clock = still = LockstepClock()  # no rate comes back
    still.advance(WallClock().now())
    for _ in range(3 * REJECTS):
        label.send(LABEL)
    for _ in range(10):
        press.send(Operator(command="beat", press=0))
    press.send(Operator(command="stop", press=1))
    place.until(lambda: place.got and getattr(place.got[-1].message, "command", "") == "stop")
    assert place.door.refused["rate"] > 2 * REJECTS and not place.door.patience.out
    assert [r.message.command for r in place.got if r.topic == "operator"] == ["beat"] * 10 + ["stop"]


def test_a_console_elsewhere_sends_its_labels_again_within_the_rate(place):
    """Beside a key that is held down (30 a second, each a word and a label), its beats, and the pictures it asks for."""
    clock = LockstepClock()
    link = Link(Remote("inproc://nobody", place.keys["console"], clock))
    sent = []
    link.labels.publisher = Said(sent.append)
    for _ in range(500):  # and nobody acknowledges one
        link.labels.keep(LABEL)
    clock.advance(STALL_NS + 1)
    sent.clear()
    for _ in range(10):  # a second
        clock.advance(100_000_000)
        link.labels.tend(None, clock.now())
    assert 0 < len(sent) <= Network().rate_hz - 30 - 10 - 4 and {label.number for label in sent} == set(range(1, len(sent) + 1))
    link.close()


class Said:
    """A publisher that hands over what is sent."""

    def __init__(self, send):
        self.send = send


def test_what_was_recorded_is_not_taken_again(place):
    """By the holder of the key himself: in the session, after the session, and after the door was opened anew."""
    peer = place.attacker(place.keys["console"])
    session = hello(place, peer)
    record = [attacks.packed("clear", session, n) for n in range(1, 6)]
    for content in record:
        peer.send(content)
    place.until(lambda: len(place.got) == 5)
    for content in record:
        peer.send(content)
    place.until(lambda: place.door.refused["replayed"] == 5)
    hello(place, peer)
    for content in record:
        peer.send(content)
    place.until(lambda: place.door.refused["session"] == 5)
    place.door._cut()
    again = place.attacker(place.keys["console"])
    for content in record:
        again.send(content)
    place.until(lambda: place.door.refused["session"] >= 10)
    assert len(place.got) == 5


def test_bytes_recorded_on_the_wire_open_nothing(place):
    """What a console sent, byte for byte, through a new connection: the keys of a connection are made for it alone."""
    ear = socket.create_server(("127.0.0.1", 0))
    recorded = bytearray()

    def relay():
        ours, _ = ear.accept()
        theirs = socket.create_connection(attacks.target(place.door.address))
        for a, b, keep in ((ours, theirs, True), (theirs, ours, False)):
            threading.Thread(target=pump, args=(a, b, keep), daemon=True).start()

    def pump(a, b, keep):
        try:
            while data := a.recv(65536):
                if keep:
                    recorded.extend(data)
                b.sendall(data)
        except OSError:
            pass
        for end in (a, b):
            end.close()

    threading.Thread(target=relay, daemon=True).start()
    peer = attacks.dealer(f"tcp://127.0.0.1:{ear.getsockname()[1]}", place.context, place.keys["console"])
    session = hello(place, peer)
    peer.send(attacks.packed("clear", session, 1))
    peer.send(attacks.packed("stop", session, 2))
    place.until(lambda: len(place.got) == 2)
    peer.close()
    ear.close()
    with socket.create_connection(attacks.target(place.door.address)) as again:
        again.sendall(bytes(recorded))
        again.setblocking(False)
        for _ in range(100):
            place.turn()
            time.sleep(0.002)
    assert len(recorded) > 400 and len(place.got) == 2


def test_nothing_listens_without_keys(place):
    with pytest.raises(BusError, match="nobody is authorised"):
        Door("tcp://127.0.0.1:0", Keyring(place.door.keys.server, {}), WallClock())


def test_an_address_that_is_taken_is_one_line(place):
    with pytest.raises(BusError, match="cannot listen there"):
        Door(place.door.address, place.door.keys, WallClock())


def test_a_peer_is_back_by_itself_after_a_cut(place):
    friend = place.friend("console")
    first = friend.welcome.session
    place.door._cut()
    place.until(lambda: friend.welcome.session != first)
    friend.publisher("operator").send(Operator(command="clear", press=1))
    place.until(lambda: place.got)


class Still(WallClock):
    """One that can be stopped."""

    at = 0

    def now(self):
        return self.at or super().now()


def test_hello_is_said_as_soon_as_there_is_a_connection_again(place):
    """Not when a time has passed: the guard misses a console's beats after half a second."""
    place.door.clock = clock = Still()
    friend = place.friend("console")
    first = friend.welcome.session
    clock.at = clock.now()
    place.door._cut()
    place.until(lambda: friend.welcome.session != first)


def test_who_waits_for_a_word_says_hello_too(place):
    place.door.clock = clock = Still()
    friend = place.friend("console")
    clock.at, first = clock.now(), friend.welcome.session
    place.door._cut()
    place.friends.clear()
    place.until(lambda: (friend.wait([], 0.0), place.door.peers["console"].session)[1])
    assert place.door.peers["console"].session != first
    friend.close()


@pytest.mark.parametrize("ppm", [-150, -50, 0, 50, 150])
def test_ages_from_another_machine_stay_true_though_the_clocks_run_apart(place, ppm):
    """For a day, of words that take 2 ms and at times more; one that is late is seen to be."""
    clock = LockstepClock()
    remote = Remote("inproc://nobody", place.keys["console"], clock)
    for second in range(86_400):
        took = 2_000_000 + (second % 7) * 1_000_000
        here = 10**15 + second * 1_000_000_000 + second * 1000 * ppm + took
        clock.sleep_until(here)
        age = here - remote._here(msgspec.structs.replace(GUARD, t=second * 1_000_000_000)).t
        assert 0 <= age <= 20_000_000
    late = 400_000_000
    clock.advance(late)
    assert abs(clock.now() - remote._here(msgspec.structs.replace(GUARD, t=second * 1_000_000_000)).t - late) <= 20_000_000
    remote.close()


def test_a_line_that_becomes_late_and_stays_so_is_seen_to_be_for_an_hour(place):
    clock = LockstepClock()
    remote = Remote("inproc://nobody", place.keys["console"], clock)
    for second in range(3_660):
        took = 5_000_000 if second < 60 else 2_000_000_000
        clock.sleep_until(second * 1_000_000_000 + took)
        age = clock.now() - remote._here(msgspec.structs.replace(GUARD, t=second * 1_000_000_000)).t
        assert second < 60 or 1_200_000_000 < age <= 2_000_000_000
    remote.close()


def test_a_stop_pressed_while_the_door_is_shut_is_said_at_the_next_welcome(place):
    friend = place.friend("viewer")
    place.door._cut()
    friend.publisher("operator").send(Operator(command="stop", press=1))
    place.until(lambda: place.got)
    assert place.got[0].message.command == "stop"


def test_who_is_no_longer_authorised_is_cut_off_and_nobody_else(place):
    """A key taken away, and a role changed, while their holders are connected."""
    place.door.clock = still = Still()
    console = place.friend("console")
    still.at = still.now()  # it says hello by a new connection alone
    place.door.clock = WallClock()
    viewer, learner = place.friend("viewer"), place.friend("learner")
    sessions = {friend: friend.welcome.session for friend in place.friends}
    known = keyring.authorised([key for key in place.door.keys.authorised.values() if key.name != "viewer"])
    changed = {
        public: (msgspec.structs.replace(key, role="viewer") if key.name == "learner" else key) for public, key in known.items()
    }
    place.door.authorise(changed)
    viewer.publisher("operator").send(Operator(command="stop", press=1))
    console.publisher("operator").send(Operator(command="clear", press=1))
    place.until(lambda: place.got and place.door.refused["user"])
    place.until(lambda: learner.welcome.session != sessions[learner])
    assert learner.welcome.role == "viewer" and viewer.welcome.session == sessions[viewer]
    place.until(lambda: place.door.refused["key"])  # its connection is ended, and it knocks again
    assert not [r for r in place.got if r.peer.name == "viewer"] and "viewer" not in place.door.peers
    assert console.welcome.session == sessions[console] == place.door.peers["console"].session and place.door.cut == 0


def link_local():
    """An address of this machine's own, with its interface, as a laptop at the end of a cable has one; "" where there is none."""
    try:
        lines = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    except OSError:
        return ""
    return next((f"{ip_address(bytes.fromhex(line[0]))}%{line[5]}" for line in lines if line[0].startswith("fe80")), "")


@pytest.mark.parametrize("listen", ["tcp://[::1]:0", "tcp://[::ffff:127.0.0.1]:0", f"tcp://[{link_local()}]:0"])
def test_a_connection_by_ipv6_is_ended_too(tmp_path, listen):
    try:
        place = Place(tmp_path / "six", listen)
    except BusError:
        pytest.skip("no IPv6 on this machine")
    try:
        friend = place.friend("console")
        place.door.authorise({})
        friend.publisher("operator").send(Operator(command="clear", press=1))
        place.until(lambda: place.door.refused["key"])  # it knocks again
    finally:
        place.close()


def test_who_was_refused_is_back_by_himself_once_he_may_come_in(place):
    """A key file is open to others for a moment, and nobody may come in: his connection is ended, he knocks and is refused."""
    friend, known = place.friend("console"), place.door.keys.authorised
    place.door.authorise({})
    friend.publisher("operator").send(Operator(command="clear", press=1))
    place.until(lambda: place.door.refused["key"])
    place.door.authorise(known)
    first = friend.welcome.session
    place.until(lambda: friend.welcome.session != first)
    friend.publisher("operator").send(Operator(command="clear", press=2))
    place.until(lambda: place.got)
    assert [r.message.press for r in place.got] == [2]


def test_a_new_key_of_the_same_name_is_not_the_old_ones(place, tmp_path):
    old = place.friend("viewer")
    keyring.revoke(tmp_path / "keys", "viewer")
    (tmp_path / "keys" / "viewer.secret.json").unlink()
    place.keys["viewer"] = keyring.read(keyring.new(tmp_path / "keys", "viewer", "console"))
    place.door.authorise(keyring.load(tmp_path / "keys").authorised)
    for _ in range(5):
        old.publisher("operator").send(Operator(command="stop", press=1))
    place.until(lambda: place.door.refused["user"])
    new = place.friend("viewer")
    assert new.welcome.role == "console" and not place.got
    new.publisher("operator").send(Operator(command="clear", press=2))
    place.until(lambda: place.got)
    assert [r.message.press for r in place.got] == [2]


def test_nothing_is_cut_where_nobody_went(place):
    console = place.friend("console")
    place.door.authorise(dict(place.door.keys.authorised))
    assert place.door.cut == 0 and place.door.peers["console"].session == console.welcome.session


def picture(source, count):
    return msgspec.msgpack.encode(
        Picture(source=source, boot=1, seq=count, t=count, camera=source, count=count, data=b"x" * 60_000)
    )


def test_pictures_go_to_who_asks_and_one_of_each_camera_at_a_time(place):
    blind, eye = place.friend("console"), place.friend("viewer")
    seen, unseen = eye.subscriber("picture"), blind.subscriber("image")
    place.until(lambda: place.door.wanted("picture", "camera1"))
    assert [peer.role for peer in place.door.wanted("picture", "camera1")] == ["viewer"]
    for count in range(1, 50):  # far more than the line is asked to carry
        for source in ("camera1", "camera2"):
            place.door.show("picture", source, picture(source, count))
    assert not place.door.wanted("picture", "camera1"), "until it has taken that one"
    place.until(lambda: len(seen.waiting) == 2)
    assert {(p.source, p.count, len(p.data)) for p in seen.drain()} == {("camera1", 1, 60_000), ("camera2", 1, 60_000)}
    place.until(lambda: place.door.wanted("picture", "camera1"))
    place.door.show("picture", "camera1", picture("camera1", 99))
    place.until(lambda: seen.waiting)
    assert [p.count for p in seen.drain()] == [99] and not unseen.drain() and not place.got


def test_pictures_are_asked_for_four_times_a_second_while_somebody_looks(place):
    """However many come: each word costs of the rate that a console's keys need."""
    clock, said = LockstepClock(), []
    remote = Remote("inproc://nobody", place.keys["console"], clock)
    remote.welcome, remote._say = Welcome(77, "console", "console"), said.append
    eye = remote.subscriber("picture")
    for count in range(1, 501):  # ten seconds of four cameras at 50 Hz
        clock.advance(20_000_000)
        for camera in ("camera1", "camera2", "camera3", "camera4"):
            remote._sort(b"picture\0" + picture(camera, count))
        eye.drain()
    assert 35 <= said.count(WANT + b"picture") <= 40
    eye.close()
    said.clear()
    for _ in range(100):
        clock.advance(20_000_000)
        remote.listen()
    assert WANT + b"picture" not in said
    assert remote.subscriber("picture") is not eye
    remote.close()


def test_a_picture_that_is_lost_is_asked_for_again(place):
    eye = place.friend("viewer")
    eye.subscriber("picture")
    place.until(lambda: place.door.wanted("picture", "camera1"))
    place.door.peers["viewer"].wants["picture"].add("camera1")  # sent, and never came
    assert not place.door.wanted("picture", "camera1")
    place.until(lambda: place.door.wanted("picture", "camera1"))


def test_only_what_may_be_asked_for_is_and_only_in_a_session(place):
    peer = place.attacker(place.keys["viewer"])
    peer.send(WANT + b"picture")
    place.until(lambda: place.door.refused["session"])
    hello(place, peer)
    for topic in (b"joints", b"operator", b"\xff", b""):
        before = place.door.refused["topic"]
        peer.send(WANT + topic)
        place.until(lambda before=before: place.door.refused["topic"] > before)
    assert not place.door.wanted("picture", "camera1") and not place.got
    peer.close(0)
