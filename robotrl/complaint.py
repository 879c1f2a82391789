"""What the code foresaw and a person can mend, and how he types the command that mends it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUP = "bash launch/env.sh"  # makes .venv, and nothing where it is up to date


class Complaint(Exception):
    """One line: what is wrong, where, and what to do. A command shows it without a traceback and ends with exit code 2."""


def command(words: str) -> str:
    """A subcommand as it can be typed here: `calibrate homing` by the interpreter that runs us.

    One that lacks our packages, as the system's does, could not do it: then by the one that `SETUP` makes.
    """
    equipped = importlib.util.find_spec("msgspec") is not None
    python = Path(sys.executable) if equipped else ROOT / ".venv" / "bin" / "python"
    here = Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m robotrl {words}"
