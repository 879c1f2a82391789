"""The learner: updates paced by data, weights published as files with a version. Runs beside the actor, never in its way.

`Student` is the thinking. On the wall clock the node polls the replay that the policy writes. In lockstep (`--lockstep`) the
rehearsal says over a pipe how many transitions count, so that the same seed gives the same weights bit for bit.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from robotrl import rundir
from robotrl.agents.base import make_agent
from robotrl.agents.experience import experience, open_demonstrations
from robotrl.complaint import Complaint
from robotrl.config import Run
from robotrl.messages import Learner
from robotrl.node import Node
from robotrl.replay import Replay
from robotrl.tasks.walk import ACTIONS, SENSORS, Walk

POLL_NS = 20_000_000
LUMP_NS = 20_000_000  # of updates between two looks at whether to end, to publish, to tell; one that has begun is finished
CHECKPOINT_EVERY = 2000  # updates: 40 s of robot time at one update a step are the most that a kill costs


class Student:
    """An agent, its replay, and how many updates the data so far is worth."""

    def __init__(self, run: Run, directory: Path, replay: Replay) -> None:
        """ReplayError for demonstrations that do not do; Unsupported or ValueError for an agent that does not exist here."""
        self.run, self.directory, self.replay = run, directory, replay
        self.rows = experience(run.agent, replay, demonstrations(run))
        mirror = Walk(run.task).mirror() if run.agent.mirror else None
        self.agent = make_agent(run.agent, *sizes(run), run.seed, self.rows, mirror)
        self.rng = np.random.default_rng([run.seed, 1])
        self.updates = self.version = 0
        self.metrics: dict[str, float] = {}

    def owed(self, transitions: int) -> int:
        """Updates still to do for this much data: updates per step, no more and no fewer, however fast we are."""
        learnt_from = transitions - self.run.agent.learn_after
        return max(0, int(learnt_from * self.run.agent.updates_per_step) - self.updates)

    def study(self, transitions: int, limit: int | None = None, pause: Callable[[], bool] = lambda: False) -> int:
        """Do the updates owed (at most `limit`), sampling from the first `transitions` rows only; returns how many.

        `pause` is asked after each of them; true leaves the rest for later.
        """
        before = self.updates
        todo = self.owed(transitions)
        todo = todo if limit is None else min(todo, limit)
        for _ in range(todo):
            indices = self.rows.sample(self.rng, self.run.agent.batch, transitions)
            if self.run.agent.mirror:  # row ~i is row i in the mirror
                indices = np.where(self.rng.random(len(indices)) < 0.5, ~indices, indices)
            self.metrics = self.agent.update(indices)
            self.updates += 1
            if pause():
                break
        return self.updates - before

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one: a learner that was killed has learnt all but its last minutes."""
        source = self.directory / "checkpoint"
        if not (source / "learner.json").is_file():
            return False
        kept = json.loads((source / "learner.json").read_text())
        self.agent.load_state(safetensors.numpy.load_file(source / "agent.safetensors"), kept["noise"])
        self.rng.bit_generator.state = kept["sampling"]
        self.updates, self.version = self.agent.step, kept["version"]
        return True

    def published(self) -> int:
        """Version of the weights that are out, 0 for none: a learner that begins again must not put worse in their place."""
        try:
            with safetensors.safe_open(self.directory / "weights" / "policy.safetensors", "numpy") as file:
                return int((file.metadata() or {}).get("version", 0))
        except (FileNotFoundError, safetensors.SafetensorError):
            return 0

    def publish(self, numbered: bool = False) -> Path:
        """Write the actor's weights whole or not at all, with their version; `numbered` makes a file of its own beside it."""
        self.version += 1
        path = self.directory / "weights" / "policy.safetensors"
        data = safetensors.numpy.save(self.agent.weights(), {"version": str(self.version)})  # one entry: more have no order
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(_sorted(data))
        if numbered:
            os.link(aside, path.with_name(f"policy-{self.version}.safetensors"))
        os.replace(aside, path)
        return path

    def save(self) -> None:
        """Everything the agent needs to go on: checkpoint/agent.safetensors and what goes with it."""
        target = self.directory / "checkpoint"
        target.mkdir(exist_ok=True)
        state = {k: v.copy(order="C") for k, v in self.agent.state().items()}
        rundir.write_bytes(target / "agent.safetensors", safetensors.numpy.save(state))
        rundir.write_json(
            target / "learner.json",
            {
                "updates": self.updates, "version": self.version, "transitions": self.replay.count,
                "engine": self.agent.engine, "noise": self.agent.random_state(), "sampling": self.rng.bit_generator.state,
            },
        )  # fmt: skip


def sizes(run: Run) -> tuple[int, int]:
    """Numbers in an observation, and in an action."""
    return SENSORS * (1 + run.task.history) + ACTIONS * run.task.history, ACTIONS


