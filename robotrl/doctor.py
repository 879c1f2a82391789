"""What is missing before the first motion, and the line that fixes it.

    robotrl doctor [RUN.toml] [--sim] [--out DIR] [--json]

Each row is ok, warn (works, but less well) or fail: that launch refuses to start or, where memory or disk fail, which
no launch asks after, does not get far. The exit code is 2 when anything fails. Runs with every import failing: this
module needs the standard library and the project's core alone, and tries each package in a process of its own.
`preflight` is the part that the hardware launch asks before it lets anything move.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from robotrl import config, installed, machine
from robotrl.cameracheck import camera_rows, gaze_rows, viewpoint_rows
from robotrl.complaint import ROOT, SETUP, Complaint, command
from robotrl.findport import Verdict, judge
from robotrl.machine import Row

# module, distribution, what is lost without it; an empty loss: nothing runs without it
PACKAGES = (
    ("numpy", "numpy", ""),
    ("msgspec", "msgspec", ""),
    ("zmq", "pyzmq", ""),
    ("serial", "pyserial", ""),
    ("torch", "torch", ""),
    ("safetensors", "safetensors", ""),
    ("rich", "rich", ""),
    ("pybullet", "pybullet", "the twin: rehearse, eval, --sim"),
    ("cv2", "opencv-python", "the rehearsal's video"),
    ("matplotlib", "matplotlib", "the plots"),
    ("mcap", "mcap", "the sessions"),
    ("pyrealsense2", "pyrealsense2", "RealSense cameras"),
)
# libusb comes in a wheel where the system has none; pyrealsense2 finds it when it is loaded first.
_TRY = """
import ctypes, importlib, pathlib, sys
name, note = sys.argv[1], ""
try:
    importlib.import_module(name)
except ImportError:
    if name != "pyrealsense2":
        raise
    import libusb_package
    ctypes.CDLL(str(pathlib.Path(libusb_package.__file__).parent / "libusb-1.0.so"), mode=ctypes.RTLD_GLOBAL)
    importlib.import_module(name)
    note = ", with libusb from libusb-package"
