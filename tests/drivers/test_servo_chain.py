"""The chain of bus servos against the twin's lines: handshake, late, lost and damaged answers, what is written. No physics."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from robotrl.clock import LockstepClock
from robotrl.config import Twin
from robotrl.drivers import dynamixel
from robotrl.drivers.chains import chain_of
from robotrl.drivers.port import DeviceError, MemoryPort
from robotrl.drivers.servo_chain import CYCLE_NS, ServoChain
from robotrl.drivers.servo_line import TURNS
from robotrl.nodes.powerdown import CONFIRM_NS, first_reading
from robotrl.nodes.rescue import stop_motors
from robotrl.nodes.servoloop import UNREAD_MAX, ServoLoop, set_up
from robotrl.sim.fleets import FLEETS
from robotrl.sim.servotwin import ServoTwin
from tests.nodes.armrig import run_of

ROBOTS = ("so101", "omx", "dkitty")
LOST_NS = 3_000_000  # what one lost reply may cost (safety facts, row 1)


class TimedPort:
    """A wire in virtual time: who waits for bytes moves the clock to when they have come."""

    name = "timed"

    def __init__(self, bus, clock):
        self.bus, self.clock = bus, clock

    def write(self, data):
        self.bus.receive(data)

    def read(self, deadline, limit=4096):
        while not (data := self.bus.transmit()):
            due = self.bus.due()
            if due is None or due > deadline:
                self.clock.sleep_until(deadline)
                return self.bus.transmit()
            self.clock.sleep_until(due)
        return data

    def close(self):
        pass


class Late(MemoryPort):
    """Holds back what is answered in one cycle until after the next one's question."""

    due = held = b""
    late = asked = False

    def cycle(self):
        self.due, self.held, self.asked = self.held, b"", False

    def write(self, data):
        self.asked = True
        super().write(data)

    def read(self, deadline, limit=4096):
        data = super().read(deadline, limit)
        if self.late:
            self.held += data
            data, self.due = (self.due, b"") if self.asked else (b"", self.due)
        return data


class Held(MemoryPort):
    """A hub that is busy: keeps answers while `holds`, then gives `first` bytes after a question, and all after the next."""

    kept, first, holds, asked = b"", 0, False, 0

    def write(self, data):
        self.asked += 1
        super().write(data)

    def read(self, deadline, limit=4096):
        self.kept += super().read(deadline, limit)
        if self.holds or not self.asked:
            return b""
        count = self.first if self.asked == 1 else len(self.kept)
        data, self.kept = self.kept[:count], self.kept[count:]
        self.first -= len(data)
        return data


@pytest.fixture(params=ROBOTS)
def robot(request):
    return request.param


class Bench:
    """A twin's line without physics between the cycles, and the chain on it."""

    def __init__(self, robot, folder, port=MemoryPort, overrides=()):
        self.described = described = run_of(robot, folder, list(overrides)).robot
        self.servos = described.servos
        self.twin = ServoTwin(robot)
        self.far = self.twin.wires["servos"]
        self.port = port(self.far, "line")
        self.chain = chain_of(self.port, described, self.twin.clock)

    def started(self):
        self.chain.stop()
        self.chain.configure()
        assert self.chain.check() == []
        return self

    def fault(self, **line):
        self.twin.command(line)

    def register(self, name):
        return [servo.registers.get(name) for servo in self.twin.bus.servos]


@pytest.fixture
def bench(robot, tmp_path):
    return Bench(robot, tmp_path)


def rom(bench):
    return [{r.name: s.registers.get(r.name) for r in s.registers.table.registers if r.rom} for s in bench.twin.bus.servos]


def test_the_start_says_nothing_of_a_sound_line_and_changes_no_eeprom(bench):
    before = rom(bench)
    bench.started()
    assert rom(bench) == before and not any(bench.register("torque"))


