"""`robotrl export --lerobot DIR RUN_DIR...`: a LeRobotDataset v3 out of what the logs of one or more runs hold.

The lerobot package reads it as it is (docs/lerobot.md); so does `robotrl import`. A frame is a transition. Where transitions are
missing a new episode begins, for a frame's next observation is the next frame's observation. Rewards and ends are those that are
learned from: as the task gave them, and as the operator's labels changed them (`robotrl/labels.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from robotrl import rundir, transitions
from robotrl.complaint import Complaint, missing_extra
from robotrl.config import Run, to_dict
from robotrl.labelled import LABELS, LabelFile
from robotrl.labels import VERDICTS, Given, Rewards, derive, standing
from robotrl.logread import sync
from robotrl.messages import PERSON, Transition
from robotrl.replay import Cameras
from robotrl.replaycheck import logged
from robotrl.transitions import FLOAT

if TYPE_CHECKING:
    from robotrl.lerobotformat import Feature, Writer

# Of where in its run a transition was; the lerobot package hands on what is called so. `run` counts the runs of the dataset.
ORIGIN = ("run", "episode", "step", "tick", "policy_version")
PREFIX = "complementary_info."
SUCCESS, RECORDED = "next.success", PREFIX + "recorded_reward"  # ours, and not read back: what they say is in reward and ends
INTERVENED = PREFIX + "is_intervention"  # the name that LeRobot's own recorder has for it
GOALS = ("reach", "push", "stack")  # tasks whose episodes terminate where the goal is reached, and nowhere else
IMAGES = "observation.images."


class ExportError(Complaint):
    """Why nothing was exported, and what to do; one line."""


@dataclass
class Exported:
    """What became of one run's log."""

    name: str
    transitions: int = 0
    episodes: int = 0
    divided: int = 0  # times an episode was divided, for transitions between are missing
    refused: int = 0  # transitions that are not finite
    labelled: int = 0  # transitions whose reward or end is the operator's
    over: int = 0  # transitions left out: behind the step at which the operator said how the episode ended
    blind: int = 0  # transitions whose image came with one that is not there


def counting(directory: Path, said: list[str]) -> Iterator[Transition]:
    """The transitions of a run's log that count: those that it went back on are left out. LogError as `logread.read`."""
    kept, number = array("q"), 0  # numbers of the transitions that count, in order
    for found in logged(directory, said):
        if isinstance(found, int):
            del kept[found:]
        else:
            kept.append(number)
            number += 1
    again = (found for found in logged(directory, []) if not isinstance(found, int))  # a log may be larger than memory
    number = -1
    for wanted in kept:
        t = next(again)
        while (number := number + 1) < wanted:
            t = next(again)
        yield t


def goes_on(t: Transition, after: Transition) -> bool:
    """Whether `t` is the very next step after another: only then is its observation that one's next observation."""
    next_one = (t.episode, t.step, t.tick) == (after.episode, after.step + 1, after.tick + 1)
    return next_one and t.observation == after.next_observation and not (after.terminated or after.truncated)


def sighted(found: Iterator[Transition], told: Exported) -> Iterator[Transition]:
    """Each with its own images, where the log has those of the transition before it."""
    before: Transition | None = None
    for t in found:
        if t.cameras and not t.images:
            if before is None or before.cameras != t.cameras or not transitions.goes_on(before, t):
                told.blind += 1
                before = t
                continue
            t = msgspec.structs.replace(t, images=before.next_images)
        before = t
        yield t


def pieces(found: Iterator[Transition], told: Exported) -> Iterator[list[Transition]]:
    """Episodes, and parts of those of which something is missing."""
    piece: list[Transition] = []
    for t in found:
        numbers = np.frombuffer(t.observation + t.action + t.next_observation, FLOAT)
        if not (np.isfinite(numbers).all() and np.isfinite(np.float32(t.reward))):
            told.refused += 1
            continue
        if piece and not goes_on(t, piece[-1]):
            told.divided += t.episode == piece[-1].episode
            yield piece
            piece = []
        piece.append(t)
    if piece:
        yield piece


