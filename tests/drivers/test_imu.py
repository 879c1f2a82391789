"""The WitMotion IMU: frames of the manual, samples, staleness, configuration with read-back."""

import math
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers import imu, witmotion
from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import DeviceError, MemoryPort
from robotrl.drivers.witmotion import Parser

LINES = (Path(__file__).parents[1] / "golden" / "witmotion.txt").read_text().splitlines()
GOLDEN = {name: bytes.fromhex(text) for name, text in (line.split() for line in LINES if line and line[0] != "#")}
MS = 1_000_000


def frame(kind: int, a: int, b: int, c: int, d: int = 0) -> bytes:
    body = struct.pack("<BB4h", 0x55, kind, a, b, c, d)
    return body + bytes((sum(body) % 256,))


def burst(n: int) -> bytes:
    """A level robot, `n` telling one sample from another."""
    return frame(0x51, 0, n % 100, 2048, 2500) + frame(0x52, n, 0, 0) + frame(0x53, 100, -50, n)


class Sensor:
    """A WitMotion far end: streams what the test says, obeys unlock, set, get."""

    def __init__(self) -> None:
        self.out = b""
        self.registers = {0x02: 0x1E, 0x03: 0x06, 0x24: 0}
        self.stuck: set[int] = set()
        self.unlocked = self.silent = self.deaf_once = self.saved = False
        self.saves = self.sets = self.mute = 0  # `mute`: so many questions it does not answer

    def receive(self, data: bytes) -> None:
        assert len(data) % 5 == 0
        for at in range(0, len(data), 5):
            head, register, value = struct.unpack("<HBH", data[at : at + 5])
            assert head == 0xAAFF
            if register == 0x69 and value == 0xB588:
                self.unlocked = True
            elif register == 0x27 and self.mute:
                self.mute -= 1
            elif register == 0x27 and not self.silent:
                self.out += burst(1)[:20]  # the stream goes on around the answer, torn here
                self.out += frame(0x5F, *(self.registers.get(value + k, 0) for k in range(4)))
            elif register == 0x00:
                self.saved = self.unlocked
                self.saves += self.saved
            elif register not in self.stuck and self.unlocked and not self.deaf_once:
                self.registers[register] = value
                self.sets += 1
            self.deaf_once = self.deaf_once and register == 0x69

    def transmit(self) -> bytes:
        data, self.out = self.out, b""
        return data


@pytest.fixture
def rig():
    sensor, clock = Sensor(), LockstepClock()
    clock.advance(1000 * MS)
    return sensor, clock, WitImu(MemoryPort(sensor, "imu0"), config.ImuPort(), clock)


def test_frames_of_the_manual():
    assert GOLDEN["unlock"] == witmotion.UNLOCK
    assert GOLDEN["save"] == witmotion.SAVE
    assert witmotion.make_set(0x03, 0x0B) == GOLDEN["rate_200hz"]
    assert witmotion.make_set(0x03, 0x03) == GOLDEN["rate_1hz"]
    assert witmotion.make_get(0x05) == GOLDEN["read_05"]
    names = ("accel_1g_z", "accel_minus_1g_x", "rates", "angles_10_m20_90", "quaternion", "register_reply")
    stream = b"".join(GOLDEN[name] for name in names)
    found = Parser().feed(stream)
    assert [f.kind for f in found] == [0x51, 0x51, 0x52, 0x53, 0x59, 0x5F]
    assert found[-1].numbers == (6, 9, 0, 0)


def test_a_burst_becomes_a_sample_in_si_units(rig):
    sensor, clock, device = rig
    assert device.read() is None
    sensor.out = GOLDEN["accel_1g_z"] + GOLDEN["rates"] + GOLDEN["angles_10_m20_90"]
    sample = device.read()
    assert sample.accel == pytest.approx((0, 0, 9.80665))
    assert [math.degrees(rate) for rate in sample.rates] == pytest.approx([-10.01, 5.0, 0], abs=0.01)
    assert [math.degrees(x) for x in (sample.roll, sample.pitch, sample.yaw)] == pytest.approx([10, -20, 90], abs=0.01)
    assert sample.t == clock.now() and not sample.stale


