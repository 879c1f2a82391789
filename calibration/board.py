"""Boards that cameras look at, and their PDF at true scale: ChArUco for calibration, four tags for a robot's torso.

    robotrl board --kind charuco --out board.pdf [--paper a4] [--square MM]
    robotrl board --kind torso --out torso.pdf [--tag MM]
    robotrl board --kind roof --out roof.pdf [--tag MM]         what the tracker by sight sees: five plates (`roofprint.py`)

Print at 100 %, glue to something flat and stiff, and measure the ruler line: where it is not 100 mm long, nothing will be right.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.calibration import pdf
from robotrl.calibration.store import CalibrationError
from robotrl.complaint import command

Array = NDArray[np.float64]
EDGE_MM, FOOT_MM = 5.0, 16.0  # no printer prints the edge; ruler and text need their place below
RULER_MM = 100.0


@dataclass(frozen=True)
class Charuco:
    """A chessboard with a marker in each white square. Its frame: origin at the upper left, x right, y down, z into it.

    The square at the upper left is black; markers count from 0 row by row (OpenCV 4.6 and later, not its legacy pattern).
    """

    columns: int = 9  # squares
    rows: int = 6
    square_m: float = 0.030
    marker_m: float = 0.022
    dictionary: str = "DICT_5X5_100"

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height, m."""
        return self.columns * self.square_m, self.rows * self.square_m

    def corners(self) -> Array:
        """(n, 3) m: inner corners of the chessboard in the order of their ids, row by row."""
        y, x = np.mgrid[1 : self.rows, 1 : self.columns].astype(np.float64)
        return np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], -1) * self.square_m

    def detector(self) -> Any:
        """cv2.aruco.CharucoDetector: detectBoard(image) gives corners (n, 1, 2) px and their ids (n, 1), or None."""
        size = (self.columns, self.rows)
        board = cv2.aruco.CharucoBoard(size, self.square_m, self.marker_m, dictionary_of(self.dictionary))
        return cv2.aruco.CharucoDetector(board)

    def black(self) -> Iterator[pdf.Rectangle]:
        """What is black of it: left, top, width, height in m, from its upper left."""
        tag, inset = 0, (self.square_m - self.marker_m) / 2
        for row in range(self.rows):
            for column in range(self.columns):
                left, top = column * self.square_m, row * self.square_m
                if (row + column) % 2 == 0:
                    yield left, top, self.square_m, self.square_m
                else:
                    yield from tag_black(self.dictionary, tag, left + inset, top + inset, self.marker_m)
                    tag += 1

    def __str__(self) -> str:
        grid = f"{self.columns} x {self.rows} squares of {self.square_m * 1000:g} mm"
        return f"ChArUco, {grid}, markers {self.marker_m * 1000:g} mm, {self.dictionary}"


