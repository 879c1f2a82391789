"""Attitude from noisy angles and quick rates: the complementary filter between an IMU's samples and who reads them.

Between two samples the angles go on with the gyro's rates; then a small part of what the measured angles say otherwise is taken.
So noise of the angles is averaged over `smoothing_s`, without the lag of an average: what the gyro saw is followed at once.
"""

from __future__ import annotations

import math

AWAY_MAX = 0.15  # rad, how far it may be from what was measured: 3 sd of the noisiest sensor; a mad gyro leads no farther
STEEP = 1.2  # rad of pitch, from where the rate of roll grows without bound: there the measured angles are taken as they are


class ComplementaryFilter:
    """Roll and pitch (rad). `period_s`: between samples; `smoothing_s`: 0 takes every sample as it is.

    White noise of sd s in the angles comes out as s sqrt(k / (2 - k)), k = period / (period + smoothing): 0.16 s at 5 and 100 ms.
    Source of the Euler rates: Diebel, Representing Attitude (2006), eq. 76.
    """

    def __init__(self, period_s: float, smoothing_s: float) -> None:
        self._period = period_s
        self._share = period_s / (period_s + smoothing_s)
        self._last: tuple[float, float, float, float] | None = None  # roll, pitch, their rates

    def restart(self) -> None:
        """Samples were lost: how long ago the last one was is not known. The next is taken as it is."""
        self._last = None

    def update(self, roll: float, pitch: float, rates: tuple[float, float, float]) -> tuple[float, float]:
        """A sample as measured, rad and body rates in rad/s; the filtered roll and pitch."""
        last = self._last
        if last is None or abs(pitch) > STEEP:
            self._last = (roll, pitch, *_euler_rates(roll, pitch, rates))
            return roll, pitch
        was_roll, was_pitch, was_roll_rate, was_pitch_rate = last
        period, kept = self._period, 1.0 - self._share
        roll_rate, pitch_rate = _euler_rates(was_roll + period * was_roll_rate, was_pitch + period * was_pitch_rate, rates)
        half = 0.5 * period
        away_roll = kept * _turn(was_roll + half * (was_roll_rate + roll_rate) - roll)
        away_pitch = kept * _turn(was_pitch + half * (was_pitch_rate + pitch_rate) - pitch)
        if not -AWAY_MAX <= away_roll <= AWAY_MAX:
            away_roll = math.copysign(AWAY_MAX, away_roll)
        if not -AWAY_MAX <= away_pitch <= AWAY_MAX:
            away_pitch = math.copysign(AWAY_MAX, away_pitch)
        roll, pitch = _turn(roll + away_roll), pitch + away_pitch
        self._last = (roll, pitch, roll_rate, pitch_rate)
        return roll, pitch


def _turn(angle: float) -> float:
    """The same direction in [-pi, pi]."""
    return angle if -math.pi <= angle <= math.pi else math.remainder(angle, 2 * math.pi)


def _euler_rates(roll: float, pitch: float, rates: tuple[float, float, float]) -> tuple[float, float]:
    """Rates of roll and pitch; 0 where pitch is too steep for them."""
    if abs(pitch) > STEEP:
        return 0.0, 0.0
    p, q, r = rates
    sin, cos = math.sin(roll), math.cos(roll)
    return p + (q * sin + r * cos) * math.tan(pitch), q * cos - r * sin