def test_the_newest_of_many_and_unknown_frames_between_bursts(rig):
    sensor, _, device = rig
    sensor.out = burst(1) + GOLDEN["quaternion"] + burst(2) + frame(0x54, 1, 2, 3) + burst(3)[:25]
    assert device.read().yaw == pytest.approx(2 * math.pi / 32768)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_nothing_is_mixed_across_a_lost_frame(rig, lost):
    sensor, _, device = rig
    whole = burst(9)
    sensor.out = burst(1) + whole[: 11 * lost] + whole[11 * lost + 11 :] + burst(5)[:22]
    assert device.read().yaw == pytest.approx(math.pi / 32768)
    sensor.out = b"\x01\x02" + burst(5)[22:]  # a stray byte within the burst breaks it too
    assert device.read().yaw == pytest.approx(math.pi / 32768)
    assert device.errors == 1


def test_rates_of_one_burst_do_not_meet_the_angles_of_the_next(rig):
    sensor, _, device = rig
    sensor.out = burst(1)[:22] + burst(2)[:11] + burst(2)[22:]  # angles lost, then rates lost
    assert device.read() is None


def test_stale_after_60_ms_and_fresh_again(rig):
    sensor, clock, device = rig
    sensor.out = burst(1)
    assert not device.read().stale
    clock.advance(59 * MS)
    assert not device.read().stale
    clock.advance(1 * MS)
    assert device.read().stale
    sensor.out = burst(2)
    assert not device.read().stale


def test_five_identical_samples_are_stale(rig):
    sensor, clock, device = rig
    for k in range(4):
        sensor.out = burst(1)
        assert not device.read().stale, k
        clock.advance(5 * MS)
    sensor.out = burst(1)
    assert device.read().stale
    sensor.out = burst(2)
    assert not device.read().stale


@pytest.mark.parametrize(
    "bad",
    [
        frame(0x51, 32767, 0, 0) + frame(0x52, 0, 0, 0) + frame(0x53, 0, 0, 0),
        frame(0x51, 0, 0, 2048) + frame(0x52, 0, -32768, 0) + frame(0x53, 0, 0, 0),
        frame(0x51, 0, 0, 2048) + frame(0x52, 0, 0, 0) + frame(0x53, 0, 20000, 0),
    ],
)
def test_out_of_range_is_refused(rig, bad):
    sensor, _, device = rig
    sensor.out = burst(1) + bad
    assert device.read().yaw == pytest.approx(math.pi / 32768)
    assert device.refused == 1


BAD = frame(0x51, 32767, 0, 0) + frame(0x52, 0, 0, 0) + frame(0x53, 0, 0, 0)


def test_a_row_of_refused_samples_is_told_for_60_ms_and_then_forgotten(rig):
    sensor, clock, device = rig
    sensor.out = burst(1) + BAD * 2
    assert device.read().refused == 2
    clock.advance(5 * MS)
    sensor.out = BAD + burst(2)  # the row grows over reads, and a good sample ends it
    assert device.read().refused == 3
    for k in range(11):
        clock.advance(5 * MS)
        sensor.out = burst(3 + k)
        assert device.read().refused == 3, "or who looks at 50 Hz would not see it"
    clock.advance(5 * MS)
    sensor.out = burst(20)
    assert device.read().refused == 0


def test_samples_refused_one_at_a_time_are_no_row(rig):
    sensor, clock, device = rig
    for k in range(20):
        sensor.out = burst(k) + BAD
        assert device.read().refused <= 1
        clock.advance(5 * MS)


def test_configure_sets_reads_back_and_saves(rig):
    sensor, _, device = rig
    device.configure()
    assert sensor.registers == {0x02: 0x0E, 0x03: 0x0B, 0x24: 1}
    assert sensor.saved


def test_a_sensor_that_is_as_it_must_be_is_not_written_to(rig):
    """Every start and every flicker of its cable configures it, and its flash bears so many writes and no more."""
    sensor, _, device = rig
    for _ in range(5):
        device.configure()
    assert (sensor.sets, sensor.saves) == (3, 1)
    sensor.mute = 2
    device.configure()
    assert (sensor.sets, sensor.saves) == (3, 1), "an answer that is lost is no other setting"
    sensor.registers[0x24] = 0  # another program's
    device.configure()
    assert (sensor.sets, sensor.saves) == (4, 2) and sensor.registers[0x24] == 1


