"""Whether a success classifier may be believed: its precision with a bound, its calibration, and where a person disagrees. Pure.

What is counted are verdicts on episodes, not frames: the frames of one episode look alike, and a hundred of them are no more
evidence than one. The precision of a threshold is shown by the exact one-sided bound of Clopper and Pearson (1934) for the
held-out episodes on which it said success. Only one threshold is tried on these: it is chosen by other episodes (`choose`), so
there is no choice among bounds to be paid for.

A person is the measure, and errs. Where he denied what the classifier said, he is shown the frame and asked again, and either
word of his makes it right. That is kind to it: with `errs` e of his words wrong, where a share p is true a share
q = p (1 - e^2) + (1 - p) (2 e - e^2) is counted as right. What is shown is the p that follows from the bound of q, and never
more than that of q: so it holds for whoever errs in e of his words or fewer, in each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.5, 0.65, 0.8, 0.9, 0.95, 0.98)  # chosen
FIRST = 0.8  # the threshold that is tried as long as nothing speaks for another; chosen
BINS = 10  # of the calibration curve
STEPS = 60  # of a bisection: 1e-18
SILENT, WRONG, RIGHT = 0, 1, 2  # what a threshold came to on an episode
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


def shown(right: int, said: int, confidence: float, errs: float = 0.0) -> float:
    """The precision that `right` of `said` verdicts show, by a person who errs (see above)."""
    counted = lower_bound(right, said, confidence)
    return max(0.0, min(counted, (counted - errs * (2 - errs)) / (1 - 2 * errs)))


class Trial(NamedTuple):
    """One threshold: on how many episodes it said success, how many of these were, and how many there were."""

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

    trial: Trial  # the one that was chosen before
    episodes: int  # held out, with an outcome that a person gave
    why: str


def choose(tried: Sequence[Sequence[int]], confidence: float) -> float:
    """The threshold to be tried on the held-out episodes, by others: a row each, of what each of THRESHOLDS came to there.

    SILENT, WRONG or RIGHT. It is the one that shows most there, the lowest of several: few verdicts show little, and so do
    many that are wrong.
    """
    best, most = FIRST, 0.0
    for i, threshold in enumerate(THRESHOLDS):
        said = [row[i] for row in tried if row[i] != SILENT]
        if (bound := lower_bound(said.count(RIGHT), len(said), confidence)) > most:
            best, most = threshold, bound
    return best


def judge(trial: tuple[float, int, int, int], episodes: int, stated: float, confidence: float, errs: float = 0.0) -> Trust:
    """Of (threshold, said, right, successes) on held-out episodes: whether the precision is shown to be as stated."""
    tried = Trial(*trial, shown(trial[2], trial[1], confidence, errs))
    return Trust(tried, episodes, "" if tried.bound >= stated else _refusal(tried, episodes, stated, confidence, errs))


def _refusal(tried: Trial, episodes: int, stated: float, confidence: float, errs: float) -> str:
    if not tried.said:
        return f"it said success of none of {episodes} held-out episodes, {tried.successes} of which were; label more"
    bound = math.floor(tried.bound * 1000) / 1000  # 0.7999 is not shown as 0.800
    what = f"precision {tried.right} of {tried.said} on held-out episodes shows {bound:.3f}, asked is {stated:g}"
    if tried.right / tried.said <= stated:
        return f"{what}: it is too often wrong; label its queue"
    return f"{what}: {needed(stated, confidence, errs)} without an error would do; label more"


def needed(stated: float, confidence: float, errs: float = 0.0) -> int:
    """Verdicts, all right, that show a precision of `stated`: the least n with q^n <= 1 - confidence."""
    if not 0 < stated < 1:
        return 0
    counted = max(stated, stated * (1 - 2 * errs) + errs * (2 - errs))
    return math.ceil(math.log(1.0 - confidence) / math.log(counted) - 1e-9)


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
