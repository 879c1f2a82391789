"""A whole run on the twin, overheard at its wires and looked at from outside: what the nemesis plays on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from onlooker import Onlooker
from schedule import Deed, Player
from told import History

ROOT = Path(__file__).resolve().parent.parent
LIGHT = ("agent.learn_after=64", "agent.random_steps=64", "agent.updates_per_step=0.1", "agent.hidden=[32, 32]")
AFTER_S = 0.6  # of history behind the last deed


class Run:
    """One process tree, watched from outside. Its history is whole once `end` has returned."""

    def __init__(self, folder: Path, skew: Path | None, seed: int = 0) -> None:
        folder.mkdir(parents=True)
        self.folder, self.wire = folder, folder / "wire.jsonl"
        self.skew = folder / "skew"
        self.skew.write_bytes(bytes(8))
        env = os.environ | {"OVERHEARD": str(self.wire)}
        if skew is not None:
            env |= {"LD_PRELOAD": str(skew), "SKEW": str(self.skew)}
        words = [sys.executable, str(ROOT / "bench" / "overheard.py"), "launch/walk.toml", "--sim", "--out", str(folder / "runs")]
        words += ["--seed", str(seed), *(word for item in LIGHT for word in ("--set", item))]
        with open(folder / "output.txt", "wb") as out:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=env | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        until = time.monotonic() + 60
        while not (said := self.said()).startswith("run ") or "\n" not in said:
            if time.monotonic() > until or self.process.poll() is not None:
                self.process.kill()
                raise SystemExit(f"bench nemesis: the run did not begin: {said}")
            time.sleep(0.02)
        self.directory = Path(said.splitlines()[0].removeprefix("run "))
        sockets = Path(json.loads((self.directory / "bus.json").read_text())["directory"])
        self._out = open(folder / "bus.jsonl", "w", buffering=1 << 16)  # noqa: SIM115 - closed by end
        self.looker = Onlooker(self.directory, sockets, self.process.pid, self._out)
        self.looker.write("begin", config=json.loads((self.directory / "run.json").read_text())["config"])
        self.looker.start()

    def said(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None

    def walks(self, seconds: float) -> bool:
        """Wait until the policy has the robot."""
        until = time.monotonic() + seconds
        while self.looker.state != "RUN" and self.alive() and time.monotonic() < until and self.looker.state != "LOCKOUT":
            time.sleep(0.02)
        return self.looker.state == "RUN" and self.alive()

    def play(self, schedule: list[Deed]) -> None:
        Player(self.looker.pids, self.skew, self.looker.write).play(schedule, self.alive)
        if self.alive():
            time.sleep(AFTER_S)

    def end(self) -> History:
        """Ask the run to end, see that nothing is left of it, and what it has kept."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        left = time.monotonic() + 15
        while self.looker.pids and time.monotonic() < left:
            time.sleep(0.05)
        for pid in list(self.looker.pids.values()):  # of ours: whoever outlives his manager
            os.kill(pid, signal.SIGKILL)
        self.looker.write("ended", code=code, said=self.said()[-600:], left=sorted(self.looker.pids))
        if (log := self.directory / "logs" / "guard.log").is_file():
            self.looker.write("log", name="guard", lines=log.read_text(errors="replace").splitlines())
        if (kept := recovered(self.directory / "replay")) is not None:
            self.looker.write("recovered", **kept)
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


def recovered(replay: Path) -> dict[str, Any] | None:
    """What a replay holds, by its files' bytes alone; None where there is none."""
    try:
        count, durable = (int(np.fromfile(replay / f"{name}.i64", "<i8", 1)[0]) for name in ("count", "durable"))
        episode, step = (np.fromfile(replay / f"{name}.i64", "<i8", count).tolist() for name in ("episode", "step"))
    except (OSError, IndexError):
        return None
    return {"count": count, "durable": durable, "rows": list(zip(episode, step, strict=True))}
