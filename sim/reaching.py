"""How well an arm reaches: a run's deterministic policy on the twin, or a scripted controller in its place.

An episode counts as reached when the task says so, by the joints as they are read; how far the point really was from the goal
then is told beside it, from the physics. `Resolved` is the script to be compared with: resolved-rate motion with damping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robotrl import config, rundir
from robotrl.agents.actor import Actor, WeightsError
from robotrl.complaint import command
from robotrl.rewards.keyboard import played
from robotrl.sim.armrig import ArmRig
from robotrl.sim.bullet import import_bullet
from robotrl.sim.fleets import FLEETS
from robotrl.sim.video import VideoWriter, caption
from robotrl.tasks.reach import Reach

EVALUATION_SEED = 1000  # evaluations draw their goals from other seeds than trainings
VIDEO = (320, 240, 25)  # width, height, frames a second
DAMPING_M = 0.02  # where the arm is stretched out, it moves a joint no faster for it; chosen
GAIN = 0.3  # of the way to the goal in a step; chosen: a servo's lag of 3 steps does not make it swing


class Acts(Protocol):
    """What decides: an `Actor`, or a script."""

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray: ...


class Resolved:
    """Moves the point straight to the goal: dq = J' (J J' + d^2)^-1 dx (Nakamura and Hanafusa 1986, Wampler 1986).

    The targets move on by dq from where they are, so what a joint lacks under its load is made up for.
    """

    def __init__(self, rig: ArmRig) -> None:
        self._rig, self._task = rig, played(rig.pilot.task)
        assert isinstance(self._task, Reach)

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """An action (n,) that turns no joint by more than a step: the direction stays."""
        assert self._rig.joints is not None and self._rig.applied is not None
        q = self._rig.joints.position
        way = GAIN * (self._task.goal - self._task.arm.tip(q))
        jacobian = np.array(self._task.arm.jacobian(q)).T
        turn = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING_M**2 * np.eye(3), way)
        turn *= self._task.settings.step_rad / max(self._task.settings.step_rad, float(np.abs(turn).max()))
        before = self._task.applied(self._rig.applied.target)
        return self._task.action(self._task.moved(before, turn), before)


class Point:
    """Where the gripper's point really is."""

    def __init__(self, rig: ArmRig) -> None:
        import_bullet()
        from robotrl.sim.bulletjoints import BulletJoints  # late: it imports pybullet, which must have been told to be quiet

        if not isinstance(rig.twin.joints, BulletJoints):
            raise config.ConfigError("twin: an arm's point is looked at in PyBullet, which is not here; its wheels: CPython 3.11")
        self.body = rig.twin.joints
        moving = [part for part in FLEETS[rig.run.robot.kind].body if part.parent]
        self._link = next(i for i, part in enumerate(moving) if part.tip is not None)
        part = moving[self._link]
        assert part.tip is not None
        self._from_pivot = np.subtract(part.tip, part.pivot)
        self._height = FLEETS[rig.run.robot.kind].height

    def at(self) -> np.ndarray:
        """(3,) m, base frame."""
        world = self.body.place_of(self._link) + self.body.turn_of(self._link) @ self._from_pivot
        return np.asarray(world - (0.0, 0.0, self._height))


