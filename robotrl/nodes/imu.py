"""The IMU's node: reads the sensor's frames, publishes attitude and rates as they come."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import SerialPort
from robotrl.node import Node


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "imu")
    ports = node.run.robot.imu
    port = SerialPort(ports.port, ports.baud, node.clock)
    imu = WitImu(port, ports, node.clock)
    imu.configure()
    publisher = node.bus.publisher("imu")
    for _ in node.every(int(1e9 / ports.rate_hz)):
        sample = imu.read()
        if sample is not None:
            publisher.send(sample)
        node.beat()
    port.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
