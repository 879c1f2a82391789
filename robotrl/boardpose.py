"""A board's pose from its tags' corners and gravity: the likeliest one, and how much less likely the next one is.

What is minimised over a rotation R and a translation t, camera from torso, is

    sum |m - project(R P + t)|^2 / sigma_px^2  +  |R^T g - u|^2 / sigma_up^2,

with corners P of the torso's frame seen at m, the world's up g in the camera's frame, and up in the torso's as the IMU has it, u.
Each plane of tags has two poses that nearly fit it (Collins and Bartoli 2014, "Infinitesimal plane-based pose estimation"); both
are taken to the nearest minimum of the whole sum. Where two minima explain the picture, there is no pose to be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIGMA_PX = 0.25  # of a corner: what the twin's lens, light and noise leave is 0.1; chosen
STEPS, SMALL = 12, 1e-6  # of Gauss and Newton, and a step that ends them, rad and m
APART_RAD = 0.15  # two minima closer than this are one
AMBIGUOUS = 25.0  # by less than this another pose explains the picture worse: five sigma
MISFIT = 6.0  # mean square of corner errors over sigma_px^2 above which this is no picture of the board


@dataclass(frozen=True)
class Gravity:
    """Up twice, (3,): in the camera's frame, and in the torso's as the IMU has it, with an sd of `sigma` rad."""

    up: Array
    torso_up: Array
    sigma: float


@dataclass(frozen=True)
class Fit:
    """Camera from torso, and how well it fits: `cost` is the sum above, `misfit` the corners' mean square in sigmas."""

    rotation: Array  # (3, 3)
    position: Array  # (3,) m
    cost: float
    misfit: float
    rival: float  # how much more the next minimum costs; inf: there is none
    spread: Array  # (3,) m, standard deviation of the position in the camera's frame


def solve(
    points: Array, seen: Array, focal: float, planes: Iterable[Sequence[int]], gravity: Gravity | None,
    guess: tuple[Array, Array] | None = None,
) -> Fit | None:  # fmt: skip
    """The fit of corners `points` (n, 3) m to where they are `seen` (n, 2) on the ideal plane at distance 1; None without any.

    `planes`: the rows of each plane's corners; `guess`: a rotation and a position to begin at too.
    """
    starts = [guess] if guess is not None else []
    largest = max(planes, key=len, default=())
    if len(largest) >= 4:
        starts += plane_poses(points[list(largest)], seen[list(largest)])
    found: list[Fit] = []
    for start in starts:
        fit = descend(points, seen, focal, gravity, start)
        if fit is not None and all(angle_between(fit.rotation, known.rotation) > APART_RAD for known in found):
            found.append(fit)
    if not found:
        return None
    found.sort(key=lambda fit: fit.cost)
    best = found[0]
    rival = found[1].cost - best.cost if len(found) > 1 else float("inf")
    return Fit(best.rotation, best.position, best.cost, best.misfit, rival, best.spread)


def sound(fit: Fit) -> bool:
    """The corners are where this pose puts them, and no other pose puts them there."""
    return fit.misfit < MISFIT and fit.rival > AMBIGUOUS


def plane_poses(points: Array, seen: Array) -> list[tuple[Array, Array]]:
    """Both poses of one plane's corners, the better one first."""
    middle, (right, down, _) = points.mean(0), np.linalg.svd(points - points.mean(0))[2]
    axes = np.column_stack((right, down, np.cross(right, down)))
    flat = (points - middle) @ axes
    flat[:, 2] = 0.0
    try:
        _, turns, moves, _ = cv2.solvePnPGeneric(flat[:, None], seen[:, None], np.eye(3), None, flags=cv2.SOLVEPNP_IPPE)
    except cv2.error:
        return []
    out = []
    for turn, move in zip(turns, moves, strict=True):
        rotation = cv2.Rodrigues(turn)[0] @ axes.T
        position = move.ravel() - rotation @ middle
        if np.isfinite(rotation).all() and np.isfinite(position).all() and (points @ rotation.T + position)[:, 2].min() > 0.01:
            out.append((rotation, position))
    return out


def descend(points: Array, seen: Array, focal: float, gravity: Gravity | None, start: tuple[Array, Array]) -> Fit | None:
    """The minimum that `start` leads to; None where the board would come too near the lens."""
    rotation, position = start
    weight = focal / SIGMA_PX
    for _ in range(STEPS):
        terms = _terms(points, seen, weight, gravity, rotation, position)
        if terms is None:
            return None
        residual, jacobian = terms
        information = jacobian.T @ jacobian + 1e-9 * np.eye(6)
        step = np.linalg.solve(information, -jacobian.T @ residual)
        rotation, position = cv2.Rodrigues(step[:3])[0] @ rotation, position + step[3:]
        if np.abs(step).max() < SMALL:
            break
    terms = _terms(points, seen, weight, gravity, rotation, position)
    if terms is None:
        return None
    residual, jacobian = terms
    corners = residual[: 2 * len(points)]
    spread = np.sqrt(np.maximum(np.diag(np.linalg.inv(jacobian.T @ jacobian + 1e-9 * np.eye(6)))[3:], 0.0))
    return Fit(rotation, position, float(residual @ residual), float(corners @ corners / len(points)), float("inf"), spread)


def _terms(
    points: Array, seen: Array, weight: float, gravity: Gravity | None, rotation: Array, position: Array
) -> tuple[Array, Array] | None:
    """Residuals (m,) in sigmas and their slopes (m, 6) by a small turn, then a small move, of the board before the camera."""
    turned = points @ rotation.T
    at = turned + position
    if at[:, 2].min() < 0.01:
        return None
    n, per_z = len(points), 1.0 / at[:, 2]
    x, y = at[:, 0] * per_z, at[:, 1] * per_z
    residual = np.empty(2 * n + (3 if gravity else 0))
    residual[0 : 2 * n : 2], residual[1 : 2 * n : 2] = weight * (x - seen[:, 0]), weight * (y - seen[:, 1])
    jacobian = np.zeros((len(residual), 6))
    u, v, w = turned[:, 0], turned[:, 1], turned[:, 2]
    scale = weight * per_z
    rows_x, rows_y = jacobian[0 : 2 * n : 2], jacobian[1 : 2 * n : 2]
    # a turn by s moves the turned point by s x point; d(x/z) = (dx - x dz) / z
    rows_x[:, 0], rows_x[:, 1], rows_x[:, 2] = -scale * x * v, scale * (w + x * u), -scale * v
    rows_y[:, 0], rows_y[:, 1], rows_y[:, 2] = -scale * (w + y * v), scale * y * u, scale * u
    rows_x[:, 3], rows_x[:, 5], rows_y[:, 4], rows_y[:, 5] = scale, -scale * x, scale, -scale * y
    if gravity is not None:
        expected = rotation @ gravity.torso_up  # in the camera's frame, as the IMU has it
        residual[2 * n :] = (expected - gravity.up) / gravity.sigma
        a, b, c = expected
        jacobian[2 * n :, :3] = np.array(((0.0, c, -b), (-c, 0.0, a), (b, -a, 0.0))) / gravity.sigma
    return residual, jacobian


def angle_between(a: Array, b: Array) -> float:
    """Of the turn from one attitude to another, rad."""
    return float(np.arccos(np.clip((np.trace(a.T @ b) - 1.0) / 2.0, -1.0, 1.0)))
