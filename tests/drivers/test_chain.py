"""The chain against servos written here by hand from the manual: struct, hex and nothing of the driver's codec."""

import math
import os
import random
import struct
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl import config
from robotrl.clock import LockstepClock, WallClock
from robotrl.drivers.chain import Chain
from robotrl.drivers.easing import Easing
from robotrl.drivers.port import DeviceError, MemoryPort, PortError, SerialPort

N = 8
SIGN = (1, -1, 1, -1, 1, 1, -1, -1)
OFFSET = (0.0, 0.1, -0.2, 0.3, 0.0, 6.0, -6.0, 0.5)
SERVOS = config.Servos(sign=SIGN, offset=OFFSET, kp=8.0, kd=0.3, max_torque=3.5, velocity_limit=60.0, watchdog_s=0.1)
TAU = 2 * math.pi

THERMISTOR = "servo.enable_motor_temperature"


def crc(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = ((value << 1) ^ 0x97 if value & 0x80 else value << 1) & 0xFF
    return value


class Servo:
    """One moteus: registers by number, mode rules, console."""

    def __init__(self) -> None:
        self.mode, self.fault = 0, 0
        self.turn, self.speed, self.torque, self.volts, self.temp_c, self.motor_c = 0.25, 0.5, -0.5, 16.0, 31, 47
        self.commands: list[dict[int, float]] = []
        self.conf = {
            "servo.pid_position.kp": 4.0,
            "servo.pid_position.ki": 1.0,
            "servo.pid_position.kd": 0.05,
            "servo.default_timeout_s": math.nan,
            "servo.timeout_mode": 12.0,
            "servo.fault_temperature": 75.0,
            THERMISTOR: 0.0,
            "servo.max_voltage": 46.0,
            "servo.max_current_A": 100.0,
            "servo.max_velocity": 500.0,
            "servo.max_position_slip": math.nan,
            "servopos.position_min": -0.01,
            "servopos.position_max": 0.01,
        }
        self.stubborn = ""
        self.printed = b"old news\r\n"
        self.typed = b""

    def type(self, text: bytes) -> None:
        self.typed += text
        while b"\n" in self.typed:
            line, self.typed = self.typed.split(b"\n", 1)
            word, verb, name, *value = line.decode().split()
            assert word == "conf"
            if name not in self.conf:
                self.printed += b"ERR error reading\r\n"
            elif verb == "get":
                self.printed += b"%f\r\n" % self.conf[name]
            else:
                if name != self.stubborn:
                    self.conf[name] = float(value[0])
                self.printed += b"OK\r\n"


def written(frame: bytes) -> dict[int, float]:
    """Registers that a frame writes, by hand: int8 or f32, short counts, no scale but for the gains'."""
    values, at = {}, 0
    while at < len(frame) and frame[at] != 0x50:
        head, register, at = frame[at], frame[at + 1], at + 2
        assert head in (0x01, 0x02, 0x0D, 0x0E), frame.hex()
        for k in range(head & 3):
            if head < 0x0C:
                (number,) = struct.unpack_from("<b", frame, at)
                values[register + k] = number / 127 if register + k in (0x23, 0x24) else number
            else:
                (values[register + k],) = struct.unpack_from("<f", frame, at)
            at += 1 if head < 0x0C else 4
    return values


class Bus:
    """An fdcanusb and eight servos. `spoil(line) -> bytes` may tear what a servo answers."""

    def __init__(self, checksum: bool = False) -> None:
        self.servos = {i: Servo() for i in range(1, N + 1)}
        self.mute: set[int] = set()
        self.spoil = lambda servo, line: line
        self.checksum = checksum
        self.out = b""
        self.got = b""
        self.frames = 0

    def _say(self, text: bytes, servo: int = 0) -> None:
        line = text + b" *%02X" % crc(text + b" ") if self.checksum else text
        self.out += self.spoil(servo, line + b"\r\n")

    def receive(self, data: bytes) -> None:
        self.got += data
        while b"\n" in self.got:
            line, self.got = self.got.split(b"\n", 1)
            if self.checksum:
                body, star, sum_ = line[:-3], line[-3:-2], line[-2:]
                if star != b"*" or int(sum_, 16) != crc(body):
                    self._say(b"ERR checksum")
                    continue
                line = body
            words = line.split()
            assert words[:2] == [b"can", b"send"], line
            self._say(b"OK")
            self._frame(int(words[2], 16), bytes.fromhex(words[3].decode()))

    def _frame(self, can_id: int, frame: bytes) -> None:
        self.frames += 1
        assert len(frame) in (*range(9), 12, 16, 20, 24, 32, 48, 64)
        source, target = can_id >> 8, can_id & 0x7F
        if target not in self.servos or target in self.mute:
            return
        servo, answer = self.servos[target], b""
        if frame[0] == 0x40:
            assert frame[1] == 1
            servo.type(frame[3 : 3 + frame[2]])
        elif frame[0] == 0x42:
            text, servo.printed = servo.printed[:9], servo.printed[9:]
            answer = bytes((0x41, 1, len(text))) + text
        elif frame[0] == 0x11:
            assert frame.rstrip(b"\x50") == bytes.fromhex("11001f01110a130d")
            answer = struct.pack(
                "<BBbBBfffBBbBBbbb",
                *(0x21, 0, servo.mode, 0x2F, 1, servo.turn, servo.speed, servo.torque),
                *(0x21, 0x0A, servo.motor_c if servo.conf[THERMISTOR] else 0),
                *(0x23, 0x0D, int(servo.volts * 2), servo.temp_c, servo.fault),
            )
        else:
            values = written(frame)
            servo.commands.append(values)
            if values[0] == 0:
                servo.mode = servo.fault = 0
            elif servo.mode not in (1, 11):
                servo.mode = int(values[0])
        if source & 0x80:
            text = answer.ljust(next(n for n in (8, 12, 16, 20, 24, 32, 48, 64) if n >= len(answer)), b"\x50")
            self._say(b"rcv %x %s E B F" % (target << 8 | source & 0x7F, text.hex().encode()), target)

    def transmit(self) -> bytes:
        data, self.out = self.out, b""
        return data


def rig(checksum: bool = False, servos: config.Servos = SERVOS) -> tuple[Bus, Chain]:
    bus = Bus(checksum)
    return bus, Chain(MemoryPort(bus, "wire"), servos, LockstepClock(), checksum)


@pytest.mark.parametrize(("mode", "code", "fault"), [(10, 95, 95), (10, 96, 0), (10, 102, 0), (10, 103, 0), (10, 104, 104),
                                                     (1, 102, 102), (10, 33, 33)])  # fmt: skip
def test_what_limits_a_driven_servos_torque_is_no_fault(mode, code, fault):
    bus, chain = rig()
    bus.servos[3].mode, bus.servos[3].fault = mode, code
    joints = chain.read(0)
    assert (joints.mode[2], joints.fault[2], joints.missed[2]) == (mode, fault, 0)


@pytest.mark.parametrize("checksum", [False, True])
def test_read_gives_robot_angles_and_health(checksum):
    bus, chain = rig(checksum)
    chain.configure()
    joints = chain.read(3)
    assert joints.tick == 3 and joints.missed == (0,) * N
    assert joints.position == pytest.approx([s * (TAU * 0.25 - o) for s, o in zip(SIGN, OFFSET, strict=True)])
    assert joints.velocity == pytest.approx([s * TAU * 0.5 for s in SIGN])
    assert joints.torque == pytest.approx([s * -0.5 for s in SIGN])
    assert joints.temp_c == (47.0,) * N and joints.board_c == (31.0,) * N and joints.voltage == (16.0,) * N
    assert joints.mode == joints.fault == (0,) * N
    bus.servos[3].motor_c, bus.servos[3].fault, bus.servos[3].mode = -128, 35, 1  # no motor sensor
    assert [chain.read(tick).temp_c[2] for tick in (4, 5)] == [47.0] * 2, "it may be a bit that flipped"
    joints = chain.read(6)
    assert (joints.board_c[2], joints.fault[2], joints.mode[2]) == (31.0, 35, 1) and math.isnan(joints.temp_c[2])
    assert chain.frame_errors == chain.late_replies == 0


@pytest.mark.parametrize("checksum", [False, True])
def test_write_carries_target_gains_limits_and_watchdog(checksum):
    bus, chain = rig(checksum)
    targets = [0.5 + 0.1 * i for i in range(N)]
    sent = chain.write(targets)
    assert sent == pytest.approx(targets, abs=1e-6)
    for i in range(N):
        (values,) = bus.servos[i + 1].commands
        assert values[0] == 10 and values[0x23] == values[0x24] == 1.0
        assert values[0x20] == pytest.approx((SIGN[i] * targets[i] + OFFSET[i]) / TAU)
        assert sent[i] == SIGN[i] * (values[0x20] * TAU - OFFSET[i])
        assert values[0x25] == 3.5 and values[0x28] == pytest.approx(60 / TAU)
        assert values[0x27] == pytest.approx(0.1)
    assert chain.read(0).mode == (10,) * N


def test_every_command_that_drives_has_a_finite_watchdog():
    bus, chain = rig()
    chain.write([1.0] * N)
    chain.damp()
    for servo in bus.servos.values():
        for values in servo.commands:
            assert 0 < values[0x27] <= 0.5
        assert servo.commands[1][0x23] == 0 and servo.commands[1][0x24] == 1.0
        assert math.isnan(servo.commands[1][0x20]) and servo.commands[1][0x21] == 0
        assert servo.commands[1][0x25] == 3.5


def test_who_is_left_out_of_a_write_is_sent_nothing():
    bus, chain = rig()
    chain.write([1.0] * N, but=(0, 5))
    assert [i for i, servo in bus.servos.items() if not servo.commands] == [1, 6]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e40, -1e300])
