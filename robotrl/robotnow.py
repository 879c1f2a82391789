"""The robot of a run that is gone on with, as its file has it now: it may have been changed since the run was begun.

Its ports are taken from there: what was plugged in elsewhere has another name. A limit or a protection that is another now
refuses the run: which of the two its person means only he can say, and the stricter of two workspaces, or of two slews by which
an arm must be down in time, is neither.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

from robotrl import config
from robotrl.complaint import ROOT
from robotrl.configfile import Source, Sources, build, override, read

HERE = ROOT / "launch" / "robots"
LIMITS = ("limits", "workspace", "stop_profile", "stop_damp_s", "stow")
OF_SERVOS = ("max_torque", "continuous_torque", "peak_s", "velocity_limit", "watchdog_s", "power", "protection")
FOUND_BY = ("serial", "path", "url")  # of a camera


def origin(path: Path, overrides: list[str]) -> dict[str, Any]:
    """What `now` needs to know of a run made of this run file: kept in its run.json."""
    robot = path.parent / "robots" / f"{read(path).get('robot', 'minitaur')}.toml"
    return {"file": str(robot.absolute()), "set": [item for item in overrides if item.strip().startswith("robot.")]}


def now(run: config.Run, made_of: dict[str, Any] | None) -> tuple[config.Run, list[str]]:
    """The run with its robot's ports of today; a line for each limit that is another today. ConfigError without a robot file.

    `made_of`: by `origin`. A run that kept none is compared with the file of its robot's name in launch/robots.
    """
    file = Path(made_of["file"]) if made_of else HERE / f"{run.robot.name}.toml"
    if not file.exists() and (HERE / file.name).exists():  # the checkout was moved
        file = HERE / file.name
    if not file.exists():
        raise config.ConfigError(f"{file}: the robot's file is gone, by which its limits of today are known; put it back there")
    data: dict[str, Any] = {"robot": read(file)}
    overrides = list(made_of["set"]) if made_of else []
    for item in overrides:
        override(data, item)
    source = Source(file, file.read_text())
    robot = typing.cast(config.Robot, build(config.Robot, data["robot"], "robot", Sources(source, source, tuple(overrides))))
    before, after = _limits(run.robot), _limits(robot)
    differs = [
        f"robot.{key}: {before[key]} when the run was begun, {after[key]} in {file} now; start a new run, or write the first back"
        for key in before
        if before[key] != after[key]
    ]
    return dataclasses.replace(run, robot=_with_ports(run.robot, robot)), differs


def _limits(robot: config.Robot) -> dict[str, Any]:
    """By their dotted keys, as they are written into JSON: one nan is then like another."""
    data = config.to_dict(robot)
    tables = {key: data[key] for key in LIMITS} | {f"servos.{key}": data["servos"][key] for key in OF_SERVOS}
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _with_ports(robot: config.Robot, today: config.Robot) -> config.Robot:
    cameras = {
        name: dataclasses.replace(camera, **{key: getattr(today.cameras[name], key) for key in FOUND_BY})
        if name in today.cameras
        else camera
        for name, camera in robot.cameras.items()
    }
    return dataclasses.replace(
        robot,
        servos=dataclasses.replace(robot.servos, port=today.servos.port),
        imu=dataclasses.replace(robot.imu, port=today.imu.port),
        tracker=dataclasses.replace(robot.tracker, port=today.tracker.port),
        cameras=cameras,
    )
