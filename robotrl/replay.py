"""The replay on disk: one writer, any number of readers in other processes, a row a transition.

A replay is a directory of raw little-endian columns (`observation.f32`, `episode.i64`, ...), each mapped into
memory, with `header.json` for the sizes. `count.i64` is written after a row's columns: on processors that keep
the order of stores (x86) a reader sees finished rows only; on others (ARM) no fence holds the count back, and
the newest row could be seen unfinished for an instant. A killed writer loses nothing it had added.
`durable.i64` is written by `flush` once the columns are on the disk: so many rows survive a power cut.
`crc.u32` tells a whole row from a torn one. No row is ever overwritten, and equal inputs give equal bytes.

    replay = Replay.create(run_dir / "replay", 112, 8, capacity=1_000_000)
    replay.add(s, a, r, s_next, terminated=False, truncated=False, episode=0, step=0, tick=0, policy_version=0)
    batch = Replay.open(run_dir / "replay").rows(indices)
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint
from robotrl.rundir import write_json

SCHEMA = 1
RESERVE = 512  # rows whose disk space is claimed at a time: a full disk must be an error, not a SIGBUS
DTYPES = {"f32": "<f4", "u8": "u1", "i64": "<i8", "u32": "<u4"}
COPY = "restore the directory from a copy"


class ReplayError(Complaint):
    """What is wrong, in which directory, and what to do; one line."""


class Batch(NamedTuple):
    """Transitions, one row each."""

    observation: NDArray[np.float32]  # (n, observation_size)
    action: NDArray[np.float32]  # (n, action_size), what was really applied, in [-1, 1]
    reward: NDArray[np.float32]  # (n,)
    terminated: NDArray[np.uint8]  # (n,) the future ended: no bootstrap
    truncated: NDArray[np.uint8]  # (n,) only the recording ended: bootstrap
    next_observation: NDArray[np.float32]  # (n, observation_size), of the same episode
    steps: NDArray[np.int64]  # (n,) control steps from observation to next_observation: 1 as recorded


def layout(observation_size: int, action_size: int, capacity: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (kind, shape) of every file, in the order in which a row's check sum runs over its columns."""
    n = (capacity,)
    return {
        "observation": ("f32", (capacity, observation_size)),
        "action": ("f32", (capacity, action_size)),
        "reward": ("f32", n),
        "next_observation": ("f32", (capacity, observation_size)),
        **{name: ("u8", n) for name in ("terminated", "truncated")},
        **{name: ("i64", n) for name in ("episode", "step", "tick", "policy_version")},
        "crc": ("u32", n),
        "count": ("i64", (1,)),
        "durable": ("i64", (1,)),
    }