@pytest.mark.parametrize("at", range(N))
def test_not_one_byte_leaves_for_a_target_that_is_no_number(bad, at):
    bus, chain = rig()
    with pytest.raises(ValueError, match="nothing was sent"):
        chain.write([bad if i == at else 1.0 for i in range(N)])
    with pytest.raises(ValueError, match="7 targets for 8"):
        chain.write([1.0] * (N - 1))
    assert bus.frames == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=N, max_size=N))
@settings(max_examples=100, deadline=None)
def test_what_write_returns_is_what_the_bytes_hold(targets):
    bus, chain = rig()
    for i, value in enumerate(chain.write(targets)):
        on_wire = bus.servos[i + 1].commands[0][0x20]
        assert value == SIGN[i] * (on_wire * TAU - OFFSET[i])
        assert value == pytest.approx(targets[i], rel=1e-6, abs=2e-6)


@pytest.mark.parametrize("mute", range(1, N + 1))
def test_a_mute_servo_is_counted_and_keeps_its_last_value_while_the_others_go_on(mute):
    bus, chain = rig()
    chain.read(0)
    bus.mute.add(mute)
    for servo in bus.servos.values():
        servo.turn = 0.3
    for k in range(1, 4):
        joints = chain.read(k)
        assert joints.missed == tuple(k if i + 1 == mute else 0 for i in range(N))
        i = mute - 1
        assert joints.position[i] == pytest.approx(SIGN[i] * (TAU * 0.25 - OFFSET[i]))
        assert joints.position[i - 1] == pytest.approx(SIGN[i - 1] * (TAU * 0.3 - OFFSET[i - 1]))
    bus.mute.clear()
    assert chain.read(9).missed == (0,) * N


