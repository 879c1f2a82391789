"""The recorder: writes everything that is said on the recorded topics into the run's sessions (`robotrl/session.py`).

Nothing waits for it, and no trouble of the disk's ends it: who is not heard loses his record and nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from robotrl.bus import Subscriber
from robotrl.config import to_dict
from robotrl.node import Node
from robotrl.session import Sessions
from robotrl.topics import TOPICS

PERIOD_NS = 50_000_000
TEND_NS = 1_000_000_000  # a chunk's length
WEIGHTS_NS = 10_000_000_000  # between two versions of the policy's weights that are kept: each has 400 kB
LINGER_NS = 2_000_000_000  # after the manager's death: the others are still bringing the robot to rest


class Recorder:
    """Every recorded topic, whole, into the sessions."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.heard: list[Subscriber] = [node.bus.subscriber(t, whole=True) for t, e in TOPICS.items() if e.recorded]
        about = {"run": node.directory.resolve().name, "config": json.dumps(to_dict(node.run))}
        self.sessions = Sessions(node.directory / "sessions", about)
        self._said = ""
        self._lost = 0
        self._tend = self._weights = 0

    def cycle(self) -> None:
        """What has arrived, written; once a second the chunk is ended, and said what is wrong."""
        for subscriber in self.heard:
            for message in subscriber.drain():
                self.sessions.write(subscriber.topic, message)
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
        self.cycle()
        self.sessions.close()


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "recorder")
    recorder = Recorder(node)
    for _ in node.every(PERIOD_NS):
        recorder.cycle()
    if node.orphaned():
        until = node.clock.now() + LINGER_NS
        for _ in node.every(PERIOD_NS, lambda: node.clock.now() > until):
            recorder.cycle()
    recorder.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
