"""Forks the processes of a run from one that has imported all they need: alive in tens of milliseconds, not in seconds.

A line in: a name, and a directory; a line out: the process. They end with this one. Recorder, policy, learner, servo driver and
its rescue are the run's own, as the manager would start them; `console` gives rewards ten times a second by the console's outbox,
and `senses` says what IMU, tracker and guard would of a robot that walks.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path

NODES = ("recorder", "policy", "learner", "servos", "rescue")
# Numpy and torch import the first three late: a learner would be killed in the midst of that.
WARM = (
    "numpy.random", "sympy", "torch._dynamo", "policy_node", "robotrl.agents.sac", "robotrl.agents.fused.engine",
    "robotrl.nodes.outbox",
)  # fmt: skip
QUIET_NS = 60_000_000  # without a word of the driver's: its gate is to be shut


class Zygote:
    """The process, from outside."""

    def __init__(self, environment: dict[str, str], said: Path) -> None:
        """`said`: the file for what all of them say."""
        words = [sys.executable, str(Path(__file__).resolve())]
        with open(said, "wb") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment
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
    acks, episodes = bus.subscriber("ack"), bus.subscriber("episode")
    while not select.select([0], [], [], 0)[0]:  # its end is the zygote's
        if (e := episodes.latest()) is not None and e.step > 0:
            labels.keep(
                Label(press=clock.now(), value=1.0, tick=e.tick, giver=giver, life=e.boot, episode=e.episode, step=e.step - 1)
            )
        for _ in range(5):
            bus.wait([acks], 0.02)
            labels.tend(acks.latest(), clock.now())
    return 0


def sense(directory: Path) -> int:
    """IMU, tracker and guard: torque for a driver that speaks, under a new lease for each of its lives and each episode."""
    from policy_node import EPISODE, PERIOD_NS

    from robotrl.bus import Bus
    from robotrl.clock import WallClock
    from robotrl.messages import Imu, Permit, Pose
    from robotrl.node import bus_directory

    clock, still = WallClock(), (0.0, 0.0, 0.0)
    buses = {name: Bus(bus_directory(directory), name, clock) for name in ("imu", "tracker", "guard")}
    imu, pose, permits = buses["imu"].publisher("imu"), buses["tracker"].publisher("pose"), buses["guard"].publisher("permit")
    driver = buses["guard"].subscriber("joints")
    epoch = life = cycles = 0
    while not select.select([0], [], [], 0)[0]:  # its end is the zygote's
        clock.sleep_until((clock.now() // PERIOD_NS + 1) * PERIOD_NS)
        now, joints = clock.now(), driver.latest()
        speaks = joints is not None and joints.boot == life and now - joints.t < QUIET_NS
        if joints is not None and (not speaks or cycles == EPISODE):
            epoch, life, cycles = epoch + 1, joints.boot, 0
        cycles += 1
        run = speaks and cycles > 2  # the gate wants to have heard one without torque
        permits.send(Permit(state="RUN" if run else "HOLD", epoch=epoch, holder="policy" if run else "", torque=run))
        imu.send(Imu(t=now, roll=0.01, pitch=0.0, yaw=0.0, rates=still, accel=(0.0, 0.0, 9.8)))
        pose.send(Pose(t=now, position=(now * 2e-10, 0.0, 0.2), rpy=still))  # 0.2 m/s forward
    return 0


def play(name: str, directory: str) -> int:
    if name in NODES:
        return int(importlib.import_module(f"robotrl.nodes.{name}").main([directory]))
    return {"console": give, "senses": sense}[name](Path(directory))


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
