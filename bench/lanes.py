"""Campaigns side by side: so many runs at once, each a process with its own folder, its own tree and its part of the seeds.

A lane is `python bench/lanes.py WHAT`, WHAT a JSON object. It says a line of JSON for each schedule that it has played, and one
for each run that it has judged. It ends with the process that holds its standard input, and at a signal, when it has judged all.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from campaign import Campaign, How

ENDING = (signal.SIGINT, signal.SIGTERM)
LOOK_S = 0.5


def lane(folder: Path, skew: Path | None, how: How, seeds: list[int]) -> None:
    campaign, over = Campaign(folder, skew, how), False

    def interrupt(*_: object) -> None:
        """Once, and only what is being played: the judging takes its time."""
        nonlocal over
        over = True
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        if campaign.playing:
            raise KeyboardInterrupt

    for number in ENDING:
        signal.signal(number, interrupt)
    try:
        for seed in seeds:
            if over or select.select([sys.stdin], [], [], 0)[0]:
                break  # or nobody hears of it any more
            done = campaign.play(seed)
            _say({"played": campaign.last})
            if done:
                _judge(campaign)
    except KeyboardInterrupt:
        pass
    finally:
        _judge(campaign)


def _judge(campaign: Campaign) -> None:
    if rows := campaign.finish():
        _say({"judged": rows, "figures": campaign.figures, "causes": campaign.causes})


def _say(what: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone
        print(json.dumps(what), flush=True)


class Lanes:
    """`rows`: of each schedule that has been judged what it did and what it broke, in the order of the seeds."""

    program = Path(__file__).resolve()

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
        before = [signal.signal(number, self._ask) for number in ENDING]
        lanes = [self._begun(n, list(range(seed + n, seed + schedules, self.lanes))) for n in range(self.lanes)]
        try:
            yield from self._hear(lanes)
        finally:
            for process in lanes:
                process.terminate()  # it has ended, but where something went wrong here
                process.communicate()
            for number, handler in zip(ENDING, before, strict=True):
                signal.signal(number, handler)
        for n, process in enumerate(lanes):
            unborn = self._asked and -process.returncode in ENDING  # told to end before it could listen: it has played nothing
            if process.returncode and not unborn:
                self.lost += 1
                print(f"bench nemesis: lane {n} ended with code {process.returncode}", file=sys.stderr, flush=True)

    def _begun(self, n: int, seeds: list[int]) -> subprocess.Popen[bytes]:
        what = {"folder": str(self.folder / f"lane-{n}"), "skew": self.skew and str(self.skew), "how": self.how, "seeds": seeds}
        words = [sys.executable, str(self.program), json.dumps(what)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _hear(self, lanes: list[subprocess.Popen[bytes]]) -> Iterator[dict[str, Any] | None]:
        """Until each has closed its end."""
        told, rest = False, {process.stdout: b"" for process in lanes}
        while rest:
            if self._asked and not told:
                told = True
                print("stopped; what has been played is judged", file=sys.stderr, flush=True)
                for process in lanes:
                    process.terminate()
            for pipe in select.select(list(rest), [], [], LOOK_S)[0]:
                if not (data := pipe.read1(1 << 20)):
                    del rest[pipe]
                    continue
                *lines, rest[pipe] = (rest[pipe] + data).split(b"\n")
                yield from map(self._take, map(json.loads, lines))

    def _take(self, what: dict[str, Any]) -> dict[str, Any] | None:
        if "played" in what:
            self.played += 1
            return dict(what["played"])
        self.rows = sorted([*self.rows, *what["judged"]], key=lambda row: row["seed"])
        self.figures.update(what["figures"])
        self.causes.update(what["causes"])
        return None


def main(argv: list[str]) -> int:
    what = json.loads(argv[0])
    seconds, deeds, wait, run = what["how"]
    lane(Path(what["folder"]), what["skew"] and Path(what["skew"]), How(seconds, deeds, wait, tuple(run)), what["seeds"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
