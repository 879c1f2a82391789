"""The learned reward of a rehearsal: what the cameras see, a classifier trained beside it, and its verdicts as labels.

A training is asked for every `classifier.every` transitions and waited for half as many later, so that the same seed gives the
same versions at the same steps, however fast either process is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.numpy

from robotrl import rundir, transitions
from robotrl.agents.classifier import Classifier
from robotrl.asked import Asked
from robotrl.config import Run
from robotrl.messages import Transition
from robotrl.replay import Cameras, Replay
from robotrl.rewards import classifier, lessons
from robotrl.rewards.classifier import Judge, Seen, Version
from robotrl.sim.program import Program
from robotrl.sim.supervisor import Supervision
from robotrl.tasks.task import cameras

KEPT = 8  # frames: a transition is complete a step or two after its reading
WORDS = {(True, True): "right", (True, False): "false", (False, True): "missed", (False, False): "quiet"}


def cameras_of(run: Run) -> Cameras:
    """What a run's transitions carry: frames of the cameras that it names, or of those that a classifier judges by without."""
    if cameras(run) or run.task.reward != "classifier":
        return cameras(run)
    from robotrl.sim.eyes import WATCHERS  # late: it imports pybullet, which must have been told to be quiet

    return WATCHERS


class Schooling:
    """One run's. `figures`: the episodes that the classifier judged, by what is true."""

    def __init__(self, run: Run, directory: Path, replay: Replay, metrics: rundir.Metrics, person: Supervision) -> None:
        self.run, self._directory, self._replay, self._metrics, self._person = run, directory, replay, metrics, person
        self._shape = classifier.image_shape(replay.cameras)
        self._school = Asked("robotrl.nodes.school", [str(directory), "--lockstep"])
        self.judge = Judge(run)
        self._asked = replay.count // run.classifier.every
        self._due = 0  # at which transition an answer is waited for
        self._frames: dict[int, bytes] = {}
        self._near: dict[tuple[int, int], bool] = {}  # by episode and step: the robot can be seen where it should be
        self._met: dict[int, bool] = {}  # by episode: it did succeed
        self._said = -1  # the last episode of which the classifier said success
        self._before: Transition | None = None
        self.figures = dict.fromkeys(WORDS.values(), 0)
        if (kept := classifier.usable(directory)) is not None:
            self._hand_over(*kept)
            self.judge.hear(replay, person.given)

    def begin(self, rig: Program) -> None:
        """Another robot is switched on, before the cameras. ConfigError where they see nothing of the task."""
        from robotrl.sim.eyes import watching

        self._views, self._rig = None if cameras(self.run) else watching(rig), rig
        self._frames, self._near, self._met, self._before = {}, {}, {}, None

    def look_on(self, count: int) -> None:
        """Once a cycle, when the robot has moved: the cameras, the person, and the trainings that are due."""
        self._see()
        pilot = self._rig.pilot
        judges = self.judge.judges(pilot.episode)
        watched = not judges or lessons.audited(pilot.episode, self.run.classifier.audit)
        said = "" if not judges else "success" if self._said == pilot.episode else "no"
        self._person.look(self._rig, watched, said)
        every = self.run.classifier.every
        if self._due and count >= self._due:
            self.finish()
        if not self._due and count // every > self._asked:
            self._asked, self._due = count // every, count + max(1, every // 2)
            self._school.request({"count": count, "labels": self._person.settled()})

    def _see(self) -> None:
        """The frame of this cycle's reading, while an episode runs, and what is true of it."""
        pilot, joints = self._rig.pilot, self._rig.joints
        if joints is None or (pilot.tally is None and not pilot.just_ended):
            return
        if self._views is not None:
            self._frames[joints.tick] = self._views(pilot.task)
        for tick in [tick for tick in self._frames if tick < joints.tick - KEPT]:
            del self._frames[tick]
        if steps := pilot.report(0).step:
            self._near[pilot.episode, steps - 1] = bool(getattr(pilot.task, "holding", 0))
            self._met[pilot.episode] = self._met.get(pilot.episode, False) or bool(getattr(pilot.task, "word", ""))

    def framed(self, made: Transition) -> Transition:
        """With what was seen before and after it, where the run names no cameras of its own."""
        if self._views is None:
            return made
        images = self._frames[made.tick - 1], self._frames[made.tick]
        self._before, before = made, self._before
        return transitions.framed(made, self._replay.cameras, *images, before)

    def look(self, made: Transition) -> None:
        """A transition that is in the replay: what the classifier says of it the policy hears, and it is kept."""
        seen = Seen(made.episode, made.step, made.tick, 0, made.terminated or made.truncated)
        label = self.judge.look(seen, lambda: classifier.image_of(made))
        if label is None:
            return
        said = label.kind == "success"
        self._person.take(label)
        if said:
            self._said = made.episode
            self._rig.pilot.conclude(label.episode, label.kind)
        was = self._near.get((made.episode, made.step), False) if said else self._met.get(made.episode, False)
        self.figures[WORDS[said, was]] += 1
        self._metrics.write("verdict", episode=made.episode, step=made.step, version=label.version, judged=WORDS[said, was])
        self._person.settled()
        if why := self.judge.hear(self._replay, self._person.given):
            self._metrics.write("classifier", version=label.version, why=why, step_total=self._replay.count)

    def finish(self) -> None:
        """Wait for a training that was asked for; the person answers what the new version asks him."""
        if not self._due:
            return
        self._due = 0
        answer = self._school.wait()
        self._metrics.write("classifier", version=answer["version"], why=answer["why"], step_total=self._replay.count)
        kept = classifier.newest(self._directory) if answer["version"] else None
        if kept is not None:
            self._hand_over(*kept)
            asked = [(frame[0], frame[1]) for frame in kept[0].about["queue"]]
            self._person.asked({frame: self._near[frame] for frame in asked if frame in self._near})

    def _hand_over(self, version: Version, data: bytes) -> None:
        self.judge.take(version, Classifier(safetensors.numpy.load(data), self._shape).probability)

    def told(self) -> dict[str, Any]:
        """What came of it."""
        version = self.judge.version
        return {"version": version.number if version else 0, "why": self.judge.why, **self.figures}

    def close(self) -> None:
        self._school.close()


def schooling_of(
    run: Run, directory: Path, replay: Replay, metrics: rundir.Metrics, person: Supervision
) -> Schooling | None:  # fmt: skip
    """None for a run whose rewards are not learned."""
    return Schooling(run, directory, replay, metrics, person) if run.task.reward == "classifier" else None
