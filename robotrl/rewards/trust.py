"""Whether a success classifier may be believed: its precision with a bound, its calibration, and where a person disagrees. Pure.

What is counted are verdicts on episodes, not frames: the frames of one episode look alike, and a hundred of them are no more
evidence than one. The precision of a threshold is shown by the exact one-sided bound of Clopper and Pearson (1934) for the
held-out episodes on which it said success. Several thresholds are tried on the same episodes, so each bound is made at
`1 - (1 - confidence) / thresholds` (Bonferroni): all of them hold at once, and to choose among them costs no honesty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.5, 0.8, 0.95)  # few: each further one costs all of them some of their bound; chosen
BINS = 10  # of the calibration curve
STEPS = 60  # of a bisection: 1e-18
WINDOW = 20  # episodes that a disagreement is judged by, the last on which the classifier said success; chosen


def tail(right: int, n: int, p: float) -> float:
    """P(X >= right) of X binomial (n, p)."""
    if right <= 0:
        return 1.0
    if p <= 0.0 or p >= 1.0:
        return float(p >= 1.0)
    ways = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
            for k in range(right, n + 1))  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, ways)))


def lower_bound(right: int, n: int, confidence: float) -> float:
    """The share that `right` of `n` show with this confidence (Clopper and Pearson 1934), 0 of nothing.

    Whatever the true share, what is stated is above it in no more than 1 - confidence of all cases.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} of {n} is no share")
    low, high = 0.0, right / n if n else 0.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(right, n, middle) < 1.0 - confidence else (low, middle)
    return low


class Trial(NamedTuple):
    """One threshold on the held-out episodes: on how many it said success, how many of these were, and how many there were."""

    threshold: float
    said: int
    right: int
    successes: int
    bound: float  # of the precision

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else math.nan

    @property
    def recall(self) -> float:
        return self.right / self.successes if self.successes else math.nan


class Trust(NamedTuple):
    """What the held-out episodes say of a classifier. `why`: it may not be used, in one line; empty: it may."""

    chosen: Trial
    trials: tuple[Trial, ...]
    episodes: int  # held out, with an outcome that a person gave
    why: str


def judge(trials: Sequence[tuple[float, int, int, int]], episodes: int, stated: float, confidence: float) -> Trust:
    """Of (threshold, said, right, successes) each: the threshold that finds most of those whose precision is shown to do.

    Where none is, the one with the best bound, and why it is not used.
    """
    each = 1.0 - (1.0 - confidence) / len(trials)
    tried = tuple(Trial(*trial, lower_bound(trial[2], trial[1], each)) for trial in trials)
    good = [trial for trial in tried if trial.bound >= stated]
    if good:
        return Trust(max(good, key=lambda t: (t.right, t.bound)), tried, episodes, "")
    best = max(tried, key=lambda t: (t.bound, t.right))
    return Trust(best, tried, episodes, _refusal(best, episodes, stated, each))


def _refusal(best: Trial, episodes: int, stated: float, confidence: float) -> str:
    if not best.said:
        return f"it said success of none of {episodes} held-out episodes, {best.successes} of which were; label more"
    shown = math.floor(best.bound * 1000) / 1000  # 0.7999 is not shown as 0.800
    what = f"precision {best.right} of {best.said} on held-out episodes shows {shown:.3f}, asked is {stated:g}"
    if best.right / best.said <= stated:
        return f"{what}: it is too often wrong; label its queue"
    return f"{what}: {needed(stated, confidence)} without an error would do; label more"


def needed(stated: float, confidence: float) -> int:
    """Verdicts, all right, that show a precision of `stated`: the least n with stated^n <= 1 - confidence."""
    return math.ceil(math.log(1.0 - confidence) / math.log(stated) - 1e-9) if 0 < stated < 1 else 0


class Bin(NamedTuple):
    """One bar of the calibration curve: frames of like probability, its mean, and what share of them were successes."""

    frames: int
    said: float
    was: float


def calibration(probability: NDArray[np.floating], success: NDArray[np.bool_]) -> tuple[list[Bin], float]:
    """BINS bins of [0, 1], those without a frame left out, and the expected calibration error (Naeini et al. 2015)."""
    place = np.minimum((np.asarray(probability, float) * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        if (of := place == k).any():
            bins.append(Bin(int(of.sum()), float(probability[of].mean()), float(success[of].mean())))
    total = sum(b.frames for b in bins)
    return bins, sum(b.frames * abs(b.said - b.was) for b in bins) / total if total else 0.0


class Confusion(NamedTuple):
    """Verdicts on episodes against a person's."""

    right: int = 0  # both: success
    false: int = 0  # the classifier: success; the person: none
    missed: int = 0  # the other way round
    quiet: int = 0  # neither


def confusion(pairs: Sequence[tuple[bool, bool]]) -> Confusion:
    """Of (what the classifier said, what the person said) each."""
    count = [sum(pair == kind for pair in pairs) for kind in ((True, True), (True, False), (False, True), (False, False))]
    return Confusion(*count)


def alarm(pairs: Sequence[tuple[bool, bool]], stated: float, confidence: float) -> str:
    """Why person and classifier disagree by more than the stated precision allows, in one line; empty where they do not.

    Of the last WINDOW episodes on which the classifier said success: so many false ones would be seen in no more than
    1 - confidence of all cases if its precision were as stated. Of the last as many successes of the person's it must have seen
    half: one that sees nothing does no harm, but teaches nothing either.
    """
    said = [person for classifier, person in pairs if classifier][-WINDOW:]
    false = said.count(False)
    if false and tail(false, len(said), 1.0 - stated) < 1.0 - confidence:
        return f"of the last {len(said)} successes that it said, the person says {false} were none"
    seen = [classifier for classifier, person in pairs if person][-WINDOW:]
    if len(seen) >= WINDOW // 2 and (missed := seen.count(False)) > len(seen) / 2:
        return f"of the last {len(seen)} successes that the person said, it saw {len(seen) - missed}"
    return ""


def uncertain(probability: NDArray[np.floating], threshold: float, episode: NDArray[np.integer], most: int) -> list[int]:
    """Which frames a person should be asked about: those nearest to the threshold, one an episode, the nearest first.

    By log-odds: from 0.98 to 0.99 is as far as from 0.5 to 0.67. `probability`, `episode`: (n,).
    """
    p = np.clip(np.asarray(probability, float), 1e-6, 1 - 1e-6)
    far = np.abs(np.log(p / (1 - p)) - math.log(threshold / (1 - threshold)))
    found: list[int] = []
    asked: set[int] = set()
    for i in np.argsort(far, kind="stable").tolist():
        if len(found) >= most:
            break
        if int(episode[i]) not in asked:
            asked.add(int(episode[i]))
            found.append(i)
    return found