def demonstrations(run: Run) -> Replay | None:
    """What a run learns from beside its own transitions, None for nothing; ReplayError when it could not."""
    return open_demonstrations(run.agent.demonstrations, *sizes(run))


def _sorted(data: bytes) -> bytes:
    """A safetensors file with its metadata in order: the library's own order changes from process to process."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    return data[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(size) + data[8 + size :]


def lockstep(directory: Path) -> int:
    """Serve the rehearsal: a line `{"count": n}` in, the updates owed done, a line of metrics out."""
    run = rundir.load(directory)
    _prepare(run)
    try:
        student = Student(run, directory, Replay.open(directory / "replay"))
    except (ValueError, Complaint) as error:  # the run file asks for what does not exist here
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    print(json.dumps({"engine": student.agent.engine, "note": student.agent.engine_note}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        begun = time.monotonic()
        done = student.study(request["count"])
        if student.updates:
            student.publish(numbered=True)
        if request.get("save"):
            student.save()
        print(json.dumps(_progress(student, done, time.monotonic() - begun)), flush=True)
    return 0


def wall_clock(directory: Path) -> int:
    """Poll the replay the policy writes; study what it is worth; publish every `publish_every` steps' worth of updates."""
    node = Node(directory, "learner")
    try:
        os.nice(10)  # the robot's processes come first
    except OSError:
        pass
    _prepare(node.run)
    try:
        demonstrations(node.run)  # before the replay is there: the robot has not moved
        replay = _await_replay(node)
        if replay is None:
            node.close()
            return 0
        student = _student(node, replay)
    except (ValueError, Complaint) as error:  # what does not exist here, or a checkpoint of another agent
        node.say(error)
        node.close()
        return 2
    saved = student.updates
    status = node.bus.publisher("learner")
    every = max(1, int(node.run.agent.publish_every * node.run.agent.updates_per_step))
    marks: deque[tuple[int, int]] = deque(maxlen=20)
    student.version = max(student.version, student.published())
    published = max(student.updates, student.version * every)
    while not node.over():
        student.study(replay.count, pause=_lump(node))
        if student.updates >= published + every:
            published = student.updates
            student.publish()
        if student.updates >= saved + CHECKPOINT_EVERY:
            saved = student.updates
            student.save()
        now = node.clock.now()
        if not marks or now - marks[-1][0] > 200_000_000:
            marks.append((now, student.updates))
            status.send(_status(student, marks))
        node.beat()
        if not student.owed(replay.count):
            node.clock.sleep_until(node.clock.now() + POLL_NS)
    student.save()
    node.close()
    return 0


def _lump(node: Node) -> Callable[[], bool]:
    """For `Student.study`: beats after each update, and pauses LUMP_NS from now."""
    end = node.clock.now() + LUMP_NS

    def pause() -> bool:
        node.beat()
        return node.clock.now() >= end

    return pause


def _student(node: Node, replay: Replay) -> Student:
    """The run's student, where its checkpoint left it; what the person should know of it is said."""
    student = Student(node.run, node.directory, replay)
    if student.agent.engine_note:
        node.say(f"{student.agent.engine}: {student.agent.engine_note}")
    if student.resume():
        node.say(f"goes on after {student.updates} updates")
    return student


def _await_replay(node: Node) -> Replay | None:
    """The policy makes the replay; wait until its header is there. None when told to end first."""
    for _ in node.every(POLL_NS):
        node.beat("waiting for the replay")
        if (node.directory / "replay" / "header.json").is_file():
            return Replay.open(node.directory / "replay")
    return None


def _status(student: Student, marks: deque[tuple[int, int]]) -> Learner:
    (t0, u0), (t1, u1) = marks[0], marks[-1]
    m = student.metrics
    return Learner(
        updates=student.updates, version=student.version, updates_per_s=(u1 - u0) / max(1e-9, (t1 - t0) * 1e-9),
        transitions=student.replay.count, critic_loss=m.get("critic_loss", 0.0), actor_loss=m.get("actor_loss", 0.0),
        entropy=m.get("entropy", 0.0), temperature=m.get("temperature", 0.0), engine=student.agent.engine,
    )  # fmt: skip


def _progress(student: Student, done: int, seconds: float) -> dict[str, Any]:
    return {
        "updates": student.updates,
        "version": student.version,
        "done": done,
        "seconds": seconds,
        **{k: float(v) for k, v in student.metrics.items()},
    }


def _prepare(run: Run) -> None:
    import torch

    torch.set_num_threads(run.agent.threads)


def main(argv: list[str]) -> int:
    directory = Path(argv[0])
    if "--lockstep" in argv:
        return lockstep(directory)
    return wall_clock(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
