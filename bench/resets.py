"""Resets, measured: from the end of an episode to the next RUN, where the time goes, how many fail, and from what poses.

In lockstep on the randomised twin, with the robot's own gate, guard and reset script, and no learner: each episode plays a gait
drawn by the seed, as bad as an early policy's, until it falls or makes no way. The scripted operator takes as long for a key as
he does on the wall clock, and sets the robot on its feet where the script gives up. Ways from RUN to RUN on which a motor was too
hot are counted, and left out of the means: how long it cools is no reset's doing.
Run: python bench/resets.py [--resets 200] [--seeds 0 1] [--set KEY=VALUE] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from robotrl import config, rundir  # noqa: E402
from robotrl.messages import Guard, Imu  # noqa: E402
from robotrl.safety.reset import OVER  # noqa: E402
from robotrl.sim.operator import PATIENCE, PERIOD_NS, Script  # noqa: E402
from robotrl.sim.rig import Rig  # noqa: E402

HOT = {"temp_high", "temp_over"}


class Gaits:
    """In the actor's place: legs that swing about a pose, all of it drawn anew each episode."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 11])
        self.begin()

    def begin(self) -> None:
        rng = self._rng
        self._step = 0
        self._centre = rng.uniform(-1, 1, 8) * rng.uniform(0, 1)
        self._swing = rng.uniform(0, 1.5, 8) * rng.uniform(0.2, 1)
        self._phase, self._hz = rng.uniform(0, 2 * math.pi, 8), rng.uniform(0.5, 4.0)
        self._noise = rng.uniform(0, 0.5)

    def act(self, observation: Any, noise: Any, *image: Any) -> np.ndarray:
        self._step += 1
        wave = np.sin(self._phase + 2 * math.pi * self._hz * self._step * 0.02)
        action = self._centre + self._swing * wave + self._noise * self._rng.standard_normal(8)
        return np.clip(action, -1, 1).astype(np.float32)


class Nobody(Script):
    """An operator whose hand is on its way to the next key."""

    def answer(self, guard: Guard) -> str:
        return ""


class Patient(Rig):
    """A rig that plays `Gaits`, and whose operator does not hammer."""

    def __init__(self, run: config.Run, seed: int) -> None:
        self._pressed = -PATIENCE * PERIOD_NS
        super().__init__(run, seed)
        self.gaits = Gaits(seed)
        self.pilot.take(self.gaits, 0, 0)  # type: ignore[arg-type]

    def _operate(self, now: int) -> None:
        script = self._script
        if now - self._pressed <= PATIENCE * PERIOD_NS:
            self._script = Nobody()
        super()._operate(now)
        self._script = script

    def _help(self, command: str, guard: Guard) -> None:
        super()._help(command, guard)
        if command:
            self._pressed = self.clock.now()


@dataclass
class Way:
    """From a RUN to the next. Times in s."""

    ended: str
    states: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    heat: float = 0.0  # A^2 s, of all motors in RESET
    hot: bool = False
    fastest: float = 0.0  # rad/s, of a joint in RESET
    scripts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(self.states.values())


def tilt(imu: Imu | None) -> float:
    return max(abs(imu.roll), abs(imu.pitch)) if imu is not None else math.nan


def resets(run: config.Run, seed: int, count: int) -> list[Way]:
    """The first `count` ways."""
    rig, ways, state = Patient(run, seed), [], ""
    way: Way | None = None
    while len(ways) < count:
        before = rig.seconds
        rig.cycle()
        rig.pilot.finished.clear()
        assert rig.guard is not None
        guard, seconds = rig.guard, rig.seconds - before
        if state == "RUN" != guard.state:
            way = Way(guard.trigger)
            rig.gaits.begin()
        if way is not None and guard.state == "RUN":
            ways.append(way)
            way = None
        elif way is not None:
            note(way, rig, guard, state, seconds)
        state = guard.state
    rig.close()
    return ways


def note(way: Way, rig: Patient, guard: Guard, before: str, seconds: float) -> None:
    """One cycle of a way."""
    assert rig.joints is not None
    way.states[guard.state] += seconds
    way.hot |= not HOT.isdisjoint(guard.causes)
    said = rig.resetter.state
    if guard.state == "RESET":
        if before != "RESET":
            eased = rig.servos.chain._easing.servos  # type: ignore[union-attr]
            way.scripts.append({"tilt": round(tilt(rig.imu), 2), "joints": [round(q, 2) for q in rig.joints.position],
                                "eased": len(eased), "attempts": 1, "failed": ""})  # fmt: skip
        if said.attempt:
            way.stages[f"{said.attempt} {said.stage}"] += seconds
            way.scripts[-1]["attempts"] = said.attempt
        way.heat += float(np.square(rig.twin.world.motors.current).sum()) * seconds
        way.fastest = max(way.fastest, *map(abs, rig.joints.velocity))
    elif before == "RESET" and "reset_failed" in guard.causes:
        began, over = way.scripts[-1]["tilt"], tilt(rig.imu) > OVER
        way.scripts[-1]["failed"] = "a leg lies wrong" if not over else "lay over" if began > OVER else "tipped over"


def summary(ways: list[Way]) -> dict[str, Any]:
    """What they come to."""
    calm = [way for way in ways if not way.hot]
    scripts = [script for way in ways for script in way.scripts]
    times = [way.seconds for way in calm]
    states, stages = sum((way.states for way in calm), Counter()), sum((way.stages for way in calm), Counter())
    return {
        "resets": len(scripts), "failed": sum(bool(script["failed"]) for script in scripts),
        "failed_by": Counter(script["failed"] for script in scripts if script["failed"]),
        "attempts": dict(sorted(Counter(s["attempts"] for s in scripts if not s["failed"]).items())),
        "ways": len(ways), "too_hot": len(ways) - len(calm),
        "mean_s": round(float(np.mean(times)), 2), "quartiles_s": np.quantile(times, [0.25, 0.5, 0.75, 0.9]).round(2).tolist(),
        "mean_s_without_a_hand": round(float(np.mean([w.seconds for w in calm if not any(s["failed"] for s in w.scripts)])), 2),
        "states_s": {state: round(total / len(calm), 2) for state, total in states.most_common()},
        "stages_s": {stage: round(total / len(calm), 2) for stage, total in sorted(stages.items())},
        "heat_a2s": round(sum(way.heat for way in ways) / len(scripts)), "fastest_rad_s": round(max(w.fastest for w in ways), 1),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resets", type=int, default=200, help="episodes' ends of each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    run = config.load(ROOT / "launch" / "walk.toml", ["agent.random_steps=0", *args.set])
    ways: list[Way] = []
    for seed in args.seeds:
        ways += resets(run, seed, args.resets)
    kinds = {"all": ways, **{kind: [w for w in ways if kind in w.ended] for kind in ("fall", "stuck")}}
    found = {kind: summary(some) for kind, some in kinds.items() if some}
    failed = [{"after": way.ended, **script} for way in ways for script in way.scripts if script["failed"]]
    print(json.dumps(found, indent=1))
    if args.out is not None:
        rundir.write_json(args.out, {"built_from": rundir.provenance(), "seeds": args.seeds, "set": args.set, **found,
                                     "failed_from": failed})  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