def test_before_the_first_answer_a_value_is_no_number():
    bus, chain = rig()
    bus.mute = set(range(1, N + 1))
    joints = chain.read(0)
    assert all(map(math.isnan, joints.position)) and joints.mode == (-1,) * N
    assert min(joints.missed) > 0


def spoilers() -> dict[str, object]:
    return {
        "not hex": lambda line: line.replace(b"2f01", b"2fzz"),
        "torn": lambda line: line[:30],
        "head": lambda line: line.replace(b"2f01", b"2f02"),
        "short": lambda line: b" ".join(line.split()[:2]) + b" 2100\r\n",
        "nan": lambda line: line.replace(struct.pack("<f", 0.25).hex().encode(), b"0000c07f"),
        "far off": lambda line: line.replace(struct.pack("<f", 0.25).hex().encode(), b"0000803f".replace(b"3f", b"41")),
        "too fast": lambda line: line.replace(line[line.index(b"2f01") + 12 :][:8], struct.pack("<f", 2e5).hex().encode()),
        "too strong": lambda line: line.replace(line[line.index(b"2f01") + 20 :][:8], struct.pack("<f", -2e4).hex().encode()),
        "padding": lambda line: line.replace(b"5050505050", b"5050505051"),
        "wrong id": lambda line: line.replace(b"rcv 3", b"rcv 6"),
        "half an end": lambda line: line.replace(b"rcv ", b"rcv\r"),
    }


