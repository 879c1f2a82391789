"""Resets as data: stages with a pose, a time and a test, and one stepper. The poses come from drivers/legged.py.

An attempt plays the self-right stages when the robot lies (tilted more than the last stand stage allows), a way to
get up when it lies, a joint is far from the stand, or an attempt has failed, then the stand stages. Each next
attempt gets up in the next way. A stage that fails its test ends the attempt. Where `wait_s` says so, a joint that lags
holds up all others: they would put the robot's weight on that leg, or tip it over. If it must arrive and is still held
after that, the attempt ends at once. After the last attempt the outcome is "failed" and stays so: the guard asks the
operator, and his answer starts a new script. Without self-right stages a robot that has come to lie on its side or back
has failed at once: the others only kick there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

OVER, OVER_S = 1.0, 0.3  # rad, s: on its side or back; of 135 resets on the twin none that ended well was so for so long
NEAR = 1.0  # rad from the stand's pose: farther, and the legs do not carry the robot straight up
LAG = 0.6  # rad behind its target: a joint that far behind is held by something; chosen on the twin


@dataclass(frozen=True)
class Stage:
    """Go to `target` (rad, (n,)) in `seconds`. Passed when all joints are within `tolerance` (rad) of it and
    neither roll nor pitch is beyond `max_tilt` (rad; pi asks nothing). ValueError if it could never pass."""

    name: str
    target: tuple[float, ...]
    seconds: float
    tolerance: float
    max_tilt: float

    def __post_init__(self) -> None:
        numbers = (*self.target, self.seconds, self.tolerance, self.max_tilt)
        if not all(map(math.isfinite, numbers)) or min(self.seconds, self.tolerance, self.max_tilt) <= 0:
            raise ValueError(f"reset stage {self.name}: angles must be finite, times and tolerances above zero")


@dataclass(frozen=True)
class ResetStep:
    """What to do now. `target` None: the joints' angles are not known, nothing can be asked of them."""

    target: tuple[float, ...] | None  # rad, (n,)
    stage: str
    attempt: int  # from 1
    outcome: str  # "running", "done", "failed"
    reason: str = ""  # what the present stage still lacks


