"""A camera that looks on: its lens and where it stands, as a calibration found them. One file, good for one camera alone."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint, command

Array = NDArray[np.float64]
SCHEMA = 1
FILE = "viewpoint.json"  # in a run directory: with what it was tracked


class ViewpointError(Complaint):
    """What is wrong with a camera's file, and what to do; one line."""


@dataclass(frozen=True)
class Viewpoint:
    """Lens in pixels, distortion as OpenCV orders it (k1, k2, p1, p2, k3), and place in the tracker's world, z up.

    `turn` is a rotation vector (rad): it takes the camera's axes, x right, y down, z ahead, to the world's.
    """

    schema: int
    camera: str  # serial number, or what stands for it
    made: str  # ISO 8601, UTC
    width: int
    height: int
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: tuple[float, float, float, float, float]
    position: tuple[float, float, float]  # m
    turn: tuple[float, float, float]
    spread_m: float = 0.0  # farthest that one of the pictures it is from has the camera from here, and
    spread_deg: float = 0.0  # turned
    pictures: tuple[str, ...] = ()
    source: str = ""  # where they lie
    digest: str = ""  # SHA-256 of all of them

    @property
    def matrix(self) -> Array:
        """Of the lens, (3, 3)."""
        return np.array(((self.focal[0], 0.0, self.centre[0]), (0.0, self.focal[1], self.centre[1]), (0.0, 0.0, 1.0)))

    @property
    def axes(self) -> Array:
        """The camera's axes in the world, as columns (3, 3)."""
        angle = math.hypot(*self.turn)
        if angle < 1e-12:
            return np.eye(3)
        x, y, z = (part / angle for part in self.turn)
        cross = np.array(((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0)))
        out: Array = np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
        return out


def path_of(camera: str, folder: Path) -> Path:
    """The file of one camera in the calibration folder. ViewpointError for a serial that names no file."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", camera):
        raise ViewpointError(
            f"the tracker's camera is {camera!r}; write the camera's serial number (letters, digits, '.', '_', '-')"
        )
    return folder / "cameras" / f"{camera}.viewpoint.json"


def write(view: Viewpoint, path: Path) -> None:
    """Whole or not at all, and durable."""
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(dataclasses.asdict(view)), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ViewpointError(f"{path}: not written: {error.strerror}; make room or the folder writable") from None


def load(camera: str, folder: Path, size: tuple[int, int] | None = None) -> Viewpoint:
    """The file of this camera. ViewpointError where there is none, it is of another camera, or of pictures of another `size`."""
    return read(path_of(camera, folder), camera, size)


def read(path: Path, camera: str, size: tuple[int, int] | None = None) -> Viewpoint:
    """The file at `path`, which is to be of this camera; ViewpointError as `load`."""
    try:
        view = msgspec.json.decode(path.read_bytes(), type=Viewpoint)
    except FileNotFoundError:
        raise ViewpointError(
            f"{path}: no such file: where camera {camera} stands was never calibrated; do: {command('calibrate viewpoint')}"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise ViewpointError(f"{path}: not readable: {error}; calibrate the camera again") from None
    numbers = (*view.focal, *view.centre, *view.distortion, *view.position, *view.turn)
    if view.schema != SCHEMA or not all(map(math.isfinite, numbers)) or min(view.focal) <= 0 or min(view.width, view.height) <= 0:
        raise ViewpointError(f"{path}: holds what no calibration finds; calibrate the camera again")
    if view.camera != camera:
        raise ViewpointError(f"{path}: is of camera {view.camera!r}, this is {camera!r}; calibrate this one")
    if size is not None and size != (view.width, view.height):
        raise ViewpointError(
            f"{path}: is of pictures of {view.width} x {view.height}, these are {size[0]} x {size[1]}; calibrate at this size"
        )
    return view
