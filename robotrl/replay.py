"""The replay on disk: one writer, any number of readers in other processes, a row a transition.

A replay is a directory of raw little-endian columns (`robotrl/replayfiles.py`), each mapped into memory. `count.i64` is written
after a row's columns: on processors that keep the order of stores (x86) a reader sees finished rows only; on others (ARM) no
fence holds the count back, and the newest row could be seen unfinished for an instant. A killed writer loses nothing it had
added. `durable.i64` is written by `flush` once the columns are on the disk: so many rows survive a power cut.
`crc.u32` tells a whole row from a torn one. No row is ever overwritten, and equal inputs give equal bytes.

    replay = Replay.create(run_dir / "replay", 112, 8, capacity=1_000_000)
    replay.add(s, a, r, s_next, terminated=False, truncated=False, episode=0, step=0, tick=0, policy_version=0)
    batch = Replay.open(run_dir / "replay").rows(indices)

With cameras each transition has a frame, what all of them saw at its observation, and a next frame. Where the next transition
goes on from this one, this next frame is its frame, stored once. A row names both of its frames: there is no rule by which
whoever samples could pair frames of two episodes.

    replay = Replay.create(path, 112, 8, 1_000_000, cameras=(("wrist", 84, 84, 3), ("front", 84, 84, 3)))
    replay.add(..., images=first, next_images=second)     bytes, camera after camera
    replay.add(..., next_images=third)                    one that goes on: its frame is there
    replay.images(indices, indices).next_observation["wrist"]
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.frames import Frames, Images
from robotrl.replayfiles import COPY, Cameras, NoRoom, ReplayError, Sizes, claim, make, mapped, order, read_header
from robotrl.rundir import FULL

__all__ = ["Batch", "Cameras", "Images", "Replay", "ReplayError"]
RESERVE = 512  # rows whose disk space is claimed at a time: a full disk must be an error, not a SIGBUS
RESERVE_FRAMES = 64  # the same of frames, which are larger


class Batch(NamedTuple):
    """Transitions, one row each."""

    observation: NDArray[np.float32]  # (n, observation_size)
    action: NDArray[np.float32]  # (n, action_size), what was really applied, in [-1, 1]
    reward: NDArray[np.float32]  # (n,)
    terminated: NDArray[np.uint8]  # (n,) the future ended: no bootstrap
    truncated: NDArray[np.uint8]  # (n,) only the recording ended: bootstrap
    next_observation: NDArray[np.float32]  # (n, observation_size), of the same episode
    steps: NDArray[np.int64]  # (n,) control steps from observation to next_observation: 1 as recorded


class Replay:
    """A directory of transitions, from `create` or `open`; `columns[name][:count]` are the arrays."""

    def __init__(self, path: Path, sizes: Sizes, write: bool) -> None:
        """Maps the columns of an existing directory; `create` and `open` are the ways in."""
        self.path, self.writable = path, write
        self.observation_size, self.action_size = sizes.observation_size, sizes.action_size
        self.capacity, self.cameras, self.frame_bytes = sizes.capacity, sizes.cameras, sizes.frame_bytes
        self._files: dict[str, int] = {}  # the writer's descriptors: its lock, and to claim disk space
        self._reserved = self._reserved_frames = 0  # whose disk space is claimed
        self._failed = False  # the disk has refused to keep something
        self._paths = {name: path / f"{name}.{kind}" for name, (kind, _) in sizes.files().items()}
        self.columns = {name: mapped(self._paths[name], kind, shape, write) for name, (kind, shape) in sizes.files().items()}
        self._count, self._durable = self.columns.pop("count"), self.columns.pop("durable")
        self.frames = Frames(sizes.cameras, {name: self.columns.pop(name) for name in sizes.images()})
        if not 0 <= self.durable <= self.count <= self.capacity:
            counts = f"durable {self.durable}, count {self.count}, capacity {self.capacity}"
            raise ReplayError(f"{path}: counts do not fit ({counts}); {COPY}")
        fields = [(name, c.dtype, c.shape[1:]) for name, c in self.columns.items() if name != "crc"]
        self._record = np.dtype(fields)  # packed: its bytes are what a row's check sum is over
        row = np.zeros(1, self._record)
        self._bytes = memoryview(row.view(np.uint8))  # type: ignore[arg-type]
        self._fields = {name: row[name] for name, _, _ in fields}
        reals = 2 * self.observation_size + self.action_size + 1  # the first four columns
        self._reals = row.view(np.uint8)[: 4 * reals].view(np.float32)
        if write:
            self._begin_writing()

    @classmethod
    def create(cls, path: Path, observation_size: int, action_size: int, capacity: int, cameras: Cameras = ()) -> Replay:
        """A new, empty replay, open for writing. Its files are sparse: disk space goes with the rows in them.

        ReplayError when `path` already holds one or cannot be written.
        """
        sizes = Sizes(observation_size, action_size, capacity, cameras)
        make(path, sizes)
        return cls(path, sizes, write=True)

    @classmethod
    def open(cls, path: Path, write: bool = False, sizes: tuple[int, int] | None = None) -> Replay:
        """An existing replay, to read or to go on writing; `sizes` (observation, action) if known.

        Writing again first claims the room of the counts (NoRoom on a full disk). Then it verifies every row, and the frames of
        those that no `flush` had promised: torn ones are dropped, with all after the first of them. ReplayError for anything
        missing, misfitting, damaged, or held by a writer.
        """
        found = read_header(path)
        have = (found.observation_size, found.action_size)
        if sizes not in (None, have):
            raise ReplayError(f"{path}: (observation, action) is {have}, not {sizes}; use its own run file")
        return cls(path, found, write)

    @property
    def count(self) -> int:
        """Finished rows, as of now."""
        return int(self._count[0])

    @property
    def durable(self) -> int:
        """Rows that survive a power cut: those of the last `flush`."""
        return int(self._durable[0])

    @property
    def frame_count(self) -> int:
        """Frames that the rows name, as of now."""
        return int(self.columns["next_frame"][self.count - 1]) + 1 if self.cameras and self.count else 0

    def goes_on(self, episode: int, step: int, tick: int) -> bool:
        """True when a transition of these numbers goes on from the last row: its observation is that one's next observation."""
        i = self.count - 1
        if i < 0 or self.columns["terminated"][i] or self.columns["truncated"][i]:
            return False
        last = (self.columns["episode"][i], self.columns["step"][i] + 1, self.columns["tick"][i] + 1)
        return last == (episode, step, tick)

    def add(
        self, observation: NDArray[Any], action: NDArray[Any], reward: float, next_observation: NDArray[Any], *,
        terminated: bool, truncated: bool, episode: int, step: int, tick: int, policy_version: int,
        images: bytes = b"", next_images: bytes = b"",
    ) -> int:  # fmt: skip
        """Append a transition; `step` counts from 0 in each `episode`. Returns its row number.

        With cameras: a frame each, all cameras' images one after the other; `images` may be left out where the transition
        `goes_on`. ReplayError, and nothing added, for a wrong shape, a value that is not finite, a full replay or disk (NoRoom).
        """
        i, to = self.count, self._fields
        to["reward"][0], to["terminated"][0], to["truncated"][0] = reward, terminated, truncated
        to["episode"][0], to["step"][0], to["tick"][0] = episode, step, tick
        to["policy_version"][0] = policy_version
        arrays = {"observation": observation, "action": action, "next_observation": next_observation}
        for name, value in arrays.items():
            if value.shape != to[name].shape[1:]:
                raise ReplayError(f"{self.path}: {name} must be {to[name].shape[1:]}, is {value.shape}; not added")
            to[name][0] = value
        if not np.isfinite(self._reals).all():
            odd = [name for name, field in to.items() if not np.isfinite(field).all()]
            raise ReplayError(f"{self.path}: {odd[0]} of episode {episode} step {step} is not finite; not added")
        if i >= self._reserved:
            self._reserve(i)
        if self.cameras or images or next_images:
            to["frame"][0], to["next_frame"][0] = self._add_frames(images, next_images, self.goes_on(episode, step, tick))
        for name, field in to.items():
            self.columns[name][i] = field[0]
        self.columns["crc"][i] = zlib.crc32(self._bytes)
        self._count[0] = i + 1  # last: now the row exists
        return i

    def _add_frames(self, images: bytes, next_images: bytes, goes_on: bool) -> tuple[int, int]:
        """Numbers of the frame and the next one, which are new but for the frame of a transition that goes on."""
        if len(next_images) != self.frame_bytes or len(images) not in (0, self.frame_bytes):
            sizes = f"{len(images)} and {len(next_images)} bytes"
            raise ReplayError(f"{self.path}: a frame has {self.frame_bytes} bytes, not {sizes}; not added")
        if not images and not goes_on:
            raise ReplayError(f"{self.path}: no row is there that this one goes on from, and it has no images; not added")
        new = self.frame_count
        if new + 1 >= self._reserved_frames:
            end = min(new + RESERVE_FRAMES, 2 * self.capacity)
            self._reserved_frames = self._claimed(self.frames.columns, new, end)
        for number, frame in enumerate([images, next_images] if images else [next_images], new):
            self.frames.write(number, frame)
        return (new, new + 1) if images else (new - 1, new)

    def flush(self) -> None:
        """Returns once every row added so far is on the disk; `durable` then counts them.

        Another thread may go on adding meanwhile: fdatasync, unlike mmap's flush, lets it run. ReplayError from a disk that
        fails; nothing is promised after that, for of what it lost the next call would not know.
        """
        if self._failed:
            return
        count = self.count
        try:
            for fd in (fd for name, fd in self._files.items() if name != "durable"):
                os.fdatasync(fd)
            self._durable[0] = count
            os.fdatasync(self._files["durable"])
        except OSError as error:
            self._failed = True
            raise ReplayError(f"{self.path}: rows after {self.durable} may be lost: {error.strerror}; see the disk") from None

    def cut(self, count: int) -> None:
        """Drop all rows but the first `count`: a run goes on from a checkpoint made then. ReplayError when there are fewer."""
        if not self._files or not 0 <= count <= self.count:
            raise ReplayError(f"{self.path}: no {count} of {self.count} rows to keep; {COPY}")
        self._durable[0] = min(count, self.durable)
        self._count[0] = count

    def close(self) -> None:
        """Flush, if writing, and let the next writer in; `add` raises ReplayError from now on."""
        if self._files:
            self.flush()
        self._release()

    def sample(self, rng: np.random.Generator, batch: int, count: int) -> NDArray[np.int64]:
        """`batch` row numbers, uniform and independent over the first `count` rows: (batch,) int64."""
        if not 1 <= count <= self.count:
            raise ReplayError(f"{self.path}: no first {count} of {self.count} rows; collect some first")
        return rng.integers(0, count, size=batch, dtype=np.int64)

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        """A copy of the transitions at `indices` (n,), in that order. IndexError outside 0..count-1."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.count:
            raise IndexError(f"{self.path}: rows {indices.min()}..{indices.max()}, has {self.count}")
        columns = (self.columns[name].take(indices, axis=0) for name in Batch._fields[:-1])
        return Batch._make([*columns, np.ones(len(indices), np.int64)])

    def images(self, first: NDArray[np.int64], last: NDArray[np.int64] | None = None, out: Images | None = None) -> Images:
        """Copies of the frames of the rows `first` and of the next frames of the rows `last`, (n,) each, in that order.

        For more steps at a time `last` are those with which they end; None: `first`, single transitions. `out`, from an
        earlier call for as many, is written over. IndexError outside 0..count-1.
        """
        last = first if last is None else last
        for rows in (first, last):
            if len(rows) and not 0 <= rows.min() <= rows.max() < self.count:
                raise IndexError(f"{self.path}: rows {rows.min()}..{rows.max()}, has {self.count}")
        out = out or Images({}, {})
        self.frames.take(self.columns["frame"].take(first), out.observation)
        self.frames.take(self.columns["next_frame"].take(last), out.next_observation)
        return out

    def check(self) -> dict[str, int]:
        """Counts, and faults, zero in a whole replay: gaps, doubles, both_ends, non_finite, damaged.

        `unfinished` episodes have no last row: the one now running, or one that was cut off by a stop.
        """
        n = self.count
        finite = np.ones(n, bool)
        for name in ("observation", "action", "reward", "next_observation"):
            finite &= np.isfinite(self.columns[name][:n].reshape(n, -1 if n else 1)).all(axis=1)
        terminated, truncated = self.columns["terminated"][:n] != 0, self.columns["truncated"][:n] != 0
        return {
            "transitions": n,
            "durable": self.durable,
            **order(self.columns["episode"][:n], self.columns["step"][:n], terminated | truncated),
            "both_ends": int((terminated & truncated).sum()),
            "non_finite": int((~finite).sum()),
            "damaged": len(self._damaged(n, 0)),
        }

    def _begin_writing(self) -> None:
        """Keep other writers out, then drop what an earlier one left torn."""
        self._files |= {name: os.open(path, os.O_RDWR | os.O_CLOEXEC) for name, path in self._paths.items()}
        try:
            fcntl.flock(self._files["count"], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise ReplayError(f"{self.path}: another process is writing it; stop that one first") from None
        try:  # of a replay that an older robotrl has made they may be holes: on a full disk a number into one would be a SIGBUS
            self._claimed({"count": self._count, "durable": self._durable}, 0, 1)
        except ReplayError:
            self._release()
            raise
        damaged = self._damaged(self.count, self.durable)
        if damaged and damaged[0] < self.durable:
            self._release()
            raise ReplayError(f"{self.path}: row {damaged[0]} is damaged; {COPY}")
        if damaged:
            self._count[0] = damaged[0]

    def _release(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
        self._reserved = self._reserved_frames = 0

    def _reserve(self, i: int) -> None:
        """Claim the disk space of the rows from `i` on, RESERVE of them."""
        if not self._files:
            raise ReplayError(f"{self.path}: not open for writing; open it with write=True")
        if i >= self.capacity:
            raise ReplayError(f"{self.path}: full at {i} transitions; set a larger agent.capacity next time")
        self._reserved = self._claimed(self.columns, i, min(i + RESERVE, self.capacity))

    def _claimed(self, columns: dict[str, NDArray[Any]], first: int, end: int) -> int:
        try:
            claim({self._files[name]: column for name, column in columns.items()}, first, end)
        except OSError as error:
            kind = NoRoom if error.errno in FULL else ReplayError
            raise kind(f"{self.path}: {error.strerror}; free some space, resume") from None
        return end

    def _damaged(self, end: int, framed: int) -> list[int]:
        """Those of the first `end` rows whose check sum is not the stored one; from `framed` on, those with a torn frame too."""
        found = []
        for at in range(0, end, 4096):
            some = np.zeros(min(4096, end - at), self._record)
            for name in self._fields:
                some[name] = self.columns[name][at : at + len(some)]
            stored = self.columns["crc"][at : at + len(some)].tolist()
            found += [at + k for k, crc in enumerate(stored) if zlib.crc32(some[k].tobytes()) != crc]
        if self.cameras:
            named = zip(*(self.columns[name][framed:end].tolist() for name in ("frame", "next_frame")), strict=True)
            found = sorted({*found, *self.frames.torn((row, [*both]) for row, both in enumerate(named, framed))})
        return found