class Opinions:
    """What the operator said of a run's steps. ReplayError for a list of labels that is none."""

    def __init__(self, directory: Path, goal: bool) -> None:
        """`goal`: an episode that terminates has succeeded."""
        self._goal, self._of = goal, defaultdict[int, list[Given]](list)
        given, _ = LabelFile(directory / LABELS).poll()
        self._undos = [g for g in given if g.label.kind == "undo"]
        for g in given:
            self._of[g.label.episode].append(g)
        self._over = -1  # the episode of which nothing more counts

    def of(self, piece: list[Transition]) -> tuple[Rewards, NDArray[np.bool_]]:
        """Rewards and ends of the transitions of a piece, (n,) each, and where it succeeded."""
        step, n = np.array([t.step for t in piece]), len(piece)
        terminated, truncated = (np.array([getattr(t, name) for t in piece], np.uint8) for name in ("terminated", "truncated"))
        base = Rewards(np.array([t.reward for t in piece], FLOAT), terminated, truncated, np.zeros(n, np.bool_))
        success = base.terminated.astype(np.bool_) & self._goal
        episode = piece[0].episode
        if not (said := self._of.get(episode)):
            return base, success
        stands = standing([*said, *self._undos])
        found = derive(step, base, stands)
        verdict = next((g.label for g in reversed(stands) if g.label.kind in (*VERDICTS, "open")), None)
        if episode == self._over:
            found.out[:] = True
        elif verdict is not None and verdict.kind in VERDICTS and (at := np.flatnonzero(step == verdict.step)).size:
            success[at[0] :] = False
            success[at[0]], self._over = verdict.kind == "success", episode
        return found, success


def features(observation_size: int, action_size: int, history: int, cameras: Cameras = ()) -> dict[str, Feature]:
    """The dataset's own, by their names in it; the numbers have names where they are those of the walk."""
    from robotrl.lerobotformat import Feature
    from robotrl.tasks.walk import ACTION_NAMES, window_names

    observation, action = window_names(history), ACTION_NAMES
    return {
        "observation.state": Feature(
            "float32", (observation_size,), observation if len(observation) == observation_size else None
        ),
        "action": Feature("float32", (action_size,), action if len(action) == action_size else None),
        "next.reward": Feature("float32"),
        "next.done": Feature("bool"),
        "next.truncated": Feature("bool"),
        SUCCESS: Feature("bool"),
        RECORDED: Feature("float32"),
        INTERVENED: Feature("bool"),
        **{PREFIX + name: Feature("int64") for name in ORIGIN},
        **{IMAGES + name: Feature("video", tuple(shape), ("height", "width", "channels")) for name, *shape in cameras},
    }


def add(writer: Writer, piece: list[Transition], task: str, run: int, opinions: Opinions) -> tuple[int, int]:
    """An episode, or a part of one, into the dataset; how many of its frames counted, and of how many a label told."""
    found, success = opinions.of(piece)
    if not (n := int((~found.out).sum())):
        return 0, 0
    piece, reward = piece[:n], np.array([t.reward for t in piece[:n]], FLOAT)  # what counts for nothing is at the end
    ended = (found.terminated | found.truncated).astype(np.bool_)[:n]
    columns: dict[str, Any] = {
        "observation.state": np.stack([np.frombuffer(t.observation, FLOAT) for t in piece]),
        "action": np.stack([np.frombuffer(t.action, FLOAT) for t in piece]),
        "next.reward": found.reward[:n],
        "next.done": ended,
        "next.truncated": found.truncated[:n].astype(np.bool_),
        SUCCESS: success[:n],
        RECORDED: reward,
        INTERVENED: np.array([t.policy_version == PERSON for t in piece]),
        PREFIX + "run": np.full(n, run),
        **{PREFIX + name: np.array([getattr(t, name) for t in piece]) for name in ORIGIN[1:]},
    }
    writer.add(task, columns, np.frombuffer(piece[-1].next_observation, FLOAT), seen(piece))
    differ = (found.reward[:n] != reward) | (ended != [t.terminated or t.truncated for t in piece])
    return n, int(differ.sum())


def seen(piece: list[Transition]) -> dict[str, NDArray[np.uint8]]:
    """What each camera saw in an episode of n: (n + 1, height, width, channels)."""
    out, at = {}, 0
    for name, *shape in piece[0].cameras:
        size = math.prod(shape)
        parts = [np.frombuffer(data, np.uint8, size, at) for data in (*(t.images for t in piece), piece[-1].next_images)]
        out[IMAGES + name], at = np.stack(parts).reshape(-1, *shape), at + size
    return out


