"""An arm that a starting driver finds holding: lowered if it is the robot's own, under the rescue's eyes and anybody's key."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from robotrl.clock import LockstepClock
from robotrl.drivers.dynamixel_x import X
from robotrl.drivers.identity import asked
from robotrl.drivers.port import DeviceError
from robotrl.messages import Operator
from robotrl.nodes.guard import Sentry
from robotrl.nodes.lowering import RECENT_NS, Lowering, StopKey
from robotrl.nodes.obedience import Obedience
from robotrl.nodes.powerdown import lower
from robotrl.nodes.servoloop import connected, fresh, taken
from robotrl.nodes.waydown import NOT_DOWN
from robotrl.safety.halt import HELD_NS
from robotrl.sim.faults import Silence
from robotrl.sim.fleets import FLEETS
from robotrl.sim.servotwin import ServoTwin
from tests.drivers.test_servo_chain import TimedPort
from tests.nodes.armrig import ArmRig, TwinClock, run_of

HOLDS = ("torque", "goal_position")
STEP_S = 0.02
MS, SECOND = 1_000_000, 1_000_000_000


@pytest.fixture(params=["so101", "omx"])
def arm(request, tmp_path):
    return ArmRig(request.param, tmp_path).running()


def registers(arm):
    return [[servo.registers.get(name) for name in HOLDS] for servo in arm.twin.bus.servos]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (
            lambda arm: arm.twin.bus.servos[1].registers.put(*turned(arm)),
            r"servo \d+ \(.*\), .*: \d+, the joint turns the other way",
        ),
        (lambda arm: arm.twin.command({"fault": "mute", "servo": arm.run.robot.servos.ids[2]}), "does not answer"),
        (lambda arm: arm.twin.wires["servos"].add(Silence(inward=False)), "does not answer"),
    ],
    ids=["turned", "mute", "silent"],
)
def test_what_is_not_the_robots_own_arm_is_neither_led_nor_let_go(arm, harm, says):
    harm(arm)
    if arm.run.robot.name == "omx":
        for servo in arm.twin.bus.servos:
            servo._settings = None
    before = registers(arm)
    with pytest.raises(DeviceError, match=says) as refused:
        connected(arm.run.robot, arm.twin.ports()["servos"], TwinClock(arm), -1, arm.said.append)
    assert "Nothing was written: what holds goes on holding" in str(refused.value) and "\n" not in str(refused.value)
    assert registers(arm) == before and all(on for on, _ in before)


@pytest.mark.parametrize("stranger", [False, True], ids=["mute", "stranger"])
def test_of_a_calibrated_arm_too_it_is_said_that_what_holds_goes_on_holding(arm, stranger):
    servos = arm.run.robot.servos
    who = asked(arm.twin.ports()["servos"], servos, arm.clock)
    if stranger:
        who = ("0" * 24, *who[1:])
    else:
        arm.twin.command({"fault": "mute", "servo": servos.ids[2]})
    robot = replace(arm.run.robot, servos=replace(servos, identity=who))
    with pytest.raises(DeviceError, match="was calibrated with" if stranger else "does not say who it is") as refused:
        connected(robot, arm.twin.ports()["servos"], TwinClock(arm), -1, arm.said.append)
    assert str(refused.value).endswith("what holds goes on holding; support the arm, cut its power")
    assert all(on for on, _ in registers(arm))


def turned(arm):
    """A register of EEPROM, otherwise than it was: the joint turns the other way."""
    name = "phase" if arm.run.robot.name == "so101" else "drive_mode"
    return name, arm.twin.bus.servos[1].registers.get(name) ^ 1


def test_what_the_servos_have_tripped_over_meanwhile_does_not_keep_it_up(arm):
    for servo in arm.twin.bus.servos:
        servo.registers.put(*(("lock", 0) if arm.run.robot.name == "so101" else ("bus_watchdog", -1)))
    connected(arm.run.robot, arm.twin.ports()["servos"], TwinClock(arm), -1, arm.said.append)
    assert arm.said == ["the arm holds, and nobody leads it: it is lowered", "it is down, and read back as off"]
    assert not any(on for on, _ in registers(arm))


def left_holding(tmp_path, robot, clock=None):
    """An arm that another program holds up: what our targets go by is as the maker sets it."""
    run, clock = run_of(robot, tmp_path), clock or LockstepClock()
    twin = ServoTwin(robot, clock=clock)
    twin.joints.put(list(run.robot.home or twin.joints.angle))
    twin.advance(0.02)
    for servo in twin.bus.servos:
        servo.settle()
        servo.write(40 if robot == "so101" else 64, b"\1")  # torque
    twin.advance(1.0)
    return SimpleNamespace(run=run, clock=clock, twin=twin, said=[])


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_an_arm_that_another_program_left_holding_is_lowered_too(tmp_path, robot):
    arm = left_holding(tmp_path, robot)
    connected(arm.run.robot, arm.twin.ports()["servos"], TwinClock(arm), -1, arm.said.append)
    assert arm.said == ["the arm holds, and nobody leads it: it is lowered", "it is down, and read back as off"]
    assert max(abs(arm.twin.joints.angle - np.array(arm.run.robot.stow))) < 0.1


def test_one_whose_setting_up_fails_goes_on_holding(tmp_path):
    arm = left_holding(tmp_path, "omx")
    last, before = arm.twin.bus.servos[-1], registers(arm)
    write = last.write
    last.write = lambda at, data: write(at, bytes(len(data)) if at == X.INDIRECT_ADDRESS_1.address else data)
    with pytest.raises(DeviceError, match=r"register 168 reads .*; check cable and firmware\. What holds goes on holding"):
        connected(arm.run.robot, arm.twin.ports()["servos"], TwinClock(arm), -1, arm.said.append)
    at = arm.twin.joints.angle.copy()
    arm.twin.advance(2.0)
    assert registers(arm) == before and not any(servo.registers.get("bus_watchdog") for servo in arm.twin.bus.servos)
    assert max(abs(arm.twin.joints.angle - at)) < 0.02


@pytest.mark.parametrize("robot", ["omx", "dkitty"])
def test_servos_that_their_watchdogs_have_stopped_do_not_go_for_their_old_goals_while_another_is_set_up(robot, tmp_path):
    """A hand has moved them meanwhile, and is on them still."""
    arm = ArmRig(robot, tmp_path).running()
    arm.twin.advance(1.0)  # nobody feeds the watchdogs
    sagged = arm.twin.joints.angle + np.where(np.arange(len(arm.joints.position)) % 2, 0.4, -0.4)
    arm.twin.joints.put(list(sagged))
    arm.twin.command({"fault": "reboot", "servo": arm.run.robot.servos.ids[-1]})
    arm.twin.advance(0.5)

    at, port = [arm.twin.joints.angle.copy()], arm.twin.ports()["servos"]
    write = port.write

    def told(data):
        write(data)
        arm.twin.advance(0.001)  # each question takes its time
        at.append(arm.twin.joints.angle.copy())

    port.write = told
    connected(arm.run.robot, port, TwinClock(arm), -1, arm.said.append)
    fastest = max(float(np.max(np.abs(b - a))) for a, b in itertools.pairwise(at)) / 0.02
    assert fastest < 2.0, "rad/s, in a step of 20 ms at least"


def test_legs_that_another_program_left_holding_are_braked_and_not_only_said_to_be(tmp_path):
    legs = left_holding(tmp_path, "dkitty")
    braked, step = set(), legs.twin.chain.step

    def stepped():
        step()
        servos = legs.twin.bus.servos
        braked.update(s.id for s in servos if s.registers.get("torque") and s.registers.get("goal_pwm") == 0)

    legs.twin.chain.step = stepped
    connected(legs.run.robot, legs.twin.ports()["servos"], TwinClock(legs), -1, legs.said.append)
    assert legs.said[:1] == ["it holds, and nobody leads it: it is braked, then let go"]
    assert braked == set(legs.run.robot.servos.ids)


def test_an_arm_that_cannot_come_down_is_not_said_to_be_down(arm):
    """Something is under it: its time passes, torque goes off, and a person is told that it may fall."""
    arm.twin.joints.push[1] = math.copysign(8.0, arm.run.robot.home[1] - arm.run.robot.stow[1])
    connected(arm.run.robot, arm.twin.ports()["servos"], TwinClock(arm), -1, arm.said.append)
    seconds = f"{arm.run.robot.stop_damp_s:g}"
    assert arm.said[1] == NOT_DOWN
    assert arm.said[2] == f"it is not all the way down after {seconds} s, and read back as off"


class Line:
    """The tether, and what else happens: one list, in order."""

    def __init__(self):
        self.told = []

    def beat(self, torque_on):
        self.told.append("on" if torque_on else "off")

    def give(self, port, checked):
        self.told.append("port")

    def drop(self):
        self.told.append("drop")


class Port:
    """A port that tells the line of each goal that is written to it."""

    def __init__(self, port, line, arm):
        self._port, self._line, self._arm, self._goals = port, line, arm, registers(arm)

    def __getattr__(self, name):
        return getattr(self._port, name)

    def fileno(self):
        return 9

    def write(self, data):
        self._port.write(data)
        if (goals := registers(self._arm)) != self._goals:
            self._line.told.append("write")
            self._goals = goals


class Stage:
    """A driver that starts beside an arm that holds: its node, and the keys; `script` says what happens in which step."""

    def __init__(self, arm, script=None):
        self.arm, self.clock, self.script = arm, TwinClock(arm), script or {}
        self.said, self.pressed, self.ended, self.line = [], [], False, Line()
        self.port = Port(arm.twin.ports()["servos"], self.line, arm)
        self.at = []  # joint angles, step by step
        self.key = StopKey(self)
        self.lowering = Lowering(self, self.key, self.line, self.port)

    def say(self, what):
        self.said.append(what)

    def over(self):
        return self.ended

    def drain(self):
        out, self.pressed = self.pressed, []
        return out

    def press(self, command, source="console", role=""):
        self.pressed.append(Operator(command=command, press=1, source=source, role=role))

    def watch(self, hot, raised):
        self.at.append(tuple(self.arm.twin.joints.angle))
        self.script.get(len(self.at), lambda stage: None)(self)
        return self.lowering.watch(hot, raised)

    def play(self):
        taken(self.arm.run.robot, self.port, self.clock, self.say, self.watch)
        self.lowering.over()
        return self

    def moved(self, first, last):
        """How far the joint that moved most did, between two steps, rad."""
        return max(abs(a - b) for a, b in zip(self.at[first], self.at[min(last, len(self.at) - 1)], strict=True))


def test_the_rescue_has_the_port_before_the_first_goal_and_hears_of_every_step(arm):
    told = Stage(arm).play().line.told
    assert told[:2] == ["on", "port"] and told.index("write") > 1, "it would lower it, and not let it go"
    assert told[-2:] == ["off", "drop"] and told.count("port") == 1
    beats = "".join("w" if word == "write" else "b" if word == "on" else "" for word in told)
    assert "ww" not in beats[: beats.rindex("w")], "a driver that hangs there is known as such"


@pytest.fixture
def omx(tmp_path):
    return ArmRig("omx", tmp_path).running()


@pytest.mark.parametrize(("source", "role"), [("console", ""), ("gateway", "viewer")])
def test_anybodys_stop_key_holds_the_arm_and_a_consoles_disable_lowers_it(omx, source, role):
    script = {40: lambda s: s.press("stop", source, role), 70: lambda s: s.press("disable", "viewer"),
              72: lambda s: s.press("clear"), 100: lambda s: s.press("disable")}  # fmt: skip
    stage = Stage(omx, script).play()
    assert stage.moved(15, 39) > 0.1, "it was on its way"
    assert stage.moved(45, 114) < 0.02, "held, and then for 0.3 s as ever"
    assert stage.said[1:3] == [
        "stopped: the arm is held where it is; disable (d) lowers it",
        "disable: the arm is lowered",
    ]
    assert stage.said[-1] == "it is down, and read back as off"
    assert stage.at[-1] == pytest.approx(omx.run.robot.stow, abs=0.15) and not any(on for on, _ in registers(omx))


@pytest.mark.parametrize("taken_back", ["disable", "enable"])
def test_a_key_of_just_before_counts_and_an_older_one_only_by_the_guards_word(omx, taken_back):
    """The port was away for a moment: the arm held by a key stays where it is."""
    stage = Stage(omx)
    now = stage.clock.now()
    for ago, after, hold, held in (
        (RECENT_NS, "", None, True), (RECENT_NS + 1, "", None, False), (RECENT_NS + 1, "", True, True), (0, "", False, True),
        (0, taken_back, False, False), (0, taken_back, True, True), (None, "", True, True), (None, "", False, False),
        (120 * MS, "", False, False), (80 * MS, "", False, True), (None, "", None, False), (0, taken_back, None, False),
    ):  # fmt: skip
        key = StopKey(stage)
        if ago is not None:
            stage.press("stop", "viewer")
            key.hear(now - ago)
        if after:
            stage.press(after, "viewer")
            stage.press(after)
            key.hear(now, taken_up=True)
        word = None if hold is None else msgspec.structs.replace(omx.permit, t=now, hold=hold)
        assert Lowering(stage, key, stage.line, stage.port, word).watch(False, False) is held, (ago, after, hold)


def test_a_guard_in_lockout_has_no_word_for_a_key(omx):
    """It holds nothing, whatever is pressed: who pressed a moment before the port was back stands there still."""
    stage = Stage(omx)
    now, key = stage.clock.now(), StopKey(stage)
    stage.press("stop")
    key.hear(now - SECOND)
    word = msgspec.structs.replace(omx.permit, t=now, hold=False, state="LOCKOUT")
    assert Lowering(stage, key, stage.line, stage.port, word).watch(False, False)


def test_what_takes_up_nothing_lowers_nothing_and_each_step_is_told(omx):
    told = []
    script = {40: lambda s: s.press("stop"), 60: lambda s: s.press("enable"), 100: lambda s: s.press("disable")}
    stage = Stage(omx, script)
    stage.lowering._tell = lambda stage, raised: told.append(stage)
    stage.play()
    assert stage.moved(45, 99) < 0.02, "no guard leads: an enable takes nobody up"
    assert told[:39] == ["stow"] * 39 and told[39:99] == ["hold"] * 60 and set(told[99:]) == {"stow"}
    assert len(told) >= len(stage.at)


def test_a_key_that_nobody_takes_back_ends_in_ten_minutes(omx):
    stage = Stage(omx)
    lowering = stage.lowering
    assert not lowering.watch(False, False)
    stage.press("stop")
    assert lowering.watch(False, False)
    now = stage.clock.now()
    stage.clock.now = lambda: now + HELD_NS
    assert lowering.watch(False, False)
    stage.clock.now = lambda: now + HELD_NS + 1
    assert not lowering.watch(False, False) and stage.said[-1] == "held for 10 minutes: the arm is lowered"


def test_a_servo_that_is_hot_ends_a_hold_and_a_key_holds_it_again(omx):
    """Five seconds of it at least; who presses while it is hot knows."""
    heat = {"fault": "heat", "servo": 12, "celsius": omx.run.robot.limits.temp_c + 2}  # the twin cools
    script = {40: lambda s: s.press("stop"), 60: lambda s: s.arm.twin.command(heat), 310: lambda s: s.press("stop"),
              620: lambda s: s.press("disable")}  # fmt: skip
    stage = Stage(omx, script).play()
    assert stage.moved(45, 289) < 0.02 < stage.moved(289, 309) and stage.moved(314, 619) < 0.02
    lowered = "too hot to be held on: the arm is lowered"
    assert [line.split(":")[0] for line in stage.said[1:5]] == ["stopped", lowered.split(":")[0], "stopped", "disable"]
    assert lowered in stage.said


def test_who_presses_while_a_servo_is_hot_has_the_arm_held(omx):
    stage = Stage(omx)
    assert not stage.lowering.watch(True, False)
    stage.press("stop")
    assert stage.lowering.watch(True, False)
    now = stage.clock.now()
    stage.clock.now = lambda: now + HELD_NS
    assert stage.lowering.watch(True, False)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_driver_that_is_told_to_end_holds_it_for_a_moment_and_lowers_it_all_the_same(omx, stopped):
    script = {40: lambda s: setattr(s, "ended", True)}
    script |= {30: lambda s: s.press("stop"), 45: lambda s: s.press("stop")} if stopped else {}
    stage = Stage(omx, script).play()
    assert stage.moved(44, 54) < 0.02 < 0.1 < stage.moved(54, 90), "the stop profile, from its beginning"
    assert stage.said[-1] == "it is down, and read back as off" and len(stage.at) * STEP_S < 1.0 + omx.run.robot.stop_damp_s


class Guarded(TwinClock):
    """A clock in whose every period a guard judges, with what the driver says last."""

    def __init__(self, arm):
        super().__init__(arm)
        self.arm, self.drive, self.key = arm, None, ""

    def tell(self, stage, raised):
        self.drive = msgspec.structs.replace(
            self.arm.drive, present=stage is not None, stop=stage or "", torque_on=bool(stage), gate_open=False,
            powered_off_confirmed=False,
        )  # fmt: skip

    def judge(self):
        arm, now = self.arm, self.now()
        arm.sentry.hear(Operator(source="console", t=now, command=self.key or "beat", press=1, nonce=arm.guard.nonce), now)
        self.key = ""
        if self.drive is not None:
            arm.sentry.hear(self.drive, now)
            self.drive = None
        arm.permit, arm.guard = arm.sentry.step(now)

    def sleep_until(self, deadline):
        while self.now() < deadline:
            super().sleep_until(min(deadline, self.now() + 20_000_000))
            self.judge()


@pytest.mark.parametrize("told", [True, False])
def test_a_key_that_holds_it_over_a_port_that_was_away_is_no_stop_that_was_not_obeyed(arm, told):
    """Without the driver's word in each step the guard said CUT POWER of an arm that was held as it should be."""
    arm.reach("HOLD", "pause").reach("READY", "disable").until(lambda: arm.drive.stop == "stow")
    for _ in range(20):
        arm.step()
    arm.step("stop")
    arm.until(lambda: arm.drive.stop == "hold", seconds=0.3)
    stage, clock = Stage(arm), Guarded(arm)
    for _ in range(50):
        clock.tell(None, False)
        clock.sleep_until(clock.now() + 20_000_000)
    assert fresh(arm.permit, clock.now()) and arm.permit.hold
    stage.clock = clock
    lowering = Lowering(stage, stage.key, stage.line, stage.port, arm.permit, *([clock.tell] if told else []))
    seen = []

    def watch(hot, raised):
        seen.append(arm.guard.state)
        if len(seen) == 800:  # 16 s
            clock.key = "disable"
            stage.press("disable")
        return lowering.watch(hot, raised)

    taken(arm.run.robot, stage.port, clock, stage.say, watch)
    assert ("LOCKOUT" in seen) is not told
    assert not told or (arm.guard.state == "RELAX" and "stop_unconfirmed" not in arm.guard.causes)
    assert stage.said[-1] == "it is down, and read back as off"


