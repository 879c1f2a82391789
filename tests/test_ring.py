"""The ring: a reader has a frame that was written as one, or none; whatever the writer does meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robotrl import ring as rings
from robotrl.messages import Image
from robotrl.ring import Ring, RingError, RingReader

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (48, 64, 3)


def plain(i: int) -> np.ndarray:
    return np.full(SHAPE, i % 251, np.uint8)


def told(count: int, boot: int = 7) -> Image:
    return Image(source="camera1", boot=boot, camera="front", count=count)


@pytest.fixture
def pair(tmp_path):
    ring, reader = Ring(tmp_path, "camera1", 7, SHAPE, depth=True, slots=4), RingReader(tmp_path, "camera1")
    yield ring, reader
    reader.close()
    ring.close()


def test_what_was_written_is_read_until_its_slot_is_needed(pair):
    ring, reader = pair
    for i in range(1, 20):
        assert ring.write(plain(i), np.full(SHAPE[:2], 1000 + i, np.uint16)) == i
        for j in range(1, i + 1):
            image, depth = reader.read(told(j)), reader.read_depth(told(j))
            if j > i - 4:
                assert np.array_equal(image, plain(j)) and np.all(depth == 1000 + j)
            else:
                assert image is None and depth is None
    assert reader.read(told(20)) is None and reader.read(told(0)) is None


def test_into_a_readers_own_array(pair):
    ring, reader = pair
    ring.write(plain(5))
    into = np.zeros(SHAPE, np.uint8)
    assert reader.read(told(1), into) is into and np.array_equal(into, plain(5))


def test_a_frame_that_is_looked_at_in_place_holds_until_its_slot_is_needed(pair):
    ring, reader = pair
    ring.write(plain(1))
    seen = reader.look(told(1))
    assert np.array_equal(seen, plain(1)) and reader.still(told(1))
    with pytest.raises(ValueError, match="read-only"):
        seen[0, 0, 0] = 1
    for i in range(2, 5):
        ring.write(plain(i))
        assert reader.still(told(1))
    ring.write(plain(5))
    assert np.array_equal(seen, plain(5)) and not reader.still(told(1)) and reader.look(told(1)) is None


class Overtaken(np.ndarray):
    """An array in the middle of whose copying something happens: half of it is taken before, half after."""

    def __setitem__(self, key, value):
        half = len(value) // 2
        np.ndarray.__setitem__(self, slice(0, half), value[:half])
        self.between()
        np.ndarray.__setitem__(self, slice(half, None), value[half:])


@pytest.mark.parametrize("frames", range(6))
def test_a_frame_that_is_overtaken_while_it_is_copied_is_none(pair, frames):
    """Four slots: with four frames more, the slot that is being read is another's. Without the second look: a mixture."""
    ring, reader = pair
    ring.write(plain(1))
    into = np.zeros(SHAPE, np.uint8).view(Overtaken)
    into.between = lambda: [ring.write(plain(100 + i)) for i in range(frames)]
    got = reader.read(told(1), into)
    assert (got is None) is (frames >= 4)
    assert (np.unique(np.asarray(into)).size == 1) is (frames < 4), "the control: it would have been a mixture"
    assert reader.late == (frames >= 4)


def test_a_slot_that_is_being_written_is_not_read(pair, monkeypatch):
    ring, reader = pair
    for i in range(1, 5):
        ring.write(plain(i))
    found = []
    slot = ring._images[1].view(Overtaken)
    slot.between = lambda: found.extend([reader.read(told(1)), reader.read(told(5))])
    ring._images[1] = slot
    ring.write(plain(5))
    assert found == [None, None] and np.array_equal(reader.read(told(5)), plain(5))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from robotrl.ring import Ring
ring = Ring(Path(sys.argv[1]), "camera1", 7, (480, 640, 3), slots=2)
print("there", flush=True)
while True:
    for i in range(251):
        ring.write(np.full((480, 640, 3), i, np.uint8))
"""


def torn(reader: RingReader, frames: int) -> tuple[int, int]:
    """(whole, torn) of so many frames, read as fast as they can be while they are written as fast as they can be."""
    whole = mixed = 0
    end = time.monotonic() + 60
    while whole + mixed < frames and time.monotonic() < end:
        newest = max(reader._number(reader._layout.number(i)) for i in range(2)) // 2 if reader._memory else 1
        image = reader.read(told(newest))
        if image is not None:
            same = image.min() == image.max()
            whole, mixed = whole + same, mixed + (not same)
    return whole, mixed


def test_a_writer_that_never_waits_tears_no_frame_and_would_without_the_seqlock(tmp_path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline()
        reader = RingReader(tmp_path, "camera1")
        while reader.read(told(1)) is None and not reader._memory:
            pass
        assert torn(reader, 50) == (50, 0)
        monkeypatch.setattr(RingReader, "_copied", lambda self, count, i, held, into: held.copy())  # nobody looks
        end = time.monotonic() + 60
        while torn(reader, 20)[1] == 0:
            assert time.monotonic() < end, "the check could not fail"
    finally:
        process.kill()
        process.communicate()
    reader.close()


def test_a_new_life_of_the_writer_is_read_when_it_is_heard_of(tmp_path):
    first, reader = Ring(tmp_path, "camera1", 7, SHAPE), RingReader(tmp_path, "camera1")
    first.write(plain(1))
    assert reader.read(told(1)) is not None
    second = Ring(tmp_path, "camera1", 8, (10, 12, 3))
    second.write(np.full((10, 12, 3), 9, np.uint8))
    assert reader.read(told(1, boot=8)).shape == (10, 12, 3)
    assert reader.read(told(1, boot=7)) is None, "that one is no longer at its place"
    first.close()
    assert os.path.lexists(tmp_path / "ring.camera1"), "its successor's link is not the first one's to remove"
    second.close()
    assert not os.listdir(tmp_path)
    assert reader.read(told(1, boot=8)) is None


def test_what_is_no_ring_is_not_read(tmp_path):
    reader = RingReader(tmp_path, "camera1")
    assert reader.read(told(1)) is None
    for data in (b"", b"x" * 100, b"rtrlring" + bytes(5000)):
        (tmp_path / "ring.camera1").write_bytes(data)
        assert reader.read(told(1)) is None


def test_nobody_can_cut_the_memory_off_and_too_little_is_said(tmp_path, monkeypatch):
    ring = Ring(tmp_path, "camera1", 7, SHAPE)
    with open(tmp_path / "ring.camera1", "r+b") as file, pytest.raises(PermissionError):
        file.truncate(0)
    ring.close()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rings.os, "posix_fallocate", full)
    with pytest.raises(RingError, match="camera1: no 0 MiB of memory"):
        Ring(tmp_path, "camera1", 7, SHAPE)
