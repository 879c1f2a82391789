"""The stop profile of what falls without torque: hold, go slowly to a pose in which it falls no farther, then nothing.

The stow is a writer like any other, so it goes through a gate of its own, built from the robot's own limits: its targets are
finite, in range, slewed and near the joints, whatever is read. Stdlib only; no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robotrl.safety.gate import Gate
from robotrl.safety.limits import GateLimits

HOLD_NS = 300_000_000  # first it comes to rest; chosen, as the guard's own ramp to rest
SPEED_SCALE = 0.5  # of the gate's slew, as a reset
NEAR_RAD = 0.1  # from the pose: a joint that carries a weight hangs a little lower
SETTLE_NS = 200_000_000  # for which it must be so near
VALID_NS = 60_000_000


@dataclass(frozen=True)
class _Word:
    """A permit of nobody's but ours."""

    t: int
    state: str = "RESET"
    epoch: int = 0
    holder: str = "reset"
    torque: bool = True
    speed_scale: float = SPEED_SCALE


@dataclass(frozen=True)
class _Wish:
    seq: int
    t: int
    target: tuple[float, ...]
    source: str = "reset"
    epoch: int = 0
    valid_ns: int = VALID_NS


class Stow:
    """One stop. `step` once a cycle; whoever calls bounds the time: a joint that is held elsewhere never gets there."""

    def __init__(self, limits: GateLimits, pose: Sequence[float], held: tuple[float, ...] | None = None) -> None:
        """`pose`: rad, (n,). `held`: the targets that the servos go by as it begins, as in Gate.decide."""
        self._gate, self._pose, self._held = Gate(limits), tuple(pose), held
        self._began: int | None = None
        self._near_since: int | None = None
        self._seq = 0

    def step(self, now: int, position: Sequence[float], missed: Sequence[int]) -> tuple[float, ...] | None:
        """The targets (n,) rad to write at `now` (ns); None: torque may go off. `position` and `missed` as in Joints.

        A joint that does not answer when it begins counts as where it was last: the others are lowered all the same.
        """
        if self._began is None:
            self._began, missed = now, (0,) * len(position)
        holding = now - self._began < HOLD_NS
        near = not holding and all(abs(at - goal) < NEAR_RAD for at, goal in zip(position, self._pose, strict=True))
        self._near_since = None if not near else now if self._near_since is None else self._near_since
        if self._near_since is not None and now - self._near_since >= SETTLE_NS:
            return None
        self._seq += 1
        self._gate.permit(_Word(now), now)
        wish = None if holding else _Wish(self._seq, now, self._pose)
        return self._gate.decide(now, wish, position, missed, self._held).target
