"""`robotrl twin`: the far ends of all wires, in one object: physics, servo bus, IMU, tracker.

In lockstep (`advance` and `ports`) time moves only when told to. On the wall clock (`main`) each wire is a pty, and what stands
behind it is served in real time until SIGTERM, Ctrl-C or, with --until-eof, the end of standard input.

Lines on standard input, one JSON object each: {"place": "stand"}, {"push": [fx, fy, fz, seconds]}, faults (sim/faultline.py),
{"fault": "trip", "servo": 3, "code": 38}, {"fault": "reboot", "servo": 3}, {"fault": "lie", "servo": 3, "what": "winding_c",
"value": 120}, {"fault": "clear"}. A robot on bus servos has its own (sim/servotwin.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import config, rundir, viewpoint
from robotrl.clock import Clock, LockstepClock, WallClock
from robotrl.drivers.port import MemoryPort
from robotrl.realtime import real_time
from robotrl.sim import faults
from robotrl.sim.bullet import import_bullet
from robotrl.sim.darkroom import Darkroom
from robotrl.sim.faultline import from_line
from robotrl.sim.fleets import FLEETS
from robotrl.sim.freetwin import FreeTwin
from robotrl.sim.moteusbus import MoteusBus
from robotrl.sim.senses import ImuSensor, TrackerSensor
from robotrl.sim.server import Server
from robotrl.sim.servotwin import ServoTwin, laid
from robotrl.sim.tagcamera import TagCamera, view_of

PRIORITY = 10  # real robots wait for no scheduler; below the driver and the guard, whom the twin must not hold up


class Twin:
    """A robot that is not there. Everything random comes from `seed`.

    With a LockstepClock (or none) `advance` moves that clock along with the physics; with another, bytes take their time.
    """

    def __init__(self, run: config.Run, seed: int, clock: Clock | None = None) -> None:
        try:
            import_bullet()
        except ImportError as error:
            raise config.ConfigError(f"twin: no PyBullet here ({error}); its wheels: CPython 3.11, Linux x86-64") from None
        from robotrl.sim import inner  # late: they import pybullet, which must have been told to be quiet
        from robotrl.sim.world import World

        self.clock = clock or LockstepClock()
        lockstep = isinstance(self.clock, LockstepClock)
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
        try:
            self.world = World(run.twin, seed)
        except ValueError as error:  # names a terrain or a robot that there is not
            raise config.ConfigError(f"twin: {error}") from None
        wire_clock = None if lockstep else self.clock
        self.bus = MoteusBus(self.world, run.robot.servos, run.twin, streams[0], wire_clock, inner.chorus())
        self._loop = inner.loop(self.world, self.bus.bank)
        self.note = self._loop.note  # why the twin is slower than it can be; empty when it is not
        self.imu = ImuSensor(self.world, run.twin, streams[1], inner.imu_frames(self.world, run.twin))
        self.tracker = TrackerSensor(self.world, run.twin, streams[2])
        tags = run.robot.tracker.camera
        self._camera_name = tags
        self.camera = TagCamera(self.world, run.twin.tripod, run.robot.roof, streams[5], develops=lockstep) if tags else None
        self.darkroom = Darkroom(run, seed) if tags and not lockstep else None
        self._ids, self._rng = run.robot.servos.ids, streams[3]
        if run.twin.randomise:
            self.world.randomise(streams[4])
        self.wires = {
            "servos": faults.FaultyWire(self.bus, self.now),
            "imu": faults.FaultyWire(self.imu, self.now),
            "tracker": faults.FaultyWire(self.tracker, self.now),
        }

    def now(self) -> float:
        """Seconds of physics so far."""
        return self.world.time

    @property
    def step_s(self) -> float:
        """Physics step."""
        return self.world.twin.physics_dt

    def due(self) -> int | None:
        """When the servo bus will have something for the host (clock, ns)."""
        return self.bus.due()

    def advance(self, seconds: float) -> None:
        """Move physics, servos and senses on, and a lockstep clock with them."""
        self._loop.advance(seconds)
        self.imu.advance()
        self.tracker.advance()
        if self.camera is not None:
            self.camera.advance()
        if self.camera is not None and self.darkroom is not None:
            now = self.clock.now() - round(self.world.time * 1e9)  # the moment when physics began, as it stands
            for exposure in self.camera.exposures():
                self.darkroom.develop(exposure, now + round(exposure.taken * 1e9), now + round(exposure.arrives * 1e9))
        if isinstance(self.clock, LockstepClock):
            self.clock.sleep_until(round(self.world.time * 1e9))

    def ports(self) -> dict[str, MemoryPort]:
        """The near ends for lockstep: servos, imu, tracker."""
        return {name: MemoryPort(wire, name) for name, wire in self.wires.items()}

    def cameras(self) -> dict[str, str]:
        """Where each camera's pictures are to be had, by "camera." and its name in the robot file."""
        return {f"camera.{self._camera_name}": self.darkroom.url} if self.darkroom is not None else {}

    def command(self, line: dict[str, Any]) -> None:
        """Do what a control line says. Raises ValueError naming what is wrong with it; then nothing was done."""
        if "state" in line:
            return  # nobody does anything with his hands for it
        if "place" in line:
            self.world.place(str(line["place"]))
        elif "push" in line:
            force = line["push"]
            if not isinstance(force, list) or len(force) != 4 or not all(isinstance(f, (int, float)) for f in force):
                raise ValueError(f"push {force!r}: write [fx, fy, fz, seconds]")
            self.world.push((force[0], force[1], force[2]), force[3])
        elif line.get("fault") == "clear":
            for wire in self.wires.values():
                wire.clear()
            self.bus.lies.end()
        elif line.get("fault") in ("trip", "reboot", "lie"):
            if line.get("servo") not in self._ids:
                raise ValueError(f"servo {line.get('servo')!r}: use one of {', '.join(map(str, self._ids))}")
            servo = self._ids.index(line["servo"])
            if line["fault"] == "reboot":
                self.bus.bank.reboot(servo)
            elif line["fault"] == "lie":
                value = float(line.get("value", 0.0))
                self.bus.lies.tell(servo, str(line.get("what")), lambda _: value)
            else:
                self.bus.bank.trip(servo, int(line.get("code", 38)))
        else:
            name, fault, for_s = from_line(line, self._rng, self.now)
            self.wires[name].add(fault, for_s)

    def close(self) -> None:
        self.world.close()
        if self.darkroom is not None:
            self.darkroom.close()


