"""Campaigns side by side: so many runs at once, each a process with its own folder, its own tree and its part of the seeds."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from campaign import Campaign, How

LOOK_S = 0.5


def lane(folder: Path, skew: Path | None, how: How, seeds: list[int], out: Any, parent: int) -> None:
    """Plays these seeds; `out` takes a row for each that has been played, and (rows, figures, causes) of each run judged."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    campaign = Campaign(folder, skew, how)
    try:
        for seed in seeds:
            if os.getppid() != parent:
                break  # nobody hears of it any more
            judged = campaign.play(seed)
            out.put(campaign.last)
            if judged:
                out.put((judged, campaign.figures, campaign.causes))
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if judged := campaign.finish():
            out.put((judged, campaign.figures, campaign.causes))


class Lanes:
    """`rows`: of each schedule that has been judged what it did and what it broke, in the order of the seeds."""

    def __init__(self, folder: Path, skew: Path | None, how: How, lanes: int) -> None:
        self.folder, self.skew, self.how, self.lanes = folder, skew, how, lanes
        self.rows: list[dict[str, Any]] = []
        self.figures: Counter[str] = Counter()  # of all runs, as in Campaign
        self.causes: Counter[str] = Counter()  # how many runs had each
        self.played = self.lost = 0  # schedules; lanes that did not come to their end
        self._began = time.monotonic()
        self._asked = False

    def left_s(self, schedules: int) -> float:
        """How long what has not been played will take, as far as the rest tells."""
        return (time.monotonic() - self._began) / max(1, self.played) * (schedules - self.played)

    def play(self, seed: int, schedules: int) -> Iterator[dict[str, Any] | None]:
        """Each schedule as it has been played; None when more have been judged. SIGINT or SIGTERM: what was played is judged."""
        context = multiprocessing.get_context("fork")
        out = context.Queue()
        parts = [list(range(seed + n, seed + schedules, self.lanes)) for n in range(self.lanes)]
        lanes = [
            context.Process(target=lane, args=(self.folder / f"lane-{n}", self.skew, self.how, part, out, os.getpid()))
            for n, part in enumerate(parts)
        ]
        before = [signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            for process in lanes:
                process.start()
            yield from self._hear(lanes, out)
        except BaseException:
            for process in lanes:
                process.terminate()
            raise
        finally:
            for process in lanes:
                process.join()
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
                signal.signal(number, handler)
        for n, process in enumerate(lanes):
            if process.exitcode:
                self.lost += 1
                print(f"bench nemesis: lane {n} ended with code {process.exitcode}", file=sys.stderr, flush=True)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _hear(self, lanes: list[Any], out: Any) -> Iterator[dict[str, Any] | None]:
        told = False
        while True:
            living = any(process.is_alive() for process in lanes)
            if self._asked and not told:
                told = True
                print("stopped; what has been played is judged", file=sys.stderr, flush=True)
                for process in lanes:
                    process.terminate()
            try:
                what = out.get(timeout=LOOK_S if living else 0.0)
            except queue.Empty:
                if not living:
                    return
                continue
            if isinstance(what, dict):
                self.played += 1
                yield what
                continue
            rows, figures, causes = what
            self.rows = sorted([*self.rows, *rows], key=lambda row: row["seed"])
            self.figures.update(figures)
            self.causes.update(causes)
            yield None
