"""What must hold of any history, whatever was done to the run: I1 to I4 and I6, of bytes, leases and states (safety facts 3, 4).

`check(history)` gives every violation. Bounds are those of the facts; to each is added how late somebody who only looked was in
that time, for of a machine that is too busy nothing can be told. I5 is in `stops.py`, the other six are in `bookkeeping.py`. None
shares code with the product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from opening import PERIOD, PERMIT, ROUND, begins_anew, held_up
from told import MS, Heard, History, Line

TORQUE = frozenset(("HOLD", "RUN", "RESET", "STOPPING", "PSTOP"))
STOPPED = frozenset(("PSTOP", "RELAX", "LOCKOUT"))
MOVING = {"RUN": "policy", "RESET": "reset"}
GRACE = PERIOD + 10 * MS  # until the driver has heard a permit and its next cycle is over
OPENING = 0.035  # rad: first target after torque came on
FASTER = 2e-3  # rad/s: half a step of a speed
ACTION = 75 * MS
NONCE = 5_000 * MS


class Violation(NamedTuple):
    invariant: str
    t: int
    what: str


def check(history: History) -> list[Violation]:
    """In order of time."""
    found = [v for judge in (i1, i2, i3, i4, i6) for v in judge(history)]
    return sorted(found, key=lambda violation: violation.t)


def frozen(history: History, t: int) -> bool:
    """Had the driver just been woken at `t`? One write may still go out whose permit ran out while it slept."""
    return any(
        d.until <= t <= d.until + PERIOD
        for d in history.done("stop", "pause")
        if d.deed.get("name", "servos") == "servos" and d.until > d.t
    )


def permitted(history: History, t: int) -> bool:
    """Had the guard said, at most 60 ms before, that torque may be on? Or may it have, as far as anybody can tell."""
    late = history.lateness(t - PERMIT - GRACE, t)
    newest = history.permit_before(t - GRACE - late)
    heard = history.permits_between(t - GRACE - late, t)
    oldest = t - PERMIT - 3 * MS - late
    good = any(p.m["torque"] and p.m["state"] in TORQUE and p.m["t"] >= oldest for p in (*heard, *([newest] if newest else [])))
    return good or frozen(history, t) or unheard(history.bus["permit"], t, PERMIT)


def i1(history: History) -> Iterator[Violation]:
    """No goal without the guard's word, at most 60 ms old, that torque may be on. An arm's stop has some: see stowing.py."""
    words = {"on": "torque"} if history.robot.stow else {"on": "torque", "goal": "a goal"}
    for line in (line for line in history.lines if line.kind in words):
        if not permitted(history, line.t):
            newest = history.permit_before(line.t - GRACE - history.lateness(line.t - PERMIT - GRACE, line.t))
            last = newest.m if newest else {}
            age = (line.t - last.get("t", line.t)) // MS
            yield Violation(
                "I1", line.t, f"servo {line.servo} got {words[line.kind]}; the last permit was {last.get('state')}, {age} ms old"
            )
    yield from _awoken(history)


def _awoken(history: History) -> Iterator[Violation]:
    """After the machine was suspended nobody is led before the guard has stopped, however young the permits look."""
    guard = history.bus["guard"]
    for deed in history.done("suspend"):
        was = next((h.m["state"] for h in reversed(guard) if h.t <= deed.t), "")
        if was not in TORQUE - {"PSTOP"} or history.robot.stow:
            continue
        stopped = next((h.m["t"] for h in guard if h.m["t"] > deed.t and h.m["state"] in STOPPED), history.end)
        since = deed.t + GRACE + history.lateness(deed.t, deed.t + GRACE)
        for line in (line for line in history.lines if line.kind == "goal" and since < line.t < stopped):
            yield Violation(
                "I1", line.t, f"servo {line.servo} got a goal {(line.t - deed.t) // MS} ms after a suspension, in {was}"
            )
            break


def unheard(stream: list[Heard], t: int, window: int) -> bool:
    """May messages at `t` have come before this bystander had connected? The first he heard of that life was not its first."""
    for before, after in pairwise([None, *stream]):
        if after is None or (before is not None and before.m["boot"] == after.m["boot"]):
            continue
        began = after.m["t"] - (after.m["seq"] - 1) * PERIOD
        if after.m["seq"] > 1 and began - PERIOD <= t <= after.m["t"] + window:
            return True
    return False


def i2(history: History) -> Iterator[Violation]:
    """Every goal finite, in range, within slew and lead, the first one at the joint; or no farther out than the one before."""
    robot = history.robot
    goal: dict[int, Line | None] = {}
    for line in history.lines:
        if line.kind in ("damp", "stop"):
            goal[line.servo] = None
        if line.kind != "goal":
            continue
        before, goal[line.servo] = goal.get(line.servo), line
        if line.servo not in robot.ids or not math.isfinite(line.angle):
            yield Violation("I2", line.t, f"servo {line.servo} got a goal that is no number")
            continue
        now = line.angle
        window = 100 * MS + history.lateness(line.t - 100 * MS, line.t) + held_up(history, line.t)
        seen = [r.angle for r in history.last_readings(line.servo, line.t, window)]
        anew = before is not None and bool(robot.stow) and begins_anew(history, before, line)
        was = [before.angle] if before is not None and not anew else seen
        low, high = robot.low[at := robot.ids.index(line.servo)], robot.high[at]
        outside = max((_outside(low, high, angle) for angle in was), default=0.0)
        if _outside(low, high, now) > outside + ROUND:
            yield Violation("I2", line.t, f"servo {line.servo} got {now:.4f} rad, out of range")
        far = before is not None and abs(now - before.angle) > robot.slew + ROUND
        if before is not None and far and not begins_anew(history, before, line):
            yield Violation("I2", line.t, f"servo {line.servo} was led {now - before.angle:+.4f} rad in a period")
        if before is None and seen and min(abs(now - angle) for angle in seen) > OPENING + ROUND:
            yield Violation("I2", line.t, f"servo {line.servo}: the first goal is {now:.4f} rad, and the joint elsewhere")
        if before is not None and seen:
            away = min(abs(now - a) - max(robot.lead, abs(before.angle - a)) for a in seen)
            if away > ROUND:
                yield Violation("I2", line.t, f"servo {line.servo} was led {away:.4f} rad beyond the lead")
        if before is not None and not seen and abs(now - before.angle) > ROUND:
            yield Violation("I2", line.t, f"servo {line.servo} was moved, and had not been read for 100 ms")
        if line.speed > robot.speed + FASTER:
            yield Violation("I2", line.t, f"servo {line.servo} may go for its goal by {line.speed:.2f} rad/s")
    yield from _pairs(history)


def _outside(low: float, high: float, value: float) -> float:
    return max(0.0, low - value, value - high)


def _pairs(history: History) -> Iterator[Violation]:
    """The two motors of a leg, neither stretched nor folded through itself; or no more so than before."""
    robot, goals = history.robot, {}
    if not robot.gap_min:
        return
    low, high = robot.gap_min, 2 * math.pi - robot.gap_min
    before: dict[int, float] = {}
    for line in history.lines:
        if line.kind != "goal" or line.servo not in robot.ids:
            if line.kind in ("damp", "stop"):
                before.clear()
                goals.clear()
            continue
        goals[line.servo] = line.angle
        leg = robot.ids.index(line.servo) // 2
        first, second = robot.ids[2 * leg], robot.ids[2 * leg + 1]
        if line.servo != second or first not in goals:
            continue
        out = _outside(low, high, goals[first] + goals[second])
        if leg in before and out > before[leg] + 2 * ROUND:
            yield Violation("I2", line.t, f"leg {leg + 1} was led {out:.4f} rad beyond what its two motors may")
        before[leg] = out


def i3(history: History) -> Iterator[Violation]:
    """An action is executed under the lease that holds, fresh, and once."""
    actions = {(h.source, h.m["epoch"], h.m["seq"]): h.m for h in history.bus["action"]}
    done: set[tuple[str, int, int]] = set()
    for heard in history.bus["applied"]:
        m = heard.m
        if m["writer"] not in ("policy", "reset") or m["action_seq"] < 0:
            continue
        key = m["writer"], m["epoch"], m["action_seq"]
        if key in done:
            yield Violation("I3", m["t"], f"action {key} was executed twice")
        done.add(key)
        late = history.lateness(m["t"] - PERMIT - GRACE, m["t"])
        permits = history.permits_between(m["t"] - PERMIT - GRACE - late, m["t"])
        lease = [
            p
            for p in permits
            if (p.m["epoch"], p.m["holder"]) == (m["epoch"], m["writer"]) == (m["epoch"], MOVING.get(p.m["state"]))
        ]
        newer = [p for p in permits if p.m["epoch"] > m["epoch"] and p.m["t"] < m["t"] - GRACE - late]
        if (not lease or newer) and not unheard(history.bus["permit"], m["t"], PERMIT):
            yield Violation("I3", m["t"], f"action {key} was executed without its lease")
        action = actions.get(key)
        if action is not None and m["t"] - action["t"] > ACTION + 5 * MS + late and not frozen(history, m["t"]):
            yield Violation("I3", m["t"], f"action {key} was {(m['t'] - action['t']) // MS} ms old")


def i4(history: History) -> Iterator[Violation]:
    """One writer: one living driver, one rescue, nobody else at the port, whole lines, and questions in one hand's order."""
    for name in ("servos", "rescue", "guard"):
        lives = sorted((life for life in history.lives if life.name == name), key=lambda life: life.born)
        for one, next_one in pairwise(lives):
            if next_one.born < one.died - 30 * MS - history.lateness(next_one.born, one.died):
                yield Violation("I4", next_one.born, f"two of {name} lived at once: {one.pid}, {next_one.pid}")
    for weight in history.weights:
        if weight["port"] and weight["name"] not in ("servos", "rescue"):
            yield Violation("I4", weight["t"], f"{weight['name']} has the motors' port open")
    for line, after in pairwise([*history.lines, Line(history.end, "cut")]):
        torn = line.kind == "torn" and not history.ended_between(line.t - 50 * MS, after.t, "servos", "rescue")
        if (line.kind == "" and after.kind != "cut") or torn:
            yield Violation("I4", line.t, f"no line of the driver's: {line.text[:80]!r}")
    for before, two in pairwise(history.cycles):
        if not history.wire.follows(before, two):
            yield Violation("I4", two.t, f"host {two.host:#x} asks after {before.host:#x}: two writers")


