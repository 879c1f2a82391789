"""A recording as a camera: each frame comes when it came, counted from the first, by whatever clock there is.

A video, or what a camera has in a session (`runs/RUN/sessions/0001.mcap`, `...mcap#front` where there are several): its JPEGs as
they were recorded, with their distances where these were. RealSense's own recordings (.db3) are played by `realsense.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import cv2
import numpy as np

from robotrl.clock import Clock
from robotrl.drivers.camera import CameraError, Frame
from robotrl.drivers.sessiontape import frames_of

Marked = Iterator[Frame]  # each with its `mark`, ns after the first


class Recording:
    """A file that is played. At its end a CameraError: who connects again sees it again."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.name = self.identity = path
        self._clock = clock
        file, _, camera = path.partition("#")
        if not os.path.isfile(file):
            raise CameraError(f"{file}: no such recording; give a video file, or a session's .mcap")
        self._frames = frames_of(file, camera) if file.endswith(".mcap") else video(path)
        self._began: int | None = None
        self._next = next(self._frames, None)
        if self._next is None:
            raise CameraError(f"{path}: has no frame; give another recording")

    def read(self, deadline: int) -> Frame | None:
        frame = self._next
        if frame is None:
            raise CameraError(f"{self.name}: has come to its end; it is begun anew")
        if self._began is None:
            self._began = self._clock.now()
        due = self._began + frame.mark
        if due > deadline:
            self._clock.sleep_until(deadline)
            return None
        self._clock.sleep_until(due)
        self._next = next(self._frames, None)
        return Frame(
            t=due, stamp=frame.stamp, number=frame.number, mark=frame.mark, jpeg=frame.jpeg, image=frame.image, depth=frame.depth,
            depth_m=frame.depth_m,
        )  # fmt: skip

    def close(self) -> None:
        self._frames = iter(())


def video(path: str) -> Marked:
    """Of a video that OpenCV reads."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong with a file we say ourselves, in one line
    film = cv2.VideoCapture(path)
    rate = float(film.get(cv2.CAP_PROP_FPS)) if film.isOpened() else 0.0
    if not 0 < rate < 10_000:
        raise CameraError(f"{path}: is no video that can be read, or was cut off; give another")
    number = 0
    try:
        while True:
            there, image = film.read()
            if not there:
                return
            number += 1
            mark = round((number - 1) * 1e9 / rate)
            yield Frame(t=0, stamp="device", number=number, mark=mark, image=np.asarray(image, np.uint8))
    finally:
        film.release()
