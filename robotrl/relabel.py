"""`robotrl relabel RUN_DIR`: what was said of a run's episodes, and what is said of them later, while it lives or after it.

    robotrl relabel RUN_DIR                              its episodes: steps, return as recorded and as labelled, the verdict
    robotrl relabel RUN_DIR 12                           one of them, label by label, and relabel-12.png: joints, rewards, views
    robotrl relabel RUN_DIR 12 success [--steps 88]      it ended there (default: with its last step); fail, and open: it did not
    robotrl relabel RUN_DIR 12 set 0.5 --steps 10:40     these rewards in the place of the recorded ones; add: beside them
    robotrl relabel RUN_DIR undo 1841                    takes back the label of that number

Nothing is overwritten: each is one more label in the run's log. Later samples of the learner have it, updates done stay done.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from robotrl import rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.complaint import Complaint
from robotrl.labelled import LABELS, LabelFile, Labelled, open_labelled
from robotrl.labels import VERDICTS, Given, said, standing
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.messages import Label
from robotrl.node import bus_directory

PATIENCE_NS = 10_000_000_000  # for a live run's recorder
WORDS = (*VERDICTS, "open", "add", "set")


class RelabelError(Complaint):
    """Why it could not be said; one line."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """An episode of the replay and what was said of it."""

    number: int
    first: int  # row
    end: int
    step: int  # the last
    recorded: float  # return
    labelled: float
    given: list[Given]  # what stands

    @property
    def verdict(self) -> str:
        last = [g.label for g in self.given if g.label.kind in (*VERDICTS, "open")][-1:]
        return "" if not last or last[0].kind == "open" else f"{last[0].kind} at {last[0].step}"


def episodes(directory: Path) -> tuple[Labelled, list[Episode]]:
    """Those of a run directory. ReplayError as `Replay.open`."""
    rows = open_labelled(directory)
    columns, n = rows.columns, rows.count
    stands = standing(LabelFile(directory / LABELS).poll()[0])
    numbers, first = np.unique(columns["episode"][:n], return_index=True)
    found = []
    ends = [*first.tolist(), n][1:]
    for number, begin, end in zip(numbers.tolist(), first.tolist(), ends, strict=True):
        verdict_at = np.flatnonzero(rows.out[begin:end])
        counted = begin + int(verdict_at[0]) if len(verdict_at) else end
        found.append(Episode(
            number, begin, end, int(columns["step"][end - 1]), float(rows.replay.columns["reward"][begin:end].sum()),
            float(columns["reward"][begin:counted].sum()), [g for g in stands if g.label.episode == number],
        ))  # fmt: skip
    return rows, found


def table(found: list[Episode]) -> str:
    lines = [f"{'episode':>8}{'steps':>7}{'recorded':>10}{'labelled':>10}  said"]
    for e in found:
        what = e.verdict or "; ".join(said(g.label) for g in e.given[:3]) + (" ..." if len(e.given) > 3 else "")
        lines.append(f"{e.number:>8}{e.step + 1:>7}{e.recorded:>10.2f}{e.labelled:>10.2f}  {what}")
    return "\n".join(lines)


def about(e: Episode) -> str:
    """One episode, label by label."""
    lines = [f"episode {e.number}: {e.step + 1} steps, return {e.recorded:.2f} as recorded, {e.labelled:.2f} as labelled"]
    return "\n".join([*lines, *(f"{g.order:>8}  {said(g.label)}" for g in e.given)])


def asked(args: argparse.Namespace, run: Any, e: Episode) -> Label:
    """The label that the words ask for. RelabelError for words that ask for none."""
    if args.kind in ("add", "set") and args.value is None:
        raise RelabelError(f"{args.kind} needs a value: robotrl relabel {args.run_dir} {e.number} {args.kind} 0.5 [--steps A:B]")
    if args.kind not in ("add", "set") and args.value is not None:
        raise RelabelError(f"{args.kind} takes no value; what it is worth is operator.{args.kind} of the run")
    first, step = (0, e.step) if args.kind in ("add", "set") else (-1, e.step)
    if args.steps:
        begin, _, end = args.steps.partition(":")
        try:
            first, step = (int(begin), int(end)) if end else (-1, int(begin))
        except ValueError:
            raise RelabelError(f"--steps {args.steps}: write one step, or two as 10:40") from None
    if not (-1 <= first <= step <= e.step) or step < 0:
        raise RelabelError(f"--steps {args.steps}: episode {e.number} has steps 0 to {e.step}")
    if first >= 0 and args.kind not in ("add", "set"):
        raise RelabelError(f"--steps {args.steps}: {args.kind} is about one step")
    value = args.value if args.value is not None else getattr(run.operator, args.kind, 0.0)
    return Label(press=0, value=value, tick=-1, kind=args.kind, episode=e.number, step=step, first=first)


def taken_back(order: int, directory: Path) -> Label:
    """The undo of the label of that number."""
    for given in standing(LabelFile(directory / LABELS).poll()[0]):
        if given.order == order:
            number = given.label.number
            return Label(press=0, value=0.0, tick=-1, kind="undo", undoes=(given.label.giver, number, number))
    raise RelabelError(f"{directory}: no label {order} stands; robotrl relabel {directory} EPISODE lists them")


def give(directory: Path, label: Label) -> None:
    """Say it: to the recorder of a run that lives, else into the log itself. Complaint where it could not be kept."""
    giver = int.from_bytes(os.urandom(6), "big") | 1
    label = msgspec.structs.replace(label, giver=giver, number=1, oldest=1, press=giver)
    try:
        held = rundir.hold(directory)
    except rundir.RunError:
        _tell(directory, label)
        return
    try:
        log = Log.open(directory / "log")
        log.append(Kind.LABEL, "console", giver, 1, msgspec.msgpack.encode(label))
        log.close()
        from robotrl.nodes.labelbook import BookFile

        BookFile(directory, open_labelled(directory).replay).close()
    finally:
        os.close(held)


def _tell(directory: Path, label: Label) -> None:
    """The recorder, until it has kept it."""
    clock = WallClock()
    bus = Bus(bus_directory(directory), "relabel", clock)
    try:
        voice, acks = bus.publisher("label"), bus.subscriber("ack")
        until = clock.now() + PATIENCE_NS
        while clock.now() < until:
            voice.send(label)  # a recorder that has it already takes no second one
            bus.wait([acks], 0.2)
            ack = acks.latest()
            if ack is not None and (int(Kind.LABEL), "console", label.giver, 1) in ack.kept:
                return
    finally:
        bus.close()
    raise RelabelError(f"{directory}: its recorder did not answer; nothing is known to be kept, see logs/recorder.log")


def main(argv: list[str]) -> int:
    lines = (__doc__ or "").split("\n")
    parser = argparse.ArgumentParser(
        prog="robotrl relabel", description=lines[0], epilog="\n".join(lines[2:]), formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("episode", nargs="?", default="", help="its number; or undo")
    parser.add_argument("kind", nargs="?", default="", help=f"one of {', '.join(WORDS)}; after undo: the label's number")
    parser.add_argument("value", nargs="?", type=float, help="of add and set")
    parser.add_argument("--steps", default="", metavar="A[:B]", help="one step, or all from A to B")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    run = rundir.load(args.run_dir)
    rows, found = episodes(args.run_dir)
    label = None
    if args.episode == "undo":
        label = taken_back(int(args.kind) if args.kind.isdecimal() else -1, args.run_dir)
    elif args.episode:
        label = _of_episode(args, run, rows, found)
    if label is not None:
        before = {name: rows.columns[name][: rows.count].copy() for name in ("reward", "terminated")}
        give(args.run_dir, label)
        after, found = episodes(args.run_dir)
        changed = np.logical_or.reduce([before[name] != after.columns[name][: rows.count] for name in before])
        print(f"{said(label)}: {int(changed.sum())} rewards or ends are changed, in what is drawn from now on")
    if not args.episode:
        print(table(found) if found else f"{args.run_dir}: no episode yet")
    if args.json:
        print(json.dumps([{"episode": e.number, "steps": e.step + 1, "recorded": e.recorded, "labelled": e.labelled,
                           "verdict": e.verdict} for e in found]))  # fmt: skip
    return 0


def _of_episode(args: argparse.Namespace, run: Any, rows: Labelled, found: list[Episode]) -> Label | None:
    """The label asked for of one episode; None where it is only looked at."""
    one = next((e for e in found if str(e.number) == args.episode), None)
    if one is None:
        have = f"0 to {found[-1].number}" if found else "none"
        raise RelabelError(f"{args.run_dir}: no episode {args.episode!r}; it has {have}")
    if not args.kind:
        picture = importlib.import_module("robotrl.plotlabels").draw(args.run_dir, rows, one)
        print(f"{about(one)}\npicture {picture}")
        return None
    if args.kind not in WORDS:
        raise RelabelError(f"no label {args.kind!r}; say one of {', '.join(WORDS)}")
    return asked(args, run, one)
