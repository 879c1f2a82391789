"""The scripted operator of a run on the twin, as one who also rewards: good, bad, held down, taken back, as a person would.

`overheard.py` has the manager start it in the place of `robotrl/sim/operator.py`, which it is, with a thread beside it that knows
what a screen would have shown and gives labels by the console's own code. Which keys, and when, is drawn anew in each life.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

import msgspec

from robotrl import rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.logformat import Kind
from robotrl.messages import Ack, Label
from robotrl.node import bus_directory
from robotrl.nodes.labelling import label, remember
from robotrl.nodes.outbox import Outbox
from robotrl.nodes.view import SECOND, View
from robotrl.sim import operator

PERIOD_S = 0.1  # of a console's screen
APART_S = (0.05, 0.8)  # from one key to the next
KEYS = {"good": 8, "bad": 5, "hold": 4, "undo": 3, "undo seconds": 1, "mark": 1}
SHOWN = ("episode", "episode_end", "ack")


class Rewards(threading.Thread):
    """Gives labels until `over` is set, and keeps each until the recorder has acknowledged it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self.directory, self.over = directory, threading.Event()

    def run(self) -> None:
        clock, giver = WallClock(), int.from_bytes(os.urandom(6), "big") | 1
        rng, bus = random.Random(giver), Bus(bus_directory(self.directory), "console", clock)
        labels: Outbox[Label] = Outbox(bus.publisher("label"), clock, Kind.LABEL, "console", giver)
        view, shown = View(settings=rundir.load(self.directory).operator), [bus.subscriber(topic) for topic in SHOWN]
        due = clock.now()
        while not self.over.wait(PERIOD_S):
            now = clock.now()
            for subscriber in shown:
                for message in subscriber.drain():
                    view.receive(subscriber.topic, message, now)
            labels.tend(view.get("ack", Ack), now)
            view.drawn(now)
            if now >= due:
                due = now + round(rng.uniform(*APART_S) * SECOND)
                given = label(rng.choices(list(KEYS), list(KEYS.values()))[0], now, view, now)
                if isinstance(given, Label):
                    given = msgspec.structs.replace(given, giver=giver)
                    labels.keep(given)
                    remember(view, msgspec.structs.replace(given, number=labels.given), now)
        bus.close()


def main(argv: list[str]) -> int:
    rewards = Rewards(Path(argv[0]))
    rewards.start()
    try:
        return operator.main(argv)
    finally:
        rewards.over.set()
        rewards.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
