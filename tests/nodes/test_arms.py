"""Arms and D'Kitty end to end in virtual time, both protocols: the emulated line, chain, gate, guard, stop profile."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from robotrl import config, manager, move
from robotrl.calibration import homing
from robotrl.configfile import ConfigError
from robotrl.drivers.chains import chain_of
from robotrl.drivers.port import DeviceError, PortError
from robotrl.drivers.tape import Tape
from robotrl.messages import Joints, Permit, Process
from robotrl.nodes.guard import Sentry
from robotrl.nodes.mover import Mover
from robotrl.nodes.playback import Recorded, Servos
from robotrl.nodes.rescue import CUT_POWER, stop_motors
from robotrl.nodes.reset import LEVEL, Resetter
from robotrl.nodes.servoloop import ServoLoop, connected
from robotrl.safety.gate import RANGE
from robotrl.sim import rehearsal
from robotrl.sim.faults import Fault, Silence
from robotrl.sim.fleets import Fleet
from robotrl.tasks.task import task_of
from tests.nodes.armrig import LAUNCH, PERIOD_S, ArmRig, TwinClock, run_of

ROBOTS = ("so101", "omx", "dkitty")
ARMS = ("so101", "omx")
MUTE = {"so101": 3, "omx": 13, "dkitty": 20}  # in the middle of the line: those behind it wait for it


@pytest.fixture(params=ROBOTS)
def rig(request, tmp_path):
    return ArmRig(request.param, tmp_path)


@pytest.fixture(params=ARMS)
def arm(request, tmp_path):
    return ArmRig(request.param, tmp_path)


def wires_goals(rig: ArmRig) -> list[list[float]]:
    """Where the servos themselves believe that they are sent, rad, as their own registers have it: no code of the chain."""
    servos = rig.run.robot.servos
    return [
        s * (servo.registers.get("goal_position") * 2 * 3.14159265358979 / 4096 - o)
        for servo, s, o in zip(rig.twin.bus.servos, servos.sign, servos.offset, strict=True)
    ]


def torques(rig: ArmRig) -> list[int]:
    return [servo.registers.get("torque") for servo in rig.twin.bus.servos]


def test_it_comes_to_ready_holds_moves_stops_on_a_key_and_is_off(rig):
    rig.ready()
    assert not any(torques(rig))
    rig.running()
    at, robot = rig.joints.position, rig.run.robot
    ends = zip(robot.lowest, robot.highest, strict=True)
    rig.wish = tuple(max(low + 0.05, min(high - 0.05, p + 0.3)) for p, (low, high) in zip(at, ends, strict=True))
    rig.until(lambda: all(abs(p - w) < 0.06 for p, w in zip(rig.joints.position, rig.wish, strict=True)))
    assert all(torques(rig)) and rig.applied.writer == "policy"
    rig.reach("PSTOP", "stop")
    rig.wish = tuple(p - 0.3 for p in rig.wish)
    for _ in range(10):
        rig.step()
    assert all(torques(rig)) and rig.applied.writer == "hold"
    rig.reach("RELAX", "disable").until(lambda: rig.drive.powered_off_confirmed)
    assert not any(torques(rig)) and not rig.drive.torque_on


def test_goals_on_the_wire_keep_to_range_slew_and_lead(arm):
    arm.running()
    robot = arm.run.robot
    slew, tick = robot.limits.slew_rad_s * PERIOD_S, 2 * 3.1416 / 4096
    arm.wish = tuple(high + 1.0 for high in robot.highest)
    before = wires_goals(arm)
    bits = 0
    for n in range(120):
        arm.step()
        goals = wires_goals(arm)
        for i, (goal, last) in enumerate(zip(goals, before, strict=True)):
            assert abs(goal - last) <= slew + 1e-6, (n, i)
            assert robot.lowest[i] - 1e-6 <= goal <= robot.highest[i] + 1e-6, (n, i)
            assert abs(goal - arm.joints.position[i]) <= robot.limits.lead_rad + tick, (n, i)
        before = goals
        bits |= arm.applied.clamped[0]
    assert bits & RANGE and arm.applied.target == pytest.approx(before, abs=1e-4)


def test_an_arm_lowers_itself_before_it_lets_go(arm):
    arm.running().reach("PSTOP", "stop").step("disable")
    seen = []
    while not arm.drive.powered_off_confirmed:
        arm.step()
        seen.append((arm.drive.stop, arm.joints.position, torques(arm)))
        assert len(seen) < 400
    stowing = [entry for entry in seen if entry[0] == "stow"]
    assert len(stowing) > 50 and all(all(on) for _, _, on in stowing)
    assert stowing[-1][1] == pytest.approx(arm.run.robot.stow, abs=0.12)
    arm.twin.advance(1.0)
    fell = max(abs(a - b) for a, b in zip(arm.twin.joints.angle, stowing[-1][1], strict=True))
    assert fell < 0.2, "it fell from there"


@pytest.mark.parametrize("how", ["disable", "run_over", "heat"])
def test_a_stop_key_holds_an_arm_on_its_way_down_whatever_lowers_it(arm, how):
    arm.running()
    if how == "disable":
        arm.reach("HOLD", "pause").reach("READY", "disable")
    elif how == "run_over":
        arm.sentry.hear(Process(source="manager", name="manager", pid=0, event="stopping"), arm.clock.now())
        arm.reach("RELAX")
    else:
        arm.twin.command({"fault": "heat", "servo": MUTE[arm.run.robot.name], "celsius": arm.run.robot.limits.temp_c + 2})
        arm.reach("RELAX", seconds=0.5)
    for _ in range(40):
        arm.step()
    assert arm.drive.stop == "stow"
    for _ in range(3):
        arm.step("stop")
    arm.until(lambda: arm.drive.stop == "hold", seconds=0.1)
    for _ in range(15):  # it comes to rest
        arm.step()
    at = arm.joints.position
    for _ in range(500):  # longer than the stop profile has
        arm.step()
    assert arm.guard.state == "RELAX" and arm.drive.stop == "hold" and all(torques(arm)), arm.guard.causes
    assert "press disable to lower it on" in arm.guard.note and arm.drive.torque_on and not arm.drive.gate_open
    assert max(abs(a - b) for a, b in zip(arm.joints.position, at, strict=True)) < 0.01, "it is held where it is"
    arm.step("disable")
    arm.until(lambda: arm.drive.stop == "stow", seconds=0.1).until(lambda: arm.drive.powered_off_confirmed)
    assert arm.joints.position == pytest.approx(arm.run.robot.stow, abs=0.2) and arm.guard.state == "RELAX"
    assert "stop_unconfirmed" not in arm.guard.causes


def test_a_stop_key_that_no_guard_hears_holds_it_and_the_next_guard_goes_on(arm):
    arm.running()
    for _ in range(60):
        arm.loop.cycle(None, None)
        arm.twin.advance(0.02)
    before = rested = arm.joints.position
    for step in range(400):
        joints, _, drive = arm.loop.cycle(None, None, True)
        assert drive.stop == "hold" and drive.torque_on and not drive.gate_open
        rested = joints.position if step == 15 else rested
        arm.twin.advance(0.02)
    assert max(abs(a - b) for a, b in zip(rested, before, strict=True)) > 0.1, "it was on its way"
    assert max(abs(a - b) for a, b in zip(joints.position, rested, strict=True)) < 0.01
    arm.sentry = Sentry(arm.run, arm._next_epoch, lambda: 7, restarted=True)
    for message in (joints, drive):
        arm.sentry.hear(message, arm.clock.now())
    for _ in range(200):
        arm.step()
    assert arm.drive.stop == "hold" and arm.guard.state == "PSTOP"
    arm.step("disable")
    arm.until(lambda: arm.drive.powered_off_confirmed)
    assert arm.joints.position == pytest.approx(arm.run.robot.stow, abs=0.2)


def test_under_the_rescue_it_is_held_while_the_next_driver_says_so(arm):
    arm.running()
    clock, steps = TwinClock(arm), []

    def held():
        steps.append(tuple(arm.twin.joints.angle))
        return 40 <= len(steps) < 500

    outcome = stop_motors(arm.run.robot, arm.chain, clock, True, arm.said.append, held)
    assert outcome.confirmed and not any(torques(arm))
    moved = [
        max(abs(a - b) for a, b in zip(steps[i], steps[j], strict=True)) for i, j in ((15, 39), (55, 510), (515, len(steps) - 1))
    ]
    assert moved[1] < 0.02 and min(moved[0], moved[2]) > 0.1, moved
    assert steps[-1] == pytest.approx(arm.run.robot.stow, abs=0.15)


@pytest.mark.parametrize(("held", "first"), [(True, "driver"), (True, "guard"), (False, "driver"), (False, "guard")])
def test_while_all_stand_still_the_time_of_a_stop_does_too(arm, held, first):
    """A container that is paused: neither a held arm nor one on its way down is let go because it took long."""
    arm.running().reach("HOLD", "pause").reach("READY", "disable").until(lambda: arm.drive.stop == "stow")
    for _ in range(40):
        arm.step()
    if held:
        arm.step("stop")
        arm.until(lambda: arm.drive.stop == "hold", seconds=0.2)
    arm.twin.advance(2 * arm.run.robot.stop_damp_s)
    before = arm.joints.position
    if first == "driver":
        _, _, drive = arm.loop.cycle(arm.permit, None)
        assert drive.stop == ("hold" if held else "stow") and drive.torque_on
        arm.sentry.hear(drive, arm.clock.now())
        arm.twin.advance(PERIOD_S)
    arm.step()
    sunk = arm.joints.position
    for _ in range(20):
        arm.step()
        assert arm.drive.torque_on and arm.drive.stop == ("hold" if held else "stow")
        if held or len(arm.sent) < 15:
            assert max(abs(a - b) for a, b in zip(arm.joints.position, sunk, strict=True)) < 0.1, "nor does it leap"
    assert before and all(torques(arm))
    arm.until(lambda: arm.drive.powered_off_confirmed, "disable" if held else "")
    assert arm.joints.position == pytest.approx(arm.run.robot.stow, abs=0.2)
    assert "LOCKOUT" not in arm.states


def test_an_arm_whose_cable_flaps_on_its_way_down_gets_there(tmp_path):
    """Its watchdog brakes it again and again: each time the joint sinks a little, and is led on from there."""
    arm = ArmRig("omx", tmp_path).running()
    arm.wish = (0.0, 0.5, -0.5, 0.5, 0.0)
    for _ in range(110):
        arm.step()
    for n in range(400):
        if n % 20 == 0:
            for fault in ("mute", "deaf"):
                arm.twin.command({"fault": fault, "servo": 12, "for_s": 0.16})
        joints, _, drive = arm.loop.cycle(None, None)
        arm.twin.advance(PERIOD_S)
        if not drive.torque_on:
            break
    assert joints.position == pytest.approx(arm.run.robot.stow, abs=0.15), n


@pytest.mark.parametrize("late_ms", [0, 100])
def test_a_restarted_guard_holds_what_the_driver_held_however_late_the_driver_is_just_then(arm, late_ms):
    arm.running().reach("HOLD", "pause").reach("READY", "disable").until(lambda: arm.drive.stop == "stow")
    arm.step("stop")
    arm.until(lambda: arm.drive.stop == "hold", seconds=0.2)
    arm.sentry, now = Sentry(arm.run, arm._next_epoch, lambda: 7, restarted=True), arm.clock.now()
    for message in (arm.joints, arm.drive):
        arm.sentry.hear(message, now)
    permit, _ = arm.sentry.step(now + late_ms * 1_000_000)
    assert permit.hold


def test_cut_power_is_said_whatever_the_driver_says_that_it_holds(arm):
    arm.running().reach("HOLD", "pause").reach("READY", "disable").until(lambda: arm.drive.stop == "stow")
    arm.step("stop")
    arm.until(lambda: arm.drive.stop == "hold", seconds=0.2)
    arm.sentry.hear(msgspec.structs.replace(arm.drive, disobeyed=True), arm.clock.now())
    permit, guard = arm.sentry.step(arm.clock.now())
    assert (guard.state, permit.hold) == ("LOCKOUT", False) and "CUT POWER" in guard.note


@pytest.mark.parametrize("pressed", [2, 60])
def test_a_servo_that_lets_go_stops_the_robot_and_a_key_holds_what_the_driver_lowers_by_itself(arm, pressed):
    """Its mode is never seen by the guard: between the driver's two words it judged. What it sees is a gate that is shut."""
    arm.running().reach("HOLD", "pause")
    for _ in range(15):
        arm.step()
    arm.twin.bus.servos[-1].registers.put("torque", 0)
    sentry_hear = arm.sentry.hear
    arm.sentry.hear = lambda what, now: None if type(what) is Joints else sentry_hear(what, now)
    arm.step()
    arm.sentry.hear = sentry_hear
    assert arm.guard.state == "HOLD" and arm.drive.stop == "stow"
    for _ in range(pressed):
        arm.step()
    assert arm.guard.state == ("PSTOP" if pressed == 60 else "HOLD") and arm.drive.stop == "stow"
    arm.step("stop")
    for _ in range(5):
        arm.step()
    held = arm.twin.joints.angle[:-1]
    for _ in range(100):
        arm.step()
    assert ("let_go" in arm.guard.causes) is (pressed == 60) and arm.guard.state == "PSTOP" and not arm.permit.torque
    assert arm.drive.stop == "hold" and max(abs(a - b) for a, b in zip(held, arm.twin.joints.angle, strict=False)) < 0.02
    arm.until(lambda: arm.drive.powered_off_confirmed, "disable", seconds=10.0)


