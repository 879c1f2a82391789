"""The wall-clock run, measured: how late the servo loop is beside a busy learner, what is lost, and what each death leads to.

`Live` is a run that is watched from outside, over its own bus; the tests use it too.
Run: python bench/wall_clock.py [--seconds 60] [--quick] [--run launch/reach.toml] [--out FILE]; bench/results/wall_clock.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import checkpoint, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.lateness import periods_of
from robotrl.messages import Drive, Guard
from robotrl.node import bus_directory
from robotrl.replay import Replay
from robotrl.sim.person import Person

ROOT = Path(__file__).resolve().parent.parent
PERIOD_US = 20_000
WALK = "launch/walk.toml"
# From the first transitions on, and more updates than any machine makes: the learner never rests.
BUSY = ("agent.learn_after=64", "agent.random_steps=64", "agent.updates_per_step=1000")
LIGHT = ("agent.learn_after=64", "agent.random_steps=64", "agent.updates_per_step=0.1", "agent.hidden=[32, 32]")


# What a machine busy with other things brings about: the twin answers too late. A kill at that moment shows nothing.
DISTURBANCES = frozenset(
    (
        "bus_silent",
        "servo_lost",
        "servo_flaky",
        "wrong_mode",
        "frame_errors",
        "overrun",
        "action_stale",
        "reset_silent",
        "servo_timeout",
    )
)


class Disturbed(Exception):
    """The machine was too busy, or too much happened at once, to see what a death leads to."""


@dataclass(frozen=True)
class Reaction:
    """What a death led to: the first state that was due, how long after the kill, and the causes the guard then named."""

    killed: str
    during: str
    led_to: str
    ms: float
    causes: tuple[str, ...]
    note: str = ""


class Live:
    """A run on the twin, started as a person without a terminal would, and watched over its bus."""

    def __init__(
        self,
        out: Path,
        *sets: str,
        seconds: float = 0.0,
        stdin: int = subprocess.DEVNULL,
        words: Sequence[str] = (),
        run: str = WALK,
        command: str = "run",
    ) -> None:
        """`stdin`: a terminal's, for a run that waits for a person instead of being scripted. `command`: `run` or `move`."""
        words = [sys.executable, "-m", "robotrl", command, run, "--sim", "--out", str(out), *words]
        words += ["--seconds", str(seconds), *(word for item in sets for word in ("--set", item))]
        self.output = out / "output.txt"
        with open(self.output, "wb") as file:
            self.process = subprocess.Popen(words, cwd=ROOT, stdin=stdin, stdout=file, stderr=file)
        self.wait(lambda: "\n" in self.said() and self.said().startswith("run "), 60)
        self.directory = Path(self.said().splitlines()[0].removeprefix("run "))
        self.sockets = bus_directory(self.directory)
        self.bus = Bus(self.sockets, "witness", WallClock())
        self.others = {"manager": self.process.pid}  # whom the manager has not started
        self.known = 0  # when the guard said the last word we acted on: older ones may still come by another stream
        topics = ("guard", "cause", "drive", "permit", "episode")
        self.guard, self.cause, self.drive, self.permit, self.episode = (self.bus.subscriber(topic) for topic in topics)

    def said(self) -> str:
        return self.output.read_text()

    def log(self, name: str) -> str:
        return (self.directory / "logs" / f"{name}.log").read_text()

    def pid(self, name: str) -> int:
        """Of the node's present life; "manager" is the command itself, "console" a person's."""
        if name in self.others:
            return self.others[name]
        events = [json.loads(line) for line in self.log("manager").splitlines()]
        return int([e["pid"] for e in events if (e["name"], e["event"]) == (name, "started")][-1])

    def wait(self, true: Callable[[], bool], seconds: float) -> None:
        """Until it is true; AssertionError with the run's own words when it does not become so, or the run ends."""
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, f"not within {seconds:g} s; the run said:\n{self.said()}"
            assert self.process.poll() is None or true(), f"the run ended; it said:\n{self.said()}"
            time.sleep(0.005)

    def state(self) -> str:
        guard = self.guard.latest()
        return guard.state if isinstance(guard, Guard) and guard.t > self.known else ""

    def reach(self, state: str, seconds: float = 90.0) -> None:
        self.wait(lambda: self.state() == state, seconds)

    def kill(self, name: str, expected: tuple[str, ...], cause: str, within_s: float = 1.0) -> Reaction:
        """kill -9; the guard's first word after it that has one of these states and this cause."""
        during = self.state()
        self.cause.drain()
        pid = self.pid(name)
        killed = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        elsewhere = False  # the state had changed by itself before the guard heard: there the cause may not be judged
        while time.monotonic_ns() < killed + int(within_s * 1e9):
            self.bus.wait([self.cause], 0.01)
            for guard in self.cause.drain():
                self.known = max(self.known, guard.t)
                if guard.t < killed or cause not in guard.causes:
                    elsewhere = elsewhere or guard.state != during
                    continue
                if guard.state in expected:
                    return Reaction(name, during, guard.state, round((guard.t - killed) * 1e-6, 1), guard.causes)
                if len(guard.causes) > 1:  # in the same moment the robot fell, or its episode ended
                    raise Disturbed
        if elsewhere or DISTURBANCES & set(self.guard.latest().causes):
            raise Disturbed
        raise AssertionError(
            f"{name} killed in {during}: no {cause} in {expected} within {within_s:g} s:\n{self.log('guard')[-600:]}"
        )

    def kill_in(self, during: str, *what: Any, tries: int = 3) -> Reaction:
        """`kill` once the state is reached; again, with what was started again, when something disturbed it."""
        *_, cause, _ = what
        for left in reversed(range(tries)):
            self.wait(lambda: self.state() == during and cause not in self.guard.latest().causes, 40.0)
            try:
                return self.kill(*what)
            except Disturbed:
                if not left:
                    raise
        raise AssertionError

    def kill_guard(self) -> Reaction:
        """kill -9 of the guard: how long after its last permit the driver had shut the gate, and where the next guard begins."""
        during, pid = self.state(), self.pid("guard")
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 5.0
        shut: Drive | None = None
        last = 0
        while shut is None and time.monotonic() < until:
            permit, drive = self.permit.latest(), self.drive.latest()
            last = max(last, permit.t)
            shut = drive if drive.t > last and not drive.gate_open else None
            self.bus.wait([self.drive], 0.005)
        assert shut is not None, "the driver did not shut the gate"
        ms = (shut.t - last) * 1e-6
        while time.monotonic() < until:
            guard = self.guard.latest()  # its first `cause` went out before anybody had connected to it
            if "guard_restart" in guard.causes:
                self.known = guard.t
                return Reaction("guard", during, guard.state, round(ms, 1), guard.causes, "gate shut, since the last permit")
            self.bus.wait([self.guard], 0.05)
        raise AssertionError("no new guard spoke within 5 s")

    def kill_manager(self) -> Reaction:
        """kill -9 of the command itself: PSTOP, then the nodes end, the motors are off, and nothing is left."""
        reaction = self.kill("manager", ("PSTOP", "RELAX"), "manager_gone")
        self.process.wait()
        until = time.monotonic() + 60.0  # a learner on a busy machine takes its time
        off = False
        while time.monotonic() < until and (self.left_over() or self.sockets.exists()):
            drive = self.drive.latest()
            off = off or (drive.powered_off_confirmed and not drive.gate_open)
            self.bus.wait([self.drive], 0.01)
        assert off, "the motors were not read back as off"
        assert not self.left_over() and not self.sockets.exists(), (self.left_over(), self.sockets)
        return Reaction(**asdict(reaction) | {"note": "all nodes ended, motors read back as off", "causes": reaction.causes})

    def away(self, pose: Sequence[float]) -> float:
        """How far the joint that is farthest from this pose is from it, rad, as soon as a driver says again where they are."""
        joints = self.bus.subscriber("joints")
        self.wait(lambda: (now := joints.latest()) is not None and not any(now.missed), 20)
        return max(abs(a - b) for a, b in zip(joints.latest().position, pose, strict=True))

    def left_over(self) -> list[str]:
        """Command lines of processes that belong to this run and still live."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if str(self.directory).encode() in words:
                found.append(words.replace(b"\0", b" ").decode())
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code. Twice harmless."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)

    def close(self) -> None:
        """However it stands: nothing stays behind."""
        try:
            self.end()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.bus.close()


def kills(out: Path, within_s: float, manager: bool = True, run: str = WALK) -> list[Reaction]:
    """Each process killed with -9 in turn, in one run that recovers each time; then the twin, which ends it; then the manager,
    which takes another run, and a person's console, which takes a third."""
    live = Live(out, *LIGHT, run=run)
    robot = rundir.load(live.directory).robot
    senses, unwatched = robot.senses, robot.servos.protocol == "feetech"  # which have no watchdog
    table = []
    try:
        live.wait(lambda: (episode := live.episode.latest()) is not None and episode.transitions >= 50, 60)
        for name, expected, cause in (
            ("policy", ("HOLD",), "policy_dead"),
            ("tracker", ("HOLD",), "tracker_dead"),
            ("learner", ("RUN",), "learner_gone"),
            ("rescue", ("HOLD",) if unwatched else ("RUN",), "rescue_gone"),
            ("imu", ("RELAX",), "imu_stale"),
        ):
            if name in senses or name not in ("imu", "tracker"):
                table.append(live.kill_in("RUN", name, expected, cause, within_s))
        table.append(live.kill_in("RESET", "reset", ("HOLD",), "reset_dead", within_s))
        table.append(live.kill_in("RUN", "operator", ("STOPPING", "PSTOP"), "console_dead", within_s))
        live.reach("RUN")
        table.append(live.kill_guard())
        table.append(live.kill_in("RUN", "servos", ("PSTOP",), "driver_silent", within_s))
        live.wait(lambda: "died with torque on; the motors are read back as off" in live.log("rescue"), 20)
        if robot.stop_profile == "stow":
            table[-1] = replace(table[-1], note=f"lowered by the rescue to {live.away(robot.stow):.2f} rad from its stow")
        live.reach("RUN")
        table.append(live.kill("twin", ("PSTOP", "RELAX"), "port_lost", within_s))
        assert live.process.wait(40) == 3, live.said()
        assert not live.left_over(), live.left_over()
    finally:
        live.close()
    if manager:
        live = Live(out, *LIGHT, run=run)
        try:
            live.reach("RUN")
            table.append(live.kill_manager())
        finally:
            live.close()
    return [*table, kill_console(out, within_s, run)]