def test_a_missing_servo_is_named_and_so_is_the_stranger_in_its_place(bench):
    who = bench.servos.ids[1]
    bench.fault(fault="rename", servo=who, to=99)
    with pytest.raises(DeviceError, match=f"servo {who} .*does not answer"):
        bench.chain.configure()
    complaints = bench.chain.check()
    assert any(f"servo {who} ({bench.servos.joints[1]}): does not answer" in c for c in complaints)
    assert any("id 99:" in c and "not in the robot file" in c for c in complaints)


def test_servos_that_measure_no_current_get_no_chain(tmp_path):
    """An XL430 has a load in 126: no torque would ever be seen, so nothing that strains would be stopped or eased."""
    says = r"^servos: no chain for Dynamixel model 1060 \(it measures no current: .*\); it knows "
    with pytest.raises(DeviceError, match=says) as error:
        Bench("omx", tmp_path, overrides=["robot.servos.model=1060"])
    assert "\n" not in str(error.value) and str(error.value).endswith("it knows 1020 (XM430-W350), 1030 (XM430-W210)")
    with pytest.raises(DeviceError, match=r"^servos: no chain for Dynamixel model 1200; it knows 1020"):
        Bench("omx", tmp_path, overrides=["robot.servos.model=1200"])


def test_two_servos_with_one_number_are_told_of(bench):
    one, other = bench.servos.ids[1], bench.servos.ids[2]
    bench.twin.joints.put([0.02 * n for n in range(len(bench.servos.ids))])
    bench.twin.chain.look()
    bench.fault(fault="rename", servo=one, to=other)
    complaints = bench.chain.check()
    assert any(f"servo {one} " in c and "does not answer" in c for c in complaints)
    assert any(f"id {other}: answers a ping and garbles its reads" in c for c in complaints)


def test_servos_at_another_speed_are_said_not_to_answer(bench):
    bench.twin.bus.host_baud = 57_600
    complaints = bench.chain.check()
    assert len(complaints) == len(bench.servos.ids) and all("does not answer; check its id, baud" in c for c in complaints)


@pytest.mark.parametrize(
    "robot, register, value, says",
    [
        ("omx", "return_delay", 250, r"Return Delay Time\(9\): 250"),
        ("omx", "operating_mode", 4, r"Operating Mode\(11\): 4, mode 3 is asked for"),
        ("omx", "shutdown", 4, r"Shutdown\(63\): 4 does not let go on"),
        ("omx", "drive_mode", 8, r"Drive Mode\(10\): 8, any goal turns torque on"),
        ("omx", "homing_offset", 100, r"Homing Offset\(20\): 100"),
        ("omx", "max_position", 3000, r"Max Position Limit\(48\): 3000, 406\d at least"),
        ("omx", "min_position", 1500, r"Min Position Limit\(52\): 1500, \d+ at most"),
        ("so101", "mode", 1, r"33: 1, nothing in the servo stops it"),
        ("so101", "return_delay", 250, r"7: 250"),
        ("so101", "max_position", 2100, r"11: 2100, 3\d+ at least"),
    ],
)  # fmt: skip
def test_the_handshake_refuses(robot, register, value, says, tmp_path):
    bench = Bench(robot, tmp_path)
    bench.twin.bus.servos[0].registers.put(register, value)
    bench.twin.bus.servos[0]._settings = None
    bench.chain.stop()
    bench.chain.configure()
    (complaint,) = bench.chain.check()
    assert re.search(says, complaint) and f"servo {bench.servos.ids[0]} ({bench.servos.joints[0]})" in complaint, complaint


def test_a_lock_that_lerobot_has_left_open_is_closed_at_the_start(tmp_path):
    bench = Bench("so101", tmp_path)
    bench.twin.bus.servos[2].registers.put("lock", 0)
    assert any("55: 0, what is written to EPROM stays there" in line for line in bench.chain.check())
    bench.chain.configure()
    assert bench.twin.bus.servos[2].registers.get("lock") == 1 and bench.chain.check() == []


LEFT = {  # by a tuner, or another driver, in RAM, the power on ever since; and what it is when a servo is switched on
    "omx": {"position_p": (16000, 800), "position_i": (5000, 0), "position_d": (9000, 0), "feedforward_1": (700, 0),
            "feedforward_2": (800, 0), "profile_acceleration": (3, 0)},
    "so101": {"acceleration": (1, 0)},
}  # fmt: skip


