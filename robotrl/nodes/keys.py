"""The operator's keyboard: a terminal in cbreak mode, and bytes into keys. Works over SSH and in tmux.

A terminal sends more than keys: F3 ends in `R`, Alt-e in `e`, and a paste is a burst. None of these may
enable a motor, so escape sequences are swallowed whole and a burst is refused. The quick stop is the
exception: SPACE and Ctrl-C count wherever they stand, and however a terminal sends them. With Option, AltGr, Shift or
Ctrl, or through an input method, SPACE is another character or a sequence.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
from typing import Any

from robotrl.clock import Clock
from robotrl.nodes.tidy import Tidy

STOP_KEYS = " \x03\x1c"  # SPACE, Ctrl-C, Ctrl-backslash
NO_KEY = "that"  # what a person is told of a press that means nothing, as an arrow or an umlaut
# What the space bar types besides: no-break spaces (Option, AltGr; French), thin and figure ones (bepo, Neo), none at all (Khmer,
# Persian), an ideographic one (input methods); NUL with Ctrl. Of xkb's symbols/nbsp and the layouts that include it.
WIDE = "\0\u00a0\u2007\u2009\u200b\u200c\u200d\u202f\u3000"
SPACES = frozenset(char.encode() for char in WIDE)
SPACE_CODES = frozenset(map(ord, " " + WIDE))
CTRL_CODES = {ord("c"): "\x03", ord("C"): "\x03", ord("\\"): "\x1c"}
CTRL = 4  # in the modifiers of a sequence, less one
OWN = "ncIOMm"  # how ends what a terminal says by itself: answers, that a window has the focus, a mouse's reports
ENTER, BACKSPACE = "\n", "\x7f"
ESCAPE = 0x1B
WELL = "0n"  # how a terminal that is well answers `ASK`
ASK = "\x1b[5n"
STRINGS = {ord(c): "string" for c in "_P]^X"}  # after ESC: what follows is a text, to ESC \\ or BEL
ESCAPE_NS = 50_000_000  # a sequence's bytes come together; an ESC older than this was the ESC key


ASK_NS = 1_000_000_000  # how often a terminal that has once answered is asked whether it is well
DEAD_NS = 3_000_000_000  # an answer that takes longer: nobody sees its screen; chosen: a line that only stutters is back by then
LOST_NS = 20_000_000_000  # one that takes so long does not come any more; chosen: no line that is only slow is so slow
LAST_NS = 500_000_000  # the longest that is waited for one when the terminal is given back
SAID, BELL = 64, 0x07  # letters of a sequence that are looked at
PASTE_NS = 200_000_000  # what comes so soon after a burst is the rest of it: a paste is read in pieces; chosen
STRING_NS = 500_000_000  # a text comes only in answer to us, and over a slow line in pieces, none of which may be a key


class Terminal:
    """The terminal of file descriptor `fd`, key by key. A context: the old settings return on any exit, a kill -9 too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved: list[Any] = termios.tcgetattr(fd)
        self._tidy: Tidy | None = None

    def __enter__(self) -> Terminal:
        with contextlib.suppress(OSError):  # no process to spare: a kill -9 leaves the terminal as it is
            self._tidy = Tidy(self.fd, self._saved)
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        if self._tidy is not None:
            self._tidy.leave()

    def take(self, drop: bool = True) -> None:
        """No line editing, no echo; Ctrl-S freezes nothing, Ctrl-C is a key. `drop`: what was typed ahead is lost."""
        mode = [*self._saved[:6], list(self._saved[6])]
        mode[0] &= ~(termios.IXON | termios.IXOFF)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        off = os.fpathconf(self.fd, "PC_VDISABLE").to_bytes(1, "big")
        for index, value in (
            (termios.VINTR, off),
            (termios.VQUIT, off),
            (termios.VMIN, 1),
            (termios.VTIME, 0),
        ):
            mode[6][index] = value
        termios.tcsetattr(self.fd, termios.TCSAFLUSH if drop else termios.TCSANOW, mode)

    def give_back(self) -> None:
        """The settings found at the start; a terminal that is gone has none to restore."""
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self.fd, termios.TCSANOW, self._saved)

    def say(self, text: str) -> None:
        """To the terminal itself; one that takes nothing now is not waited for."""
        if select.select([], [self.fd], [], 0.0)[1]:
            with contextlib.suppress(OSError):
                os.write(self.fd, text.encode())

    def put(self, data: bytes) -> None:
        """All of it, however long the terminal takes; one that is gone takes none."""
        left = memoryview(data)
        with contextlib.suppress(OSError):
            while left:
                left = left[os.write(self.fd, left) :]

    def read(self, timeout_s: float) -> bytes:
        """What was typed, at once, or b"" after `timeout_s`. EOFError: the terminal is gone."""
        if not select.select([self.fd], [], [], max(0.0, timeout_s))[0]:
            return b""
        try:
            data = os.read(self.fd, 1024)
        except OSError:
            data = b""
        if not data:
            raise EOFError("the terminal is gone")
        return data


