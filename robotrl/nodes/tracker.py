"""The tracker's node: poses of the torso, stamped with when they were seen, off a line stream or by our own camera's pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from robotrl import viewpoint
from robotrl.drivers.port import Port, SerialPort
from robotrl.drivers.tape import Tape
from robotrl.drivers.tracker import PoseStream
from robotrl.messages import Image, Pose
from robotrl.node import Node
from robotrl.nodes.tagtracker import TagTracker
from robotrl.nodes.wire import PRIORITY, sense
from robotrl.ring import RingReader
from robotrl.topics import CAMERAS

PERIOD_NS = 4_000_000  # often enough that reading adds little to a 60 Hz pose's age


def connect(node: Node, tape: Tape) -> tuple[Port, PoseStream]:
    """Open the port. PortError says what is wrong."""
    wiring = node.run.robot.tracker
    port = tape.around(SerialPort(wiring.port, wiring.baud, node.clock))
    return port, PoseStream(port, tape.clock)


class Lookout:
    """One camera's pictures, off its ring, and what IMU and motors say meanwhile. `fault`: of the camera, in its node's words."""

    def __init__(self, node: Node, view: viewpoint.Viewpoint) -> None:
        robot = node.run.robot
        place = CAMERAS[list(robot.cameras).index(robot.tracker.camera)]
        self._images = node.bus.subscriber("image", sources=(place,))
        self._imu, self._joints = node.bus.subscriber("imu"), node.bus.subscriber("joints")
        self._ring = RingReader(node.bus.directory, place)
        self._tracker = TagTracker(robot.roof, view, legs=robot.kind == "minitaur")
        self.fault = "no picture yet"

    def poses(self) -> list[Pose]:
        """Those that came of what was heard since the last call. ViewpointError for pictures of another size."""
        out: list[Pose | None] = []
        for imu in self._imu.drain():
            self._tracker.hear(imu)
        for joints in self._joints.drain():
            out.append(self._tracker.step(joints))
        seen: list[Image] = self._images.drain()
        if seen:
            self.fault = seen[-1].fault
        for image in [m for m in seen if not m.fault][-1:]:  # who is behind looks at the newest
            pixels = self._ring.read(image)
            if pixels is not None:
                out.append(self._tracker.look(pixels, image.t))
        return [pose for pose in out if pose is not None]

    def said(self) -> str:
        """What came of the pictures, in a line."""
        counts = self._tracker.sight.counts
        return f"{counts.total()} pictures: " + (", ".join(f"{n} {why}" for why, n in counts.most_common()) or "none looked at")

    def close(self) -> None:
        self._ring.close()


def watch(node: Node) -> int:
    """Publish what the camera shows, until told to stop. Exit code 2 for a camera that was calibrated nowhere, or another."""
    cv2.setNumThreads(1)
    try:
        view = viewpoint.read(node.directory / viewpoint.FILE, node.run.robot.seen_by)
    except viewpoint.ViewpointError as error:
        return node.refuse(error)
    lookout, publisher = Lookout(node, view), node.bus.publisher("pose")
    node.hurry(PRIORITY)
    code = 0
    for _ in node.every(PERIOD_NS):
        try:
            for pose in lookout.poses():
                publisher.send(pose)
        except viewpoint.ViewpointError as error:
            node.say(error)
            code = 2
            break
        node.beat(lookout.fault)
    node.say(lookout.said())
    lookout.close()
    node.close()
    return code


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "tracker")
    if node.run.robot.tracker.camera:
        return watch(node)
    tape = Tape(node.clock)
    return sense(node, lambda: connect(node, tape), "pose", PERIOD_NS, PoseStream.read, tape)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
