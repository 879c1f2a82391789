"""The IMU's node: reads the sensor's frames, publishes attitude and rates as they come."""

from __future__ import annotations

import sys
from pathlib import Path

from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import PortError, SerialPort
from robotrl.node import Node
from robotrl.nodes.wire import Wire


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


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "imu")
    try:
        wire = Wire(node, lambda: connect(node))
    except (PortError, ValueError) as error:
        node.say(error)
        node.close()
        return 2
    node.hurry(18)
    publisher = node.bus.publisher("imu")
    for _ in node.every(int(1e9 / node.run.robot.imu.rate_hz)):
        wire.again()
        if wire.device is not None:
            try:
                sample = wire.device.read()
                if sample is not None:
                    publisher.send(sample)
            except PortError as error:
                wire.lost(error)
        node.beat("" if wire.device else "port lost")
    wire.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
