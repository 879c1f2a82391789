"""The policy's node: answer every servo cycle by the pilot (`robotrl/nodes/pilot.py`); the recorder keeps what came of it.

It never waits for the learner: new weights are taken when they are there, and only when they check out.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from robotrl import rundir, transitions
from robotrl.agents.actor import UNREADABLE, Actor
from robotrl.agents.weights import WeightsError, metadata
from robotrl.bus import Publisher, Subscriber
from robotrl.config import Run
from robotrl.labels import VERDICTS
from robotrl.logformat import Kind
from robotrl.messages import Action, Applied, Episode, Imu, Joints, Permit, Pose, Teleop, Thought, Transition
from robotrl.node import Node
from robotrl.nodes.estate import Estate, left
from robotrl.nodes.gaze import Gaze
from robotrl.nodes.outbox import Outbox
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.readiness import Readiness
from robotrl.nodes.reset import LEVEL
from robotrl.replay import Replay, ReplayError

JOIN_NS = 20_000_000  # between two looks at whether the recorder is there
FRESH_NS = 1_000_000_000  # an acknowledgement that old is of a recorder that hangs
INHERIT_NS = 10_000_000_000  # for a recorder that is there to take more of what an earlier life has left
SETTLE_NS = 2_000_000_000  # at the end, for the last acknowledgements
ENDS = (*VERDICTS, "end")  # labels that end an episode
LARGEST = (1 << 63) - 1  # a number that a message and a column of the replay can hold


class Weights:
    """The newest weights that the learner has put there, checked before anybody acts with them.

    A file that is torn, no actor's, of other sizes, without a version newer than the last, or that answers what the robot has
    seen with no number is refused: said once, and the old weights stay.
    """

    def __init__(self, path: Path, observation_size: int, action_size: int, say: Callable[[str], None]) -> None:
        self.path, self.sizes, self.say = path, (observation_size, action_size), say
        self.version = -1
        self._published: int | None = None  # as their file says
        self.refused = ""  # why the file now there is not acted with
        self._stamp = (0, 0)

    def poll(self, seen: Iterable[NDArray[np.float32]], gaze: Gaze | None = None) -> tuple[Actor, int] | None:
        """The newest actor and its version, when there is one not looked at before; it has answered the observations `seen`, by
        what `gaze` sees now where it has cameras.

        Reads some 400 kB from the page cache and multiplies a few vectors: under a millisecond, after the cycle's answer.
        """
        try:
            if _stamp(self.path.stat()) == self._stamp:
                return None
            with open(self.path, "rb") as file:  # opened once: a newer file may take its name meanwhile
                self._stamp = _stamp(os.fstat(file.fileno()))
                data = file.read()
            actor, version, published = self._checked(data, seen, gaze)
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            refused = f"weights refused, the old ones stay: {self.path}: {error}"
            if refused != self.refused:
                self.refused = refused
                self.say(refused)
            return None
        self.version, self._published, self.refused = version, published, ""
        return actor, version

    def published(self, now: int) -> int:
        """When the learner wrote them (monotonic, ns): of one that died their age grows, whoever takes them up again.

        `now` where the file does not say, or says a time to come: then it was written before this machine was last booted.
        """
        return now if self._published is None else min(now, self._published)

    def _checked(self, data: bytes, seen: Iterable[NDArray[np.float32]], gaze: Gaze | None) -> tuple[Actor, int, int | None]:
        try:
            actor, about = Actor(safetensors.numpy.load(data)), metadata(data)
            version, published, _ = int(about["version"]), int(about.get("published_ns", -1)), about["crc32"]
        except KeyError as missing:
            raise WeightsError(f"no weights of the learner's: {missing}; publish them again") from None
        if max(version, published) > LARGEST:
            raise WeightsError(f"no weights of the learner's: version {version}, published {published}; publish them again")
        if version <= self.version:
            raise WeightsError(f"no newer than version {self.version}, which is acted with; publish them again")
        if (sizes := (actor.observation_size, actor.action_size)) != self.sizes:
            raise WeightsError(f"made for (observation, action) {sizes}, not {self.sizes}; use this run's own weights")
        if not _answers(actor, seen, gaze):
            raise WeightsError("their action on what the robot has just seen is no number; go back to a good checkpoint")
        return actor, version, None if published < 0 else published


def _answers(actor: Actor, seen: Iterable[NDArray[np.float32]], gaze: Gaze | None) -> bool:
    """True when mean and spread are numbers for every finite observation: finite weights may overflow, and tanh hides it."""
    image = gaze.picture(actor) if gaze is not None else ()
    with np.errstate(all="ignore"):
        return all(np.isfinite(actor.head(o, *image)).all() for o in seen if np.isfinite(o).all())


def _stamp(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_mtime_ns, stat.st_ino


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "policy")
    if unseen := [name for name in node.run.task.pixels.cameras if name not in node.run.robot.cameras]:
        return node.refuse(f"task.pixels.cameras: {', '.join(unseen)}: no [cameras.NAME] of {node.run.robot.name}'s robot file")
    try:
        serve(node)
    except ReplayError as error:
        node.say(error)
        return 3
    finally:
        node.close()
    return 0


def serve(node: Node) -> None:
    """Answer every servo cycle, and keep what the gate made of the answers, until told to stop."""
    acks = node.bus.subscriber("ack")
    publisher = node.bus.publisher("transition")
    inherit(node, publisher, acks)
    replay = joined(node, acks)
    if replay is None:
        return
    estate = Estate(node.bus.directory, node.bus.boot, node.say)
    outbox: Outbox[Transition] = Outbox(publisher, node.clock, Kind.TRANSITION, node.source, node.bus.boot, estate)
    pilot = resumed(node.run, replay, partial(hand_over, outbox, replay))
    shut = gazing(node, pilot)
    weights = Weights(node.directory / "weights" / "policy.safetensors", replay.observation_size, replay.action_size, node.say)
    level = None if "imu" in node.run.robot.senses else LEVEL
    streams = {t: node.bus.subscriber(t) for t in ("joints", "applied", "imu", "pose", "permit", "teleop")}
    labels, drives = node.bus.subscriber("label"), node.bus.subscriber("drive", whole=True)
    actions, episodes, ends, thoughts = (node.bus.publisher(t) for t in ("action", "episode", "episode_end", "thought"))
    metrics = rundir.Metrics(node.directory)
    node.hurry(9)  # without locked memory: the replay's files are mapped into it, whole
    readings: dict[int, Joints] = {}
    readiness = Readiness(node, pilot, streams["applied"])
    try:
        while not node.stopping and not node.orphaned():
            readiness.wait()
            for pose in streams["pose"].drain():
                pilot.see(pose)
            for drive in drives.drain():
                pilot.hear(drive)
            for label in labels.drain():
                if label.kind in ENDS and label.life == node.bus.boot:
                    pilot.conclude(label.episode, label.kind)
            arrived = streams["applied"].drain()
            readings |= {j.tick: j for j in streams["joints"].drain()}
            for applied in arrived:
                joints, imu = readings.pop(applied.tick, None), streams["imu"].latest() or level
                if joints is None or imu is None:
                    continue
                permit, before, told, hand = streams["permit"].latest(), pilot.steps, pilot.told, streams["teleop"].latest()
                action = pilot.cycle(joints, applied, imu, permit, hand)
                if action is not None and applied is arrived[-1]:
                    actions.send(action)
                thoughts.send(thought(pilot, joints, applied, imu, streams["pose"].latest(), permit, before, action, told, hand))
                if pilot.just_ended:
                    ends.send(ended_report(pilot, node.clock.now()))
            if (found := weights.poll(pilot.seen, pilot.gaze)) is not None:
                pilot.take(*found, weights.published(node.clock.now()))
            for done in pilot.finished:
                note_episode(metrics, done)
            pilot.finished.clear()
            episodes.send(pilot.report(node.clock.now()))
            readings = {t: j for t, j in readings.items() if not arrived or t > arrived[-1].tick - 50}
            outbox.tend(acks.latest(), node.clock.now())
            node.beat(weights.refused)
        settle(node, outbox, acks)
    finally:
        estate.close()
        shut()
        metrics.write("policy", transitions=replay.count + outbox.unacked, dropped=pilot.dropped + outbox.lost)
        replay.close()
        metrics.close()
        if metrics.lost:
            node.say(f"{metrics.lost} lines of metrics.jsonl are lost: the disk did not take them; free space")


def gazing(node: Node, pilot: Pilot) -> Callable[[], None]:
    """Give the pilot its eyes, where it has cameras; what shuts them."""
    if not pilot.gaze.cameras:
        return lambda: None
    from robotrl.nodes.ringgaze import RingGaze  # late: it imports OpenCV, which no other policy needs

    sees = RingGaze(node.bus, node.run, node.clock)
    pilot.gaze.eyes = sees.look
    return sees.close


def inherit(node: Node, publisher: Publisher, acks: Subscriber) -> None:
    """Send what an earlier life of ours was killed with, as that life's, until the recorder has it; before we go on after it."""
    for life, messages, path in left(node.bus.directory, node.bus.boot):
        outbox: Outbox[Transition] = Outbox(publisher, node.clock, Kind.TRANSITION, node.source, life)
        if messages:
            outbox.take_over([msgspec.structs.replace(made, life=life) for made in messages])
        left_over, moved = outbox.unacked, node.clock.now()
        while outbox.unacked and not node.over():
            node.bus.wait([acks], 0.02)
            ack = acks.latest()
            outbox.tend(ack, now := node.clock.now())
            speaks = ack is not None and not ack.trouble and now - ack.t < FRESH_NS
            if not speaks or outbox.unacked < left_over:
                left_over, moved = outbox.unacked, now
            elif now > moved + INHERIT_NS:
                break
        if outbox.unacked and not node.over():
            node.say(f"{outbox.unacked} transitions of an earlier life are not taken by the recorder; see logs/recorder.log")
        if not node.over():
            path.unlink()


