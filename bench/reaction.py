"""How long from a fault's onset until the first byte of the stop is on the wire: by class of fault, idle and beside a learner.

Guard, rescue, servo driver, manager and console are the real processes (bench/stage.py); the far end of the servo wire stamps
what it hears, and onsets are stamped by the same monotonic clock. T is the driver's period, 20 ms. "From the cause" counts from
where it was seen: by the driver when it asked the servos, or when its permit ran out; by the guard when it judged; by the
operator in the key.
Run: robotrl bench reaction [--samples N] [--lanes N] [--out bench/results/reaction.json]; ten minutes or more by default.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from engine import Engine
from stage import PERIOD_NS, Line, Stage, Stages, Stuck, lines, stopped_at

from robotrl import rundir
from robotrl.nodes.servoloop import ill
from robotrl.safety.gate import PERMIT_VALID_NS

T_MS = PERIOD_NS * 1e-6
SEE_S = 0.4  # after the onset: the slowest bound is 0.12 s
TRIES = 4  # for one sample: the machine may be disturbed, which is counted and not hidden


@dataclass(frozen=True)
class Sample:
    """Onset to stop, and cause to stop where somebody named a cause; ms. `stop`: what the first byte of it said."""

    ms: float
    stop: str
    cause_ms: float | None = None


class Missed(Exception):
    """No stop came, or the robot had stopped before: for another reason."""


def first_stop(stage: Stage, onset: int) -> tuple[int, str]:
    said = lines(stage.bus.heard)
    at = stopped_at(said)
    if at is None or at <= onset:
        raise Missed
    return at, next(word(line) for line in said if line.t >= at)


def word(line: Line) -> str:
    return line.what if len(line.what) != 8 else "hold"


def of_driver(stage: Stage, onset: int) -> Sample:
    """A stop for what the driver reads: it holds still in the same cycle, and the guard's PSTOP follows."""
    stage.pass_by(SEE_S)
    at, stop = first_stop(stage, onset)
    seen = [joints.t for joints in stage.joints.drain() if ill(joints) and onset - PERIOD_NS < joints.t < at]
    if "PSTOP" not in {guard.state for guard in stage.causes.drain()}:
        raise Missed
    return Sample((at - onset) * 1e-6, stop, (at - seen[0]) * 1e-6 if seen else None)


def servo_fault(stage: Stage) -> Sample:
    return of_driver(stage, stage.bus.trip(random.randrange(8)))


def servo_mute(stage: Stage) -> Sample:
    onset = time.monotonic_ns()
    stage.bus.mute(random.randrange(2, 9))
    try:
        return of_driver(stage, onset)
    finally:
        stage.bus.clear()


def key(stage: Stage) -> Sample:
    onset = time.monotonic_ns()
    stage.person.types(" ")
    stage.pass_by(SEE_S)
    at, stop = first_stop(stage, onset)
    return Sample((at - onset) * 1e-6, stop, (at - onset) * 1e-6)


def imu_silent(stage: Stage) -> Sample:
    """The guard alone can see it, and takes torque off: by the driver's hand."""
    onset = time.monotonic_ns()
    stage.senses.no_imu = True
    try:
        stage.pass_by(SEE_S)
        at, stop = first_stop(stage, onset)
    finally:
        stage.senses.no_imu = False
    judged = [guard.t for guard in stage.causes.drain() if guard.state == "RELAX" and "imu_stale" in guard.causes]
    if not judged or judged[0] > at:  # a servo was late, and the robot stopped for that
        raise Missed
    return Sample((at - onset) * 1e-6, stop, (at - judged[0]) * 1e-6)


def policy_silent(stage: Stage) -> Sample:
    """The driver holds its own goal as soon as no action comes; the guard's HOLD follows."""
    onset = time.monotonic_ns()
    os.kill(stage.policy.pid, signal.SIGSTOP)
    try:
        stage.pass_by(SEE_S)
        at, stop = first_stop(stage, onset)
    finally:
        os.kill(stage.policy.pid, signal.SIGCONT)
    return Sample((at - onset) * 1e-6, stop)


def guard_killed(stage: Stage) -> Sample:
    """The permit runs out, and the driver shuts its gate itself."""
    onset = time.monotonic_ns()
    os.kill(stage.pid("guard"), signal.SIGKILL)
    time.sleep(0.15)
    last = stage.permits.latest()
    at, stop = first_stop(stage, onset)
    return Sample((at - onset) * 1e-6, stop, (at - last.t - PERMIT_VALID_NS) * 1e-6)


def driver_killed(stage: Stage) -> Sample:
    """The rescue writes in its place."""
    onset = time.monotonic_ns()
    os.kill(stage.pid("servos"), signal.SIGKILL)
    time.sleep(SEE_S)
    at, stop = first_stop(stage, onset)
    return Sample((at - onset) * 1e-6, stop)


