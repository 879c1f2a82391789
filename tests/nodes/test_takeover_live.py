"""Taking over through the real programs: keys typed at a console on a pty, the hand's node beside it, the bus between them."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from robotrl import config
from robotrl import messages as m
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.nodes import desk
from robotrl.roles import ROLES, refusal
from tests.nodes.test_console import NOW, SECOND, Person, guard, shown, view
from tests.nodes.test_takeover import LAUNCH, word

# ---- keys and screen


def test_the_keys_that_take_over_hand_back_and_lead():
    lent = word(epoch=4, active=False)
    v = view(guard(), lent)
    assert desk.press("8", v, NOW) is None and "o takes over" in v.keys[-1][2]
    assert [desk.press(key, v, NOW).command for key in "ob"] == ["take", "give"]
    v = view(guard(), word(epoch=4))
    for key in "82469371":
        said = desk.press(key, v, NOW)
        assert (said.command, chr(int(said.value))) == ("jog", key)
    before = list(v.keys)
    for _ in range(30):
        desk.press("1", v, NOW)
    assert list(v.keys) == before, "a key that is held down is said once"


@pytest.mark.parametrize(("v", "why"), [
    (view(guard()), "takeover.device"), (view(guard(), word(epoch=4), afar=True), "own computer"),
    (view(guard(), word(epoch=4), watching=True), "another console supervises"),
])  # fmt: skip
def test_who_may_lead_nothing_is_told_why(v, why):
    for key in "ob8":
        assert desk.press(key, v, NOW) is None and why in v.keys[-1][2]


@pytest.mark.parametrize("command", ["take", "give", "jog"])
def test_nobody_leads_over_the_network(command):
    for role in ROLES:
        assert refusal(role, "operator", m.Operator(command=command, press=1), True), role


def test_the_screen_says_who_leads_and_what_became_of_it():
    plain = shown(view(guard(), word(epoch=4, note="you lead, by keyboard")))
    assert "A PERSON LEADS IT" in plain and "lease: policy #4 by keyboard" in plain and "b hands back" in plain
    for other in (word(epoch=3), word(epoch=4, active=False)):
        assert "the policy drives it" in shown(view(guard(), other))
    gone = view(guard("HOLD", holder=""), word(epoch=-1, active=False, note="GONE: torn out"))
    assert "GONE: torn out" in shown(gone, NOW + 60 * SECOND)
    told = view(guard(), word(epoch=4), word(epoch=4, active=False, note="handed back: the policy leads"))
    assert "handed back" in shown(told) and "handed back" not in shown(told, NOW + 5 * SECOND)


def test_a_person_at_a_stick_is_there():
    v = view(guard())
    v.last_human = NOW - 100 * SECOND
    v.receive("teleop", word(epoch=4), NOW)
    assert desk.beat(v, NOW).value == 100
    v.receive("teleop", word(epoch=4, moved=True), NOW)
    assert desk.beat(v, NOW).value == 0


# ---- the programs


@pytest.fixture
def world(tmp_path):
    """The other nodes' voices; a console and a hand's node that hear them."""
    (tmp_path / "ipc").mkdir(mode=0o700)
    (tmp_path / "run").mkdir()
    run = config.load(LAUNCH / "reach.toml", ["takeover.device=keyboard"])
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": config.to_dict(run)}))
    (tmp_path / "run" / "bus.json").write_text(json.dumps({"directory": str(tmp_path / "ipc")}))
    buses = [Bus(tmp_path / "ipc", name, WallClock()) for name in ("guard", "servos")]
    says = [buses[0].publisher("guard"), buses[0].publisher("permit"), buses[1].publisher("applied")]
    hand = buses[0].subscriber("teleop")
    messages = (
        guard("RUN", t=0), m.Permit(state="RUN", epoch=4, holder="policy", torque=True),
        m.Applied(tick=1, writer="policy", epoch=4, target=(0.0,) * 6, clamped=(0,) * 6),
    )  # fmt: skip

    def speak() -> m.Teleop:
        for publisher, message in zip(says, messages, strict=True):
            publisher.send(message)
        return hand.latest() or word(active=False)

    node = subprocess.Popen(
        [sys.executable, "-m", "robotrl.nodes.teleop", str(tmp_path / "run")], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    person = Person(tmp_path / "run")
    yield person, speak, node
    person.close()
    node.kill()
    node.wait()
    node.stdin.close()
    for bus in buses:
        bus.close()


def test_from_the_keys_to_the_word_and_when_the_console_dies(world):
    person, speak, node = world
    newest = [word(active=False)]

    def live():
        newest[0] = speak()

    def typed(key: str, done) -> None:
        """Press until it is so, as a person would: of a program that has just begun the first is not heard by all."""
        pressed = [0.0]

        def again():
            live()
            if time.monotonic() > pressed[0] + 1.0:
                pressed[0] = time.monotonic()
                person.types(key)

        person.until(done, again)

    person.until(lambda: " teleop " in person.seen and newest[0].source == "teleop", live)
    typed("o", lambda: newest[0].active)
    typed("8", lambda: newest[0].twist and newest[0].twist[0] > 0)
    assert newest[0].twist == (0.1, 0, 0, 0, 0, 0) and newest[0].moved
    person.until(lambda: not newest[0].twist[0], live)
    person.until(lambda: "A PERSON LEADS IT" in person.seen, live)
    assert newest[0].active, "he stands still, and leads on"
    typed("b", lambda: not newest[0].active)
    assert not newest[0].lost
    typed("o", lambda: newest[0].active)
    person.process.kill()
    person.until(lambda: not newest[0].active, live)
    assert newest[0].lost == "the console is silent"
    node.stdin.close()  # the manager's end of it
    assert node.wait(20) == 0
