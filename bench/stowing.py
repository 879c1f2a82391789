"""What must hold of any history of an arm: its stop profile, which is hold, then stow, then off (safety facts 3.2, fact z).

An arm without torque falls, so its stop writes goals for which no permit stands: at rest first, then to where it is to lie, half
as fast as a policy may. Whatever else a goal without a permit does is I1. Torque that is taken while the arm is up is I5, unless
the profile's time was over; so is a driver's death after which nobody holds it. Part of the nemesis's checker
(`invariants.py`), and shares no code with the product.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from functools import lru_cache

from invariants import GRACE, MOVING, STOPPED, TORQUE, Violation, permitted
from opening import MOVED, PERIOD, PERMIT, ROUND, SHARE, begins_anew, comes_in
from told import MS, Deed, Heard, History, Life, Line

AT_REST = 300 * MS  # before it is lowered
SHORT = 500 * MS  # by which a profile may seem shorter than it was: nobody sees it begin, and it rests in between
LONG = 2_000 * MS  # by which it may be longer: its end is read back
GAP = 250 * MS  # without a word; with a handshake in it, who goes on has begun anew
DOWN = 0.15  # rad from where a joint is to lie, at most, of one that lies
JUST_ON = 300 * MS  # since torque came: what lay until then falls no farther
TAKEN_MS = {"kill": 120, "stop": 350}  # until somebody holds it where its driver died, or hung and was killed for it
UNHEARD_MS = 200  # by which that is later where a servo does not answer: it is waited for
HELD = 5_000 * MS  # for which the word of a guard that is silent holds an arm
GREETED = 6_000 * MS  # for a new rescue to be told of the port
BOTH = ("servos", "rescue")


def leased(history: History, t: int) -> list[Heard]:
    """The permits by which somebody might lead it at `t`; all of that time where none of them lets anybody."""
    late = history.lateness(t - PERMIT - GRACE, t)
    before = history.permit_before(t - 2 * PERIOD - late)
    permits = [p for p in (before, *history.permits_between(t - 2 * PERIOD - late, t)) if p]
    return [p for p in permits if p.m["holder"] and p.m["state"] in MOVING and p.m["t"] >= t - PERMIT - 3 * MS - late]


def moves(history: History, last: Line | None, line: Line) -> bool:
    """Does it lead a joint elsewhere? Not by what one that is pushed away drags along, nor where a gate that opens begins, nor
    one that hangs out of its range."""
    if last is None or abs(line.angle - last.angle) <= MOVED:
        return False
    if begins_anew(history, last, line) or comes_in(history, last, line):
        return False
    seen = history.last_readings(line.servo, line.t, 100 * MS)
    return not any(abs(r.angle - last.angle) > history.robot.lead - 0.05 for r in seen)


def lowers(history: History, last: Line, line: Line) -> bool:
    """Is this step one of a stow's? Towards its end, not beyond, and slow."""
    robot = history.robot
    end, step = robot.stow[robot.ids.index(line.servo)], abs(line.angle - last.angle)
    return step <= SHARE * robot.slew + ROUND and abs(line.angle - end) < abs(last.angle - end)


@lru_cache(maxsize=2)
def lowered(history: History) -> frozenset[int]:
    """Of an arm: which of the history's lines, by place, lower it as its stop profile has it: after a rest."""
    found: set[int] = set()
    if not history.robot.stow:
        return frozenset()
    goal: dict[int, Line] = {}
    moved_at, before, lowering = 0, 0, False
    for n, line in enumerate(history.lines):
        if line.kind == "stop":
            goal.pop(line.servo, None)
        if line.kind != "goal":
            continue
        last = goal.get(line.servo)
        goal[line.servo] = line
        if lowering and _another(history, before, line.t):
            lowering = False
        before = line.t
        if last is None or not moves(history, last, line):
            continue
        rest = line.t - moved_at + history.lateness(moved_at, line.t) >= AT_REST - PERIOD
        newest = history.permit_before(line.t)
        led = newest is not None and newest.m["holder"] and line.t - newest.m["t"] <= PERMIT
        if lowers(history, last, line) and (lowering or (rest and not led)):
            lowering = True
            found.add(n)
        else:
            lowering = False
        moved_at = line.t
    return frozenset(found)