print("\\nimported" + note)
"""
STATES = {"ok": "ok", "warning": "warn", "missing": "fail"}  # of a verdict, as a row


def _row(name: str, verdict: Verdict) -> Row:
    return Row(name, STATES[verdict.state], verdict.found, verdict.fix)


def preflight(run: config.Run, sim: bool = False, records: Path | None = None) -> list[str]:
    """What a launch of this run lacks, one line each with its fix; empty: it may start.

    With `sim` the wires end in the twin, which has no port, calibration or commissioning record to check.
    `records` overrides the folder of calibration and commissioning records.
    """
    rows = list(_needed(sim))
    if not sim:
        rows += [*robot_rows(run.robot, records), *gaze_rows(run)]
    return [f"{row.name}: {row.found}; {row.fix}" for row in rows if row.state == "fail"]


def _needed(sim: bool) -> Iterator[Row]:
    """The packages without which this launch cannot start, looked for and not imported."""
    for module, distribution, loss in PACKAGES:
        if (not loss or (sim and module == "pybullet")) and importlib.util.find_spec(module) is None:
            yield Row(distribution, "fail", "not installed", f"set up: {SETUP}")


def port_rows(robot: config.Robot) -> Iterator[Row]:
    """The ports the robot file names: there, permitted, free, prompt."""
    by_sight = "tracker" if robot.tracker.camera else ""  # judged by `viewpoint_rows`
    ports = {"imu": robot.imu.port, "tracker": robot.tracker.port}
    wires = [("servos", robot.servos.port), *((n, p) for n, p in ports.items() if n in robot.senses and n != by_sight)]
    for name, path in wires:
        yield _row(f"{name} port", judge(path, f"{name}.port"))
    used = [os.path.realpath(path) for _, path in wires if path]
    if len(set(used)) != len(used):
        found = f"two of {', '.join(f'{name}.port' for name, _ in wires)} are the same device"
        yield Row("ports", "fail", found, f"give each its own in the robot file: {command('find-port')}")


def record_rows(robot: config.Robot, records: Path | None = None) -> Iterator[Row]:
    """The records of this very robot, or why they do not do."""
    from robotrl.calibration import lockout, store
    from robotrl.calibration.making import making

    if not robot.serial:
        fix = f'write serial = "..." (any name of your own for this robot) in launch/robots/{robot.name}.toml'
        yield Row("robot serial", "fail", "the robot file names none; calibration is kept by it", fix)
        return
    records_of: tuple[tuple[str, Callable[..., object], store.How], ...] = (
        ("lockout", lockout.require_none, partial(command, "inspect")),
        ("calibration", store.calibrated, partial(making, store.Calibration.maker, robot, records)),
        ("commissioning record", store.commissioned, partial(making, store.Commissioning.maker, robot, records)),
    )
    for name, load, maker in records_of:
        try:
            load(robot, records)
        except store.CalibrationError as error:
            found, _, fix = str(error).rpartition("; ")
            yield Row(name, "fail", found or str(error), fix if found else maker())
        else:
            yield Row(name, "ok", f"{'none ' if name == 'lockout' else ''}of {robot.name} {robot.serial}")


def board_row(robot: config.Robot, records: Path | None = None) -> Row:
    """Whether the servos on the port are those of the records: by their boards' serial numbers, or what bus servos hold instead.
    Asks, and moves nothing."""
    from robotrl.calibration import store
    from robotrl.clock import WallClock
    from robotrl.drivers import identity
    from robotrl.drivers.chains import baud_of
    from robotrl.drivers.port import SerialPort

    clock = WallClock()
    try:
        port = SerialPort(robot.servos.port, baud_of(robot.servos), clock)
        try:
            identity.recognise(port, store.calibrated(robot, records), clock)
        finally:
            port.close()
    except Complaint as error:
        told, holds, _ = str(error).partition(identity.HOLDS)
        found, _, fix = told.rpartition("; ")
        return Row("servo boards", "fail", found or told, (fix if found else "check the bus") + holds)
    return Row("servo boards", "ok", "those of the records")


def robot_rows(robot: config.Robot, records: Path | None = None) -> list[Row]:
    """The robot's ports and records, and where nothing of these is missing, the servos themselves."""
    rows = [*port_rows(robot), *record_rows(robot, records), *camera_rows(robot), *viewpoint_rows(robot, records)]
    if all(row.state != "fail" for row in rows) and importlib.util.find_spec("serial") is not None:
        try:
            rows.append(board_row(robot, records))
        except ImportError as error:
            rows.append(Row("servo boards", "fail", f"cannot be asked: {error}", f"set up again: rm -rf .venv && {SETUP}"))
    return rows


def launch_rows(run: config.Run) -> Iterator[Row]:
    """What else a launch is refused for: the keys of who may come in from other machines, and names too long for its sockets.
    Nothing where a package lacks for which there is a row."""
    try:
        from robotrl import keyring, rundir
    except ImportError:
        return
    try:
        rundir.require_room_for_sockets()
    except Complaint as error:
        yield _refused("sockets", error)
    if not run.network.listen:
        return
    try:
        keys = keyring.load(Path(run.network.keys).expanduser())
    except Complaint as error:
        yield _refused("network keys", error)
    else:
        yield Row("network keys", "ok", ", ".join(f"{key.name} ({key.role})" for key in keys.authorised.values()))


def _refused(name: str, error: Complaint) -> Row:
    """The line that mends it is the complaint's own last words."""
    found, _, fix = str(error).rpartition("; ")
    return Row(name, "fail", found or str(error), fix if found else "see there")


