"""`robotrl setup-servo`: gives a new servo its id and its speed, or a whole robot's what its start refuses. Torque goes off.

robotrl setup-servo --port /dev/serial/by-id/... --family feetech --id 3     one servo, alone on the line
robotrl setup-servo --robot omx                                             all servos of a robot file: registers in EEPROM
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from robotrl.complaint import ROOT, Complaint

FAMILIES = ("dynamixel", "feetech")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robotrl setup-servo", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--port", help="the adapter's serial port (with --robot: in the place of its file's)")
    parser.add_argument("--family", choices=FAMILIES, help="whose servo it is")
    parser.add_argument("--id", type=int, help="the number it is to have, 0 to 252")
    parser.add_argument(
        "--robot", metavar="NAME", help="a robot file in launch/robots: write what its start refuses in its servos"
    )
    parser.add_argument("--baud", type=int, default=1_000_000, help="the speed it is to have (default: 1000000)")
    parser.add_argument("--yes", action="store_true", help="change its EEPROM without asking")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.robot is not None:
        if args.family is not None or args.id is not None:
            parser.error("--robot is all of a robot's servos: leave out --family and --id")
        return args
    if None in (args.port, args.family, args.id):
        parser.error("a new servo needs --port, --family and --id; a robot's servos --robot")
    if not 0 <= args.id <= 252:
        parser.error(f"--id must be 0 to 252, not {args.id}")
    return args


def main(argv: list[str]) -> int:
    """0 when the servo is as asked; Complaint for none, several, or one that does not become so."""
    args = parse(argv)
    if args.robot is not None:
        return mend(args)
    from robotrl.clock import WallClock
    from robotrl.drivers import newservo
    from robotrl.drivers.port import SerialPort

    clock = WallClock()

    def connect(baud: int) -> SerialPort:
        return SerialPort(args.port, baud, clock)

    print("looking at every speed for who answers", flush=True)
    found = []
    for code in newservo.LIKELY:
        baud = newservo.BAUDS[args.family][code]
        found += newservo.look(connect, clock, args.family, newservo.IDS[args.family], (baud,))
        if found:
            break
    if len(found) != 1:
        who = ", ".join(str(f.servo.id) for f in found)
        why = f"ids {who} answer; unplug all but the new servo" if found else "nobody answers; check its cable and power"
        raise Complaint(f"{args.port}: {why}")
    (one,) = found
    print(f"id {one.servo.id} at {one.baud} baud: model {one.servo.model}, firmware {one.servo.firmware}")
    agreed(f"Shall it be id {args.id} at {args.baud} baud, in its EEPROM?", args.yes)
    said = newservo.give(connect, clock, args.family, one, args.id, args.baud)
    for line in said or ["it was so already"]:
        print(line)
    if args.json:
        print(json.dumps({"id": args.id, "baud": args.baud, "model": one.servo.model, "changed": said}))
    return 0


def mend(args: argparse.Namespace) -> int:
    """What a robot's start would refuse in EEPROM, shown, asked about, written and read back."""
    from robotrl import config
    from robotrl.clock import WallClock
    from robotrl.drivers.chains import baud_of
    from robotrl.drivers.mending import Mending
    from robotrl.drivers.port import SerialPort

    file = ROOT / "launch" / "robots" / f"{args.robot}.toml"
    if not file.is_file():
        raise Complaint(
            f"--robot {args.robot}: no {file}; there are {', '.join(sorted(p.stem for p in file.parent.glob('*.toml')))}"
        )
    robot = config.from_dict({"robot": config.read(file)}, Path(file)).robot
    if robot.servos.protocol == "moteus":
        raise Complaint(f"{file}: moteus controllers are set up by their maker's tool")
    clock = WallClock()
    port = SerialPort(args.port or robot.servos.port, baud_of(robot.servos), clock)
    try:
        mending = Mending(robot, port, clock)
        needed = mending.needed()
        said = "\n".join(map(str, needed)) or "nothing to write: no register in EEPROM is refused"
        print(said, flush=True)
        if needed:
            agreed("Torque of all goes off: hold the arm. Shall these be written into their EEPROM?", args.yes)
            mending.write(needed)
            print("written, and read back")
    finally:
        port.close()
    if args.json:
        print(json.dumps({"robot": robot.name, "changed": [str(one) for one in needed]}))
    return 0


def agreed(question: str, yes: bool) -> None:
    """Complaint unless a person says so, or has with --yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Complaint(f"{question} no terminal to ask at; add --yes")
    if input(f"{question} [yes/no] ").strip().lower() not in ("y", "yes"):
        raise Complaint("stopped: nothing was changed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
