"""The torso's pose by sight: one picture in, one pose out, or the reason why not. Pure: no bus, no clock, no camera.

Only the surroundings of where the board was last are searched; when it is not there, the whole picture, now and then. A pose
comes out when the corners fit it, no other does (`boardpose`), up is where the IMU has it, and it can be reached from the last.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl import boardpose, tagcorners
from robotrl.boardpose import Fit, Gravity
from robotrl.messages import Imu
from robotrl.nodes.leaning import Leaning
from robotrl.tagboard import Roof, corners, plates
from robotrl.viewpoint import Viewpoint, ViewpointError

Array = NDArray[np.float64]
MARGIN = 0.1  # of the board's size in the picture, on each side of where it was
MARGIN_MIN = 24.0  # px
SEARCH_EVERY = 3  # pictures without a trace of the board, of which one is searched wholly
GAP_RAD = 0.35  # between up by the IMU and up by sight: the guard's own bound (row 16)
REACH_M, REACH_M_S = 0.06, 4.0  # from the last pose, and for each second since: faster than any Minitaur runs or falls
TURN_RAD, TURN_RAD_S = 0.2, 12.0
CLOSE_NS, CHECK_EVERY = 100_000_000, 10  # a pose so soon after the last is one with it; each tenth is told from its rivals anew
FORGET_NS = 500_000_000  # after so long a robot may be anywhere
AGREE = 3  # poses in a row that agree with each other and not with the last one before them: it was carried


@dataclass(frozen=True)
class Sighting:
    """Where the torso was when the picture was taken, `t` ns: attitude (3, 3) and place (3,) m in the world."""

    t: int
    rotation: Array
    position: Array
    tags: int
    fit: Fit


class Sight:
    """One camera's. `counts`: pictures by what came of them: seen, nothing, misfit, ambiguous, tilted, jumped, skipped."""

    def __init__(self, roof: Roof, view: Viewpoint) -> None:
        self.view = view
        self.counts: Counter[str] = Counter()
        self.why = "nothing"  # came of the newest picture
        self.tags: dict[int, Array] = {}  # seen in it: corners (4, 2) px
        self._axes, self._at = view.axes, np.array(view.position)
        self._matrix, self._distortion = view.matrix, np.array(view.distortion)
        self._corners = corners(roof)
        self._plate_of = {name: i for i, plate in enumerate(plates(roof)) for name, _ in plate.tags}
        self._reader = tagcorners.detector()
        self.leaning = Leaning()
        self._box: tuple[float, float, float, float] | None = None
        self._missed = 0
        self._last: Sighting | None = None
        self._doubted: list[Sighting] = []

    def hear(self, imu: Imu) -> None:
        """An attitude of the torso."""
        self.leaning.hear(imu)

    def look(self, image: NDArray[np.uint8], t: int) -> Sighting | None:
        """The torso in a picture taken at `t` (ns): grey (height, width) or BGR (height, width, 3). None: see `why`.

        ViewpointError for a picture of another size than the calibration's.
        """
        if image.shape[:2] != (self.view.height, self.view.width):
            raise ViewpointError(
                f"camera {self.view.camera}: its picture is {image.shape[1]} x {image.shape[0]},"
                f" its calibration of {self.view.width} x {self.view.height}; set one to the other"
            )
        seen = self._tags(image)
        self.tags = seen or {}
        self.why, sighting = ("skipped" if seen is None else "nothing", None) if not seen else self._judge(seen, t)
        self.counts[self.why] += 1
        return sighting

    def _tags(self, image: NDArray[np.uint8]) -> dict[int, Array] | None:
        """Tags that are seen, with their corners (4, 2) px; None when nobody looked."""
        if self._box is None and self._missed % SEARCH_EVERY:
            self._missed += 1
            return None
        x0, y0, x1, y1 = self._window()
        part = image[y0:y1, x0:x1]
        if part.ndim == 3:
            part = np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), np.uint8)
        seen = tagcorners.find(self._reader, part, self._corners, (x0, y0))
        if seen:
            everything = np.concatenate(list(seen.values()))
            (left, top), (right, bottom) = everything.min(0), everything.max(0)
            self._box, self._missed = (left, top, right, bottom), 0
        else:
            self._missed = 0 if self._box is not None else self._missed + 1
            self._box = None
        return seen

    def _window(self) -> tuple[int, int, int, int]:
        """What of the picture is searched: x0, y0, x1, y1."""
        if self._box is None:
            return 0, 0, self.view.width, self.view.height
        left, top, right, bottom = self._box
        margin = max(MARGIN_MIN, MARGIN * max(right - left, bottom - top))
        return (
            max(0, int(left - margin)), max(0, int(top - margin)),
            min(self.view.width, int(right + margin) + 1), min(self.view.height, int(bottom + margin) + 1),
        )  # fmt: skip

    def _judge(self, seen: dict[int, Array], t: int) -> tuple[str, Sighting | None]:
        names = list(seen)
        points = np.concatenate([self._corners[name] for name in names])
        pixels = np.concatenate([seen[name] for name in names])
        ideal = np.asarray(cv2.undistortPoints(pixels[:, None], self._matrix, self._distortion), float)[:, 0]
        rows: dict[int, list[int]] = {}
        for k, name in enumerate(names):
            rows.setdefault(self._plate_of[name], []).extend(range(4 * k, 4 * k + 4))
        up, last = self.leaning.at(t), self._recent(t)
        gravity = None if up is None else Gravity(self._axes[2], *up)
        guess = None if last is None else (last.fit.rotation, last.fit.position)
        followed = last is not None and t - last.t < CLOSE_NS and self.counts["seen"] % CHECK_EVERY
        fit = boardpose.solve(points, ideal, self.view.focal[0], () if followed else rows.values(), gravity, guess)
        if fit is None or fit.misfit > boardpose.MISFIT:
            return "misfit", None
        if not boardpose.sound(fit):
            return "ambiguous", None
        sighting = Sighting(t, self._axes @ fit.rotation, self._axes @ fit.position + self._at, len(names), fit)
        if up is not None and float(sighting.rotation[2] @ up[0]) < math.cos(GAP_RAD):
            return "tilted", None
        why, accepted = self._follow(sighting, last)
        if accepted is not None and len(rows) > 1:
            self.leaning.learn(t, sighting.rotation[2])
        return why, accepted

    def _follow(self, sighting: Sighting, last: Sighting | None) -> tuple[str, Sighting | None]:
        """Whether it can be reached from the last pose, or several in a row say that the last one is no more."""
        if last is not None and not reachable(last, sighting):
            agrees = bool(self._doubted) and reachable(self._doubted[-1], sighting)
            self._doubted = [*self._doubted, sighting] if agrees else [sighting]
            if len(self._doubted) < AGREE:
                return "jumped", None
        self._doubted.clear()
        self._last = sighting
        return "seen", sighting

    def _recent(self, t: int) -> Sighting | None:
        return self._last if self._last is not None and 0 < t - self._last.t < FORGET_NS else None


def reachable(a: Sighting, b: Sighting) -> bool:
    """Whether a robot can get from one to the other in the time between."""
    passed = abs(b.t - a.t) * 1e-9
    near = float(np.linalg.norm(b.position - a.position)) <= REACH_M + REACH_M_S * passed
    return near and boardpose.angle_between(a.rotation, b.rotation) <= TURN_RAD + TURN_RAD_S * passed