@pytest.mark.parametrize("kind", list(spoilers()))
def test_a_corrupted_reply_is_dropped_counted_and_the_next_is_good(kind):
    bus, chain = rig()
    chain.read(0)
    bus.spoil = lambda servo, line: spoilers()[kind](line) if servo == 3 else line
    joints = chain.read(1)
    assert joints.missed[2] == 1
    assert joints.position[2] == pytest.approx(SIGN[2] * (TAU * 0.25 - OFFSET[2]))
    assert chain.frame_errors >= 1
    if kind != "torn":  # the torn line took its neighbour's beginning with it, not its frame
        assert joints.missed == tuple(int(i == 2) for i in range(N))
    bus.spoil = lambda servo, line: line
    assert chain.read(2).missed == (0,) * N


def test_with_checksums_no_flipped_bit_is_believed():
    bus, chain = rig(checksum=True)
    want = chain.read(0)
    rng = random.Random(5)

    def flip(servo: int, line: bytes) -> bytes:
        at = rng.randrange(len(line) - 2)
        return line[:at] + bytes((line[at] ^ 1 << rng.randrange(8),)) + line[at + 1 :] if servo == 4 else line

    bus.spoil = flip
    for k in range(400):
        joints = chain.read(k)
        assert joints.position == want.position and joints.temp_c == want.temp_c
        assert joints.missed[3] == k + 1
    assert chain.frame_errors >= 400


def test_the_chain_learns_that_checksums_are_wanted():
    bus, chain = rig()
    bus.checksum = True
    chain.read(0)
    assert chain.checksum
    assert chain.read(1).missed == (0,) * N
    chain.write([1.0] * N)
    assert all(servo.commands for servo in bus.servos.values())


@pytest.mark.parametrize("cycles", [1, 2, 3, 4, 8])
def test_a_reply_that_is_cycles_late_is_not_taken_for_fresh(cycles):
    bus, chain = rig()
    chain.read(0)
    held = []
    bus.spoil = lambda servo, line: (held.append(line), b"")[1] if servo == 2 else line
    assert chain.read(1).missed[1] == 1
    bus.spoil = lambda servo, line: b"" if servo == 2 else line
    bus.servos[2].turn = 0.4
    for k in range(1, cycles):
        chain.read(1 + k)
    bus.out = held[0]
    joints = chain.read(1 + cycles)
    assert joints.missed[1] == 1 + cycles and chain.late_replies == 1
    assert joints.position[1] == pytest.approx(SIGN[1] * (TAU * 0.25 - OFFSET[1]))


