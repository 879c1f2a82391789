"""`robotrl rehearse`: train in lockstep on the twin (`training.Training`), then evaluate, plot, film, and say what to do next."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from robotrl import checkpoint, config, rundir
from robotrl.complaint import Complaint, command
from robotrl.nodes.learner import demonstrations
from robotrl.robot import require_task
from robotrl.sim import evaluation, reaching, trials
from robotrl.sim.course import Course
from robotrl.sim.training import Training


class RehearsalError(Complaint):
    """Why a rehearsal cannot begin, and what to do; one line."""


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
    require_task(run.robot, run.task.name, args.run)
    long_enough(run)
    demonstrations(run)  # a complaint comes before anything is written
    console = Console(stderr=args.json)
    directory = rundir.create(run, args.out, "lockstep")
    return carry_out(start(run, directory, console, args.keep_every), video=not args.no_video, as_json=args.json)


def resume(directory: Path, steps: int | None, *, video: bool, as_json: bool) -> int:
    """Go on from the newest whole checkpoint, up to `steps` where that is given; the run's own number else.

    CheckpointError, and nothing changed, where there is none, or nothing to do.
    """
    run = rundir.load(directory)
    kept = checkpoint.newest(directory)
    if kept is None:
        raise checkpoint.CheckpointError(f"{directory}: ended before its first checkpoint; start it anew: {command('rehearse')}")
    done = kept.transitions
    if steps is not None:
        run = dataclasses.replace(run, steps=steps)
        if steps > run.agent.capacity:
            raise checkpoint.CheckpointError(
                f"{directory}: its replay holds {run.agent.capacity} transitions; ask for fewer --steps"
            )
    if run.steps <= done:
        raise checkpoint.CheckpointError(f"{directory}: all {run.steps} steps are done; ask for more: --steps {2 * done}")
    console = Console(stderr=as_json)
    for line in kept.passed:
        console.print(line, markup=False, soft_wrap=True)
    if steps is not None:
        rundir.amend(directory, run)
    console.print(f"goes on after {done} transitions, from {kept.path}", markup=False, soft_wrap=True)
    return carry_out(Training(run, directory, console, kept=kept), video=video, as_json=as_json)


def carry_out(training: Training, *, video: bool, as_json: bool) -> int:
    """Train to the end, evaluate, and tell the person what came of it and what is next."""
    run, directory, console = training.run, training.directory, training.console
    minutes = run.steps / run.task.rate_hz / 60
    console.print(f"[bold]{run.name}[/] on the twin: {run.steps} steps = {minutes:.0f} min of robot time, "
                  f"seed {run.seed}, learner: {training.learner.engine}", soft_wrap=True)  # fmt: skip
    for what, note in (("learner", training.learner.note), ("twin", training.rig.note)):
        if note:
            console.print(f"the {what} is slower than it can be: {note}", markup=False, soft_wrap=True)
    try:
        with Course(console, run.steps, run.task.name) as course:
            training.train(course)
            training.save_timing()
    except KeyboardInterrupt:
        console.print(f"stopped; go on from its last checkpoint: {command(f'resume {directory}')}", markup=False, soft_wrap=True)
        raise
    finally:
        training.close()
    wall = time.monotonic() - training.started
    judge = judge_of(run)
    result = judge.evaluate(run, directory, run.evaluation_episodes, video=video, say=console.print)
    result |= {"run": str(directory), "steps": run.steps, "seed": run.seed, "train_wall_s": round(wall, 1),
               "updates": training.updates, "engine": training.learner.engine}  # fmt: skip
    result["account"] = training.account.figures()._asdict()
    if run.task.reward != "task":
        result["labels"] = training.supervision.told()
    if training.schooling is not None:
        result["classifier"] = training.schooling.told()
    if judge is evaluation:
        result |= {"falls_in_training": training.falls, "stuck_in_training": training.stuck}
    rundir.write_json(directory / "result.json", result)
    finish(result, directory, console, judge.summarise(result), judge.again(run, directory))
    if as_json:
        print(json.dumps(result))
    return 0


def judge_of(run: config.Run) -> Any:
    """The module that evaluates a run's task."""
    if run.task.name in trials.TASKS:
        return trials
    return reaching if run.task.name == "reach" else evaluation


def finish(result: dict[str, Any], directory: Path, console: Console, summary: str, again: str) -> None:
    """What came of it, where it is, what is next."""
    from robotrl.plots import plot_run

    plot = plot_run(directory)
    console.print(summary, soft_wrap=True)
    console.print(f"\nrun     {directory}\nplot    {plot}\nvideo   {result.get('video') or 'none'}\n", soft_wrap=True)
    console.print(again, soft_wrap=True)
