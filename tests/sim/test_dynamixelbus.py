"""The Dynamixel line against the manual's own packets and its rules; whole packets are built here, from the protocol's page."""

import math

import pytest

from robotrl.clock import LockstepClock
from robotrl.sim import dynamixeltable as t
from robotrl.sim.dynamixelbus import DynamixelBus
from robotrl.sim.dynamixelservo import DynamixelServo
from robotrl.sim.joints import Pendulums
from robotrl.sim.servobus import Chain

EVERYONE = 0xFE
RAD = 2 * math.pi / 4096


def crc(data):
    """Bit by bit: the polynomial's division, nothing else."""
    value = 0
    for byte in data:
        for bit in range(8):
            carry = value >> 15 ^ byte >> (7 - bit) & 1
            value = (value << 1 & 0xFFFF) ^ (0x8005 if carry else 0)
    return value.to_bytes(2, "little")


def packet(servo, instruction, params=b""):
    body, out = bytes([instruction]) + bytes(params), b""
    for byte in body:
        out += bytes([byte])
        if out.endswith(b"\xff\xff\xfd"):
            out += b"\xfd"
    head = b"\xff\xff\xfd\x00" + bytes([servo]) + (len(out) + 2).to_bytes(2, "little")
    return head + out + crc(head + out)


