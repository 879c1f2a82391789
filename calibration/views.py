"""Pictures of a chessboard: read from a folder, its corners found, and what of the camera's field they cover so far.

No lens is known yet, so tilt and distance are told by a rough one: good enough to say what is missing, no more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.calibration.board import Charuco
from robotrl.calibration.store import CalibrationError

Array = NDArray[np.float64]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
CORNERS_MIN = 8  # of a board that count as a view of it; a pose needs 4, and two rows of them
ROUGH_FOCAL = 0.9  # of the width: 58 degrees across; RealSense and webcams have 0.8 to 1.0
GRID = (4, 3)  # columns and rows into which the picture is divided
VIEWS_MIN = 10  # below it the deviations themselves are not to be trusted; chosen
CELLS_MIN = 11  # of the 12
TILT_DEG, TILTED_MIN = 20.0, 2  # so far, so many views, each way: focal length and distance look alike in level views
RANGE_MIN = 1.3  # farthest to nearest
EDGES = {"upper left": (0, 0), "upper right": (3, 0), "lower left": (0, 2), "lower right": (3, 2)}


@dataclass(frozen=True, eq=False)
class View:
    """One picture's corners: `corners` (n, 2) px and which of the board's they are, `ids` (n,)."""

    name: str
    size: tuple[int, int]  # width, height of the picture, px
    corners: Array
    ids: NDArray[np.int64]


def find(board: Charuco, name: str, image: NDArray[np.uint8]) -> View | None:
    """The board in a picture, (h, w) grey or (h, w, 3); None where too little of it is seen."""
    corners, ids, _, _ = board.detector().detectBoard(image)
    if ids is None or len(ids) < CORNERS_MIN:
        return None
    which = np.asarray(ids, np.int64).ravel()
    rows = {int(i) // (board.columns - 1) for i in which}
    columns = {int(i) % (board.columns - 1) for i in which}
    if len(rows) < 2 or len(columns) < 2:  # on one line: no pose
        return None
    return View(name, (image.shape[1], image.shape[0]), np.asarray(corners, float).reshape(-1, 2), which)


def pictures(folder: Path) -> list[Path]:
    """Those of a folder, by name. CalibrationError where there are none."""
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder; give --images one with pictures of the board")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    if not found:
        raise CalibrationError(f"{folder}: no pictures ({', '.join(PICTURES)}); take some of the board")
    return found


def picture(path: Path) -> NDArray[np.uint8]:
    """(h, w) grey. CalibrationError for a file that is none, or was cut off."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CalibrationError(f"{path}: not readable: {error.strerror}") from None
    ends = {b"\x89PNG": b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}  # a JPEG that was cut off decodes to half a picture
    end = next((end for start, end in ends.items() if data.startswith(start)), b"")
    whole = bool(data) and data.rstrip(b"\0").endswith(end)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if whole else None
    if image is None:
        raise CalibrationError(f"{path}: is no picture, or was cut off ({len(data)} bytes); take it again or remove it")
    return np.asarray(image, np.uint8)


def seen(board: Charuco, paths: Iterable[Path]) -> tuple[list[View], list[str]]:
    """Views of the board, and the names of pictures without it. CalibrationError: mixed sizes, a damaged file."""
    views, without, first = [], [], None
    for path in paths:
        image = picture(path)
        size = (image.shape[1], image.shape[0])
        if first is None:
            first = (path.name, size)
        if size != first[1]:
            raise CalibrationError(
                f"{path}: {size[0]} x {size[1]} px, but {first[0]} has {first[1][0]} x {first[1][1]}: a lens is calibrated at one"
                " resolution; keep the pictures of one"
            )
        view = find(board, path.name, image)
        if view is None:
            without.append(path.name)
        else:
            views.append(view)
    return views, without


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 of the files, names and all."""
    out = hashlib.sha256()
    for path in paths:
        out.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return out.hexdigest()


def rough(size: tuple[int, int]) -> Array:
    """(3, 3): a lens to begin with."""
    focal = ROUGH_FOCAL * max(size)
    return np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])


class Coverage:
    """What views cover. `cells` (rows, columns) how often; `tilts` by way; `distances` in m."""

    def __init__(self, board: Charuco, size: tuple[int, int], matrix: Array | None = None) -> None:
        """`matrix` (3, 3): the lens, where it is known."""
        self.size, self.views = size, 0
        self.cells = np.zeros(GRID[::-1], int)
        self.tilts = dict.fromkeys(("left", "right", "up", "down"), 0)
        self.distances: list[float] = []
        self._points, self._matrix = board.corners(), rough(size) if matrix is None else matrix

    def add(self, view: View) -> None:
        self.views += 1
        at = (view.corners / self.size * GRID).astype(int)
        cells = {(min(max(x, 0), GRID[0] - 1), min(max(y, 0), GRID[1] - 1)) for x, y in at.tolist()}
        for x, y in cells:
            self.cells[y, x] += 1
        found, turn, place = cv2.solvePnP(self._points[view.ids], view.corners, self._matrix, None)
        if not found:
            return
        normal = cv2.Rodrigues(turn)[0][:, 2]
        ways = (("right", "left", normal[0]), ("down", "up", normal[1]))
        for plus, minus, part in ways:
            degrees = math.degrees(math.asin(max(-1.0, min(1.0, part))))
            if abs(degrees) >= TILT_DEG:
                self.tilts[plus if degrees > 0 else minus] += 1
        self.distances.append(float(np.linalg.norm(place)))

    def missing(self) -> list[str]:
        """What to add, each in a few words; empty when it is enough."""
        out = []
        if self.views < VIEWS_MIN:
            out.append(f"{VIEWS_MIN - self.views} more views")
        empty = [name for name, (x, y) in EDGES.items() if not self.cells[y, x]]
        if empty:
            out.append(f"the board in the picture's {', '.join(empty)}")
        elif (covered := int((self.cells > 0).sum())) < CELLS_MIN:
            out.append(f"the board in more of the picture ({covered} of {self.cells.size} fields, {CELLS_MIN} needed)")
        flat = [f"{way} ({n} of {TILTED_MIN})" for way, n in self.tilts.items() if n < TILTED_MIN]
        if flat:
            out.append(f"views tilted by {TILT_DEG:g} degrees and more: {', '.join(flat)}")
        if self.distances and max(self.distances) < RANGE_MIN * min(self.distances):
            out.append(f"views from nearer and farther ({min(self.distances):.2f} to {max(self.distances):.2f} m so far)")
        return out

    def text(self, wanted: int = VIEWS_MIN) -> str:
        """The same for a terminal: views of so many wanted, the picture's fields, tilts, distances, what is missing."""
        bar = "+" + "-----+" * GRID[0]
        rows = [bar]
        for row in self.cells.tolist():
            rows += ["|" + "|".join(f"{n:^5}" if n else "     " for n in row) + "|", bar]
        tilts = "  ".join(f"{way} {n}/{TILTED_MIN}" for way, n in self.tilts.items())
        reach = f"{min(self.distances):.2f} to {max(self.distances):.2f} m" if self.distances else "-"
        more = wanted - max(self.views, VIEWS_MIN)
        needs = "; ".join(self.missing() or ([f"{more} more views, for a surer lens"] if more > 0 else ["nothing"]))
        return "\n".join([f"views {self.views}/{wanted}", *rows, f"tilted  {tilts}", f"distance {reach}", f"missing: {needs}"])