@pytest.mark.parametrize("robot", LEFT)
def test_what_an_earlier_program_left_in_ram_is_as_after_power_on(robot, tmp_path):
    bench = Bench(robot, tmp_path)
    new = Bench(robot, tmp_path)
    for register, (left, fresh) in LEFT[robot].items():
        assert set(new.register(register)) == {fresh}, "as the servo comes"
        for servo in bench.twin.bus.servos:
            servo.registers.put(register, left)
    bench.started()
    assert {name: set(bench.register(name)) for name in LEFT[robot]} == {name: {made} for name, (_, made) in LEFT[robot].items()}


def test_gains_of_the_robot_file_stay_what_the_file_says(tmp_path):
    bench = Bench("omx", tmp_path, overrides=["robot.servos.position_p=640", "robot.servos.position_d=0"])
    for servo in bench.twin.bus.servos:
        servo.registers.put("position_d", 9)
    bench.started()
    got = [set(bench.register("position_" + name)) for name in "pid"]
    assert got == [{640}, {0}, {0}]


def test_a_gain_that_does_not_become_what_it_is_told_is_named(tmp_path):
    bench = Bench("omx", tmp_path)
    servo = bench.twin.bus.servos[2]
    write = servo.write
    servo.write = lambda address, data: 0 if address == 80 else write(address, data)
    servo.registers.put("position_i", 5000)
    bench.chain.stop()
    with pytest.raises(DeviceError, match=r"servo 13 \(elbow\): register 80 reads 000088132003 after writing 000000002003"):
        bench.chain.configure()


def limited(folder, most=500):
    """An SO-101 whose jaw its owner has limited, as LeRobot does, and then switched off and on."""
    bench = Bench("so101", folder)
    jaw = bench.twin.bus.servos[5]
    for data in (b"\0", most.to_bytes(2, "little"), b"\1"):
        jaw.write(16 if len(data) == 2 else 55, data)
    jaw.boot()
    bench.twin.advance(1.0)
    assert bench.register("torque_limit") == [1000] * 5 + [most]
    return bench


def test_a_torque_limit_in_a_feetech_is_never_exceeded_by_a_goal(tmp_path):
    bench = limited(tmp_path).started()
    chain = bench.chain
    here = chain.read(0).position
    for share, most in ((1.0, 1000), (0.3, 300), (0.517, 517), (1.0, 1000)):
        chain._shares.of_supply = lambda share=share: [share] * 6
        chain.write(here)
        assert bench.register("torque_limit") == [most] * 5 + [min(500, most)]
    chain.stop()
    chain.damp()
    chain.write(here, but=[1])
    assert bench.register("torque_limit")[5] == 500
    bench.twin.bus.servos[5].registers.put("max_torque", 200)  # another servo in its place, and set up anew
    bench.twin.bus.servos[0].registers.put("max_torque", 900)
    bench.started()
    chain.write(here)
    assert bench.register("torque_limit") == [900] + [1000] * 4 + [200]


def test_who_has_no_time_to_ask_for_torque_limits_gives_no_more_than_there_is(tmp_path):
    bench = limited(tmp_path).started()
    here = bench.chain.read(0).position
    bench.chain._shares.of_supply = lambda: [1.0, 0.3, 1.0, 1.0, 1.0, 1.0]
    bench.chain.write(here)
    rescue = chain_of(bench.port, bench.described, bench.twin.clock, starts=False)
    for k in range(3):
        rescue.write(rescue.read(k).position)
        assert bench.register("torque_limit") == [1000, 300, 1000, 1000, 1000, 500]


def test_an_arm_that_is_lowered_before_it_is_set_up_keeps_its_torque_limit(tmp_path):
    """An older program has raised it in RAM."""
    bench = limited(tmp_path).started()
    bench.chain.write(bench.chain.read(0).position)
    bench.twin.bus.servos[5].write(48, (1000).to_bytes(2, "little"))
    chain = chain_of(bench.port, bench.described, bench.twin.clock, starts=False)
    joints = first_reading(chain, bench.twin.clock)
    assert chain.check(set_up=False) == []
    chain.write(joints.position)
    assert bench.register("torque_limit") == [1000] * 5 + [500]


