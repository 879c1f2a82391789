"""The console's process, watched by pidfd: the manager, who tells of the others' deaths, has not started it."""

from __future__ import annotations

import os
import select

from robotrl.messages import Operator


class Lifeline:
    """Of the console that spoke last. Its end is known in the guard's next period; a silence would have to last 0.5 s."""

    def __init__(self) -> None:
        self._boot = 0
        self._pidfd = -1

    def hear(self, key: Operator) -> None:
        """Take hold of a console that says who it is; one that is gone already, or out of reach, is left to its silence."""
        if key.pid <= 0 or key.boot == self._boot:
            return
        self.close()
        self._boot = key.boot
        try:
            self._pidfd = os.pidfd_open(key.pid)
        except (OSError, OverflowError):  # a number that no process can have is out of reach too, and no end of the guard's
            pass

    def ended(self) -> bool:
        """True once, when the process has ended since the last call."""
        if self._pidfd < 0 or not select.select([self._pidfd], [], [], 0)[0]:
            return False
        self.close()
        return True

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1
