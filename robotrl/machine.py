"""What the computer is and may do, as the doctor sees it: a row a thing, with the line that mends it.

Standard library only, and each thing that could fail by itself, as a library that is loaded, is tried in a process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from robotrl.complaint import SETUP

GIB = 1 << 30
NEED, COMFORT = 1.5 * GIB, 3.0 * GIB  # of memory, for torch, the twin, and a replay's pages; chosen
SYNC_MS, RATE_MB = 20.0, 10.0  # of the disk: the log syncs 50 times a second, a session with pictures writes a few MB in one
SYNCS, BLOCK, BULK = 25, 4096, 16 << 20
TIME_ERROR = 5  # adjtimex: nobody sets this clock
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")
LIBRARIES = (  # name, file, the package that has it too, who wants it, what brings it
    ("libusb", "libusb-1.0.so.0", "libusb_package", "RealSense cameras", "sudo apt-get install libusb-1.0-0"),
    ("libGL", "libGL.so.1", "", "opencv", "sudo apt-get install libgl1 libglib2.0-0"),
)
_LOAD = """
import ctypes, importlib, pathlib, sys
file, package = sys.argv[1:]
try:
    ctypes.CDLL(file)
except OSError:
    if not package:
        raise
    ctypes.CDLL(str(next(pathlib.Path(importlib.import_module(package).__file__).parent.glob(file.partition(".so")[0] + ".so*"))))
    print("of", package)
"""
_REAL_TIME = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))"
# MCL_CURRENT of an interpreter is some 10 MB: more than the usual limit of 8 MB.
_LOCKED = "import ctypes, sys; sys.exit(ctypes.CDLL(None).mlockall(1) != 0)"


@dataclass(frozen=True)
class Row:
    """One thing looked at: `state` is ok, warn or fail; `fix` is the line that mends it."""

    name: str
    state: str
    found: str
    fix: str = ""


def rows(where: Path) -> Iterator[Row]:
    """All of them. `where`: the folder that runs are written under."""
    yield from interpreter()
    yield right("real-time priority", _REAL_TIME, resource.RLIMIT_RTPRIO, "rtprio 50")
    yield right("locked memory", _LOCKED, resource.RLIMIT_MEMLOCK, "memlock unlimited")
    yield memory()
    yield clock()
    yield time_of_day()
    yield room(where)
    yield disk(where)
    for row in LIBRARIES:
        yield library(*row)
    yield terminal()
    yield controls()
    yield cameras()


def interpreter() -> Iterator[Row]:
    """Python, the cores, the compiler."""
    late = sys.version_info >= (3, 12)
    found = f"{platform.python_version()} ({sys.executable}), {platform.machine()}"
    yield Row("python", "warn" if late else "ok", found, "the twin needs 3.11: ROBOTRL_PYTHON=... " + SETUP if late else "")
    cores = len(os.sched_getaffinity(0))
    fix = "" if cores > 1 else "give the program two cores or more; the learner takes one"
    yield Row("cores", "ok" if cores > 1 else "warn", str(cores), fix)
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    header = Path(sysconfig.get_path("include")) / "Python.h"
    found = f"{compiler or 'no C++ compiler'}{'' if header.is_file() else ', no Python.h'}"
    fix = "" if compiler else "sudo apt-get install g++ (without it the learner's native engine gives way to torch)"
    yield Row("compiler", "ok" if compiler else "warn", found, fix)


def right(name: str, attempt: str, limit: int, word: str) -> Row:
    """Whether this user may have it, found out by taking it in a process that ends at once."""
    done = subprocess.run([sys.executable, "-I", "-c", attempt], stdin=subprocess.DEVNULL, capture_output=True)
    hard = resource.getrlimit(limit)[1]
    found = f"{'granted' if done.returncode == 0 else 'refused'}, limit {'none' if hard < 0 else hard}"
    if done.returncode == 0:
        return Row(name, "ok", found)
    fix = f"echo '{_user()} - {word}' | sudo tee -a /etc/security/limits.d/robotrl.conf, then log in again"
    return Row(name, "warn", found, fix)


def memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Row:
    """What is free of the machine's, and of what this group of processes may have."""
    try:
        lines = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return Row("free memory", "warn", f"{proc / 'meminfo'} does not say", "see: free -m")
    bound = ""
    with contextlib.suppress(OSError, ValueError):  # no group, or no bound: "max"
        left = int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()) + _given_back(cgroup)
        free, bound = min(free, left), ", as its control group bounds it" if left < free else ""
    state = "fail" if free < NEED else "warn" if free < COMFORT else "ok"
    fix = "" if state == "ok" else "end other programs; who holds most: ps aux --sort=-rss | head"
    return Row("free memory", state, f"{free / GIB:.1f} GiB{bound}", fix)


def _given_back(cgroup: Path) -> int:
    """Bytes that are in use for pages of files, and that the kernel takes back before memory runs out."""
    lines = dict(line.split() for line in _text(cgroup / "memory.stat").splitlines())
    return int(lines.get("inactive_file", 0))


