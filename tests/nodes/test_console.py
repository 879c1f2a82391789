"""The operator's console: what a key says, what the screen shows, and the real program on a pty."""

import fcntl
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from robotrl import config, keyring, rundir
from robotrl import messages as m
from robotrl.bus import Bus
from robotrl.clock import LockstepClock, WallClock
from robotrl.config import Run, to_dict
from robotrl.door import Door
from robotrl.nodes import console, desk, keys, screen
from robotrl.nodes.gateway import Gateway
from robotrl.nodes.gateway import shown as settings
from robotrl.nodes.status import status
from robotrl.nodes.tidy import FOUND
from robotrl.nodes.view import SECOND, Frame, View, absent, clean, span, stop_status

NOW = 1000 * SECOND
MS = SECOND // 1000


def guard(state="RUN", t=NOW, **kw):
    said = dict(causes=(), last_cause="", session=True, epoch=4, holder="policy", nonce=77) | kw
    return m.Guard(source="guard", state=state, t=t, **said)


def drive(t=NOW, **kw):
    said = dict(gate_open=True, torque_on=True, powered_off_confirmed=False, stop="", late_us=40.0) | kw
    return m.Drive(source="servos", t=t, tick=9, cycle_us=4100.0, overruns=0, frame_errors=0, **said)


def joints(t=NOW, **kw):
    eight = dict.fromkeys(("position", "velocity", "torque"), (0.1,) * 8)
    said = eight | dict(temp_c=(41.0,) * 8, voltage=(15.9,) * 8, mode=(10,) * 8, fault=(0,) * 8, missed=(0,) * 8)
    return m.Joints(source="servos", t=t, tick=500, **(said | kw))


def view(*messages, **kw):
    out = View(last_human=NOW, **kw)
    for message in messages or (guard(), drive(), joints()):
        out.receive(type(message).__name__.lower(), message, NOW)
    return out


def shown(v, now=NOW, width=80, height=24):
    return screen.draw(v, now, width, height).plain


# keys


@pytest.mark.parametrize(
    ("key", "command"),
    [("e", "enable"), ("r", "run"), (" ", "stop"), ("\x03", "stop"), ("c", "clear"), ("p", "pause"), ("R", "reset"),
     ("d", "disable"), ("+", "good"), ("=", "good"), ("-", "bad")],
)  # fmt: skip
def test_a_key_is_a_command_with_the_newest_nonce(key, command):
    v = view(guard(nonce=1), guard(nonce=78), joints())
    v.seen_tick = 500
    said = desk.press(key, v, NOW)
    assert (said.command, said.nonce, said.seen_tick) == (command, 78, 500)


def test_presses_are_unique_even_in_one_instant():
    v = view()
    assert len({desk.press("+", v, NOW).press for _ in range(50)}) == 50


def test_stop_is_said_without_a_guard():
    assert desk.press(" ", View(), NOW).command == "stop"


def test_unknown_key_and_help_say_nothing():
    v = view()
    assert desk.press("z", v, NOW) is None and "z is no key" in shown(v)
    assert desk.press("?", v, NOW) is None and v.help
    assert "QUICK STOP" in shown(v) and " RUN " in shown(v)
    assert desk.press(" ", v, NOW).command == "stop"  # the help page is no obstacle


def test_leaving_needs_two_presses_within_two_seconds():
    v = view()
    desk.press("q", v, NOW)
    assert not v.leaving and "Leaving stops the robot. q again to leave" in shown(v, NOW + SECOND)
    v.watching = True
    assert "the robot goes on without you. q again to leave" in shown(v, NOW + SECOND)
    v.watching = False
    desk.press("q", v, NOW + 3 * SECOND)
    assert not v.leaving
    desk.press("e", v, NOW + 3 * SECOND)
    desk.press("q", v, NOW + 4 * SECOND)
    assert not v.leaving, "another key in between takes the question back"
    desk.press("q", v, NOW + 5 * SECOND)
    assert v.leaving


def test_who_leaves_is_told_of_rewards_that_nobody_has_kept():
    """With the recorder down, or its disk full, they were in this process alone, and went with it without a word."""
    v = view(labels=(5, 2))
    desk.press("q", v, NOW)
    assert " Leaving stops the robot; may lose 3 rewards not kept yet. q again to leave. " in shown(v, NOW + SECOND)
    assert "; 3 rewards are not kept by the recorder yet, and may be lost; " in console.left(v, Path("runs/x"))
    v.labels = (5, 4)
    assert "may lose 1 reward not kept" in shown(v, NOW + SECOND) and "; 1 reward is not kept" in console.left(v, None)
    v.labels = (5, 5)
    assert "lose" not in shown(v, NOW + SECOND) and "kept" not in console.left(v, Path("runs/x"))


def test_beat_tells_how_long_the_human_has_been_still():
    v = view()
    assert desk.beat(v, NOW + 7 * SECOND).value == pytest.approx(7.0)
    desk.press("x", v, NOW + 7 * SECOND)
    assert desk.beat(v, NOW + 8 * SECOND).value == pytest.approx(1.0)


# bytes of a terminal


SEQUENCES = [b"\x1bOR", b"\x1b[15~", b"\x1b[A", b"\x1be", b"\x1b[1;5R"]
SEQUENCES += [b"\x1bO2R", b"\x1bO5S", b"\x1bO1;2R"]  # F3 and F4 with Shift or Ctrl, of Konsole and of old VTEs
SEQUENCES += [b"\x1b[[A", b"\x1b[[C", b"\x1b[[E"]  # F1, F3, F5 of Linux' own console


@pytest.mark.parametrize("burst", [*SEQUENCES, b"er", b"cr paste"[:2], b"\xc3\xa9"])
def test_sequences_and_bursts_are_no_keys(burst):
    assert acting(keys.KeyParser().feed(burst, NOW)) == []


SPACES = {
    "Option": "\u00a0".encode(),
    "bepo": "\u202f".encode(),
    "an input method": "\u3000".encode(),
    "Khmer": "\u200b".encode(),
    "Ctrl": b"\0",
    "CSI u": b"\x1b[32;2u",
    "kitty": b"\x1b[32::32;65:1;32u",
    "bare CSI u": b"\x1b[32u",
    "modifyOtherKeys": b"\x1b[27;2;32~",
    "Option in CSI u": b"\x1b[160;3u",
}
CTRL_C = {"CSI u": b"\x1b[99;5u", "with Shift": b"\x1b[67;6u", "modifyOtherKeys": b"\x1b[27;5;99~", "Ctrl-\\": b"\x1b[92;5u"}


@pytest.mark.parametrize("data", [*SPACES.values(), *CTRL_C.values()], ids=[*SPACES, *CTRL_C])
@pytest.mark.parametrize("apart", [0, 200 * MS])
def test_a_stop_key_is_one_however_the_terminal_sends_it(data, apart):
    """With Shift, Option, AltGr or Ctrl, or through an input method, SPACE is no byte 0x20; it was dropped without a word."""
    stop = "\x1c" if data == CTRL_C["Ctrl-\\"] else "\x03" if data in CTRL_C.values() else " "
    assert keys.KeyParser().feed(data, NOW) == [stop]
    parser = keys.KeyParser()
    sure = data[0] == keys.ESCAPE  # the first two bytes of a sequence come together, for ESC alone is a key
    late = [apart * max(0, n - sure) for n in range(len(data))]
    pieces = [parser.feed(bytes([b]), NOW + at) for b, at in zip(data, late, strict=True)]
    assert acting([key for piece in pieces for key in piece]) == [stop], "it may be split over reads"
    assert parser.feed(b"p", NOW + SECOND + late[-1]) == ["p"]
    assert keys.KeyParser().feed(b"er" + data + b"x", NOW)[0] == stop, "in a burst too"
    if data[0] != keys.ESCAPE:
        for sequence in SEQUENCES:
            for cut in range(len(sequence)):
                assert keys.KeyParser().feed(sequence[:cut] + data + sequence[cut:], NOW)[0] == stop
    said = desk.press(stop, view(), NOW)
    assert said is not None and said.command == "stop"