@pytest.mark.parametrize("told", [True, False])
def test_an_arm_that_is_lowered_beside_a_guard_that_has_just_begun_is_no_stop_that_was_not_obeyed(told, tmp_path):
    """Its computer had crashed: whoever cut the power now as he was told would drop it. It has the farthest way of all."""
    omx, far = ArmRig("omx", tmp_path), {"place": [1.01, -1.21, 0.64, 1.92, -0.11]}
    omx.twin.command(far)
    omx.twin.chain.look()
    omx.loop = omx.connect()  # a leap while it is read is not believed, and looks like another servo
    for n in range(200):
        omx.twin.command(far)
        omx.step("enable" if n == 180 else "")
    assert omx.guard.state == "HOLD"
    stage, clock = Stage(omx), Guarded(omx)
    omx.sentry, stage.clock = Sentry(omx.run, lambda: 1, lambda: 7), clock
    clock.sleep_until(clock.now() + 2_000_000_000)  # it is there first
    lowering = Lowering(stage, stage.key, stage.line, stage.port, None, clock.tell)
    seen = []

    def watch(hot, raised):
        seen.append((omx.guard.state, clock.now()))
        return lowering.watch(hot, raised)

    assert taken(omx.run.robot, stage.port, clock, stage.say, watch)
    if told:
        clock.drive = msgspec.structs.replace(omx.drive, gate_open=False, torque_on=False, powered_off_confirmed=True, stop="")
    assert seen[-1][1] - seen[0][1] > 3_700_000_000 and {state for state, _ in seen} == {"CHECK"}
    for _ in range(10):  # the set-up takes its time
        clock.sleep_until(clock.now() + 1_000_000_000)
    assert omx.guard.state == ("CHECK" if told else "LOCKOUT"), omx.guard
    assert "stop_unconfirmed" in omx.guard.causes or told


