"""The twin as a whole: lockstep on memory ports, and the process on its ptys."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import tty
from pathlib import Path

import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers.port import PortError
from robotrl.sim.twin import Twin

ROOT = Path(__file__).resolve().parents[2]
QUERY = b"".join(b"can send %x 1c0400130d\n" % (0x8000 | i) for i in range(1, 9))


@pytest.fixture
def twin():
    twin = Twin(config.Run(), 0, LockstepClock())
    yield twin
    twin.close()


def transcript(seed, seconds=0.3):
    """All bytes of a short lockstep session."""
    twin = Twin(config.Run(), seed)
    ports = twin.ports()
    out = []
    for _ in range(round(seconds / 0.02)):
        twin.advance(0.02)
        ports["servos"].write(QUERY + b"can send 1 01000f\n")
        out += [port.read(0) for port in ports.values()]
    twin.close()
    return out


def test_same_seed_same_bytes():
    first = transcript(1)
    assert first == transcript(1)
    assert first != transcript(2)
    assert b"".join(first).count(b"pose") >= 14


def test_lockstep_clock_follows_the_physics(twin):
    for _ in range(50):
        twin.advance(0.0193)
        assert twin.clock.now() == round(twin.world.time * 1e9)
    assert twin.clock.now() == pytest.approx(50 * 0.0193e9, abs=2e6)


def test_control_lines(twin):
    twin.advance(0.1)
    twin.command({"push": [100.0, 0, 0, 0.1]})
    twin.advance(0.2)
    assert twin.world.sensed(0.0).position[0] > 0.005
    twin.command({"place": "stand"})
    assert abs(twin.world.sensed(0.0).position[0]) < 0.02  # the torso leans with the floor
    twin.command({"fault": "trip", "servo": 2, "code": 34})
    assert twin.bus.bank.fault[1] == 34
    twin.command({"fault": "reboot", "servo": 2})
    assert twin.bus.bank.fault[1] == 0
    port = twin.ports()["imu"]
    twin.command({"fault": "close", "wire": "imu", "for_s": 0.1})
    with pytest.raises(PortError):
        port.read(0)
    twin.advance(0.2)
    assert port.read(0)


@pytest.mark.parametrize("line", [{"place": "moon"}, {"push": [1]}, {"fault": "trip", "servo": 99}, {"fault": "melt"}, {}])
def test_wrong_control_lines_change_nothing(twin, line):
    with pytest.raises(ValueError):
        twin.command(line)
    assert not any(wire.faults for wire in twin.wires.values())


@pytest.fixture
def process():
    """The twin process and its ports; whatever the test does, it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "robotrl", "twin", "--robot", "minitaur"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    yield process, json.loads(process.stdout.readline())
    if process.poll() is None:
        process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()


def open_raw(path):
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    return fd


def collect(fd, seconds, enough=None):
    """Bytes for so long, or until `enough` of them hold this."""
    data, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and not (enough and enough(data)):
        if select.select((fd,), (), (), 0.05)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:
                return data + b"<lost>"
            if not piece:
                return data + b"<lost>"
            data += piece
    return data


def test_process_serves_all_wires_and_ends_clean(process):
    twin, ports = process
    assert sorted(ports) == ["imu", "servos", "tracker"]
    time.sleep(0.3)  # nobody listens: what is said now must not wait for the reader
    fds = {name: open_raw(path) for name, path in ports.items()}
    os.write(fds["servos"], QUERY)
    reply = collect(fds["servos"], 5, lambda d: d.count(b"rcv") == 8 and d.endswith(b"\n"))
    assert reply.count(b"OK\r\n") == 8 and reply.count(b"rcv") == 8
    imu = collect(fds["imu"], 5, lambda d: len(d) > 660)
    assert imu[0:2] == b"\x55\x51", "the first byte read begins a frame"
    line = collect(fds["tracker"], 5, lambda d: d.count(b"\n") >= 3)
    assert line.startswith(b"pose ") and int(line.split()[2]) < 100_000, "no old pictures"
    os.close(fds["imu"])  # a reader leaves and another comes
    again = open_raw(ports["imu"])
    assert collect(again, 5, lambda d: len(d) > 66)
    twin.stdin.write(b'{"fault": "close", "wire": "tracker"}\n')
    twin.stdin.flush()
    assert collect(fds["tracker"], 5, lambda d: False).endswith(b"<lost>")
    twin.send_signal(signal.SIGTERM)
    assert twin.wait(5) == 0
    assert collect(fds["servos"], 5, lambda d: False).endswith(b"<lost>")
    for fd in (fds["servos"], fds["tracker"], again):
        os.close(fd)


def test_physics_keeps_to_real_time_and_skips_a_pause(process):
    twin, ports = process
    fd = open_raw(ports["servos"])

    def milliseconds():
        os.write(fd, b"can send 8001 1970\n")
        reply = collect(fd, 5, lambda d: b"rcv" in d and d.endswith(b"\n"))
        data = bytes.fromhex(reply.split()[-1].decode())
        return time.monotonic(), int.from_bytes(data[2:6], "little")

    t0, m0 = milliseconds()
    time.sleep(0.5)
    t1, m1 = milliseconds()
    assert (m1 - m0) / 1000 <= (t1 - t0) + 0.12, "never ahead of the clock"
    assert m1 - m0 > 100
    twin.send_signal(signal.SIGSTOP)
    time.sleep(0.6)
    twin.send_signal(signal.SIGCONT)
    t2, m2 = milliseconds()
    assert (m2 - m1) / 1000 < (t2 - t1) - 0.3, "the pause is skipped, not caught up"
    os.close(fd)
