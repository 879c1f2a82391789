"""The Feetech line against its manual's packets and its own rules; whole packets are built here, from the protocol's page."""

import math

import pytest

from robotrl.clock import LockstepClock
from robotrl.sim import feetechtable as f
from robotrl.sim.feetechbus import FeetechBus
from robotrl.sim.feetechservo import FeetechServo
from robotrl.sim.joints import Pendulums
from robotrl.sim.servobus import Chain

STEP = 2 * math.pi / 4096


def packet(servo, instruction, params=b""):
    body = bytes([servo, len(params) + 2, instruction]) + bytes(params)
    return b"\xff\xff" + body + bytes([255 - sum(body) % 256])


def statuses(data):
    """[(id, error, params)] of status packets in a row; every byte accounted for."""
    out = []
    while data:
        assert data[:2] == b"\xff\xff" and sum(data[2 : 4 + data[3]]) % 256 == 255
        end = 4 + data[3]
        out.append((data[2], data[4], data[5 : end - 1]))
        data = data[end:]
    return out


class Line:
    def __init__(self, ids, clock=None, **arms):
        self.servos = [FeetechServo(f.STS3215_12V, i) for i in ids]
        self.joints = Pendulums([0.03] * len(ids), **arms)
        self.chain = Chain(self.servos, self.joints)
        self.bus = FeetechBus(self.servos, clock)

    def ask(self, *what):
        self.bus.receive(packet(*what) if len(what) > 1 else what[0])
        return statuses(self.bus.transmit())

    def put(self, *steps):
        self.joints.angle[:] = [(s - 2048) * STEP for s in steps]
        self.chain.look()

    def write(self, servo, address, *data):
        assert self.ask(servo, 3, bytes([address, *data])) == [(servo, 0, b"")]

    def read(self, servo, address, size):
        ((_, _, params),) = self.ask(servo, 2, bytes([address, size]))
        assert len(params) == size
        return int.from_bytes(params, "little")


def hexed(text):
    return bytes.fromhex(text.replace(" ", ""))


@pytest.fixture
def line():
    return Line([1, 2, 3, 4])


# The manual's examples: what is sent -> what comes back (hardware facts 5)
GOLDEN = [
    ("FF FF 01 02 01 FB", "FF FF 01 02 00 FC"),
    ("FF FF 01 04 02 38 02 BE", "FF FF 01 04 00 18 05 DD"),
    ("FF FF 01 09 03 2A 00 08 00 00 E8 03 D5", "FF FF 01 02 00 FC"),
    ("FF FF 01 09 04 2A 00 08 00 00 E8 03 D4", "FF FF 01 02 00 FC"),
    ("FF FF FE 02 05 FA", ""),
    ("FF FF FE 20 83 2A 06 01 00 08 00 00 E8 03 02 00 08 00 00 E8 03 03 00 08 00 00 E8 03 04 00 08 00 00 E8 03 58", ""),
    ("FF FF 01 02 06 F6", "FF FF 01 02 00 FC"),
    ("FF FF 01 02 0A F2", "FF FF 01 02 00 FC"),
    ("FF FF FE 04 03 05 01 F4", ""),
    ("FF FF 01 04 03 28 01 CE", "FF FF 01 02 00 FC"),
    ("FF FF FE 04 03 28 00 D2", ""),
    ("FF FF 01 05 03 2A 64 80 E8", "FF FF 01 02 00 FC"),
    ("FF FF 01 04 03 37 00 C0", "FF FF 01 02 00 FC"),
    ("FF FF 01 05 03 1F 32 08 9D", "FF FF 01 02 00 FC"),
]


@pytest.mark.parametrize("sent, answered", GOLDEN)
def test_the_manuals_examples_are_answered_byte_for_byte(line, sent, answered):
    line.put(1304, 2048, 2048, 2048)
    line.bus.receive(hexed(sent))
    assert line.bus.transmit() == hexed(answered)


def test_the_manuals_sync_read(line):
    line.put(2048, 2047, 2048, 2048)
    line.servos[0].volts, line.servos[0].celsius = 12.1, 30.0
    line.servos[1].volts, line.servos[1].celsius = 11.9, 35.0
    line.bus.receive(hexed("FF FF FE 06 82 38 08 01 02 36"))
    assert line.bus.transmit() == hexed("FF FF 01 0A 00 00 08 00 00 00 00 79 1E 55 FF FF 02 0A 00 FF 07 00 00 00 00 77 23 53")


def test_signs_lie_in_their_own_bits(line):
    servo = line.servos[0]
    servo.pwm = -0.3
    line.bus.receive(packet(1, 2, [60, 2]))
    assert line.bus.transmit() == hexed("FF FF 01 04 00 2C 05 C9")  # load -300
    servo.velocity, servo.amps = -100 * STEP, -1.3
    assert line.read(1, 58, 2) == 0x8000 | 100 and line.read(1, 69, 2) == 0x8000 | 200
    line.put(2048, 2048, 2048, 2048)
    line.write(1, 31, 0x32, 0x08)  # offset -50: present = actual + 50
    assert line.read(1, 56, 2) == 2098


def test_errors_ride_on_every_answer(line):
    line.servos[2].trip(32)
    line.put(2048, 2048, 2048, 2048)
    line.bus.receive(packet(3, 2, [56, 2]))
    assert line.bus.transmit() == hexed("FF FF 03 04 20 00 08 D0")
    assert line.ask(3, 1) == [(3, 32, b"")] and line.read(1, 65, 1) == 0


