"""The IMU's node: reads the sensor's frames, publishes attitude and rates as they come."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.imu import WitImu, connect
from robotrl.drivers.tape import Tape
from robotrl.messages import Imu
from robotrl.node import Node
from robotrl.nodes.wire import sense


def read(imu: WitImu) -> list[Imu]:
    sample = imu.read()
    return [] if sample is None else [sample]


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "imu")
    tape, wiring = Tape(node.clock), node.run.robot.imu
    return sense(node, lambda: connect(wiring, node.clock, node.say, tape), "imu", int(1e9 / wiring.rate_hz), read, tape)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
