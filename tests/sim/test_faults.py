"""Every fault does to the wire what it says, to nothing else, and ends when it should."""

import numpy as np
import pytest

from robotrl.drivers import tracker
from robotrl.drivers.port import MemoryPort, PortError
from robotrl.sim import faults, liars
from robotrl.sim.faultline import from_line
from robotrl.sim.liars import Lies


class Echo:
    """A far end that keeps what it hears and says what it is given."""

    def __init__(self):
        self.heard, self.says = b"", b""

    def receive(self, data):
        self.heard += data

    def transmit(self):
        data, self.says = self.says, b""
        return data


class Stage:
    def __init__(self):
        self.time = 0.0
        self.far = Echo()
        self.wire = faults.FaultyWire(self.far, lambda: self.time)
        self.rng = np.random.default_rng(0)

    def down(self, data):
        self.wire.receive(data)
        heard, self.far.heard = self.far.heard, b""
        return heard

    def up(self, data):
        self.far.says = data
        return self.wire.transmit()


@pytest.fixture
def stage():
    return Stage()


LINES = b"".join(b"rcv %x00 2100%02x\r\n" % (i, i) for i in range(1, 9))
COMMANDS = b"".join(b"can send %x 010000\n" % (0x8000 | i) for i in range(1, 9))
FRAMES = bytes(range(0, 11)) + bytes(range(11, 22))


def test_without_faults_everything_passes(stage):
    assert stage.down(COMMANDS) == COMMANDS and stage.up(LINES) == LINES


def test_drop_loses_whole_lines(stage):
    stage.wire.add(faults.Drop(stage.rng, 0.5))
    got = stage.up(LINES * 50)
    assert set(got.splitlines()) <= set(LINES.splitlines())
    assert 0.35 < len(got) / len(LINES * 50) < 0.65
    imu = (b"\x55" + bytes(10)) * 100
    got = stage.up(imu)
    assert len(got) % 11 == 0 and 0 < len(got) < len(imu)


def test_corrupt_flips_bits_at_its_rate(stage):
    stage.wire.add(faults.Corrupt(stage.rng, 0.01, inward=False))
    data = bytes(20_000)
    got = stage.up(data)
    assert len(got) == len(data)
    assert np.unpackbits(np.frombuffer(got, np.uint8)).mean() == pytest.approx(0.01, rel=0.2)
    assert stage.down(data) == data


def test_delay_keeps_order_and_loses_nothing(stage):
    stage.wire.add(faults.Delay(lambda: stage.time, 0.05))
    assert stage.up(b"one") == b""
    stage.time = 0.03
    assert stage.up(b"two") == b""
    stage.time = 0.05
    assert stage.up(b"") == b"one"
    stage.time = 0.2
    assert stage.up(b"three") == b"two"


def test_mute_takes_one_servo_off_the_bus(stage):
    stage.wire.add(faults.Mute(3))
    heard = stage.down(COMMANDS)
    assert b"8003" not in heard and heard.count(b"\n") == 7
    got = stage.up(LINES)
    assert b"rcv 300" not in got and got.count(b"rcv") == 7 and got.startswith(b"OK\r\n"), "the adapter still says OK"
    assert stage.down(b"conf get x\nrcv\n") == b"conf get x\nrcv\n"


def test_freeze_repeats_the_last_frame_of_each_kind(stage):
    a, b = b"\x55\x51" + b"a" * 9, b"\x55\x53" + b"b" * 9
    stage.wire.add(faults.Freeze())
    assert stage.up(a + b) == a + b
    for _ in range(6):
        assert stage.up(b"\x55\x51" + b"x" * 9 + b"\x55\x53" + b"y" * 9) == a + b
    stage.wire.clear()
    assert stage.up(FRAMES) == FRAMES


def test_saturate_puts_the_acceleration_at_the_end_of_its_range_in_a_whole_frame(stage):
    stage.wire.add(faults.Saturate())
    rates = b"\x55\x52" + b"b" * 9
    frame = stage.up(b"\x55\x51" + b"a" * 9 + rates)
    assert frame[:8] == b"\x55\x51" + b"\xff\x7f" * 3 and sum(frame[:10]) & 0xFF == frame[10] and frame[11:] == rates


def test_silence_and_its_end(stage):
    stage.wire.add(faults.Silence(inward=False), for_s=1.0)
    assert stage.up(LINES) == b"" and stage.down(COMMANDS) == COMMANDS
    stage.time = 1.0
    assert stage.up(LINES) == LINES


def test_unplugged_port_is_an_error_until_plugged_in(stage):
    port = MemoryPort(stage.wire)
    stage.wire.add(faults.Unplugged(), for_s=0.5)
    with pytest.raises(PortError):
        port.write(b"x")
    with pytest.raises(PortError):
        port.read(0)
    stage.time = 0.6
    port.write(b"x")
    assert stage.far.heard == b"x"


