"""Throughput of a whole rehearsal: updates a second while twin, gate, policy and learner work side by side, and what bounds it.

A rehearsal as `robotrl rehearse` runs it, without its evaluation and pictures; counted from the first update on. Then the same
learner process on the replay that it left, with nothing beside it (its own rate, mirrored rows and all), and the same actor
without a learner. At one update a step (`agent.updates_per_step`) the slower of the two is the most that a rehearsal can
reach; asked: 85 % of the learner's own rate. The three are measured one after the other: run it on a quiet machine.
Run: robotrl bench rehearsal [--steps N] [--set agent.updates_per_step=5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import actor
from engine import WALK
from rich.console import Console

from robotrl import config, rundir
from robotrl.replay import Replay
from robotrl.sim.course import Course
from robotrl.sim.training import LAG, LearnerProcess, Training


class Timed(Training):
    """A training that notes how far it was at each exchange with the learner."""

    def __init__(self, run: config.Run, directory: Path, console: Console) -> None:
        super().__init__(run, directory, console)
        self.marks: list[tuple[float, int, int]] = []  # s, updates, transitions

    def _take(self, answer: dict[str, Any]) -> None:
        super()._take(answer)
        if self.updates:
            self.marks.append((time.monotonic(), self.updates, self.replay.count))


def rehearse(run: config.Run, directory: Path) -> dict[str, float]:
    """Updates and control steps a second between the first and the last exchange of weights."""
    quiet = Console(quiet=True)
    training = Timed(run, directory, quiet)
    try:
        with Course(quiet, run.steps) as course:
            training.train(course)
    finally:
        training.close()
    if len(training.marks) < LAG + 4:
        raise SystemExit(f"bench rehearsal: too short, no update by step {run.steps}; --steps beyond agent.learn_after")
    (t0, u0, s0), (t1, u1, s1) = training.marks[0], training.marks[-2 - LAG]  # the last answers have no actor beside them
    return {"updates_per_s": (u1 - u0) / (t1 - t0), "steps_per_s": (s1 - s0) / (t1 - t0), "updates": u1 - u0}


def alone(run: config.Run, directory: Path) -> tuple[float, str]:
    """Updates a second of a fresh learner process on this run's replay, and its engine."""
    fresh = directory.with_name("alone")
    fresh.mkdir()
    (fresh / "weights").mkdir()
    shutil.copy(directory / "run.json", fresh)
    (fresh / "replay").symlink_to(directory / "replay")
    count = Replay.open(directory / "replay").count
    learner = LearnerProcess(fresh)
    try:
        learner.ask(count, 0)
        answer = learner.wait()
        return answer["done"] / answer["seconds"], learner.engine
    finally:
        learner.close()


def measure(run: config.Run) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        directory = rundir.create(run, Path(folder), "lockstep")
        together = rehearse(run, directory)
        own, engine = alone(run, directory)
    steps = actor.rate(run, max(2.0, together["updates"] / own / 2))
    bound = min(own, steps * run.agent.updates_per_step)
    return {
        "engine": engine,
        "rehearsal": {name: round(value, 1) for name, value in together.items()},
        "learner_alone_updates_per_s": round(own, 1),
        "actor_alone_steps_per_s": round(steps, 1),
        "share_of_the_learner": round(together["updates_per_s"] / own, 3),
        "share_of_the_slower": round(together["updates_per_s"] / bound, 3),
        "slower": "learner" if bound == own else "actor",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12_000, help="transitions; those before agent.learn_after are not counted")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--out", type=Path, help="write the result there, with machine and commit")
    options = parser.parse_args()
    run = config.load(WALK, [*options.set, f"steps={options.steps}"])
    result = {"built_from": rundir.provenance(), "steps": options.steps, "set": options.set, **measure(run)}
    print(json.dumps(result, indent=1))
    if options.out is not None:
        rundir.write_json(options.out, result)


if __name__ == "__main__":
    main()
