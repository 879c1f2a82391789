"""What must hold of any history: I5, a stop within its bound, after each deed as its row of the fault catalogue says.

Part of the nemesis's checker (`invariants.py`), and shares no code with the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from invariants import GRACE, Violation, frozen, unheard
from opening import INWARD_RAD_S, MOVED, PERIOD, PERMIT, ROUND, begins_anew, comes_in
from stowing import leased, lowered
from told import MS, Deed, History, Line

# From a deed to the last motion of the lease under which it fell, ms: the rows of the fault catalogue, and one period where the
# one who is gone had just spoken. The servos' own watchdog is judged apart.
STOP_MS = {
    ("kill", "guard"): 80, ("kill", "policy"): 100, ("kill", "reset"): 100, ("kill", "imu"): 100, ("kill", "operator"): 540,
    ("stop", "guard"): 80, ("stop", "policy"): 100, ("stop", "reset"): 100, ("stop", "imu"): 100, ("stop", "operator"): 540,
}  # fmt: skip
CONCERNS = {"policy": "RUN", "reset": "RESET"}  # whose absence stops the robot in that state alone
WATCHDOG_MS = 120


def moves(history: History) -> list[int]:
    """When a servo was led somewhere else: not by what a joint that is pushed away drags along, nor an arm by its own stop."""
    found: set[int] = set()
    before: dict[int, Line] = {}
    down = lowered(history)
    for n, line in enumerate(history.lines):
        if line.kind in ("damp", "stop"):
            before.pop(line.servo, None)
        if line.kind != "goal":
            continue
        last = before.get(line.servo)
        before[line.servo] = line
        if last is None or not abs(line.angle - last.angle) > MOVED or n in down:
            continue
        if _comes_in(history, last, line, before) or begins_anew(history, last, line):
            continue
        seen = history.last_readings(line.servo, line.t, 100 * MS)
        if not any(abs(r.angle - last.angle) > history.robot.lead - 0.05 for r in seen):
            found.add(line.t)
    return sorted(found)


def _comes_in(history: History, last: Line, line: Line, goals: dict[int, Line]) -> bool:
    """Torque came on where the joint, or its leg, may not be: where nobody drives the gate leads it in, slowly."""
    if comes_in(history, last, line):
        return True
    robot, at = history.robot, history.robot.ids.index(last.servo)
    step = line.angle - last.angle
    inside = robot.low[at] + MOVED < last.angle < robot.high[at] - MOVED
    if not inside or abs(step) > INWARD_RAD_S * robot.period_s + ROUND:
        return False
    if not robot.gap_min:
        return False
    leg = robot.ids[at // 2 * 2 : at // 2 * 2 + 2]
    total = last.angle + sum(goals[servo].angle for servo in leg if servo != last.servo and servo in goals)
    closed = all(servo in goals for servo in leg) and not robot.gap_min + MOVED < total < 2 * math.pi - robot.gap_min - MOVED
    return closed and step * (math.pi - total) > 0


def i5(history: History) -> Iterator[Violation]:
    """A stop within its bound: by the guard's word 2 T after it, by its silence 60 ms, and after each deed as its row says."""
    moved = moves(history)
    for t in moved:
        if not leased(history, t) and not frozen(history, t) and not unheard(history.bus["permit"], t, PERMIT):
            said = [p.m["state"] for p in history.permits_between(t - PERMIT - GRACE, t)]
            yield Violation("I5", t, f"a motor was led on, and the guard had said {said}")
    for deed in history.deeds:
        yield from _stopped_in_time(history, deed, moved)
    yield from _watchdog(history)


def _bound(deed: dict[str, Any]) -> int | None:
    line = deed.get("line", {})
    if line.get("fault") in ("mute", "trip") or (line.get("fault") == "silence" and line.get("wire") == "servos"):
        return 80
    if line.get("fault") == "silence" and line.get("wire") == "imu":
        return 100
    return STOP_MS.get((deed["do"], deed.get("name", "")))


def _stopped_in_time(history: History, deed: Deed, moved: list[int]) -> Iterator[Violation]:
    lease = history.permit_before(deed.t)
    bound = _bound(deed.deed)
    if bound is None or lease is None or not lease.m["holder"] or deed.t - lease.m["t"] > PERIOD + 5 * MS:
        return  # nothing that stops, or nobody moved
    if CONCERNS.get(deed.deed.get("name", ""), lease.m["state"]) != lease.m["state"]:
        return
    asleep = history.during(deed.t, "pause", after_ms=2000) or any(
        deed.t <= d.t <= deed.t + bound * MS for d in history.done("pause")
    )
    until = deed.t + bound * MS + history.lateness(deed.t, deed.t + bound * MS)
    last = deed.until if deed.until > deed.t else until + 500 * MS
    for t in moved:
        now = history.permit_before(t)
        if until < t <= last and not asleep and now is not None and now.m["epoch"] == lease.m["epoch"]:
            yield Violation("I5", t, f"{(t - deed.t) // MS} ms after {deed.deed} its lease still moves; the bound is {bound} ms")
            return


def _watchdog(history: History) -> Iterator[Violation]:
    """Where the driver is gone, every servo has heard of a stop or has stopped itself."""
    if history.robot.stow:
        return  # it is held, not stopped: stowing.py
    for deed in history.done("kill", "stop"):
        lease = history.permit_before(deed.t)
        if deed.deed.get("name") != "servos" or lease is None or not lease.m["holder"] or deed.t - lease.m["t"] > PERIOD:
            continue
        until = deed.t + WATCHDOG_MS * MS + history.lateness(deed.t, deed.t + WATCHDOG_MS * MS)
        if (deed.until > deed.t and deed.until < until) or history.during(deed.t, "pause", after_ms=2000):
            continue
        if any(deed.t <= d.t <= until for d in history.done("pause")) or not any(t > until for t, _ in history.modes):
            continue
        told = {line.servo for line in history.lines if deed.t < line.t <= until and line.kind in ("damp", "stop")}
        modes = [modes for t, modes in history.modes if t <= until]
        left = [s for s, mode in zip(history.robot.ids, modes[-1] if modes else (), strict=False) if mode == 10 and s not in told]
        if left:
            yield Violation("I5", until, f"{WATCHDOG_MS} ms after {deed.deed} servos {left} were neither told to stop nor had")
