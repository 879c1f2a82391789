"""What must hold of any history, whatever was done to the run: I9 to I12, of what is shown and said (safety facts 3, 4).

With `invariants.py` it is the nemesis's checker, and shares no code with the product.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from invariants import Violation
from opening import PERIOD
from told import MS, Heard, History

FDS = 128
GROWN_KB = 64 * 1024  # beyond what a process of this kind weighs once it has begun (safety facts, row 29)
LEARNER_KB = 512 * 1024  # the same of a learner, which loads its libraries and fits its buffers when it is first needed
WARM_S = 15.0
STOPS = frozenset(("HOLD", "STOPPING", "PSTOP", "RELAX", "LOCKOUT"))
SAID_FRESH = 60 * MS
READ_BACK = 150 * MS  # before it is said that all are off
HELD_UP = 120 * MS  # a pose on its way, unknown to all (safety facts, rows 17 and 18)


def check(history: History) -> list[Violation]:
    """In order of time."""
    found = [v for judge in (i9, i10, i11, i12) for v in judge(history)]
    return sorted(found, key=lambda violation: violation.t)


def i9(history: History) -> Iterator[Violation]:
    """What is said to be of this cycle reached the host in this cycle, as an answer to its question, and says the same."""
    asks = defaultdict(list)
    for line in history.lines:
        if line.kind == "ask":
            asks[line.servo].append(line)
    at: dict[int, int] = defaultdict(int)
    for heard in history.bus["joints"]:
        m = heard.m
        for i, servo in enumerate(history.robot.ids):
            if not m["missed"][i] and not _answered(history, asks[servo], at, servo, heard, m["position"][i]):
                yield Violation(
                    "I9", m["t"], f"servo {servo} is said to have been read in cycle {m['tick']}; it had not answered so"
                )
                break
    yield from _pictures(history)
    for heard in history.bus["imu"]:
        if not heard.m["stale"] and not _any(history.imu_bytes, heard.m["t"] - SAID_FRESH - PERIOD - history.lateness(
            heard.m["t"] - 100 * MS, heard.m["t"]), heard.m["t"]):  # fmt: skip
            yield Violation("I9", heard.m["t"], "an attitude is said to be fresh, and the IMU had said nothing for 80 ms")


def _pictures(history: History) -> Iterator[Violation]:
    """No pose is said to have been taken later than it was: its line reached the host, and had an age, by which that is known."""
    taken: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for t, found in history.pictures:
        taken[tuple(f"{float(word):.6f}" for word in found.group(3, 4, 5))].append((int(found[1]), t - int(found[2]) * 1000))
    told: set[tuple[int, int]] = set()
    for heard in history.bus["pose"]:
        sent = [(seq, t) for seq, t in taken[tuple(f"{x:.6f}" for x in heard.m["position"])] if t < heard.t]
        if not sent:
            continue  # its line was garbled so that it still is one; or its numbers were never sent, which no bystander can tell
        late = history.lateness(heard.t - 200 * MS, heard.t)
        if all(heard.m["t"] - t > HELD_UP + late for _, t in sent):
            yield Violation(
                "I9", heard.m["t"], f"a pose is said to be {(heard.m['t'] - sent[-1][1]) // MS} ms younger than it is"
            )
        if all((heard.m["boot"], seq) in told for seq, _ in sent):
            yield Violation("I9", heard.m["t"], "a pose came twice")
        told.add((heard.m["boot"], sent[-1][0]))


def _any(times: list[int], since: int, until: int) -> bool:
    return bisect.bisect_left(times, since) < bisect.bisect_right(times, until)


def _answered(
    history: History, asks: list[Any], at: dict[int, int], servo: int, heard: Heard, angle: float, mode: int | None = None
) -> bool:
    """Did the servo answer the question of this cycle with this angle (rad)?"""
    k = at[servo]
    while k < len(asks) and asks[k].t < heard.m["t"]:
        k += 1
    at[servo] = k
    hosts = set()
    while k < len(asks) and asks[k].t <= heard.t:  # a question that was held up may have come together with the one before it
        hosts.add(asks[k].host)
        k += 1
    return any(
        r.host in hosts and abs(r.angle - angle) < 1e-3 and (mode is None or r.mode == mode)
        for r in history.last_readings(servo, heard.t, heard.t - heard.m["t"])
    )


def i10(history: History) -> Iterator[Violation]:
    """Memory and open files of each process stay bounded."""
    by: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for weight in history.weights:
        by[weight["pid"]].append(weight)
        if weight["fds"] > FDS:
            yield Violation("I10", weight["t"], f"{weight['name']} has {weight['fds']} files open")
    for weights in by.values():
        warm = [w for w in weights if w["t"] - weights[0]["t"] > WARM_S * 1e9]
        bound = LEARNER_KB if weights[0]["name"] == "learner" else GROWN_KB
        if warm and warm[-1]["kb"] > warm[0]["kb"] + bound:
            grown = (warm[-1]["kb"] - warm[0]["kb"]) // 1024
            yield Violation("I10", warm[-1]["t"], f"{warm[-1]['name']} has grown by {grown} MB")


def i11(history: History) -> Iterator[Violation]:
    """Every stop has a cause that the console is shown, and that is in the log, but for what a kill or a full disk cut off."""
    for before, after in pairwise(history.bus["guard"]):
        a, b = before.m, after.m
        if a["boot"] != b["boot"] or a["state"] == b["state"] or b["seq"] != a["seq"] + 1:
            continue
        stops = b["state"] in STOPS and a["state"] not in ("READY", "STOPPING", "PSTOP", "RELAX", "CHECK", "BOOT")
        if stops and not (b["causes"] or b["last_cause"] or b["trigger"]):
            yield Violation("I11", b["t"], f"{a['state']} became {b['state']}, and nobody is told why")
        cut_off = history.during(b["t"], "full", "pause", after_ms=100) or any(
            -20 * MS <= life.died - b["t"] <= 100 * MS for life in history.lives if life.name == "guard"
        )
        written = any(line.startswith(f"{b['t']} {b['state']} <- ") for line in history.logged)
        if stops and history.logged and not written and not cut_off:
            yield Violation("I11", b["t"], f"{a['state']} became {b['state']} by {b['trigger']!r}, and the log does not have it")


def i12(history: History) -> Iterator[Violation]:
    """Motors that are said to be off have, each of them, said so in that cycle."""
    asks = defaultdict(list)
    for line in history.lines:
        if line.kind == "ask":
            asks[line.servo].append(line)
    cycles = {heard.m["t"] for heard in history.bus["joints"]}
    for heard in history.bus["drive"]:
        if not heard.m["powered_off_confirmed"]:
            continue
        since = heard.m["t"]
        if history.robot.stow and since not in cycles:
            since -= READ_BACK  # an arm that was lowered before the driver's first cycle
        for servo in history.robot.ids:
            if not _said_off(history, asks[servo], servo, heard, since):
                yield Violation("I12", heard.m["t"], f"the motors are said to be off; servo {servo} had not said so")
                break
    for ended in history.ended:
        if ended["code"] == 0 and history.modes and any(history.modes[-1][1]):
            yield Violation("I12", ended["t"], f"the run ended well, and the servos are in modes {history.modes[-1][1]}")


def _said_off(history: History, asks: list[Any], servo: int, heard: Heard, since: int) -> bool:
    first, last = (bisect.bisect_left(asks, t, key=lambda line: line.t) for t in (since, heard.t + 1))
    hosts = {line.host for line in asks[first:last]}
    return any(r.host in hosts and r.mode == 0 for r in history.last_readings(servo, heard.t, heard.t - since))
