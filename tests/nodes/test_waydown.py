"""An arm that stands in a PSTOP or is on its way down, and something more happens: what moves, and what a person is told."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from robotrl import messages as m
from robotrl.drivers.chains import chain_of
from robotrl.drivers.port import DeviceError, PortError
from robotrl.nodes import servos
from robotrl.nodes.powerdown import lower
from robotrl.nodes.rescue import stop_motors
from robotrl.nodes.servos import Driver
from robotrl.nodes.waydown import LET_GO, NOT_DOWN
from robotrl.sim.faults import Fault
from robotrl.sim.servotwin import ServoTwin
from tests.nodes.armrig import ArmRig, TwinClock, run_of
from tests.nodes.test_arms import apart
from tests.nodes.test_servos import MS, Line, Numbered, VirtualNode

STILL_RAD = 0.02
HARD = 4.0  # N m against which no shoulder comes down


@pytest.fixture(params=["so101", "omx"])
def arm(request, tmp_path):
    """At home, up, led by the policy."""
    rig = ArmRig(request.param, tmp_path).running()
    rig.wish = tuple(rig.run.robot.home)
    return rig.until(lambda: apart(rig.joints.position, rig.wish) < 0.12)


def steps(rig, seconds, key=""):
    """The notes that were shown meanwhile; the key is pressed first."""
    notes = []
    for k in range(round(seconds / 0.02)):
        rig.step("" if k else key)
        notes.append(rig.guard.note)
    return notes


def lets_go(rig, servo, how):
    place = rig.twin.bus.servos[servo]
    place.trip(4) if how == "trips" else place.boot() if how == "reboots" else place.registers.put("torque", 0)


@pytest.mark.parametrize("how", ["trips", "reboots", "is switched off"])
def test_in_pstop_the_others_stay_when_a_servo_lets_go(arm, how):
    """A hand is caught, and the jaw gives up a second later: no joint is led anywhere before a person says so."""
    steps(arm, 1.0, "stop")
    last = len(arm.run.robot.servos.ids) - 1
    lets_go(arm, last, how)
    before = arm.joints.position
    notes = steps(arm, 3.0)
    assert arm.guard.state == "PSTOP" and apart(arm.joints.position[:last], before[:last]) < STILL_RAD
    name = arm.run.robot.servos.joints[last]
    assert notes[-1] == f"motor {name} has let go: support the arm, press disable to lower it on"
    arm.step("disable")
    with contextlib.suppress(DeviceError):  # down, it is set up anew
        arm.until(lambda: arm.drive.powered_off_confirmed)
    assert apart(arm.joints.position, before) > 0.5


@pytest.mark.parametrize("how", ["trips", "is switched off"])
def test_that_a_joint_has_let_go_is_said_before_that_the_arm_is_held(arm, how):
    arm.reach("HOLD", "pause").reach("READY", "disable")
    steps(arm, 0.6)
    assert steps(arm, 0.2, "stop")[-1] == "the arm is held where it is, press disable to lower it on"
    lets_go(arm, 1, how)
    name = arm.run.robot.servos.joints[1]
    assert steps(arm, 0.2)[-1] == f"motor {name} has let go: support the arm, press disable to lower it on"
    steps(arm, 0.1, "disable")
    assert arm.guard.note == f"motor {name} has let go: support the arm"


def test_an_arm_that_does_not_come_down_is_said_to_be_let_go_where_it_is(arm):
    arm.twin.joints.push[1] = HARD
    arm.reach("HOLD", "pause")
    seconds = arm.run.robot.stop_damp_s
    notes = steps(arm, seconds - 0.1, "disable")
    assert set(notes[: round(seconds * 30)]) == {""} and notes[-1] == NOT_DOWN and arm.drive.lowers
    assert steps(arm, 0.5)[-1] == LET_GO and arm.drive.powered_off_confirmed and arm.drive.raised
    arm.twin.joints.push[1] = 0.0
    arm.reach("HOLD", "enable")
    assert arm.guard.note == "" and not arm.drive.raised


def test_of_one_that_comes_down_nothing_of_it_is_said(arm):
    arm.reach("HOLD", "pause").reach("READY", "disable")
    assert set(steps(arm, arm.run.robot.stop_damp_s + 1.0)) == {""} and arm.drive.powered_off_confirmed


def test_that_it_was_let_go_is_said_beside_the_cause_that_stands(arm):
    arm.twin.joints.push[1] = HARD
    arm.reach("PSTOP", "stop")
    notes = steps(arm, arm.run.robot.stop_damp_s + 1.0, "disable")
    assert notes[-1] == f"{LET_GO}; press clear" and arm.drive.raised


def test_a_held_arm_that_gets_hot_is_said_to_be_too_hot_before_it_lets_go(arm):
    arm.reach("HOLD", "pause").reach("READY", "disable")
    steps(arm, 0.6)
    arm.step("stop")
    arm.twin.command({"fault": "heat", "servo": arm.run.robot.servos.ids[1], "celsius": arm.run.robot.limits.temp_c - 3})
    assert steps(arm, 0.2)[-1] == "too hot to be held for long; the arm is held where it is, press disable to lower it on"


def test_no_clear_is_taken_while_an_arm_is_lowered_whose_joints_nobody_reads_to_the_guard(arm):
    """On a port that has just come back they are as they were before: at rest."""
    steps(arm, 1.0, "stop")
    drive = msgspec.structs.replace(arm.drive, stop="stow", torque_on=True, gate_open=False, raised=False)
    for k in range(40):
        arm.clock.advance(20 * MS)
        now = arm.clock.now()
        arm.sentry.hear(msgspec.structs.replace(drive, t=now), now)
        command = "clear" if k == 30 else "beat"
        arm.sentry.hear(m.Operator(source="console", t=now, command=command, press=k, nonce=arm.guard.nonce), now)
        _, arm.guard = arm.sentry.step(now)
    assert arm.guard.state == "PSTOP" and arm.guard.note == "clear: the robot still moves"


def test_a_joint_that_lets_go_while_the_driver_lowers_or_holds_the_arm_is_said(arm):
    clock, said, n = TwinClock(arm), [], [0]

    def watch(hot, raised):
        n[0] += 1
        if n[0] == 40:
            lets_go(arm, 1, "trips")
        return 20 < n[0] < 60

    lower(arm.run.robot, arm.twin.ports()["servos"], clock, said.append, watch)
    assert said[1] == f"motor {arm.run.robot.servos.joints[1]} has let go: support the arm"
    assert sum("has let go" in line for line in said) == 1


def test_a_rescue_that_holds_an_arm_says_once_who_lets_go(arm):
    """A servo that is heard now and then, too."""
    told, clock, n = [], TwinClock(arm), [0]
    chain = chain_of(arm.twin.ports()["servos"], arm.run.robot, clock, starts=False)
    read = chain.read

    def now_and_then(tick, patience_ns=0):
        joints = read(tick, patience_ns)
        return msgspec.structs.replace(joints, missed=tuple(n[0] % 2 * (i == 1) for i in range(len(joints.missed))))

    def held():
        n[0] += 1
        if n[0] == 20:
            lets_go(arm, 1, "trips")
        return n[0] < 60

    chain.read = now_and_then
    stop_motors(arm.run.robot, chain, clock, True, told.append, held)
    assert [line for line in told if "has let go" in line] == [
        f"motor {arm.run.robot.servos.joints[1]} has let go: support the arm"
    ]


def test_what_is_really_wrong_is_not_hidden_behind_that_an_arm_was_let_go(arm):
    arm.twin.joints.push[1] = HARD
    arm.twin.command({"fault": "mute", "servo": arm.run.robot.servos.ids[-1], "for_s": 1.0})
    arm.reach("PSTOP")
    steps(arm, arm.run.robot.stop_damp_s + 1.0, "disable")
    assert arm.drive.raised and arm.drive.powered_off_confirmed and arm.guard.note.startswith("a servo ")


@pytest.mark.parametrize(("push", "told"), [(HARD, [NOT_DOWN, LET_GO]), (0.0, [])])
def test_a_rescue_says_so_too(arm, push, told):
    arm.twin.joints.push[1] = push
    said, clock = [], TwinClock(arm)
    chain = chain_of(arm.twin.ports()["servos"], arm.run.robot, clock, starts=False)
    assert stop_motors(arm.run.robot, chain, clock, True, said.append).confirmed and said == told


class Blink(Fault):
    """The adapter is away between two times, ns."""

    def __init__(self, clock, begins, ends):
        self._clock, self._between = clock, (begins, ends)

    def inward(self, data):
        if self._between[0] <= self._clock.now() < self._between[1]:
            raise PortError("port lost (hung up)")
        return data


class EndingNode(VirtualNode):
    """Told to end as by SIGTERM."""

    def over(self):
        self.stopping = self.stopping or super().over()
        return self.stopping


@pytest.fixture(params=["so101", "omx"])
def ending(request, tmp_path, monkeypatch):
    """A driver of an arm that is up, its node told to end at 0.3 s; virtual time moves the joints."""
    node = EndingNode([k * 20 * MS for k in range(16)], 300 * MS)
    node.run = run_of(request.param, tmp_path)
    node.said = []
    node.say = node.said.append
    twin = ServoTwin(request.param, clock=node.clock)
    twin.joints.put(list(node.run.robot.home))
    twin.chain.look()
    moves, sleep = [False], node.clock.sleep_until

    def until(due):
        steps = round((due - node.clock.now()) * 1e-9 / twin.step_s)
        if steps > 0 and not moves[0]:
            moves[0] = True
            twin.advance(steps * twin.step_s)
            moves[0] = False
        sleep(due)

    monkeypatch.setattr(node.clock, "sleep_until", until)
    monkeypatch.setattr(servos, "SerialPort", lambda *_: Numbered(twin.ports()["servos"]))
    return node, twin


@pytest.mark.parametrize("away_s", [0.06, 2.0])
def test_a_cable_that_blinks_while_the_driver_ends_leaves_no_arm_up(ending, away_s):
    node, twin = ending
    line = Line()
    driver = Driver(node, line)
    twin.wires["servos"].add(Blink(node.clock, 900 * MS, 900 * MS + round(away_s * 1e9)))
    driver.serve()
    assert "it is down, and read back as off" in node.said and line.told[-1] == "done"
    assert not any(servo.registers.get("torque") for servo in twin.bus.servos)


def test_one_that_is_out_for_good_ends_the_driver_in_its_time_and_nobody_is_told_that_it_is_off(ending):
    node, twin = ending
    line = Line()
    driver = Driver(node, line)
    twin.wires["servos"].add(Blink(node.clock, 900 * MS, 10**15))
    driver.serve()
    assert node.clock.now() < (300 + 1000 + 1500) * MS + node.run.robot.stop_damp_s * 1e9
    assert "done" not in line.told and line.told[-1] == "off" and "drop" in line.told


def test_the_time_that_a_driver_tries_for_its_port_in_vain_is_part_of_its_end(ending, monkeypatch):
    """A servo that is silent makes each try a second long: it is no standstill, and nobody waits for so many of them."""
    node, twin = ending
    driver = Driver(node, Line())
    twin.wires["servos"].add(Blink(node.clock, 400 * MS, 10**15))

    def in_vain():
        node.clock.advance(900 * MS)
        raise PortError("servo 3 does not answer")

    monkeypatch.setattr(driver.wire, "_connect", in_vain)
    driver.serve()
    assert node.clock.now() * 1e-9 < 0.3 + 1.0 + node.run.robot.stop_damp_s + 2.0


def test_an_open_hand_is_no_arm_that_is_up(arm):
    """Something is in it, which keeps it open on its way down."""
    hand = len(arm.run.robot.servos.ids) - 1
    arm.twin.joints.push[hand] = 1.5
    arm.reach("HOLD", "pause").reach("READY", "disable")
    assert set(steps(arm, arm.run.robot.stop_damp_s + 1.0)) == {""} and not arm.drive.raised
    assert abs(arm.joints.position[hand] - arm.run.robot.stow[hand]) > 0.1, "it is open"
