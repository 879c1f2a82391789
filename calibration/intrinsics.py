"""A camera's lens: focal lengths, centre, distortion, from pictures of a ChArUco board, and how sure each of them is.

    robotrl calibrate intrinsics --camera SERIAL --images DIR           pictures that are there
    robotrl calibrate intrinsics [RUN.toml] --camera SERIAL|NAME        live: move the board about until nothing is missing

A NAME is one of the robot file's cameras. Live, the pictures are kept, and the record says where. The board is `robotrl board
--kind charuco`. Zhang (2000) as OpenCV has it; deviations are those of `calibrateCameraExtended`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from robotrl.calibration import capture, devices, store, tool, views
from robotrl.calibration.board import CHARUCO, Charuco, check
from robotrl.calibration.devices import LENS, Intrinsics
from robotrl.calibration.store import CalibrationError
from robotrl.calibration.views import Array, Coverage, View
from robotrl.clock import WallClock
from robotrl.config import CameraPort

OUTLIER, OUTLIER_PX = 3.0, 0.3  # a view whose corners lie so many times farther off than the middle one's, and so far; chosen
RMS_MAX = 1.5  # px: no lens of this model, or no flat board; chosen
FOCAL_SURE = 0.002  # standard deviation of the focal length, of its length: beyond it the data are too thin; chosen
SURE = 2.0  # deviations from 0 from which on the sixth order of the distortion is believed; chosen


@dataclass(frozen=True, eq=False)
class Lens:
    """What views say. `values` and `deviation` (9,) in the order of LENS."""

    values: Array
    deviation: Array
    rms: float  # px
    used: list[View]
    view_rms: Array  # px, of `used`
    dropped: list[str]  # names of views whose corners lie far off

    @property
    def matrix(self) -> Array:
        fx, fy, cx, cy = self.values[:4]
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def estimate(board: Charuco, seen: list[View]) -> Lens:
    """The lens by which the views' corners lie least far off. CalibrationError for views that are too thin, or of no one lens."""
    used = list(seen)
    dropped: list[str] = []
    while True:
        lens = _fit(board, used, dropped, 0)
        middle = float(np.median(lens.view_rms))
        far = lens.view_rms > max(OUTLIER * middle, middle + OUTLIER_PX)
        if not far.any() or len(used) - far.sum() < 4:
            break
        dropped = dropped + [v.name for v, out in zip(used, far, strict=True) if out]
        used = [v for v, out in zip(used, far, strict=True) if not out]
    if abs(lens.values[8]) < SURE * lens.deviation[8]:  # not to be told from 0, it only makes the others unsure
        lens = _fit(board, used, dropped, cv2.CALIB_FIX_K3)
    coverage = Coverage(board, used[0].size, lens.matrix)
    for view in used:
        coverage.add(view)
    if lacks := coverage.missing():
        raise CalibrationError(f"the views are too thin for a lens; missing: {'; '.join(lacks)}")
    if not lens.rms <= RMS_MAX:
        raise CalibrationError(
            f"corners lie {lens.rms:.1f} px from where any lens would put them, {RMS_MAX:g} at most: flatten the board, hold it"
            f" still, and print it as `robotrl board` does ({board})"
        )
    unsure = float((lens.deviation[:2] / lens.values[:2]).max())
    if not unsure <= FOCAL_SURE:
        raise CalibrationError(
            f"the focal length is sure to {100 * unsure:.1f} % only, {100 * FOCAL_SURE:g} % is asked; add tilted views that fill"
            " the picture"
        )
    return lens


def _fit(board: Charuco, used: list[View], dropped: list[str], flags: int) -> Lens:
    points = board.corners()
    try:
        rms, matrix, distortion, _, _, deviation, _, view_rms = cv2.calibrateCameraExtended(
            [points[v.ids].astype(np.float32) for v in used], [v.corners.astype(np.float32) for v in used], used[0].size,
            np.eye(3), np.zeros(5), flags=flags,
        )  # fmt: skip
    except cv2.error as error:
        raise CalibrationError(f"{len(used)} views, and OpenCV finds no lens ({error.err}); add views") from None
    values = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], *np.ravel(distortion)[:5]])
    if not np.isfinite(values).all() or not np.isfinite(deviation).all():
        raise CalibrationError(f"{len(used)} views say nothing of the lens; add tilted ones")
    sure = np.asarray(np.ravel(deviation)[: len(LENS)], float)
    return Lens(values, sure, float(rms), used, np.asarray(np.ravel(view_rms), float), dropped)


