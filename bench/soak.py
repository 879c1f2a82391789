"""The soak: hours of the robot program in virtual time, a fault every 30 s on average, a witness at the servos' wire.

Codecs, gate, guard, reset and servo loop are the ones of the robot; the far ends speak their bytes, and in the place of physics
joints go where they are told (`sim/light.py`). Faults are rows of the matrix (tests/safety/rows.py), drawn by the seed; a script
as operator brings the robot back. Counted: violations of the wire's invariants, faults without a cause on record though one state
that judges them lasted as long as their row allows, and in a run without faults the stops that nobody asked for. First the run
with faults, then the one without; the hours of each are shared by as many processes as there are cores, each a program of its own
with a seed of its own.
Run: python bench/soak.py [--hours H] [--control-hours H] [--parts N] [--seed N] [--out FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from robotrl import kinematics, rundir  # noqa: E402
from robotrl.messages import Action  # noqa: E402
from robotrl.nodes.guard import Sentry  # noqa: E402
from robotrl.safety.guard import Guard  # noqa: E402
from robotrl.sim.light import LightTwin  # noqa: E402
from robotrl.sim.operator import Script  # noqa: E402
from tests.safety.rows import ROWS, Row  # noqa: E402
from tests.safety.scene import Scene  # noqa: E402

EVERY_S = 30.0
ENDED = "ended before they were due"  # faults whose state ended, by itself or another stop, before their cause had to come
MOST_ENDED = 0.03  # of those that were due
HARMLESS = ("temp_warning", "learner_gone", "clamped")  # they stop nothing
# Final by design (only a restart leads on), or of a body that this twin has not.
LEFT_OUT = {"the manager dies", "a process is given up", "a servo that does not obey the stop", "pushed over"}
STATE = {"PSTOP": "clearing", "CHECK": "", "BOOT": "", "RELAX": "", "LOCKOUT": ""}
WAVE = [tuple(kinematics.to_motors([0.0] * 4, [2.0 + 0.25 * math.sin(0.35 * k)] * 4).tolist()) for k in range(18)]


class Swayer:
    """In the pilot's place: bows, for ten seconds an episode. What `Rig` asks of a pilot, and no more."""

    def __init__(self) -> None:
        self.just_ended, self.tally, self.episode, self.finished = "", None, 0, []
        self.set_up: tuple[float, ...] = ()
        self._seq = self._steps = 0
        self._epoch = -1

    def see(self, pose: Any) -> None:
        pass

    def hear(self, drive: Any) -> None:
        pass

    def cycle(self, joints: Any, applied: Any, imu: Any, permit: Any, hand: Any) -> Action | None:
        self.just_ended = ""
        if permit is None or permit.state != "RUN" or permit.holder != "policy":
            return None
        if permit.epoch != self._epoch:
            self._epoch, self._steps = permit.epoch, 0
        self._steps += 1
        self._seq += 1
        if self._steps == 500:
            self.just_ended = "time"
        return Action(source="policy", seq=self._seq, t=joints.t, valid_ns=50_000_000, epoch=permit.epoch, tick=joints.tick,
                      target=WAVE[self._steps % 18])  # fmt: skip


