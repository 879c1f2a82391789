"""Schedules one after another on the runs they need, each judged by what its run's history says; and the checker as a whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import bookkeeping
import invariants
import keeping
import stops
import stowing
from invariants import Violation
from kept import LABEL, TRANSITION
from schedule import draw
from told import History
from watched import WALK, NotBegunError, Run

ROOT = Path(__file__).resolve().parent.parent
BACK_S = 45.0  # for the operator to bring the robot back; after it the run is ended and that is said
A_RUN = 20  # schedules on one run, at most: its history is read as a whole
BEGIN_S = 15.0  # at least, for a new run to walk; it need not
FAILED = 5  # runs of a campaign that do not come up, and it ends


class How(NamedTuple):
    """What all schedules of a campaign have in common. `wait`: s, at most, until the robot walks and the next one begins."""

    seconds: float
    deeds: int
    wait: float
    run: tuple[str, ...] = WALK  # what `robotrl run` is told


def check(history: History) -> list[Violation]:
    kept = (*keeping.i7(history), *keeping.i8(history))
    found = [*invariants.check(history), *stops.i5(history), *stowing.check(history), *kept, *bookkeeping.check(history)]
    return sorted(found, key=lambda violation: violation.t)


def skewed(folder: Path) -> Path | None:
    """The wall clock that can be set, built here; None, which is said, where there is no compiler."""
    library = folder / "skew.so"
    compiler = shutil.which("cc")
    if compiler is None:
        print("bench nemesis: no C compiler: the wall clock stays as it is", file=sys.stderr)
        return None
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, ROOT / "bench" / "skew.c", "-ldl"], check=True)
    return library


class Campaign:
    """Schedules one after another. `rows`: of each what it did and what it broke; `figures`: of the run judged last."""

    def __init__(self, folder: Path, skew: Path | None, how: How) -> None:
        """`skew`: the wall clock's library, None where there is none."""
        self.folder, self.skew, self.how = folder, skew, how
        self.run: Run | None = None
        self.playing = False  # no interrupt loses anything but what is being played
        self.runs = self._failed = 0  # runs begun, and those of them that did not come up
        self.rows: list[dict[str, Any]] = []
        self.figures: Counter[str] = Counter()
        self.causes: list[str] = []  # of a stop, on that run
        self._open: list[dict[str, Any]] = []  # schedules of the run that goes on

    def play(self, seed: int) -> bool:
        """One schedule, whose row is `last`; true where the run is to end with it, and `finish` has all to judge."""
        self.playing = True
        if self.run is None:
            self.run = self._begun()
            self.run.walks(max(BEGIN_S, self.how.wait))
        schedule = draw(seed, self.how.seconds, self.how.deeds, self.run.target)
        row = {"seed": seed, "from": time.monotonic_ns(), "walked": self.run.looker.state == "RUN", "deeds": schedule,
               "led_to": "interrupted"}  # fmt: skip
        self._open.append(row)
        self.run.play(schedule)
        back = self.run.walks(self.how.wait)
        row |= {"until": time.monotonic_ns(), "led_to": self.run.looker.state if self.run.alive() else "ended", "back": back}
        if not self.run.alive():
            row["ended"] = self.run.why()
        hopeless = self.run.looker.state == "LOCKOUT" or self.run.lost
        goes_on = back or (self.run.alive() and self.how.wait < BACK_S and not hopeless)
        self.playing = False
        return not goes_on or len(self._open) >= A_RUN

    def _begun(self) -> Run:
        """A new run; the machine may be too busy for one, and another time is not."""
        while True:
            self.runs += 1
            try:
                return Run(self.folder / f"run-{self.runs}", self.skew, self.how.run)
            except NotBegunError as why:
                self._failed += 1
                print(f"bench nemesis: {str(why)[-300:]}", file=sys.stderr, flush=True)
                if self._failed >= FAILED:
                    raise SystemExit(2) from None

    @property
    def last(self) -> dict[str, Any]:
        """The schedule that was played last, judged or not yet."""
        return (self._open or self.rows)[-1]

    def finish(self) -> list[dict[str, Any]]:
        """End the run and judge its schedules, which are none where there was no run."""
        self.playing = False
        if self.run is None:
            return []
        run, self.run = self.run, None
        history = run.end()
        for row in self._open[-1:]:  # none was played where a run was asked to end before it had begun
            row["ended"] = run.why()
        self._count(history)
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

    def _count(self, history: History) -> None:
        """`late_ns`: how late who looked was, of `seen_ns`; `steps` and `labels` in the log."""
        kinds = Counter(record[1] for log in history.kept for record in log["records"])
        self.figures = Counter(
            runs=1, seen_ns=history.end - history.begun, late_ns=sum(ns for _, ns in history.late),
            steps=kinds[TRANSITION], labels=kinds[LABEL],
        )  # fmt: skip
        self.causes = sorted({cause for heard in history.bus["cause"] for cause in heard.m["causes"]})
