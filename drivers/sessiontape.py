"""What a camera has in a session: its pictures and, where they were recorded, the distances of their pixels.

A session that was cut off is read as far as it is whole.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections import deque
from collections.abc import Iterator

import cv2
import msgspec
import numpy as np
from mcap.exceptions import McapError
from mcap.records import Channel, Message
from mcap.stream_reader import StreamReader
from numpy.typing import NDArray
from zstandard import ZstdError

from robotrl.drivers.camera import CameraError, Frame
from robotrl.messages import Picture

LARGEST = 1 << 28  # bytes of a record
EARLY = 20_000  # records, among which every camera's channel is
AHEAD = 128  # pictures that are read beyond one whose distances have not come
NOTHING = Picture(camera="", count=0, data=b"")
Depth = NDArray[np.uint16]
_DECODE = msgspec.json.Decoder(Picture).decode


def packed(depth: Depth) -> bytes:
    """A PNG of (height, width), without loss: 16 bits a pixel."""
    made, data = cv2.imencode(".png", depth, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    assert made, depth.shape
    return bytes(data)


def unpacked(data: bytes) -> Depth | None:
    """(height, width) of such a PNG; None for what is none."""
    try:
        depth = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if depth is None or depth.ndim != 2 or depth.dtype != np.uint16 else np.asarray(depth, np.uint16)


def frames_of(path: str, camera: str) -> Iterator[Frame]:
    """The frames of a camera, by its name in the robot file; of the only one there is where that is empty.

    `mark` is when each was exposed, ns after the first. CameraError for a file that is no session, or has no such camera.
    """
    names = sorted(_names(path))
    if not names:
        raise CameraError(f"{path}: no session with pictures in it, or was cut off before the first; give another recording")
    if camera not in names and (camera or len(names) > 1):
        raise CameraError(f"{path}: has pictures of {', '.join(names)}; name one: {path}#{names[0]}")
    return _frames(path, camera or names[0])


def _frames(path: str, camera: str) -> Iterator[Frame]:
    waiting: deque[Picture] = deque()
    depths: dict[int, tuple[Depth | None, float]] = {}
    first: int | None = None
    ended = False
    messages = _messages(path)
    while not ended or waiting:
        kind, name, said = next(messages, ("end", camera, NOTHING))
        ended = kind == "end"
        if name != camera:
            continue
        if kind == "picture":
            waiting.append(said)
        elif kind == "depth":
            depths[said.t] = unpacked(said.data), said.depth_m
        known = max(depths, default=-1)
        while waiting and (ended or len(waiting) > AHEAD or waiting[0].t <= known):
            shown = waiting.popleft()
            depth, depth_m = depths.pop(shown.t, (None, 0.001))
            first = shown.t if first is None else first
            yield Frame(
                t=0, stamp="device", number=shown.count, mark=shown.t - first, jpeg=shown.data, depth=depth, depth_m=depth_m,
            )  # fmt: skip


def _names(path: str) -> set[str]:
    """Cameras with pictures near the beginning."""
    topics = (record.topic for record in itertools.islice(_records(path), EARLY) if isinstance(record, Channel))
    return {topic.removeprefix("picture/") for topic in topics if topic.startswith("picture/")}


def _messages(path: str) -> Iterator[tuple[str, str, Picture]]:
    """Each of a camera: "picture" or "depth", the camera's name, and what it says."""
    channels: dict[int, str] = {}
    for record in _records(path):
        if isinstance(record, Channel):
            channels[record.id] = record.topic
        elif isinstance(record, Message):
            kind, _, name = channels.get(record.channel_id, "").partition("/")
            if kind not in ("picture", "depth"):
                continue
            try:
                yield kind, name, _DECODE(record.data)
            except msgspec.DecodeError:
                return  # damaged, where no chunk's sum could tell


def _records(path: str) -> Iterator[object]:
    """As far as the file is whole. CameraError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            yield from StreamReader(file, validate_crcs=True, record_size_limit=LARGEST).records
    except (McapError, ZstdError, struct.error, ValueError, KeyError, OverflowError, MemoryError, zlib.error):
        return
    except OSError as error:
        raise CameraError(f"{path}: cannot be read: {error.strerror}; give another recording") from None
