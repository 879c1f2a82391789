"""A camera's node: frames as they come, into the ring for readers here, compressed for the session and other machines.

    python -m robotrl.nodes.camera RUN_DIR camera1      the first camera of the robot file

A camera that is unplugged is looked for once a second, by what it is and not by where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from robotrl.config import CameraPort
from robotrl.drivers.camera import Camera, Frame, FrameWatch, Pixels, encode
from robotrl.drivers.cameras import connect
from robotrl.drivers.port import PortError
from robotrl.drivers.sessiontape import packed
from robotrl.messages import Image, Motion, Picture
from robotrl.node import Node
from robotrl.nodes.wire import PRIORITY, Wire
from robotrl.ring import Ring, RingError
from robotrl.topics import CAMERAS

WAIT_NS = 20_000_000  # for a frame, before it is asked whether none has come for too long
GONE_NS = 100_000_000  # between two words of a camera that is not there


class Eye:
    """What becomes of a camera's frames. RingError from `see` when there is no memory for them."""

    def __init__(self, node: Node, name: str, wiring: CameraPort) -> None:
        self._node, self._name, self._wiring = node, name, wiring
        self._images, self._pictures, self._depths, self._motions = (
            node.bus.publisher(topic) for topic in ("image", "picture", "depth", "motion")
        )
        self._watch = FrameWatch(round(1e9 / wiring.rate_hz))
        self._ring: Ring | None = None
        self._recorded: int | None = None  # when the last frame that went into the session was taken

    def begin(self) -> None:
        """A camera that was away has come back: what it said before is not compared."""
        self._watch = FrameWatch(round(1e9 / self._wiring.rate_hz))

    def see(self, frame: Frame) -> None:
        """Judge a frame and say it."""
        pixels, now = frame.pixels(), self._node.clock.now()
        if moved := (*frame.rates, *frame.accel):
            newest = max(sample[0] for sample in moved)
            self._motions.send(
                Motion(t=newest, camera=self._name, stamp=frame.stamp, rates=frame.rates, accel=frame.accel)
            )  # fmt: skip
        if pixels is None:  # cut off on its way: as if it had not come
            self.miss()
            return
        fault, count = self._watch.see(frame, pixels, now), 0
        ring = self._ring = self._ring or self._made((pixels.shape[0], pixels.shape[1], 3))
        if pixels.shape == ring.shape:
            count = ring.write(pixels, frame.depth)
        else:
            fault = "size"
        self._images.send(Image(
            t=frame.t, camera=self._name, count=count, fault=fault, stamp=frame.stamp, arrived=now, number=frame.number,
            dropped=self._watch.dropped, height=pixels.shape[0], width=pixels.shape[1],
        ))  # fmt: skip
        if count and self._due(frame.t):
            self._picture(frame, pixels, count)

    def _made(self, shape: tuple[int, int, int]) -> Ring:
        bus = self._node.bus
        return Ring(bus.directory, self._node.source, bus.boot, shape, self._wiring.depth)

    def _due(self, t: int) -> bool:
        """Whether the frame taken at `t` goes into the session: at most `record_hz` do."""
        every = self._wiring.record_hz
        return not every or self._recorded is None or t - self._recorded >= 0.95e9 / every

    def _picture(self, frame: Frame, pixels: Pixels, count: int) -> None:
        self._recorded = frame.t
        self._pictures.send(Picture(t=frame.t, camera=self._name, count=count, data=frame.jpeg or encode(pixels)))
        if frame.depth is not None:
            self._depths.send(Picture(t=frame.t, camera=self._name, count=count, data=packed(frame.depth), format="png",
                                      depth_m=frame.depth_m))  # fmt: skip

    def miss(self) -> None:
        """No frame has come: say so when it is too long."""
        if fault := self._watch.silence(self._node.clock.now()):
            self._images.send(Image(camera=self._name, fault=fault))

    def gone(self) -> None:
        self._images.send(Image(camera=self._name, fault="unplugged"))

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()


def serve(node: Node, eye: Eye, wire: Wire[Camera]) -> None:
    """Until told to stop."""
    while not node.over():
        if wire.device is None:
            if wire.again():
                eye.begin()
                continue
            eye.gone()
            node.clock.sleep_until(node.clock.now() + GONE_NS)
            continue
        try:
            frame = wire.device.read(node.clock.now() + WAIT_NS)
        except PortError as error:
            wire.lost(error)
            continue
        if frame is None:
            eye.miss()
        else:
            eye.see(frame)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), argv[1])
    name, wiring = list(node.run.robot.cameras.items())[CAMERAS.index(argv[1])]
    cv2.setNumThreads(1)
    eye = Eye(node, name, wiring)

    def opened() -> tuple[Camera, Camera]:
        camera = connect(wiring, node.clock)
        return camera, camera

    try:
        wire = Wire(node, opened)
    except PortError as error:
        return node.refuse(f"camera {name}: {error}")
    node.hurry(PRIORITY)
    try:
        serve(node, eye, wire)
    except RingError as error:
        node.say(error)
        return 3
    finally:
        eye.close()
        wire.close()
        node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