class Soak(Scene):
    """A scene that an operator's script keeps running. `stops`: causes that did more than warn, in the order they came."""

    def __init__(self, seed: int, faults: bool) -> None:
        super().__init__(seed, "twin.physics_dt=0.01", twin=LightTwin, keep=False)
        self.rig.pilot = Swayer()  # type: ignore[assignment]
        self.rng = np.random.default_rng([seed, 7])
        self.rows = [row for row in ROWS if row.name not in LEFT_OUT and row.action not in ("NONE", "ANY")]
        self.script, self.waited = Script(), 0
        self.next_at = self.rng.exponential(EVERY_S) if faults else math.inf
        self.ends_at = math.inf
        self.row: Row | None = None
        self.due: tuple[str, ...] = ()  # causes of which one must be named, while a fault lasts
        self.judged_s = self.longest_s = 0.0  # of a fault that is due: in one judging state until now, and the most
        self.counts: Counter[str] = Counter()
        self.missing: list[str] = []
        self.stops: Counter[str] = Counter()
        self._causes: tuple[str, ...] = ()  # that stand, by the guard's newest word; and as a set
        self._standing: set[str] = set()
        self._was = ""

    def step(self) -> None:
        self.waited += 1
        guard = self.rig.guard
        if guard is not None and self.console and self.waited >= 25 and (key := self.script.answer(guard)):
            self.key, self.waited = key, 0
            if key in ("enable", "reset"):
                self.rig.twin.stand()  # type: ignore[attr-defined]
        self.cycle()
        self._note()
        seconds = self.rig.seconds
        if self.state == "LOCKOUT" and self.row is None:
            self._restart()
        if self.row is not None and seconds >= self.ends_at:
            self._end()
        elif self.row is None and seconds >= self.next_at:
            self._begin()

    def _note(self) -> None:
        assert self.rig.guard is not None
        causes = self.rig.guard.causes
        if causes != self._causes:
            self._causes, standing = causes, set(causes)
            self.stops.update(standing - self._standing)
            self._standing = standing
            if standing & set(self.due):
                self.due = ()
        self._time(self.judging)

    @property
    def judging(self) -> str:
        """The state as a row of the matrix calls it; none where the row of the fault that lasts does not judge."""
        state = STATE.get(self.state, self.state)
        return state if self.row is not None and state in self.row.judged and state in self.row.states else ""

    def _time(self, state: str) -> None:
        """How long the fault has been judged without a break: an episode or a reset that ends by itself begins anew."""
        self.judged_s = self.judged_s + self.rig.period_s if state and state == self._was else 0.0
        self.longest_s, self._was = max(self.longest_s, self.judged_s), state

    def _restart(self) -> None:
        """A person has looked, and started the program anew: nothing else leads out of LOCKOUT."""
        self.counts["lockouts"] += 1
        guard = self.rig.sentry.guard
        fresh = Sentry(self.run, self.rig._next_epoch, self.rig._next_nonce, restarted=True, epoch=self.rig._epoch)
        fresh.guard = Guard(tuple(guard.ledger.rows.values()), self.rig._next_nonce, damp_s=0.5, restarted=True)
        self.rig.sentry, self.script = fresh, Script()

    def _begin(self) -> None:
        self.row = row = self.rows[int(self.rng.integers(len(self.rows)))]
        self.judged_s, self.longest_s, self._was = 0.0, 0.0, self.judging
        self.due = row.causes if self._was and not set(row.causes) & self._standing else ()
        self.counts["faults"] += 1
        self.counts["with a cause due"] += bool(self.due)
        row.begin(self)
        self.ends_at = self.rig.seconds + row.ms * 1e-3 + float(self.rng.uniform(0.1, 2.0))

    def _end(self) -> None:
        assert self.row is not None
        if self.due and self.longest_s < self.row.ms * 1e-3 + self.rig.period_s:  # it began between two judgements
            self.counts[ENDED] += 1
        elif self.due:
            self.missing.append(f"{self.rig.seconds:.2f} s: {self.row.name}: no {self.row.causes[0]} in {self.state}")
        self.row, self.due = None, ()
        self.boot += 1  # who died comes back in another life
        self.heal()
        self.next_at = self.rig.seconds + self.rng.exponential(EVERY_S)