def statuses(data):
    """[(id, error, params)] of status packets in a row; every byte accounted for."""
    out = []
    while data:
        assert data[:4] == b"\xff\xff\xfd\x00"
        end = 7 + int.from_bytes(data[5:7], "little")
        assert data[end - 2 : end] == crc(data[: end - 2]) and data[7] == 0x55
        body = data[8 : end - 2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        out.append((data[4], body[0], body[1:]))
        data = data[end:]
    return out


class Line:
    """Servos of one model on a line, with arms that turn freely."""

    def __init__(self, ids, model=t.XM430_W350, clock=None, **arms):
        self.servos = [DynamixelServo(model, i) for i in ids]
        self.joints = Pendulums([model.motor.rotor + 0.001] * len(ids), **arms)
        self.chain = Chain(self.servos, self.joints)
        self.bus = DynamixelBus(self.servos, clock)

    def ask(self, *what):
        self.bus.receive(packet(*what) if len(what) > 1 else what[0])
        return statuses(self.bus.transmit())

    def put(self, servo, *angles):
        self.joints.angle[:] = [(a - 2048) * RAD for a in (servo, *angles)]
        self.chain.look()

    def write(self, servo, address, value, size):
        """The error number."""
        data = address.to_bytes(2, "little") + value.to_bytes(size, "little", signed=value < 0)
        ((who, error, params),) = self.ask(servo, 3, data)
        assert who == servo and params == b""
        return error

    def read(self, servo, address, size, signed=True):
        ((who, _, params),) = self.ask(servo, 2, address.to_bytes(2, "little") + size.to_bytes(2, "little"))
        assert who == servo and len(params) == size
        return int.from_bytes(params, "little", signed=signed)


@pytest.fixture
def line():
    return Line([1, 2])


def hexed(text):
    return bytes.fromhex(text.replace(" ", ""))


# e-Manual, Protocol 2.0, the examples of each instruction: what is sent -> what comes back
GOLDEN = [
    ("FF FF FD 00 01 03 00 01 19 4E", "FF FF FD 00 01 07 00 55 00 06 04 26 65 5D"),
    (
        "FF FF FD 00 FE 03 00 01 31 42",
        "FF FF FD 00 01 07 00 55 00 06 04 26 65 5D FF FF FD 00 02 07 00 55 00 06 04 26 6F 6D",
    ),
    ("FF FF FD 00 01 07 00 02 84 00 04 00 1D 15", "FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0"),
    ("FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89", "FF FF FD 00 01 04 00 55 00 A1 0C"),
    ("FF FF FD 00 01 09 00 04 68 00 C8 00 00 00 AE 8E", "FF FF FD 00 01 04 00 55 00 A1 0C"),
    ("FF FF FD 00 01 04 00 06 01 A1 E6", "FF FF FD 00 01 04 00 55 00 A1 0C"),
    ("FF FF FD 00 01 03 00 08 2F 4E", "FF FF FD 00 01 04 00 55 00 A1 0C"),
    ("FF FF FD 00 01 08 00 10 01 44 58 4C 22 B1 DC", "FF FF FD 00 01 04 00 55 00 A1 0C"),
    ("FF FF FD 00 01 08 00 20 01 43 54 52 4C 16 F5", "FF FF FD 00 01 04 00 55 00 A1 0C"),
    (
        "FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA",
        "FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0 FF FF FD 00 02 08 00 55 00 1F 08 00 00 BA BE",
    ),
    ("FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87", ""),
    ("FF FF FD 00 FE 10 00 93 01 20 00 02 00 A0 00 02 1F 00 01 00 50 B7 68", ""),
]


@pytest.mark.parametrize("sent, answered", GOLDEN)
def test_the_manuals_examples_are_answered_byte_for_byte(sent, answered):
    line = Line([1, 2], t.Model(**{**vars(t.XM430_W210), "firmware": 38}))
    line.put(166, 0x081F)
    line.bus.receive(hexed(sent))
    assert line.bus.transmit() == hexed(answered)


def test_the_manuals_fast_and_bulk_reads():
    line = Line([3, 7, 4])
    line.joints.angle[:] = [(166 - 2048) * RAD, (0x081F - 2048) * RAD, (0x03FF - 2048) * RAD]
    line.chain.look()
    line.bus.receive(hexed("FF FF FD 00 FE 0A 00 8A 84 00 04 00 03 07 04 20 F2"))
    answer = "FF FF FD 00 FE 19 00 55 00 03 A6 00 00 00 84 08 00 07 1F 08 00 00 16 CA 00 04 FF 03 00 00 D1 9E"
    assert line.bus.transmit() == hexed(answer)
    line = Line([3, 7, 4])
    line.put(166, 2048, 2048)
    line.servos[1].pwm, line.servos[2].celsius = 421 / 885, 31.0  # 0x01A5
    line.bus.receive(hexed("FF FF FD 00 FE 12 00 9A 03 84 00 04 00 07 7C 00 02 00 04 92 00 01 00 DA 2D"))
    assert line.bus.transmit() == hexed("FF FF FD 00 FE 14 00 55 00 03 A6 00 00 00 67 A4 00 07 A5 01 24 74 00 04 1F D9 C1")
    line = Line([1, 2])
    line.servos[0].volts, line.servos[1].celsius = 11.9, 36.0
    line.bus.receive(hexed("FF FF FD 00 FE 0D 00 92 01 90 00 02 00 02 92 00 01 00 1A 05"))
    assert line.bus.transmit() == hexed("FF FF FD 00 01 06 00 55 00 77 00 C3 69 FF FF FD 00 02 05 00 55 00 24 8B A9")


def test_stuffing_goes_both_ways(line):
    line.write(1, 11, 4, 1)
    stuffed = hexed("FF FF FD 00 01 0A 00 03 74 00 FF FF FD FD 00 21 E7")
    assert packet(1, 3, hexed("74 00 FF FF FD 00")) == stuffed
    assert line.ask(stuffed) == [(1, t_error("range"), b"")]  # 0x00FDFFFF is beyond 256 turns
    line.write(1, 224, 0xFF, 1)  # indirect data that points at itself: plain memory
    for at, byte in enumerate(b"\xff\xff\xfd\xff\xff\xfd"):
        assert line.write(1, 224 + at, byte, 1) == 0
    line.bus.receive(packet(1, 2, hexed("E0 00 06 00")))
    answer = line.bus.transmit()
    assert b"\xff\xff\xfd\xfd\xff\xff\xfd\xfd" in answer
    assert statuses(answer) == [(1, 0, b"\xff\xff\xfd\xff\xff\xfd")]


def t_error(name):
    """The e-Manual's error numbers."""
    return {"fail": 1, "instruction": 2, "crc": 3, "range": 4, "length": 5, "limit": 6, "access": 7}[name]


def test_error_numbers(line):
    assert line.write(1, 0, 5, 2) == t_error("access")  # read-only
    assert line.write(1, 132, 5, 4) == t_error("access")
    assert line.write(1, 14, 5, 1) == t_error("access")  # nothing there
    assert line.write(1, 700, 5, 1) == t_error("access")
    assert line.write(1, 116, 5, 2) == t_error("length")  # half a register
    assert line.write(1, 118, 5, 2) == t_error("length")
    assert line.write(1, 64, 2, 1) == t_error("range")
    assert line.write(1, 11, 2, 1) == t_error("range")  # no such mode
    assert line.write(1, 102, 1194, 2) == t_error("limit")
    assert line.write(1, 116, 4096, 4) == t_error("limit")
    assert line.write(1, 11, 4, 1) == 0 and line.write(1, 116, 4096, 4) == 0  # extended position has no such limit
    assert line.ask(1, 5) == [(1, t_error("instruction"), b"")]  # action without reg write
    assert line.ask(1, 0x77) == [(1, t_error("instruction"), b"")]
    assert line.ask(1, 2, hexed("BC 02 01 00")) == [(1, t_error("access"), b"")]
    broken = bytearray(packet(1, 1))
    broken[-1] ^= 1
    assert line.ask(bytes(broken)) == [(1, t_error("crc"), b"")]


def test_a_write_is_done_whole_or_not_at_all(line):
    # profile acceleration is fine, profile velocity is not: neither is taken
    assert line.ask(1, 3, hexed("6C 00 05 00 00 00 00 80 00 00")) == [(1, t_error("range"), b"")]
    assert line.read(1, 108, 4) == 0


def test_memory_is_locked_while_torque_is_on(line):
    assert line.write(1, 64, 1, 1) == 0
    for address, value, size in ((7, 9, 1), (11, 4, 1), (36, 400, 2), (48, 3000, 4), (63, 0, 1)):
        assert line.write(1, address, value, size) == t_error("access"), address
    assert line.write(1, 84, 700, 2) == 0
    assert line.write(1, 64, 0, 1) == 0 and line.write(1, 7, 9, 1) == 0
    assert line.ask(1, 1) == [] and [who for who, _, _ in line.ask(9, 1)] == [9]


def test_reg_write_waits_for_action(line):
    line.write(1, 64, 1, 1)
    assert line.ask(1, 4, hexed("74 00 00 04 00 00")) == [(1, 0, b"")]
    assert line.read(1, 69, 1) == 1 and line.read(1, 116, 4) == 2048
    assert line.ask(EVERYONE, 5) == []
    assert line.read(1, 69, 1) == 0 and line.read(1, 116, 4) == 1024


def test_status_levels(line):
    line.write(1, 68, 1, 1)
    assert line.ask(1, 3, hexed("41 00 01")) == [] and line.read(1, 65, 1) == 1
    line.bus.receive(packet(1, 3, hexed("44 00 00")))
    line.bus.transmit()
    assert line.ask(1, 2, hexed("41 00 01 00")) == [] and len(line.ask(1, 1)) == 1


def test_a_silent_servo_silences_those_behind_it():
    line = Line([1, 2, 3, 4])
    ask = hexed("84 00 04 00 01 02 03 04")
    assert [who for who, _, _ in line.ask(EVERYONE, 0x82, ask)] == [1, 2, 3, 4]
    line.bus.faults.begin("mute", 3, math.inf)
    assert [who for who, _, _ in line.ask(EVERYONE, 0x82, ask)] == [1, 2]
    line.bus.receive(packet(EVERYONE, 0x8A, ask))
    cut = line.bus.transmit()
    assert len(cut) == 8 + 2 * 8 and int.from_bytes(cut[5:7], "little") == 1 + 4 * 8  # as long as it was to be, cut short
    assert line.ask(4, 1) != [] and line.ask(3, 1) == []


def test_two_servos_of_one_number_speak_at_once():
    line = Line([5, 5, 6])
    line.put(2048, 2048, 2048)
    assert [who for who, _, _ in line.ask(5, 1)] == [5]  # they say the same
    line.joints.angle[:2] = [0.5, -0.7]
    line.chain.look()
    line.bus.receive(packet(5, 2, hexed("84 00 04 00")))
    with pytest.raises(AssertionError):
        statuses(line.bus.transmit())


def test_indirect_registers_show_others(line):
    # the block a driver wants: torque, watchdog, present position, read in one go from 224
    for slot, target in enumerate((64, 98, 132, 133, 134, 135)):
        assert line.write(1, 168 + 2 * slot, target, 2) == 0
    line.put(1000, 2048)
    assert line.ask(1, 2, hexed("E0 00 06 00")) == [(1, 0, hexed("00 00 E8 03 00 00"))]
    assert line.write(1, 224, 1, 1) == 0 and line.read(1, 64, 1) == 1
    assert line.write(1, 226, 5, 4) == t_error("access")  # where it points is read-only


def test_reboot_mutes_the_servo_and_forgets_ram(line):
    line.write(1, 64, 1, 1)
    line.write(1, 98, 100, 1)
    line.write(1, 84, 500, 2)
    assert line.ask(1, 8) == [(1, 0, b"")]
    assert line.ask(1, 1) == []
    line.chain.advance(0.39)
    assert line.ask(1, 1) == []
    line.chain.advance(0.03)
    assert len(line.ask(1, 1)) == 1
    assert (line.read(1, 64, 1), line.read(1, 98, 1), line.read(1, 84, 2)) == (0, 0, 800)
    assert 400 <= line.read(1, 120, 2) <= 440  # ms since then


def test_bus_watchdog_counts_any_packet_and_locks_the_goals(line):
    line.write(1, 11, 1, 1)
    line.write(1, 64, 1, 1)
    line.write(1, 98, 5, 1)  # 100 ms
    line.write(1, 104, 100, 4)
    for _ in range(10):
        line.chain.advance(0.09)
        line.ask(2, 1)  # to somebody else
    assert line.read(1, 98, 1) == 5 and line.read(1, 128, 4) == pytest.approx(100, abs=2)
    line.chain.advance(0.4)
    assert line.read(1, 98, 1) == -1
    assert abs(line.read(1, 128, 4)) <= 1, "it must brake"
    for address, size in ((100, 2), (102, 2), (104, 4), (116, 4)):
        assert line.write(1, address, 10, size) == t_error("range")
    assert line.write(1, 98, 5, 1) == t_error("range") and line.write(1, 98, 0, 1) == 0
    assert line.write(1, 104, 50, 4) == 0
    line.chain.advance(0.5)
    assert line.read(1, 128, 4) == pytest.approx(50, abs=2)


def test_watchdog_sleeps_while_torque_is_off(line):
    line.write(1, 98, 1, 1)
    line.chain.advance(1.0)
    assert line.read(1, 98, 1) == 1


def test_hardware_error_takes_the_torque_until_a_reboot(line):
    line.write(1, 64, 1, 1)
    line.servos[0].trip(t.OVERLOAD_ERROR)
    ((_, error, params),) = line.ask(1, 2, hexed("40 00 07 00"))
    assert error == 0x80 and params[0] == 0 and params[6] == 32  # Alert and data both
    line.write(1, 64, 1, 1)
    assert line.read(1, 64, 1) == 0
    line.write(2, 64, 1, 1)
    line.servos[1].trip(t.VOLTAGE_ERROR)  # not in the mask: seen, not acted on
    assert line.read(2, 64, 1) == 1
    line.ask(1, 8)
    line.chain.advance(0.5)
    assert line.ask(1, 2, hexed("46 00 01 00")) == [(1, 0, b"\0")]
    assert line.write(1, 64, 1, 1) == 0 and line.read(1, 64, 1) == 1


def test_position_is_counted_as_the_registers_say(line):
    line.put(3000, 2048)
    assert line.read(1, 132, 4) == 3000
    line.write(1, 20, -100, 4)
    assert line.read(1, 132, 4) == 2900
    line.write(1, 20, 0, 4)
    line.write(1, 10, 1, 1)  # reverse: mirrored about the middle
    assert line.read(1, 132, 4) == 1096
    line.write(1, 10, 0, 1)
    line.write(1, 11, 4, 1)
    line.put(3000 + 3 * 4096, 2048)
    assert line.read(1, 132, 4) == 3000 + 3 * 4096
    assert line.ask(1, 0x10, hexed("01 44 58 4C 22")) == [(1, 0, b"")]
    assert line.read(1, 132, 4) == 3000
    line.joints.velocity[0] = 2.0
    line.chain.look()
    assert line.ask(1, 0x10, hexed("01 44 58 4C 22")) == [(1, t_error("fail"), b"")]


def test_factory_reset_keeps_what_it_is_told_to(line):
    line.write(1, 7, 30, 1)
    line.write(30, 36, 100, 2)
    assert line.ask(30, 6, b"\x02") == [(30, 0, b"")]
    line.chain.advance(0.5)
    assert line.read(30, 36, 2) == 885 and line.read(30, 8, 1) == 3
    assert line.ask(EVERYONE, 6, b"\xff") == []
    assert len(line.ask(30, 1)) == 1, "a broadcast must not reset everybody's number"


def test_backup_brings_rom_back(line):
    line.write(1, 36, 300, 2)
    assert line.ask(1, 0x20, b"\x01CTRL") == [(1, 0, b"")] and line.read(1, 147, 1) == 1
    line.write(1, 36, 885, 2)
    assert line.ask(1, 0x20, b"\x02CTRL") == [(1, 0, b"")] and line.read(1, 36, 2) == 300
    line.write(1, 64, 1, 1)
    assert line.ask(1, 0x20, b"\x02CTRL") == [(1, t_error("access"), b"")]


def test_shadow_obeys_and_does_not_answer(line):
    line.write(2, 12, 1, 1)
    assert [who for who, _, _ in line.ask(1, 3, hexed("41 00 01"))] == [1]
    assert line.read(2, 65, 1) == 1


def test_a_servo_at_another_speed_hears_nothing(line):
    line.bus.host_baud = 57_600
    assert line.ask(1, 1) == []
    line.bus.host_baud = 1_000_000
    assert line.write(1, 8, 1, 1) == 0  # answered as it was asked
    assert line.ask(1, 1) == []
    line.bus.host_baud = 57_142
    assert len(line.ask(1, 1)) == 1


def test_noise_and_torn_packets_are_survived(line):
    whole = packet(1, 1)
    for cut in range(1, len(whole)):
        line.bus.receive(b"\xff\xff\xfd" + whole[:cut])
        assert line.ask(whole[cut:]) == [(1, 0, b"\xfc\x03\x30")], cut
    line.bus.receive(whole[:7] + b"\x09")  # a packet that never ends swallows the beginning of the next one
    line.bus.receive(whole)
    line.bus.transmit()
    assert line.ask(whole) == [(1, 0, b"\xfc\x03\x30")]
    damaged = packet(1, 1)[:5] + b"\xff\xff" + packet(1, 1)[7:]  # a length of 65535
    line.bus.receive(damaged)
    assert line.ask(whole) == [(1, 0, b"\xfc\x03\x30")]


def test_bytes_take_their_time_on_the_wire():
    clock = LockstepClock()
    line = Line([1, 2], clock=clock)
    line.servos[0].registers.put("return_delay", 50)  # 100 us
    ask = packet(EVERYONE, 0x82, hexed("84 00 04 00 01 02"))
    line.bus.receive(ask)
    begins = len(ask) * 10_000 + 100_000
    assert line.bus.due() == begins + 15 * 10_000
    clock.advance(begins + 10_000 - 1)
    assert line.bus.transmit() == b""
    clock.advance(1)
    assert line.bus.transmit() == b"\xff"
    clock.advance(6 * 10_000)
    assert len(line.bus.transmit()) == 6
    clock.advance(8 * 10_000 + 15 * 10_000)
    assert len(line.bus.transmit()) == 8 + 15 and line.bus.due() is None


def test_an_adapters_timer_holds_every_answer_back():
    clock = LockstepClock()
    line = Line([1], clock=clock)
    line.bus.latency_ns = 16_000_000
    line.bus.receive(packet(1, 1))
    clock.advance(24 * 10_000 + 15_999_999)
    assert len(line.bus.transmit()) == 13
    clock.advance(1)
    assert len(line.bus.transmit()) == 1


def test_dkitty_cycle_takes_what_the_facts_say():
    clock = LockstepClock()
    line = Line([10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42], clock=clock)
    goals = b"".join(bytes([s.id]) + (2048).to_bytes(4, "little") for s in line.servos)
    line.bus.receive(packet(EVERYONE, 0x83, hexed("74 00 04 00") + goals))
    line.bus.receive(packet(EVERYONE, 0x82, hexed("7E 00 0A 00") + bytes(s.id for s in line.servos)))
    clock.advance(3_519_999)  # 74 + 26 + 252 bytes of 10 us: 3.52 ms (hardware facts 4.3)
    assert len(line.bus.transmit()) == 251
    clock.advance(1)
    assert len(line.bus.transmit()) == 1


def test_who_talks_into_an_answer_is_not_understood():
    line = Line([1, 2])
    line.bus.receive(packet(1, 1) + packet(2, 1))  # the second begins where the first is answered
    with pytest.raises(AssertionError):
        statuses(line.bus.transmit())
    assert line.bus.collisions == 1
    assert [who for who, _, _ in line.ask(2, 1)] == [2]
    line.bus.receive(packet(EVERYONE, 0x83, hexed("41 00 01 00 01 01 02 01")) + packet(1, 1))  # no answer to talk into
    assert [who for who, _, _ in statuses(line.bus.transmit())] == [1]


def test_frames_computed_for_a_dkitty():
    """Hardware facts 4.3, own vectors: torque on for all twelve, the block read, a negative current, the watchdog."""
    line = Line([10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42])
    on = "FF FF FD 00 FE 1F 00 83 40 00 01 00 0A 01 0B 01 0C 01 14 01 15 01 16 01 1E 01 1F 01 20 01 28 01 29 01 2A 01 AA 37"
    assert line.ask(hexed(on)) == [] and all(s.registers.get("torque") for s in line.servos)
    block = "FF FF FD 00 FE 13 00 82 7E 00 0A 00 0A 0B 0C 14 15 16 1E 1F 20 28 29 2A D5 FB"
    assert [(who, len(data)) for who, _, data in line.ask(hexed(block))] == [(s.id, 10) for s in line.servos]
    line = Line([1])
    assert line.ask(hexed("FF FF FD 00 01 07 00 03 66 00 9C FF 40 6F")) == [(1, 0, b"")]
    assert line.ask(hexed("FF FF FD 00 01 06 00 03 62 00 05 68 E4")) == [(1, 0, b"")]
    assert line.read(1, 102, 2) == -100 and line.read(1, 98, 1) == 5
