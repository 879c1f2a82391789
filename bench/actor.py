"""The rehearsal's actor without a learner: twin, wires, gate, guard and policy in one process, as fast as they go.

What keeps a core busy beside the learner when a robot is rehearsed (`bench/learner.py --busy`). The policy has random weights:
it falls, is stopped and set up again as in the first minutes of a training. `Actor` starts one, which ends with its standard
input. Needs pybullet.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import numpy as np

from robotrl import config
from robotrl.agents import nets
from robotrl.agents.actor import Actor as Policy
from robotrl.sim.rig import Rig

WALK = Path(__file__).resolve().parent.parent / "launch" / "walk.toml"
LOOK_EVERY = 50  # cycles between two looks at the standard input


def rig(run: config.Run) -> Rig:
    """A rig whose policy acts by random weights from the first step on."""
    run = dataclasses.replace(run, agent=dataclasses.replace(run.agent, random_steps=0))
    made = Rig(run, seed=0)
    shapes = nets.shapes(made.pilot.history.size, 8, run.agent.hidden, 1)
    drawn = nets.initial(shapes, run.agent.initial_temperature, np.random.default_rng(0))
    made.pilot.take(Policy({name: value for name, value in drawn.items() if name.startswith("actor.")}), 1, 0)
    return made


def rate(run: config.Run, seconds: float) -> float:
    """Control steps a second of the actor alone, over so many seconds."""
    actor = rig(run)
    began, cycles = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        actor.cycle()
        actor.take_finished()
        cycles += 1
    actor.close()
    return cycles / seconds


class Actor:
    """The actor in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise SystemExit("bench: the actor did not start; its words are above")

    def cpu(self) -> float:
        """Seconds of processor time it has had."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    actor = rig(config.load(WALK))
    print(json.dumps({"ready": True}), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(LOOK_EVERY):
            actor.cycle()
            actor.take_finished()
    actor.close()


if __name__ == "__main__":
    main()
