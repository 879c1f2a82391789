"""A robot's LOCKOUT, kept beside its records: nothing on its ports starts again before a person has inspected it.

The guard writes the file `<serial>.lockout` when it enters LOCKOUT (nodes/epoch.py): a line each of causes, when, the run. Only
`robotrl inspect`, answered at a terminal, puts a record of the inspection in its place. The twin has no such file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from robotrl import config
from robotrl.calibration import store
from robotrl.complaint import command


@dataclass(frozen=True)
class Lockout:
    """What is known of one that stands; words, and empty where its file does not say."""

    causes: str  # ids, the most severe first
    when: str  # ISO 8601, UTC
    run: str  # the directory of the run that it ended

    def told(self) -> str:
        by, since = self.causes or "a cause that its file does not say", self.when or "a time that its file does not say"
        return f"locked out since {since} by {by}" + (f" (run {self.run})" if self.run else "")


@dataclass(frozen=True)
class Inspection:
    """What a person looked at before a robot that was locked out may be started again."""

    maker: ClassVar[str] = "inspect"
    schema: int
    robot: str
    serial: str
    made: str  # ISO 8601, UTC
    causes: str  # of the lockout, as all that follows
    locked: str
    run: str
    looked: str  # in the person's words

    def wrong(self) -> tuple[str, str] | None:
        return None if self.looked.strip() else ("looked", "is empty")


def path_of(robot: config.Robot, override: Path | None = None) -> Path:
    """The file of one robot's lockout. Raises CalibrationError where it has no usable name or serial."""
    return store.path_of(store.Calibration, robot, override).with_name(f"{robot.serial}.lockout")


def standing(path: Path) -> Lockout | None:
    """The lockout that stands; None without the file. One that cannot be read, or says nothing, is a lockout too."""
    if not os.path.lexists(path):
        return None
    try:
        lines = path.read_bytes().decode(errors="replace").split("\n")
    except OSError:
        lines = []
    causes, when, run = (line.strip() for line in [*lines, "", "", ""][:3])
    return Lockout(causes, when, run)


def way_out(robot: config.Robot, override: Path | None = None) -> str:
    """What to do."""
    folder = f" --calibration {override}" if override is not None else ""
    return f"inspect the robot, then answer at a terminal: {command(f'inspect {robot.name} {robot.serial}{folder}')}"


def require_none(robot: config.Robot, override: Path | None = None) -> Path:
    """The file in which a guard keeps a lockout of this robot. CalibrationError while one stands."""
    path = path_of(robot, override)
    if found := standing(path):
        raise store.CalibrationError(f"{robot.name} {robot.serial} is {found.told()}; {way_out(robot, override)}")
    return path


def release(path: Path, record: Inspection) -> Path:
    """Write the record beside the lockout, and when it is on disk end the lockout. CalibrationError where that fails."""
    kept = path.with_name(f"{record.serial}.inspection-{record.made.replace(':', '')}.json")
    store.write(record, kept)
    try:
        path.unlink()
    except OSError as error:
        raise store.CalibrationError(f"{path}: not removed: {error.strerror}; the robot stays locked out") from None
    return kept
