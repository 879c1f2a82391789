"""The twins of robots on bus servos: lockstep, control lines, the command."""

import math
import struct

import pytest
import serial

from robotrl.sim.fleets import FLEETS
from robotrl.sim.server import PtyWire
from robotrl.sim.servobus import Chain
from robotrl.sim.servotwin import ServoTwin

IDS = {"so101": [1, 2, 3, 4, 5, 6], "omx": [11, 12, 13, 14, 15], "dkitty": [10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42]}


def ping(servo):
    return bytes((0xFF, 0xFF, servo, 2, 1, 255 - servo - 3))


@pytest.fixture
def arm():
    return ServoTwin("so101")


def ask(twin, data):
    port = twin.ports()["servos"]
    port.write(data)
    return port.read(0)


@pytest.mark.parametrize("robot", FLEETS)
def test_every_robot_has_its_servos_at_their_numbers(robot):
    twin = ServoTwin(robot)
    assert [servo.id for servo in twin.bus.servos] == IDS[robot]
    twin.advance(0.1)
    assert twin.clock.now() == pytest.approx(1e8, abs=1)
    assert twin.note.startswith(f"{robot}: {len(IDS[robot])} servos; ")


def test_dkitty_counts_as_its_calibration_says():
    twin = ServoTwin("dkitty")
    at_rest = {s.id: round(s.ticks) for s in twin.bus.servos}
    assert at_rest == {**dict.fromkeys(IDS["dkitty"], 2048), 10: 3072, 20: 1024, 30: 3072, 40: 1024}  # hardware facts 2.1
    twin.joints.put([0.25] * 12)
    twin.chain.look()
    turned = {s.id: round(s.ticks) - at_rest[s.id] for s in twin.bus.servos}
    ahead = {10: 1, 11: -1, 12: -1, 20: 1, 21: 1, 22: 1, 30: -1, 31: 1, 32: 1, 40: -1, 41: -1, 42: -1}
    assert turned == {servo: 163 * way for servo, way in ahead.items()}


def test_same_seed_same_bytes():
    def transcript(seed):
        twin = ServoTwin("so101", seed)
        twin.command({"fault": "corrupt", "rate": 0.01})
        out = b""
        for servo in (1, 2, 3, 4, 5, 6) * 5:
            out += ask(twin, ping(servo))
            twin.advance(0.01)
        return out

    assert transcript(1) == transcript(1) != transcript(2)


def test_an_arm_is_laid_and_its_table_hears_of_each_state(arm):
    arm.command({"place": [0.1, -0.2, 0.3, -0.4, 0.5, 0.6]})
    assert arm.joints.angle.tolist() == pytest.approx([0.1, -0.2, 0.3, -0.4, 0.5, 0.6])
    arm.command({"place": "stand"})
    arm.command({"state": "RESET"})  # nothing stands on its table
    heard = []
    arm.table = type("Table", (), {"entered": lambda self, *words: heard.append(words)})()
    arm.command({"state": "HOLD", "places": [0.1, 0.2]})
    with pytest.raises(ValueError, match="places"):
        arm.command({"state": "HOLD", "places": ["here"]})
    assert heard == [("HOLD", [0.1, 0.2])]


def test_control_lines_do_what_they_say(arm):
    assert ask(arm, ping(3)) == b"\xff\xff\x03\x02\x00\xfa"
    arm.command({"fault": "mute", "servo": 3, "for_s": 0.5})
    assert ask(arm, ping(3)) == b""
    arm.advance(0.6)
    assert ask(arm, ping(3)) != b""
    arm.command({"fault": "trip", "servo": 3, "bits": 32})
    assert ask(arm, ping(3)) == b"\xff\xff\x03\x02\x20\xda"
    arm.command({"fault": "rename", "servo": 3, "to": 4})
    assert ask(arm, ping(3)) == b"" and ask(arm, ping(4)) != b"\xff\xff\x04\x02\x00\xf9"  # two talk at once
    arm.command({"push": [1, 2.0]})
    arm.advance(0.1)
    assert arm.joints.angle[0] > 0.1
    arm.command({"supply_v": 0})
    arm.advance(0.1)
    assert ask(arm, ping(1)) == b""
    arm.command({"supply_v": 12})
    arm.advance(1.0)
    assert ask(arm, ping(1)) != b""
    arm.command({"fault": "silence", "for_s": 0.1})
    assert ask(arm, ping(1)) == b""
    arm.command({"fault": "clear"})
    assert ask(arm, ping(1)) != b""
    arm.command({"fault": "heat", "servo": 1, "celsius": 75})
    arm.advance(0.1)
    assert ask(arm, ping(1))[4] == 4
    arm.command({"fault": "drop", "chance": 0.5})
    whole = bytes((0xFF, 0xFF, 0xFE, 8, 0x82, 56, 2, 1, 2, 5, 6))
    sizes = {len(ask(arm, whole + bytes((255 - sum(whole[2:]) % 256,)))) for _ in range(30)}
    assert sizes <= {0, 8, 16, 24, 32} and len(sizes) > 2, "whole packets are lost, each for itself"


@pytest.mark.parametrize(
    "line, words",
    [
        ({"fault": "mute", "servo": 77}, "servo 77: use one of 1, 2, 3"),
        ({"push": 3}, "write [servo, newton metres]"),
        ({"supply_v": "much"}, "supply_v must be a number"),
        ({"fault": "freeze"}, "this twin has servos"),
        ({"fault": "rename", "servo": 1, "to": 253}, "0 to 252"),
        ({"fault": "earthquake"}, "earthquake"),
    ],
)
def test_wrong_control_lines_are_named(arm, line, words):
    with pytest.raises(ValueError) as said:
        arm.command(line)
    assert words in str(said.value)


def test_joints_without_a_body_hold_against_gravity_and_fall_without_torque():
    fleet = FLEETS["omx"]
    joints, servos = fleet.apart(), fleet.line(None).servos
    chain = Chain(servos, joints)
    for servo in servos:
        assert servo.write(64, b"\1") == 0
        assert servo.write(116, struct.pack("<i", 2048 + (400 if servo.id == 12 else 0))) == 0
    chain.advance(2.0)
    assert joints.angle[1] / (2 * math.pi) * 4096 == pytest.approx(400, abs=25)
    for servo in servos:
        servo.write(64, b"\0")
    chain.advance(2.0)
    assert joints.angle[1] == pytest.approx(1.501, abs=0.01), "it lies on its stop"


@pytest.mark.parametrize("baud, answered", [(1_000_000, True), (57_600, False), (990_000, True), (1_500_000, False)])
def test_a_line_on_a_pty_knows_how_fast_its_host_talks(arm, baud, answered):
    wire = PtyWire(arm.wires["servos"])
    with serial.Serial(wire.path, baud, timeout=5 if answered else 0.05) as host:
        host.write(ping(2))
        wire.look()
        wire.read()
        wire.write()
        assert arm.bus.host_baud == baud
        assert host.read(6) == (b"\xff\xff\x02\x02\x00\xfb" if answered else b"")
    wire.unplug()
