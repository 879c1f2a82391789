"""The learned reward's node: it looks at each step that the replay has, gives its labels as a console does, and has it taught.

It reads what is durable, so a label comes some 50 ms after its step, and is about that step. Training is another process
(`robotrl/nodes/school.py`); while it works the version in hand goes on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy

from robotrl.agents.classifier import Classifier
from robotrl.asked import Asked
from robotrl.complaint import Complaint
from robotrl.labelled import LABELS, LabelFile
from robotrl.labels import Given
from robotrl.logformat import Kind
from robotrl.messages import Classified, Label
from robotrl.node import Node
from robotrl.nodes.outbox import Outbox
from robotrl.replay import Replay
from robotrl.rewards import classifier, lessons
from robotrl.rewards.classifier import Judge, Seen, Version

PERIOD_NS = 20_000_000
TELL_NS = 200_000_000
LIVES = 100  # episodes whose policy's life is remembered


class Assessor:
    """A judge over a replay that grows: what of it is new is looked at, and what was said of it is held against it."""

    def __init__(self, node: Node, replay: Replay) -> None:
        """ValueError for a replay without pictures."""
        self.node, self.replay, self.run = node, replay, node.run
        self.shape = classifier.image_shape(replay.cameras)
        self.judge = Judge(self.run)
        self.at = replay.count  # what an earlier life has seen
        self.lives: dict[int, int] = {}  # of the policy, by episode
        self._file, self.given = LabelFile(node.directory / LABELS), list[Given]()
        self.differ: list[str] = []
        self.take(classifier.usable(self.node.directory))

    def take(self, kept: tuple[Version, bytes] | None) -> None:
        """A version, where there is one."""
        if kept is not None:
            self.judge.take(kept[0], Classifier(safetensors.numpy.load(kept[1]), self.shape).probability)

    def new(self) -> list[Label]:
        """Labels of the steps that came since the last call."""
        found, columns = [], self.replay.columns
        for row in range(self.at, self.replay.count):
            episode = int(columns["episode"][row])
            over = bool(columns["terminated"][row] or columns["truncated"][row])
            seen = Seen(episode, int(columns["step"][row]), int(columns["tick"][row]), self.lives.get(episode, 0), over)
            label = self.judge.look(seen, lambda row=row: classifier.images_of(self.replay, np.array([row]))[0])  # type: ignore[misc]
            found += [] if label is None else [label]
            self.at = row + 1
        return found

    def hear(self) -> None:
        """What has been said by now: by whom it differs, and whether that is too much."""
        came, again = self._file.poll()
        if not came and not again:
            return
        self.given = [*([] if again else self.given), *came]
        if why := self.judge.hear(self.replay, self.given):
            self.node.say(f"version {self.judge.version and self.judge.version.number} is not used any more: {why}")
        known = lessons.outcomes(self.replay, self.replay.count, self.given, self.run.task.rate_hz)
        self.differ = lessons.disagreements(known)

    def report(self) -> Classified:
        judge = self.judge
        episode = int(self.replay.columns["episode"][self.replay.count - 1]) if self.replay.count else -1
        audit = judge.judges(episode) and lessons.audited(episode, self.run.classifier.audit)
        return Classified(
            version=judge.version.number if judge.version else 0, why=judge.why, probability=judge.probability, episode=episode,
            audit=audit, disagreements=len(self.differ), last=self.differ[-1] if self.differ else "",
        )  # fmt: skip


def serve(node: Node, assessor: Assessor, school: Asked) -> None:
    """Judge, and have it taught every `classifier.every` transitions, until told to stop. AskedError when the school ended."""
    giver = int.from_bytes(os.urandom(6), "big") | 1
    outbox: Outbox[Label] = Outbox(node.bus.publisher("label"), node.clock, Kind.LABEL, "console", giver)
    status, acks, episodes = node.bus.publisher("classifier"), node.bus.subscriber("ack"), node.bus.subscriber("episode")
    every, told = node.run.classifier.every, 0
    taught = assessor.replay.count // every
    for _ in node.every(PERIOD_NS):
        now = node.clock.now()
        if (episode := episodes.latest()) is not None:
            assessor.lives[episode.episode] = episode.boot
            if len(assessor.lives) > LIVES:
                del assessor.lives[next(iter(assessor.lives))]
        for label in assessor.new():
            outbox.keep(msgspec.structs.replace(label, giver=giver))
        if school.pending and school.ready():
            node.say(school.wait()["why"] or "a new version: its precision is shown, it gives rewards from the next episode on")
            assessor.take(classifier.newest(assessor.node.directory))
        elif not school.pending and assessor.replay.count // every > taught:
            taught = assessor.replay.count // every
            school.request({"count": assessor.replay.count})
        outbox.tend(acks.latest(), now)
        if now >= told + TELL_NS:
            told = now
            assessor.hear()
            status.send(assessor.report())
        node.beat(assessor.judge.why)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "classifier")
    school: Asked | None = None
    try:
        for _ in node.every(PERIOD_NS):
            node.beat("waiting for the replay")
            if (node.directory / "replay" / "header.json").is_file():
                school = Asked("robotrl.nodes.school", [str(node.directory)])
                serve(node, Assessor(node, Replay.open(node.directory / "replay")), school)
                break
    except (Complaint, ValueError) as error:
        return node.refuse(error)
    finally:
        if school is not None:
            school.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