class KeyParser:
    """Bytes of a terminal into keys: `feed` gives those that count. `refused` counts bursts."""

    def __init__(self) -> None:
        self._escape = ""  # "", "escape", "csi" or "ss3": inside which sequence
        self._escape_at = 0
        self._said = ""  # of the sequence so far
        self._char = b""  # in UTF-8, as far as it has come
        self._begun = False  # the rest of it has not come yet
        self._places = 0  # of a mouse's report of the old form so many characters less one are to come, which say where it is
        self._nothing = False  # something was pressed that means nothing
        self._burst_at = -PASTE_NS
        self.refused = 0
        self.answered = False  # the terminal, to `ASK`, since whoever reads this has set it back
        self.awaited = False  # that it does: what begins as its answer may come in pieces
        self.kitty = False  # it knows kitty's graphics
        self.attributes = ""  # its device attributes, as `?62;4c`

    def feed(self, data: bytes, now: int, typing: bool = False) -> list[str]:
        """Keys in `data`, read at `now` (ns). Stop keys always count; of different keys no other does, but in `typing`.

        NO_KEY, where nothing else was pressed than what means nothing."""
        slow = self._escape in ("string", "csi", "ss3") or self.awaited
        self._nothing = False
        if self._escape and now - self._escape_at > (STRING_NS if slow else ESCAPE_NS):
            self._nothing = self._escape == "escape"
            self._escape = ""
        if now - self._escape_at > ESCAPE_NS:
            self._nothing = self._nothing or self._begun
            self._begun, self._places = False, 0
        keys = [key for byte in data if (key := self._step(byte, now))]
        stops = [key for key in keys if key in STOP_KEYS]
        others = [key for key in keys if key not in STOP_KEYS]
        burst = len(set(others)) > 1
        note = others[: others.index(ENTER) + 1 if ENTER in others else None] if typing else []
        others = others[len(note) :]  # a text of several lines: no letter of the next one is a key
        burst = burst or bool(stops and others)  # which of them was last is lost: it would act behind the stop
        if others and (burst or now - self._burst_at < PASTE_NS):
            self.refused += 1
            others = []
        if burst:  # a key that is held down does not prolong it
            self._burst_at = now
        untold = self._nothing and now - self._burst_at >= PASTE_NS  # that a burst is refused is said already
        return stops[:1] + note + others or [NO_KEY] * untold

    def _step(self, byte: int, now: int) -> str:
        if (wide := self._wide(byte)) or chr(byte) in STOP_KEYS:
            self._escape, self._begun = "", False
            return " " if wide else chr(byte)
        state, self._escape_at = self._escape, now
        if byte == ESCAPE:
            self.kitty = self.kitty or (state == "string" and self._said.startswith("G") and self._said.endswith(";OK"))
            self._escape = "escape"
        elif state == "escape":  # Alt-x ends here; [ and O open longer sequences
            self._escape, self._said = {ord("["): "csi", ord("O"): "ss3", **STRINGS}.get(byte, ""), ""
            self._nothing = self._nothing or not (self._escape or byte == ord("\\"))  # that ends a text
        elif state == "string":
            self._said, self._escape = (self._said + chr(byte))[:SAID], "" if byte == BELL else "string"
        elif state == "csi" and byte == ord("[") and not self._said:  # F1 to F5 of Linux' own console: one more letter
            self._escape = "ss3"
        elif state == "csi":
            self._escape = "" if 0x40 <= byte <= 0x7E else "csi"
            self._said = (self._said + chr(byte))[-SAID:]
            return "" if self._escape else self._end(self._said)
        elif state == "ss3":  # digits and ; say Shift or Ctrl, as in Konsole's ESC O 2 R; what comes then ends it
            self._escape = "ss3" if 0x30 <= byte <= 0x3F else ""
            self._nothing = self._nothing or not self._escape
        elif 0x20 < byte < 0x7F:
            return chr(byte)
        elif byte in (0x0A, 0x0D, 0x08, 0x7F):
            return ENTER if byte in (0x0A, 0x0D) else BACKSPACE
        else:
            self._begun = len(self._char) < length(self._char[0])
            self._nothing = self._nothing or not self._begun
        return ""

    def _wide(self, byte: int) -> bool:
        """`byte` ends a SPACE that is not ASCII's, in pieces or not, in whatever sequence."""
        goes_on = 0x80 <= byte < 0xC0
        self._char = (self._char * goes_on + bytes([byte]))[-4:]
        self._places = max(0, self._places - (not goes_on))
        return self._char in SPACES and not self._places

    def _end(self, said: str) -> str:
        """A sequence of ESC [ has ended, and `said` all this: the stop key that it stands for, if it does."""
        self.answered = self.answered or said == WELL
        if said[0] == "?" and said[-1] == "c":
            self.attributes = said
        if said == "M":
            self._places = 1 + 3
        key = coded(said)
        self._nothing = self._nothing or not (key or said[0] in "?<=>" or said[-1] in OWN)
        return key


