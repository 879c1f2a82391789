"""The IMU's driver at its limits: numbers of the WitMotion manual, times to the nanosecond, wires that never end."""

from __future__ import annotations

import math
import struct

import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers import imu, witmotion
from robotrl.drivers.imu import Silent, WitImu
from robotrl.drivers.port import DeviceError, MemoryPort, PortError
from robotrl.drivers.witmotion import Frame, Parser
from tests.drivers.held import Held

MS = 1_000_000
G = 9.80665


def frame(kind: int, *numbers: int) -> bytes:
    body = struct.pack("<BB4h", 0x55, kind, *(*numbers, 0, 0, 0, 0)[:4])
    return body + bytes((sum(body) & 0xFF,))


def sample(
    accel: tuple[int, ...] = (0, 0, 2048), rates: tuple[int, ...] = (0, 0, 0), angles: tuple[int, ...] = (0, 0, 0)
) -> bytes:
    return frame(0x51, *accel) + frame(0x52, *rates) + frame(0x53, *angles)


class Far:
    def __init__(self) -> None:
        self.out, self.heard = b"", b""

    def receive(self, data: bytes) -> None:
        self.heard += data

    def transmit(self) -> bytes:
        data, self.out = self.out, b""
        return data


class Rig:
    def __init__(self, start: int = 1000 * MS, **wiring: object) -> None:
        self.far, self.clock = Far(), LockstepClock()
        self.clock.advance(start)
        self.device = WitImu(MemoryPort(self.far, "imu0"), config.ImuPort(**wiring), self.clock)  # type: ignore[arg-type]

    def read(self, data: bytes = b""):
        self.far.out = data
        return self.device.read()

    def later(self, ns: int, data: bytes = b""):
        self.clock.advance(ns)
        return self.read(data)


# frames


def test_commands_of_the_manual():
    assert witmotion.make_set(0x02, 0x0E).hex() == "ffaa020e00" and witmotion.make_set(0x24, 0x0101).hex() == "ffaa240101"
    assert (
        witmotion.make_get(0x03).hex() == "ffaa270300"
        and witmotion.UNLOCK.hex() == "ffaa6988b5"
        and witmotion.SAVE.hex() == "ffaa000000"
    )


@pytest.mark.parametrize("kind", range(0x40, 0x70))
def test_frames_are_of_sixteen_kinds(kind):
    parser, known = Parser(), 0x50 <= kind <= 0x5F
    found = parser.feed(frame(kind, 1, -2, 3, -4) + frame(0x53, 7))
    wanted = [Frame(kind, (1, -2, 3, -4))] if known else [None]
    assert found == [*wanted, Frame(0x53, (7, 0, 0, 0))] and parser.errors == (0 if known else 1)


@pytest.mark.parametrize("cut", range(23))
def test_frames_come_in_any_pieces(cut):
    parser, data = Parser(), frame(0x51, 1, 2, 3, 4) + frame(0x52, 5, 6, 7, 8) + b"\x55"
    found = parser.feed(data[:cut]) + parser.feed(data[cut:])
    assert found == [Frame(0x51, (1, 2, 3, 4)), Frame(0x52, (5, 6, 7, 8))] and parser.errors == 0


@pytest.mark.parametrize("at", range(11))
def test_a_wrong_byte_costs_its_frame_and_one_error(at):
    parser, bad = Parser(), bytearray(frame(0x51, 1, 2, 3, 4))
    bad[at] ^= 0x20
    found = parser.feed(frame(0x52) + bytes(bad) + frame(0x53) + b"\x01\x02\x55\x03" + frame(0x54))
    assert found == [Frame(0x52, (0,) * 4), None, Frame(0x53, (0,) * 4), None, Frame(0x54, (0,) * 4)] and parser.errors == 2


def test_another_head_is_none_even_with_a_right_sum():
    body = struct.pack("<BB4h", 0x54, 0x53, 1, 2, 3, 4)
    assert Parser().feed(body + bytes((sum(body) & 0xFF,))) == [None]


def test_a_head_that_is_none_does_not_hide_the_next():
    parser = Parser()
    assert parser.feed(b"\x55" * 3 + frame(0x53, 9)) == [None, Frame(0x53, (9, 0, 0, 0))]
    assert parser.feed(b"\x55\x53" + bytes(9)) == [None] and parser.errors == 2
    assert parser.feed(frame(0x53, 8)) == [Frame(0x53, (8, 0, 0, 0))] and parser.errors == 2


# samples


