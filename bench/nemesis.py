"""The nemesis: a random schedule of kill -9, SIGSTOP, a set clock, loss, garbling and a full disk over a whole run on the twin.

A run is the full process tree of `robotrl run --sim` on the wall clock, with its scripted operator. What its wires carried and
its bus said is written down from outside (overheard.py, onlooker.py); then a checker that shares no code with the product reads
the history and asserts I1 to I12 (invariants.py, stops.py, bookkeeping.py). Schedules follow each other on one run: each waits
until the robot walks again, and a new run is begun where the last one ended itself. A schedule whose history breaks an invariant
prints its seed, is played again alone, and shrinks to the fewest deeds that still do it: JSON for --replay.
Run: robotrl bench nemesis [--schedules N] [--seed S] [--replay FILE] [--out bench/results/nemesis.json]; 500 take some hours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bookkeeping
import invariants
import stops
from invariants import Violation
from schedule import Deed, draw
from told import History
from watched import Run

ROOT = Path(__file__).resolve().parent.parent
BACK_S = 45.0  # for the operator to bring the robot back; after it the run is ended and that is said
A_RUN = 20  # schedules on one run, at most: its history is read as a whole
BEGIN_S = 15.0  # at least, for a new run to walk; it need not
SHRINK_TRIES = 24


def check(history: History) -> list[Violation]:
    return sorted(
        [*invariants.check(history), *stops.i5(history), *bookkeeping.check(history)], key=lambda violation: violation.t
    )


def skewed(folder: Path) -> Path | None:
    """The wall clock that can be set, built here; None, which is said, where there is no compiler."""
    library = folder / "skew.so"
    compiler = shutil.which("cc")
    if compiler is None:
        print("bench nemesis: no C compiler: the wall clock stays as it is", file=sys.stderr)
        return None
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, ROOT / "bench" / "skew.c", "-ldl"], check=True)
    return library


def one(folder: Path, skew: Path | None, schedule: list[Deed]) -> tuple[list[Violation], Run]:
    """A schedule alone, on a run of its own."""
    run = Run(folder, skew)
    run.walks(BACK_S)
    run.play(schedule)
    return check(run.end()), run


def shrunk(folder: Path, skew: Path | None, schedule: list[Deed], invariant: str) -> tuple[list[Deed], int]:
    """The fewest deeds found that break the same invariant, by leaving out ever smaller parts; and in how many tries.

    A schedule that does not break it again is given back whole: what it needs is an instant that did not come again.
    """
    tries, part = 1, max(1, len(schedule) // 2)
    found = one(folder / "shrink-0", skew, schedule)[0]
    if invariant not in {v.invariant for v in found}:
        return schedule, tries
    while part >= 1 and tries < SHRINK_TRIES:
        for at in range(0, len(schedule), part):
            less = schedule[:at] + schedule[at + part :]
            if not less or tries >= SHRINK_TRIES:
                continue
            found = one(folder / f"shrink-{tries}", skew, less)[0]
            tries += 1
            if invariant in {v.invariant for v in found}:
                schedule = less
                break
        else:
            part //= 2
    return schedule, tries


class Campaign:
    """Schedules one after another. `rows`: of each what it did and what it broke."""

    def __init__(self, folder: Path, seconds: float, deeds: int, wait_s: float) -> None:
        self.folder, self.seconds, self.deeds, self.wait_s = folder, seconds, deeds, wait_s
        self.skew = skewed(folder)
        self.run: Run | None = None
        self.runs = 0
        self.rows: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []  # schedules of the run that goes on
        self.causes: Counter[str] = Counter()

    def play(self, seed: int) -> list[dict[str, Any]]:
        """One schedule; the rows of all that are judged by it: none as long as the run goes on."""
        if self.run is None:
            self.run = Run(self.folder / f"run-{self.runs}", self.skew)
            self.runs += 1
            self.run.walks(max(BEGIN_S, self.wait_s))
        schedule = draw(seed, self.seconds, self.deeds)
        row = {"seed": seed, "from": time.monotonic_ns(), "walked": self.run.looker.state == "RUN", "deeds": schedule,
               "led_to": "interrupted"}  # fmt: skip
        self._open.append(row)
        self.run.play(schedule)
        back = self.run.walks(self.wait_s)
        row |= {"until": time.monotonic_ns(), "led_to": self.run.looker.state if self.run.alive() else "ended", "back": back}
        goes_on = back or (self.run.alive() and self.wait_s < BACK_S and self.run.looker.state != "LOCKOUT")
        if goes_on and len(self._open) < A_RUN:
            return []
        return self.finish()

    @property
    def last(self) -> dict[str, Any]:
        """The schedule that was played last, judged or not yet."""
        return (self._open or self.rows)[-1]

    def finish(self) -> list[dict[str, Any]]:
        """End the run and judge its schedules."""
        if self.run is None:
            return []
        run, self.run = self.run, None
        history = run.end()
        for row in self._open[-1:]:  # none was played where a run was asked to end before it had begun
            row["ended"] = "".join(line for line in run.said().splitlines() if line.startswith("robotrl run:"))
        self.causes.update({cause for heard in history.bus["cause"] for cause in heard.m["causes"]})
        done, self._open = self._open, []
        for violation in check(history):
            row = [row for row in done if row["from"] <= violation.t][-1:] or done[:1]
            row[0].setdefault("violations", []).append(violation._asdict())
        if not any("violations" in row for row in done):
            shutil.rmtree(run.folder)
        else:
            print(f"the history is kept: {run.folder}", file=sys.stderr, flush=True)
        self.rows += done
        return done


def told(row: dict[str, Any], number: int, of: int) -> None:
    """A line on standard error for a schedule; and for each invariant that it broke."""
    print(
        f"{number:4d}/{of}  seed {row['seed']}: {len(row['deeds'])} deeds, then {row['led_to']} {row.get('ended', '')}",
        file=sys.stderr,
        flush=True,
    )
    for violation in row.get("violations", [])[:5]:
        print(f"      {violation['invariant']} {violation['what']}", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the next has one more")
    parser.add_argument("--seconds", type=float, default=8.0, help="in which the deeds of a schedule lie")
    parser.add_argument("--deeds", type=int, default=6, help="in a schedule")
    parser.add_argument("--wait", type=float, default=BACK_S, help="s, at most, until the robot walks and the next one begins")
    parser.add_argument("--no-shrink", action="store_true", help="only say which seed fails")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play a kept schedule alone")
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "nemesis", help="where failing histories and schedules go")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    return parser.parse_args()


def replay(options: argparse.Namespace, folder: Path) -> int:
    schedule = json.loads(options.replay.read_text())["deeds"]
    found, run = one(folder / "replay", skewed(folder), schedule)
    for violation in found:
        print(f"{violation.invariant} at {violation.t}: {violation.what}")
    print(f"{len(schedule)} deeds: {len(found)} violations; the history: {run.folder}")
    return 3 if found else 0


def main() -> int:
    options = parse()
    options.keep.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nemesis-", dir=options.keep))
    if options.replay is not None:
        return replay(options, folder)
    from robotrl import rundir  # the machine and the commit; nothing of what is judged

    began, load = time.monotonic(), os.getloadavg()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    campaign = Campaign(folder, options.seconds, options.deeds, options.wait)
    try:
        for n in range(options.schedules):
            campaign.play(options.seed + n)
            told(campaign.last, n + 1, options.schedules)
    except KeyboardInterrupt:
        print("stopped; what has been played is judged", file=sys.stderr)
    finally:
        campaign.finish()
    failed = [row for row in campaign.rows if "violations" in row]
    for row in failed:
        told(row, 0, options.schedules)
        name = row["violations"][0]["invariant"]
        deeds, tries = (row["deeds"], 0) if options.no_shrink else shrunk(folder, campaign.skew, row["deeds"], name)
        kept = options.keep / f"seed-{row['seed']}-{name}.json"
        kept.write_text(json.dumps({"seed": row["seed"], "invariant": name, "deeds": deeds}, indent=1))
        print(f"seed {row['seed']} breaks {name}: {len(deeds)} of {len(row['deeds'])} deeds in {tries} tries: --replay {kept}")
    broken = Counter(v["invariant"] for row in failed for v in row["violations"])
    result = {
        "built_from": rundir.provenance(), "load_before": load, "seed": options.seed, "schedules": len(campaign.rows),
        "seconds": round(time.monotonic() - began), "runs": campaign.runs, "violations": dict(broken),
        "failed_seeds": [row["seed"] for row in failed],
        "deeds": dict(Counter(d["do"] for r in campaign.rows for d in r["deeds"])),
        "led_to": dict(Counter(row["led_to"] for row in campaign.rows)), "causes": dict(campaign.causes.most_common()),
        "began_walking": sum(row["walked"] for row in campaign.rows), "clock_set": campaign.skew is not None,
    }  # fmt: skip
    print(json.dumps(result))
    if options.out is not None:
        rundir.write_json(options.out, result)
    if not failed:
        shutil.rmtree(folder)
    return 3 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