def watchdog(stage: Stage, onset: int) -> Sample:
    """The servos stop themselves: when the last of them had."""
    alone = [t for t, modes in stage.bus.modes if t > onset and set(modes) == {11}]
    if not alone:
        raise Missed
    return Sample((alone[0] - onset) * 1e-6, "watchdog")


def driver_hangs(stage: Stage) -> Sample:
    """Stopped, not dead: nobody else may write until it is killed, and the servos' own watchdog is first."""
    onset = time.monotonic_ns()
    os.kill(stage.pid("servos"), signal.SIGSTOP)
    time.sleep(SEE_S)
    return watchdog(stage, onset)


def driver_and_rescue_gone(stage: Stage) -> Sample:
    rescue = stage.pid("rescue")
    os.kill(rescue, signal.SIGSTOP)
    onset = time.monotonic_ns()
    os.kill(stage.pid("servos"), signal.SIGKILL)
    try:
        time.sleep(SEE_S)
        return watchdog(stage, onset)
    finally:
        os.kill(rescue, signal.SIGCONT)


@dataclass(frozen=True)
class Class:
    """`share` of the samples asked for: the slow ones take fewer. Bounds in periods T (safety facts, test 4)."""

    provoke: Callable[[Stage], Sample]
    share: float
    bound_t: float
    cause_bound_ms: float | None = None


CLASSES = {
    "servo reports a fault": Class(servo_fault, 1, 4, T_MS + 5),
    "servo does not answer": Class(servo_mute, 1, 4, T_MS + 5),
    "quick stop by key": Class(key, 1, 4, 2 * T_MS),
    "IMU silent: the guard": Class(imu_silent, 1, 5, 2 * T_MS),
    "policy silent": Class(policy_silent, 1, 5),
    "guard killed": Class(guard_killed, 1, 5, T_MS + 5),
    "driver killed: rescue": Class(driver_killed, 0.5, 5),
    "driver hangs: servos' watchdog": Class(driver_hangs, 0.25, 6),
    "driver and rescue gone: servos' watchdog": Class(driver_and_rescue_gone, 0.25, 6),
}


class Progress:
    """On standard error after each try: which class, how far it is, and about how long all the rest takes."""

    def __init__(self, wanted: int) -> None:
        self.left, self.done, self.began = wanted, 0, time.monotonic()

    def tell(self, name: str, found: int, times: int, missed: int) -> None:
        passed = time.monotonic() - self.began
        rest = passed / self.done * self.left if self.done else math.nan
        tries = f", {missed} tries without" if missed else ""
        print(f"{passed:6.0f} s  {name}: {found} of {times}{tries}; about {rest:.0f} s left", file=sys.stderr, flush=True)

    def sample(self) -> None:
        self.done, self.left = self.done + 1, self.left - 1


def measure(
    stages: Stages, name: str, kind: Class, times: int, rng: random.Random, progress: Progress
) -> tuple[list[Sample], int]:
    """So many samples, and how many tries gave none."""
    found: list[Sample] = []
    missed = 0
    while len(found) < times and missed < TRIES * times:
        stage = stages.now
        try:
            stage.reach_run()
        except Stuck as why:
            stages.again(why)
            continue
        stage.pass_by(0.15 + rng.random() * 0.04)  # any phase of the period
        stage.forget()
        if stage.state() != "RUN" or not stage.moving():
            continue
        try:
            found.append(kind.provoke(stage))
            progress.sample()
        except Missed:
            missed += 1
        progress.tell(name, len(found), times, missed)
    return found, missed


def row(kind: Class, found: list[Sample], missed: int) -> dict[str, Any]:
    """A class's figures, ms. p99.9 of fewer than 1000 samples is their largest."""

    def marks(values: list[float]) -> dict[str, float]:
        high = float(np.percentile(values, 99.9)) if len(values) >= 1000 else max(values)
        low, most = np.percentile(values, (50, 99))
        return {"p50": round(float(low), 1), "p99": round(float(most), 1), "p99.9": round(high, 1), "max": round(max(values), 1)}

    onset = marks([s.ms for s in found])
    causes = [s.cause_ms for s in found if s.cause_ms is not None]
    cause = marks(causes) if causes and kind.cause_bound_ms else None
    met = onset["p99.9"] <= kind.bound_t * T_MS and (cause is None or cause["p99.9"] <= (kind.cause_bound_ms or 0))
    stops = {stop: sum(s.stop == stop for s in found) for stop in sorted({s.stop for s in found})}
    return {"samples": len(found), "missed": missed, "stop": stops, "onset_ms": onset, "bound_ms": kind.bound_t * T_MS,
            "cause_ms": cause, "cause_bound_ms": kind.cause_bound_ms, "met": met}  # fmt: skip


