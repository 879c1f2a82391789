"""Dropout in the critics' hidden layers (Hiraoka et al. 2022, DroQ), with masks that every engine computes to the same bits.

A mask is a function of whole numbers alone: a key drawn for each update, the pass, the critic, the layer, the row and the unit,
mixed by the hash lowbias32 (Wellons, "Prospecting for hash functions", 2018). A unit is dropped when its 16 bits are below
the rate; one hash serves units 32 b + c (low half) and 32 b + c + 16 (high half), c < 16: so no vector lane is idle.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

TARGET, CRITIC, ACTOR = range(3)  # the passes through the critics in one update: the targets', J_Q's and J_pi's
STEPS = 65536  # a rate is a whole number of such parts of one
Words = NDArray[np.uint32]
GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: what is counted up lies far apart


def parts(rate: float) -> int:
    """The rate in 65536ths, rounded down; rate in [0, 1)."""
    return int(rate * STEPS)


def mix(x: Words) -> Words:
    """lowbias32: a bijection of 32 bits of which every output bit depends on every input bit."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def masks(
    rate: float, key: int, stage: int, critics: Iterable[int], rows: int, hidden: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    """For each hidden layer what its outputs are multiplied by: (critics, rows, width), 0 or 1 / (1 - rate).

    Empty for a rate of 0. `stage`: TARGET, CRITIC or ACTOR.
    """
    if not rate:
        return []
    kept = STEPS / (STEPS - parts(rate))
    out = []
    for layer, width in enumerate(hidden):
        numbers = [(key + GOLDEN * (stage << 24 | int(critic) << 8 | layer)) % (1 << 32) for critic in critics]
        streams = mix(np.array(numbers, np.uint32))[:, None, None]
        counts: list[Words] = [np.arange(n, dtype=np.uint32) for n in (rows, (width + 31) // 32 * 16)]
        bits = mix(mix(streams + counts[0][:, None]) + counts[1]).reshape(len(numbers), rows, -1, 16)
        halves = np.concatenate([bits & np.uint32(0xFFFF), bits >> np.uint32(16)], -1).reshape(len(numbers), rows, -1)
        out.append((halves[:, :, :width] >= parts(rate)).astype(np.float32) * np.float32(kept))
    return out
