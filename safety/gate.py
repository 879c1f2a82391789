"""The gate: the last code before bytes. Shut, unless a permit of the guard, at most 60 ms old, opens it.

What it promises of each target, whatever comes. `goal` is the target of the cycle before (where it opens: what the servos hold,
or else the present angle), `range` the joint's allowed positions, `band` all angles within the lead of the measured one:

  finite  Every target is a finite number.
  slew    |target - goal| <= slew * speed_scale. Always: nothing below overrules it, so a target never jumps.
  range   If goal is in range, so is target. If not (torque came on outside), target is never farther out than goal. It comes in
          as fast as slew and lead let it where an action is used, and by `limits.inward` at most where none is: nobody drives.
  pair    The same as range, for the sum of two joints.
  lead    If goal is in the band, so is target. If not (the joint was pushed away), target goes towards the
          band by as much as slew allows, except where range, pair or box forbids it.
  box     If goal is in the workspace, so is target. If not, target is never farther out than goal; it comes in if it is asked to.

Each but box holds after the target was rounded to what the wire carries (`limits.margin`); only where torque came on with a joint
within that margin of its limit, and it may not move, is the rounding itself (2e-6 rad) not kept.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from robotrl.safety.limits import READING_MAX, GateLimits, PairSum

PERMIT_VALID_NS = 60_000_000
FUTURE_NS = 1_000_000  # clocks of one machine agree; a stamp farther ahead than this is wrong
WILD_RANGES = 10.0  # an angle this many ranges outside is no attempt at a target (fault catalogue, row 52)
BAD_ACTIONS = 2  # in a row, not finite or wild: the policy is broken (row 51)

TORQUE_STATES = frozenset({"HOLD", "RUN", "RESET", "STOPPING", "PSTOP"})
WRITER = {"RUN": "policy", "RESET": "reset"}  # the only states with a writer, and who it may be
NUMBERS, LARGEST = (int, float), sys.float_info.max  # of a float
RANGE, SLEW, LEAD = 1, 2, 4  # bits of `Verdict.clamped`; pair and box count as range
PARTS = (1.0, 0.5, 0.25)  # of its step that a joint may make at the workspace's edge, the first that does not lead out


class PermitLike(Protocol):
    """`messages.Permit`, or anything with its fields."""

    @property
    def state(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def holder(self) -> str: ...
    @property
    def torque(self) -> bool: ...
    @property
    def speed_scale(self) -> float: ...
    @property
    def t(self) -> int: ...


class ActionLike(Protocol):
    """`messages.Action`, or anything with these of its fields."""

    @property
    def source(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def t(self) -> int: ...
    @property
    def valid_ns(self) -> int: ...
    @property
    def target(self) -> Sequence[float]: ...


class Verdict(NamedTuple):
    """What to write in this cycle. `target` None: write no target; stop profile, or torque off."""

    target: tuple[float, ...] | None  # rad, (n,)
    writer: str  # "policy" or "reset" (the action was used), "hold" (own goal), "" (nothing)
    clamped: tuple[int, ...]  # per joint, bits RANGE, SLEW, LEAD
    refused: str = ""  # why no action was used; empty when one was
    held: bool = False
    cause: str = ""  # id of a fault the guard must hear of ("nan_action"), empty when none


class Gate:
    """One gate for one chain of servos. `counts` has how often each refusal happened, by its name."""

    def __init__(self, limits: GateLimits) -> None:
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self._low = tuple(v + limits.margin for v in limits.position_min)
        self._high = tuple(v - limits.margin for v in limits.position_max)
        self._reach = tuple(v - limits.margin for v in limits.lead)
        self._inward = limits.inward - limits.margin
        self._pairs = tuple(replace(p, low=p.low + 2 * limits.margin, high=p.high - 2 * limits.margin) for p in limits.pairs)
        self._permit: PermitLike | None = None
        self._permit_until = 0
        self._highest_epoch = -1
        self._last_seq = -1
        self._bad_actions = 0
        self._goal: tuple[float, ...] | None = None
        self._present = [0.0] * limits.joints
        self._unread = [sys.maxsize] * limits.joints  # cycles since the joint was read; at first, never

    def permit(self, permit: PermitLike, now: int) -> bool:
        """Take the guard's word, received at `now` (ns). False: refused; the last one still runs out."""
        scale = permit.speed_scale
        wellformed = (
            type(permit.epoch) is int
            and type(permit.torque) is bool
            and type(permit.state) is str
            and type(scale) in (int, float)
            and 0.0 <= scale <= 1.0
            and type(permit.t) is int
        )
        if not wellformed or permit.epoch < self._highest_epoch:
            self._refuse("permit epoch" if wellformed else "permit malformed")
            return False
        if permit.epoch > self._highest_epoch:
            self._highest_epoch, self._last_seq, self._bad_actions = permit.epoch, -1, 0
        if permit.state not in WRITER:  # they have been judged; the next run begins under the old epoch for a cycle
            self._bad_actions = 0
        self._permit = permit
        self._permit_until = min(now, permit.t) + PERMIT_VALID_NS
        return True

    @property
    def open_until(self) -> int | None:
        """The last moment (ns) of an open gate unless another permit comes; None while it is shut."""
        return None if self._goal is None else self._permit_until

    def lapse(self, now: int) -> bool:
        """Between two cycles: shut now if the permit has run out. True when this shut it."""
        if self._goal is None or (self._permit is not None and self._opens(self._permit, now)):
            return False
        self._goal = None
        return True

    def shut(self) -> None:
        """Forget permit and goal: only another permit opens again."""
        self._permit = self._goal = None

    def decide(
        self, now: int, action: ActionLike | None, position: Sequence[float], missed: Sequence[int],
        held: tuple[float, ...] | None = None,
    ) -> Verdict:  # fmt: skip
        """The verdict of one cycle (ns, rad; `position` and `missed` as in Joints).

        `action` is the newest one if it was not shown before, else None. `held`: where it opens, the targets (n,) that an earlier
        verdict gave and that every servo still goes by; None: where torque was off, or may have been. A joint that carries a
        weight hangs under its goal, and would sink with each opening that began where it hangs.
        """
        self._read(position, missed)
        permit = self._permit
        nothing = (0,) * self.limits.joints
        if permit is None or not self._opens(permit, now):
            self._goal = None
            return Verdict(None, "", nothing, self._refuse("no permit"))
        opening = self._goal is None
        if self._goal is None:
            if any(self._unread):
                return Verdict(None, "", nothing, self._refuse("no reading"))
            self._goal = tuple(self._present) if held is None else held
        refused = self._objection(now, action, permit)
        want = self._goal if refused or action is None else tuple([float(v) for v in action.target])
        self._goal, clamped = self._limited(self._goal, want, permit.speed_scale, opening, driven=not refused)
        cause = "nan_action" if self._bad_actions >= BAD_ACTIONS else ""
        if refused:
            return Verdict(self._goal, "hold", clamped, self._refuse(refused), True, cause)
        return Verdict(self._goal, permit.holder, clamped)

    def _opens(self, permit: PermitLike, now: int) -> bool:
        return now <= self._permit_until and permit.torque and permit.state in TORQUE_STATES

    def _refuse(self, why: str) -> str:
        self.counts[why] += 1
        return why

    def _read(self, position: Sequence[float], missed: Sequence[int]) -> None:
        """Keep the last believable angle of each joint and for how many cycles it has been the last."""
        right_shape = len(position) == len(missed) == self.limits.joints
        for i in range(self.limits.joints):
            if right_shape and missed[i] == 0 and _number(position[i]) and abs(position[i]) <= READING_MAX:
                self._present[i], self._unread[i] = float(position[i]), 0
            else:
                self._unread[i] = min(self._unread[i] + 1, sys.maxsize)

    def _objection(self, now: int, action: ActionLike | None, permit: PermitLike) -> str:
        """Why this action may not be used, or ''. Finite before any arithmetic: a clamp is no validator."""
        if action is None:
            return "no action"
        holder = WRITER.get(permit.state, "")
        if not holder or permit.holder != holder or action.source != holder:
            return "holder"
        if type(action.epoch) is not int or action.epoch != permit.epoch:
            return "epoch"
        if type(action.seq) is not int or action.seq <= self._last_seq:
            return "seq"
        self._last_seq = action.seq  # seen once is seen, whatever is found below
        if type(action.t) is not int or type(action.valid_ns) is not int:
            return "age"
        if now - action.t > min(action.valid_ns or self.limits.valid_ns, self.limits.valid_ns):
            return "age"
        if action.t - now > FUTURE_NS:
            return "future"
        target = action.target
        if type(target) not in (tuple, list) or len(target) != self.limits.joints:
            return "shape"
        if not all([isinstance(v, NUMBERS) and type(v) is not bool for v in target]):
            return "shape"
        bad = self._bad_numbers(target)
        self._bad_actions = self._bad_actions + 1 if bad else 0
        return bad

    def _bad_numbers(self, target: Sequence[float]) -> str:
        if not all([_number(v) for v in target]):
            return "non-finite"
        for v, low, high in zip(target, self.limits.position_min, self.limits.position_max, strict=True):
            if v < low - WILD_RANGES * (high - low) or v > high + WILD_RANGES * (high - low):
                return "wild"
        return ""

    def _limited(
        self, goal: tuple[float, ...], want: tuple[float, ...], speed_scale: float, opening: bool, driven: bool
    ) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """The target towards `want` that keeps the promises at the head of this file, and the clamp bits."""
        target = [_clamp(v, low, high) for v, low, high in zip(want, self._low, self._high, strict=True)]
        for pair in self._pairs:  # share what is too much, so that a leg at full stretch can still swing
            total = target[pair.first] + target[pair.second]
            excess = total - _clamp(total, pair.low, pair.high)
            target[pair.first] -= excess / 2
            target[pair.second] -= excess / 2
        if not driven:
            target = [_clamp(v, at - self._inward, at + self._inward) for v, at in zip(target, goal, strict=True)]
        bits = [RANGE if a != b else 0 for a, b in zip(target, want, strict=True)]
        for i, slew in enumerate(self.limits.slew):
            slew = min(slew * speed_scale, self.limits.opening_rad) if opening else slew * speed_scale
            target[i], more = self._limited_joint(i, goal[i], target[i], max(0.0, slew - self.limits.margin))
            bits[i] |= more
        for pair in self._pairs:
            _keep_pair(pair, goal, target, bits)
        if self.limits.outside is not None:
            _keep_inside(self.limits.outside, goal, target, bits)
        return tuple(target), tuple(bits)

    def _limited_joint(self, i: int, goal: float, wanted: float, slew: float) -> tuple[float, int]:
        if self._unread[i] > self.limits.stale_cycles:
            return goal, LEAD  # where it is nobody knows: no target can be said to be near
        led = _clamp(wanted, self._present[i] - self._reach[i], self._present[i] + self._reach[i])
        # Following a joint that was pushed out of its range must not lead out of it, or farther out.
        kept = _clamp(led, min(goal, self._low[i]), max(goal, self._high[i]))
        # Slew comes last: what it gives lies between goal and `kept`, and so breaks none of the above.
        slewed = _clamp(kept, goal - slew, goal + slew)
        return slewed, LEAD * (led != wanted) | RANGE * (kept != led) | SLEW * (slewed != kept)


