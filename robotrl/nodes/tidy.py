"""Gives a terminal back after a console that could not: `kill -9` leaves it no last word.

A process of its own, in a session of its own: it waits at a pipe whose other end the console alone has. A byte before the pipe's
end says that all is well; without one it sets the terminal as it was found, leaves the second screen and shows the cursor.

Run as a file by `Tidy`, without the site's packages: standard library alone, some 10 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import termios
from typing import Any

TAKES_S = 5.0  # a terminal that takes nothing for so long is left as it is
FOUND = b"\x1b[?1049l\x1b[?25h\x1b[0m"  # the first screen, the cursor, no colour


class Tidy:
    """Of the terminal `fd`, which was found with these settings (`termios.tcgetattr`)."""

    def __init__(self, fd: int, settings: list[Any]) -> None:
        """OSError where no process can be started."""
        told = json.dumps([*settings[:6], [value if isinstance(value, int) else value[0] for value in settings[6]]])
        handed = os.dup(fd)  # `fd` is standard input as a rule, and there it has the pipe
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(handed), told], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", pass_fds=(handed,),
            )  # fmt: skip
        finally:
            os.close(handed)

    def leave(self) -> None:
        """The terminal was given back: there is nothing to do."""
        with contextlib.suppress(OSError):
            self._process.communicate(b".", 5.0)


def main(argv: list[str]) -> int:
    well = sys.stdin.buffer.read(1)
    if well:
        return 0
    fd, settings = int(argv[0]), json.loads(argv[1])  # the terminal itself: its name may be another one's by now
    with contextlib.suppress(OSError, termios.error):
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        if select.select([], [fd], [], TAKES_S)[1]:
            os.write(fd, FOUND)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