NO_STOPS = {
    "umlauts": "\u00e0\u00e9\u0430\u00c2\u3042\u3080\u4f60\U0001f600\ue000".encode(),
    "broken": b"\xa0\xc2\xc2\xe2\x80\xe3\x80\xc2x\xa0\xff\x80\x80\xaf",
    "overlong": b"\xc0\xa0\xe0\x80\xa0\xf0\x80\x80\xa0\xc1\xa0",
    "a bracketed paste": b"\x1b[200~err;32u\x1b[201~",
    "F-keys": b"\x1b[32~\x1b[27~\x1b[27;2~\x1b[15;2~\x1b[1;5R\x1b[32;5R\x1bO2R\x1b[[A",
    "other keys": b"\x1b[13;2u\x1b[27;2;13~\x1b[99;2u\x1b[99u\x1b[27;2;99~\x1b[320;2u\x1b[2;32u\x1b[;u\x1b[u\x1b[27;;~\x1b[x;2u",
    "a mouse": b"\x1b[<0;32;2M\x1b[<35;32;2m\x1b[32;5;2M\x1b[M#\xc2\xa0\x1b[M#!\0\x1b[M#\xc2\xa0\xe3\x80\x80\x1b[M#\0\0",
    "answers": b"\x1b[0n\x1b[?62;32;4c\x1b[?32u\x1b[8;32;2t\x1b[I\x1b[O\x1b_Gi=31;OK\x1b\\\x1b[>0;32;0c",
}


@pytest.mark.parametrize("data", NO_STOPS.values(), ids=NO_STOPS)
def test_nothing_else_is_a_stop(data):
    assert not set(keys.KeyParser().feed(data, NOW)) & set(keys.STOP_KEYS)
    parser = keys.KeyParser()
    one_by_one = [key for n, b in enumerate(data) for key in parser.feed(bytes([b]), NOW + n * MS)]
    assert not set(one_by_one) & set(keys.STOP_KEYS)


def acting(found):
    """Of the keys that a parser gives, those that may do something."""
    return [key for key in found if key != keys.NO_KEY]


MEANINGLESS = ["\u00e9".encode(), "\u4f60".encode(), b"\xff", b"\t", b"\x1be", b"\x1b[A", b"\x1b[13;2u", b"\x1bOR", b"\x1b[15~"]


@pytest.mark.parametrize("data", MEANINGLESS)
def test_a_press_that_means_nothing_is_said_once_and_does_nothing_else(data):
    parser, v = keys.KeyParser(), view(typed="so")
    v.leave_asked = NOW
    for n in range(5):  # it is held down
        pieces = [parser.feed(bytes([b]), NOW + n * 33 * MS) for b in data]
        found = [key for piece in pieces for key in piece]
        found += parser.feed(b"", NOW + n * 33 * MS + 10 * MS)
        assert found == [keys.NO_KEY]
        assert desk.press(found[0], v, NOW + SECOND) is None
    assert (v.last_human, v.typed, v.leave_asked) == (NOW, "so", NOW), "a terminal sends such by itself, too"
    v.typed = v.leave_asked = None
    assert shown(v, NOW + SECOND).count("is no key") == 1
    assert keys.KeyParser().feed(data + b"p", NOW) == ["p"], "a key that comes with it acts as before"


def test_the_escape_key_alone_means_nothing_and_is_said_to():
    parser = keys.KeyParser()
    assert parser.feed(b"\x1b", NOW) == [] and parser.feed(b"", NOW + 60 * MS) == [keys.NO_KEY]
    assert parser.feed(b"", NOW + 70 * MS) == []


def test_half_a_character_means_nothing_either_and_is_said_to_when_the_rest_stays_away():
    """An e acute in Latin-1."""
    parser = keys.KeyParser()
    found = [parser.feed(data, NOW + ms * MS) for data, ms in ((b"\xe9", 0), (b"", 40), (b"", 60), (b"", 70))]
    assert found == [[], [], [keys.NO_KEY], []]


OWN = [b"\x1b[0n", b"\x1b[?62;4c", b"\x1b[I", b"\x1b[O", b"\x1b[<35;4;2M", b"\x1b_Gi=31;OK\x1b\\", b""]


@pytest.mark.parametrize("data", OWN)
def test_what_a_terminal_says_by_itself_is_no_press(data):
    assert keys.KeyParser().feed(data, NOW) == []


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("apart", [0, 60 * MS, 400 * MS])
def test_a_sequence_in_pieces_is_none_either_and_the_key_behind_it_acts(sequence, apart):
    """Over a slow line what follows ESC O or ESC [ may come late; `R` is reset, and moves the robot."""
    parser, late = keys.KeyParser(), apart if len(sequence) > 2 else 0
    pieces = [parser.feed(bytes([b]), NOW + max(0, i - 1) * late) for i, b in enumerate(sequence)]
    assert [acting(piece) for piece in pieces] == [[]] * len(sequence)
    assert parser.feed(b"p", NOW + len(sequence) * late) == ["p"]
    assert keys.KeyParser().feed(sequence + b"p", NOW) == ["p"]
    for cut in range(len(sequence)):
        assert keys.KeyParser().feed(sequence[:cut] + b" " + sequence[cut:], NOW)[0] == " "


def test_the_rest_of_a_paste_is_no_key_and_a_stop_in_it_counts():
    """A terminal is read by 1,024 bytes: of a paste one longer the last letter came alone, as if it had been pressed."""
    master, slave = pty.openpty()
    try:
        with keys.Terminal(slave) as terminal:
            parser, got = keys.KeyParser(), []
            os.write(master, b"xy" * 512 + b"e")
            while data := terminal.read(0.1):
                got.append((len(data), parser.feed(data, NOW + len(got) * 10 * MS)))
        assert got == [(1024, []), (1, [])] and parser.refused == 2
    finally:
        os.close(master)
        os.close(slave)
    assert parser.feed(b" ", NOW + 20 * MS) == [" "]
    assert parser.feed(b"e", NOW + 20 * MS, typing=True) == ["e"]
    assert parser.feed(b"e", NOW + keys.PASTE_NS) == ["e"], "a key that is pressed then is one"


@pytest.mark.parametrize("data", [b"d ", b" d", b"c\x03", b"hhh "])
def test_a_key_that_comes_with_a_stop_does_not_act_behind_it(data):
    """Of a line that stalled: an arm that SPACE was to hold went on down by the d before it."""
    parser = keys.KeyParser()
    assert parser.feed(data, NOW)[1:] == [] and parser.refused == 1
    assert parser.feed(b"a b", NOW + SECOND, typing=True) == [" ", "a", "b"], "letters of a note are no keys"


@pytest.mark.parametrize("rest", [b"e", b"ere"])
def test_what_is_pasted_behind_a_notes_end_is_no_key(rest):
    """A text of two lines into a note: by the second torque came on."""
    parser = keys.KeyParser()
    assert parser.feed(b"ok\n" + rest, NOW, typing=True) == ["o", "k", "\n"] and parser.refused == 1
    assert parser.feed(b"e", NOW + 10 * MS) == [], "nor is the rest of it"
    assert parser.feed(b"e", NOW + keys.PASTE_NS) == ["e"]


def test_a_split_sequence_is_still_one():
    parser = keys.KeyParser()
    assert [acting(parser.feed(bytes([b]), NOW + i * MS)) for i, b in enumerate(b"\x1bOR")] == [[], [], []]
    assert parser.feed(b"r", NOW + 5 * MS) == ["r"]


def test_an_escape_pressed_long_ago_does_not_eat_a_key():
    parser = keys.KeyParser()
    parser.feed(b"\x1b", NOW)
    assert parser.feed(b"r", NOW + 100 * MS) == ["r"]