def evaluate(
    run: config.Run, directory: Path, episodes: int, video: bool = False, say: Callable[[str], Any] = print,
    weights: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`episodes` goals with `weights` (default: the newest of `directory`). Returns what `trials` does, and the film's path."""
    run = replace(run, task=replace(run.task, reward="task"))  # judged by what is true, whatever it learned from
    rig = ArmRig(run, EVALUATION_SEED + run.seed, deterministic=True)
    source = weights or directory / "weights" / "policy.safetensors"
    if not source.is_file():
        raise rundir.RunError(f"{source}: no weights yet; train longer than agent.learn_after steps")
    actor, history = Actor.load(source), rig.pilot.history
    if (sizes := (actor.observation_size, actor.action_size)) != (wanted := (history.size, history.a)):
        raise WeightsError(f"{source}: made for (observation, action) {sizes}, not {wanted}; use this run's own weights")
    film = VideoWriter(directory / "reach.mp4", VIDEO[2], VIDEO[:2]) if video else None
    traces: dict[str, list[Any]] = {}
    result = trials(rig, actor, episodes, say, film, traces)
    if film is not None:
        result["video"] = str(film.close())
    if weights is None:
        if rig.eyes is not None:
            rig.eyes.save(directory / "sees.png")
        np.savez(directory / "traces.npz", **{k: np.asarray(v, np.float64) for k, v in traces.items()})  # type: ignore[arg-type]
        metrics = rundir.Metrics(directory)
        metrics.write("evaluation", **result, step_total=run.steps)
        metrics.close()
    return result


def scripted(run: config.Run, episodes: int, say: Callable[[str], Any] = lambda _: None) -> dict[str, Any]:
    """The same goals for the scripted controller."""
    rig = ArmRig(run, EVALUATION_SEED + run.seed, deterministic=True)
    return trials(rig, Resolved(rig), episodes, say)


def trials(
    rig: ArmRig, acts: Acts, episodes: int, say: Callable[[str], Any], film: VideoWriter | None = None,
    traces: dict[str, list[Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """So many episodes, and the rig is closed. Share reached, true distance at the end, steps; the first three are filmed."""
    rig.pilot.take(acts, 0, 0)  # type: ignore[arg-type]
    task, point = rig.pilot.task, Point(rig)
    done: list[dict[str, Any]] = []
    assert isinstance(task, Reach)
    far = 0.0
    while len(done) < episodes:
        rig.cycle()
        if rig.pilot.tally is not None or rig.pilot.just_ended:
            far = float(np.linalg.norm(point.at() - task.goal))
            if traces is not None and not done:
                _trace(traces, rig, far)
            if film is not None and len(done) < 3 and rig.pilot.tally is not None and rig.pilot.tally.steps % 2 == 0:
                point.body.mark(task.goal.tolist(), task.settings.tolerance_m)
                seconds = rig.pilot.tally.steps / rig.run.task.rate_hz
                film.write(caption(point.body.render(*VIDEO[:2]), [f"t {seconds:4.1f} s   {far * 1000:3.0f} mm"]))
        for episode in rig.take_finished():
            done.append(
                {"return": episode.total_return, "distance_m": far, "steps": episode.step, "ended": episode.ended,
                 "goal": [round(x, 4) for x in task.goal.tolist()]}
            )  # fmt: skip
            say(f"episode {len(done):2d}: {episode.ended} after {episode.step} steps, {far * 1000:.1f} mm from the goal")
    rig.close()
    return _summary(done)


def _trace(traces: dict[str, list[Any]], rig: ArmRig, far: float) -> None:
    assert rig.joints is not None and rig.applied is not None
    values = {"t": rig.seconds, "position": rig.joints.position, "target": rig.applied.target, "distance": far}
    for key, value in values.items():
        traces.setdefault(key, []).append(value)


def _summary(done: list[dict[str, Any]]) -> dict[str, Any]:
    reached = [d for d in done if d["ended"] == "reached"]
    distances = [d["distance_m"] for d in done]
    return {
        "success": len(reached) / len(done),
        "reached": len(reached),
        "return_mean": float(np.mean([d["return"] for d in done])),
        "distance_mean_m": float(np.mean(distances)),
        "distance_max_m": float(np.max(distances)),
        "steps_mean": float(np.mean([d["steps"] for d in done])),
        "episodes": done,
    }


def summarise(result: dict[str, Any]) -> str:
    """The evaluation in one line."""
    n = len(result["episodes"])
    return (
        f"evaluation of the deterministic policy, {n} goal{'s' * (n != 1)}: {result['reached']} reached, return "
        f"{result['return_mean']:.1f}, {result['distance_mean_m'] * 1000:.1f} mm from the goal at the end, "
        f"{result['distance_max_m'] * 1000:.1f} mm at most"
    )


def again(run: config.Run, directory: Path) -> str:
    """What a person may do next."""
    return (
        f"next    {command(f'eval {directory} --episodes 50')}      more goals\n"
        f"        {command(f'move launch/arm.toml --robot {run.robot.name}')}      the first motion on hardware: docs/arms.md"
    )
