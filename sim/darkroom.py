"""Where the pictures of a tracker's camera are made on the wall clock (`room.py`).

The twin tells, for each exposure, when it was, when its picture is to arrive, and where the torso was meanwhile; here it is
drawn, compressed, and sent.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import cv2
import numpy as np

from robotrl import config
from robotrl.clock import WallClock
from robotrl.realtime import real_time
from robotrl.sim.camerawire import CameraServer
from robotrl.sim.room import PRIORITY, Room, newest, run_told
from robotrl.sim.tagcamera import MOMENTS, Exposure, Film, film_of

RECORD = struct.Struct(
    f"<qq{12 * MOMENTS + 8}d"
)  # taken, arrives (ns, monotonic); each moment's attitude and place; motors' angles


class Darkroom(Room):
    """The twin's end. `url` is the camera's, for the robot file."""

    def __init__(self, run: config.Run, seed: int) -> None:
        super().__init__("robotrl.sim.darkroom", run, seed)
        self.url = f"unix:{self.directory / 'camera'}"

    def develop(self, exposure: Exposure, taken: int, arrives: int) -> None:
        """Have the picture of this exposure made. Never blocks."""
        numbers = [np.concatenate((rotation.ravel(), place)) for rotation, place in exposure.moments]
        self.send(RECORD.pack(taken, arrives, *np.concatenate((*numbers, exposure.motors)).tolist()))


def exposure_of(record: bytes) -> tuple[int, int, Exposure]:
    """When it was taken, when its picture arrives, ns, and the rest."""
    taken, arrives, *numbers = RECORD.unpack(record)
    moments, motors = np.array(numbers[:-8]).reshape(MOMENTS, 12), np.array(numbers[-8:])
    return taken, arrives, Exposure(0.0, 0.0, [(row[:9].reshape(3, 3), row[9:]) for row in moments], motors)


def serve(film: Film, server: CameraServer) -> None:
    """Until the twin is gone."""
    clock = WallClock()
    for record in newest(RECORD.size):
        taken, arrives, exposure = exposure_of(record)
        image = np.asarray(cv2.cvtColor(film.develop(exposure), cv2.COLOR_GRAY2BGR), np.uint8)
        clock.sleep_until(arrives)
        server.show(taken, image)


def main(argv: list[str]) -> int:
    cv2.setNumThreads(1)
    run = run_told(argv[0])
    if run.real_time:
        real_time(PRIORITY, lock=False)  # refused, it is slower, as the twin has said of itself
    film = film_of(run.twin.tripod, run.robot.roof, np.random.default_rng(int(argv[1])))
    server = CameraServer(Path(argv[0]) / "camera")
    os.write(1, b"open\n")
    try:
        serve(film, server)
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