@pytest.mark.parametrize("data", [b" ", b"\x1b ", b"\x1b[ ", b"err x", b"\x03", b"ee   ", b"\x1bO "])
def test_the_stop_key_always_counts_and_comes_first(data):
    assert keys.KeyParser().feed(data, NOW)[0] in " \x03"


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_answer_in_pieces_is_no_key(cut):
    """Over a slow line, while one is waited for; in a note as well."""
    parser = keys.KeyParser()
    parser.awaited = True
    for n, piece in enumerate((b"\x1b[0n"[:cut], b"\x1b[0n"[cut:])):
        assert parser.feed(piece, NOW + n * 300 * MS, typing=True) == []
    assert parser.answered and parser.feed(b"r", NOW + 310 * MS) == ["r"]


class Desk:
    """A console's surroundings for some virtual time: link, terminal, screen and signals in one.

    `answers`: from when to when (s) the terminal does; `sleeps`: Ctrl-Z at this time, for a minute.
    """

    watching, bus, suspend, resumed, size = False, None, False, False, (80, 24)

    def __init__(self, until, *answers, sleeps=0.0):
        self.clock, self.beats, self.keys, self._typed = LockstepClock(), [], [], b""
        self.promoted = []
        self.until, self.answers, self.sleeps = until, answers, sleeps
        self.console = self.operator = self
        self.view = self.sees()
        console.supervise(self, self.view, None, self, self, self)

    @property
    def time(self):
        return self.clock.now() / SECOND

    def sees(self):
        return view()

    def say(self, text):
        if text == keys.ASK and any(begin <= self.time < end for begin, end in self.answers):
            self._typed += b"\x1b[0n"

    def read(self, *args):
        """Of the terminal, so many seconds; of the link."""
        if not isinstance(args[0], float):
            return b""
        self.clock.advance(max(MS, int(args[0] * SECOND)))
        self.suspend = self.sleeps and self.time >= self.sleeps
        self.view.leaving = self.time >= self.until
        typed, self._typed = self._typed, b""
        return typed

    def sleep(self):
        self.clock.advance(60 * SECOND)
        self.sleeps = 0.0

    def send(self, message):
        self.beats.append(self.time)

    def obey(self, key, view):
        self.keys.append(key)

    def retire(self):
        self.watching = True

    def promote(self):
        self.watching = False
        self.promoted.append(self.time)
        return True

    def nothing(self, *args, **kw):
        """What else is asked of them."""

    listen = update = bell = stop = start = take = give_back = nothing


def silences(beats, until):
    """When no beat came for half a second: from when to when."""
    return [(a, b) for a, b in zip([0.0, *beats], [*beats, until], strict=True) if b - a > 0.5]


class Still(Desk):
    """Stands still at 5 s, in its draw, for so long; what is typed meanwhile is then read piece by piece. At 7 s: p."""

    def __init__(self, still, *pieces):
        self.still, self.pieces, self.later = still, list(pieces), b"p"
        super().__init__(8)

    def update(self, *_, **__):
        if self.still and self.time >= 5:
            self.clock.advance(self.still)
            self.still, self._typed = 0, self.pieces.pop(0)

    def read(self, *args):
        typed = super().read(*args)
        if typed and self.pieces:
            self._typed = self.pieces.pop(0)
        elif self.time >= 7:
            self._typed, self.later = self._typed + self.later, b""
        return typed


class Stopped(Still):
    """The same by SIGSTOP, just behind its reading; then the terminal is taken again, before the next."""

    def update(self, *_, **__):
        pass

    def listen(self, *_):
        self.resumed = self.resumed or bool(self.still and self.time >= 5)
        super().update()

    def take(self, drop=True):
        self._typed = b"" if drop else self._typed


@pytest.mark.parametrize("how", [Still, Stopped])
@pytest.mark.parametrize(
    ("still", "typed", "acts"),
    [
        (600 * MS, [b"e"], []),
        (600 * MS, [b"e" * 1024, b"e", b"e"], []),
        (600 * MS, [b" "], [" "]),
        (600 * MS, [b"ee", b" "], [" "]),
        (400 * MS, [b"e"], ["e"]),
    ],
)
def test_a_key_that_was_typed_while_the_console_stood_still_does_not_act_late(how, still, typed, acts):
    """It is stamped when it is read, and so would be fresh to the guard: torque came on seconds later. A stop counts."""
    desk = how(still, *typed)
    assert desk.keys == [*acts, "p"], "and what is pressed later acts"
    refused = b"e" in typed[0] and "e" not in acts
    assert {said for *_, said in desk.view.keys} == ({"REFUSED, press again"} if refused else set())


def test_a_terminal_that_answers_no_more_ends_the_heartbeat_until_it_does():
    """Its line died without a word: what is drawn still goes somewhere, and nobody sees it."""
    desk = Desk(40, (0, 10.5), (30, 99))
    ((begin, end),) = silences(desk.beats, 40)
    assert 12.5 <= begin <= 14 and 30 <= end <= 31.5 and not desk.keys and desk.view.answered is not None


def test_a_terminal_that_never_answers_and_one_that_always_does_are_left_alone():
    for answers in ((), ((0, 999),)):
        assert not silences(Desk(40, *answers).beats, 40)


def test_after_a_sleep_the_heartbeat_goes_on_when_the_terminal_has_answered():
    ((begin, end),) = silences(Desk(90, (0, 999), sleeps=10).beats, 90)
    assert 9.5 <= begin <= 10.5 and 70 <= end <= 70.5


def test_who_sees_nothing_makes_room_for_another_console_and_is_back_when_he_does():
    desk = Desk(20, (0, 5.5))
    assert desk.watching and not desk.promoted
    desk = Desk(40, (0, 5.5), (20, 99))
    assert not desk.watching and len(desk.promoted) == 1 and 20 <= desk.promoted[0] <= 31


def test_the_answer_under_way_is_waited_for_on_leaving_and_on_ctrl_z(monkeypatch):
    asked = []
    monkeypatch.setattr(keys.Line, "last", lambda self, clock: asked.append(clock.now() / SECOND) or [" "])
    desk = Desk(90, (0, 999), sleeps=10)
    assert asked == [pytest.approx(10, abs=0.1), pytest.approx(90, abs=0.1)] and desk.keys == [" ", " "]


