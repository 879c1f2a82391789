"""`robotrl eval`: the deterministic policy of a run on the twin: returns, speeds, falls; on other ground and under pushes too.

Speed is the torso's true net displacement along its first heading over the episode's time, from the physics and not from the
tracker that the reward saw. An episode lasts its full time unless the robot falls: nothing is cut off for getting nowhere. One
that ends with the legs folded under a torso on the ground is `lying`, which is neither a fall nor upright.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Console

from robotrl import config, rundir
from robotrl.agents.actor import Actor, WeightsError
from robotrl.kinematics import to_leg
from robotrl.sim import reaching, trials
from robotrl.sim.rig import Rig
from robotrl.sim.video import VideoWriter, caption

EVALUATION_SEED = 1000  # evaluations draw their robots from other seeds than trainings
VIDEO = (320, 240, 25)  # width, height, frames a second
# A leg so far (rad) beyond the range of actions, for so long (s), is folded by the robot's weight: 0.04 s is the most in a gait.
FOLDED_RAD, FOLDED_S = 0.3, 1.0


class Walked:
    """The true path of one episode."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.start = self.at = np.array(rig.twin.world.position[:2])
        yaw = float(rig.twin.world.rpy[2])
        self.heading = np.array((math.cos(yaw), math.sin(yaw)))
        self.begun = self.now = self.sound = rig.seconds

    def look(self) -> None:
        """Once a cycle while the episode runs: in its last one the robot may already be carried back to a course's start."""
        self.at, self.now = np.array(self.rig.twin.world.position[:2]), self.rig.seconds
        task, joints = self.rig.run.task, self.rig.joints
        assert joints is not None
        swing, extension = to_leg(np.asarray(joints.position))
        beyond = np.abs(swing) - task.swing_range, np.abs(extension - task.extension_centre) - task.extension_range
        if max(map(np.max, beyond)) <= FOLDED_RAD:
            self.sound = self.now

    def speed(self) -> float:
        """Mean forward speed so far, m/s."""
        return float((self.at - self.start) @ self.heading / max(1e-9, self.now - self.begun))

    def lies(self) -> bool:
        """Some leg has been folded for a while."""
        return self.now - self.sound >= FOLDED_S


def evaluate(
    run: config.Run,
    directory: Path,
    episodes: int,
    video: bool = False,
    say: Callable[[str], Any] = print,
    elsewhere: Mapping[str, Any] = MappingProxyType({}),
    weights: Path | None = None,
) -> dict[str, Any]:
    """Run `episodes` episodes with `weights` (default: the newest of `directory`); `elsewhere`: fields of the twin that differ.

    Returns means and the list of episodes.
    """
    run = dataclasses.replace(
        run, twin=dataclasses.replace(run.twin, **elsewhere), task=dataclasses.replace(run.task, stuck_s=math.inf)
    )
    rig = Rig(run, EVALUATION_SEED + run.seed, deterministic=True)
    source = weights or directory / "weights" / "policy.safetensors"
    if not source.is_file():
        raise rundir.RunError(_no_weights(source, weights is None, directory / "weights"))
    actor, history = Actor.load(source), rig.pilot.history
    if (sizes := (actor.observation_size, actor.action_size)) != (wanted := (history.size, history.a)):
        raise WeightsError(f"{source}: made for (observation, action) {sizes}, not {wanted}; use this run's own weights")
    rig.pilot.take(actor, 0, 0)
    film = VideoWriter(directory / "walk.mp4", VIDEO[2], VIDEO[:2]) if video else None
    done: list[dict[str, Any]] = []
    traces = _Traces()
    walked: Walked | None = None
    running = -1
    while len(done) < episodes:
        rig.cycle()
        tally = rig.pilot.tally
        if tally is not None and tally.episode != running:
            running, walked = tally.episode, Walked(rig)
        if walked is not None and tally is not None and len(done) == 0:
            traces.add(rig)
            if film is not None and tally.steps % 2 == 0:
                frame = rig.twin.world.render(*VIDEO[:2])
                film.write(caption(frame, [f"t {tally.steps / run.task.rate_hz:4.1f} s   {walked.speed():.2f} m/s"]))
        if walked is not None and tally is not None:
            walked.look()
        if walked is not None and tally is None:
            speed, lying, walked = walked.speed(), walked.lies(), None
        for episode in rig.take_finished():
            row = {"return": episode.total_return, "speed": speed, "tracker_speed": episode.speed,
                   "steps": episode.step, "ended": episode.ended, "lying": lying}  # fmt: skip
            done.append(row)
            say(
                f"episode {len(done):2d}: return {row['return']:6.1f}, {row['speed']:.2f} m/s, "
                f"{row['steps']} steps, ended: {row['ended']}{', lying' if lying else ''}"
            )
    rig.close()
    result = _summary(done)
    if film is not None:
        film.close()
        result["video"] = str(film.path)
    if not elsewhere and weights is None:
        traces.save(directory / "traces.npz")
        metrics = rundir.Metrics(directory)
        metrics.write("evaluation", **result, step_total=run.steps)
        metrics.close()
    return result


