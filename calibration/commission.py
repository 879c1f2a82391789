"""Commissioning: the record a robot needs before its first run. On a stand, legs free; it will move a little.

    robotrl commission [RUN.toml] [--yes]

Asks each servo who it is, lets its watchdog stop it, wiggles each motor and times the stop. Anything that is
not as it must be ends the tool with torque off and nothing written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from robotrl import config
from robotrl.calibration import lockout, measure, store, tool
from robotrl.calibration.slow import SlowChain, pressed
from robotrl.calibration.store import Calibration, CalibrationError, Commissioning
from robotrl.clock import Clock, WallClock
from robotrl.drivers.identity import Identity, identify, recognise


def commission(
    chain: tool.Chain,
    robot: config.Robot,
    clock: Clock,
    servos: list[Identity],
    calibration: Path,
    asked: Callable[[int], bool] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Commissioning:
    """Measure all that the record holds. `robot` carries its calibrated offsets, `calibration` is their file.

    Raises CalibrationError, DeviceError, PortError; the motors are off then.
    """
    pose = store.read(Calibration, calibration).pose
    chain.read(0)
    chain.clear()  # a servo that an earlier trip left in timeout
    chain.configure()
    if complaints := chain.check():
        raise CalibrationError(complaints[0] + (f" (and {len(complaints) - 1} more)" if complaints[1:] else ""))
    say("watchdog: holding, then silent")
    trip = measure.watchdog_trip(chain, robot.servos, clock)
    say(f"watchdog: tripped after {min(trip):.3f} to {max(trip):.3f} s")
    moved = measure.sign_test(chain, robot.servos, clock, pose, asked)
    say("directions: every motor went the way it was sent")
    stop_s = measure.stop_time(chain, robot.servos, clock, pose)
    say(f"stop: still and off after {stop_s:.2f} s")
    return Commissioning(
        schema=store.SCHEMA,
        robot=robot.name,
        kind=robot.kind,
        serial=robot.serial,
        made=store.today(),
        ids=robot.servos.ids,
        calibration=store.digest(calibration),
        firmware=tuple(servo.firmware for servo in servos),
        boards=tuple(servo.serial for servo in servos),
        watchdog_s=robot.servos.watchdog_s,
        trip_s=trip,
        moved=moved,
        step=measure.STEP_RAD,
        seen="operator" if asked else "encoder",
        stop_s=stop_s,
    )


def main(argv: list[str]) -> int:
    """`commission`: 0 when the record is written. Raises Calibration-, Config-, Port- and DeviceError."""
    args = tool.parser("commission", "The record a robot needs before its first run. It moves a little.").parse_args(argv)
    robot = tool.robot_of(args)
    if (
        robot.servos.protocol != "moteus"
    ):  # reading feeds a Dynamixel's watchdog, Feetech has none, and an arm that is damped falls
        raise CalibrationError(f"{args.run}: {robot.name} has bus servos, which nothing commissions yet; nothing was moved")
    path = store.path_of(Commissioning, robot, args.calibration)
    lockout.require_none(robot, args.calibration)
    robot = store.calibrated(robot, args.calibration)
    tool.require(f"{robot.name} {robot.serial} will move. Is it on a stand, legs free, power switch at hand?", args.yes)
    ask = tool.witness(args.yes)

    def asked(i: int) -> bool:
        motor = f"Motor {i + 1} (servo {robot.servos.ids[i]})"
        return ask is not None and ask(f"{motor}: did its upper link turn towards the feet and back?")

    from robotrl.drivers.chains import baud_of, chain_of
    from robotrl.drivers.port import SerialPort

    print("Enter or Ctrl-C stops it: damped, off, read back")
    clock = WallClock()
    port = SerialPort(robot.servos.port, baud_of(robot.servos), clock)
    try:
        recognise(port, robot, clock)
        servos = identify(port, robot.servos.ids, clock)
        record = commission(
            SlowChain(chain_of(port, robot, clock), robot, pressed),
            robot,
            clock,
            servos,
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
