"""What a joint's motion proves, beside what looks like it and is none: by the figures of each robot's file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from robotrl import config
from robotrl import messages as m
from robotrl.nodes.motion import Motion, Swings
from tests.safety.linescene import LineScene

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
T = 20_000_000
ROBOTS = {"so101": "reach", "omx": "reach_omx", "dkitty_floor": "dkitty_walk", "minitaur": "walk"}


def robot_of(name: str) -> config.Robot:
    return config.load(LAUNCH / f"{ROBOTS[name]}.toml", []).robot


def told(robot: config.Robot, path, led=0.0, torque=0.0, cycles: int = 60, speed=None, driven: bool = True) -> list[dict]:
    """The first joint goes where `path` (s -> rad) leads, the others stand where they are led."""
    motion, n, out = Motion(robot), len(robot.servos.ids), []
    rest = (robot.home or (0.0,) * n)[1:] if robot.kind != "minitaur" else (2.0,) * (n - 1)
    for k in range(cycles):
        s = k * T * 1e-9
        v = (path(s + 1e-4) - path(s)) / 1e-4 if speed is None else speed(s) if callable(speed) else speed
        nm = torque(s) if callable(torque) else torque
        joints = m.Joints(source="servos", t=k * T, tick=k, position=(path(s), *rest), velocity=(v,) + (0.0,) * (n - 1),
                          torque=(nm,) + (0.0,) * (n - 1), temp_c=(30.0,) * n, voltage=(12.0,) * n, mode=(10,) * n,
                          fault=(0,) * n, missed=(0,) * n)  # fmt: skip
        motion.take(joints, (led(s) if callable(led) else led, *rest), driven)
        out.append(motion.fields())
    return out


@pytest.mark.parametrize("name", ROBOTS)
def test_a_joint_that_runs_away_as_fast_as_its_servo_may_is_known_within_150_ms(name):
    robot = robot_of(name)
    seconds = [f["runaway_s"] for f in told(robot, lambda s: robot.servos.velocity_limit * s)]
    first = next(k for k, s in enumerate(seconds) if s > 0.1)
    assert (
        first * T <= 180_000_000
    )  # and the cycle in which it was read: 150 ms to the fifth reading beyond a quarter of the lead


@pytest.mark.parametrize("name", ROBOTS)
def test_what_follows_its_target_or_is_pushed_does_not_run_away(name):
    """Towards the target however far; away from it slowly, near it, or against all that its motor has."""
    robot = robot_of(name)
    lead, fast = robot.limits.lead_rad, robot.servos.velocity_limit
    ordinary = [
        told(robot, lambda s: fast * s, led=lambda s: fast * s + lead),
        told(robot, lambda s: 0.09 * fast * s),
        told(robot, lambda s: 0.24 * lead * math.sin(20 * s)),
        told(robot, lambda s: fast * s, torque=-0.99 * robot.servos.continuous_torque),
        told(robot, lambda s: fast * s, driven=False),
    ]
    assert all(f["runaway_s"] == 0 for fields in ordinary for f in fields)


@pytest.mark.parametrize(("name", "share", "still"), [("so101", 0.8, 0.2), ("omx", 0.8, 0.2), ("minitaur", 0.98, 0.5)])
def test_a_joint_is_blocked_that_strains_and_stands_still(name, share, still):
    robot = robot_of(name)
    nm = robot.servos.continuous_torque

    def stalled(torque: float, speed: float, **more) -> float:
        return told(robot, lambda s: 0.0, torque=torque, speed=speed, cycles=40, **more)[-1]["stalled_s"]

    assert stalled(nm * (share + 0.01), still - 0.01) == stalled(-nm * (share + 0.01), 0.01 - still) == pytest.approx(0.78)
    assert stalled(nm * (share - 0.01), 0.0) == stalled(nm, still + 0.01) == stalled(nm, 0.0, driven=False) == 0.0


@pytest.mark.parametrize(("name", "dip_s", "goes_on"), [("so101", 0.06, True), ("so101", 0.08, False), ("minitaur", 0.02, False)])
def test_easing_that_takes_a_blocked_arms_peak_for_a_moment_does_not_free_it(name, dip_s, goes_on):
    """At little power it takes all of the strain, again and again; a joint that moves meanwhile is free."""
    robot = robot_of(name)
    hard, at = robot.servos.continuous_torque, 0.41
    dipping = lambda s: 0.0 if at < s < at + dip_s else hard  # noqa: E731
    last = told(robot, lambda s: 0.0, torque=dipping, speed=0.0, cycles=40)[-1]["stalled_s"]
    assert last == pytest.approx(0.78 if goes_on else 0.78 - 0.42 - dip_s)
    moved = told(robot, lambda s: 0.0, torque=hard, speed=lambda s: float(at < s < at + 0.02), cycles=40)[-1]["stalled_s"]
    assert moved == pytest.approx(0.78 - 0.44)


def swing(hz: float, amplitude: float):
    return lambda s: amplitude * math.sin(math.tau * hz * s)


@pytest.mark.parametrize(
    ("hz", "amplitude", "torque", "most"),
    [
        (5.0, 0.03, 0.41, 10),
        (4.0, 0.03, 0.41, 8),
        (5.0, 0.017, 0.41, 0),
        (5.0, 0.03, 0.39, 0),
        (0.5, 0.5, 1.0, 1),
    ],  # the last turns once a second
)
def test_reversals_count_that_are_wide_enough_and_hard_enough(hz, amplitude, torque, most):
    robot = robot_of("so101")
    path = swing(hz, amplitude)
    counts = [f["reversals"] for f in told(robot, path, torque=torque * robot.servos.max_torque, cycles=150)]
    assert max(counts) == pytest.approx(most, abs=1) and counts[-1] == pytest.approx(most, abs=1)
    assert most or not any(counts)
    assert told(robot, path, torque=2.0, driven=False)[-1]["reversals"] == 0
    legs = robot_of("dkitty_floor")  # a leg that walks does that all the time
    assert told(legs, path, torque=4.0, cycles=150)[-1]["reversals"] == 0


def test_reversals_of_a_second_ago_are_forgotten():
    swings = Swings(1.0)
    seen = [swings.take(k * T, 0.1 * (k // 5 % 2) if k < 50 else 0.1, 2.0) for k in range(150)]
    assert max(seen) >= 8 and seen[-1] == 0


def test_how_far_an_arm_is_out_of_its_box_while_it_is_driven():
    robot = robot_of("omx")
    n = len(robot.servos.ids)
    motion = Motion(robot)
    for driven, pitch, least, most in ((True, 1.3, 0.05, 0.2), (True, 0.0, 0.0, 0.0), (False, 1.3, 0.0, 0.0)):
        q = (0.0, pitch) + (0.0,) * (n - 2)
        motion.take(m.Joints(source="servos", t=0, tick=0, position=q, velocity=(0.0,) * n, torque=(0.0,) * n, temp_c=(30.0,) * n,
                             voltage=(12.0,) * n, mode=(10,) * n, fault=(0,) * n, missed=(0,) * n), q, driven)  # fmt: skip
        assert least <= motion.fields()["outside_m"] <= most


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_an_arm_that_sways_and_turns_at_its_boxs_edge_shows_nothing(robot):
    """In lockstep: half a second of sway, then a second in which it is asked through the floor."""
    from tests.safety.linerows import through_the_floor

    scene = LineScene(robot)
    scene.reach("RUN")
    worst: dict[str, float] = {}
    for k in range(75):
        if k == 25:
            scene.action = lambda action: through_the_floor(scene, action)
        scene.cycle()
        for name, value in scene.rig.sentry._evidence._motion.fields().items():
            worst[name] = max(worst.get(name, 0.0), value)
    assert scene.state == "RUN"
    assert worst["runaway_s"] < 0.05 and worst["stalled_s"] < 0.25 and worst["reversals"] <= 4 and worst["outside_m"] < 0.019