def package_rows() -> list[Row]:
    """Each package imported in a process of its own: a crash of one is a row, not the end."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda package: try_package(*package), PACKAGES))


def try_package(module: str, distribution: str, loss: str) -> Row:
    """Import one package in a process of its own. `loss` is what is lost without it; empty: everything."""
    state = "warn" if loss else "fail"
    without = f" (lost without it: {loss})" if loss else ""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRY, module],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return Row(
            distribution,
            state,
            f"import takes more than 120 s{without}",
            f"set up again: rm -rf .venv && {SETUP}",
        )
    if done.returncode == 0:
        note = done.stdout.rpartition("imported")[2].strip()
        version, wanted = version_of(distribution), pinned().get(distribution)
        if wanted is not None and version.partition("+")[0] != wanted:
            return Row(distribution, "warn", f"{version}{note}; tested is {wanted}", f"set up: {SETUP}")
        return Row(distribution, "ok", version + note)
    said = done.stderr.strip().splitlines()
    why = said[-1] if said else f"ended by signal {-done.returncode}" if done.returncode < 0 else "no reason given"
    return Row(distribution, state, f"{why}{without}", _import_fix(why))


def _import_fix(why: str) -> str:
    if "libGL" in why or "libglib" in why:
        return "sudo apt-get install libgl1 libglib2.0-0"
    return f"set up: {SETUP}" if "No module named" in why else f"set up again: rm -rf .venv && {SETUP}"


def pinned(path: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Versions that the tests run with, as far as the checkout says."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return dict((name, version) for name, sign, version in (line.partition("==") for line in lines) if sign)


def version_of(distribution: str) -> str:
    """The installed version, or that none is recorded."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


def examine(run: config.Run | None, sim: bool, records: Path | None = None, out: Path = Path("runs")) -> list[Row]:
    """All rows; those of the robot only where a run is known and it is not the twin. `out`: where runs are made, or will be."""
    where = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir())
    rows = [Row("robotrl", "ok", f"{version_of('robotrl')} in {ROOT}"), *machine.rows(where), *package_rows()]
    rows += launch_rows(run) if run is not None else ()
    if run is not None and not sim:
        rows += [_row("service", installed.service()), _row("adapter rules", installed.adapters())]
        rows += robot_rows(run.robot, records)
    return rows


def main(argv: list[str]) -> int:
    """`doctor`: 0 when nothing is missing, else 2."""
    parser = argparse.ArgumentParser("robotrl doctor", description="What is missing, and the line that fixes it.")
    parser.add_argument("run", type=Path, nargs="?", default=ROOT / "launch" / "walk.toml", help="the run to prepare for")
    parser.add_argument("--sim", action="store_true", help="for the twin: leave the robot's ports and records out")
    parser.add_argument("--json", action="store_true", help="print one machine-readable object last")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder of the calibration records")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field of the run")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    args = parser.parse_args(argv)
    run: config.Run | None = None
    try:
        run = config.load(args.run, args.set)
        rows = [Row("run file", "ok", str(args.run))]
    except config.ConfigError as error:
        found, _, fix = str(error).rpartition("; ")
        rows = [Row("run file", "fail", found or str(error), fix if found else "correct the file")]
    rows += examine(run, args.sim, args.calibration, args.out)
    for row in rows:
        print(f"{row.state:<5} {row.name:<21} {row.found}" + (f"\n{'':<6}fix: {row.fix}" if row.fix else ""))
    missing = sum(row.state == "fail" for row in rows)
    warnings = sum(row.state == "warn" for row in rows)
    print(f"{missing} fail, {warnings} warn" + ("" if args.sim else "; --sim leaves the robot's ports and records out"))
    if setup := next((row.fix for row in rows if row.fix.startswith("set up")), ""):
        print(f"first {setup}, then look again: {command('doctor')}")
    if args.json:
        print(json.dumps({"ok": not missing, "rows": [asdict(row) for row in rows]}))
    return 2 if missing else 0