def test_configure_tries_again_when_a_command_is_lost(rig):
    sensor, _, device = rig
    sensor.deaf_once = True
    device.configure()
    assert sensor.registers[0x02] == 0x0E


@pytest.mark.parametrize("register", [0x02, 0x03, 0x24])
def test_configure_names_the_register_that_reads_back_wrong(rig, register):
    sensor, _, device = rig
    sensor.stuck.add(register)
    with pytest.raises(DeviceError, match=f"imu0: imu register {register:#04x} reads") as error:
        device.configure()
    assert "\n" not in str(error.value) and not sensor.saved


def test_configure_says_when_nobody_answers_or_the_wire_is_too_slow(rig):
    sensor, clock, device = rig
    sensor.silent = True
    with pytest.raises(DeviceError, match="not answered"):
        device.configure()
    port = MemoryPort(sensor)
    with pytest.raises(DeviceError, match="9600 baud is too slow"):
        WitImu(port, config.ImuPort(baud=9600), clock).configure()
    with pytest.raises(DeviceError, match="123 Hz"):
        WitImu(port, config.ImuPort(rate_hz=123), clock).configure()


RATES = {code: baud for baud, code in imu.BAUD_CODES.items()}


class Line:
    """A serial port at one baud rate: a sensor at another hears nothing, and is heard as noise."""

    def __init__(self, sensor, baud, clock):
        self.sensor, self.baud, self.clock, self.name, self.closed = sensor, baud, clock, "imu0", False

    def matches(self):
        return RATES.get(self.sensor.registers[imu.BAUD]) == self.baud

    def write(self, data):
        assert not self.closed
        for at in range(0, len(data), 5):  # the rate changes with the command that sets it
            if self.matches():
                self.sensor.receive(data[at : at + 5])

    def read(self, deadline, limit=4096):
        assert not self.closed
        if not self.sensor.out:  # its own stream, 10 samples a second
            self.clock.sleep_until(min(deadline, self.clock.now() + 100 * MS))
            self.sensor.out = burst(self.clock.now() // MS % 1000) if self.clock.now() < deadline and self.sensor.streams else b""
        data = self.sensor.transmit()
        return data if self.matches() else bytes(len(data))

    def close(self):
        self.closed = True


def plugged(monkeypatch, code, baud=115200):
    """A sensor whose baud register holds `code`, on a port; what `connect` said of it."""
    sensor, clock, ports, said = Sensor(), LockstepClock(), [], []
    sensor.registers[imu.BAUD], sensor.streams = code, True
    monkeypatch.setattr(imu, "SerialPort", lambda path, baud, clock: ports.append(Line(sensor, baud, clock)) or ports[-1])
    return sensor, ports, said, lambda: imu.connect(config.ImuPort(port="imu0", baud=baud), clock, said.append)


def test_a_sensor_as_new_is_set_to_our_baud_rate_and_it_is_said(monkeypatch):
    sensor, ports, said, connect = plugged(monkeypatch, code=0x02)
    port, device = connect()
    assert port.baud == 115200 and not port.closed and all(p.closed for p in ports[:-1])
    assert sensor.registers[imu.BAUD] == 0x06 and sensor.registers[0x02] == 0x0E and sensor.saved
    assert said == ["imu0: the imu talked at 9600 baud, as new, and was set to 115200"]
    sensor.out = burst(7)
    assert device.read().yaw == pytest.approx(7 * math.pi / 32768)


def test_a_sensor_at_our_baud_rate_is_left_at_it(monkeypatch):
    _, ports, said, connect = plugged(monkeypatch, code=0x06)
    connect()
    assert len(ports) == 1 and not said


def test_a_sensor_that_is_silent_at_both_is_said_to_be_silent_and_no_port_is_left_open(monkeypatch):
    sensor, ports, said, connect = plugged(monkeypatch, code=0x06)
    sensor.silent, sensor.streams = True, False
    with pytest.raises(DeviceError, match=r"is not answered; check cable, power and baud \(115200\)$"):
        connect()
    assert {p.baud for p in ports} == {9600, 115200} and all(p.closed for p in ports) and not said


def test_a_sensor_that_takes_its_new_baud_rate_only_when_switched_on_is_to_be_switched_on(monkeypatch):
    sensor, ports, _, connect = plugged(monkeypatch, code=0x02)
    sensor.stuck.add(imu.BAUD)
    with pytest.raises(DeviceError, match="talked at 9600 baud, as new, and was set to 115200; power-cycle it and start again"):
        connect()
    assert sensor.saved and all(p.closed for p in ports)


@given(st.lists(st.binary(max_size=40), max_size=8))
@settings(max_examples=300, deadline=None)
def test_anything_is_parsed_and_little_is_kept(chunks):
    parser = Parser()
    for chunk in chunks:
        for found in parser.feed(chunk):
            assert found is None or found.kind in witmotion.TYPES
        assert len(parser._pending) < witmotion.FRAME


def test_fuzzed_streams_resynchronise_within_one_good_burst(rig):
    sensor, _, device = rig
    rng = random.Random(11)
    for n in range(3000):
        mad = bytearray(burst(n % 30000) * 2)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(mad))
            if rng.random() < 0.5:
                mad[at] ^= 1 << rng.randrange(8)
            else:
                del mad[at : at + rng.randint(1, 12)]
        # A false frame may swallow ten bytes of the first good burst, never of the second.
        data = bytes(mad) + b"\x55" * rng.randrange(4) + burst(n) + burst(n + 1)
        while data:
            cut = rng.randint(1, 50)
            sensor.out, data = data[:cut], data[cut:]
            sample = device.read()
        expected = (n + 1 + 32768) % 65536 - 32768
        assert sample.yaw == pytest.approx(expected * math.pi / 32768)


