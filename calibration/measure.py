"""Measured before a robot's first run: that silence stops it, which way each motor turns, how fast it stops.

Works over any chain and either clock. Every function leaves the motors damped and off, whatever happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from robotrl import config
from robotrl.calibration.store import CalibrationError
from robotrl.calibration.tool import PERIOD_NS, Chain
from robotrl.clock import Clock
from robotrl.complaint import command
from robotrl.messages import Joints

TIMEOUT_MODE = 11  # moteus: the watchdog stopped it; only mode 0 leaves
LOOK_NS = 5_000_000  # between two looks at a servo whose watchdog is to trip
SPEED = 0.5  # rad/s of a wiggle; chosen
STEP_RAD = 0.1  # of a wiggle: 0.8 Nm at most by the default gain; chosen
MOVED_MIN = 0.3  # part of the step a motor must have travelled; friction takes the rest; chosen
ASTRAY_RAD = 0.5  # farther from its target than this: it runs the wrong way or cannot move; chosen
FAR_RAD = math.pi  # farther from the homing pose than this: a turn was lost, not a leg bent
STILL_RAD_S = 0.5  # slower than this is stopped: damped legs sink at up to 0.35 under their own weight
NOT_OFF = "torque off is not confirmed; cut the motor supply and check the servos"
STOP_MAX_S = 2.0  # a robot that takes longer is not stopped; chosen


@contextmanager
def made_safe(chain: Chain, clock: Clock) -> Iterator[None]:
    """Afterwards damped for half a second, then off and read back, also when something was raised, Ctrl-C too."""
    try:
        yield
    finally:
        for _ in range(25):
            chain.damp()
            clock.sleep_until(clock.now() + PERIOD_NS)
        chain.stop()
        if not chain.confirmed_off():
            raise CalibrationError(NOT_OFF)


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
                f"servo {servo} is {joints.position[i] - targets[i]:+.2f} rad from its target; free the leg,"
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
    """Hold, fall silent, and time until each servo is read in timeout. Shape (n,), s.

    Reading does not feed the watchdog: only a command does. CalibrationError for a servo that trips early,
    late or never.
    """
    with made_safe(chain, clock):
        here = start(chain, servos)
        drive(chain, servos, clock, 0.3, lambda t: here)
        chain.write(here)
        silent = clock.now()
        trip = [math.nan] * len(servos.ids)
        while any(map(math.isnan, trip)) and clock.now() - silent < 5e9 * servos.watchdog_s:
            clock.sleep_until(clock.now() + LOOK_NS)
            joints = look(chain, servos, 0)
            passed = (clock.now() - silent) * 1e-9
            for i, mode in enumerate(joints.mode):
                if math.isnan(trip[i]) and not joints.missed[i] and mode == TIMEOUT_MODE:
                    trip[i] = passed
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


def approach(chain: Chain, servos: config.Servos, clock: Clock, pose: tuple[float, ...]) -> None:
    """Turn all motors slowly to `pose` (n,) rad: the one they were homed in, so it is right whatever the signs."""
    here = start(chain, servos)
    for servo, at, goal in zip(servos.ids, here, pose, strict=True):
        if not abs(at - goal) < FAR_RAD:
            raise CalibrationError(
                f"servo {servo} is {at - goal:+.2f} rad from the homing pose; turn the leg back by hand, or home"
                f" again: {command('calibrate homing')}"
            )
    seconds = max(abs(at - goal) for at, goal in zip(here, pose, strict=True)) / SPEED

    def path(t: float) -> tuple[float, ...]:
        part = min(1.0, t / seconds) if seconds > 0 else 1.0
        return tuple(at + part * (goal - at) for at, goal in zip(here, pose, strict=True))

    drive(chain, servos, clock, seconds + 0.2, path)


def sign_test(
    chain: Chain,
    servos: config.Servos,
    clock: Clock,
    pose: tuple[float, ...],
    asked: Callable[[int], bool] | None = None,
) -> tuple[float, ...]:
    """Wiggle one motor after the other about `pose` and read how far each went for +STEP_RAD. Shape (n,), rad.

    `asked(i)` is a person's word that motor i went the way its robot angle grows. CalibrationError where it did not,
    or went nowhere.
    """
    motors = range(len(servos.ids))
    moved: list[float] = []
    # A person takes his time to answer, longer than the watchdog: then each motor is a motion of its own.
    for together in [list(motors)] if asked is None else [[i] for i in motors]:
        with made_safe(chain, clock):
            approach(chain, servos, clock, pose)
            for i in together:
                moved.append(_wiggle(chain, servos, clock, pose, i))
                if moved[i] < MOVED_MIN * STEP_RAD:
                    raise CalibrationError(
                        f"servo {servos.ids[i]} went {moved[i]:+.3f} rad when sent {STEP_RAD:+.3f}; free the leg,"
                        " check its wiring, run again"
                    )
        if asked is not None and not asked(i):
            raise CalibrationError(
                f"servo {servos.ids[i]} turned the wrong way; turn sign[{i}] in the robot file, then home and commission again"
            )
    return tuple(moved)


def _wiggle(chain: Chain, servos: config.Servos, clock: Clock, pose: tuple[float, ...], i: int) -> float:
    """Out, a look, and back. How far motor i went, rad."""

    def out(t: float) -> tuple[float, ...]:
        return (*pose[:i], pose[i] + min(SPEED * t, STEP_RAD), *pose[i + 1 :])

    ramp = STEP_RAD / SPEED
    before = drive(chain, servos, clock, 0.1, lambda t: pose).position[i]
    after = drive(chain, servos, clock, ramp + 0.3, out).position[i]
    drive(chain, servos, clock, ramp + 0.1, lambda t: out(max(0.0, ramp - t)))
    return after - before


def stop_time(chain: Chain, servos: config.Servos, clock: Clock, pose: tuple[float, ...]) -> float:
    """Swing all motors a little, stop as a run does (damp, then off); s until still and confirmed off."""

    def swing(t: float) -> float:  # fastest where it ends
        return STEP_RAD * math.sin(2.0 * math.tau * t)

    with made_safe(chain, clock):
        approach(chain, servos, clock, pose)
        drive(chain, servos, clock, 1.0, lambda t: tuple(angle + swing(t) for angle in pose))
        began = clock.now()
        while True:
            chain.damp()
            clock.sleep_until(clock.now() + PERIOD_NS)
            joints = look(chain, servos, 0)
            if not any(joints.missed) and max(map(abs, joints.velocity)) < STILL_RAD_S:
                break
            if clock.now() - began > STOP_MAX_S * 1e9:
                raise CalibrationError(f"still turning {STOP_MAX_S:g} s after the stop; check servos.kd, run again")
        chain.stop()
        while not chain.confirmed_off():
            if clock.now() - began > STOP_MAX_S * 1e9:
                raise CalibrationError("torque off is not confirmed; cut the motor supply and check the servos")
            clock.sleep_until(clock.now() + PERIOD_NS)
            chain.stop()
        return (clock.now() - began) * 1e-9
