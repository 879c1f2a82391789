"""Where the pictures of an arm's cameras are made on the wall clock (`room.py`): an arm of its own, put as the twin's is."""

from __future__ import annotations

import dataclasses
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from robotrl import config
from robotrl.clock import WallClock
from robotrl.realtime import real_time
from robotrl.sim.camerawire import CameraServer
from robotrl.sim.fleets import FLEETS
from robotrl.sim.room import PRIORITY, Room, newest, run_told

QUALITY = 98  # of the JPEGs: small pictures, of which none is worth saving bytes on
LEAST_NOISE = 1.0  # grey levels: without any, an arm that stands still is a camera that is frozen
GOAL, THING = 3, 7  # numbers: a place; a place and a turn (quaternion), world


def record_of(run: config.Run) -> struct.Struct:
    """taken (ns, monotonic), episode; the joints' angles, the goal, the thing; nan: there is none."""
    return struct.Struct(f"<qq{len(FLEETS[run.robot.kind].joints) + GOAL + THING}d")


class Studio(Room):
    """The twin's end. `urls`: of each camera, by its name."""

    def __init__(self, run: config.Run, seed: int) -> None:
        super().__init__("robotrl.sim.studio", run, seed)
        self.urls = {name: f"unix:{self.directory / name}" for name in run.task.pixels.cameras}
        self._record, self._period, self._due = record_of(run), 1.0 / run.twin.view_hz, 0.0

    def due(self, now: float) -> bool:
        """Whether pictures are to be taken now, s of physics; then it asks for the next ones."""
        if now < self._due:
            return False
        self._due = max(self._due + self._period, now)
        return True

    def take(self, taken: int, episode: int, angles: Sequence[float], goal: Sequence[float], thing: Sequence[float]) -> None:
        """Have a picture made by each camera. `goal`: (2,), (3,) or none; `thing`: (7,) or none. Never blocks."""
        nan = float("nan")
        places = [*goal, *[nan] * (GOAL - len(goal))], [*thing, *[nan] * (THING - len(thing))]
        self.send(self._record.pack(taken, episode, *angles, *places[0], *places[1]))


class Stage:
    """The arm, what stands before it, and its cameras."""

    def __init__(self, run: config.Run, seed: int) -> None:
        from robotrl.sim.eyes import ASIDE, eyes_of  # late: it imports pybullet, which must have been told to be quiet
        from robotrl.sim.puck import Puck

        joints, _ = FLEETS[run.robot.kind].turned()
        optics = dataclasses.replace(run.twin.optics, noise=max(LEAST_NOISE, run.twin.optics.noise))
        self.eyes = eyes_of(dataclasses.replace(run, twin=dataclasses.replace(run.twin, optics=optics)), joints, seed)
        self._aside, self._thing = ASIDE, None
        if run.task.name == "push":
            self._thing = Puck(self.eyes.joints.client, self.eyes.joints.height, run.twin)
        self._record, self._count, self._episode = record_of(run), len(FLEETS[run.robot.kind].joints), -1

    def pictures(self, record: bytes) -> tuple[int, list[np.ndarray]]:
        """When they were taken, and what each camera sees, BGR (size, size, 3)."""
        taken, episode, *numbers = self._record.unpack(record)
        angles, rest = numbers[: self._count], np.array(numbers[self._count :])
        goal, thing = rest[:GOAL], rest[GOAL:]
        if episode != self._episode:
            self._episode = episode
            self.eyes.begin()
        self.eyes.joints.put(angles)
        if self._thing is not None and np.isfinite(thing).all():
            self._thing.lay(thing[:3].tolist(), thing[3:].tolist())
        there = goal[np.isfinite(goal)]
        self.eyes.put(there if len(there) else self._aside)
        seen = [eye.see(self.eyes.joints) for eye in self.eyes.eyes]
        whole = cv2.COLOR_RGB2BGR if seen[0].shape[2] == 3 else cv2.COLOR_GRAY2BGR
        return taken, [np.asarray(cv2.cvtColor(image, whole), np.uint8) for image in seen]


def serve(stage: Stage, servers: Sequence[CameraServer], optics: config.Optics, rng: np.random.Generator) -> None:
    """Until the twin is gone."""
    clock = WallClock()
    for record in newest(stage._record.size):
        taken, images = stage.pictures(record)
        late = optics.delay_s + rng.random() * optics.jitter_s
        clock.sleep_until(taken + round(late * 1e9))
        for server, image in zip(servers, images, strict=True):
            if rng.random() >= optics.drop:
                server.show(taken, image)


def main(argv: list[str]) -> int:
    cv2.setNumThreads(1)
    words = os.dup(1)  # where our one line goes: physics prints on descriptor 1 from C
    os.dup2(2, 1)
    run = run_told(argv[0])
    if run.real_time:
        real_time(PRIORITY, lock=False)  # refused, it is slower, as the twin has said of itself
    try:
        stage = Stage(run, int(argv[1]))
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    servers = [CameraServer(Path(argv[0]) / name, QUALITY) for name in run.task.pixels.cameras]
    os.write(words, b"open\n")
    os.close(words)
    try:
        serve(stage, servers, run.twin.optics, np.random.default_rng([int(argv[1]), 10]))
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers:
            server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