def joined(node: Node, acks: Subscriber) -> Replay | None:
    """The replay, to read, once the recorder has in it all that an earlier life of ours has sent; None when told to end first."""
    began = node.clock.now()
    for _ in node.every(JOIN_NS):
        ack = acks.latest()
        if ack is not None and ack.t >= began:
            replay = Replay.open(node.directory / "replay")
            if replay.count >= ack.transitions:
                return replay
            replay.close()
    return None


def hand_over(outbox: Outbox[Transition], replay: Replay, made: Transition) -> None:
    """Into the outbox; ReplayError, for the pilot is not right, where nobody could learn from it."""
    if why := transitions.fits(replay, made):
        raise ReplayError(f"transition of episode {made.episode} step {made.step}: {why}; not kept")
    outbox.keep(made)


def settle(node: Node, outbox: Outbox[Transition], acks: Subscriber) -> None:
    """Wait for the last acknowledgements, a while: nobody acts any more."""
    until = node.clock.now() + SETTLE_NS
    while outbox.unacked and node.clock.now() < until:
        node.bus.wait([acks], 0.02)
        outbox.tend(acks.latest(), node.clock.now())
    if outbox.unacked:
        node.say(f"{outbox.unacked} transitions were not acknowledged by the recorder, and are lost; see logs/recorder.log")


