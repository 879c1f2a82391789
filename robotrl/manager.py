"""`robotrl run`: the process tree on the wall clock.

    robotrl run launch/walk.toml            hardware: refuses to move until the preflight finds nothing missing
    robotrl run launch/walk.toml --sim      the same processes; only the far ends of the wires are the twin's

Exit code 0: done; 2: something is missing or wrong, said in a line; 3: the run could not go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from robotrl import config, keyring, rundir
from robotrl.complaint import command
from robotrl.messages import Episode, Guard
from robotrl.notify import Notify
from robotrl.processes import GATEWAY, NODES, OPERATOR, GaveUp, Manager, TwinProcess
from robotrl.replaycheck import counted, told

SAY_EVERY_S = 5.0
SAME_EVERY_S = 60.0  # when nothing has changed
GRACE_S = 1.0  # after the twin's death: for the guard to say what it makes of it
WAITS = {  # what a state waits for, in the words of the operator's keys
    "READY": "torque is off; at the console: e enables",
    "HOLD": "standing still; at the console: r runs, R resets",
    "PSTOP": "stopped and held; at the console: c clears",
    "RELAX": "stopped, torque off; at the console: c clears",
}
FORGIVEN = frozenset(("tilt", "episode_fall"))  # a robot that learns to walk falls: counted, not announced


def with_ports(run: config.Run, ports: dict[str, str]) -> config.Run:
    """The run with the twin's ports in the place of the robot's, and its budget of falls: all that differs between the two."""
    robot = dataclasses.replace(
        run.robot,
        limits=dataclasses.replace(run.robot.limits, falls=run.twin.falls),
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
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the robot's records")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    if not 0 <= args.seconds < math.inf:
        parser.error(f"--seconds must be finite and not negative, not {args.seconds}")
    return args


def main(argv: list[str]) -> int:
    args = parse(argv)
    overrides = [*args.set]
    overrides += [f"steps={args.steps}"] if args.steps is not None else []
    overrides += [f"seed={args.seed}"] if args.seed is not None else []
    run = config.load(args.run, overrides)
    if run.network.listen:
        keyring.load(Path(run.network.keys).expanduser())  # a complaint comes before anything is started
    if not args.sim:
        from robotrl.doctor import preflight

        missing = preflight(run, records=args.calibration)
        for row in missing:
            print(f"missing: {row}", file=sys.stderr)
        if missing:
            print(f"robotrl run: {len(missing)} missing; nothing has moved", file=sys.stderr)
            return 2
        from robotrl.calibration.store import calibrated

        run = dataclasses.replace(run, robot=calibrated(run.robot, args.calibration))
    from robotrl.nodes.learner import demonstrations

    demonstrations(run)  # a complaint comes before anything is written or moves
    return operate(run, args, overrides)


def operate(run: config.Run, args: argparse.Namespace, overrides: list[str]) -> int:
    """Bring the processes up, watch them until the run ends, bring them down."""
    end, notify = Ending(), Notify()
    directory = rundir.create(run, args.out, "wall")
    (directory / "logs").mkdir()
    sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))  # 0700; short, since a socket's path holds 107 characters
    twin = manager = None
    code = 0
    try:
        if args.sim:
            twin = TwinProcess(args.run, overrides, run.seed, directory / "logs" / "twin.log")
            run = with_ports(run, twin.ports)
            rundir.amend(directory, run)
        rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
        extra = {"operator": ["--twin-fd", str(twin.write_fd)]} if twin is not None else {}
        manager = Manager(directory, sockets, extra, (twin.write_fd,) if twin is not None else ())
        if twin is not None:
            manager.say("twin", twin.process.pid, "started")
        scripted = twin is not None and not (sys.stdin is not None and sys.stdin.isatty())
        network = (GATEWAY,) if run.network.listen else ()
        for spec in (*NODES, *network, OPERATOR) if scripted else (*NODES, *network):
            manager.start(spec)
        print(f"run {directory}\n" + ("a scripted operator is at the console" if scripted else
              f"now attach the operator's terminal: bash launch/supervise.sh {directory}"), flush=True)  # fmt: skip
        notify.ready()
        Watch(manager, run, twin, args.seconds, end, attended=not scripted, alive=notify.alive).run()
    except GaveUp as reason:
        print(f"robotrl run: {reason}", file=sys.stderr, flush=True)
        code = reason.code
    except config.ConfigError:  # the twin did not start: nothing was, and nothing is worth keeping
        shutil.rmtree(directory)
        raise
    finally:
        notify.ending()
        if manager is not None:
            if not manager.power_down() and not code:
                print("robotrl run: the motors did not confirm that they are off: cut their power", file=sys.stderr)
                code = 3
            manager.stop()
            (directory / "bus.json").unlink(missing_ok=True)
        if twin is not None:
            twin.close()
        shutil.rmtree(sockets, ignore_errors=True)
    if code == 2 and nothing_in(directory):  # refused before it began, for a reason that was said
        shutil.rmtree(directory)
        return code
    counts = counted(directory) if (directory / "replay" / "header.json").is_file() else {}
    report(directory, counts)
    if args.json:
        print(json.dumps({"run_dir": str(directory), "exit_code": code, **counts}))
    return code


def nothing_in(directory: Path) -> bool:
    """No transition was recorded: the run is not worth its directory."""
    from robotrl.replay import Replay

    if not (directory / "replay" / "header.json").is_file():
        return True
    replay = Replay.open(directory / "replay")
    replay.close()
    return replay.count == 0


class Ending:
    """SIGTERM, SIGINT or SIGHUP: end the run in order."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


