"""The twin of a run as a process: its ptys, its words, and the hands beside the robot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from robotrl.config import ConfigError
from robotrl.nodelog import NodeLog


class TwinProcess:
    """The twin on its ptys, and the pipe by which a scripted operator may lift the robot. It ends with the last that holds it."""

    program: tuple[str, ...] = ("-m", "robotrl", "twin")  # what Python runs; a bench that overhears the wires puts its own here

    def __init__(self, directory: Path, seed: int) -> None:
        """The twin of the run in `directory`; its words go to logs/twin.log there. ConfigError when it does not start."""
        self.read_fd, self.write_fd = os.pipe()
        log = NodeLog(directory / "logs" / "twin.log")
        words = [sys.executable, *self.program, "--run-dir", str(directory), "--seed", str(seed), "--until-eof"]
        self.process = subprocess.Popen(
            words, stdin=self.read_fd, stdout=subprocess.PIPE, stderr=log.fd, text=True, process_group=0
        )
        os.close(self.read_fd)  # the twin has its own; with ours open, a write after its death would never fail
        self.pidfd = os.pidfd_open(self.process.pid)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said = log.last_line()
        log.close()
        if not line:
            self.close()
            raise ConfigError(f"the twin did not start: {said or 'it said nothing'}")
        self.ports: dict[str, str] = json.loads(line)

    def lift(self) -> None:
        """Set the robot on its feet, as a person's hands would; of a twin that is gone there is nothing to lift."""
        try:
            os.write(self.write_fd, json.dumps({"place": "stand"}).encode() + b"\n")
        except BrokenPipeError:
            pass

    def tell(self, state: str, places: Sequence[float]) -> None:
        """The guard is in another state: whoever has hands beside the robot does what there is to do, with a task's thing its
        `places`, m."""
        try:
            os.write(self.write_fd, json.dumps({"state": state, "places": list(places)}).encode() + b"\n")
        except BrokenPipeError:
            pass

    def lay(self, angles: Sequence[float]) -> None:
        """Put an arm's joints (n,) rad so, as a person's hands would."""
        os.write(self.write_fd, json.dumps({"place": list(angles)}).encode() + b"\n")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self.pidfd)
        os.close(self.write_fd)