def test_who_says_for_longer_than_a_stop_takes_that_it_lowers_an_arm_is_not_believed(omx):
    said = msgspec.structs.replace(omx.drive, gate_open=False, torque_on=True, powered_off_confirmed=False, stop="stow")
    now, judge = 0, Obedience(5.0, False)
    judge.asked(True)
    for now in range(0, 20_000_000_000, 20_000_000):
        judge.hear(said)
        if judge.lacking(now, True):
            break
        judge.asked(True)
    assert now == pytest.approx(5_500_000_000, abs=40_000_000)
    judge = Obedience(5.0, False)
    judge.asked(True)
    for now in range(0, 60_000_000_000, 20_000_000):
        judge.hear(msgspec.structs.replace(said, stop="hold"))
        assert not judge.lacking(now, True), "a key holds it"


def test_a_stop_key_counts_among_several_keys_at_once_whoever_was_heard_first(omx):
    stage = Stage(omx)
    for order in (("stop", "disable"), ("disable", "stop")):
        key = StopKey(stage)
        for command in order:
            stage.press(command)
        key.hear(stage.clock.now())
        assert key.pressed == stage.clock.now(), order


def test_an_arm_that_sank_while_all_stood_still_goes_on_from_where_it_is(omx):
    """It was on its way down, and its watchdog braked it meanwhile: the goal of before would fling it up again."""
    seen = []

    def still(stage):
        omx.twin.advance(2.0)
        seen.append(tuple(omx.twin.joints.angle))

    stage = Stage(omx, {60: still}).play()
    sunk, after = seen[0], stage.at[60:64]
    assert max(abs(a - b) for a, b in zip(sunk, stage.at[58], strict=True)) > 0.2, "it sank"
    assert max(abs(a - b) for at in after for a, b in zip(at, sunk, strict=True)) < 0.1
    assert stage.said[-1] == "it is down, and read back as off"


