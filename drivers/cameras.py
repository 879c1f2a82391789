"""Every kind of camera by one name: what the robot file says, opened. Each kind's library is loaded when it is asked for."""

from __future__ import annotations

from robotrl.clock import Clock
from robotrl.config import CameraPort
from robotrl.drivers.camera import Camera


def connect(wiring: CameraPort, clock: Clock) -> Camera:
    """The camera that is meant, open and set up. CameraError when it cannot be had."""
    if wiring.kind == "mjpeg":
        from robotrl.drivers.mjpeg import connect as on_the_network

        return on_the_network(wiring.url, clock)
    if wiring.kind == "realsense" or (wiring.kind == "file" and wiring.path.endswith((".db3", ".bag"))):
        from robotrl.drivers.realsense import RealSense

        return RealSense(wiring, clock)
    if wiring.kind == "uvc":
        from robotrl.drivers.uvc import connect as on_usb

        return on_usb(wiring, clock)
    from robotrl.drivers.recording import Recording

    return Recording(wiring.path, clock)
