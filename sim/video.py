"""A film of the twin: RGB frames into a file, with a line or two of text on them.

MPEG-4 in .mp4 where OpenCV can write it, otherwise Motion JPEG in .avi. The renderer is slow (25 ms for
320x240 on the CPU), so a film has 25 frames a second: every second control step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint

FPS = 25.0  # every second step at 50 Hz
SIZE = (320, 240)  # width, height
CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
Frame = NDArray[np.uint8]


class VideoError(Complaint):
    """What is wrong with the film, where, and what to do; one line."""


class VideoWriter:
    """Writes `path`, or the same name as .avi; `path` says which. The file takes its name when it is whole.

    A context: an error inside it leaves no file behind.
    """

    def __init__(self, path: Path, fps: float = FPS, size: tuple[int, int] = SIZE) -> None:
        self.size, self.frames = size, 0
        for suffix, codec in CODECS:
            self.path = path.with_suffix(suffix)
            self._aside = path.with_name(f".{path.stem}.part{suffix}")
            self._file = cv2.VideoWriter(str(self._aside), cv2.VideoWriter.fourcc(*codec), fps, size)
            if self._file.isOpened():
                return
            self._file.release()
            self._aside.unlink(missing_ok=True)
        raise VideoError(f"{path}: OpenCV can write neither mp4v nor MJPG here; is the folder writable?")

    def write(self, frame: Frame) -> None:
        """Append one frame: uint8, RGB, shape (height, width, 3)."""
        width, height = self.size
        if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
            raise VideoError(f"{self.path}: frame is {frame.dtype} {frame.shape}, not uint8 {(height, width, 3)}")
        self._file.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> Path:
        """Finish the file and give it its name; returns it. Raises VideoError when there is nothing in it."""
        self._file.release()
        if self.frames == 0:
            self._aside.unlink(missing_ok=True)
            raise VideoError(f"{self.path}: no frame was written, so there is no film")
        self._aside.replace(self.path)
        return self.path

    def discard(self) -> None:
        """Give up: no file remains."""
        self._file.release()
        self._aside.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def caption(frame: Frame, lines: Sequence[str]) -> Frame:
    """A copy of `frame` (RGB, uint8) with `lines` in its top left corner, white edged in black."""
    out = np.ascontiguousarray(frame).copy()
    scale = out.shape[0] / 480
    step = max(10, round(26 * scale))
    for row, text in enumerate(lines):
        at = (round(10 * scale), step * (row + 1))
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                out,
                text,
                at,
                cv2.FONT_HERSHEY_SIMPLEX,
                max(0.4, 0.75 * scale),
                colour,
                thickness,
                cv2.LINE_AA,
            )
    return out


def film(path: Path, frames: Iterable[Frame], fps: float = FPS) -> Path:
    """Write all `frames` (RGB, uint8, one shape) to a film; returns its path."""
    writer: VideoWriter | None = None
    try:
        for frame in frames:
            if writer is None:
                writer = VideoWriter(path, fps, (frame.shape[1], frame.shape[0]))
            writer.write(frame)
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if writer is None:
        raise VideoError(f"{path}: no frame was given, so there is no film")
    return writer.close()
