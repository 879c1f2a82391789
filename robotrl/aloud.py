"""A line for whoever looks, come what may: no full disk and no vanished terminal may end a process that holds a robot."""

from __future__ import annotations

import sys
from typing import TextIO


def say(what: object, to: TextIO | None = None) -> None:
    """Print a line to `to` (default: standard output), now; a line that cannot be written is lost, and nothing else is."""
    try:
        print(what, file=to or sys.stdout, flush=True)
    except OSError:
        pass
