"""A session's messages in the order in which they were acted on, and the comparison of what comes of them with the record."""

from __future__ import annotations

import json
import math
from typing import Any

from robotrl import config
from robotrl.messages import Action, Applied, Exchange, Imu, Joints, Message, Pose, Thought
from robotrl.nodes.playback import Recorded, Score, Sensor, Servos
from robotrl.nodes.reset import LEVEL
from robotrl.nodes.rethink import Rethink, weights
from robotrl.session import Attached, Reading, SessionError
from robotrl.topics import TOPICS

LATER_NS = 2_000_000_000  # a message comes so much later than it was captured, at most: pictures and poses are
PLACE = {topic: i for i, topic in enumerate(TOPICS)}  # in which order the recorder writes what has come, round after round
KEEP_NS = 30_000_000_000  # and so much older what is forgotten: an action, a pose and an IMU's reading may be old


class Feed:
    """Reads sessions, and plays each message once all that belongs to it has been read. Memory: half a minute of messages."""

    def __init__(self) -> None:
        self.recorded = Recorded()
        self.run: config.Run | None = None
        self.cut: list[str] = []
        self.began = self.newest = 0
        self._pending: list[Message] = []
        self._played = self._pruned = 0
        self._place = self._ended = self._whole = 0

    def feed(self, reading: Reading) -> None:
        """One more file. SessionError when it does not say what run it is of."""
        if self.run is None:
            try:
                self.run = config.recorded(json.loads(reading.about["config"]), reading.path / "config")
            except (KeyError, ValueError, RecursionError) as error:
                why = f"{reading.path}: says no run's configuration ({error}); it cannot be played"
                raise SessionError(why) from None
            self.begin(self.run)
        for item in reading:
            if isinstance(item, Attached):
                self.attached(item, f"{reading.path}: {item.name}")
            else:
                self._take(*item)
        if reading.cut:
            self.cut.append(f"{reading.path}: {reading.cut}; played as far as it is whole")

    def begin(self, run: config.Run) -> None:
        """The run is known; nothing has been played."""

    def attached(self, file: Attached, where: str) -> None:
        """A file was found in the session."""

    def waits(self, topic: str, message: Message) -> bool:
        """Is this to be played, in its turn? What was given to whom is only kept."""
        return isinstance(message, Exchange | Thought)

    def play(self, message: Message) -> None:
        """Its turn has come."""

    def finish(self) -> None:
        """No more files."""
        self._play(self.newest + 1)

    def _take(self, topic: str, message: Message) -> None:
        self.began = self.began or message.t
        if PLACE[topic] < self._place:  # another round has begun, after one in which each topic was asked for what it had
            self._whole, self._ended = self._ended, self.newest
        self._place = PLACE[topic]
        self.newest = max(self.newest, message.t)
        if self.waits(topic, message):
            self._pending.append(message)
        if not isinstance(message, Exchange | Thought):
            self.recorded.keep(topic, message)
            if isinstance(message, Action) and message.source == "policy":
                self.recorded["action of", message.boot, message.tick] = message
        if self._whole - self._played > 2 * LATER_NS:  # a recorder that is held up writes a topic whole before the next
            self._play(self._whole - LATER_NS)

    def _play(self, until: int) -> None:
        """All that was captured before `until`, in that order."""
        self._played = until
        due = sorted((m for m in self._pending if m.t < until), key=lambda m: (m.t, isinstance(m, Thought)))
        self._pending = [m for m in self._pending if m.t >= until]
        for message in due:
            self.play(message)
        if until - self._pruned > KEEP_NS:
            self._pruned = until
            self.forget(until - KEEP_NS)

    def forget(self, before: int) -> None:
        """What was captured before this time is needed no more."""
        self.recorded.prune(before)


class Player(Feed):
    """Sessions in, a comparison out: the same bytes, the same observations, with the same weights the same commands?"""

    def __init__(self) -> None:
        super().__init__()
        self.imu = Score("imu", patience=math.inf)  # its filter remembers for as long as it likes
        self.pose = Score("poses")
        self.given: list[tuple[bytes, str]] = []  # weights, and where they are from, besides the sessions' own
        self._joints: dict[tuple[int, int], Joints] = {}
        self._applied: dict[tuple[int, int], Applied] = {}
        self._imu: dict[tuple[int, int], Imu] = {}

    def begin(self, run: config.Run) -> None:
        self.servos, self.rethink = Servos(run), Rethink(run)
        self._by_sight, self._has_imu = bool(run.robot.tracker.camera), "imu" in run.robot.senses
        self.sensors = {
            "imu": Sensor("imu", "imu", run.robot, self.imu),
            "tracker": Sensor("tracker", "pose", run.robot, self.pose),
        }
        for data, where in self.given:
            self._weights(data, where)

    def attached(self, file: Attached, where: str) -> None:
        self._weights(file.data, where)

    def _weights(self, data: bytes, where: str) -> None:
        version, actor = weights(data, where)
        self.rethink.actors[version] = actor

    def waits(self, topic: str, message: Message) -> bool:
        """Poses by sight too: their pictures are not on tape, or not all of them, so they are given as they were recorded."""
        return super().waits(topic, message) or (isinstance(message, Pose) and self._by_sight)

    def play(self, message: Message) -> None:
        if isinstance(message, Thought):
            self._think(message)
        elif isinstance(message, Pose):
            self.rethink.see(message)
        elif isinstance(message, Exchange) and message.source == "servos":
            for joints, applied in self.servos.play(message, self.recorded):
                self._joints[joints.boot, joints.tick], self._applied[applied.boot, applied.tick] = joints, applied
        elif isinstance(message, Exchange) and message.source in self.sensors:
            for _, made in self.sensors[message.source].play(message, self.recorded):
                if isinstance(made, Imu):
                    self._imu[made.boot, made.seq] = made
                elif isinstance(made, Pose):
                    self.rethink.see(made)

    def _think(self, thought: Thought) -> None:
        """With what the tapes gave."""
        boot = next((boot for boot, tick in reversed(self._joints) if tick == thought.tick), -1)
        cycle = boot, thought.tick
        imu = self._imu.get(thought.imu) if self._has_imu else LEVEL
        self.rethink.think(thought, self._joints.get(cycle), self._applied.get(cycle), imu, self.recorded)

    def forget(self, before: int) -> None:
        super().forget(before)
        self._joints = {key: old for key, old in self._joints.items() if old.t >= before}
        self._applied = {key: old for key, old in self._applied.items() if old.t >= before}
        self._imu = {key: old for key, old in self._imu.items() if old.t >= before}

    def result(self) -> dict[str, Any]:
        """The comparison as plain data. `same`: something was compared, and nothing differed."""
        scores = [
            self.servos.joints, self.servos.applied, self.servos.written, self.imu, self.pose, self.rethink.observations,
            self.rethink.commands,
        ]  # fmt: skip
        rows = {s.name: {"equal": s.equal, "differ": s.differ, "unknown": s.unknown, "first": s.first} for s in scores}
        return {
            "seconds": (self.newest - self.began) * 1e-9, "rows": rows, "unweighted": self.rethink.unweighted, "cut": self.cut,
            "same": not any(s.differ for s in scores) and any(s.equal for s in scores),
        }  # fmt: skip