def _another(history: History, since: int, until: int) -> bool:
    """Is another hand at work, because a driver died between the two, or a rescue that had the port?"""
    died = [life for life in history.lives if life.name == "servos" and since <= life.died <= until]
    return any(_had_the_port(history, life) for life in died) or (
        until - since > GAP and history.ended_between(since, until, "rescue")
    )


def _had_the_port(history: History, driver: Life) -> bool:
    """Not one that was killed while it waited for the rescue to be done: it had not said a word."""
    said = history.bus["drive"]
    k = bisect.bisect_left(said, driver.born, key=lambda heard: heard.t)
    return k < len(said) and said[k].t <= driver.died


def check(history: History) -> list[Violation]:
    """In order of time; nothing of a robot that is no arm."""
    if not history.robot.stow:
        return []
    return [v for judge in (_unpermitted, _awoken, _let_go, _taken_over) for v in judge(history)]


def _unpermitted(history: History) -> Iterator[Violation]:
    """I1: a goal that no permit stands for rests, or lowers the arm; for the profile's time and no longer."""
    goal: dict[int, Line] = {}
    down, began, before, told = lowered(history), 0, 0, False
    for n, line in enumerate(history.lines):
        if line.kind == "stop":
            goal.pop(line.servo, None)
        if line.kind != "goal":
            continue
        last, goal[line.servo] = goal.get(line.servo), line
        new = line.t - before > GAP or _another(history, before, line.t)
        before = line.t
        if permitted(history, line.t):
            began = line.t
            continue
        if new:
            began, told = line.t, False
        if _held(history, line.t):
            began = line.t  # it has all its time again from there
        if n not in down and moves(history, last, line):
            yield Violation("I1", line.t, f"servo {line.servo} was led, by no permit and no stop profile")
        if new and _limp(history, line.t):
            yield Violation("I1", line.t, f"servo {line.servo} got a goal, by no permit, and all had said that they are off")
        most = int(history.robot.stop_s * 1e9) + LONG + _asleep(history, began, line.t)
        if line.t - began > most and not told:
            told = True
            yield Violation("I1", line.t, f"an arm is being stopped since {(line.t - began) // MS} ms")


def _held(history: History, t: int) -> bool:
    """Is an arm to stay where it is, by the guard's last word? For a while after it has died, too."""
    newest = history.permit_before(t)
    return newest is not None and bool(newest.m.get("hold")) and t - newest.m["t"] <= HELD


def _limp(history: History, t: int) -> bool:
    """Has no servo had torque for a while, and have all said so?"""
    seen = [history.last_readings(servo, t, 100 * MS) for servo in history.robot.ids]
    said = all(found and found[-1].mode == 0 for found in seen)
    return said and not any(_has_torque(history, servo, t) for servo in history.robot.ids)


def _asleep(history: History, since: int, until: int) -> int:
    """For how long the driver, or all, may have stood still between the two: that is no time of the profile's."""
    deeds = [d for d in history.done("pause", "stop") if d.deed.get("name", "servos") in BOTH]
    still = sum(max(0, min(d.until, until) - max(d.t, since)) for d in deeds)
    return still + history.lateness(since, until)


def _awoken(history: History) -> Iterator[Violation]:
    """I1: after the machine was suspended nobody leads it before the guard has stopped, however young the permits look."""
    guard, goal, down = history.bus["guard"], dict[int, Line](), lowered(history)
    spans = []
    for deed in history.done("suspend"):
        was = next((h.m["state"] for h in reversed(guard) if h.t <= deed.t), "")
        if was in TORQUE - {"PSTOP"}:
            stopped = next((h.m["t"] for h in guard if h.m["t"] > deed.t and h.m["state"] in STOPPED), history.end)
            spans.append((deed.t + GRACE + history.lateness(deed.t, deed.t + GRACE), stopped))
    for n, line in enumerate(history.lines):
        if line.kind != "goal":
            continue
        last, goal[line.servo] = goal.get(line.servo), line
        if n not in down and any(a < line.t < b for a, b in spans) and moves(history, last, line):
            yield Violation("I1", line.t, f"servo {line.servo} was led on after a suspension")


