"""The tracker's node: poses of the torso from a camera or motion-capture computer, stamped with when they were seen."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.port import Port, SerialPort
from robotrl.drivers.tape import Tape
from robotrl.drivers.tracker import PoseStream
from robotrl.node import Node
from robotrl.nodes.wire import sense

PERIOD_NS = 4_000_000  # often enough that reading adds little to a 60 Hz pose's age


def connect(node: Node, tape: Tape) -> tuple[Port, PoseStream]:
    """Open the port. PortError says what is wrong."""
    wiring = node.run.robot.tracker
    port = tape.around(SerialPort(wiring.port, wiring.baud, node.clock))
    return port, PoseStream(port, tape.clock)


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "tracker")
    tape = Tape(node.clock)
    return sense(node, lambda: connect(node, tape), "pose", PERIOD_NS, PoseStream.read, tape)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
