"""What an agent learns from: rows of its own replay, several steps at a time or a part of them demonstrations where asked for.

rows = experience(config.agent, replay, demonstrations)  # the replay itself where neither is asked for
rows = experience(config.agent, replay, demonstrations, Taken(replay))  # rows in which a person led count as demonstrations too
agent = make_agent(config.agent, 112, 8, seed, rows)
metrics = agent.update(rows.sample(rng, config.agent.batch, replay.count))
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.agents.base import Rows
from robotrl.agents.interventions import Corrected, Taken, drawn
from robotrl.labelled import LABELS, Labelled
from robotrl.messages import PERSON
from robotrl.replay import Batch, Images, Replay, ReplayError

Rewarded = Replay | Labelled  # as recorded, or with what the operator said of it


class Experience(Rows, Protocol):
    """Rows that can be drawn at random; a `Replay` is one."""

    def sample(self, rng: np.random.Generator, batch: int, count: int) -> NDArray[np.int64]:
        """`batch` indices for `rows`, from the first `count` rows of the run's own replay: (batch,) int64."""
        ...


def experience(
    agent: config.Agent, own: Rewarded, demonstrations: Rewarded | None, taken: Taken | None = None
) -> Experience:  # fmt: skip
    """What a run learns from. Rows of `own` keep their numbers; those of `demonstrations` begin at `own.capacity`.

    `taken`: those of `own` in which a person led, which belong to the demonstrations.
    """
    share, steps = agent.demonstrations_share, _steps(agent, own)
    if demonstrations is None:
        return steps if taken is None else Corrected(steps, taken, share)
    return Shared(steps, own.capacity, _steps(agent, demonstrations), demonstrations.count, share, taken)


def _steps(agent: config.Agent, replay: Rewarded) -> Experience:
    return replay if agent.n_step == 1 else NStep(replay, agent.n_step, agent.discount)


class NStep:
    """Each row with up to n - 1 that follow it: r becomes sum_k gamma^k r_k, the next observation is that of the last row.

    Sutton and Barto 2018, chapter 7, as in Rainbow (Hessel et al. 2018, arXiv 1710.02298): not corrected for what the
    present policy would have done between, nor is its entropy there counted. A row follows another when it is the next of
    the replay, of the same episode, its step and tick the next, and the other has not ended: a transition that was lost
    leaves a gap in tick, and one whose reward never came in step too. Nor does it follow where a person took over or handed
    back: what he did is not what the policy led to. Rows from number `end` on are not looked at.
    """

    def __init__(self, replay: Rewarded, n: int, gamma: float) -> None:
        self.replay, self.end = replay, replay.count
        self._offsets, self._powers = np.arange(n), gamma ** np.arange(n)

    def sample(self, rng: np.random.Generator, batch: int, count: int) -> NDArray[np.int64]:
        """As `Replay.sample`; from now on row `count - 1` is the last one there is."""
        self.end = count
        return self.replay.sample(rng, batch, count)

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        """As `Replay.rows`, with terminated and truncated of the last row used. IndexError outside 0..end-1."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.end:
            raise IndexError(f"{self.replay.path}: rows {indices.min()}..{indices.max()}, {self.end} count")
        columns = self.replay.columns
        at, more = self._follow(indices)
        used, last = self._offsets <= more[:, None], indices + more
        return Batch(
            observation=columns["observation"].take(indices, axis=0),
            action=columns["action"].take(indices, axis=0),
            reward=(columns["reward"].take(at) * used * self._powers).sum(axis=1).astype(np.float32),
            terminated=columns["terminated"].take(last),
            truncated=columns["truncated"].take(last),
            next_observation=columns["next_observation"].take(last, axis=0),
            steps=1 + more,
        )

    def images(self, indices: NDArray[np.int64], out: Images | None = None) -> Images:
        """What the cameras saw at the observations and next observations of `rows`, which has looked at the indices."""
        return self.replay.images(indices, indices + self._follow(indices)[1], out)

    def _follow(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows (m, n) that may be used for each index, and how many of those after the first follow it, (m,)."""
        columns = self.replay.columns
        at = np.minimum(indices[:, None] + self._offsets, self.end - 1)  # the last row, again: its step does not follow
        episode, step, tick = (np.diff(columns[name].take(at)) for name in ("episode", "step", "tick"))
        led = np.diff(columns["policy_version"].take(at) == PERSON)
        ended = (columns["terminated"].take(at) | columns["truncated"].take(at))[:, :-1]
        follows = (episode == 0) & (step == 1) & (tick == 1) & (ended == 0) & ~led
        return at, np.logical_and.accumulate(follows, axis=1).sum(axis=1)


class Shared:
    """A set share of every batch from the second of two sources, rounded down to rows, the rest from the first.

    With a share of a half: symmetric sampling, RLPD, Ball et al. 2023, arXiv 2302.02948, section 4.1. Rows of the second are
    numbered from `offset` on; its first `given` rows are drawn from, however many there are later. With `taken`, rows of the
    first in which a person led have their part of that share, as large as their part of all that he showed.
    """

    def __init__(
        self, own: Experience, offset: int, others: Experience, given: int, share: float, taken: Taken | None = None
    ) -> None:  # fmt: skip
        self.own, self.offset, self.others, self.given, self.share, self.taken = own, offset, others, given, share, taken

    def sample(self, rng: np.random.Generator, batch: int, count: int) -> NDArray[np.int64]:
        """The own rows first; `count` is theirs."""
        theirs = int(batch * self.share + 1e-9)  # 100 rows at 0.29 are 28.999999999999996
        led = np.zeros(0, np.int64) if self.taken is None else self.taken.rows(count)
        part = theirs * len(led) // (len(led) + self.given)
        own, others = self.own.sample(rng, batch - theirs, count), self.others.sample(rng, theirs - part, self.given)
        return np.concatenate([own, drawn(rng, led, part), self.offset + others])

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        """As the sources' `rows`, in the order of `indices`; IndexError as theirs."""
        other = indices >= self.offset
        own, others = self.own.rows(indices[~other]), self.others.rows(indices[other] - self.offset)
        place = np.argsort(np.argsort(other, kind="stable"))  # of each index among the own ones and then the others
        return Batch._make(np.concatenate([getattr(b, name) for b in (own, others)])[place] for name in Batch._fields)


def open_demonstrations(path: str, observation_size: int, action_size: int) -> Labelled | None:
    """The replay at `path`, that of a run directory with what was said of it, or the folder itself; None for "".

    ReplayError when there is none that could be learnt from.
    """
    if not path:
        return None
    folder = Path(path, "replay") if Path(path, "replay").is_dir() else Path(path)
    if not folder.is_dir():
        raise ReplayError(f"agent.demonstrations: {path}: no such directory; name a run that has recorded")
    try:
        replay = Replay.open(folder)
    except ReplayError as error:
        raise ReplayError(f"agent.demonstrations: {error}") from None
    have, want = (replay.observation_size, replay.action_size), (observation_size, action_size)
    if have != want:
        raise ReplayError(
            f"agent.demonstrations: {folder}: (observation, action) is {have}, this run's {want}; name a run of the same task"
        )
    if not replay.count:
        raise ReplayError(f"agent.demonstrations: {folder}: holds no transitions; name a run that has recorded")
    rows = Labelled(replay, folder.parent / LABELS)
    rows.refresh()
    return rows
