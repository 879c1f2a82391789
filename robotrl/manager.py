"""`robotrl run`: the process tree on the wall clock.

    robotrl run launch/walk.toml            hardware: refuses to move until the preflight finds nothing missing
    robotrl run launch/walk.toml --sim      the same processes; only the far ends of the wires are the twin's

Exit code 0: done; 2: something is missing or wrong, said in a line; 3: the run could not go on.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from robotrl import aloud, config, keyring, robotnow, rundir, viewpoint
from robotrl.complaint import attach
from robotrl.notify import Notify
from robotrl.processes import GaveUp, Manager
from robotrl.report import concluded
from robotrl.robot import require_task
from robotrl.roster import CLASSIFIER, GATEWAY, OPERATOR, TELEOP, Spec, cameras, nodes_of
from robotrl.twinprocess import TwinProcess
from robotrl.watch import Watch


def with_ports(run: config.Run, ports: dict[str, str]) -> config.Run:
    """The run with the twin's ports, budget of falls and slowness in place of the robot's: all that differs between the two."""
    seen = {key.removeprefix("camera."): url for key, url in ports.items() if key.startswith("camera.")}
    other = {name: config.CameraPort(rate_hz=run.twin.view_hz) for name in seen}  # than those that the robot has
    known = [*run.robot.cameras.items(), *((name, port) for name, port in other.items() if name not in run.robot.cameras)]
    robot = dataclasses.replace(
        run.robot,
        limits=dataclasses.replace(run.robot.limits, falls=run.twin.falls),
        servos=dataclasses.replace(run.robot.servos, port=ports["servos"], quiet_s=run.twin.quiet_s),
        imu=dataclasses.replace(run.robot.imu, port=ports.get("imu", "")),
        tracker=dataclasses.replace(run.robot.tracker, port=ports.get("tracker", "")),
        cameras={
            name: dataclasses.replace(port, kind="mjpeg", url=seen[name], depth=False, imu=False)
            for name, port in known
            if name in seen
        },
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
    require_task(run.robot, run.task.name, args.run)
    if run.task.reward == "classifier" and not run.task.pixels.cameras:  # in a rehearsal it has cameras of its own
        fix = "name some in [task.pixels] cameras, with told = true, as launch/reach_watched.toml"
        raise config.ConfigError(f'{args.run}: task.reward = "classifier" and no cameras to judge by: {fix} (docs/classifier.md)')
    if run.network.listen:
        keyring.load(Path(run.network.keys).expanduser())  # a complaint comes before anything is started
    if not args.sim:
        ready = looked_over(run, args.calibration)
        if ready is None:
            return 2
        run = ready
    from robotrl.nodes.learner import demonstrations

    demonstrations(run)  # a complaint comes before anything is written or moves
    directory = rundir.create(run, args.out, "wall", args.sim, robotnow.origin(args.run, overrides))
    if not args.sim:
        with rundir.written(directory):
            keep_viewpoint(run, directory, args.calibration)
    return operate(run, directory, args.seconds, as_json=args.json, records=args.calibration)


def looked_over(run: config.Run, records: Path | None) -> config.Run | None:
    """The run with the robot's calibration, or None when something is missing, which is said."""
    from robotrl.calibration.lockout import require_none
    from robotrl.doctor import preflight

    if run.robot.serial:  # without one it has no records, and never starts
        require_none(run.robot, records)
    missing = preflight(run, records=records)
    for row in missing:
        print(f"missing: {row}", file=sys.stderr)
    if missing:
        print(f"robotrl run: {len(missing)} missing; nothing has moved", file=sys.stderr)
        return None
    from robotrl.calibration.store import calibrated

    return dataclasses.replace(run, robot=calibrated(run.robot, records))


def of_robot(robot: config.Robot, records: Path | None) -> dict[str, list[str]]:
    """What a node is told beside its run where a robot, and no twin, is at the wires: where its lockout is kept."""
    from robotrl.calibration.lockout import require_none

    return {"guard": ["--lockout", str(require_none(robot, records))]}


def keep_viewpoint(run: config.Run, directory: Path, records: Path | None) -> None:
    """Into the run's directory, from where the tracker's node takes it: where the camera stands that it sees by."""
    if run.robot.tracker.camera:
        from robotrl.calibration.store import folder

        viewpoint.write(viewpoint.load(run.robot.seen_by, folder(records)), directory / viewpoint.FILE)


