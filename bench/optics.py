"""What a camera with a known lens sees of a known board, for oracles: a projector and a renderer without OpenCV.

Brown (1966): x' = x (1 + k1 r2 + k2 r4 + k3 r6) + 2 p1 x y + p2 (r2 + 2 x2), y' likewise. A picture is made by asking for each
part of a pixel which ray it sees (the lens inverted by Newton's method), where that meets the board, and if it is black there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LENS = (617.0, 613.0, 322.5, 241.0, -0.055, 0.062, 0.0004, -0.0003, -0.021)  # of RealSense colour, 640 x 480 (hardware facts 8)

EDGE, BLACK, WHITE, WALL = 0.02, 30.0, 220.0, 128.0  # m of white paper around a board; grey levels


def turned(vector: Iterable[float]) -> Array:
    """Rotation matrix (3, 3) of a rotation vector (3,), rad: Rodrigues' formula."""
    x, y, z = vector
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        return np.eye(3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / angle
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


def pose(rotation: Array, place: Iterable[float]) -> Array:
    """(4, 4)."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, tuple(place)
    return out


def distorted(xy: Array, lens: tuple[float, ...]) -> Array:
    """Image plane (..., 2) without a lens to the one with it; both in focal lengths."""
    k1, k2, p1, p2, k3 = lens[4:]
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1
    )


def projected(points: Array, board: Array, lens: tuple[float, ...]) -> Array:
    """Pixels (n, 2) of points (n, 3) of a board at `board` (4, 4) in the camera's frame."""
    seen = points @ board[:3, :3].T + board[:3, 3]
    return distorted(seen[:, :2] / seen[:, 2:], lens) * lens[:2] + lens[2:4]


def rays(pixels: Array, lens: tuple[float, ...]) -> Array:
    """(..., 2) in focal lengths: where the pixel looks. The lens inverted by Newton's method, its slope by differences."""
    wanted = (pixels - lens[2:4]) / lens[:2]
    out, h = wanted.copy(), 1e-6
    for _ in range(6):
        off = distorted(out, lens) - wanted
        a = (distorted(out + (h, 0), lens) - distorted(out - (h, 0), lens)) / (2 * h)
        b = (distorted(out + (0, h), lens) - distorted(out - (0, h), lens)) / (2 * h)
        det = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        out[..., 0] -= (off[..., 0] * b[..., 1] - off[..., 1] * b[..., 0]) / det
        out[..., 1] -= (off[..., 1] * a[..., 0] - off[..., 0] * a[..., 1]) / det
    return out


@functools.cache
def field(lens: tuple[float, ...], shape: tuple[int, int]) -> Array:
    """(height, width, 2): where every pixel's middle looks."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(float)
    return rays(np.stack([columns, rows], -1), lens)


class Scene:
    """A board of black rectangles (left, top, width, height; m) on white paper, before a grey wall."""

    def __init__(
        self, black: Iterable[tuple[float, float, float, float]], size: tuple[float, float], step: float = 0.0005
    ) -> None:
        self.size, self.step = size, step
        self.ink = np.zeros((round(size[1] / step), round(size[0] / step)), bool)
        for left, top, width, height in black:  # edges of our boards lie on whole steps, or within half a step
            rows = slice(round(top / step), round((top + height) / step))
            self.ink[rows, round(left / step) : round((left + width) / step)] = True

    def picture(
        self, board: Array, lens: tuple[float, ...], shape: tuple[int, int], rng: np.random.Generator, noise: float = 2.0,
        parts: int = 4,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """(height, width) grey: `parts` x `parts` rays a pixel, noise of so many grey levels."""
        rows, columns = self._window(board, lens, shape)
        base = field(lens, shape)[rows, columns]
        total = np.zeros(base.shape[:2])
        normal, across, down, origin = board[:3, 2], board[:3, 0], board[:3, 1], board[:3, 3]
        for i in range(parts * parts):
            shift = (np.array([i % parts, i // parts]) + 0.5) / parts - 0.5
            ray = base + shift / lens[:2]  # within a pixel the lens bends nothing
            direction = np.concatenate([ray, np.ones((*ray.shape[:2], 1))], -1)
            far = (origin @ normal) / (direction @ normal)
            hit = direction * far[..., None] - origin
            x, y = hit @ across, hit @ down
            inside = (x >= 0) & (y >= 0) & (x < self.size[0]) & (y < self.size[1]) & (far > 0)
            margin = (x > -EDGE) & (y > -EDGE) & (x < self.size[0] + EDGE) & (y < self.size[1] + EDGE) & (far > 0)
            u = np.clip((x / self.step).astype(int), 0, self.ink.shape[1] - 1)
            v = np.clip((y / self.step).astype(int), 0, self.ink.shape[0] - 1)
            total += np.where(inside & self.ink[v, u], BLACK, np.where(margin, WHITE, WALL))
        whole = np.full(shape, WALL)
        whole[rows, columns] = total / parts**2
        return np.clip(np.rint(whole + rng.normal(0, noise, shape)), 0, 255).astype(np.uint8)

    def _window(self, board: Array, lens: tuple[float, ...], shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the picture outside of which there is wall alone."""
        across, down = np.linspace(-EDGE, self.size[0] + EDGE, 9), np.linspace(-EDGE, self.size[1] + EDGE, 9)
        points = np.array([(x, y, 0.0) for x in across for y in down])
        px = projected(points, board, lens)
        low, high = np.floor(px.min(0)).astype(int) - 3, np.ceil(px.max(0)).astype(int) + 4
        return slice(max(0, low[1]), min(shape[0], high[1])), slice(max(0, low[0]), min(shape[1], high[0]))


def held(
    rng: np.random.Generator, size: tuple[float, float], lens: tuple[float, ...], shape: tuple[int, int], n: int
) -> list[Array]:
    """`n` poses of a board in the camera's frame, as a person holds it: in turn all over the picture, tilted every way, nearer
    and farther; each so that its middle is in the picture."""
    out, (height, width) = [], shape
    tilts = [(0.0, 0.0), (0.75, 0.0), (-0.75, 0.0), (0.0, 0.75), (0.0, -0.75)]
    spots = [(0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (0.7, 0.7), (0.5, 0.5), (0.25, 0.5), (0.75, 0.5)]
    for i in range(n):
        far = max(size) * lens[0] / width * rng.uniform(1.15, 2.0)
        tilt = np.add(tilts[i % len(tilts)], rng.normal(0, 0.12, 2))
        turn = turned((*tilt, 0.0)) @ turned((0.0, 0.0, rng.normal(0, 0.3)))
        spot = np.add(spots[i % len(spots)], rng.uniform(-0.05, 0.05, 2)) * (width, height)
        middle = np.array([*((spot - lens[2:4]) / lens[:2]), 1.0]) * far
        out.append(pose(turn, middle - turn @ (size[0] / 2, size[1] / 2, 0.0)))
    return out
