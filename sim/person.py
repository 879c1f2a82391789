"""A person at the operator's console: the real program on a pty, its screen taken away as fast as it comes, and keys."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path


class Person:
    """Attached to the live run in `directory`. A screen that nobody takes away would stop the heartbeat."""

    def __init__(self, directory: Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "robotrl", "console", str(directory)], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env=os.environ | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(slave)
        self._eyes = threading.Thread(target=self._look)
        self._eyes.start()

    def _look(self) -> None:
        try:
            while os.read(self.master, 65536):
                pass
        except OSError:  # the program has ended, and the terminal with it
            pass

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._eyes.join()
        os.close(self.master)
