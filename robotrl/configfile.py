"""From tables to frozen dataclasses: each key known, each value of its field's type, each complaint with file and line.

Knows no setting by name, but that those of the robot come from a file of their own; the settings are in `robotrl/config.py`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read(path: Path) -> dict[str, Any]:
    """A TOML file as nested tables."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}; launch/walk.toml is the one to start from") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: not readable as TOML: {error}") from None


def override(data: dict[str, Any], item: str) -> None:
    """Put `section.key=value` in its place in `data`."""
    key, _, text = item.partition("=")
    if not _ or not key.strip():
        raise ConfigError(f"--set {item!r}: write --set section.key=value, e.g. --set agent.batch=128")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    *sections, last = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"--set {item!r}: {section!r} is a value, not a section")
    data[last] = value


def build(cls: type, data: Any, path: str, where: dict[str, Source]) -> Any:
    """The dataclass `cls` filled from `data`, which stands at the dotted `path`; what `data` leaves out keeps its default.

    `where` has the sources of `data`: the run file under "", the robot file under "robot", each override under its key.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{_where(path, where)}: {path or 'the file'} must be a section, not {data!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for key, value in data.items():
        full = f"{path}.{key}" if path else key
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(fields)}"
            raise ConfigError(f"{_where(full, where)}: unknown key {full!r}; {hint}")
        if dataclasses.is_dataclass(hints[key]):
            values[key] = build(typing.cast(type, hints[key]), value, full, where)
        else:
            values[key] = _convert(hints[key], value, full, where)
    return cls(**values)


def bound(config: Any, at_least: Mapping[str, float], above_zero: tuple[str, ...], where: dict[str, Source]) -> None:
    """ConfigError for a number of `config`, by its dotted key, with which nothing could be run."""
    for key in (*at_least, *above_zero):
        value, lowest = operator.attrgetter(key)(config), at_least.get(key)
        asked = "more than 0" if lowest is None else f"{lowest} or more"
        require(value > 0 if lowest is None else value >= lowest, key, asked, value, where)  # a nan is neither


def require(holds: bool, key: str, asked: str, value: Any, where: dict[str, Source]) -> None:
    """ConfigError that the setting `key` must be what is `asked` and not `value`, unless that `holds`."""
    if not holds:
        raise ConfigError(f"{_where(key, where)}: {key} must be {asked}, not {value}")


def _convert(kind: Any, value: Any, full: str, where: dict[str, Source]) -> Any:
    if kind is float and value is None:
        return math.nan
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, v, full, where) for v in value)
    if kind in (int, float, str, bool) and type(value) is kind:
        if kind is float and math.isinf(value):
            raise ConfigError(f"{_where(full, where)}: {full} must be finite, not {value}")
        return value
    name = getattr(kind, "__name__", str(kind)) if not isinstance(kind, types.GenericAlias) else "list"
    raise ConfigError(f"{_where(full, where)}: {full} must be {name}, not {value!r}")


def _where(full: str, where: dict[str, Source]) -> str:
    """File and line of a key: an override first, then the robot file for its section, then the run file."""
    if full in where and full != "robot":
        return f"{where[full].path} {where[full].text}"
    keys = full.split(".")
    if keys[0] == "robot" and "robot" in where and len(keys) > 1:
        return where["robot"].line(keys[1:])
    return where[""].line(keys)