def test_a_guard_started_again_beside_motors_that_are_off_switches_none_on(arm):
    """It judges first just when the driver is 80 ms late."""
    arm.ready()
    for _ in range(30):  # the one before is dead
        arm.joints, arm.applied, arm.drive = arm.loop.cycle(arm.permit, None)
        arm.twin.advance(PERIOD_S)
    arm.sentry = Sentry(arm.run, arm._next_epoch, lambda: 9, restarted=True, epoch=arm._epoch)
    for message in (arm.joints, arm.applied, arm.drive):
        arm.sentry.hear(message, arm.clock.now())
    arm.clock.advance(80_000_000)
    for _ in range(60):
        arm.step()
        assert not arm.permit.torque and not arm.drive.torque_on and not any(torques(arm))
    assert arm.guard.state == "PSTOP" and arm.reach("READY", "clear")


def held_on_its_way_down(arm):
    arm.running().reach("HOLD", "pause").reach("READY", "disable")
    for _ in range(40):
        arm.step()
    arm.step("stop")
    for _ in range(50):
        arm.step()
    assert arm.permit.hold and arm.drive.stop == "hold"
    return arm.joints.position


def alone(arm, cycles):
    """The guard is gone: its last word is what the driver has."""
    for _ in range(cycles):
        arm.joints, arm.applied, arm.drive = arm.loop.cycle(arm.permit, None)
        arm.twin.advance(PERIOD_S)


