"""The whole run in real time, long: does any process grow, hold more and more files open, or come late?

`robotrl run launch/walk.toml --sim` with its scripted operator and a learner at the run file's own settings. Each process is
looked at in /proc every few seconds from outside; after a warm-up its memory is a straight line by least squares, whose slope
counts. What a process holds of the robot's experience grows by design until it is full: that is said beside the figure, not
taken off. A process that was started again begins anew, and is named. Lateness is of the servo loop's newest half hour.
Asked (safety facts, test 16): memory below 1 MB an hour, open files constant, late by a quarter of T at most (p99.9, on a quiet
machine), overruns below 0.1 %.
Run: robotrl bench steady [--minutes 30] [--out bench/results/steady.json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from wall_clock import PERIOD_US, Live, stolen_s

from robotrl import rundir
from robotrl.lateness import periods_of

EVERY_S = 5.0
WARM = 0.2  # of the run, at its beginning: pools fill, files are opened
MB_AN_HOUR, LATE_US, OVERRUNS = 1.0, PERIOD_US / 4, 0.001


class Look(NamedTuple):
    s: float  # since the run began
    kb: int  # of the process's own, not shared with a file
    fds: int


def look(pid: int, began: float) -> Look | None:
    """None of a process that has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fds = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    memory = status.partition("RssAnon:")[2].split()
    return Look(time.monotonic() - began, int(memory[0]), fds) if memory else None  # it has died and is not buried yet


def pids(live: Live) -> dict[str, int]:
    """Of each node's present life, and the manager's."""
    events = [json.loads(line) for line in live.log("manager").splitlines()]
    return {e["name"]: e["pid"] for e in events if e["event"] == "started"} | {"manager": live.process.pid}


def grown(looks: list[Look], seconds: float) -> dict[str, Any]:
    """Of one life: megabytes an hour from when it is warm until the run ends, and how many files it had open."""
    warm = np.array([one for one in looks if WARM * seconds <= one.s <= seconds - EVERY_S], dtype=float)
    if len(warm) < 4:
        return {"looks": len(warm)}
    slope = float(np.polyfit(warm[:, 0], warm[:, 1], 1)[0])
    return {"looks": len(warm), "mb": round(warm[-1, 1] / 1024, 1), "mb_an_hour": round(slope * 3600 / 1024, 2),
            "fds": [int(warm[:, 2].min()), int(warm[:, 2].max())]}  # fmt: skip


def steady(out: Path, minutes: float) -> dict[str, Any]:
    seconds, stolen = minutes * 60, stolen_s()
    live = Live(out, seconds=seconds)
    began, said = time.monotonic(), 0.0
    seen: dict[tuple[str, int], list[Look]] = {}
    try:
        while live.process.poll() is None:
            time.sleep(EVERY_S)
            for topic in (live.guard, live.cause, live.drive, live.permit, live.episode):
                topic.drain()
            for name, pid in pids(live).items():
                if (now := look(pid, began)) is not None:
                    seen.setdefault((name, pid), []).append(now)
            if (passed := time.monotonic() - began) - said > 60:
                said = passed
                print(f"{passed / 60:.0f} of {minutes:g} min", file=sys.stderr, flush=True)
    finally:
        live.close()
    timing = np.load(live.directory / "timing.npz")
    late = [round(float(np.percentile(timing["late_us"], mark)), 1) for mark in (50, 99, 99.9, 100)]
    return {
        "minutes": minutes, "exit_code": live.process.returncode, "cycles": periods_of(timing),
        "late_us": dict(zip(("p50", "p99", "p99.9", "max"), late, strict=True)),
        "overruns_share": round(int(timing["overruns"]) / periods_of(timing), 6),
        "processes": {f"{name} {pid}": grown(looks, seconds) for (name, pid), looks in seen.items()},
        "stolen_s": round(stolen_s() - stolen, 2),
    }  # fmt: skip


def complaints(found: dict[str, Any]) -> list[str]:
    """What is more than was asked, a line each."""
    wrong = [f"exit code {found['exit_code']}"] if found["exit_code"] else []
    for name, one in found["processes"].items():
        if one.get("mb_an_hour", 0.0) > MB_AN_HOUR:
            wrong.append(f"{name} grows by {one['mb_an_hour']} MB an hour; asked: {MB_AN_HOUR:g}")
        if len(set(one.get("fds", ()))) > 1:
            wrong.append(f"{name} had {one['fds'][0]} to {one['fds'][1]} files open; asked: as many all the time")
    if found["late_us"]["p99.9"] > LATE_US:
        wrong.append(f"the servo loop was late by {found['late_us']['p99.9']} us (p99.9); asked: {LATE_US:g}")
    if found["overruns_share"] >= OVERRUNS:
        wrong.append(f"{found['overruns_share']:.2%} of its periods were skipped; asked: below {OVERRUNS:.1%}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error("--minutes must be more than 0")
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        found = steady(Path(folder), options.minutes)
    wrong = complaints(found)
    print(json.dumps(found | {"wrong": wrong}, indent=1))
    if options.out is not None:
        rundir.write_json(options.out, {"built_from": rundir.provenance(), "load": load, **found, "wrong": wrong})
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
