"""A reading that stands still: by plain numbers, and on the twin's arms, whose motors run on."""

from __future__ import annotations

import pytest

from robotrl.drivers.frozen import AFTER_NS, Frozen
from robotrl.nodes.evidence import causes
from tests.nodes.armrig import ArmRig, run_of

MS = 1_000_000


@pytest.fixture
def frozen(tmp_path):
    return Frozen(run_of("so101", tmp_path).robot)


def told(frozen, cycles, at=0.1, led=0.1 + 0.081, torque=1.1, on=True, place=1, moves=0.0):
    """Readings every 20 ms of one joint, the others at rest."""
    for k in range(cycles):
        position, nm, to = [0.0] * 6, [0.0] * 6, [0.0] * 6
        position[place], nm[place], to[place] = at + moves * k, torque, led + moves * k
        frozen.read(k * 20 * MS, position, nm, to, [on] * 6)
    return frozen.servos


def test_it_is_found_after_its_time_and_not_before(frozen):
    n = AFTER_NS // (20 * MS)
    assert told(frozen, n + 1) == () and told(frozen, n + 2) == (1,)
    frozen.let_go()
    assert frozen.servos == () and told(frozen, n + 1) == ()


@pytest.mark.parametrize(
    "calm",
    [
        {"led": 0.1 + 0.079},  # a weight hangs so far under its target
        {"torque": 1.21},  # something is in its way
        {"torque": -1.21},
        {"moves": 0.0016},  # a tick
        {"on": False},
        {"place": 5},  # a gripper that holds something
    ],
)
def test_who_follows_strains_or_is_near_is_not(frozen, calm):
    assert told(frozen, 100, **calm) == ()


def test_one_that_is_given_little_presses_with_that(tmp_path):
    run = run_of("so101", tmp_path, ["robot.servos.power=0.4"])
    n = AFTER_NS // (20 * MS) + 2
    assert told(Frozen(run.robot), n, torque=0.49) == () and told(Frozen(run.robot), n, torque=0.47) == (1,), "warm, too"


def test_a_dead_encoder_may_flicker_by_two_ticks(frozen):
    n = AFTER_NS // (20 * MS) + 2
    for k in range(n):
        frozen.read(k * 20 * MS, [0.0, 0.1 + 0.0031 * (k % 2), 0.0], [0.0] * 6, [0.0, 0.2, 0.0], [True] * 6)
    assert frozen.servos == (1,)


