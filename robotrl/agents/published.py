"""The weights that a run acts with when it is gone on with: as they were, or put back from its newest checkpoint.

Without them the policy would act at random, which of a robot that has learnt nobody wants.
"""

from __future__ import annotations

import os
from pathlib import Path

import safetensors.numpy

from robotrl.agents.actor import UNREADABLE, Actor
from robotrl.agents.weights import metadata, packed
from robotrl.checkpoint import EVERY, Checkpoint, CheckpointError
from robotrl.config import Run
from robotrl.rundir import write_bytes

POLICY = "policy.safetensors"  # in weights/, and in a checkpoint


def steps_worth(run: Run) -> int:
    """Updates from one publication on the wall clock to the next."""
    return max(1, int(run.agent.publish_every * run.agent.updates_per_step))


def put_back(run: Run, directory: Path, kept: Checkpoint | None, acted: int) -> str:
    """See to the weights before a run on the wall clock goes on; what was done, in a line, "" for nothing.

    `acted`: the newest version that its replay tells of, -1 for none. CheckpointError, and nothing changed, where it has
    learnt, and what it has learnt is not there.
    """
    path = directory / "weights" / POLICY
    version, wrong = _version(path)
    if not wrong:
        if kept is None and version * steps_worth(run) > EVERY + 2 * steps_worth(run):
            raise CheckpointError(
                f"{directory}: its weights are of version {version}, of its checkpoints none is there; restore them from a copy"
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
    write_bytes(path, packed(weights, {"version": str(max(acted, int(kept.about["version"])) + 1)}))
    return f"{path}: {wrong}; it is put back from {kept.path.name}"


def _version(path: Path) -> tuple[int, str]:
    """Of the weights there, and what is wrong with them, "" for nothing."""
    try:
        data = path.read_bytes()
        Actor(safetensors.numpy.load(data))
        about = metadata(data)
        about["crc32"]
        return int(about["version"]), ""
    except FileNotFoundError:
        return 0, "missing"
    except UNREADABLE:
        return 0, "damaged"