class Far:
    """A terminal behind a line: what it is asked comes to it, and its answer back, `late(now)` s later; over what is on its way
    nothing goes. It answers byte by byte if `pieces`."""

    def __init__(self, late, pieces=0.0):
        self.clock, self.parser, self.keys, self.late, self.pieces = LockstepClock(), keys.KeyParser(), [], late, pieces
        self.way, self.given = [], 0
        self.line = keys.Line(self, self.parser, 0)

    def say(self, text):
        now = self.clock.now() / SECOND
        at = max(now + self.late(now), self.way[-1][0] if self.way else 0.0)
        self.way += [(at + n * self.pieces, byte.encode()) for n, byte in enumerate("\x1b[0n")]

    def read(self, timeout_s):
        """At once when something comes."""
        come, until = b"", self.clock.now() + round(timeout_s * SECOND)
        while not come and self.clock.now() < until:
            self.clock.advance(MS)
            come = self.come()
        return come

    def come(self):
        come = b"".join(byte for at, byte in self.way if at <= self.clock.now() / SECOND)
        self.way = self.way[len(come) :]
        return come

    def dead(self, until):
        """At which hundredths of a second, up to `until` s, nobody was seeing anything."""
        found = []
        while (now := self.clock.now()) < until * SECOND:
            self.clock.advance(10 * MS)
            self.keys += self.parser.feed(self.come(), self.clock.now())
            self.line.tend(self.clock.now())
            if self.line.dead(self.clock.now()):
                found.append(now // (10 * MS))
        return found


def test_a_screen_that_comes_late_is_not_seen_however_many_answers_come():
    """The line is full of what is drawn, and stays so for a while."""
    late = Far(lambda now: 0.05 if now < 10 or now > 60 else 6.0)
    dead = late.dead(90)
    assert set(range(1450, 6000)) <= set(dead) and not set(range(7000, 9000)) & set(dead) and not late.keys
    growing = Far(lambda now: max(0.0, now - 5))  # half as much comes out of it as goes in
    assert set(range(1500, 18000)) <= set(growing.dead(180))


def test_a_line_that_only_is_slow_is_well_and_the_newest_answers_time_is_shown():
    slow = Far(lambda now: 0.1 if now < 10 else 2.0)
    assert not slow.dead(60) and slow.line.took == pytest.approx(2.0 * SECOND, abs=0.1 * SECOND)


@pytest.mark.parametrize("took", [0.2, 1.5])
def test_the_first_answer_may_come_late_and_in_pieces(took):
    far = Far(lambda now: took, pieces=0.1)
    assert not far.dead(8) and not far.keys and far.line.took is not None


@pytest.mark.parametrize("at", [0.1, 2.1, 2.5])
def test_the_last_answer_is_taken_before_the_terminal_is_given_back(at):
    """A shell would take it for typing."""
    far = Far(lambda now: 0.25)
    far.dead(at)
    before = far.clock.now()
    far.line.last(far.clock)
    assert not far.way and far.clock.now() - before < 300 * MS


def test_an_answer_that_does_not_come_is_waited_for_half_a_second_and_a_stop_meanwhile_counts():
    far = Far(lambda now: 0.4 if now < 2 else 99.0)
    far.dead(5)
    before = far.clock.now()
    far.way.insert(0, (5.1, b" "))
    assert far.line.last(far.clock) == [" "] and far.clock.now() - before == keys.LAST_NS
    mute = Far(lambda now: 999.0)
    mute.dead(10)
    before = mute.clock.now()
    assert mute.line.last(mute.clock) == [] and mute.clock.now() == before, "one that never answers keeps nobody waiting"


def test_a_held_key_repeats():
    assert keys.KeyParser().feed(b"+++", NOW) == ["+", "+", "+"]


# the screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10), (80, 3), (20, 1), (300, 100)])
def test_the_screen_fits_exactly(size):
    full = view(guard(note="n" * 400, causes=("c" * 400,)), drive(), joints())
    rows = shown(full, width=size[0], height=size[1]).split("\n")
    assert len(rows) == size[1] and max(map(len, rows)) <= size[0]


def test_state_causes_note_and_keys_are_always_there():
    v = view(guard("PSTOP", causes=("tilt", "console_lost"), note="set it on its feet"), drive())
    for height in (8, 24, 50):
        text = shown(v, height=height)
        assert all(word in text for word in ("PSTOP", "tilt, console_lost", "set it on its feet", "SPACE STOP", "q quit"))


def test_the_help_is_whole_on_80x24_and_tells_every_key():
    v = view()
    desk.press("?", v, NOW)
    text = shown(v)
    assert all(said in text for said in screen.HELP.splitlines())
    told = [key for row in screen.HELP.splitlines()[:10] for at in (0, 46) for key in row[at:].split("  ")[0].split()]
    keys = {*desk.COMMANDS, "t", "?", "q", "v", "n"} - {" ", "\x03", "\x1c", "=", *"12346789"}
    assert keys | {"SPACE", "82469371"} == set(told) and len(told) == len(set(told))


def test_keys_line_fits_80_columns():
    assert len(screen.keys_line().plain) <= 80


@pytest.mark.parametrize("state", ["BOOT", "CHECK", "READY", "HOLD", "RUN", "RESET", "STOPPING", "PSTOP", "RELAX", "LOCKOUT"])
def test_every_state_has_its_word_and_fits(state):
    assert state in screen.STATES
    bar = screen.banner(view(guard(state)), NOW, 80, 1)[0].plain
    assert len(bar) == 80 and screen.STATES[state][1] in bar and bar.rstrip().endswith("#4")


def test_plain_ascii_so_that_any_terminal_shows_it():
    assert shown(view(), width=160, height=60).isascii()


def test_a_silent_guard_is_said_loudly():
    text = shown(view(), NOW + SECOND)
    assert "NO GUARD" in text and "was RUN" in text and "POWER SWITCH" in text
    assert "NO GUARD" not in shown(view(), NOW + 400 * MS)


def test_late_streams_are_marked_by_a_word():
    v = view()
    rows = {row.split()[0]: row[: screen.LEFT] for row in shown(v, NOW + 70 * MS).split("\n") if row.strip()}
    assert "LATE" in rows["joints"] and "NONE" in rows["imu"]
    rows = {row.split()[0]: row[: screen.LEFT] for row in shown(v, NOW + 50 * MS).split("\n") if row.strip()}
    assert "LATE" not in rows["joints"]


def test_who_is_gone_for_good_is_said_to_be_once_until_another_life_of_it_is_started():
    v = view()

    def told(event):
        v.receive("process", m.Process(source="manager", name="learner", pid=7, event=event, detail="died 4 times"), NOW)
        return screen.alive(v, NOW).plain, status(v, NOW)["nodes"].get("learner"), len(v.events)

    screen_, word, events = told("gone")
    assert "learner GONE" in screen_ and word == "GONE" and "learner" not in screen_.partition("starting:")[2]
    assert told("gone")[2] == events
    screen_, word, _ = told("started")
    assert "learner GONE" not in screen_ and word is None


def test_a_stream_not_needed_in_this_state_is_idle():
    rows = {row.split()[0]: row for row in shown(view(guard("HOLD"), drive())).split("\n") if row.strip()}
    assert "idle" in rows["action"] and "NONE" in rows["pose"]


def test_the_rate_is_that_of_sending_not_of_reading():
    v = View()
    for k in range(20):  # the reader sees every tenth of 100 messages a second
        t = NOW + k * SECOND // 10
        v.receive("imu", m.Imu(source="imu", seq=10 * k, t=t, roll=0, pitch=0, yaw=0, rates=(), accel=()), t)
    assert v.stream("imu").rate_hz(t) == pytest.approx(100.0)


def test_a_beat_without_progress_is_stuck():
    v = view(guard(), m.Beat(source="policy", progress=5, t=NOW))
    v.receive("beat", m.Beat(source="policy", progress=5, t=NOW + 2 * SECOND), NOW + 2 * SECOND)
    assert "policy STUCK" in shown(v, NOW + 2 * SECOND)
    v.receive("beat", m.Beat(source="policy", progress=6, t=NOW + 2 * SECOND), NOW + 2 * SECOND)
    assert "policy ok" in shown(v, NOW + 2 * SECOND)


def test_servo_trouble_is_named():
    hurt = joints(fault=(0, 0, 36) + (0,) * 5, missed=(0,) * 7 + (4,), temp_c=(41.0,) * 4 + (78.0,) + (41.0,) * 3)
    text = shown(view(guard(), drive(), hurt))
    assert "FAULT 3:36" in text and "MISSED 8:4" in text and "78 C in no. 5 HOT" in text


def test_the_temperature_shown_is_the_one_nearest_to_its_own_limit():
    hot, cool = (41.0,) * 4 + (66.0,) + (41.0,) * 3, (41.0,) * 8
    for winding, board, says in ((80.0, hot, "board 66 C in no. 5 HOT"), (92.0, hot, "  92 C in no. 3 HOT"),
                                 (80.0, cool, "  80 C in no. 3,"), (80.0, (), "  80 C in no. 3,")):  # fmt: skip
        v = view(guard(), drive(), joints(temp_c=(41.0,) * 2 + (winding,) + (41.0,) * 5, board_c=board))
        v.temp_limit_c, v.board_limit_c = 100.0, 75.0
        assert says in shown(v), (winding, board)


def test_numbers_that_are_none_do_not_break_the_screen():
    nan = float("nan")
    v = view(guard(), joints(temp_c=(nan,) * 8))
    v.receive(
        "learner", m.Learner(source="learner", updates=1, version=1, updates_per_s=1.0, transitions=0, critic_loss=nan), NOW
    )
    sums = dict(total_return=nan, speed=nan, policy_version=1, policy_age_s=nan)
    lost = m.Episode(source="policy", episode=1, step=1, total_steps=1, **sums)
    v.receive("episode", lost, NOW)
    assert "NOT FINITE" in shown(v)


@pytest.mark.parametrize("absurd", [1e308, -1e308, 1e20, float("inf"), float("-inf"), float("nan")])
def test_an_absurd_age_does_not_end_the_console(absurd):
    """Finite, and yet no whole number of ns that a screen has room for: the console ended, and the robot with it."""
    said = dict(episode=1, step=2, total_steps=3, total_return=absurd, speed=absurd, policy_version=4)
    v = view(guard(), drive(late_us=absurd), joints(), m.Episode(source="policy", t=NOW, policy_age_s=absurd, **said))
    for t in (NOW, -(2**62), 2**62):
        assert max(map(len, shown(v, NOW + SECOND).splitlines())) <= 80
        v.receive("learner", m.Learner(source="learner", t=t, updates=5, version=1, updates_per_s=absurd, transitions=9), NOW)
        json.dumps(status(v, NOW), allow_nan=False)


def test_text_from_the_bus_cannot_reach_the_terminal_raw():
    assert clean("a\x1b[2Jb\nc") == "a?[2Jb?c"
    v = view(guard(note="\x1b[31mred\n[bold]x[/bold]", causes=("\x07",)), drive())
    assert "\x1b" not in shown(v) and "\x07" not in shown(v) and "[bold]x" in shown(v)


def test_a_refusal_of_one_message_is_kept_on_the_screen():
    v = view()
    desk.press("e", v, NOW)
    v.receive("guard", guard(note="nothing to do in RUN", t=NOW + 20 * MS), NOW + 20 * MS)
    v.receive("guard", guard(t=NOW + 40 * MS), NOW + 40 * MS)
    assert "enable: nothing to do in RUN" in shown(v, NOW + 50 * MS)
    assert "nothing to do" not in shown(v, NOW + 6 * SECOND)


def test_durations_fit_their_column():
    assert [span(ns) for ns in (None, 12 * MS, 3400 * MS, 300 * SECOND)] == ["never", "12 ms", "3.4 s", "5 min"]
    assert max(len(span(10**k)) for k in range(17)) <= 7


# stops: confirmed only by a fresh read-back

OFF = dict(torque_on=False, powered_off_confirmed=True, gate_open=False)


def test_confirmed_needs_the_read_back():
    assert stop_status(view(guard("RELAX"), drive(**OFF)), NOW)[0] == "OFF, CONFIRMED"


@pytest.mark.parametrize(
    ("state", "said", "at"),
    [
        ("RELAX", drive(torque_on=False), NOW),  # off was sent, not read back
        ("RELAX", drive(torque_on=True, stop="damp"), NOW),
        ("RELAX", drive(torque_on=True, powered_off_confirmed=True), NOW),  # contradicts itself
        ("RELAX", drive(**OFF), NOW + SECOND),  # a read-back of a second ago is no read-back
        ("RELAX", drive(**OFF), NOW + SECOND // 5),  # nor one of a fifth
        ("HOLD", drive(**OFF), NOW),  # torque comes on: of it the screen may not have heard yet
        ("RUN", drive(**OFF), NOW),
        ("LOCKOUT", drive(torque_on=False), NOW),
        ("STOPPING", drive(), NOW),
        ("PSTOP", drive(), NOW),
    ],
)
def test_nothing_else_is_confirmed(state, said, at):
    v = view(guard(state), said)
    assert "CONFIRMED" not in stop_status(v, at)[0].replace("UNCONFIRMED", "")
    assert "OFF, CONFIRMED" not in shown(v, at)


def test_a_stop_the_guard_does_not_answer_says_cut_the_power():
    v = view()
    desk.press(" ", v, NOW)
    late = NOW + 400 * MS
    v.receive("guard", guard("RUN", t=late), late)
    v.receive("drive", drive(t=late), late)
    assert "CUT THE MOTOR POWER" in shown(v, late)
    v.receive("guard", guard("STOPPING", t=late), late)
    assert stop_status(v, late)[1].endswith("guard answered in 400 ms")
    assert "CUT" not in shown(v, late)


def test_where_no_second_key_helps_an_arm_on_its_way_down_is_no_reason_to_press_it():
    """Nobody hears it, or nothing is held any more: what is left is the power."""
    for state, heard in (("LOCKOUT", NOW + 300 * MS), ("RELAX", NOW - SECOND)):
        v = view(guard(state), drive(gate_open=False, stop="stow"))
        desk.press(" ", v, NOW)
        v.receive("drive", drive(NOW + 300 * MS, gate_open=False, stop="stow"), NOW + 300 * MS)
        v.receive("guard", guard(state, t=heard), heard)
        assert "CUT THE MOTOR POWER" in stop_status(v, NOW + 300 * MS)[1]


@pytest.mark.parametrize("key", "cer")
def test_a_key_after_a_stop_that_was_never_heard_does_not_take_its_alarm_down(key):
    """The robot ran on, and the screen said so no more: even a clear that the guard refused did that."""
    v = view()
    desk.press(" ", v, NOW)
    late = NOW + 600 * MS
    v.receive("guard", guard("RUN", t=late), late)
    v.receive("drive", drive(t=late), late)
    desk.press(key, v, late)
    assert "CUT THE MOTOR POWER" in shown(v, late)
    v.receive("guard", guard("STOPPING", t=late + MS), late + MS)
    assert "guard answered in 601 ms" in stop_status(v, late + MS)[1]
    desk.press(key, v, late + SECOND)
    assert "guard answered" not in stop_status(v, late + SECOND)[1], "one that was heard is over with the next key"


def test_a_stop_state_older_than_the_key_is_no_answer():
    v = view(guard("RUN", t=NOW))
    desk.press(" ", v, NOW)
    v.receive("guard", guard("PSTOP", t=NOW - 1), NOW)
    assert v.stop_answered is None


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (dict(gate_open=False, stop="hold"), "HELD, NOT OFF"),  # an arm that was found holding: who cut its power would drop it
        (dict(gate_open=False, torque_on=False, powered_off_confirmed=True), "OFF, CONFIRMED"),
        (dict(gate_open=False, stop="stow"), "SPACE AGAIN"),
        (dict(gate_open=False, torque_on=False, present=False), "CUT"),  # its port is lost: it can tell of nothing
    ],
)
@pytest.mark.parametrize("later", ["CHECK", "READY"])
def test_a_stop_in_check_is_answered_by_what_the_driver_does(said, word, later):
    v = view(guard("CHECK"), drive(gate_open=False, stop="stow"))
    assert stop_status(v, NOW)[:2] == ("ON", "the driver's own way to off, stage stow")
    desk.press(" ", v, NOW)
    for ms in (20, 40, 300):
        v.receive("drive", drive(NOW + ms * MS, **said), NOW + ms * MS)
        v.receive("guard", guard("CHECK" if ms < 300 else later, t=NOW + ms * MS), NOW + ms * MS)
    found = stop_status(v, NOW + 300 * MS)
    lost = word in ("CUT", "SPACE AGAIN")
    assert found[0] == ("STOP UNCONFIRMED" if lost else word) and "silent" not in found[1]
    assert [advice for advice in ("CUT", "SPACE AGAIN") if advice in found[1]] == [word] * lost


