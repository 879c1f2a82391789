"""How soon a run is whole again: guard, policy, recorder and servo driver killed with -9 in turn, from the kill to their next
life's first word that is worth something, as a witness on the bus hears it, and in which state the guard then is.

It is a whole run on the twin with its scripted operator. Nobody is killed more often than the manager starts him again (three
times a minute), so that a round takes some 20 s. Asked (safety facts 4, test 20): 0.5, 5, 1 and 2 s at p99, and that none but the
recorder is back in RUN. A port that is plugged in again is not among them: the twin's cannot be.
Run: robotrl bench recovery [--rounds 10] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from wall_clock import LIGHT, Live

from robotrl import rundir
from robotrl.messages import Ack, Drive, Message

KILLS, APART_S = 3, 61.0  # so many within so long, and no more: the manager would give up
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Part:
    """Who is killed, in which topic he is heard, what of it counts, within what time (s), in which states he may be back."""

    name: str
    topic: str
    within_s: float
    states: tuple[str, ...]
    sound: Callable[[Message], bool] = lambda _: True


REST = ("PSTOP", "HOLD", "RELAX", "STOPPING", "CHECK", "READY", "RESET")
PARTS = (
    Part("guard", "guard", 0.5, REST),
    Part("policy", "episode", 5.0, REST),
    Part("recorder", "ack", 1.0, (*REST, "RUN"), lambda m: isinstance(m, Ack) and not m.trouble),
    Part("servos", "drive", 2.0, REST, lambda m: isinstance(m, Drive) and m.present),
)


def back(live: Live, part: Part) -> tuple[float, str]:
    """Kill it; after how long (s) its next life is heard, and the guard's state then. AssertionError when it stays away."""
    heard = live.bus.subscriber(part.topic)
    live.wait(lambda: heard.latest() is not None, PATIENCE_S)
    before = heard.latest()
    killed, moment = time.monotonic(), time.monotonic_ns()
    os.kill(live.pid(part.name), signal.SIGKILL)
    while (now := heard.latest()) is None or now.boot == before.boot or not part.sound(now):
        assert time.monotonic() < killed + PATIENCE_S, f"{part.name} is not back; the run said:\n{live.said()}"
        live.bus.wait([heard], 0.01)
    seconds = time.monotonic() - killed
    live.known = moment  # what the guard said before is no answer
    live.wait(lambda: live.state() != "", PATIENCE_S)
    return seconds, live.state()


def measured(live: Live, rounds: int) -> list[dict[str, Any]]:
    """A row for each part."""
    seconds: dict[str, list[float]] = {part.name: [] for part in PARTS}
    states: dict[str, list[str]] = {part.name: [] for part in PARTS}
    killed: dict[str, list[float]] = {part.name: [] for part in PARTS}
    for _ in range(rounds):
        for part in PARTS:
            if len(killed[part.name]) >= KILLS:
                time.sleep(max(0.0, killed[part.name][-KILLS] + APART_S - time.monotonic()))
            live.reach("RUN", PATIENCE_S)
            killed[part.name].append(time.monotonic())
            took, state = back(live, part)
            seconds[part.name].append(took)
            states[part.name].append(state)
            print(f"{part.name:<9} {1e3 * took:7.0f} ms  {state}", flush=True)
    return [
        {
            "killed": part.name, "times": rounds, "p50_s": round(float(np.median(seconds[part.name])), 3),
            "p99_s": round(float(np.percentile(seconds[part.name], 99)), 3), "asked_s": part.within_s,
            "states": {state: states[part.name].count(state) for state in sorted(set(states[part.name]))},
            "where_it_must_not_be": sum(state not in part.states for state in states[part.name]),
        }
        for part in PARTS
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="kills of each")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        live = Live(Path(folder), *LIGHT)
        try:
            rows = measured(live, args.rounds)
        finally:
            live.close()
    for row in rows:
        print(f"{row['killed']:<9} p50 {row['p50_s']:.2f} s, p99 {row['p99_s']:.2f} s of {row['asked_s']:g}  {row['states']}")
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), "load": os.getloadavg(), "rows": rows})
    return int(any(row["p99_s"] > row["asked_s"] or row["where_it_must_not_be"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