@pytest.mark.parametrize("cut", [1, 4, 9, 30, -1])
def test_a_late_reply_whose_end_comes_after_the_question_is_not_taken_for_fresh(cut):
    bus, chain = rig()
    chain.read(0)
    held = []
    bus.spoil = lambda servo, line: (held.append(line), b"")[1] if servo == 2 else line
    chain.read(1)
    bus.spoil = lambda servo, line: b"" if servo == 2 else line
    for k in range(3):  # the next question has the number of the one that it answers
        chain.read(2 + k)
    bus.out = held[0][:cut]
    rest = [held[0][cut:]]  # comes before all that is said to the question
    bus.spoil = lambda servo, line: b"" if servo == 2 else rest.pop() + line if rest else line
    joints = chain.read(5)
    assert joints.missed == (0, 5, *[0] * (N - 2))
    bus.spoil = lambda servo, line: line
    bus.out = held[0][:cut]  # whose end never comes
    assert chain.read(6).missed == (0,) * N


def test_stop_clear_and_reading_back():
    bus, chain = rig()
    chain.write([1.0] * N)
    assert not chain.confirmed_off()
    chain.stop()
    assert chain.confirmed_off()
    bus.mute.add(5)
    assert not chain.confirmed_off()
    bus.mute.clear()
    chain.write([1.0] * N)
    bus.servos[2].mode, bus.servos[7].mode, bus.servos[7].fault = 11, 1, 33
    chain.read(0)
    assert chain.clear() == (2, 7)
    joints = chain.read(1)
    assert joints.mode == (10, 0, 10, 10, 10, 10, 0, 10) and joints.fault == (0,) * N
    assert chain.clear() == ()


@pytest.mark.parametrize("checksum", [False, True])
def test_configure_sets_gains_per_revolution_and_check_agrees(checksum):
    bus, chain = rig(checksum)
    before = chain.check()
    assert len(before) == 8 * N
    assert "servo 1 on wire: servo.pid_position.kp is 4" in before[0]
    chain.configure()
    for servo in bus.servos.values():
        assert servo.conf["servo.pid_position.kp"] == pytest.approx(8.0 * TAU, rel=1e-6)
        assert servo.conf["servo.pid_position.kd"] == pytest.approx(0.3 * TAU, rel=1e-6)
        assert servo.conf["servo.pid_position.ki"] == 0.0
        assert servo.conf["servo.default_timeout_s"] == 0.1
    assert chain.check() == []
    assert all(not servo.commands for servo in bus.servos.values())


LIMITS = {  # a field of the robot file, what it says, the servo's name for it, and what that becomes
    "temp_c": (70.0, "servo.fault_temperature", 70.0),
    "volts_max": (24.0, "servo.max_voltage", 24.0),
    "amps": (60.0, "servo.max_current_A", 60.0),
    "speed_rad_s": (168.0, "servo.max_velocity", 168.0 / TAU),
}


@pytest.mark.parametrize("field", LIMITS)
def test_a_limit_of_the_servo_is_refused_where_it_is_higher_brought_down_and_read_back(field):
    value, name, most = LIMITS[field]
    bus, chain = rig(servos=replace(SERVOS, protection=config.Protection(**{field: value})))
    chain.configure()
    assert {round(servo.conf[name], 4) for servo in bus.servos.values()} == {round(most, 4)} and chain.check() == []
    bus.servos[3].conf[name] = most * 1.01
    (complaint,) = chain.check()
    assert complaint == f"servo 3 on wire: {name} is {most * 1.01:f}, not {most:.6g} at most; configure it again"
    bus.servos[3].stubborn = name
    with pytest.raises(DeviceError, match=f"servo 3 on wire: {name} reads"):
        chain.configure()
    bus.servos[3].stubborn, bus.servos[3].conf[name] = "", most * 0.5
    chain.configure()
    assert bus.servos[3].conf[name] == most * 0.5 and chain.check() == [], "who has less keeps it"


