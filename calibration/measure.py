"""Measured before a robot's first run: that silence stops it, which way each motor turns, how fast it stops.

Works over any chain and either clock. Every function leaves the motors damped and off, whatever happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from robotrl import config
from robotrl.calibration.making import making
from robotrl.calibration.safely import STOP_MAX_S, let_go, made_safe
from robotrl.calibration.store import Calibration, CalibrationError
from robotrl.calibration.tool import PERIOD_NS, Chain
from robotrl.clock import Clock
from robotrl.messages import Joints

TIMEOUT_MODE = 11  # moteus: the watchdog stopped it; only mode 0 leaves
LOOK_NS = 5_000_000  # by which each silence is longer than the last, until the watchdog trips
SPEED = 0.5  # rad/s of a wiggle; chosen
STEP_RAD = 0.1  # of a wiggle: 0.8 Nm at most by the default gain; chosen
MOVED_MIN = 0.3  # part of the step a motor must have travelled; friction takes the rest; chosen
ASTRAY_RAD = 0.5  # farther from its target than this: it runs the wrong way or cannot move; chosen
FAR_RAD = math.pi  # farther from the homing pose than this: a turn was lost, not a leg bent
LAID_RAD = 0.35  # farther from its stow pose than this an arm does not lie in it; chosen
SWING_RAD, SWING_S = 0.2, 1.12  # before the stop: there and back twice, and once more to the middle of its way; chosen
STILL_RAD_S = 0.5  # slower than this is stopped: damped legs sink at up to 0.35 under their own weight


def look(chain: Chain, servos: config.Servos, tick: int, targets: tuple[float, ...] | None = None) -> Joints:
    """One reading. CalibrationError for a fault, three misses in a row, a motor astray from `targets`."""
    joints = chain.read(tick)
    for i, servo in enumerate(servos.ids):
        if joints.fault[i]:
            raise CalibrationError(f"servo {servo} reports fault {joints.fault[i]}; power-cycle it and run again")
        if joints.missed[i] > 2:
            raise CalibrationError(f"servo {servo} does not answer; check its cable and run again")
        if targets and not abs(joints.position[i] - targets[i]) < ASTRAY_RAD:
            raise CalibrationError(
                f"servo {servo} is {joints.position[i] - targets[i]:+.2f} rad from its target; free the joint,"
                " check the motor's own calibration, and run again"
            )
    return joints


def drive(
    chain: Chain,
    servos: config.Servos,
    clock: Clock,
    seconds: float,
    path: Callable[[float], tuple[float, ...]],
) -> Joints:
    """Follow `path(t)` (n,) rad for `seconds`, one target a period; the last reading."""
    periods = max(1, math.ceil(seconds * 1e9 / PERIOD_NS))
    for tick in range(periods):
        targets = path((tick + 1) * PERIOD_NS * 1e-9)
        chain.write(targets)
        clock.sleep_until(clock.now() + PERIOD_NS)
        joints = look(chain, servos, tick, targets)
    return joints


def start(chain: Chain, servos: config.Servos) -> tuple[float, ...]:
    """Where the motors are, all of them answering."""
    joints = look(chain, servos, 0)
    if any(joints.missed):
        joints = look(chain, servos, 1)
    if any(joints.missed) or not all(map(math.isfinite, joints.position)):
        raise CalibrationError("not every servo answers; check cables and power, run again")
    return joints.position


def watchdog_trip(chain: Chain, servos: config.Servos, clock: Clock) -> tuple[float, ...]:
    """Hold, and fall silent for longer and longer, until each servo is read in timeout: after how long a silence. Shape (n,), s.

    A question feeds the watchdog of some servos (Dynamixel X e-manual, Bus Watchdog (98)), so each silence ends with one.
    CalibrationError for a servo that trips early, late or never.
    """
    trip = made_safe(chain, clock, partial(_fallen_silent, chain, servos, clock))
    for servo, seconds in zip(servos.ids, trip, strict=True):
        if math.isnan(seconds):
            raise CalibrationError(
                f"servo {servo}: watchdog did not stop it within {5 * servos.watchdog_s:g} s of silence;"
                " do not run this robot: update its firmware and run again"
            )
        if not 0.5 * servos.watchdog_s <= seconds <= 1.5 * servos.watchdog_s + 0.02:
            raise CalibrationError(
                f"servo {servo}: watchdog tripped after {seconds:.3f} s, set to {servos.watchdog_s:g} s;"
                " update its firmware and run again"
            )
    return tuple(trip)


def _fallen_silent(chain: Chain, servos: config.Servos, clock: Clock) -> list[float]:
    """After how long a silence each servo was read in timeout, (n,) s; nan for one that never was."""
    here = start(chain, servos)
    drive(chain, servos, clock, 0.3, lambda t: here)
    trip = [math.nan] * len(servos.ids)
    silence = round(0.4e9 * servos.watchdog_s)
    while any(map(math.isnan, trip)) and silence < 5e9 * servos.watchdog_s:
        chain.write(here)
        silent = clock.now()
        clock.sleep_until(silent + silence)
        joints = look(chain, servos, 0)
        for i, mode in enumerate(joints.mode):
            if math.isnan(trip[i]) and not joints.missed[i] and mode == TIMEOUT_MODE:
                trip[i] = (joints.t - silent) * 1e-9
        silence += LOOK_NS
    return trip


def ways(robot: config.Robot, pose: tuple[float, ...]) -> tuple[int, ...]:
    """To which side each joint has more room about `pose`: 1 or -1, (n,)."""
    room = zip(robot.lowest, pose, robot.highest, strict=True)
    return tuple(1 if high - at >= at - low else -1 for low, at, high in room)


def approach(chain: Chain, robot: config.Robot, clock: Clock, pose: tuple[float, ...]) -> None:
    """Turn all motors slowly to `pose` (n,) rad: the one they were homed in, so it is right whatever the signs. An arm must lie
    in it by itself: nobody here knows what is in its way."""
    here = start(chain, robot.servos)
    far, put = (LAID_RAD, "lay the arm") if robot.stow else (FAR_RAD, "turn the leg back")
    for servo, at, goal in zip(robot.servos.ids, here, pose, strict=True):
        if not abs(at - goal) < far:
            raise CalibrationError(
                f"servo {servo} is {at - goal:+.2f} rad from the {'stow' if robot.stow else 'homing'} pose; {put} by hand, or"
                f" home again: {making(Calibration.maker, robot)}"
            )
    _lead(chain, robot.servos, clock, here, pose)


def _lead(chain: Chain, servos: config.Servos, clock: Clock, here: tuple[float, ...], pose: tuple[float, ...]) -> None:
    """From targets `here` to `pose`, (n,) rad each, all joints arriving together; then a moment's rest."""
    seconds = max(abs(at - goal) for at, goal in zip(here, pose, strict=True)) / SPEED

    def path(t: float) -> tuple[float, ...]:
        part = min(1.0, t / seconds) if seconds > 0 else 1.0
        return tuple(at + part * (goal - at) for at, goal in zip(here, pose, strict=True))

    drive(chain, servos, clock, seconds + 0.2, path)


