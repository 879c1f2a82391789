"""A training in lockstep: the actor's half (twin, wires, gate, guard, policy) in this process, as fast as it can.

The learner is a process beside it, LAG chunks of steps behind, paced by data. Both halves do the same work in the same order
whatever the machine's speed, so the same seed gives the same replay and the same weights bit for bit.

Every `checkpoint_every` transitions, between two episodes, the learner keeps a checkpoint and the robot is switched off and on: a
new twin, seeded by run and transitions, takes the place of the old one. Whoever goes on from there (`robotrl resume`) does the
same, and so ends with the same bits as a run that was never interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from array import array
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from robotrl import config, rundir, transitions
from robotrl.account import Account
from robotrl.agents.actor import Actor
from robotrl.asked import Asked
from robotrl.checkpoint import Checkpoint
from robotrl.log import Log, Took
from robotrl.logformat import Kind
from robotrl.messages import Episode, Transition
from robotrl.replay import Replay
from robotrl.rewards import classifier
from robotrl.sim.armrig import rig_of
from robotrl.sim.course import Course
from robotrl.sim.program import Program
from robotrl.sim.schooling import cameras_of, schooling_of
from robotrl.sim.supervisor import Supervision
from robotrl.tasks.task import sizes

# Chunks of `publish_every` steps between the data and the weights learnt from it: each side may be so far ahead before it waits
# for the other. More would hide a reset behind updates; on the small task of the tests it cost what was learned in 1,000 steps.
LAG = 1

SYNC_S = 0.5  # between two syncs of the log: nobody waits for an acknowledgement here but a checkpoint

# What a checkpoint keeps of the rehearsal itself.
TALLY = ("falls", "stuck", "episodes", "updates", "keep_every", "metrics_bytes", "robot_s", "wall_s")


class LearnerProcess(Asked):
    """The learner in a process of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__("robotrl.nodes.learner", [str(directory), "--lockstep"])
        hello = self.answer()
        self.engine, self.note = hello["engine"], hello["note"]
        self.version = hello["version"]  # of the weights that are out, where it goes on from a checkpoint

    def ask(self, count: int, labels: int, save: dict[str, Any] | None = None) -> None:
        """Let it do the updates that `count` transitions are worth, with the first `labels` of the operator's.

        Then it keeps a checkpoint that holds `save` too.
        """
        self.request({"count": count, "labels": labels} | ({} if save is None else {"save": save}))