@pytest.mark.parametrize(
    ("stage", "later", "word", "answered"),
    [
        ("stow", dict(stop="stow"), "STOP UNCONFIRMED", False),  # the key got lost: the arm goes on down
        ("stow", dict(stop="hold"), "HELD, NOT OFF", True),
        ("stow", dict(torque_on=False, powered_off_confirmed=True), "OFF, CONFIRMED", True),  # it came too late: it is down
        ("damp", dict(stop="damp"), "STOP UNCONFIRMED", True),  # nothing is held here: the state is the answer
    ],
)
@pytest.mark.parametrize("state", ["RELAX", "PSTOP", "LOCKOUT"])
def test_a_stop_is_answered_by_a_driver_that_lowers_an_arm(stage, later, word, answered, state):
    """The guard says RELAX before the key and after it, so that tells nothing of the key. Nor does PSTOP, in which a guard begins
    that was started again while its driver lowered the arm by itself."""
    v = view(guard(state), drive(gate_open=False, stop=stage))
    desk.press(" ", v, NOW)
    v.receive("guard", guard(state, t=NOW + 10 * MS), NOW + 10 * MS)  # before the driver's next word
    for ms in (20, 40, 300):
        v.receive("drive", drive(NOW + ms * MS, gate_open=False, **later), NOW + ms * MS)
        v.receive("guard", guard(state, t=NOW + ms * MS), NOW + ms * MS)
    found = stop_status(v, NOW + 300 * MS)
    if state == "LOCKOUT":
        assert (v.stop_answered is not None) is answered and (found[2] == "alarm" or found[0] == "OFF, CONFIRMED")
        return
    assert found[0] == word and ("SPACE AGAIN" not in found[1]) is answered and "CUT" not in found[1]
    assert not answered or found[1].endswith(f"guard answered in {10 if stage == 'damp' else 20} ms")