# What a key does: from where, whereto.
KEYS = {("PSTOP", "HOLD"): ("clear",), ("PSTOP", "READY"): ("clear",), ("RELAX", "READY"): ("clear",), ("HOLD", "RUN"): ("run",),
        ("READY", "HOLD"): ("enable",)}  # fmt: skip
FREE = {
    "PSTOP": {"RELAX", "LOCKOUT"}, "RELAX": {"LOCKOUT"}, "STOPPING": {"HOLD", "PSTOP", "RELAX", "LOCKOUT"}, "LOCKOUT": set(),
    "RESET": {"RUN", "HOLD", "STOPPING", "PSTOP", "RELAX", "LOCKOUT"},
    "RUN": {"RESET", "HOLD", "STOPPING", "PSTOP", "RELAX", "LOCKOUT"},
    "HOLD": {"STOPPING", "PSTOP", "RELAX", "LOCKOUT", "READY"}, "READY": {"CHECK", "RELAX", "LOCKOUT"},
    "CHECK": {"READY", "LOCKOUT"}, "BOOT": {"CHECK", "LOCKOUT"},
}  # fmt: skip


def i6(history: History) -> Iterator[Violation]:
    """A latched stop is left by a console's key alone, in answer to what the guard had shown; a new guard begins stopped."""
    stream = history.bus["guard"]
    used: set[tuple[int, int]] = set()
    for n, (before, after) in enumerate(pairwise(stream), 1):
        a, b = before.m, after.m
        if a["boot"] != b["boot"]:
            if b["seq"] <= 25 and b["state"] not in ("PSTOP", "RELAX", "LOCKOUT"):
                yield Violation("I6", b["t"], f"a guard that was started again begins in {b['state']}")
            continue
        if a["state"] == b["state"] or b["seq"] != a["seq"] + 1:
            continue
        move = a["state"], b["state"]
        goes_on = a["session"] and move in (("RELAX", "RESET"), ("HOLD", "RESET"))
        if b["state"] in FREE[a["state"]] or goes_on or (move == ("RESET", "RUN") and a["session"]):
            continue
        wanted = KEYS.get(move, ("reset",) if move == ("HOLD", "RESET") else ())
        if not _key(history, stream[:n], b, wanted, used):
            yield Violation(
                "I6", b["t"], f"{a['state']} became {b['state']} by {b['trigger']!r}, and no key {wanted} answers for it"
            )


def _key(history: History, shown: list[Heard], b: dict[str, Any], wanted: tuple[str, ...], used: set[tuple[int, int]]) -> bool:
    """Is there a console's key, in answer to a number that this guard had shown within 5 s, and which no key had answered?"""
    since = b["t"] - 250 * MS - history.lateness(b["t"] - 500 * MS, b["t"])
    keys = [h for h in history.bus["operator"] if since <= h.m["t"] <= b["t"] and h.source in ("console", "gateway")]
    for key in (h.m for h in keys if h.m["command"] in wanted):
        numbers = {h.m["nonce"] for h in shown[-260:] if h.m["boot"] == b["boot"] and key["t"] - h.m["t"] <= NONCE}
        if key["nonce"] in numbers and (b["boot"], key["nonce"]) not in used:
            used.add((b["boot"], key["nonce"]))
            return True
    lives = {h.m["boot"]: h.m for h in reversed(history.bus["operator"])}
    return bool(wanted) and any(
        m["seq"] > 1 and abs(m["t"] - b["t"]) < 400 * MS for m in lives.values()
    )  # its first was not heard
