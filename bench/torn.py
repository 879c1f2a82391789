"""Frames that `bus.py` sends, and whether a reader of the ring that does not look at the slot's number would have torn ones."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from robotrl.messages import Image
from robotrl.ring import Ring, RingReader

SHAPE = (480, 640, 3)
SOURCES = ("camera1", "camera2")
STEP = 4096  # bytes: one of so many is checked
KINDS = 7  # different frames, each of one value; no divisor of the slots, or a slot would always get the same


def frame(i: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full(SHAPE, i % KINDS, np.uint8)


def control(where: Path, looks: float = 5.0) -> dict[str, int]:
    """Torn frames that a reader finds who does not look, beside one who does; a writer that never waits, two slots."""
    words = [sys.executable, str(Path(__file__).with_name("bus.py")), "--end", "flood", "--where", str(where)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        boot = int(writer.stdout.readline())
        reader, found = RingReader(where, SOURCES[0]), {"looking": 0, "not_looking": 0, "whole": 0}
        reader.read(Image(source=SOURCES[0], boot=boot, camera="", count=1))
        until = time.monotonic() + looks
        while time.monotonic() < until:
            newest = max(reader._number(reader._layout.number(i)) for i in range(2)) // 2
            pixels = reader.read(Image(source=SOURCES[0], boot=boot, camera="", count=newest))
            if pixels is not None:
                found["whole"] += 1
                found["looking"] += len(np.unique(pixels.reshape(-1)[::STEP])) > 1
            blind = reader._layout.image(reader._mapped, newest % 2).copy()
            found["not_looking"] += len(np.unique(blind.reshape(-1)[::STEP])) > 1
        writer.kill()
    return found


def flood(where: Path) -> None:
    ring, kinds, i = Ring(where, SOURCES[0], 1, SHAPE, slots=2), [frame(i) for i in range(KINDS)], 0
    print(1, flush=True)
    while True:
        i += 1
        ring.write(kinds[i % KINDS])
