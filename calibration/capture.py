"""Live pictures of a board: one is kept when the board is held still and shows what no kept one does. Until nothing is missing.

The terminal shows what of the picture is covered; where there is a display, a window shows the camera's picture as well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.calibration.board import Charuco
from robotrl.calibration.store import CalibrationError
from robotrl.calibration.views import Array, Coverage, View, find, rough
from robotrl.clock import Clock
from robotrl.config import CameraPort

Pixels = NDArray[np.uint8]
STILL_PX = 0.5  # moved less than this since the frame before: no blur worth the name; chosen
ELSEWHERE, TURNED, FARTHER = 0.12, 0.14, 0.15  # of the picture's width, rad, of the distance: another view; chosen
WANTED = 25  # views: then deviations of the focal length are near 0.1 % at 0.2 px of noise (bench calibration)
KEPT = "kept"
PATIENCE_NS = 2_000_000_000  # without a frame
GIVE_UP_NS = 600_000_000_000


class Picture(Protocol):
    """A camera's frame (drivers/camera.py)."""

    def pixels(self) -> Pixels | None: ...


class Source(Protocol):
    """A camera (drivers/camera.py)."""

    @property
    def identity(self) -> str: ...

    def read(self, deadline: int) -> Picture | None: ...

    def close(self) -> None: ...


def wiring_of(robot: config.Robot, name: str) -> CameraPort:
    """How a camera is connected: one of the robot file's by its name there, else one on USB by its serial number."""
    return robot.cameras[name] if name in robot.cameras else CameraPort(serial=name)


def identity_of(robot: config.Robot, name: str) -> str:
    """What its records are kept by: its serial number, or its name in the robot file where it has none (`Robot.seen_by`)."""
    return wiring_of(robot, name).serial or name


class Keeper:
    """Chooses among the views of a moving board. `kept` are those taken, `coverage` what they cover."""

    def __init__(self, board: Charuco, size: tuple[int, int]) -> None:
        self.kept: list[View] = []
        self.coverage = Coverage(board, size)
        self._points, self._matrix, self._size = board.corners(), rough(size), size
        self._before: View | None = None
        self._poses: list[tuple[Array, Array, float]] = []

    @property
    def done(self) -> bool:
        return len(self.kept) >= WANTED and not self.coverage.missing()

    def offer(self, view: View | None) -> str:
        """KEPT, or why this frame's view, the next after the last that was offered, was not. None: the board is not in it."""
        before, self._before = self._before, view
        if view is None:
            return "not seen"
        if before is None or not self._still(before, view):
            return "hold it still"
        found, turn, place = cv2.solvePnP(self._points[view.ids], view.corners, self._matrix, None)
        if not found:
            return "tilt it less"
        far = float(np.linalg.norm(place))
        pose = (view.corners.mean(0) / self._size[0], np.asarray(cv2.Rodrigues(turn)[0][:, 2], float), far)
        if any(self._alike(pose, other) for other in self._poses):
            return "show it elsewhere, tilted otherwise, nearer or farther"
        self._poses.append(pose)
        self.kept.append(view)
        self.coverage.add(view)
        return KEPT

    @staticmethod
    def _still(before: View, now: View) -> bool:
        _, a, b = np.intersect1d(before.ids, now.ids, return_indices=True)
        return len(a) >= 4 and float(np.abs(before.corners[a] - now.corners[b]).max()) < STILL_PX

    @staticmethod
    def _alike(a: tuple[Array, Array, float], b: tuple[Array, Array, float]) -> bool:
        near = float(np.linalg.norm(a[0] - b[0])) < ELSEWHERE and abs(a[2] - b[2]) < FARTHER * b[2]
        return near and float(np.arccos(np.clip(a[1] @ b[1], -1, 1))) < TURNED


def collect(camera: Source, board: Charuco, folder: Path, clock: Clock, window: bool, out: Any = sys.stdout) -> int:
    """Pictures of the board into `folder` until they are enough; how many. CalibrationError: no frames, another size, no end."""
    keeper: Keeper | None = None
    folder.mkdir(parents=True, exist_ok=True)
    began = clock.now()
    while keeper is None or not keeper.done:
        frame = camera.read(clock.now() + PATIENCE_NS)
        image = frame.pixels() if frame is not None else None
        if image is None:
            raise CalibrationError(f"camera {camera.identity}: no picture for {PATIENCE_NS / 1e9:g} s; look at its cable")
        size = (image.shape[1], image.shape[0])
        if keeper is None:
            keeper = Keeper(board, size)
        if size != keeper.coverage.size:
            raise CalibrationError(f"camera {camera.identity}: its pictures are {size} px all at once; keep to one resolution")
        view = find(board, f"{len(keeper.kept):03d}.png", image)
        word = keeper.offer(view)
        if word == KEPT and not cv2.imwrite(str(folder / f"{len(keeper.kept) - 1:03d}.png"), image):
            raise CalibrationError(f"{folder}: pictures cannot be written there; make room")
        _show(keeper, view, image, word, window, out)
        if clock.now() - began > GIVE_UP_NS:
            raise CalibrationError(
                f"not enough after {GIVE_UP_NS / 6e10:g} minutes; missing: {'; '.join(keeper.coverage.missing())}"
            )
    return len(keeper.kept)


def has_display() -> bool:
    """Whether a window can be shown here."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _show(keeper: Keeper, view: View | None, image: Pixels, word: str, window: bool, out: Any) -> None:
    text = keeper.coverage.text(WANTED).splitlines()
    text.append("board: " + (f"{len(view.ids)} corners, " if view is not None else "") + word)
    if out.isatty():
        out.write("\x1b[H\x1b[J" + "\n".join(text) + "\n")
    elif word == KEPT:
        out.write(f"{text[0]}; {text[-2]}\n")
    out.flush()
    if window:
        shown = image.copy() if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        if view is not None:
            cv2.aruco.drawDetectedCornersCharuco(
                shown, view.corners.astype(np.float32)[:, None], view.ids.astype(np.int32)[:, None]
            )
        cv2.imshow("robotrl calibrate intrinsics", shown)
        cv2.waitKey(1)
