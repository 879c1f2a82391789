"""Keys into labels: bound to the frame on the screen, taken back, held down, refused where there is nothing to say."""

from __future__ import annotations

import time

import msgspec
import pytest

from robotrl import messages as m
from robotrl.bus import Bus, BusError
from robotrl.clock import LockstepClock, WallClock
from robotrl.config import Operator, Run
from robotrl.nodes import desk
from robotrl.nodes.guard import Sentry, causes
from robotrl.nodes.labelling import label, remember
from robotrl.nodes.view import SECOND, View
from robotrl.safety.causes import Severity
from tests.nodes.test_console import guard, shown, view

NOW, MS, LIFE = 1000 * SECOND, SECOND // 1000, 9


def episode(step, number=3, **kw):
    said = dict(total_steps=0, total_return=0.0, speed=0.0, policy_version=1, policy_age_s=0.0, tick=100 + step) | kw
    return m.Episode(source="policy", boot=LIFE, episode=number, step=step, **said)


class Desk:
    """A console's view whose screen shows one step every 20 ms and is drawn every 100 ms, and a person before it."""

    def __init__(self, **settings) -> None:
        self.view, self.now, self.given = View(settings=Operator(**settings), last_human=NOW), NOW, []

    def watches(self, steps, first=1, number=3, **kw):
        for step in range(first, first + steps):
            self.now += 20 * MS
            self.view.receive("episode", episode(step, number, **kw), self.now)
            if step % 5 == 0:
                self.view.drawn(self.now)

    def presses(self, command, after=0):
        self.now += after
        made = label(command, self.now, self.view, self.now)
        if isinstance(made, str):
            return made
        made = msgspec.structs.replace(made, giver=1, number=len(self.given) + 1)
        self.given.append(made)
        remember(self.view, made, self.now)
        if command == "hold":
            self.view.held = self.view.given[-1]
        return made


def test_a_press_means_the_newest_frame_that_had_been_drawn_a_reactions_time_before():
    """A step ends every 20 ms, each fifth is drawn: 250 ms before the 50th that was the 35th, number 34."""
    sits = Desk(reaction_s=0.25)
    sits.watches(50)
    made = sits.presses("success")
    assert (made.kind, made.episode, made.step, made.tick, made.life, made.value) == ("success", 3, 34, 135, LIFE, 1.0)
    assert Desk.presses(sits, "good", after=10 * MS).step == 34, "20 ms later it is still that frame"
    assert sits.presses("good", after=40 * MS).step == 39


@pytest.mark.parametrize(("reaction", "step"), [(0.0, 49), (0.02, 44), (0.1, 44), (0.5, 24)])
def test_the_reactions_time_is_configurable(reaction, step):
    sits = Desk(reaction_s=reaction)
    sits.watches(50)
    assert sits.presses("bad").step == step


@pytest.mark.parametrize(("command", "kind", "value"), [("good", "add", 2.5), ("bad", "add", -0.5), ("success", "success", 7.0),
                                                        ("fail", "fail", -3.0), ("end", "end", 0.0)])  # fmt: skip
def test_what_a_key_is_worth_is_configuration(command, kind, value):
    sits = Desk(good=2.5, bad=-0.5, success=7.0, fail=-3.0)
    sits.watches(50)
    assert (sits.presses(command).kind, sits.given[-1].value) == (kind, value)


def test_a_key_that_is_held_gives_each_step_its_reward_once():
    """A terminal repeats it 30 times a second, the screen shows 10: every step from the first to the last, none twice."""
    sits = Desk(reaction_s=0.0, hold=0.25)
    sits.watches(20)
    for step in range(21, 61):
        sits.watches(1, first=step)
        sits.presses("hold", after=0)
    spans = [(g.first if g.first >= 0 else g.step, g.step) for g in sits.given]
    covered = [step for first, last in spans for step in range(first, last + 1)]
    assert covered == list(range(19, 60)) and all(g.value == 0.25 for g in sits.given)
    sits.watches(50, first=61)
    sits.presses("hold")
    assert sits.given[-1].first == -1, "let go for a second: it begins anew"


def test_the_last_label_is_taken_back_and_then_the_one_before():
    sits = Desk()
    sits.watches(50)
    for command in ("good", "success", "undo", "undo"):
        sits.presses(command, after=SECOND)
    assert [g.undoes for g in sits.given[2:]] == [(1, 2, 2), (1, 1, 1)]
    assert sits.presses("undo") == "nothing to take back"