@pytest.mark.parametrize("steps, says", [(0, "16: 0, it moves nothing; write 1000, or less"), (40000, "16: 40000, 1000 at most")])
def test_a_torque_limit_that_is_none_is_a_complaint(tmp_path, steps, says):
    bench = Bench("so101", tmp_path)
    bench.twin.bus.servos[5].registers.put("max_torque", steps)
    bench.chain.stop()
    bench.chain.configure()
    (line,) = bench.chain.check()
    assert "servo 6 (jaw), memory table 2.2, " + says in line and line.endswith("robotrl setup-servo --robot so101")


def test_a_servo_that_does_not_say_its_torque_limit_is_named(tmp_path):
    bench = Bench("so101", tmp_path)
    jaw = bench.twin.bus.servos[5]
    read = jaw.read
    jaw.read = lambda address, length: b"" if address == 16 else read(address, length)
    bench.chain.stop()
    with pytest.raises(DeviceError, match=r"^line: servo 6 \(jaw\): does not say its own limits; check its cable$"):
        bench.chain.configure()


def test_a_latency_timer_that_nobody_set_is_refused_with_the_line_that_fixes_it(robot, tmp_path):
    clock = LockstepClock()
    bus = FLEETS[robot].line(clock)
    chain = ServoChain(TimedPort(bus, clock), run_of(robot, tmp_path).robot, clock)
    chain.configure()
    assert chain.check() == []
    bus.latency_ns = 16_000_000
    assert any("set the adapter's latency_timer to 1 ms" in c for c in chain.check())


def test_a_lost_reply_costs_three_milliseconds_and_only_its_servo(robot, tmp_path):
    """Whoever is silent, the first, one in the middle, or the last: the rest are heard in the same cycle."""
    clock = LockstepClock()
    bus = FLEETS[robot].line(clock)
    described = run_of(robot, tmp_path).robot
    servos, chain = described.servos, ServoChain(TimedPort(bus, clock), described, clock)
    chain.configure()
    sound = []  # ns, in each turn
    for n in range(TURNS):
        assert not any(chain.read(n).missed)
        sound.append(chain.round_trip_ns)
    for who in servos.ids:
        bus.faults.begin("mute", who, math.inf)
        for n in range(1, TURNS):
            joints = chain.read(n)
            missed = dict(zip(servos.ids, joints.missed, strict=True))
            assert missed.pop(who) == n and not any(missed.values())
            assert chain.round_trip_ns - sound[n - 1] <= LOST_NS, (who, n, chain.round_trip_ns, sound)
        bus.faults.end()
        assert not any(chain.read(TURNS).missed) and chain.round_trip_ns <= sound[TURNS - 1] + 50_000


