"""A camera as the program sees it: the newest frame, when it was taken, and what is wrong with what it shows.

Each kind (`uvc.py`, `realsense.py`, `mjpeg.py`, `recording.py`) is a `Camera`; `FrameWatch` judges any of them alike: pure, no
device and no clock of its own. Pixels are BGR, as OpenCV has them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl.drivers.port import PortError

Pixels = NDArray[np.uint8]
Sample = tuple[int, float, float, float]  # when, ns on this machine's monotonic clock, and x, y, z
Stamp = Literal["device", "driver", "arrival"]  # whose word a capture time is

SAME_MAX = 2  # repeats of a frame that are borne; the third in a row is the third identical picture: frozen (safety row 17)
DROPPED_MAX = 2  # frames that may stay away; then it is late (row 18)
SLACK_NS = 20_000_000  # for our own lateness; with three periods at 30 Hz the row's budget of 120 ms
OLD_NS = 150_000_000  # beyond three periods no frame is so old when it comes, or it waited in some buffer; chosen
DARK, BRIGHT, FLAT = 6.0, 249.0, 2.0  # mean below, mean above, sd below: nothing can be seen (row 19); chosen
BLIND_MAX = 4  # such frames that are borne; the fifth in a row tells (row 19)
GRID = 8  # every so many pixels one is looked at


class CameraError(PortError):
    """The camera cannot be opened, is gone, or shows nothing that is a picture. One line: what, where, what to do."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture: `jpeg` as the camera compressed it, or `image`, or both. `depth` lies over `image`, pixel by pixel."""

    t: int  # ns on this machine's monotonic clock: when it was exposed, as well as `stamp` can tell
    stamp: Stamp  # the camera's own clock moved onto ours; the system's buffer stamp; or, where nobody knows better, its arrival
    number: int = -1  # the camera's own count, -1: it has none
    mark: int = -1  # the camera's own stamp, ns by its clock, -1: it has none
    jpeg: bytes = b""
    image: Pixels | None = None  # (height, width, 3)
    depth: NDArray[np.uint16] | None = None  # (height, width), in units of `depth_m`; 0: not known
    depth_m: float = 0.001
    rates: tuple[Sample, ...] = ()  # of the camera's own IMU since the frame before, rad/s
    accel: tuple[Sample, ...] = ()  # the same, m/s2

    def pixels(self) -> Pixels | None:
        """(height, width, 3); None where the JPEG is none, or was cut off."""
        return self.image if self.image is not None else decode(self.jpeg)


class Camera(Protocol):
    """Open when it is made; CameraError then says what is wrong."""

    name: str  # where it is: a path, an address
    identity: str  # by which it is found again when it was unplugged: its serial number, or where it is

    def read(self, deadline: int) -> Frame | None:
        """The newest frame, as soon as there is one that was not read yet; None once `deadline` (clock, ns) has passed.

        CameraError when the camera is gone. Never blocks beyond the deadline.
        """
        ...

    def close(self) -> None: ...


def whole(jpeg: bytes) -> bool:
    """Whether these bytes begin and end as a JPEG does. One that a full USB bus has cut off decodes to half a picture."""
    return jpeg.startswith(b"\xff\xd8") and jpeg[-64:].rstrip(b"\0").endswith(b"\xff\xd9")


def decode(jpeg: bytes) -> Pixels | None:
    """(height, width, 3) BGR; None for what is no whole JPEG."""
    if not whole(jpeg):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def encode(image: Pixels, quality: int = 90) -> bytes:
    """A JPEG of (height, width, 3) BGR."""
    made, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    assert made, image.shape
    return bytes(data)


class ClockMap:
    """Moves a camera's own clock onto ours. A frame that came soonest after its stamp was held up the least, so that one tells
    how the clocks stand; the least delay itself stays unknown and is not in the age. Looks back one to two windows: clocks drift.
    """

    WINDOW_NS = 10_000_000_000  # 100 ppm of drift make 1 ms in it

    def __init__(self) -> None:
        self._began = self._last = 0
        self._least: int | None = None  # in this window
        self._before: int | None = None  # in the one before

    def __call__(self, mark: int, arrival: int) -> int:
        """When a frame of this stamp was taken, ns on our clock; never after it arrived. A clock that goes back begins anew."""
        between = arrival - mark
        if self._least is None or mark < self._last:
            self._least, self._before, self._began = between, None, mark
        elif mark - self._began > self.WINDOW_NS:
            self._before, self._least, self._began = self._least, between, mark
        self._last = mark
        self._least = min(self._least, between)
        return mark + (self._least if self._before is None else min(self._least, self._before))


class FrameWatch:
    """What is wrong with a camera, by its frames alone: rows 17 to 19 of the fault catalogue. Row 20 is its CameraError.

    "repeated": this frame is the one before again. "frozen": the third alike. "black", "white", "flat": five on end in which
    nothing can be seen. "late": none came for three periods, or one that is too old. Times in ns, on our clock.
    """

    def __init__(self, period_ns: int) -> None:
        self._patience = (DROPPED_MAX + 1) * period_ns
        self._last: tuple[int, int, int] | None = None  # number, mark, sum
        self._same = self._blind = 0
        self._seen: int | None = None  # when the last frame came that was a new one
        self.dropped = 0  # frames that the camera counted and we never saw

    def see(self, frame: Frame, pixels: Pixels, now: int) -> str:
        """Judge a frame that has just come; empty when it is healthy."""
        total = zlib.crc32(frame.jpeg) if frame.jpeg else zlib.crc32(pixels[::GRID].tobytes())
        this, last = (frame.number, frame.mark, total), self._last
        again = last is not None and any(a == b and a >= 0 for a, b in zip(this, last, strict=True))
        if last is not None and 0 <= last[0] < frame.number - 1:
            self.dropped += frame.number - last[0] - 1
        self._last = this
        self._same = self._same + 1 if again else 0
        if not again:
            self._seen = now
        blind = _blind(pixels)
        self._blind = self._blind + 1 if blind else 0
        if self._same >= SAME_MAX:
            return "frozen"
        if self._blind > BLIND_MAX:
            return blind
        if now - frame.t > self._patience + OLD_NS:
            return "late"
        return "repeated" if again else ""

    def silence(self, now: int) -> str:
        """Judge that no frame has come; before the first one silence is none."""
        return "late" if self._seen is not None and now - self._seen > self._patience + SLACK_NS else ""


def _blind(pixels: Pixels) -> str:
    """Why nothing can be seen in it; empty when something can."""
    sample = pixels[::GRID, ::GRID]
    mean = float(sample.mean())
    if mean < DARK:
        return "black"
    if mean > BRIGHT:
        return "white"
    return "flat" if float(sample.std()) < FLAT else ""
