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
from robotrl.realtime import expendable
from robotrl.replay import Replay
from robotrl.rewards import classifier, lessons, trust
from robotrl.rewards.lessons import Outcome

MOST = 4000  # frames of each kind in a training, drawn evenly: 100 MB of two views of 64 x 64
NEW = 40  # episodes, the newest, out of which the queue is drawn; chosen
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
        found = classifier.newest(directory)
        self.version = None if found is None else found[0]
        self._weights = None if found is None else safetensors.numpy.load(found[1])

    def teach(self, count: int, labels: int | None = None) -> dict[str, Any]:
        """A new version out of what is known by now; or, in `why`, what is missing for one."""
        came, again = self._file.poll(labels)
        self._given = [*([] if again else self._given), *came]
        known = [of for of in lessons.outcomes(self.replay, count, self._given, self._rate) if of.success is not None]
        seen = [of for of in known if not lessons.held_out(of.episode, self.settings.held_out)]
        taught = self._frames(seen)
        if not taught.success.any() or taught.success.all():
            return {"version": 0, "why": f"{len(seen)} episodes to learn from, and none {_missing(taught)}; label more"}
        number = 1 if self.version is None else self.version.number + 1
        then = self._as_it_was(known)
        rows, success = self._drawn(taught, number)
        teacher = self._teacher(number)  # its optimiser begins anew: a school that is started again does the same
        loss = teacher.teach(classifier.images_of(self.replay, rows), success, self.settings.updates)
        self._weights = teacher.weights()
        about = {"loss": loss, "taught": [int(success.sum()), int((~success).sum())], "then": then, **self._measured(known)}
        about["queue"] = self._queue(count, about["threshold"])
        said = {"version": str(number), "transitions": str(count)}
        path = checkpoint.save(self.directory, count, number, {classifier.WEIGHTS: packed(self._weights, said)},
                               about, classifier.FOLDER, EVERY)  # fmt: skip
        self.version = classifier.Version(number, count, about["threshold"], about["why"], about)
        return {"version": number, "path": str(path), "why": about["why"]}

    def _teacher(self, number: int) -> Teacher:
        return Teacher(self.shape, [self.run.seed, number], self._weights)

    def _frames(self, known: Sequence[Outcome]) -> lessons.Frames:
        of = lessons.by_episode(self._given)
        found = [lessons.frames(self.replay, one, of.get(one.episode, []), self._rate) for one in known]
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

    def _measured(self, known: Sequence[Outcome]) -> dict[str, Any]:
        """Precision at each threshold, and calibration, on the held-out episodes."""
        held = [of for of in known if lessons.held_out(of.episode, self.settings.held_out)]
        scores = self._scored(held)
        trials = [self._trial(held, scores, threshold) for threshold in trust.THRESHOLDS]
        found = trust.judge(trials, len(held), self.settings.precision, self.settings.confidence)
        shown = self._frames(held)
        p = np.concatenate([*scores.values(), np.zeros(0, np.float32)])
        place = {row: i for i, row in enumerate(r for of in held for r in range(of.first, of.end))}
        bins, error = trust.calibration(p[[place[row] for row in shown.rows.tolist()]], shown.success)
        return {
            "why": found.why, "threshold": found.chosen.threshold, "held_out": found.episodes, "stated": self.settings.precision,
            "confidence": self.settings.confidence, "trials": [list(trial) for trial in found.trials],
            "calibration": [list(b) for b in bins], "calibration_error": error,
        }  # fmt: skip

    def _trial(self, held: Sequence[Outcome], scores: Scores, threshold: float) -> tuple[float, int, int, int]:
        said = [(of, lessons.first_run(scores[of.episode], threshold, self.settings.in_a_row)) for of in held]
        fired = [lessons.right(of, at, self._rate) for of, at in said if at >= 0]
        return threshold, len(fired), sum(fired), sum(bool(of.success) for of in held)

    def _as_it_was(self, known: Sequence[Outcome]) -> list[list[int]]:
        """Confusion over time: what each version said of the episodes that came after it, before any was learned from.

        A row a version: its number, transitions, right, false, missed, quiet.
        """
        if self.version is None:
            return []
        new = [of for of in known if of.first >= self.version.transitions]
        scores, pairs = self._scored(new), []
        for of in new:
            at = lessons.first_run(scores[of.episode], self.version.threshold, self.settings.in_a_row)
            pairs.append((at >= 0, bool(of.success) if at < 0 else lessons.right(of, at, self._rate)))
        return [*self.version.about["then"], [self.version.number, self.version.transitions, *trust.confusion(pairs)]]

    def _queue(self, count: int, threshold: float) -> list[list[Any]]:
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
        chosen = trust.uncertain(p, threshold, columns["episode"][rows], self.settings.queue)
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
