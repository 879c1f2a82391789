"""What the gate lets through: numbers only, checked once when they are made.

The node builds them from `config.Limits`; `legged_limits` is the arithmetic for legs with two motors each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIRE_MARGIN = 1e-5
"""rad kept free inside every limit. A target travels as float32 revolutions: within 16 revolutions of the
servo's zero it is rounded by at most 2**-24 * 16 rev = 6e-6 rad, so what the servo decodes is inside too."""

INWARD_RAD_S = 0.5
"""rad/s at which a target outside comes in while nobody drives: slow enough for who has just switched torque on, and stands next
to a robot that is said to stand still, to see it move and to press a key (0.5 rad in a second; chosen)."""

READING_MAX = 100.0
"""rad; a joint reading beyond this (16 revolutions) is not believed: the margin above holds for the rest."""


@dataclass(frozen=True)
class PairSum:
    """Keeps target[first] + target[second] in [low, high] rad. Half of a leg's sum is its extension."""

    first: int
    second: int
    low: float
    high: float


@dataclass(frozen=True)
class GateLimits:
    """Per joint, rad, shape (n,). Raises ValueError, naming the joint, on limits that would hold nothing."""

    position_min: tuple[float, ...]
    position_max: tuple[float, ...]
    slew: tuple[float, ...]  # largest change of a target in one period
    lead: tuple[float, ...]  # largest distance of a target from the measured angle
    pairs: tuple[PairSum, ...] = ()
    valid_ns: int = 75_000_000  # an older action is dropped; a sender may ask for less, never for more
    opening_rad: float = 0.035  # 2 degrees: the first target after torque comes on is this near the present angle
    inward: float = INWARD_RAD_S * 0.02  # the largest change of a target that comes in from outside while no action is used
    stale_cycles: int = 3  # a joint unread for longer keeps its goal: nobody knows where it is
    margin: float = WIRE_MARGIN  # rad kept free inside every limit, for what the wire rounds a target to
    # m by which joint angles (n,) lead out of the workspace, or 0; the way kept free by which rounding moves the arm's points
    outside: Callable[[Sequence[float]], float] | None = None

    def __post_init__(self) -> None:
        n = self.joints
        if n == 0 or not n == len(self.position_max) == len(self.slew) == len(self.lead):
            raise ValueError("gate limits: minimum, maximum, slew and lead need one value a joint each")
        for i in range(n):
            low, high = self.position_min[i], self.position_max[i]
            if not all(-READING_MAX <= v <= READING_MAX for v in (low, high, self.slew[i], self.lead[i])):
                raise ValueError(f"gate limits: joint {i} needs finite angles within {READING_MAX} rad")
            if min(high - low, self.slew[i], self.lead[i]) <= 4 * self.margin:
                raise ValueError(f"gate limits: joint {i} needs a range, a slew and a lead above zero")
        if not (0 < self.opening_rad <= READING_MAX and self.valid_ns > 0 and self.stale_cycles >= 0):
            raise ValueError("gate limits: opening_rad and valid_ns must be above zero, stale_cycles not below")
        if not self.margin < self.inward <= READING_MAX:
            raise ValueError("gate limits: inward must be above the margin, or what is outside never comes in")
        used = [i for pair in self.pairs for i in (pair.first, pair.second)]
        if len(used) != len(set(used)) or not all(0 <= i < n for i in used):
            raise ValueError("gate limits: a pair names an unknown joint, or a joint is in two pairs")
        if self.pairs and self.outside is not None:
            raise ValueError("gate limits: pairs and a workspace do not go together: it lets joints go on their own")
        if not all(8 * self.margin < pair.high - pair.low < math.inf for pair in self.pairs):
            raise ValueError("gate limits: the sum of a pair needs room between its low and its high")

    @property
    def joints(self) -> int:
        return len(self.position_min)


def legged_limits(
    joints: int, low: float, high: float, slew: float, lead: float, gap_min: float, inward: float = GateLimits.inward
) -> GateLimits:
    """Limits of a robot with two motors a leg, motors 2i and 2i+1; all rad, `slew` and `inward` rad per period.

    The gap of a leg is pi - 2 (e - pi/2), e the mean of its two motor angles, so gap = 2 pi - sum of the two:
    gap_min <= gap <= 2 pi - gap_min is the same as gap_min <= sum <= 2 pi - gap_min.
    """
    pairs = tuple(PairSum(i, i + 1, gap_min, 2 * math.pi - gap_min) for i in range(0, joints - 1, 2))
    return GateLimits((low,) * joints, (high,) * joints, (slew,) * joints, (lead,) * joints, pairs, inward=inward)


def jointed_limits(
    low: Sequence[float], high: Sequence[float], slew: float, lead: float, margin: float,
    outside: Callable[[Sequence[float]], float] | None = None, inward: float = GateLimits.inward,
) -> GateLimits:  # fmt: skip
    """Limits of a robot whose joints stand alone, each with its own range; all rad, `slew` and `inward` rad per period."""
    n = len(low)
    return GateLimits(tuple(low), tuple(high), (slew,) * n, (lead,) * n, inward=inward, margin=margin, outside=outside)
