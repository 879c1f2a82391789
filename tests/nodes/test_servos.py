"""The servo loop against the twin's bus in memory: when torque comes on, and how it goes off."""

from __future__ import annotations

import sys
from array import array
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest

from robotrl import lateness
from robotrl import node as node_module
from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers.chain import Chain
from robotrl.drivers.port import DeviceError, PortError
from robotrl.lateness import Lateness
from robotrl.messages import Action, Drive, Operator, Permit
from robotrl.node import Node
from robotrl.nodes import servos
from robotrl.nodes.lowering import Lowering
from robotrl.nodes.servoloop import UNREAD_MAX, ServoLoop
from robotrl.nodes.servos import Driver
from robotrl.sim.faults import Deaf, Fault, Mute
from robotrl.sim.twin import Twin
from tests.nodes.armrig import run_of

PERIOD_S = 0.02
MS = 1_000_000
TEXT = (b"40", b"42")  # a line of the servos' text console


class Rig:
    def __init__(self, run: Run | None = None):
        run = run or Run()
        self.clock = LockstepClock()
        self.twin = Twin(run, 0, self.clock)
        self.twin.world.place("stand")
        self.port = self.twin.ports()["servos"]
        chain = Chain(self.port, run.robot.servos, self.clock)
        chain.stop()
        self.loop = ServoLoop(run.robot, chain, self.clock, PERIOD_S)
        self.epoch = 1

    def cycle(self, state: str = "", torque: bool = True, silent: bool = False, boot: int = 1):
        self.twin.advance(PERIOD_S)
        self.epoch += 1
        permit = Permit(source="guard", boot=boot, t=self.clock.now(), state=state, epoch=self.epoch, holder="", torque=torque)
        return self.loop.cycle(None if silent else permit, None)

    def modes(self):
        return set(self.cycle(silent=True)[0].mode)


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.twin.close()


def test_torque_comes_on_only_after_a_permit_without_it(rig):
    for _ in range(5):
        assert not rig.cycle("HOLD")[2].gate_open  # a driver that was started again beside a guard that holds
    rig.cycle("READY", torque=False)
    assert rig.cycle("HOLD")[2].gate_open


@pytest.mark.parametrize("before", ["READY", "HOLD"])
def test_a_guard_in_its_second_life_gives_no_torque_before_it_has_said_that_there_is_none(rig, before):
    """It may take the driver's silence for torque that is on."""
    rig.cycle("READY", torque=False)
    rig.cycle(before, torque=before == "HOLD")
    for _ in range(60):
        rig.cycle(silent=True)
    for _ in range(5):
        assert not rig.cycle("PSTOP", boot=2)[2].gate_open
    rig.cycle("READY", torque=False, boot=2)
    assert rig.cycle("HOLD", boot=2)[2].gate_open


def test_a_guard_that_was_late_goes_on_where_it_was(rig):
    """A disk that took its time, between a fall and the reset: no reason for a stop that a person must clear."""
    for silent in (4, 60):
        rig.cycle("RELAX", torque=False)
        for _ in range(silent):
            rig.cycle(silent=True)
        assert rig.cycle("RESET")[2].gate_open


def test_a_word_of_long_ago_arms_nobody(rig):
    rig.twin.advance(0.2)
    old = Permit(source="guard", t=rig.clock.now() - 60 * MS - 1, state="READY", epoch=1, holder="", torque=False)
    rig.loop.cycle(old, None)
    assert not rig.cycle("HOLD")[2].gate_open


def test_without_a_permit_the_gate_shuts_after_60_ms_then_damps_then_confirms_off(rig):
    rig.cycle("READY", torque=False)
    for _ in range(3):
        rig.cycle("HOLD")
    stages = [rig.cycle(silent=True)[2] for _ in range(40)]
    assert [d.gate_open for d in stages[:4]] == [True, True, True, False]
    assert stages[4].stop == "damp" and stages[4].torque_on and not stages[4].powered_off_confirmed
    assert stages[-1].stop == "" and stages[-1].powered_off_confirmed and not stages[-1].torque_on


