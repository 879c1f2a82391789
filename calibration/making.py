"""The command that makes a robot's record: what a complaint about a missing or a wrong one tells to do."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

from robotrl import config
from robotrl.complaint import ROOT, command

LAUNCH = ROOT / "launch"


def making(maker: str, robot: config.Robot, override: Path | None = None) -> str:
    """`maker`: the record's subcommand. A run file is named: without one it would address launch/walk.toml's robot."""
    serials = {path: serial for path, name, serial in _shipped(LAUNCH) if name == robot.name}
    own = [path for path, serial in serials.items() if serial == robot.serial]
    run, more = "RUN.toml", f' (RUN.toml: a run file that says robot = "{robot.name}")'
    if serials:
        path, more = (own or list(serials))[0], ""
        run = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        run += "" if own else f" --serial {robot.serial}"
    folder = f" --calibration {override}" if override is not None else ""
    return command(f"{maker} {run}{folder}") + more


@functools.cache
def _shipped(folder: Path) -> tuple[tuple[Path, str, str], ...]:
    """Of each run file there: the name and the serial of its robot. Broken ones are another's matter."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        with contextlib.suppress(config.ConfigError):
            found.append((path, (robot := config.load(path).robot).name, robot.serial))
    return tuple(found)
