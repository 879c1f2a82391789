"""`robotrl move`: the first motion of a robot, on the wall clock: guard, gate, rescue, reset, and one joint after another.

    robotrl move launch/arm.toml --robot omx --sim      the same processes; only the far end of the wire is the twin's
    robotrl move launch/arm.toml --robot so101          hardware: needs a calibration; its motors' supply within reach

Without a terminal the twin's run has a scripted operator, unless --attended: then a console decides (`launch/supervise.sh`).
Exit code 0: done, torque read back as off; 2: something is missing or wrong, said in a line; 3: the run could not go on.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from robotrl import aloud, config, rundir
from robotrl.complaint import attach
from robotrl.manager import Ending, of_robot, with_ports
from robotrl.processes import GaveUp, Manager
from robotrl.roster import OPERATOR, Spec
from robotrl.twinprocess import TwinProcess
from robotrl.watch import Watch

NODES = (
    Spec("guard", "robotrl.nodes.guard"),
    Spec("rescue", "robotrl.nodes.rescue"),
    Spec("servos", "robotrl.nodes.servos"),
    Spec("reset", "robotrl.nodes.reset"),
    Spec("policy", "robotrl.nodes.mover"),
)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="robotrl move", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, help="run file, e.g. launch/arm.toml")
    parser.add_argument("--robot", metavar="NAME", help="robot file beside it, in the place of the one it names")
    parser.add_argument("--sim", action="store_true", help="the twin on a pty instead of the robot's port")
    parser.add_argument("--attended", action="store_true", help="no scripted operator: a console decides")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this long (default: until it is stopped)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the robot's records")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    args = parser.parse_args(argv)
    if not 0 <= args.seconds < math.inf:
        parser.error(f"--seconds must be finite and not negative, not {args.seconds}")
    return args


def main(argv: list[str]) -> int:
    args = parse(argv)
    run = described(args.run, args.robot, args.set)
    run = dataclasses.replace(run, task=dataclasses.replace(run.task, name="walk"))  # nobody learns here, whatever the file says
    if run.robot.senses:
        raise config.ConfigError(f"{args.run}: {run.robot.name} needs {', '.join(run.robot.senses)}: robotrl run is for it")
    if not args.sim:
        from robotrl.calibration.lockout import require_none
        from robotrl.calibration.store import calibrated, commissioned

        require_none(run.robot, args.calibration)
        run = dataclasses.replace(run, robot=calibrated(run.robot, args.calibration))
        commissioned(run.robot, args.calibration)
    directory = rundir.create(run, args.out, "wall", args.sim)
    scripted = args.sim and not args.attended and not (sys.stdin is not None and sys.stdin.isatty())
    return operate(run, directory, args.seconds, scripted=scripted, records=args.calibration)


def described(path: Path, robot: str | None, overrides: list[str]) -> config.Run:
    """The run of a file, with the robot of another file beside it where one is named."""
    run = config.load(path, [] if robot else overrides)
    if not robot:
        return run
    file = path.parent / "robots" / f"{robot}.toml"
    data = config.read(path) | {"robot": config.read(file)}
    for item in overrides:
        config.override(data, item)
    try:
        return config.from_dict(data, file)
    except tomllib.TOMLDecodeError as error:
        raise config.ConfigError(f"{file}: {error}") from None


def operate(
    run: config.Run, directory: Path, seconds: float, *, scripted: bool, nodes: tuple[Spec, ...] = NODES,
    ready: Callable[[config.Run, TwinProcess | None], config.Run] = lambda run, twin: run,
    done: Callable[[], bool] = lambda: False, records: Path | None = None,
) -> int:  # fmt: skip
    """Bring the processes up, watch them until the run ends, bring them down with torque off. The exit code.

    `ready` has the last word on the run once its ports are known and nothing talks to them yet; the run ends when `done`.
    """
    end, held, code = Ending(), rundir.hold(directory), 0

    def look() -> None:
        end.asked = end.asked or done()

    twin = manager = sockets = None
    try:
        with rundir.written(directory):
            (directory / "logs").mkdir(exist_ok=True)
            sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))
            if rundir.kind(directory)[1]:
                twin = TwinProcess(directory, run.seed)
                run = with_ports(run, twin.ports)
            run = ready(run, twin)
            rundir.amend(directory, run)
            rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
        extra = {"operator": ["--twin-fd", str(twin.write_fd)]} if twin is not None else of_robot(run.robot, records)
        manager = Manager(directory, sockets, extra, (twin.write_fd,) if twin is not None else (), lambda: end.asked)
        for spec in (*nodes, OPERATOR) if scripted else nodes:
            manager.start(spec)
        aloud.say(f"run {directory}\n" + ("a scripted operator is at the console" if scripted else
                  f"now attach the operator's terminal: {attach(directory)}"))  # fmt: skip
        Watch(manager, run, twin, seconds, end, attended=not scripted, alive=look).run()
    except GaveUp as reason:
        aloud.say(f"robotrl move: {reason}", sys.stderr)
        code = reason.code
    finally:
        if manager is not None:
            began = time.monotonic()
            if manager.power_down(run.robot):
                if manager.drive.latest() is not None:
                    aloud.say(f"the motors are read back as off ({time.monotonic() - began:.1f} s)")
            elif code != 2 or manager.drive.latest() is not None:
                aloud.say("robotrl move: the motors did not confirm that they are off: cut their power", sys.stderr)
                code = code or 3
            manager.stop()
            (directory / "bus.json").unlink(missing_ok=True)
        if twin is not None:
            twin.close()
        if sockets is not None:
            shutil.rmtree(sockets, ignore_errors=True)
        os.close(held)
    aloud.finish(math.inf)  # nobody waits for us any more, and what is printed from here on comes behind it
    return code
