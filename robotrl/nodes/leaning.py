"""Up in the torso's frame by the IMU when a picture was taken: how sure it is, and what sight has taught about its bias."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from robotrl.messages import Imu

Array = NDArray[np.float64]
KEPT = 64  # attitudes: 0.3 s at 200 Hz
OLD_NS = 50_000_000  # an attitude farther from the picture than this says nothing of it
BIAS_RAD = 0.06  # sd, of an IMU on a torso before sight has seen it; chosen
NOISE_RAD = 0.02  # sd, of a smoothed attitude; chosen
SKEW_S = 0.015  # by which the two stamps differ: so much more for each rad/s that the torso turns; chosen
PICTURES = 60.0  # over which a bias is learnt, a second's; it drifts in minutes


class Leaning:
    """`bias`: up by sight less up by the IMU, (3,), as far as it is known."""

    def __init__(self) -> None:
        self.bias: Array = np.zeros(3)
        self._learned = 0.0
        self._known: deque[tuple[int, Array, Array]] = deque(maxlen=KEPT)  # when, up, body rates, rad/s

    def hear(self, imu: Imu) -> None:
        """An attitude; a stale one, or one that is no number, says nothing."""
        if not imu.stale and all(map(math.isfinite, (imu.roll, imu.pitch, *imu.rates))):
            self._known.append((imu.t, up_of(imu.roll, imu.pitch), np.array(imu.rates)))

    def at(self, t: int) -> tuple[Array, float] | None:
        """Up (3,) when a picture was taken, t ns, and its sd, rad; None where nothing was heard near it."""
        nearest = min(self._known, key=lambda known: abs(known[0] - t), default=None)
        if nearest is None or abs(nearest[0] - t) > OLD_NS:
            return None
        heard, up, rates = nearest
        turning = np.cross(up, rates)  # of what stands still, as the torso sees it
        unknown = BIAS_RAD * (1.0 - self._learned / PICTURES)
        sigma = math.sqrt(unknown**2 + NOISE_RAD**2 + SKEW_S**2 * float(turning @ turning))
        return up + (t - heard) * 1e-9 * turning + self.bias, sigma

    def learn(self, t: int, seen: Array) -> None:
        """Up at `t` as sight has it, from tags that lean away from each other: what is told apart is told without the IMU."""
        if (here := self.at(t)) is None:
            return
        self._learned = min(PICTURES, self._learned + 1.0)
        self.bias += (seen - here[0]) / self._learned


def up_of(roll: float, pitch: float) -> Array:
    """The world's up in the frame of a torso that leans so, (3,)."""
    return np.array((-math.sin(pitch), math.sin(roll) * math.cos(pitch), math.cos(roll) * math.cos(pitch)))