def clock(system: Path = Path("/sys")) -> Row:
    """The monotonic clock: how fine, and from which counter."""
    tick = time.get_clock_info("monotonic").resolution
    try:
        source = (system / "devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()
    except OSError:
        source = "source unknown"
    found = f"monotonic, {tick * 1e9:.0f} ns, {source}"
    if tick > 1e-6:
        return Row("clock", "warn", found, "boot a kernel with high-resolution timers")
    if source in SLOW_CLOCKS:
        return Row("clock", "warn", found, "reading it takes microseconds: boot with tsc=reliable, where the processor's is")
    return Row("clock", "ok", found)


def time_of_day() -> Row:
    """Whether somebody sets the time of day: only sessions and folders are named by it."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        state = -1
    if 0 <= state < TIME_ERROR:
        return Row("time of day", "ok", "set by the network")
    return Row("time of day", "warn", "nobody sets it; sessions and folders carry it", "sudo timedatectl set-ntp true")


def room(where: Path) -> Row:
    """What is free on the disk."""
    free = shutil.disk_usage(where).free
    state = "fail" if free < GIB else "warn" if free < 5 * GIB else "ok"
    fix = "" if state == "ok" else f"make room in {where}; a run takes up to 2 GB"
    return Row("disk", state, f"{free / GIB:.1f} GiB free", fix)


def disk(where: Path) -> Row:
    """How fast it keeps what must not be lost: 4 KiB and a sync, as the log does it; and how fast it writes."""
    fix = "write runs to another disk (--out DIR), no memory card or network"
    try:
        with tempfile.TemporaryFile(dir=where) as file:
            took = []
            for _ in range(SYNCS):
                began = time.perf_counter()
                file.write(b"\0" * BLOCK)
                file.flush()
                os.fdatasync(file.fileno())
                took.append((time.perf_counter() - began) * 1e3)
            began = time.perf_counter()
            file.write(b"\0" * BULK)
            file.flush()
            os.fdatasync(file.fileno())
            rate = BULK / 1e6 / (time.perf_counter() - began)
    except OSError as error:
        return Row("disk speed", "fail", f"{where}: {error.strerror}", f"make {where} writable, or {fix}")
    middle = statistics.median(took)
    found = f"a sync takes {middle:.1f} ms, at most {max(took):.0f}; {rate:.0f} MB/s"
    slow = middle > SYNC_MS or rate < RATE_MB
    return Row("disk speed", "warn" if slow else "ok", found, fix if slow else "")


def library(name: str, file: str, package: str, wanted: str, fix: str) -> Row:
    """Whether a library of the system, or else of a `package`, loads."""
    words = [sys.executable, "-I", "-c", _LOAD, file, package]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return Row(name, "ok", f"{file} {done.stdout}".strip())
    said = done.stderr.strip().splitlines()
    return Row(name, "warn", f"{said[-1] if said else f'{file} does not load'} ({wanted})", fix)


def terminal() -> Row:
    """Where a person's keys come from."""
    if not sys.stdin or not os.isatty(0):
        return Row("keys", "warn", "standard input is no terminal: a console here has no keys", "use a terminal, or ssh -t")
    if os.environ.get("TERM", "dumb") == "dumb":
        return Row("keys", "warn", "TERM is not set: the screen cannot be drawn", "export TERM=xterm-256color")
    return Row("keys", "ok", f"{os.ttyname(0)}, {os.environ['TERM']}")


def controls(dev: Path = Path("/dev")) -> Row:
    """Gamepads and other controls."""
    found = sorted((dev / "input").glob("js*"))
    shut = [path for path in found if not os.access(path, os.R_OK)]
    if shut:
        return Row("gamepad", "warn", f"{shut[0]}: no permission", group_of(shut[0]))
    return Row("gamepad", "ok", ", ".join(map(str, found)) or "none, and none is needed")


class Camera(NamedTuple):
    """A video device of the system's: `serial` of its USB end, "" where it has none."""

    path: str
    name: str
    serial: str


def video(dev: Path = Path("/dev"), system: Path = Path("/sys")) -> list[Camera]:
    """Those that give pictures; the others say something about them."""
    nodes = [node for node in (system / "class" / "video4linux").glob("video*") if _text(node / "index") in ("", "0")]
    return [
        Camera(str(dev / node.name), _text(node / "name"), _text((node / "device").resolve().parent / "serial"))
        for node in sorted(nodes, key=lambda n: (len(n.name), n.name))
    ]


def cameras(dev: Path = Path("/dev"), system: Path = Path("/sys")) -> Row:
    """The video devices, each by name and serial number."""
    found = video(dev, system)
    if shut := [camera.path for camera in found if not os.access(camera.path, os.R_OK | os.W_OK)]:
        return Row("cameras", "warn", f"{shut[0]}: no permission", group_of(Path(shut[0])))
    told = [f"{Path(c.path).name} {c.name} ({f'serial {c.serial}' if c.serial else 'no serial number'})" for c in found]
    return Row("cameras", "ok", "; ".join(told) or "none on USB")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def group_of(path: Path) -> str:
    """The line that lets this user have a device."""
    try:
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        return f"ls -l {path}: is it there, and whose is it?"
    return f"sudo usermod -aG {group} {_user()}, then log in again"


def _user() -> str:
    return os.environ.get("USER", "$USER")
