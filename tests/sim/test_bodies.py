"""The bodies of boxes against kinematics and statics that are worked out here from the tables, not from the bodies' own."""

import math

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)
import pybullet

from robotrl.sim.bodies import DKITTY_BODY, FINGER_M, OMX_BODY, SO101_BODY
from robotrl.sim.bulletjoints import BulletJoints
from robotrl.sim.servobus import Chain
from robotrl.sim.servotwin import ServoTwin

# Hardware facts 3.1: pivots and axes at q = 0, base frame, and the tip
SO101 = (
    [(0.0388, 0, 0.0624), (0.0692, -0.018, 0.1166), (0.0972, -0.018, 0.2292), (0.2321, -0.018, 0.2344), (0.2932, 0, 0.2344)],
    [(0, 0, -1), (0, 1, 0), (0, 1, 0), (0, 1, 0), (-1, 0, 0)],
    (0.3914, 0, 0.2265),
)
OMX = (
    np.cumsum([(0.012, 0, 0.017), (0, 0, 0.0595), (0.024, 0, 0.128), (0.124, 0, 0)], axis=0),
    [(0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 1, 0)],
    (0.012 + 0.024 + 0.124 + 0.126, 0, 0.017 + 0.0595 + 0.128),
)


def about(axis, angle):
    """A turn as the exponential of its axis: Rodrigues' formula, (3, 3)."""
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]], float)
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def carried(point, pivots, axes, q):
    """Where joints at q take a point of the last link: the last joint first, each about where it was at q = 0."""
    point = np.array(point, float)
    for pivot, axis, angle in reversed(list(zip(pivots, axes, q, strict=True))):
        point = pivot + about(axis, angle) @ (point - pivot)
    return point


def tip_of(joints, link, part):
    """The part's tip as Bullet has it."""
    return joints.place_of(link) + joints.turn_of(link) @ (np.array(part.tip) - np.array(part.pivot))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("body, table, joints", [(SO101_BODY, SO101, 6), (OMX_BODY, OMX, 5)])
def test_the_tip_is_where_the_table_says(body, table, joints, rng):
    arm = BulletJoints(body, 0.0, FINGER_M, 0.005)
    pivots, axes, tip = table
    (link,) = (i for i, part in enumerate(p for p in body if p.parent) if part.tip)
    for _ in range(20):
        q = rng.uniform(-1.2, 1.2, joints)
        arm.put(q)
        part = next(p for p in body if p.tip)
        assert tip_of(arm, link, part) == pytest.approx(carried(tip, pivots, axes, q[: len(pivots)]), abs=1e-6)
    arm.close()


def test_dkittys_feet_are_where_its_legs_put_them(rng):
    """Leg frame: the torso's turned half about y, z down; roll about y, then pitch and knee about x (hardware facts 2.1)."""
    body = BulletJoints(DKITTY_BODY, 0.4)
    parts = [p for p in DKITTY_BODY if p.parent]
    flip = about((0, 1, 0), math.pi)
    for _ in range(10):
        q = rng.uniform(-1.0, 1.0, 12)
        body.put(q)
        for leg, (x, y) in enumerate([(0.09, 0.122), (-0.09, 0.122), (-0.09, -0.122), (0.09, -0.122)]):
            roll, pitch, knee = q[3 * leg : 3 * leg + 3]
            shank = about((1, 0, 0), knee) @ np.array([0, 0, 0.101])
            thigh = about((1, 0, 0), pitch) @ (np.array([0, 0, 0.0945]) + shank)
            foot = np.array([x, y, 0.4]) + about((0, 1, 0), roll) @ flip @ (np.array([0, 0, 0.0965]) + thigh)
            assert tip_of(body, 3 * leg + 2, parts[3 * leg + 2]) == pytest.approx(foot, abs=1e-6)
    body.close()


def test_masses_are_the_tables():
    assert sum(p.mass for p in SO101_BODY) == pytest.approx(0.632)
    assert sum(p.mass for p in DKITTY_BODY) == pytest.approx(1.83, abs=0.01)
    assert FINGER_M * (3183 - 2048) * 2 * math.pi / 4096 == pytest.approx(0.020, abs=1e-4)


def gravity_torque(pivots, axes, weights, q, joint):
    """N m about a joint that holds still: the slope of the potential energy. weights: (kg, point, joints that move it)."""

    def energy(at):
        lifted = [(m, carried(p, pivots[:n], axes[:n], at[:n])[2]) for m, p, n in weights]
        return sum(9.81 * m * z for m, z in lifted)

    step = np.zeros(len(q))
    step[joint] = 1e-5
    return (energy(q + step) - energy(q - step)) / 2e-5


def weights_of(body):
    """(mass, middle of the link at q = 0, how many joints move it) of an arm that is a chain."""
    moving = [p for p in body if p.parent]
    return [(p.mass, p.boxes[0].centre, i + 1) for i, p in enumerate(moving) if not p.slides]


