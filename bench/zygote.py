"""Forks the processes of a run from one that has imported all they need: alive in tens of milliseconds, not in seconds.

A line in: a name, and a directory; a line out: the process. They end with this one. Recorder, policy and learner are the run's
own, as the manager would start them; `console` gives rewards ten times a second by the console's outbox, and `driver` is a robot
made of messages: what servos, IMU, tracker and guard would say.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

NODES = ("recorder", "policy", "learner")
WARM = ("torch", "policy_node", "robotrl.agents.sac", "robotrl.agents.fused.engine", "robotrl.nodes.outbox")


class Zygote:
    """The process, from outside."""

    def __init__(self, environment: dict[str, str]) -> None:
        words = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        assert self._hear() == "ready"

    def start(self, name: str, directory: Path) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {directory}\n")
        self._process.stdin.flush()
        return int(self._hear())

    def close(self) -> None:
        """Whoever is left ends with it."""
        self._process.communicate()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def gone(pid: int) -> bool:
    """True once it is; nobody here is its parent."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def give(directory: Path) -> int:
    """The console's part: rewards, ten a second, kept until they are acknowledged."""
    from robotrl.bus import Bus
    from robotrl.clock import WallClock
    from robotrl.logformat import Kind
    from robotrl.messages import Label
    from robotrl.node import bus_directory
    from robotrl.nodes.outbox import Outbox

    clock, giver = WallClock(), int.from_bytes(os.urandom(6), "big") | 1
    bus = Bus(bus_directory(directory), "console", clock)
    labels: Outbox[Label] = Outbox(bus.publisher("label"), clock, Kind.LABEL, "console", giver)
    acks = bus.subscriber("ack")
    while not select.select([0], [], [], 0)[0]:  # its end is the zygote's
        labels.keep(Label(press=clock.now(), value=1.0, tick=0, giver=giver))
        for _ in range(5):
            bus.wait([acks], 0.02)
            labels.tend(acks.latest(), clock.now())
    return 0


def drive(directory: Path) -> int:
    """The robot's part, at absolute deadlines: its cycles are numbered by the clock, so those of its death are missing."""
    from policy_node import PERIOD_NS, MessageRobot

    from robotrl.node import bus_directory

    robot = MessageRobot(bus_directory(directory))
    while not select.select([0], [], [], 0)[0]:
        tick = time.monotonic_ns() // PERIOD_NS + 1
        robot.clock.sleep_until(tick * PERIOD_NS)
        robot.say(tick)
    return 0


def play(name: str, directory: str) -> int:
    if name in NODES:
        return int(importlib.import_module(f"robotrl.nodes.{name}").main([directory]))
    return {"console": give, "driver": drive}[name](Path(directory))


def main() -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are nobody's to wait for
    for module in (*WARM, *(f"robotrl.nodes.{name}" for name in NODES)):
        importlib.import_module(module)
    print("ready", flush=True)
    held: list[int] = []
    for line in iter(sys.stdin.readline, ""):
        inner, outer = os.pipe()
        if pid := os.fork():
            os.close(inner)
            held.append(outer)
            print(pid, flush=True)
            continue
        for descriptor in (*held, outer):
            os.close(descriptor)
        os.dup2(inner, 0)
        os.dup2(2, 1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = 1
        try:
            code = play(*line.split(maxsplit=1)[:1], line.split(maxsplit=1)[1].strip())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
