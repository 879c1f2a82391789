"""The process that trains a run's success classifier, one version after the other, beside everything else.

    python -m robotrl.nodes.school RUN_DIR [--lockstep]

A line `{"count": n, "labels": k}` in: it learns from what the first k labels say of the first n transitions, measures what came
of it on held-out episodes, writes the version (`robotrl/rewards/classifier.py`), and answers with its figures in a line. It
knows no clock: in a rehearsal, and on the wall clock, whoever asks says what counts. Same numbers, same weights.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from robotrl import checkpoint, rundir
from robotrl.agents.classifier import Teacher
from robotrl.agents.weights import packed
from robotrl.complaint import Complaint
from robotrl.config import Run
from robotrl.labelled import LABELS, LabelFile
from robotrl.labels import Given
from robotrl.messages import Label
from robotrl.realtime import expendable
from robotrl.replay import Replay
from robotrl.rewards import classifier, lessons, trust
from robotrl.rewards.lessons import Outcome

MOST = 4000  # frames of each kind in a training, drawn evenly: 100 MB of two views of 64 x 64
NEW = 40  # episodes, the newest, out of which the queue is drawn; chosen
TRIED = 40  # episodes, the newest, by which the threshold is chosen; chosen
EVERY = 1000  # versions that stay: a reward is to be traced to what gave it
Scores = dict[int, NDArray[np.float32]]  # by episode, of its rows


class School:
    """Teaches and measures. `version` is the newest, with what it began from."""

    def __init__(self, run: Run, directory: Path, replay: Replay) -> None:
        """ValueError for cameras that it cannot learn from; CheckpointError where all versions are damaged."""
        self.run, self.settings, self.directory, self.replay = run, run.classifier, directory, replay
        self.shape = classifier.image_shape(replay.cameras)
        self._rate = run.task.rate_hz
        self._file = LabelFile(directory / LABELS)
        self._given: list[Given] = []
        self._of: dict[int, list[Label]] = {}  # what stands, by episode
        found = classifier.newest(directory)
        self.version = None if found is None else found[0]
        self._weights = None if found is None else safetensors.numpy.load(found[1])

    def teach(self, count: int, labels: int | None = None) -> dict[str, Any]:
        """A new version out of what is known by now; or, in `why`, what is missing for one."""
        came, again = self._file.poll(labels)
        self._given = [*([] if again else self._given), *came]
        self._of = lessons.by_episode(self._given)
        known = [of for of in lessons.outcomes(self.replay, count, self._given, self._rate) if of.success is not None]
        seen = [of for of in known if not lessons.held_out(of.episode, self.settings.held_out)]
        taught = self._frames(seen)
        if not taught.success.any() or taught.success.all():
            return {"version": 0, "why": f"{len(seen)} episodes to learn from, and none {_missing(taught)}; label more"}
        number = 1 if self.version is None else self.version.number + 1
        then, tried = self._as_it_was(known)
        rows, success = self._drawn(taught, number)
        teacher = self._teacher(number)  # its optimiser begins anew: a school that is started again does the same
        loss = teacher.teach(classifier.images_of(self.replay, rows), success, self.settings.updates)
        self._weights = teacher.weights()
        about = {"loss": loss, "taught": [int(success.sum()), int((~success).sum())], "then": then, "tried": tried,
                 **self._measured(known, tried)}  # fmt: skip
        denied = about["denied"]
        about["queue"] = [*denied, *self._queue(count, about["threshold"], self.settings.queue - len(denied))]
        said = {"version": str(number), "transitions": str(count)}
        path = checkpoint.save(self.directory, count, number, {classifier.WEIGHTS: packed(self._weights, said)},
                               about, classifier.FOLDER, EVERY)  # fmt: skip
        self.version = classifier.Version(number, count, about["threshold"], about["why"], about)
        return {"version": number, "path": str(path), "why": about["why"]}

    def _teacher(self, number: int) -> Teacher:
        return Teacher(self.shape, [self.run.seed, number], self._weights)

    def _frames(self, known: Sequence[Outcome]) -> lessons.Frames:
        found = [lessons.frames(self.replay, one, self._of.get(one.episode, []), self._rate) for one in known]
        if not found:
            return lessons.Frames(np.zeros(0, np.int64), np.zeros(0, np.bool_))
        return lessons.Frames(np.concatenate([f.rows for f in found]), np.concatenate([f.success for f in found]))

    def _drawn(self, taught: lessons.Frames, number: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """At most MOST of each kind."""
        rng, parts = np.random.default_rng([self.run.seed, 8, number]), []
        for kind in (True, False):
            rows = taught.rows[taught.success == kind]
            parts.append(np.sort(rng.choice(rows, MOST, replace=False)) if len(rows) > MOST else rows)
        return np.concatenate(parts), np.repeat([True, False], [len(part) for part in parts])

    def _scored(self, known: Sequence[Outcome]) -> Scores:
        teacher = self._teacher(0)
        return {of.episode: teacher.probabilities(classifier.images_of(self.replay, np.arange(of.first, of.end)))
                for of in known}  # fmt: skip

    def _measured(self, known: Sequence[Outcome], tried: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Precision at the threshold that others chose, and calibration, on the held-out episodes; and what there is to ask."""
        held = [of for of in known if lessons.held_out(of.episode, self.settings.held_out)]
        scores, s = self._scored(held), self.settings
        threshold = trust.choose([row[1:] for row in tried], s.confidence)
        trials = [self._trial(held, scores, one) for one in trust.THRESHOLDS]
        found = trust.judge(trials[trust.THRESHOLDS.index(threshold)], len(held), s.precision, s.confidence, s.errs)
        frames = self._frames(held)
        p = np.concatenate([*scores.values(), np.zeros(0, np.float32)])
        place = {row: i for i, row in enumerate(r for of in held for r in range(of.first, of.end))}
        bins, error = trust.calibration(p[[place[row] for row in frames.rows.tolist()]], frames.success)
        return {
            "why": found.why, "threshold": threshold, "held_out": found.episodes, "stated": s.precision,
            "confidence": s.confidence, "trials": [[*t, trust.shown(t[2], t[1], s.confidence, s.errs)] for t in trials],
            "calibration": [list(b) for b in bins], "calibration_error": error, "denied": self._denied(held, scores, threshold),
        }  # fmt: skip

    def _right(self, of: Outcome, at: int) -> bool:
        step = int(self.replay.columns["step"][of.first + at])
        return lessons.right(of, at, self._rate, lessons.word(self._of.get(of.episode, []), step, self._rate))

    def _trial(self, held: Sequence[Outcome], scores: Scores, threshold: float) -> tuple[float, int, int, int]:
        said = [(of, lessons.first_run(scores[of.episode], threshold, self.settings.in_a_row)) for of in held]
        fired = [self._right(of, at) for of, at in said if at >= 0]
        return threshold, len(fired), sum(fired), sum(bool(of.success) for of in held)

    def _denied(self, held: Sequence[Outcome], scores: Scores, threshold: float) -> list[list[Any]]:
        """Verdicts on held-out episodes that a person denies and has not been asked about: episode, step, probability.

        The newest first.
        """
        found, columns = [], self.replay.columns
        for of in reversed(held):
            at = lessons.first_run(scores[of.episode], threshold, self.settings.in_a_row)
            step = int(columns["step"][of.first + max(0, at)])
            asked = lessons.word(self._of.get(of.episode, []), step, self._rate) is not None
            if at >= 0 and not asked and not self._right(of, at):
                found.append([of.episode, step, float(scores[of.episode][at])])
        return found[: (self.settings.queue + 1) // 2]

    def _as_it_was(self, known: Sequence[Outcome]) -> tuple[list[list[int]], list[list[int]]]:
        """What each version said of the episodes that came after it, before any was learned from.

        Confusion over time, a row a version: its number, transitions, right, false, missed, quiet. And of those episodes that
        are taught, the newest, what each threshold came to: episode, and as `trust.choose` has it.
        """
        if self.version is None:
            return [], []
        new = [of for of in known if of.first >= self.version.transitions]
        scores, pairs, tried = self._scored(new), [], []
        for of in new:
            at = lessons.first_run(scores[of.episode], self.version.threshold, self.settings.in_a_row)
            pairs.append((at >= 0, bool(of.success) if at < 0 else self._right(of, at)))
            if not lessons.held_out(of.episode, self.settings.held_out):
                tried.append([of.episode, *(self._came_to(of, scores[of.episode], one) for one in trust.THRESHOLDS)])
        about = self.version.about
        over_time = [*about["then"], [self.version.number, self.version.transitions, *trust.confusion(pairs)]]
        return over_time, [*about.get("tried", []), *tried][-TRIED:]

    def _came_to(self, of: Outcome, p: NDArray[np.float32], threshold: float) -> int:
        at = lessons.first_run(p, threshold, self.settings.in_a_row)
        return trust.SILENT if at < 0 else trust.RIGHT if self._right(of, at) else trust.WRONG

    def _queue(self, count: int, threshold: float, most: int) -> list[list[Any]]:
        """Frames of the newest episodes to learn from that the classifier knows least: episode, step, probability."""
        asked = {
            g.label.episode for g in self._given if g.label.kind in ("yes", "no") and not g.label.version and g.label.first < 0
        }
        ended = [of for of in lessons.outcomes(self.replay, count, self._given, self._rate)
                 if of.episode not in asked and not lessons.held_out(of.episode, self.settings.held_out)][-NEW:]  # fmt: skip
        if not ended:
            return []
        scores = self._scored(ended)
        rows = np.concatenate([np.arange(of.first, of.end) for of in ended])
        p = np.concatenate([scores[of.episode] for of in ended])
        columns = self.replay.columns
        chosen = trust.uncertain(p, threshold, columns["episode"][rows], most)
        return [[int(columns["episode"][rows[i]]), int(columns["step"][rows[i]]), float(p[i])] for i in chosen]


def _missing(taught: lessons.Frames) -> str:
    return "shows none" if len(taught.rows) and taught.success.all() else "shows a success"


def main(argv: list[str]) -> int:
    """Serve whoever asks, until there is nobody."""
    import torch

    directory = Path(argv[0])
    torch.set_num_threads(1)  # the other cores are the robot's
    if "--lockstep" not in argv:  # a rehearsal waits for it
        with contextlib.suppress(OSError):
            os.nice(10)
        expendable()
    run = rundir.load(directory)
    school: School | None = None
    for line in sys.stdin:
        try:
            school = school or School(run, directory, Replay.open(directory / "replay"))
            answer = school.teach(**json.loads(line))
        except (Complaint, ValueError, OSError) as error:
            answer = {"version": 0, "error": " ".join(str(error).split())}
        print(json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in answer.items()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
