"""Quick-stop presses in every state of the guard, on servos that now and then do not hear, answer or have no power.

The real servo loop, gate, guard and console's view in virtual time, before an emulated SO-101 and its physics. A person presses
SPACE every tenth of a second or so, and meanwhile whatever other keys lead to other states. At every cycle the screen's word on
the motors' power is held against the torque register of each emulated servo: CONFIRMED while one of them has torque is false.
From a press to the guard's stop, and to the first cycle in which nobody's target goes to the wire, are periods of 20 ms.
Run: robotrl bench presses [--presses 10000] [--seed S] [--out FILE]   (some five minutes)
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import config, rundir
from robotrl.messages import Guard, Operator
from robotrl.nodes import desk
from robotrl.nodes.view import STOPPED, View, stop_status
from robotrl.sim.armrig import ArmRig
from robotrl.sim.operator import Script

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("enable", "run", "reset", "clear", "disable", "pause")
SERVOS = (1, 2, 3, 4, 5, 6)
PERIOD_NS = 20_000_000
LATE = 50  # periods after which a press is said to have had no effect
SESSION = 400  # presses of one robot


class Desk(ArmRig):
    """A robot whose operator presses what he is told to, and the screen before him. `deaf_screen`: cycles it hears no driver."""

    def __init__(self, run: config.Run, seed: int) -> None:
        self.view, self.commands, self.deaf_screen = View(), [], 0
        super().__init__(run, seed)

    def _operate(self, now: int) -> None:
        for key in self.commands:
            self.sentry.hear(key, now)
        self.commands.clear()
        self.sentry.hear(Operator(source="console", t=now, command="beat", press=0), now)

    def press(self, command: str) -> None:
        """A key, in answer to what the screen shows."""
        now, guard = self.clock.now(), self.view.guard()
        self._press += 1
        nonce = guard.nonce if guard is not None else 0
        self.commands.append(Operator(source="console", t=now, command=command, press=self._press, nonce=nonce))

    def stop(self) -> None:
        """SPACE, by the console's own code."""
        now = self.clock.now()
        key = desk.press(" ", self.view, now)
        assert key is not None
        self.commands.append(Operator(source="console", t=now, command=key.command, press=key.press, nonce=key.nonce))

    def cycle(self) -> None:
        super().cycle()
        now = self.clock.now()
        assert self.guard is not None
        self.view.receive("guard", self.guard, now)
        self.deaf_screen = max(0, self.deaf_screen - 1)
        if not self.deaf_screen and self.sentry._drive is not None:
            self.view.receive("drive", self.sentry._drive, now)
        if self.applied is not None:
            self.view.receive("applied", self.applied, now)

    @property
    def driven(self) -> bool:
        """Somebody's target goes to the wire."""
        return self.applied is not None and self.applied.writer in ("policy", "reset") and not self.applied.held

    @property
    def torque(self) -> bool:
        """In truth: of any servo."""
        return any(servo.registers.get("torque") for servo in self.twin.bus.servos)


def mischief(rig: Desk, rng: random.Random) -> None:
    """Something goes wrong, or is over."""
    what = rng.choice(("mute", "deaf", "deaf", "power", "screen", "clear", "clear", "reboot"))
    if what in ("mute", "deaf"):
        rig.twin.command({"fault": what, "servo": rng.choice(SERVOS), "for_s": rng.uniform(0.02, 2.0)})
    elif what == "power":
        rig.twin.command({"supply_v": rng.choice((0.0, 12.0, 12.0))})
    elif what == "screen":
        rig.deaf_screen = rng.randrange(1, 60)
    elif what == "reboot":
        rig.twin.command({"fault": "reboot", "servo": rng.choice(SERVOS)})
    else:
        rig.twin.command({"fault": "clear"})
        rig.twin.command({"supply_v": 12.0})


class Tally:
    """What came of the presses."""

    def __init__(self) -> None:
        self.presses: Counter[str] = Counter()  # by the state in which they were made
        self.words: Counter[str] = Counter()  # on the screen, by cycles
        self.false: list[str] = []
        self.stopped: list[int] = []  # periods from a press in motion to the guard's stop, and until nobody drove
        self.undriven: list[int] = []

    def told(self) -> dict[str, Any]:
        def late(periods: list[int]) -> dict[str, float]:
            if not periods:
                return {}
            return {"p50": float(np.median(periods)), "p99.9": float(np.quantile(periods, 0.999)), "most": max(periods)}

        return {
            "presses": sum(self.presses.values()), "by_state": dict(self.presses), "cycles_by_word": dict(self.words),
            "false_confirmed": len(self.false), "first_false": self.false[:3], "presses_in_motion": len(self.stopped),
            "periods_to_the_guards_stop": late(self.stopped), "periods_until_nobody_drives": late(self.undriven),
        }  # fmt: skip


def look(rig: Desk, tally: Tally) -> None:
    """The screen's word against the truth."""
    word = stop_status(rig.view, rig.clock.now())[0]
    tally.words[word] += 1
    if word == "OFF, CONFIRMED" and rig.torque:
        assert rig.guard is not None
        tally.false.append(f"{rig.guard.state} at {rig.seconds:.2f} s")


def pressed(rig: Desk, tally: Tally) -> None:
    """SPACE; what follows is counted until nobody drives any more."""
    guard: Guard | None = rig.guard
    tally.presses[guard.state if guard is not None else "BOOT"] += 1
    moving = guard is not None and guard.state in ("RUN", "RESET") and rig.driven
    rig.stop()
    stopped = 0
    for period in range(1, LATE + 1):
        rig.cycle()
        look(rig, tally)
        if not moving:
            return
        assert rig.guard is not None
        stopped = stopped or (period if rig.guard.state in STOPPED else 0)
        if stopped and not rig.driven:
            tally.stopped.append(stopped)
            tally.undriven.append(period)
            return
    tally.stopped.append(stopped or LATE)
    tally.undriven.append(LATE)


def session(run: config.Run, seed: int, presses: int, tally: Tally) -> int:
    """One robot from BOOT on, until so many presses or LOCKOUT; how many there were."""
    rng, rig, script = random.Random(seed), Desk(run, seed), Script()
    done = locked = 0
    wait = 0
    while done < presses and locked < 3:
        if wait <= 0:
            pressed(rig, tally)
            done += 1
            locked += rig.guard is not None and rig.guard.state == "LOCKOUT"
            wait = rng.choice((0, 3, 30, 90))  # the long ones let it get going again
            continue
        wait -= 1
        assert rig.guard is not None
        wished = script.answer(rig.guard)
        if wished and rng.random() < 0.3:
            rig.press(wished)
        elif rng.random() < 0.02:
            rig.press(rng.choice(KEYS))
        if rng.random() < 0.003:
            mischief(rig, rng)
        rig.cycle()
        look(rig, tally)
    rig.close()
    return done


def campaign(presses: int, seed: int) -> dict[str, Any]:
    """So many, by one robot after the other."""
    run = config.load(ROOT / "launch" / "reach.toml", [])
    tally, done, robots = Tally(), 0, 0
    while done < presses:
        done += session(run, 1000 * seed + robots, min(SESSION, presses - done), tally)
        robots += 1
        print(f"{done} of {presses} presses, {len(tally.false)} false", file=sys.stderr, flush=True)
    return {"seed": seed, "robots": robots, **tally.told()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presses", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    found = campaign(args.presses, args.seed)
    for name, value in found.items():
        print(f"{name:<28} {value}")
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), **found})
    return 1 if found["false_confirmed"] else 0


if __name__ == "__main__":
    sys.exit(main())