@pytest.mark.parametrize("pose", [(0.2, 0.3, 0.1, -0.4), (0.0, -0.5, 0.7, 0.3)])
def test_the_servos_carry_what_the_arm_weighs(pose):
    twin = ServoTwin("omx", dt=0.004)
    pivots, axes, _ = OMX
    for servo in twin.bus.servos:
        servo.write(82, (400).to_bytes(2, "little"))  # integral: it ends in its pose
    twin.joints.put([*pose, 0.5])
    twin.chain.look()
    for servo in twin.bus.servos:
        servo.write(64, b"\1")
    twin.advance(3.0)
    q = twin.joints.angle[:4]
    fingers = [(0.02, (0.265, 0, 0.2045), 4)]
    weights = [*weights_of(OMX_BODY), *fingers]
    for joint in (1, 2, 3):
        motor = twin.bus.servos[joint].motor
        torque = twin.bus.servos[joint].amps * motor.nm_per_a
        expected = gravity_torque(pivots, axes, weights, q, joint)
        assert torque == pytest.approx(expected, abs=motor.friction_nm + 0.01), joint
    assert max(abs(twin.joints.velocity)) < 0.02


def test_a_rotor_weighs_what_its_gears_make_of_it():
    twin = ServoTwin("omx", dt=0.004)
    servo = twin.bus.servos[0]
    for other in twin.bus.servos[1:]:
        other.write(82, (400).to_bytes(2, "little"))
        other.write(64, b"\1")
    twin.advance(1.0)
    servo.write(11, b"\0")
    servo.write(64, b"\1")
    servo.write(102, (40).to_bytes(2, "little"))
    torque = 40 * 2.69e-3 * servo.motor.nm_per_a - servo.motor.friction_nm
    inertia = 0.005
    for part in OMX_BODY[1:]:
        (x, y, _), (a, b, _) = part.boxes[0].centre, part.boxes[0].size
        inertia += part.mass * ((x - 0.012) ** 2 + y * y + (a * a + b * b) / 12)
    start = twin.joints.velocity[0]
    twin.advance(0.1)
    assert twin.joints.velocity[0] - start == pytest.approx(torque / inertia * 0.1, rel=0.05)


def test_an_arm_presses_on_the_floor_with_what_its_servo_gives():
    twin = ServoTwin("so101")
    for servo in twin.bus.servos:
        servo.write(40, b"\1")
    for link in range(6):  # a smooth floor: it can only push up
        pybullet.changeDynamics(twin.joints.body, link, lateralFriction=0, physicsClientId=twin.joints.client)
    lift = twin.bus.servos[1]
    lift.write(41, b"\5")
    lift.write(42, (2048 + 1100).to_bytes(2, "little"))
    twin.advance(2.5)
    assert max(abs(twin.joints.velocity)) < 0.02
    points = pybullet.getContactPoints(twin.joints.body, physicsClientId=twin.joints.client)
    assert points, "it does not touch the floor"
    force = sum(p[9] for p in points)
    away = sum(p[9] * (p[5][0] - 0.0692) for p in points)
    pivots, axes, _ = SO101
    jaw = [(0.012, (0.354, 0, 0.245), 5)]
    weights = [*weights_of(SO101_BODY)[:5], *jaw]
    held = gravity_torque(pivots, axes, weights, twin.joints.angle[:5], 1)  # positive turns it down
    torque = lift.amps * lift.motor.nm_per_a
    assert force > 3.0
    assert torque == pytest.approx(held + away, abs=0.06 + 0.05 * away)


@pytest.mark.parametrize("robot, dt", [("so101", 0.001), ("so101", 0.004), ("omx", 0.004), ("dkitty", 0.004)])
def test_a_body_that_is_held_is_quiet_at_any_step(robot, dt):
    twin = ServoTwin(robot, dt=dt)
    for servo in twin.bus.servos:
        servo.write(64 if robot != "so101" else 40, b"\1")
    twin.advance(1.0)
    assert max(abs(twin.joints.velocity)) < 0.02


def test_both_fingers_of_omx_go_alike():
    twin = ServoTwin("omx")
    crank = twin.bus.servos[4]
    crank.write(64, b"\1")
    crank.write(116, (2048 + 900).to_bytes(4, "little"))
    twin.advance(1.5)
    places = [pybullet.getJointState(twin.joints.body, i, physicsClientId=twin.joints.client)[0] for i in (4, 5)]
    assert places == pytest.approx([900 * 1.7627e-5] * 2, abs=1e-4)


def test_a_chain_of_a_body_falls_without_torque_and_stays_over_the_floor():
    arm = BulletJoints(SO101_BODY)
    twin = ServoTwin("so101")
    chain = Chain(twin.bus.servos, arm)
    arm.put([0.0, 0.3, 0.0, 0.0, 0.0, 0.0])
    chain.advance(3.6)
    assert arm.angle[1] > 0.8 and max(abs(arm.velocity)) < 0.1
    lowest = min(pybullet.getAABB(arm.body, i, physicsClientId=arm.client)[0][2] for i in range(6))
    assert lowest > -0.005
