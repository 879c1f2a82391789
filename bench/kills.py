"""Recorder, policy, learner, driver, console killed with -9 at random moments: what is lost of what was acknowledged.

The processes are the run's own, on its bus, but for the driver, which is a robot made of messages, and the console, of which
only its outbox is there and gives rewards (bench/zygote.py). Each is killed, started again, and killed anew a random while after
its first sign of life, all five beside each other. A witness outside hears every acknowledgement; at the end it holds them
against the log, which it reads by a reader of its own (tests/logwitness.py). What a kill at each single write, sync and rename
leaves is judged by tests/test_log_power.py, among the states in which all that was written is there.
Run: robotrl bench kills [--kills 1000] [--seed S] [--who recorder ...] [--out FILE]   (about a second for one of each)
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from zygote import Zygote, gone

from robotrl import config, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.logformat import Kind
from robotrl.messages import Ack
from robotrl.processes import ONE_THREAD
from robotrl.replay import Replay
from robotrl.replaycheck import compared

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # its tests hold the witness

from tests import logwitness  # noqa: E402

WHO = ("recorder", "policy", "learner", "console", "driver")
SETS = ("real_time=false", "agent.learn_after=64", "agent.updates_per_step=0.1", "agent.hidden=[16,16]", "agent.engine=reference")
APART = (0.0, 0.6)  # s between a process's first sign of life and its death
PATIENCE_S = 120.0
LOOK_S = 0.01
SAY_S = 10.0


@dataclasses.dataclass
class Victim:
    """One of the processes: its life, and when it ends."""

    name: str
    pid: int
    since: float
    known: set[int] = dataclasses.field(default_factory=set)  # boots of its earlier lives
    dies: float = math.inf  # once it has been heard


class Nemesis:
    """One run, whose processes are killed and started again; `promised` is what the witness has heard acknowledged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        run = config.load(ROOT / "launch" / "walk.toml", [*SETS, "agent.random_steps=0", "agent.capacity=200000", "steps=200000"])
        self.directory = rundir.create(run, folder, "wall")
        self.sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))
        rundir.write_json(self.directory / "bus.json", {"directory": str(self.sockets)})
        self.zygote = Zygote(ONE_THREAD)
        self.bus = Bus(self.sockets, "witness", WallClock())
        self.acks, self.beats = (self.bus.subscriber(topic, whole=True) for topic in ("ack", "beat"))
        self.permits = self.bus.subscriber("permit")
        self.promised: dict[tuple[int, str, int], int] = {}
        self.heard: dict[str, set[int]] = {name: set() for name in WHO}
        self.victims = {name: self._started(name, set()) for name in WHO}

    def _started(self, name: str, known: set[int]) -> Victim:
        return Victim(name, self.zygote.start(name, self.directory), time.monotonic(), known)

    def look(self) -> None:
        """What is acknowledged is remembered, and who has spoken."""
        self.bus.wait([self.acks, self.beats], LOOK_S)
        for ack in self.acks.drain():
            assert isinstance(ack, Ack)
            for *mark, number in ack.kept:
                key = (mark[0], mark[1], mark[2])
                self.promised[key] = max(self.promised.get(key, 0), number)
                if mark[0] == Kind.LABEL:
                    self.heard["console"].add(mark[2])
        for beat in self.beats.drain():
            self.heard.setdefault(beat.source, set()).add(beat.boot)
        if (permit := self.permits.latest()) is not None:
            self.heard["driver"].add(permit.boot)
        for victim in self.victims.values():
            if victim.dies == math.inf and self.heard[victim.name] - victim.known:
                victim.dies = time.monotonic() + self.rng.uniform(*APART)
            late = victim.dies == math.inf and time.monotonic() - victim.since > PATIENCE_S
            assert not late, f"{victim.name} gave no sign of life for {PATIENCE_S:g} s"

    def kill(self, victim: Victim) -> None:
        """And start it again."""
        os.kill(victim.pid, signal.SIGKILL)
        self._await(victim)
        self.victims[victim.name] = self._started(victim.name, set(self.heard[victim.name]))

    def _await(self, victim: Victim) -> None:
        until = time.monotonic() + PATIENCE_S
        while not gone(victim.pid):
            assert time.monotonic() < until, f"{victim.name} does not end"
            self.look()

    def campaign(self, kills: dict[str, int], seconds: float) -> Counter[str]:
        """So many of each, all of them beside each other, or as many as there is time for."""
        done: Counter[str] = Counter()
        began = told = time.monotonic()
        while any(done[name] < count for name, count in kills.items()) and (now := time.monotonic()) - began < seconds:
            self.look()
            for victim in list(self.victims.values()):
                if time.monotonic() >= victim.dies and done[victim.name] < kills.get(victim.name, 0):
                    self.kill(victim)
                    done[victim.name] += 1
            if now > told + SAY_S:
                told = now
                print(f"{now - began:.0f} s: {done.total()} of {sum(kills.values())} kills", file=sys.stderr, flush=True)
        return done

    def verdict(self) -> dict[str, Any]:
        """All alive once more, then ended in order; promises against the log, the log against the replay."""
        while any(victim.dies == math.inf for victim in self.victims.values()):
            self.look()
        for name in ("driver", "console", "policy", "learner", "recorder"):
            victim = self.victims[name]
            os.kill(victim.pid, signal.SIGKILL if name in ("driver", "console") else signal.SIGTERM)
            self._await(victim)
        self.look()
        seen = logwitness.records(self.directory / "log")
        there = {record[1:5] for record in seen}
        missing = sum((*key, number) not in there for key, last in self.promised.items() for number in range(1, last + 1))
        replay = Replay.open(self.directory / "replay")
        counts = replay.check()
        replay.close()
        faults = logwitness.faults(seen)
        return {
            "acknowledged": sum(self.promised.values()), "acknowledged_and_lost": missing, "left_out": faults["lost"],
            "doubled": faults["doubled"] + counts["doubles"], "reordered": faults["reordered"],
            "transitions": counts["transitions"], "labels": sum(record.kind == Kind.LABEL for record in seen),
            "differ_in_replay": compared(self.directory, [])["differ"],
        }  # fmt: skip

    def close(self) -> None:
        self.zygote.close()
        for victim in self.victims.values():
            while not gone(victim.pid):
                time.sleep(0.01)
        self.bus.close()
        shutil.rmtree(self.sockets, ignore_errors=True)


def campaign(folder: Path, kills: int, seed: int, who: tuple[str, ...] = WHO, seconds: float = math.inf) -> dict[str, Any]:
    """So many of each, or as many as there is time for, and what came of it."""
    nemesis = Nemesis(folder, seed)
    began = time.monotonic()
    try:
        done = nemesis.campaign(dict.fromkeys(who, kills), seconds)
        return {"kills": dict(done), "seed": seed, "seconds": round(time.monotonic() - began)} | nemesis.verdict()
    finally:
        nemesis.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="of each process")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long, whatever was done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO)
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="robotrl-kills-") as folder:
        found = campaign(Path(folder), args.kills, args.seed, tuple(args.who), args.seconds)
    for name, value in found.items():
        print(f"{name:<22} {value}")
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), **found})
    bad = ("acknowledged_and_lost", "left_out", "doubled", "reordered", "differ_in_replay")
    return 1 if any(found[name] for name in bad) else 0


if __name__ == "__main__":
    sys.exit(main())
