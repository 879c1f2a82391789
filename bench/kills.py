"""Recorder, policy, learner, servo driver, console killed with -9 and stopped at random moments: what is lost of what they gave.

The processes are the run's own, on its bus, the driver with its gate and its rescue on a wire whose far end is the twin's
(farend.py); of the console only its outbox is there and gives rewards, and IMU, tracker and guard are messages (zygote.py). Each
is killed and started again, or held up (SIGSTOP) for a random time, and that anew a random while after its first sign of life,
all five beside each other; some die while they are held up. A witness outside hears what is given and what is acknowledged; at
the end it holds both against the log, which it reads by a reader of its own (tests/logwitness.py); and the far end of the wire
tells whether the motors were off between two lives of the driver. What a kill at each single write, sync and rename leaves is
judged by tests/test_log_power.py, among the states in which all that was written is there.
Run: robotrl bench kills [--kills 1000] [--stops N] [--seed S] [--who recorder ...] [--out FILE]   (half a second for one of each)
"""

from __future__ import annotations

import argparse
import contextlib
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
from itertools import pairwise
from pathlib import Path
from typing import Any

from farend import FarEnd
from labelwitness import judged
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

WHO = ("recorder", "policy", "learner", "console", "servos")
SETS = (
    "real_time=false", "agent.learn_after=64", "agent.updates_per_step=0.1", "agent.hidden=[16,16]", "agent.engine=reference",
    "agent.random_steps=0", "agent.capacity=200000", "steps=200000", "robot.stop_damp_s=0",
)  # fmt: skip
APART = (0.0, 0.3)  # s from a process's first sign of life, or from the deed before, to the next deed
HELD = (0.05, 0.3, 3.0)  # s: a process is held up for less than one of these; the last one is longer than an outbox's patience
SHARE = 0.2  # stops for a kill, where it is not said
PATIENCE_S = 120.0
LOOK_S = 0.01
SAY_S = 10.0
BAD = (
    "acknowledged_and_lost", "steps_given_and_lost", "left_out", "doubled", "reordered", "differ_in_replay", "driven_on",
    "labels_moved", "labels_twice",
)  # fmt: skip


@dataclasses.dataclass
class Victim:
    """One of the processes: its life, and what comes next."""

    name: str
    pid: int
    since: float
    known: set[int] = dataclasses.field(default_factory=set)  # boots of its earlier lives
    due: float = math.inf  # the next deed, once it has been heard
    wakes: float = math.inf  # while it is held up
    killed: bool = False  # by us


