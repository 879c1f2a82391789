"""The stop profile of what falls without torque: hold, go slowly to a pose in which it falls no farther, then nothing.

The stow is a writer like any other, so it goes through a gate of its own, built from the robot's own limits: its targets are
finite, in range, slewed and near the joints, whatever is read. Stdlib only; no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from robotrl.safety.gate import Gate
from robotrl.safety.limits import READING_MAX, GateLimits

HOLD_NS = 300_000_000  # first it comes to rest; chosen, as the guard's own ramp to rest
SPEED_SCALE = 0.5  # of the gate's slew, as a reset
NEAR_RAD = 0.1  # from the pose: a joint that carries a weight hangs a little lower
FOLLOWS_RAD = 0.15  # from its target, at most, of a joint that nothing is in the way of; chosen
SETTLE_NS = 200_000_000  # for which it must be so near
STUCK_NS = 200_000_000  # for which no target has changed, and all joints are there: then the workspace binds no more; chosen


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
    valid_ns: int = 0  # as long as the gate lets it


class Stow:
    """One stop. `step` once a cycle; whoever calls bounds the time: a joint that is held elsewhere never gets there.

    `unheard`: places of the joints that have not answered yet since the chain was made. Where they are nobody knows, so their
    target is to reach no wire: a servo that hears and does not answer would go to it at once.
    """

    _opens: bool  # the gate is a new one

    def __init__(self, limits: GateLimits, pose: Sequence[float], held: tuple[float | None, ...] | None = None) -> None:
        """`pose`: rad, (n,). `held`: the target that each servo goes by as it begins, None where nobody knows it."""
        self._pose, self._held = tuple(pose), held
        self._open(limits)
        self._at, self._goal = list(pose), list(pose)  # of a joint that was never heard both are where it is to lie
        self.unheard = tuple(range(len(self._pose)))
        self._began: int | None = None
        self._near_since: int | None = None
        self._went = 0  # when a target last changed, ns
        self._seq = 0

    def step(self, now: int, position: Sequence[float], missed: Sequence[int], hold: bool = False) -> tuple[float, ...] | None:
        """The targets (n,) rad to write at `now` (ns, awake), none while no joint has been heard; None: torque may go off.
        `position` and `missed` as in Joints. `hold`: it stays, and goes on when HOLD_NS have passed since the last such word.

        A joint that does not answer when it begins counts as where it was last, and one that was never heard as lying where it
        is to lie: the others are lowered all the same, and for as long as it stays unheard torque may not go off.
        """
        believed = [i for i, at in enumerate(position) if abs(at) <= READING_MAX]  # which no nan is
        for i in believed:
            self._at[i] = position[i]
        if heard := set(believed) & set(self.unheard):
            self._take_in(heard)
        if len(self.unheard) == len(self._pose):
            return ()
        if self._began is None or hold:
            self._began, self._near_since = now, None
        holding = now - self._began < HOLD_NS
        down = not self.unheard and all(abs(at - goal) < NEAR_RAD for at, goal in zip(self._at, self._pose, strict=True))
        near = down and not holding
        self._near_since = None if not near else now if self._near_since is None else self._near_since
        if self._near_since is not None and now - self._near_since >= SETTLE_NS:
            return None
        self._seq += 1
        self._gate.permit(_Word(now), now)
        # A gate that opens anew counts all as read, and would lead on whom nobody has heard for long.
        mute = [n > self._limits.stale_cycles for n in missed]
        wanted = tuple([at if no else end for at, end, no in zip(self._goal, self._pose, mute, strict=True)])
        wish = None if holding else _Wish(self._seq, now, wanted)
        # To a gate that opens all are read: where they are, were last, or are to lie.
        opens, self._opens = self._opens, False
        unread = [int(not opens and (n > 0 or i not in believed)) for i, n in enumerate(missed)]
        target = self._gate.decide(now, wish, self._at, unread, tuple(self._goal)).target
        assert target is not None  # a permit of this moment, and a number for each joint: such a gate opens
        # A hand that is in the way, or a joint that nobody hears, is no edge. What the last joint holds may keep it open.
        follow = [abs(at - goal) < FOLLOWS_RAD for at, goal in zip(self._at[:-1], target[:-1], strict=True)]
        if holding or any(mute) or not all(follow) or list(target) != self._goal:
            self._went = now
        elif now - self._went >= STUCK_NS and self._limits.outside is not None:
            # A hand at its own base: no joint alone finds a way within the workspace. Better it slides over the table than falls.
            self._open(replace(self._limits, outside=None))
        self._goal = list(target)
        return target

    def sunk(self, joints: Collection[int], position: Sequence[float]) -> None:
        """These joints (places) have been without torque: they are led on from where they are, the others as they were."""
        for i in joints:
            self._goal[i] = position[i]
        self._open(self._limits)

    def _take_in(self, heard: Collection[int]) -> None:
        """These joints are known from now on. A gate takes goals as it opens: another one opens, where the joints are led."""
        self.unheard = tuple(i for i in self.unheard if i not in heard)
        for i in heard:
            led = None if self._held is None else self._held[i]
            self._goal[i] = self._at[i] if led is None else led
        self._open(self._limits)

    def _open(self, limits: GateLimits) -> None:
        """Begin with another gate, where the joints are led."""
        self._limits, self._gate, self._opens = limits, Gate(limits), True
