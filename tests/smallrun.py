"""A small rehearsal, for its tests: in their process, or by this file in one of its own, which then starts without torch."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from robotrl import checkpoint, config, rundir
from robotrl.sim.course import Course
from robotrl.sim.training import Training

WALK = Path(__file__).resolve().parent.parent / "launch" / "walk.toml"
RANDOM, STEPS = 300, 1000
SMALL = [
    "seed=1", f"steps={STEPS}", "task.episode_steps=40", "task.acceleration_weight=1.0",
    "task.smoothing=0.4", "task.swing_range=0.5", "task.extension_range=0.5", "task.speed_cap=0.5",
    "agent.hidden=[64,64]", "agent.batch=64", "agent.capacity=2000", f"agent.random_steps={RANDOM}",
    f"agent.learn_after={RANDOM}", "agent.updates_per_step=3", "agent.discount=0.95", "agent.polyak=0.02",
    "agent.actor_lr=1e-3", "agent.critic_lr=1e-3", "agent.temperature_lr=3e-3",
    "agent.initial_temperature=0.1", "agent.target_entropy=-8.0",
    # as it was tuned: what it must show is the algorithm
    "agent.noise_beta=0", "agent.mirror=false", "task.tilt_weight=0.05", "task.tilt_free=0.2", "task.effort_weight=0",
    "task.turning_weight=0", "task.overspeed_weight=0", "twin.randomise=false",
]  # fmt: skip


def rehearse(directory: Path, *overrides: str) -> config.Run:
    """A training as the command makes it, in `directory`; returns its run."""
    run = config.load(WALK, [*SMALL, *overrides])
    (directory / "weights").mkdir(parents=True)
    rundir.write_json(directory / "run.json", {"clock": "lockstep", "config": config.to_dict(run)})
    train(run, directory, None)
    return run


def train(run: config.Run, directory: Path, kept: checkpoint.Checkpoint | None) -> None:
    training = Training(run, directory, Console(quiet=True), kept=kept)
    try:
        training.train(Course(training.console, run.steps))
    finally:
        training.close()


if __name__ == "__main__":
    rehearse(Path(sys.argv[1]), *sys.argv[2:])
