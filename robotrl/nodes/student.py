"""What the learner's process is about: an agent, the rows it learns from, how much these are worth, and its weights as files.

Drives no clock and no bus: `robotrl.nodes.learner` is its process, on the wall clock or in lockstep.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from robotrl import checkpoint
from robotrl.agents.base import make_agent
from robotrl.agents.experience import Shared, experience, open_demonstrations
from robotrl.agents.interventions import Taken
from robotrl.agents.published import POLICY, updates_of
from robotrl.agents.weights import packed
from robotrl.checkpoint import Checkpoint
from robotrl.complaint import Complaint
from robotrl.config import Run
from robotrl.labelled import LABELS, Labelled
from robotrl.replay import Replay
from robotrl.tasks.task import sights, sizes, task_of

AGENT = "agent.safetensors"  # in a checkpoint
SCORED = 5000  # transitions: which checkpoint is the best is told by the mean of so many last rewards


class RanAway(Complaint):
    """A loss or a weight is no number any more: in which update, and which weights are the last good ones; one line."""


class Student:
    """An agent, its replay, and how many updates the data so far is worth."""

    def __init__(self, run: Run, directory: Path, replay: Replay) -> None:
        """ReplayError for demonstrations that do not do; Unsupported or ValueError for an agent that does not exist here."""
        self.run, self.directory, self.replay = run, directory, replay
        self.demonstrations = demonstrations(run)
        self.labelled = Labelled(replay, directory / LABELS)
        self.rows = experience(run.agent, self.labelled, self.demonstrations, Taken(self.labelled))
        mirror = task_of(run).mirror() if run.agent.mirror else None
        self.agent = make_agent(run.agent, *sizes(run), run.seed, self.rows, mirror, cameras=sights(run))
        self.rng = np.random.default_rng([run.seed, 1])
        self.updates = self.dropped = self.version = 0
        self.metrics: dict[str, float] = {}

    def owed(self, transitions: int) -> int:
        """Updates still to do for this much data: updates per step, no more and no fewer, however fast we are."""
        learnt_from = transitions - self.run.agent.learn_after
        return max(0, int(learnt_from * self.run.agent.updates_per_step) - self.updates - self.dropped)

    def forgive(self, transitions: int) -> int:
        """Drop, and count, what is owed beyond `agent.max_backlog` steps' worth of updates; returns how many that were.

        For the wall clock, where a robot does not wait: a learner too slow for its updates per step would otherwise owe more
        and more, and go on for hours when the robot has stopped.
        """
        beyond = self.owed(transitions) - max(1, int(self.run.agent.max_backlog * self.run.agent.updates_per_step))
        self.dropped += max(0, beyond)
        return max(0, beyond)

    def per_step(self, transitions: int) -> float:
        """Updates really done for each of the transitions that count."""
        return self.updates / max(1, transitions - self.run.agent.learn_after)

    def study(
        self, transitions: int, limit: int | None = None, pause: Callable[[], bool] = lambda: False, labels: int | None = None
    ) -> int:
        """Do the updates owed (at most `limit`), sampling from the first `transitions` rows only; returns how many.

        The operator's labels so far, or the first `labels`, are in their rewards. `pause` is asked after each update; true leaves
        the rest for later. RanAway when an update's loss is not finite.
        """
        self.labelled.refresh(transitions, labels)
        before = self.updates
        todo = self.owed(transitions)
        todo = todo if limit is None else min(todo, limit)
        for _ in range(todo):
            indices = self.rows.sample(self.rng, self.run.agent.batch, transitions)
            if self.run.agent.mirror:  # row ~i is row i in the mirror
                indices = np.where(self.rng.random(len(indices)) < 0.5, ~indices, indices)
            try:
                self.metrics = self.agent.update(indices)
            except FloatingPointError as error:
                raise self._ran_away(self.updates + 1, error) from None
            self.updates += 1
            if pause():
                break
        return self.updates - before

    def resume(self) -> Checkpoint | None:
        """Go on from the newest whole checkpoint, if one was made: who was killed has learnt all but the last minutes.

        CheckpointError when all are damaged, or of another agent.
        """
        kept = checkpoint.newest(self.directory)
        if kept is None:
            return None
        about = kept.about
        if about.get("learns") != learns(self.run):
            raise checkpoint.CheckpointError(
                f"{kept.path}: task or agent in {self.directory / 'run.json'} are not those it was made with; put run.json back"
            )
        self._same_demonstrations(kept)
        try:
            self.agent.load_state(safetensors.numpy.load(kept.read(AGENT)), about["noise"])
            self.rng.bit_generator.state = about["sampling"]
            self.version, self.dropped = int(about["version"]), int(about["dropped"])
        except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise checkpoint.CheckpointError(f"{kept.path}: of another agent: {error}; use the run's own") from None
        self.updates = self.agent.step
        return kept

    def _same_demonstrations(self, kept: Checkpoint) -> None:
        """Draw from those rows that were drawn from before, though there may be more by now; CheckpointError without them."""
        known = kept.about.get("demonstrations")
        if known is None or self.demonstrations is None or not isinstance(self.rows, Shared):
            return
        if known["rows"] > self.demonstrations.count or known["crc"] != _crc(self.demonstrations, known["rows"]):
            path = self.run.agent.demonstrations
            raise checkpoint.CheckpointError(
                f"{kept.path}: learnt from other rows than are at agent.demonstrations: {path}; put those back"
            )
        self.rows.given = known["rows"]

    def _drawn_from(self) -> dict[str, int] | None:
        """Which rows of demonstrations these are, for a checkpoint."""
        if self.demonstrations is None or not isinstance(self.rows, Shared):
            return None
        return {"rows": self.rows.given, "crc": _crc(self.demonstrations, self.rows.given)}

    @property
    def weights(self) -> Path:
        """Where the weights are published."""
        return self.directory / "weights" / POLICY

    def published(self) -> int:
        """Version of the weights that are out, 0 for none."""
        return int(self._out().get("version", 0))

    def published_updates(self) -> int:
        """Updates behind the weights that are out: a learner that begins again must not put worse in their place."""
        return updates_of(self._out(), self.run)

    def _out(self) -> dict[str, str]:
        """What the weights that are out say of themselves."""
        try:
            with safetensors.safe_open(self.weights, "numpy") as file:
                return dict(file.metadata() or {})
        except (FileNotFoundError, safetensors.SafetensorError):
            return {}

    def publish(self, numbered: bool = False, now: int | None = None) -> Path:
        """Write the actor's weights whole or not at all, with their version; `numbered` makes a file of its own beside it.

        `now` (monotonic, ns) goes with them, so that whoever acts with them knows their age, and the updates behind them, so that
        a learner that begins again knows how far it was; in lockstep there is no such time, and nobody needs them after a power
        cut.
        RanAway, and the last ones stay, when one is not finite.
        """
        weights = self._finite(self.agent.weights())
        path, version = self.weights, self.version + 1
        about = {"version": str(version)}
        if now is not None:
            about |= {"published_ns": str(now), "updates": str(self.updates)}
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(aside, "wb") as file:
                file.write(packed(weights, about))
                if not numbered:
                    file.flush()
                    os.fdatasync(file.fileno())
            if numbered:
                os.link(aside, path.with_name(f"policy-{version}.safetensors"))
            os.replace(aside, path)
        except OSError:
            aside.unlink(missing_ok=True)  # a full disk needs the room
            raise
        self.version = version
        return path

    def save(self, also: Mapping[str, Any] | None = None) -> None:
        """A checkpoint: everything the agent needs to go on, and what `also` says of others who go on with it.

        RanAway, and the last one stays, when something in it is not finite.
        """
        state, count = self._finite(self.agent.state()), self.replay.count
        about = {
            "dropped": self.dropped, "version": self.version, "engine": self.agent.engine, "demonstrations": self._drawn_from(),
            "learns": learns(self.run), "noise": self.agent.random_state(), "sampling": self.rng.bit_generator.state,
            "score": float(self.labelled.columns["reward"][max(0, count - SCORED) : count].mean()) if count else 0.0,
        }  # fmt: skip
        data = safetensors.numpy.save({k: v.copy(order="C") for k, v in state.items()})
        policy = packed(self._finite(self.agent.weights()), {"version": str(self.version)})
        checkpoint.save(self.directory, count, self.updates, {AGENT: data, POLICY: policy}, about | dict(also or {}))

    def _finite(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name, value in arrays.items():
            if not np.isfinite(value).all():
                raise self._ran_away(self.updates, f"{name} is not finite; the last good state is the one to go back to")
        return dict(arrays)

    def _ran_away(self, update: int, what: object) -> RanAway:
        good = f"{self.weights}, version {version}" if (version := self.published()) else "none, nothing was published yet"
        return RanAway(f"update {update}: {what}: {good}; try a lower agent.critic_lr, or agent.layer_norm=true")


def learns(run: Run) -> str:
    """What and how a run learns, as a hash: task and agent, less what only makes it faster."""
    agent = {k: v for k, v in dataclasses.asdict(run.agent).items() if k not in ("threads", "engine")}
    if agent["demonstrations_share"] == 0.5:  # as it was before one could choose: checkpoints of then are still good
        del agent["demonstrations_share"]
    task = dataclasses.asdict(run.task)
    if not task["pixels"]["cameras"]:  # as above
        del task["pixels"], agent["shift_px"]
    elif not task["pixels"]["told"]:
        del task["pixels"]["told"]
    if task["reward"] == "task":
        del task["reward"]
    else:
        task["step"] = run.operator.step
    if run.task.reward == "classifier":
        task["classifier"] = dataclasses.asdict(run.classifier)
    said = json.dumps([task, agent], sort_keys=True, default=list)
    return hashlib.sha256(said.encode()).hexdigest()


def _crc(replay: Labelled, rows: int) -> int:
    """Of the check sums of a replay's first rows."""
    return zlib.crc32(replay.columns["crc"][:rows].tobytes())


def demonstrations(run: Run) -> Labelled | None:
    """What a run learns from beside its own transitions, None for nothing; ReplayError when it could not."""
    return open_demonstrations(run.agent.demonstrations, *sizes(run), sights(run))
