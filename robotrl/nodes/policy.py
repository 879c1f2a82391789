"""The policy's node: answer every servo cycle by the pilot (`robotrl/nodes/pilot.py`), and keep what the gate made of it on disk.

It never waits for the learner: new weights are taken when they are there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import safetensors

from robotrl import rundir
from robotrl.agents.actor import Actor, WeightsError
from robotrl.config import Run
from robotrl.messages import Episode, Joints
from robotrl.node import Node
from robotrl.nodes.pilot import Pilot
from robotrl.observe import History
from robotrl.replay import Replay, ReplayError
from robotrl.tasks.walk import ACTIONS, SENSORS


class Weights:
    """Takes new weights when the learner has put them there; a file that does not check out is refused and the old ones stay."""

    def __init__(self, path: Path) -> None:
        self.path, self._seen = path, (0, 0)
        self.refused = ""

    def poll(self) -> tuple[Actor, int] | None:
        """The newest actor and its version, when there is one not given before."""
        try:
            stat = self.path.stat()
            if (stat.st_mtime_ns, stat.st_ino) == self._seen:
                return None
            self._seen = (stat.st_mtime_ns, stat.st_ino)
            with safetensors.safe_open(self.path, "numpy") as file:
                version = int((file.metadata() or {}).get("version", -1))
            return Actor.load(self.path), version
        except FileNotFoundError:
            return None
        except (WeightsError, safetensors.SafetensorError, ValueError, OSError) as error:
            self.refused = f"weights refused, the old ones stay: {error}"
            return None


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "policy")
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
    replay = open_replay(node.directory, node.run)
    pilot = resumed(node.run, replay)
    weights = Weights(node.directory / "weights" / "policy.safetensors")
    streams = {t: node.bus.subscriber(t) for t in ("joints", "applied", "imu", "pose", "permit")}
    actions, episodes, ends = (node.bus.publisher(t) for t in ("action", "episode", "episode_end"))
    metrics = rundir.Metrics(node.directory)
    node.hurry(9)  # without locked memory: the replay's files are mapped into it, whole
    readings: dict[int, Joints] = {}
    try:
        while not node.stopping and not node.orphaned():
            node.bus.wait([streams["applied"]], 0.1)
            for pose in streams["pose"].drain():
                pilot.see(pose)
            arrived = streams["applied"].drain()
            readings |= {j.tick: j for j in streams["joints"].drain()}
            for applied in arrived:
                joints, imu = readings.pop(applied.tick, None), streams["imu"].latest()
                if joints is None or imu is None:
                    continue
                action = pilot.cycle(joints, applied, imu, streams["permit"].latest())
                if action is not None and applied is arrived[-1]:
                    actions.send(action)
                if pilot.just_ended:
                    ends.send(ended_report(pilot, node.clock.now()))
            if (found := weights.poll()) is not None:
                pilot.take(*found, node.clock.now())
            for done in pilot.finished:
                note_episode(metrics, done)
            pilot.finished.clear()
            episodes.send(pilot.report(node.clock.now()))
            readings = {t: j for t, j in readings.items() if not arrived or t > arrived[-1].tick - 50}
            node.beat(weights.refused)
    finally:
        metrics.write("policy", transitions=replay.count, dropped=pilot.dropped)
        replay.close()
        metrics.close()


def resumed(run: Run, replay: Replay) -> Pilot:
    """A pilot that goes on where the replay ends: steps and episodes are numbered on, and no random number is drawn twice."""
    pilot = Pilot(run, replay, run.seed + 7919 * replay.count)
    pilot.steps = replay.count
    if replay.count:
        pilot.episode = int(replay.columns["episode"][replay.count - 1])
    return pilot


def open_replay(directory: Path, run: Run) -> Replay:
    """The run's replay, made if it is not there yet: a policy that was started again goes on with it."""
    path = directory / "replay"
    if path.exists():
        return Replay.open(path, write=True)
    history = History(SENSORS, ACTIONS, run.task.history)
    return Replay.create(path, history.size, ACTIONS, run.agent.capacity)


def ended_report(pilot: Pilot, now: int) -> Episode:
    """The running report with the reason of the end: what the guard acts on. Sums follow when the last pose has come."""
    return msgspec.structs.replace(pilot.report(now), ended=pilot.just_ended)


def note_episode(metrics: rundir.Metrics, done: Episode) -> None:
    """An episode's line in metrics.jsonl."""
    metrics.write(
        "episode", episode=done.episode, steps=done.step, step_total=done.transitions, speed=done.speed,
        ended=done.ended, policy_version=done.policy_version, **{"return": done.total_return},
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
