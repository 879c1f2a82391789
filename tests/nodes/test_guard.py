"""The sentry: what messages, and their absence, make the guard judge."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import messages as m
from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers.imu import WitImu
from robotrl.drivers.port import MemoryPort
from robotrl.nodes import imu
from robotrl.nodes.epoch import RESERVE, EpochFile, LockoutFile
from robotrl.nodes.guard import Sentry
from robotrl.nodes.vigil import logged
from robotrl.sim.faults import Fault, Saturate

T = 20_000_000
UP = ("servos", "imu", "tracker", "policy", "reset", "learner", "console", "manager")


class World:
    """All nodes speak once a step, but for those in `silent`."""

    def __init__(self, run=None, **options):
        nonces, epochs = itertools.count(1000), itertools.count(1)
        self.sentry = Sentry(run or Run(), lambda: next(epochs), lambda: next(nonces), **options)
        self.now, self.boot, self.silent = 10**12, dict.fromkeys(UP, 1), set()
        self.drive: dict[str, object] = {}
        self.joints: dict[str, object] = {}
        self.permit = self.shown = None

    def hear(self, message: m.Message) -> None:
        """Now said, where the message does not say when."""
        self.sentry.hear(m.msgspec.structs.replace(message, t=message.t or self.now), self.now)

    def speak(self) -> None:
        n, torque = 8, bool(self.permit and self.permit.torque)
        zeros, noise = (0.0,) * n, (self.now // T % 2 * 1e-4,) * n  # a live sensor never says the same twice
        joints = dict(position=noise, temp_c=(30.0,) * n, mode=(10 * torque,) * n, fault=(0,) * n, missed=(0,) * n) | self.joints
        drive = dict(frame_errors=0, gate_open=torque, torque_on=torque, powered_off_confirmed=not torque) | self.drive
        for source, message in (
            ("servos", m.Joints(tick=0, t=self.now, velocity=zeros, torque=zeros, voltage=zeros, **joints)),
            ("servos", m.Drive(tick=0, late_us=0, cycle_us=0, overruns=0, stop="", **drive)),
            ("servos", m.Applied(tick=0, writer=self.permit.holder if self.permit else "", epoch=0, target=zeros, clamped=())),
            ("imu", m.Imu(roll=0, pitch=0, yaw=0, rates=zeros[:3], accel=(0.0, 0.0, 9.81))),
            ("tracker", m.Pose(t=self.now, position=noise[:3], rpy=zeros[:3])),
            *((name, m.Beat(progress=1)) for name in ("policy", "reset", "learner")),
            ("console", m.Operator(command="beat", press=0)),
        ):  # fmt: skip
            if source not in self.silent:
                self.hear(m.msgspec.structs.replace(message, source=source, boot=self.boot[source]))

    def step(self, n: int = 1) -> str:
        for _ in range(n):
            self.now += T
            self.speak()
            self.permit, self.shown = self.sentry.step(self.now)
        return self.shown.state

    def press(self, key: str) -> str:
        self.hear(m.Operator(source="console", boot=self.boot["console"], command=key, press=1, nonce=self.shown.nonce))
        return self.step()

    def fall(self) -> None:
        counted = (field for field in m.Episode.__struct_fields__ if field not in (*m.Message.__struct_fields__, "ended"))
        self.hear(m.Episode(source="policy", boot=1, ended="fall", **dict.fromkeys(counted, 0)))

    def process(self, name: str, event: str) -> None:
        self.hear(m.Process(source="manager", boot=1, name=name, pid=1, event=event))

    def run(self) -> World:
        assert self.step(3) == "READY" and self.press("enable") == "HOLD"
        assert self.press("run") == "RUN" and self.step(30) == "RUN"
        return self


@pytest.mark.parametrize(
    ("name", "state", "cause"),
    [("policy", "HOLD", "policy_dead"), ("tracker", "HOLD", "tracker_dead"), ("learner", "RUN", "learner_gone"),
     ("operator", "STOPPING", "console_dead"), ("manager", "PSTOP", "manager_gone")],
)  # fmt: skip
def test_a_death_is_acted_on_in_the_step_in_which_it_is_heard(name, state, cause):
    world = World().run()
    world.process(name, "died")
    world.silent.add({"operator": "console"}.get(name, name))
    assert world.step() == state and cause in world.shown.causes


class ImuWire:
    """The far end of the IMU's wire: what is put into `out` is what it says."""

    out = b""

    def receive(self, data):
        pass

    def transmit(self):
        data, self.out = self.out, b""
        return data