def test_thermistors_are_read_where_the_robot_has_them_and_one_that_says_nothing_is_a_complaint():
    bus, chain = rig()
    chain.configure()
    assert all(servo.conf[THERMISTOR] == 1.0 for servo in bus.servos.values()) and chain.check() == []
    nothing = (
        "servo 5 on wire: says no temperature of its winding; connect its thermistor, or set robot.servos.thermistors to false"
    )
    for celsius in (0, -40, -128):
        bus, chain = rig()
        chain.configure()
        bus.servos[5].motor_c = celsius
        assert chain.check() == [nothing]
    bus.servos[5].stubborn = THERMISTOR
    bus.servos[5].conf[THERMISTOR] = 0.0
    with pytest.raises(DeviceError, match=r"servo 5 on wire: servo.enable_motor_temperature reads 0.0* after setting 1"):
        chain.configure()


def test_without_thermistors_nothing_is_asked_of_them_and_boards_alone_are_told():
    bus, chain = rig(servos=replace(SERVOS, thermistors=False))
    chain.configure()
    assert all(servo.conf[THERMISTOR] == 0.0 for servo in bus.servos.values()) and chain.check() == []
    assert chain.read(1).temp_c == chain.read(2).board_c == (31.0,) * N
    bus.servos[1].temp_c = -128
    for tick in (3, 4, 5):
        joints = chain.read(tick)
    assert math.isnan(joints.temp_c[0]) and math.isnan(joints.board_c[0])


def test_a_thermistor_that_falls_silent_in_a_driven_servo_is_no_number_and_a_stopped_one_is_to_be_set_up_anew():
    bus, chain = rig()
    chain.configure()
    bus.servos[5].mode = 10
    assert chain.read(1).temp_c == (47.0,) * N and chain.rebooted == ()
    tick = 1
    for celsius, board in ((0, 31), (-64, 31), (47, 95), (111, 31)):  # a bit that flipped on the wire, twice
        bus.servos[5].motor_c = bus.servos[6].motor_c = celsius
        bus.servos[5].temp_c = board
        for _ in range(2):
            joints, tick = chain.read(tick + 1), tick + 1
            assert joints.temp_c == (47.0,) * N and joints.board_c == (31.0,) * N and chain.rebooted == ()
        bus.servos[5].motor_c, bus.servos[6].motor_c, bus.servos[5].temp_c = 57, 37, 41  # as far as it may go
        joints, tick = chain.read(tick + 1), tick + 1
        assert (joints.temp_c[4:6], joints.board_c[4]) == ((57.0, 37.0), 41.0)
        bus.servos[5].motor_c, bus.servos[6].motor_c, bus.servos[5].temp_c = 47, 47, 31
        joints, tick = chain.read(tick + 1), tick + 1
    bus.servos[5].temp_c = 95
    for _ in range(3):
        joints, tick = chain.read(tick + 1), tick + 1
    assert joints.board_c[4] == 95.0, "whoever says so a third time is believed"
    bus.servos[5].motor_c = bus.servos[6].motor_c = 0
    for _ in range(4):
        joints, tick = chain.read(tick + 1), tick + 1
    assert math.isnan(joints.temp_c[4]) and joints.temp_c[5] == 47.0 and chain.rebooted == (6,)


def test_a_board_near_its_own_limit_does_without_its_peak_torque_as_a_winding_does():
    for winding, board, eased in ((90, 31, ()), (91, 31, (2,)), (47, 65, ()), (47, 66, (2,))):
        bus = Bus()
        chain = Chain(MemoryPort(bus, "wire"), SERVOS, LockstepClock(), stop_c=100.0)
        chain.configure()
        bus.servos[3].motor_c, bus.servos[3].temp_c = winding, board
        chain.read(1)
        assert chain._easing.servos == eased, (winding, board)


@pytest.mark.parametrize("name", ["servo.max_position_slip", "servopos.position_min", "servopos.position_max"])
def test_a_range_in_the_servo_and_a_goal_that_slips_are_taken_out(name):
    bus, chain = rig()
    chain.configure()
    assert all(math.isnan(servo.conf[name]) for servo in bus.servos.values())
    bus.servos[2].conf[name] = 0.25
    (complaint,) = chain.check()
    assert f"servo 2 on wire: {name} is 0.25" in complaint and "not nan" in complaint
    del bus.servos[2].conf[name]
    (complaint,) = chain.check()
    assert f"servo 2 on wire: {name} is ERR error reading, not nan" in complaint


