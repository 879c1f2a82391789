"""A replay whose rewards are those that the operator's labels make of them: what an agent learns from.

    rows = Labelled(Replay.open(run_dir / "replay"), run_dir / LABELS)
    rows.refresh()                          takes what has been said since
    rows.rows(rows.sample(rng, 256, rows.count))

RUN_DIR/labels.jsonl is an index over the log as the replay is: one accepted label a line, appended by who writes the log, made
anew from it when that begins. A label that comes, or is taken back, changes rows from the next sample on; updates that were done
stay done.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robotrl.labels import Given, Rewards, derive, standing
from robotrl.messages import Label
from robotrl.replay import Batch, Images, Replay, ReplayError

LABELS = "labels.jsonl"  # in a run directory
DERIVED = ("reward", "terminated", "truncated")


class Line(msgspec.Struct, frozen=True, gc=False):
    """A label as the file has it."""

    order: int
    label: Label


class LabelFile:
    """The lines of a labels.jsonl as they come; `again` when the file was made anew since."""

    def __init__(self, path: Path) -> None:
        self.path, self._at, self._inode, self.count = path, 0, 0, 0

    def poll(self, most: int | None = None) -> tuple[list[Given], bool]:
        """What has been added since the last call, `most` lines in all, and whether what was read before counts no more.

        ReplayError for a line that is none.
        """
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return [], False
        except OSError as error:
            raise ReplayError(f"{self.path}: {error.strerror}; see whose the file is") from None
        with file:
            found = os.fstat(file.fileno())
            inode = found.st_size and found.st_ino  # of an empty one nothing was read
            again = bool(self._inode) and inode != self._inode
            self._at, self.count, self._inode = (0, 0, inode) if again or not self._inode else (self._at, self.count, inode)
            file.seek(self._at)
            lines = file.read().split(b"\n")[:-1]  # what has no end yet is being written
        lines = lines if most is None else lines[: max(0, most - self.count)]
        self._at += sum(len(line) + 1 for line in lines)
        self.count += len(lines)
        try:
            return [Given(found.order, found.label) for found in map(_DECODE, lines)], again
        except (ValueError, RecursionError) as error:  # besides msgspec's own: text that is no UTF-8
            raise ReplayError(f"{self.path}: no list of labels: {error}; make it anew: robotrl replay rebuild RUN_DIR") from None


_DECODE = msgspec.json.Decoder(Line).decode


def line(given: Given) -> bytes:
    return msgspec.json.encode(Line(given.order, given.label)) + b"\n"


class Labelled:
    """A `Replay`, to read, with derived rewards and ends. `changed`: rows that labels changed after they could be drawn."""

    def __init__(self, replay: Replay, file: Path) -> None:
        self.replay, self.path, self.capacity = replay, replay.path, replay.capacity
        self.cameras = replay.cameras
        self.columns: dict[str, NDArray[Any]] = dict(replay.columns)
        for name in DERIVED:  # an agent's engine keeps their addresses
            self.columns[name] = np.zeros(replay.capacity, replay.columns[name].dtype)
        self.out = np.zeros(replay.capacity, np.bool_)
        self._any_out = False
        self._file, self._filled = LabelFile(file), 0
        self._given: list[Given] = []
        self._undos: list[Given] = []
        self._of: defaultdict[int, list[Given]] = defaultdict(list)  # by episode
        self.changed = 0

    @property
    def count(self) -> int:
        return self.replay.count

    @property
    def labels(self) -> int:
        """Taken so far."""
        return len(self._given)

    def refresh(self, count: int | None = None, labels: int | None = None) -> int:
        """Take what came: the first `count` rows, all by default, and the first `labels` lines. How many old rows changed."""
        came, again = self._file.poll(labels)
        before = self._filled
        if again:
            touched = set(self._of)
            self._given, self._undos, self._of = [], [], defaultdict(list)
        else:
            touched = set()
        self._fill(self.count if count is None else max(count, before))
        self._given += came
        for given in came:
            if given.label.kind != "undo":
                self._of[given.label.episode].append(given)
                touched.add(given.label.episode)
            else:
                self._undos.append(given)
                touched |= self._undone_by(given.label)
        new = self.replay.columns["episode"][before : self._filled]
        touched |= self._of.keys() & {int(e) for e in (np.unique(new) if self._of else ())}
        changed = sum(self._derive(episode, before) for episode in touched if episode >= 0)
        self.changed += changed
        return changed

    def _undone_by(self, undo: Label) -> set[int]:
        giver, first, last = undo.undoes
        return {g.label.episode for g in self._given if g.label.giver == giver and first <= g.label.number <= last}

    def _fill(self, count: int) -> None:
        """Rows as they were recorded."""
        new = slice(self._filled, count)
        for name in DERIVED:
            self.columns[name][new] = self.replay.columns[name][new]
        self._filled = max(self._filled, count)

    def _derive(self, episode: int, before: int) -> int:
        """The rewards of an episode's rows anew; how many of those below `before` changed by it."""
        first, end = np.searchsorted(self.replay.columns["episode"][: self._filled], (episode, episode + 1)).tolist()
        rows, columns = slice(first, end), self.replay.columns
        reward, terminated, truncated = (columns[name][rows] for name in DERIVED)
        base = Rewards(reward, terminated, truncated, np.zeros(end - first, np.bool_))
        found = derive(columns["step"][rows], base, standing([*self._of[episode], *self._undos]))
        was = (*[self.columns[name][rows] for name in DERIVED], self.out[rows])
        differ = np.logical_or.reduce([a != b for a, b in zip(was, found, strict=True)])
        for name, value in zip(DERIVED, found, strict=False):
            self.columns[name][rows] = value
        self.out[rows] = found.out
        self._any_out = self._any_out or bool(found.out.any())
        return int(differ[: max(0, before - first)].sum())

    def sample(self, rng: np.random.Generator, batch: int, count: int) -> NDArray[np.int64]:
        """As `Replay.sample`, less the rows that count for nothing: these are drawn again."""
        if count > self._filled:
            self.refresh(count, len(self._given))
        drawn = self.replay.sample(rng, batch, count)
        if self._any_out:
            for _ in range(1000):  # by then at least one of a thousand rows counts, or none does
                if not (bad := self.out.take(drawn)).any():
                    return drawn
                drawn[bad] = self.replay.sample(rng, int(bad.sum()), count)
            raise ReplayError(f"{self.path}: hardly any row counts; see what was labelled: robotrl relabel RUN_DIR")
        return drawn

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        """As `Replay.rows`."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(f"{self.path}: rows {indices.min()}..{indices.max()}, has {self.count}")
        if len(indices) and indices.max() >= self._filled:
            self.refresh(int(indices.max()) + 1, len(self._given))
        columns = (self.columns[name].take(indices, axis=0) for name in Batch._fields[:-1])
        return Batch._make([*columns, np.ones(len(indices), np.int64)])

    def images(self, first: NDArray[np.int64], last: NDArray[np.int64] | None = None, out: Images | None = None) -> Images:
        """As `Replay.images`."""
        return self.replay.images(first, last, out)

    def close(self) -> None:
        self.replay.close()


def open_labelled(directory: Path) -> Labelled:
    """The replay of a run directory, to read, with what has been said of it. ReplayError as `Replay.open`."""
    rows = Labelled(Replay.open(directory / "replay"), directory / LABELS)
    rows.refresh()
    return rows


def write_all(path: Path, given: Iterable[Given]) -> None:
    """The file anew, whole or not at all; who reads it notices."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(b"".join(map(line, given)))
    aside.replace(path)
