"""Where a camera is on a robot: A_i X B_i = Y for all samples i. Pure arithmetic; `handeyetool.py` is the command.

A_i (4, 4) is base from gripper for a camera in hand, gripper from base for one that looks at the arm; B_i is camera from
board. X is then the camera in the gripper's frame, or in the base's; Y the board in the base's, or in the gripper's. Closed
form: Park and Martin (1994), "Robot sensor calibration: solving AX = XB on the Euclidean group". Then least squares over X and
Y, each pose weighed by how sure it is: by its corners in the picture, and by the robot's joints, whose share the data tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robotrl.calibration.store import CalibrationError

Array = NDArray[np.float64]
Mount = Literal["hand", "base"]
SAMPLES_MIN = 5  # two motions are enough without noise; chosen
SECOND_AXIS_DEG = 8.0  # root mean square turn about the second axis: less, and a translation is anybody's guess; chosen
HALF_TURN = math.radians(170)  # near it a rotation's axis has two ends
ASTRAY_DEG, ASTRAY_M = 3.0, 0.02  # of the board in its place, rms: samples that contradict each other; chosen
STEP = 1e-6  # of the numeric slopes
ROUNDS = 4  # of finding how unsure the joints are; it changes by little after the second
SURE = 2.5  # deviations of chi squared beyond which the joints are to blame
PX_MIN, ANGLE_MIN, WAY_MIN = 1e-3, 1e-6, 1e-6  # px, rad, m: nothing is surer


@dataclass(frozen=True, eq=False)
class Corners:
    """What one sample's picture shows, the lens taken off: `points` (n, 3) m on the board, `rays` (n, 2) in focal lengths."""

    points: Array
    rays: Array
    focal: float  # px


@dataclass(frozen=True, eq=False)
class Found:
    """`camera` is X, `target` is Y, (4, 4) each. `deviation` (6,): rad about the camera's axes, m along the mount's."""

    camera: Array
    target: Array
    deviation: Array
    residual_deg: Array  # (n,) of the board in each sample from `target`
    residual_m: Array
    rms_px: float  # of the corners from where each board's own pose puts them; 0 without
    axes_deg: Array  # (3,) rms turn of the motions about their principal axes, the largest first