@pytest.mark.parametrize(("says", "ends"), [(0.1, 0.1), (-0.1, 0.281)])
def test_it_is_led_to_where_it_says_it_is_without_a_leap_until_torque_is_off(frozen, says, ends):
    """One that moves again is where nobody knew. So far as the second no gate leads."""
    assert told(frozen, AFTER_NS // (20 * MS) + 2, at=says, led=0.281) == (1,)
    goal, last, sent = [0.281] * 6, [0.281] * 6, []
    for k in range(30):
        frozen.read(k * 20 * MS, [0.281, 0.15, *[0.281] * 4], [0.0] * 6, last, [True] * 6)
        last = frozen.lead(goal, last)
        sent.append(last[1])
        assert last[0] == goal[0]
    steps = [b - a for a, b in zip([0.281, *sent], sent, strict=False)]
    assert frozen.servos == (1,) and max(map(abs, steps)) <= 0.0201 and sent[11] == sent[-1] == ends
    frozen.let_go()
    assert frozen.lead(goal, last) == goal


def wall(arm, joint):
    """A joint that stands still whatever its servo gives."""
    joints, step = arm.twin.joints, arm.twin.joints.step

    def stuck(drive, damping, friction, dt):
        held = friction.copy()
        held[joint] = 1e3
        step(drive, damping, held, dt)

    joints.step = stuck


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_a_joint_that_something_is_in_the_way_of_is_blocked_and_not_frozen(robot, tmp_path):
    """Nor when the driver has left it with little."""
    arm = ArmRig(robot, tmp_path).running()
    arm.wish = tuple(arm.run.robot.home)
    arm.until(lambda: max(abs(a - b) for a, b in zip(arm.joints.position, arm.wish, strict=True)) < 0.12)
    servo = arm.twin.bus.servos[1]
    wall(arm, 1)
    arm.wish = tuple(at + 1.0 * (i == 1) for i, at in enumerate(arm.wish))
    seen = set()
    for _ in range(150):
        arm.step()
        seen |= set(arm.guard.causes)
    assert "stalled" in seen and "servo_frozen" not in seen and servo.registers.get("torque")


@pytest.mark.parametrize("where", ["run", "way down"])
def test_a_warm_joint_that_gets_little_is_not_taken_for_a_frozen_one(where, tmp_path):
    """Eased, it presses with its share of the continuous torque: less than four fifths of that."""
    arm = ArmRig("so101", tmp_path, ["robot.servos.power=0.5"]).running()
    arm.wish = tuple(arm.run.robot.home)
    arm.until(lambda: max(abs(a - b) for a, b in zip(arm.joints.position, arm.wish, strict=True)) < 0.12)
    for servo in arm.run.robot.servos.ids:
        arm.twin.command({"fault": "heat", "servo": servo, "celsius": arm.run.robot.limits.temp_c - 8})
    seen = set()
    if where == "run":
        wall(arm, 1)
        arm.wish = tuple(at + 1.0 * (i == 1) for i, at in enumerate(arm.wish))
    for k in range(100):
        arm.step("pause" if not k and where != "run" else "disable" if k == 20 and where != "run" else "")
        seen |= set(arm.guard.causes)
        assert not arm.chain.frozen
    assert "servo_frozen" not in seen


@pytest.mark.parametrize("late", [4, 6])
@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_what_the_driver_has_found_no_late_guard_leads(robot, late, tmp_path):
    """The gate shuts for it, and opens again: who was frozen before is frozen still."""
    arm = ArmRig(robot, tmp_path).running()
    home = arm.wish = tuple(arm.run.robot.home)
    arm.until(lambda: max(abs(a - b) for a, b in zip(arm.joints.position, home, strict=True)) < 0.12)
    for _ in range(30):
        arm.step()
    stands_still(arm.twin.bus.servos[1])
    arm.wish = tuple(at + 0.2 * (i == 1) for i, at in enumerate(home))
    for _ in range(5):
        arm.step()
    for _ in range(late):
        arm.loop.cycle(arm.permit, None)
        arm.twin.advance(0.02)
    arm.until(lambda: arm.guard.state == "PSTOP", seconds=2.0)
    for _ in range(150):
        arm.step()
    assert arm.guard.state == "PSTOP" and {"servo_frozen", "stalled"} & set(arm.guard.causes)
    for key in ("clear", "enable", "run"):
        for _ in range(60):
            arm.step(key)
            key = ""
        assert arm.guard.state == "PSTOP"


def stands_still(servo):
    """Its electronics see the same angle for ever; its horn goes on."""
    at = servo.angle

    def stand(angle, velocity):
        servo.angle, servo.velocity = at, 0.0

    servo.stand = stand


@pytest.mark.parametrize("key", ["", "stop", "disable"])
@pytest.mark.parametrize("robot", ["so101", "omx"])
@pytest.mark.parametrize("joint", [0, 1])
def test_an_arms_joint_whose_reading_stands_still_is_stopped(robot, joint, key, tmp_path):
    """On its own goal it would run to its mechanical end at twice the slew, SPACE or not; lowered by it, too."""
    arm = ArmRig(robot, tmp_path).running()
    home = arm.wish = tuple(arm.run.robot.home)
    arm.until(lambda: max(abs(a - b) for a, b in zip(arm.joints.position, home, strict=True)) < 0.12)
    for _ in range(30):
        arm.step()
    stands_still(arm.twin.bus.servos[joint])
    began = arm.twin.joints.angle[joint]
    arm.wish = tuple(at + 0.2 * (i == joint) for i, at in enumerate(home))
    for k in range(60):
        arm.step("stop" if key and k == 4 else "")
    assert "servo_frozen" in arm.guard.causes and arm.guard.state == "PSTOP"
    fastest = 0.0
    for k in range(100):
        arm.step(key if not k else "")
        fastest = max(fastest, abs(arm.twin.joints.velocity[joint]))
    assert abs(arm.twin.joints.angle[joint] - began) < 1.6 and fastest < 1.5, "it sinks, and is driven nowhere"


@pytest.mark.parametrize("robot", ["so101", "omx"])
@pytest.mark.parametrize("leap", [0.0, -1.0])
def test_a_joint_whose_reading_has_stood_still_or_leapt_does_not_race_back_with_it(robot, leap, tmp_path):
    """Its horn is elsewhere by then, and a person supports the arm."""
    arm = ArmRig(robot, tmp_path).running()
    home = arm.wish = tuple(arm.run.robot.home)
    arm.until(lambda: max(abs(a - b) for a, b in zip(arm.joints.position, home, strict=True)) < 0.12)
    servo = arm.twin.bus.servos[0]
    stand, began = servo.stand, arm.twin.joints.angle[0]
    servo.angle += leap
    stands_still(servo)
    arm.wish = tuple(at + 0.2 * (i == 0 and not leap) for i, at in enumerate(home))
    for _ in range(80):
        arm.step()
    assert "servo_frozen" in arm.guard.causes and arm.guard.state == "PSTOP"
    assert abs(arm.twin.joints.angle[0] - began) < 1.3
    servo.stand = stand
    for _ in range(60):
        arm.step()
        assert abs(arm.twin.joints.velocity[0]) < 0.5
    assert arm.chain.frozen
    arm.step("disable")
    arm.until(lambda: arm.drive.powered_off_confirmed, seconds=12.0)
    assert not arm.chain.frozen


def test_a_robot_of_legs_is_not_judged_by_it(tmp_path):
    assert not any(row.id == "servo_frozen" for row in causes(run_of("dkitty", tmp_path)))
