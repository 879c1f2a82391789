"""What a replay's directory holds: files, their kinds and shapes, and the header that tells them. No transition is touched here.

    header.json                            sizes and capacity; with cameras, schema 2 and their names and shapes
    observation.f32 ... next_frame.i64     a row a transition, `crc.u32` over it
    image_NAME.u8 ... frame_crc.u32        a row a frame: what all cameras saw at one moment, stored once
    count.i64, durable.i64                 how many rows there are, and survive a power cut

A frame is the next one of a transition and that of the transition after it: rows name frames, and no image is there twice.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint
from robotrl.rundir import write_json

DTYPES = {"f32": "<f4", "u8": "u1", "i64": "<i8", "u32": "<u4"}
COPY = "restore the directory from a copy"
LARGEST = 4 << 20  # bytes of a frame: as much as a record of the log can hold
Cameras = tuple[tuple[str, int, int, int], ...]  # name, height, width, channels of each; their images are uint8
Files = dict[str, tuple[str, tuple[int, ...]]]  # name -> kind, shape


class ReplayError(Complaint):
    """What is wrong, in which directory, and what to do; one line."""


class NoRoom(ReplayError):
    """The disk is full: nothing was added, and the same may be tried again when there is room."""


@dataclass(frozen=True)
class Sizes:
    """What a replay is made for."""

    observation_size: int
    action_size: int
    capacity: int
    cameras: Cameras = ()

    @property
    def frames(self) -> int:
        """Frames there is room for: two a transition when no two of them follow each other. The files are sparse."""
        return 2 * self.capacity if self.cameras else 0

    @property
    def frame_bytes(self) -> int:
        return sum(math.prod(shape) for _, *shape in self.cameras)

    def rows(self) -> Files:
        """Columns of transitions, in the order in which a row's check sum runs over them."""
        n = (self.capacity,)
        whole = ("episode", "step", "tick", "policy_version", *(("frame", "next_frame") if self.cameras else ()))
        return {
            "observation": ("f32", (self.capacity, self.observation_size)),
            "action": ("f32", (self.capacity, self.action_size)),
            "reward": ("f32", n),
            "next_observation": ("f32", (self.capacity, self.observation_size)),
            **{name: ("u8", n) for name in ("terminated", "truncated")},
            **{name: ("i64", n) for name in whole},
            "crc": ("u32", n),
        }

    def images(self) -> Files:
        """Columns of frames, in the order in which a frame's check sum runs over them."""
        if not self.cameras:
            return {}
        columns: Files = {f"image_{name}": ("u8", (self.frames, *shape)) for name, *shape in self.cameras}
        return columns | {"frame_crc": ("u32", (self.frames,))}

    def files(self) -> Files:
        """All of them."""
        return self.rows() | self.images() | {"count": ("i64", (1,)), "durable": ("i64", (1,))}

    def header(self) -> dict[str, Any]:
        sizes = {k: getattr(self, k) for k in ("observation_size", "action_size", "capacity")}
        return {"schema": 2, **sizes, "cameras": [list(c) for c in self.cameras]} if self.cameras else {"schema": 1, **sizes}

    @classmethod
    def of(cls, header: object) -> Sizes | None:
        """From `header`; None when it is none that we know."""
        if not isinstance(header, dict) or header.get("schema") not in (1, 2):
            return None
        cameras = header.get("cameras", [])
        try:
            sizes = (header["observation_size"], header["action_size"], header["capacity"])
            found = cls(*sizes, tuple((name, h, w, c) for name, h, w, c in cameras))
            return found if found.sound() and found.header() == header and type(header["schema"]) is int else None
        except (KeyError, TypeError, ValueError):
            return None

    def sound(self) -> bool:
        """True when such a replay can be."""
        numbers = [self.observation_size, self.action_size, self.capacity, *(k for _, *shape in self.cameras for k in shape)]
        names = [name for name, *_ in self.cameras]
        named = all(isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) for name in names)
        whole = all(type(k) is int and k > 0 for k in numbers) and all(len(c) == 4 for c in self.cameras)
        return whole and named and len(set(names)) == len(names) and self.frame_bytes <= LARGEST


