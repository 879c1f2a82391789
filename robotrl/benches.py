"""`robotrl bench FIGURE ...`: a figure measured on this machine, by its script in bench/ of the checkout."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from robotrl.complaint import Complaint

SCRIPTS = Path(__file__).resolve().parent.parent / "bench"
FIGURES: dict[str, tuple[str, str]] = {
    # name          script            what it measures
    "learner": ("learner.py", "updates a second of every engine, beside CleanRL's way, stable-baselines3 and SBX"),
    "phases": ("phases.py", "where the time of a fused update goes, beside the processor's rate"),
    "policy": ("policy.py", "an action's time, the policy process's start and memory, the hand-over of weights"),
    "rehearsal": ("rehearsal.py", "updates a second of a whole rehearsal, beside its learner alone and its actor alone"),
    "soak": ("soak.py", "hours in virtual time, a fault every 30 s: violations, faults without a cause, false stops"),
    "replay": (
        "replay.py",
        "the log's append, acknowledgement, recovery; the replay's batch beside torchrl, stable-baselines3, lerobot",
    ),
    "kills": (
        "kills.py",
        "recorder, policy, learner, console, servo driver killed with -9 a thousand times each, and stopped: what is lost",
    ),
    "recovery": ("recovery.py", "guard, policy, recorder, servo driver killed: how soon each is back, and in which state"),
    "outage": ("outage.py", "the learner away for ten minutes: what the robot walks on, and how soon it has caught up"),
    "twin": ("twin.py", "control steps a second of the lockstep clock, beside PyBullet alone"),
    "bus": ("bus.py", "frames of two cameras at 60 Hz by the ring, beside plain ZeroMQ: torn, dropped, processor, age"),
    "codecs": ("codecs.py", "processor time of a servo cycle's codecs beside dynamixel-sdk and feetech-servo-sdk"),
    "chain": ("chain.py", "a cycle of 12 servos on a pty: processor and wall time beside dynamixel-sdk"),
    "mutation": ("mutation.py", "whether the tests notice small faults in safety/ and the codecs, put in one at a time"),
    "wall-clock": ("wall_clock.py", "lateness of the servo loop, and what the death of each process leads to"),
    "steady": ("steady.py", "the whole run in real time, half an hour: memory, open files, lateness of each process"),
    "starts": ("starts.py", "the program of each launch file on the wall clock: does it reach RUN, and end torque-off"),
    "reaction": ("reaction.py", "onset of a fault to the stop's first byte on the wire, idle and beside a learner: six minutes"),
    "nemesis": ("nemesis.py", "kill, stop, clock, loss and full disk over the whole tree: invariants I1 to I12 of each history"),
    "presses": ("presses.py", "10,000 quick stops in every state: what the screen says of the power, against the servos"),
    "wall-walk": ("wall_walk.py", "learning to walk on the wall clock, every process: ten minutes a seed"),
    "walk": ("walk.py", "learning to walk: hours"),
    "walk-seen": ("walk_seen.py", "learning to walk by a reward that is seen, beside one that is true: an hour a seed"),
    "tracker": ("tracker.py", "the tracker by sight against drawn pictures of known poses: errors, flips, reckoning, cost"),
    "reach": ("reach.py", "an arm learns to reach: 50 goals a seed beside a scripted controller; minutes a seed"),
    "classifier": ("classified.py", "learned from a person's keys, or through a classifier that they teach: minutes a seed"),
    "skills": ("skills.py", "stack, push, D'Kitty's walk and stand: 50 trials a seed beside a script; half an hour a seed"),
    "calibration": ("calibration.py", "a lens, a camera's place, zeros, an IMU's mounting: how far from the truth; half an hour"),
    "attacks": ("attacks.py", "what gets through the network door under attack, and how late a stop comes"),
    "peers": ("peers.py", "shipped policies, open-loop trots and stable-baselines3 on the same task"),
    "equal-returns": ("equal_returns.py", "whether trainings by each engine end alike: returns compared by a rank-sum test"),
    "fuzz": ("fuzz.py", "every parser of foreign bytes against 10 M mutated inputs: what escapes, hangs or passes for sound"),
}


class NoBench(Complaint):
    """A figure that cannot be measured here; one line."""


def usage() -> str:
    rows = "\n".join(f"  {name:<13} {what}" for name, (_, what) in FIGURES.items())
    return f"usage: robotrl bench FIGURE ...\n\n{rows}\n\nrobotrl bench FIGURE --help says more."


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] not in FIGURES:
        raise NoBench(f"no figure {argv[0]!r}; known: {', '.join(FIGURES)}")
    script = SCRIPTS / FIGURES[argv[0]][0]
    if not script.is_file():
        raise NoBench(f"{script}: not here, benches come with a source checkout alone; install it by: pip install -e CHECKOUT")
    sys.argv = [f"robotrl bench {argv[0]}", *argv[1:]]  # the script reads its own options
    sys.path.insert(0, str(SCRIPTS))  # scripts see each other, as when one of them is started by name
    return int(importlib.import_module(script.stem).main() or 0)