def kill_console(out: Path, within_s: float, run: str) -> Reaction:
    """A person's own console, which the manager has not started, killed with -9 while the robot moves."""
    terminal, end = pty.openpty()
    live = Live(out, *LIGHT, stdin=end, run=run)
    person = Person(live.directory)
    live.others["console"] = person.process.pid
    try:
        for key, before, after in (("e", "READY", "HOLD"), ("R", "HOLD", "RESET")):
            live.reach(before)
            time.sleep(0.5)  # a person's: the console must have seen what the key answers
            person.types(key)
            live.reach(after)
        return live.kill("console", ("STOPPING", "PSTOP"), "console_dead", within_s)
    finally:
        live.close()
        person.close()
        os.close(terminal)
        os.close(end)


def stolen_s() -> float:
    """Seconds that the host of a virtual machine has kept its processors from it, so far, all of them together."""
    return int(Path("/proc/stat").read_text().split("\n")[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def lateness(out: Path, seconds: float, real_time: bool) -> dict[str, Any]:
    """A run of so many seconds with a learner that never rests: how late, how long, what was lost."""
    stolen = stolen_s()
    live = Live(out, *BUSY, f"real_time={str(real_time).lower()}", seconds=seconds)
    dropped = 0
    try:
        while live.process.poll() is None:
            live.bus.wait([live.episode], 0.5)
            if (episode := live.episode.latest()) is not None:
                dropped = episode.dropped
    finally:
        live.close()
    timing = np.load(live.directory / "timing.npz")
    checks = Replay.open(live.directory / "replay").check()
    kept = checkpoint.newest(live.directory)
    marks = (50, 99, 99.9, 100)
    return {
        "real_time": real_time,
        "exit_code": live.process.returncode,
        "cycles": periods_of(timing),  # the figures below are of the newest
        **{
            f"{key}_p{mark:g}": round(float(np.percentile(timing[key], mark)), 1)
            for key in ("late_us", "cycle_us")
            for mark in marks
        },
        "transitions": checks["transitions"],
        "lost": checks["gaps"] + dropped,
        "doubled": checks["doubles"],
        "updates": kept.updates if kept is not None else 0,
        "stolen_s": round(stolen_s() - stolen, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the two timed runs")
    parser.add_argument("--run", default=WALK, help="the run of the kills; another than the Minitaur's walk is not timed")
    parser.add_argument("--quick", action="store_true", help="the timed runs alone, no kills")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "wall_clock.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for real_time in (True, False) if args.run == WALK else ():
            runs.append(lateness(Path(folder), args.seconds, real_time))
            print(json.dumps(runs[-1]), flush=True)
        table = [] if args.quick else kills(Path(folder), 5.0, run=args.run)
    for row in table:
        print(
            f"{row.killed:<9} killed in {row.during:<6} -> {row.led_to:<9} {row.ms:7.1f} ms  {' '.join(row.causes)}  {row.note}"
        )
    args.out.parent.mkdir(exist_ok=True)
    result = {"built_from": rundir.provenance(), "load": os.getloadavg(), "period_us": PERIOD_US, "seconds": args.seconds}
    rundir.write_json(args.out, result | {"runs": runs, "kills": [asdict(row) for row in table]})


if __name__ == "__main__":
    main()
