"""What rewards by key are worth, and when a learned one may be given. `config.Run` holds both."""

from __future__ import annotations

from dataclasses import dataclass

from robotrl.configfile import within

MANY = 1_000_000_000  # a bound that nobody meets


@dataclass(frozen=True)
class Operator:
    """What the operator's keys are worth, and when he saw what he pressed them for (docs/labels.md)."""

    reaction_s: float = within(0.25, 0, 5)  # from a sight to its key: what was on the screen then is meant; a simple reaction's
    success: float = within(1.0, -1e6, 1e6)  # reward of the step at which an episode is said to have succeeded; it ends there
    fail: float = within(0.0, -1e6, 1e6)  # the same, failed
    good: float = within(1.0, -1e6, 1e6)  # one press
    bad: float = within(-1.0, -1e6, 1e6)
    hold: float = within(0.1, -1e6, 1e6)  # of each step while the key is held down
    step: float = within(0.0, -1e6, 1e6)  # of every step, where the keys alone give rewards
    undo_s: float = within(5.0, 0.1, 3600)  # so far back the key reaches that takes back the last seconds


@dataclass(frozen=True)
class Classifier:
    """A success classifier that is taught by the operator's keys, with `task.reward = "classifier"` (docs/classifier.md).

    `precision`, 0.8: a false success pays as much as a true one, so at most one reward in five is false. Less than 0.95 it must
    be, for it is measured against a person who errs in one of twenty; 0.9 would take 31 held-out successes without any error
    to show, 0.8 takes 15.
    """

    precision: float = within(0.8, 0.01, 0.999)  # to be shown on held-out episodes, or it gives no reward; see above
    confidence: float = within(0.95, 0.5, 0.9999)  # with which it must be shown
    errs: float = within(0.05, 0, 0.3)  # share of a person's words that may be wrong (robotrl/rewards/trust.py); chosen
    held_out: float = within(0.5, 0.05, 0.9)  # of the episodes, only measured by: evidence is scarcer than lessons; chosen
    every: int = within(1000, 1, MANY)  # transitions between two trainings; chosen
    updates: int = within(200, 1, MANY)  # of a training; it goes on from the last one's weights; chosen
    in_a_row: int = within(3, 1, 1000)  # frames that must show a success, for one may only look so; chosen
    audit: float = within(0.25, 0, 1)  # of the episodes that it judges, those that the operator judges too; chosen
    queue: int = within(
        8, 0, 100
    )  # frames that the operator is asked about after a training, half of them denied verdicts; chosen
