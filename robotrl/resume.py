"""`robotrl resume`: go on where a run stopped, from its newest whole checkpoint and its replay. It never begins at 0 again.

A rehearsal ends with the same bits as one that was never interrupted. On the wall clock no transition is lost and none is
driven at random again; the robot is looked over and enabled by the operator as at any start.
"""

from __future__ import annotations

import argparse
import importlib
import math
from pathlib import Path

from robotrl import rundir


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl resume", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run_dir", type=Path, help="the run's directory")
    parser.add_argument("--steps", type=int, help="control steps of the policy in all (default: the run's own number)")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="on the wall clock: end after this long (default: when all steps are done)"
    )
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="on hardware: folder of the robot's records")
    parser.add_argument("--no-video", action="store_true", help="a rehearsal: leave out the video")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps must be 1 or more, not {args.steps}")
    if not 0 <= args.seconds < math.inf:
        parser.error(f"--seconds must be finite and not negative, not {args.seconds}")
    if rundir.kind(args.run_dir)[0] == "lockstep":
        rehearsal = importlib.import_module("robotrl.sim.rehearsal")
        return int(rehearsal.resume(args.run_dir, args.steps, video=not args.no_video, as_json=args.json))
    manager = importlib.import_module("robotrl.manager")
    return int(manager.resume(args.run_dir, args.steps, args.seconds, args.calibration, as_json=args.json))
