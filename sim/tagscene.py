"""What a camera on a stand sees of the robot: its tags exactly, its body as dark blocks, a floor.

PyBullet's own renderer takes 80 ms for 640 x 480 and knows no lens; its edges are whole pixels, and a pose is told from
twentieths of one. Here every plate of tags is sampled along each pixel's own ray through the lens: plane and ray meet at a
place of the plate, and the plate says black, white or nothing. Several samples a pixel lie apart in place, so that an edge is
as grey as it should be, and in time, so that what moves while the shutter is open is blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.kinematics import IDENTIFIED, LONG, SHORT, foot
from robotrl.sim.lens import Lens
from robotrl.tagboard import CELLS, Plate, Roof, plates

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # of a picture: x0, y0, x1, y1 px
# ArUco's dictionary 4X4_50 (github.com/opencv/opencv, objdetect/src/aruco/predefined_dictionaries.hpp): white cells, row by row.
TAGS = (
    0xB532, 0x0F9A, 0x332D, 0x9946, 0x549E, 0x79CD, 0x9E2E, 0xC4F2, 0xFEDA, 0xCF56,
    0xF991, 0x11A7, 0x0EB7, 0x2A0F, 0x24B1, 0x263E, 0x4665, 0x6600, 0x6C5E, 0x76AF,
    0x868B, 0xB02B, 0xCCD5, 0xDD82, 0xFE47, 0x9471, 0xACE4, 0xA554, 0x2123, 0x346F,
    0x4415, 0x57B2, 0x9ECF, 0xF0CB, 0x08AE, 0x0929, 0x1875, 0x04FF, 0x0DF6, 0x1C5A,
    0x1718, 0x2A28, 0x328C, 0x38B2, 0x24E8, 0x2EEB, 0x2D3F, 0x4B64, 0x502E, 0x5013,
)  # fmt: skip
TEXEL = 12  # of a tag's cell: its edges fall between two texels
BLACK, WHITE = 22, 205  # what prints and papers reflect of a full 255; chosen
DARK, MOTOR, FLOOR = 45, 110, 120  # torso and legs, motors, floor; chosen
NEAR = 0.05  # m before the lens
MARGIN = 6  # px around what is drawn
HIP_X, HIP_Y, HIP_Z = 0.2375, 0.1265, -0.0185  # m, of the front left leg's plane: the twin's URDF
ROOKS = np.array([(i, (3 * i + 1) % 8) for i in range(8)]) / 8.0 - 7 / 16  # no two in a row or column of the pixel


@dataclass(frozen=True)
class Stand:
    """Where a camera is: its axes (right, down, ahead) in the world as columns, and its place (3,) m."""

    axes: Array
    position: Array

    @classmethod
    def looking(cls, position: Sequence[float], target: Sequence[float]) -> Stand:
        """Level, from `position` at `target`."""
        at, ahead = np.array(position, float), np.array(target, float) - np.array(position, float)
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return cls(np.column_stack((right, np.cross(ahead, right), ahead)), at)

    def see(self, rotation: Array, position: Array) -> tuple[Array, Array]:
        """A body's attitude and place in the camera's frame."""
        return self.axes.T @ rotation, self.axes.T @ (position - self.position)


class Print:
    """A plate and what is printed on it: 0 is nowhere, beside it."""

    def __init__(self, plate: Plate, tag_m: float) -> None:
        scale = TEXEL * CELLS / tag_m  # texels a metre
        out = np.full((round(plate.height * scale), round(plate.width * scale)), WHITE, np.uint8)
        for name, aside in plate.tags:
            cells = np.zeros((CELLS, CELLS), np.uint8)
            cells[1:-1, 1:-1] = [[TAGS[name] >> (15 - 4 * row - column) & 1 for column in range(4)] for row in range(4)]
            tag = np.where(np.kron(cells, np.ones((TEXEL, TEXEL), np.uint8)) > 0, WHITE, BLACK)
            row = (out.shape[0] - len(tag)) // 2
            column = round((plate.width / 2 + aside) * scale) - len(tag) // 2
            out[row : row + len(tag), column : column + len(tag)] = tag
        self.texels, self.outwards = out, plate.outwards
        self.axes = np.column_stack((plate.right, plate.down, plate.centre))
        self.to_texels = np.array(((scale, 0.0, out.shape[1] / 2 - 0.5), (0.0, scale, out.shape[0] / 2 - 0.5), (0.0, 0.0, 1.0)))
        right, down = plate.width / 2 * plate.right, plate.height / 2 * plate.down
        self.edges = plate.centre + np.array((-right - down, right - down, right + down, down - right))


class TagScene:
    """Pictures of a robot with a roof of tags, from one camera that stands still."""

    def __init__(self, lens: Lens, stand: Stand, roof: Roof, rng: np.random.Generator) -> None:
        self.lens, self.stand = lens, stand
        self._rays = lens.all_rays()
        self._ones = np.ones(lens.width * lens.height, np.float32)
        self._shifts = np.array([((1, 0, dx / lens.fx), (0, 1, dy / lens.fy), (0, 0, 1)) for dx, dy in ROOKS])
        self._steps = np.arange(len(ROOKS))
        self._plates = [Print(plate, roof.tag_m) for plate in plates(roof)]
        self.background = self._floor(rng)
        self.hidden: set[int] = set()  # plates that something covers, by their number
        self._canvas, self._dirty = self.background.copy(), (0, 0, 0, 0)

    def _floor(self, rng: np.random.Generator) -> Image:
        """Boards of 0.3 m, each of another grey, up to the horizon."""
        ahead = np.concatenate((self._rays, np.ones_like(self._rays[..., :1])), -1) @ self.stand.axes.T.astype(np.float32)
        down = np.minimum(ahead[..., 2], -1e-3)
        ground = self.stand.position[:2] + ahead[..., :2] * (self.stand.position[2] / -down)[..., None]
        boards = rng.integers(-25, 26, (64, 64))
        at = np.floor(np.clip(ground / 0.3, -1e6, 1e6)).astype(np.int64) % 64
        away2 = ((ground - self.stand.position[:2]) ** 2).sum(-1)
        rows = 0.3 * self.lens.fy * self.stand.position[2] / np.maximum(away2, 1e-6)  # of pixels that a board takes
        grey = FLOOR + boards[at[..., 0], at[..., 1]] * np.clip((rows - 1.0) / 4.0, 0.0, 1.0)  # far ones run into each other
        return np.where(ahead[..., 2] < -1e-3, grey, 170).astype(np.uint8)

    def picture(self, moments: Sequence[tuple[Array, Array]], motors: Array | None = None) -> tuple[Image, Box]:
        """Grey (height, width), without noise, good until the next one; and outside which box it is the background.

        The torso at each of the moments while the shutter is open, (3, 3) and (3,) m in the world, at most eight of them, or
        none: it is not there. With its legs where the motors' angles (8,) are given.
        """
        x0, y0, x1, y1 = self._dirty
        self._canvas[y0:y1, x0:x1] = self.background[y0:y1, x0:x1]
        seen = [self.stand.see(*moment) for moment in moments]
        if not seen:
            self._dirty = (0, 0, 0, 0)
            return self._canvas, self._dirty
        boxes = [box for box in (self._draw_body(*seen[len(seen) // 2], motors),) if box is not None]
        for number, plate in enumerate(self._plates):
            if number not in self.hidden and (box := self._box(plate, (seen[0], seen[-1]))) is not None:
                boxes.append(box)
                self._draw_plate(box, plate, seen)
        corners = np.array(boxes) if boxes else np.zeros((1, 4), int)
        low, high = corners.min(0), corners.max(0)
        self._dirty = (int(low[0]), int(low[1]), int(high[2]), int(high[3]))
        return self._canvas, self._dirty

    def _draw_plate(self, box: Box, plate: Print, seen: Sequence[tuple[Array, Array]]) -> None:
        """One plate in its box, over what is there."""
        x0, y0, x1, y1 = box
        rays = np.concatenate((self._rays[y0:y1, x0:x1].reshape(-1, 2).T, self._ones[None, : (y1 - y0) * (x1 - x0)]))
        at = np.array([rotation @ plate.axes for rotation, _ in seen])
        at[:, :, 2] += [position for _, position in seen]
        to_plate = plate.to_texels @ np.linalg.inv(at)  # of each moment, from a ray
        each = to_plate[self._steps * len(seen) // len(ROOKS)] @ self._shifts
        places = (each.reshape(-1, 3).astype(np.float32) @ rays).reshape(len(ROOKS), 3, -1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a ray along the plate meets it nowhere
            places[:, :2] /= places[:, 2:]
        across, along = (np.ascontiguousarray(places[:, k]).reshape(-1, x1 - x0) for k in (0, 1))
        value = cv2.remap(plate.texels, across, along, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        value = value.reshape(len(ROOKS), y1 - y0, x1 - x0)
        total, covered = value.sum(0, dtype=np.float32), np.count_nonzero(value, axis=0)
        area = self._canvas[y0:y1, x0:x1]
        share = 1.0 - covered / len(ROOKS)
        area[:] = np.rint(area * share + (self._light(plate, seen[0][0]) / len(ROOKS)) * total)

    def _box(self, plate: Print, ends: Sequence[tuple[Array, Array]]) -> Box | None:
        """What of the picture the plate covers between two moments; None where it faces away, or is not whole before us."""
        points = []
        for rotation, position in ends:
            at = plate.edges @ rotation.T + position
            if at[:, 2].min() < NEAR or float((rotation @ plate.outwards) @ at[0]) > 0:
                return None
            points.append(at)
        return self._within(self.lens.pixels(np.concatenate(points)))

    def _within(self, where: Array) -> Box | None:
        """What of the picture there is around points (n, 2) px; None where nothing."""
        x0, y0 = np.maximum(np.floor(where.min(0)).astype(int) - MARGIN, 0)
        x1, y1 = np.minimum(np.ceil(where.max(0)).astype(int) + MARGIN + 1, (self.lens.width, self.lens.height))
        return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None

    def _light(self, plate: Print, rotation: Array) -> float:
        """Of a lamp above: a plate that leans away from it is darker."""
        up = self.stand.axes.T[:, 2]
        return 0.7 + 0.3 * max(0.0, float(rotation @ plate.outwards @ up))

    def _draw_body(self, rotation: Array, position: Array, motors: Array | None) -> Box | None:
        """Torso, motors and legs, the farthest first, as outlines filled in; what of the picture they cover."""
        shapes = BODY if motors is None else [*BODY, *((link, DARK) for link in links(motors))]
        seen = np.array([np.resize(points, (16, 3)) for points, _ in shapes]) @ rotation.T + position
        if seen[..., 2].min() < NEAR:
            return None
        where = self.lens.pixels(seen)
        if (box := self._within(where.reshape(-1, 2))) is None:
            return None
        for k in np.argsort(-seen[..., 2].mean(1)):
            outline = cv2.convexHull(np.rint(where[k] * 16).astype(np.int32))
            cv2.fillConvexPoly(self._canvas, outline, shapes[k][1], cv2.LINE_AA, 4)
        return box


def box_corners(centre: Sequence[float], size: Sequence[float]) -> Array:
    """(8, 3)."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    return np.array(centre) + signs * size