def test_a_cycle_with_the_goals_read_back_leaves_time_to_spare(robot, tmp_path):
    """Twelve servos at 50 Hz: question, answers and goals take a third of the period at most, in each turn."""
    clock = LockstepClock()
    bus, described = FLEETS[robot].line(clock), run_of(robot, tmp_path).robot
    chain = ServoChain(TimedPort(bus, clock), described, clock)
    chain.configure()
    write_ns = (14 + len(described.servos.ids) * 9) * 10_000  # bytes at 1 Mbit/s
    for n in range(TURNS):
        joints = chain.read(n)
        chain.write(joints.position)
        assert not any(joints.missed) and chain.round_trip_ns + write_ns < 20_000_000 / 3
        clock.advance(20_000_000)


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_servos_whose_power_was_just_switched_on_are_all_heard_though_one_by_one_they_take_longer_than_a_cycle(robot, tmp_path):
    """None of them has its registers set up: each is asked alone. No arm that lies limp is taken for one that may hold."""
    clock = LockstepClock()
    bus, described = FLEETS[robot].line(clock), run_of(robot, tmp_path).robot
    bus.latency_ns = 2_000_000  # of the adapter
    chain = ServoChain(TimedPort(bus, clock), described, clock, starts=False)
    n = len(described.servos.ids)
    joints = first_reading(chain, clock)
    assert not any(math.isnan(at) for at in joints.position) and joints.mode == (0,) * n, joints
    assert chain.frame_errors == chain.late_replies == 0
    for _ in range(2 * n):
        joints = chain.read(-1)
        clock.advance(20_000_000)
        assert joints.mode == (0,) * n and max(joints.missed) <= n // 3 + 1
    assert chain.confirmed_off(CONFIRM_NS) and bool(chain.rebooted) is (described.servos.protocol == "dynamixel")


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("latency_ns", [0, 2_000_000])
def test_a_bus_whose_power_was_away_is_set_up_anew_though_no_cycle_hears_all_of_it(robot, latency_ns, tmp_path):
    clock = LockstepClock()
    bus, described = FLEETS[robot].line(clock), run_of(robot, tmp_path).robot
    port = TimedPort(bus, clock)
    loop = ServoLoop(described, set_up(described, port, clock, -1, print), clock, 0.02)
    bus.latency_ns = latency_ns
    for _ in range(10):
        assert loop.cycle(None, None)[2].powered_off_confirmed
        clock.advance(20_000_000)
    for servo in bus.servos:
        servo.boot()
    if robot != "so101":  # its registers tell, though no question was missed
        wake(bus)
    with pytest.raises(DeviceError, match="all are set up anew"):
        for n in range(100):
            loop.cycle(None, None)
            clock.advance(20_000_000)
            if n == UNREAD_MAX:
                wake(bus)


def wake(bus):
    for servo in bus.servos:
        servo.wakes_s = servo.now


def test_who_was_silent_for_long_and_has_then_been_set_up_is_believed_at_once(bench):
    bench.fault(fault="mute", servo=bench.servos.ids[1])
    for _ in range(TURNS):
        bench.chain.read(-1)
    bench.fault(fault="mute", servo=bench.servos.ids[1], for_s=0.0)
    bench.twin.advance(0.02)
    bench.started()
    assert not any(bench.chain.read(0).missed)


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_one_answer_that_is_lost_at_first_is_no_reason_to_cut_the_power(robot, on, tmp_path):
    """A rescue's chain is made for the stop: who misses its first question owes it no older answer."""
    clock = LockstepClock()
    bus, described, told = FLEETS[robot].line(clock), run_of(robot, tmp_path).robot, []
    chain, answer, lost = ServoChain(TimedPort(bus, clock), described, clock, starts=False), bus._answer, []

    def loses(servos, *rest):
        if servos and servos[0].id == described.servos.ids[2] and not lost:
            lost.append(servos)
            return answer([], *rest)
        return answer(servos, *rest)

    bus._answer = loses
    outcome = stop_motors(described, chain, clock, on, told.append)
    assert lost and outcome.confirmed and told == []


def patient(robot, folder):
    """A chain as on the twin, whose silent servos are waited for for most of a cycle: its clock, its line, itself."""
    clock = LockstepClock()
    bus, described = FLEETS[robot].line(clock), run_of(robot, folder).robot
    bus.latency_ns = round(Twin().adapter_s * 1e9)
    described = replace(described, servos=replace(described.servos, quiet_s=Twin().quiet_s))
    chain = ServoChain(TimedPort(bus, clock), described, clock)
    chain.configure()
    return clock, bus, chain


def test_who_is_silenced_is_heard_again_once_the_mute_one_is_lost_where_no_time_is_left_to_ask_again(robot, tmp_path):
    """Asked in the order of before, those behind the mute one stayed silent for as long as it did."""
    clock, bus, chain = patient(robot, tmp_path)
    due = clock.now()
    for n in range(14):
        due = max(due + 20_000_000, clock.now())
        clock.sleep_until(due)
        if n == 2:
            bus.faults.begin("mute", bus.servos[1].id, 1e9)
        missed = chain.read(n).missed
        assert 2 <= n < 10 or missed == tuple((i == 1) * max(0, n - 1) for i in range(len(missed)))


