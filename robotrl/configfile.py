"""From tables to frozen dataclasses: each key known, each value of its field's type and within its bound.

Each complaint is one line with file and line, or with the `--set` that is to blame.

Knows no setting by name, but that those of the robot come from a file of their own; the settings are in `robotrl/config.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import math
import re
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from robotrl.complaint import Complaint


class ConfigError(Complaint):
    """What is wrong, in which file and line, and what to do; always one line."""


@dataclass(frozen=True)
class Source:
    """A file and its text, to find the line of a key."""

    path: Path
    text: str

    def line(self, keys: list[str]) -> str:
        section, wanted = ".".join(keys[:-1]), keys[-1]
        here = ""
        for number, text in enumerate(self.text.split("\n"), 1):
            if header := re.match(r"\s*\[([^\]]+)\]", text):
                here = header[1].strip()
                if here == ".".join(keys):
                    return f"{self.path}:{number}"
            elif here == section and re.match(rf'\s*"?{re.escape(wanted)}"?\s*=', text):
                return f"{self.path}:{number}"
        return str(self.path)


@dataclass(frozen=True)
class Sources:
    """Where the settings of a run come from: its file, its robot's file, and the overrides laid over both."""

    run: Source
    robot: Source | None = None
    overrides: tuple[str, ...] = ()  # "a.b=c" each, the last one wins

    def of(self, *keys: str) -> str:
        """Whence these dotted keys: the last override that touches one of them, else file and line of the first."""
        for item in reversed(self.overrides):
            mine = item.partition("=")[0].strip()
            if any(f"{mine}.".startswith(f"{key}.") or f"{key}.".startswith(f"{mine}.") for key in keys if key):
                return " ".join(f"--set {item}".split())
        section, _, rest = keys[0].partition(".")
        if section == "robot" and self.robot is not None and rest:
            return self.robot.line(rest.split("."))
        return self.run.line(keys[0].split("."))


@dataclass(frozen=True)
class Within:
    """The bound of a number, ends included: beyond it nothing could run, or nothing that anyone can have meant.

    A nan is refused unless `nan` says that it means something.
    """

    low: float
    high: float
    nan: bool = False

    def refusal(self, value: float) -> str:
        """What the number must be and is not; empty when it may be so."""
        if isinstance(value, float) and math.isnan(value):  # a whole number may be too large to be asked
            return "" if self.nan else "a finite number"
        if value < self.low:
            return f"{self.low:.10g} or more"
        return f"{self.high:.10g} or less" if value > self.high else ""


def within(default: Any, low: float, high: float, nan: bool = False) -> Any:
    """A field with its default and its bound; of a list, the bound of each number in it."""
    return dataclasses.field(default=default, metadata={"within": Within(low, high, nan)})


def read(path: Path) -> dict[str, Any]:
    """A TOML file as nested tables."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}; launch/walk.toml is the one to start from") from None
    except (
        ValueError,
        RecursionError,
        OSError,
    ) as error:  # besides tomllib's own: no UTF-8, too many digits, brackets without end
        raise ConfigError(f"{path}: not readable as TOML: {' '.join(str(error).split())}") from None


def override(data: dict[str, Any], item: str) -> None:
    """Put `section.key=value` in its place in `data`."""
    key, _, text = item.partition("=")
    if not _ or not key.strip():
        raise ConfigError(f"--set {item!r}: write --set section.key=value, e.g. --set agent.batch=128")
    value = text.strip()  # a bare word is a string
    with contextlib.suppress(ValueError, RecursionError):
        table = tomllib.loads(f"v = {text}")
        value = table["v"] if len(table) == 1 else value  # what follows a line's end is no value
    *sections, last = key.strip().split(".")
    if not sections and last == "robot":
        raise ConfigError(f"--set {item!r}: the run file names the robot; --set changes its fields, e.g. robot.servos.kp=4")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {item!r}: {section!r} is a value, not a section")
    data[last] = value


def check_whole_numbers(data: dict[str, Any], where: Sources) -> None:
    """ConfigError for a whole number of so many digits that Python refuses to print it in a complaint about it."""
    left: list[tuple[str, Any]] = [("", data)]
    while left:  # no recursion: what was read may be nested as deep as its reader goes
        path, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
        elif isinstance(value, list):
            left += [(path, inner) for inner in value]
        elif isinstance(value, int) and value.bit_length() > 4096:
            raise ConfigError(f"{where.of(path)}: {path!r} is a number of more than a thousand digits; write a smaller one")


hints_of = functools.cache(typing.get_type_hints)  # it compiles every annotation anew, which takes as long as all the rest


def build(cls: type, data: Any, path: str, where: Sources) -> Any:
    """The dataclass `cls` filled from `data`, which stands at the dotted `path`; what `data` leaves out keeps its default."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where.of(path)}: {path or 'the file'} must be a section, not {data!r}")
    hints = hints_of(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for key, value in data.items():
        full = f"{path}.{key}" if path else key
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(fields)}"
            raise ConfigError(f"{where.of(full)}: unknown key {full!r}; {hint}")
        if dataclasses.is_dataclass(hints[key]):
            values[key] = build(typing.cast(type, hints[key]), value, full, where)
        elif typing.get_origin(hints[key]) is dict:  # sections by names of the person's own
            if not isinstance(value, dict):
                raise ConfigError(f"{where.of(full)}: {full} must be sections, [{key}.NAME], not {value!r}")
            made = typing.get_args(hints[key])[1]
            values[key] = {name: build(made, one, f"{full}.{name}", where) for name, one in value.items()}
        else:
            values[key] = _convert(hints[key], fields[key].metadata.get("within"), value, full, where)
    return cls(**values)


def require(holds: bool, key: str, asked: str, value: Any, where: Sources, *others: str) -> None:
    """ConfigError that the setting `key` must be what is `asked` and not `value`, unless that `holds`.

    `others` are the keys that it does not fit: an override of one of them may be what is wrong.
    """
    if not holds:
        raise ConfigError(f"{where.of(key, *others)}: {key} must be {asked}, not {value}")


def _convert(kind: Any, bound: Within | None, value: Any, full: str, where: Sources) -> Any:
    """`value` as the field's type asks, within its bound; ConfigError for one that is not."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return _choose(typing.get_args(kind), value, full, where)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, bound, v, full, where) for v in value)
    if kind is float and value is None:  # as nan is written in JSON
        value = math.nan
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    if kind not in (int, float, str, bool) or type(value) is not kind:
        name = getattr(kind, "__name__", str(kind)) if not isinstance(kind, types.GenericAlias) else "list"
        raise ConfigError(f"{where.of(full)}: {full} must be {name}, not {value!r}")
    if kind is float:
        require(not math.isinf(value), full, "finite", value, where)
    if bound is not None and (asked := bound.refusal(value)):
        require(False, full, asked, value, where)
    return value


def _choose(choices: tuple[Any, ...], value: Any, full: str, where: Sources) -> Any:
    known = any(type(value) is type(choice) and value == choice for choice in choices)
    *most, last = map(json.dumps, choices)
    require(known, full, " or ".join([", ".join(most), last] if most else [last]), repr(value), where)
    return value
