"""A scripted operator for `run --sim` without a terminal: enables, runs, and answers when the robot asks for a hand.

It sits where the console sits, speaks the same messages, and lifts the robot by the twin's own control line. Hardware never
has one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from robotrl import aloud
from robotrl.messages import Guard, Operator
from robotrl.node import Node

PERIOD_NS = 100_000_000
SILENT_NS = 500_000_000  # what a guard said longer ago is no longer on a person's screen
PATIENCE = 5  # periods between two presses of one key: a person does not hammer


class Script:
    """Which key a patient operator would press. After a stop: torque off, clear, and begin as after switching on.

    A reset that gave up, too: nobody turns a leg by hand that a motor holds.
    """

    def __init__(self) -> None:
        self._stood = False  # a reset has been played since torque came on: the robot no longer lies on the floor
        self._before = ""  # the state it was in when asked last

    def answer(self, guard: Guard) -> str:
        """The key to press now; "" for none."""
        before, self._before = self._before, guard.state
        lost = guard.state == "HOLD" and before == "RUN" and guard.last_cause == "tracker_gone"
        if guard.state in ("PSTOP", "RELAX", "READY") or lost:  # one that has left the view is carried back into it by a reset
            self._stood = False
        self._stood = self._stood or guard.state == "RESET"
        if guard.state == "PSTOP":
            return "disable"
        if (guard.state == "RELAX" and not guard.session) or (guard.state == "CHECK" and "reset_failed" in guard.causes):
            return "clear"
        if guard.state == "READY":
            return "" if "reset_failed" in guard.causes else "enable"  # it is about to be CHECK
        if guard.state != "HOLD" or guard.session:
            return ""
        if "reset_failed" in guard.causes:
            return "disable"
        # What stands in the way, the guard says itself; a key that it refuses does nothing.
        return "run" if self._stood else "reset"


def needs_a_hand(command: str, guard: Guard) -> bool:
    """Before this key a person sets the robot on its feet, when something had stopped it: torque is off until then."""
    return command == "enable" and bool(guard.last_cause)


def lift(twin_fd: int) -> None:
    """Set the robot on its feet, as far as there is still a robot."""
    try:
        os.write(twin_fd, json.dumps({"place": "stand"}).encode() + b"\n")
    except BrokenPipeError:
        aloud.say("operator: the twin is gone")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl.sim.operator")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--twin-fd", type=int, required=True, help="where the twin's control lines go")
    parser.add_argument("--restarted", action="store_true", help="the last one died")
    args = parser.parse_args(argv)
    node = Node(args.run_dir, "console")
    keys, guards = node.bus.publisher("operator"), node.bus.subscriber("guard")
    script, press, waited, state = Script(), 0, PATIENCE, ""
    for _ in node.every(PERIOD_NS):
        guard = None if (said := guards.age_ns(node.clock.now())) is None or said > SILENT_NS else guards.latest()
        waited += 1
        before, state = state, guard.state if guard is not None else ""
        if state == "RESET" != before and node.run.robot.tracker.camera:
            lift(args.twin_fd)  # back into the camera's view, as in lockstep
        if guard is not None and state != before and "set_up" in guard.causes:
            waited = 0  # things are put in their places first
        command = script.answer(guard) if guard is not None and waited > PATIENCE else ""
        if guard is None or not command:
            keys.send(Operator(command="beat", press=0))
            continue
        if command == "enable" or needs_a_hand(command, guard):  # also the first time: it lies on its legs since the twin began
            lift(args.twin_fd)
        press, waited = press + 1, 0
        keys.send(Operator(command=command, press=press, nonce=guard.nonce))
        aloud.say(f"operator: {command} in {guard.state}")
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
