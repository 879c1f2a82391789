"""Recorder, policy, learner and a giver of rewards killed with -9 at random moments: what is lost of what was acknowledged.

The processes are the run's own, on its bus; the robot is made of messages (bench/policy_node.py), and rewards are given ten times
a second by the console's outbox in a process of its own. A witness outside hears every acknowledgement; at the end it holds them
against the log, which it reads by a reader of its own (tests/logwitness.py). The robot acts on all the while.
Run: python bench/kills.py [--kills 1000] [--seed S] [--who recorder ...] [--out FILE]   (about a second a kill)
"""

from __future__ import annotations

import argparse
import math
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from policy_node import PolicyNode

from robotrl import config, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.logformat import Kind
from robotrl.messages import Ack, Label
from robotrl.nodes.outbox import Outbox
from robotrl.replay import Replay
from robotrl.replaycheck import compared

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # its tests hold the witness

from tests import logwitness  # noqa: E402

WHO = ("recorder", "policy", "learner", "console")
SETS = ("real_time=false", "agent.learn_after=64", "agent.updates_per_step=0.1", "agent.hidden=[16,16]", "agent.engine=reference")
APART = (0.0, 0.6)  # s between a process's first sign of life and its death
PATIENCE_S = 60.0


class Nemesis:
    """One run, whose processes are killed and started again; `promised` is what the witness has heard acknowledged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.node = PolicyNode(config.load(ROOT / "launch" / "walk.toml", SETS), folder)
        self.bus = Bus(self.node.sockets, "witness", WallClock())
        self.acks = self.bus.subscriber("ack", whole=True)
        self.promised: dict[tuple[int, str, int], int] = {}
        self.others: dict[str, subprocess.Popen[bytes]] = {name: self._start(name) for name in ("console", "learner")}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        if name != "console":
            return self.node.start(name)
        words = [sys.executable, str(Path(__file__).resolve()), "--give", str(self.node.sockets)]
        return subprocess.Popen(words, stdin=subprocess.PIPE)

    def turn(self) -> None:
        """One period of the robot; what is acknowledged meanwhile is remembered."""
        self.node.cycle()
        for ack in self.acks.drain():
            assert isinstance(ack, Ack)
            for *mark, number in ack.kept:
                key = (mark[0], mark[1], mark[2])
                self.promised[key] = max(self.promised.get(key, 0), number)

    def kill(self, name: str) -> None:
        """At a random moment; then start it again, and let it come up."""
        until = time.monotonic() + self.rng.uniform(*APART)
        while time.monotonic() < until:
            self.turn()
        time.sleep(self.rng.uniform(0.0, 0.02))  # anywhere in the period
        process = {"recorder": self.node.recorder, "policy": self.node.process}.get(name) or self.others[name]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        began, again = dict(self.promised), self._start(name)
        if name == "recorder":
            self.node.recorder = again
        elif name == "policy":
            self.node.process = again
        else:
            self.others[name] = again
        until = time.monotonic() + PATIENCE_S
        while self.promised == began:  # somebody's next acknowledgement
            assert time.monotonic() < until, f"nothing was acknowledged for {PATIENCE_S:g} s after {name} was killed"
            self.turn()

    def verdict(self) -> dict[str, Any]:
        """End all in order; promises against the log, the log against the replay."""
        self.others["console"].kill()
        for process in (self.node.process, *self.others.values(), self.node.recorder):
            process.terminate()
            process.wait()
        seen = logwitness.records(self.node.directory / "log")
        there = {record[1:5] for record in seen}
        missing = sum((*key, number) not in there for key, last in self.promised.items() for number in range(1, last + 1))
        replay = Replay.open(self.node.directory / "replay")
        counts = replay.check()
        replay.close()
        faults = logwitness.faults(seen)
        return {
            "acknowledged": sum(self.promised.values()), "acknowledged_and_lost": missing, "left_out": faults["lost"],
            "doubled": faults["doubled"] + counts["doubles"], "reordered": faults["reordered"],
            "transitions": counts["transitions"], "labels": sum(record.kind == Kind.LABEL for record in seen),
            "differ_in_replay": compared(self.node.directory, [])["differ"],
        }  # fmt: skip

    def close(self) -> None:
        for process in self.others.values():
            process.kill()
            process.wait()
        self.bus.close()
        self.node.__exit__()


def give(sockets: Path) -> int:
    """The console's part: rewards, ten a second, kept until they are acknowledged."""
    clock, giver = WallClock(), int.from_bytes(os.urandom(6), "big") | 1
    bus = Bus(sockets, "console", clock)
    labels: Outbox[Label] = Outbox(bus.publisher("label"), clock, Kind.LABEL, "console", giver)
    acks = bus.subscriber("ack")
    while not select.select([0], [], [], 0)[0]:  # its end is the bench's
        labels.keep(Label(press=clock.now(), value=1.0, tick=0, giver=giver))
        for _ in range(5):
            bus.wait([acks], 0.02)
            labels.tend(acks.latest(), clock.now())
    return 0


def campaign(folder: Path, kills: int, seed: int, who: tuple[str, ...] = WHO, seconds: float = math.inf) -> dict[str, Any]:
    """So many of each, in random order, or as many as there is time for."""
    nemesis = Nemesis(folder, seed)
    order = [name for name in who for _ in range(kills)]
    nemesis.rng.shuffle(order)
    began = time.monotonic()
    try:
        done: Counter[str] = Counter()
        for name in order:
            if time.monotonic() - began > seconds:
                break
            nemesis.kill(name)
            done[name] += 1
            if sys.stderr.isatty():
                print(
                    f"\r{done.total()} of {len(order)} kills, {time.monotonic() - began:.0f} s",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        return {"kills": dict(done), "seed": seed, "seconds": round(time.monotonic() - began)} | nemesis.verdict()
    finally:
        nemesis.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="of each process")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long, whatever was done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO)
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    parser.add_argument("--give", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.give:
        return give(args.give)
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
