"""What a success classifier learns from and is measured by: what people said of the steps of a run. Pure.

An episode's outcome is known where a person gave it: by a verdict, by saying of all of it that it was no success (`no`), or by
no word at all while nobody but him was there to give one. Where the classifier judged an episode, and no person did, it is not
known: a classifier that taught itself would be sure of everything. Which episodes are held out depends on their numbers alone,
so no frame that any version of it was taught is ever one that it is measured by.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.labels import TAUGHT, VERDICTS, Given, standing
from robotrl.messages import Label
from robotrl.replay import Replay

JUST_S = 0.05  # so long before and after the step that was said to be a success it is one; chosen
# Longer before it is none; between these nobody can tell. A person's reaction varies by a tenth of a second; chosen. With 0.5
# nothing of the last way to a goal was taught: success was said up to 20 mm outside of it and 0.4 s early, and counted as right.
BEFORE_S = 0.15
AFTER_S = 0.3  # a classifier may be so much slower than the person to see the same success; chosen
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """An episode that has ended, and what a person said of it: None where he said nothing."""

    episode: int
    first: int  # row
    at: int  # row of its success, or its last
    end: int  # the row behind the last that is looked at
    success: bool | None
    judged: int = 0  # version of the classifier that judged it, 0: none did
    said: bool = False  # what that one said


class Frames(NamedTuple):
    """Rows whose next frame shows a success, or shows none."""

    rows: Rows
    success: NDArray[np.bool_]


def held_out(episode: int, share: float) -> bool:
    """Whether an episode is for measuring alone."""
    return drawn("held out", episode, share)


def audited(episode: int, share: float) -> bool:
    """Whether the operator judges an episode too that a classifier judges: not by what is thought of it."""
    return drawn("audit", episode, share)


def drawn(purpose: str, episode: int, share: float) -> bool:
    """A coin for each episode, as good as thrown, and the same whenever it is asked for."""
    digest = hashlib.sha256(f"{purpose} {episode}".encode()).digest()
    return int.from_bytes(digest[:6], "big") < share * 2**48


def outcomes(replay: Replay, count: int, given: Iterable[Given], rate_hz: float) -> list[Outcome]:
    """Those of the episodes that have ended in the first `count` rows."""
    columns = replay.columns
    of = by_episode(given)
    numbers, first = np.unique(columns["episode"][:count], return_index=True)
    found = []
    for number, begin, end in zip(numbers.tolist(), first.tolist(), [*first.tolist(), count][1:], strict=True):
        if columns["terminated"][end - 1] or columns["truncated"][end - 1]:
            found.append(_outcome(number, (begin, end), columns["step"][begin:end], of.get(number, []), rate_hz))
    return found


def by_episode(given: Iterable[Given]) -> dict[int, list[Label]]:
    """What stands of each episode, in order."""
    of: defaultdict[int, list[Label]] = defaultdict(list)
    for _, label in standing(given):
        of[label.episode].append(label)
    return of


def _outcome(number: int, rows: tuple[int, int], step: NDArray[np.int64], labels: list[Label], rate_hz: float) -> Outcome:
    first, end = rows
    judged = max((label.version for label in labels), default=0)
    said = any(label.version and label.kind == "success" for label in labels)
    verdict = next((label for label in reversed(labels) if not label.version and label.kind in (*VERDICTS, "open")), None)
    if verdict is not None and verdict.kind in VERDICTS:
        at = min(end - 1, first + int(np.searchsorted(step, verdict.step)))
        success = verdict.kind == "success"
        return Outcome(number, first, at, min(end, at + 1 + round(AFTER_S * rate_hz) * success), success, judged, said)
    none = any(not label.version and label.kind == "no" and label.first == 0 and label.step >= step[-1] for label in labels)
    return Outcome(number, first, end - 1, end, False if none or not judged else None, judged, said)


def frames(replay: Replay, of: Outcome, labels: list[Label], rate_hz: float) -> Frames:
    """What the frames of an episode show, as far as its outcome tells, and what was said of single ones."""
    step = replay.columns["step"][of.first : of.end]
    shows = np.full(len(step), -1, np.int8)
    if of.success is False:
        shows[:] = 0
    elif of.success:
        at, just = of.at - of.first, round(JUST_S * rate_hz)
        shows[: max(0, at - round(BEFORE_S * rate_hz))] = 0
        shows[max(0, at - just) : at + just + 1] = 1
    for label in labels:
        if label.kind in TAUGHT and not label.version:
            begin = label.step if label.first < 0 else label.first
            shows[(step >= begin) & (step <= label.step)] = label.kind == "yes"
    known = np.flatnonzero(shows >= 0)
    return Frames(of.first + known, shows[known] > 0)


def first_run(probability: NDArray[np.floating], threshold: float, in_a_row: int) -> int:
    """The index of the frame with which `in_a_row` of them reach the threshold for the first time; -1: they never do."""
    run = 0
    for i, reached in enumerate((np.asarray(probability) >= threshold).tolist()):
        run = run + 1 if reached else 0
        if run >= in_a_row:
            return i
    return -1


def right(of: Outcome, at: int, rate_hz: float, word: bool | None = None) -> bool:
    """Whether success was said rightly of an episode, `at` so many rows from its first: not long before the person did.

    `word`: what he said of that very frame, when he was asked, which counts before it.
    """
    if word is not None:
        return word
    return bool(of.success) and at >= of.at - of.first - round(BEFORE_S * rate_hz)


def word(labels: Sequence[Label], step: int, rate_hz: float) -> bool | None:
    """What a person said last of an episode's frame at this step, or of one that is as good as it; None for nothing."""
    just = round(JUST_S * rate_hz)
    for label in reversed(labels):
        begin = label.step if label.first < 0 else label.first
        if label.kind in TAUGHT and not label.version and begin - just <= step <= label.step + just:
            return label.kind == "yes"
    return None


def disagreements(known: Iterable[Outcome]) -> list[str]:
    """Episodes of which classifier and person say different things, in a line each."""
    word = {True: "a success", False: "none"}
    return [
        f"episode {of.episode}: classifier {of.judged} said {word[of.said]}, the person {word[of.success]}"
        for of in known
        if of.judged and of.success is not None and of.said != of.success
    ]