class Watch:
    """Follows a run until it ends: starts again who died, and tells the person what happens."""

    def __init__(
        self, manager: Manager, run: config.Run, twin: TwinProcess | None, seconds: float, end: Ending, attended: bool = False,
        alive: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`attended`: a person is at the console, not the script. `alive`: called more than ten times a second."""
        self.alive = alive
        self.held_up = twin if attended else None
        self.manager, self.wanted, self.twin, self.seconds, self.end = manager, run.steps, twin, seconds, end
        self.episode, self.causes = manager.bus.subscriber("episode"), manager.bus.subscriber("cause")
        self.started = time.monotonic()
        self._due = SAY_EVERY_S
        self._judged: Guard | None = None
        self._standing: set[str] = set()  # the causes told of
        self._said = ("", 0.0)  # the last word on how it stands, and when

    def run(self) -> None:
        """Returns when time is up, all steps are done, or the end was asked for. GaveUp when the run cannot go on."""
        also = (self.twin.pidfd,) if self.twin is not None else ()
        while not self.end.asked:
            self.alive()
            for line in (*self.manager.watch(0.05, also), *self.manager.heard()):
                self.tell(line)
            self._tell_causes()
            self._hold_up()
            if self.twin is not None and self.twin.process.poll() is not None:
                self._await_the_guard()
                raise GaveUp(f"the twin died (exit code {self.twin.process.returncode}); see logs/twin.log")
            now, steps = time.monotonic() - self.started, self._tell_progress()
            if (self.seconds and now > self.seconds) or steps >= self.wanted:
                return

    def tell(self, what: str) -> None:
        print(f"{time.monotonic() - self.started:6.1f} s  {what}", flush=True)

    def _hold_up(self) -> None:
        """While its torque is off the twin hangs in a stand, where a person is at the console: nobody's hands reach it."""
        guard = self.manager.guard.latest()
        if self.held_up is not None and guard is not None and guard.state == "READY":
            self.held_up.lift()

    def _await_the_guard(self) -> None:
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            self.manager.bus.wait([self.causes], 0.1)
            self.alive()
            self._tell_causes()

    def _tell_causes(self) -> None:
        for guard in self.causes.drain():
            self._tell_cause(guard)
        guard = self.manager.guard.latest()
        # The first `cause` of a guard that was started again reaches nobody.
        if guard is not None and (self._judged is None or guard.boot != self._judged.boot):
            self._tell_cause(guard)

    def _tell_cause(self, guard: Guard) -> None:
        """What unforeseen thing came, once, and where it led; and that it is over."""
        before, self._judged = self._judged, guard
        if guard.state in ("BOOT", "CHECK"):  # what is not there yet at the start is no news
            return
        causes = {c for c in guard.causes if c not in FORGIVEN or not guard.session}
        causes -= {"console_silent"} if "console_dead" in causes else set()  # the dead are silent
        came, gone = [c for c in guard.causes if c in causes - self._standing], sorted(self._standing - causes)
        self._standing = causes
        if came:
            # The note is that of the most severe.
            self.tell(f"{guard.state:<8} {' '.join(came)}" + (f": {guard.note}" if guard.causes[0] in came else ""))
            if "reset_failed" in came and self.held_up is not None:
                self.tell("the twin is set on its feet while its torque is off: at the console c, d, e, then R")
        elif gone:
            self.tell(f"{guard.state:<8} {' '.join(gone)} is over")
        elif causes and guard.state in ("PSTOP", "LOCKOUT") and (before is None or before.state != guard.state):
            self.tell(f"{guard.state:<8} {guard.trigger}")

    def _tell_progress(self) -> int:
        """Now and then how it stands; returns the transitions so far."""
        episode, guard = self.episode.latest(), self.manager.guard.latest()
        now = time.monotonic() - self.started
        if now >= self._due and guard is not None:
            self._due = now + SAY_EVERY_S
            how = f"{guard.state:<8} {standing(guard, episode, self.wanted)}"
            if how != self._said[0] or now >= self._said[1] + SAME_EVERY_S:
                self._said = (how, now)
                self.tell(how)
        return episode.transitions if episode is not None else 0


def standing(guard: Guard, episode: Episode | None, wanted: int) -> str:
    """How far the run is, and what it waits for."""
    steps = f"step {episode.transitions if episode is not None else 0}/{wanted}"
    if guard.state in WAITS:
        return f"{steps}  {guard.note or WAITS[guard.state]}"
    if episode is None or episode.episode < 0:
        return f"{steps}  {guard.note or 'no episode yet'}"
    return f"{steps}  episode {episode.episode}  {episode.speed:.2f} m/s"


def report(directory: Path, counts: dict[str, int]) -> None:
    """What the run left behind, in three lines."""
    print(told(counts) if counts else "replay  none: the run ended before the policy had begun one")
    print(f"run     {directory}\nlook    {command(f'plot {directory}')}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
