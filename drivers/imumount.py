"""An IMU's readings in its robot's axes: how it is mounted, and what it says at rest, as `robotrl calibrate imu` found it.

Roll, pitch and yaw are of R = Rz(yaw) Ry(pitch) Rx(roll), world from body; Diebel, Representing Attitude (2006), eq. 67 and 74.
Heading is counted from wherever the sensor counts it, turned by the mounting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from robotrl import config

Three = tuple[float, float, float]


class Mounting:
    """Made of the robot's `imu` settings; those that are empty change nothing."""

    def __init__(self, wiring: config.ImuPort) -> None:
        m = wiring.mount or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        self._rows = (m[0:3], m[3:6], m[6:9])  # sensor's axes to the robot's
        self._gyro_bias, self._accel_bias = wiring.gyro_bias or (0.0,) * 3, wiring.accel_bias or (0.0,) * 3
        self._accel_scale = wiring.accel_scale or (1.0,) * 3

    @staticmethod
    def of(wiring: config.ImuPort) -> Mounting | None:
        """None where nothing is known of it: then the sensor's axes are the robot's."""
        known = wiring.mount or wiring.gyro_bias or wiring.accel_bias or wiring.accel_scale
        return Mounting(wiring) if known else None

    def rates(self, rates: Three) -> Three:
        """rad/s."""
        p, q, r = self._gyro_bias
        return self._turned((rates[0] - p, rates[1] - q, rates[2] - r))

    def accel(self, accel: Three) -> Three:
        """m/s2."""
        b, s = self._accel_bias, self._accel_scale
        return self._turned(((accel[0] - b[0]) / s[0], (accel[1] - b[1]) / s[1], (accel[2] - b[2]) / s[2]))

    def attitude(self, roll: float, pitch: float, yaw: float) -> Three:
        """The robot's roll, pitch and yaw of the sensor's, rad."""
        cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
        cy, sy = math.cos(yaw), math.sin(yaw)
        # Rows of world from sensor; each, turned, is a row of world from robot.
        x = self._turned((cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr))
        y = self._turned((sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr))
        z = self._turned((-sp, cp * sr, cp * cr))
        return math.atan2(z[1], z[2]), math.asin(max(-1.0, min(1.0, -z[0]))), math.atan2(y[0], x[0])

    def _turned(self, v: Sequence[float]) -> Three:
        a, b, c = self._rows
        return (
            a[0] * v[0] + a[1] * v[1] + a[2] * v[2],
            b[0] * v[0] + b[1] * v[1] + b[2] * v[2],
            c[0] * v[0] + c[1] * v[1] + c[2] * v[2],
        )
