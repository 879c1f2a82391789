"""A recorded video as a camera: each frame comes when it came, counted from the first, by whatever clock there is.

RealSense's own recordings (.db3) are played by `realsense.py`.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from robotrl.clock import Clock
from robotrl.drivers.camera import CameraError, Frame


class Recording:
    """A video file that OpenCV reads. At its end a CameraError: who connects again sees it again."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.name = self.identity = path
        self._clock = clock
        if not os.path.isfile(path):
            raise CameraError(f"{path}: no such recording; give a video file")
        self._video = cv2.VideoCapture(path)
        self._rate = float(self._video.get(cv2.CAP_PROP_FPS)) if self._video.isOpened() else 0.0
        if not 0 < self._rate < 10_000:
            raise CameraError(f"{path}: is no video that can be read, or was cut off; give another")
        self._began: int | None = None
        self._number = 0
        self._next = self._take()
        if self._next is None:
            raise CameraError(f"{path}: has no frame; give another video")

    def _take(self) -> Frame | None:
        """The next frame of the file, its `mark` when it is due after the first; None at the end."""
        there, image = self._video.read()
        if not there:
            return None
        due = round(self._number * 1e9 / self._rate)
        self._number += 1
        return Frame(t=0, stamp="device", number=self._number, mark=due, image=np.asarray(image, np.uint8))

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
        self._next = self._take()
        return Frame(t=due, stamp=frame.stamp, number=frame.number, mark=frame.mark, image=frame.image)

    def close(self) -> None:
        self._video.release()
