"""`robotrl replay check RUN_DIR`: what the replay holds, counted and verified."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from robotrl.replay import Replay


def check(directory: Path) -> str:
    """One line: transitions, episodes, and whether any is missing, doubled or not finite."""
    replay = Replay.open(directory / "replay")
    counts = replay.check()
    replay.close()
    wrong = {k: v for k, v in counts.items() if k in ("gaps", "doubles", "non_finite", "both_ends", "damaged") and v}
    verdict = "; ".join(f"{v} {k}" for k, v in wrong.items()) or "none lost, none doubled"
    return f"replay  {counts['transitions']} transitions in {counts['episodes']} episodes: {verdict}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl replay", description=__doc__)
    parser.add_argument("verb", choices=["check"])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    print(check(args.run_dir))
    if args.json:
        replay = Replay.open(args.run_dir / "replay")
        print(json.dumps(replay.check()))
        replay.close()
    return 0
