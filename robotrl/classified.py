"""`robotrl classifier RUN_DIR`: whether a run's learned reward deserves trust, and the frames that it asks its operator about.

    robotrl classifier RUN_DIR                   used, or why not; precision, calibration, confusion over time, disagreements
    robotrl classifier RUN_DIR queue             the frames it is least sure of, and classifier-queue.png: what the cameras saw
    robotrl classifier RUN_DIR yes 12:88 14:3    steps 88 of episode 12 and 3 of 14 show a success; no: they show none

What is said of frames goes into the run's log as labels do (docs/labels.md); the next training has it. No reward follows from it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from robotrl import rundir
from robotrl.labelled import LABELS, LabelFile, Labelled, open_labelled
from robotrl.messages import Label
from robotrl.relabel import RelabelError, give

Version = Any  # robotrl.rewards.classifier's, which is imported when it is asked for
QUEUE = "classifier-queue.png"
SHOWN = 10  # disagreements, the newest


def summary(version: Version | None, suspended: str) -> str:
    """Whether it is used, in one line."""
    if version is None:
        return "no version yet: press s and f, it learns from them"
    name = f"version {version.number}, from {version.transitions} transitions"
    if why := version.why or suspended:
        return f"{name}: NOT USED, {why}"
    used = next(t for t in version.about["trials"] if t[0] == version.threshold)
    shown = math.floor(used[4] * 1000) / 1000
    return (
        f"{name}: used at threshold {version.threshold:g}; precision {used[2]} of {used[1]} on held-out episodes shows "
        f"{shown:.3f}, asked is {version.about['stated']:g}"
    )


def figures(version: Version) -> str:
    """Precision by threshold, calibration, and confusion over time, as tables."""
    about = version.about
    lines = [f"\nheld out: {about['held_out']} episodes; shown at {about['confidence']:.0%}; * by others chosen",
             f"{'threshold':>10}{'said':>6}{'right':>7}{'of':>5}{'precision':>11}{'shown':>7}{'recall':>8}"]  # fmt: skip
    for threshold, said, right, successes, bound in about["trials"]:
        precision, recall = (f"{right / n:.2f}" if n else "-" for n in (said, successes))
        chosen = "  *" if threshold == about["threshold"] else ""
        lines.append(f"{threshold:>10g}{said:>6}{right:>7}{successes:>5}{precision:>11}{bound:>7.2f}{recall:>8}{chosen}")
    lines.append(f"\ncalibration on held-out frames, expected error {about['calibration_error']:.3f}")
    lines.append(f"{'frames':>10}{'says':>7}{'was':>7}")
    lines += [f"{frames:>10}{said:>7.2f}{was:>7.2f}  {'#' * round(20 * was)}" for frames, said, was in about["calibration"]]
    lines.append("\nover time: each version on the episodes after it, which it had not seen")
    lines.append(f"{'version':>10}{'from':>7}{'right':>7}{'false':>7}{'missed':>8}{'quiet':>7}")
    lines += ["{:>10}{:>7}{:>7}{:>7}{:>8}{:>7}".format(*row) for row in about["then"]]
    return "\n".join(lines)


def frame(word: str, rows: Labelled) -> tuple[int, int]:
    """EPISODE:STEP. RelabelError for what is no frame of the run."""
    episode, _, step = word.partition(":")
    if not (episode.isdecimal() and step.isdecimal() and len(word) < 30):
        raise RelabelError(f"{word!r} is no frame: write EPISODE:STEP, as the queue does")
    of, at = (rows.columns[name][: rows.count] for name in ("episode", "step"))
    if not ((of == int(episode)) & (at == int(step))).any():
        raise RelabelError(f"the run has no step {step} of episode {episode}; robotrl relabel lists its episodes")
    return int(episode), int(step)


def draw(rows: Labelled, queue: list[list[Any]], path: Path) -> None:
    """What the cameras saw in these frames, a column each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    of, step_of = (rows.columns[name][: rows.count] for name in ("episode", "step"))
    at = np.array([int(np.flatnonzero((of == episode) & (step_of == step))[0]) for episode, step, _ in queue])
    seen = rows.images(at, at).next_observation
    size = (2 * len(at), 2.2 * len(seen))
    figure, axes = pyplot.subplots(len(seen), len(at), figsize=size, layout="constrained", squeeze=False)
    for row, (name, images) in zip(axes, seen.items(), strict=True):
        for axis, image, (episode, step, p) in zip(row, images, queue, strict=True):
            axis.imshow(image.squeeze())
            axis.set_axis_off()
            axis.set_title(f"{episode}:{step}  p {p:.2f}\n{name}", fontsize=8)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


class State(NamedTuple):
    """Of a run's learned reward: the version in force, the newest, where a person disagreed, why that in force is suspended."""

    used: Version | None
    newest: Version | None
    differ: list[str]
    suspended: str


def state(directory: Path) -> State:
    """As its files tell it."""
    from robotrl.rewards import classifier, lessons

    run, rows = rundir.load(directory), open_labelled(directory)
    used, newest = (None if found is None else found[0] for found in (classifier.usable(directory), classifier.newest(directory)))
    given = LabelFile(directory / LABELS).poll()[0]
    known = lessons.outcomes(rows.replay, rows.count, given, run.task.rate_hz)
    judge = classifier.Judge(run)
    if used is not None:
        judge.version = used
        judge.hear(rows.replay, given)
    return State(used, newest, lessons.disagreements(known), judge.suspended)


def main(argv: list[str]) -> int:
    lines = (__doc__ or "").split("\n")
    parser = argparse.ArgumentParser(
        prog="robotrl classifier", description=lines[0], epilog="\n".join(lines[2:]),
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("what", nargs="?", default="", choices=["", "queue", "yes", "no"])
    parser.add_argument("frames", nargs="*", metavar="EPISODE:STEP")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    rows = open_labelled(args.run_dir)
    if args.what in ("yes", "no"):
        for episode, step in [frame(word, rows) for word in args.frames]:
            give(args.run_dir, Label(press=0, value=0.0, tick=-1, kind=args.what, episode=episode, step=step))
        print(f"{len(args.frames)} frames: {args.what}; the next training has it")
        return 0
    found = state(args.run_dir)
    print(summary(found.used, found.suspended))
    if found.newest is not None and found.used is not None:
        if found.newest.number != found.used.number:
            print(f"it goes on, for {summary(found.newest, '')}")
        _tell(args, rows, found.newest, found.differ)
    if args.json:
        version = found.used
        about = {} if version is None else {"version": version.number, "why": version.why or found.suspended, **version.about}
        print(json.dumps(about))
    return 0


def _tell(args: argparse.Namespace, rows: Labelled, version: Version, differ: Sequence[str]) -> None:
    if args.what != "queue":
        print(figures(version))
        if differ:
            print("\n" + "\n".join(differ[-SHOWN:]))
        return
    queue = [list(one) for one in version.about["queue"]]
    for episode, step, p in queue:
        print(f"{episode}:{step}  p {p:.2f}")
    if queue and rows.cameras:
        draw(rows, queue, args.run_dir / QUEUE)
        first = f"{queue[0][0]}:{queue[0][1]}"
        print(f"picture {args.run_dir / QUEUE}\nsay what they show: robotrl classifier {args.run_dir} yes {first}")
