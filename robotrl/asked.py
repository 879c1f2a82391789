"""A process beside another that does what it is asked, line by line: a rehearsal's learner, and who trains a classifier."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from robotrl.complaint import Complaint


class AskedError(Complaint):
    """Why it does not answer, and what to do; one line."""


class Asked:
    """Requests and answers are JSON objects, a line each; it answers in the order in which it was asked."""

    def __init__(self, module: str, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._name = module.rpartition(".")[2]
        self.pending = 0  # requests without an answer so far

    def request(self, asked: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self.pending += 1

    def wait(self) -> dict[str, Any]:
        """The answer to the oldest request without one."""
        assert self.pending
        self.pending -= 1
        return self.answer()

    def ready(self) -> bool:
        """Whether the answer to the oldest request is there, or it has stopped."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0.0)[0])

    def answer(self) -> dict[str, Any]:
        """The next line. AskedError when it has stopped, or says that it cannot go on."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AskedError(f"the {self._name} stopped (exit code {self._process.wait()}); its words are above")
        answer = dict(json.loads(line))
        if "error" in answer:
            raise AskedError(answer["error"])
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