def show(where: str, table: dict[str, dict[str, Any]]) -> None:
    print(f"\n| {where} | n | onset to stop, ms: p50 | p99 | p99.9 | bound | from the cause: p99.9 | bound | |")
    print("|---" * 9 + "|")
    for name, r in table.items():
        onset, cause = r["onset_ms"], r["cause_ms"] or {}
        cells = (r["samples"], onset["p50"], onset["p99"], onset["p99.9"], r["bound_ms"], cause.get("p99.9", ""))
        cells = (*cells, r["cause_bound_ms"] or "", "met" if r["met"] else "NOT MET")
        print(f"| {name} | " + " | ".join(map(str, cells)) + " |")


def lane(samples: int, wanted: str, seed: int) -> dict[str, Any]:
    """Each class on one stage, in turn: its samples, and how many tries gave none."""
    found: dict[str, Any] = {}
    times = {name: max(2, round(kind.share * samples)) for name, kind in CLASSES.items() if wanted in name}
    progress = Progress(sum(times.values()))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Stages(Path(folder))) as stages:
        for name, count in times.items():
            seen, missed = measure(stages, name, CLASSES[name], count, random.Random(seed), progress)
            if not seen:
                raise SystemExit(f"bench reaction: {name}: no stop seen in {missed} tries; the guard's last words: "
                                 f"{stages.now.manager.guard.latest()}")  # fmt: skip
            found[name] = {"samples": [astuple(sample) for sample in seen], "missed": missed}
        return {"found": found, "stages": stages.count, "no_real_time": stages.now.no_real_time}


def lanes(count: int, samples: int, wanted: str, seed: int) -> list[dict[str, Any]]:
    """So many stages beside each other: each a process, with its part of the samples."""
    words = [sys.executable, __file__, "--lane", "--samples", str(math.ceil(samples / count)), "--only", wanted, "--seed"]
    begun = [subprocess.Popen([*words, str(seed + k)], stdout=subprocess.PIPE, text=True) for k in range(count)]
    try:
        said = [process.communicate()[0] for process in begun]
    finally:
        for process in begun:
            process.terminate()
    if bad := [k for k, process in enumerate(begun) if process.returncode]:
        raise SystemExit(f"bench reaction: lane {bad[0]} ended with code {begun[bad[0]].returncode}; its last words are above")
    return [json.loads(text.splitlines()[-1]) for text in said]


def under(options: argparse.Namespace) -> dict[str, Any]:
    wanted = (options.samples, options.only, options.seed)
    parts = [lane(*wanted)] if options.lanes == 1 else lanes(options.lanes, *wanted)
    table: dict[str, Any] = {}
    for name in parts[0]["found"]:
        found = [Sample(*sample) for part in parts for sample in part["found"][name]["samples"]]
        table[name] = row(CLASSES[name], found, sum(part["found"][name]["missed"] for part in parts))
    return {"table": table, "stages": sum(part["stages"] for part in parts), "no_real_time": parts[0]["no_real_time"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=11, help="of each quick class; the slow ones take half or a quarter")
    parser.add_argument("--lanes", type=int, default=1, help="stages beside each other: quicker, and each has the others' load")
    parser.add_argument("--lane", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="classes whose name holds this")
    parser.add_argument("--idle", action="store_true", help="not beside a learner")
    parser.add_argument("--busy", action="store_true", help="only beside a learner")
    parser.add_argument("--seed", type=int, default=0, help="of the phases at which faults come")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    if options.samples < 1 or options.lanes < 1:
        parser.error("--samples and --lanes are 1 or more")
    if options.lane:
        print(json.dumps(lane(options.samples, options.only, options.seed)))
        return 0
    result: dict[str, Any] = {
        "built_from": rundir.provenance(),
        "load_before": os.getloadavg(),
        "seed": options.seed,
        "lanes": options.lanes,
        "t_ms": T_MS,
    }
    for where in ("idle", "learner on 2 threads")[bool(options.busy) : 1 if options.idle else 2]:
        learner = Engine("auto", 2, (112, 8), [], nice=10) if where != "idle" else None
        try:
            if learner is not None:
                result["learner"] = learner.ready()
                learner.ask(10**9)
            began = time.monotonic()
            result[where] = under(options)
            result[where]["seconds"] = round(time.monotonic() - began, 1)
        finally:
            if learner is not None:
                learner.close()
        show(where, result[where]["table"])
    print(json.dumps(result))
    if options.out is not None:
        rundir.write_json(options.out, result)
    return 0 if all(r["met"] for w in result.values() if isinstance(w, dict) and "table" in w for r in w["table"].values()) else 3


if __name__ == "__main__":
    raise SystemExit(main())
