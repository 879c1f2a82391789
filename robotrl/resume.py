"""`robotrl resume`: go on where a run stopped, from its newest whole checkpoint and its replay. It never begins at 0 again.

A rehearsal ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from robotrl import rundir
from robotrl.rundir import RunError


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl resume", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run_dir", type=Path, help="the run's directory")
    parser.add_argument("--steps", type=int, help="control steps of the policy in all (default: the run's own number)")
    parser.add_argument("--no-video", action="store_true", help="a rehearsal: leave out the video")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps must be 1 or more, not {args.steps}")
    rundir.load(args.run_dir)  # says what is wrong with it
    if json.loads((args.run_dir / "run.json").read_text()).get("clock") != "lockstep":
        raise RunError(f"{args.run_dir}: a run on the wall clock; only rehearsals can be resumed so far, start a new one")
    rehearsal = importlib.import_module("robotrl.sim.rehearsal")
    return int(rehearsal.resume(args.run_dir, args.steps, video=not args.no_video, as_json=args.json))