def make(path: Path, sizes: Sizes) -> None:
    """The files of an empty replay. ReplayError when `path` already holds one or cannot be written."""
    if not sizes.sound():
        raise ReplayError(f"{path}: no replay is of {sizes.header()}; sizes are at least 1, a frame at most {LARGEST} bytes")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if (path / "header.json").exists():
            raise ReplayError(f"{path}: already holds a replay; open it, or choose another run directory")
        for name, (kind, shape) in sizes.files().items():
            with (path / f"{name}.{kind}").open("wb") as file:
                file.truncate(math.prod(shape) * np.dtype(DTYPES[kind]).itemsize)
                if name in ("count", "durable"):  # no hole: on a full disk the first number into it would be a SIGBUS
                    file.write(bytes(8))
        write_json(path / "header.json", sizes.header())  # it comes last: with it the directory is a replay
        directory = os.open(path, os.O_RDONLY)
        os.fsync(directory)  # of files whose names are lost no row is durable
        os.close(directory)
    except OSError as error:
        raise ReplayError(f"{path}: not made: {error.strerror}; check disk and permissions") from None


def mapped(file: Path, kind: str, shape: tuple[int, ...], write: bool) -> NDArray[Any]:
    """A column; ReplayError when its file is not of that size, or cannot be read."""
    need = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
    try:
        size = file.stat().st_size
        if size != need:
            raise ReplayError(f"{file}: {size} bytes, the header says {need}; {COPY}")
        with file.open("r+b" if write else "rb") as opened:
            column = mmap.mmap(opened.fileno(), need, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
    except OSError as error:
        raise ReplayError(f"{file}: {error.strerror}; {COPY}") from None
    return np.frombuffer(column, DTYPES[kind]).reshape(shape)  # no np.memmap: indexing one costs microseconds


def claim(columns: dict[int, NDArray[Any]], first: int, end: int) -> None:
    """The disk space of rows `first` to `end` of each column, by its file's descriptor, where its file system can claim any."""
    for fd, column in columns.items():
        try:
            os.posix_fallocate(fd, first * column[0].nbytes, (end - first) * column[0].nbytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def read_header(path: Path) -> Sizes:
    """The sizes of the replay in `path`; ReplayError when there is none, or one of a newer robotrl."""
    try:
        header = json.loads((path / "header.json").read_text())
    except FileNotFoundError:
        raise ReplayError(f"{path}: holds no replay (no header.json); name a run that has recorded") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReplayError(f"{path}/header.json: unreadable: {error}; {COPY}") from None
    if isinstance(header, dict) and type(version := header.get("schema")) is int and version > 2:
        raise ReplayError(f"{path}/header.json: a replay of schema {version}, of a newer robotrl; use that version")
    if (sizes := Sizes.of(header)) is None:
        raise ReplayError(f"{path}/header.json: no replay of schema 1 or 2: {header}; {COPY}")
    return sizes


def order(episode: NDArray[np.int64], step: NDArray[np.int64], ended: NDArray[np.bool_]) -> dict[str, int]:
    """Episodes, those without an end, steps missing before the last of their episode, second copies."""
    by = np.lexsort((step, episode))
    episode, step, ended = episode[by], step[by], ended[by]
    starts = np.append(True, np.diff(episode) != 0)[: len(episode)]
    last = np.append(starts[1:], True)[: len(episode)]
    double = np.append(False, (np.diff(step) == 0) & ~starts[1:])[: len(episode)]
    gaps = int((step[last] + 1).sum()) - int((~double).sum())
    found = {"episodes": int(starts.sum()), "unfinished": int((~ended[last]).sum())}
    return found | {"gaps": gaps, "doubles": int(double.sum())}