def test_who_was_mute_beside_one_that_stays_mute_is_heard_again(robot, tmp_path):
    """Both have silenced others: by their places one of them waited for the other for ever."""
    clock, bus, chain = patient(robot, tmp_path)
    due = clock.now()
    for n in range(20):
        due = max(due + 20_000_000, clock.now())
        clock.sleep_until(due)
        if n in (2, 8):
            bus.faults.end()
            for i in (1, 3) if n == 2 else (1,):
                bus.faults.begin("mute", bus.servos[i].id, 1e9)
        missed = chain.read(n).missed
    assert missed == tuple((i == 1) * 18 for i in range(len(missed)))


def test_a_silent_line_ends_the_cycle(robot, tmp_path):
    clock = LockstepClock()
    bus = FLEETS[robot].line(clock)
    chain = ServoChain(TimedPort(bus, clock), run_of(robot, tmp_path).robot, clock)
    bus.host_baud = 9600
    joints = chain.read(0)
    assert all(joints.missed) and all(map(math.isnan, joints.position)) and set(joints.mode) == {-1}
    assert chain.round_trip_ns <= CYCLE_NS + 3_000_000


def test_answers_that_come_a_cycle_late_are_never_fresh(robot, tmp_path):
    bench = Bench(robot, tmp_path, Late).started()
    where = [0.1] * len(bench.servos.ids)
    before = bench.chain.read(0)
    bench.port.late = True
    for n in range(6):
        bench.twin.joints.put(where)
        bench.twin.chain.look()
        bench.port.cycle()
        joints = bench.chain.read(n)
        assert all(joints.missed) and joints.position == before.position
    if robot != "so101":  # an answer of another length is none of a Feetech's: its sum is too weak to look at it
        assert bench.chain.late_replies > 0


@pytest.mark.parametrize("held", range(1, 10))
@pytest.mark.parametrize("first", [1, 1.5, 2, 3, 99])
def test_of_a_line_that_was_held_up_no_answer_but_to_the_newest_question_is_taken(robot, tmp_path, held, first):
    """Of what was kept, so many cycles' answers come with the next question and the rest with the one after it."""
    bench = Bench(robot, tmp_path, Held)
    bench.port.asked = 99
    bench.started()
    fresh = []
    for n in range(held + 9):
        bench.twin.joints.put([0.1 + 0.01 * n] * len(bench.servos.ids))
        bench.twin.chain.look()
        bench.port.holds = 1 <= n <= held
        bench.port.asked = 0 if n == held + 1 else bench.port.asked
        if n == held + 1:
            bench.port.first = round(first * len(bench.port.kept) / held)
        joints = bench.chain.read(n)
        for angle, missed in zip(joints.position, joints.missed, strict=True):
            assert missed or angle == pytest.approx(0.1 + 0.01 * n, abs=4e-3)
        fresh.append(not any(joints.missed))
    assert fresh[0] and all(fresh[held + 7 :])


def test_noise_on_the_line_never_becomes_a_reading(bench):
    bench.started()
    rng = np.random.default_rng(1)
    still = bench.chain.read(0)
    bench.fault(fault="corrupt", rate=0.02)
    missed = 0
    for n in range(300):
        joints = bench.chain.read(n)
        missed += sum(m > 0 for m in joints.missed)
        assert joints.position == still.position, rng
    assert missed > 10 and bench.chain.frame_errors > 10


def test_a_temperature_that_jumps_is_believed_the_third_time(bench):
    bench.started()
    was = bench.chain.read(0).temp_c
    for celsius in (89, was[1] - 11):
        bench.fault(fault="heat", servo=bench.servos.ids[1], celsius=celsius)
        assert [bench.chain.read(n).temp_c for n in range(2)] == [was] * 2
        assert bench.chain.read(2).temp_c == (was[0], celsius, *was[2:]) and bench.chain.frame_errors == 0
        for step in (10, 5, 0, 0, 0):
            bench.fault(fault="heat", servo=bench.servos.ids[1], celsius=was[1] + math.copysign(step, celsius - was[1]))
            temp_c = bench.chain.read(3).temp_c
        assert temp_c == was


