"""A person who judges by key, in lockstep: late, now and then wrong, and who does not always see that he was.

He sits before the console's own screen of the episode (`nodes/view.py`), drawn ten times a second, and his keys become labels by
the console's own code. What he goes by is the task's word on success, which with `task.reward = "keyboard"` nobody else hears.
"""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path

import msgspec
import numpy as np

from robotrl.config import Run
from robotrl.labels import VERDICTS, Given
from robotrl.log import Log, Took
from robotrl.logformat import Kind
from robotrl.messages import Episode, Label
from robotrl.nodes.labelbook import BookFile
from robotrl.nodes.labelling import label, remember
from robotrl.nodes.view import SECOND, View
from robotrl.replay import Replay
from robotrl.sim.program import Program

FRAME_NS = SECOND // 10  # the console draws so often
DELAY_NS = 3 * SECOND // 10  # from a sight to the key
NOTICE_NS = SECOND  # from a wrong press to its undoing
WRONG, UNDONE = 0.05, 0.2  # of the verdicts; of the wrong ones


class Supervisor:
    """`look` once a cycle; the labels it returns are his. `presses`: verdicts and undos by what they were."""

    def __init__(self, run: Run, seed: int, giver: int, numbered: int = 0, wrong: float = WRONG, undone: float = UNDONE) -> None:
        """`numbered`: labels that this giver has given before."""
        self._view, self._rng = View(settings=run.operator), np.random.default_rng([seed, 6])
        self._giver, self.number, self._wrong, self._undone = giver, numbered, wrong, undone
        self._due: deque[tuple[int, str]] = deque()  # when which key is pressed
        self._judged, self._drawn, self._press = -1, -FRAME_NS, 0
        self._said = ""  # by a classifier, of the episode that he judges: "", or its label's kind
        self.presses: dict[str, int] = {"right": 0, "wrong": 0, "undone": 0}

    @property
    def idle(self) -> bool:
        """Nothing is on its way from the eye to the hand."""
        return not self._due

    def look(self, now: int, episode: Episode, success: bool, watched: bool = True, said: str = "") -> list[Label]:
        """What he presses now; `success`: the robot can be seen to have done it; `said`: a classifier's word, "" without one."""
        if episode.ended and (self._view.last is None or self._view.last.episode != episode.episode):
            self._view.receive("episode_end", episode, now)
        if now - self._drawn >= FRAME_NS:
            self._drawn = now
            self._view.receive("episode", episode, now)
            self._view.drawn(now)
        if episode.episode > self._judged and episode.step > 0 and (success or episode.ended):
            self._judged, self._said = episode.episode, said
            if watched:
                self._judge(now + DELAY_NS, success)
        given = []
        while self._due and self._due[0][0] <= now:
            given += self._pressed(self._due.popleft()[1], now)
        return given

    def _judge(self, at: int, success: bool) -> None:
        """Which keys, and when, for this episode: none for one that failed, but where a classifier judged it; and he may err."""
        right, wrong = ("success", "fail") if success else (self._none, "success")
        if self._rng.random() >= self._wrong:
            if right:
                self.presses["right"] += 1
                self._due.append((at, right))
            return
        self.presses["wrong"] += 1
        self._due.append((at, wrong))
        if self._rng.random() < self._undone:
            self.presses["undone"] += 1
            self._due.append((at + NOTICE_NS, "undo"))
            if success or self._none:
                self._due.append((at + NOTICE_NS + DELAY_NS, f"last {right.removeprefix('last ')}"))

    @property
    def _none(self) -> str:
        """By which key he says that there was no success."""
        return {"": "", "success": "last fail"}.get(self._said, "last no")

    def answer(self, frame: tuple[int, int], success: bool) -> Label:
        """What he says of a frame out of the queue, by episode and step."""
        wrong = self._rng.random() < self._wrong
        self.presses["asked"] = self.presses.get("asked", 0) + 1
        self.number, self._press = self.number + 1, self._press + 1
        return Label(press=self._press, value=0.0, tick=-1, kind="yes" if success != wrong else "no", episode=frame[0],
                     step=frame[1], giver=self._giver, number=self.number)  # fmt: skip

    def _pressed(self, command: str, now: int) -> list[Label]:
        self._press += 1
        made = label(command, self._press, self._view, now)
        if isinstance(made, str):
            return []
        self.number += 1
        made = msgspec.structs.replace(made, giver=self._giver, number=self.number)
        remember(self._view, made, now)
        return [made]


class Supervision:
    """The person of a rehearsal, one robot's session after the other, and the run's book of labels; nobody in most runs."""

    def __init__(self, run: Run, directory: Path, log: Log, replay: Replay, giver: int) -> None:
        """What was said in earlier lives of the run stands in its log, on the disk."""
        self._run, self._log, self._giver = run, log, giver
        self._book = BookFile(directory, replay)
        self._person: Supervisor | None = None
        self._presses: Counter[str] = Counter()
        self._numbers: Counter[int] = Counter()  # of labels, by giver

    def begin(self, seed: int) -> None:
        """Another robot is switched on: he sits down before it."""
        if self._run.task.reward != "task":
            if self._person is not None:
                self._presses.update(self._person.presses)
            self._person = Supervisor(self._run, seed, self._giver, 0 if self._person is None else self._person.number)

    @property
    def idle(self) -> bool:
        return self._person is None or self._person.idle

    @property
    def given(self) -> list[Given]:
        """All labels that count by now."""
        return self._book.book.accepted

    def succeeded(self, rig: Program) -> bool:
        """Whether the robot can be seen to have done it: by the task's word, and in its last moment by nearly so."""
        pilot = rig.pilot
        if pilot.tally is None:
            return bool(pilot.just_ended) and bool(getattr(pilot.task, "holding", 0))
        return bool(getattr(pilot.task, "word", ""))

    def look(self, rig: Program, watched: bool = True, said: str = "") -> None:
        """Once a cycle: what he presses the policy hears, and it is kept. `watched`, `said`: as `Supervisor.look`."""
        if self._person is None:
            return
        pilot, now = rig.pilot, rig.clock.now()
        success = self.succeeded(rig) if said else pilot.tally is not None and bool(getattr(pilot.task, "word", ""))
        for given in self._person.look(now, pilot.report(now), success, watched, said):
            if given.kind in VERDICTS:
                pilot.conclude(given.episode, given.kind)
            self._keep(given)

    def asked(self, frames: dict[tuple[int, int], bool]) -> None:
        """He answers what a classifier asks: whether these frames, by episode and step, show a success, and they do or do not."""
        if self._person is not None:
            for frame, true in frames.items():
                self._keep(self._person.answer(frame, true))

    def take(self, label: Label) -> None:
        """A classifier's label: it has a giver of its own."""
        giver = self._giver ^ 1
        self._numbers[giver] += 1
        self._keep(msgspec.structs.replace(label, giver=giver, number=self._numbers[giver]))

    def _keep(self, label: Label) -> None:
        payload = msgspec.msgpack.encode(label)
        while self._log.append(Kind.LABEL, "console", label.giver, label.number, payload) is Took.REFUSED:
            self._log.sync()
        self._book.hear(self._log.sequence, label)

    def settled(self) -> int:
        """How many labels are bound to their steps by now."""
        self._book.settle()
        return len(self._book.book.accepted)

    def told(self) -> dict[str, int]:
        """What his keys came to."""
        bound, waiting, refused = self._book.book.counts
        presses = self._presses + Counter(self._person.presses if self._person is not None else {})
        return {"bound": bound, "waiting": waiting, "refused": refused, **presses}

    def close(self) -> None:
        self._book.close()
