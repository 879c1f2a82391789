"""Tests in forked processes: what each passes over, and whether they still pass (see mutation.py)."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import hypothesis
import msgspec  # noqa: F401  imported before the fork, as the next ones: no child has to
import numpy  # noqa: F401
import pytest
import serial  # noqa: F401
from _pytest.runner import runtestprotocol

from robotrl.complaint import Complaint

ARGUMENTS = ["-p", "no:cacheprovider", "-p", "no:timeout", "-o", "addopts=--import-mode=importlib", "--assert=plain"]
ARGUMENTS += ["--tb=no", "-q", "-s", "-W", "ignore"]
MEMORY = 3 << 30  # bytes more than at the fork: a loop that gathers is ended by it


def settle() -> None:
    """No test is to draw other numbers the next time, or to look for a smaller example of what it found."""
    hypothesis.settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")


class Plugin:
    """Takes the place of pytest's loop over the collected tests."""

    def __init__(self, loop: Callable[[list[pytest.Item]], None]) -> None:
        self._loop = loop
        self.broken = False
        self.error: Exception | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.broken = session.testsfailed > 0
        if not self.broken:
            try:
                self._loop(session.items)
            except Exception as error:  # which pytest would keep to itself
                self.error = error
        return True


def collect(words: list[str], loop: Callable[[list[pytest.Item]], None]) -> bool:
    """Collect the tests and give them to `loop`; false when that was impossible. What `loop` raises is raised."""
    plugin = Plugin(loop)
    code = pytest.main([*ARGUMENTS, *words], plugins=[plugin])
    if plugin.error is not None:
        raise plugin.error
    return not plugin.broken and code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def run(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, nextitem=None, log=False))


def forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """A child that does `work` with a function to tell things by: its id, and where to read what it tells."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    try:
        os.close(read)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        work(lambda word: os.write(write, word.encode() + b"\n") and None)
        os._exit(0)
    except BaseException as error:
        os.write(write, f"raised {error!r}\n".encode()[:500])
        os._exit(1)


def told(read: int) -> list[str]:
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode().splitlines()


class Traced:
    """Lines passed over, of the files looked at."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = {str(file) for file in files}
        self._codes: dict[CodeType, str] = {}
        self.lines: dict[str, set[int]] = {file: set() for file in self._files}

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code not in self._codes:
            self._codes[code] = os.path.realpath(code.co_filename)
        file = self._codes[code]
        if file not in self._files:
            return None
        lines = self.lines[file]
        lines.add(frame.f_lineno)

        def each(frame: FrameType, event: str, arg: Any) -> Any:
            lines.add(frame.f_lineno)
            return each

        return each

    def take(self) -> dict[str, list[int]]:
        """What was passed over since the last time."""
        found = {file: sorted(lines) for file, lines in self.lines.items()}
        self.lines.update({file: set() for file in self._files})
        return found


class Record(NamedTuple):
    """Lines that run at import, lines each test passes over, seconds each takes while traced, the project's modules imported."""

    at_import: dict[str, list[int]]
    passes: dict[str, dict[str, list[int]]]
    seconds: dict[str, float]
    modules: list[str]

    @classmethod
    def of(cls, words: list[str], files: Iterable[Path]) -> Record:
        """From a run of the tests. Complaint when one fails without any mutant."""

        def work(tell: Callable[[str], None]) -> None:
            traced, passes, seconds, failed = Traced(files), {}, {}, []
            at_import: dict[str, list[int]] = {}

            def loop(items: list[pytest.Item]) -> None:
                at_import.update(traced.take())
                for item in items:
                    began = time.process_time()
                    sys.settrace(traced)
                    if not run(item):
                        failed.append(item.nodeid)
                    sys.settrace(None)
                    seconds[item.nodeid] = time.process_time() - began
                    passes[item.nodeid] = traced.take()

            sys.settrace(traced)
            ok = collect(words, loop)
            sys.settrace(None)
            modules = [name for name in sys.modules if name.startswith("robotrl.")]
            tell(json.dumps([at_import, passes, seconds, modules, failed if ok and passes else ["collection"]]))

        _, read = forked(work)
        lines = told(read)
        os.wait()
        if len(lines) != 1 or lines[0].startswith("raised"):
            raise Complaint(f"the tests could not be run without a mutant: {lines}; run pytest {' '.join(words)}")
        *rest, failed = json.loads(lines[0])
        if failed:
            raise Complaint(f"{', '.join(failed[:5])} failed without any mutant; mend that first")
        return cls(*rest)


def judgement(lines: list[str], status: int) -> str:
    """Who killed it, from what a child told and how it ended."""
    ended = os.waitstatus_to_exitcode(status)
    if lines and lines[-1] == "killed":
        return lines[-2]
    if ended in (-signal.SIGPROF, -signal.SIGKILL):
        return f"time {lines[-1] if lines else ''}"
    if ended != 0:
        if len(lines) < 2:
            raise Complaint(f"a mutant could not be tried: {lines}")
        return lines[-2] if lines[-1].startswith("raised") else lines[-1]
    return ""


def drain(read: int, heard: bytearray) -> None:
    """Take what a child has told so far: a full pipe would hold it up. `read` does not block."""
    try:
        while data := os.read(read, 65_536):
            heard += data
    except BlockingIOError:
        pass


def ticks(pid: int) -> int:
    """Processor time that this child has used, in hundredths of a second."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def guarded() -> None:
    """What this child, a mutant may not do: take all the memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