def test_full_scale_is_16_g_2000_degrees_a_second_and_half_a_turn():
    got = Rig().read(sample((16384, -8192, 4096), (16384, -16384, 8192), (16384, -8192, -32768)))
    assert got.accel == pytest.approx((8 * G, -4 * G, 2 * G), rel=1e-12)
    assert got.rates == pytest.approx((math.radians(1000), -math.radians(1000), math.radians(500)), rel=1e-12)
    assert (got.roll, got.pitch, got.yaw) == pytest.approx((math.pi / 2, -math.pi / 4, -math.pi), rel=1e-12)
    assert (got.t, got.stale, got.refused) == (1000 * MS, False, 0)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize(("value", "good"), [(32766, True), (-32766, True), (32767, False), (-32767, False), (-32768, False)])
def test_a_reading_at_the_end_of_its_range_is_none(at, value, good):
    numbers = [0] * 6
    numbers[at] = value
    rig = Rig()
    got = rig.read(sample(tuple(numbers[:3]), tuple(numbers[3:])))
    assert (got is not None) is good and rig.device.refused == (0 if good else 1)


@pytest.mark.parametrize(("pitch", "good"), [(16592, True), (16593, False), (-16592, True), (-16593, False)])
def test_a_pitch_is_a_quarter_turn_and_0_02_rad_at_most(pitch, good):
    """(pi / 2 + 0.02) * 32768 / pi = 16592.6; roll and yaw go all round."""
    rig = Rig()
    assert (rig.read(sample(angles=(-32768, pitch, 32767))) is not None) is good


@pytest.mark.parametrize("order", ["12", "23", "13", "213", "132", "1123?", "1?23", "12?3", "11?23"])
def test_a_sample_is_acceleration_rates_angles_in_a_row(order):
    kinds = {"1": frame(0x51, 1), "2": frame(0x52, 2), "3": frame(0x53, 3), "?": b"\x00"}
    got = Rig().read(b"".join(kinds[k] for k in order) + frame(0x59))
    assert (got is not None) is (order == "1123?")


def test_other_frames_within_a_sample_do_no_harm_and_the_newest_part_counts():
    got = Rig().read(
        frame(0x51, 1) + frame(0x51, 16384) + frame(0x59, 9) + frame(0x52, 1) + frame(0x52, 16384) + frame(0x53, 16384)
    )
    assert got.accel[0] == pytest.approx(8 * G) and got.rates[0] == pytest.approx(math.radians(1000))
    rig = Rig()
    assert rig.read(sample(angles=(1, 0, 0)) + frame(0x52, 1) + frame(0x53, 2)).roll == pytest.approx(math.pi / 32768), (
        "no acceleration"
    )
    assert rig.read(frame(0x53, 4)).roll == pytest.approx(math.pi / 32768)
    assert rig.read(frame(0x51) + frame(0x52)).roll == pytest.approx(math.pi / 32768)
    assert rig.read(frame(0x53, 4)).roll == pytest.approx(4 * math.pi / 32768), "a sample may come in two reads"


def test_a_sensor_that_is_mounted_askew_speaks_in_its_robots_axes():
    """The robot's x, y, z are the sensor's y, z, x. Biases are the sensor's."""
    mount, gyro = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0), (math.radians(125), math.radians(-125), 0.0)
    rig = Rig(mount=mount, gyro_bias=gyro, accel_bias=(0.0, 0.0, 1.0), accel_scale=(1.0, 0.5, 2.0))
    got = rig.read(sample((2048, 1024, 4096), (1024, 2048, 4096), (0, 0, 0)))
    assert got.accel == pytest.approx((G, (2 * G - 1.0) / 2, G), rel=1e-12)
    assert got.rates == pytest.approx((math.radians(250), math.radians(250), math.radians(-62.5)), rel=1e-12)
    # The sensor's z is up, so the robot's y is: rolled by a quarter turn, and turned by one.
    assert (got.roll, got.pitch, got.yaw) == pytest.approx((math.pi / 2, 0.0, math.pi / 2), abs=1e-12)


@pytest.mark.parametrize("mount", [(), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)])
def test_between_two_samples_the_gyro_is_followed_less_its_bias(mount):
    """At rest a gyro may say 125 degrees a second, where that is its bias."""
    still = (2048, -1024, 0)
    bias = tuple(k * math.radians(2000) / 32768 for k in still)
    rig = Rig(mount=mount, gyro_bias=bias)
    for k in range(3):
        got = rig.later(5 * MS, sample((k, 0, 2048), still))
        assert (got.roll, got.pitch, got.rates) == (0.0, 0.0, (0.0, 0.0, 0.0))