class Replay:
    """A directory of transitions, from `create` or `open`; `columns[name][:count]` are the arrays."""

    def __init__(self, path: Path, header: dict[str, int], write: bool) -> None:
        """Maps the columns of an existing directory; `create` and `open` are the ways in."""
        self.path, self.writable = path, write
        self.observation_size, self.action_size = header["observation_size"], header["action_size"]
        self.capacity = header["capacity"]
        self._maps: dict[str, np.memmap[Any, Any]] = {}
        self._files: dict[str, int] = {}  # the writer's descriptors: its lock, and to claim disk space
        self._reserved = 0  # rows whose disk space is claimed
        self._failed = False  # the disk has refused to keep something
        files = layout(self.observation_size, self.action_size, self.capacity)
        self.columns = {name: self._map(name, kind, shape) for name, (kind, shape) in files.items()}
        self._count, self._durable = self.columns.pop("count"), self.columns.pop("durable")
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
    def create(cls, path: Path, observation_size: int, action_size: int, capacity: int) -> Replay:
        """A new, empty replay, open for writing. Its files are sparse: disk space goes with the rows in them.

        ReplayError when `path` already holds one or cannot be written.
        """
        sizes = {"observation_size": observation_size, "action_size": action_size, "capacity": capacity}
        header = {"schema": SCHEMA} | sizes
        if min(header.values()) < 1:
            raise ReplayError(f"{path}: sizes must be at least 1, are {header}; correct the run file")
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / "header.json").exists():
                raise ReplayError(f"{path}: already holds a replay; open it, or choose another run directory")
            for name, (kind, shape) in layout(observation_size, action_size, capacity).items():
                with (path / f"{name}.{kind}").open("wb") as file:
                    file.truncate(math.prod(shape) * np.dtype(DTYPES[kind]).itemsize)
            write_json(path / "header.json", header)  # it comes last: with it the directory is a replay
            directory = os.open(path, os.O_RDONLY)
            os.fsync(directory)  # of files whose names are lost no row is durable
            os.close(directory)
        except OSError as error:
            raise ReplayError(f"{path}: not made: {error.strerror}; check disk and permissions") from None
        return cls(path, header, write=True)

    @classmethod
    def open(cls, path: Path, write: bool = False, sizes: tuple[int, int] | None = None) -> Replay:
        """An existing replay, to read or to go on writing; `sizes` (observation, action) if known.

        Writing again first verifies every row: torn ones that no `flush` had promised are dropped, with all
        after the first of them. ReplayError for anything missing, misfitting, damaged, or held by a writer.
        """
        header = _read_header(path)
        have = (header["observation_size"], header["action_size"])
        if sizes not in (None, have):
            raise ReplayError(f"{path}: (observation, action) is {have}, not {sizes}; use its own run file")
        return cls(path, header, write)

    @property
    def count(self) -> int:
        """Finished rows, as of now."""
        return int(self._count[0])

    @property
    def durable(self) -> int:
        """Rows that survive a power cut: those of the last `flush`."""
        return int(self._durable[0])

    def add(
        self, observation: NDArray[Any], action: NDArray[Any], reward: float, next_observation: NDArray[Any], *,
        terminated: bool, truncated: bool, episode: int, step: int, tick: int, policy_version: int,
    ) -> int:  # fmt: skip
        """Append a transition; `step` counts from 0 in each `episode`. Returns its row number.

        ReplayError, and nothing added, for a wrong shape, a value that is not finite, a full replay or disk.
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
        for name, field in to.items():
            self.columns[name][i] = field[0]
        self.columns["crc"][i] = zlib.crc32(self._bytes)
        self._count[0] = i + 1  # last: now the row exists
        return i

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
            **_order(self.columns["episode"][:n], self.columns["step"][:n], terminated | truncated),
            "both_ends": int((terminated & truncated).sum()),
            "non_finite": int((~finite).sum()),
            "damaged": len(self._damaged(n)),
        }

    def _map(self, name: str, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        file = self.path / f"{name}.{kind}"
        need = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
        try:
            size = file.stat().st_size
            if size != need:
                raise ReplayError(f"{file}: {size} bytes, the header says {need}; {COPY}")
            self._maps[name] = np.memmap(file, DTYPES[kind], "r+" if self.writable else "r", shape=shape)
        except OSError as error:
            raise ReplayError(f"{file}: {error.strerror}; {COPY}") from None
        return np.asarray(self._maps[name])  # a plain view: indexing a memmap costs microseconds

    def _begin_writing(self) -> None:
        """Keep other writers out, then drop what an earlier one left torn."""
        for name, column in self._maps.items():
            self._files[name] = os.open(str(column.filename), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._files["count"], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise ReplayError(f"{self.path}: another process is writing it; stop that one first") from None
        damaged = self._damaged(self.count)
        if damaged and damaged[0] < self.durable:
            self._release()
            raise ReplayError(f"{self.path}: row {damaged[0]} is damaged; {COPY}")
        if damaged:
            self._count[0] = damaged[0]

    def _release(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
        self._reserved = 0

    def _reserve(self, i: int) -> None:
        """Claim the disk space of the rows from `i` on, RESERVE of them."""
        if not self._files:
            raise ReplayError(f"{self.path}: not open for writing; open it with write=True")
        if i >= self.capacity:
            raise ReplayError(f"{self.path}: full at {i} transitions; set a larger agent.capacity next time")
        end = min(i + RESERVE, self.capacity)
        try:
            for name, column in self.columns.items():
                os.posix_fallocate(self._files[name], i * column[0].nbytes, (end - i) * column[0].nbytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot claim space
                raise ReplayError(f"{self.path}: {error.strerror}; free some space, resume") from None
        self._reserved = end

    def _damaged(self, end: int) -> list[int]:
        """Those of the first `end` rows whose check sum is not the stored one."""
        found = []
        for at in range(0, end, 4096):
            some = np.zeros(min(4096, end - at), self._record)
            for name in self._fields:
                some[name] = self.columns[name][at : at + len(some)]
            stored = self.columns["crc"][at : at + len(some)].tolist()
            found += [at + k for k, crc in enumerate(stored) if zlib.crc32(some[k].tobytes()) != crc]
        return found


def _read_header(path: Path) -> dict[str, int]:
    try:
        header = json.loads((path / "header.json").read_text())
    except FileNotFoundError:
        raise ReplayError(f"{path}: holds no replay (no header.json); name a run that has recorded") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReplayError(f"{path}/header.json: unreadable: {error}; {COPY}") from None
    keys = {"schema", "observation_size", "action_size", "capacity"}
    whole = isinstance(header, dict) and header.keys() == keys and header["schema"] == SCHEMA
    if not whole or any(type(size) is not int or size < 1 for size in header.values()):
        raise ReplayError(f"{path}/header.json: no replay of schema {SCHEMA}: {header}; {COPY}")
    return header


def _order(episode: NDArray[np.int64], step: NDArray[np.int64], ended: NDArray[np.bool_]) -> dict[str, int]:
    """Episodes, those without an end, steps missing before the last of their episode, second copies."""
    order = np.lexsort((step, episode))
    episode, step, ended = episode[order], step[order], ended[order]
    starts = np.append(True, np.diff(episode) != 0)[: len(episode)]
    last = np.append(starts[1:], True)[: len(episode)]
    double = np.append(False, (np.diff(step) == 0) & ~starts[1:])[: len(episode)]
    gaps = int((step[last] + 1).sum()) - int((~double).sum())
    found = {"episodes": int(starts.sum()), "unfinished": int((~ended[last]).sum())}
    return found | {"gaps": gaps, "doubles": int(double.sum())}
