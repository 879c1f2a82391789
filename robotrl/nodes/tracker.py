"""The tracker's node: poses of the torso from a camera or motion-capture computer, stamped with when they were seen."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.port import SerialPort
from robotrl.drivers.tracker import PoseStream
from robotrl.node import Node
from robotrl.nodes.wire import sense

PERIOD_NS = 4_000_000  # often enough that reading adds little to a 60 Hz pose's age


def connect(node: Node) -> tuple[SerialPort, PoseStream]:
    """Open the port. PortError says what is wrong."""
    wiring = node.run.robot.tracker
    port = SerialPort(wiring.port, wiring.baud, node.clock)
    return port, PoseStream(port, node.clock)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "tracker")
    return sense(node, lambda: connect(node), "pose", PERIOD_NS, PoseStream.read)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
