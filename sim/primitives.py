"""Robots made of boxes: a URDF written from a table of pivots, masses and boxes, all given in the base's frame at q = 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    centre: Point  # m, base frame at q = 0
    size: Point  # m


@dataclass(frozen=True)
class Part:
    """A link and the joint that carries it. Its first box has its mass; the others are for collisions alone."""

    name: str
    parent: str
    mass: float  # kg
    boxes: tuple[Box, ...]
    pivot: Point = (0.0, 0.0, 0.0)  # m, base frame at q = 0
    axis: Point = (0.0, 0.0, 0.0)  # along x, y or z, either way; none: the base
    limits: tuple[float, float] = (0.0, 0.0)  # rad; m for a slide
    rotor: float = 0.0  # kg m2 that the gears add about the axis
    bulk: float = 0.0  # as much of it as is put into the body, about all axes
    slides: bool = False
    tip: Point | None = field(default=None)  # a point of it to look at, base frame at q = 0


def urdf(name: str, parts: Iterable[Part]) -> str:
    """All frames are parallel to the base's at q = 0, so that only offsets are written."""
    rows, pivots = [f'<robot name="{name}">'], {}
    for part in parts:
        pivots[part.name] = part.pivot
        rows += _link(part)
        if part.parent:
            rows += _joint(part, pivots[part.parent])
    return "\n".join([*rows, "</robot>"])


def box_inertia(part: Part) -> list[float]:
    """About x, y, z through the middle of the part's first box, kg m2; without the rotor."""
    size = part.boxes[0].size
    return [part.mass * (size[(k + 1) % 3] ** 2 + size[(k + 2) % 3] ** 2) / 12 for k in range(3)]


def _link(part: Part) -> list[str]:
    main = part.boxes[0]
    inertia = box_inertia(part)
    out = [
        f'<link name="{part.name}">',
        f'<inertial><origin xyz="{_row(_less(main.centre, part.pivot))}"/><mass value="{part.mass!r}"/>',
        f'<inertia ixx="{inertia[0]!r}" iyy="{inertia[1]!r}" izz="{inertia[2]!r}" ixy="0" ixz="0" iyz="0"/></inertial>',
    ]
    for box in part.boxes:
        shape = f'<origin xyz="{_row(_less(box.centre, part.pivot))}"/><geometry><box size="{_row(box.size)}"/></geometry>'
        out += [f"<visual>{shape}</visual>", f"<collision>{shape}</collision>"]
    return [*out, "</link>"]


def _joint(part: Part, parent: Point) -> list[str]:
    low, high = part.limits
    kind = "prismatic" if part.slides else "revolute"
    return [
        f'<joint name="{part.name}" type="{kind}"><parent link="{part.parent}"/><child link="{part.name}"/>',
        f'<origin xyz="{_row(_less(part.pivot, parent))}"/><axis xyz="{_row(part.axis)}"/>',
        f'<limit lower="{low!r}" upper="{high!r}" effort="1000" velocity="100"/></joint>',
    ]


def _less(a: Point, b: Point) -> Point:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def _row(point: Point) -> str:
    return " ".join(repr(float(x)) for x in point)