def _at(found: list[tuple[int, list[float]]], t: int) -> list[float]:
    """What was true at `t`; nothing where that is not known."""
    k = bisect.bisect_right(found, t, key=lambda one: one[0])
    return found[k - 1][1] if k else []


def _up(history: History, t: int) -> bool:
    at = _at(history.places, t)
    return any(abs(joint - end) > DOWN for joint, end in zip(at, history.robot.stow, strict=False))


def _has_torque(history: History, servo: int, t: int) -> bool:
    """Has had it for a while, in truth."""
    i = history.robot.ids.index(servo)
    low, high = (bisect.bisect_right(history.modes, at, key=lambda one: one[0]) for at in (t - JUST_ON, t))
    return low > 0 and all(modes[i] for _, modes in history.modes[low - 1 : high])


def _let_go(history: History) -> Iterator[Violation]:
    """I5: torque goes when the arm lies, or when all the time that it has to be lowered is over."""
    down, handshakes = lowered(history), [line.t for line in history.lines if line.kind == "talk"]
    began = before = over = 0  # when its stop began; the last word that holds it, and the first that let go since, if any
    lowering = False
    for n, line in enumerate(history.lines):
        if line.kind in ("goal", "damp"):
            anew = line.t - before > GAP and _any(handshakes, before, line.t)
            new = bool(over) or anew or _another(history, before, line.t)
            lowering = n in down or (lowering and not new and not leased(history, line.t))
            if new or (line.kind == "goal" and not lowering and permitted(history, line.t)):
                began = line.t
            before, over = line.t, 0
        elif line.kind == "stop" and over in (0, line.t):
            over = line.t
            passed = before - began
            enough = passed + history.lateness(began, line.t) >= int(history.robot.stop_s * 1e9) - SHORT
            if not enough and _up(history, line.t) and _has_torque(history, line.servo, line.t):
                at = ", ".join(f"{joint:.2f}" for joint in _at(history.places, line.t))
                what = f"was let go with the arm at {at} rad, {passed // MS} ms after its stop began"
                yield Violation("I5", line.t, f"servo {line.servo} {what}")


def _any(times: list[int], since: int, until: int) -> bool:
    return bisect.bisect_left(times, since) < bisect.bisect_right(times, until)


def _taken_over(history: History) -> Iterator[Violation]:
    """I5: where the driver is gone, each servo that can be heard is held by somebody, before long."""
    for deed in history.done("kill", "stop"):
        lease = history.permit_before(deed.t)
        if deed.deed.get("name") != "servos" or lease is None or not lease.m["holder"] or deed.t - lease.m["t"] > PERIOD:
            continue
        bound = TAKEN_MS[deed.deed["do"]] * MS
        until = deed.t + bound + history.lateness(deed.t, deed.t + bound)
        if (deed.until > deed.t and deed.until < until) or until > history.end or not _rescued(history, deed, until):
            continue
        heard = [s for s in history.robot.ids if history.last_readings(s, deed.t, 100 * MS)]
        if len(heard) < len(history.robot.ids) or history.during(deed.t, "wire", after_ms=100):
            until += UNHEARD_MS * MS
        told = {line.servo for line in history.lines if deed.t < line.t <= until and line.kind in ("goal", "damp", "stop")}
        if (left := [s for s in heard if s not in told]) and not history.during(until, "wire"):
            yield Violation("I5", until, f"{(until - deed.t) // MS} ms after {deed.deed} nobody holds servos {left}")


def _rescued(history: History, deed: Deed, until: int) -> bool:
    """Was there a rescue, awake, that knew of the port?"""
    asleep = history.during(deed.t, "pause", after_ms=2000) or any(
        d.t <= until and d.until >= deed.t for d in history.done("pause", "stop") if d.deed.get("name", "rescue") == "rescue"
    )
    lives = [life for life in history.lives if life.name == "rescue" and life.born < deed.t - GREETED and life.died > until]
    return bool(lives) and not asleep
