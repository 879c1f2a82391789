"""The Linux kernel's words for cameras (Video4Linux2): requests and structures, as bytes. Holds no device.

include/uapi/linux/videodev2.h, 64-bit: what a C compiler makes of it is held against this in tests/drivers/test_uvc.py. What
follows a structure's named fields is zero, as the kernel asks.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CAPTURE, MMAP = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP
CAP_CAPTURE, CAP_STREAMING = 0x1, 0x04000000
MJPG = int.from_bytes(b"MJPG", "little")
FIELD_NONE = 1
BUF_ERROR, TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0x40, 0xE000, 0x2000

AUTO_WHITE_BALANCE = 0x0098090C
EXPOSURE_AUTO, EXPOSURE_ABSOLUTE, EXPOSURE_AUTO_PRIORITY = 0x009A0901, 0x009A0902, 0x009A0903  # absolute: steps of 100 us
FOCUS_ABSOLUTE, FOCUS_AUTO = 0x009A090A, 0x009A090C
EXPOSURE_MANUAL = 1

_CAPABILITY = struct.Struct("16s32s32s3I12x")
_FORMAT = struct.Struct("I4x12I152x")
_PARM = struct.Struct("I4I184x")
_REQUEST = struct.Struct("3I4xB3x")
_BUFFER = struct.Struct("5I4x2q16x2I2I2Ii4x")
_CONTROL = struct.Struct("Ii")


def _request(direction: int, number: int, size: int) -> int:
    """_IOC(direction, 'V', number, size) of asm-generic/ioctl.h; 1 writes, 2 reads, 3 both."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


QUERYCAP = _request(2, 0, _CAPABILITY.size)
G_FMT, S_FMT = _request(3, 4, _FORMAT.size), _request(3, 5, _FORMAT.size)
REQBUFS = _request(3, 8, _REQUEST.size)
QUERYBUF, QBUF, DQBUF = (_request(3, n, _BUFFER.size) for n in (9, 15, 17))
STREAMON, STREAMOFF = _request(1, 18, 4), _request(1, 19, 4)
S_PARM = _request(3, 22, _PARM.size)
G_CTRL, S_CTRL = _request(3, 27, _CONTROL.size), _request(3, 28, _CONTROL.size)


class Buffer(NamedTuple):
    """What the kernel says of a buffer that it gives back."""

    place: int
    used: int  # bytes
    broken: bool
    t: int  # ns: when it was taken, on the monotonic clock; -1: it does not say so
    sequence: int
    offset: int  # where to map it
    length: int


def make_capability() -> bytearray:
    return bytearray(_CAPABILITY.size)


def parse_capability(data: bytes | bytearray) -> tuple[str, int]:
    """The card's name, and what this very device node can do."""
    _, card, _, _, everything, own = _CAPABILITY.unpack(data)
    return card.rstrip(b"\0").decode(errors="replace"), own if everything & 0x80000000 else everything


def make_format(width: int, height: int) -> bytearray:
    """MJPG of this size, please."""
    return bytearray(_FORMAT.pack(CAPTURE, width, height, MJPG, FIELD_NONE, *(0,) * 8))


def parse_format(data: bytes | bytearray) -> tuple[int, int, int]:
    """Width, height, pixel format (four letters, the first lowest)."""
    _, width, height, pixels, *_ = _FORMAT.unpack(data)
    return width, height, pixels


def make_rate(rate_hz: float) -> bytearray:
    return bytearray(_PARM.pack(CAPTURE, 0, 0, 1000, round(1000 * rate_hz)))


def parse_rate(data: bytes | bytearray) -> float:
    """Frames a second; 0: it does not say."""
    _, _, _, numerator, denominator = _PARM.unpack(data)
    return denominator / numerator if numerator else 0.0


def make_request(count: int) -> bytearray:
    return bytearray(_REQUEST.pack(count, CAPTURE, MMAP, 0))


def parse_request(data: bytes | bytearray) -> int:
    """How many buffers there are."""
    count: int = _REQUEST.unpack(data)[0]
    return count


def make_buffer(index: int = 0) -> bytearray:
    return bytearray(_BUFFER.pack(index, CAPTURE, 0, 0, 0, 0, 0, 0, MMAP, 0, 0, 0, 0, 0))


def parse_buffer(data: bytes | bytearray) -> Buffer:
    index, _, used, flags, _, s, us, sequence, _, offset, _, length, _, _ = _BUFFER.unpack(data)
    monotonic = flags & TIMESTAMP_MASK == TIMESTAMP_MONOTONIC
    t = s * 1_000_000_000 + us * 1000 if monotonic else -1
    return Buffer(index, used, bool(flags & BUF_ERROR), t, sequence, offset, length)


def make_control(what: int, value: int = 0) -> bytearray:
    return bytearray(_CONTROL.pack(what, value))


def parse_control(data: bytes | bytearray) -> int:
    value: int = _CONTROL.unpack(data)[1]
    return value


def make_type() -> bytearray:
    """Of STREAMON and STREAMOFF."""
    return bytearray(struct.pack("i", CAPTURE))
