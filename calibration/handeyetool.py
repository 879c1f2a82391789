"""Where a camera is mounted on a robot: in its hand, or looking at it.

    robotrl calibrate hand-eye launch/arm.toml --mount hand --camera SERIAL --samples DIR           samples that are there
    robotrl calibrate hand-eye launch/arm.toml --mount hand --camera SERIAL --samples DIR --live    taken now, by hand

In hand: the board lies still somewhere, the camera is on the gripper. To base: the camera stands still, the board is in the
gripper. Fifteen samples, the gripper turned about every axis. Live, the arm's torque is off: hold it, it falls.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

from robotrl import config
from robotrl.calibration import capture, devices, handeye, samples, store, tool, views
from robotrl.calibration.board import Charuco
from robotrl.calibration.capture import Source
from robotrl.calibration.devices import HandEye
from robotrl.calibration.handeye import Found, Mount
from robotrl.calibration.intrinsics import add_board, board_of
from robotrl.calibration.samples import Samples
from robotrl.calibration.store import CalibrationError
from robotrl.clock import Clock, WallClock
from robotrl.config import CameraPort
from robotrl.serialarm import ARMS

READINGS = 10  # of the joints, a fifth of a second; chosen
FORGET = 6  # readings: an angle far from the last is believed after some, and between two samples the arm went far
STILL_RAD = 0.01  # an arm held by hand moves less; chosen
FRAME_NS = 2_000_000_000


def record_of(found: Found, taken: Samples, robot: config.Robot, camera: str, mount: Mount, folder: Path) -> HandEye:
    target = found.target
    return HandEye(
        schema=store.SCHEMA, robot=robot.name, kind=robot.kind, serial=robot.serial, camera=camera, made=store.today(),
        mount=mount, rotation=tuple(found.camera[:3, :3].ravel().tolist()), translation=tuple(found.camera[:3, 3].tolist()),
        target=(*target[:3, :3].ravel().tolist(), *target[:3, 3].tolist()), deviation=tuple(found.deviation.tolist()),
        residual_deg=tuple(found.residual_deg.tolist()), residual_m=tuple(found.residual_m.tolist()), rms_px=found.rms_px,
        axes_deg=tuple(found.axes_deg.tolist()), samples=taken.names, source=str(folder), digest=taken.digest,
    )  # fmt: skip


def collect(
    chain: tool.Chain, robot: config.Robot, camera: Source, board: Charuco, folder: Path, clock: Clock,
    more: Callable[[str], bool], say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Samples from an arm that is moved by hand, its torque off; how many. `more(question)`: whether it is held for another."""
    chain.stop()
    if not chain.confirmed_off():
        raise CalibrationError("the servos do not confirm torque off; check their power and run again")
    count = len(list(folder.glob("*.json")))
    while more(f"sample {count + 1}: bring the arm to another pose, the board in view, and hold it still"):
        joints = _held(chain, robot, clock)
        frame = camera.read(clock.now() + FRAME_NS)
        image = frame.pixels() if frame is not None else None
        if image is None:
            raise CalibrationError(f"camera {camera.identity}: no picture for {FRAME_NS / 1e9:g} s; look at its cable")
        after = _held(chain, robot, clock)
        if joints is None or after is None or max(abs(a - b) for a, b in zip(joints, after, strict=True)) > STILL_RAD:
            say("the arm moved: hold it still, and again")
        elif (view := views.find(board, "", image)) is None:
            say(f"no board in view ({board}): another pose")
        else:
            samples.write(folder, count, tuple((a + b) / 2 for a, b in zip(joints, after, strict=True)), image)
            count += 1
            say(f"kept: {len(view.ids)} corners")
    return count


def _held(chain: tool.Chain, robot: config.Robot, clock: Clock) -> tuple[float, ...] | None:
    """Mean angles over READINGS, (n,) rad; None where they moved. CalibrationError for a servo that does not answer."""
    rows = []
    for _ in range(FORGET):
        chain.read(0)
        clock.sleep_until(clock.now() + tool.PERIOD_NS)
    for tick in range(READINGS):
        joints = chain.read(tick)
        for servo, missed in zip(robot.servos.ids, joints.missed, strict=True):
            if missed:
                raise CalibrationError(f"servo {servo} did not answer; check its cable and run again")
        rows.append(joints.position)
        clock.sleep_until(clock.now() + tool.PERIOD_NS)
    columns = list(zip(*rows, strict=True))
    if not all(max(c) - min(c) <= STILL_RAD for c in columns):
        return None
    return tuple(math.fsum(c) / len(c) for c in columns)