def length(first: int) -> int:
    """Of a character in UTF-8, bytes; 1 of what begins none."""
    return 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1


def coded(said: str) -> str:
    """The stop key that ESC [ `said` stands for, empty for none: `32;2u`, as kitty has it too, and xterm's `27;2;32~`."""
    parts = [part.partition(":")[0] for part in said[:-1].split(";")]
    if said[-1] == "~" and parts[0] == "27" and len(parts) == 3:
        parts = parts[:0:-1]
    elif said[-1] != "u":
        return ""
    code, held = (int(part) if part.isdecimal() else 0 for part in (*parts, "")[:2])
    if code in SPACE_CODES:
        return " " if code else ""
    return CTRL_CODES.get(code, "") if max(0, held - 1) & CTRL else ""


class Line:
    """Whether a terminal still answers, and soon: one whose line died without a word takes what is drawn for a minute or more.

    One question at a time is open: were there more, the answer to an old one would make a screen that comes late a seen one.
    `took`: how long the newest answer was under way, ns. One that never answers, as some cannot, is not asked again, nor dead.
    """

    def __init__(self, terminal: Terminal, parser: KeyParser, now: int) -> None:
        self.took: int | None = None
        self._terminal, self._parser = terminal, parser
        self._asked, self._open = now, True  # when it was asked last, and is that not answered
        self._ask(now)

    def tend(self, now: int) -> None:
        """Take its answer, and ask again."""
        self._hear(now)
        past = now - self._asked
        if self.took is None:
            self._parser.awaited = self._parser.awaited and past < DEAD_NS
        elif past >= (LOST_NS if self._open else ASK_NS):
            self.again(now) if self._open else self._ask(now)

    def again(self, now: int) -> None:
        """An answer under way is lost, as where the terminal was somebody else's for a while."""
        if self.took is not None and self._open:
            self.took = now - self._asked
        self._ask(now)

    def last(self, clock: Clock) -> list[str]:
        """Before the terminal is given back: wait a little for the answer under way, which a shell would take for typing. The
        keys that come meanwhile."""
        until = clock.now() + (LAST_NS if self.took is None else min(2 * self.took, LAST_NS))
        keys: list[str] = []
        while self._parser.awaited and (left := until - clock.now()) > 0:
            keys += self._parser.feed(self._terminal.read(left * 1e-9), clock.now())
            self._hear(clock.now())
        return keys

    def dead(self, now: int) -> bool:
        """Nobody sees what is drawn now, or only long after."""
        return self.took is not None and max(self.took, now - self._asked if self._open else 0) > DEAD_NS

    def _hear(self, now: int) -> None:
        if self._parser.answered and self._open:
            self.took, self._open = now - self._asked, False
            self._parser.awaited = False
        self._parser.answered = False

    def _ask(self, now: int) -> None:
        self._asked, self._open = now, True
        self._parser.answered, self._parser.awaited = False, True
        self._terminal.say(ASK)
