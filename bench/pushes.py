"""What a push does to a robot that only stands: the bound for any policy, by direction and posture.

The whole program holds one posture (swing 0; extension low, middle, high) and the torso is pushed once for 0.1 s at its centre of
mass. The Minitaur's legs move in the sagittal plane alone: against a push from the side it can neither step nor lean.
Run: python bench/pushes.py [--robots N] [--out FILE]        (3 minutes)
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import config, rundir
from robotrl.sim.rig import Rig

WALK = Path(__file__).resolve().parent.parent / "launch" / "walk.toml"
SETTINGS = ["task.stuck_s=1e9", "task.episode_steps=200", "agent.random_steps=0"]
POSTURES = {"low": -1.0, "middle": 0.0, "high": 1.0}  # normalised extension
DIRECTIONS = {"from the side": math.pi / 2, "from behind": 0.0, "from ahead": math.pi}
FORCES_N = (20, 40, 60, 80, 120, 180, 240)
PUSH_AT = 50  # steps into the episode: it stands


class Still:
    """In the actor's place: one posture."""

    def __init__(self, extension: float) -> None:
        self._action = np.array([0.0] * 4 + [extension] * 4, np.float32)

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        return self._action


def stands(extension: float, newtons: float, angle: float, seed: int) -> bool:
    """Whether a robot drawn by `seed` is still on its feet two seconds after the push."""
    rig = Rig(config.load(WALK, SETTINGS), seed, deterministic=True)
    rig.pilot.take(Still(extension), 1, 0)  # type: ignore[arg-type]
    pushed = False
    while not (finished := rig.take_finished()):
        rig.cycle()
        if not pushed and rig.pilot.tally is not None and rig.pilot.tally.steps == PUSH_AT:
            rig.twin.world.push((newtons * math.cos(angle), newtons * math.sin(angle), 0.0), rig.run.twin.push_s)
            pushed = True
    rig.close()
    return finished[0].ended == "time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", type=int, default=5, help="drawn for each cell")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"of {args.robots} robots on their feet | " + " | ".join(f"{n} N" for n in FORCES_N))
    for direction, angle in DIRECTIONS.items():
        for posture, extension in POSTURES.items():
            upright = [sum(stands(extension, n, angle, seed) for seed in range(args.robots)) for n in FORCES_N]
            rows.append(
                {"direction": direction, "posture": posture, "upright": dict(zip(map(str, FORCES_N), upright, strict=True))}
            )
            print(f"{direction}, {posture} | " + " | ".join(map(str, upright)), flush=True)
    if args.out is not None:
        rundir.write_json(
            args.out,
            {**rundir.provenance(), "robots": args.robots, "push_s": config.load(WALK, SETTINGS).twin.push_s, "rows": rows},
        )


if __name__ == "__main__":
    main()
