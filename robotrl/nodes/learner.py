"""The learner: updates paced by data, weights published as files with a version. Runs beside the actor, never in its way.

`student.Student` is the thinking. On the wall clock the node polls the replay that the policy writes. In lockstep (`--lockstep`)
the rehearsal says over a pipe how many transitions count, so that the same seed gives the same weights bit for bit.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from robotrl import checkpoint, rundir
from robotrl.agents.published import Pace
from robotrl.bus import Publisher
from robotrl.complaint import Complaint
from robotrl.config import Run
from robotrl.messages import Learner
from robotrl.node import Node
from robotrl.nodes.student import Student, demonstrations
from robotrl.realtime import expendable
from robotrl.replay import Replay

POLL_NS = 20_000_000
LUMP_NS = 20_000_000  # of updates between two looks at whether to end, to publish, to tell; one that has begun is finished
TELL_NS = 200_000_000  # between two messages
AGAIN_NS = 1_000_000_000  # between two looks whether a full disk has room again
BUILDING = "building"  # in place of an engine's name while there is none: the first one of a machine is compiled


def lockstep(directory: Path) -> int:
    """Serve the rehearsal: a line `{"count": n}` in, the updates owed done, a line of metrics out."""
    run = _prepare(rundir.load(directory), threads=2)  # the actor waits for us most of the time: its core is free
    try:
        student = Student(run, directory, Replay.open(directory / "replay"))
        if student.resume() is not None and student.updates:
            student.version -= 1  # once more the weights that were out when it was kept
            student.publish(numbered=True)
    except (ValueError, Complaint) as error:  # the run file asks for what does not exist here
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    print(json.dumps({"engine": student.agent.engine, "note": student.agent.engine_note, "version": student.version}), flush=True)
    for line in sys.stdin:
        try:
            answer = _answer(student, json.loads(line))
        except Complaint as error:  # learning ran away
            print(json.dumps({"error": str(error)}), flush=True)
            return 3
        print(json.dumps(answer), flush=True)
    return 0


def _answer(student: Student, request: dict[str, Any]) -> dict[str, Any]:
    """Do what the rehearsal asks for; what came of it."""
    begun = time.monotonic()
    done = student.study(request["count"], labels=request.get("labels"))
    if student.updates:
        student.publish(numbered=True)
    if "save" in request:
        student.save(request["save"])
    return {
        "updates": student.updates,
        "version": student.version,
        "done": done,
        "seconds": time.monotonic() - begun,
        **{k: float(v) for k, v in student.metrics.items()},
    }


def wall_clock(directory: Path) -> int:
    """Poll the replay the policy writes; study what it is worth. 2: it could not begin; 3: it could not go on."""
    node = Node(directory, "learner")
    try:
        os.nice(10)  # the robot's processes come first
    except OSError:
        pass
    expendable()
    node.run = _prepare(node.run, threads=1)  # the other cores are the robot's
    status = node.bus.publisher("learner")
    try:
        demonstrations(node.run)  # before the replay is there: the robot has not moved
        replay = _await_replay(node)
        student = None if replay is None else _built(node, replay, status)
    except Complaint as error:  # what does not exist here, or a checkpoint of another agent
        return node.refuse(error)
    code = 3
    try:
        if student is not None:
            _learn(node, student, status)
        code = 0
    except Complaint as error:
        node.say(error)
    except OSError as error:
        node.say(f"{directory}: weights or checkpoint not written: {error.strerror}; check disk and permissions, resume")
    node.close()
    return code


def _await_replay(node: Node) -> Replay | None:
    """The policy makes the replay; wait until its header is there. None when told to end first."""
    for _ in node.every(POLL_NS):
        node.beat("waiting for the replay")
        if (node.directory / "replay" / "header.json").is_file():
            return Replay.open(node.directory / "replay")
    return None


def _built(node: Node, replay: Replay, status: Publisher) -> Student | None:
    """`_student`, made in a thread beside a beat, for a compiler takes seconds. None when told to end meanwhile.

    Complaint for what does not exist here, and a checkpoint of another agent.
    """
    made: list[Student | Exception] = []

    def make() -> None:
        try:
            made.append(_student(node, replay))
        except Exception as error:
            made.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    told = 0
    while thread.is_alive() and not node.over():
        node.beat("building the engine")
        if node.clock.now() >= told + TELL_NS:
            told = node.clock.now()
            status.send(Learner(updates=0, version=0, updates_per_s=0.0, transitions=replay.count, engine=BUILDING))
        thread.join(POLL_NS * 1e-9)
    if not made:
        return None
    if isinstance(made[0], ValueError):
        raise Complaint(str(made[0]))
    if isinstance(made[0], Exception):
        raise made[0]
    return made[0]


def _student(node: Node, replay: Replay) -> Student:
    """The run's student, where its checkpoint left it; what the person should know of it is said."""
    student = Student(node.run, node.directory, replay)
    if student.agent.engine_note:
        node.say(f"{student.agent.engine}: {student.agent.engine_note}")
    if (kept := student.resume()) is not None:
        for line in kept.passed:
            node.say(line)
        node.say(f"goes on after {student.updates} updates, from {kept.path.name}")
    return student