def test_faults_compose(stage):
    stage.wire.add(faults.Mute(1))
    stage.wire.add(faults.Mute(2))
    stage.wire.add(faults.Delay(lambda: stage.time, 0.01))
    stage.up(LINES)
    stage.time = 0.01
    assert stage.up(b"").count(b"rcv") == 6


def test_a_deaf_servo_is_asked_and_answers_and_is_not_commanded(stage):
    stage.wire.add(faults.Deaf(3))
    queries = b"".join(b"can send 80%02x 11001f01\n" % i for i in range(1, 9))
    commands = b"".join(b"can send 00%02x 01000a\n" % i for i in range(1, 9))
    assert stage.down(queries) == queries
    assert stage.down(commands) == commands.replace(b"can send 0003 01000a\n", b"")
    assert stage.up(LINES) == b"OK\r\n" + LINES


def test_two_servos_of_one_id_say_all_twice(stage):
    stage.wire.add(faults.Twice(3))
    got = stage.up(LINES)
    assert got.count(b"rcv 300") == 2 and got.count(b"rcv") == 9


def test_babble_comes_behind_what_is_said_and_never_alone(stage):
    stage.wire.add(faults.Babble(b"junk\n"))
    assert stage.up(LINES) == LINES + b"junk\n" and stage.up(b"") == b""


def test_again_repeats_its_first_pieces_in_turn(stage):
    stage.wire.add(faults.Again(2))
    assert [stage.up(bytes([k])) for k in b"abcde"] == [b"a", b"b", b"a", b"b", b"a"] and stage.up(b"") == b""


def test_a_skewed_imu_sends_whole_frames_with_another_attitude(stage):
    stage.wire.add(liars.Skew(np.pi / 4, 0.0, sign=-1.0))
    body = b"\x55\x53" + (1000).to_bytes(2, "little") + (-200).to_bytes(2, "little", signed=True) + b"yyvv"
    got = stage.up(body + bytes([sum(body) & 0xFF]))
    assert (
        int.from_bytes(got[2:4], "little", signed=True) == 8192 - 1000 and int.from_bytes(got[4:6], "little", signed=True) == 200
    )
    assert got[6:10] == b"yyvv" and sum(got[:10]) & 0xFF == got[10]


@pytest.mark.parametrize(
    ("fault", "x", "pitch"), [(liars.moved(2.0), 2.5, 0.1), (liars.mirrored(0.6), 0.5, 0.5), (liars.stuck(), 0.5, 0.1)]
)
def test_a_tracker_that_is_wrong_sends_whole_lines(stage, fault, x, pitch):
    stage.wire.add(fault)
    poses = [tracker.parse_line(stage.up(tracker.make_line(seq, 5, (0.5, 0, 0), (0, 0.1, 0))).strip()) for seq in (7, 8)]
    assert [p[0] for p in poses] == [7, 8]
    assert poses[1][2] == pytest.approx((x, 0, 0, 0, pitch, 0))


def test_a_servo_lies_about_one_register_until_the_end():
    lies, so = Lies(), np.arange(32, dtype=np.float32).reshape(2, 16)
    assert lies.over(so) is so
    lies.tell(1, "winding_c", lambda so: so + 100)
    lies.tell(0, "angle", liars.frozen())
    assert lies.over(so)[1, 10] == 126 and lies.over(so + 1)[0, 1] == 1 and so[1, 10] == 26
    lies.end()
    assert lies.over(so) is so
    with pytest.raises(ValueError, match="use mode"):
        lies.tell(0, "mood", float)


@pytest.mark.parametrize(
    ("line", "wire", "kind"),
    [
        ({"fault": "mute", "servo": 3, "for_s": 1}, "servos", faults.Mute),
        ({"fault": "freeze"}, "imu", faults.Freeze),
        ({"fault": "saturate"}, "imu", faults.Saturate),
        ({"fault": "lose"}, "tracker", faults.Silence),
        ({"fault": "deaf", "servo": 2}, "servos", faults.Deaf),
        ({"fault": "skew", "roll": 0.3}, "imu", liars.Skew),
        ({"fault": "mirror"}, "tracker", liars.Mispose),
        ({"fault": "close", "wire": "imu"}, "imu", faults.Unplugged),
        ({"fault": "drop", "chance": 0.5}, "servos", faults.Drop),
        ({"fault": "corrupt", "rate": 1e-4}, "servos", faults.Corrupt),
        ({"fault": "delay", "seconds": 0.1, "wire": "tracker"}, "tracker", faults.Delay),
    ],
)
def test_control_lines(line, wire, kind):
    got = from_line(line, np.random.default_rng(0), lambda: 0.0)
    assert got[0] == wire and isinstance(got[1], kind) and got[2] == line.get("for_s", float("inf"))


@pytest.mark.parametrize("line", [{"fault": "melt"}, {}, {"fault": "drop", "chance": "x"}, {"fault": "drop", "wire": "air"}])
def test_wrong_control_lines_are_named(line):
    with pytest.raises(ValueError, match=r"use|must"):
        from_line(line, np.random.default_rng(0), lambda: 0.0)
