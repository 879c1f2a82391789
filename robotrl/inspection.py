"""`robotrl inspect`: the way out of LOCKOUT. A person says at a terminal what he looked at, and the robot may be started again.

    robotrl inspect minitaur a1

Shows what locked it out, asks, and keeps the answer with its time beside the records of the robot. It starts and moves nothing;
no script can answer it. Exit code 0: the robot may be started; 2: it stays locked out, and why.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robotrl import config
from robotrl.complaint import Complaint


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robotrl inspect", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("name", help="name of the robot, as in its robot file")
    parser.add_argument("serial", help="its serial, as in its robot file")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the robot's records")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    from robotrl.calibration import lockout, store

    args = parse(argv)
    path = lockout.path_of(config.Robot(name=args.name, serial=args.serial), args.calibration)
    found = lockout.standing(path)
    if found is None:
        print(f"{args.name} {args.serial} is not locked out")
        return 0
    if sys.stdin is None or not sys.stdin.isatty():
        raise Complaint(f"{args.name} {args.serial} is {found.told()}; inspect it, and answer this command at a terminal")
    print(f"{args.name} {args.serial} is {found.told()}")
    for line in notes(found.causes):
        print(f"  {line}")
    looked = input("What did you look at, and what did you find? ").strip()
    if not looked:
        raise Complaint("nothing was said, so nothing was written; the robot stays locked out")
    if input("Is it as it must be, and may it be started again? [yes/no] ").strip().lower() not in ("y", "yes"):
        raise Complaint("nothing was written; the robot stays locked out")
    record = lockout.Inspection(store.SCHEMA, args.name, args.serial, store.today(), found.causes, found.when, found.run, looked)
    print(f"wrote {lockout.release(path, record)}\n{args.name} {args.serial} may be started again; its torque is off until e")
    return 0


def notes(causes: str) -> list[str]:
    """What the operator was told of each."""
    from robotrl.safety.causes import catalogue

    return [f"{row.id}: {row.note}" for row in catalogue() if row.id in causes.split()]
