"""Learning on the wall clock: ten real minutes of `robotrl run --sim`, every process, and what the policy walks like afterwards.

The scripted operator enables, runs, and sets the robot on its feet where the reset script gives up; resets, coolings and all
count as time. Every stop is counted by its cause. Causes of `MACHINE` are no fault of the robot's: the computer answered too
late. Then the deterministic policy is evaluated in lockstep, on robots drawn from other seeds.
Run: python bench/wall_walk.py [--minutes 10] [--seeds 0 1 2] [--set agent.updates_per_step=3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import walk
from wall_clock import DISTURBANCES, Live

from robotrl import rundir
from robotrl.replay import Replay

ASKED = 0.32  # m/s; learning facts 4.1
MACHINE = DISTURBANCES - {"servo_lost"}  # a servo may lose a frame by its own doing, too
BIN_S = 60.0  # of the curve


class Watch:
    """What a run says of itself while it runs: episodes, stops, the learner."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.learner, self.ends = live.bus.subscriber("learner"), live.bus.subscriber("episode_end")
        self.stops: Counter[str] = Counter()
        self.episodes: list[dict[str, Any]] = []
        self.updates = self.transitions = self.dropped = 0
        self.over = False
        self._standing: set[str] = set()
        self._begun = live.bus.clock.now()

    def look(self) -> None:
        """Everything new; call it often."""
        self.live.bus.wait([self.live.cause, self.ends], 0.2)
        for guard in self.live.cause.drain():
            if "run_over" in guard.causes:  # what falls silent from now on was told to
                self.over = True
            if not self.over:
                self.stops.update(set(guard.causes) - self._standing)
            self._standing = set(guard.causes)
        for episode in self.ends.drain():
            seconds = round((episode.t - self._begun) * 1e-9, 1)
            self.episodes.append({"s": seconds, "steps": episode.step, "speed": round(episode.speed, 3), "ended": episode.ended})
        if (learner := self.learner.latest()) is not None:
            self.updates, self.transitions = learner.updates, learner.transitions
        if (running := self.live.episode.latest()) is not None:
            self.dropped = running.dropped

    def curve(self) -> list[dict[str, float]]:
        """Mean speed of the training episodes that ended in each minute, weighted by their steps."""
        bins: dict[int, list[dict[str, Any]]] = {}
        for episode in self.episodes:
            bins.setdefault(int(episode["s"] // BIN_S), []).append(episode)
        rows = []
        for minute, found in sorted(bins.items()):
            steps = max(1, sum(e["steps"] for e in found))
            rows.append({"minute": minute + 1, "speed": round(sum(e["speed"] * e["steps"] for e in found) / steps, 3)})
        return rows


def learn(seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run and its evaluation."""
    out = folder / f"seed-{seed}"
    out.mkdir(parents=True)
    live = Live(out, f"seed={seed}", *options.set, seconds=60.0 * options.minutes)
    watch = Watch(live)
    try:
        while live.process.poll() is None:
            watch.look()
    finally:
        live.close()
    counts = Replay.open(live.directory / "replay").check()
    ended = Counter(e["ended"] for e in watch.episodes)
    found = walk.evaluate(live.directory, walk.Check("after the run"), options.episodes)
    return {
        "seed": seed,
        "exit_code": live.process.returncode,
        "transitions": counts["transitions"],
        "lost": counts["gaps"] + watch.dropped,
        "doubled": counts["doubles"],
        "updates": watch.updates,
        "updates_a_step": round(watch.updates / max(1, watch.transitions), 2),
        "episodes": dict(ended),
        "stops": dict(watch.stops.most_common()),
        "stops_by_the_machine": sum(n for cause, n in watch.stops.items() if cause in MACHINE),
        "curve": watch.curve(),
        "evaluation": {key: value for key, value in found.items() if key != "episodes"},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="real minutes of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=10, help="of each evaluation")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--out", type=Path, default=walk.ROOT / "bench" / "results" / "wall_walk.json")
    options = parser.parse_args()
    record: dict[str, Any] = {"built_from": rundir.provenance(), "minutes": options.minutes, "set": options.set, "runs": []}
    print("| seed | transitions | updates a step | stops by the machine | speed | falls | lying |\n" + "|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            run = learn(seed, options, Path(folder))
            record["runs"].append(run)
            rundir.write_json(options.out, record)
            e = run["evaluation"]
            figures = f"{e.get('speed_mean', 'none')} | {e.get('falls', '')} | {e.get('lying', '')}"
            head = f"| {seed} | {run['transitions']} | {run['updates_a_step']} | {run['stops_by_the_machine']}"
            print(f"{head} | {figures} |", flush=True)
            print(json.dumps(run["stops"]), file=sys.stderr)
    reached = [run["evaluation"].get("speed_mean", 0.0) >= ASKED and not run["stops_by_the_machine"] for run in record["runs"]]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
