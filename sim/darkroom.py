"""Where the twin's pictures are made on the wall clock: a process of its own, for a servo's answer cannot wait for a picture.

The twin tells it, for each exposure, when it was, when its picture is to arrive, and where the torso was meanwhile; here it is
drawn, compressed, and sent as a network camera sends it. What the pipe cannot take is a picture that never came.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from robotrl import config
from robotrl.clock import WallClock
from robotrl.realtime import real_time
from robotrl.sim.camerawire import CameraServer
from robotrl.sim.tagcamera import MOMENTS, Exposure, Film, film_of

PRIORITY = 5  # below the twin: a camera waits for no scheduler, and takes nothing from the robot's computer
RECORD = struct.Struct(
    f"<qq{12 * MOMENTS + 8}d"
)  # taken, arrives (ns, monotonic); each moment's attitude and place; motors' angles


class Darkroom:
    """The twin's end. `url` is the camera's, for the robot file."""

    def __init__(self, run: config.Run, seed: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="robotrl-camera-"))  # 0700
        path = self._directory / "camera"
        self.url = f"unix:{path}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robotrl.sim.darkroom", str(path), str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(config.to_dict(run)).encode() + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"open\n":
            self.close()
            raise config.ConfigError("twin: its camera did not start; its words are above")
        os.set_blocking(self._process.stdin.fileno(), False)
        self.lost = 0  # exposures that nobody took

    def develop(self, exposure: Exposure, taken: int, arrives: int) -> None:
        """Have the picture of this exposure made. Never blocks."""
        assert self._process.stdin is not None
        numbers = [np.concatenate((rotation.ravel(), place)) for rotation, place in exposure.moments]
        record = RECORD.pack(taken, arrives, *np.concatenate((*numbers, exposure.motors)).tolist())
        try:
            os.write(self._process.stdin.fileno(), record)  # less than a pipe takes whole, or not at all
        except (BlockingIOError, BrokenPipeError):
            self.lost += 1

    def close(self) -> None:
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def exposure_of(record: bytes) -> tuple[int, int, Exposure]:
    """When it was taken, when its picture arrives, ns, and the rest."""
    taken, arrives, *numbers = RECORD.unpack(record)
    moments, motors = np.array(numbers[:-8]).reshape(MOMENTS, 12), np.array(numbers[-8:])
    return taken, arrives, Exposure(0.0, 0.0, [(row[:9].reshape(3, 3), row[9:]) for row in moments], motors)


def serve(film: Film, server: CameraServer) -> None:
    """Until the twin is gone. Of exposures that wait the newest is developed: a camera that is behind drops pictures."""
    clock, waiting = WallClock(), b""
    while data := os.read(0, 1 << 16):
        waiting += data
        whole = len(waiting) // RECORD.size
        if not whole:
            continue
        newest, waiting = waiting[(whole - 1) * RECORD.size : whole * RECORD.size], waiting[whole * RECORD.size :]
        taken, arrives, exposure = exposure_of(newest)
        image = np.asarray(cv2.cvtColor(film.develop(exposure), cv2.COLOR_GRAY2BGR), np.uint8)
        clock.sleep_until(arrives)
        server.show(taken, image)


def main(argv: list[str]) -> int:
    cv2.setNumThreads(1)
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    run = config.from_dict(json.loads(line), Path(argv[0]))
    if run.real_time:
        real_time(PRIORITY, lock=False)  # refused, it is slower, as the twin has said of itself
    film = film_of(run.twin.tripod, run.robot.roof, np.random.default_rng(int(argv[1])))
    server = CameraServer(Path(argv[0]))
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