def test_a_position_that_no_joint_can_have_come_to_is_refused(bench):
    bench.started()
    still = bench.chain.read(0)
    bench.twin.joints.put([1.4] * len(bench.servos.ids))
    bench.twin.chain.look()
    assert bench.chain.read(1).position == still.position and bench.chain.frame_errors == len(bench.servos.ids)
    for n in range(3):
        joints = bench.chain.read(n)
    assert joints.position == pytest.approx([1.4] * len(bench.servos.ids), abs=2e-3) and not any(joints.missed)


@pytest.mark.parametrize("wrong", [[0.0], [math.nan], [math.inf], [1e12]])
def test_targets_that_are_none_send_nothing(bench, wrong):
    bench.started()
    sent = []
    bench.far.receive = sent.append
    targets = wrong if len(wrong) == 1 and wrong[0] == 0.0 else wrong + [0.0] * (len(bench.servos.ids) - 1)
    with pytest.raises(ValueError):
        bench.chain.write(targets)
    assert not sent


def test_signs_zeros_and_gears_are_the_robot_files(tmp_path):
    bench = Bench("omx", tmp_path, overrides=["robot.servos.sign=[1,-1,1,-1,1]", "robot.servos.gear=[1,1,2,1,1]"]).started()
    bench.chain.read(0)
    sent = bench.chain.write([0.1, 0.2, 0.1, 0.1, 0.1])
    ticks = bench.register("goal_position")
    assert ticks == [2048 + 65, 2048 - 130, 2048 + 130, 2048 - 65, 2048 + 65]
    assert sent == pytest.approx([0.1, 0.2, 0.1, 0.1, 0.1], abs=8e-4)
    assert bench.register("torque") == [1] * 5 and bench.register("bus_watchdog") == [5] * 5


def test_torque_that_went_later_than_the_start_is_not_put_on_again(bench):
    bench.started()
    here = bench.chain.read(0).position
    bench.chain.write(here)
    assert all(bench.register("torque"))
    bench.twin.advance(0.3)
    bench.twin.bus.servos[0].registers.put("torque", 0)
    bench.twin.bus.servos[0]._settings = None
    assert bench.chain.read(1).mode[0] == 0
    bench.chain.write(here)
    assert bench.register("torque")[0] == 0


def test_an_alert_without_its_reason_is_kept(tmp_path):
    bench = Bench("omx", tmp_path).started()
    read = bench.chain.line.asked(bench.servos.ids, 0)
    data = bytes([0] * read.layout.length)
    for i in bench.servos.ids:
        read.put(i, dynamixel.ALERT if i == 11 else 0, data)
    assert bench.chain.line.reading(read).fault.tolist() == [128, 0, 0, 0, 0]


def test_stop_and_stop_all_take_torque_off_and_it_is_read_back(bench):
    bench.started()
    here = bench.chain.read(0).position
    for stop in (bench.chain.stop, bench.chain.stop_all):
        bench.chain.write(here)
        assert all(bench.register("torque")) and not bench.chain.confirmed_off()
        stop()
        assert not any(bench.register("torque")) and bench.chain.confirmed_off()


def test_damping_gives_no_way_and_asks_for_none(bench):
    bench.started()
    bench.chain.write(bench.chain.read(0).position)
    bench.chain.damp()
    if bench.servos.protocol == "dynamixel":
        assert bench.register("goal_pwm") == [0] * len(bench.servos.ids) and all(bench.register("torque"))
    else:
        assert bench.register("torque") == [2] * len(bench.servos.ids)
    bench.chain.stop()
    bench.twin.advance(0.02)
    bench.chain.write(bench.chain.read(1).position)
    assert bench.register("torque") == [1] * len(bench.servos.ids)
    if bench.servos.protocol == "dynamixel":
        assert bench.register("goal_pwm") == [885] * len(bench.servos.ids)


