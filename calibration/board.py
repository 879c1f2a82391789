"""Boards that cameras look at, and their PDF at true scale: ChArUco for calibration, a roof of tags for a robot's torso.

    robotrl board --kind charuco --out board.pdf [--paper a4] [--square MM]
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


CHARUCO = Charuco()


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


def check(board: Charuco) -> None:
    """CalibrationError for a board that cannot be made."""
    sound = board.columns >= 4 and board.rows >= 4 and 0 < board.marker_m < 0.9 * board.square_m < 1
    if not sound or not all(map(math.isfinite, board.size_m)):
        raise CalibrationError(
            f"{board}: a ChArUco board has 4 x 4 squares or more, and markers smaller than 0.9 of a square; change its sizes"
        )
    tags, known = board.columns * board.rows // 2, len(dictionary_of(board.dictionary).bytesList)
    if tags > known:
        raise CalibrationError(f"{board}: needs {tags} tags, {board.dictionary} has {known}; take fewer or a larger one")


def page(board: Charuco, paper: str) -> tuple[pdf.Page, tuple[float, float]]:
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
    return out, (left, top)


def ruler(out: pdf.Page, left: float, y: float) -> None:
    """A line of RULER_MM, with a tick every 10."""
    out.line(left, y, left + RULER_MM, y)
    for mm in range(0, int(RULER_MM) + 1, 10):
        out.line(left + mm, y, left + mm, y - (3.0 if mm in (0, int(RULER_MM)) else 1.5))


def main(argv: list[str]) -> int:
    """`board`: 0 when the PDF is written. CalibrationError for a board that cannot be, or not on this paper."""
    parser = argparse.ArgumentParser("robotrl board", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kind", choices=("charuco", "roof"), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the PDF")
    parser.add_argument("--paper", choices=tuple(pdf.PAPER), default="a4")
    parser.add_argument("--square", type=float, metavar="MM", help=f"of the chessboard ({CHARUCO.square_m * 1000:g})")
    parser.add_argument("--columns", type=int, help="squares across")
    parser.add_argument("--rows", type=int, help="squares down")
    parser.add_argument("--tag", type=float, metavar="MM", help="of the roof's tags (100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.kind == "roof":
        from robotrl.calibration import roofprint

        return roofprint.write(args.out, args.paper, args.tag, as_json=args.json)
    changes: dict[str, Any] = {k: v for k in ("columns", "rows") if (v := getattr(args, k)) is not None}
    if args.square is not None:
        ratio = CHARUCO.marker_m / CHARUCO.square_m
        changes |= {"square_m": args.square / 1000, "marker_m": round(args.square * ratio, 1) / 1000}
    board = dataclasses.replace(CHARUCO, **changes)
    drawing, _ = page(board, args.paper)
    try:
        args.out.write_bytes(drawing.data())
    except OSError as error:
        raise CalibrationError(f"{args.out}: not written: {error.strerror}; give --out where there is room") from None
    print(f"wrote {args.out}: {board}\nprint it at 100 %, measure the line, glue it to something flat")
    print(f"next: {command('calibrate intrinsics')}")
    if args.json:
        print(json.dumps({"wrote": str(args.out), "kind": args.kind, "board": dataclasses.asdict(board)}))
    return 0