def sign_test(
    chain: Chain,
    robot: config.Robot,
    clock: Clock,
    pose: tuple[float, ...],
    asked: Callable[[int], bool] | None = None,
) -> tuple[float, ...]:
    """Wiggle one motor after the other about `pose`, to the side where it has room, and read how far each went that way for
    STEP_RAD. Shape (n,), rad.

    `asked(i)` is a person's word that motor i went the way it was sent. CalibrationError where it did not, or went nowhere.
    """
    ids = robot.servos.ids
    motors = range(len(ids))
    moved: list[float] = []
    # A person takes his time to answer, longer than the watchdog: then each motor is a motion of its own.
    for together in [list(motors)] if asked is None else [[i] for i in motors]:
        moved += made_safe(chain, clock, partial(_wiggled, chain, robot, clock, pose, together))
        if asked is not None and not asked(i := together[0]):
            raise CalibrationError(
                f"servo {ids[i]} turned the wrong way; turn sign[{i}] in the robot file, then home and commission again"
            )
    return tuple(moved)


def _wiggled(
    chain: Chain, robot: config.Robot, clock: Clock, pose: tuple[float, ...], motors: Sequence[int]
) -> list[float]:  # fmt: skip
    """To `pose`, and one of `motors` after the other: how far each went to its side, rad. CalibrationError for too little."""
    ids, way, moved = robot.servos.ids, ways(robot, pose), []
    approach(chain, robot, clock, pose)
    for i in motors:
        went = _wiggle(chain, robot.servos, clock, pose, i, way[i])
        if way[i] * went < MOVED_MIN * STEP_RAD:
            raise CalibrationError(
                f"servo {ids[i]} went {went:+.3f} rad when sent {way[i] * STEP_RAD:+.3f}; free the joint,"
                " check its wiring, run again"
            )
        moved.append(way[i] * went)
    return moved


def _wiggle(chain: Chain, servos: config.Servos, clock: Clock, pose: tuple[float, ...], i: int, way: int) -> float:
    """Out, a look, and back. How far motor i went, rad."""

    def out(t: float) -> tuple[float, ...]:
        return (*pose[:i], pose[i] + way * min(SPEED * t, STEP_RAD), *pose[i + 1 :])

    ramp = STEP_RAD / SPEED
    before = drive(chain, servos, clock, 0.1, lambda t: pose).position[i]
    after = drive(chain, servos, clock, ramp + 0.3, out).position[i]
    drive(chain, servos, clock, ramp + 0.1, lambda t: out(max(0.0, ramp - t)))
    return after - before


def stop(chain: Chain, robot: config.Robot, clock: Clock, pose: tuple[float, ...]) -> tuple[float, tuple[float, ...]]:
    """Swing all motors a little, stop in the quickest of it as the robot's stop profile does: an arm holds, is lowered and let
    go; legs are damped and let go. s from the stop until they stand still, and how far each went on meanwhile, (n,) rad."""
    return made_safe(chain, clock, partial(_stopped, chain, robot, clock, pose))


def _stopped(chain: Chain, robot: config.Robot, clock: Clock, pose: tuple[float, ...]) -> tuple[float, tuple[float, ...]]:
    servos, way = robot.servos, ways(robot, pose)

    def swing(t: float) -> tuple[float, ...]:  # one-sided, fastest in its middle, at 1.26 rad/s
        return tuple(q + w * SWING_RAD * (1.0 - math.cos(2.0 * math.tau * t)) / 2.0 for q, w in zip(pose, way, strict=True))

    approach(chain, robot, clock, pose)
    here = drive(chain, servos, clock, SWING_S, swing).position
    held = swing(SWING_S)
    began = clock.now()
    while True:
        chain.write(held) if robot.stow else chain.damp()
        clock.sleep_until(clock.now() + PERIOD_NS)
        joints = look(chain, servos, 0)
        if not any(joints.missed) and max(map(abs, joints.velocity)) < STILL_RAD_S:
            break
        if clock.now() - began > STOP_MAX_S * 1e9:
            raise CalibrationError(f"still turning {STOP_MAX_S:g} s after the stop; check servos.kd, run again")
    still = clock.now()
    travel = tuple(abs(a - b) for a, b in zip(joints.position, here, strict=True))
    if robot.stow:
        _lead(chain, servos, clock, held, pose)
    let_go(chain, clock)
    return (still - began) * 1e-9, travel
