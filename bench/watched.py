"""A whole run on the twin, overheard at its wires and looked at from outside: what the nemesis plays on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kept
from onlooker import Onlooker
from schedule import ENDING, Deed, Player, Target
from told import History

ROOT = Path(__file__).resolve().parent.parent
LIGHT = ("agent.learn_after=64", "agent.random_steps=64", "agent.updates_per_step=0.1", "agent.hidden=[32, 32]")
WALK = ("launch/walk.toml",)
BEGUN_S = 60.0  # for all processes to be there
AFTER_S = 0.6  # of history behind the last deed
DISK_FAILED, FAILED_S = "the disk failed", 3.0  # as the recorder says it; after so long nobody brings that run back


class NotBegunError(Exception):
    """A run that did not come up; what it said."""


class Run:
    """One process tree, watched from outside. Its history is whole once `end` has returned."""

    def __init__(self, folder: Path, skew: Path | None, words: Sequence[str] = WALK) -> None:
        """`words`: the run file, and what else `robotrl run` is to be told."""
        folder.mkdir(parents=True)
        self.folder, self.wire = folder, folder / "wire.jsonl"
        self.lost = False  # its disk has failed: it will not walk again
        self.skew = folder / "skew"
        self.skew.write_bytes(bytes(16))
        env = os.environ | {"OVERHEARD": str(self.wire)}
        if skew is not None:
            env |= {"LD_PRELOAD": str(skew), "SKEW": str(self.skew)}
        light = [word for item in LIGHT for word in ("--set", item)]
        command = [sys.executable, str(ROOT / "bench" / "overheard.py"), *words, "--sim", "--out", str(folder / "runs")]
        with open(folder / "output.txt", "wb") as out:
            self.process = subprocess.Popen(
                [*command, *light],
                cwd=ROOT,
                env=env | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            self._attach()
        except BaseException:  # asked to end, too: the tree would go on, and nobody look
            self._stop()
            raise

    def _attach(self) -> None:
        until = time.monotonic() + BEGUN_S
        while not (said := self.said()).startswith("run ") or "\n" not in said:
            if time.monotonic() > until or not self.alive():
                raise NotBegunError(f"the run did not begin: {said}")
            time.sleep(0.02)
        self.directory = Path(said.splitlines()[0].removeprefix("run "))
        sockets = Path(json.loads((self.directory / "bus.json").read_text())["directory"])
        self._out = open(self.folder / "bus.jsonl", "w", buffering=1 << 16)  # noqa: SIM115 - closed by end
        self.looker = Onlooker(self.directory, sockets, self.process.pid, self._out)
        config = json.loads((self.directory / "run.json").read_text())["config"]
        self.target = Target.of(config)
        self.looker.write("begin", config=config)
        self.looker.start()
        self._whole(until)

    def _whole(self, until: float) -> None:
        """Every process of the tree is one that a schedule may name, and each that it may name is there."""
        while (absent := set(self.target.names) - self.looker.pids.keys()) and self.alive() and time.monotonic() < until:
            time.sleep(0.02)
        if strangers := sorted(self.looker.pids.keys() - {*self.target.names, *ENDING}):
            raise SystemExit(f"bench nemesis: no deed reaches {', '.join(strangers)}; add each to bench/schedule.py")
        if absent:
            raise NotBegunError(f"the run has no {', '.join(sorted(absent))}: {self.said()}")

    def _stop(self) -> int:
        """Ask the run to end, and see that it does; its exit code."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def said(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")

    def why(self) -> str:
        """What a run says that ended itself."""
        return "".join(line for line in self.said().splitlines() if line.startswith("robotrl run:"))

    def alive(self) -> bool:
        return self.process.poll() is None

    def walks(self, seconds: float) -> bool:
        """Wait until the policy has the robot (an arm, too, is then in RUN), or until it is plain that it will not."""
        until = time.monotonic() + seconds
        well = time.monotonic()
        while self.looker.state not in ("RUN", "LOCKOUT") and self.alive() and (now := time.monotonic()) < until:
            well = well if DISK_FAILED in self.looker.trouble else now
            if now - well > FAILED_S:
                self.lost = True
                break
            time.sleep(0.02)
        return self.looker.state == "RUN" and self.alive()

    def play(self, schedule: list[Deed]) -> None:
        Player(self.looker.pids, self.skew, self.looker.write).play(schedule, self.alive)
        if self.alive():
            time.sleep(AFTER_S)

    def end(self) -> History:
        """Ask the run to end, see that nothing is left of it, and what it has kept."""
        code = self._stop()
        left = time.monotonic() + 15
        while self.looker.pids and time.monotonic() < left:
            time.sleep(0.05)
        for pid in list(self.looker.pids.values()):  # of ours: whoever outlives his manager
            os.kill(pid, signal.SIGKILL)
        self.looker.write("ended", code=code, said=self.said()[-600:], left=sorted(self.looker.pids))
        if (said := self.directory / "logs" / "guard.log").is_file():
            self.looker.write("log", name="guard", lines=said.read_text(errors="replace").splitlines())
        if (replay := kept.replay(self.directory / "replay")) is not None:
            self.looker.write("recovered", **replay)
        if (log := kept.log(self.directory / "log")) is not None:
            self.looker.write("kept", **log, index=kept.index(self.directory / "labels.jsonl"))
        self.looker.end()
        self._out.close()
        return History(self.records())

    def records(self) -> list[dict[str, Any]]:
        found = []
        for path in (self.wire, self.folder / "bus.jsonl"):
            for line in path.read_text().splitlines() if path.is_file() else ():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue  # cut off with its writer
        return found
