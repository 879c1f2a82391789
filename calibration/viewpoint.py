"""Where the tracker's camera stands, from pictures of the robot at the start of its track.

    robotrl calibrate viewpoint --camera SERIAL --images DIR [--height M] [--roll DEG --pitch DEG]

Stand the robot where its track begins, looking along it: that is the tracker's origin and its x axis. Take a few pictures
without moving anything. The lens must be calibrated (`robotrl calibrate intrinsics`). On a floor that is not level, say the
torso's roll and pitch as its IMU has them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from robotrl import boardpose, tagcorners
from robotrl.boardpose import Array, angle_between
from robotrl.calibration import devices, store, views
from robotrl.calibration.devices import Intrinsics
from robotrl.calibration.store import CalibrationError
from robotrl.robot import Roof
from robotrl.tagboard import corners, plates
from robotrl.viewpoint import SCHEMA, Viewpoint, path_of, write

HEIGHT_M = 0.277  # of a Minitaur's hips over the floor, as a reset leaves it
SPREAD_M, SPREAD_DEG = 0.02, 1.0  # between pictures of what does not move; chosen
Pose = tuple[Array, Array]


def board_in(image: np.ndarray, lens: Intrinsics, roof: Roof) -> Pose | None:
    """Camera from torso, (3, 3) and (3,) m, by the tags in a picture alone; None without at least two plates of them."""
    seen = tagcorners.find(tagcorners.detector(), np.asarray(image, np.uint8), roof.ids)
    of = {name: i for i, plate in enumerate(plates(roof)) for name, _ in plate.tags}
    rows: dict[int, list[int]] = {}
    for k, name in enumerate(seen):
        rows.setdefault(of[name], []).extend(range(4 * k, 4 * k + 4))
    if len(rows) < 2:
        return None
    fx, fy, cx, cy, *distortion = lens.lens
    matrix = np.array(((fx, 0, cx), (0, fy, cy), (0, 0, 1)))
    pixels = np.concatenate(list(seen.values()))
    ideal = np.asarray(cv2.undistortPoints(pixels[:, None], matrix, np.array(distortion)), float)[:, 0]
    points = np.concatenate([corners(roof)[name] for name in seen])
    fit = boardpose.solve(points, ideal, fx, rows.values(), None)
    return (fit.rotation, fit.position) if fit is not None and boardpose.sound(fit) else None


def camera_of(board: Pose, torso: Pose) -> Pose:
    """World from camera, where the camera sees the board so and the torso stands in the world so."""
    axes = torso[0] @ board[0].T
    return axes, torso[1] - axes @ board[1]


def mean(poses: Sequence[Pose]) -> tuple[Pose, float, float]:
    """The middle of them, and how far from it the farthest is: m, degrees."""
    left, _, right = np.linalg.svd(np.sum([axes for axes, _ in poses], axis=0))
    axes, place = left @ np.diag((1.0, 1.0, np.linalg.det(left @ right))) @ right, np.mean([at for _, at in poses], axis=0)
    off = max(float(np.linalg.norm(at - place)) for _, at in poses)
    return (axes, place), off, max(math.degrees(angle_between(axes, a)) for a, _ in poses)


def from_folder(camera: str, folder: Path, roof: Roof, torso: Pose, records: Path | None) -> Viewpoint:
    """CalibrationError: no picture of two plates, a lens that is not calibrated, pictures that differ."""
    paths = views.pictures(folder)
    images = {path.name: views.picture(path) for path in paths}
    sizes = {(image.shape[1], image.shape[0]) for image in images.values()}
    if len(sizes) != 1:
        raise CalibrationError(f"{folder}: pictures of {len(sizes)} sizes; take all with one setting of one camera")
    ((width, height),) = sizes
    lens = devices.lens_of(camera, width, height, records)
    found = {name: pose for name, image in images.items() if (pose := board_in(image, lens, roof)) is not None}
    if not found:
        raise CalibrationError(
            f"{folder}: none of {len(paths)} pictures shows tags on two plates of the robot's roof; take them from nearer or"
            " from higher up"
        )
    (axes, place), off, turned = mean([camera_of(pose, torso) for pose in found.values()])
    if off > SPREAD_M or turned > SPREAD_DEG:
        raise CalibrationError(
            f"{folder}: its pictures have the camera {off * 1000:.0f} mm and {turned:.1f} deg apart;"
            " nothing may move between them: take them again"
        )
    turn = cv2.Rodrigues(axes)[0].ravel().tolist()
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = lens.lens
    x, y, z = place.tolist()
    return Viewpoint(
        schema=SCHEMA, camera=camera, made=store.today(), width=width, height=height, focal=(fx, fy), centre=(cx, cy),
        distortion=(k1, k2, p1, p2, k3), position=(x, y, z), turn=(turn[0], turn[1], turn[2]), spread_m=off, spread_deg=turned,
        pictures=tuple(found), source=str(folder), digest=views.digest(paths),
    )  # fmt: skip


def torso_at(height: float, roll: float, pitch: float) -> Pose:
    """World from torso, of a robot at the origin that looks along x; rad."""
    (cr, sr), (cp, sp) = (math.cos(roll), math.sin(roll)), (math.cos(pitch), math.sin(pitch))
    return np.array(((cp, sp * sr, sp * cr), (0.0, cr, -sr), (-sp, cp * sr, cp * cr))), np.array((0.0, 0.0, height))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("robotrl calibrate viewpoint", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--camera", required=True, metavar="SERIAL", help="its serial number, as in the robot file")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures of the robot at its start")
    parser.add_argument("--height", type=float, default=HEIGHT_M, metavar="M", help=f"of its hips over the floor ({HEIGHT_M:g})")
    parser.add_argument("--roll", type=float, default=0.0, metavar="DEG", help="of the torso meanwhile (0)")
    parser.add_argument("--pitch", type=float, default=0.0, metavar="DEG", help="of the torso meanwhile (0)")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the records")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    numbers = {"--height": args.height, "--roll": args.roll, "--pitch": args.pitch}
    for name, value in numbers.items():
        if not abs(value) < (10 if name == "--height" else 45):  # nan fails
            parser.error(f"{name} is {value}, as no robot stands")
    torso = torso_at(args.height, math.radians(args.roll), math.radians(args.pitch))
    view = from_folder(args.camera, args.images, Roof(), torso, args.calibration)
    path = path_of(args.camera, store.folder(args.calibration))
    write(view, path)
    print(
        f"camera {args.camera} stands at {', '.join(f'{v:.3f}' for v in view.position)} m; {len(view.pictures)} pictures agree to"
        f" {view.spread_m * 1000:.1f} mm and {view.spread_deg:.2f} deg\nwrote {path}"
    )
    if args.json:
        print(json.dumps({"wrote": str(path)} | dataclasses.asdict(view)))
    return 0