def test_a_wrong_sum_is_passed_over_and_a_doubly_wrong_one_believed(line):
    good = packet(1, 3, [41, 50])
    bad = bytearray(good)
    bad[6] ^= 0x10
    assert line.ask(bytes(bad)) == [] and line.read(1, 41, 1) == 0
    bad[5] ^= 0x10  # the same bit, the other way: the sum does not see it
    assert line.ask(bytes(bad)) == [(1, 0, b"")]
    assert line.ask(1, 0x55) == []
    assert line.ask(b"\xff\xff\xff" + good) == [(1, 0, b"")] and line.read(1, 41, 1) == 50


def test_packets_come_in_any_pieces(line):
    whole = packet(2, 1)
    for cut in range(1, len(whole)):
        line.bus.receive(whole[:cut])
        assert line.ask(whole[cut:]) == [(2, 0, b"")]


def test_reg_write_waits_for_action(line):
    assert line.ask(1, 4, [41, 7]) == [(1, 0, b"")]
    assert line.read(1, 64, 1) == 1 and line.read(1, 41, 1) == 0
    assert line.ask(0xFE, 5) == []
    assert line.read(1, 64, 1) == 0 and line.read(1, 41, 1) == 7


def test_memory_is_kept_only_when_unlocked(line):
    line.write(1, 36, 25)  # lock is 1: good until power goes
    assert line.read(1, 36, 1) == 25
    line.write(1, 55, 0)
    line.write(1, 21, 16)
    assert line.ask(1, 8) == []  # a reboot is not answered
    assert line.ask(1, 1) == []
    line.chain.advance(0.79)
    assert line.ask(1, 1) == []
    line.chain.advance(0.03)
    assert line.read(1, 36, 1) == 80 and line.read(1, 21, 1) == 16 and line.read(1, 55, 1) == 1


def test_restoring_defaults_needs_the_lock_off_and_keeps_the_number(line):
    line.write(2, 21, 9)
    line.ask(2, 6)
    assert line.read(2, 21, 1) == 9
    line.write(2, 55, 0)
    line.ask(2, 6)
    assert line.read(2, 21, 1) == 32 and line.read(2, 5, 1) == 2


def test_read_only_and_out_of_range_are_not_taken(line):
    line.write(1, 3, 0, 0)
    assert line.read(1, 3, 2) == 777
    line.write(1, 33, 9)
    assert line.read(1, 33, 1) == 0
    line.write(1, 48, 0xFF, 0x7F)
    assert line.read(1, 48, 2) == 1000


def test_goals_beyond_the_limits_stop_at_them(line):
    line.write(1, 9, *(1000).to_bytes(2, "little"), *(3000).to_bytes(2, "little"))
    line.write(1, 40, 1)
    line.write(1, 42, *(3500).to_bytes(2, "little"))
    line.chain.advance(2.0)
    assert abs(line.read(1, 56, 2) - 3000) <= 2


def test_here_is_the_middle(line):
    line.put(1000, 2048, 2048, 2048)
    line.write(1, 40, 128)
    assert line.read(1, 56, 2) == 2048 and line.read(1, 40, 1) == 0 and line.read(1, 31, 2) == 0x800 | 1048
    line.put(900, 2048, 2048, 2048)
    assert line.read(1, 56, 2) == 1948


def test_status_level_zero_answers_reads_only(line):
    line.bus.receive(packet(1, 3, [8, 0]))
    line.bus.transmit()
    assert line.ask(1, 3, [41, 3]) == [] and line.read(1, 41, 1) == 3 and len(line.ask(1, 1)) == 1


def test_a_silent_servo_silences_those_behind_it(line):
    line.bus.faults.begin("mute", 3, math.inf)
    assert [who for who, _, _ in line.ask(0xFE, 0x82, [56, 2, 1, 2, 3, 4])] == [1, 2]
    assert [who for who, _, _ in line.ask(0xFE, 0x82, [56, 2, 4, 1])] == [4, 1]
    line.bus.faults.begin("deaf", 1, math.inf)
    line.ask(0xFE, 0x83, [41, 1, 1, 9, 2, 9])
    assert line.read(1, 41, 1) == 0 and line.read(2, 41, 1) == 9


def test_a_ping_to_all_is_understood_of_one_servo_alone(line):
    line.bus.receive(packet(0xFE, 1))
    with pytest.raises(AssertionError):
        statuses(line.bus.transmit())
    assert Line([7]).ask(0xFE, 1) == [(7, 0, b"")]


def test_baud_and_number_change_behind_the_answer(line):
    assert line.ask(1, 3, [5, 9]) == [(1, 0, b"")] and line.ask(1, 1) == [] and line.ask(9, 1) == [(9, 0, b"")]
    line.bus.host_baud = 1_000_000
    assert line.ask(9, 3, [6, 4]) == [(9, 0, b"")] and line.ask(9, 1) == []
    line.bus.host_baud = 115_200
    assert line.ask(9, 1) == [(9, 0, b"")] and line.ask(2, 1) == []


def test_six_servos_take_what_the_facts_say():
    clock = LockstepClock()
    line = Line([1, 2, 3, 4, 5, 6], clock)
    line.bus.receive(packet(0xFE, 0x83, [42, 2] + [b for i in range(1, 7) for b in (i, 0, 8)]))
    line.bus.receive(packet(0xFE, 0x82, [56, 15, 1, 2, 3, 4, 5, 6]))
    clock.advance((26 + 14 + 126) * 10_000 - 1)  # 1.66 ms (hardware facts 5)
    assert len(line.bus.transmit()) == 125
    clock.advance(1)
    assert len(line.bus.transmit()) == 1


def test_who_talks_into_an_answer_is_not_understood(line):
    line.bus.receive(packet(1, 1) + packet(2, 1))
    with pytest.raises(AssertionError):
        statuses(line.bus.transmit())
    assert line.ask(2, 1) == [(2, 0, b"")]