@pytest.mark.parametrize("stop", ["stow", "damp"])
def test_neither_a_standstill_nor_a_driver_that_was_silent_makes_a_stop_one_that_was_not_obeyed(omx, stop):
    said = msgspec.structs.replace(omx.drive, gate_open=False, torque_on=True, powered_off_confirmed=False, stop=stop)
    for quiet_ns in (0, 1_000_000_000):
        judge, now = Obedience(1.0, False), 20_000_000
        judge.hear(said)
        judge.lacking(now, True)
        judge.asked(True)
        for _ in range(quiet_ns // 20_000_000):
            now += 20_000_000
            assert not judge.lacking(now, False)
        for step in range(45):  # of a stop of one second
            now += 5_000_000_000 if step == 20 else 20_000_000
            judge.hear(said)
            assert not judge.lacking(now, True), (quiet_ns, step)
            judge.asked(True)


def test_an_adapter_that_holds_bytes_back_is_said_and_nobody_is_let_go_for_it(tmp_path):
    """Nobody is heard in time, so nobody could be lowered: the stop that follows would let it fall."""
    run, clock = run_of("omx", tmp_path), LockstepClock()
    bus = FLEETS["omx"].line(clock)
    bus.latency_ns = 16_000_000
    with pytest.raises(DeviceError, match=r"too late; set the adapter's latency_timer to 1 ms \(and 4 more\). Nothing was"):
        taken(run.robot, TimedPort(bus, clock), clock, print)
    bus.latency_ns = 4_000_000
    assert not taken(run.robot, TimedPort(bus, clock), clock, print), "none of them holds"


class WaitingClock:
    """Virtual time that a timed port moves on, and with it the joints."""

    def __init__(self):
        self.t, self.twin = 10**9, None

    def now(self):
        return self.t

    def sleep_until(self, due):
        if due > self.t:
            if self.twin is not None:
                self.twin.advance((due - self.t) * 1e-9)
            self.t = due


@pytest.mark.parametrize(("ms", "lowered"), [(1.0, True), (4.0, True), (16.0, False)])
@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_what_another_program_left_holding_is_lowered_over_any_adapter_that_is_quick_enough(robot, ms, lowered, tmp_path):
    """Servos whose registers are another's are asked one by one, which is no slowness of the adapter's; one that is slow would
    have the arm led by no reading, and let go where it is."""
    clock = WaitingClock()
    arm = left_holding(tmp_path, robot, clock)
    clock.twin, arm.twin.bus.latency_ns = arm.twin, round(ms * 1e6)
    port, said = TimedPort(arm.twin.bus, clock), []
    if lowered:
        assert lower(arm.run.robot, port, clock, said.append) and said[1] == "it is down, and read back as off"
    else:
        with pytest.raises(
            DeviceError, match=r"(?i)too late; set the adapter's latency_timer to 1 ms.*what holds goes on holding"
        ):
            lower(arm.run.robot, port, clock, said.append)
        assert not said and all(on for on, _ in registers(arm))


# ---- a robot that is stopped by a brake: an arm that is homed against its stops, a D'Kitty


@pytest.fixture(params=["so101", "omx", "dkitty"])
def braked(request, tmp_path):
    """It holds, and is another process's by now."""
    rig = ArmRig(request.param, tmp_path, ['robot.stop_profile="damp"', "robot.stop_damp_s=2.0"]).running()
    rig.said.clear()
    return rig


def test_what_holds_is_braked_before_it_is_let_go_and_for_its_time_alone(braked):
    stage, began = Stage(braked), braked.clock.now()
    stage.lowering._profile = "damp"
    told = []
    stage.lowering._tell = lambda stage, raised: told.append(stage)
    fastest = [0.0]

    def watch(hot, raised):
        assert all(on for on, _ in registers(braked)), "let go while it is braked"
        fastest.append(max(map(abs, braked.twin.joints.velocity)))
        return stage.watch(hot, raised)

    assert taken(braked.run.robot, stage.port, stage.clock, stage.say, watch)
    assert not any(on for on, _ in registers(braked)), "off, and read back"
    assert 2.0 <= (braked.clock.now() - began) * 1e-9 < 2.5 and set(told) == {"damp"}
    assert max(fastest) < 1.0 and stage.said == ["it holds, and nobody leads it: it is braked, then let go"]
    assert stage.line.told[:2] == ["on", "port"], "the rescue has it before the first brake"


def test_a_key_is_heard_over_a_brake_and_nothing_untrue_is_said_of_it(braked):
    stage = Stage(braked, {20: lambda s: s.press("stop", "viewer")})
    stage.lowering._profile = "damp"
    stage.play()
    assert stage.key.pressed is not None and not any("held where it is" in line for line in stage.said)
    assert len(stage.at) * STEP_S < 2.5


@pytest.mark.parametrize("harm", ["mute", "deaf", "off", "silent", "hot"])
def test_who_is_ill_or_silent_keeps_nobody_on(braked, harm):
    """What follows stops them all: no complaint comes before that."""
    arm, began = braked, braked.clock.now()
    if harm in ("mute", "deaf"):
        arm.twin.command({"fault": harm, "servo": arm.run.robot.servos.ids[1]})
    elif harm == "silent":
        arm.twin.wires["servos"].add(Silence(inward=False))
    elif harm == "hot":
        arm.twin.command({"fault": "heat", "servo": arm.run.robot.servos.ids[1], "celsius": arm.run.robot.limits.temp_c + 2})
    else:
        for servo in arm.twin.bus.servos:
            servo.registers.put("torque", 0)
    port, said = arm.twin.ports()["servos"], []
    lowered = taken(arm.run.robot, port, TwinClock(arm), said.append)
    assert (braked.clock.now() - began) * 1e-9 < (0.3 if harm in ("off", "silent") else 2.5)
    assert lowered is (harm == "hot") and (said == []) is (harm in ("off", "silent"))
    on = [servo.registers.get("torque") for servo in arm.twin.bus.servos]
    assert not any(on[:1] + on[2:]) or harm == "silent"


def test_a_minitaur_is_not_asked(tmp_path):
    robot = run_of("minitaur", tmp_path).robot
    assert robot.stop_profile == "damp" and taken(robot, None, LockstepClock(), print) is False