def test_stale_at_60_ms_to_the_nanosecond():
    rig = Rig()
    assert not rig.read(sample()).stale
    assert not rig.later(60 * MS - 1).stale
    old = rig.later(1)
    assert old.stale and old.t == 1000 * MS and (old.accel[2], old.roll) == (pytest.approx(G), 0.0)
    assert rig.later(1) is old, "nothing new, no new message"
    fresh = rig.later(1, sample(angles=(1, 2, 3)))
    assert not fresh.stale and fresh.t == rig.clock.now()


def test_five_alike_are_frozen_and_any_number_that_moves_is_life():
    rig = Rig()
    assert [rig.later(MS, sample()).stale for _ in range(6)] == [False] * 4 + [True] * 2
    assert not rig.later(MS, sample((0, 0, 2049))).stale
    assert [rig.later(MS, sample((0, 0, 2049))).stale for _ in range(4)] == [False] * 3 + [True]
    assert not rig.read(sample(rates=(0, 0, 1))).stale
    assert rig.read(sample(angles=(1, 0, 0)) * 5).stale and not rig.read(sample(angles=(2, 0, 0))).stale
    assert not rig.read(sample(angles=(2, 0, 0)) * 2 + sample(angles=(1, 0, 0)) + sample(angles=(2, 0, 0)) * 2).stale


BAD = sample(accel=(32767, 0, 0))


@pytest.mark.parametrize("start", [0, 1000 * MS])
def test_a_row_of_refused_samples_is_told_for_60_ms(start):
    rig = Rig(start)
    first = rig.read(sample() + BAD * 2)
    assert (first.refused, rig.device.refused) == (2, 2)
    assert first.t == start and first.accel[2] == pytest.approx(G)
    assert rig.later(20 * MS, BAD).refused == 3, "it goes on"
    assert rig.later(MS, sample(angles=(1, 0, 0)) + BAD).refused == 3, "a shorter one does not hide it"
    assert rig.later(58 * MS + MS - 1, sample(angles=(2, 0, 0))).refused == 3
    assert rig.later(1).refused == 0
    assert rig.later(MS, BAD).refused == 1 and rig.later(MS, BAD).refused == 2
    assert rig.device.refused == 6


def test_a_row_as_long_again_is_told_anew():
    rig = Rig()
    rig.read(sample() + BAD)
    assert rig.later(40 * MS, sample(angles=(1, 0, 0)) + BAD).refused == 1
    assert rig.later(59 * MS, sample(angles=(2, 0, 0))).refused == 1 and rig.later(MS, sample(angles=(3, 0, 0))).refused == 0


def test_a_row_before_the_first_sample_is_told_with_it():
    assert Rig(0).read(sample()).refused == 0
    rig = Rig()
    assert rig.read(BAD) is None and rig.later(MS, sample()).refused == 1


def test_what_a_frame_holds_beside_its_three_numbers_is_no_life():
    rig = Rig()
    fourth = (0, 300, 600, -1, -32768)
    read = [rig.later(MS, frame(0x51, 1, 2, 3, k) + frame(0x52, 0, 0, 0, k) + frame(0x53, 0, 0, 0, k)).stale for k in fourth]
    assert read == [False] * 4 + [True]


def test_nothing_before_the_first_sample_and_errors_are_the_parsers():
    rig = Rig()
    assert rig.read() is None and rig.read(b"abc" * 9) is None and rig.device.errors == 1 and rig.device.refused == 0


# wires


