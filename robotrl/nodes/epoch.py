"""What a guard must know of its earlier life: the lease counter of a run and its lockout, kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from robotrl.complaint import Complaint
from robotrl.safety.causes import catalogue

UNKNOWN = "stop_unconfirmed"  # the cause of a lockout whose file says none


class EpochFile:
    """The lease counter, on disk before it is used: a process that wakes from an old lease never holds a number as high.

    Complaint where the file is not as it was written: from 0 on, old leases would be as good as new ones.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.value = path, 0
        if not path.exists():
            return
        try:
            text = path.read_text()
            self.value = int(text) if text.isdecimal() and text.isascii() else -1
        except (OSError, ValueError):
            self.value = -1
        if not 0 <= self.value < 1 << 62:
            raise Complaint(f"{path}: no lease counter; write one into it that is larger than any lease of this run, as 1000000")

    def next(self) -> int:
        self.value += 1
        _replace(self._path, str(self.value))
        return self.value


class LockoutFile:
    """The causes of a LOCKOUT, on disk: a guard that dies in it and is started again is in it again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def causes(self) -> tuple[str, ...]:
        """None without the file. One that cannot be read is a lockout too."""
        if not self._path.exists():
            return ()
        try:
            words = self._path.read_bytes().decode(errors="replace").split()
        except OSError:
            words = []
        known = {cause.id for cause in catalogue()}
        return tuple(word for word in words if word in known) or (UNKNOWN,)

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