def resumed(run: Run, replay: Replay, keep: Callable[[Transition], object] | None = None) -> Pilot:
    """A pilot that goes on where the replay ends; no random number is drawn twice. What its task draws for an episode is the
    episode's, whichever life plays it: the twin's person and `play` know it too."""
    return Pilot(run, replay, run.seed + 7919 * replay.count, keep=keep, draws=run.seed)


def thought(
    pilot: Pilot, joints: Joints, applied: Applied, imu: Imu, pose: Pose | None, permit: Permit | None, steps: int,
    action: Action | None, told: str = "", hand: Teleop | None = None,
) -> Thought:  # fmt: skip
    """What was done with a cycle, and with what. `steps`: transitions begun before it."""
    note = Thought(
        tick=joints.tick, joints_t=joints.t, applied_t=applied.t, imu_t=imu.t, pose_t=pose.t if pose else -1,
        imu=(imu.boot, imu.seq), pose=(pose.boot, pose.seq) if pose else (0, -1),
        permit=(permit.boot, permit.seq) if permit else (0, -1), episode=pilot.episode,
        step=pilot.tally.steps if pilot.tally else 0, steps=steps, policy_version=pilot.version,
        weights_t=pilot.version_t if pilot.version >= 0 else -1, told=told, hand=(hand.boot, hand.seq) if hand else (0, -1),
        blind=pilot.gaze.blind, images_t=pilot.gaze.now.taken,
    )  # fmt: skip
    if action is None:
        return note
    return msgspec.structs.replace(
        note, acted=True, noise=tuple(pilot.drawn.tolist()), observation=pilot.seen[-1].astype("<f4", copy=False).tobytes()
    )


def ended_report(pilot: Pilot, now: int) -> Episode:
    """The running report with the reason of the end: what the guard acts on. Sums follow when the last pose has come."""
    return msgspec.structs.replace(pilot.report(now), ended=pilot.just_ended)


def note_episode(metrics: rundir.Metrics, done: Episode) -> None:
    """An episode's line in metrics.jsonl; the policy's age is null before its first weights."""
    age = done.policy_age_s if math.isfinite(done.policy_age_s) else None
    metrics.write(
        "episode", episode=done.episode, steps=done.step, step_total=done.transitions, speed=done.speed,
        ended=done.ended, policy_version=done.policy_version, policy_age_s=age, **{"return": done.total_return},
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