def test_of_an_arm_whose_manager_is_dead_nobody_is_told_that_another_press_would_hold_it():
    """The driver goes by no key any more."""
    said = guard("RELAX", causes=("run_over", "manager_gone"))
    v = view(said, drive(gate_open=False, stop="stow"))
    desk.press(" ", v, NOW)
    v.receive("drive", drive(NOW + 300 * MS, gate_open=False, stop="stow"), NOW + 300 * MS)
    v.receive("guard", msgspec.structs.replace(said, t=NOW + 300 * MS), NOW + 300 * MS)
    assert "CUT THE MOTOR POWER" in stop_status(v, NOW + 300 * MS)[1]


# the program itself


def refused(capsys, *argv):
    code = console.main(list(argv))
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1, error
    return error


def test_without_a_terminal_one_line(capsys, tmp_path):
    assert "needs a terminal" in refused(capsys, str(tmp_path))


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": to_dict(Run())}))
    (tmp_path / "run" / "bus.json").write_text(json.dumps({"directory": str(tmp_path / "ipc")}))
    return tmp_path / "run"


class Person:
    """Sits before the program on a pty of 80x24: sees, types."""

    def __init__(self, *words):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.settings = termios.tcgetattr(self.slave)
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; from robotrl.nodes.console import main; sys.exit(main({[*map(str, words)]!r}))"],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip

    def until(self, done, between=lambda: None, patience_s=20.0):
        end = time.monotonic() + patience_s
        while not done():
            assert time.monotonic() < end, self.seen[-3000:]
            between()
            if select.select([self.master], [], [], 0.01)[0]:
                self.seen += os.read(self.master, 65536).decode()

    def types(self, text):
        os.write(self.master, text.encode())

    def ended(self):
        return self.process.poll() is not None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def robot(run_dir):
    """A guard's voice and its ears."""
    bus = Bus(run_dir.parent / "ipc", "guard", WallClock())
    voice, ears = bus.publisher("guard"), bus.subscriber("operator")
    heard = []

    def speak():
        voice.send(guard("RUN", t=0))
        heard.extend(ears.drain())

    speak.heard = heard
    yield speak
    bus.close()


def test_on_a_pty_keys_become_commands_and_the_terminal_is_restored(run_dir, robot):
    person = Person(run_dir)
    try:
        person.until(lambda: "THE ROBOT MOVES" in person.seen and robot.heard, robot)
        assert termios.tcgetattr(person.slave)[3] & (termios.ICANON | termios.ECHO) == 0
        person.types(" ")
        person.until(lambda: any(o.command == "stop" for o in robot.heard), robot)
        person.until(lambda: sum(o.command == "beat" for o in robot.heard) > 3, robot)
        person.types("\x1bOR")  # F3 is no reset
        person.types("q")
        person.until(lambda: "q again" in person.seen, robot)
        person.types("q")
        person.until(person.ended, robot)
        assert person.process.returncode == 0
        commands = [o.command for o in robot.heard]
        assert commands.count("stop") == 1 and "reset" not in commands
        assert next(o for o in robot.heard if o.command == "stop").nonce == 77
        assert termios.tcgetattr(person.slave) == person.settings
    finally:
        person.close()


@pytest.mark.parametrize(("typed", "acts"), [("e", []), (" ", ["stop"])])
def test_on_a_pty_a_key_typed_while_the_console_was_stopped_does_not_act(run_dir, robot, typed, acts):
    person = Person(run_dir)
    try:
        person.until(lambda: "THE ROBOT MOVES" in person.seen and robot.heard, robot)
        os.kill(person.process.pid, signal.SIGSTOP)
        person.types(typed)
        time.sleep(1.0)
        os.kill(person.process.pid, signal.SIGCONT)
        person.until(lambda: ("SPACE stop" if acts else "REFUSED, press again") in person.seen, robot)
        pressed = itertools.count()

        def presses():  # as a person would: the first may still come with what was typed before it
            robot()
            if next(pressed) % 30 == 0:
                person.types("p")

        person.until(lambda: any(o.command == "pause" for o in robot.heard), presses)
        heard = [o.command for o in robot.heard if o.command != "beat"]
        assert heard[: len(acts) + 1] == [*acts, "pause"] and set(heard[len(acts) :]) == {"pause"}
    finally:
        person.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(run_dir, robot, number):
    person = Person(run_dir)
    try:
        person.until(lambda: "THE ROBOT MOVES" in person.seen, robot)
        person.process.send_signal(number)
        person.until(person.ended, robot)
        while select.select([person.master], [], [], 0.05)[0]:
            person.seen += os.read(person.master, 65536).decode()
        assert person.process.returncode == 128 + number
        assert termios.tcgetattr(person.slave) == person.settings
        assert re.search(r"\x1b\[\?1049l", person.seen) and "Traceback" not in person.seen
    finally:
        person.close()


def test_a_kill_leaves_the_terminal_as_it_was_too(run_dir, robot):
    person = Person(run_dir)
    try:
        person.until(lambda: "THE ROBOT MOVES" in person.seen, robot)
        assert termios.tcgetattr(person.slave) != person.settings
        person.process.kill()
        person.until(lambda: termios.tcgetattr(person.slave) == person.settings and person.seen.endswith(FOUND.decode()))
        assert person.ended()
    finally:
        person.close()


