"""What a policy sees on the wall clock: the newest sound frame of each of its cameras, off their rings, made small."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.bus import Bus
from robotrl.clock import Clock
from robotrl.config import Run
from robotrl.messages import Image
from robotrl.nodes.gaze import Glance
from robotrl.ring import RingReader
from robotrl.topics import CAMERAS

Pixels = NDArray[np.uint8]


def shrunk(pixels: Pixels, size: int, channels: int) -> Pixels:
    """The largest square in the middle of BGR (height, width, 3), as RGB or grey (size, size, channels)."""
    height, width, _ = pixels.shape
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    square: Pixels = pixels[y : y + side, x : x + side]
    if channels == 1:  # first: a third is left to be shrunk
        square = np.asarray(cv2.cvtColor(square, cv2.COLOR_BGR2GRAY), np.uint8)
    small = square if side == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    if channels == 3:
        small = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    return np.asarray(small, np.uint8).reshape(size, size, channels)


class _Camera:
    """One of them: its newest frame that was whole and sound, small."""

    def __init__(self, bus: Bus, place: str, size: int, channels: int) -> None:
        self._images = bus.subscriber("image", sources=(place,))
        self._ring, self._shape = RingReader(bus.directory, place), (size, channels)
        self.taken: int | None = None
        self.frame = b""

    def look(self) -> None:
        sound: list[Image] = [image for image in self._images.drain() if not image.fault]
        for image in sound[-1:]:
            pixels = self._ring.look(image)
            if pixels is None:
                continue
            small = shrunk(pixels, *self._shape)
            if self._ring.still(image):  # it was not written over meanwhile
                self.taken, self.frame = image.t, small.tobytes()

    def close(self) -> None:
        self._ring.close()


class RingGaze:
    """Of all cameras that a run's policy sees by. `look` is a `Gaze`'s `eyes`."""

    def __init__(self, bus: Bus, run: Run, clock: Clock) -> None:
        cv2.setNumThreads(1)
        seen, places = run.task.pixels, list(run.robot.cameras)
        self._clock, self._oldest = clock, round(seen.age_s * 1e9)
        self._cameras = [_Camera(bus, CAMERAS[places.index(name)], seen.size, seen.channels) for name in seen.cameras]

    def look(self) -> Glance | None:
        """None while any of them has shown nothing yet, or nothing that was exposed within the last `age_s`."""
        for camera in self._cameras:
            camera.look()
        least = self._clock.now() - self._oldest
        taken = [camera.taken for camera in self._cameras if camera.taken is not None and camera.taken >= least]
        if len(taken) < len(self._cameras):
            return None
        return Glance(b"".join(camera.frame for camera in self._cameras), tuple(taken))

    def close(self) -> None:
        for camera in self._cameras:
            camera.close()