def test_a_driver_that_dies_leaves_the_motors_to_their_watchdog(rig):
    rig.cycle("READY", torque=False)
    rig.cycle("HOLD")
    rig.cycle("HOLD")
    rig.twin.advance(0.15)
    assert rig.modes() == {11}


def test_a_driver_that_slept_through_its_permit_begins_where_the_joints_are(rig):
    rig.cycle("READY", torque=False)
    for _ in range(30):
        rig.cycle("HOLD")
    rig.twin.advance(0.12)  # and the servos' watchdog has stopped them
    rig.twin.world.place("lie")
    rig.twin.advance(0.001)
    joints, applied, _ = rig.cycle("HOLD")  # the guard has spoken on
    assert set(joints.mode) == {11}
    assert max(abs(a - b) for a, b in zip(applied.target, joints.position, strict=True)) <= 0.035 + 1e-5


@pytest.mark.parametrize("made_ms", [55, 61])
def test_a_cycle_that_is_a_little_late_goes_on_where_the_servos_are_held(rig, made_ms):
    """Else every hiccup of guard and driver together lets a standing robot sink: it gives way under its targets."""
    rig.cycle("READY", torque=False)
    for _ in range(30):
        held = rig.cycle("HOLD")[1].target
    last = rig.clock.now()
    for _ in range(2):
        rig.cycle(silent=True)
    rig.twin.advance(0.022)
    permit = Permit(source="guard", boot=1, t=last + made_ms * MS, state="HOLD", epoch=rig.epoch + 1, holder="", torque=True)
    joints, applied, _ = rig.loop.cycle(permit, None)
    assert rig.clock.now() - last > 60 * MS and set(joints.mode) == {10}
    assert applied.target == held


def test_one_that_is_very_late_does_not(rig):
    rig.cycle("READY", torque=False)
    for _ in range(30):
        held = rig.cycle("HOLD")[1].target
    last = rig.clock.now()
    rig.twin.advance(0.12)
    permit = Permit(source="guard", boot=1, t=last + 110 * MS, state="HOLD", epoch=rig.epoch + 1, holder="", torque=True)
    assert rig.loop.cycle(permit, None)[1].target != held


def test_a_servo_whose_power_was_gone_is_not_started_again_by_the_next_target(rig):
    rig.cycle("READY", torque=False)
    for _ in range(30):
        rig.cycle("HOLD")
    rig.twin.bus.bank.reboot(2)
    joints, _, drive = rig.cycle("HOLD")
    assert joints.mode[2] == 0 and not drive.gate_open and drive.stop == "damp"
    assert not any(rig.cycle("HOLD")[2].gate_open for _ in range(60)), "a permit that goes on is nobody's word"
    rig.cycle("READY", torque=False)
    assert rig.cycle("HOLD")[2].gate_open


def test_a_servo_that_missed_the_first_targets_is_started_by_the_next(rig):
    rig.cycle("READY", torque=False)
    rig.twin.wires["servos"].add(Deaf(3), for_s=0.1)
    assert all(rig.cycle("HOLD")[2].gate_open for _ in range(40))
    assert rig.modes() == {10}


def test_an_action_of_nobody_is_applied_by_nobody(rig):
    rig.cycle("READY", torque=False)
    rig.cycle("HOLD")
    rig.twin.advance(PERIOD_S)
    action = Action(source="policy", seq=1, t=rig.clock.now(), valid_ns=10**9, epoch=rig.epoch, tick=0, target=(2.0,) * 8)
    assert rig.loop.cycle(None, action)[1].writer == "hold"


