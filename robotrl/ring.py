"""Frames between the processes of one machine, without a copy on the bus: a ring in shared memory, one writer, any readers.

A slot is a seqlock: its number is odd while it is written and twice the frame's count when it is whole, and a reader that finds
the same even number before and after its copy has a frame that is one. The bus says which (`messages.Image`): by the time it is
heard, the frame is there. A reader that comes too late gets None, never a mixture.

The memory is a memfd: no file, gone with the last process that has it, whatever that died of. `ring.SOURCE` in the bus's
directory is a link to the writer's descriptor, for readers of the same user. Its size is sealed: nobody can cut it off under a
reader. Memory order: x86-64 keeps that of stores and of loads; on ARM nothing here enforces it but the hundreds of instructions
that Python executes between the number and the pixels, and the bus's system calls before a frame is first read.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint
from robotrl.messages import Image

MAGIC, VERSION = b"rtrlring", 1
HEAD = struct.Struct("<8sIIQIIII")  # magic, version, slots, boot, height, width, channels, with depth
PAGE = 4096
SLOTS = 8  # 133 ms at 60 Hz: what a reader may be late; chosen

Pixels = NDArray[np.uint8]
Depth = NDArray[np.uint16]
Kind = TypeVar("Kind", np.uint8, np.uint16)


class RingError(Complaint):
    """The ring cannot be made; one line."""


class _Layout:
    """Where things are: a page for the header, then slots, each a page with its number and then the pixels."""

    def __init__(self, slots: int, height: int, width: int, channels: int, depth: bool) -> None:
        self.slots, self.shape, self.depth = slots, (height, width, channels), depth
        self.pixels = height * width * channels
        self.range = -(-self.pixels // PAGE) * PAGE  # where the distances begin
        self.slot = PAGE + -(-(self.range + (2 * height * width if depth else 0)) // PAGE) * PAGE
        self.size = PAGE + slots * self.slot

    def number(self, i: int) -> int:
        """Of slot i, as an index of 8-byte words."""
        return (PAGE + i * self.slot) // 8

    def image(self, memory: mmap.mmap, i: int) -> Pixels:
        return np.frombuffer(memory, np.uint8, self.pixels, PAGE + i * self.slot + PAGE).reshape(self.shape)

    def distances(self, memory: mmap.mmap, i: int) -> Depth:
        at = PAGE + i * self.slot + PAGE + self.range
        height, width, _ = self.shape
        return np.frombuffer(memory, np.uint16, height * width, at).reshape(height, width)


class Ring:
    """The writer's end. `boot` is that of the bus: with it a reader knows this life of the writer from the last."""

    def __init__(
        self, directory: Path, source: str, boot: int, shape: tuple[int, int, int], depth: bool = False, slots: int = SLOTS
    ) -> None:
        """`shape`: (height, width, channels) of every frame. RingError where there is not that much memory."""
        self.shape, self.count = shape, 0
        self._layout = layout = _Layout(slots, *shape, depth)
        self._fd = os.memfd_create(f"robotrl-{source}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(self._fd, 0, layout.size)  # all of it now: a page that cannot be had later would be a crash
        except OSError as error:
            os.close(self._fd)
            raise RingError(f"{source}: no {layout.size >> 20} MiB of memory for its frames ({error.strerror})") from None
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(self._fd, layout.size)
        self._memory[: HEAD.size] = HEAD.pack(MAGIC, VERSION, slots, boot, *shape, depth)
        self._numbers = memoryview(self._memory).cast("Q")
        self._images = [layout.image(self._memory, i) for i in range(slots)]
        self._depths = [layout.distances(self._memory, i) for i in range(slots if depth else 0)]
        self._link = directory / f"ring.{source}"
        new = directory / f".ring.{source}.{os.getpid()}"
        new.unlink(missing_ok=True)
        new.symlink_to(f"/proc/{os.getpid()}/fd/{self._fd}")
        new.replace(self._link)

    def write(self, image: Pixels, depth: Depth | None = None) -> int:
        """A frame into the slot of the oldest; its count, from 1 on. The shapes are those of the ring."""
        assert image.shape == self.shape, (image.shape, self.shape)
        self.count += 1
        i = self.count % self._layout.slots
        at = self._layout.number(i)
        self._numbers[at] = 2 * self.count - 1
        self._images[i][:] = image
        if self._depths:
            self._depths[i][:] = 0 if depth is None else depth
        self._numbers[at] = 2 * self.count
        return self.count

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if os.readlink(self._link) == f"/proc/{os.getpid()}/fd/{self._fd}":
                self._link.unlink()
        self._images, self._depths = [], []
        self._numbers.release()
        self._memory.close()
        os.close(self._fd)


class RingReader:
    """The frames of one source, whatever becomes of its process: a new life of it has a new ring, which is opened when it is
    heard of. `late`: frames that were gone, or going, when they were asked for.
    """

    def __init__(self, directory: Path, source: str) -> None:
        self._link = directory / f"ring.{source}"
        self._memory: mmap.mmap | None = None
        self._numbers: memoryview | None = None
        self._layout = _Layout(0, 0, 0, 0, False)
        self._boot = -1
        self.late = 0

    def read(self, image: Image, into: Pixels | None = None) -> Pixels | None:
        """A copy of the pixels that this message tells of, (height, width, channels), in `into` if given; None: too late."""
        found = self._slot(image)
        return None if found is None else self._copied(image.count, found, self._layout.image(self._mapped, found), into)

    def read_depth(self, image: Image) -> Depth | None:
        """The distances of the same frame, (height, width), in the camera's unit; None: too late, or it has none."""
        found = self._slot(image)
        if found is None or not self._layout.depth:
            return None
        return self._copied(image.count, found, self._layout.distances(self._mapped, found), None)

    def look(self, image: Image) -> Pixels | None:
        """The pixels where they lie, read-only, for who needs them once and for less time than a camera takes to come round:
        what came of them holds only if `still` says so afterwards. None: too late.
        """
        found = self._slot(image)
        if found is None or self._number(self._layout.number(found)) != 2 * image.count:
            self.late += 1
            return None
        return self._layout.image(self._mapped, found)

    def still(self, image: Image) -> bool:
        """Whether that frame's pixels are still those that they were."""
        found = self._slot(image)
        there = found is not None and self._number(self._layout.number(found)) == 2 * image.count
        self.late += not there
        return there

    @property
    def _mapped(self) -> mmap.mmap:
        assert self._memory is not None
        return self._memory

    def _slot(self, image: Image) -> int | None:
        """The slot where this frame should be, if its ring can be had."""
        if image.count <= 0 or (image.boot != self._boot and not self._open(image.boot)):
            return None
        return image.count % self._layout.slots

    def _copied(self, count: int, i: int, held: NDArray[Kind], into: NDArray[Kind] | None) -> NDArray[Kind] | None:
        """A copy of what slot i holds, if it is that frame and no other, from the first byte to the last."""
        at = self._layout.number(i)
        if self._number(at) == 2 * count:
            copy = np.empty_like(held) if into is None else into
            copy[...] = held
            if self._number(at) == 2 * count:
                return copy
        self.late += 1
        return None

    def _number(self, at: int) -> int:
        assert self._numbers is not None
        return self._numbers[at]

    def _open(self, boot: int) -> bool:
        """Map the ring of that life of the source; false where there is none (any more), or it is no ring."""
        self.close()
        try:
            fd = os.open(self._link, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            memory = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return False
        finally:
            os.close(fd)
        magic, version, slots, theirs, *shape, depth = HEAD.unpack_from(memory)
        layout = _Layout(slots, shape[0], shape[1], shape[2], bool(depth))
        if (magic, version, theirs) != (MAGIC, VERSION, boot) or len(memory) != layout.size:
            memory.close()
            return False
        self._memory, self._layout, self._boot = memory, layout, boot
        self._numbers = memoryview(memory).cast("Q")
        return True

    def close(self) -> None:
        if self._memory is not None and self._numbers is not None:
            self._numbers.release()
            with contextlib.suppress(BufferError):  # somebody still looks at a frame: it goes with that
                self._memory.close()
        self._memory, self._boot = None, -1
