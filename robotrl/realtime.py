"""To go before everything that is not the robot: SCHED_FIFO and locked memory, as far as this user may have them."""

from __future__ import annotations

import ctypes
import os

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
