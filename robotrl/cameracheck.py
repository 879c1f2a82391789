"""Cameras before the first motion: there, permitted, and those that something looks through (`doctor.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from robotrl import config, machine
from robotrl.complaint import ROOT, command
from robotrl.machine import Row

_INTEL = "from robotrl.drivers import realsense; print(*realsense.serials(realsense.library()))"


def camera_rows(robot: config.Robot) -> Iterator[Row]:
    """The cameras that the robot file names: there, by serial number where it gives one, and permitted."""
    fix = f"plug it in, or correct it in the robot file: {command('find-cameras')}"
    for name, camera in robot.cameras.items():
        if camera.kind == "uvc":
            found, why = next((c.path for c in machine.video() if c.serial == camera.serial), ""), f"no {camera.serial} on USB"
            path = found if camera.serial else camera.path
            why = "" if os.path.exists(path) else why if camera.serial else f"no {path}"
            if path and not why and not os.access(path, os.R_OK | os.W_OK):
                yield Row(f"camera {name}", "fail", f"{path}: no permission", machine.group_of(Path(path)))
                continue
        elif camera.kind == "realsense":
            path, why = camera.serial, _no_intel(camera.serial)
        else:
            path = camera.path or camera.url
            why = "" if camera.kind == "mjpeg" or os.path.isfile(path.partition("#")[0]) else f"no file {path}"
        yield Row(f"camera {name}", "fail" if why else "ok", why or f"{camera.kind} {camera.serial or path}", fix if why else "")


def gaze_rows(run: config.Run) -> Iterator[Row]:
    """The cameras that the policy sees by: each must be one of the robot's."""
    for name in run.task.pixels.cameras:
        if name not in run.robot.cameras:
            found = f"the policy sees by it (task.pixels.cameras), and {run.robot.name} has none of that name"
            yield Row(f"camera {name}", "fail", found, f"write [cameras.{name}] in its robot file: {command('find-cameras')}")


def _no_intel(serial: str) -> str:
    """Why that RealSense is not there; its library is asked in a process of its own, for it may crash."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _INTEL], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return "librealsense does not answer"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"librealsense ended by {done.returncode}"])[-1]
    return "" if serial in done.stdout.split() else f"no RealSense {serial} (there: {done.stdout.strip() or 'none'})"


def viewpoint_rows(robot: config.Robot, records: Path | None = None) -> Iterator[Row]:
    """Whether it is known where the tracker's camera stands, and by what lens it looks."""
    if not robot.tracker.camera:
        return
    from robotrl import viewpoint
    from robotrl.calibration import store

    camera = robot.cameras[robot.tracker.camera]
    try:
        viewpoint.load(robot.seen_by, store.folder(records), (camera.width, camera.height))
    except viewpoint.ViewpointError as error:
        found, _, fix = str(error).rpartition("; ")
        yield Row("tracker's camera", "fail", found, fix)
    else:
        yield Row("tracker's camera", "ok", f"{robot.seen_by} has its place")
