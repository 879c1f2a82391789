"""The pilot, a policy's thinking: observe, act, and turn what the gate applied into transitions.

Driven by the policy's node on the wall clock and by the rehearsal in lockstep. Of the world it knows a replay, or none: no bus,
no port, no wall time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np

from robotrl import transitions
from robotrl.agents.actor import Actor
from robotrl.agents.noise import ColoredNoise, uniform
from robotrl.config import Run
from robotrl.messages import PERSON, Action, Applied, Drive, Episode, Imu, Joints, Permit, Pose, Teleop, Transition
from robotrl.nodes.gaze import Gaze
from robotrl.nodes.grip import Grip
from robotrl.nodes.steps import Pending, Tally
from robotrl.observe import History
from robotrl.replay import Replay
from robotrl.rewards.keyboard import rewarded
from robotrl.safety.gate import PERMIT_VALID_NS
from robotrl.tasks.task import Led, cameras, task_of

ACTION_VALID_NS = 50_000_000  # 1.5 action periods + 1 driver period (safety facts, row 23)
SEEN = 4  # observations kept, which new weights must answer before they are acted with
BLIND = "blind"  # how an episode ends whose cameras show nothing that is young enough
LATE = 256  # cycles whose lateness is remembered: more than a reward may stay away
NOISE_STEPS = 500  # of exploration noise made at a time: the slowest wave takes 10 s


class Pilot:
    """Acts while the guard's lease says policy. One call a servo cycle; pure of bus, port and wall time."""

    def __init__(
        self, run: Run, replay: Replay | None, seed: int, deterministic: bool = False,
        keep: Callable[[Transition], object] | None = None, draws: int | None = None,
    ) -> None:  # fmt: skip
        """`keep` takes each transition that is complete; without it the replay does. Nobody does where there is none. `draws`:
        the seed of what a task draws for an episode, where it is not that of the noise."""
        self.run, self.replay, self.deterministic = run, replay, deterministic
        self._keep = keep if keep is not None or replay is None else partial(transitions.add, replay)
        self.task = rewarded(run, task_of(run, seed if draws is None else draws))
        self.history, self.gaze = History(self.task.sensors, self.task.actions, run.task.history), Gaze(cameras(run))
        self.noise = ColoredNoise(np.random.default_rng(seed), self.task.actions, run.agent.noise_beta, NOISE_STEPS)
        self.actor: Actor | None = None
        self.version, self.version_t = -1, 0
        self.pending: deque[Pending] = deque()
        self.finished: list[Episode] = []  # for the caller to take
        self.just_ended = ""  # why the episode ended in the last cycle, "" when it did not; "stopped" is the guard's own doing
        self.told = ""  # by which key the operator ends the episode with its next step
        self.tally: Tally | None = None
        self._ended: Tally | None = None  # of the episode that ended last
        self._tallies: dict[int, Tally] = {}
        begun = replay is not None and replay.count > 0  # steps and episodes are numbered on where the replay ends
        self.episode = int(replay.columns["episode"][replay.count - 1]) if replay is not None and begun else -1
        self.epoch = -1
        self.steps = replay.count if replay is not None else 0  # transitions begun, ever
        self.dropped = 0  # transitions that could not be completed, ever
        self._tick = -1
        self.set_up = self.task.set_up(self.episode + 1)  # of the episode that runs, or else of the next
        self._input = np.zeros(self.history.size, np.float32)
        self.seen = deque([self._input], SEEN)  # what was acted on last; each its own array
        self.drawn: np.ndarray = np.zeros(0, np.float32)  # of noise, for the last action; empty: it was acted without
        self._sent = np.zeros((3, self.task.actions), np.float32)  # never written to: transitions keep it
        self._seq = 0
        self._grip = Grip()
        self._led = False  # the command in force is a person's
        self._pose_t = 0
        self._late: dict[int, float] = {}  # us, by tick

    def take(self, actor: Actor, version: int, published: int) -> None:
        """Act with these weights, written at `published` (ns), from the next cycle on."""
        self.actor, self.version, self.version_t = actor, version, published

    @property
    def idle(self) -> bool:
        """Between two episodes, every transition of the last one complete and its sums taken."""
        return self.tally is None and not self.pending and not self._tallies and not self.finished

    def warm(self) -> None:
        """Act once for nobody, while an answer is expected: its code and weights are then in the caches."""
        if self.actor is not None and self.tally is not None:
            self.actor.act(self._input, None, *self.gaze.picture(self.actor))

    def see(self, pose: Pose) -> None:
        """A pose from the tracker."""
        self._pose_t = pose.t
        self.task.see(pose)

    def hear(self, drive: Drive) -> None:
        """How late the driver began a cycle: it is kept with the transition that ended in it."""
        self._late.pop(drive.tick, None)  # of an earlier driver
        self._late[drive.tick] = drive.late_us
        if len(self._late) > LATE:
            del self._late[next(iter(self._late))]

    def conclude(self, episode: int, why: str) -> None:
        """The operator says that this episode is over: it is truncated with its next step. Of another one he says nothing."""
        if self.tally is not None and self.tally.episode == episode:
            self.told = why

    def cycle(
        self, joints: Joints, applied: Applied, imu: Imu, permit: Permit | None, hand: Teleop | None = None
    ) -> Action | None:
        """Answer one servo cycle: settle rewards, move the episode on, and ask for an action if it is our turn.

        `hand`: a person's newest word. While he leads, the action is his; when his hand is gone there is none (grip.py).
        """
        self.just_ended = ""
        self._settle(joints.t)
        ours = permit is not None and permit.state == "RUN" and permit.holder == "policy"
        # A guard that is dead says nothing new, and a gate that is shut lets the robot sink: neither is the policy's doing.
        if not ours or permit is None or joints.t - permit.t > PERMIT_VALID_NS or applied.writer == "off":
            self._end("stopped")
            return None
        if permit.epoch != self.epoch:
            self._end("stopped")
            if not self._begin(joints, applied, imu, permit.epoch):
                return None
        elif self.tally is None:
            return None  # this episode is over; the guard has not taken the lease back yet
        elif not self._advance(joints, applied, imu):
            return None
        led = self._grip.look(hand, joints.t, permit.epoch)
        if self._grip.gone:
            return None
        return self._act(joints, permit.epoch, hand if led else None)

    def _begin(self, joints: Joints, applied: Applied, imu: Imu, epoch: int) -> bool:
        """A new episode; false while nothing is seen that it could begin on."""
        self.gaze.look()
        if self.gaze.blind:
            return False
        self.dropped += len(self.pending)  # poses never came: their direction is about to change
        self.pending.clear()
        self._close_tallies()
        self.epoch, self.episode, self.told, self._led = epoch, self.episode + 1, "", False
        self.task.begin(self.episode)
        self.noise.reset()
        sent = self.task.applied(applied.target)
        self._sent = np.tile(sent, (3, 1))
        self._input = self.history.reset(self.task.observation(joints, imu), sent)
        self.tally = self._tallies[self.episode] = Tally(self.episode, joints.t)
        self._tick = joints.tick
        return True

    def _advance(self, joints: Joints, applied: Applied, imu: Imu) -> bool:
        """One step of the episode; false when it has ended with it."""
        assert self.tally is not None
        sent = self.task.applied(applied.target)
        action = self.task.action(sent, self._sent[0])
        self._sent = np.concatenate((sent[None], self._sent[:-1]))
        new, frames = self.history.push(self.task.observation(joints, imu), sent), self.gaze.look()
        if self.gaze.blind:  # of this step there is no picture: it is none, and the one before was the last
            self.dropped += 1
            self.just_ended = BLIND
            self._end(BLIND)
            return False
        if joints.tick != self._tick + 1:
            self.dropped += max(0, joints.tick - self._tick - 1)
            self._tick, self._input = joints.tick, new
            return True
        self._tick = joints.tick
        if applied.action_seq >= 0:  # a cycle in which the gate held its own goal is part of what it interrupts
            self._led = applied.policy_version == PERSON
        self.tally.steps += 1
        self.tally.tick = joints.tick
        self.steps += 1
        ended = self.task.ended(joints, imu)
        why = "" if ended else self.told or self.task.cut(joints.t, self.tally.t_begin, self.tally.steps)
        self.pending.append(
            Pending(
                self._input, action, new, self._sent, self.task.cost(joints, imu),
                joints.t, joints.tick, self.tally.steps - 1, self.episode,
                PERSON if self._led else self.version, bool(ended), bool(why), imu.t, self._pose_t, applied.t, frames,
            )
        )  # fmt: skip
        self._input = new
        if ended or why:
            self.just_ended = ended or why
            self._end(self.just_ended)
            return False
        return True

    def _act(self, joints: Joints, epoch: int, hand: Teleop | None) -> Action:
        self.seen.append(self._input)
        self._seq += 1
        a, version = self._chosen() if hand is None else self._given(hand), self.version if hand is None else PERSON
        return Action(
            source="policy", seq=self._seq, t=joints.t, valid_ns=ACTION_VALID_NS, epoch=epoch, tick=joints.tick,
            target=self.task.target(a, self._sent[0]), episode=self.episode, step=self.tally.steps if self.tally else 0,
            policy_version=version,
        )  # fmt: skip

    def _given(self, hand: Teleop) -> np.ndarray:
        """What a person asks for, as an action: no more than the policy could do, from where the target is."""
        self.drawn = self.drawn[:0]
        return cast(Led, self.task).led(hand.twist, hand.angles, self._sent[0])

    def _chosen(self) -> np.ndarray:
        # Uniform actions first; after a restart with weights at hand there is no going back to them.
        explored = self.steps >= self.run.agent.random_steps and self.actor is not None
        known = self.actor is not None and (explored or self.deterministic)
        self.drawn = self.noise.draw() if not (known and self.deterministic) else self.drawn[:0]
        if self.actor is None or not known:
            return uniform(self.drawn)
        return self.actor.act(self._input, self.drawn if len(self.drawn) else None, *self.gaze.picture(self.actor))

    def _end(self, reason: str) -> None:
        if self.tally is None:
            return
        tally, self.tally = self.tally, None
        self._ended = tally
        self.set_up = self.task.set_up(self.episode + 1)
        tally.t_end, tally.ended = (self.pending[-1].t if self.pending else tally.t_begin), reason
        if reason in ("stopped", BLIND) and self.pending and self.pending[-1].episode == tally.episode:
            self.pending[-1] = replace(self.pending[-1], truncated=True)

    def _settle(self, now: int) -> None:
        """Complete the transitions whose rewards are known by now; give up on those whose stay away."""
        while self.pending:
            head = self.pending[0]
            newest = len(self.pending) == 1 and self.tally is not None
            late = now - head.t >= self.task.patience_s * 1e9
            if newest and not late:
                return  # it stays: should the guard stop us now, it is the one that is truncated
            reward = self.task.reward_of(head.t, head.sent, head.cost, head.terminated)
            if (reward is None and not late) or (reward is not None and newest):
                return
            self.pending.popleft()
            if reward is None:
                self.dropped += 1
            else:
                self._complete(head, reward)
        if self.tally is None:
            self._close_tallies()

    def _complete(self, p: Pending, reward: float) -> None:
        tally = self._tallies[p.episode]
        tally.settled += 1
        tally.total += reward
        if self._keep is not None:
            made = transitions.make(
                p.observation, p.action, reward, p.next_observation, terminated=p.terminated, truncated=p.truncated,
                episode=p.episode, step=p.step, tick=p.tick, policy_version=p.version, joints_t=p.t, imu_t=p.imu_t,
                pose_t=p.pose_t, applied_t=p.applied_t, late_us=self._late.get(p.tick, -1.0),
            )  # fmt: skip
            self._keep(self.gaze.framed(made, p.frames))

    def _close_tallies(self) -> None:
        for tally in self._tallies.values():
            tally.speed = self.task.speed(tally.t_begin, tally.t_end)
            self.finished.append(self._report(tally, tally.t_end))
        self._tallies.clear()

    def report(self, now: int) -> Episode:
        """How the running episode stands; after its end how it ended, as far as its rewards are known."""
        tally = self.tally or self._ended or Tally(self.episode, now)
        if self.tally is not None:
            tally.speed = self.task.speed(tally.t_begin, now)
        return self._report(tally, now)

    def _report(self, tally: Tally, now: int) -> Episode:
        return Episode(
            episode=tally.episode, step=tally.steps, total_steps=self.steps, total_return=tally.total,
            speed=tally.speed, policy_version=self.version,
            policy_age_s=max(0, now - self.version_t) * 1e-9 if self.version >= 0 else math.nan, ended=tally.ended,
            transitions=self.replay.count if self.replay is not None else 0, dropped=self.dropped, tick=tally.tick,
            set_up=self.set_up,
        )  # fmt: skip