def _learn(node: Node, student: Student, status: Publisher) -> None:
    """Study until told to end; publish as `Pace` says, and keep a checkpoint each EVERY updates."""
    marks: deque[tuple[int, int]] = deque(maxlen=20)
    student.version = max(student.version, student.published())
    shelf = Shelf(node, student)
    if missed := student.forgive(student.replay.count):
        node.say(f"owed more than {node.run.agent.max_backlog} steps' updates at its start: {missed} are dropped, and counted")
    behind = False
    while not node.over():
        count = student.replay.count
        if student.forgive(count) and not behind:
            behind = True
            node.say(_too_slow(node.run))
        student.study(count, pause=_lump(node))
        now = node.clock.now()
        shelf.tend(now)
        if not marks or now > marks[-1][0] + TELL_NS:
            marks.append((now, student.updates))
            status.send(_status(student, marks))
        node.beat()
        if not student.owed(student.replay.count):
            node.clock.sleep_until(node.clock.now() + POLL_NS)
    student.save()


class Shelf:
    """Where what is learnt is put: a checkpoint each EVERY updates, and the weights as `Pace` says.

    On a full disk the learner keeps it, says so, and tries again: to end would lose what it has learnt, and make no room.
    """

    def __init__(self, node: Node, student: Student) -> None:
        self._node, self._student = node, student
        self._pace = Pace(node.run, max(student.updates, student.published_updates()), student.replay.count)
        self._saved, self._due = student.updates, False
        self._full, self._again = False, 0  # has it no room, and when is it looked at again?

    def tend(self, now: int) -> None:
        """OSError from a disk that fails otherwise than by being full."""
        student = self._student
        self._due = self._due or self._pace.due(student.updates, student.replay.count)
        if now < self._again:
            return
        try:
            if student.updates >= self._saved + checkpoint.EVERY:
                student.save()  # first: of weights that are out, what they were learnt by is kept
                self._saved = student.updates
                self._tell(full=False)
            if self._due:
                student.publish(now=now)
                self._due = False
                self._tell(full=False)
        except OSError as error:
            if error.errno not in rundir.FULL:
                raise
            self._again = now + AGAIN_NS
            self._tell(full=True)

    def _tell(self, full: bool) -> None:
        """Once, and not at every try."""
        if full and not self._full:
            self._node.say(f"{self._node.directory}: disk full: it goes on, but nobody gets what it learns; free some space")
        elif self._full and not full:
            self._node.say("there is room again: what it has learnt is written")
        self._full = full


def _lump(node: Node) -> Callable[[], bool]:
    """For `Student.study`: beats after each update, and pauses LUMP_NS from now."""
    end = node.clock.now() + LUMP_NS

    def pause() -> bool:
        node.beat()
        return node.clock.now() >= end

    return pause


def _too_slow(run: Run) -> str:
    return (
        f"owed more than {run.agent.max_backlog} steps' updates: what is beyond is dropped from now on, and counted;"
        f" fewer than agent.updates_per_step = {run.agent.updates_per_step:g} would be kept up with"
    )


def _status(student: Student, marks: deque[tuple[int, int]]) -> Learner:
    (t0, u0), (t1, u1) = marks[0], marks[-1]
    m, count = student.metrics, student.replay.count
    return Learner(
        updates=student.updates, version=student.version, updates_per_s=(u1 - u0) / max(1e-9, (t1 - t0) * 1e-9),
        transitions=count, critic_loss=m.get("critic_loss", 0.0), actor_loss=m.get("actor_loss", 0.0),
        entropy=m.get("entropy", 0.0), temperature=m.get("temperature", 0.0), engine=student.agent.engine,
        updates_per_step=student.per_step(count), owed=student.owed(count), dropped=student.dropped,
        labels=student.labelled.labels, relabelled=student.labelled.changed,
    )  # fmt: skip


def _prepare(run: Run, threads: int) -> Run:
    """The run with `threads` for the learner (no more than it has cores) where it names none; torch keeps to them too.

    Torch reads them where it is imported: an engine that does without spares each start of a learner two seconds.
    """
    agent = replace(run.agent, threads=run.agent.threads or min(threads, len(os.sched_getaffinity(0))))
    os.environ["OMP_NUM_THREADS"] = str(agent.threads)
    return replace(run, agent=agent)


def main(argv: list[str]) -> int:
    directory = Path(argv[0])
    if "--lockstep" in argv:
        return lockstep(directory)
    return wall_clock(directory)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
