"""Every keyframe of the Minitaur, written down once more: eight motor angles, time, tolerance, tilt, in their order."""

import math

import numpy as np
import pytest

from robotrl import config
from robotrl.drivers.legged import Minitaur

WIDE = config.Limits(position_min=-2.2, position_max=5.7)
NEVER = (9.0, math.pi)  # neither joints nor tilt are judged
STRAIGHT, FOLDED = (2.0,) * 8, (0.6,) * 8
SPLAYED = (0.65, 3.15, 3.15, 0.65, 3.15, 0.65, 0.65, 3.15)  # 1.9 -+ 1.25, front feet forwards and back feet backwards
BACKED = (1.8, 0.6, 1.8, 0.6, 0.6, 1.8, 0.6, 1.8)  # 1.2 +- 0.6
INWARDS = (2.0, 0.4, 0.4, 2.0, 0.4, 2.0, 2.0, 0.4)  # 1.2 +- 0.8
TUCK = ("tuck", FOLDED, 0.4, *NEVER)
DRAW = (-0.05, 3.17, -0.07, 3.83, 3.17, -0.05, 3.83, -0.07)
KICK = (1.69, 1.27, 2.82, -0.52, 1.27, 1.69, -0.52, 2.82)
PUSH = (3.76, 1.70, 2.76, 1.78, 1.70, 3.76, 1.78, 2.76)
LEAN = (0.76, 4.02, 0.76, 4.02, 3.40, -2.04, 3.40, -2.04)
ROLL = (5.60, -0.26, 5.60, -0.26, 5.38, -0.30, 5.38, -0.30)
RIGHTS = [
    ("draw", DRAW, 0.08), ("draw, hold", DRAW, 0.08), ("kick", KICK, 0.10), ("kick, hold", KICK, 0.10),
    ("push", PUSH, 0.25), ("push, hold", PUSH, 0.25), ("splay", SPLAYED, 0.3), ("lean", LEAN, 0.08), ("lean, hold", LEAN, 0.08),
    ("roll", ROLL, 0.23), ("roll, hold", ROLL, 0.23), ("splay again", SPLAYED, 0.3),
]  # fmt: skip


def alike(frames, wanted) -> None:
    assert len(frames) == len(wanted)
    for frame, (name, target, seconds, tolerance, tilt) in zip(frames, wanted, strict=True):
        assert frame.name == name and len(frame.target) == 8 and all(type(angle) is float for angle in frame.target)
        assert frame.target == pytest.approx(target, abs=1e-12), name
        assert (frame.seconds, frame.tolerance, frame.max_tilt) == pytest.approx((seconds, tolerance, tilt), abs=1e-12), name


def test_lie_and_stand() -> None:
    alike(Minitaur(WIDE).lie(), [("lie", SPLAYED, 0.8, 0.4, math.pi)])
    alike(Minitaur(WIDE).stand(), [("stand", STRAIGHT, 0.4, 0.6, 0.3)])
    assert Minitaur.stand_height == 0.255 and Minitaur.legs == ("front_left", "back_left", "front_right", "back_right")
    assert all(motor.rpartition("_")[0] == Minitaur.legs[i // 2] for i, motor in enumerate(Minitaur.motors))


def test_three_ways_up() -> None:
    plain, back, inwards = Minitaur(WIDE).get_up()
    alike(plain, [TUCK])
    alike(back, [("back", BACKED, 0.5, *NEVER), TUCK])
    alike(inwards, [("inwards", INWARDS, 0.5, *NEVER), TUCK])


def test_the_way_over() -> None:
    alike(Minitaur(WIDE).self_right(), [(*frame, *NEVER) for frame in RIGHTS])
    assert Minitaur(config.Limits(position_min=-2.2, position_max=5.5)).self_right() == (), "the roll needs 5.6 rad"


@pytest.mark.parametrize(
    ("legs", "good"),
    [
        # one leg's two motors; range 0.4 to 3.6; gap 2 pi - (L + R) in 0.3 to 2 pi - 0.3, so L + R in 0.3 to 2 pi - 0.3
        ((0.4, 0.4), True), ((0.4 - 0.95e-9, 2.0), True), ((0.4 - 1e-9, 2.0), True), ((0.4 - 1.05e-9, 2.0), False),
        ((2.0, 0.4 - 1e-8), False), ((3.6 + 0.95e-9, 2.0), True), ((3.6 + 1e-9, 2.0), True), ((3.6 + 1.05e-9, 2.0), False),
        ((2.0, 3.6 + 1e-8), False),
        ((3.0, 2 * math.pi - 0.3 - 3.0 - 1e-9), True), ((3.0, 2 * math.pi - 0.3 - 3.0 + 1e-6), False),
        ((3.1, 2.9), False), ((math.nan, 2.0), False), ((2.0, -math.inf), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("leg", range(4))
def test_what_is_allowed_of_each_leg(leg, legs, good) -> None:
    robot = Minitaur(config.Limits(position_min=0.4, position_max=3.6, gap_min=0.3))
    angles = np.full(8, 2.0)
    angles[2 * leg : 2 * leg + 2] = legs
    answer = robot.allowed(angles)
    assert type(answer) is bool and answer is good


@pytest.mark.parametrize(
    ("legs", "good"), [((0.2, 0.11), True), ((0.2, 0.09), False), ((-0.1, 0.39), False), ((-0.1, 0.41), True)]
)
def test_a_leg_folded_up_too_far_is_not_allowed(legs, good) -> None:
    robot = Minitaur(config.Limits(position_min=-2.2, position_max=5.7, gap_min=0.3))
    assert robot.allowed([2.0] * 4 + [*legs] + [2.0] * 2) is good


@pytest.mark.parametrize(("extension", "gap_min"), [(2.0, 2 * math.pi - 4.0), (0.25, 0.5)])
def test_the_least_gap_itself_is_allowed(extension, gap_min) -> None:
    assert Minitaur(config.Limits(position_min=-2.2, position_max=5.7, gap_min=gap_min)).allowed([extension] * 8) is True


def test_leg_space_of_many_poses_at_once() -> None:
    robot = Minitaur(WIDE)
    swing, extension = np.arange(12.0).reshape(3, 4) / 10, np.arange(12.0, 24.0).reshape(3, 4) / 10
    motors = robot.to_motors(swing, extension)
    for pose in range(3):
        for leg in range(4):
            turn = swing[pose, leg] * (1 if leg < 2 else -1)
            assert motors[pose, 2 * leg : 2 * leg + 2] == pytest.approx(
                [extension[pose, leg] - turn, extension[pose, leg] + turn]
            )
    np.testing.assert_allclose(robot.to_leg(motors), (swing, extension))
