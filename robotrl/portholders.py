"""Who has a device open, and whether that is a run of robotrl: its nodes lower an arm, and are not to be killed. Stdlib only."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

NODES = "robotrl.nodes."  # of a process's command line: python -m robotrl.nodes.servos RUN_DIR
WAIT_S = 20  # a run that has died lowers its arm for less, and gives the port back


@dataclass(frozen=True)
class Holder:
    """A process that has the device open. `run`: the directory of the run whose node it is, or ""."""

    pid: int
    name: str
    run: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def holders(path: str, proc: Path = Path("/proc")) -> list[Holder]:
    """The processes that have this device open, as far as this user may see."""
    device, found = os.path.realpath(path), []
    for entry in proc.glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        try:
            if any(os.path.realpath(link) == device for link in (entry / "fd").iterdir()):
                found.append(Holder(int(entry.name), (entry / "comm").read_text().strip(), _run(entry)))
        except OSError:
            continue  # gone meanwhile, or another user's
    return sorted(found, key=lambda holder: holder.pid)


def advice(found: list[Holder]) -> str:
    """What to do where a run's nodes hold the port. One that hangs is killed at last, but not under an arm that it holds up."""
    pids = " ".join(str(holder.pid) for holder in found if holder.run)
    return (
        f"it may hold or lower the arm: end that run at its own terminal; do not kill its processes. Where they are there still"
        f" {WAIT_S} s after its end they hang: support the arm, cut the motors' power, then kill -9 {pids}"
    )


def run_of(found: list[Holder]) -> str:
    """The run whose node is among them, or ""."""
    return next((holder.run for holder in found if holder.run), "")


def _run(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    for word, after in itertools.pairwise(words):
        if word.startswith(NODES) and after:
            return os.path.join(os.readlink(process / "cwd"), after)
    return ""
