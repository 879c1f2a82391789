"""The learner away for ten minutes: the robot keeps walking on its last good policy, and the learner catches up when it is back.

A whole run on the twin, on the wall clock. The learner is held (SIGSTOP) once the policy acts with its weights, killed when the
time is over, and started again by the manager: from its last checkpoint, with all that the robot has done meanwhile before it.
Caught up it is when it owes no more than a second's steps and the policy acts with weights that it has made since.
Run: robotrl bench outage [--minutes 10] [--set agent.updates_per_step=1] [--out FILE]   (the minutes, and two more)
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wall_clock import Live

from robotrl import rundir
from robotrl.replay import Replay
from robotrl.replaycheck import compared

SOON = ("agent.learn_after=300", "agent.random_steps=300")  # steps: the sooner there is a policy to keep walking on
PATIENCE_S = 300.0
ASKED_S = 60.0  # to catch up in


class Witness:
    """What the run says of itself, heard from outside."""

    def __init__(self, live: Live) -> None:
        self.live, self.learner = live, live.bus.subscriber("learner")
        self.looks = self.walking = 0
        self.worst_s = self.oldest_s = 0.0  # how wrong the age that was shown is, and the oldest one
        self.versions: set[int] = set()

    def until(self, true: Any, seconds: float, what: str) -> float:
        """Wait for it; how long it took, s."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > seconds:
                raise SystemExit(f"bench/outage.py: {what} not within {seconds:g} s; the run said:\n{self.live.said()[-2000:]}")
            self.live.bus.wait([self.live.episode], 0.05)
        return time.monotonic() - began

    def acts_with(self) -> int:
        episode = self.live.episode.latest()
        return -1 if episode is None else int(episode.policy_version)

    def away(self, seconds: float) -> None:
        """The learner is held: what is shown of the policy's age, and how often the robot is in RUN or set on its feet."""
        version, began = self.acts_with(), time.monotonic()
        first = None
        while (now := time.monotonic()) < began + seconds:
            episode, guard = self.live.episode.latest(), self.live.guard.latest()
            if first is None and episode.policy_version == version:
                first = episode.t * 1e-9 - episode.policy_age_s  # when the weights were written, by what is shown
            self.versions.add(int(episode.policy_version))
            self.looks += 1
            self.walking += guard.state in ("RUN", "RESET")
            self.oldest_s = max(self.oldest_s, episode.policy_age_s)
            if first is not None:
                self.worst_s = max(self.worst_s, abs(episode.t * 1e-9 - episode.policy_age_s - first))
            if sys.stderr.isatty():
                print(f"\r{now - began:.0f} s, age {episode.policy_age_s:.0f} s", end="", file=sys.stderr, flush=True)
            self.live.bus.wait([], 0.0)
            time.sleep(0.5)


def outage(folder: Path, seconds: float, sets: list[str]) -> dict[str, Any]:
    live = Live(folder, *SOON, "steps=1000000", "agent.capacity=1000000", *sets)
    try:
        witness = Witness(live)
        witness.until(lambda: witness.acts_with() >= 2, PATIENCE_S, "a policy of the learner's")
        pid, before = live.pid("learner"), live.episode.latest().transitions
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.0)  # what it had published last is taken up
        kept = witness.acts_with()
        witness.away(seconds)
        behind, updates = live.episode.latest().transitions, witness.learner.latest().updates
        os.kill(pid, signal.SIGKILL)
        back = time.monotonic_ns()
        owed = lambda: said.owed if (said := witness.learner.latest()).t > back and said.version else math.inf  # noqa: E731
        second = live_rate(live)
        caught = witness.until(lambda: owed() <= second and witness.acts_with() > kept, PATIENCE_S, "the learner's catching up")
        said = witness.learner.latest()
        live.end()
        return {
            "seconds": seconds, "transitions_while_away": behind - before, "policy_versions_while_away": len(witness.versions),
            "oldest_age_shown_s": round(witness.oldest_s, 1), "age_wrong_by_s": round(witness.worst_s, 3),
            "share_in_run_or_reset": round(witness.walking / max(1, witness.looks), 3), "caught_up_s": round(caught, 1),
            "updates_before": updates, "updates_after": said.updates, "updates_per_s": round(said.updates_per_s),
            "dropped": said.dropped, **kept_whole(live.directory),
        }  # fmt: skip
    finally:
        live.close()


def live_rate(live: Live) -> float:
    """Updates that a second's steps are worth."""
    run = rundir.load(live.directory)
    return float(run.task.rate_hz * run.agent.updates_per_step)


def kept_whole(directory: Path) -> dict[str, int]:
    """Nothing lost, doubled, or in the replay otherwise than in the log."""
    replay = Replay.open(directory / "replay")
    counts = replay.check()
    replay.close()
    found = compared(directory, said := [])
    return {
        "transitions": counts["transitions"], "logged": found["logged"], "differ_in_replay": found["differ"],
        "doubled": counts["doubles"], "damaged": counts["damaged"], "log_faults": len(said),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="that the learner is away")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field of the run")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="robotrl-outage-") as folder:
        found = outage(Path(folder), 60.0 * args.minutes, args.set)
    for name, value in found.items():
        print(f"{name:<28} {value}")
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), "asked_to_catch_up_s": ASKED_S, **found})
    bad = found["differ_in_replay"] or found["doubled"] or found["damaged"] or found["log_faults"]
    return 1 if bad or found["caught_up_s"] > ASKED_S or found["policy_versions_while_away"] != 1 else 0


if __name__ == "__main__":
    raise SystemExit(main())
