"""What the operator said of the steps, and the rewards that follow from it. Pure: rows and labels in, rewards out.

Labels are never changed and never removed; one that takes another back is a label too. The replay's rows stay as they were
recorded: what is learned from is derived from both, at any time again, and always the same.

    add            `value` more for each of its steps: good, bad, and a key that is held
    set            `value` for each of its steps, whatever was said of them before
    success, fail  the episode ended there: `value` more, no bootstrap, and the steps after it count for nothing
    open           the episode did not end by a key after all
    yes, no        nothing; these frames show a success, or none: for a classifier to learn (`robotrl/rewards/lessons.py`)
    mark, note     nothing; end: nothing, the policy ended its episode there
    undo           what it names is as if it had never been said; of several verdicts on an episode the last one stands,
                   a person's before any of a classifier's
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl.messages import Label

VERDICTS = ("success", "fail")  # an episode ends with them
TAUGHT = ("yes", "no")  # what frames show
SILENT = (*TAUGHT, "mark", "note", "end")  # no reward follows from them
KINDS = ("add", "set", *VERDICTS, "open", *SILENT, "undo")
BOUND = ("add", "set", *VERDICTS, "open", "end", *TAUGHT)  # they are about a step, or are refused


class Given(NamedTuple):
    """A label in its place among all: `order` is its sequence in the log."""

    order: int
    label: Label


class Rewards(NamedTuple):
    """Of one episode's rows, (n,) each, in the types of the replay's columns. `out`: after a verdict, nothing to learn from."""

    reward: NDArray[np.float32]
    terminated: NDArray[np.uint8]
    truncated: NDArray[np.uint8]
    out: NDArray[np.bool_]


def standing(given: Iterable[Given]) -> list[Given]:
    """Those that are not taken back, in order, less the undos."""
    all_of_them = sorted(given, key=lambda g: g.order)
    undos = [(g.order, *g.label.undoes) for g in all_of_them if g.label.kind == "undo"]
    return [
        g for g in all_of_them
        if g.label.kind != "undo"
        and not any(order > g.order and giver == g.label.giver and first <= g.label.number <= last
                    for order, giver, first, last in undos)
    ]  # fmt: skip


def derive(step: NDArray[np.int64], base: Rewards, stands: Iterable[Given]) -> Rewards:
    """The rewards of one episode's rows: `step` (n,) rises, `base` as recorded, `stands` what `standing` left for it."""
    reward, terminated = base.reward.copy(), base.terminated.copy()
    truncated, out = base.truncated.copy(), base.out.copy()
    verdict: Label | None = None
    person = False  # has judged
    for _, label in stands:
        if label.kind in ("add", "set"):
            rows = slice(*np.searchsorted(step, (_first(label), label.step + 1)).tolist())
            reward[rows] = np.float32(label.value) + (reward[rows] if label.kind == "add" else np.float32(0.0))
        elif label.kind in (*VERDICTS, "open") and not (person and label.version):
            verdict = None if label.kind == "open" else label
            person = not label.version
    if verdict is not None and (at := int(np.searchsorted(step, verdict.step))) < len(step) and step[at] == verdict.step:
        reward[at] += np.float32(verdict.value)
        terminated[at], truncated[at] = 1, 0
        out[at + 1 :] = True
    return Rewards(reward, terminated, truncated, out)


def _first(label: Label) -> int:
    return label.step if label.first < 0 else label.first


def said(label: Label) -> str:
    """A label in a few words."""
    if label.kind == "undo":
        return "undo"
    what = f"{label.value:+g}" if label.kind == "add" else f"= {label.value:g}" if label.kind == "set" else label.kind
    text = f" {label.text}" if label.text else ""
    text = f" by classifier {label.version}{text}" if label.version else text
    if label.episode < 0:
        return f"{what}{text}"
    steps = f"{label.first}-{label.step}" if 0 <= label.first < label.step else f"{label.step}"
    return f"{what} at {label.episode}/{steps}{text}"