def _no_weights(source: Path, newest: bool, kept: Path) -> str:
    """Why there is nothing to evaluate: the run has not learned yet, or a name was mistyped; then what there is."""
    there = sorted(path.name for path in kept.glob("*.safetensors"))
    if newest and not there:
        return f"{source}: no weights yet; train longer than agent.learn_after steps"
    return f"{source}: no such weights file; in {kept}: {', '.join(there) or 'none'}"


class _Traces:
    """Joint angles, targets and attitude of one episode, for the plot."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {k: [] for k in ("t", "position", "target", "roll", "pitch", "speed")}

    def add(self, rig: Rig) -> None:
        assert rig.joints is not None and rig.applied is not None and rig.imu is not None
        values = (
            rig.seconds,
            rig.joints.position,
            rig.applied.target,
            rig.imu.roll,
            rig.imu.pitch,
            rig.speed(),
        )
        for key, value in zip(self.rows, values, strict=True):
            self.rows[key].append(value)

    def save(self, path: Path) -> None:
        np.savez(path, **{k: np.asarray(v, np.float64) for k, v in self.rows.items()})  # type: ignore[arg-type]


def _summary(done: list[dict[str, Any]]) -> dict[str, Any]:
    returns, speeds = [d["return"] for d in done], [d["speed"] for d in done]
    return {
        "return_mean": float(np.mean(returns)),
        "return_min": float(np.min(returns)),
        "speed_mean": float(np.mean(speeds)),
        "speed_min": float(np.min(speeds)),
        "falls": sum(d["ended"] == "fall" for d in done),
        "lying": sum(d["ended"] == "time" and d["lying"] for d in done),
        "upright": sum(d["ended"] == "time" and not d["lying"] for d in done),
        "episodes": done,
    }


def summarise(result: dict[str, Any]) -> str:
    """The evaluation in one line."""
    n = len(result["episodes"])
    return (
        f"evaluation of the deterministic policy, {n} episode{'s' * (n != 1)}: {result['speed_mean']:.2f} m/s forward, "
        f"return {result['return_mean']:.0f} of 250, {result['falls']} falls, {result['lying']} lying"
    )


def again(run: config.Run, directory: Path) -> str:
    """What a person may do next."""
    return (
        "next    bash launch/real_walk.sh --sim      the same program as separate processes on the wall clock\n"
        "        bash launch/rehearse.sh --steps 160000   the full 53 minutes of robot time\n"
        "        docs/hardware.md                    how to go to hardware"
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl eval", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run_dir", type=Path, nargs="?", help="run directory (default: the newest under runs)")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--terrain", help="flat, slope:+5, slope:-10, blocks, stairs-down[:cm], stairs-up[:cm]")
    parser.add_argument("--push", type=float, metavar="N", help="one push an episode, of half to all of this force, any side")
    parser.add_argument("--push-down", type=float, metavar="N", help="the push presses down too, with 0.6 to all of this force")
    parser.add_argument("--push-s", type=float, metavar="S", help="how long the push lasts (default: 0.1)")
    parser.add_argument("--weights", type=Path, help="weights file (default: the run's newest)")
    parser.add_argument("--video", action="store_true", help="film the first episode to walk.mp4 (an arm: three, reach.mp4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.episodes < 1:
        parser.error(f"--episodes must be 1 or more, not {args.episodes}")
    directory = args.run_dir or rundir.newest(Path("runs"))
    console = Console(stderr=args.json)
    asked = {"terrain": args.terrain, "push_n": args.push, "push_down_n": args.push_down, "push_s": args.push_s}
    elsewhere = {name: value for name, value in asked.items() if value is not None}
    if odd := [value for name, value in elsewhere.items() if name != "terrain" and not 0 <= value < math.inf]:
        parser.error(f"a push is finite and not negative, not {odd[0]}")
    run = rundir.load(directory)
    if run.task.name != "walk":
        judge: Any = reaching if run.task.name == "reach" else trials
        pushed = elsewhere.keys() <= {"push_n", "push_s"} and judge is trials
        if elsewhere and not pushed:
            parser.error(f"task {run.task.name} has one ground{'' if judge is trials else ' and is not pushed'}: leave these out")
        run = dataclasses.replace(run, twin=dataclasses.replace(run.twin, **elsewhere))
        result = judge.evaluate(run, directory, args.episodes, args.video, console.print, args.weights)
        console.print(judge.summarise(result))
    else:
        result = evaluate(run, directory, args.episodes, args.video, console.print, elsewhere, args.weights)
        console.print(summarise(result))
    if args.json:
        print(json.dumps(result))
    return 0
