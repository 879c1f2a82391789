"""The policy's thinking once more: the pilot, given what it was given (`messages.Thought`), must see and command the same."""

from __future__ import annotations

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from robotrl.agents.actor import UNREADABLE, Actor
from robotrl.agents.weights import WeightsError, metadata
from robotrl.config import Run
from robotrl.messages import Action, Applied, Imu, Joints, Permit, Pose, Teleop, Thought
from robotrl.nodes.gaze import Glance
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.playback import Recorded, Score, difference


def weights(data: bytes, where: str) -> tuple[int, Actor]:
    """The version and the actor in a file of the learner's. WeightsError names `where`."""
    try:
        return int(metadata(data)["version"]), Actor(safetensors.numpy.load(data))
    except UNREADABLE as error:
        raise WeightsError(f"{where}: no weights of the learner's: {' '.join(str(error).split())}; leave them out") from None


class Given:
    """Noise as it was drawn."""

    def __init__(self) -> None:
        self.row: NDArray[np.float32] = np.zeros(0, np.float32)

    def reset(self) -> None:
        """A new episode begins: nothing to forget."""

    def draw(self) -> NDArray[np.float32]:
        return self.row


class Rethink:
    """One policy's life after the other, thought by thought."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.actors: dict[int, Actor] = {}  # by version, as they are found
        self.observations, self.commands = Score("observations", told=True), Score("commands", told=True)
        self.unweighted = 0  # commands whose weights nobody has kept
        self._life = (0, 0)
        self._episode: int | None = None
        self._poses: list[Pose] = []
        self._pilot: Pilot | None = None
        self._known = False
        self._dark = Glance()

    def see(self, pose: Pose) -> None:
        """A pose as it came off the tracker's tape."""
        self._poses.append(pose)

    def think(
        self, thought: Thought, joints: Joints | None, applied: Applied | None, imu: Imu | None, recorded: Recorded
    ) -> None:
        """Play one thought; without what it was given it cannot be, and the next are not known either."""
        permit = recorded.get(("permit", *thought.permit))
        followed = self._life == (thought.boot, thought.seq - 1)
        self._life = (thought.boot, thought.seq)
        hand = recorded.get(("teleop", *thought.hand))
        lacks = (permit is None and thought.permit[1] >= 0) or (hand is None and thought.hand[1] >= 0)
        if joints is None or applied is None or imu is None or lacks:
            self._pilot = None
            return
        if not followed or self._pilot is None:
            self._begin()
        assert self._pilot is not None
        ours = isinstance(permit, Permit) and permit.state == "RUN" and permit.holder == "policy"
        self._known = self._known or not ours or self._episode not in (None, thought.episode)
        self._episode = thought.episode
        action = self._cycle(
            self._pilot, thought, joints, applied, imu, permit if isinstance(permit, Permit) else None,
            hand if isinstance(hand, Teleop) else None,
        )  # fmt: skip
        for score in (self.observations, self.commands):
            score.known = self._known
        self._compare(thought, action, recorded)

    def _begin(self) -> None:
        self._pilot = Pilot(self.run, None, 0, draws=self.run.seed)
        self._pilot.noise = Given()  # type: ignore[assignment]
        self._dark = self._pilot.gaze.now
        self._known, self._episode = False, None

    def _cycle(
        self, pilot: Pilot, thought: Thought, joints: Joints, applied: Applied, imu: Imu, permit: Permit | None,
        hand: Teleop | None,
    ) -> Action | None:  # fmt: skip
        seen = [pose for pose in self._poses if (pose.boot, pose.seq) == thought.pose]
        if seen:
            last = self._poses.index(seen[-1]) + 1
            for pose in self._poses[:last]:
                pilot.see(pose)
            del self._poses[:last]
        if permit is not None and permit.epoch != pilot.epoch:
            pilot.episode = thought.episode - 1
        pilot.steps, pilot.told = thought.steps, thought.told
        pilot.version, pilot.version_t = thought.policy_version, thought.weights_t
        pilot.gaze.eyes = lambda: None if thought.blind else self._dark
        # What the cameras saw is not on the tape: such a policy's commands cannot come again, its observations do.
        pilot.actor = self.actors.get(thought.policy_version) if not pilot.gaze.cameras else None
        # Where it acts and had not then, which is a difference and told as one, no noise had been drawn.
        pilot.noise.row = np.array(thought.noise or [0.0] * pilot.task.actions, np.float32)  # type: ignore[attr-defined]
        pilot.deterministic = pilot.actor is not None and not thought.noise
        action = pilot.cycle(joints, applied, imu, permit, hand)
        pilot.finished.clear()
        return action

    def _compare(self, thought: Thought, action: Action | None, recorded: Recorded) -> None:
        where = f"tick {thought.tick}, episode {thought.episode} step {thought.step}"
        if (action is not None) != thought.acted:
            self.commands.take(False, f"{where}: {'acts' if action else 'does not act'}, then it did otherwise")
            return
        if action is None or self._pilot is None:
            return
        was, now = np.frombuffer(thought.observation, "<f4"), self._pilot.seen[-1]
        same = was.tobytes() == now.astype("<f4").tobytes()
        self.observations.take(same, f"{where}: {_apart(was, now)}")
        command = recorded.get(("action of", thought.boot, thought.tick))
        if command is None:  # it came too late to be sent
            return
        if action.policy_version >= 0 and (self._pilot.gaze.cameras or action.policy_version not in self.actors):
            self.unweighted += 1
            return
        action = msgspec.structs.replace(action, boot=command.boot, seq=command.seq)
        why = difference(command, action)
        self.commands.take(not why, f"{where}: {why}")


def _apart(was: NDArray[np.float32], now: NDArray[np.float32]) -> str:
    if was.shape != now.shape:
        return f"has {now.size} values, had {was.size}"
    i = int(np.argmax(was.view(np.uint32) != now.astype(np.float32).view(np.uint32)))
    return f"value {i} was {was[i]!r}, is {now[i]!r}"
