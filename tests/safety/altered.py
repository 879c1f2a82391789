"""Negative controls of the rows that `elsewhere.py` points to: with one line of the program altered, the test named must fail.

    python -m tests.safety.altered [--row N ...] [-v] [--json]

Each line is what the row's test stands for. It is altered in memory, in a process of its own, and only there; the same test must
first pass with the program as it is. It prints N/N; exit code 1 when a test stayed green, was red before, or an altered line is
no longer there. What the matrix plays beside a pointer (rows 11, 12, 18, 19, 20, 34, 37, 44) has its control there too. The whole
matrix runs these too, and counts them among its controls.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.safety.elsewhere import ELSEWHERE
from tests.safety.forked import forked

ROOT = Path(__file__).resolve().parents[2]


class Altered(NamedTuple):
    """`old`, which stands once in `module`, becomes `new`. `what`: what the program then is."""

    module: str
    old: str
    new: str
    what: str


# fmt: off
ALTERED = {
    11: Altered("robotrl.drivers.chain", "if i in self._twice:", "if False:", "a handshake that does not mind two answers"),
    12: Altered("robotrl.drivers.chain", "if set_up and not silent and (trip := min(trips)) > ROUND_TRIP_NS:", "if False:",
                "a handshake that does not time its answers"),
    21: Altered("robotrl.nodes.reset", "from __future__ import annotations\n",
                "from __future__ import annotations\n\nimport time\n\nT = time.time()\n", "a node that reads the time of day"),
    27: Altered("robotrl.bus", "if entry.latest and not self._whole:", "if False:",
                "a bus that keeps for a slow reader what is old"),
    29: Altered("robotrl.bus", "(zmq.MAXMSGSIZE, entry.limit), ", "", "a bus that takes any length"),
    30: Altered("robotrl.bus", 'self._refuse("malformed", source)', "pass", "a bus that drops bytes and counts none"),
    31: Altered("robotrl.door", "key = self.keys.authorised.get(credentials[0]) if curve else None",
                "key = next(iter(self.keys.authorised.values()))", "an authenticator that lets in whoever has a key"),
    32: Altered("robotrl.checkpoint", "import hashlib\n", "import hashlib\n\nREAD = lambda text: eval(text)\n",
                "a checkpoint that is run"),
    37: Altered("robotrl.nodes.guard", 'recorder_gone=now - self._heard.get("recorder", now) > GONE_NS', "recorder_gone=False",
                "a guard that misses no recorder"),
    44: Altered("robotrl.rundir", "FULL = (errno.ENOSPC, errno.EDQUOT)", "FULL = ()",
                "a log to which a full disk is a broken one"),
    45: Altered("robotrl.log", "        self._put(data)\n        os.fdatasync(self._fd)\n        return True",
                "        self._put(data)\n        return True", "a log that acknowledges what is not synced"),
    46: Altered("robotrl.checkpoint", "    aside.mkdir()\n", "    aside.mkdir()\n    for path in _all(parent):\n"
                "        shutil.rmtree(path)\n", "a checkpoint in the place of the one before, which is removed first"),
    47: Altered("robotrl.logread", "os.link(path, kept := free(path.with_suffix(DAMAGED)))", "kept = path",
                "a log that mends its damage and keeps nothing of it"),
    48: Altered("robotrl.configfile", "if kind not in (int, float, str, bool) or type(value) is not kind:", "if False:",
                "settings of any type"),
    50: Altered("robotrl.calibration.store", "if theirs != ours:", "if False:", "a record that any robot may use"),
    55: Altered("robotrl.nodes.policy", "if not _answers(actor, seen, gaze):", "if False:", "weights that were never asked"),
    64: Altered("robotrl.safety.guard", 'if command.role != "console":', "if False:", "a guard that obeys anybody's keys"),
}
NO_CONTROL = {
    **dict.fromkeys((18, 19, 20), "the matrix plays it: --robot camera"),
    34: "the matrix plays it; the pointer's test is of live processes, which load the program anew and would not be altered",
    42: "not shown: the kernel is told by processes that load the program anew, and that it obeys, no emulation proves",
}
# fmt: on


def test_of(row: int) -> str:
    found = re.search(r"(tests/\S+\.py)::(\w+)", ELSEWHERE[row])
    assert found is not None, ELSEWHERE[row]
    return f"{found[1]}::{found[2]}"


def altered(change: Altered) -> tuple[Path, str]:
    """The module's file and what it then says. LookupError where the line is not there, or more than once."""
    path = (ROOT / change.module.replace(".", "/")).with_suffix(".py").resolve()
    text = path.read_text()
    if text.count(change.old) != 1:
        raise LookupError(f"{change.module}: {text.count(change.old)} times {change.old!r}, not once; find what has become of it")
    return path, text.replace(change.old, change.new)