class Wire:
    """A port that remembers until when it was asked to wait, and answers from a list, the last for ever."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.deadlines, self.sent, self.name, self.closed = list(answers), [], [], "imu0", 0

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        self.deadlines.append(deadline)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        self.closed += 1


def on(wire: Wire, **wiring: object) -> WitImu:
    clock = LockstepClock()
    clock.advance(7)
    return WitImu(wire, config.ImuPort(**wiring), clock)  # type: ignore[arg-type]


def test_a_wire_that_never_ends_holds_nobody():
    wire = Wire(b"x" * 1024)
    assert on(wire).read() is None and wire.deadlines == [7] * 64  # 65,536 bytes
    with pytest.raises(DeviceError, match="0x02 is not answered"):
        on(wire).configure()
    assert len(wire.deadlines) == 64 + 3 * 64


@pytest.mark.parametrize(("sizes", "reads"), [((65_536,), 1), ((65_535, 1), 2)])
def test_a_wire_that_says_much_at_once_is_read_no_longer(sizes, reads):
    wire = Wire(*(b"x" * size for size in sizes), b"x")
    assert on(wire).read() is None and len(wire.deadlines) == reads
    wire = Wire(*(b"x" * size for size in sizes * 3), b"x")
    with pytest.raises(Silent):
        on(wire).configure()
    assert len(wire.deadlines) == 3 * reads


def test_each_register_is_asked_for_three_times_at_most_and_waited_for_200_ms():
    wire = Wire(b"")
    with pytest.raises(Silent, match=r"^imu0: imu register 0x02 is not answered; check cable, power and baud \(115200\)$"):
        on(wire).configure()
    assert wire.deadlines == [7 + 200 * MS] * 3
    assert [data.hex() for data in wire.sent] == ["ffaa6988b5ffaa270200"] * 3


def test_an_answer_is_the_first_register_of_its_frame_without_a_sign():
    wire = Wire(frame(0x5F, -1, 0x0E), frame(0x5F, 0x0E, 5), frame(0x5F, 0x0B), frame(0x5F, 0), frame(0x5F, -1), frame(0x5F, 1))
    on(wire).configure()
    unlock = "ffaa6988b5"
    get, set_, save = unlock + "ffaa27", unlock + "ffaa", unlock + "ffaa000000"
    wanted = [
        get + "0200",
        set_ + "020e00",
        get + "0200",
        get + "0300",
        get + "2400",
        set_ + "240100",
        get + "2400",
        set_ + "240100",
        get + "2400",
        save,
    ]
    assert [data.hex() for data in wire.sent] == wanted
    wire = Wire(frame(0x5F, -1))
    with pytest.raises(DeviceError, match=r"^imu0: imu register 0x02 reads 0xffff after 0x0e was set; power-cycle the sensor$"):
        on(wire).configure()
    assert [data.hex() for data in wire.sent] == [get + "0200"] + [set_ + "020e00", get + "0200"] * 3, "set three times at most"


def test_a_sensor_that_reads_as_it_must_is_sent_no_setting():
    wire = Wire(b"", frame(0x5F, 0x0E), frame(0x5F, 0x0B), frame(0x5F, 1))
    on(wire).configure()
    assert [data.hex() for data in wire.sent] == ["ffaa6988b5ffaa27" + register for register in ("0200", "0200", "0300", "2400")]


def test_an_answer_may_come_late_and_in_pieces():
    answer = sample() + frame(0x5F, 0x0E)
    wire = Wire(*(answer[k : k + 5] for k in range(0, len(answer), 5)), frame(0x5F, 0x0B), frame(0x5F, 1))
    on(wire).configure()
    assert len(wire.deadlines) == 9 + 2


@pytest.mark.parametrize(("rate", "code"), [(10, 6), (20, 7), (50, 8), (100, 9), (200, 11)])
def test_rates_by_their_codes(rate, code):
    wire = Wire(frame(0x5F, 0x0E), frame(0x5F, 0), frame(0x5F, code), frame(0x5F, 1))
    on(wire, rate_hz=rate).configure()
    assert wire.sent[2].hex() == f"ffaa6988b5ffaa03{code:02x}00"


@pytest.mark.parametrize(("baud", "fast"), [(73333, False), (73334, True)])
def test_a_wire_needs_room_for_three_frames_a_sample_and_a_tenth(baud, fast):
    """200 samples of 33 bytes of 10 bits are 66,000 bits, 0.9 of 73,333.3."""
    with pytest.raises(DeviceError, match="is not answered" if fast else f"{baud} baud is too slow for 200 Hz; use 115200"):
        on(Wire(b""), baud=baud).configure()
    with pytest.raises(DeviceError, match=r"imu rate 77 Hz; use one of 10, 20, 50, 100, 200$"):
        on(Wire(b""), rate_hz=77).configure()


# baud rates

CODES = {9600: 2, 19200: 3, 38400: 4, 57600: 5, 115200: 6, 230400: 7}  # the manual's
ANSWERS = (frame(0x5F, 0x0E), frame(0x5F, 0x08), frame(0x5F, 1))


def connecting(monkeypatch, wires: list[Wire], baud: int = 115200):
    """`connect` with these wires, one for each port it opens; the bauds it opens them at, the clock, what it says."""
    clock, opened, said, left = LockstepClock(), [], [], list(wires)
    clock.advance(7)

    def port(path: str, baud: int, clock: object) -> Wire:
        opened.append((path, baud))
        return left.pop(0)

    monkeypatch.setattr(imu, "SerialPort", port)
    return opened, clock, said, lambda: imu.connect(config.ImuPort(port="/dev/imu", baud=baud, rate_hz=50), clock, said.append)


@pytest.mark.parametrize("baud", [19200, 38400, 57600, 115200, 230400])
def test_a_new_sensor_is_set_to_every_baud_rate_of_the_manual(monkeypatch, baud):
    silent, new, set_ = Wire(b""), Wire(frame(0x53), sample()[:30], b"\0" + frame(0x51)), Wire(*ANSWERS)
    opened, clock, said, connect = connecting(monkeypatch, [silent, new, set_], baud)
    port, device = connect()
    assert port is set_ and device.errors == 0 and opened == [("/dev/imu", baud), ("/dev/imu", 9600), ("/dev/imu", baud)]
    assert [data.hex() for data in new.sent] == [f"ffaa6988b5ffaa04{CODES[baud]:02x}00", "ffaa6988b5ffaa000000"]
    assert (silent.closed, new.closed, set_.closed) == (1, 1, 0) and clock.now() == 7 + 400 * MS
    assert new.deadlines[0] == 7 + 500 * MS and said == [f"/dev/imu: the imu talked at 9600 baud, as new, and was set to {baud}"]


def test_three_frames_are_a_sensor_and_no_more_are_waited_for(monkeypatch):
    new = Wire(*[frame(0x53)] * 3, b"")
    _, _, said, connect = connecting(monkeypatch, [Wire(b""), new, Wire(*ANSWERS)])
    connect()
    assert len(new.deadlines) == 3 and len(new.sent) == 2 and len(said) == 1


@pytest.mark.parametrize("heard", [0, 1, 2])
def test_less_than_three_frames_are_no_sensor(monkeypatch, heard):
    silent, other = Wire(b""), Wire(frame(0x53) * heard + b"noise", b"")
    opened, _, said, connect = connecting(monkeypatch, [silent, other])
    with pytest.raises(Silent, match="0x02 is not answered"):
        connect()
    assert len(opened) == 2 and (silent.closed, other.closed, other.sent, said) == (1, 1, [], [])


def test_a_silent_sensor_at_the_factorys_own_rate_is_not_looked_for_again(monkeypatch):
    opened, _, _, _ = connecting(monkeypatch, [Wire(b"")], 9600)
    with pytest.raises(Silent):
        imu.connect(config.ImuPort(port="/dev/imu", baud=9600, rate_hz=10), LockstepClock(), print)
    assert len(opened) == 1


def test_a_baud_rate_that_the_sensor_does_not_know_is_named(monkeypatch):
    wires = [Wire(b""), Wire(sample())]
    _, _, _, connect = connecting(monkeypatch, wires, 921600)
    with pytest.raises(
        DeviceError, match=r"talks at 9600 baud; set imu.baud to one of 9600, 19200, 38400, 57600, 115200, 230400$"
    ):
        connect()
    assert [wire.closed for wire in wires] == [1, 1] and not wires[1].sent


def test_a_sensor_that_does_not_take_the_new_rate_at_once_is_to_be_switched_off_and_on(monkeypatch):
    wires = [Wire(b""), Wire(sample()), Wire(b"")]
    _, _, said, connect = connecting(monkeypatch, wires)
    with pytest.raises(DeviceError, match=r"was set to 115200; power-cycle it and start again$"):
        connect()
    assert [wire.closed for wire in wires] == [1, 1, 1] and not said


def test_a_port_that_is_lost_is_closed(monkeypatch):
    class Lost(Wire):
        def write(self, data: bytes) -> None:
            raise PortError("gone")

    wire = Lost(b"")
    _, _, _, connect = connecting(monkeypatch, [wire])
    with pytest.raises(PortError, match="gone"):
        connect()
    assert wire.closed == 1


@pytest.mark.parametrize(("before", "after", "read"), [(30, 29, True), (60, 0, False), (0, 60, False)])
def test_a_look_that_is_held_up_in_its_midst_is_a_late_one(before, after, read):
    clock = LockstepClock()
    port = Held(clock, 0, 0)
    device = WitImu(port, config.ImuPort(), clock)
    assert device.read() is None
    port.before, port.after, port.data = before * MS, after * MS, sample()
    assert (device.read() is not None) is read


def test_a_sample_that_grew_old_between_the_last_look_and_the_answer_is_stale():
    class Slow(LockstepClock):
        """Held up for 20 ms whenever it is asked."""

        def now(self) -> int:
            self.advance(20 * MS)
            return super().now()

    clock = Slow()
    got = WitImu(Wire(sample(), b""), config.ImuPort(), clock).read()
    assert got.stale and LockstepClock.now(clock) == got.t + 60 * MS
