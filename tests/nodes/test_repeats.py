"""A key that is held down, or on which something lies: what of it acts, and for how long it counts as a person."""

import itertools

import msgspec
import pytest

from robotrl import messages as m
from robotrl.bus import Bus
from robotrl.clock import LockstepClock
from robotrl.nodes import desk
from robotrl.nodes.keys import KeyParser
from robotrl.nodes.view import SECOND, View
from tests.nodes.test_console import MS, NOW, drive, guard, joints, shown, view
from tests.nodes.test_guard import World
from tests.nodes.test_takeover import word


class Held:
    """A person's console and a guard, in the guard's periods, from the bytes of the terminal on."""

    def __init__(self, directory):
        self.world, self.parser, self.numbers = World().run(), KeyParser(), itertools.count()
        self.world.silent.add("console")  # this console is the one
        self.clock, self.view = LockstepClock(), View(last_human=self.world.now)
        (directory / "ipc").mkdir(mode=0o700, exist_ok=True)
        self.link = desk.Link(Bus(directory / "ipc", "console", self.clock))
        self.link.operator = self
        self.began, self.states = self.world.now, [("RUN", 0.0)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()

    def send(self, message):
        """What the console says, to the guard."""
        self.world.hear(msgspec.structs.replace(message, source="console", boot=1))

    def step(self, *typed):
        now = self.world.now
        self.view.receive("guard", msgspec.structs.replace(self.world.shown, boot=1, seq=next(self.numbers)), now)
        self.clock.sleep_until(now)
        refused = self.parser.refused
        keys = self.parser.feed(b"".join(typed), now)
        self.view.repeats.came(keys, now, lost=self.parser.refused > refused)
        for key in keys:
            self.link.obey(key, self.view)
        self.send(desk.beat(self.view, now))
        self.world.hear(m.Applied(source="servos", boot=1, tick=0, writer="policy", epoch=0, target=(0.0,) * 8, clamped=()))
        state = str(self.world.step())
        if state != self.states[-1][0]:
            self.states.append((state, (now - self.began) / SECOND))
        return state

    def last(self, seconds, typed, every=2, delay=25):
        """For so long `typed` comes at once, after `delay` periods and then in each `every`-th."""
        for n in range(round(seconds * 50)):
            self.step(*[typed] * (n == 0 or (n >= delay and n % every == 0)))
        return self.states


@pytest.mark.parametrize("key", [b"\n", b"+", b"c"])
@pytest.mark.parametrize(("every", "delay", "pieces"), [(2, 25, 1), (4, 12, 1), (20, 25, 12)])
def test_what_lies_on_a_key_is_nobody(key, every, delay, pieces, tmp_path):
    """Row 61: within 120 s of the last word of a person. A line may bring what the keyboard repeats in pieces."""
    with Held(tmp_path) as held:
        states = held.last(140, key * pieces, every, delay)
    (state, at), *_ = [(state, at) for state, at in states if state != "RUN"]
    assert state == "HOLD" and 120 <= at <= 132


def test_who_types_one_key_for_minutes_is_there(tmp_path):
    """Seven a second, and now and then eight."""
    with Held(tmp_path) as held:
        for gap in itertools.islice(itertools.cycle((8, 7, 11, 6, 9, 8, 6, 7, 6, 6)), 1000):
            for i in range(gap):
                held.step(*[b"+"] * (i == 0))
        assert held.states == [("RUN", 0.0)]


def test_a_key_that_is_held_for_long_and_then_another_one_or_a_pause_is_a_person_again():
    v = view()
    for n in range(30 * 30):
        desk.press("h", v, NOW + n * 33 * MS)
    assert desk.beat(v, NOW + 30 * SECOND).value > 15
    desk.press("m", v, NOW + 30 * SECOND)
    assert desk.beat(v, NOW + 30 * SECOND).value == 0
    for n in range(30 * 30):
        desk.press("h", v, NOW + 31 * SECOND + n * 33 * MS)
    desk.press("h", v, NOW + 75 * SECOND)
    assert desk.beat(v, NOW + 75 * SECOND).value == 0


def test_a_run_that_a_pause_or_a_cause_has_ended_is_not_opened_again_by_a_key_that_repeats(tmp_path):
    with Held(tmp_path) as held:
        held.last(2, b"r")
        held.step(b"p")
        assert held.last(2, b"r", delay=0)[-1][0] == "HOLD"
        held.last(0.8, b"")
        held.step(b"r")
        assert held.last(0.1, b"")[-1][0] == "RUN", "let go and pressed again it is one"
        held.last(1, b"r")
        held.world.silent.add("tracker")
        held.last(2, b"r", delay=0)
        held.world.silent.discard("tracker")
        states = held.last(3, b"r", delay=0)
    assert [state for state, _ in states] == ["RUN", "HOLD", "RUN", "HOLD"]


@pytest.mark.parametrize("key", "erRco")
def test_of_a_key_that_repeats_none_is_sent_and_that_is_said(key):
    """Its first repeat comes as late as a person's second press may, and is one."""
    v = view(guard(), joints(), word(epoch=4))
    sent = [desk.press(key, v, NOW + ms * MS) for ms in (0, 500, 533, 566, 600, 1200)]
    assert [said is not None for said in sent] == [True, True, False, False, False, False]
    assert shown(v, NOW + 1200 * MS).count("is held down: let go, then press it") == 1
    desk.press("p", v, NOW + 1300 * MS)
    assert desk.press(key, v, NOW + 1850 * MS) is None, "another key in between does not let it go, nor a line that stalls"
    assert desk.press(key, v, NOW + 2550 * MS) is not None


@pytest.mark.parametrize("gap", [150, 222, 400, 500, 650, 900])
@pytest.mark.parametrize("key", "erRco")
def test_who_presses_a_key_again_because_it_was_refused_is_heard_each_time(key, gap):
    v = view(guard(), joints(), word(epoch=4))
    assert all(desk.press(key, v, NOW + n * gap * MS) is not None for n in range(20))


@pytest.mark.parametrize("stall", [0.6, 0.8, 1.9, 2.5, 6.0])
@pytest.mark.parametrize("late", [False, True])
def test_what_a_line_or_a_console_that_stood_still_brings_of_a_key_that_lies_starts_nothing(stall, late, tmp_path):
    with Held(tmp_path) as held:
        held.last(2, b"r")
        held.step(b"p")
        held.last(1, b"r", delay=0)
        held.last(stall, b"")
        if late:  # typed while the console stood still: refused
            held.view.repeats.came(["r"] * 20, held.world.now, refused=True)
            held.step()
        else:
            held.step(b"r" * round(30 * stall))
        assert held.last(3, b"r", delay=0)[-1][0] == "HOLD"


@pytest.mark.parametrize("key", " \x03\x1cpd+-hsfxuUm8b")
def test_all_other_keys_repeat_and_a_stop_always_does(key):
    v = view(guard(), joints(), word(epoch=4))
    assert all(desk.press(key, v, NOW + n * 33 * MS) is not None for n in range(60))
    if key in " \x03\x1c":
        assert all(desk.press(key, v, NOW + n * 33 * MS).command == "stop" for n in range(60, 6000))


def test_what_lies_on_a_digit_leads_for_ten_seconds():
    v = view(guard(), joints(), word(epoch=4))
    sent = [desk.press("8", v, NOW + n * 33 * MS) is not None for n in range(900)]
    assert all(sent[:300]) and not any(sent[310:]) and "is held down: let go" in shown(v, NOW)
    later = NOW + 33 * SECOND
    assert all(desk.press("8", v, later + n * 33 * MS) is not None for n in range(290)), "let go, and pressed again"


def test_an_arm_that_space_holds_is_not_lowered_on_by_a_d_that_repeats():
    v = view(guard("RELAX"))
    assert desk.press("d", v, NOW) is not None and desk.press("d", v, NOW + 500 * MS) is not None
    desk.press(" ", v, NOW + 510 * MS)
    assert not any(desk.press("d", v, NOW + 533 * MS + n * 33 * MS) for n in range(60))
    assert desk.press("d", v, NOW + 5 * SECOND) is not None, "one that is pressed behind it does"


def test_nor_by_one_that_repeats_where_another_console_has_pressed_space():
    v = view(guard("RELAX"), drive(stop="hold", torque_on=True))
    assert desk.press("d", v, NOW) is not None
    assert not any(desk.press("d", v, NOW + 500 * MS + n * 33 * MS) for n in range(60))
    assert desk.press("d", v, NOW + 4 * SECOND) is not None


@pytest.mark.parametrize("other", [b"", b"x"])
def test_nor_is_a_key_let_go_by_what_a_stalled_line_brings_with_it(other, tmp_path):
    """A burst of different keys is refused unseen."""
    with Held(tmp_path) as held:
        held.last(2, b"r")
        held.step(b"p")
        held.last(1, b"r", delay=0)
        held.last(2.5, b"")
        held.step(b"r" * 60 + other)
        assert held.last(3, b"r", delay=0)[-1][0] == "HOLD"


@pytest.mark.parametrize("key", "+hb8mn")
def test_of_a_key_that_lies_the_guard_hears_nothing(key, tmp_path):
    with Held(tmp_path) as held:
        states = held.last(140, key.encode())
    assert 120 <= next(at for state, at in states if state == "HOLD") <= 132


def episode(t, step):
    said = dict(total_steps=step, total_return=0.0, speed=0.0, policy_version=1, policy_age_s=0.0, tick=step)
    return m.Episode(source="policy", boot=1, t=t, episode=1, step=step, **said)


def test_a_label_of_a_key_that_lies_is_given_and_tells_the_guard_of_nobody(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock = LockstepClock()
    clock.sleep_until(NOW)
    link, v = desk.Link(Bus(tmp_path / "ipc", "console", clock)), view()
    sent = []
    link.operator = type("Publisher", (), {"send": lambda self, message: sent.append(clock.now())})()
    for n in range(30 * 20):
        v.frames.clear()
        v.receive("episode", episode(clock.now(), n + 1), clock.now())
        v.drawn(clock.now() - SECOND)
        link.obey("h", v)
        clock.advance(33 * MS)
    link.close()
    assert link.labels.given == 600 and 2.5 * SECOND < max(sent) - NOW < 11 * SECOND
