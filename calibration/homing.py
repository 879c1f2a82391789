"""Homing: where each motor's zero is. Writes offsets so that robot angle = sign * (servo angle - offset).

    robotrl calibrate homing [RUN.toml] [--yes]
    robotrl calibrate homing launch/arm.toml --pose 0,0,0,0,0,0

The robot is put in a pose that a jig or a hand defines and stays there without torque; nothing moves. A servo's own
setting stays as it is: offsets are kept on the host (a homing offset in the servo would be lost with it).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path

from robotrl import config
from robotrl.calibration import store, tool
from robotrl.calibration.stops import fitted
from robotrl.calibration.store import Calibration, CalibrationError
from robotrl.clock import Clock, WallClock
from robotrl.complaint import command

READINGS = 50  # one second at 50 Hz
SPREAD_RAD = 0.05  # more than this and the robot was moved; encoder noise is a few mrad; chosen
# Both upper links of each leg along the body, by a straight edge across them (hardware facts 1.2: pi/2).
JIG_RAD = math.pi / 2


def measure(chain: tool.Chain, robot: config.Robot, pose: tuple[float, ...], clock: Clock) -> Calibration:
    """Read the limp robot for a second and find the offsets that make the readings `pose` (n,), rad.

    `chain` must be built with all offsets 0. Raises CalibrationError when a servo is silent, faulty or moved, and where a bus
    servo's range would lie across the end of what its encoder counts.
    """
    sign, ids = robot.servos.sign, robot.servos.ids
    if len(pose) != len(ids):
        raise CalibrationError(f"pose has {len(pose)} angles for {len(ids)} servos; correct it")
    middle, spread = resting(chain, robot, clock, READINGS)
    gears = robot.servos.gear or (1.0,) * len(ids)
    offset = tuple(s * g * (m - p) for s, g, m, p in zip(sign, gears, middle, pose, strict=True))
    return Calibration(
        schema=store.SCHEMA,
        robot=robot.name,
        kind=robot.kind,
        serial=robot.serial,
        made=store.today(),
        ids=ids,
        sign=sign,
        offset=offset if robot.servos.protocol == "moteus" else fitted(robot, offset),
        pose=pose,
        spread=spread,
    )


def resting(chain: tool.Chain, robot: config.Robot, clock: Clock, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Median and spread of so many readings of the limp robot, (n,) rad each; nothing moves. CalibrationError as `measure`."""
    ids = robot.servos.ids
    chain.stop()
    if not chain.confirmed_off():
        raise CalibrationError("the servos do not confirm torque off; check their power and run again")
    readings = []
    for tick in range(count):
        joints = chain.read(tick)
        for servo, missed, fault in zip(ids, joints.missed, joints.fault, strict=True):
            if missed:
                raise CalibrationError(f"servo {servo} did not answer; check its cable and run again")
            if fault:
                raise CalibrationError(f"servo {servo} reports fault {fault}; power-cycle it and run again")
        readings.append(joints.position)
        clock.sleep_until(clock.now() + tool.PERIOD_NS)
    columns = [sorted(column) for column in zip(*readings, strict=True)]
    spread = tuple(column[-1] - column[0] for column in columns)
    for servo, width in zip(ids, spread, strict=True):
        if not width <= SPREAD_RAD:
            raise CalibrationError(f"servo {servo} moved by {width:.3f} rad while being read; hold it still, run again")
    return tuple(column[len(column) // 2] for column in columns), spread


def main(argv: list[str]) -> int:
    """`calibrate homing`: 0 when the file is written. Raises CalibrationError, ConfigError, PortError."""
    parser = tool.parser("calibrate homing", "Where each motor's zero is. Nothing moves.")
    parser.add_argument("--angle", type=float, metavar="RAD", help="every motor's angle (a Minitaur's jig: pi/2)")
    parser.add_argument("--pose", metavar="RAD,...", help="or each motor's own, in the robot's order")
    parser.add_argument("--lerobot", type=Path, metavar="FILE", help="an SO-101's calibration by LeRobot, in the place of a jig")
    args = parser.parse_args(argv)
    robot = tool.robot_of(args)
    pose = posed(parser, args, robot)
    path = store.path_of(Calibration, robot, args.calibration)
    if args.lerobot is not None:
        return _from_lerobot(args, robot, path)
    where = f"{pose[0]:.4f} rad" if len(set(pose)) == 1 else f"{' '.join(f'{q:.3f}' for q in pose)} rad"
    tool.require(f"Is every motor of {robot.name} {robot.serial} at {where}, held by jig or hand?", args.yes)
    from robotrl.drivers import identity
    from robotrl.drivers.chains import baud_of, chain_of
    from robotrl.drivers.port import SerialPort

    clock = WallClock()
    plain = dataclasses.replace(robot.servos, offset=(0.0,) * len(robot.servos.ids))
    port = SerialPort(plain.port, baud_of(plain), clock)
    try:
        record = measure(chain_of(port, dataclasses.replace(robot, servos=plain), clock), robot, pose, clock)
        record = dataclasses.replace(record, identity=identity.asked(port, plain, clock))
    finally:
        port.close()
    store.write(record, path)
    print(f"wrote {path}\noffsets, rad: {' '.join(f'{o:.4f}' for o in record.offset)}")
    print(f"next: {command(f'commission {args.run}')}")
    if args.json:
        print(json.dumps({"wrote": str(path), "robot": robot.name, "serial": robot.serial, "offset_rad": list(record.offset)}))
    return 0


def posed(parser: argparse.ArgumentParser, args: argparse.Namespace, robot: config.Robot) -> tuple[float, ...]:
    """The pose (n,) rad that the command line says the robot is in; leaves with a usage message where it says none."""
    n = len(robot.servos.ids)
    if args.angle is not None and args.pose is not None:
        parser.error("--angle and --pose say the same thing twice; give one")
    if args.pose is None:
        if args.angle is None and robot.kind != "minitaur" and args.lerobot is None:
            parser.error(f"say where {robot.name}'s joints are: --angle 0, --pose Q,Q,..., or home it against its stops: --stops")
        pose: tuple[float, ...] = (JIG_RAD if args.angle is None else args.angle,) * n
    else:
        try:
            pose = tuple(float(q) for q in args.pose.split(","))
        except ValueError:
            parser.error(f"--pose {args.pose!r}: write {n} angles in rad, between commas")
        if len(pose) != n:
            parser.error(f"--pose has {len(pose)} angles for {n} motors")
    if not all(math.isfinite(q) and abs(q) <= 2 * math.pi for q in pose):
        parser.error("--angle and --pose must be finite, and within a turn")
    return pose


def _from_lerobot(args: argparse.Namespace, robot: config.Robot, path: Path) -> int:
    """Take over what LeRobot has measured, and say what that is. Nothing moves; the servos are asked who they are."""
    from robotrl.calibration.lerobot import still_held, taken
    from robotrl.drivers import identity
    from robotrl.drivers.port import SerialPort

    record, says = taken(args.lerobot, robot)
    clock = WallClock()
    port = SerialPort(robot.servos.port, robot.servos.baud, clock)
    try:
        still_held(args.lerobot, robot, port, clock)
        record = dataclasses.replace(record, identity=identity.asked(port, robot.servos, clock))
    finally:
        port.close()
    store.write(record, path)
    print("\n".join(says))
    print(f"wrote {path}; the servos hold the homing offsets of {args.lerobot}, and must not be homed by LeRobot again")
    print(f"next: {command(f'move {args.run}')}")
    if args.json:
        print(json.dumps({"wrote": str(path), "robot": robot.name, "serial": robot.serial, "offset_rad": list(record.offset)}))
    return 0
