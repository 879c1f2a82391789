"""`robotrl demonstrate`: a script plays a task on the twin, and what it did becomes demonstrations that a run learns from.

    robotrl demonstrate launch/push.toml --episodes 40
    robotrl rehearse launch/push.toml --set agent.demonstrations=runs/push-demonstrated

In half of the episodes the script's actions are shaken, so that how to mend a fault is among what is shown; stored is what was
applied, as ever. Each task's script is the one that `robotrl bench` compares learned policies with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import config
from robotrl.complaint import Complaint
from robotrl.replay import Replay
from robotrl.sim import reaching, trials
from robotrl.sim.armrig import rig_of
from robotrl.sim.truths import truth_of
from robotrl.tasks.task import sizes

SEED = 2000  # episodes of others than trainings' and evaluations'
SHAKEN = 0.5  # of the episodes; chosen


class Shaken:
    """A script whose actions have noise of `std` in half of the episodes, which ones is drawn."""

    def __init__(self, script: trials.Acts, rig: Any, std: float, rng: np.random.Generator) -> None:
        self._script, self._rig, self._std, self._rng = script, rig, std, rng
        self._episode, self._now = -1, 0.0

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """An action, in [-1, 1]: what a policy could have done."""
        if self._rig.pilot.episode != self._episode:
            self._episode, self._now = self._rig.pilot.episode, self._std * (self._rng.random() < SHAKEN)
        action = self._script.act(observation)
        return np.asarray(np.clip(action + self._now * self._rng.standard_normal(len(action)), -1, 1), np.float32)


def demonstrate(run: config.Run, out: Path, episodes: int, std: float, say: Callable[[str], Any]) -> dict[str, Any]:
    """So many episodes of the script into a new replay at `out`/replay; those that a guard stopped count too. Complaint for a
    task that has no script, ReplayError where there is a replay already.
    """
    if run.task.name not in (*trials.TASKS, "reach"):
        has = ", ".join(("reach", *trials.TASKS))
        raise Complaint(f"{run.name}: no script plays the task {run.task.name!r}; name a run file of one of {has}")
    replay = Replay.create(out / "replay", *sizes(run), run.agent.capacity)
    rig = rig_of(run, SEED + run.seed, replay=replay, deterministic=True)
    script = reaching.Resolved(rig) if run.task.name == "reach" else truth_of(rig).script()  # type: ignore[arg-type]
    rig.pilot.take(Shaken(script, rig, std, np.random.default_rng([SEED, run.seed])), 0, 0)  # type: ignore[arg-type]
    returns: list[float] = []
    while len(returns) < episodes and replay.count < replay.capacity:
        rig.cycle()
        for episode in rig.take_finished():
            returns.append(episode.total_return)
            how = f"{episode.ended} after {episode.step} steps, return {episode.total_return:.1f}"
            say(f"episode {len(returns)} of {episodes}: {how}")
    rig.close()
    replay.flush()
    told = {"episodes": len(returns), "transitions": replay.count, "return_mean": float(np.mean(returns)), "out": str(out)}
    replay.close()
    return told


def main(argv: list[str]) -> int:
    what, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="robotrl demonstrate", description=what, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run file, e.g. launch/push.toml")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument(
        "--noise", type=float, default=0.3, metavar="STD", help="of the shaken episodes' actions; 1 is their range"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--out", type=Path, help="the directory to make (default: runs/NAME-demonstrated)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if args.episodes < 1 or not 0 <= args.noise <= 1:
        parser.error("--episodes is 1 or more, --noise from 0 to 1")
    run = config.load(args.run, [*args.set, f"seed={args.seed}"])
    out = args.out or Path("runs") / f"{run.name}-demonstrated"
    told = demonstrate(run, out, args.episodes, args.noise, print if not args.json else lambda _: None)
    if args.json:
        print(json.dumps(told))
        return 0
    print(f"{told['transitions']} transitions in {told['episodes']} episodes, return {told['return_mean']:.1f} on average")
    print(f"learn from them beside a run's own: --set agent.demonstrations={out}")
    return 0
