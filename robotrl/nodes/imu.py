"""The IMU's node: reads the sensor's frames, publishes attitude and rates as they come."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import PortError, SerialPort
from robotrl.messages import Imu
from robotrl.node import Node
from robotrl.nodes.wire import sense


def connect(node: Node) -> tuple[SerialPort, WitImu]:
    """Open the port and configure the sensor. PortError says what is wrong."""
    wiring = node.run.robot.imu
    port = SerialPort(wiring.port, wiring.baud, node.clock)
    try:
        imu = WitImu(port, wiring, node.clock)
        imu.configure()
    except PortError:
        port.close()
        raise
    return port, imu


def read(imu: WitImu) -> list[Imu]:
    sample = imu.read()
    return [] if sample is None else [sample]


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "imu")
    return sense(node, lambda: connect(node), "imu", int(1e9 / node.run.robot.imu.rate_hz), read)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
