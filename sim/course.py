"""How far a rehearsal is, for the person who waits: a bar and what is learned under it; off a terminal, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

LINES = 20  # off a terminal, a line each twentieth of the way


class Course(Progress):
    """A context: the bar is there from entry to exit. Two lines, so that both fit into 80 columns."""

    def __init__(self, console: Console, total: int, task: str = "walk") -> None:
        """`total` steps to go from here."""
        self._words, self._total, self._begun, self._shown = "", total, time.monotonic(), 0
        columns = (TextColumn(f"learning to {task}"), BarColumn(20), TextColumn("{task.completed}/{task.total}"),
                   TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())  # fmt: skip
        super().__init__(*columns, console=console, refresh_per_second=4, disable=not console.is_terminal)
        self._bar = self.add_task("", total=total)

    def show(self, done: int, words: str) -> None:
        """So many steps are done; `words` say how it goes."""
        done = min(done, self._total)
        self._words = words
        self.update(self._bar, completed=done)
        if not self.console.is_terminal and done * LINES // self._total > self._shown:
            self._shown = done * LINES // self._total
            left = (time.monotonic() - self._begun) * (self._total / done - 1)
            self.console.print(f"{done}/{self._total}  {words}  {left:.0f} s left", highlight=False, soft_wrap=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self._words, no_wrap=True, overflow="ellipsis")