class Mortal:
    """The guard's stream as the driver sees it: a permit at each of these times (ns), without torque at first. Then silence."""

    def __init__(self, times, clock):
        self.clock = clock
        self.permits = [
            Permit(source="guard", t=t, state="HOLD" if i > 2 else "READY", epoch=1, holder="", torque=i > 2)
            for i, t in enumerate(times)
        ]

    def latest(self, source=""):
        return max((p for p in self.permits if p.t <= self.clock.now()), key=lambda p: p.t, default=None)

    def drain(self):
        return []


class Told:
    """A publisher that keeps what it is given."""

    def __init__(self):
        self.messages = []

    def send(self, message):
        self.messages.append(message)
        return message


class VirtualNode(Node):
    """The servo driver's node, its own period kept on virtual time; a bus on which the guard alone is heard."""

    def __init__(self, times, ends):
        self.run, self.clock, self.stopping, self.ends, self.source = Run(), LockstepClock(), False, ends, "servos"
        self.lateness, self._paced, self._spin, self.due = Lateness(array("d"), 0), True, False, 0
        self._suspended = 0
        self.bus, self.told, self.guard = self, {}, Mortal(times, self.clock)

    def subscriber(self, topic):
        return self.guard

    def publisher(self, topic):
        return self.told.setdefault(topic, Told())

    def over(self):
        return self.clock.now() > self.ends


class Stamped(Fault):
    """Keeps when the driver wrote what."""

    def __init__(self, clock):
        self.clock, self.written = clock, []

    def inward(self, data):
        self.written.append((self.clock.now(), data))
        return data


def drive_on(times, ends, monkeypatch, wire_reader):
    """A driver on virtual time until `ends`; when it wrote targets, when it damped, and the health it told."""
    node = VirtualNode(times, ends)
    twin = Twin(node.run, 0, node.clock)
    monkeypatch.setattr(servos, "SerialPort", lambda *_: twin.ports()["servos"])
    driver = Driver(node)
    wire = Stamped(node.clock)
    twin.wires["servos"].add(wire)
    driver.serve()
    twin.close()
    sent = [(t, wire_reader(data)) for t, data in wire.written if data.split()[3][:2] not in TEXT]
    return [t for t, s in sent if s.position], [t for t, s in sent if s.damped], node.told["drive"].messages


class Twice(Fault):
    """Two servos have one id: what it says comes twice."""

    def outward(self, data):
        return b"".join(line * (1 + line.startswith(b"rcv 6")) for line in data.splitlines(keepends=True))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Twice(), r"^servo 6 on servos: answers twice; give each servo its own id$"),
        (Mute(3), "^servo 3 on servos: does not answer"),
    ],
)
def test_what_the_handshake_complains_of_keeps_the_driver_from_ever_giving_torque(fault, says, monkeypatch, wire_reader):
    node = VirtualNode([], 0)
    twin = Twin(node.run, 0, node.clock)
    wire = Stamped(node.clock)
    twin.wires["servos"].add(fault)
    twin.wires["servos"].add(wire)
    monkeypatch.setattr(servos, "SerialPort", lambda *_: twin.ports()["servos"])
    with pytest.raises(DeviceError, match=says):
        Driver(node)
    twin.close()
    lines = b"".join(data for _, data in wire.written).splitlines(keepends=True)
    moving = [line for line in lines if line.split()[3][:2] not in TEXT]
    assert moving and not any(wire_reader(line).position or wire_reader(line).damped for line in moving)


@pytest.mark.parametrize("phase", [0, 1 * MS, 7 * MS, 13 * MS, 20 * MS - 1])
def test_after_the_last_permit_the_stop_is_written_at_its_60_ms_and_not_in_the_next_cycle(phase, monkeypatch, wire_reader):
    times = [phase + k * 20 * MS for k in range(9)]
    targets, damped, drives = drive_on(times, 400 * MS, monkeypatch, wire_reader)
    assert len(targets) >= 8, "or nothing was tried"
    assert max(targets) <= times[-1] + 60 * MS < damped[0] <= times[-1] + 60 * MS + 1
    shut: Drive = next(d for d in drives if d.stop)
    assert shut.t == damped[0] and not shut.gate_open and shut.torque_on
    assert not any(d.gate_open for d in drives if d.t >= damped[0])