@dataclass(frozen=True)
class TagBoard:
    """Tags in a grid on a robot's back, seen from above. Its frame: origin in its middle, x forwards, y left, z up.

    On paper, forwards is up. Four tags, far apart, do not flip as a single one does (hardware facts 9).
    """

    columns: int = 2
    rows: int = 2
    tag_m: float = 0.060
    gap_m: float = 0.020
    first: int = 0  # id of the tag at the upper left of the paper; the others follow row by row
    dictionary: str = "DICT_4X4_50"  # 6 modules across: 60 mm at 2 m and 615 px focal length are 3 px a module

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height on paper, m."""
        pitch = self.tag_m + self.gap_m
        return self.columns * pitch - self.gap_m, self.rows * pitch - self.gap_m

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(range(self.first, self.first + self.columns * self.rows))

    def corners(self) -> Array:
        """(n, 4, 3) m, in the order of `ids`; of a tag the corners as cv2.aruco gives them: clockwise from its own upper left."""
        width, height = self.size_m
        square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) * self.tag_m
        right_down = np.array([square + place for place in self._places()]) - (width / 2, height / 2)
        return np.stack([-right_down[..., 1], -right_down[..., 0], np.zeros(right_down.shape[:2])], -1)

    def detector(self) -> Any:
        """cv2.aruco.ArucoDetector: detectMarkers(image) gives corners, a list of (1, 4, 2) px, and ids (n, 1), or None."""
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        return cv2.aruco.ArucoDetector(dictionary_of(self.dictionary), parameters)

    def black(self) -> Iterator[pdf.Rectangle]:
        """What is black of it: left, top, width, height in m, from its upper left."""
        for tag, (left, top) in zip(self.ids, self._places(), strict=True):
            yield from tag_black(self.dictionary, tag, left, top, self.tag_m)

    def _places(self) -> list[tuple[float, float]]:
        """Upper left of each tag on paper, m."""
        pitch = self.tag_m + self.gap_m
        return [(column * pitch, row * pitch) for row in range(self.rows) for column in range(self.columns)]

    def __str__(self) -> str:
        sizes = f"{self.tag_m * 1000:g} mm, {self.gap_m * 1000:g} mm apart"
        return f"torso, tags {self.ids[0]} to {self.ids[-1]} of {sizes}, {self.dictionary}"


CHARUCO, TORSO = Charuco(), TagBoard()


def dictionary_of(name: str) -> Any:
    """A dictionary of cv2.aruco by the name that OpenCV gives it. CalibrationError for one that it does not have."""
    number = getattr(cv2.aruco, name, None) if name.startswith("DICT_") else None
    if number is None:
        raise CalibrationError(f"OpenCV has no dictionary {name!r}; use DICT_4X4_50, DICT_5X5_100 or another of cv2.aruco")
    return cv2.aruco.getPredefinedDictionary(number)


def tag_black(dictionary: str, tag: int, left: float, top: float, size: float) -> Iterator[pdf.Rectangle]:
    """The black modules of one tag, border and all, those in a row together."""
    family = dictionary_of(dictionary)
    across = family.markerSize + 2
    module = size / across
    for row, modules in enumerate(cv2.aruco.generateImageMarker(family, tag, across)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], modules == 0, [0]])))
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            yield left + begin * module, top + row * module, (end - begin) * module, module


def check(board: Charuco | TagBoard) -> None:
    """CalibrationError for a board that cannot be made."""
    if isinstance(board, Charuco):
        sound = board.columns >= 4 and board.rows >= 4 and 0 < board.marker_m < 0.9 * board.square_m < 1
        says = "a ChArUco board has 4 x 4 squares or more, and markers smaller than 0.9 of a square"
        tags = board.columns * board.rows // 2
    else:
        sound = min(board.columns, board.rows) >= 1 and 0 < board.gap_m < 1 and 0 < board.tag_m < 1 and board.first >= 0
        says = "tags need a size, a gap between them, and ids from 0 on"
        sound = sound and board.gap_m >= board.tag_m / (dictionary_of(board.dictionary).markerSize + 2)
        tags = board.first + board.columns * board.rows
    if not sound or not all(map(math.isfinite, board.size_m)):
        raise CalibrationError(f"{board}: {says}; change its sizes")
    if tags > (known := len(dictionary_of(board.dictionary).bytesList)):
        raise CalibrationError(f"{board}: needs {tags} tags, {board.dictionary} has {known}; take fewer or a larger one")


def page(board: Charuco | TagBoard, paper: str) -> tuple[pdf.Page, tuple[float, float]]:
    """The drawing, and where the board's upper left lies on it, mm. CalibrationError where the paper is too small."""
    check(board)
    width, height = (1000 * side for side in board.size_m)
    need = (max(width, RULER_MM) + 2 * EDGE_MM, height + EDGE_MM + FOOT_MM)
    short, long = pdf.PAPER[paper]
    fits = next((s for s in ((short, long), (long, short)) if need[0] <= s[0] and need[1] <= s[1]), None)
    if fits is None:
        larger = [name for name, (a, b) in pdf.PAPER.items() if min(need) <= a and max(need) <= b]
        way = f"use --paper {larger[0]} or a smaller board" if larger else "make the board smaller"
        raise CalibrationError(
            f"a board of {width:g} x {height:g} mm with its ruler needs {need[0]:g} x {need[1]:g} mm,"
            f" {paper} has {short:g} x {long:g}; {way}"
        )
    out = pdf.Page(*fits)
    left, top = (out.width - width) / 2, (out.height - FOOT_MM - height + EDGE_MM) / 2
    out.rectangles((left + x * 1000, top + y * 1000, w * 1000, h * 1000) for x, y, w, h in board.black())
    foot = out.height - FOOT_MM + 4.0
    ruler(out, EDGE_MM + 5.0, foot)
    out.text(EDGE_MM + 5.0, foot + 4.0, f"The line is {RULER_MM:g} mm long, or the print is not to scale. robotrl: {board}", 2.5)
    if isinstance(board, TagBoard):
        middle = out.width / 2
        out.line(middle, top - 12.0, middle, top - 3.0, 0.4)
        for side in (-1.5, 1.5):
            out.line(middle + side, top - 9.0, middle, top - 12.0, 0.4)
        out.text(middle + 3.0, top - 6.0, "forwards")
    return out, (left, top)


