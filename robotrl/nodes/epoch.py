"""The lease counter of a run, kept on disk."""

from __future__ import annotations

import os
from pathlib import Path


class EpochFile:
    """The lease counter, on disk before it is used: a process that wakes from an old lease never holds a number as high."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.value = int(path.read_text()) if path.is_file() else 0

    def next(self) -> int:
        self.value += 1
        aside = self._path.with_suffix(".new")
        with open(aside, "w") as file:
            file.write(str(self.value))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self._path)
        return self.value
