"""How long an arm's stop takes to lower it, and whether its robot file gives it so long: when that is over torque goes off.

Driver, rescue, and a start that finds an arm holding stow alike (`nodes/powerdown.py`), so one sum holds for all of them.
"""

from __future__ import annotations

import math

from robotrl.configfile import Sources, require
from robotrl.robot import STOP_MAX_S, Robot

TICK_RAD = 0.00154  # a bus servo's goals are whole ticks: kept free inside every limit
STOW_HZ = 50.0  # steps of the rescue and of a lowering; a driver takes those of its task
HOLD_S, SETTLE_S, SPEED_SCALE = 0.3, 0.2, 0.5  # those of safety/stow.py, which nothing here may import
LAG_S = 0.25  # by which a joint is there later than its target; chosen
AROUND_S = HOLD_S + SETTLE_S + LAG_S
SLEW, SPEED = "robot.limits.slew_rad_s", "robot.servos.velocity_limit"


def margin(robot: Robot) -> float:
    """rad of a joint, kept free inside every limit of the gate."""
    return TICK_RAD / min(robot.servos.gear or (1.0,))


def least_s(robot: Robot, rate_hz: float) -> float:
    """Of `stop_damp_s`: for a stow from the farthest angle that a joint may have. inf where its steps come to nothing."""
    pace = SPEED_SCALE * robot.limits.slew_rad_s - _lost(robot, rate_hz)
    if pace <= 0:
        return math.inf
    return AROUND_S + max(way / min(pace, robot.servos.velocity_limit / gear) for way, gear in _ways(robot))


def check(robot: Robot, rate_hz: float, where: Sources) -> None:
    """ConfigError for an arm that would be let go on its way down."""
    if robot.stop_profile != "stow" or robot.servos.protocol == "moteus":
        return
    least, has = least_s(robot, rate_hz), robot.stop_damp_s
    why, others = "for the stow to be done when torque goes off", (SLEW, SPEED, "robot.servos.gear", "task.rate_hz")
    if least <= STOP_MAX_S:
        speeds = "".join(f", or {key} {_up(speed, 100):g} or more" for key, speed in _quicker(robot, rate_hz, has).items())
        return require(least <= has, "robot.stop_damp_s", f"{_up(least, 10):g} or more{speeds}, {why}", has, where, *others)
    for key, speed in _quicker(robot, rate_hz, STOP_MAX_S).items():
        is_ = {SLEW: robot.limits.slew_rad_s, SPEED: robot.servos.velocity_limit}[key]
        require(False, key, f"{_up(speed, 100):g} or more, with robot.stop_damp_s {STOP_MAX_S:g}, {why}", is_, where, *others)


def _lost(robot: Robot, rate_hz: float) -> float:
    """rad/s: each step of a target is shorter by the margin."""
    return margin(robot) * max(rate_hz, STOW_HZ)


def _ways(robot: Robot) -> list[tuple[float, float]]:
    """Of each joint the farthest way to its place in the stow, rad, and its gear."""
    gears = robot.servos.gear or (1.0,) * len(robot.stow)
    ranges = zip(robot.lowest, robot.stow, robot.highest, gears, strict=True)
    return [(max(to - low, high - to), gear) for low, to, high, gear in ranges]


def _quicker(robot: Robot, rate_hz: float, within_s: float) -> dict[str, float]:
    """The settings, and the least of each, with which the stow would be done in so long; none where no speed would do."""
    if (time := within_s - AROUND_S) <= 0:
        return {}
    slew = (max(way for way, _ in _ways(robot)) / time + _lost(robot, rate_hz)) / SPEED_SCALE
    horn = max(way * gear for way, gear in _ways(robot)) / time
    needed = {SLEW: (slew, robot.limits.slew_rad_s), SPEED: (horn, robot.servos.velocity_limit)}
    return {key: least for key, (least, has) in needed.items() if least > has}


def _up(value: float, parts: int) -> float:
    return math.ceil(value * parts - 1e-9) / parts