def record_of(lens: Lens, board: Charuco, camera: str, folder: Path, without: list[str], digest: str) -> Intrinsics:
    width, height = lens.used[0].size
    rejected = [f"{n}: no board" for n in without] + [f"{n}: its corners lie far off" for n in lens.dropped]
    return Intrinsics(
        schema=store.SCHEMA, camera=camera, made=store.today(), width=width, height=height, lens=tuple(lens.values.tolist()),
        deviation=tuple(lens.deviation.tolist()), rms=lens.rms, view_rms=tuple(lens.view_rms.tolist()), board=str(board),
        views=tuple(v.name for v in lens.used), rejected=tuple(rejected), source=str(folder), digest=digest,
    )  # fmt: skip


def from_folder(board: Charuco, camera: str, folder: Path) -> Intrinsics:
    """The record of a folder of pictures. CalibrationError: none, mixed sizes, damaged, without a board, too thin."""
    paths = views.pictures(folder)
    seen, without = views.seen(board, paths)
    if len(seen) < 4:
        raise CalibrationError(
            f"{folder}: {len(seen)} of {len(paths)} pictures show {CHARUCO if board == CHARUCO else board}; print that"
            " (robotrl board), light it well, or say what was printed with --columns, --rows, --square"
        )
    try:
        lens = estimate(board, seen)
    except CalibrationError as error:
        raise CalibrationError(f"{folder}: {error}") from None
    return record_of(lens, board, camera, folder, without, views.digest(paths))


def taken(wiring: CameraPort, board: Charuco, folder: Path) -> Path:
    """Live pictures, in the folder that is returned. CameraError when the camera cannot be had."""
    from robotrl.drivers.cameras import connect

    clock = WallClock()
    camera = connect(wiring, clock)
    try:
        count = capture.collect(camera, board, folder, clock, capture.has_display())
    finally:
        camera.close()
    print(f"{count} pictures in {folder}")
    return folder


def board_of(args: argparse.Namespace) -> Charuco:
    """The board that the command line names."""
    changes = {k: v for k in ("columns", "rows") if (v := getattr(args, k)) is not None}
    sizes = {k: v / 1000 for k, v in (("square_m", args.square), ("marker_m", args.marker)) if v is not None}
    if args.square is not None and args.marker is None:
        sizes["marker_m"] = round(args.square * CHARUCO.marker_m / CHARUCO.square_m, 1) / 1000
    board = dataclasses.replace(CHARUCO, **changes, **sizes)
    check(board)
    return board


def add_board(parser: argparse.ArgumentParser) -> None:
    """The options of a board that was not printed as `robotrl board` does by default."""
    parser.add_argument("--columns", type=int, help=f"squares of the board across ({CHARUCO.columns})")
    parser.add_argument("--rows", type=int, help=f"squares of the board down ({CHARUCO.rows})")
    parser.add_argument(
        "--square", type=float, metavar="MM", help=f"of the board, as measured on the print ({CHARUCO.square_m * 1000:g})"
    )
    parser.add_argument("--marker", type=float, metavar="MM", help=f"in a square ({CHARUCO.marker_m * 1000:g})")


def main(argv: list[str]) -> int:
    """`calibrate intrinsics`: 0 when the file is written. CalibrationError says what is missing or wrong."""
    parser = tool.parser("calibrate intrinsics", (__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--camera", required=True, metavar="SERIAL", help="the record is of this one; or its name in the robot file"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="pictures of the board that are there, instead of live ones")
    add_board(parser)
    args = parser.parse_args(argv)
    board, robot = board_of(args), tool.robot_of(args)
    camera = capture.identity_of(robot, args.camera)
    folder = args.images or taken(capture.wiring_of(robot, args.camera), board, devices.pictures_path(camera, args.calibration))
    record = from_folder(board, camera, folder)
    path = devices.lens_path(camera, record.width, record.height, args.calibration)
    store.write(record, path)
    for name, value, sure in zip(LENS, record.lens, record.deviation, strict=True):
        print(f"{name}  {value:9.3f} +- {sure:.3f}" if name[0] in "fc" else f"{name}  {value:9.5f} +- {sure:.5f}")
    print(
        f"corners lie {record.rms:.2f} px off (rms) in {len(record.views)} views"
        + (f"; not used: {'; '.join(record.rejected)}" if record.rejected else "")
    )
    print(f"wrote {path}")
    if args.json:
        print(json.dumps({"wrote": str(path)} | dataclasses.asdict(record)))
    return 0
