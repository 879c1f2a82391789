"""What a guard must know of its earlier life: the lease counter of a run, and the lockout of a robot, kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from robotrl.calibration import lockout, store
from robotrl.complaint import Complaint
from robotrl.safety.causes import catalogue

UNKNOWN = "stop_unconfirmed"  # the cause of a lockout whose file says none


RESERVE = 1_000_000  # leases: RUN and RESET take one each; with one a second, eleven days in which no press waits for a disk


class EpochFile:
    """The lease counter, on disk before it is used: a process that wakes from an old lease never holds a number as high.

    What is on disk lies ahead: one that takes its time must not hold up a permit, by which a robot stands. Complaint where the
    file is not as it was written: from 0 on, old leases would be as good as new ones.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.value, self._kept = path, 0, 0
        if not path.exists():
            return
        try:
            text = path.read_text()
            self.value = int(text) if text.isdecimal() and text.isascii() else -1
        except (OSError, ValueError):
            self.value = -1
        if not 0 <= self.value < 1 << 62:
            raise Complaint(
                f"{path}: no lease counter; write one into it that is larger than any lease of this run, as 1000000000000"
            )
        self._kept = self.value

    def reserve(self) -> None:
        """Have the next RESERVE numbers on disk. OSError where it takes none."""
        _replace(self._path, str(self.value + RESERVE))
        self._kept = self.value + RESERVE

    def next(self) -> int:
        """The next number; OSError, and none, where it cannot be kept."""
        if self.value >= self._kept:
            self.reserve()
        self.value += 1
        return self.value


class LockoutFile:
    """A LOCKOUT on disk, as `calibration/lockout.py` reads it: a guard that dies in it and is started again is in it again."""

    def __init__(self, path: Path, run: Path | str = "") -> None:
        """`run`: the directory of the run, for the person who inspects the robot."""
        self._path, self._run = path, run

    def causes(self) -> tuple[str, ...]:
        """None without the file. One that cannot be read is a lockout too."""
        found = lockout.standing(self._path)
        if found is None:
            return ()
        known = {cause.id for cause in catalogue()}
        return tuple(word for word in found.causes.split() if word in known) or (UNKNOWN,)

    def keep(self, causes: Iterable[str]) -> None:
        """It stands since it came, whatever joins it. OSError where the disk takes nothing."""
        before = lockout.standing(self._path)
        _replace(self._path, f"{' '.join(causes)}\n{(before and before.when) or store.today()}\n{self._run}\n")

    def forget(self) -> None:
        """There is no robot to inspect: a twin's run was started anew."""
        self._path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    """On disk, and under its name, when this returns: of a lockout a person reads that he should cut the power, here too."""
    aside = path.with_suffix(".new")
    with open(aside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