class ResetScript:
    """One reset. Times in ns, angles in rad. Targets never jump: each stage starts where the last target was,
    the first one at the measured angles, and moves with zero speed at both its ends."""

    def __init__(
        self,
        stand: Sequence[Stage],
        self_right: Sequence[Stage] = (),
        get_up: Sequence[Sequence[Stage]] = (),
        *,
        attempts: int = 3,
        patience_s: float = 0.5,  # beyond its seconds, for a stage to pass its test
        settle_s: float = 0.2,  # for which the last stage's test must hold
        wait_s: float = 0.0,  # for which all joints of a stage wait for one that lags
    ) -> None:
        sizes = {len(stage.target) for stage in (*stand, *self_right, *(stage for way in get_up for stage in way))}
        if not stand or len(sizes) != 1 or attempts < 1:
            raise ValueError("a reset needs a stand stage, stages of one size, and at least one attempt")
        self._stand, self._self_right, self._get_up = tuple(stand), tuple(self_right), tuple(get_up)
        self._ways = 0  # to get up, tried so far
        self._joints = sizes.pop()
        self._attempts, self._patience, self._settle = attempts, patience_s, settle_s
        self._wait_ns = round(wait_s * 1e9)
        self._waited = self._stepped = 0  # ns: in this stage for a joint that lags; when the last step was
        self._stages = self._stand
        self._index = 0
        self._attempt = 1
        self._began: int | None = None  # this stage, or the wait for the first reading
        self._target: tuple[float, ...] = ()  # none until the joints' angles are known
        self._start: tuple[float, ...] = self._target  # the one when this stage began
        self._good_since: int | None = None
        self._over_since: int | None = None
        self._outcome, self._reason = "running", ""

    def step(self, now: int, position: Sequence[float], roll: float, pitch: float) -> ResetStep:
        """The target for now. Readings that are no numbers never pass a test; time then ends the attempt."""
        known = len(position) == self._joints and all(map(math.isfinite, position))
        tilt = max(abs(roll), abs(pitch)) if math.isfinite(roll + pitch) else math.inf
        if self._outcome == "running" and not self._target:
            self._wait(now, tuple(position) if known else None, tilt)
        elif self._outcome == "running" and self._helpless(now, tilt):
            self._outcome, self._reason = "failed", f"tilted by {tilt:.2f} rad, and nothing here turns it over"
        elif self._outcome == "running":
            stage = self._stages[self._index]
            throws = stage in self._self_right  # and waits for nobody
            lag = _lag(stage, self._target, position) if known and not throws else 0.0
            elapsed = (now - self._moved(now, lag > LAG)) * 1e-9
            self._target = _between(self._start, stage.target, elapsed / stage.seconds)
            if elapsed >= stage.seconds:
                self._reason = _lack(stage, position if known else None, tilt)
                self._judge(now, elapsed - stage.seconds, tilt)
            elif 0 < self._wait_ns <= self._waited and lag > max(LAG, stage.tolerance):
                self._reason = f"{stage.name}: a joint is held {lag:.2f} rad behind its target"
                self._end_attempt(now, tilt)
        self._stepped = now
        stage = self._stages[self._index]
        return ResetStep(self._target or None, stage.name, self._attempt, self._outcome, self._reason)

    def _wait(self, now: int, position: tuple[float, ...] | None, tilt: float) -> None:
        """Begin when angles and tilt are known; without them nobody can say which way is up."""
        self._began = now if self._began is None else self._began
        if position is not None and math.isfinite(tilt):
            self._target, self._reason = position, ""
            self._begin_attempt(now, tilt)
        else:
            self._reason = "no joint angles" if position is None else "no tilt"
            self._outcome = "failed" if now - self._began > self._patience * 1e9 else "running"

    def _helpless(self, now: int, tilt: float) -> bool:
        """On its side or back for a while, without a stage that could turn it."""
        if self._self_right or not OVER < tilt < math.inf:
            self._over_since = None
            return False
        self._over_since = now if self._over_since is None else self._over_since
        return now - self._over_since >= OVER_S * 1e9

    def _moved(self, now: int, lags: bool) -> int:
        """When this stage's motion would have begun without a wait. It stands still while a joint lags, so long at most."""
        assert self._began is not None  # with the stage
        if lags:
            waits = min(now - self._stepped, self._wait_ns - self._waited)
            self._waited += waits
            self._began += waits
        return self._began

    def _judge(self, now: int, late: float, tilt: float) -> None:
        """The stage's time is over: has it passed, for long enough, or has it taken too long?"""
        last = self._index == len(self._stages) - 1
        if not self._reason:
            self._good_since = now if self._good_since is None else self._good_since
            if not last:
                self._begin_stage(now, self._index + 1)
            elif now - self._good_since >= self._settle * 1e9:
                self._outcome = "done"
            return
        self._good_since = None
        if late >= self._patience:
            self._end_attempt(now, tilt)

    def _end_attempt(self, now: int, tilt: float) -> None:
        if self._attempt == self._attempts:
            self._outcome = "failed"
        else:
            self._attempt += 1
            self._begin_attempt(now, tilt)

    def _begin_attempt(self, now: int, tilt: float) -> None:
        lies = tilt > self._stand[-1].max_tilt
        away = max(abs(a - b) for a, b in zip(self._target, self._stand[0].target, strict=True))
        get_up: Sequence[Stage] = ()
        if self._get_up and (lies or away > NEAR or self._attempt > 1):
            get_up = self._get_up[self._ways % len(self._get_up)]
            self._ways += 1
        self._stages = (*(self._self_right if lies else ()), *get_up, *self._stand)
        self._begin_stage(now, 0)

    def _begin_stage(self, now: int, index: int) -> None:
        self._index, self._began, self._good_since, self._waited = index, now, None, 0
        self._start = self._target


def _between(start: Sequence[float], end: Sequence[float], part: float) -> tuple[float, ...]:
    """From start (part <= 0) to end (part >= 1) along 3x^2 - 2x^3, whose slope is zero at both ends."""
    x = min(max(part, 0.0), 1.0)
    x = x * x * (3.0 - 2.0 * x)
    return tuple(a + x * (b - a) for a, b in zip(start, end, strict=True))


def _lag(stage: Stage, target: Sequence[float], position: Sequence[float]) -> float:
    """How much farther than its target a joint is from the stage's end, rad; the one that lags most."""
    return max(abs(end - at) - abs(end - to) for end, to, at in zip(stage.target, target, position, strict=True))


def _lack(stage: Stage, position: Sequence[float] | None, tilt: float) -> str:
    """What the stage still lacks to pass, or ''."""
    if position is None:
        return "no joint angles"
    off = max(abs(a - b) for a, b in zip(position, stage.target, strict=True))
    if off > stage.tolerance:
        return f"{stage.name}: a joint is {off:.2f} rad from its target"
    return f"{stage.name}: tilted by {tilt:.2f} rad" if tilt > stage.max_tilt else ""