def parse(argv: list[str]) -> argparse.Namespace:
    robots = f"robot file in launch/robots, or {', '.join(FLEETS)}; default: the run file's"
    parser = argparse.ArgumentParser(prog="robotrl twin", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="run file; default: launch/walk.toml")
    parser.add_argument("--run-dir", type=Path, help="a run's directory, in the place of a run file")
    parser.add_argument("--robot", metavar="NAME", help=robots)
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args(argv)


def run_file(given: Path | None) -> Path:
    """The run file named, or the one that comes with the project: from here, or beside the source."""
    beside = Path(__file__).resolve().parents[1] / "launch" / "walk.toml"
    here = Path("launch") / "walk.toml"
    return given or (here if here.is_file() else beside)


def with_robot(run: config.Run, name: str | None, robots: Path) -> config.Run:
    """The run with the robot of another file. Raises ConfigError when there is none of that name."""
    if name is None or name == run.robot.name:
        return run
    path = robots / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        known = ", ".join(sorted(p.stem for p in robots.glob("*.toml"))) or "none"
        raise config.ConfigError(f"{path}: no robot read: {why}; known robots: {known}") from None
    return dataclasses.replace(run, robot=config.from_dict({"robot": data}, path).robot)


def twin_of(args: argparse.Namespace) -> tuple[Twin | FreeTwin | ServoTwin, bool, str]:
    """The twin that is asked for, on the wall clock; is it to run in real time; what a person should know of it."""
    if args.run_dir is not None:
        run = dataclasses.replace(rundir.load(args.run_dir), seed=args.seed)
    else:
        path = run_file(args.run)
        run = config.load(path, [*args.set, f"seed={args.seed}"])
        if args.robot not in FLEETS:
            run = with_robot(run, args.robot, path.parent / "robots")
    robot = args.robot if args.robot in FLEETS else run.robot.kind
    if robot in FLEETS and args.robot not in FLEETS and "imu" in run.robot.senses:
        return FreeTwin(run, run.seed, WallClock()), run.real_time, ""
    if robot in FLEETS:
        servos = ServoTwin(robot, run.seed, WallClock(), run.twin.physics_dt)
        servos.bus.latency_ns = round(run.twin.adapter_s * 1e9)
        servos.table = laid(run, servos, run.seed) if args.run_dir is not None else None
        if args.run_dir is not None and run.task.pixels.cameras:
            from robotrl.sim.studio import Studio  # late: few need what it needs

            servos.studio = Studio(run, run.seed)
        return servos, run.real_time, servos.note
    twin = Twin(run, run.seed, WallClock())
    if args.run_dir is not None and run.robot.tracker.camera:
        viewpoint.write(view_of(run.twin.tripod, run.robot.seen_by), args.run_dir / viewpoint.FILE)
    return twin, run.real_time, f"plain Python, slower: {twin.note}" if twin.note else ""


def main(argv: list[str]) -> int:
    args = parse(argv)
    words = os.dup(1)  # where our one line goes: physics prints on descriptor 1 from C
    os.dup2(2, 1)
    twin, in_real_time, note = twin_of(args)
    cameras = {} if isinstance(twin, FreeTwin) else twin.cameras()
    server = Server(twin, args.until_eof)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    try:
        with os.fdopen(words, "w") as out:
            print(json.dumps(server.paths | cameras), file=out, flush=True)
        if note:
            print(f"robotrl twin: {note}", file=sys.stderr, flush=True)
        if in_real_time and (refused := real_time(PRIORITY, lock=False)):
            print(f"robotrl twin: {refused}", file=sys.stderr, flush=True)
        server.serve()
    except BrokenPipeError:
        print("robotrl twin: nobody reads the ports' names from standard output; stopped", file=sys.stderr)
        return 2
    finally:
        server.close()
        twin.close()
    return 0