def test_a_driver_keeps_no_more_figures_of_its_periods_than_it_may(monkeypatch, wire_reader):
    drivers = []
    monkeypatch.setattr(lateness, "KEPT", 20)
    monkeypatch.setattr(sys.modules[__name__], "Driver", lambda node: drivers.append(servos.Driver(node)) or drivers[0])
    _, _, drives = drive_on([], 2000 * MS, monkeypatch, wire_reader)
    (driver,) = drivers
    assert len(drives) > 100 and 10 <= len(driver.cycles_us) <= 20 and 10 <= len(driver.node.lateness.late_us) <= 20


def test_a_machine_that_was_suspended_leads_nobody_though_its_permits_look_young(monkeypatch, wire_reader):
    """They go on, and say torque, as of a guard that has not noticed: the port is opened anew, and torque waits for a key."""
    slept: list[int] = []

    def suspended_ns():
        return 3_600_000 * MS if slept else 0

    class Nap(Mortal):
        def latest(self, source=""):
            if self.clock.now() >= 200 * MS:
                slept.append(1)
            return super().latest(source)

    monkeypatch.setattr(node_module, "suspended_ns", suspended_ns)
    monkeypatch.setattr(sys.modules[__name__], "Mortal", Nap)
    times = [k * 20 * MS for k in range(150)]
    targets, _, drives = drive_on(times, times[-1], monkeypatch, wire_reader)
    assert len(targets) >= 4 and max(targets) < 220 * MS, targets[-3:]
    assert not all(d.present for d in drives) and drives[-1].present


def test_a_machine_that_was_suspended_on_the_way_down_goes_on_with_it(monkeypatch, wire_reader):
    """At the end of a run: nobody is led any more, and without its port nobody would switch torque off."""
    clocks, times = [], [k * 20 * MS for k in range(20)]

    class Nap(Mortal):
        def latest(self, source=""):
            clocks.append(self.clock)
            return super().latest(source)

    down = times[-1] + 300 * MS
    monkeypatch.setattr(node_module, "suspended_ns", lambda: 3_600_000 * MS * (bool(clocks) and clocks[0].now() > down))
    monkeypatch.setattr(sys.modules[__name__], "Mortal", Nap)
    _, damped, drives = drive_on(times, times[-1], monkeypatch, wire_reader)
    assert all(d.present for d in drives) and drives[-1].powered_off_confirmed
    assert damped[0] < down < damped[-1]


def test_a_standstill_on_the_way_down_ends_no_drivers_stop(monkeypatch, wire_reader):
    """A paused container, whose clock goes on: the driver left with torque on, long before its stop was over."""
    times, plain, stood = [k * 20 * MS for k in range(20)], LockstepClock.sleep_until, []
    down = times[-1] + 200 * MS

    def sleep_until(clock, deadline):
        plain(clock, deadline)
        if deadline > down and not stood:
            stood.append(deadline)
            clock.advance(20_000 * MS)

    monkeypatch.setattr(LockstepClock, "sleep_until", sleep_until)
    _, damped, drives = drive_on(times, times[-1], monkeypatch, wire_reader)
    assert stood and damped[0] < stood[0] < damped[-1] and drives[-1].powered_off_confirmed


def test_a_permit_that_comes_late_but_in_time_keeps_the_gate_open(monkeypatch, wire_reader):
    times = [k * 20 * MS + 3 * MS for k in range(6)]
    times += [times[-1] + 59 * MS + k * 20 * MS for k in range(6)]
    targets, damped, _ = drive_on(times, times[-1] + 50 * MS, monkeypatch, wire_reader)
    assert damped[0] > times[-1] + 60 * MS, "only at the end"
    assert len(targets) > 10 and {b - a for a, b in pairwise(targets)} == {20 * MS}


