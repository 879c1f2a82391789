"""To go before everything that is not the robot: SCHED_FIFO and locked memory, as far as this user may have them.

And the contrary: when memory runs out, who is to die first (safety facts, row 42).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

EXPENDABLE = 800  # of 1000: before any process that has not said so itself, whatever their sizes
MCL_CURRENT_AND_FUTURE = 1 | 2


def real_time(priority: int, lock: bool) -> str:
    """Ask for SCHED_FIFO, for the bus's threads too, and locked memory; "" or one line: what was refused, how to allow it."""
    try:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        try:
            os.nice(-10)
        except OSError:
            pass
        return "no real-time priority: the servo loop will be late under load; allow it: rtprio 50 (docs/hardware.md)"
    if lock and ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT_AND_FUTURE) != 0:
        return "memory not locked: allow it: memlock unlimited (docs/hardware.md)"
    return ""


def expendable(path: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Out of memory the kernel ends this process, and what it starts, before the robot's. Anybody may ask for that."""
    try:
        path.write_text(str(EXPENDABLE))
    except OSError:  # no /proc here: then the kernel chooses by size, and the largest is the learner anyway
        pass
