"""The tracker's node: poses of the torso from a camera or motion-capture computer, stamped with when they were seen."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.port import SerialPort
from robotrl.drivers.tracker import PoseStream
from robotrl.node import Node

PERIOD_NS = 4_000_000  # often enough that reading adds little to a 60 Hz pose's age


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "tracker")
    ports = node.run.robot.tracker
    port = SerialPort(ports.port, ports.baud, node.clock)
    stream = PoseStream(port, node.clock)
    publisher = node.bus.publisher("pose")
    for _ in node.every(PERIOD_NS):
        for pose in stream.read():
            publisher.send(pose)
        node.beat()
    port.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
