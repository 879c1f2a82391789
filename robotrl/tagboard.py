"""The tags on a torso: a hip roof of five plates, its corners in the torso's frame, and what its two ends agree on.

One plane seen almost face on, or from far away, has two poses that fit it: the true one and its mirror image about the line of
sight. Plates that lean away from each other have one only, since no mirror keeps them all; a view in which one plate alone can be
read is from low down at a side, where the mirror image is a torso that lies on that side, and gravity tells the two apart.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robotrl.robot import CELLS as CELLS
from robotrl.robot import Roof as Roof

Array = NDArray[np.float64]
DICTIONARY = "DICT_4X4_50"  # ArUco's smallest: six cells a side are read from fewer pixels than an AprilTag's eight to ten


@dataclass(frozen=True)
class Plate:
    """A flat rectangle with tags. Vectors (3,) in the torso's frame, m: its middle, and unit vectors to the right and down."""

    centre: Array
    right: Array
    down: Array
    width: float
    height: float
    tags: tuple[tuple[int, float], ...]  # id, and its middle's distance to the right of the plate's

    @property
    def outwards(self) -> Array:
        """The unit normal towards who can read it."""
        return -np.cross(self.right, self.down)


@functools.cache
def plates(roof: Roof) -> tuple[Plate, ...]:
    """Top, left, right, front, rear."""
    pitch, at, up = roof.tag_m + 2 * roof.margin_m, np.array(roof.at), np.array((0.0, 0.0, 1.0))
    ids, half = roof.ids, pitch / 2
    top = ((ids[0], -half), (ids[1], half))
    out = [Plate(at, np.array((-1.0, 0.0, 0.0)), np.array((0.0, 1.0, 0.0)), 2 * pitch, pitch, top)]
    leans, falls = math.cos(roof.slope_rad), math.sin(roof.slope_rad)
    for outer, reach, width, tags in (
        ((0.0, 1.0, 0.0), half, 2 * pitch, ((ids[2], -half), (ids[3], half))),
        ((0.0, -1.0, 0.0), half, 2 * pitch, ((ids[4], -half), (ids[5], half))),
        ((1.0, 0.0, 0.0), pitch, pitch, ((ids[6], 0.0),)),
        ((-1.0, 0.0, 0.0), pitch, pitch, ((ids[7], 0.0),)),
    ):
        out_to = np.array(outer)
        centre = at + out_to * (reach + leans * half) - up * falls * half
        out.append(Plate(centre, np.cross(up, out_to), leans * out_to - falls * up, width, pitch, tags))
    return tuple(out)


@functools.cache
def corners(roof: Roof) -> dict[int, Array]:
    """Of each tag by id, (4, 3) m: as ArUco counts them, from the top left clockwise to who reads it."""
    half = roof.tag_m / 2
    out = {}
    for plate in plates(roof):
        for name, aside in plate.tags:
            middle = plate.centre + aside * plate.right
            out[name] = np.array(
                [middle + half * (sx * plate.right + sy * plate.down) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            )
    return out
