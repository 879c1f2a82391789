"""What the code foresaw and a person can mend, and how he types the command that mends it."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETUP = "bash launch/env.sh"  # makes .venv, and nothing where it is up to date


LONGEST = 2000  # letters of a complaint that are shown: what it quotes may be a whole damaged file


class Complaint(Exception):
    """One line: what is wrong, where, and what to do. A command shows it without a traceback and ends with exit code 2.

    What a foreign file put into it cannot break the line, move the cursor, or be what no terminal can be sent.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def command(words: str) -> str:
    """A subcommand as it can be typed here: `calibrate homing` by the interpreter that runs us.

    One that lacks our packages, as the system's does, could not do it: then by the one that `SETUP` makes.
    """
    equipped = importlib.util.find_spec("msgspec") is not None
    python = Path(sys.executable) if equipped else ROOT / ".venv" / "bin" / "python"
    here = Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m robotrl {words}"


def attach(directory: Path) -> str:
    """How a person attaches the operator's terminal to this run, as he can type it where we stand."""
    script, here = ROOT / "launch" / "supervise.sh", False
    if not script.is_file():  # installed without the checkout
        return command(f"console {shlex.quote(str(directory.absolute()))}")
    with contextlib.suppress(OSError):  # where we stand may be gone
        here = Path.cwd() == ROOT
    if here:
        return f"bash launch/supervise.sh {shlex.quote(str(directory))}"
    return f"bash {shlex.quote(str(script))} {shlex.quote(str(directory.absolute()))}"


@contextlib.contextmanager
def missing_extra(package: str, extra: str) -> Iterator[None]:
    """Around what needs a package of an extra: a Complaint that names the extra where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        how = f"{sys.executable} -m pip install -e '{ROOT}[{extra}]'"
        raise Complaint(f"needs {package}, which is not installed here; install the extra [{extra}]: {how}") from None
