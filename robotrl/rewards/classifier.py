"""A learned reward: `task.reward = "classifier"`. Asked of each frame whether the robot has succeeded, it answers by labels.

A label of a classifier is one like a person's (`robotrl/labels.py`): in the log, bound to its step, taken back or overruled by a
person at any time, and with the `version` that gave it. A version whose precision is not shown on held-out episodes gives none,
and one that person and classifier disagree about gives no more: until another is shown it is by key alone again.

    RUN_DIR/classifier/000004000-000000003/    version 3, from the first 4,000 transitions: classifier.safetensors, manifest.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robotrl import checkpoint, config
from robotrl.checkpoint import Checkpoint
from robotrl.labels import Given
from robotrl.messages import Label, Transition
from robotrl.replay import Cameras, Replay
from robotrl.rewards import lessons
from robotrl.rewards.trust import alarm

FOLDER, WEIGHTS = "classifier", "classifier.safetensors"
Image = NDArray[np.uint8]
NONE_YET = "no version yet: press s and f, it learns from them"


@dataclass(frozen=True)
class Version:
    """What a version says of itself. `why`: it may not be used; empty: it may, at its threshold."""

    number: int
    transitions: int
    threshold: float
    why: str
    about: dict[str, Any]  # all its figures (`robotrl/nodes/school.py`)

    @classmethod
    def of(cls, kept: Checkpoint) -> Version:
        """CheckpointError for a manifest that is no classifier's."""
        about = kept.about
        try:
            return cls(kept.updates, kept.transitions, float(about["threshold"]), str(about["why"]), about)
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(f"{kept.path}: no classifier's manifest: {error!r}; train it anew") from None


def newest(directory: Path) -> tuple[Version, bytes] | None:
    """A run's newest whole version and its weights, None before the first. CheckpointError where all are damaged."""
    kept = checkpoint.newest(directory, FOLDER)
    return None if kept is None else (Version.of(kept), kept.read(WEIGHTS))


def usable(directory: Path) -> tuple[Version, bytes] | None:
    """The newest that may be used, and its weights; where none may, the newest."""
    for kept in checkpoint.whole(directory, FOLDER):
        if not (version := Version.of(kept)).why:
            return version, kept.read(WEIGHTS)
    return newest(directory)


def image_shape(cameras: Cameras) -> tuple[int, int, int]:
    """What all cameras saw as one image, one behind the other in its channels. ValueError where they are not of one size."""
    sizes = {(height, width) for _, height, width, _ in cameras}
    if len(sizes) != 1:
        raise ValueError(f"a classifier wants one or more cameras of one size, not {cameras}")
    return (*sizes.pop(), sum(channels for *_, channels in cameras))


def images_of(replay: Replay, rows: NDArray[np.int64]) -> Image:
    """What was seen at the end of each of these steps: (n, height, width, channels) uint8."""
    views = replay.images(rows, rows).next_observation
    return np.concatenate([views[name] for name, *_ in replay.cameras], axis=-1)


def image_of(t: Transition) -> Image:
    """The same of one transition on its way."""
    out, at = [], 0
    for _, *shape in t.cameras:
        size = int(np.prod(shape))
        out.append(np.frombuffer(t.next_images, np.uint8, size, at).reshape(shape))
        at += size
    return np.concatenate(out, axis=-1)


class Seen(NamedTuple):
    """A step that is over, as a label names it, and whether its episode is."""

    episode: int
    step: int
    tick: int
    life: int  # of the policy; 0: not known
    over: bool


class Judge:
    """One version at work: steps in, labels out. It changes hands between two episodes alone."""

    def __init__(self, run: config.Run) -> None:
        self._settings, self._success, self._rate = run.classifier, run.operator.success, run.task.rate_hz
        self.version: Version | None = None
        self.suspended = ""  # why the version in hand gives no more
        self._probability: Callable[[Image], float] = lambda _: 0.0
        self._next: tuple[Version, Callable[[Image], float]] | None = None
        self._episode, self._run, self._over, self._used = -1, 0, False, False
        self.probability = 0.0  # of the newest frame

    @property
    def why(self) -> str:
        """Why it gives no reward; empty: it gives them."""
        return NONE_YET if self.version is None else self.version.why or self.suspended

    def take(self, version: Version, probability: Callable[[Image], float]) -> None:
        """From the next episode on; at once where none has begun.

        One that may not be used does not take the place of one that may: what that one has shown stands.
        """
        if version.why and self.ready:
            return
        self._next = (version, probability)
        if self._episode < 0:
            self._change_hands()

    def look(self, seen: Seen, image: Callable[[], Image]) -> Label | None:
        """The label that this step gives, not numbered yet; `image` shows how it ended, where that is asked for.

        Each episode that it judges has one label: success, or none.
        """
        if seen.episode != self._episode:
            self._begin(seen.episode)
        if not self._used or self._over or self.version is None:
            return None
        self.probability = self._probability(image())
        self._run = self._run + 1 if self.probability >= self.version.threshold else 0
        if self._run >= self._settings.in_a_row:
            self._over = True
            return self._label(seen, "success", self._success, -1)
        return self._label(seen, "no", 0.0, 0) if seen.over else None

    def judges(self, episode: int) -> bool:
        """Whether it gives this episode's reward: the one that runs, or the one to come."""
        if episode == self._episode:
            return self._used
        return self.ready

    @property
    def ready(self) -> bool:
        """Whether it gives the reward of the next episode."""
        version = self._next[0] if self._next is not None else self.version
        return version is not None and not version.why and (self._next is not None or not self.suspended)

    def hear(self, replay: Replay, given: Iterable[Given]) -> str:
        """What was said so far; why the version in hand is suspended now, empty where it is not, or was before."""
        if self.version is None or self.why:
            return ""
        number = self.version.number
        known = lessons.outcomes(replay, replay.count, given, self._rate)
        pairs = [(of.said, of.success) for of in known if of.judged == number and of.success is not None]
        self.suspended = alarm(pairs, self._settings.precision, self._settings.confidence)
        return self.suspended

    def _begin(self, episode: int) -> None:
        self._change_hands()
        self._episode, self._run, self._over, self._used = episode, 0, False, not self.why

    def _change_hands(self) -> None:
        if self._next is not None:
            (self.version, self._probability), self._next = self._next, None
            self.suspended = ""

    def _label(self, seen: Seen, kind: str, value: float, first: int) -> Label:
        assert self.version is not None
        return Label(press=0, value=value, tick=seen.tick, kind=kind, life=seen.life, episode=seen.episode, step=seen.step,
                     first=first, version=self.version.number)  # fmt: skip