def test_a_feetech_that_was_braked_goes_by_the_next_goals_again(tmp_path):
    """It says that it has torque while it brakes, and goes by no goal: nobody would switch it on, and its arm would sink."""
    bench = Bench("so101", tmp_path).started()
    here = bench.chain.read(0).position
    bench.chain.write(here)
    bench.twin.advance(0.3)  # longer than a start
    bench.chain.read(1)
    bench.chain.damp()
    bench.twin.advance(0.02)
    assert set(bench.chain.read(2).mode) == {10}, "it has torque"
    bench.chain.write(here, but=[0])
    assert bench.register("torque")[1:] == [1] * 5
    assert bench.register("torque")[0] == 2, "told no goal, it would go for its old one"
    bench.chain.read(3)
    bench.chain.write(here)
    assert bench.register("torque") == [1] * len(bench.servos.ids)
    bench.twin.advance(0.3)
    bench.twin.bus.servos[0].registers.put("torque", 0)
    bench.twin.bus.servos[0]._settings = None
    bench.chain.read(4)
    bench.chain.write(here)
    assert bench.register("torque")[0] == 0, "whose torque goes later stays off"


def test_a_chain_that_starts_nobody_leaves_a_brake_as_it_is(tmp_path):
    bench = Bench("so101", tmp_path).started()
    here = bench.chain.read(0).position
    bench.chain.write(here)
    chain = chain_of(bench.twin.ports()["servos"], bench.described, LockstepClock(), starts=False)
    chain.read(0)
    chain.damp()
    chain.read(1)
    chain.write(here)
    assert bench.register("torque") == [2] * len(bench.servos.ids)


@pytest.fixture(params=["omx", "dkitty"])
def leaning(request, tmp_path):
    """Dynamixel whose own limits are their joints' ranges; the second lies 3 degrees beyond, and refuses goals there whole."""
    bench = Bench(request.param, tmp_path)
    for servo, (low, high) in zip(bench.twin.bus.servos, bench.chain.line._spans, strict=True):
        servo.registers.put("min_position", low)
        servo.registers.put("max_position", high)
    bench.twin.joints.put([low - 0.05 if i == 1 else 0.0 for i, low in enumerate(bench.described.lowest)])
    bench.twin.chain.look()
    return bench.started()


def test_torque_on_a_joint_beyond_its_servos_own_limits_comes_with_the_watchdog(leaning):
    leaning.chain.stop()
    leaning.chain.write(leaning.chain.read(0).position)
    assert all(leaning.register("torque")) and set(leaning.register("bus_watchdog")) == {5}
    leaning.twin.advance(0.3)
    assert set(leaning.register("bus_watchdog")) == {-1}
    leaning.chain.read(1)
    assert leaning.chain.clear() == leaning.servos.ids and set(leaning.register("bus_watchdog")) == {5}


@pytest.mark.parametrize("heard", [True, False])
def test_damping_reaches_a_joint_beyond_its_servos_own_limits(leaning, heard):
    leaning.chain.write(leaning.chain.read(0).position)
    chain = leaning.chain if heard else chain_of(leaning.port, leaning.described, leaning.twin.clock, starts=False)
    chain.damp()
    assert set(leaning.register("goal_pwm")) == {0} and all(leaning.register("torque"))


@pytest.mark.parametrize("damps", [False, True])
def test_torque_without_a_watchdog_is_a_bad_frame_and_the_next_write_arms_it(leaning, damps):
    chain, sent = leaning.chain, []
    here = chain.read(0).position
    chain.write(here)
    receive = leaning.far.receive
    leaning.far.receive = lambda data: (sent.append(len(data)), receive(data))[1]
    for cycle, bare in enumerate([False, True, False], 1):
        if bare:
            leaning.twin.bus.servos[1].registers.put("bus_watchdog", 0)
        before = chain.frame_errors
        chain.read(TURNS * cycle)
        assert chain.frame_errors - before == bare
        chain.damp() if damps else chain.write(here)
        assert set(leaning.register("bus_watchdog")) == {5}
    assert sent[1] == sent[5] < sent[3], "who has one is told nothing more"
