"""What the clock did to a loop, in memory that does not grow: a run may take days, and its processes lock what they have."""

from __future__ import annotations

import io
import os
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robotrl import aloud, rundir

KEPT = 90_000  # figures of one kind at most: half an hour at 50 Hz, 360 kB; chosen


def keep(figures: array[float], figure: float) -> int:
    """Behind the others. How many were forgotten for it: the oldest half once there are `KEPT`, in one move, so that a period
    seldom pays for it."""
    old = KEPT // 2 if len(figures) >= KEPT else 0
    del figures[:old]
    figures.append(figure)
    return old


@dataclass
class Lateness:
    """What the clock did: how late each of the newest periods began in us (kept at real-time pace alone), how many older ones
    are forgotten, the latest of all, and how many periods were skipped."""

    late_us: array[float] = field(default_factory=lambda: array("f"))
    overruns: int = 0
    forgotten: int = 0
    worst_us: float = 0.0

    def add(self, late_us: float) -> None:
        """One period, so late."""
        self.forgotten += keep(self.late_us, late_us)
        self.worst_us = max(self.worst_us, late_us)

    def save(self, path: Path, cycles_us: Sequence[float]) -> None:
        """Into an .npz, behind what the run's lives before this one have left there: of each life the newest figures. Where the
        disk takes none they are lost, which is said: who saves them is at an end that must be one in order."""
        try:
            self._save(path, cycles_us)
        except OSError as error:
            aloud.say(f"{path}: this life's timing is lost: {error.strerror}; free some space", sys.stderr)

    def _save(self, path: Path, cycles_us: Sequence[float]) -> None:
        import numpy as np

        late, cycles, overruns = np.asarray(self.late_us), np.asarray(cycles_us), self.overruns
        periods, worst = len(late) + self.forgotten, max(self.worst_us, late.max(initial=0.0))
        if path.is_file():
            try:
                before = rundir.read_arrays(path)
                late, cycles = np.concatenate((before["late_us"], late)), np.concatenate((before["cycle_us"], cycles))
                overruns += int(before["overruns"]) if "overruns" in before else 0
                periods += periods_of(before)
                worst = max(worst, float(before["worst_us"]) if "worst_us" in before else 0.0)
            except (rundir.RunError, KeyError, TypeError, ValueError):  # of this life's figures at least none are lost
                os.replace(path, path.with_suffix(".npz.damaged"))
        whole = io.BytesIO()
        np.savez(whole, late_us=late, cycle_us=cycles, overruns=overruns, periods=periods, worst_us=worst)
        rundir.write_bytes(path, whole.getvalue())


def periods_of(timing: Mapping[str, Any]) -> int:
    """How many periods a timing.npz tells of: it holds figures of the newest alone. One that does not say so holds them all."""
    return int(timing["periods"]) if "periods" in timing else len(timing["late_us"])
