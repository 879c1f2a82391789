"""`robotrl rehearse`: train in lockstep on the twin, then evaluate, plot, film, and say what to do next.

The actor's half (twin, wires, gate, guard, policy) runs in this process as fast as it can; the learner beside it in another,
LAG chunks of steps behind, paced by data. Both halves do the same work in the same order whatever the machine's speed, so the
same seed gives the same replay and the same weights bit for bit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from array import array
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from robotrl import config, rundir
from robotrl.agents.actor import Actor
from robotrl.complaint import Complaint
from robotrl.messages import Episode
from robotrl.nodes.learner import demonstrations
from robotrl.replay import Replay
from robotrl.sim.course import Course
from robotrl.sim.evaluation import evaluate, summarise
from robotrl.sim.rig import Rig
from robotrl.tasks.walk import ACTIONS, SENSORS


class RehearsalError(Complaint):
    """Why the rehearsal could not go on, and what to do; one line."""


# Chunks of `publish_every` steps between the data and the weights learnt from it: each side may be so far ahead before it waits
# for the other. More would hide a reset behind updates; on the small task of the tests it cost what was learned in 1,000 steps.
LAG = 1


class LearnerProcess:
    """The learner in a process of its own; it answers requests in the order in which they were made."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robotrl.nodes.learner", str(directory), "--lockstep"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pending = 0  # requests without an answer so far
        hello = self._answer()
        self.engine, self.note = hello["engine"], hello["note"]

    def ask(self, count: int, save: bool = False) -> None:
        """Let it do the updates that `count` transitions are worth."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"count": count, "save": save}) + "\n")
        self._process.stdin.flush()
        self.pending += 1

    def wait(self) -> dict[str, Any]:
        """The answer to the oldest request without one."""
        assert self.pending
        self.pending -= 1
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RehearsalError(f"the learner stopped (exit code {self._process.wait()}); its words are above")
        answer = dict(json.loads(line))
        if "error" in answer:
            raise RehearsalError(answer["error"])
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Training:
    """One rehearsal: the rig and the learner in step, with what the person sees of it."""

    def __init__(self, run: config.Run, directory: Path, console: Console, keep_every: int = 0) -> None:
        self.run, self.directory, self.console = run, directory, console
        self.keep_every, self._kept = keep_every, 0
        size = SENSORS * (1 + run.task.history) + ACTIONS * run.task.history
        self.replay = Replay.create(directory / "replay", size, ACTIONS, run.agent.capacity)
        self.rig = Rig(run, run.seed, replay=self.replay)
        self.metrics = rundir.Metrics(directory)
        self.learner = LearnerProcess(directory)
        self.falls = self.stuck = self.episodes = self.updates = 0
        self.recent: deque[Episode] = deque(maxlen=10)
        self.started = time.monotonic()
        self.steps_us = array("f")  # wall time of each control cycle: twin, wires, gate, guard, policy
        self.waited = 0.0  # s of wall time for the learner
        self._marks: deque[tuple[float, int]] = deque(maxlen=40)  # when so many updates were done
        self._causes: tuple[str, ...] = ()

    def train(self, course: Course) -> None:
        """Run until the replay holds `run.steps` transitions; every `publish_every` of them is one exchange with the learner."""
        asked = 0
        while self.replay.count < self.run.steps:
            begun = time.perf_counter()
            self.rig.cycle()
            self.steps_us.append((time.perf_counter() - begun) * 1e6)
            for episode in self.rig.take_finished():
                self._note(episode)
            self._note_causes()
            if self.replay.count >= asked + self.run.agent.publish_every:
                asked = self.replay.count
                self._exchange(asked)
                course.show(asked, self._said())
        self.learner.ask(self.replay.count, save=True)  # the data so far
        while self.learner.pending:
            self._take(self._wait())
        course.show(self.run.steps, self._said())

    def _exchange(self, count: int) -> None:
        self.learner.ask(count)
        if self.learner.pending > LAG:
            self._take(self._wait())

    def _wait(self) -> dict[str, Any]:
        begun = time.monotonic()
        answer = self.learner.wait()
        self.waited += time.monotonic() - begun
        return answer

    def _take(self, answer: dict[str, Any]) -> None:
        if not answer["updates"]:
            return
        self.updates = answer["updates"]
        # The learner may already have renamed a newer file into place: the weights travel with the answer's version.
        path = self.directory / "weights" / f"policy-{answer['version']}.safetensors"
        self.rig.pilot.take(Actor.load(path), answer["version"], self.rig.clock.now())
        self._keep(path)
        path.unlink()
        if answer["version"] % 20 == 0:
            keep = ("updates", "critic_loss", "actor_loss", "entropy", "temperature", "q_mean")
            rate = answer["done"] / answer["seconds"] if answer["seconds"] > 0 else 0.0
            self.metrics.write(
                "learner", step_total=self.replay.count, updates_per_s=rate, wall_s=time.monotonic() - self.started,
                **{k: answer[k] for k in keep if k in answer},
            )  # fmt: skip

    def _keep(self, path: Path) -> None:
        """Every `keep_every` transitions, the weights acted with from there on stay as weights/at-<transitions>.safetensors."""
        if self.keep_every and (reached := self.replay.count // self.keep_every * self.keep_every) > self._kept:
            os.link(path, path.with_name(f"at-{reached}.safetensors"))
            self._kept = reached

    def _note_causes(self) -> None:
        """What stopped the robot, as it happens: a run that stands still must say why."""
        guard = self.rig.guard
        if guard is not None and guard.causes and guard.causes != self._causes:
            self.metrics.write("cause", state=guard.state, causes=list(guard.causes), note=guard.note, robot_s=self.rig.seconds)
        self._causes = guard.causes if guard is not None else ()

    def _note(self, episode: Episode) -> None:
        self.episodes += 1
        self.falls += episode.ended == "fall"
        self.stuck += episode.ended == "stuck"
        self.recent.append(episode)
        self.metrics.write(
            "episode", episode=episode.episode, steps=episode.step, step_total=episode.transitions,
            speed=episode.speed, ended=episode.ended, wall_s=time.monotonic() - self.started,
            **{"return": episode.total_return},
        )  # fmt: skip

    def _said(self) -> str:
        now = time.monotonic()
        self._marks.append((now, self.updates))
        (since, before), wall = self._marks[0], max(1e-9, now - self.started)
        rate = (self.updates - before) / max(1e-9, now - since)
        last = list(self.recent)
        speed = sum(e.speed for e in last) / max(1, len(last))
        total = sum(e.total_return for e in last) / max(1, len(last))
        times = self.rig.seconds / wall
        walked = f"{speed:z.2f} m/s  return {total:z.0f}  falls {self.falls}  stuck {self.stuck}"
        return f"{walked}  {rate:.0f} updates/s  {times:.1f}x real time"

    def save_timing(self) -> None:
        """timing.npz: wall time of every control cycle, and how long the actor waited for the learner."""
        np.savez(self.directory / "timing.npz", step_us=np.asarray(self.steps_us), waited_s=self.waited)

    def close(self) -> None:
        self.learner.close()
        self.metrics.close()
        self.replay.close()
        self.rig.close()


def long_enough(run: config.Run) -> None:
    """RehearsalError for a run that would end before its first update: it would have nothing to evaluate."""
    agent = run.agent
    if int((run.steps - agent.learn_after) * agent.updates_per_step) < 1:
        needed = agent.learn_after + math.ceil(1 / agent.updates_per_step)
        raise RehearsalError(
            f"steps = {run.steps} end before the first update, agent.learn_after = {agent.learn_after}; "
            f"ask for {needed} or more, or set agent.learn_after lower"
        )


def start(run: config.Run, directory: Path, console: Console, keep_every: int = 0) -> Training:
    """A training about to begin. One that cannot is no run: its directory goes again."""
    try:
        return Training(run, directory, console, keep_every)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robotrl rehearse", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, help="run file, e.g. launch/walk.toml")
    parser.add_argument("--steps", type=int, help="control steps of the policy (50 a second of robot time)")
    parser.add_argument("--seed", type=int, help="seed of everything random")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any config field, e.g. agent.batch=128",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--keep-every", type=int, default=0, metavar="N", help="keep the weights of every N transitions too")
    parser.add_argument("--no-video", action="store_true", help="leave out the video")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.keep_every < 0:
        parser.error(f"--keep-every must be 0 or more, not {args.keep_every}")
    return args


def main(argv: list[str]) -> int:
    args = parse(argv)
    overrides = list(args.set)
    overrides += [f"steps={args.steps}"] if args.steps is not None else []
    overrides += [f"seed={args.seed}"] if args.seed is not None else []
    run = config.load(args.run, overrides)
    long_enough(run)
    demonstrations(run)  # a complaint comes before anything is written
    console = Console(stderr=args.json)
    directory = rundir.create(run, args.out, "lockstep")
    training = start(run, directory, console, args.keep_every)
    minutes = run.steps / run.task.rate_hz / 60
    console.print(f"[bold]{run.name}[/] on the twin: {run.steps} steps = {minutes:.0f} min of robot time, "
                  f"seed {run.seed}, learner: {training.learner.engine}", soft_wrap=True)  # fmt: skip
    for what, note in (("learner", training.learner.note), ("twin", training.rig.twin.note)):
        if note:
            console.print(f"the {what} is slower than it can be: {note}", markup=False, soft_wrap=True)
    try:
        with Course(console, run.steps) as course:
            training.train(course)
            training.save_timing()
    finally:
        training.close()
    wall = time.monotonic() - training.started
    result = evaluate(run, directory, run.evaluation_episodes, video=not args.no_video, say=console.print)
    result |= {"run": str(directory), "steps": run.steps, "seed": run.seed, "train_wall_s": round(wall, 1),
               "updates": training.updates, "engine": training.learner.engine,
               "falls_in_training": training.falls, "stuck_in_training": training.stuck}  # fmt: skip
    rundir.write_json(directory / "result.json", result)
    from robotrl.plots import plot_run

    plot = plot_run(directory)
    console.print(summarise(result), soft_wrap=True)
    console.print(f"\nrun     {directory}\nplot    {plot}\nvideo   {result.get('video') or 'none'}\n", soft_wrap=True)
    console.print("next    bash launch/real_walk.sh --sim      the same program as separate processes on the wall clock\n"
                  "        bash launch/rehearse.sh --steps 160000   the full 53 minutes of robot time\n"
                  "        docs/hardware.md                    how to go to hardware", soft_wrap=True)  # fmt: skip
    if args.json:
        print(json.dumps(result))
    return 0
