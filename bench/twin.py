"""Speed of the lockstep clock: the whole robot program over wire bytes while the robot trots, beside physics alone.

`lockstep` is a control step of the rehearsal without its learner: physics, servo bytes both ways, gate, guard, reset script,
IMU and tracker bytes, observation, action, transition. `bare` is the loop of bench/twin_bare.py: PyBullet and the motor model
in the same world, same settings, same trot, and nothing else. Both run in one process on one core, by turns; wall time and the
process's own time are told apart, since other programs take only the first.
Run: python bench/twin.py [--steps N] [--rounds N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import twin_bare

from robotrl import config, rundir
from robotrl.sim.rig import Rig
from robotrl.sim.world import World
from robotrl.tasks.walk import Walk

WALK = Path(__file__).resolve().parent.parent / "launch" / "walk.toml"
SETTINGS = ["twin.randomise=false", "task.episode_steps=1000000000", "agent.random_steps=0"]


class Trot:
    """In the actor's place: the open-loop trot of the bare loop, as actions that lead there through the task's low-pass."""

    def __init__(self, run: config.Run) -> None:
        self._task, self._t, self._period = Walk(run.task), 0.0, 1.0 / run.task.rate_hz
        newest = 12 * (1 + run.task.history)
        self._before = slice(newest, newest + 8)  # where the observation holds the newest applied action

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        self._t += self._period
        want = self._task.applied(twin_bare.target(self._t).tolist())
        return self._task.action(want, observation[self._before])


class Lockstep:
    """A rig whose robot trots; `turn` makes some control steps and says how many of them were under the policy."""

    def __init__(self, run: config.Run) -> None:
        self.rig = Rig(run, seed=0)
        self.rig.pilot.take(Trot(run), 1, 0)  # type: ignore[arg-type]
        while self.rig.permit is None or self.rig.permit.state != "RUN":
            self.rig.cycle()
        self.running = self.cycles = 0
        self._begin = (self.rig.seconds, self.rig.twin.world.position)

    def turn(self, steps: int) -> None:
        for _ in range(steps):
            self.rig.cycle()
            self.running += self.rig.permit is not None and self.rig.permit.state == "RUN"
        self.cycles += steps

    def speed(self) -> float:
        """Net speed over ground since the first turn, m/s."""
        seconds, position = self._begin
        return float(np.linalg.norm((self.rig.twin.world.position - position)[:2]) / (self.rig.seconds - seconds))


def timed(loop: Callable[[], Any], steps: int) -> tuple[float, float]:
    """Control steps a second by the wall and by this process's own time."""
    wall, own = time.perf_counter(), time.process_time()
    loop()
    return steps / (time.perf_counter() - wall), steps / (time.process_time() - own)


def measure(steps: int, rounds: int) -> dict[str, Any]:
    run = config.load(WALK, SETTINGS)
    lockstep, bare = Lockstep(run), World(run.twin, seed=0)
    rates = {"bare": np.zeros((rounds, 2)), "lockstep": np.zeros((rounds, 2))}
    for k in range(rounds):
        rates["bare"][k] = timed(lambda: twin_bare.bare(bare, steps), steps)
        rates["lockstep"][k] = timed(lambda: lockstep.turn(steps), steps)
    share = np.median(rates["lockstep"] / rates["bare"], axis=0)
    real_time = np.median(rates["lockstep"], axis=0) / run.task.rate_hz
    result: dict[str, Any] = {
        f"{name}_steps_per_s{kind}": round(float(np.median(r[:, i])), 1)
        for name, r in rates.items()
        for i, kind in enumerate(("", "_own_time"))
    }
    return result | {
        "times_real_time": round(float(real_time[0]), 2),
        "times_real_time_own_time": round(float(real_time[1]), 2),
        "share_of_bare": round(float(share[0]), 3),
        "share_of_bare_own_time": round(float(share[1]), 3),
        "under_the_policy": round(lockstep.running / lockstep.cycles, 3),
        "trot_m_s": round(lockstep.speed(), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=250, help="control steps a turn (20 ms each)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each; the median counts")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    result = measure(args.steps, args.rounds)
    print(json.dumps(result))
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), "steps": args.steps, "rounds": args.rounds, **result})


if __name__ == "__main__":
    main()
