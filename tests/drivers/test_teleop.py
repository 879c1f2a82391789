"""Devices to lead an arm by: a pad's own bytes in a pipe, a keypad's repeats, a second arm's line, a plug-in's entry."""

from __future__ import annotations

import importlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.complaint import Complaint
from robotrl.drivers import teleop
from robotrl.drivers.joystick import STUCK_NS, Joystick
from robotrl.drivers.keypad import TAP_NS, Keypad
from robotrl.drivers.leader import Leader, Questions
from robotrl.drivers.teleop import HandLost
from robotrl.sim.servotwin import ServoTwin

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
MS = 1_000_000


@pytest.fixture
def pad(tmp_path):
    """A joystick on a named pipe, and the end into which the kernel would write."""
    path = tmp_path / "usb-Pad_0001-joystick"
    os.mkfifo(path)
    stick = Joystick(str(path), 5)
    kernel = os.open(path, os.O_WRONLY)
    yield stick, lambda *events: os.write(kernel, b"".join(struct.pack("=IhBB", 7, v, t, n) for t, n, v in events)), kernel
    stick.close()


def test_a_pad_moves_while_its_deadman_is_held(pad):
    stick, say, _ = pad
    say((0x82, 1, -32767), (0x81, 5, 1), (0x82, 0, 0))  # how it stood when it was opened counts for nothing
    assert stick.read(0) == teleop.Reading()
    say((2, 1, -32767))
    assert stick.read(MS).twist == (0.0,) * 6, "nobody holds the button"
    say((1, 5, 1))
    assert stick.read(2 * MS) == teleop.Reading((1.0, 0, 0, 0, 0, 0), moved=True)
    assert stick.read(3 * MS) == teleop.Reading((1.0, 0, 0, 0, 0, 0)), "it is held on, in silence"
    say((2, 1, 3000), (2, 4, 32767), (2, 7, -32768))
    assert stick.read(4 * MS).twist == (0.0, 0, -1.0, 0, -1.0, 0), "a stick beside its middle rests; down, and the hand up"
    say((1, 5, 0))
    assert stick.read(5 * MS).twist == (0.0,) * 6


@pytest.mark.parametrize("pressed", [0, 1])
def test_a_pad_of_whose_events_some_were_lost_is_let_go_until_it_is_pressed_again(pad, pressed):
    """The kernel keeps 64 events; beyond that it forgets them and states how all stands, as when it was opened."""
    stick, say, _ = pad
    say((1, 5, 1), (2, 1, -32767))
    assert stick.read(0).twist[0] == 1.0
    say((0x81, 4, 0), (0x81, 5, pressed), (0x82, 0, 0), (0x82, 1, -32767 * pressed))
    assert stick.read(MS) == teleop.Reading(), "what it was in between nobody knows"
    say((2, 1, -32767))
    assert stick.read(2 * MS).twist == (0.0,) * 6, "nobody has pressed the button since"
    say((1, 5, 0), (1, 5, 1))
    assert stick.read(3 * MS).twist[0] == 1.0
    say((2, 0, 32767), (0x81, 5, 1), (0x82, 0, 32767), (1, 5, 1), (2, 1, 32767))
    assert stick.read(4 * MS).twist == (-1.0, 0, 0, 0, 0, 0), "of one read what came after it counts, and no more"


def test_a_pad_without_a_deadman_rests_where_events_were_lost(tmp_path):
    path = tmp_path / "pad"
    os.mkfifo(path)
    stick = Joystick(str(path), -1)
    kernel = os.open(path, os.O_WRONLY)
    os.write(kernel, struct.pack("=IhBB", 7, -32767, 2, 1))
    assert stick.read(0).twist[0] == 1.0
    os.write(kernel, struct.pack("=IhBB", 8, 0, 0x82, 1))
    assert stick.read(MS).twist == (0.0,) * 6
    os.write(kernel, struct.pack("=IhBB", 9, 32767, 2, 1))
    assert stick.read(2 * MS).twist[0] == -1.0
    os.close(kernel)
    stick.close()


def test_a_pad_that_is_torn_out_or_stuck_is_gone(pad):
    stick, say, kernel = pad
    say((1, 5, 1), (2, 0, 32767))
    assert stick.read(0).twist[1] == -1.0
    assert stick.read(STUCK_NS).twist[1] == -1.0
    with pytest.raises(HandLost, match="says nothing"):
        stick.read(STUCK_NS + 1)
    assert stick.read(STUCK_NS + 2).twist == (0.0,) * 6, "what it said before counts no more"
    say((1, 5, 1))
    os.write(kernel, struct.pack("=IhBB", 0, 20000, 2, 0)[:5])  # an event in two pieces
    stick.read(STUCK_NS + 3)
    os.write(kernel, struct.pack("=IhBB", 0, 20000, 2, 0)[5:])
    assert stick.read(STUCK_NS + 4).twist[1] < -0.5
    os.close(kernel)
    with pytest.raises(HandLost, match="hung up"):
        stick.read(STUCK_NS + 5)
    with pytest.raises(Complaint, match="by-id"):
        Joystick("/dev/input/nobody", 5)


