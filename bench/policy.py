"""The policy on the robot: an action's time, the process's start and memory, and how new weights come to it.

An action for one observation, by the numpy actor in a process set up as the policy's node is, in a tight loop, paced at 50 Hz,
and paced with the caches made warm shortly before, as the node does at real-time priority; beside it stable-baselines3's
`predict` where that is installed; then the taking of new weights (read, checked, tried on observations), which the node does
after a cycle's answer. First with the cores idle, then beside our own learner at 2 threads on random data, nice 10, as its node
is. Asked of an action: p50 20 us, p99.9 200 us; of new weights: 1 ms.

Then the real process on a bus, with a stand-in for the robot (bench/policy_node.py): from its start to its first word, memory
(asked: 60 MB, no torch), and from a published file to the first action by it, with the answers' times around.
Run: robotrl bench policy [--seconds S] [--set real_time=false] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from engine import WALK, Engine
from policy_node import PolicyNode

from robotrl import config, rundir
from robotrl.processes import ONE_THREAD

INFERENCE = Path(__file__).with_name("inference.py")
NODE_NICE = 10  # the learner's, as its node sets it


def timed(what: str, rate_hz: float, seconds: float, real_time: bool, warm: bool = False) -> tuple[np.ndarray, str]:
    """Nanoseconds of each call in a fresh process, and why it had no real-time priority, if so."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.npy"
        words = [sys.executable, str(INFERENCE), what, str(file), "--seconds", str(seconds), "--rate-hz", str(rate_hz)]
        words += ["--real-time"] * real_time + ["--warm"] * warm
        done = subprocess.run(words, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True)
        return np.load(file), json.loads(done.stdout.splitlines()[-1])["refused"]


def marks(ns: np.ndarray) -> dict[str, float]:
    """Percentiles in us."""
    names = {"p50_us": 50, "p99_us": 99, "p99.9_us": 99.9, "max_us": 100}
    return {name: round(float(np.percentile(ns, mark)) * 1e-3, 1) for name, mark in names.items()} | {"calls": len(ns)}


def calls(options: argparse.Namespace, real_time: bool) -> tuple[dict[str, Any], str]:
    """Percentiles of every call by every pace, turn by turn."""
    peers = ["stable_baselines3"] if find_spec("stable_baselines3") else []
    paces = [(what, pace, hz) for what in ("act", *peers) for pace, hz in (("tight", 0.0), ("50 Hz", 50.0))]
    paces.append(("act", "50 Hz, ready as the node is", 50.0))
    samples: dict[str, list[np.ndarray]] = {}
    refused = ""
    for _ in range(options.rounds):
        for what, pace, rate_hz in (*paces, ("take", "10 Hz", 10.0)):
            seconds = options.seconds if rate_hz else options.seconds / 10
            ns, refused = timed(what, rate_hz, seconds / options.rounds, real_time, warm="ready" in pace)
            samples.setdefault(f"{what}, {pace}", []).append(ns)
    return {name: marks(np.concatenate(parts)) for name, parts in samples.items()}, refused


def node(run: config.Run, seconds: float) -> dict[str, Any]:
    """The real process: start, memory, hand-over; its memory at the start and after the run."""
    with tempfile.TemporaryDirectory() as folder, PolicyNode(run, Path(folder)) as policy:
        found = {"start_s": round(policy.start_s, 2), "at_start": policy.memory()}
        found |= policy.hand_over(times=max(3, round(seconds / 0.5)), cycles=20)
        return found | {"after": policy.memory()}


def show(where: str, table: dict[str, Any]) -> None:
    print(f"\n| {where} | p50 us | p99 | p99.9 | max | calls |\n|---|---|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(str(value) for value in row.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each paced row; a tenth of it for tight ones")
    parser.add_argument("--rounds", type=int, default=2, help="turns in which they are measured")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, e.g. real_time=false")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    run = config.load(WALK, options.set)
    result: dict[str, Any] = {"built_from": rundir.provenance(), "load_before": os.getloadavg(), "set": options.set}
    for where in ("idle", "learner on 2 threads"):
        learner = Engine("auto", 2, (112, 8), [], nice=NODE_NICE) if where != "idle" else None
        try:
            if learner is not None:
                result["learner"] = learner.ready()
                learner.ask(10**9)
            table, result["no_real_time"] = calls(options, run.real_time)
            result[where] = {"calls": table, "node": node(run, options.seconds)}
        finally:
            if learner is not None:
                learner.close()
        show(where, table)
        print(json.dumps(result[where]["node"]))
    print(json.dumps(result))
    if options.out is not None:
        rundir.write_json(options.out, result)


if __name__ == "__main__":
    main()
