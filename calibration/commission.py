"""Commissioning: the record a robot needs before its first run. It will move a little.

    robotrl commission [RUN.toml] [--yes]

Legs free on a stand, an arm lying in its stow pose. Asks each servo who it is, lets its watchdog stop it, wiggles each motor and
measures a stop. Anything that is not as it must be ends the tool with torque off and nothing written.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from robotrl import config
from robotrl.calibration import lockout, measure, store, tool
from robotrl.calibration.directions import WAYS, way_of
from robotrl.calibration.slow import SlowChain, pressed
from robotrl.calibration.store import Calibration, CalibrationError, Commissioning
from robotrl.clock import Clock, WallClock

POWER = 0.4  # share of the supply that a bus servo gets at most; chosen


def commission(
    chain: tool.Chain,
    robot: config.Robot,
    clock: Clock,
    firmware: tuple[str, ...],
    calibration: Path,
    asked: Callable[[int, int], bool] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Commissioning:
    """Measure all that the record holds. `robot` carries its calibrated offsets, `calibration` is their file; `asked(i, way)` is
    a person's word that motor i went that way.

    Raises CalibrationError, DeviceError, PortError; the motors are off then.
    """
    pose = robot.stow or store.read(Calibration, calibration).pose
    chain.read(0)
    chain.clear()  # a servo that an earlier trip left in timeout
    chain.configure()
    if complaints := chain.check():
        raise CalibrationError(complaints[0] + (f" (and {len(complaints) - 1} more)" if complaints[1:] else ""))
    trip: tuple[float, ...] = ()
    if robot.servos.protocol == "feetech":
        say("watchdog: these servos have none")
    else:
        say("watchdog: holding, then silent")
        trip = measure.watchdog_trip(chain, robot.servos, clock)
        say(f"watchdog: tripped after {min(trip):.3f} to {max(trip):.3f} s")
    way = measure.ways(robot, pose)
    seen = None if asked is None else lambda i: asked(i, way[i])
    moved = measure.sign_test(chain, robot, clock, pose, seen)
    say("directions: every motor went the way it was sent")
    stop_s, stop_rad = measure.stop(chain, robot, clock, pose)
    say(f"stop: still after {stop_s:.2f} s and {max(stop_rad):.2f} rad, then off")
    return Commissioning(
        schema=store.SCHEMA,
        robot=robot.name,
        kind=robot.kind,
        serial=robot.serial,
        made=store.today(),
        ids=robot.servos.ids,
        calibration=store.digest(calibration),
        firmware=firmware,
        watchdog_s=robot.servos.watchdog_s,
        trip_s=trip,
        moved=moved,
        step=measure.STEP_RAD,
        seen="operator" if asked else "encoder",
        stop_s=stop_s,
        stop_rad=stop_rad,
    )


def main(argv: list[str]) -> int:
    """`commission`: 0 when the record is written. Raises Calibration-, Config-, Port- and DeviceError."""
    args = tool.parser("commission", "The record a robot needs before its first run. It moves a little.").parse_args(argv)
    robot = tool.robot_of(args)
    if robot.kind not in WAYS:
        raise CalibrationError(f"{args.run}: nobody knows which way the joints of {robot.kind!r} turn; add it to directions.py")
    path = store.path_of(Commissioning, robot, args.calibration)
    lockout.require_none(robot, args.calibration)
    robot = store.calibrated(robot, args.calibration)
    if robot.servos.protocol != "moteus":
        servos = dataclasses.replace(robot.servos, power=min(robot.servos.power, POWER))
        robot = dataclasses.replace(robot, servos=servos)
    lies = "Does it lie in its stow pose, nothing around it," if robot.stow else "Is it on a stand, legs free,"
    tool.require(f"{robot.name} {robot.serial} will move. {lies} power switch at hand?", args.yes)
    ask = tool.witness(args.yes)

    def asked(i: int, way: int) -> bool:
        joint = robot.servos.joints[i] if robot.servos.joints else f"motor {i + 1}"
        went = f"{joint} (servo {robot.servos.ids[i]}): did it turn {way_of(robot.kind, i, way)}, and back?"
        return ask is not None and ask(went)

    from robotrl.drivers import identity
    from robotrl.drivers.chains import baud_of, chain_of
    from robotrl.drivers.port import SerialPort

    print("Enter or Ctrl-C stops it: damped, off, read back")
    clock = WallClock()
    port = SerialPort(robot.servos.port, baud_of(robot.servos), clock)
    try:
        identity.recognise(port, robot, clock)
        record = commission(
            SlowChain(chain_of(port, robot, clock), robot, pressed),
            robot,
            clock,
            identity.firmware(port, robot.servos, clock),
            store.path_of(Calibration, robot, args.calibration),
            asked if ask else None,
            lambda line: print(line, flush=True),
        )
    finally:
        port.close()
    store.write(record, path)
    print(f"wrote {path}")
    if record.seen == "encoder":
        print("nobody watched the directions: a run refuses this record; make it again at a terminal, without --yes")
    if args.json:
        print(json.dumps({"wrote": str(path), "robot": robot.name, "serial": robot.serial, "seen": record.seen}))
    return 0
