"""What a run left behind, told in a few lines at its end: who moved the robot, periods missed, updates made, transitions kept."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from robotrl import config, rundir
from robotrl.account import Account, Figures
from robotrl.complaint import command
from robotrl.lateness import periods_of
from robotrl.logformat import Kind
from robotrl.logread import read
from robotrl.messages import Guard
from robotrl.replaycheck import counted, told

# What becomes of a period that began too late to be kept: `Node.every`, and the rows `overrun` and `driver_silent` of the causes.
OVERRUN = "skipped, the servos hold; three in a row in motion: HOLD; a driver silent for 60 ms: PSTOP"


def concluded(directory: Path, code: int, *, as_json: bool) -> None:
    """Say it; `code` is the exit code of the run. `as_json`: one JSON object too, last."""
    counts = counted(directory) if (directory / "replay" / "header.json").is_file() else {}
    missed, figures = overruns(directory), account_of(directory)
    tell(directory, counts, missed, figures)
    if as_json:
        about = {"run_dir": str(directory), "exit_code": code, **counts, "overruns": missed[0] if missed else None}
        print(json.dumps(about | {"account": figures._asdict()}))


def overruns(directory: Path) -> tuple[int, int] | None:
    """How many periods the servo loop missed in all the run's lives, and how many it kept; None where no driver has said."""
    try:
        kept = rundir.read_arrays(directory / "timing.npz")
        return int(kept["overruns"]), periods_of(kept)
    except (rundir.RunError, KeyError, TypeError, ValueError):
        return None


def learnt(directory: Path) -> str:
    """The updates that were made of the data, and those that will not be; "" before the first checkpoint."""
    from robotrl.checkpoint import CheckpointError, newest

    try:
        agent, kept = rundir.load(directory).agent, newest(directory)
    except (CheckpointError, rundir.RunError, config.ConfigError) as error:
        return f"learner {error}"
    if kept is None:
        return ""
    per_step = kept.updates / max(1, kept.transitions - agent.learn_after)
    line = f"learner {kept.updates} updates, {per_step:.2g} a step of {agent.updates_per_step:g} asked"
    if dropped := int(kept.about.get("dropped", 0)):
        line += f"; {dropped} owed beyond agent.max_backlog = {agent.max_backlog} steps' are DROPPED, their data is kept"
    return line


def account_of(directory: Path) -> Figures:
    """Who moved the robot in all the run's lives, from its log."""
    account = Account()
    if (directory / "log").is_dir():
        for record in read(directory / "log", []):
            if record.kind is Kind.CAUSE:
                account.hear(msgspec.msgpack.decode(record.payload, type=Guard))
    return account.figures()


def tell(directory: Path, counts: dict[str, int], missed: tuple[int, int] | None, figures: Figures) -> None:
    """What the run left behind, in a few lines."""
    print(f"account {figures.told()}")
    if missed is not None:
        print(f"timing  {missed[0]} overruns, {missed[1]} periods kept; an overrun is {OVERRUN}")
    if line := learnt(directory):
        print(line)
    print(told(counts) if counts else "replay  none: the run ended before the policy had begun one")
    print(f"run     {directory}\nlook    {command(f'plot {directory}')}")