class Reworded(SourceFileLoader):
    """Of a module that says something else than its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self._text.encode(), self.path)


def alter(change: Altered) -> None:
    """From now on this process has the altered module, to import and to read."""
    path, text = altered(change)
    read = Path.read_text

    def read_text(self: Path, *args: Any, **more: Any) -> str:
        return text if self.resolve() == path else read(self, *args, **more)

    Path.read_text = read_text  # type: ignore[method-assign]
    parent, _, name = change.module.rpartition(".")
    package = importlib.import_module(parent)
    spec = importlib.util.spec_from_loader(change.module, Reworded(change.module, str(path), text))
    assert spec is not None and spec.loader is not None
    sys.modules[change.module] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    setattr(package, name, module)


class Judge:
    """What came of the tests: how many passed, and what the first that failed said."""

    def __init__(self) -> None:
        self.passed, self.failed = 0, ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            said = str(report.longrepr.reprcrash.message) if hasattr(report.longrepr, "reprcrash") else str(report.longrepr)
            self.failed = self.failed or f"{report.when}: {said.splitlines()[0] if said else 'failed'}"
        elif report.when == "call" and report.passed:
            self.passed += 1


def judged(row: int, change: Altered | None) -> tuple[int, str]:
    """The row's test, with the program altered or as it is: how many of its cases passed, what the first that failed said."""
    said = forked(lambda: _run(row, change))
    return (said[0], said[1]) if len(said) == 2 else (0, f"collect: {said[0]}")


def _run(row: int, change: Altered | None) -> tuple[int, str]:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.chdir(ROOT)
    judge = Judge()
    try:
        if change is not None:
            alter(change)
    except Exception as error:
        return 0, f"alter: {error}"
    with contextlib.suppress(SystemExit):
        pytest.main(["-x", "-p", "no:cacheprovider", "--rootdir", str(ROOT), test_of(row)], plugins=[judge])
    return judge.passed, judge.failed


def controls(rows: Iterable[int]) -> Iterator[tuple[int, str, str]]:
    """Each row: what is wrong with its control, or "", and what the test said of the altered program."""
    for row in rows:
        passed, failed = judged(row, None)
        if failed or not passed:
            yield row, f"red before anything was altered: {failed or 'nothing was run'}", ""
            continue
        _, failed = judged(row, ALTERED[row])
        yield row, "" if failed.startswith("call: ") else f"not red: {failed or 'it passed'}", failed


def table() -> list[dict[str, Any]]:
    """Each control as the matrix keeps its own; from a process that has not yet imported what is to be altered."""
    words = [sys.executable, "-m", "tests.safety.altered", "--json"]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if len(told := [json.loads(line) for line in done.stdout.splitlines()]) != len(ALTERED):
        raise RuntimeError(f"{' '.join(words)}: {len(told)} rows of {len(ALTERED)}, exit code {done.returncode}")
    return told


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", type=int, action="append", choices=ALTERED)
    parser.add_argument("-v", "--verbose", action="store_true", help="what each test said of the altered program")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each, and nothing else")
    args = parser.parse_args(argv)
    rows, good = args.row or list(ALTERED), 0
    for row, wrong, said in controls(rows):
        good += not wrong
        if args.json:
            print(json.dumps({"robot": "altered", "row": row, "name": ALTERED[row].what, "state": "", "seed": 0, "control": True,
                              "good": not wrong, "said": [wrong or said]}), flush=True)  # fmt: skip
        elif wrong or args.verbose:
            print(f"row {row}, {ALTERED[row].what}: {wrong or said}", flush=True)
    if not args.json:
        print(f"controls red: {good}/{len(rows)}")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