class Training:
    """One rehearsal: the rig and the learner in step, with what the person sees of it."""

    def __init__(
        self, run: config.Run, directory: Path, console: Console, keep_every: int = 0, kept: Checkpoint | None = None
    ) -> None:
        """From the beginning, or from `kept` on: what came after it goes, and comes again."""
        self.run, self.directory, self.console = run, directory, console
        tally = kept.about["rehearsal"] if kept is not None else dict.fromkeys(TALLY, 0)
        self.keep_every = tally["keep_every"] or keep_every
        if kept is None:
            self.replay = Replay.create(directory / "replay", *sizes(run), run.agent.capacity, cameras_of(run))
        else:
            self.replay = _gone_back(directory, sizes(run), kept)
        self._log, self._boot, self._made = Log.open(directory / "log", SYNC_S), int.from_bytes(os.urandom(6), "big"), 0
        for line in self._log.said:
            console.print(line, markup=False)
        if kept is not None:  # what came after it is in the log, and counts no more
            payload = json.dumps({"transitions": kept.transitions}).encode()
            self._log.append(Kind.CUT, "rehearsal", self._boot, 1, payload)
            self._log.sync()
        self.supervision = Supervision(run, directory, self._log, self.replay, self._boot)
        self.metrics = rundir.Metrics(directory)
        self.schooling = schooling_of(run, directory, self.replay, self.metrics, self.supervision)
        self.learner = LearnerProcess(directory)
        self.falls, self.stuck, self.episodes, self.updates = (tally[k] for k in ("falls", "stuck", "episodes", "updates"))
        self._kept = self.replay.count // self.keep_every if self.keep_every else 0
        self._weights: tuple[Actor, int] | None = self._published(self.learner.version) if self.learner.version else None
        self.account = Account()
        self.rig = self._session()
        self.recent: deque[Episode] = deque(maxlen=10)
        self.started = time.monotonic() - tally["wall_s"]
        self.steps_us = array("f")  # wall time of each control cycle: twin, wires, gate, guard, policy
        self.waited = 0.0  # s of wall time for the learner
        self._robot_s = tally["robot_s"]  # of the sessions before this one
        self._marks: deque[tuple[float, int]] = deque(maxlen=40)  # when so many updates were done
        self._causes: tuple[str, ...] = ()
        self._led = False

    def _session(self) -> Program:
        """The robot, switched on: seeded by run and transitions alone, acting with the newest weights."""
        count = self.replay.count
        seed = int(np.random.SeedSequence([self.run.seed, count]).generate_state(1)[0]) if count else self.run.seed
        rig = rig_of(self.run, seed, replay=self.replay, keep=self._keep_transition)
        if self._weights is not None:
            rig.pilot.take(*self._weights, rig.clock.now())
        self._due = count + self.run.checkpoint_every
        self.supervision.begin(seed)
        if self.schooling is not None:
            self.schooling.begin(rig)
        return rig

    def _keep_transition(self, made: Transition) -> None:
        """Into the log, as the recorder does, and at once into the replay: here a disk may be waited for."""
        self._made += 1
        made = msgspec.structs.replace(made, source="rehearsal", boot=self._boot, number=self._made)
        made = made if self.schooling is None else self.schooling.framed(made)
        payload = transitions.encoded(made)
        while self._log.append(Kind.TRANSITION, "rehearsal", self._boot, self._made, payload) is Took.REFUSED:
            self._log.sync()
        transitions.add(self.replay, made)
        if self.schooling is not None:
            self.schooling.look(made)

    def train(self, course: Course) -> None:
        """Run until the replay holds `run.steps` transitions; every `publish_every` of them is one exchange with the learner."""
        asked = self.replay.count
        while self.replay.count < self.run.steps:
            begun = time.perf_counter()
            self.rig.cycle()
            self.steps_us.append((time.perf_counter() - begun) * 1e6)
            if self.schooling is None:
                self.supervision.look(self.rig)
            else:
                self.schooling.look_on(self.replay.count)
            for episode in self.rig.take_finished():
                self._note(episode)
            self._note_causes()
            if self.replay.count >= asked + self.run.agent.publish_every:
                asked = self.replay.count
                self._exchange(asked)
                course.show(asked, self._said())
            if self._due <= self.replay.count < self.run.steps and self.rig.pilot.idle and self.supervision.idle:
                asked = self.replay.count
                self._robot_s += self.rig.seconds
                self._checkpoint()
                self.rig.close()
                self.rig = self._session()
        self._checkpoint()
        course.show(self.run.steps, self._said())

    def _checkpoint(self) -> None:
        """Let the learner finish what it is asked for, and keep all that a run needs to go on from here."""
        if self.schooling is not None:
            self.schooling.finish()
        self._log.sync()
        self.replay.flush()
        self.learner.ask(self.replay.count, self.supervision.settled())
        while self.learner.pending:
            self._take(self._wait())
        values = (self.falls, self.stuck, self.episodes, self.updates, self.keep_every, self.metrics.size, self._robot_s,
                  time.monotonic() - self.started)  # fmt: skip
        self.learner.ask(self.replay.count, self.supervision.settled(), save={"rehearsal": dict(zip(TALLY, values, strict=True))})
        self._take(self._wait())

    def _exchange(self, count: int) -> None:
        self.learner.ask(count, self.supervision.settled())
        if self.learner.pending > LAG:
            self._take(self._wait())

    def _wait(self) -> dict[str, Any]:
        begun = time.monotonic()
        answer = self.learner.wait()
        self.waited += time.monotonic() - begun
        return answer

    def _take(self, answer: dict[str, Any]) -> None:
        if not answer["updates"]:
            return
        self.updates = answer["updates"]
        # The learner may already have renamed a newer file into place: the weights travel with the answer's version.
        self._weights = self._published(answer["version"])
        self.rig.pilot.take(*self._weights, self.rig.clock.now())
        if answer["version"] % 20 == 0:
            keep = ("updates", "critic_loss", "actor_loss", "entropy", "temperature", "q_mean")
            rate = answer["done"] / answer["seconds"] if answer["seconds"] > 0 else 0.0
            self.metrics.write(
                "learner", step_total=self.replay.count, updates_per_s=rate, wall_s=time.monotonic() - self.started,
                **{k: answer[k] for k in keep if k in answer},
            )  # fmt: skip

    def _published(self, version: int) -> tuple[Actor, int]:
        """These weights, whose file goes once they are read."""
        path = self.directory / "weights" / f"policy-{version}.safetensors"
        actor = Actor.load(path)
        self._keep(path)
        path.unlink()
        return actor, version

    def _keep(self, path: Path) -> None:
        """Every `keep_every` transitions, the weights acted with from there on stay as weights/at-<transitions>.safetensors."""
        if self.keep_every and (reached := self.replay.count // self.keep_every) > self._kept:
            target = path.with_name(f"at-{reached * self.keep_every}.safetensors")
            target.unlink(missing_ok=True)  # of a life that went further than its last checkpoint
            os.link(path, target)
            self._kept = reached

    def _note_causes(self) -> None:
        """What stopped the robot, as it happens: a run that stands still must say why."""
        guard = self.rig.guard
        if guard is not None and (guard.trigger or guard.causes != self._causes or guard.led != self._led):
            self.account.hear(guard)
        if guard is not None and guard.causes and guard.causes != self._causes:
            self.metrics.write(
                "cause", state=guard.state, causes=list(guard.causes), note=guard.note, robot_s=self._robot_s + self.rig.seconds
            )
        self._causes, self._led = (guard.causes, guard.led) if guard is not None else ((), False)

    def _note(self, episode: Episode) -> None:
        self.episodes += 1
        self.falls += episode.ended == "fall"
        self.stuck += episode.ended == "stuck"
        self.recent.append(episode)
        self.metrics.write(
            "episode", episode=episode.episode, steps=episode.step, step_total=episode.transitions,
            speed=episode.speed, ended=episode.ended, wall_s=time.monotonic() - self.started,
            **{"return": episode.total_return},
        )  # fmt: skip

    def _said(self) -> str:
        now = time.monotonic()
        self._marks.append((now, self.updates))
        (since, before), wall = self._marks[0], max(1e-9, now - self.started)
        rate = (self.updates - before) / max(1e-9, now - since)
        last = list(self.recent)
        total = sum(e.total_return for e in last) / max(1, len(last))
        times = (self._robot_s + self.rig.seconds) / wall
        if self.run.task.name in ("reach", "push", "stack"):
            word = done_word(self.run)
            did = f"{word} {sum(e.ended in (word, 'success') for e in last)} of the last {len(last)}  return {total:z.0f}"
        else:
            speed = sum(e.speed for e in last) / max(1, len(last))
            did = f"{speed:z.2f} m/s  return {total:z.0f}  falls {self.falls}  stuck {self.stuck}"
        return f"{did}  {rate:.0f} updates/s  {times:.1f}x real time"

    def save_timing(self) -> None:
        """timing.npz: wall time of every control cycle, and how long the actor waited for the learner."""
        np.savez(self.directory / "timing.npz", step_us=np.asarray(self.steps_us), waited_s=self.waited)

    def close(self) -> None:
        self.learner.close()
        if self.schooling is not None:
            self.schooling.close()
        self.metrics.close()
        if self.metrics.lost:
            lost = f"{self.metrics.lost} lines of metrics.jsonl are lost: the disk did not take them; free space"
            self.console.print(lost, markup=False, soft_wrap=True)
        self.supervision.close()
        self.replay.close()
        self._log.close()
        self.rig.close()


def done_word(run: config.Run) -> str:
    """How an episode of an arm's task ends when all went well."""
    return {"push": "there", "stack": "stacked"}.get(run.task.name, "reached")


def _gone_back(directory: Path, sizes: tuple[int, int], kept: Checkpoint) -> Replay:
    """Replay, metrics and weights as they were when `kept` was made. ReplayError where the replay holds less."""
    replay = Replay.open(directory / "replay", write=True, sizes=sizes)
    replay.cut(kept.transitions)
    os.truncate(directory / "metrics.jsonl", kept.about["rehearsal"]["metrics_bytes"])
    for pattern in ("policy-*.safetensors", ".policy.safetensors.*"):  # published, and not taken before the end
        for path in (directory / "weights").glob(pattern):
            path.unlink()
    for path in (directory / classifier.FOLDER).glob("[0-9]*-[0-9]*"):
        if int(path.name.partition("-")[0]) > kept.transitions:
            shutil.rmtree(path)
    return replay
