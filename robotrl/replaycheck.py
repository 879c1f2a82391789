"""`robotrl replay check RUN_DIR`: what the replay holds, counted and verified."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from robotrl.replay import Replay

CORRUPT = ("doubles", "non_finite", "both_ends", "damaged")  # a gap is a step whose reward never came: told, and harmless


def check(directory: Path) -> str:
    """One line: transitions, episodes, and whether any is missing, doubled or not finite."""
    return told(counted(directory))


def counted(directory: Path) -> dict[str, int]:
    """The counts of `Replay.check` for a run directory; ReplayError when there is no replay to read."""
    replay = Replay.open(directory / "replay")
    counts = replay.check()
    replay.close()
    return counts


def told(counts: dict[str, int]) -> str:
    """The counts in one line."""
    wrong = {k: v for k, v in counts.items() if k in ("gaps", "doubles", "non_finite", "both_ends", "damaged") and v}
    verdict = "; ".join(f"{v} {k}" for k, v in wrong.items()) or "none lost, none doubled"
    return f"replay  {counts['transitions']} transitions in {counts['episodes']} episodes: {verdict}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl replay", description=__doc__)
    parser.add_argument("verb", choices=["check"])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    counts = counted(args.run_dir)
    corrupt = any(counts[k] for k in CORRUPT)
    if corrupt:
        print(
            f"robotrl replay: {args.run_dir}/replay: {told(counts)}; restore it from a copy, do not train on it", file=sys.stderr
        )
    else:
        print(told(counts))
    if args.json:
        print(json.dumps(counts))
    return 2 if corrupt else 0