def export(runs: list[Path], out: Path, said: list[str]) -> list[Exported]:
    """The runs' transitions as a dataset at `out`, whole or not at all. Complaint, and nothing there, when it cannot be."""
    from robotrl.lerobotformat import INDICES, Writer

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out}: is there already; name a directory that is not, or remove it")
    known = [(path, rundir.load(path)) for path in runs]
    _alike(known)
    aside = out.with_name(f".{out.name}.{os.getpid()}")
    writer: Writer | None = None
    done: list[Exported] = []
    try:
        aside.mkdir(parents=True)
        for path, run in known:
            done.append(told := Exported(path.resolve().name))
            opinions = Opinions(path, run.task.name in GOALS)
            for piece in pieces(sighted(counting(path, said), told), told):
                sizes, cameras = (len(piece[0].observation) // 4, len(piece[0].action) // 4), piece[0].cameras
                own = features(*sizes, run.task.history, cameras)
                if writer is None:
                    writer = Writer(aside, run.task.rate_hz, run.robot.name, own)
                wanted = tuple(writer.features[name].shape[0] for name in ("observation.state", "action"))
                if sizes != wanted:
                    raise ExportError(f"{path}: (observation, action) is {sizes}, that of the others {wanted}; leave it out")
                if not own.items() <= writer.features.items() or len(own) + len(INDICES) != len(writer.features):
                    raise ExportError(f"{path}: its cameras are {cameras}, not those of the others; leave it out")
                count, labelled = add(writer, piece, run.task.name, len(done) - 1, opinions)
                told.transitions, told.episodes = told.transitions + count, told.episodes + bool(count)
                told.labelled, told.over = told.labelled + labelled, told.over + len(piece) - count
        if writer is None:
            raise ExportError(f"{runs[0]}/log: holds no transition; name a run that has recorded")
        writer.close({"runs": [{"run": told.name, "transitions": told.transitions, "config": to_dict(run)}
                               for told, (_, run) in zip(done, known, strict=True)]})  # fmt: skip
        os.rename(aside, out)
        sync(out.parent)
    except OSError as error:
        raise ExportError(f"{out}: not written: {error.strerror}; free space, see whose the directory is") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return done


def _alike(known: list[tuple[Path, Run]]) -> None:
    first, one = known[0]
    for path, run in known[1:]:
        if run.task.rate_hz != one.task.rate_hz:
            raise ExportError(f"{path}: {run.task.rate_hz:g} steps a second, {first} has {one.task.rate_hz:g}; export it apart")


def run_directory(text: str) -> Path:
    """The run named on the command line; ExportError for a session file, which has no transitions."""
    path = Path(text)
    if path.suffix == ".mcap":
        run = path.parent.parent
        raise ExportError(f"{path}: a session holds what was said, the run's log its transitions; name the run: {run}")
    return path


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl export", description=__doc__)
    parser.add_argument("run_dir", nargs="+", help="run directories; their order is that of the episodes")
    parser.add_argument("--lerobot", type=Path, required=True, metavar="DIR", help="where the LeRobotDataset v3 is written")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    said: list[str] = []
    with missing_extra("pyarrow", "lerobot"):
        done = export([run_directory(text) for text in args.run_dir], args.lerobot, said)
    for told in done:
        print(f"{told.name}  {told.transitions} transitions in {told.episodes} episodes")
        if told.divided:
            print(f"{told.name}  {told.divided} times an episode was divided: transitions between are missing")
        if told.labelled or told.over:
            gone = f", {told.over} after the end that he named are left out" if told.over else ""
            print(f"{told.name}  {told.labelled} rewards or ends are the operator's{gone}")
        if told.refused:
            said.append(f"{told.name}: {told.refused} transitions are not finite, and were left out")
        if told.blind:
            said.append(f"{told.name}: {told.blind} transitions have no image, for the one before is missing; they were left out")
    for line in said:
        print(f"robotrl export: {line}", file=sys.stderr)
    print(f"dataset  {args.lerobot}")
    if args.json:
        print(json.dumps({"dataset": str(args.lerobot), "runs": [vars(told) for told in done], "said": said}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