def test_configure_names_the_servo_that_does_not_take_it():
    bus, chain = rig()
    bus.servos[6].stubborn = "servo.default_timeout_s"
    with pytest.raises(DeviceError, match=r"servo 6 on wire: servo.default_timeout_s reads nan") as error:
        chain.configure()
    assert "\n" not in str(error.value)
    bus, chain = rig()
    bus.mute.add(4)
    with pytest.raises(DeviceError, match="servo 4 on wire: does not answer; check its id, cable and power"):
        chain.configure()


def test_check_names_each_fault():
    bus, chain = rig()
    chain.configure()
    bus.mute.add(2)
    bus.servos[3].mode, bus.servos[3].fault = 1, 34
    bus.servos[4].mode = 11
    bus.servos[5].conf["servo.timeout_mode"] = 15.0
    bus.spoil = lambda servo, line: line + line if servo == 6 else line
    complaints = chain.check()
    assert [c.split(":")[0] for c in complaints] == [f"servo {i} on wire" for i in (2, 3, 4, 5, 6)]
    for complaint, word in zip(complaints, ("answer", "fault 34", "mode 11", "timeout_mode", "twice"), strict=True):
        assert word in complaint and "\n" not in complaint


@pytest.mark.parametrize(
    "change",
    [
        {"ids": (1, 1, 3, 4, 5, 6, 7, 8)},
        {"ids": (0, 2, 3, 4, 5, 6, 7, 8)},
        {"ids": (1, 2, 3, 4, 5, 6, 7, 126)},
        {"ids": (1, 2)},
        {"sign": (1, 1, 1, 1, 1, 1, 1, 2)},
        {"offset": (0, 0, 0, 0, 0, 0, 0, math.nan)},
        {"watchdog_s": math.nan},
        {"watchdog_s": 0.0},
        {"max_torque": -1.0},
        {"velocity_limit": math.inf},
    ],
)
def test_wiring_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match="servos: ") as error:
        rig(servos=config.Servos(**change))
    assert "\n" not in str(error.value)


def test_garbage_between_replies_never_raises_and_ends_each_cycle():
    bus, chain = rig()
    rng = random.Random(2)
    bus.spoil = lambda servo, line: rng.randbytes(rng.randrange(60)) + line[rng.randrange(4) * (servo > 0) :]
    for k in range(500):
        chain.read(k)
        chain.write([1.0] * N)
    bus.spoil = lambda servo, line: line
    chain.read(0)
    assert chain.read(1).missed == (0,) * N
    assert chain.frame_errors > 500


class Ticking:
    """A clock that a test moves and every look at it moves on by a millisecond."""

    def __init__(self) -> None:
        self.t = 0

    def now(self) -> int:
        self.t += 1_000_000
        return self.t

    def sleep_until(self, deadline: int) -> None:
        self.t = max(self.t, deadline)


class Babbler:
    name = "babbler"

    def write(self, data: bytes) -> None:
        pass

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        return b"rcv 100 zz\n"

    def close(self) -> None:
        pass


@pytest.mark.parametrize("clock", [Ticking(), LockstepClock()])
def test_a_babbling_far_end_cannot_hold_the_cycle(clock):
    begin = clock.now()
    joints = Chain(Babbler(), SERVOS, clock).read(0)
    assert min(joints.missed) > 0
    assert clock.now() - begin < 20_000_000


