"""Which step each label is about: bound to it, waiting for it, or refused, and never moved to another.

The book is kept by who writes the log, and its accepted labels go into RUN_DIR/labels.jsonl, from which a learner takes them
(`robotrl/labelled.py`). Both can be made anew from the log at any time.
"""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from robotrl import labels
from robotrl.labelled import LABELS, line, write_all
from robotrl.labels import Given
from robotrl.logformat import Kind, Record
from robotrl.logread import read
from robotrl.messages import Label
from robotrl.replay import Replay, ReplayError
from robotrl.replayfiles import NoRoom
from robotrl.roles import LARGEST
from robotrl.rundir import FULL

LIVES = 10_000  # episodes whose policy's life is remembered
WAITING = 1_000  # labels that wait for their steps: of a key that is held, half a minute's; chosen
_DECODE = msgspec.msgpack.Decoder(Label).decode


class Place(msgspec.Struct, frozen=True, gc=False):
    """Of a transition no more than where it stands."""

    episode: int
    step: int


_PLACE = msgspec.msgpack.Decoder(Place).decode


def malformed(label: Label) -> str:
    """What keeps a label from being one at all; "" for nothing."""
    if label.kind not in labels.KINDS:
        return f"no label is called {label.kind[:20]!r}"
    if not abs(label.value) <= LARGEST:
        return "its value is no number that a reward may be"
    if label.kind in labels.BOUND and (label.episode < 0 or label.step < 0):
        return "it names no step"
    return "its first step is behind its last" if label.first > label.step else ""


class Book:
    """The labels of one replay, from the first; `accepted` are those that count, in the order in which they did."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.accepted: list[Given] = []
        self.refused: deque[str] = deque(maxlen=20)
        self.refusals = 0
        self._waiting: list[Given] = []
        self._bound: list[Given] = []  # since `settle` was called last
        self._lives: dict[int, int] = {}  # of the policy, by episode

    @property
    def counts(self) -> tuple[int, int, int]:
        """Bound, waiting, refused."""
        return len(self.accepted), len(self._waiting), self.refusals

    def lived(self, episode: int, life: int) -> None:
        """A transition of this episode was written by this life of the policy."""
        self._lives[episode] = life
        if len(self._lives) > LIVES:
            del self._lives[next(iter(self._lives))]

    def hear(self, given: Given, last: tuple[int, int] | None = None) -> None:
        """A label that is in the log; `settle` says what becomes of it. `last`: episode and step of the last row before it in the
        log, where that is not the replay's last.
        """
        if why := malformed(given.label):
            self._refuse(given, why)
            return
        self._waiting.append(given)
        if len(self._waiting) > WAITING:  # by the log's order alone: a book made anew from it is to refuse the same
            self._judge(last)
            while len(self._waiting) > WAITING:  # who has waited longest waits for what does not come
                self._refuse(self._waiting.pop(0), "its step has not come, and too many wait for theirs")

    def settle(self) -> list[Given]:
        """Those that are bound since the last call."""
        self._judge()
        bound, self._bound = self._bound, []
        return bound

    def _judge(self, last: tuple[int, int] | None = None) -> None:
        """Bind or refuse those whose step has come."""
        rest: list[Given] = []
        columns, count = self.replay.columns, self.replay.count
        if last is None:
            last = (int(columns["episode"][count - 1]), int(columns["step"][count - 1])) if count else (-1, -1)
        for given in self._waiting:
            verdict = self._judged(given.label, count, last)
            if verdict is None:
                rest.append(given)
            elif verdict:
                self._refuse(given, verdict)
            else:
                self._bound.append(given)
                self.accepted.append(given)
        self._waiting = rest

    def cut(self, episode: int, step: int) -> None:
        """The run went back to this row, the last that counts: what was said of later ones goes with them."""
        keep = lambda g: g.label.kind not in labels.BOUND or (g.label.episode, g.label.step) <= (episode, step)  # noqa: E731
        self.accepted, self._waiting = [g for g in self.accepted if keep(g)], [g for g in self._waiting if keep(g)]

    def _judged(self, label: Label, count: int, last: tuple[int, int]) -> str | None:
        """ "" for a label that is bound, None for one whose step may still come, or why it is refused. `last`: episode and step
        of the last of `count` rows."""
        if label.kind not in labels.BOUND:
            return ""
        columns = self.replay.columns
        life = self._lives.get(label.episode)
        if label.life and life is not None and label.life != life:
            return "it is about an episode that died with its policy"
        if (label.episode, label.step) > last:  # asked of all that wait in every cycle: two numbers, and no search
            return None
        first, end = np.searchsorted(columns["episode"][:count], (label.episode, label.episode + 1)).tolist()
        row = first + int(np.searchsorted(columns["step"][first:end], label.step))
        if row < end and columns["step"][row] == label.step:
            same = label.tick < 0 or columns["tick"][row] == label.tick
            return "" if same else "its step was another one"
        return "its step was never recorded"

    def _refuse(self, given: Given, why: str) -> None:
        self.refusals += 1
        self.refused.append(f"{labels.said(given.label)} is refused: {why}")


class BookFile:
    """A run's book with its file."""

    def __init__(self, directory: Path, replay: Replay, also: Callable[[Record], None] = lambda _: None) -> None:
        """Made anew from the log; `also` is shown its other records on the way. LogError as `logread.read`."""
        self.path, self.book = directory / LABELS, Book(replay)
        self._scan(directory / "log", also)
        write_all(self.path, self.book.accepted)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        self._unwritten = b""

    def _scan(self, log: Path, also: Callable[[Record], None]) -> None:
        """All labels of the log; none waits for a step that the log has."""
        episodes, steps = array("q"), array("q")
        for record in read(log, []):
            if record.kind is Kind.TRANSITION:
                t = _PLACE(record.payload)
                episodes.append(t.episode)
                steps.append(t.step)
                self.book.lived(t.episode, record.boot)
            elif record.kind is Kind.CUT and (kept := int(json.loads(record.payload)["transitions"])) < len(episodes):
                del episodes[kept:], steps[kept:]
                self.book.cut(*((episodes[-1], steps[-1]) if kept else (-1, -1)))
            elif record.kind is Kind.LABEL and (label := decoded(record.payload)) is not None:
                self.book.hear(Given(record.sequence, label), (episodes[-1], steps[-1]) if episodes else (-1, -1))
            else:
                also(record)
        self.book.settle()

    def hear(self, order: int, label: Label) -> None:
        self.book.hear(Given(order, label))

    def settle(self) -> list[Given]:
        """As `Book.settle`, and into the file. NoRoom on a full disk: what is bound stays so, and the next call goes on where the
        file ends, in the middle of a line too. ReplayError where the disk fails."""
        bound = self.book.settle()
        self._unwritten += b"".join(map(line, bound))
        try:
            while self._unwritten:  # a raw write may take a part
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            kind = NoRoom if error.errno in FULL else ReplayError
            raise kind(f"{self.path}: {error.strerror}; free some space, resume") from None
        return bound

    def close(self) -> None:
        self._file.close()


def decoded(payload: bytes) -> Label | None:
    """From a record's payload; None where it is no label that we know."""
    try:
        return _DECODE(payload)
    except msgspec.MsgspecError:
        return None
