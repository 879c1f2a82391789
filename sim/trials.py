"""How often a task succeeds: a run's deterministic policy on the twin, or a script in its place, by what the physics says.

For the tasks that end in a success or not: `walk_to`, `stand`, `push`, `stack`. What the robot itself knows decides when an
episode ends; whether it was a success is read from the physics in its last moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robotrl import config, rundir
from robotrl.agents.actor import Actor, WeightsError
from robotrl.complaint import command
from robotrl.sim.armrig import rig_of
from robotrl.sim.program import Program
from robotrl.sim.truths import truth_of
from robotrl.sim.video import Frame, VideoWriter, caption

EVALUATION_SEED = 1000  # evaluations draw their episodes from other seeds than trainings
VIDEO = (320, 240)  # width, height
FILMED = 3  # episodes
TASKS = ("walk_to", "stand", "stack", "push")


class Acts(Protocol):
    """What decides: an `Actor`, or a script."""

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray: ...


class Truth(Protocol):
    """What the physics says of a task."""

    def look(self) -> dict[str, float]:
        """Now; "distance_m" is what is to become small."""
        ...

    def succeeded(self, seen: dict[str, float]) -> bool: ...

    def script(self) -> Acts:
        """The controller by hand that the learned one is compared with."""
        ...

    def render(self, width: int, height: int) -> Frame: ...


def evaluate(
    run: config.Run, directory: Path, episodes: int, video: bool = False, say: Callable[[str], Any] = print,
    weights: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`episodes` with `weights` (default: the newest of `directory`). Returns what `trials` does, and the film's path."""
    run = replace(run, task=replace(run.task, reward="task"))  # judged by what is true, whatever it learned from
    rig = rig_of(run, EVALUATION_SEED + run.seed, deterministic=True)
    source = weights or directory / "weights" / "policy.safetensors"
    if not source.is_file():
        raise rundir.RunError(f"{source}: no weights yet; train longer than agent.learn_after steps")
    actor, history = Actor.load(source), rig.pilot.history
    if (sizes := (actor.observation_size, actor.action_size)) != (wanted := (history.size, history.a)):
        raise WeightsError(f"{source}: made for (observation, action) {sizes}, not {wanted}; use this run's own weights")
    film = VideoWriter(directory / f"{run.task.name}.mp4", run.task.rate_hz / 2, VIDEO) if video else None
    traces: dict[str, list[Any]] = {}
    result = trials(rig, lambda _: actor, episodes, say, film, traces)
    if film is not None:
        result["video"] = str(film.close())
    if weights is None:
        np.savez(directory / "traces.npz", **{k: np.asarray(v, np.float64) for k, v in traces.items()})  # type: ignore[arg-type]
        metrics = rundir.Metrics(directory)
        metrics.write("evaluation", **result, step_total=run.steps)
        metrics.close()
    return result


def scripted(run: config.Run, episodes: int, say: Callable[[str], Any] = lambda _: None) -> dict[str, Any]:
    """The same episodes for the script."""
    run = replace(run, task=replace(run.task, reward="task"))
    rig = rig_of(run, EVALUATION_SEED + run.seed, deterministic=True)
    return trials(rig, lambda truth: truth.script(), episodes, say)


def trials(
    rig: Program, acts: Callable[[Truth], Acts], episodes: int, say: Callable[[str], Any], film: VideoWriter | None = None,
    traces: dict[str, list[Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """So many episodes, and the rig is closed; the first ones are filmed. Those that a guard stopped are none."""
    truth: Truth = truth_of(rig)
    rig.pilot.take(acts(truth), 0, 0)  # type: ignore[arg-type]
    done: list[dict[str, Any]] = []
    seen: dict[str, float] = {}
    pushes = 0
    while len(done) < episodes:
        rig.cycle()
        tally = rig.pilot.tally
        if tally is not None or rig.pilot.just_ended:
            seen = truth.look()
            if traces is not None and not done:
                _trace(traces, rig, seen)
            if film is not None and len(done) < FILMED and tally is not None and tally.steps % 2 == 0:
                film.write(caption(truth.render(*VIDEO), [_said(tally.steps / rig.run.task.rate_hz, seen)]))
        for episode in rig.take_finished():
            row = {"return": episode.total_return, "steps": episode.step, "ended": episode.ended,
                   "success": truth.succeeded(seen), **{k: round(v, 4) for k, v in seen.items()}}  # fmt: skip
            row["pushed"], pushes = rig.pushes - pushes, rig.pushes
            if episode.ended == "stopped":
                continue
            done.append(row)
            word = "success" if row["success"] else "failed"
            say(f"episode {len(done):2d}: {word}, {episode.ended} after {episode.step} steps, "
                f"{_said(episode.step / rig.run.task.rate_hz, seen)}")  # fmt: skip
    rig.close()
    return _summary(done)


def _said(seconds: float, seen: dict[str, float]) -> str:
    return f"t {seconds:4.1f} s   " + "   ".join(f"{key} {value:.3f}" for key, value in seen.items())


def _trace(traces: dict[str, list[Any]], rig: Program, seen: dict[str, float]) -> None:
    assert rig.joints is not None and rig.applied is not None
    values = {"t": rig.seconds, "position": rig.joints.position, "target": rig.applied.target, "distance": seen["distance_m"]}
    for key, value in values.items():
        traces.setdefault(key, []).append(value)


def _summary(done: list[dict[str, Any]]) -> dict[str, Any]:
    distances = [d["distance_m"] for d in done]
    return {
        "success": sum(d["success"] for d in done) / len(done),
        "successes": sum(d["success"] for d in done),
        "pushed": sum(d["pushed"] > 0 for d in done),
        "return_mean": float(np.mean([d["return"] for d in done])),
        "distance_mean_m": float(np.mean(distances)) if distances else math.nan,
        "distance_max_m": float(np.max(distances)) if distances else math.nan,
        "steps_mean": float(np.mean([d["steps"] for d in done])),
        "episodes": done,
    }


def summarise(result: dict[str, Any]) -> str:
    """The evaluation in one line."""
    n = len(result["episodes"])
    return (
        f"evaluation of the deterministic policy, {n} episode{'s' * (n != 1)}: {result['successes']} succeeded, return "
        f"{result['return_mean']:.1f}, {result['distance_mean_m']:.3f} m from where it should be at the end, "
        f"{result['distance_max_m']:.3f} m at most"
    )


def again(run: config.Run, directory: Path) -> str:
    """What a person may do next."""
    return f"next    {command(f'eval {directory} --episodes 50')}      more episodes"