def test_the_last_seconds_are_taken_back_and_no_more():
    sits = Desk(undo_s=5.0)
    sits.watches(50)
    for after in (0, SECOND, 4 * SECOND, 2 * SECOND):  # the last seconds reach back to the third
        sits.view.frames.append(sits.view.frames[-1]._replace(drawn=sits.now))
        sits.presses("good", after=after)
    assert sits.presses("undo seconds", after=2 * SECOND).undoes == (1, 3, 4)
    assert sits.presses("undo seconds", after=9 * SECOND) == "nothing to take back in 5 s"


def test_a_verdict_on_the_episode_before_goes_to_its_last_step():
    sits = Desk()
    sits.watches(40)
    sits.view.receive("episode_end", episode(40, ended="time"), sits.now)
    sits.watches(30, number=4)
    made = sits.presses("last success")
    assert (made.kind, made.episode, made.step, made.tick) == ("success", 3, 39, 140)
    assert Desk().presses("last success") == "no step was on the screen yet"


def test_an_episode_that_is_over_is_spoken_of_for_five_seconds_and_not_ended_again():
    sits = Desk()
    sits.watches(40)
    sits.view.receive("episode_end", episode(40, ended="time"), sits.now)
    sits.view.receive("episode", episode(40, ended="time"), sits.now)
    sits.view.drawn(sits.now)
    assert sits.presses("success", after=SECOND).step == 39
    assert sits.presses("end") == "episode 3 is over"
    assert sits.presses("success", after=5 * SECOND) == "episode 3 is over: S and F judge it again"


def test_before_the_first_step_there_is_nothing_to_say_but_a_note():
    sits = Desk()
    assert sits.presses("success") == "no step was on the screen yet"
    sits.view.typed = "belt_was_loose"
    assert sits.presses("note").text == "belt was loose"


# at the desk


def test_a_note_is_written_key_by_key_and_space_stops_the_robot_meanwhile():
    v = view()
    for key in ("n", "r", "q", "\x7f", "e"):
        assert desk.press(key, v, NOW) is None
    assert v.typed == "re" and "note: re" in shown(v)
    assert desk.press(" ", v, NOW).command == "stop" and v.typed == "re"
    assert desk.press("\n", v, NOW).command == "note"
    v.typed = ""
    assert desk.press("\n", v, NOW) is None and v.typed is None, "an empty one is none"


def test_beside_another_console_only_the_stop_acts():
    v = view(watching=True)
    for key in desk.COMMANDS:
        assert (desk.press(key, v, NOW) is not None) == (desk.COMMANDS[key] == "stop"), key
    desk.press("n", v, NOW)
    assert v.typed is None and "another console supervises" in shown(v)


def test_the_keyboard_can_be_tried_and_caps_lock_is_seen():
    v = view()
    assert "press t" in shown(v) and "does not answer" in shown(v)
    v.answered = 23 * MS
    assert "answers in 23 ms" in shown(v)
    assert desk.press("T", v, NOW) is None and "Caps Lock is on" in shown(v)


# two consoles and a guard on one bus


def test_a_second_console_watches_stops_and_supervises_when_the_first_one_has_left(tmp_path):
    """Through the guard's own judgement: its stop is taken, whatever else it might say is not, and it does not count as there."""
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock = WallClock()
    node = Bus(tmp_path / "ipc", "guard", clock)
    voice, ears = node.publisher("guard"), node.subscriber("operator")
    first, second = (desk.Link(Bus(tmp_path / "ipc", "console", clock)) for _ in range(2))
    third = desk.Link(Bus(tmp_path / "ipc", "console", clock))
    try:
        assert (first.watching, second.watching, third.watching) == (False, True, True)
        v = View()
        end = time.monotonic() + 60
        heard = []
        while not any(key.command == "stop" for key in heard):  # who has just connected misses the first words
            assert time.monotonic() < end
            voice.send(guard("RUN", t=0))
            second.read(v)
            for key in "er ":
                second.obey(key, v)
            time.sleep(0.02)
            heard += ears.drain()
        assert {(key.source, key.command) for key in heard} == {("viewer", "stop")}
        sentry = Sentry(Run(), lambda: 1, lambda: 7)
        sentry.hear(heard[0], clock.now())
        assert "Operator" not in sentry._heard and [c.name for c in sentry._commands] == ["stop"]
        sentry.step(clock.now())
        assert "operator_stop" in sentry.outputs.causes
        assert not second.promote(), "the first one is there"
        first.close()
        assert second.promote() and not second.watching and not third.promote()
        second.read(v)
        assert not v.watching
    finally:
        for link in (second, third):
            link.close()
        node.close()


