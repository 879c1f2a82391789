"""The cameras' pictures on the operator's terminal: off until its key is pressed, and then as the terminal can show them.

A screen that is drawn late is an operator who does not see (`nodes/console.py`), so no picture is shown over a line that takes
long to answer; and the screen's own lines stay where they are: a picture has the room of the tables between them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.text import Text

from robotrl.bus import Subscriber
from robotrl.messages import Picture
from robotrl.nodes.keys import KeyParser, Terminal
from robotrl.nodes.terminalpicture import CELL, GONE, QUERY, Pixels, Way, fitted, half_blocks, kitty, sixel, way_of
from robotrl.nodes.view import SECOND, View, clean, span
from robotrl.remote import RemoteSubscriber

SLOW_NS = SECOND // 10  # a terminal that took so long to answer is at the end of a slow line; chosen
ANSWER_NS = SECOND // 2  # for it to say what it can show
EVERY_NS = SECOND // 4  # between two pictures
TOP = 5  # the screen's first line of the room between its fixed ones, from 1
MOST = (100, 40)  # cells: no picture is larger; chosen


class Gallery:
    """Of one terminal. `looking`: which camera's picture is shown, -1: none."""

    def __init__(self, terminal: Terminal, subscribe: Callable[[], Subscriber | RemoteSubscriber]) -> None:
        """`subscribe` is called when somebody looks, and what it gives is closed when he no longer does."""
        self.looking = -1
        self.way: Way | None = None
        self._terminal, self._subscribe = terminal, subscribe
        self._stream: Subscriber | RemoteSubscriber | None = None
        self._pictures: dict[str, Picture] = {}
        self._asked = self._due = 0
        self._shown: tuple[object, ...] = ()
        self._rows: list[Text] = []
        self._image: Pixels | None = None
        self._box = (1, 1)

    def key(self, view: View, now: int) -> str:
        """The key was pressed: the next camera's picture, or none any more. What is said of it."""
        view.last_human, view.leave_asked = now, None
        if view.answered is None or view.answered > SLOW_NS:
            late = "does not answer" if view.answered is None else f"answers in {span(view.answered)}"
            return f"no pictures over a slow line: the terminal {late}; robotrl view shows them"
        if self._stream is None:
            self._stream = self._subscribe()
            if self.way is None:
                self._asked = now
                self._terminal.say(QUERY)
        self.looking = self.looking + 1 if self.looking + 1 < max(1, len(self._pictures)) else -1
        if self.looking < 0:
            self._stream.close()  # a robot elsewhere is asked for no more of them
            self._stream, self._pictures = None, {}
            if self.way == "kitty":
                self._write(GONE)
        view.middle = self.draw if self.looking >= 0 else None
        self._shown = ()
        return "the picture of the next camera" if self.looking >= 0 else "no picture"

    def listen(self, parser: KeyParser, now: int) -> None:
        """Take what cameras and terminal have said."""
        if self._stream is None:
            return
        for message in self._stream.drain():
            if isinstance(message, Picture):
                self._pictures[message.camera] = message
        if self.way is None and (parser.attributes or now - self._asked > ANSWER_NS):
            self.way = way_of(parser.kitty, parser.attributes)

    def draw(self, now: int, width: int, rows: int) -> list[Text]:
        """So many lines for the screen: the picture in half-blocks, or room for it."""
        names = sorted(self._pictures)
        picture = self._pictures[names[self.looking]] if 0 <= self.looking < len(names) else None
        if picture is None or rows < 2:
            return [Text(f" no picture of a camera has come{'' if names else ' in this run'}"), *[Text("")] * (rows - 1)][:rows]
        key = (picture.camera, picture.count, width, rows, self.way)
        if self._shown[2:] != key[2:] or (self._shown != key and now >= self._due):
            self._due, self._shown = now + EVERY_NS, key
            self._made(picture, min(width, MOST[0]), min(rows - 1, MOST[1]))
        age = f" {clean(picture.camera)}, {span(max(0, now - picture.t))} old; v: the next, or none"
        body = self._rows if self.way == "blocks" else []
        return [Text(age, no_wrap=True, overflow="crop", end=""), *body, *[Text("")] * (rows - 1 - len(body))]

    def over(self) -> None:
        """The screen has been drawn: over it goes what is no text. Sixels are wiped out by text, and drawn again each time."""
        if self.looking < 0 or self._image is None or self.way not in ("kitty", "sixel") or not self._shown:
            return
        data = kitty(self._image, *self._box) if self.way == "kitty" else sixel(self._image)
        self._write(b"\x1b7" + f"\x1b[{TOP + 1};2H".encode() + data + b"\x1b8")
        if self.way == "kitty":
            self._image = None  # text leaves it where it is

    def _made(self, picture: Picture, columns: int, rows: int) -> None:
        """Decode it, as small as it is shown."""
        import cv2  # it has been imported when the console began: here that would keep the heartbeat waiting
        import numpy as np

        pixels = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
        self._rows, self._image = [], None
        if pixels is None:
            return
        self._box = columns, rows = fitted(pixels.shape[0], pixels.shape[1], columns, rows)
        size = (columns, 2 * rows) if self.way in (None, "blocks") else (columns * CELL[0] // 2, rows * CELL[1] // 2)
        small = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)
        if self.way == "blocks":
            self._rows = half_blocks(small)
        self._image = small

    def _write(self, data: bytes) -> None:
        """Behind all that the screen has said; as rich, it waits for a terminal that takes nothing."""
        sys.stdout.flush()
        self._terminal.put(data)