def _keep_pair(pair: PairSum, goal: Sequence[float], target: list[float], bits: list[int]) -> None:
    """Shorten both joints' steps alike until their sum is allowed, or no worse than the goal's was."""
    a, b = pair.first, pair.second
    before = goal[a] + goal[b]
    step = target[a] + target[b] - before
    bound = _clamp(before + step, min(before, pair.low), max(before, pair.high))
    if bound != before + step:
        share = (bound - before) / step
        for i in (a, b):
            target[i] = goal[i] + share * (target[i] - goal[i])
            bits[i] |= RANGE


def _keep_inside(
    outside: Callable[[Sequence[float]], float], goal: Sequence[float], target: list[float], bits: list[int]
) -> None:
    """Where the whole step leads out, or farther out than goal is, the joints take theirs one after another, as far as they may.

    So an arm that is asked through the floor slides along it. What is no number counts as out.
    """
    bound = max(0.0, outside(goal))
    if outside(target) <= bound:
        return
    wanted, target[:] = tuple(target), goal
    for i, wish in enumerate(wanted):
        for part in PARTS:
            target[i] = goal[i] + part * (wish - goal[i])
            if outside(target) <= bound:
                break
        else:
            target[i] = goal[i]
        bits[i] |= RANGE * (target[i] != wish)


def _clamp(value: float, low: float, high: float) -> float:
    value = low if low > value else value
    return high if high < value else value


def _number(value: object) -> bool:
    """A finite number that a float can hold: not nan, an infinity, an integer beyond that, or a bool."""
    return isinstance(value, NUMBERS) and type(value) is not bool and -LARGEST <= value <= LARGEST
