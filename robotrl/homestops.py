"""`robotrl calibrate homing --stops`: an arm's zeros against its own stops, each joint led there gently, through guard and gate.

    robotrl calibrate homing launch/arm.toml --stops            hardware: at the console (robotrl console) e enables, r runs
    robotrl calibrate homing launch/arm.toml --stops --sim      the twin, and nothing is written unless --calibration says where

The arm lies folded back without torque, straight ahead, its fingers together; nothing within its reach. Space stops it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

from robotrl import config, rundir
from robotrl.clock import WallClock
from robotrl.complaint import Complaint
from robotrl.move import NODES, described, operate
from robotrl.roster import Spec
from robotrl.twinprocess import TwinProcess

READINGS = 10
LONGEST_S = 900.0  # an SO-101 takes two minutes


class HomingError(Complaint):
    """Why there are no zeros; one line."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("robotrl calibrate homing --stops", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, help="run file that names an arm, e.g. launch/arm.toml")
    parser.add_argument("--stops", action="store_true", help="this way of homing")
    parser.add_argument("--robot", metavar="NAME", help="robot file beside it, in the place of the one it names")
    parser.add_argument("--sim", action="store_true", help="the twin on a pty instead of the robot's port")
    parser.add_argument("--power", type=float, default=0.4, help="share of the supply that a motor may get (0.4)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the robot's records")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--yes", action="store_true", help="the robot is in place; ask nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if not 0.05 <= args.power <= 1:
        parser.error(f"--power must be 0.05 to 1, not {args.power}")
    return args


def main(argv: list[str]) -> int:
    """0 when the file is written (--sim: when zeros were found). HomingError and others say why not."""
    from robotrl.calibration import lockout, stops, store, tool

    args = parse(argv)
    run = described(args.run, args.robot, args.set)
    robot = run.robot
    path = store.path_of(store.Calibration, robot, args.calibration) if not args.sim or args.calibration else None
    stops.laid(robot, (math.pi,) * len(robot.servos.ids), args.power)  # a robot without stops is refused before anything is asked
    lies = "without torque, folded back, straight ahead, fingers together, nothing within its reach"
    if not args.sim:
        lockout.require_none(robot, args.calibration)
        tool.require(f"Does {robot.name} {robot.serial} lie {lies}?", args.yes)
    directory = rundir.create(run, args.out, "wall", args.sim)
    result = directory / "homing.json"
    who: list[str] = []  # the servos

    def ready(now: config.Run, twin: TwinProcess | None) -> config.Run:
        if twin is not None:
            twin.lay(stops.PLANS[robot.kind].rest)
        angles, said = encoders(now.robot)
        who.extend(said)
        return dataclasses.replace(now, robot=stops.laid(now.robot, angles, args.power))

    nodes = tuple(Spec("policy", "robotrl.nodes.homer") if spec.name == "policy" else spec for spec in NODES)
    scripted = args.sim and not (sys.stdin is not None and sys.stdin.isatty())
    code = operate(
        run, directory, LONGEST_S, scripted=scripted, nodes=nodes, ready=ready, done=result.exists, records=args.calibration
    )
    if code:
        return code
    if not result.exists():
        raise HomingError(f"{directory}: ended before its zeros were found; nothing was written")
    found = json.loads(result.read_text())
    if found["failed"]:
        raise HomingError(f"{found['failed']}; nothing was written")
    record = record_of(found, robot, tuple(who))
    watched = tool.witness(args.yes or args.sim)
    ways = zip(robot.servos.joints, robot.servos.sign, stops.PLANS[robot.kind].ways, strict=True)
    for i, (joint, sign, way) in enumerate(ways):
        if watched is not None and i not in found["by_hand"] and not watched(f"{joint}: did it turn {way} first, by 2 degrees?"):
            raise HomingError(f"{joint} turned the other way: write {-sign} for sign[{i}] in the robot file and home it again")
    return tell(record, found, path, as_json=args.json)


def encoders(robot: config.Robot) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Where each servo's encoder is, (n,) rad of the horn, the robot limp; and who they are. Nothing moves."""
    from robotrl.calibration.homing import resting
    from robotrl.drivers import identity
    from robotrl.drivers.chains import baud_of, chain_of
    from robotrl.drivers.port import SerialPort

    clock, servos = WallClock(), robot.servos
    plain = dataclasses.replace(robot, servos=dataclasses.replace(servos, offset=(0.0,) * len(servos.ids), gear=()))
    port = SerialPort(servos.port, baud_of(servos), clock)
    try:
        middle, _ = resting(chain_of(port, plain, clock), plain, clock, READINGS)
        who = identity.asked(port, servos, clock)
    finally:
        port.close()
    return tuple(s * angle for s, angle in zip(servos.sign, middle, strict=True)), who


def record_of(found: dict[str, Any], robot: config.Robot, who: tuple[str, ...]) -> Any:
    """The robot's record of what was found. CalibrationError where a joint's range lies across its encoder's end."""
    from robotrl.calibration import stops, store

    return store.Calibration(
        schema=store.SCHEMA, robot=robot.name, kind=robot.kind, serial=robot.serial, made=store.today(), ids=robot.servos.ids,
        sign=robot.servos.sign, offset=stops.fitted(robot, found["offset"]), pose=robot.stow, spread=tuple(found["spread"]),
        identity=who,
    )  # fmt: skip


def tell(record: Any, found: dict[str, Any], path: Path | None, *, as_json: bool) -> int:
    """Write it where it is to be written, and say what it holds."""
    from robotrl.calibration import stops, store

    if path is not None:
        store.write(record, path)
    for servo, offset, spread, moved in zip(record.ids, record.offset, record.spread, found["moved"], strict=True):
        how = f"stops agree to {math.degrees(spread):.2f} degrees; went {math.degrees(moved):+.1f} of +2" if moved else "by hand"
        print(f"servo {servo}: zero at tick {round(offset / stops.TICK)}; {how}")
    print(f"wrote {path}" if path is not None else "the twin's zeros: not written (--calibration DIR writes them)")
    if as_json:
        print(json.dumps({"wrote": str(path) if path else None, "robot": record.robot, "offset_rad": list(record.offset)}))
    return 0
