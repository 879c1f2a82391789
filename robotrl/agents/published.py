"""The weights that a run acts with: when new ones are due, and, when it is gone on with, those that were out or a checkpoint's.

Without them the policy would act at random, which of a robot that has learnt nobody wants.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.numpy

from robotrl.agents.actor import UNREADABLE, Actor
from robotrl.agents.weights import metadata, packed
from robotrl.checkpoint import EVERY, Checkpoint, CheckpointError
from robotrl.config import Run
from robotrl.rundir import write_bytes

POLICY = "policy.safetensors"  # in weights/, and in a checkpoint


def steps_worth(run: Run) -> int:
    """Updates that `publish_every` steps are worth."""
    return max(1, int(run.agent.publish_every * run.agent.updates_per_step))


def updates_of(about: Mapping[str, str], run: Run) -> int:
    """Updates behind weights by what their file says; where it does not say, each version was of `publish_every` steps' worth."""
    return int(about.get("updates", int(about.get("version", 0)) * steps_worth(run)))


class Pace:
    """When weights are due on the wall clock: after `publish_every` steps or their worth of updates, whichever is over first.

    A learner too slow for its updates a step does fewer of them meanwhile, and the robot need not wait for the rest; one that
    catches up does more, and the robot need not have moved.
    """

    def __init__(self, run: Run, updates: int, count: int) -> None:
        """`updates`: behind the weights that are out, to which those of fewer are no better; `count`: transitions by now."""
        self._worth, self._steps = steps_worth(run), run.agent.publish_every
        self._out = self._since = updates
        self._count = max(count, run.agent.learn_after)

    def due(self, updates: int, count: int) -> bool:
        """Whether to publish after so many updates and transitions; when it is true, they are taken to be out."""
        worths = (updates - self._since) // self._worth
        if updates <= self._out or (worths < 1 and count < self._count + self._steps):
            return False
        self._since = self._since + worths * self._worth if worths else updates  # what was done beyond counts for the next
        self._out, self._count = updates, count
        return True


def put_back(run: Run, directory: Path, kept: Checkpoint | None, acted: int) -> str:
    """See to the weights before a run on the wall clock goes on; what was done, in a line, "" for nothing.

    `acted`: the newest version that its replay tells of, -1 for none. CheckpointError, and nothing changed, where it has
    learnt, and what it has learnt is not there.
    """
    path = directory / "weights" / POLICY
    about, wrong = _read(path)
    if not wrong:
        if kept is None and _must_have_been_kept(about, run):
            raise CheckpointError(
                f"{directory}: its weights are of version {about['version']}, of its checkpoints none is there;"
                " restore them from a copy"
            )
        return ""
    if kept is None and acted < 0 and not path.exists():
        return ""  # nothing was published yet
    try:
        weights = safetensors.numpy.load(kept.read(POLICY)) if kept is not None else None
    except UNREADABLE:
        weights = None
    if kept is None or weights is None:
        raise CheckpointError(f"{path}: {wrong}, no checkpoint holds one, and none would mean to act at random; restore a copy")
    if path.exists():
        os.replace(path, path.with_name(POLICY + ".damaged"))
        wrong += f", it is kept as {POLICY}.damaged"
    # of a version of its own: what was published after the checkpoint is gone
    version = max(acted, int(kept.about["version"])) + 1
    write_bytes(path, packed(weights, {"version": str(version), "updates": str(kept.updates)}))
    return f"{path}: {wrong}; it is put back from {kept.path.name}"


def _must_have_been_kept(about: Mapping[str, str], run: Run) -> bool:
    """Whether there was a checkpoint before these weights were out: the learner keeps one first, each EVERY updates.

    It once published first; of then are files that do not say their updates.
    """
    if "updates" in about:
        return updates_of(about, run) >= EVERY
    return updates_of(about, run) > EVERY + 2 * steps_worth(run)


def _read(path: Path) -> tuple[dict[str, str], str]:
    """What the weights there say of themselves, and what is wrong with them, "" for nothing."""
    try:
        data = path.read_bytes()
        Actor(safetensors.numpy.load(data))
        about = metadata(data)
        _ = about["crc32"], int(about["version"]), int(about.get("updates", 0))
        return about, ""
    except FileNotFoundError:
        return {}, "missing"
    except UNREADABLE:
        return {}, "damaged"
