"""The nemesis: a random schedule of kill -9, SIGSTOP, a set clock, loss, garbling and a full disk over a whole run on the twin.

A run is the full process tree of `robotrl run --sim` on the wall clock, with a scripted operator who gives rewards too. What its
wires carried and its bus said is written down from outside (overheard.py, onlooker.py), and what it kept is read by its bytes
(kept.py); then a checker that shares no code with the product asserts I1 to I12 of that history (invariants.py, stops.py,
keeping.py, bookkeeping.py). Schedules follow each other on one run: each waits until the robot walks again, and a new run is
begun where the last one ended itself. A schedule whose history breaks an invariant prints its seed, is played again alone, and
shrinks to the fewest deeds that still do it: JSON for --replay.
`--run launch/reach.toml` is an arm on Feetech servos, `launch/reach_omx.toml` one on Dynamixel: instead of walking it is to be in
RUN, and its stop is to hold it, to lower it and to let it go (stowing.py).
Run: robotrl bench nemesis [--schedules N] [--lanes N] [--seed S] [--replay FILE] [--out bench/results/nemesis.json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from campaign import BACK_S, How, check, skewed
from invariants import Violation
from lanes import Lanes
from schedule import Deed
from watched import WALK, Run

ROOT = Path(__file__).resolve().parent.parent
SHRINK_TRIES = 24


def one(folder: Path, skew: Path | None, schedule: list[Deed], words: tuple[str, ...] = WALK) -> tuple[list[Violation], Run]:
    """A schedule alone, on a run of its own; `words` as in `Run`."""
    run = Run(folder, skew, words)
    run.walks(BACK_S)
    run.play(schedule)
    return check(run.end()), run


def shrunk(
    folder: Path, skew: Path | None, schedule: list[Deed], invariant: str, words: tuple[str, ...] = WALK
) -> tuple[list[Deed], int]:
    """The fewest deeds found that break the same invariant, by leaving out ever smaller parts; and in how many tries.

    A schedule that does not break it again is given back whole: what it needs is an instant that did not come again.
    """
    tries, part = 1, max(1, len(schedule) // 2)
    found = one(folder / "shrink-0", skew, schedule, words)[0]
    if invariant not in {v.invariant for v in found}:
        return schedule, tries
    while part >= 1 and tries < SHRINK_TRIES:
        for at in range(0, len(schedule), part):
            less = schedule[:at] + schedule[at + part :]
            if not less or tries >= SHRINK_TRIES:
                continue
            found = one(folder / f"shrink-{tries}", skew, less, words)[0]
            tries += 1
            if invariant in {v.invariant for v in found}:
                schedule = less
                break
        else:
            part //= 2
    return schedule, tries


def told(row: dict[str, Any], played: int, of: int, left_s: float) -> None:
    """A line on standard error for a schedule, with the time that is left."""
    print(
        f"{played:4d}/{of}  seed {row['seed']}: {len(row['deeds'])} deeds, then {row['led_to']} {row.get('ended', '')}"
        f"  {left_s / 60:.0f} min left",
        file=sys.stderr,
        flush=True,
    )


def broken(row: dict[str, Any]) -> None:
    """What a schedule broke."""
    for violation in row["violations"][:5]:
        print(f"      seed {row['seed']}: {violation['invariant']} {violation['what']}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=500)
    parser.add_argument("--lanes", type=int, default=1, help="so many runs beside each other, which share the seeds")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the next has one more")
    parser.add_argument("--seconds", type=float, default=8.0, help="in which the deeds of a schedule lie")
    parser.add_argument("--deeds", type=int, default=6, help="in a schedule")
    parser.add_argument("--wait", type=float, default=BACK_S, help="s, at most, until the robot walks and the next one begins")
    parser.add_argument("--run", default="launch/walk.toml", metavar="RUN.toml", help="what is played on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of robotrl run")
    parser.add_argument("--no-shrink", action="store_true", help="only say which seed fails")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play a kept schedule alone")
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "nemesis", help="where failing histories and schedules go")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit; again with each run judged")
    options = parser.parse_args()
    options.words = (options.run, *(word for item in options.set for word in ("--set", item)))
    return options


def replay(options: argparse.Namespace, folder: Path) -> int:
    schedule = json.loads(options.replay.read_text())["deeds"]
    found, run = one(folder / "replay", skewed(folder), schedule, options.words)
    for violation in found:
        print(f"{violation.invariant} at {violation.t}: {violation.what}")
    print(f"{len(schedule)} deeds: {len(found)} violations; the history: {run.folder}")
    return 3 if found else 0


def figures(lanes: Lanes) -> dict[str, Any]:
    """Of all schedules that have been judged."""
    rows = lanes.rows
    failed = [row for row in rows if "violations" in row]
    deeds = [deed for row in rows for deed in row["deeds"]]
    return {
        "schedules": len(rows), "runs": lanes.figures["runs"],
        "violations": dict(Counter(violation["invariant"] for row in failed for violation in row["violations"])),
        "failed_seeds": [row["seed"] for row in failed], "deeds": dict(Counter(deed["do"] for deed in deeds)),
        **{f"{do} of": dict(Counter(d["name"] for d in deeds if d["do"] == do)) for do in ("kill", "stop")},
        "led_to": dict(Counter(row["led_to"] for row in rows)), "causes": dict(lanes.causes.most_common()),
        "began_walking": sum(row["walked"] for row in rows), "kept": {what: lanes.figures[what] for what in ("steps", "labels")},
        "onlooker_late": round(lanes.figures["late_ns"] / max(1, lanes.figures["seen_ns"]), 4),
    }  # fmt: skip


def main() -> int:
    options = parse()
    options.keep.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nemesis-", dir=options.keep))
    if options.replay is not None:
        return replay(options, folder)
    from robotrl import rundir  # the machine and the commit; nothing of what is judged

    began, load, built, skew = time.monotonic(), os.getloadavg(), rundir.provenance(), skewed(folder)

    def result() -> dict[str, Any]:
        return {
            "built_from": built, "load_before": load, "seed": options.seed, "lanes": options.lanes,
            "seconds": round(time.monotonic() - began), **figures(lanes), "clock_set": skew is not None,
        }  # fmt: skip

    lanes = Lanes(folder, skew, How(options.seconds, options.deeds, options.wait, options.words), options.lanes)
    for row in lanes.play(options.seed, options.schedules):
        if row is not None:
            told(row, lanes.played, options.schedules, lanes.left_s(options.schedules))
        elif options.out is not None:
            rundir.write_json(options.out, result())
    failed = [row for row in lanes.rows if "violations" in row]
    for row in failed:
        broken(row)
        name = row["violations"][0]["invariant"]
        deeds, tries = (row["deeds"], 0) if options.no_shrink else shrunk(folder, skew, row["deeds"], name, options.words)
        kept = options.keep / f"seed-{row['seed']}-{name}.json"
        kept.write_text(json.dumps({"seed": row["seed"], "invariant": name, "deeds": deeds}, indent=1))
        print(f"seed {row['seed']} breaks {name}: {len(deeds)} of {len(row['deeds'])} deeds in {tries} tries: --replay {kept}")
    print(json.dumps(result()))
    if options.out is not None:
        rundir.write_json(options.out, result())
    if not failed:
        shutil.rmtree(folder)
    return 3 if failed else 1 if lanes.lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