def resume(directory: Path, steps: int | None, seconds: float, calibration: Path | None, *, as_json: bool) -> int:
    """Go on with a run on the wall clock that ended or died: the same processes on the same directory.

    Policy and learner go on by themselves, from the replay and the newest whole checkpoint. RunError, CheckpointError or
    ReplayError, and nothing is started, when the run is alive, has done all its steps, or cannot be gone on from. On hardware
    its robot is as the robot file has it: another port is taken, another limit refused.
    """
    from robotrl.agents.published import put_back
    from robotrl.checkpoint import newest
    from robotrl.replay import Replay

    rundir.require_room_for_sockets()
    run = rundir.load(directory)
    config.from_dict(config.to_dict(run), directory / "run.json")  # may it still be driven?
    with contextlib.ExitStack() as undo:
        undo.enter_context(rundir.written(directory))
        held = rundir.hold(directory)  # to the end: what is written below, another who goes on with it meanwhile would live by
        undo.callback(os.close, held)
        replay = Replay.open(directory / "replay")
        done, acted = replay.count, int(replay.columns["policy_version"][: replay.count].max(initial=-1))
        replay.close()
        wanted = steps or run.steps
        if done >= wanted:
            raise rundir.RunError(f"{directory}: all {wanted} steps are done; ask for more: --steps {2 * done}")
        if (kept := newest(directory)) is None and (directory / "weights" / "policy.safetensors").is_file():
            print(f"{directory}: no checkpoint yet; the learner begins anew, on all {done} transitions", flush=True)
        if wanted > run.agent.capacity:
            raise rundir.RunError(f"{directory}: its replay holds {run.agent.capacity} transitions; ask for fewer --steps")
        run = dataclasses.replace(run, steps=wanted)
        if not rundir.kind(directory)[1]:
            run, differs = robotnow.now(run, rundir.made_of(directory))
            for line in differs:
                print(f"{directory}: {line}", file=sys.stderr)
            if differs:
                return 2
        if line := put_back(run, directory, kept, acted):
            print(line, flush=True)
        if not rundir.kind(directory)[1]:
            ready = looked_over(run, calibration)
            if ready is None:
                return 2
            run = ready
            keep_viewpoint(run, directory, calibration)
        rundir.amend(directory, run)
        undo.pop_all()
    print(f"goes on after {done} transitions", flush=True)
    return operate(run, directory, seconds, as_json=as_json, begun=done, records=calibration, held=held)


def operate(
    run: config.Run, directory: Path, seconds: float, *, as_json: bool, begun: int = 0, records: Path | None = None,
    held: int | None = None,
) -> int:  # fmt: skip
    """Bring the processes up, watch them until the run ends, bring them down. `begun`: transitions there are already; `held`:
    the run is, by this descriptor."""
    end, notify = Ending(), Notify()
    held = rundir.hold(directory) if held is None else held
    sim = rundir.kind(directory)[1]
    twin = manager = sockets = None
    code, spoke = 0, False
    try:
        with rundir.written(directory):
            (directory / "logs").mkdir(exist_ok=True)
            sockets = Path(tempfile.mkdtemp(prefix="robotrl-"))  # 0700; short, since a socket's path holds 107 characters
            if sim:
                twin = TwinProcess(directory, run.seed + begun)
                run = with_ports(run, twin.ports)
                rundir.amend(directory, run)
            rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
        extra = {"operator": ["--twin-fd", str(twin.write_fd)]} if twin is not None else of_robot(run.robot, records)
        manager = Manager(directory, sockets, extra, (twin.write_fd,) if twin is not None else (), lambda: end.asked)
        if twin is not None:
            manager.say("twin", twin.process.pid, "started")
        scripted = twin is not None and not (sys.stdin is not None and sys.stdin.isatty())
        for spec in (*specs(run), OPERATOR) if scripted else specs(run):
            manager.start(spec)
            if spec.name == "recorder":
                manager.wait_for(spec.name)
        aloud.say(f"run {directory}\n" + ("a scripted operator is at the console" if scripted else
                  f"now attach the operator's terminal: {attach(directory)}"))  # fmt: skip
        notify.ready()
        Watch(manager, run, twin, seconds, end, attended=not scripted, alive=notify.alive).run()
    except GaveUp as reason:
        aloud.say(f"robotrl run: {reason}", sys.stderr)
        code = reason.code
    except (config.ConfigError, rundir.RunError):  # the twin did not start, or there is no room
        if nothing_in(directory):
            shutil.rmtree(directory)
        raise
    finally:
        notify.ending()
        if manager is not None:
            confirmed, spoke = manager.power_down(run.robot, notify.longer), manager.drive.latest() is not None
            if not confirmed and (code != 2 or spoke):  # a node may say late what is wrong: a learner, when the robot moves
                aloud.say("robotrl run: the motors did not confirm that they are off: cut their power", sys.stderr)
                code = code or 3
            manager.stop()
            (directory / "bus.json").unlink(missing_ok=True)
        if twin is not None:
            twin.close()
        if sockets is not None:
            shutil.rmtree(sockets, ignore_errors=True)
        os.close(held)
    if code == 2 and not spoke and nothing_in(directory):  # refused before it began, for a reason that was said
        shutil.rmtree(directory)
        return code
    aloud.finish(math.inf)  # nobody waits for us any more, and what is printed from here on comes behind it
    concluded(directory, code, as_json=as_json)
    return code


def specs(run: config.Run) -> tuple[Spec, ...]:
    """The nodes of this run, in the order in which they start."""
    from robotrl.nodes.evidence import looked_through

    asked = {CLASSIFIER: run.task.reward == "classifier", TELEOP: bool(run.takeover.device), GATEWAY: bool(run.network.listen)}
    return (*nodes_of(run.robot), *cameras(run.robot, looked_through(run)), *(spec for spec, wanted in asked.items() if wanted))


def nothing_in(directory: Path) -> bool:
    """No transition was recorded: the run is not worth its directory."""
    from robotrl.replay import Replay

    if not (directory / "replay" / "header.json").is_file():
        return True
    replay = Replay.open(directory / "replay")
    replay.close()
    return replay.count == 0


class Ending:
    """SIGTERM, SIGINT, SIGHUP, Ctrl-\\ or Ctrl-Z: end the run in order. A manager that was stopped would start nobody anew."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