def test_what_has_waited_while_nobody_looked_is_not_taken_for_new(rig):
    wire, clock, imu = rig
    wire.out = burst(1)
    first = imu.read()
    clock.advance(60_000_000)
    wire.out = burst(2)
    late = imu.read()
    assert late.stale and (late.t, late.roll) == (first.t, first.roll)
    clock.advance(29_000_000)
    wire.out = burst(4)  # held back by the system
    assert imu.read().t == first.t
    clock.advance(1_000_000)
    wire.out = burst(3)
    again = imu.read()
    assert not again.stale and again.t == clock.now()


def slow_samples(parser: Parser, data: bytes) -> list[tuple[int, ...]]:
    """The samples in `data` by whole frames: three of one burst in a row."""
    kinds = [(f.kind, f.numbers[:3]) if f else None for f in parser.feed(data)]
    runs = zip(kinds, kinds[1:], kinds[2:], strict=False)
    return [sum((f[1] for f in run), ()) for run in runs if None not in run and [f[0] for f in run] == [0x51, 0x52, 0x53]]


words = st.integers(-32768, 32767)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(words, min_size=9, max_size=9), max_size=4), st.binary(max_size=3), st.data())
def test_whole_samples_are_what_the_frames_say(rows, tail, data):
    stream = b"".join(frame(kind, *row[at : at + 3], 7) for row in rows for at, kind in ((0, 0x51), (3, 0x52), (6, 0x53)))
    stream += tail
    if stream:
        at = data.draw(st.integers(0, len(stream) - 1))
        stream = stream[:at] + bytes((stream[at] ^ data.draw(st.sampled_from([0, 0, 1, 0x80])),)) + stream[at + 1 :]
    found, end = witmotion.whole_samples(stream)
    assert found == slow_samples(Parser(), stream[:end]) and end == 33 * len(found)
    rest = stream[end:]
    assert len(rest) < 33 or slow_samples(Parser(), rest[:33]) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.data())
def test_however_bursts_are_cut_the_newest_is_read(counts, data):
    sensor, clock = Sensor(), LockstepClock()
    device = WitImu(MemoryPort(sensor, "imu0"), config.ImuPort(), clock)
    stream = b"".join(burst(k) for k in range(1, 1 + sum(counts)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        sensor.out = stream[begin:end]
        sample = device.read()
        assert (sample.yaw if sample else 0.0) == pytest.approx(end // 33 * math.pi / 32768)
    assert device.errors == 0