def obstinate(rig, servo):
    """From now on this servo (index) answers and obeys no stop."""
    obey = rig.twin.bus.bank.obey
    rig.twin.bus.bank.obey = lambda index, mode, row: None if index == servo and not mode else obey(index, mode, row)


def powered(rig):
    rig.cycle("READY", torque=False)
    for _ in range(3):
        rig.cycle("HOLD")


def test_a_servo_that_obeys_no_stop_is_told_with_all_others_after_three_tries_and_then_told_of(rig, wire_tap):
    powered(rig)
    obstinate(rig, 2)
    rig.twin.wires["servos"].add(wire_tap)
    told = []
    while not told or told[-1][0].stop != "off" or len(told) < 40:
        drive = rig.cycle("RELAX", torque=False)[2]
        told.append((drive, wire_tap.read().stopped))
    off = [(drive.disobeyed, stopped) for drive, stopped in told if drive.stop == "off"]
    each, all_of_them = set(range(1, 9)), {0x7F}
    assert off[:5] == [(False, each)] * 3 + [(False, all_of_them), (True, all_of_them)]
    assert all(said == (True, all_of_them) for said in off[5:]) and not any(d.powered_off_confirmed for d, _ in told)


def test_a_mute_servo_cannot_be_said_to_disobey(rig, wire_tap):
    powered(rig)
    rig.twin.wires["servos"].add(Mute(3), 1.0)
    rig.twin.wires["servos"].add(wire_tap)
    told = []
    with pytest.raises(DeviceError, match=r"^servo 3: .*all are set up anew"):  # afterwards: it may have been without power
        for _ in range(60):
            told.append(rig.cycle("RELAX", torque=False)[2])
    assert 0x7F in wire_tap.read().stopped, "the others hear it"
    assert not any(d.disobeyed for d in told) and told[-1].powered_off_confirmed


def moves(rig, seq, missed=None):
    """A cycle in RUN with an action that moves a little; who wrote."""
    rig.twin.advance(PERIOD_S)
    now = rig.clock.now()
    permit = Permit(source="guard", boot=1, t=now, state="RUN", epoch=999, holder="policy", torque=True)
    target = tuple(p + 0.01 for p in rig.loop.chain.read(-1).position)
    action = Action(source="policy", seq=seq, t=now, valid_ns=10**9, epoch=999, tick=0, target=target)
    return rig.loop.cycle(permit, action)[1].writer


def test_the_goal_is_held_in_the_very_cycle_in_which_a_servo_is_seen_to_fail(rig):
    powered(rig)
    assert [moves(rig, seq) for seq in (1, 2)] == ["policy"] * 2
    rig.twin.command({"fault": "trip", "servo": 4, "code": 38})
    assert moves(rig, 3) == "hold"


def test_a_servo_that_misses_is_borne_twice_and_the_third_time_the_goal_is_held(rig, monkeypatch):
    powered(rig)
    rig.loop.chain.read(-1)
    rig.twin.wires["servos"].add(Mute(4))
    read = rig.loop.chain.read  # `moves` reads once more in each cycle
    monkeypatch.setattr(rig.loop.chain, "read", lambda tick: read(tick) if tick >= 0 else rig.loop._last[0])
    assert [moves(rig, seq) for seq in (1, 2, 3)] == ["policy", "policy", "hold"]


@pytest.mark.parametrize("silent", [UNREAD_MAX, 100])
@pytest.mark.parametrize("thermistors", [True, False])
def test_a_controller_that_was_silent_and_is_found_stopped_is_set_up_anew_before_anything_is_permitted(thermistors, silent):
    """Its supply was off and on: what it is to be set up with is gone, and where the thermistor is on in flash nothing tells."""
    run = Run()
    rig = Rig(replace(run, robot=replace(run.robot, servos=replace(run.robot.servos, thermistors=thermistors))))
    rig.cycle("READY", torque=False)
    rig.twin.wires["servos"].add(Mute(3), PERIOD_S * (silent + 0.5))
    rig.twin.bus.bank.reboot(2)
    for _ in range(silent):
        assert not rig.cycle("READY", torque=False)[2].gate_open
    with pytest.raises(DeviceError, match=r"^servo 3: .*all are set up anew"):
        for _ in range(6):
            assert not rig.cycle("HOLD")[2].gate_open
    rig.twin.close()