def apart(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def test_a_hold_lasts_for_5_s_beyond_its_guard_and_no_longer(arm):
    at = held_on_its_way_down(arm)
    alone(arm, 249)
    assert arm.drive.stop == "hold" and apart(arm.joints.position, at) < 0.02
    alone(arm, 60)
    assert arm.drive.stop == "stow" and apart(arm.joints.position, at) > 0.02


def test_a_hold_outlives_its_guard_and_is_ended_by_a_key(arm):
    at = held_on_its_way_down(arm)
    alone(arm, 100)
    arm.sentry = Sentry(arm.run, arm._next_epoch, lambda: 9, restarted=True, epoch=arm._epoch)
    for message in (arm.joints, arm.applied, arm.drive):
        arm.sentry.hear(message, arm.clock.now())
    for _ in range(500):
        arm.step()
        assert arm.permit.hold and arm.drive.stop == "hold" and not arm.permit.torque
    assert apart(arm.joints.position, at) < 0.02 and "press disable" in arm.guard.note
    arm.until(lambda: arm.drive.powered_off_confirmed, "disable", seconds=10.0)
    assert arm.joints.position == pytest.approx(arm.run.robot.stow, abs=0.2)


def test_a_run_that_ends_takes_no_old_word_for_a_hold(arm):
    held_on_its_way_down(arm)
    arm.permit = None
    alone(arm, 5)
    assert arm.drive.stop == "stow"


def test_legs_are_let_go_in_their_time_whatever_key_is_pressed(tmp_path):
    rig = ArmRig("dkitty", tmp_path).running().reach("PSTOP", "stop").reach("RELAX", "disable")
    for n in range(int(rig.run.robot.stop_damp_s / PERIOD_S) + 10):
        rig.step("stop" if n % 5 == 0 else "")
    rig.until(lambda: rig.drive.powered_off_confirmed, seconds=0.5)
    assert "stop_unconfirmed" not in rig.guard.causes and not any(torques(rig))


def test_an_arm_that_is_held_does_not_sink_with_every_stall_of_its_driver(arm):
    """It hangs under its goal by what its weight asks for; a goal taken anew from there would sink by it each time."""
    arm.running()
    arm.wish = (0.0, 0.6, -0.3, 0.2, 0.0, 0.2)[: len(arm.joints.position)]  # stretched forward
    arm.until(lambda: all(abs(p - w) < 0.06 for p, w in zip(arm.joints.position, arm.wish, strict=True)))
    arm.reach("HOLD", "pause")
    for _ in range(50):
        arm.step()
    began = arm.joints.position
    hangs, at = max(abs(p - g) for p, g in zip(began, arm.applied.target, strict=True)), [began]
    assert hangs > 0.01, "nothing would be seen"
    for stall in range(20):
        arm.twin.advance(0.08)
        if stall % 2:  # the guard is late too
            arm.loop.cycle(arm.permit, None)  # the permit that the driver has is old: it begins to stop
        for _ in range(10):
            arm.step()
        at.append(arm.joints.position)
    sunk = [max(abs(a - b) for a, b in zip(p, began, strict=True)) for p in at[1:]]
    assert all(torques(arm)) and sunk[-1] <= sunk[0] + 0.002 and sunk[-1] < 0.004, sunk


@pytest.mark.parametrize("mute", [None, 0, 2])
@pytest.mark.parametrize("cycles", [1, 2, 6])
def test_a_stop_that_begins_while_servos_are_unread_holds_their_targets(arm, mute, cycles):
    """Where they were heard last they are no more: a hold that began there would lead them back at once."""
    arm.running()
    ids, at = arm.run.robot.servos.ids, list(arm.joints.position)
    for k in range(12):
        arm.wish = (at[0] + 0.03 * (k + 1), *at[1:])
        arm.step()
    if mute is None:
        arm.twin.wires["servos"].add(Silence(inward=False))
    else:
        arm.twin.command({"fault": "mute", "servo": ids[mute]})
    for k in range(cycles):
        arm.wish = (at[0] + 0.03 * (k + 13), *at[1:])
        arm.step()
    led = wires_goals(arm)
    for _ in range(5):
        drive = arm.loop.cycle(msgspec.structs.replace(arm.permit, torque=False, hold=False, state="RELAX"), None)[2]
        arm.twin.advance(PERIOD_S)
        assert drive.stop == "stow" and wires_goals(arm) == pytest.approx(led, abs=0.002)


class Damaged(Fault):
    """What a Dynamixel of number 12 answers; it hears."""

    def outward(self, data):
        data, at = bytearray(data), data.find(b"\xff\xff\xfd\x00\x0c")
        if 0 <= at < len(data) - 9:
            data[at + 9] ^= 0x40
        return bytes(data)


@pytest.mark.parametrize("cycles", [1, 3])
def test_a_joint_that_its_watchdog_has_stopped_and_that_is_unheard_as_the_stop_begins_does_not_leap(cycles, tmp_path):
    """To the target that it was led to before it sank: what frees it carries one."""
    arm = ArmRig("omx", tmp_path).running()
    arm.wish = (0.0, 0.6, -0.6, 0.5, 0.0)
    arm.until(lambda: all(abs(p - w) < 0.06 for p, w in zip(arm.joints.position, arm.wish, strict=True)))
    for fault in ("mute", "deaf"):
        arm.twin.command({"fault": fault, "servo": 12, "for_s": 0.16})
    arm.reach("PSTOP")
    for _ in range(50):
        arm.step()
    assert arm.joints.mode[1] == 11
    arm.twin.wires["servos"].add(Damaged(), PERIOD_S * cycles - 0.001)
    at = float(arm.twin.joints.angle[1])
    for n in range(14):  # in which it is held
        arm.step("disable" if n == 0 else "")
        assert abs(arm.twin.joints.angle[1] - at) < 0.03
    assert arm.drive.stop == "stow"


def test_who_was_stopped_by_its_watchdog_meanwhile_is_held_where_it_is(tmp_path):
    arm = ArmRig("omx", tmp_path).running().reach("HOLD", "pause")
    arm.twin.advance(0.15)
    arm.twin.joints.put([p + 0.2 for p in arm.twin.joints.angle])
    arm.step()
    assert 11 in arm.joints.mode and arm.applied.target == pytest.approx(arm.joints.position, abs=0.036)


def test_a_guard_that_is_started_again_waits_for_the_arm_to_be_lowered(arm):
    """Its gate shut, the driver lowers the arm for seconds: torque that is still on by then is no stop that was not obeyed."""
    arm.twin.chain.steps += 10_000  # 20 s: a machine's clock counts from its start
    arm.twin.advance(PERIOD_S)
    arm.sentry = Sentry(arm.run, arm._next_epoch, lambda: 7)
    arm.running()
    for _ in range(20):  # 0.4 s without a guard
        arm.twin.advance(PERIOD_S)
        arm.joints, arm.applied, arm.drive = arm.loop.cycle(None, None)
    assert arm.drive.stop == "stow" and all(torques(arm))
    arm.sentry, arm.states = Sentry(arm.run, arm._next_epoch, lambda: 7, restarted=True), []
    for message in (arm.joints, arm.drive):  # it listens before it judges
        arm.sentry.hear(message, arm.clock.now())
    arm.until(lambda: arm.drive.powered_off_confirmed)
    assert set(arm.states) <= {"PSTOP", "RELAX"} and "stop_unconfirmed" not in arm.guard.causes, arm.states
    assert arm.joints.position == pytest.approx(arm.run.robot.stow, abs=0.2)


def test_a_servo_that_does_not_obey_a_guard_started_again_is_told_of_all_the_same(tmp_path):
    arm = ArmRig("so101", tmp_path).running()
    arm.twin.command({"fault": "deaf", "servo": 3})
    arm.sentry = Sentry(arm.run, arm._next_epoch, lambda: 7, restarted=True)
    arm.loop.cycle(None, None)
    arm.loop.gate.shut()
    arm.reach("LOCKOUT", seconds=7.0)
    assert "stop_unconfirmed" in arm.guard.causes


@pytest.mark.parametrize(("robot", "power", "volts"), [("so101", 0.5, 12.0), ("omx", 0.5, 12.0), ("so101", 1.0, 9.0)])
def test_a_blocked_joint_that_has_little_power_stops_the_arm(robot, power, volts, tmp_path):
    """Easing takes its strain for a reading every 0.4 s, and it presses on."""
    arm = ArmRig(robot, tmp_path, [f"robot.servos.power={power}"]).running()
    arm.wish = arm.run.robot.home
    arm.until(lambda: all(abs(p - w) < 0.15 for p, w in zip(arm.joints.position, arm.wish, strict=True)))
    arm.twin.chain.supply_v, step = volts, arm.twin.joints.step

    def stuck(drive, damping, friction, dt):
        step(drive, damping, friction + [0.0, 1e3, *[0.0] * (len(friction) - 2)], dt)

    arm.twin.joints.step = stuck
    arm.wish = tuple(w + 0.8 * (k == 1) for k, w in enumerate(arm.wish))
    arm.reach("PSTOP", seconds=1.0)
    assert arm.guard.causes == ("stalled",) and arm.states[-2] == "RUN"


def test_a_silent_servo_is_the_only_one_missed_and_stops_the_robot(rig):
    rig.running()
    who = MUTE[rig.run.robot.name]
    rig.twin.command({"fault": "mute", "servo": who})
    for n in range(1, 4):
        rig.step()
        missed = dict(zip(rig.run.robot.servos.ids, rig.joints.missed, strict=True))
        assert missed.pop(who) == n and not any(missed.values())
    rig.reach("PSTOP", seconds=0.1)
    assert "servo_lost" in rig.guard.causes


def test_no_servo_answering_is_said_as_such(arm):
    arm.running()
    arm.twin.command({"fault": "silence", "wire": "servos"})
    arm.reach("PSTOP", seconds=0.2)
    assert "bus_silent" in arm.guard.causes and min(arm.joints.missed) >= 3


@pytest.mark.parametrize("robot, bits", [("omx", 32), ("dkitty", 4), ("so101", 8), ("so101", 4)])
def test_a_hardware_error_stops_it_with_its_bits(robot, bits, tmp_path):
    rig = ArmRig(robot, tmp_path).running()
    who = MUTE[robot]
    rig.twin.command({"fault": "trip", "servo": who, "bits": bits})
    rig.until(lambda: rig.guard.state != "RUN", seconds=0.2)
    assert dict(zip(rig.run.robot.servos.ids, rig.joints.fault, strict=True))[who] == bits
    assert "servo_fault" in rig.guard.causes and rig.guard.state == "PSTOP"


def test_a_servo_that_reboots_is_noticed_gets_no_torque_and_is_set_up_anew(arm):
    """A Dynamixel's registers tell of it. A Feetech's do not: it was unread for long, and is found without torque."""
    arm.running()
    who = MUTE[arm.run.robot.name]
    i = arm.run.robot.servos.ids.index(who)
    arm.twin.command({"fault": "reboot", "servo": who})
    for _ in range(400):
        arm.step()
    assert (arm.guard.state, arm.drive.stop) == ("PSTOP", "hold"), "the others hold until a person says so"
    assert arm.guard.note.startswith(f"motor {arm.run.robot.servos.joints[i]} has let go: support the arm, press disable")
    with pytest.raises(DeviceError, match=rf"servo {who}: was off and on again"):
        for k in range(400):
            arm.step("" if k else "disable")
    assert arm.guard.state in ("PSTOP", "RELAX")
    assert torques(arm)[i] == 0 and arm.states[3] == "RUN" and arm.states[4] in ("PSTOP", "RELAX")
    arm.loop = arm.connect()
    arm.step()
    assert not any(arm.joints.missed) and arm.chain.rebooted == () and not any(torques(arm))


@pytest.mark.parametrize(("register", "bits"), [("mode", 1), ("homing_offset", 500), ("phase", 1)])
def test_a_feetech_that_was_exchanged_while_the_supply_was_off_is_not_driven(register, bits, tmp_path):
    """The adapter has USB's power and stays: nothing but the silence tells that another servo may be there."""
    arm = ArmRig("so101", tmp_path).ready()
    arm.twin.command({"supply_v": 0.0})
    for _ in range(50):
        arm.step()
    arm.twin.bus.servos[3]._kept[register] ^= bits
    arm.twin.command({"supply_v": 12.0})
    with pytest.raises(DeviceError, match="all are set up anew"):
        for _ in range(100):
            arm.step("enable")
            assert not any(torques(arm))
    assert not any(torques(arm))


@pytest.mark.parametrize("many", [False, True], ids=["one", "all"])
def test_a_servo_that_holds_throughout_its_silence_has_had_power_and_is_not_set_up_anew(arm, many):
    """Nor does an arm fall for it: it is held, or braked by its own watchdogs, until a key."""
    arm.running()
    for servo in arm.run.robot.servos.ids if many else (MUTE[arm.run.robot.name],):
        arm.twin.command({"fault": "mute", "servo": servo, "for_s": 0.3})
    for _ in range(100):
        arm.step()
        assert all(torques(arm)) and arm.drive.gate_open
    assert arm.guard.state == "PSTOP" and not any(arm.joints.missed) and set(arm.joints.mode) <= {10, 11}


def test_a_servo_that_is_silent_on_its_arms_way_down_ends_no_stop_and_is_set_up_anew_after_it(arm):
    arm.running().reach("PSTOP", "stop").until(lambda: arm.drive.stop == "stow", "disable")
    arm.twin.command({"fault": "reboot", "servo": MUTE[arm.run.robot.name]})
    stages = []
    with pytest.raises(DeviceError, match="all are set up anew"):
        for _ in range(400):
            arm.step()
            stages.append(arm.drive.stop)
    assert stages.count("stow") > 50 and not any(torques(arm))


def test_a_servo_that_never_answers_again_is_not_waited_for(tmp_path):
    """Its arm is stowed and let go as ever, and what it may have lost is asked when it is heard."""
    arm = ArmRig("so101", tmp_path).running()
    arm.twin.wires["servos"].add(Torn(10**6))
    arm.reach("PSTOP", seconds=0.2).until(lambda: arm.drive.stop == "off", "disable", seconds=9.0)
    for _ in range(100):
        arm.step()
    assert not any(torques(arm)) and not arm.drive.gate_open and arm.drive.stop == "off"
    arm.twin.command({"fault": "clear"})
    with pytest.raises(DeviceError, match=r"^servo 6: .*all are set up anew"):
        for _ in range(10):
            arm.step("enable")
    assert not any(torques(arm))


def test_a_servo_that_blinks_on_its_arms_way_down_is_led_on_from_where_it_is(tmp_path):
    arm = ArmRig("so101", tmp_path).running()
    arm.wish = (0.0, 0.6, 0.3, 0.0, 0.0, 0.0)
    for _ in range(110):
        arm.step()
    arm.reach("PSTOP", "stop").until(lambda: arm.drive.stop == "stow", "disable")
    for n in range(350):
        if arm.drive.powered_off_confirmed:
            break
        if n == 20:
            arm.twin.command({"fault": "reboot", "servo": 2})
        if n == 50:  # without torque it sinks
            arm.twin.command({"place": [-0.6 if i == 1 else at for i, at in enumerate(arm.twin.joints.angle.tolist())]})
        arm.step()
        blinked = n > 50 and arm.drive.stop == "stow" and not arm.joints.missed[1]
        assert not blinked or abs(wires_goals(arm)[1] - arm.joints.position[1]) < 0.4, "a leap, were it switched on"
    assert arm.drive.powered_off_confirmed


def test_an_arm_that_is_enabled_again_while_it_is_braked_is_held_and_does_not_sink(tmp_path):
    """As `calibrate homing --stops` has its profile; a Feetech that brakes says that it has torque, and goes by no goal."""
    arm = ArmRig("so101", tmp_path, ['robot.stop_profile="damp"']).running()
    arm.reach("HOLD", "pause").until(lambda: arm.drive.stop == "damp", "disable")
    for _ in range(5):
        arm.step()
    assert set(torques(arm)) == {2}
    arm.reach("HOLD", "enable")
    at = arm.joints.position
    for _ in range(100):
        arm.step()
    assert arm.guard.state == "HOLD" and set(torques(arm)) == {1} and apart(arm.joints.position, at) < 0.03


@pytest.fixture
def turned_past(tmp_path, monkeypatch):
    """An OM-X that lay limp when a person turned its base past straight back, where its encoder's one turn ends."""
    monkeypatch.setattr(Fleet, "turned", lambda self: (self.apart(), ""))
    rig = ArmRig("omx", tmp_path).ready()
    rig.twin.joints.lower[0], rig.twin.joints.upper[0] = -20.0, 20.0  # it turns without end
    for to in np.linspace(0.0, 3.3, 60):
        rig.twin.joints.put([to, *rig.twin.joints.angle[1:]])
        rig.step()
    return rig


def test_a_joint_that_was_turned_past_its_encoders_turn_is_to_be_turned_back_first(turned_past):
    """With torque it would read a turn less, and go for its goal the long way round."""
    rig = turned_past
    assert rig.guard.note.startswith("motor turn was turned past the end of its encoder's turn")
    rig.step("enable")
    assert rig.guard.state == "CHECK"
    rig.twin.joints.put([3.1, *rig.twin.joints.angle[1:]])
    for _ in range(5):
        rig.step()
    assert rig.guard.state == "READY"


def test_heat_stops_it_before_the_servo_lets_go(arm):
    arm.running()
    who = MUTE[arm.run.robot.name]
    arm.twin.command({"fault": "heat", "servo": who, "celsius": arm.run.robot.limits.temp_c - 2})
    arm.until(lambda: "temp_high" in arm.guard.causes, seconds=0.5)
    assert arm.guard.state == "RELAX" and all(torques(arm)), "a hot arm is lowered: held, it would get no cooler"
    arm.until(lambda: arm.drive.stop == "stow", seconds=0.5)
    arm.until(lambda: arm.drive.powered_off_confirmed)


def test_a_host_that_falls_silent_leaves_a_dynamixel_stopped_and_a_feetech_at_its_last_goal(arm):
    """The first by its watchdog, read back as such; the second has none: its travel is what the gate let its goal lead."""
    arm.running()
    arm.wish = tuple(high for high in arm.run.robot.highest)
    for _ in range(10):
        arm.step()
    before = arm.joints.position
    arm.twin.advance(1.0)
    arm.step()
    lead = arm.run.robot.limits.lead_rad
    assert all(abs(p - b) <= lead + 0.02 for p, b in zip(arm.joints.position, before, strict=True))
    if arm.run.robot.servos.protocol == "dynamixel":
        assert set(arm.joints.mode) == {11}
        arm.reach("PSTOP", seconds=0.5).until(lambda: set(arm.joints.mode) == {10}, seconds=0.5)
    else:
        assert set(arm.joints.mode) == {10}


def test_a_servo_that_does_not_obey_the_stop_is_told_of(arm):
    arm.running()
    arm.twin.command({"fault": "deaf", "servo": MUTE[arm.run.robot.name]})
    arm.reach("PSTOP", "stop").reach("LOCKOUT", "disable", seconds=10)
    assert "CUT POWER" in arm.guard.note


def test_a_port_that_is_pulled_and_plugged_in_again_needs_a_person_before_torque(arm):
    arm.running()
    arm.twin.command({"fault": "close", "wire": "servos"})
    with pytest.raises(PortError):
        arm.step()
    arm.twin.command({"fault": "clear"})
    arm.twin.advance(1.0)
    assert all(torques(arm))
    arm.loop = arm.connect()
    assert arm.loop.chain.read(-1).position == pytest.approx(arm.run.robot.stow, abs=0.15)  # lowered, and not dropped
    for _ in range(20):
        arm.step()
    assert not any(torques(arm)) and not arm.drive.torque_on


def test_the_rescue_of_an_arm_lowers_it_and_that_of_legs_damps_them(rig):
    """The driver is gone; a chain of the rescue's own begins in the middle of everything."""
    rig.running()
    clock, robot = TwinClock(rig), rig.run.robot
    chain = chain_of(rig.twin.ports()["servos"], robot, clock, starts=False)
    began, told = clock.now(), []
    outcome = stop_motors(robot, chain, clock, True, told.append)
    assert outcome.confirmed and not any(torques(rig)) and not told
    assert clock.now() - began <= (robot.stop_damp_s + 1.0) * 1e9
    if robot.stop_profile == "stow":
        assert chain.read(-1).position == pytest.approx(robot.stow, abs=0.15)


def test_the_rescue_of_motors_whose_power_was_gone_says_at_once_that_they_are_off(rig):
    rig.running()
    for servo in rig.twin.bus.servos:
        servo.boot()
    rig.twin.advance(1.0)
    clock = TwinClock(rig)
    chain = chain_of(rig.twin.ports()["servos"], rig.run.robot, clock, starts=False)
    outcome = stop_motors(rig.run.robot, chain, clock, True, rig.said.append)
    assert outcome.confirmed and outcome.seconds < 0.5, outcome


def test_an_arm_that_its_own_watchdogs_have_stopped_is_held_by_who_wakes_and_lowered_by_the_rescue(tmp_path):
    """A servo that has stopped itself takes no goals: switched off or only talked to, the arm would fall."""
    arm = ArmRig("omx", tmp_path).running()
    arm.twin.advance(0.5)
    arm.step()
    assert set(arm.joints.mode) == {11}
    arm.reach("PSTOP", seconds=0.2).until(lambda: set(arm.joints.mode) == {10}, seconds=0.2)
    assert all(torques(arm)) and arm.applied.writer == "hold"
    arm.twin.advance(0.5)
    chain = chain_of(arm.twin.ports()["servos"], arm.run.robot, TwinClock(arm), starts=False)
    assert stop_motors(arm.run.robot, chain, TwinClock(arm), True, print).confirmed
    assert chain.read(-1).position == pytest.approx(arm.run.robot.stow, abs=0.15)


class Torn(Fault):
    """So many answers of the last servo, which hears what it is told."""

    def __init__(self, left=1):
        self.left = left

    def outward(self, data):
        self.left -= bool(data)
        return data if self.left < 0 else data[:-9]


def rescued(arm, stop_s, fault=None, for_s=math.inf):
    """The rescue, a chain of its own, after the driver's death, of a profile so long; and how it stood when it first let go."""
    robot, clock, off = replace(arm.run.robot, stop_damp_s=stop_s), TwinClock(arm), []
    chain = chain_of(arm.twin.ports()["servos"], robot, clock, starts=False)
    stop, began = chain.stop, clock.now()
    chain.stop = lambda: (off.append((clock.now() - began, torques(arm), tuple(arm.twin.joints.angle))), stop())[1]
    if fault is not None:
        arm.twin.wires["servos"].add(fault, for_s)
    return stop_motors(robot, chain, clock, True, lambda _: None), *off[0]


@pytest.mark.parametrize("fault, for_s", [(Torn, math.inf), (lambda: Silence(inward=False), 0.03)], ids=["one", "all"])
def test_a_single_answer_lost_does_not_drop_an_arm(arm, fault, for_s):
    outcome, after, on, at = rescued(arm.running(), 5.0, fault(), for_s)
    assert outcome.confirmed and all(on) and at == pytest.approx(arm.run.robot.stow, abs=0.12)
    assert after < 5e9, "it was down before its time was up"


class Paused(TwinClock):
    """All stands still for two seconds, half a second on."""

    def sleep_until(self, deadline):
        before = self.now()
        super().sleep_until(deadline)
        if before < self.at <= self.now():
            self._rig.twin.advance(2.0)


def test_a_rescue_that_stood_still_does_not_hurry_afterwards(arm):
    """Its targets are slewed by steps: a hundred at once, and they were as far ahead as the gate lets them."""
    arm.running()
    clock, sent = Paused(arm), []
    clock.at = clock.now() + 500_000_000
    chain = chain_of(arm.twin.ports()["servos"], arm.run.robot, clock, starts=False)
    write = chain.write
    chain.write = lambda *given: (sent.append(clock.now()), write(*given))[1]
    assert stop_motors(arm.run.robot, chain, clock, True, print).confirmed
    assert sent[-1] > clock.at + 2_000_000_000 and min(b - a for a, b in zip(sent, sent[2:], strict=False)) >= 20_000_000


def test_a_rescue_that_never_hears_one_servo_lowers_the_others_and_lets_go_when_its_time_is_up(arm):
    robot = arm.running().run.robot
    arm.wish = (*arm.joints.position[:-1], 0.4)
    arm.until(lambda: arm.joints.position[-1] > 0.35)
    registers = arm.twin.bus.servos[-1].registers
    goal = registers.get("goal_position")
    outcome, after, on, at = rescued(arm, 3.0, Torn(10**6))
    assert not outcome.confirmed and outcome.why == CUT_POWER, "one that is mute is never read back"
    assert all(on) and after >= 3e9 - 1e6
    assert registers.get("goal_position") == goal, "nobody knows where it is: it was sent nowhere"
    assert at[:-1] == pytest.approx(robot.stow[:-1], abs=0.2)


def test_an_arm_that_answers_nothing_is_damped_before_it_is_let_go(arm):
    outcome, after, on, _ = rescued(arm.running(), 1.0, Silence(inward=False))
    assert not outcome.confirmed and all(on) and after >= 1e9 - 1e6
    assert not any(torques(arm))


def test_the_rescue_puts_no_torque_on_a_servo_that_has_none(arm):
    arm.ready()
    clock = TwinClock(arm)
    chain = chain_of(arm.twin.ports()["servos"], arm.run.robot, clock, starts=False)
    assert stop_motors(arm.run.robot, chain, clock, True, print).confirmed and not clock.powered


@pytest.mark.parametrize(
    ("name", "places", "asked"),
    [
        ("push", (0.1, -0.02), "the thing stands at x 0.100, y -0.020 m"),
        (
            "push_pixels",
            (0.1, 0.0, 0.2, 0.0),
            "the thing stands at x 0.100, y 0.000 m; its place is marked at x 0.200, y 0.000 m",
        ),
        ("reach_pixels", (0.2, -0.1, 0.15), "what is to be reached hangs at x 0.200, y -0.100, z 0.150 m"),
    ],
)
def test_a_reset_before_a_task_with_things_asks_a_person_for_them(name, places, asked):
    run = config.load(LAUNCH / f"{name}.toml")
    resetter, at = Resetter(run), config.start_of(run.task, run.robot)
    resetter.places = places
    assert len(task_of(run).set_up(0)) == len(places)
    zeros, ones = (0.0,) * len(at), (1,) * len(at)
    permit = Permit(state="RESET", epoch=3, holder="reset", torque=True, speed_scale=0.5)
    for tick in range(200):
        joints = Joints(t=tick * 20_000_000, tick=tick, position=at, velocity=zeros, torque=zeros, temp_c=zeros, voltage=zeros,
                        mode=ones, fault=ones, missed=ones)  # fmt: skip
        action = resetter.cycle(joints, LEVEL, permit)
        if resetter.state.outcome != "running":
            break
    assert (resetter.state.outcome, resetter.state.reason) == ("asks", asked)
    assert action is not None and action.target == pytest.approx(at), "it holds meanwhile"


@pytest.mark.parametrize("began", (5, 6, 7, 8))
def test_a_recording_of_bus_servos_that_begins_in_the_middle_plays_the_same(arm, began):
    """Each cycle asks for another number of bytes, so whoever joins has to find the turn; and believes what he hears at once."""
    tape = Tape(arm.clock)
    tape.call("connect")
    chain = connected(arm.run.robot, tape.around(arm.twin.ports()["servos"]), tape.clock, -1, print)
    loop, said, exchanges = ServoLoop(arm.run.robot, chain, tape.clock, 0.02), Recorded(), []
    tape.take(1)
    for number in range(1, 20):
        arm.twin.advance(0.02)
        tape.call("cycle", None, None)
        for topic, message in zip(("joints", "applied", "drive"), loop.cycle(None, None), strict=True):
            said.keep(topic, msgspec.structs.replace(message, source="servos", boot=7, seq=number))
        exchanges.append(msgspec.structs.replace(tape.take(number), source="servos", boot=7, seq=number))
    played = Servos(arm.run)
    for exchange in exchanges[began:]:
        played.play(exchange, said)
    for score in (played.joints, played.applied, played.written):
        assert not score.differ and score.equal >= 18 - began, (score.name, score.first)


def test_homing_finds_the_zeros_of_bus_servos(rig):
    """Offsets of a robot whose horns stand otherwise on their splines than its file says: by little, for OpenManipulator-X turns
    by nearly all that its encoder counts."""
    robot = rig.run.robot
    plain = replace(robot, servos=replace(robot.servos, offset=(0.0,) * len(robot.servos.ids)))
    chain = chain_of(rig.twin.ports()["servos"], plain, rig.clock)
    rig.twin.joints.put([0.0] * len(robot.servos.ids))
    rig.twin.chain.look()
    record = homing.measure(chain, robot, (0.03,) * len(robot.servos.ids), rig.clock)
    expected = [o - s * 0.03 for o, s in zip(robot.servos.offset, robot.servos.sign, strict=True)]
    assert record.offset == pytest.approx(expected, abs=2e-3)


def test_the_mover_sways_each_joint_within_its_limits_and_comes_back(tmp_path):
    arm = ArmRig("omx", tmp_path).running()
    mover, here = Mover(arm.run.robot), arm.joints.position
    farthest = [0.0] * len(here)
    while mover.moved < len(here):
        action = mover.cycle(arm.joints, arm.permit)
        arm.wish = action.target if action is not None else None
        arm.step()
        farthest = [max(f, abs(p - h)) for f, p, h in zip(farthest, arm.joints.position, here, strict=True)]
        assert arm.guard.state == "RUN" and arm.loop.tick < 2000
    assert all(0.1 < f < 0.25 for f in farthest) and arm.joints.position == pytest.approx(here, abs=0.05)


@pytest.mark.parametrize("robot", ROBOTS)
def test_what_only_a_minitaur_can_is_refused_in_a_line(robot, tmp_path):
    run_of(robot, tmp_path)
    for program in (manager.main, rehearsal.main):
        with pytest.raises(ConfigError, match=rf"{robot} has no task yet; its first motion: .*move"):
            program([str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="imu, tracker"):
        move.main([str(LAUNCH / "walk.toml"), "--sim", "--out", str(tmp_path / "out")])


def test_a_hand_closes_no_harder_than_its_servo_is_limited_to(tmp_path, monkeypatch):
    """Something hard between the fingers; LeRobot limits every gripper to half, in EEPROM."""

    def held_apart(fleet):
        joints = fleet.apart()
        joints.lower[5] = 0.15
        return joints, "apart"

    monkeypatch.setattr(Fleet, "turned", held_apart)
    arm = ArmRig("so101", tmp_path)
    arm.twin.joints.put([*arm.run.robot.stow[:5], 0.4])
    jaw = arm.twin.bus.servos[5]
    for register, data in ((55, b"\0"), (16, (500).to_bytes(2, "little")), (55, b"\1")):
        jaw.write(register, data)
    jaw.boot()
    arm.twin.advance(1.0)
    arm.loop = arm.connect()
    arm.running()
    arm.wish = (*arm.joints.position[:5], -0.13)
    pressed = []
    for _ in range(60):
        arm.step()
        pressed.append(abs(jaw.amps * jaw.motor.nm_per_a))
    assert 0.45 * jaw.motor.stall_nm < max(pressed) < 0.505 * jaw.motor.stall_nm
    assert arm.guard.state == "PSTOP" and "stalled" in arm.guard.causes


@pytest.mark.parametrize("after", [0, 2, 5, 10, 25])
@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_a_joint_that_is_blocked_as_torque_comes_on_is_told_of_before_it_is_eased(robot, after, tmp_path, monkeypatch):
    """Something rigid pushes the pan aside and stays. The driver began to count with the torque and the guard 0.2 s later: the
    joint was eased first, by which it strains no more, and nobody was told."""
    monkeypatch.setattr(Fleet, "turned", lambda self: (self.apart(), "apart"))
    arm = ArmRig(robot, tmp_path).ready()
    arm.step("enable")
    joints, register = arm.twin.joints, "torque_limit" if robot == "so101" else "goal_pwm"
    at, servo, limits = float(joints.angle[0]), arm.twin.bus.servos[0], []
    for n in range(100):
        if n >= after:  # 0.15 rad at 2 rad/s
            joints.lower[0] = at + min(0.15, 0.04 * (n - after + 1))
        arm.step()
        limits.append(servo.registers.get(register))
        if arm.guard.state == "PSTOP":
            break
    assert "stalled" in arm.guard.causes, (arm.guard, limits[-5:])
    assert (n - after) * PERIOD_S < 1.0