def test_a_run_that_is_not_live_is_one_line(run_dir, monkeypatch, capsys):
    (run_dir / "bus.json").unlink()
    monkeypatch.setattr(console, "has_screen", lambda: True)
    assert "not live" in refused(capsys, str(run_dir))
    assert "no run directory" in refused(capsys, str(run_dir / "nowhere"))
    (run_dir / "bus.json").write_text(json.dumps({"directory": str(run_dir.parent / "ipc")}))
    monkeypatch.setattr(console, "GUARD_WAIT", SECOND // 20)
    assert "no guard speaks" in refused(capsys, str(run_dir))


def test_without_a_name_it_attaches_to_the_newest_run_that_is_live(run_dir, robot, tmp_path):
    """Made after the live one: a rehearsal, which never had a bus, and a run whose sockets nobody answers."""
    root = tmp_path / "runs"
    root.mkdir()
    live = run_dir.rename(root / "20261125-120000-walk")
    later = [root / name for name in ("20261125-130000-walk", "20261125-140000-walk")]
    for directory in later:
        directory.mkdir()
        (directory / "run.json").write_text((live / "run.json").read_text())
    (tmp_path / "dead").mkdir(mode=0o700)
    (later[0] / "bus.json").write_text(json.dumps({"directory": str(tmp_path / "dead")}))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(console.newest_live, root, 2 * SECOND)
        while not found.done():
            robot()
            time.sleep(0.02)
    assert found.result() == live


def test_another_users_run_does_not_keep_it_from_the_live_one(run_dir, robot, tmp_path, monkeypatch):
    """Root's, say, killed long ago: the folder of its sockets is there still."""
    root = tmp_path / "runs"
    root.mkdir()
    live = run_dir.rename(root / "20261125-120000-walk")
    roots = root / "20261125-130000-walk"
    roots.mkdir()
    (roots / "run.json").write_text((live / "run.json").read_text())
    (roots / "bus.json").write_text(json.dumps({"directory": str(tmp_path / "roots")}))
    (tmp_path / "roots").mkdir(mode=0o755)  # refused as another user's is
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(console.newest_live, root, 2 * SECOND)
        while not found.done():
            robot()
            time.sleep(0.02)
    assert found.result() == live
    (live / "bus.json").unlink()
    with pytest.raises(rundir.RunError, match=r"no run is live here .*roots: the bus needs a directory of mode 0700"):
        console.newest_live(root, SECOND // 20)


def test_of_two_live_runs_it_attaches_to_the_robots_and_not_to_a_twins_that_was_started_later(run_dir, robot, tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    hardware = run_dir.rename(root / "20261125-120000-walk")
    twin = root / "20261125-130000-walk"
    twin.mkdir()
    (twin / "run.json").write_text(json.dumps(json.loads((hardware / "run.json").read_text()) | {"sim": True}))
    (twin / "bus.json").write_text((hardware / "bus.json").read_text())  # its guard speaks too
    for expected in (hardware, twin):
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(console.newest_live, root, 2 * SECOND)
            while not found.done():
                robot()
                time.sleep(0.02)
        assert found.result() == expected
        (hardware / "bus.json").unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_run_directory_that_is_gone_takes_no_console_with_it(run_dir, robot, how):
    """A run that is refused at its start removes its own; who renames that of a live run still has the stop key."""
    person = Person(run_dir)
    try:
        person.until(lambda: "THE ROBOT MOVES" in person.seen and robot.heard, robot)
        if how == "removed":
            for directory in (run_dir.parent / "ipc", run_dir):
                shutil.rmtree(directory)
            person.until(person.ended)
            person.until(lambda: "the run has ended" in person.seen)
            assert person.process.returncode == 0
        else:
            run_dir.rename(run_dir.parent / "renamed")
            end = time.monotonic() + 1.5  # it looks once a second
            person.until(lambda: time.monotonic() > end, robot)
            person.types(" ")
            person.until(lambda: any(o.command == "stop" for o in robot.heard), robot)
            assert not person.ended()
        assert "Traceback" not in person.seen
    finally:
        person.close()


@pytest.mark.parametrize("heard", [True, False])
def test_the_bar_says_that_it_is_a_twin(heard):
    for twin in (True, False):
        first = shown(view(guard(), drive(), twin=twin), NOW if heard else NOW + 9 * SECOND).split("\n")[0]
        assert first.startswith(" TWIN ") is twin and ("RUN" in first) and len(first) == 80


def test_no_live_run_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "has_screen", lambda: True)
    (tmp_path / "runs" / "20261125-120000-walk").mkdir(parents=True)
    (tmp_path / "runs" / "20261125-120000-walk" / "run.json").write_text("{}")
    said = refused(capsys)
    assert "no run is live" in said and "launch/real_walk.sh" in said


def test_a_new_state_is_shown_with_what_led_to_it_and_not_with_the_last_cause():
    v = view()
    told = (
        dict(state="HOLD", trigger="key enable (console)", last_cause="driver_silent"),
        dict(state="RUN", trigger="key run (console)", last_cause="driver_silent"),
        dict(state="RUN", causes=("learner_gone",), last_cause="driver_silent"),
        dict(state="RELAX", causes=("tilt", "learner_gone"), trigger="tilt", last_cause="tilt"),
        dict(state="RELAX", last_cause="tilt"),
        dict(state="RESET", trigger="the session goes on after tilt", last_cause="tilt"),
    )
    for message in told:
        state = message.pop("state")
        v.receive("cause", guard(state, **message), NOW)
    assert [what for _, what in v.events] == [
        "HOLD: key enable (console)",
        "RUN: key run (console)",
        "learner_gone in RUN",
        "RELAX: tilt",
        "learner_gone tilt is over",
        "RESET: the session goes on after tilt",
    ]
    assert "driver_silent" not in shown(v, height=40).replace("the last was driver_silent", "")


def episode(**kw):
    said = dict(episode=3, step=7, total_steps=5000, total_return=1.0, speed=0.1, policy_version=2, policy_age_s=1.0) | kw
    return m.Episode(source="policy", t=NOW, **said)


def learner(**kw):
    said = dict(updates=1500, version=3, updates_per_s=42.0, transitions=3500, engine="fused") | kw
    return m.Learner(source="learner", t=NOW, **said)


def row(v, name):
    """The right half's line that begins with this word."""
    return next(r[screen.LEFT :].rstrip() for r in shown(v).split("\n") if r[screen.LEFT :].startswith(name))


def test_before_the_first_weights_the_actions_are_said_to_be_random():
    v = view(guard(), episode(policy_version=-1, policy_age_s=float("nan"), episode=-1, total_steps=0))
    assert row(v, "policy") == "policy  no weights yet: random actions"
    assert row(v, "episode").startswith("episode none yet")
    v.receive("episode", episode(policy_age_s=65.0, total_steps=1999), NOW)
    assert row(v, "policy") == "policy  v2, 65.0 s old; random to step 2000"
    v.receive("episode", episode(policy_age_s=65.0, total_steps=2000), NOW)
    assert row(v, "policy") == "policy  v2, 65.0 s old"


def test_of_an_arm_it_is_shown_how_often_it_succeeds_and_no_speed():
    v = view(absent=("imu", "pose"))
    v.receive("episode", episode(), NOW)
    assert "none has ended yet" in row(v, "return") and "speed" not in shown(v) and "falls" not in shown(v)
    for ended in ("time", "reached", "success", "stopped", "fail", "there"):
        v.receive("episode_end", episode(ended=ended), NOW)
    assert row(v, "return").endswith("success 3 of the last 5") and "m/s" not in row(v, "last")
    for _ in range(30):
        v.receive("episode_end", episode(ended="stacked"), NOW)
    assert row(v, "return").endswith("success 20 of the last 20")


def test_the_last_episode_is_shown_with_its_last_rewards():
    v = view()
    v.receive("episode_end", episode(ended="fall", total_return=4.0), NOW)
    v.receive("episode", episode(ended="fall", total_return=5.5), NOW)
    assert row(v, "last").startswith("last    +5.5") and v.falls == 1
    v.receive("episode", episode(episode=4), NOW)
    assert row(v, "last").startswith("last    +5.5")


def test_updates_per_step_count_the_steps_that_owe_one_and_the_engine_is_named():
    v = view()
    v.receive("learner", learner(), NOW)  # 3500 transitions, of which the first 2000 owe nothing
    assert row(v, "learner") == "learner 1500 upd 1.00/step 42/s fused"
    v.receive("learner", learner(updates=300, engine="reference"), NOW)
    assert row(v, "learner") == "learner 300 upd 0.20/step SLOW 42/s reference"
    v.receive("learner", learner(updates=0, transitions=100), NOW)
    assert row(v, "learner") == "learner begins after step 2000, fused"


def test_a_learner_that_is_not_up_yet_says_what_it_does():
    v = view(guard(), m.Beat(source="learner", progress=1, t=NOW, note="building the fused engine"))
    assert row(v, "learner") == "learner starting: building the fused engine" and "starting: policy reset" in shown(v)
    v.receive("learner", learner(boot=1), NOW)
    v.receive("beat", m.Beat(source="learner", progress=1, t=NOW + 1, boot=2), NOW)
    assert row(v, "learner") == "learner starting", "the numbers are those of a life that is over"


def test_what_the_learner_owes_is_shown_once_it_is_behind():
    v = view(guard())
    v.receive("learner", learner(owed=10), NOW)
    assert "owes" not in shown(v)
    v.receive("learner", learner(owed=312), NOW)
    assert "owes 312 updates" in shown(v) and "DROPPED" not in shown(v)
    v.receive("learner", learner(owed=3000, dropped=40), NOW)
    assert "owes 3000 updates, 40 DROPPED" in shown(v)


def test_what_a_run_does_not_have_is_not_missed():
    arm = config.load(Path(__file__).parents[2] / "launch" / "reach.toml")
    for lacks, told in ((absent(arm), False), (absent(Run()), True), (settings(arm).absent, False)):
        text = shown(view(absent=lacks))
        found = ("\n imu " in text, "\n pose " in text, "reset imu tracker recorder" in text, "posture" in text)
        assert found == (told,) * 4
        assert "classif" not in text and "starting: policy learner reset" in text
    learned = absent(replace(arm, task=replace(arm.task, reward="classifier")))
    assert "classifi" in shown(view(absent=learned)) and "recorder classifier" in shown(view(absent=learned))
    assert "imu " in shown(
        view(m.Imu(roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0,) * 3, accel=(0.0,) * 3), guard(), absent=("imu",))
    )


def test_a_refusal_names_the_key_once():
    v = view()
    desk.press("r", v, NOW)
    v.receive("guard", guard(note="run: nothing to do in RUN", t=NOW + 20 * MS), NOW + 20 * MS)
    text = shown(v, NOW + 50 * MS)
    assert " DO     run: nothing to do in RUN" in text


@pytest.mark.parametrize("words", [("a", "b"), ("a", "b", "c"), ("tcp://127.0.0.1:1", "key", "more")])
def test_too_many_words_are_one_line(capsys, monkeypatch, words):
    monkeypatch.setattr(console, "has_screen", lambda: True)
    assert "arguments" in refused(capsys, *words)


def test_a_reward_is_shown_as_kept_only_when_the_recorder_has_it(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock = WallClock()
    recorder = Bus(tmp_path / "ipc", "recorder", clock)
    acks, labels = recorder.publisher("ack"), recorder.subscriber("label")
    link, v = desk.Link(Bus(tmp_path / "ipc", "console", clock)), view(guard())
    v.frames.append(Frame(clock.now() - SECOND, 3, 7, 41, 900, False))
    try:
        for _ in range(2):
            link.obey("+", v)
        assert row(v, "rewards") == "rewards 0 of 2 kept"
        end = time.monotonic() + 60.0
        heard = set()
        while v.labels != (2, 1) and time.monotonic() < end:
            heard |= {(label.giver, label.number) for label in labels.drain()}  # sent again until they are acknowledged
            if (link.giver, 1) in heard:
                acks.send(m.Ack(kept=((2, "console", link.giver, 1), (2, "console", 5, 9)), durable=1, transitions=0))
            link.read(v)
            time.sleep(0.005)
        assert row(v, "rewards") == "rewards 1 of 2 kept"
    finally:
        link.close()
        recorder.close()


LOWERED = dict(gate_open=False, stop="stow")
OFF = dict(gate_open=False, torque_on=False, powered_off_confirmed=True)
LOOSE = dict(gate_open=False, torque_on=False, stop="off")


class Ended(Desk):
    """At a run whose bus is gone. `said`: until when (s) the driver says what; it comes ten times a second."""

    def __init__(self, directory, said, rescued=False):
        self.said, self.rescued, self.directory = said, rescued, directory
        super().__init__(30)

    def sees(self):
        return View()

    def read(self, *args):
        if not isinstance(args[0], float):
            for until, fields in self.said:
                if self.time < until:
                    self.view.receive("drive", drive(self.clock.now(), **fields), self.clock.now())
                    break
            if self.rescued and self.time > 0.6:
                word = m.Process(source="manager", name="rescue", pid=1, event="off", t=self.clock.now())
                self.view.receive("process", word, self.clock.now())
        return super().read(*args)


@pytest.mark.parametrize(
    ("said", "rescued", "left_s", "code"),
    [
        ([(0.5, OFF)], False, 0, 0),
        ([(4, LOWERED), (5, OFF)], False, 4, 0),
        ([(4, LOWERED), (5, LOOSE)], False, 5, 3),
        ([(0.5, LOWERED)], False, 0.5, 3),
        ([(0.5, LOWERED)], True, 0.5, 0),
        ([], False, 0, 0),
    ],
    ids=["off", "lowered", "disobeyed", "the driver is gone", "rescued", "no driver"],
)
def test_a_console_stays_while_an_arm_is_lowered_and_says_cut_power_where_nobody_read_it_as_off(
    tmp_path, monkeypatch, said, rescued, left_s, code
):
    """Its last words were "the run has ended", with exit code 0, and the arm had seconds to go."""
    ends = []
    supervise = console.supervise
    monkeypatch.setattr(console, "supervise", lambda link, v, _, *rest: ends.append(supervise(link, v, tmp_path, *rest)))
    desk = Ended(tmp_path, said, rescued)
    assert left_s <= desk.time < left_s + 2.2
    assert ends[0][1] == code and ("CUT POWER" in ends[0][0]) is (code == 3) and "the run has ended" in ends[0][0]


def test_who_has_left_is_told_how_to_come_back():
    afar = console.left(View(run="tcp://10.0.0.1:5555", afar=True), None)
    assert "robotrl console tcp://10.0.0.1:5555 KEY" in afar and "supervise.sh" not in afar
    assert console.left(View(run="r1"), Path("runs/r1")).endswith("bash launch/supervise.sh runs/r1")


def test_a_console_afar_without_its_key_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(console, "has_screen", lambda: True)
    assert "no such key" in refused(capsys, "tcp://127.0.0.1:1", str(tmp_path / "none"))


class FastClock(WallClock):
    """Of a robot that was switched on long before this machine."""

    def now(self):
        return super().now() + 10**15


def test_a_console_afar_shows_the_robot_and_stops_it(tmp_path):
    file = keyring.new(tmp_path / "keys", "laptop", "console")
    late = replace(Run(), agent=replace(Run().agent, learn_after=4321), operator=replace(Run().operator, good=0.25))
    assert settings(late).operator["good"] == 0.25
    (tmp_path / "ipc").mkdir(mode=0o700)
    clock = FastClock()
    door = Door("tcp://127.0.0.1:0", keyring.load(tmp_path / "keys"), clock, shown=settings(late))
    bus, node = Bus(tmp_path / "ipc", "guard", clock), Bus(tmp_path / "ipc", "gateway", clock)
    student = Bus(tmp_path / "ipc", "learner", clock)
    idle = student.publisher("learner")
    voice, ears, gateway, heard = bus.publisher("guard"), bus.subscriber("operator"), Gateway(node, door), []

    def speak():
        stopped = any(key.command == "stop" for key in heard)
        voice.send(guard("PSTOP" if stopped else "RUN", t=0, nonce=1 + int(time.monotonic())))  # a new one each second
        idle.send(m.Learner(updates=0, version=0, updates_per_s=0.0, transitions=0))
        gateway.turn_in()
        gateway.turn_out()
        heard.extend(ears.drain())

    person = Person(door.address, file)
    try:
        person.until(lambda: "THE ROBOT MOVES" in person.seen and heard, speak)
        assert {(key.source, key.role, key.command, key.pid) for key in heard} == {("gateway", "console", "beat", 0)}
        person.types(" ")
        person.until(lambda: "guard answered in" in person.seen, speak)
        assert "NO GUARD" not in person.seen[-2000:]
        person.until(lambda: "begins after step 4321" in person.seen, speak)  # as this run is set, not as runs are by default
        person.types("qq")
        person.until(person.ended, speak)
        assert person.process.returncode == 0
    finally:
        person.close()
        door.close()
        bus.close()
        node.close()
        student.close()


def test_a_viewers_console_afar_sends_no_beat_and_stops_the_robot(tmp_path):
    """A beat of a viewer's says nothing to the guard, and is refused at the door."""
    file, clock = keyring.new(tmp_path / "keys", "screen", "viewer"), WallClock()
    door, got = Door("tcp://127.0.0.1:0", keyring.load(tmp_path / "keys"), clock), []
    number = iter(range(1, 1_000_000))

    def speak():
        door.send("guard", msgspec.msgpack.encode(guard("RUN", t=clock.now(), boot=1, seq=next(number))))
        got.extend(door.receive())

    person = Person(door.address, file)
    try:
        person.until(lambda: "YOUR KEY IS A VIEWER" in person.seen, speak)
        person.types("c")
        person.until(lambda: "your key is a viewer" in person.seen, speak)
        person.types(" ")
        person.until(lambda: got, speak)
        person.types("qq")
        person.until(person.ended, speak)
        assert [received.message.command for received in got] == ["stop"] and not door.refused.keys() - {"session"}
    finally:
        person.close()
        door.close()