def ruler(out: pdf.Page, left: float, y: float) -> None:
    """A line of RULER_MM, with a tick every 10."""
    out.line(left, y, left + RULER_MM, y)
    for mm in range(0, int(RULER_MM) + 1, 10):
        out.line(left + mm, y, left + mm, y - (3.0 if mm in (0, int(RULER_MM)) else 1.5))


def main(argv: list[str]) -> int:
    """`board`: 0 when the PDF is written. CalibrationError for a board that cannot be, or not on this paper."""
    parser = argparse.ArgumentParser("robotrl board", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kind", choices=("charuco", "torso", "roof"), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PDF")
    parser.add_argument("--paper", choices=tuple(pdf.PAPER), default="a4")
    parser.add_argument("--square", type=float, metavar="MM", help=f"of the chessboard ({CHARUCO.square_m * 1000:g})")
    parser.add_argument("--columns", type=int, help="squares, or tags, across")
    parser.add_argument("--rows", type=int, help="squares, or tags, down")
    parser.add_argument("--tag", type=float, metavar="MM", help=f"of the torso's ({TORSO.tag_m * 1000:g})")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.kind == "roof":
        from robotrl.calibration import roofprint

        return roofprint.write(args.out, args.paper, args.tag, as_json=args.json)
    board: Charuco | TagBoard = CHARUCO if args.kind == "charuco" else TORSO
    changes: dict[str, Any] = {k: v for k in ("columns", "rows") if (v := getattr(args, k)) is not None}
    if isinstance(board, Charuco) and args.square is not None:
        ratio = CHARUCO.marker_m / CHARUCO.square_m
        changes |= {"square_m": args.square / 1000, "marker_m": round(args.square * ratio, 1) / 1000}
    if isinstance(board, TagBoard) and args.tag is not None:
        changes |= {"tag_m": args.tag / 1000, "gap_m": args.tag / 3000}
    board = dataclasses.replace(board, **changes)
    drawing, _ = page(board, args.paper)
    try:
        args.out.write_bytes(drawing.data())
    except OSError as error:
        raise CalibrationError(f"{args.out}: not written: {error.strerror}; give --out where there is room") from None
    print(f"wrote {args.out}: {board}\nprint it at 100 %, measure the line, glue it to something flat")
    if args.kind == "charuco":
        print(f"next: {command('calibrate intrinsics')}")
    if args.json:
        print(json.dumps({"wrote": str(args.out), "kind": args.kind, "board": dataclasses.asdict(board)}))
    return 0