def test_who_retires_makes_room_and_is_back_when_the_other_has_left(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock = WallClock()
    gone, here = (desk.Link(Bus(tmp_path / "ipc", "console", clock)) for _ in range(2))
    recorder = Bus(tmp_path / "ipc", "recorder", clock)
    ears = recorder.subscriber("label")
    try:
        gone.labels.keep(m.Label(press=1, value=1.0, tick=1, giver=gone.giver))  # nobody has acknowledged it yet
        gone.retire()
        gone.retire()
        assert gone.watching and gone.operator.source == "viewer2" and here.promote() and not gone.promote()
        late = desk.Link(Bus(tmp_path / "ipc", "console", clock))
        assert late.watching
        here.retire()
        assert gone.promote() and not here.promote() and gone.labels.given == 1
        heard, end = [], time.monotonic() + 60
        while not heard:  # sent again, for want of an answer
            assert time.monotonic() < end
            gone.labels.tend(None, clock.now())
            time.sleep(0.02)
            heard = ears.drain()
        assert heard[0].number == 1 and heard[0].giver == gone.giver
        late.close()
    finally:
        for link in (gone, here):
            link.close()
        recorder.close()


@pytest.mark.parametrize("change", ["promote", "retire"])
def test_a_stop_is_heard_though_its_console_has_just_changed_seats(change, tmp_path):
    """Who hears takes some 50 ms to find a new socket, and what is said meanwhile is lost. It is said again, until it is answered
    or another key is pressed, and only for half a second after the change."""
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock = WallClock()
    node = Bus(tmp_path / "ipc", "guard", clock)
    ears = node.subscriber("operator")

    def listens(seconds, link=None):
        came, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            if link is not None:
                link.listen(v)
            time.sleep(0.01)
            came += ears.drain()
        return came

    found = []
    for _ in range(3):
        v = View()
        first, second = links = [desk.Link(Bus(tmp_path / "ipc", "console", clock)) for _ in range(2)]
        try:
            listens(0.2)
            links.pop(0 if change == "promote" else 1).close()
            listens(0.05)
            assert second.promote() if change == "promote" else not first.retire()
            (link,) = links
            link.obey(" ", v)
            heard = listens(0.9, link)
            link.obey(" ", v)
            once = listens(0.2, link)
        finally:
            for other in links:
                other.close()
        found.append((heard, once))
    node.close()
    for heard, once in found:
        assert heard and {key.command for key in heard} == {"stop"} and len({key.press for key in heard}) == 1
        assert len(heard) <= 11 and heard[-1].t - heard[0].press < 600 * MS
        assert len(once) == 1, "once it can be heard, it is said once"


@pytest.mark.parametrize("answer", ["key", "guard"])
def test_a_stop_behind_a_change_of_seats_is_not_said_again_once_it_is_answered_or_another_key_pressed(answer, tmp_path):
    """By one of 0.1 s ago an arm would stop again that a d has just sent on."""
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock, v, sent = LockstepClock(), view(), []
    clock.sleep_until(NOW)
    link = desk.Link(Bus(tmp_path / "ipc", "console", clock))
    link.retire()
    link.operator = type("Publisher", (), {"send": lambda self, message: sent.append(message.command)})()
    link.obey(" ", v)
    for _ in range(12):
        clock.advance(10 * MS)
        link.listen(v)
    before = list(sent)
    if answer == "key":
        link.obey("d", v)
    else:
        v.receive("guard", guard("STOPPING", t=clock.now()), clock.now())
    del sent[:]
    for _ in range(60):
        clock.advance(10 * MS)
        link.listen(v)
    link.close()
    assert before == ["stop"] * 3 and sent == []


def test_where_there_are_too_many_to_watch_nobody_retires(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    links = [desk.Link(Bus(tmp_path / "ipc", "console", WallClock())) for _ in range(4)]
    links[0].retire()
    assert not links[0].watching and links[0].operator.source == "console"
    for link in links:
        link.close()


def test_a_fifth_console_is_one_line(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    links = [desk.Link(Bus(tmp_path / "ipc", "console", WallClock())) for _ in range(4)]
    with pytest.raises(BusError, match="already publishes 'operator' as viewer3"):
        desk.Link(Bus(tmp_path / "ipc", "console", WallClock()))
    for link in links:
        link.close()


def test_nobody_at_the_keys_for_two_minutes_pauses_the_robot_though_the_console_lives():
    """The console's own beats, with the time since the last key in them, until the guard has had enough."""
    v = View(last_human=0)
    row = next(cause for cause in causes(Run()) if cause.id == "operator_absent")
    ages = []
    for clock in range(0, 130 * SECOND, SECOND):
        sentry = Sentry(Run(), lambda: 1, lambda: 7)
        sentry.hear(msgspec.structs.replace(desk.beat(v, clock), source="console", t=clock), clock)
        sentry.step(clock)
        ages.append(sentry._inputs(clock).human_age_s)
    assert ages == pytest.approx(list(range(130))) and (row.above, row.action) == (120.0, Severity.HOLD)
