"""Kinematics of the arms: joints that turn one after another about axes parallel to the base's at q = 0.

Pivots and limits: hardware facts 3.1. Base frame: x forwards, y left, z up; m and rad. Standard library alone: the gate's driver
asks it once a cycle, where the floor is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float, float]
Axis = Literal[0, 1, 2]
X: Axis = 0
Y: Axis = 1
Z: Axis = 2


@dataclass(frozen=True)
class Pivot:
    """A joint: where its axis is at q = 0, which base axis it is along, and which way round it turns."""

    at: Point  # m
    axis: Axis
    sign: Literal[1, -1] = 1


@dataclass(frozen=True)
class SerialArm:
    """`pivots` in the order of the joints, from the base on; `tip` is carried by the last. Joints beyond them move no tip."""

    pivots: tuple[Pivot, ...]
    tip_at: Point  # m, at q = 0
    moving: int  # joints that place the tip; those behind them turn or open the gripper
    height: float  # m, of the base's origin over what the arm stands on

    def tip(self, q: Sequence[float]) -> Point:
        """Where the gripper's point is, m. q (n,) rad."""
        return self.points(q)[-1]

    def points(self, q: Sequence[float]) -> list[Point]:
        """Every pivot from the base on, and the tip; m. q (n,) rad, at least one value a pivot."""
        columns, origin, out = IDENTITY, (0.0, 0.0, 0.0), []
        for pivot, angle in zip(self.pivots, q[: len(self.pivots)], strict=True):
            at = _placed(columns, origin, pivot.at)
            columns = _turned(columns, pivot.axis, pivot.sign * angle)
            origin = _less(at, _placed(columns, (0.0, 0.0, 0.0), pivot.at))
            out.append(at)
        return [*out, _placed(columns, origin, self.tip_at)]

    def pose(self, q: Sequence[float]) -> tuple[tuple[Point, Point, Point], Point]:
        """The gripper's frame in the base's: x, y and z axes, parallel to the base's at q = 0, and its point, m. q (n,) rad."""
        columns = IDENTITY
        for pivot, angle in zip(self.pivots, q[: len(self.pivots)], strict=True):
            columns = _turned(columns, pivot.axis, pivot.sign * angle)
        return columns, self.tip(q)

    def jacobian(self, q: Sequence[float]) -> list[Point]:
        """How the tip moves with each joint that places it: a row (3,) m/rad a joint."""
        columns, origin, rows = IDENTITY, (0.0, 0.0, 0.0), []
        tip = self.tip(q)
        for pivot, angle in zip(self.pivots[: self.moving], q[: self.moving], strict=True):
            at = _placed(columns, origin, pivot.at)
            axis = columns[pivot.axis]
            arm = _less(tip, at)
            rows.append((
                pivot.sign * (axis[1] * arm[2] - axis[2] * arm[1]),
                pivot.sign * (axis[2] * arm[0] - axis[0] * arm[2]),
                pivot.sign * (axis[0] * arm[1] - axis[1] * arm[0]),
            ))  # fmt: skip
            columns = _turned(columns, pivot.axis, pivot.sign * angle)
            origin = _less(at, _placed(columns, (0.0, 0.0, 0.0), pivot.at))
        return rows


@dataclass(frozen=True)
class Box:
    """A workspace: where the points of an arm behind its second pivot may be. The base and the shoulder do not move."""

    arm: SerialArm
    low: Point  # m, base frame
    high: Point

    def outside(self, q: Sequence[float]) -> float:
        """How far the point that is farthest out of the box is out of it along one axis, m; 0.0 while none is."""
        out = 0.0
        for point in self.arm.points(q)[2:]:
            for value, low, high in zip(point, self.low, self.high, strict=True):
                out = max(out, low - value, value - high)
        return out


Columns = tuple[Point, Point, Point]
IDENTITY: Columns = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def _placed(columns: Columns, origin: Point, p: Point) -> Point:
    (a, b, c), (x, y, z) = columns, p
    return (
        origin[0] + a[0] * x + b[0] * y + c[0] * z,
        origin[1] + a[1] * x + b[1] * y + c[1] * z,
        origin[2] + a[2] * x + b[2] * y + c[2] * z,
    )


def _less(a: Point, b: Point) -> Point:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _turned(columns: Columns, axis: int, angle: float) -> Columns:
    """The columns of R times a turn about one of the base's axes: two of them mix."""
    c, s = math.cos(angle), math.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    u, v = columns[i], columns[j]
    out = list(columns)
    out[i] = (c * u[0] + s * v[0], c * u[1] + s * v[1], c * u[2] + s * v[2])
    out[j] = (c * v[0] - s * u[0], c * v[1] - s * u[1], c * v[2] - s * u[2])
    return (out[0], out[1], out[2])


SO101 = SerialArm(
    (
        Pivot((0.0388, 0.0, 0.0624), Z, -1),
        Pivot((0.0692, -0.018, 0.1166), Y),
        Pivot((0.0972, -0.018, 0.2292), Y),
        Pivot((0.2321, -0.018, 0.2344), Y),
        Pivot((0.2932, 0.0, 0.2344), X, -1),
    ),
    tip_at=(0.3914, 0.0, 0.2265), moving=4, height=0.0,
)  # fmt: skip
OMX = SerialArm(
    (
        Pivot((0.012, 0.0, 0.017), Z),
        Pivot((0.012, 0.0, 0.0765), Y),
        Pivot((0.036, 0.0, 0.2045), Y),
        Pivot((0.160, 0.0, 0.2045), Y),
    ),
    tip_at=(0.286, 0.0, 0.2045), moving=4, height=0.017,
)  # fmt: skip
ARMS = {"so101": SO101, "omx": OMX}