def log(rotation: Array) -> Array:
    """Rotation vectors (..., 3) rad of rotations (..., 3, 3)."""
    skew = np.stack([rotation[..., 2, 1] - rotation[..., 1, 2], rotation[..., 0, 2] - rotation[..., 2, 0],
                     rotation[..., 1, 0] - rotation[..., 0, 1]], -1) / 2  # fmt: skip
    sine = np.linalg.norm(skew, axis=-1)
    angle = np.arctan2(sine, (np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2)
    scale = np.divide(angle, sine, out=np.ones_like(sine), where=sine > 1e-12)
    return np.asarray(skew * scale[..., None])


def exp(vector: Array) -> Array:
    """The inverse of `log` for one vector."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a, b = (math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2) if angle > 1e-8 else (1.0, 0.5)
    return np.asarray(np.eye(3) + a * cross + b * cross @ cross)


def inverse(pose: Array) -> Array:
    """Of rigid poses (..., 4, 4)."""
    out = np.zeros_like(pose)
    turn = np.swapaxes(pose[..., :3, :3], -1, -2)
    out[..., :3, :3], out[..., 3, 3] = turn, 1.0
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", turn, pose[..., :3, 3])
    return out


def motions(a: Array, b: Array) -> tuple[Array, Array]:
    """P, Q (m, 4, 4) of all pairs of samples: P X = X Q. Those that turn by nearly half a turn say nothing sure and are left."""
    first, second = np.array(list(combinations(range(len(a)), 2))).T
    p, q = inverse(a[second]) @ a[first], b[second] @ inverse(b[first])
    clear = np.maximum(np.linalg.norm(log(p[:, :3, :3]), axis=1), np.linalg.norm(log(q[:, :3, :3]), axis=1)) < HALF_TURN
    return p[clear], q[clear]


def axes_deg(p: Array) -> Array:
    """(3,) root mean square turn of motions about their principal axes, the largest first."""
    turns = log(p[:, :3, :3])
    spread = np.linalg.eigvalsh(turns.T @ turns / max(1, len(turns)))[::-1]
    return np.degrees(np.sqrt(np.maximum(spread, 0.0)))


def park_martin(p: Array, q: Array) -> Array:
    """X (4, 4) of motions P X = X Q. R = (M'M)^-1/2 M' of M = sum beta alpha', written as the polar factor it is; then t of
    (R_P - 1) t = R t_Q - t_P by least squares."""
    alpha, beta = log(p[:, :3, :3]), log(q[:, :3, :3])
    u, _, vt = np.linalg.svd(beta.T @ alpha)
    turn = vt.T @ np.diag([1.0, 1.0, np.linalg.det(vt.T @ u.T)]) @ u.T  # two axes leave the third's direction to the right hand
    out = np.eye(4)
    out[:3, :3] = turn
    left = (p[:, :3, :3] - np.eye(3)).reshape(-1, 3)
    out[:3, 3] = np.linalg.lstsq(left, (q[:, :3, 3] @ turn.T - p[:, :3, 3]).ravel(), rcond=None)[0]
    return out


def solve(robot: Array, board: Array, mount: Mount, corners: Sequence[Corners] | None = None) -> Found:
    """`robot` (n, 4, 4) base from gripper, `board` (n, 4, 4) camera from board; `corners` refine better than `board` can.

    CalibrationError: too few samples, motions about one axis only, samples that contradict each other.
    """
    if len(robot) < SAMPLES_MIN:
        raise CalibrationError(f"{len(robot)} samples; take {SAMPLES_MIN} or more, better 15, the gripper turned every way")
    a = robot if mount == "hand" else inverse(robot)
    p, q = motions(a, board)
    axes = axes_deg(p)
    if not axes[1] >= SECOND_AXIS_DEG:
        raise CalibrationError(
            f"the samples turn about one axis only ({axes[0]:.1f} degrees, about a second one {axes[1]:.1f}): the camera's place"
            f" along it is open; add samples turned about another by {3 * SECOND_AXIS_DEG:g} degrees and more"
        )
    camera = park_martin(p, q)
    places = a @ camera @ board
    target = np.eye(4)
    target[:3, :3], target[:3, 3] = _middle(places[:, :3, :3]), places[:, :3, 3].mean(0)
    camera, target, deviation, rms = _least_squares(a, board, mount, corners, camera, target)
    off = inverse(target) @ (a @ camera @ board)
    degrees, metres = np.degrees(np.linalg.norm(log(off[:, :3, :3]), axis=1)), np.linalg.norm(off[:, :3, 3], axis=1)
    if not (_rms(degrees) <= ASTRAY_DEG and _rms(metres) <= ASTRAY_M):
        worst = int(np.argmax(degrees / ASTRAY_DEG + metres / ASTRAY_M))
        raise CalibrationError(
            f"the samples contradict each other by {_rms(degrees):.1f} degrees and {1000 * _rms(metres):.0f} mm, most the"
            f" {worst + 1}. of them: did camera or board slip, is the mount (hand or base) right, are the joints' zeros?"
        )
    return Found(camera, target, deviation, degrees, metres, rms, axes)


def _spread_of_corners(board: Array, corners: Sequence[Corners], mount: Mount) -> tuple[Array, float]:
    """Covariance (n, 6, 6) of each board's pose by its corners alone, rad and m, and the corners' rms distance, px."""
    informations, squares, free = [], 0.0, 0
    for pose, seen in zip(board, corners, strict=True):
        left = _corners_off(pose, seen)
        moved = [_stepped(pose, e, mount) for e in np.eye(6) * STEP]
        slopes = np.stack([(_corners_off(m, seen) - left) / STEP for m in moved], -1)
        informations.append(slopes.T @ slopes)
        squares, free = squares + float(left @ left), free + len(left) - 6
    variance = max(squares / max(1, free), PX_MIN**2)
    return variance * np.linalg.inv(np.array(informations)), math.sqrt(squares / max(1, free))


def _corners_off(pose: Array, seen: Corners) -> Array:
    """(2 n,) px."""
    at = seen.points @ pose[:3, :3].T + pose[:3, 3]
    return np.asarray((at[:, :2] / at[:, 2:] - seen.rays).ravel() * seen.focal)


def _stepped(pose: Array, by: NDArray[Any], mount: Mount) -> Array:
    """A board's pose, moved as the robot's own error moves it: about the camera where that is in hand, else about the board."""
    step = np.eye(4)
    step[:3, :3], step[:3, 3] = exp(by[:3]), by[3:]
    return np.asarray(step @ pose if mount == "hand" else pose @ step)


def _off(a: Array, board: Array, mount: Mount, camera: Array, target: Array) -> Array:
    """(n, 6): by what `_stepped` makes of each board's pose the one that is expected; rad, m."""
    expected = inverse(camera) @ inverse(a) @ target
    off = expected @ inverse(board) if mount == "hand" else inverse(board) @ expected
    return np.concatenate([log(off[:, :3, :3]), off[:, :3, 3]], axis=1)


def _least_squares(
    a: Array, board: Array, mount: Mount, corners: Sequence[Corners] | None, camera: Array, target: Array
) -> tuple[Array, Array, Array, float]:
    """X and Y by which the boards' poses are least far off, each weighed by how sure it is; deviations of X (6,); corners' rms.

    A pose is unsure by its corners, which are known, and by the robot's joints, whose part is what is left (variance components).
    """
    n = len(a)
    if corners is None:
        seen, rms = np.tile(np.diag([ANGLE_MIN**2] * 3 + [WAY_MIN**2] * 3), (n, 1, 1)), 0.0
    else:
        seen, rms = _spread_of_corners(board, corners, mount)
    joints = np.zeros(6)
    for _ in range(ROUNDS):
        weights = np.linalg.inv(np.linalg.cholesky(seen + np.diag(joints)))

        def off(x: Array, y: Array, weights: Array = weights) -> Array:
            return np.einsum("nij,nj->ni", weights, _off(a, board, mount, x, y)).ravel()

        camera, target, deviation = _refined(camera, target, off)
        free = 6 * n - 12
        if not joints.any() and float(np.sum(off(camera, target) ** 2)) < free + SURE * math.sqrt(2 * free):
            break  # corners alone explain it: joints that are as good are not to be told from perfect ones
        left = _off(a, board, mount, camera, target) ** 2 * n / max(1, n - 2) - np.diagonal(seen, axis1=1, axis2=2)
        joints = np.repeat([max(0.0, float(left[:, :3].mean())), max(0.0, float(left[:, 3:].mean()))], 3)
    return camera, target, deviation, rms


def _refined(camera: Array, target: Array, off: Callable[[Array, Array], Array]) -> tuple[Array, Array, Array]:
    """Levenberg and Marquardt over both poses; X, Y, deviations of X (6,)."""

    def moved(x: Array, y: Array, by: NDArray[Any]) -> tuple[Array, Array]:
        out = []
        for pose, part in ((x, by[:6]), (y, by[6:])):
            new = np.eye(4)
            new[:3, :3], new[:3, 3] = pose[:3, :3] @ exp(part[:3]), pose[:3, 3] + part[3:]
            out.append(new)
        return out[0], out[1]

    left, damping = off(camera, target), 1e-3
    for _ in range(50):
        slopes = np.stack([(off(*moved(camera, target, e)) - left) / STEP for e in np.eye(12) * STEP], -1)
        square = slopes.T @ slopes
        step = -np.linalg.solve(square + damping * np.diag(np.diag(square)), slopes.T @ left)
        tried = moved(camera, target, step)
        new = off(*tried)
        if new @ new < left @ left:
            small = left @ left - new @ new < 1e-12 * (left @ left)
            camera, target, left, damping = *tried, new, damping / 10
            if small:
                break
        elif damping > 1e6:
            break
        else:
            damping *= 10
    variance = left @ left / max(1, len(left) - 12)
    deviation = np.sqrt(np.maximum(0.0, variance * np.diag(np.linalg.pinv(square))[:6]))
    return camera, target, deviation


def _middle(rotations: Array) -> Array:
    """The rotation nearest to all of (n, 3, 3)."""
    u, _, vt = np.linalg.svd(rotations.sum(0))
    return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
