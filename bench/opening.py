"""Where a gate opens: a goal that leads nobody, though it is another than the last.

Part of the nemesis's checker (`invariants.py`), and shares no code with the product.
"""

from __future__ import annotations

import bisect
from itertools import pairwise

from told import MS, History, Line
from wirelines import Reading

PERIOD = 20 * MS
PERMIT = 60 * MS
UNHEARD = PERMIT - PERIOD + 3 * MS  # between two looks, after which a permit that was a period old at the first may have run out
HELD_UP = 160 * MS  # before a goal, in which a cycle of the driver's may have been late: two permits and two periods
COUNTED = 5  # cycles
BELIEVED = 3 * PERIOD  # by an arm's driver, of a reading when newer ones came too late for it
MOVED = 1e-3  # rad: less is none
ROUND = 2e-4  # rad: of a float32 and of a reading that came in between
SHARE = 0.5  # of the slew, with which an arm is lowered
INWARD_RAD_S = 0.5  # where nobody drives, a goal outside comes in no faster


def begins_anew(history: History, last: Line, line: Line) -> bool:
    """The permit that the driver last heard had run out, or it was held up and may not have heard of another: the gate, open
    again, begins where the joint has been read, led by nobody. A driver hears permits just before it asks the servos.
    """
    seen = history.last_readings(line.servo, line.t, 100 * MS)
    believed = seen[-1:] if not history.robot.stow else [r for r in seen if r is seen[-1] or line.t - r.t <= BELIEVED]
    if not any(_at(history, line, reading) for reading in believed):
        return False
    if history.robot.stow and (history.ended_between(last.t, line.t, "servos", "rescue") or _some_let_go(history, line.t)):
        return True  # another hand, which knows of no goal; or not all go by theirs: an arm is held where it is
    cycles = history.cycles[bisect.bisect_left(history.cycles, line.t - HELD_UP, key=lambda one: one.t) :]
    asked = [one.t for one in cycles if one.t <= line.t]
    heard = max((t for t in asked if t <= last.t), default=last.t)
    permit = history.permit_before(heard)
    lapsed = permit is None or line.t - permit.m["t"] > PERMIT
    return lapsed or any(after - before > UNHEARD for before, after in pairwise(asked))


def comes_in(history: History, last: Line, line: Line) -> bool:
    """Torque came on where the joint may not be: where nobody drives it is led in, slowly."""
    robot, step = history.robot, line.angle - last.angle
    i = robot.ids.index(line.servo)
    outside = last.angle - min(max(last.angle, robot.low[i] + MOVED), robot.high[i] - MOVED)
    return outside * step < 0 and abs(step) <= INWARD_RAD_S * robot.period_s + ROUND


def _at(history: History, line: Line, reading: Reading) -> bool:
    """Is this goal where the joint has been read? Of an arm, also a step from there: to where it lies, of a joint without
    torque, which nothing moves; or inward, of one that hangs out of its range."""
    robot, away = history.robot, line.angle - reading.angle
    if abs(away) <= ROUND:
        return True
    if not robot.stow:
        return False
    i = robot.ids.index(line.servo)
    outside = reading.angle - min(max(reading.angle, robot.low[i]), robot.high[i])
    inward = outside * away < 0 and abs(away) <= INWARD_RAD_S * robot.period_s + ROUND
    return inward or (reading.mode != 10 and abs(away) <= SHARE * robot.slew + ROUND)


def _some_let_go(history: History, t: int) -> bool:
    """Is a servo silent just now, or has it said that it has no torque?"""
    seen = [history.last_readings(servo, t, PERIOD) for servo in history.robot.ids]
    return any(not found or found[-1].mode != 10 for found in seen)


def held_up(history: History, t: int) -> int:
    """By how much an arm's driver was late itself in the cycles before `t`, ns: it counts by cycles how old a reading is."""
    if not history.robot.stow:
        return 0
    last = bisect.bisect_right(history.cycles, t, key=lambda one: one.t)
    times = [one.t for one in history.cycles[max(0, last - COUNTED) : last]]
    return sum(max(0, after - before - PERIOD) for before, after in pairwise([*times, t]))
