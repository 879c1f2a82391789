"""One mutant after another before the tests: each in a fork of a process that has imported everything (see mutation.py)."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from forked import Record, collect, drain, forked, guarded, judgement, run, settle, ticks
from mutants import Mutant
from sources import Instead, exchange, extent, independent, module_name, said, tree_of

from robotrl.complaint import Complaint

WALL_S = 120.0  # in which one mutant has used no processor: it waits for ever. One that is starved by a busy machine gets some


class Verdict(NamedTuple):
    """`by`: the test that failed, "time ..." for the one that did not end; empty for a survivor."""

    key: str
    by: str
    seconds: float


class Trial:
    """Tries mutants on the tests that `words` (of pytest) name. `hints`: who killed a mutant in an earlier run, by its key;
    `kept`: where the record of the tests is, or is to be."""

    def __init__(self, root: Path, words: list[str], hints: dict[str, str], jobs: int, kept: Path) -> None:
        self.root, self.words, self.hints, self.jobs, self.kept = root, words, hints, jobs, kept
        self.record = Record({}, {}, {}, [])
        self.files: dict[str, str] = {}
        self._reached: dict[str, list[str]] = {}
        self._lately: dict[tuple[str, str], list[str]] = {}  # who killed mutants of the same function

    def of(self, mutants: list[Mutant], paths: Iterable[str]) -> Iterator[Verdict]:
        """The verdict on each mutant, of these files."""
        settle()
        os.chdir(self.root)
        files = sorted({self.root / path for path in paths})
        self.files = {path: said(self.root / path) for path in paths}
        if not self.kept.is_file():
            self.kept.write_text(json.dumps(Record.of(self.words, [Path(os.path.realpath(file)) for file in files])))
        self.record = Record(*json.loads(self.kept.read_text()))
        for name in independent(self.record.modules, {module_name(path) for path in self.files}, self.root):
            importlib.import_module(name)  # no child has to
        self._reached = {path: self._reaching(path) for path in self.files}
        at_import = [mutant for mutant in mutants if self._runs_at_import(mutant)]
        late = {id(mutant) for mutant in at_import}
        yield from self._on_collected([mutant for mutant in mutants if id(mutant) not in late])
        yield from self._pool(at_import, self._anew)

    def _runs_at_import(self, mutant: Mutant) -> bool:
        if "<module>" in mutant.where:
            return True
        lines = self.record.at_import[os.path.realpath(self.root / mutant.path)]
        first, last = extent(self.root / mutant.path, mutant.where)
        return any(first < line <= last for line in lines)  # the first line is the definition's own, which does run

    def _on_collected(self, mutants: list[Mutant]) -> Iterator[Verdict]:
        """From a child that has collected the tests, with a fork for each mutant."""

        def work(tell: Callable[[str], None]) -> None:
            def loop(items: list[pytest.Item]) -> None:
                by_id = {item.nodeid: item for item in items}
                for verdict in self._pool(mutants, lambda mutant, tell: self._exchanged(mutant, by_id, tell)):
                    tell(json.dumps(verdict))

            if not collect(self.words, loop):
                raise Complaint(f"the tests cannot be collected; run pytest {' '.join(self.words)}")

        if not mutants:
            return
        pid, read = forked(work)
        with os.fdopen(read, "rb") as pipe:
            for line in pipe:
                if line.startswith(b"raised"):
                    raise Complaint(f"mutants could not be tried: {line.decode().strip()}")
                yield Verdict(*json.loads(line))
        os.waitpid(pid, 0)

    def _pool(self, mutants: list[Mutant], work: Callable[[Mutant, Callable[[str], None]], None]) -> Iterator[Verdict]:
        """A child for each mutant, some at a time."""
        left, running, looked = list(reversed(mutants)), {}, {}
        while left or running:
            while left and len(running) < self.jobs:
                mutant = left.pop()
                pid, read = forked(lambda tell, mutant=mutant: work(mutant, tell))  # type: ignore[misc]
                os.set_blocking(read, False)
                running[pid] = (mutant, read, time.monotonic(), bytearray())
                looked[pid] = (time.monotonic(), 0)
            pid, status = os.waitpid(-1, os.WNOHANG)
            for _, read, _, heard in running.values():
                drain(read, heard)
            if not pid:
                for other, (at, used) in looked.items():
                    if time.monotonic() - at > WALL_S:
                        looked[other] = (time.monotonic(), ticks(other))
                        if ticks(other) == used:
                            os.kill(other, signal.SIGKILL)
                time.sleep(0.002)
                continue
            mutant, read, began, heard = running.pop(pid)
            del looked[pid]
            os.close(read)
            by = judgement(heard.decode().splitlines(), status)
            if by and not by.startswith("time"):
                lately = self._lately.setdefault((mutant.path, mutant.where), [])
                lately[:] = [by, *(other for other in lately if other != by)][:6]
            yield Verdict(mutant.key, by, round(time.monotonic() - began, 3))

    def _order(self, mutant: Mutant) -> list[str]:
        """The tests that can notice it, the likeliest first."""
        record = self.record
        if self._runs_at_import(mutant):
            able = self._reached[mutant.path]
        else:
            file, lines = os.path.realpath(self.root / mutant.path), set(range(mutant.first, mutant.last + 1))
            able = [test for test in record.passes if lines & set(record.passes[test][file])]
        lately = self._lately.get((mutant.path, mutant.where), [])
        hint, stem = self.hints.get(mutant.key, "").removeprefix("time "), Path(mutant.path).stem
        naming = self._naming(mutant.path)

        def rank(test: str) -> tuple[bool, int, bool, bool, float]:
            near, file = lately.index(test) if test in lately else len(lately), test.split("::")[0]
            return test != hint, near, stem not in file, file not in naming, record.seconds[test]

        return sorted(able, key=rank)

    def _reaching(self, path: str) -> list[str]:
        """Tests that pass over a line of the file or of one that imports it, or whose own file names it."""
        near = {path}
        for _ in self.files:
            near |= {file for file, text in self.files.items() if any(f"{module_name(other)}." in text for other in near)}
        real = [os.path.realpath(self.root / file) for file in near]
        naming = self._naming(path)
        passes = self.record.passes.items()
        return [test for test, lines in passes if test.split("::")[0] in naming or any(lines[file] for file in real)]

    def _naming(self, path: str) -> set[str]:
        """Files of tests that import it themselves."""
        files = {test.split("::")[0] for test in self.record.passes}
        return {file for file in files if f"{module_name(path)}." in said(self.root / file)}

    def _limit(self, tell: Callable[[str], None], test: str) -> None:
        """Tell which test begins, and end this process when it takes far longer than it did without a mutant."""
        tell(test)
        signal.setitimer(signal.ITIMER_PROF, 4 * self.record.seconds[test] + 2.0)

    def _exchanged(self, mutant: Mutant, items: dict[str, pytest.Item], tell: Callable[[str], None]) -> None:
        """Give the function its mutant's code and run the tests."""
        guarded()
        path = self.root / mutant.path
        module = sys.modules.get(module_name(mutant.path))
        if module is None:  # no test imports it
            return
        exchange(module, mutant.where, compile(tree_of(mutant), str(path), "exec", dont_inherit=True))
        for test in self._order(mutant):
            self._limit(tell, test)
            if not run(items[test]):
                tell("killed")
                return

    def _anew(self, mutant: Mutant, tell: Callable[[str], None]) -> None:
        """Import the mutated module in place of the original, and the tests after it."""
        guarded()
        sys.meta_path.insert(0, Instead(module_name(mutant.path), self.root / mutant.path, tree_of(mutant)))
        order = self._order(mutant)
        rank = {test: k for k, test in enumerate(order)}
        files = list(dict.fromkeys(test.split("::")[0] for test in order))

        def loop(items: list[pytest.Item]) -> None:
            for item in sorted((i for i in items if i.nodeid in rank), key=lambda i: rank[i.nodeid]):
                self._limit(tell, item.nodeid)
                if not run(item):
                    tell("killed")
                    os._exit(0)  # without what pytest tidies up at its end

        for file in files:
            tell(f"{file} (import)")
            signal.setitimer(signal.ITIMER_PROF, 30.0)
            words = [word for word in self.words if word.startswith("-") or not (self.root / word).exists()]
            if not collect([file, *words], loop):
                tell("killed")
                return