def test_a_controller_that_missed_two_questions_or_says_that_it_had_power_is_not(rig):
    rig.cycle("READY", torque=False)
    rig.twin.wires["servos"].add(Mute(3), PERIOD_S * 1.5)
    for _ in range(10):
        rig.cycle("READY", torque=False)
    assert rig.cycle("HOLD")[2].gate_open
    rig.twin.wires["servos"].add(Mute(3), PERIOD_S * 8.5)  # so its own watchdog stops it
    assert all(rig.cycle("HOLD")[2].gate_open for _ in range(20)) and rig.modes() == {10, 11}


class Line:
    """A tether that keeps what the driver tells it."""

    def __init__(self, lost=False):
        self.lost, self.told = lost, []

    def greet(self, seconds, holds):
        return not self.lost

    def give(self, port, checked):
        self.told.append("port")

    def beat(self, torque_on):
        self.told.append("on" if torque_on else "off")

    def drop(self):
        self.told.append("drop")

    def done(self):
        self.told.append("done")


class Numbered:
    """A port in memory that has a file descriptor's number, as a real one."""

    def __init__(self, port):
        self.port = port

    def __getattr__(self, name):
        return getattr(self.port, name)

    def fileno(self):
        return 99


def driven(monkeypatch, line, faults=()):
    """A driver with a tether, powered for a while, then told to end."""
    times = [k * 20 * MS for k in range(9)]
    node = VirtualNode(times, 300 * MS)
    twin = Twin(node.run, 0, node.clock)
    monkeypatch.setattr(servos, "SerialPort", lambda *_: Numbered(twin.ports()["servos"]))
    driver = Driver(node, line)
    for fault in faults:
        twin.wires["servos"].add(fault)
    driver.serve()
    twin.close()
    return line.told, node.told["drive"].messages


def test_the_rescue_is_told_in_time_what_it_must_know(monkeypatch):
    told, drives = driven(monkeypatch, Line())
    assert told[0] == "port" and told[-1] == "done" and told[-2] == "off"
    beats = [drive.torque_on for drive in drives if drive.t]
    assert told[1:-1].count("on") >= 6 and told.count("off") >= 3 and len(told) - 2 <= len(beats)
    assert not any(drive.unrescued for drive in drives)


def test_without_a_rescue_it_is_said_in_every_period(monkeypatch):
    _, drives = driven(monkeypatch, Line(lost=True))
    assert all(drive.unrescued for drive in drives)


class Gone(Fault):
    """The adapter is pulled when the driver has written so often."""

    def __init__(self, writes):
        self.left = writes

    def inward(self, data):
        self.left -= 1
        if self.left < 0:
            raise PortError("pulled; plug it in")
        return data


def test_a_port_that_is_lost_is_taken_back_from_the_rescue_before_it_is_closed_and_its_end_is_not_called_done(monkeypatch):
    told, drives = driven(monkeypatch, Line(), [Gone(12)])
    assert told.count("drop") == 1 and "on" not in told[told.index("drop") :]
    assert not drives[-1].present


@pytest.mark.parametrize(("ago_ms", "hold", "held"), [(5000, True, True), (5001, True, None), (0, False, False)])
def test_a_driver_whose_port_comes_back_lowers_no_arm_that_the_guard_holds(ago_ms, hold, held, monkeypatch):
    node = VirtualNode([0], 100 * MS)
    twin = Twin(node.run, 0, node.clock)
    node.clock.advance(ago_ms * MS)
    node.guard.permits = [msgspec.structs.replace(node.guard.permits[0], hold=hold)]
    seen = []
    monkeypatch.setattr(servos, "SerialPort", lambda *_: Numbered(twin.ports()["servos"]))
    monkeypatch.setattr(servos, "Lowering", lambda *given: seen.append(given[4]) or Lowering(*given))
    Driver(node, Line())
    twin.close()
    assert [word and word.hold for word in seen] == [held]