def test_slow_adapter_is_named():
    bus = Bus()
    chain = Chain(MemoryPort(bus, "wire"), SERVOS, Ticking())
    chain.configure()
    assert chain.check() == []
    slow = bus.transmit
    clock = chain._clock

    def transmit() -> bytes:
        clock.t += 5_000_000
        return slow()

    bus.transmit = transmit
    (complaint,) = chain.check()
    assert "latency_timer" in complaint and complaint.startswith("wire")
    reads = iter(range(25))

    def busy() -> bytes:
        return transmit() if next(reads, 24) < 24 else slow()

    bus.transmit = busy  # a busy machine delays some reads, an adapter all
    assert chain.check() == []


class Tardy(MemoryPort):
    """What the servos answer comes 50 ms after it was asked for."""

    def __init__(self, bus: Bus, clock: LockstepClock) -> None:
        super().__init__(bus, "wire")
        self.clock, self.due = clock, 0

    def write(self, data: bytes) -> None:
        super().write(data)
        self.due = self.clock.now() + 50_000_000

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        self.clock.sleep_until(min(deadline, self.due))
        data = super().read(deadline, limit) if self.clock.now() >= self.due else b""
        if not data:
            self.clock.sleep_until(deadline)
        return data


@pytest.mark.parametrize(("patience", "mute", "confirmed", "ms"), [(0, 0, False, 12), (100, 0, True, 50), (100, 3, False, 100)])
def test_who_is_patient_hears_late_answers_and_waits_no_longer_than_that(patience, mute, confirmed, ms):
    clock, bus = LockstepClock(), Bus()
    bus.mute = {mute} if mute else set()
    chain = Chain(Tardy(bus, clock), SERVOS, clock)
    assert chain.confirmed_off(patience * 1_000_000) is confirmed and clock.now() == ms * 1_000_000


def test_on_a_pty_with_one_servo_mute_and_then_unplugged():
    master, slave = os.openpty()
    bus, clock = Bus(), WallClock()
    bus.mute.add(8)
    port = SerialPort(os.ttyname(slave), 921600, clock)
    os.close(slave)
    stop = threading.Event()

    def serve() -> None:
        os.set_blocking(master, False)
        while not stop.is_set():
            try:
                bus.receive(os.read(master, 65536))
                os.write(master, bus.transmit())
            except BlockingIOError:
                time.sleep(0.0002)

    thread = threading.Thread(target=serve)
    thread.start()
    chain = Chain(port, SERVOS, clock)
    try:
        heard = 0
        for k in range(20):
            joints = chain.read(k)
            heard += joints.missed[0] == 0
            chain.write([1.0] * N)
            assert joints.missed[7] > 0
        assert heard > 0
    finally:
        stop.set()
        thread.join()
        os.close(master)
    with pytest.raises(PortError, match="lost"):
        chain.read(99)
    port.close()


def test_a_servo_that_used_its_peak_torque_too_long_on_end_is_held_to_the_continuous_one_until_it_asks_for_less() -> None:
    from robotrl.drivers.commands import Commands

    commands = Commands(SERVOS, False)
    peak, eased = (commands.position([2.0] * 8, servos).split(b"\n") for servos in ((), (2,)))
    changed = [i for i in range(8) if peak[i] != eased[i]]
    high, low = (struct.pack("<f", nm).hex().encode() for nm in (SERVOS.max_torque, SERVOS.continuous_torque))
    assert changed == [2] and high in peak[2] and eased[2] == peak[2].replace(high, low)

    easing = Easing(SERVOS)
    hard, rest = [0.0, 0.0, -3.0] + [0.0] * 5, [0.0] * 8
    held = []
    for k in range(60):  # 0.6 s of strain on servo 2, then rest
        easing.read(k * 20_000_000, hard if k < 30 else rest)
        held.append(easing.servos)
    first = held.index((2,))
    assert first * 0.02 == pytest.approx(SERVOS.peak_s, abs=0.021)
    assert all(h == (2,) for h in held[first:30]) and not any(held[30:])
    easing = Easing(SERVOS)
    for k in range(120):  # as a leg that carries most of every step: 0.1 s above, 0.02 s below
        easing.read(k * 20_000_000, rest if k % 6 == 5 else hard)
        assert easing.servos == ()
