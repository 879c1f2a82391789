"""`robotrl run`: the process tree on the wall clock. Starts each node by name, watches it by pidfd, restarts it within bounds,
stops all in reverse. Imports nothing it starts.

    robotrl run launch/walk.toml            hardware: refuses to move until the preflight finds nothing missing
    robotrl run launch/walk.toml --sim      the same processes; only the far ends of the wires are the twin's
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from robotrl import config, rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.messages import Process

RESTARTS, WITHIN_S = 3, 60.0  # Erlang's restart intensity: more often, and it stays down


@dataclass(frozen=True)
class Spec:
    """A node as data: its name on the bus, its module, and whether it is started again when it dies."""

    name: str
    module: str
    restart: bool = True


# In the order of starting; stopped in reverse. What stays down when it dies needs a person: the driver lost its servos' state.
NODES = (
    Spec("guard", "robotrl.nodes.guard"),
    Spec("servos", "robotrl.nodes.servos"),
    Spec("imu", "robotrl.nodes.imu"),
    Spec("tracker", "robotrl.nodes.tracker"),
    Spec("reset", "robotrl.nodes.reset"),
    Spec("policy", "robotrl.nodes.policy"),
    Spec("learner", "robotrl.nodes.learner"),
)
OPERATOR = Spec("operator", "robotrl.sim.operator", restart=False)


@dataclass
class Child:
    """A started node."""

    spec: Spec
    process: subprocess.Popen
    pidfd: int
    deaths: list[float] = field(default_factory=list)


class Manager:
    """Holds the children of one run."""

    def __init__(self, directory: Path, sockets: Path, extra: dict[str, list[str]], keep: tuple[int, ...]) -> None:
        self.directory, self.extra, self.keep = directory, extra, keep
        self.clock = WallClock()
        self.bus = Bus(sockets, "manager", self.clock)
        self.events = self.bus.publisher("process")
        self.children: dict[str, Child] = {}
        self.stopping = False

    def start(self, spec: Spec, deaths: list[float] | None = None) -> None:
        """Start one node; its standard input is a pipe whose closing tells it that we are gone."""
        words = [sys.executable, "-m", spec.module, str(self.directory), *self.extra.get(spec.name, [])]
        if deaths:
            words.append("--restarted")
        log = open(self.directory / "logs" / f"{spec.name}.log", "ab")  # noqa: SIM115
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=self.keep)
        log.close()
        self.children[spec.name] = Child(spec, process, os.pidfd_open(process.pid), deaths or [])
        self.say(spec.name, process.pid, "started", restarts=len(deaths or []))

    def say(self, name: str, pid: int, event: str, detail: str = "", restarts: int = 0) -> None:
        self.events.send(Process(name=name, pid=pid, event=event, detail=detail, restarts=restarts))
        with open(self.directory / "logs" / "manager.log", "a") as log:
            log.write(json.dumps({"t": self.clock.now(), "name": name, "pid": pid, "event": event, "detail": detail}) + "\n")

    def watch(self, timeout_s: float) -> list[str]:
        """Wait for deaths, restart whom the intensity allows; returns the names that died."""
        fds = {child.pidfd: child for child in self.children.values()}
        ready, _, _ = select.select(list(fds), [], [], timeout_s)
        died = []
        for fd in ready:
            child = fds[fd]
            died.append(child.spec.name)
            code = child.process.wait()
            os.close(fd)
            del self.children[child.spec.name]
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.say(child.spec.name, child.process.pid, "died", how, len(child.deaths))
            if self.stopping or not child.spec.restart or code == 0:
                continue
            now = time.monotonic()
            deaths = [t for t in child.deaths if now - t < WITHIN_S] + [now]
            if len(deaths) > RESTARTS:
                self.say(child.spec.name, child.process.pid, "gave up", f"{len(deaths)} deaths in {WITHIN_S:.0f} s; last: {how}")
                continue
            self.start(child.spec, deaths)
        return died

    def stop(self) -> None:
        """Ask all to end, last started first; whoever does not within 3 s is killed."""
        self.stopping = True
        for child in reversed(list(self.children.values())):
            child.process.terminate()
            try:
                code = child.process.wait(3)
            except subprocess.TimeoutExpired:
                child.process.kill()
                code = child.process.wait()
            self.say(child.spec.name, child.process.pid, "stopped", f"exit code {code}")
            os.close(child.pidfd)
            if child.process.stdin is not None:
                child.process.stdin.close()
        self.children.clear()
        self.bus.close()


class TwinProcess:
    """The twin on its ptys, and the pipe by which a scripted operator may lift the robot."""

    def __init__(self, run_file: Path, overrides: list[str], seed: int) -> None:
        self.read_fd, self.write_fd = os.pipe()
        sets = [word for item in overrides for word in ("--set", item)]
        words = [sys.executable, "-m", "robotrl", "twin", "--run", str(run_file), "--seed", str(seed), *sets]
        self.process = subprocess.Popen(words, stdin=self.read_fd, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise config.ConfigError(f"the twin did not start (exit code {self.process.wait()}); its words are above")
        self.ports: dict[str, str] = json.loads(line)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self.read_fd)
        os.close(self.write_fd)


def with_ports(run: config.Run, ports: dict[str, str]) -> config.Run:
    """The run with the twin's ports in the place of the robot's: the only difference between the two."""
    robot = dataclasses.replace(
        run.robot,
        servos=dataclasses.replace(run.robot.servos, port=ports["servos"]),
        imu=dataclasses.replace(run.robot.imu, port=ports["imu"]),
        tracker=dataclasses.replace(run.robot.tracker, port=ports["tracker"]),
    )
    return dataclasses.replace(run, robot=robot)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robotrl run", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, help="run file, e.g. launch/walk.toml")
    parser.add_argument("--sim", action="store_true", help="the twin on ptys instead of the robot's ports")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this long (default: when all steps are done)")
    parser.add_argument("--steps", type=int, help="control steps of the policy")
    parser.add_argument("--seed", type=int, help="seed of everything random")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    overrides = [*args.set]
    overrides += [f"steps={args.steps}"] if args.steps is not None else []
    overrides += [f"seed={args.seed}"] if args.seed is not None else []
    run = config.load(args.run, overrides)
    if not args.sim:
        from robotrl.doctor import preflight

        missing = preflight(run)
        for row in missing:
            print(f"missing: {row}", file=sys.stderr)
        if missing:
            print(f"robotrl run: {len(missing)} things are missing; nothing has moved", file=sys.stderr)
            return 2
        from robotrl.calibration.store import calibrated

        run = dataclasses.replace(run, robot=calibrated(run.robot))
    return operate(run, args, overrides)


def operate(run: config.Run, args: argparse.Namespace, overrides: list[str]) -> int:
    """Bring the processes up, watch them until the run ends, bring them down."""
    sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))  # 0700; short, since a socket's path holds 107 characters
    twin = manager = None
    end = _Ending()
    try:
        if args.sim:
            twin = TwinProcess(args.run, overrides, run.seed)
            run = with_ports(run, twin.ports)
        directory = rundir.create(run, args.out, "wall")
        (directory / "logs").mkdir()
        rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
        scripted = twin is not None and not sys.stdin.isatty()
        extra = {"operator": ["--twin-fd", str(twin.write_fd)]} if twin is not None else {}
        manager = Manager(directory, sockets, extra, (twin.write_fd,) if twin is not None else ())
        for spec in (*NODES, OPERATOR) if scripted else NODES:
            manager.start(spec)
        print(f"run {directory}\n" + ("a scripted operator is at the console" if scripted else
              f"now attach the operator's terminal: bash launch/supervise.sh {directory}"), flush=True)  # fmt: skip
        _watch(manager, directory, run, args.seconds, end)
    finally:
        if manager is not None:
            manager.stop()
            (directory / "bus.json").unlink(missing_ok=True)
        if twin is not None:
            twin.close()
        shutil.rmtree(sockets, ignore_errors=True)
    return _report(directory)


class _Ending:
    """SIGTERM, SIGINT or SIGHUP: end the run in order."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def _watch(manager: Manager, directory: Path, run: config.Run, seconds: float, end: _Ending) -> None:
    started = time.monotonic()
    episode, guard = manager.bus.subscriber("episode"), manager.bus.subscriber("guard")
    due = 0.0
    while not end.asked:
        for name in manager.watch(0.05):
            print(f"{time.monotonic() - started:6.1f} s  {name} died", flush=True)
        now = time.monotonic() - started
        e, g = episode.latest(), guard.latest()
        if now >= due and e is not None and g is not None:
            due = now + 5.0
            cause = f"  cause: {g.last_cause}" if g.last_cause else ""
            print(f"{now:6.1f} s  {g.state:<8} step {e.transitions}/{run.steps}  episode {e.episode}  {e.speed:.2f} m/s{cause}", flush=True)
        if (seconds and now > seconds) or (e is not None and e.transitions >= run.steps):
            return


def _report(directory: Path) -> int:
    """What the run left behind, in three lines."""
    from robotrl.replaycheck import check

    print(check(directory))
    print(f"run     {directory}\nlook    robotrl plot {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
