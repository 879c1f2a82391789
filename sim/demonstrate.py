"""`robotrl demonstrate`: a script plays a task on the twin, and what it did becomes demonstrations that a run learns from.

    robotrl demonstrate launch/push.toml --episodes 40
    robotrl rehearse launch/push.toml --set agent.demonstrations=runs/push-demonstrated

In half of the episodes the script's actions are shaken, so that how to mend a fault is among what is shown; stored is what was
applied, as ever. Each task's script is the one that `robotrl bench` compares learned policies with.

Where the task's own reward is left out (`task.reward = "keyboard"`), the scripted person who judges a rehearsal
(`sim/supervisor.py`) judges these too, as late and as wrong: what is learned from them are his keys, kept as a run's are.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from robotrl import config, rundir, transitions
from robotrl.complaint import Complaint
from robotrl.log import Log, Took
from robotrl.logformat import Kind
from robotrl.messages import Transition
from robotrl.replay import Replay
from robotrl.sim import reaching, trials
from robotrl.sim.armrig import rig_of
from robotrl.sim.supervisor import Supervision
from robotrl.sim.truths import truth_of
from robotrl.tasks.task import cameras, sizes

SEED = 2000  # episodes of others than trainings' and evaluations'
SHAKEN = 0.5  # of the episodes; chosen
SYNC_S = 0.5  # between two syncs of the log: nobody waits for an acknowledgement here


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


class Judged:
    """What was shown, as a run keeps it: a log of steps and labels, the replay, and the person who judges, where one does."""

    def __init__(self, run: config.Run, out: Path, replay: Replay, seed: int) -> None:
        self._replay, self._boot, self._made = replay, int.from_bytes(os.urandom(6), "big") | 1, 0
        self._log = Log.open(out / "log", SYNC_S)
        self.person = Supervision(run, out, self._log, replay, self._boot)
        self.person.begin(seed)

    def keep(self, made: Transition) -> None:
        """A step: into the log first, as the recorder does."""
        self._made += 1
        made = msgspec.structs.replace(made, source="demonstrate", boot=self._boot, number=self._made)
        while self._log.append(Kind.TRANSITION, "demonstrate", self._boot, self._made, transitions.encoded(made)) is Took.REFUSED:
            self._log.sync()
        transitions.add(self._replay, made)

    def close(self) -> dict[str, int]:
        """What his keys came to."""
        self.person.settled()
        told = self.person.told()
        self.person.close()
        self._log.close()
        return told


def demonstrate(run: config.Run, out: Path, episodes: int, std: float, say: Callable[[str], Any]) -> dict[str, Any]:
    """So many episodes of the script into a new replay at `out`/replay; those that a guard stopped count too. Complaint for a
    task that has no script, ReplayError where there is a replay already.
    """
    if run.task.name not in (*trials.TASKS, "reach"):
        has = ", ".join(("reach", *trials.TASKS))
        raise Complaint(f"{run.name}: no script plays the task {run.task.name!r}; name a run file of one of {has}")
    replay, seed = Replay.create(out / "replay", *sizes(run), run.agent.capacity, cameras(run)), SEED + run.seed
    rundir.write_json(out / "run.json", {"clock": "lockstep", "sim": False, "config": config.to_dict(run)})  # for robotrl relabel
    judged = Judged(run, out, replay, seed)
    rig = rig_of(run, seed, replay=replay, keep=judged.keep, deterministic=True)
    script = reaching.Resolved(rig) if run.task.name == "reach" else truth_of(rig).script()  # type: ignore[arg-type]
    rig.pilot.take(Shaken(script, rig, std, np.random.default_rng([SEED, run.seed])), 0, 0)  # type: ignore[arg-type]
    returns: list[float] = []
    while (len(returns) < episodes or not judged.person.idle) and replay.count < replay.capacity:
        rig.cycle()
        judged.person.look(rig)
        for episode in rig.take_finished():
            returns.append(episode.total_return)
            how = f"{episode.ended} after {episode.step} steps, return {episode.total_return:.1f}"
            say(f"episode {len(returns)} of {episodes}: {how}")
    rig.close()
    labels = judged.close()
    replay.flush()
    told = {"episodes": len(returns), "transitions": replay.count, "return_mean": float(np.mean(returns)), "out": str(out)}
    replay.close()
    return told | ({} if run.task.reward == "task" else {"labels": labels})


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
    if "labels" in told:
        print("labels, by the scripted person: " + ", ".join(f"{word} {n}" for word, n in told["labels"].items()))
    print(f"learn from them beside a run's own: --set agent.demonstrations={out}")
    return 0
