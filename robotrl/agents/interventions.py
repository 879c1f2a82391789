"""Rows in which a person led: they are demonstrations, and come into the demonstrations' share of each batch as they are made.

As in HIL-SERL (Luo et al. 2024, arXiv 2410.21845): an intervention is learnt from twice, as the run's own experience and as a
demonstration. A row says by its policy version that it is one (`messages.PERSON`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl.labelled import Labelled
from robotrl.messages import PERSON
from robotrl.replay import Batch, Replay


class Taken:
    """The rows of a replay in which a person led, in order."""

    def __init__(self, own: Replay | Labelled) -> None:
        self._own, self._looked = own, 0
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)

    def rows(self, count: int) -> NDArray[np.int64]:
        """Those among the first `count` rows that count: not behind a verdict that ended their episode."""
        if count > self._looked:
            new = self._own.columns["policy_version"][self._looked : count]
            self._rows = np.concatenate([self._rows, self._looked + np.flatnonzero(new == PERSON)])
            self._looked = count
        rows = self._rows[: np.searchsorted(self._rows, count)]
        out = getattr(self._own, "out", None)
        return rows if out is None or not len(rows) else rows[~out.take(rows)]


def drawn(rng: np.random.Generator, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """`n` of them, uniform and independent; of none, none."""
    return rows[rng.integers(0, len(rows), size=n)] if n else rows[:0]


class Corrected:
    """A run's own rows, with a set share of each batch from those in which a person led; no more of these than there are.

    So the first few are not drawn over and over: each once a batch, on the mean. All else is the own rows' (`own`).
    """

    def __init__(self, own: Any, taken: Taken, share: float) -> None:
        self.own, self.taken, self.share = own, taken, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def sample(self, rng: np.random.Generator, batch: int, count: int) -> NDArray[np.int64]:
        """As `Experience.sample`: the same numbers as the own rows' where nobody ever led."""
        led = self.taken.rows(count)
        theirs = min(int(batch * self.share + 1e-9), len(led))
        own: NDArray[np.int64] = self.own.sample(rng, batch - theirs, count)
        return np.concatenate([own, drawn(rng, led, theirs)]) if theirs else own

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        batch: Batch = self.own.rows(indices)
        return batch
