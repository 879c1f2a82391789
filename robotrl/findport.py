"""Which serial port is which: unplug an adapter and see which name goes.

    robotrl find-port         the ports there are, then the one that is unplugged
    robotrl find-port --list  only the ports there are
    robotrl find-port --ping  and which bus servos answer there, at which speed

Also the judgement of one port that `doctor` and the hardware launch share. Standard library only, so that it
works where nothing else does; but for --ping.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import grp
import json
import os
import stat
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from robotrl.complaint import command
from robotrl.portholders import advice, holders, run_of

PATTERNS = (
    "ttyUSB*",
    "ttyACM*",
    "ttyTHS*",
    "ttyAMA*",
)  # FTDI and alike, CDC, the UARTs of a Jetson and of a Raspberry Pi
SLOW_MS = 1  # an FTDI chip holds replies back for this long; its own default is 16 ms, most of a control period
TIOCEXCL, TIOCNXCL = 0x540C, 0x540D
COMMAND = command("find-port")
PINGED = 46  # servo numbers from 0 on: those of all robots here


@dataclass(frozen=True)
class Port:
    """A serial device and the name that stays the same when it is plugged in again."""

    name: str
    device: str


@dataclass(frozen=True)
class Verdict:
    """How one thing stands: `ok`, `warning` or `missing`, what was found, and the line that fixes it."""

    state: str
    found: str
    fix: str = ""


def ports(dev: Path = Path("/dev")) -> list[Port]:
    """The serial ports there are, each by its stable name where it has one."""
    stable: dict[str, str] = {}
    for name in sorted((dev / "serial" / "by-id").glob("*")):
        stable.setdefault(os.path.realpath(name), str(name))
    devices = sorted(str(p) for pattern in PATTERNS for p in dev.glob(pattern))
    return [Port(stable.get(os.path.realpath(d), d), d) for d in devices]


def latency_timer(path: str, sysfs: Path = Path("/sys")) -> int | None:
    """The FTDI latency timer in ms, None where the adapter has none."""
    name = os.path.basename(os.path.realpath(path))
    try:
        return int((sysfs / "bus" / "usb-serial" / "devices" / name / "latency_timer").read_text())
    except (OSError, ValueError):
        return None


def judge(path: str, field: str, proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> Verdict:
    """Can this port be used now? `field` names where it is configured, e.g. `robot.servos.port`."""
    if not path:
        return Verdict("missing", f"{field} is empty", f"write its port in the robot file; find it: {COMMAND}")
    try:
        mode = os.stat(path)
    except FileNotFoundError:
        return Verdict("missing", f"no {path}", f"plug it in, or find its name and write it as {field}: {COMMAND}")
    except OSError as error:
        return Verdict("missing", f"{path}: {error.strerror}", f"write the port's own name as {field}: {COMMAND}")
    if not stat.S_ISCHR(mode.st_mode):
        return Verdict("missing", f"{path} is no serial port", f"write the port's name as {field}: {COMMAND}")
    if not os.access(path, os.R_OK | os.W_OK):
        return Verdict("missing", f"{path}: no permission", _permission(path, mode))
    if others := holders(path, proc):
        if run := run_of(others):
            return Verdict("missing", f"{path}: a run of robotrl has it: {run}", advice(others))
        return Verdict("missing", f"{path}: held by {', '.join(map(str, others))}", "stop that program")
    if why := _claim(path):
        return Verdict("missing", f"{path}: {why}", f"see who holds it: sudo fuser -v {path}")
    delay = latency_timer(path, sysfs)
    if delay is not None and delay > SLOW_MS:
        device = os.path.basename(os.path.realpath(path))
        fix = f"echo {SLOW_MS} | sudo tee /sys/bus/usb-serial/devices/{device}/latency_timer"
        return Verdict("warning", f"{path}: latency timer {delay} ms", fix + " (docs/hardware.md has the udev rule)")
    return Verdict("ok", path)


def _permission(path: str, mode: os.stat_result) -> str:
    try:
        group = grp.getgrgid(mode.st_gid).gr_name
    except KeyError:
        group = str(mode.st_gid)
    if mode.st_mode & stat.S_IRGRP and mode.st_mode & stat.S_IWGRP and group != "root":
        return f"sudo usermod -aG {group} $USER, then log in again"
    return f"sudo chmod g+rw {path} and a udev rule (docs/hardware.md)"


def _claim(path: str) -> str:
    """Take the port for a moment, the way the driver does; why it cannot be had, empty when it can."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return "held by another process" if error.errno == errno.EBUSY else str(error.strerror)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(handle, TIOCEXCL)
        fcntl.ioctl(handle, TIOCNXCL)
    except BlockingIOError:
        return "locked by another process"
    except OSError as error:
        return f"is no terminal device: {error.strerror}"
    finally:
        os.close(handle)
    return ""


def gone(before: list[Port], after: list[Port]) -> list[Port]:
    """The ports of `before` that are no longer in `after`."""
    left = {p.device for p in after}
    return [p for p in before if p.device not in left]


def wait_for_unplug(before: list[Port], timeout_s: float, dev: Path) -> list[Port]:
    """The ports that went away within `timeout_s`; looked at five times a second."""
    deadline = time.monotonic() + timeout_s
    while not (lost := gone(before, ports(dev))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return lost


def answers(port: Port) -> bool:
    """Say which bus servos answer there, at every speed of both families; whether any does. A port that is held is said so."""
    from robotrl.clock import WallClock
    from robotrl.drivers import newservo
    from robotrl.drivers.port import PortError, SerialPort

    clock, some = WallClock(), False
    try:
        for family in newservo.BAUDS:
            for one in newservo.look(lambda baud: SerialPort(port.device, baud, clock), clock, family, range(PINGED)):
                servo, some = one.servo, True
                print(f"{port.name}: {family} id {servo.id} at {one.baud} baud: model {servo.model}, firmware {servo.firmware}")
    except PortError as error:
        print(error)
    return some


def main(argv: list[str]) -> int:
    """`find-port`; 0 when a port was found, 2 when not."""
    parser = argparse.ArgumentParser("robotrl find-port", description="Which serial port is which.")
    parser.add_argument("--list", action="store_true", help="only list the ports")
    parser.add_argument("--ping", action="store_true", help="ask on every port, at every speed, who answers as a bus servo")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="how long to wait for the unplugging")
    parser.add_argument("--json", action="store_true", help="print one machine-readable object last")
    parser.add_argument("--dev", type=Path, default=Path("/dev"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    before = ports(args.dev)
    for port in before:
        print(port.name if port.name == port.device else f"{port.name} -> {port.device}")
    found = before
    if args.ping:
        found = [port for port in before if answers(port)]
    elif not before:
        print("find-port: no serial port; plug the adapter in and run again", file=sys.stderr)
    elif not args.list:
        print(f"Unplug the adapter whose port you look for (waiting {args.timeout:g} s).", flush=True)
        found = wait_for_unplug(before, args.timeout, args.dev)
        for port in found:
            print(f'gone: {port.device}; write in the robot file: port = "{port.name}"')
        if not found:
            print("find-port: nothing was unplugged; run again", file=sys.stderr)
    if args.json:
        unplugged = [] if args.list or args.ping else found
        print(json.dumps({"ports": [asdict(p) for p in before], "unplugged": [asdict(p) for p in unplugged]}))
    return 0 if found else 2
