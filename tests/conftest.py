"""What several tests share: a reader of the bytes that go to the servos, made from the protocol's page and not the driver."""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from robotrl.sim.faults import Fault

# One line a servo (moteus reference): mode 10 | position f32 | kp, kd scale 1 | torque limit | watchdog, velocity limit
POSITION = re.compile(
    rb"can send 00([0-9a-f]{2}) 01000a0d20([0-9a-f]{8})02237f7f0d25([0-9a-f]{8})0e27([0-9a-f]{8})([0-9a-f]{8})(?:50)*"
)
# Mode 10, position nan, velocity 0, kp scale 0: the motor brakes and goes nowhere
DAMPING = re.compile(rb"can send 00([0-9a-f]{2}) 01000a0e200000c07f000000000223007f0d25[0-9a-f]{8}0e27[0-9a-f]{16}(?:50)*")
STOP = re.compile(rb"can send 00([0-9a-f]{2}) 010000")
QUERY = re.compile(rb"can send [c-f][0-9a-f]([0-9a-f]{2}) 11001f01110a130d")


@dataclass
class Sent:
    """What some bytes tell the servos. `position` holds each commanded angle in servo radians, by CAN id."""

    position: dict[int, float] = field(default_factory=dict)
    torque: dict[int, float] = field(default_factory=dict)  # Nm, the limit that came with the position
    watchdog_s: dict[int, float] = field(default_factory=dict)
    damped: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)


def number(digits: bytes) -> float:
    return struct.unpack("<f", bytes.fromhex(digits.decode()))[0]


def read_wire(data: bytes) -> Sent:
    """Account for every byte; a line that is none of the four above fails the test."""
    sent = Sent()
    assert data == b"" or data.endswith(b"\n"), data[-80:]
    for line in data.splitlines():
        if found := POSITION.fullmatch(line):
            servo = int(found[1], 16)
            assert servo not in sent.position, f"servo {servo} is commanded twice"
            sent.position[servo] = number(found[2]) * 2 * math.pi
            sent.torque[servo], sent.watchdog_s[servo] = number(found[3]), number(found[4])
        elif found := DAMPING.fullmatch(line):
            sent.damped.add(int(found[1], 16))
        elif found := STOP.fullmatch(line):
            sent.stopped.add(int(found[1], 16))
        elif found := QUERY.fullmatch(line):
            sent.asked.add(int(found[1], 16))
        else:
            raise AssertionError(f"nobody knows this line: {line!r}")
    return sent


class WireTap(Fault):
    """Put on the twin's servo wire (`rig.twin.wires["servos"].add`) it hears all that the program writes."""

    def __init__(self) -> None:
        self._heard = b""

    def inward(self, data: bytes) -> bytes:
        self._heard += data
        return data

    def read(self) -> Sent:
        """What was written since the last call."""
        heard, self._heard = self._heard, b""
        return read_wire(heard)


@pytest.fixture
def wire_tap():
    return WireTap()


def family(pid: int) -> set[int]:
    """A process and all that it has started, as far as they live."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def heard_from_outside(pid: int) -> set[str]:
    """Addresses, as the kernel writes them (hex), at which a process or one it started takes connections or datagrams."""
    inodes = set()
    for member in family(pid):
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{member}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[9] in inodes and (not table.startswith("tcp") or words[3] == "0A"):
                    found.add(f"{table} {words[1]}")
    return found


@pytest.fixture
def listeners():
    """`listeners(pid) -> set[str]`: where a process and its children listen; empty where they do not."""
    return heard_from_outside


@pytest.fixture
def wire_reader():
    """`read(bytes) -> Sent`."""
    return read_wire