def test_a_key_held_down_moves_and_a_silent_console_is_gone():
    clock = LockstepClock()
    keys, now = Keypad(clock, 0.2), clock.now()
    assert keys.read(now).twist == (0.0,) * 6
    keys.hear("8", now)
    assert keys.read(now + TAP_NS) == teleop.Reading((1.0, 0, 0, 0, 0, 0), moved=True)
    assert keys.read(now + TAP_NS + 1).twist == (0.0,) * 6, "released: the terminal says no more of it"
    for k in range(20):  # thirty a second
        keys.hear("6", now + k * 33 * MS)
        assert keys.read(now + k * 33 * MS + 32 * MS).twist[1] == -1.0
    keys.hear("", now + 700 * MS)
    assert keys.read(now + 999 * MS).twist == (0.0,) * 6
    with pytest.raises(HandLost, match="console is silent"):
        keys.read(now + 1001 * MS)


class Overheard:
    """A port that keeps what was written."""

    def __init__(self, port):
        self.port, self.name, self.written = port, port.name, []

    def write(self, data):
        self.written.append(data)
        self.port.write(data)

    def read(self, deadline, limit=4096):
        return self.port.read(deadline, limit)

    def close(self):
        self.port.close()


@pytest.fixture
def second():
    """A second SO-101 whose zeros are its own, its line overheard."""
    run = config.load(LAUNCH / "reach.toml", ["takeover.device=leader", "takeover.path=/dev/second"])
    clock = LockstepClock()
    twin = ServoTwin("so101", clock=clock)
    line = Overheard(twin.ports()["servos"])
    offset = tuple(o + 0.25 for o in run.robot.servos.offset)
    settings = replace(run.takeover, offset=offset)
    return Leader(line, run.robot, settings, clock), twin, line


def test_a_leader_is_read_by_its_own_zeros_and_never_written_to(second):
    leader, twin, line = second
    angles = (0.3, -0.5, 0.6, 0.2, 0.1, 0.4)
    twin.command({"place": list(angles)})
    for k in range(8):
        twin.advance(0.001)
        reading = leader.read(k)
    assert reading.angles == pytest.approx([a - 0.25 for a in angles], abs=0.02)
    assert {data[4] for data in line.written} == {0x82} and len(line.written) >= 8
    assert not any(s.registers.get("torque") for s in twin.bus.servos)
    before = len(line.written)
    for order in ("write", "damp", "stop", "stop_all"):
        with pytest.raises(PermissionError, match="never written to"):
            getattr(leader._chain, order)(*([angles] if order == "write" else []))
    with pytest.raises(PermissionError):
        Questions(line).write(bytes.fromhex("ffff010401000a2dffff01040328010e"))  # an order hidden behind a question
    assert len(line.written) == before and not any(s.registers.get("torque") for s in twin.bus.servos)


def test_a_leader_that_is_silent_or_stiff_is_gone(second):
    leader, twin, _ = second
    for k in range(5):
        twin.advance(0.02)
        leader.read(k)
    twin.command({"fault": "mute", "servo": 3})
    with pytest.raises(HandLost, match="elbow does not answer"):
        for _ in range(6):
            twin.advance(0.02)
            leader.read(0)
    twin.command({"fault": "clear"})
    for servo in twin.bus.servos[:1]:
        servo.registers.put("torque", 1)
    with pytest.raises(HandLost, match="pan has torque on"):
        for _ in range(8):
            twin.advance(0.02)
            try:
                leader.read(0)
            except HandLost as lost:
                if "torque" in str(lost):
                    raise


def test_a_plug_in_is_found_by_its_entry_point(tmp_path, monkeypatch):
    package = tmp_path / "spacemouse_for_robotrl"
    info = tmp_path / "spacemouse_for_robotrl-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text(
        "from robotrl.drivers.teleop import Reading\n"
        "class Mouse:\n"
        "    def __init__(self, path, clock): self.path = path\n"
        "    def read(self, now): return Reading((0.0, 0.5, 0.0, 0.0, 0.0, 0.0))\n"
        "    def hear(self, key, now): pass\n"
        "    def close(self): pass\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spacemouse-for-robotrl\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[robotrl.teleoperators]\nspacemouse = spacemouse_for_robotrl:Mouse\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    run = config.load(LAUNCH / "reach.toml", ["takeover.device=spacemouse", "takeover.path=/dev/hidraw3"])
    device = teleop.opened(run, LockstepClock())
    assert device.path == "/dev/hidraw3" and device.read(0).twist[1] == 0.5
    unknown = replace(run, takeover=replace(run.takeover, device="wand"))
    with pytest.raises(Complaint, match="no 'wand' here; there are keyboard, joystick, leader, spacemouse"):
        teleop.opened(unknown, LockstepClock())
