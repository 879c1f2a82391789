"""Samples for a camera's place on a robot: a folder of `NNN.json`, where the gripper was, with a picture `NNN.png` beside each.

{"robot": [16 numbers]}       base from gripper, row by row, m
{"joints": [rad, ...]}        or the joints' angles, for an arm whose kinematics are known
{"board": [16 numbers]}       with one of them: camera from board, in the place of a picture
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.calibration import devices, views
from robotrl.calibration.board import Charuco
from robotrl.calibration.devices import Intrinsics
from robotrl.calibration.handeye import Corners
from robotrl.calibration.store import CalibrationError
from robotrl.serialarm import ARMS

Array = NDArray[np.float64]
FAR_M = 100.0  # no arm reaches so far


@dataclass(frozen=True, eq=False)
class Samples:
    """`robot` (n, 4, 4) base from gripper, `board` (n, 4, 4) camera from board; `corners` where pictures were given."""

    names: tuple[str, ...]
    robot: Array
    board: Array
    corners: list[Corners] | None
    without: tuple[str, ...]  # samples whose picture does not show the board
    digest: str  # SHA-256 of the files


def read(folder: Path, robot: config.Robot, board: Charuco, camera: str, records: Path | None = None) -> Samples:
    """All samples of a folder. CalibrationError: none, damaged, mixed, of a camera whose lens is not known, of a bent number."""
    files = sorted(p for p in folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise CalibrationError(f"{folder}: no samples (NNN.json with NNN.png); take some with --live, or give the right folder")
    places, boards, corners, names, without, used = [], [], [], [], [], []
    lens, first = None, ""
    for file in files:
        data = _object(file)
        place, given = _place(file, data, robot), data.get("board")
        beside = next((p for s in views.PICTURES if (p := file.with_suffix(s)).exists()), None)
        if (given is None) == (beside is None):
            raise CalibrationError(f'{file}: needs a picture {file.stem}.png beside it, or a "board" in it, and not both')
        kind = "a board's pose" if beside is None else "a picture"
        if first and kind != first:
            raise CalibrationError(f"{file}: has {kind}, those before it have {first}; keep samples of one kind in a folder")
        first = kind
        used += [file] if beside is None else [file, beside]
        if beside is None:
            boards.append(_pose(file, "board", given))
        else:
            seen = views.picture(beside)
            if lens is None:
                lens = devices.lens_of(camera, seen.shape[1], seen.shape[0], records)
            if seen.shape != (lens.height, lens.width):
                raise CalibrationError(
                    f"{beside}: {seen.shape[1]} x {seen.shape[0]} px, those before it have {lens.width} x {lens.height};"
                    " keep pictures of one resolution"
                )
            view = views.find(board, beside.name, seen)
            if view is None:
                without.append(file.stem)
                continue
            part, pose = looked(view, board, lens)
            corners.append(part)
            boards.append(pose)
        places.append(place)
        names.append(file.stem)
    if not boards:
        raise CalibrationError(f"{folder}: no board in view in any of {len(files)} pictures ({board}); print that, light it well")
    return Samples(
        tuple(names), np.array(places), np.array(boards), corners or None, tuple(without), views.digest(used)
    )  # fmt: skip


def looked(view: views.View, board: Charuco, lens: Intrinsics) -> tuple[Corners, Array]:
    """Corners with the lens taken off, and the board's pose (4, 4) in the camera's frame by them."""
    fx, fy, cx, cy = lens.lens[:4]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    rays = cv2.undistortPoints(view.corners[:, None], matrix, np.array(lens.lens[4:])).reshape(-1, 2).astype(np.float64)
    points = board.corners()[view.ids]
    found, turn, way = cv2.solvePnP(points, rays, np.eye(3), None)
    if not found:
        raise CalibrationError(f"{view.name}: OpenCV finds no pose of the board; remove it")
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], way.ravel()
    return Corners(points, rays, (fx + fy) / 2), pose


def gripper(robot: config.Robot, joints: tuple[float, ...]) -> Array:
    """(4, 4) base from gripper, m. CalibrationError for a robot whose kinematics are not known here."""
    if robot.kind not in ARMS:
        raise CalibrationError(f'{robot.name}: no arm ({", ".join(ARMS)}); give "robot" poses in the place of joints')
    axes, point = ARMS[robot.kind].pose(joints)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = np.array(axes).T, point
    return out


def write(folder: Path, number: int, joints: tuple[float, ...], image: NDArray[np.uint8]) -> Path:
    """One sample; the picture first, so that no half of one is ever read."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{number:03d}.json"
    if not cv2.imwrite(str(file.with_suffix(".png")), image):
        raise CalibrationError(f"{folder}: pictures cannot be written there; make room")
    file.write_text(json.dumps({"joints": list(joints)}) + "\n")
    return file


def _object(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{file}: not readable: {' '.join(str(error).split())}; take it again or remove it") from None
    if not isinstance(data, dict) or not data.keys() <= {"robot", "joints", "board"} or ("robot" in data) == ("joints" in data):
        raise CalibrationError(f'{file}: must hold "robot" or "joints", and may hold "board"; nothing else')
    return data


def _place(file: Path, data: dict[str, Any], robot: config.Robot) -> Array:
    if "robot" in data:
        return _pose(file, "robot", data["robot"])
    joints = _numbers(file, "joints", data["joints"], len(robot.servos.ids))
    return gripper(robot, tuple(joints))


def _pose(file: Path, key: str, value: object) -> Array:
    pose = np.array(_numbers(file, key, value, 16)).reshape(4, 4)
    turn = pose[:3, :3]
    if (
        abs(turn @ turn.T - np.eye(3)).max() > 1e-4
        or np.linalg.det(turn) < 0
        or pose[3].tolist() != [0, 0, 0, 1]
        or abs(pose[:3, 3]).max() > FAR_M
    ):
        raise CalibrationError(f"{file}: {key} is no pose: rotation and translation row by row, then 0 0 0 1")
    return pose


def _numbers(file: Path, key: str, value: object, count: int) -> list[float]:
    good = isinstance(value, list) and len(value) == count
    if not good or not all(type(v) in (int, float) and math.isfinite(v) for v in value):  # type: ignore[attr-defined]
        raise CalibrationError(f"{file}: {key} must be {count} finite numbers, not {value!r}")
    return [float(v) for v in value]  # type: ignore[attr-defined]
