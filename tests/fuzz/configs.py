"""Settings as they come: run and robot files, words of a command line, a run's record; a sound run or one line of complaint."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import random
from typing import Any

from robotrl import config, rundir
from robotrl.complaint import Complaint
from tests.fuzz.engine import Broken
from tests.fuzz.files import OnDisk, complaint


def sound(run: config.Run) -> None:
    """Every number of a run that was taken is one, within its bound, asked independently of the reader."""
    parts: list[Any] = [run]
    while parts:
        part = parts.pop()
        for name, bound in _bounds(type(part)):
            value = getattr(part, name)
            if hasattr(value, "__dataclass_fields__"):
                parts.append(value)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, _NUMBERS) and not isinstance(number, bool) and not _may_be(number, bound):
                    raise Broken(f"{name} of {part} is {value}")


def _may_be(number: float, bound: Any) -> bool:
    if isinstance(number, float) and not math.isfinite(number):
        return math.isnan(number) and bool(bound.nan)
    return bound is None or bound.low <= number <= bound.high


_NUMBERS = (int, float)


@functools.cache
def _bounds(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.metadata.get("within")) for field in dataclasses.fields(kind))


def _toml(rng: random.Random, part: Any, names: tuple[str, ...] = ()) -> str:
    """Some fields of a configuration as they would be written."""
    lines, tables = [], []
    for field in rng.sample(dataclasses.fields(part), min(6, len(dataclasses.fields(part)))):
        value = getattr(part, field.name)
        if field.name == "robot":
            continue  # a file of its own
        if dataclasses.is_dataclass(value):
            tables.append(_toml(rng, value, (*names, field.name)))
        elif value == value:
            lines.append(f"{field.name} = {json.dumps(list(value) if isinstance(value, tuple) else value)}")
    head = [f"[{'.'.join(names)}]"] if names else []
    return "\n".join([*head, *lines, *tables]) + "\n"


class RunFile(OnDisk):
    """`config.load`: the run's TOML."""

    name = "run file"
    words = (b"[", b"]", b"= ", b"[agent]\n", b"robot = ", b'"', b"'''", b"1979-05-27", b"inf", b"nan", b"0x" + b"F" * 5000,
             b"\xff", b"[" * 3000, b"{a=" * 1500, b"\n", b"#", b"\\u0000", b"\\n", b'robot = "' + b"x" * 300 + b'"\n',
             b'robot = "a\\nb"\n', b"a.b")  # fmt: skip
    at = "run.toml"

    def prepare(self) -> bytes:
        (self.path / "robots").mkdir()
        (self.path / "run.toml").write_text("steps = 100\n")
        (self.path / "robots" / "minitaur.toml").write_text('name = "minitaur"\n')
        return b"steps = 100\n"

    def example(self, rng: random.Random) -> bytes:
        run = config.Run()
        return _toml(rng, run if self.at == "run.toml" else run.robot).encode()

    def check(self, data: bytes) -> None:
        (self.path / self.at).write_bytes(data)
        self.load()

    def load(self, *settings: str) -> None:
        try:
            sound(config.load(self.path / "run.toml", list(settings)))
        except Complaint as error:
            complaint(error)


class RobotFile(RunFile):
    """`config.load`: the robot's TOML."""

    name, at = "robot file", "robots/minitaur.toml"


class Setting(RunFile):
    """`--set`: a word from a command line, as the system hands it over."""

    name = "--set"
    words = (*RunFile.words, b".", b"=", b"robot.servos.", b"agent.", b"\n[v]\n", b"\nv.x=1", b"..")

    def example(self, rng: random.Random) -> bytes:
        section = rng.choice(("task", "agent", "twin", "robot.servos", "robot.limits", ""))
        part: Any = config.Run()
        for word in section.split(".") if section else ():
            part = getattr(part, word)
        field = rng.choice([f for f in dataclasses.fields(part) if not dataclasses.is_dataclass(getattr(part, f.name))])
        value = getattr(part, field.name)
        text = json.dumps(list(value) if isinstance(value, tuple) else value)
        return f"{section}{'.' * bool(section)}{field.name}={text}".encode()

    def check(self, data: bytes) -> None:
        self.load(data.decode("utf-8", "surrogateescape"))


class RunRecord(OnDisk):
    """`rundir.load`: run.json."""

    name = "run.json"

    def prepare(self) -> bytes:
        rundir.write_json(self.path / "run.json", {"clock": "lockstep", "config": config.to_dict(config.Run()), "built_from": {}})
        return (self.path / "run.json").read_bytes()

    def check(self, data: bytes) -> None:
        (self.path / "run.json").write_bytes(data)
        try:
            sound(rundir.load(self.path))
        except Complaint as error:
            complaint(error)


TARGETS = (RunFile, RobotFile, Setting, RunRecord)
