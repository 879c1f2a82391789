"""A USB camera (UVC) through the kernel's own interface: MJPG, exposure and focus fixed, each frame with the driver's stamp.

Not through OpenCV: that keeps four old frames, waits ten seconds for one that does not come, and gives neither the driver's
count of frames nor its word that one is broken. The stamp is the kernel's: when the frame's first bytes came from the camera, on
the monotonic clock. A fixed exposure was over by then, and half of it is taken off; one that the camera chose is not known.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robotrl.clock import Clock
from robotrl.complaint import command
from robotrl.config import CameraPort
from robotrl.drivers import v4l2
from robotrl.drivers.camera import CameraError, Frame

BUFFERS = 4
FIND = command("find-cameras")
EXPOSURE_S = 1e-4  # a step of V4L2_CID_EXPOSURE_ABSOLUTE
RATE_OFF = 0.05  # of the rate asked for: 29.97 for 30 is no other


@dataclass(frozen=True)
class Device:
    """A camera on USB: `path` its device, `stable` a name that stays, `serial` its number; empty where it has none."""

    path: str
    name: str
    serial: str
    stable: str = ""


def devices(sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> Iterator[Device]:
    """The cameras that the kernel has: of each the node that gives frames (the next one gives what is said about them)."""
    stable = {os.path.realpath(name): str(name) for name in sorted((dev / "v4l" / "by-id").glob("*"))}
    nodes = (sys / "class" / "video4linux").glob("video*")
    for node in sorted(nodes, key=lambda n: (len(n.name), n.name)):
        if _text(node / "index") not in ("", "0"):
            continue
        path = str(dev / node.name)
        serial = _text(node / "device" / ".." / "serial")
        yield Device(path, _text(node / "name"), serial, stable.get(os.path.realpath(path), ""))


def _text(path: Path) -> str:
    try:
        return path.resolve().read_text(errors="replace").strip()
    except OSError:
        return ""


def find(wiring: CameraPort, found: list[Device]) -> str:
    """The device that is meant: by number, wherever it is plugged in; else by path. CameraError when it is not there."""
    if not wiring.serial:
        return wiring.path
    mine = [device for device in found if device.serial == wiring.serial]
    if len(mine) == 1:
        return mine[0].path
    if mine:
        paths = ", ".join(device.stable or device.path for device in mine)
        raise CameraError(f"camera {wiring.serial}: two have this number; give the path of the one, without serial: {paths}")
    others = ", ".join(device.serial or device.path for device in found) or "none"
    raise CameraError(f"camera {wiring.serial}: not on USB (there: {others}); plug it in, or see: {FIND}")


class UvcCamera:
    """The camera at `path`, streaming. `broken`: frames that the driver itself gave up."""

    def __init__(self, path: str, wiring: CameraPort, clock: Clock) -> None:
        self.name, self.identity = path, wiring.serial or path
        self._clock, self.broken = clock, 0
        self._half = round(wiring.exposure_s * 5e8)  # ns from the middle of the exposure to its end
        self._maps: list[mmap.mmap] = []
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CameraError(f"{path}: {_why(error)}") from None
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        try:
            self._set_up(wiring)
        except OSError as error:
            self.close()
            raise CameraError(f"{path}: {_why(error)}") from None
        except CameraError:
            self.close()
            raise

    def _ask(self, request: int, data: bytearray) -> bytearray:
        fcntl.ioctl(self._fd, request, data)
        return data

    def _set_up(self, wiring: CameraPort) -> None:
        card, able = v4l2.parse_capability(self._ask(v4l2.QUERYCAP, v4l2.make_capability()))
        if not (able & v4l2.CAP_CAPTURE and able & v4l2.CAP_STREAMING):
            raise CameraError(f"{self.name}: {card} gives no frames here; name another of its devices: {FIND}")
        asked = (wiring.width, wiring.height, v4l2.MJPG)
        width, height, pixels = v4l2.parse_format(self._ask(v4l2.S_FMT, v4l2.make_format(wiring.width, wiring.height)))
        if pixels != v4l2.MJPG:
            raise CameraError(f"{self.name}: {card} has no MJPG; use another camera")
        if (width, height, pixels) != asked:
            raise CameraError(
                f"{self.name}: {card} gives {width}x{height}, not {wiring.width}x{wiring.height}; set width and height"
            )
        rate = v4l2.parse_rate(self._ask(v4l2.S_PARM, v4l2.make_rate(wiring.rate_hz)))
        if rate and abs(rate / wiring.rate_hz - 1) > RATE_OFF:
            raise CameraError(
                f"{self.name}: {card} gives {rate:g} frames a second at this size, not {wiring.rate_hz:g}; set rate_hz"
            )
        self._fix(wiring)
        self._begin()

    def _fix(self, wiring: CameraPort) -> None:
        """Nothing that changes by itself: no focus, no frame rate that gives way to exposure, no exposure unless left so."""
        self._try(v4l2.FOCUS_AUTO, 0)
        self._try(v4l2.EXPOSURE_AUTO_PRIORITY, 0)
        if wiring.focus >= 0:
            self._control(v4l2.FOCUS_ABSOLUTE, wiring.focus, "focus")
        if wiring.exposure_s:
            steps = max(1, round(wiring.exposure_s / EXPOSURE_S))
            self._control(v4l2.EXPOSURE_AUTO, v4l2.EXPOSURE_MANUAL, "exposure_s")
            self._control(v4l2.EXPOSURE_ABSOLUTE, steps, "exposure_s")
            self._try(v4l2.AUTO_WHITE_BALANCE, 0)

    def _try(self, what: int, value: int) -> None:
        """Set what not every camera has."""
        try:
            self._ask(v4l2.S_CTRL, v4l2.make_control(what, value))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY, errno.EACCES):
                raise

    def _control(self, what: int, value: int, field: str) -> None:
        """Set it and read it back."""
        try:
            self._ask(v4l2.S_CTRL, v4l2.make_control(what, value))
            now = v4l2.parse_control(self._ask(v4l2.G_CTRL, v4l2.make_control(what)))
        except OSError as error:
            raise CameraError(f"{self.name}: cannot set {field} ({error.strerror}); leave it out") from None
        if now != value:
            raise CameraError(f"{self.name}: takes {now} steps for {value} of {field}; set it so, or leave it out")

    def _begin(self) -> None:
        for i in range(v4l2.parse_request(self._ask(v4l2.REQBUFS, v4l2.make_request(BUFFERS)))):
            buffer = v4l2.parse_buffer(self._ask(v4l2.QUERYBUF, v4l2.make_buffer(i)))
            self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.offset))
            self._ask(v4l2.QBUF, v4l2.make_buffer(i))
        self._ask(v4l2.STREAMON, v4l2.make_type())

    def read(self, deadline: int) -> Frame | None:
        newest: Frame | None = None
        while newest is None:
            left = deadline - self._clock.now()
            found = self._poll.poll(max(0.0, left * 1e-6))
            if not found:
                return None
            try:
                newest = self._drain()
            except OSError as error:
                raise CameraError(f"{self.name}: {_why(error)}") from None
            if newest is None and found[0][1] & (select.POLLERR | select.POLLHUP):
                raise CameraError(f"{self.name}: is gone; plug it in again")
        return newest

    def _drain(self) -> Frame | None:
        """All that has come; the last whole one of it."""
        newest: Frame | None = None
        while True:
            try:
                buffer = v4l2.parse_buffer(self._ask(v4l2.DQBUF, v4l2.make_buffer()))
            except BlockingIOError:
                return newest
            if buffer.broken or not buffer.used:
                self.broken += 1
            else:
                known = buffer.t >= 0
                newest = Frame(
                    t=(buffer.t if known else self._clock.now()) - self._half, stamp="driver" if known else "arrival",
                    number=buffer.sequence, mark=buffer.t, jpeg=self._maps[buffer.place][: buffer.used],
                )  # fmt: skip
            self._ask(v4l2.QBUF, v4l2.make_buffer(buffer.place))

    def close(self) -> None:
        for memory in self._maps:
            memory.close()
        os.close(self._fd)


def _why(error: OSError) -> str:
    """In words a person can act on."""
    known = {
        errno.ENOENT: f"no such camera; plug it in, or see: {FIND}",
        errno.EACCES: "no permission; sudo usermod -aG video $USER, then log in again",
        errno.EBUSY: "another program has it; stop that one (fuser -v /dev/video*)",
        errno.ENODEV: "is gone; plug it in again",
        errno.ENOTTY: f"is no camera; see: {FIND}",
        errno.ENOSPC: "the USB bus has no room for another stream; lower size or rate, or use another USB controller",
    }
    code = error.errno or 0
    return known.get(code, f"cannot be used ({error.strerror}); unplug it and plug it in again")


def connect(wiring: CameraPort, clock: Clock) -> UvcCamera:
    """The camera that is meant, wherever it is plugged in. CameraError when it cannot be had."""
    return UvcCamera(find(wiring, list(devices())), wiring, clock)