def test_an_imu_out_of_its_range_is_acted_on_from_its_bytes_to_the_permit():
    """Driver, node and bus as on the wall clock: the guard looks once in four samples, and gets a message that was encoded."""
    world, wire, clock = World().run(), ImuWire(), LockstepClock()
    device = WitImu(MemoryPort(wire, "imu"), Run().robot.imu, clock)
    world.silent.add("imu")
    lines = (Path(__file__).parents[1] / "golden" / "witmotion.txt").read_text().splitlines()
    good = {name: bytes.fromhex(text) for name, text in (line.split() for line in lines if line and line[0] != "#")}
    burst = good["accel_1g_z"] + good["rates"] + good["angles_10_m20_90"]
    for fault, wanted in ((Fault(), "RUN"), (Saturate(), "RELAX")):
        for _ in range(4):
            clock.advance(T // 4)
            wire.out = fault.outward(burst)
            (sample,) = imu.read(device)
        sent = m.msgspec.structs.replace(sample, source="imu", boot=1)
        world.hear(m.msgspec.msgpack.decode(m.msgspec.msgpack.encode(sent), type=m.Imu))
        assert world.step() == wanted
    assert "imu_implausible" in world.shown.causes and "imu_frozen" not in world.shown.causes


def test_only_another_life_speaking_ends_a_death():
    world = World().run()
    world.process("policy", "died")
    world.process("policy", "started")
    assert world.step(3) == "HOLD"  # what it said before it died may come late
    assert world.press("run") == "HOLD" and "policy_dead stands" in world.shown.note
    world.boot["policy"] = 2
    world.step(60)
    assert world.press("run") == "RUN" and world.step(30) == "RUN"


@pytest.mark.parametrize(
    ("silent", "steps", "state", "cause"),
    [("servos", 4, "PSTOP", "driver_silent"), ("imu", 4, "RELAX", "imu_stale"), ("console", 27, "STOPPING", "console_silent")],
)
def test_silence_is_acted_on_within_its_bound(silent, steps, state, cause):
    world = World().run()
    world.silent.add(silent)
    for _ in range(steps):
        world.step()
        if world.shown.state == state:
            break
    assert world.shown.state == state and cause in world.shown.causes


def test_the_end_of_the_run_takes_torque_off_and_nothing_brings_it_back():
    world = World().run()
    world.process("manager", "stopping")
    assert world.step() == "RELAX" and not world.permit.torque
    world.step(100)
    assert world.press("clear") == "RELAX"


def test_a_lost_port_is_pstop_and_a_driver_without_torque_gets_none_back():
    world = World().run()
    world.drive = {"present": False, "gate_open": False, "torque_on": False, "powered_off_confirmed": False}
    assert world.step() == "PSTOP" and "port_lost" in world.shown.causes
    assert world.step(50) == "PSTOP" and world.permit.torque  # nobody can say that torque is off
    world.drive = {"gate_open": False, "torque_on": False, "powered_off_confirmed": True}  # plugged in again
    world.step(60)
    assert not world.permit.torque
    assert world.press("clear") == "READY"


def test_motors_that_do_not_confirm_that_they_are_off_are_lockout_after_half_a_second_but_not_at_once():
    world = World().run()
    world.press("stop")
    world.drive = {"powered_off_confirmed": False}
    assert world.press("disable") == "RELAX"
    world.drive |= {"torque_on": False}
    assert world.step(45) == "RELAX", "half a second of damping, half a second to read back"
    assert world.step(10) == "LOCKOUT" and "stop_unconfirmed" in world.shown.causes


@pytest.mark.parametrize("state", ["RELAX", "READY"])
def test_power_that_is_cut_once_the_stop_was_read_back_makes_no_lockout(state):
    world = World().run()
    world.press("pause")
    world.press("stop" if state == "RELAX" else "disable")
    if state == "RELAX":
        world.press("disable")
    assert world.step(10) == state
    world.drive = {"powered_off_confirmed": False}  # nobody answers any more
    assert world.step(500) == state
    world.drive = {}
    world.step(5)
    if state == "RELAX":
        assert world.press("clear") == "READY"
    assert world.press("enable") == "HOLD", "torque was on again: from here on it counts anew"
    world.press("stop")
    world.drive = {"powered_off_confirmed": False, "torque_on": False}
    world.press("disable")
    assert world.step(60) == "LOCKOUT"


@pytest.mark.parametrize(
    ("leg", "fits"),
    [
        ((2.0, 2.0), True), ((2.0 - 9.0, 9.0 - 1.0), True), ((0.05, 0.0), True), ((3.1, 3.1), True), ((14.1, -13.6), True),
        ((2.0 - math.tau, 2.0), False), ((2.0, 2.0 + math.tau), False), ((0.4 - math.tau, 0.5), False),
        ((0.4, 0.5 + math.tau), False), ((2.0 - math.tau, 2.0 - math.tau), False),
    ],
)  # fmt: skip
def test_a_leg_of_which_a_motor_reads_a_turn_off_is_not_enabled(leg, fits):
    """Led in from there it would turn round and press on for ever; one that hangs limp may have turned round as a whole."""
    world = World()
    world.joints = {"position": (*(2.0,) * 4, *leg, *(2.0,) * 2)}
    assert (world.step(20) == "READY") is fits
    assert fits or world.shown.note.startswith("motor 5 or 6 reads a turn off")


def test_a_session_does_not_go_on_by_itself_with_a_limp_joint_turned_past_its_turn():
    """Nor once it is turned back: the hand that did it is there still."""
    world = World().run()
    leg = (*(2.0,) * 4, 2.0 - math.tau, *(2.0,) * 3)
    world.fall()
    assert world.step() == "RELAX" and world.shown.session
    world.joints = {"position": leg}
    assert world.step(4) == "RELAX" and world.shown.session
    assert world.step(200) == "RELAX" and world.shown.causes == ("turned",) and not world.shown.session
    assert world.shown.note.startswith("motor 5 or 6 reads a turn off") and world.press("clear") == "RELAX"
    world.joints = {}
    assert world.step(200) == "RELAX" and world.shown.note.endswith("turn it back by hand; press clear")
    assert world.press("clear") == "READY"


def test_of_servos_that_are_not_heard_nobody_says_that_they_are_turned():
    world = World().run()
    assert world.press("stop") == "PSTOP"
    world.joints = {"position": (math.nan,) * 8, "missed": (9,) * 8, "temp_c": (math.nan,) * 8}
    assert world.press("disable") == "RELAX" and world.step(50) == "RELAX"
    assert "bus_silent" in world.shown.causes and "turned" not in world.shown.causes


def test_a_fallen_robot_whose_joints_are_where_they_were_gets_up_by_itself():
    world = World().run()
    world.fall()
    assert world.step() == "RELAX" and world.step(200) == "RESET"


def test_a_servo_that_answers_and_obeys_no_stop_is_lockout_at_once():
    world = World().run()
    world.press("stop")
    world.press("disable")
    world.drive = {"powered_off_confirmed": False, "disobeyed": True}
    assert world.step() == "LOCKOUT" and "stop_unconfirmed" in world.shown.causes and "CUT POWER" in world.shown.note


def test_before_a_servo_is_heard_nobody_is_told_that_it_is_hot():
    world = World()
    world.silent.add("servos")
    assert world.step(50) == "CHECK" and world.shown.note == "waiting for the servo driver"
    world.silent.clear()
    world.joints = {"temp_c": (99.0,) * 8}
    world.step(200)
    assert "too hot" in world.shown.note


def test_without_a_rescue_nothing_begins_and_what_has_begun_is_warned_of():
    world = World()
    world.drive = {"unrescued": True}
    assert world.step(50) == "CHECK"
    world.press("clear")
    world.step(200)
    assert "rescue" in world.shown.note
    world.drive = {}
    assert world.step(5) == "READY"
    world = World().run()
    world.drive = {"unrescued": True}
    assert world.step(50) == "RUN" and "rescue_gone" in world.shown.causes
    world.drive = {}
    assert world.step() == "RUN" and "rescue_gone" not in world.shown.causes


def test_a_learner_that_stays_down_is_warned_of_and_stops_nothing():
    world = World().run()
    world.silent.add("learner")
    for event in ("died", "started", "died", "gone"):
        world.process("learner", event)
    assert world.step(50) == "RUN" and world.shown.causes == ("learner_gone",)
    world.process("policy", "gave up")
    assert world.step() == "PSTOP" and "crash_loop" in world.shown.causes


def test_servos_without_a_watchdog_are_led_by_nobody_while_there_is_no_rescue():
    robot = replace(Run().robot, servos=replace(Run().robot.servos, protocol="feetech"))
    world = World(replace(Run(), robot=robot)).run()
    world.drive = {"unrescued": True}
    assert world.step() == "HOLD" and world.shown.causes == ("rescue_gone",) and "no watchdog" in world.shown.note
    assert world.press("run") == "HOLD" and "rescue_gone stands" in world.shown.note
    world.drive = {}
    assert world.step(50) == "HOLD" and not world.shown.causes, "not by itself"
    assert world.press("run") == "RUN"


def test_a_driver_that_is_being_started_again_is_given_time_to_confirm():
    world = World().run()
    world.silent.add("servos")
    world.drive = {"powered_off_confirmed": False}
    world.step(5)
    assert world.press("disable") == "RELAX"
    assert world.step(200) == "RELAX"
    assert world.step(100) == "LOCKOUT"


def test_a_driver_that_was_silent_and_is_back_is_given_time_to_damp_before_it_confirms():
    world = World().run()
    world.silent.add("servos")
    world.drive = {"powered_off_confirmed": False}
    world.step(5)
    assert world.press("disable") == "RELAX"
    world.step(100)
    world.silent.clear()
    assert world.step(45) == "RELAX", "half a second of damping, half a second to read back"
    assert world.step(15) == "LOCKOUT" and "stop_unconfirmed" in world.shown.causes


CUT_OFF = {
    "the port is gone": (dict(present=False, gate_open=False, torque_on=False), {}),
    "no servo answers": (dict(gate_open=True, torque_on=True), dict(missed=(50,) * 8)),
}


@pytest.mark.parametrize("how", CUT_OFF)
@pytest.mark.parametrize("off", ["disable", "stopping"])
def test_motors_that_go_out_of_reach_once_torque_is_to_be_off_are_a_lockout_at_the_end_too(how, off):
    """As before: they may have been on when their word stayed away."""
    world = World().run()
    world.drive = {"powered_off_confirmed": False, "torque_on": True}
    world.press("stop")
    world.process("manager", "stopping") if off == "stopping" else world.press("disable")
    world.step(3)
    drive, world.joints = CUT_OFF[how]
    world.drive = drive | {"powered_off_confirmed": False}
    world.process("manager", "stopping")
    assert world.step(400) == "LOCKOUT"


def test_a_driver_that_is_silent_at_the_end_is_judged_as_ever():
    world = World().run()
    world.drive = {"powered_off_confirmed": False, "torque_on": True}
    world.step()
    world.silent.add("servos")
    world.step(10)
    world.process("manager", "stopping")
    assert world.step(400) == "LOCKOUT"


@pytest.mark.parametrize("how", CUT_OFF)
def test_who_stands_with_the_motors_out_of_reach_is_told_what_disable_leads_to(how):
    world = World().run()
    drive, world.joints = CUT_OFF[how]
    world.drive = drive | {"powered_off_confirmed": False}
    assert world.step(100) == "PSTOP" and world.shown.note.endswith("; d ends in LOCKOUT")
    assert len(world.shown.note) <= 72
    world.drive, world.joints = {}, {}
    world.step(100)
    assert "LOCKOUT" not in world.shown.note and world.shown.note.endswith("press clear")
    world = World()
    world.drive = drive | {"powered_off_confirmed": False}
    world.joints = CUT_OFF[how][1]
    world.step(100)
    assert "LOCKOUT" not in world.shown.note, "none that nobody has led yet"


def test_a_learner_has_time_to_come_up_and_is_then_missed():
    world = World()
    world.silent.add("learner")
    world.step(100)
    assert "learner_gone" not in world.shown.causes
    world.step(1700)
    assert "learner_gone" in world.shown.causes


def test_a_manager_that_was_heard_and_is_silent_stops_the_robot_and_one_that_ends_the_run_owes_no_beat():
    world = World().run()
    assert world.step(400) == "RUN", "where there is none nobody misses it"
    beat = m.Beat(source="manager", boot=1, progress=1)
    world.hear(beat)
    assert world.step(249) == "RUN"
    world.hear(beat)
    assert world.step(250) == "RUN", "a busy machine may keep it from beating for 5 s"
    assert world.step(2) == "PSTOP" and world.shown.causes == ("manager_silent",) and "CONT" in world.shown.note
    assert world.press("clear") == "PSTOP", "it is silent still"
    world.hear(beat)
    assert world.step(55) == "PSTOP" and world.press("clear") == "HOLD"
    world.process("manager", "stopping")
    assert world.step(400) == "RELAX" and "manager_silent" not in world.shown.causes


def test_a_recorder_that_is_gone_or_keeps_nothing_stops_a_robot_that_learns():
    world = World().run()
    beat = m.Beat(source="recorder", progress=1)

    def steps(count: int, note: str = "") -> str:
        for _ in range(count):
            world.hear(m.msgspec.structs.replace(beat, note=note))
            world.step()
        return world.shown.state

    assert steps(10) == "RUN" and world.step(240) == "RUN", "it is started again within seconds, and nothing is lost till then"
    assert world.step(20) == "HOLD" and "recorder_gone" in world.shown.causes
    assert steps(2) in ("HOLD", "RUN") and not world.shown.causes, "it is back"
    world = World().run()
    assert steps(10) == "RUN" and steps(2, "disk full") == "HOLD" and world.shown.causes == ("disk_full",)
    steps(2)
    assert not world.shown.causes


@pytest.mark.parametrize(("asleep", "state"), [(59_999_999, "RUN"), (60_000_000, "RUN"), (60_000_001, "HOLD")])
def test_a_guard_later_than_its_permit_was_valid_does_not_go_on_in_run(asleep, state):
    """The gate had shut by itself; the session goes on by a reset, under another lease."""
    world = World().run()
    before = world.permit.epoch
    world.now += asleep - T
    assert world.step() == state and ("guard_late" in world.shown.causes) is (state == "HOLD")
    if state == "HOLD":
        assert world.step(60) == "RESET" and world.permit.epoch > before


def test_with_torque_off_a_late_guard_is_late_for_nothing():
    world = World()
    assert world.step(3) == "READY"
    world.now += 500_000_000
    world.step()
    assert "guard_late" not in world.shown.causes


def test_a_restarted_guard_that_heard_the_others_is_in_pstop_without_torque():
    world = World(restarted=True)
    assert not world.sentry.informed()
    world.speak()
    assert world.sentry.informed()
    assert world.step() == "PSTOP" and not world.permit.torque and world.shown.causes == ("guard_restart",)
    world.step(60)
    assert world.press("clear") == "READY"


def test_epochs_survive_the_process(tmp_path):
    first = EpochFile(tmp_path / "epoch")
    assert [first.next(), first.next()] == [1, 2]
    again = EpochFile(tmp_path / "epoch")
    assert again.value >= first.next(), "above whatever it gave"
    again.reserve()
    assert EpochFile(tmp_path / "epoch").value >= again.value + RESERVE


def test_a_lease_costs_no_disk_but_once_in_many_days(tmp_path, monkeypatch):
    """RUN and RESET take one each, and an arm's episode 3 s: one a second in a week is more than any."""
    assert RESERVE > 7 * 24 * 3600
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    epochs = EpochFile(tmp_path / "epoch")
    epochs.reserve()
    del syncs[:]
    for number in range(1, RESERVE + 1):
        assert epochs.next() == number and not syncs
    assert epochs.next() == RESERVE + 1 and syncs and EpochFile(tmp_path / "epoch").value >= epochs.value


def test_no_lease_that_the_disk_did_not_take(tmp_path, monkeypatch):
    epochs = EpochFile(tmp_path / "epoch")
    monkeypatch.setattr(os, "fsync", full := lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for _ in range(3):
        with pytest.raises(OSError, match="space"):
            epochs.next()
    monkeypatch.undo()
    assert full and epochs.next() == 1


@pytest.mark.parametrize("servo", [0, 3, 7])
@pytest.mark.parametrize(("missed", "named"), [(0, True), (1, False)])
def test_a_temperature_that_is_no_number_counts_whichever_servo_says_it_but_not_if_none_was_read(servo, missed, named):
    world = World().run()
    world.joints = {
        "temp_c": tuple(math.nan if i == servo else 30.0 for i in range(8)),
        "missed": tuple(missed if i == servo else 0 for i in range(8)),
    }
    world.step(100)
    assert ("temp_over" in world.shown.causes) is named


@pytest.mark.parametrize(
    ("winding", "board", "named"),
    [
        (90.0, 65.0, set()),
        (90.1, 65.0, {"temp_warning"}),
        (90.0, 65.1, {"temp_warning"}),
        (30.0, 70.1, {"temp_warning", "temp_high"}),
        (30.0, 75.1, {"temp_warning", "temp_high", "temp_over"}),
        (95.1, 75.1, {"temp_warning", "temp_high", "temp_over"}),
        (30.0, math.nan, {"temp_warning", "temp_high", "temp_over"}),
    ],
)
@pytest.mark.parametrize("servo", [0, 7])
def test_a_board_is_judged_by_its_own_limit_with_the_margins_of_a_winding(winding, board, named, servo):
    world = World().run()
    world.joints = {
        "temp_c": tuple(winding if i == servo else 30.0 for i in range(8)),
        "board_c": tuple(board if i == servo else 25.0 for i in range(8)),
    }
    world.step(100)
    assert named <= set(world.shown.causes) and (named or not {c for c in world.shown.causes if c.startswith("temp")})
    assert all(cause in named for cause in world.shown.causes if cause.startswith("temp"))


def test_bad_frames_count_for_a_second():
    world = World().run()
    for k in range(120):
        world.drive["frame_errors"] = k
        world.step()
    assert "frame_errors" in world.shown.causes
    world.step(60)  # no more of them: the old ones are forgotten
    assert "frame_errors" not in world.shown.causes


def test_the_log_and_the_stream_say_what_led_to_a_state():
    world = World()
    world.step(5)
    assert world.shown.state == "READY"
    world.press("enable")
    assert (world.shown.state, world.shown.trigger) == ("HOLD", "key enable (console)")
    assert logged(world.shown).endswith(" HOLD <- key enable (console) [] ")
    world.step()
    assert world.shown.trigger == "", "it is told in the period of the change alone"
    world.silent = {"imu"}
    world.step(5)
    assert world.shown.state == "RELAX" and "imu_stale" in world.shown.causes


def test_a_refusal_is_not_shown_once_the_key_was_obeyed():
    world = World()
    world.step(5)
    world.hear(m.Operator(source="console", boot=1, command="enable", press=1, nonce=0))
    assert world.step() == "READY" and "press again" in world.shown.note
    assert "press again" in (world.step(5) and world.shown.note), "a person needs time to read it"
    assert world.press("enable") == "HOLD" and world.shown.note == ""


@pytest.mark.parametrize(("late_ms", "obeyed"), [(499, True), (501, False)])
def test_a_key_that_waited_half_a_second_asks_for_nothing(late_ms, obeyed):
    """A guard that was suspended finds it when it wakes: the robot must not come on seconds after the press."""
    world = World()
    world.step(30)
    said = world.now - late_ms * 1_000_000
    world.hear(m.Operator(source="console", t=said, boot=1, command="enable", press=1, nonce=world.shown.nonce))
    assert (world.step() == "HOLD") is obeyed and ("press again" in world.shown.note) is not obeyed


@pytest.mark.parametrize(("command", "state"), [("pause", "HOLD"), ("stop", "STOPPING")])
def test_a_stop_and_a_pause_are_obeyed_however_late(command, state):
    world = World().run()
    world.hear(
        m.Operator(source="console", t=world.now - 3_000_000_000, boot=1, command=command, press=1, nonce=world.shown.nonce)
    )
    assert world.step() in (state, "PSTOP")


def afar(world, command, role, **more):
    """A word of a peer on another machine, as the gateway passes it on."""
    world.hear(m.Operator(source="gateway", role=role, boot=5, command=command, press=1, nonce=world.shown.nonce, **more))


@pytest.mark.parametrize("role", ["console", "agent", "learner", "viewer"])
def test_anyone_who_was_let_in_stops_the_robot_and_a_console_alone_clears(role):
    world = World().run()
    afar(world, "stop", role)
    assert world.step() == "PSTOP" and f"operator_stop ({role})" in world.shown.trigger
    world.step(60)
    afar(world, "clear", role)
    assert world.step() == ("HOLD" if role == "console" else "PSTOP")


@pytest.mark.parametrize("role", ["", "agent", "learner", "viewer", "gateway"])
def test_a_peer_that_is_no_console_supervises_nothing(role):
    world = World().run()
    world.silent.add("console")
    for _ in range(40):
        afar(world, "beat", role)
        state = world.step()
    assert state in ("STOPPING", "PSTOP") and "console_silent" in world.shown.causes


def test_a_console_elsewhere_supervises_and_takes_the_place_of_one_that_died_here():
    world = World().run()
    world.silent.add("console")
    for _ in range(100):
        afar(world, "beat", "console", value=0.1)
        assert world.step() == "RUN"
    world.hear(m.Process(source="guard", name="console", pid=0, event="died"))
    assert world.step() == "STOPPING" and "console_dead" in world.shown.causes
    for _ in range(100):
        afar(world, "beat", "console", value=0.1)
        world.step()
    afar(world, "clear", "console")
    assert world.step() == "HOLD"


def test_a_role_in_a_local_consoles_words_is_nothing():
    world = World().run()
    world.hear(m.Operator(source="console", role="viewer", boot=1, command="pause", press=1, nonce=world.shown.nonce))
    assert world.step() == "HOLD"


def test_without_a_disk_for_its_number_no_lease_is_granted_until_there_is_one(tmp_path):
    world, full = World(), [True]

    def next_epoch():
        if full[0]:
            raise OSError(28, "No space left on device")
        return 5

    world.sentry._next_epoch = next_epoch
    assert world.step(3) == "READY" and world.press("enable") == "HOLD" and world.press("run") == "RUN"
    world.step(5)
    assert (world.permit.holder, world.permit.epoch) == ("", 0)
    full[0] = False
    world.step(2)
    assert (world.permit.holder, world.permit.epoch) == ("policy", 5)


EXTREME = (math.nan, math.inf, -math.inf, 1e300, -1e300, 5e-324)


def extremes(message: m.Message) -> list[m.Message]:
    """The message, one of its numbers exchanged: each of them in turn, for each extreme, a whole number for its largest."""
    out = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name in ("source", "t", "boot", "seq"):
            continue
        if isinstance(value, float) or (isinstance(value, tuple) and value and isinstance(value[0], float)):
            others: list[object] = [x if isinstance(value, float) else (x, *value[1:]) for x in EXTREME]
        elif type(value) is int:
            others = [2**62, -(2**62)]
        elif isinstance(value, tuple) and value and type(value[0]) is int:
            others = [(2**62, *value[1:]), (-(2**62), *value[1:])]
        else:
            continue
        out += [m.msgspec.structs.replace(message, **{name: other}) for other in others]
    return out


def test_no_legal_message_however_extreme_ends_the_guard():
    """What the decoder lets through, the guard bears: four deaths of it in a minute are the end of the run."""
    world, said = World(), []
    hear = world.sentry.hear
    world.sentry.hear = lambda message, now: (said.append(message), hear(message, now))
    world.run()
    world.sentry.hear = hear
    kinds = {type(message).__name__ + getattr(message, "command", ""): message for message in said}
    assert {"Joints", "Drive", "Applied", "Imu", "Pose", "Beat", "Operatorbeat", "Operatorrun"} <= set(kinds)
    names = ("episode", "step", "total_steps", "total_return", "speed", "policy_version", "policy_age_s")
    more = (
        m.Episode(source="policy", ended="time", **dict.fromkeys(names, 0)),
        m.Reset(source="reset", stage="", attempt=0, outcome="done"),
        m.Teleop(source="teleop", device="keyboard", active=True, epoch=0, twist=(0.0,) * 6),
        m.Image(source="camera1", camera="front"),
        m.Process(source="manager", name="policy", pid=1, event="died"),
    )
    tried = 0
    for message in (*kinds.values(), *more):
        for extreme in extremes(message):
            world.hear(extreme)
            world.step()
            tried += 1
    assert tried > 100


def test_a_key_that_says_nobody_was_there_for_longer_than_the_world_is_old_names_nobody():
    world = World().run()
    world.hear(m.Operator(source="console", boot=1, command="beat", press=0, value=1e300))
    assert world.step() == "RUN", "the key that opened the session was pressed just now"


def test_a_lockout_and_a_lease_are_under_their_names_on_disk_when_they_are_said(tmp_path, monkeypatch):
    """Their directory is synced behind the rename: a lockout says to cut the power, maybe of this computer."""
    done: list[str] = []
    real, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("renamed"), rename(a, b)))
    EpochFile(tmp_path / "epoch").next()
    LockoutFile(tmp_path / "lockout").keep(["stop_unconfirmed"])
    assert done == [f"{tmp_path}/epoch.new", "renamed", str(tmp_path), f"{tmp_path}/lockout.new", "renamed", str(tmp_path)]
