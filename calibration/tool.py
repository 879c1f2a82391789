"""What the calibration tools share: their command line, and asking the person who stands by the robot."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from robotrl import config
from robotrl.calibration.making import LAUNCH
from robotrl.calibration.store import CalibrationError
from robotrl.messages import Joints

BAUD = 921_600  # of a moteus UART; USB adapters take any
PERIOD_NS = 20_000_000


class Chain(Protocol):
    """What the tools ask of a servo chain (drivers/chain.py)."""

    def read(self, tick: int) -> Joints: ...

    def write(self, targets: tuple[float, ...]) -> tuple[float, ...]: ...

    def damp(self) -> None: ...

    def stop(self) -> None: ...

    def confirmed_off(self) -> bool: ...

    def check(self) -> list[str]: ...

    def configure(self) -> None: ...

    def clear(self) -> tuple[int, ...]: ...


def parser(command: str, says: str) -> argparse.ArgumentParser:
    """The options that all tools have."""
    out = argparse.ArgumentParser(f"robotrl {command}", description=says)
    out.add_argument("run", type=Path, nargs="?", default=LAUNCH / "walk.toml", help="a run file that names the robot")
    out.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field of the run")
    out.add_argument("--port", help="the servos' port, instead of the robot file's")
    out.add_argument("--serial", help="the robot's serial, instead of the robot file's")
    out.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the records")
    out.add_argument("--yes", action="store_true", help="the robot is in place; ask nothing")
    out.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    return out


def robot_of(args: argparse.Namespace) -> config.Robot:
    """The robot that the command line names. Raises config.ConfigError."""
    robot = config.load(args.run, args.set).robot
    if args.serial is not None:
        robot = dataclasses.replace(robot, serial=args.serial)
    if args.port is not None:
        robot = dataclasses.replace(robot, servos=dataclasses.replace(robot.servos, port=args.port))
    return robot


def require(question: str, yes: bool) -> None:
    """Go on only when a person says so: at the terminal, or with --yes. Nothing has moved before."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CalibrationError(f"{question} no terminal to ask at; add --yes once it is so")
    if input(f"{question} [yes/no] ").strip().lower() not in ("y", "yes"):
        raise CalibrationError("stopped: nothing was written; run again when it is so")


def witness(yes: bool) -> Callable[[str], bool] | None:
    """Asks the person what he saw; None where there is nobody to ask."""
    if yes or not sys.stdin.isatty():
        return None
    return lambda question: input(f"{question} [yes/no] ").strip().lower() in ("y", "yes")
