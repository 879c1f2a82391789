"""Where calibration records live, read strictly and written whole: a robot's here, a camera's and an IMU's in `devices.py`.

One JSON file per robot and kind of record, under `$XDG_CONFIG_HOME/robotrl/calibration/<name>/`:
`<serial>.json` and `<serial>.commissioning.json`. A file is replaced only by a complete, durable one. Reading
refuses an unknown key, a missing key, a wrong type, NaN and infinity, and the record of another robot; each
complaint is one line with file, field and the way out.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import re
import tempfile
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

from robotrl import config
from robotrl.calibration.making import making
from robotrl.complaint import Complaint, command
from robotrl.configfile import hints_of

How = Callable[[], str]  # the command that makes a record; looked for only where one is missing or wrong
SCHEMA = 1
# What a number can be at most (rad, s): beyond it nothing was measured, and the file was damaged or written by hand.
BOUNDS = {
    "pose": (-1000.0, 1000.0), "spread": (0.0, 1.0), "watchdog_s": (0.0, 10.0), "trip_s": (0.0, 10.0), "moved": (-10.0, 10.0),
    "step": (0.0, 10.0), "stop_s": (0.0, 10.0), "stop_rad": (0.0, 10.0),
}  # fmt: skip


class CalibrationError(Complaint):
    """What is wrong with which record, and what to do; always one line."""


class Stored(Protocol):
    """A record: a frozen dataclass of numbers, words and tuples of them. `maker`: the subcommand that makes it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    maker: ClassVar[str]

    @property
    def schema(self) -> int: ...

    def wrong(self) -> tuple[str, str] | None:
        """A field and what is wrong with it, of what types cannot say; None for a sound record."""


@dataclass(frozen=True)
class Calibration:
    """Where each motor's zero is: robot angle = sign * (servo angle - offset)."""

    maker: ClassVar[str] = "calibrate homing"
    schema: int
    robot: str  # robot.name of the robot file
    kind: str
    serial: str  # robot.serial of the robot file
    made: str  # ISO 8601, UTC
    ids: tuple[int, ...]
    sign: tuple[int, ...]
    offset: tuple[float, ...]  # rad
    pose: tuple[float, ...]  # rad, robot convention: where the motors were said to be when the file was made
    spread: tuple[float, ...]  # rad, largest minus smallest reading while it was made
    identity: tuple[str, ...] = ()  # who each servo said it is (drivers/identity.py)

    def wrong(self) -> tuple[str, str] | None:
        if any(s not in (1, -1) for s in self.sign):
            return "sign", f"must be 1 or -1 each, not {list(self.sign)}"
        if any(abs(v) > 1000.0 for v in self.offset):
            return "offset", "is more than 159 turns away"
        return _per_servo(self)


@dataclass(frozen=True)
class Commissioning:
    """What was measured on the robot before its first run. Shapes: (n,) in motor order."""

    maker: ClassVar[str] = "commission"
    schema: int
    robot: str
    kind: str
    serial: str
    made: str  # ISO 8601, UTC
    ids: tuple[int, ...]
    calibration: str  # SHA-256 of the calibration file it was made with
    firmware: tuple[str, ...]  # major.minor.micro of each servo
    watchdog_s: float  # the watchdog that was asked for
    trip_s: tuple[float, ...]  # of silence, after which the servo's watchdog had tripped; () where it has none
    moved: tuple[float, ...]  # rad: travel for a step, the way it was sent
    step: float  # rad, the wiggle that was asked for
    seen: str  # who confirmed the directions: "operator" or "encoder"
    stop_s: float  # from the stop to standing still
    stop_rad: tuple[float, ...]  # how far each went meanwhile

    def wrong(self) -> tuple[str, str] | None:
        if self.seen not in ("operator", "encoder"):
            return "seen", f"must be 'operator' or 'encoder', not {self.seen!r}"
        return _per_servo(self)


Record = TypeVar("Record", bound=Stored)
OfRobot = TypeVar("OfRobot", Calibration, Commissioning)


def folder(override: Path | None = None) -> Path:
    """The folder of all robots' records."""
    if override is not None:
        return override
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "robotrl" / "calibration"


def path_of(kind: type, robot: config.Robot, override: Path | None = None) -> Path:
    """The file of one robot's record. Raises CalibrationError where it has no usable name or serial."""
    for field, value in (("name", robot.name), ("serial", robot.serial)):
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", value):
            raise CalibrationError(
                f"robot file of {robot.name!r}: {field} is {value!r} and records are kept by it; write"
                f" {field} = \"...\" in its first lines (letters, digits, '.', '_', '-')"
            )
    suffix = ".json" if kind is Calibration else ".commissioning.json"
    return folder(override) / robot.name / (robot.serial + suffix)