class Nemesis:
    """One run, whose processes are killed, stopped, started again. The witness's books: (kind, source, life) to the last number
    that was acknowledged (`promised`), or given (`given`)."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng, self.far = random.Random(seed), FarEnd()
        run = config.load(ROOT / "launch" / "walk.toml", [*SETS, f"robot.servos.port={self.far.path}"])
        self.directory = rundir.create(run, folder, "wall")
        self.sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))
        rundir.write_json(self.directory / "bus.json", {"directory": str(self.sockets)})
        self.said = self.directory / "said.txt"
        self.zygote = Zygote(ONE_THREAD | {"OMP_NUM_THREADS": "1"}, self.said)  # torch is there before the learner is
        self.bus = Bus(self.sockets, "witness", WallClock())
        topics = ("ack", "beat", "drive", "transition", "label")
        self.acks, self.beats, self.drives, self.steps, self.labels = (self.bus.subscriber(t, whole=True) for t in topics)
        self.drivers: dict[int, list[float]] = {}  # of each of its lives: when it first drove the motors, its last word (ns)
        self.promised: dict[tuple[int, str, int], int] = {}
        self.given: dict[tuple[int, str, int], int] = {}
        self.heard: dict[str, set[int]] = {name: set() for name in WHO}
        self.done: Counter[str] = Counter()  # "stop servos", "kill servos", and "killed by the rescue"
        self.extras = [self.zygote.start(name, self.directory) for name in ("rescue", "senses")]
        self.victims = {name: self._started(name, set()) for name in WHO}

    def _started(self, name: str, known: set[int]) -> Victim:
        return Victim(name, self.zygote.start(name, self.directory), time.monotonic(), known)

    def look(self) -> None:
        """What is given and acknowledged is remembered, and who has spoken; who was held up long enough goes on."""
        self.bus.wait([self.acks, self.beats, self.steps], LOOK_S)
        for ack in self.acks.drain():
            assert isinstance(ack, Ack)
            for *mark, number in ack.kept:
                _count(self.promised, (mark[0], mark[1], mark[2]), number)
        for step in self.steps.drain():
            _count(self.given, (int(Kind.TRANSITION), "policy", step.life or step.boot), step.number)
        for label in self.labels.drain():
            _count(self.given, (int(Kind.LABEL), "console", label.giver), label.number)
            self.heard["console"].add(label.giver)
        for beat in self.beats.drain():
            self.heard.setdefault(beat.source, set()).add(beat.boot)
        for victim in list(self.victims.values()):
            self._tend(victim, time.monotonic())
        for drive in self.drives.drain():
            self.heard["servos"].add(drive.boot)
            life = self.drivers.setdefault(drive.boot, [math.inf, 0])
            life[0], life[1] = min(life[0], drive.t if drive.gate_open else math.inf), drive.t
        del self.far.heard[:]

    def _tend(self, victim: Victim, now: float) -> None:
        if now >= victim.wakes:
            victim.wakes = math.inf
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGCONT)
        if victim.name == "servos" and not victim.killed and gone(victim.pid):  # the rescue kills a driver that is silent
            self.done["killed by the rescue"] += 1
            self._again(victim)
        elif victim.due == math.inf and self.heard[victim.name] - victim.known:
            victim.due = now + self.rng.uniform(*APART)
        late = victim.due == math.inf and now - victim.since > PATIENCE_S
        assert not late, f"{victim.name} gave no sign of life for {PATIENCE_S:g} s; {self.said.read_text()[-2000:]}"

    def _again(self, victim: Victim) -> None:
        self.victims[victim.name] = self._started(victim.name, set(self.heard[victim.name]))

    def kill(self, victim: Victim) -> None:
        """And start it again."""
        victim.killed, victim.wakes = True, math.inf
        with contextlib.suppress(ProcessLookupError):  # by the rescue, in this moment
            os.kill(victim.pid, signal.SIGKILL)
        self._await(victim)
        self._again(victim)

    def stop(self, victim: Victim) -> None:
        """Hold it up, for what may be longer than until its next deed."""
        now = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP)
        victim.wakes = now + self.rng.choice(HELD) * self.rng.random()
        victim.due = now + self.rng.uniform(*APART)

    def _await(self, victim: Victim) -> None:
        until = time.monotonic() + PATIENCE_S
        while not gone(victim.pid):
            assert time.monotonic() < until, f"{victim.name} does not end"
            self.look()

    def campaign(self, deeds: dict[str, list[str]], seconds: float) -> None:
        """What is to be done to each of them, all of them beside each other, or as much as there is time for."""
        began = told = time.monotonic()
        asked = sum(map(len, deeds.values()))
        while any(deeds.values()) and (now := time.monotonic()) - began < seconds:
            self.look()
            for name in deeds:
                victim = self.victims[name]
                if deeds[name] and time.monotonic() >= victim.due:
                    deed = deeds[name].pop()
                    {"kill": self.kill, "stop": self.stop}[deed](victim)
                    self.done[f"{deed} {name}"] += 1
            if now > told + SAY_S:
                told = now
                print(f"{now - began:.0f} s: {asked - sum(map(len, deeds.values()))} of {asked}", file=sys.stderr, flush=True)

    def verdict(self) -> dict[str, Any]:
        """All alive once more, then ended in order; what was given and promised against the log, the log against the replay."""
        while any(victim.due == math.inf or victim.wakes < math.inf for victim in self.victims.values()):
            self.look()
        for name in ("servos", "console", "policy", "learner", "recorder"):
            victim = self.victims[name]
            os.kill(victim.pid, signal.SIGKILL if name == "console" else signal.SIGTERM)
            del self.victims[name]
            self._await(victim)
        self.look()
        seen = logwitness.records(self.directory / "log")
        there = {record[1:5] for record in seen}
        lost = {
            what: Counter(mark[0] for mark, last in book.items() for n in range(1, last + 1) if (*mark, n) not in there)
            for what, book in (("given", self.given), ("promised", self.promised))
        }
        replay = Replay.open(self.directory / "replay")
        counts = replay.check()
        replay.close()
        faults = logwitness.faults(seen)
        return {
            "acknowledged": sum(self.promised.values()), "acknowledged_and_lost": lost["promised"].total(),
            "steps_given_and_lost": lost["given"][Kind.TRANSITION], "rewards_given_and_lost": lost["given"][Kind.LABEL],
            "left_out": faults["lost"], "doubled": faults["doubled"] + counts["doubles"], "reordered": faults["reordered"],
            "transitions": counts["transitions"], "labels": sum(record.kind == Kind.LABEL for record in seen),
            "differ_in_replay": compared(self.directory, [])["differ"],
            "lives_that_drove": sum(drove < math.inf for drove, _ in self.drivers.values()),
            "driven_on": driven_on(list(self.drivers.values()), list(self.far.modes)),
            **judged(seen, self.directory),
        }  # fmt: skip

    def close(self) -> None:
        for victim in self.victims.values():  # who is stopped does not hear of the end
            if not gone(victim.pid):
                os.kill(victim.pid, signal.SIGKILL)
        self.zygote.close()
        while not all(map(gone, [*self.extras, *(victim.pid for victim in self.victims.values())])):
            time.sleep(0.01)
        self.far.close()
        self.bus.close()
        shutil.rmtree(self.sockets, ignore_errors=True)


def driven_on(lives: list[list[float]], modes: list[tuple[int, tuple[int, ...]]]) -> int:
    """Lives of the driver, each from when it first drove the motors to its last word, that drove some which had not been off
    since the life before. `modes`: of the motors, as they changed; off is 0."""
    bad = 0
    for (_, ended), (drove, _) in pairwise(lives):
        between = [mode for t, mode in modes if t <= ended][-1:] + [mode for t, mode in modes if ended < t < drove]
        bad += drove < math.inf and all(any(mode) for mode in between)
    return bad


def _count(book: dict[tuple[int, str, int], int], mark: tuple[int, str, int], number: int) -> None:
    book[mark] = max(book.get(mark, 0), number)


def campaign(
    folder: Path, kills: int, seed: int, who: tuple[str, ...] = WHO, seconds: float = math.inf, stops: int | None = None
) -> dict[str, Any]:
    """So many of each, or as many as there is time for, and what came of it."""
    stops = round(SHARE * kills) if stops is None else stops
    nemesis = Nemesis(folder, seed)
    began = time.monotonic()
    try:
        deeds = {name: ["kill"] * kills + ["stop"] * stops for name in who}
        for order in deeds.values():
            nemesis.rng.shuffle(order)
        nemesis.campaign(deeds, seconds)
        found = {"deeds": dict(sorted(nemesis.done.items())), "seed": seed, "seconds": round(time.monotonic() - began)}
        return found | nemesis.verdict()
    finally:
        nemesis.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="of each process")
    parser.add_argument("--stops", type=int, help=f"of each process; {SHARE:g} of the kills where it is not said")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so long, whatever was done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO)
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="robotrl-kills-") as folder:
        found = campaign(Path(folder), args.kills, args.seed, tuple(args.who), args.seconds, args.stops)
    for name, value in found.items():
        print(f"{name:<22} {value}")
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), **found})
    return 1 if any(found[name] for name in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