class Keys:
    """The operator's stream: (when, what), each heard once."""

    def __init__(self, pressed, clock):
        self.pressed, self.clock = list(pressed), clock

    def drain(self):
        due = [key for at, key in self.pressed if at <= self.clock.now()]
        self.pressed = [(at, key) for at, key in self.pressed if at > self.clock.now()]
        return [Operator(source="console", t=self.clock.now(), command=key, press=1) for key in due]


class KeyedNode(VirtualNode):
    def __init__(self, times, ends, pressed):
        super().__init__(times, ends)
        self.keys = Keys(pressed, self.clock)

    def over(self):
        self.stopping = self.stopping or super().over()
        return self.stopping

    def subscriber(self, topic):
        return self.keys if topic == "operator" else self.guard


@pytest.mark.parametrize(
    ("pressed", "held"),
    [
        ([(300 * MS, "stop")], [(300, 600)]),
        ([(300 * MS, "stop"), (400 * MS, "enable"), (500 * MS, "disable")], [(300, 500)]),
        ([(120 * MS, "stop")], []),  # the guard heard it
        ([], []),
    ],
)
def test_a_stop_key_that_no_guard_has_heard_holds_an_arm_until_the_next_one_has(pressed, held, monkeypatch):
    """The permits end at 160 ms and come again at 600 ms."""
    node = KeyedNode([k * 20 * MS for k in range(9)] + [600 * MS + k * 20 * MS for k in range(6)], 700 * MS, pressed)
    twin = Twin(node.run, 0, node.clock)
    monkeypatch.setattr(servos, "SerialPort", lambda *_: Numbered(twin.ports()["servos"]))
    seen, cycle = [], ServoLoop.cycle

    def watched(loop, permit, action, held=False):
        if held:
            seen.append(node.clock.now() // MS)
        return cycle(loop, permit, action, held)

    monkeypatch.setattr(ServoLoop, "cycle", watched)
    Driver(node).serve()
    twin.close()
    calls = [call.kind for exchange in node.told["wire"].messages for call in exchange.calls]
    assert calls.count("held") == len(seen), "on the tape, as it was"
    assert seen == [t for first, last in held for t in range(first, last, 20)]


@pytest.mark.parametrize(
    ("robot", "key", "word"), [("omx", True, True), ("omx", False, True), ("omx", False, False), ("", True, True)]
)
def test_a_driver_that_waits_for_the_rescue_passes_on_the_stop_key_and_the_guards_word(robot, key, word, tmp_path, monkeypatch):
    node = KeyedNode([0], 10_000 * MS, [(0, "stop")] if key else [])
    node.guard.permits = [msgspec.structs.replace(node.guard.permits[0], hold=word)]
    node.run = run_of(robot, tmp_path) if robot else node.run
    asked = []

    class Busy(Line):
        def greet(self, seconds, holds):
            asked.extend((holds(), holds()))
            node.clock.advance(61 * MS)
            asked.append(holds())
            node.clock.advance(4939 * MS)
            asked.append(holds())
            node.clock.advance(1)
            asked.append(holds())
            node.clock.advance(MS * 600_000)
            node.ends = node.clock.now() + 1
            asked.append(holds())
            node.stopping, node.ends = True, -1
            asked.append(holds())
            raise DeviceError("seen")

    with pytest.raises(DeviceError, match="seen"):
        Driver(node, Busy())
    holds = bool(robot)
    assert asked == [holds and (key or word)] * 4 + [holds and key, False, False]
    drives = node.told["drive"].messages
    assert [drive.stop for drive in drives] == ["hold"] * sum(asked) and all(drive.torque_on and drive.lowers for drive in drives)