def live(wiring: CameraPort, robot: config.Robot, board: Charuco, folder: Path) -> None:
    """Take samples from the calibrated arm on its port until the person has enough. Raises Camera-, Port- and DeviceError."""
    from robotrl.drivers.cameras import connect
    from robotrl.drivers.chains import baud_of, chain_of
    from robotrl.drivers.port import SerialPort

    if robot.kind not in ARMS:
        raise CalibrationError(
            f"{robot.name}: no arm whose kinematics are known ({', '.join(ARMS)}); give samples with its poses"
        )
    tool.require(f"{robot.name}'s torque goes off: is somebody holding it?", False)
    clock = WallClock()
    port = SerialPort(robot.servos.port, baud_of(robot.servos), clock)
    try:
        camera = connect(wiring, clock)
        try:
            collect(chain_of(port, robot, clock), robot, camera, board, folder, clock, _asked)
        finally:
            camera.close()
    finally:
        port.close()


def _asked(question: str) -> bool:
    return input(f"{question}; Enter takes it, q ends: ").strip().lower() != "q"


def main(argv: list[str]) -> int:
    """`calibrate hand-eye`: 0 when the file is written. Raises Calibration-, Config-, Port- and DeviceError."""
    parser = tool.parser("calibrate hand-eye", (__doc__ or "").split("\n\n")[0])
    parser.add_argument("--mount", choices=("hand", "base"), required=True, help="camera on the gripper, or looking at it")
    parser.add_argument("--camera", required=True, metavar="SERIAL", help="its lens must be calibrated")
    parser.add_argument("--samples", type=Path, required=True, metavar="DIR", help="NNN.json, each with NNN.png")
    parser.add_argument(
        "--live", action="store_true", help="take samples into DIR first: the arm is moved by hand, without torque"
    )
    add_board(parser)
    args = parser.parse_args(argv)
    robot, board = tool.robot_of(args), board_of(args)
    camera = capture.identity_of(robot, args.camera)
    path = devices.hand_eye_path(robot, camera, args.calibration)
    if args.live:
        live(capture.wiring_of(robot, args.camera), store.calibrated(robot, args.calibration), board, args.samples)
    taken = samples.read(args.samples, robot, board, camera, args.calibration)
    found = handeye.solve(taken.robot, taken.board, args.mount, taken.corners)
    record = record_of(found, taken, robot, camera, args.mount, args.samples)
    store.write(record, path)
    print(report(record, taken))
    print(f"wrote {path}")
    if args.json:
        print(json.dumps({"wrote": str(path)} | dataclasses.asdict(record)))
    return 0


def report(record: HandEye, taken: Samples) -> str:
    """The result for a person."""
    where = "the gripper" if record.mount == "hand" else "the base"
    worst = max(range(len(record.samples)), key=lambda i: record.residual_m[i])
    lines = [
        f"the camera is at {' '.join(f'{1000 * v:.1f}' for v in record.translation)} mm in the frame of {where},"
        f" +- {' '.join(f'{1000 * v:.1f}' for v in record.deviation[3:])}; its axes are sure to"
        f" {' '.join(f'{math.degrees(v):.2f}' for v in record.deviation[:3])} degrees",
        f"{len(record.samples)} samples turned by {' '.join(f'{v:.0f}' for v in record.axes_deg)} degrees about three axes; the"
        f" board is off by {_rms(record.residual_deg):.2f} degrees and {1000 * _rms(record.residual_m):.1f} mm (rms), most in"
        f" {record.samples[worst]}: {record.residual_deg[worst]:.2f} degrees, {1000 * record.residual_m[worst]:.1f} mm",
    ]
    if taken.corners is not None:
        lines.append(f"corners lie {record.rms_px:.2f} px off (rms)")
    if taken.without:
        lines.append(f"no board in view, not used: {', '.join(taken.without)}")
    return "\n".join(lines)


def _rms(values: tuple[float, ...]) -> float:
    return math.sqrt(math.fsum(v * v for v in values) / len(values))