def today() -> str:
    """The date a record carries."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(record: Stored, path: Path) -> None:
    """Replace `path` by `record`: checked first, complete on disk before the old one goes."""
    _check(record, path)
    text = json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise CalibrationError(f"{path}: not written: {error.strerror}; make room or the folder writable") from None


def read(kind: type[Record], path: Path, how: How | None = None) -> Record:
    """Read one record. Raises CalibrationError naming file and field. `how`: what makes it, where its robot is known."""
    how = how or partial(command, kind.maker)
    try:
        data = json.loads(path.read_text(), parse_constant=_refuse, object_pairs_hook=_once)
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such file; make it: {how()}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: not readable: {' '.join(str(error).split())}; make it again: {how()}") from None
    if not isinstance(data, dict):
        raise CalibrationError(f"{path}: must hold one object, not {type(data).__name__}; make it again: {how()}")
    types = hints_of(kind)
    hints = {field.name: types[field.name] for field in dataclasses.fields(kind)}
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(hints)}"
            raise CalibrationError(f"{path}: unknown field {key!r}; {hint}")
    values = {}
    for key, hint in hints.items():
        if key not in data:
            raise CalibrationError(f"{path}: field {key!r} is missing; make it again: {how()}")
        values[key] = _value(hint, data[key], key, path)
    record = kind(**values)
    _check(record, path, how)
    return record


def digest(path: Path, how: How | None = None) -> str:
    """SHA-256 of a record's file: a commissioning record names the calibration it was made with. `how`: as of `read`."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        again = how() if how else command(Calibration.maker)
        raise CalibrationError(f"{path}: not readable: {error.strerror}; make it again: {again}") from None


def load(kind: type[OfRobot], robot: config.Robot, override: Path | None = None) -> OfRobot:
    """This robot's record; that of another robot is refused with both names."""
    path, how = path_of(kind, robot, override), partial(making, kind.maker, robot, override)
    record = read(kind, path, how)
    theirs = f"robot {record.robot!r} kind {record.kind!r} serial {record.serial!r}"
    ours = f"robot {robot.name!r} kind {robot.kind!r} serial {robot.serial!r}"
    if theirs != ours:
        raise CalibrationError(f"{path}: is of {theirs}, this is {ours}; make it again: {how()}")
    same(path, "ids", record.ids, robot.servos.ids, robot, override)
    if isinstance(record, Calibration):
        same(path, "sign", record.sign, robot.servos.sign, robot, override)
    return record


def same(path: Path, field: str, recorded: object, configured: object, robot: config.Robot, override: Path | None) -> None:
    """Raises CalibrationError where a record and the robot file say different things."""
    if recorded != configured:
        home, then = making(Calibration.maker, robot, override), making(Commissioning.maker, robot, override)
        raise CalibrationError(
            f"{path}: field {field!r} is {recorded}, the robot file says {configured};"
            f" correct the robot file or make it again: {home}, then {then}"
        )


def calibrated(robot: config.Robot, override: Path | None = None) -> config.Robot:
    """The robot with the offsets of its calibration file, who its servos are, and its IMU's. CalibrationError without these."""
    from robotrl.calibration.devices import with_imu  # late: it writes as this module does

    record = load(Calibration, robot, override)
    if not record.identity:
        why = "is empty: nobody asked the servos who they are, and another robot's would be taken for them"
        how = making(Calibration.maker, robot, override)
        raise CalibrationError(f"{path_of(Calibration, robot, override)}: field 'identity' {why}; make it again: {how}")
    servos = dataclasses.replace(robot.servos, offset=record.offset, identity=record.identity)
    return with_imu(dataclasses.replace(robot, servos=servos), override)


def commissioned(robot: config.Robot, override: Path | None = None) -> Commissioning:
    """The commissioning record, if it still speaks of this robot as it is set up now."""
    record = load(Commissioning, robot, override)
    path, how = path_of(Commissioning, robot, override), partial(making, Commissioning.maker, robot, override)
    if record.calibration != digest(path_of(Calibration, robot, override), partial(making, Calibration.maker, robot, override)):
        raise CalibrationError(f"{path}: field 'calibration': the robot was calibrated since; make it again: {how()}")
    same(path, "watchdog_s", record.watchdog_s, robot.servos.watchdog_s, robot, override)
    if record.seen != "operator":
        why = "nobody saw which way the motors turn, and an encoder cannot tell"
        raise CalibrationError(f"{path}: field 'seen': {why}; make it again at a terminal, without --yes: {how()}")
    return record


def _value(kind: Any, value: Any, key: str, path: Path) -> Any:
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise CalibrationError(f"{path}: field {key!r} must be a list, not {value!r}")
        return tuple(_value(typing.get_args(kind)[0], v, f"{key}[{i}]", path) for i, v in enumerate(value))
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 1 << 53 else value
    if type(value) is not kind:
        raise CalibrationError(f"{path}: field {key!r} must be {kind.__name__}, not {value!r}")
    return value


def _check(record: Stored, path: Path, how: How | None = None) -> None:
    """What types cannot say: this schema, finite numbers within their bounds, and what the record itself knows."""

    found = ("schema", f"is {record.schema}, this program reads {SCHEMA}") if record.schema != SCHEMA else None
    for field in dataclasses.fields(record):
        if not found and any(isinstance(v, float) and not math.isfinite(v) for v in _flat(getattr(record, field.name))):
            found = field.name, "holds a number that is not finite"
    if found := found or record.wrong():
        raise CalibrationError(f"{path}: field {found[0]!r} {found[1]}; make it again: {how() if how else command(record.maker)}")


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _per_servo(record: Calibration | Commissioning) -> tuple[str, str] | None:
    """One value a servo, none beyond its bounds."""
    n = len(record.ids)
    if n == 0 or len(set(record.ids)) != n:
        return "ids", f"must name each servo once, not {list(record.ids)}"
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, tuple) and len(value) != n and (value or field.name not in ("identity", "trip_s")):
            return field.name, f"has {len(value)} values for {n} servos"
        low, high = BOUNDS.get(field.name, (-math.inf, math.inf))
        if field.name in BOUNDS and not all(low <= v <= high for v in _flat(value)):
            return field.name, f"must be {low:g} to {high:g}, not {value}"
    return None


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a field is there twice")
    return out
