"""The Minitaur's names, leg space and keyframes; and on the twin, that the keyframes do what they are called."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from robotrl import config
from robotrl.drivers.legged import UNJUDGED, Keyframe, Minitaur
from robotrl.safety.reset import ResetScript, Stage
from robotrl.sim.domain import Domain
from robotrl.sim.world import World

NARROW = config.Limits(position_min=0.4, position_max=3.6)
WIDE = dataclasses.replace(NARROW, position_min=-2.2, position_max=5.7)
PERIOD_S = 0.02


def test_motor_order() -> None:
    assert Minitaur.motors[:4] == ("front_left_L", "front_left_R", "back_left_L", "back_left_R")
    assert Minitaur.motors[4:] == ("front_right_L", "front_right_R", "back_right_L", "back_right_R")


def test_legs_wait_for_one_that_is_held() -> None:
    assert Minitaur.wait_s > 0.2, "or the weight comes on three, and it falls: bench/resets.py"


def test_leg_space() -> None:
    robot = Minitaur(NARROW)
    motors = robot.to_motors([0.1, 0.2, 0.3, 0.4], [2.0, 2.1, 2.2, 2.3])
    np.testing.assert_allclose(motors, [1.9, 2.1, 1.9, 2.3, 2.5, 1.9, 2.7, 1.9])
    swing, extension = robot.to_leg(motors)
    np.testing.assert_allclose(swing, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(extension, [2.0, 2.1, 2.2, 2.3])


def test_allowed_is_range_and_gap() -> None:
    robot = Minitaur(NARROW)
    good = np.full(8, 2.0)
    assert robot.allowed(good)
    for index, value in ((0, 0.39), (7, 3.61), (3, math.nan), (3, math.inf)):
        bad = good.copy()
        bad[index] = value
        assert not robot.allowed(bad)
    bad = good.copy()
    bad[2:4] = 3.12  # in range, but the leg is stretched past its gap
    assert not robot.allowed(bad)


def test_keyframes_keep_the_limits() -> None:
    for limits in (NARROW, WIDE):
        robot = Minitaur(limits)
        for frame in (*robot.lie(), *robot.stand(), *(frame for way in robot.get_up() for frame in way), *robot.self_right()):
            assert robot.allowed(frame.target) and frame.seconds > 0 and frame.tolerance > 0
    assert Minitaur(NARROW).self_right() == ()  # legs that may not turn over the torso cannot right it
    assert len(Minitaur(WIDE).self_right()) == 12
    last = robot.stand()[-1]
    assert last.tolerance < UNJUDGED and last.max_tilt < 0.5  # the end is judged


def test_no_keyframe_of_a_way_up_is_where_the_one_before_it_ended() -> None:
    """A robot that is where it was to go is judged there, and not led there once more."""
    robot = Minitaur(NARROW)
    for way in robot.get_up():
        assert all(a.target != b.target for a, b in pairwise((*way, *robot.stand())))


def stages(frames: tuple[Keyframe, ...]) -> list[Stage]:
    return [Stage(f.name, f.target, f.seconds, f.tolerance, f.max_tilt) for f in frames]


def gets_up(pose: str, seed: int, attempts: int) -> bool:
    """The reset script on a randomised twin and a level floor (fewer get up where it leans), held to the gate's slew and lead."""
    world = World(config.Twin(), seed)
    try:
        world.apply(dataclasses.replace(Domain.draw(np.random.default_rng(seed)), lean=(0.0, 0.0)))
        world.place(pose)
        robot = Minitaur(WIDE)
        script = ResetScript(
            stages(robot.stand()), stages(robot.self_right()), [stages(way) for way in robot.get_up()], attempts=attempts
        )
        goal = world.angle
        for _ in range(round(25 / PERIOD_S)):
            sample = world.sensed(0.01)
            step = script.step(int(world.time * 1e9), tuple(sample.angle), sample.rpy[0], sample.rpy[1])
            if step.outcome != "running":
                return step.outcome == "done"
            reach = WIDE.slew_rad_s * PERIOD_S
            goal = goal + np.clip(np.array(step.target) - goal, -reach, reach)
            goal = np.clip(goal, world.angle - WIDE.lead_rad, world.angle + WIDE.lead_rad)
            world.advance(PERIOD_S, lambda a, v, goal=goal: (8.0 * (goal - a) - 0.3 * v) / 0.0954)
        return False
    finally:
        world.close()


@pytest.mark.parametrize(("pose", "attempts", "least"), [("stand", 1, 3), ("lie", 1, 3), ("back", 3, 3), ("side", 3, 2)])
def test_gets_up_on_the_twin(pose: str, attempts: int, least: int) -> None:
    assert sum(gets_up(pose, seed, attempts) for seed in range(500, 504)) >= least
