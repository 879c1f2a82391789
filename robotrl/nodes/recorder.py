"""The recorder: what must not be lost into the run's log (`keeper.py`), everything else that is said into its sessions.

Nothing waits for it. Without it the policy keeps what is not acknowledged, and sends it again; a session loses what is not heard.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from robotrl.bus import Subscriber
from robotrl.complaint import Complaint
from robotrl.config import to_dict
from robotrl.log import SEGMENT, allocate
from robotrl.node import Node
from robotrl.nodes.keeper import Keeper
from robotrl.replayfiles import NoRoom
from robotrl.rundir import FULL
from robotrl.session import Sessions
from robotrl.topics import CAMERAS, TOPICS

PERIOD_NS = 50_000_000  # of what nobody waits for
POLL_S = 0.01
TEND_NS = 1_000_000_000  # a chunk's length
WEIGHTS_NS = 10_000_000_000  # between two versions of the policy's weights that are kept: each has 400 kB
ROOM = 3 * SEGMENT  # bytes, to begin again: the log's last segment anew, the next one's room, rows of the replay
MOST_ROOM = 512 << 20  # bytes: the largest frames claim half of it at a time
LOOK_NS = 500_000_000  # between two looks whether there is so much
LINGER_NS = 2_000_000_000  # after the manager's death: the others are still bringing the robot to rest


class Recorder:
    """Every recorded topic, whole, into the sessions."""

    def __init__(self, node: Node) -> None:
        self.node = node
        # First: the others begin meanwhile, and what their drivers did at the handshake is told once.
        self.heard: list[Subscriber] = [
            node.bus.subscriber(t, whole=True, sources=CAMERAS[: len(node.run.robot.cameras)] if e.sources == CAMERAS else None)
            for t, e in TOPICS.items()
            if e.recorded
        ]
        try:
            self.keeper = Keeper(node)
        except Complaint:
            for subscriber in self.heard:
                subscriber.close()
            raise
        about = {"run": node.directory.resolve().name, "config": json.dumps(to_dict(node.run))}
        self.sessions = Sessions(node.directory / "sessions", about)
        self.sessions.tend()  # a file for what has been heard already
        self._said = ""
        self._lost = 0
        self._due = self._tend = self._weights = 0

    def wait(self) -> None:
        """Return when something that must be acknowledged has come, or soon."""
        self.node.bus.wait(self.keeper.streams, POLL_S)

    def cycle(self) -> None:
        """Keep and acknowledge; now and then, write what has arrived besides."""
        self.keeper.cycle()
        self.node.beat(self.keeper.trouble)
        if (now := self.node.clock.now()) >= self._due:
            self._due = now + PERIOD_NS
            self.write()

    def write(self) -> None:
        """What has arrived, written; once a second the chunk is ended, and said what is wrong."""
        for subscriber in self.heard:
            for message in subscriber.drain():
                self.sessions.write(subscriber.topic, message)
                self.keeper.note(subscriber.topic, message)
        now = self.node.clock.now()
        if now >= self._tend:
            self._tend = now + TEND_NS
            self.sessions.tend()
            self._keep_weights(now)
            self._tell()

    def _keep_weights(self, now: int) -> None:
        """The policy's newest weights, now and then: with them its commands can be given again."""
        path = self.node.directory / "weights" / "policy.safetensors"
        if now < self._weights:
            return
        try:
            data = path.read_bytes()
        except OSError:
            return
        self._weights = now + WEIGHTS_NS
        self.sessions.attach("policy.safetensors", now, data)

    def _tell(self) -> None:
        if self.sessions.trouble != self._said:
            self._said = self.sessions.trouble
            self.node.say(self._said or "there is room again, recording goes on")
        lost = sum(s.lost for s in self.heard)
        if lost > self._lost:
            self.node.say(f"{lost - self._lost} messages were too many to be recorded")
        self._lost = lost

    def close(self) -> None:
        self.write()
        self.sessions.close()
        self.keeper.close()


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "recorder")
    try:
        recorder = await_room(node) if "--restarted" in argv else Recorder(node)
    except (Complaint, OSError) as error:
        return node.refuse(error)
    try:
        if recorder is not None:
            serve(node, recorder)
            recorder.close()
    except Complaint as error:
        node.say(error)
        return 3
    finally:
        node.close()
    return 0


def await_room(node: Node) -> Recorder | None:
    """The recorder of a run that lives, once there is room for it to begin again; None when told to end before.

    One that is refused again and again ends the run, one that says what it waits for holds the robot.
    """
    said, room = "", ROOM
    for _ in node.every(LOOK_NS):
        if not (why := lacking(node.directory, room)):
            try:
                return Recorder(node)
            except NoRoom as error:  # frames are large: more of them wait in the log than there was room for
                why, room = str(error), min(2 * room, MOST_ROOM)  # each try in vain is a segment of the log, and memory
        if why != said:
            node.say(why)
        said = why
        node.beat(why)
    return None


def lacking(directory: Path, room: int = ROOM) -> str:
    """Why a recorder cannot begin on this disk now; "" when it has the room. Asked of it itself: a quota is no figure of it."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            allocate(file.fileno(), room)
    except OSError as error:
        if error.errno in FULL:
            return f"{directory}: disk full: nothing more is kept; free {room >> 20} MB"
    return ""


def serve(node: Node, recorder: Recorder) -> None:
    """Until told to end; without a manager a while longer."""
    while not node.over():
        recorder.wait()
        recorder.cycle()
    until = node.clock.now() + LINGER_NS
    while node.orphaned() and node.clock.now() < until:
        recorder.wait()
        recorder.cycle()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