BODY = [(box_corners((0.0, 0.0, 0.0), (0.3, 0.13, 0.087)), DARK)] + [
    (box_corners((sx * HIP_X, sy * HIP_Y, HIP_Z), (0.09, 0.09, 0.09)), MOTOR) for sx in (1, -1) for sy in (1, -1)
]


def links(motors: Array) -> list[Array]:
    """The legs' upper and lower links, each as points (16, 3) of a bar in the torso's frame."""
    try:
        toes = foot(motors)
    except ValueError:  # thrown about, the twin's loops give by a millimetre: at such a moment its legs are not drawn
        return []
    out = []
    for leg in range(4):
        hip = np.array((HIP_X * (1 - 2 * (leg % 2)), HIP_Y * (1 - 2 * (leg // 2)), HIP_Z))
        toe = hip + (toes[leg, 0], 0.0, -toes[leg, 1])
        for motor, ahead in ((LONG[leg], -1.0), (SHORT[leg], 1.0)):
            knee = hip + IDENTIFIED.upper * np.array((ahead * np.sin(motors[motor]), 0.0, np.cos(motors[motor])))
            for a, b in ((hip, knee), (knee, toe)):
                out.append(np.concatenate((box_corners(a.tolist(), (0.02,) * 3), box_corners(b.tolist(), (0.015,) * 3))))
    return out
