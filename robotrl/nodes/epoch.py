"""What a guard must know of its earlier life: the lease counter of a run and its lockout, kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class EpochFile:
    """The lease counter, on disk before it is used: a process that wakes from an old lease never holds a number as high."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.value = int(path.read_text()) if path.is_file() else 0

    def next(self) -> int:
        self.value += 1
        _replace(self._path, str(self.value))
        return self.value


class LockoutFile:
    """The causes of a LOCKOUT, on disk: a guard that dies in it and is started again is in it again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def causes(self) -> tuple[str, ...]:
        return tuple(self._path.read_text().split()) if self._path.is_file() else ()

    def keep(self, causes: Iterable[str]) -> None:
        """OSError where the disk takes nothing."""
        _replace(self._path, " ".join(causes))

    def forget(self) -> None:
        """A person has started everything anew."""
        self._path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    aside = path.with_suffix(".new")
    with open(aside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