def soak(hours: float, seed: int, faults: bool, aloud: bool = False) -> dict[str, Any]:
    """One of the two runs, or a part of it; `aloud` says every virtual hour how far it is."""
    gc.freeze()  # of what is imported nothing goes; the robot's nodes do the same (node.pace)
    gc.set_threshold(50_000, 50, 50)
    began, own = time.perf_counter(), time.process_time()
    scene = Soak(seed, faults)
    states: Counter[str] = Counter()
    hour = 1
    while scene.rig.seconds < hours * 3600:
        if aloud and scene.rig.seconds >= hour * 3600:
            left = (time.perf_counter() - began) / 60 * (hours / hour - 1)
            print(
                f"{hour} h of {hours:g}, {len(scene.witness.violations)} violations; about {left:.0f} min left", file=sys.stderr
            )
            hour += 1
        scene.step()
        states[scene.state] += 1
    cycles = sum(states.values())
    scene.rig.close()
    wall, own = time.perf_counter() - began, time.process_time() - own
    return {
        "faults_every_s": EVERY_S if faults else None, "seed": seed, "virtual_hours": round(scene.rig.seconds / 3600, 3),
        "minutes": round(wall / 60, 2), "minutes_own_time": round(own / 60, 2),
        "times_real_time_own_time": round(scene.rig.seconds / own, 1), "cycles": cycles, "goals": scene.witness.goals,
        "violations": len(scene.witness.violations), "first_violations": scene.witness.violations[:5], **scene.counts,
        "without_cause": len(scene.missing), "first_without_cause": scene.missing[:5],
        "causes": dict(scene.stops.most_common()), "share_of_states": {s: round(n / cycles, 3) for s, n in states.most_common()},
    }  # fmt: skip


def shared(which: str, hours: float, parts: int, seed: int) -> dict[str, Any]:
    """A run in parts that go at the same time: what it comes to, and each."""
    began = time.perf_counter()
    words = [sys.executable, __file__, "--hours", str(hours / parts), "--only", which, "--seed"]
    begun = [subprocess.Popen([*words, str(seed + k)], stdout=subprocess.PIPE, text=True) for k in range(parts)]
    said = [json.loads(part.communicate()[0].splitlines()[-1]) for part in begun]
    minutes = round((time.perf_counter() - began) / 60, 2)
    sums = {name: round(sum(part[name] for part in said), 3) for name in ("virtual_hours", "violations", "without_cause")}
    return {"run": which, "minutes": minutes, **sums, "parts": said}


def complaints(faults: dict[str, Any], control: dict[str, Any]) -> list[str]:
    """What is wrong with the two runs, a line each; none when they have passed."""
    due, ended = (sum(part.get(what, 0) for part in faults["parts"]) for what in ("with a cause due", ENDED))
    calm = sorted({id for part in control["parts"] for id in part["causes"]} - set(HARMLESS))
    found = {
        "goals that broke a rule": faults["violations"] + control["violations"],
        "faults without the cause that was due": faults["without_cause"],
        f"of {due} faults {ENDED}: of so many a detector may be blind to what it was to see": ended * (ended > MOST_ENDED * due),
        f"stops without a fault: {' '.join(calm)}": len(calm),
    }
    return [f"{count} {what}" for what, count in found.items() if count]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="virtual hours of the run with faults")
    parser.add_argument("--control-hours", type=float, help="of the run without; as many when it is not said")
    parser.add_argument("--parts", type=int, default=os.cpu_count() or 1, help="processes that share a run's hours")
    parser.add_argument("--seed", type=int, default=0, help="of the first part; the next has the next")
    parser.add_argument("--only", choices=("faults", "none"), help="one of the two runs, here")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(soak(args.hours, args.seed, args.only == "faults", aloud=args.only == "faults")))
        return 0
    load = os.getloadavg()
    hours = {"faults": args.hours, "none": args.hours if args.control_hours is None else args.control_hours}
    runs = [shared(which, asked, args.parts, args.seed) for which, asked in hours.items()]
    print("\n".join(map(json.dumps, runs)))
    if args.out is not None:
        rundir.write_json(args.out, {"built_from": rundir.provenance(), "load": load, "runs": runs})
    wrong = complaints(*runs)
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
