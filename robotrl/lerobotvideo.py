"""A camera's part of a LeRobotDataset v3: its frames as mp4, episodes one after the other, a file of about 200 MB.

    videos/NAME/chunk-000/file-000.mp4     where in it an episode begins is in meta/episodes, by time

MPEG-4 part 2, which every OpenCV writes and every decoder of the lerobot package reads: pictures come back as much alike as
a video keeps them, not to the bit. Behind each episode's last frame is one more, the next image of that frame: the package does
not see it, for no timestamp points there; `robotrl import --images` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.complaint import Complaint

VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILE_MB, FILES_A_CHUNK = 200, 1000  # the package's own sizes
SAMPLES = 100  # frames of an episode of which the statistics are made, as the package does
COPY = "restore it from a copy"

Images = NDArray[np.uint8]  # (n, height, width, 1 or 3), BGR


class VideoError(Complaint):
    """Why frames cannot be written or read; one line."""


class VideoWriter:
    """The videos of one camera. VideoError for frames that no video can hold, or a disk that takes none."""

    def __init__(self, root: Path, key: str, fps: float, shape: tuple[int, int, int]) -> None:
        """`shape`: (height, width, channels) of each frame."""
        if shape[0] % 2 or shape[1] % 2 or shape[2] not in (1, 3):
            raise VideoError(
                f"{key}: {shape[1]}x{shape[0]} with {shape[2]} channels is no video; even sizes, 1 or 3 channels are"
            )
        self.root, self.key, self.fps, self.shape = root, key, fps, shape
        self._file, self._frames, self._bytes = -1, 0, 0
        self._open: cv2.VideoWriter | None = None

    def add(self, images: Images, last: Images) -> dict[str, Any]:
        """An episode's (n, ...) frames, and behind them `last`, (1, ...); what meta/episodes says of where they are."""
        if self._open is None or self._size() > FILE_MB << 20:
            self._next_file()
        assert self._open is not None
        begin = self._frames
        for image in (*images, *last):
            assert image.shape == self.shape, (image.shape, self.shape)
            self._open.write(image if self.shape[2] == 3 else np.repeat(image, 3, 2))
        self._frames += len(images) + len(last)
        of = f"videos/{self.key}"
        return {f"{of}/chunk_index": self._file // FILES_A_CHUNK, f"{of}/file_index": self._file % FILES_A_CHUNK,
                f"{of}/from_timestamp": begin / self.fps, f"{of}/to_timestamp": (begin + len(images)) / self.fps}  # fmt: skip

    def _path(self) -> Path:
        chunk, file = divmod(self._file, FILES_A_CHUNK)
        return self.root / VIDEOS.format(video_key=self.key, chunk_index=chunk, file_index=file)

    def _size(self) -> int:
        return self._path().stat().st_size

    def _next_file(self) -> None:
        self.close()
        self._file, self._frames = self._file + 1, 0
        self._path().parent.mkdir(parents=True, exist_ok=True)
        size = (self.shape[1], self.shape[0])
        self._open = cv2.VideoWriter(str(self._path()), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
        if not self._open.isOpened():
            raise VideoError(f"{self._path()}: OpenCV writes no mp4 here; free space, see whose the directory is")

    def close(self) -> None:
        """The last file is whole on return."""
        if self._open is not None:
            self._open.release()
            if count(self._path()) != self._frames:
                raise VideoError(f"{self._path()}: not written to its end; free space")
        self._open = None

    def about(self) -> dict[str, Any]:
        """What meta/info.json says of the feature."""
        height, width, _ = self.shape
        return {
            "video.height": height, "video.width": width, "video.codec": "mpeg4", "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False, "video.fps": int(self.fps) if float(self.fps).is_integer() else self.fps,
            "video.channels": 3, "has_audio": False,
        }  # fmt: skip


def count(path: Path) -> int:
    """Frames that a video says to have."""
    video = cv2.VideoCapture(str(path))
    frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    return frames


def sampled(images: Images) -> NDArray[np.float64]:
    """Pixels of some of an episode's frames, (k, 3), RGB from 0 to 1: what the package's statistics are of."""
    some = images[np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).round().astype(int)]
    rgb = np.repeat(some, 3, 3) if some.shape[3] == 1 else some[..., ::-1]
    return rgb.reshape(-1, 3).astype(np.float64) / 255


class VideoReader:
    """The frames of one camera of a dataset, an episode at a time and in order."""

    def __init__(self, root: Path, key: str, pattern: str, fps: float) -> None:
        self.root, self.key, self.pattern, self.fps = root, key, pattern, fps
        self._path: Path | None = None
        self._frames: Iterator[Images] = iter(())
        self._at = 0

    def episode(self, row: dict[str, Any], frames: int) -> Images:
        """(frames, height, width, 3), BGR, of the episode that a `row` of meta/episodes tells of, from its first frame on.

        VideoError when they are not there.
        """
        try:
            chunk, file, begin = (row[f"videos/{self.key}/{what}"] for what in ("chunk_index", "file_index", "from_timestamp"))
            path = self.root / self.pattern.format(video_key=self.key, chunk_index=chunk, file_index=file)
            first = round(float(begin) * self.fps)
        except (KeyError, TypeError, ValueError, IndexError):
            raise VideoError(f"{self.root}/meta/episodes: does not say where {self.key} is; {COPY}") from None
        if path != self._path or first < self._at:
            self._path, self._frames, self._at = path, self._read(path), 0
        out: list[Images] = []
        while self._at < first + frames:
            image = next(self._frames, None)
            if image is None:
                raise VideoError(f"{path}: has {self._at} frames that can be read, not {first + frames}; {COPY}")
            if self._at >= first:
                out.append(image)
            self._at += 1
        return np.stack(out)

    def _read(self, path: Path) -> Iterator[Images]:
        video = cv2.VideoCapture(str(path))
        try:
            while True:
                there, image = video.read()
                if not there:
                    return
                yield np.asarray(image, np.uint8)
        finally:
            video.release()
