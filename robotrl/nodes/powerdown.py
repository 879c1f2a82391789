"""The stop profile, one step a cycle: damp or stow for a while, then torque off until every servo has said that it is.

The driver and, where it died, the rescue stop a robot by the same `Profile`. Nothing here decides that a robot is to be stopped.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

from robotrl.clock import Clock
from robotrl.config import Robot
from robotrl.drivers.chains import Chain, chain_of
from robotrl.drivers.identity import HOLDS
from robotrl.drivers.port import DeviceError, Port
from robotrl.messages import Joints
from robotrl.nodes.waydown import Unheard
from robotrl.safety.awake import LONGEST_STEP_NS, Awake
from robotrl.safety.limits import INWARD_RAD_S, READING_MAX, GateLimits, jointed_limits, legged_limits
from robotrl.safety.stow import NEAR_RAD, Stow
from robotrl.serialarm import ARMS, Box
from robotrl.stowtime import margin

TRIES = 3  # stops in a row that were not read back; then all servos on the bus are told at once (safety facts, row 63)
OFF_EVERY = 5  # cycles between repeated stops while the motors are off: a servo that rebooted hears one soon
EDGE_M = 0.002  # the same of a workspace: half a tick in each of five joints, at most 0.45 m from the point
DAMP, STOW, HOLD, OFF = "damp", "stow", "hold", "off"  # hold: a stop key keeps an arm on its way down where it is
STEP_NS = 20_000_000
FIRST_NS = 100_000_000  # for all to be heard: an answer may be lost, or late on a busy machine; chosen
LOOK_NS = 10_000_000
PATIENT_READS, PATIENCE_NS = 6, 50_000_000  # of whom the first readings missed, for an adapter that holds bytes back; chosen
CONFIRM_NS = 20_000_000  # for each to say that it is off: asked one by one they take longer than a cycle; chosen
SHORT = 3  # parts of its time, of which the last is a warning to a person where an arm is not down yet; chosen
TOO_LATE = " answers too late; set the adapter's latency_timer to 1 ms"
STOPPED = 0  # mode of a servo without torque
LED = 10  # of one that goes by its targets
BRAKED = 11  # of one that its watchdog has stopped
TOO_HOT_C = 5.0  # below the limit (`safety/causes.py`, temp_high): held on, it would get no cooler
HELD = (LED, BRAKED)  # of one that holds
UNHEARD = -1  # of one that has not answered: it may hold
POWERED = (DAMP, STOW, HOLD)  # stages with torque

Watch = Callable[[bool, bool], bool]  # is a servo hot, is the time nearly up: is the arm to be held?


def gate_limits(robot: Robot, period_s: float) -> GateLimits:
    """What the robot file lets a joint do, in periods of the servo loop."""
    limits, n = robot.limits, len(robot.servos.ids)
    slew, inward = limits.slew_rad_s * period_s, INWARD_RAD_S * period_s
    if robot.kind == "minitaur":
        return legged_limits(n, limits.position_min, limits.position_max, slew, limits.lead_rad, limits.gap_min, inward)
    return jointed_limits(robot.lowest, robot.highest, slew, limits.lead_rad, margin(robot), workspace(robot), inward)


def workspace(robot: Robot) -> Callable[[Sequence[float]], float] | None:
    """How far joint angles lead out of the robot's workspace, m; None where it has none."""
    low, high = robot.workspace.low, robot.workspace.high
    if not low:
        return None
    inner = (low[0] + EDGE_M, low[1] + EDGE_M, low[2] + EDGE_M), (high[0] - EDGE_M, high[1] - EDGE_M, high[2] - EDGE_M)
    return Box(ARMS[robot.kind], *inner).outside


class Profile:
    """What is done between torque that somebody asks for and torque that is off: for `stop_damp_s` at most."""

    def __init__(
        self, robot: Robot, chain: Chain, period_s: float, now: int, led: tuple[float | None, ...] | None = None
    ) -> None:  # fmt: skip
        """`led`: the target that each servo goes by as it begins, None where that is not known."""
        self.held: tuple[float, ...] | None = None  # the targets that the servos go by, where that is known of all
        self.raised = False  # its time is nearly up, or is, and the arm is not down
        self._pose = robot.stow
        self._chain = chain
        self._lowers = robot.stop_profile == STOW
        self._awake = Awake(max(LONGEST_STEP_NS, int(2e9 * period_s)))
        self._length_ns = int(robot.stop_damp_s * 1e9)
        self._until = self._awake.step(now) + self._length_ns
        self._stow = Stow(gate_limits(robot, period_s), robot.stow, led) if self._lowers else None
        self._sunk: set[int] = set()  # joints that went by no target in the step before: without power, or their watchdog's

    def step(self, now: int, joints: Joints | None, hold: bool = False) -> str:
        """Write what this cycle needs; the stage, empty once torque may go off. Damping asks for no reading. `hold`: an arm stays
        where it is, and has all its time again from here.

        An arm none of whose joints has been heard is damped until its time is up, then too when it is heard at last: a Feetech
        servo that brakes goes by no target.
        """
        awake = self._awake.step(now)
        if hold := hold and self._lowers:
            self._until = awake + self._length_ns
        if self._lowers and joints is not None:
            self.raised = awake >= self._until - self._length_ns // SHORT and not _near(joints.position, self._pose)
        if awake >= self._until or (joints is not None and off(joints)):  # or all are off already: their power was gone
            self._until = awake
            return ""
        self.held = None
        if self._stow is None or joints is None:
            self._chain.damp()
            return DAMP
        sunk = {i for i, mode in enumerate(joints.mode) if mode in (STOPPED, BRAKED) and not joints.missed[i]}
        if new := {i for i in sunk - self._sunk if abs(joints.position[i]) <= READING_MAX}:
            self._stow.sunk(new, joints.position)  # the goal of before would fling them up again, and may switch torque on
        self._sunk = sunk
        target = self._stow.step(awake, joints.position, joints.missed, hold)
        if target is None:
            self._until = awake
            return ""
        if not target:
            self._stow = None
            return self.step(now, None)
        self._chain.forgive()  # whom a watchdog has stopped takes no targets, and would be let go where it is
        sent = self._chain.write(target, self._stow.unheard)
        self.held = sent if not self._stow.unheard else None
        return HOLD if hold else STOW


def first_reading(chain: Chain, clock: Clock) -> Joints:
    """Of a chain that has heard nobody yet: repeated until all have been, for FIRST_NS at most. A torn answer is no silence."""
    due = clock.now()
    until = due + FIRST_NS
    joints = chain.read(-1)
    while any(math.isnan(at) for at in joints.position) and (due := due + LOOK_NS) <= until:
        clock.sleep_until(due)
        joints = chain.read(-1)
    return joints


def lower(
    robot: Robot, port: Port, clock: Clock, say: Callable[[str], None] = lambda _: None, watch: Watch = lambda hot, raised: False
) -> bool:  # fmt: skip
    """Stow an arm that a port just opened finds with torque on: the stop that follows would let it fall. Else nothing. True where
    it was lowered and then read back as off.

    Its driver was unplugged, or killed together with its rescue. Nobody is switched on for it. DeviceError, and not one byte
    written that moves it or lets it go, where it is not the robot's own: it holds as it did. `watch` is asked before each step,
    and told whether a servo is hot and whether its time is nearly up; while it says so the arm is held where it is.
    """
    if robot.stop_profile != STOW:
        return sink(robot, port, clock, say, watch)
    chain = chain_of(port, robot, clock, starts=False)
    if not may_hold(first_reading(chain, clock)):
        return False
    if not (complaints := chain.check(set_up=False)):
        for _ in range(PATIENT_READS):  # all have answered meanwhile: who was only late has time now
            if UNHEARD not in (joints := chain.read(-1, PATIENCE_NS)).mode:
                break
        late = [servo for servo, mode in zip(robot.servos.ids, joints.mode, strict=True) if mode == UNHEARD]
        complaints = [f"{port.name}: servo {servo}{TOO_LATE}" for servo in late]
    if complaints:
        more = f" (and {len(complaints) - 1} more)" if complaints[1:] else ""
        raise DeviceError(f"{complaints[0]}{more}{HOLDS}")
    if not may_hold(joints):
        return False
    try:
        chain.adopt()
        for _ in range(PATIENT_READS):  # now each is asked as on its way down, where nobody waits so long for an answer
            if not any((joints := chain.read(-1)).missed):
                break
        if late := [servo for servo, missed in zip(robot.servos.ids, joints.missed, strict=True) if missed]:
            raise DeviceError(f"{port.name}: servo {late[0]}{TOO_LATE}")
    except DeviceError as error:
        raise DeviceError(f"{error}. What holds goes on holding; support the arm, cut its power") from None
    say("the arm holds, and nobody leads it: it is lowered")
    profile, due = Profile(robot, chain, STEP_NS * 1e-9, clock.now()), clock.now()
    told = Unheard(robot, say)
    while profile.step(clock.now(), joints, watch(_hot(robot, joints), profile.raised)):
        told.step(joints, profile.raised)
        due = max(due + STEP_NS, clock.now())
        clock.sleep_until(due)
        joints = chain.read(-1)
    after = f" after {robot.stop_damp_s:g} s" if profile.raised else ""  # or its power was cut
    where = "it is down" if _near(joints.position, robot.stow) else f"it is not all the way down{after}"
    for _ in range(TRIES):
        watch(False, profile.raised)
        chain.stop()
        if chain.confirmed_off(CONFIRM_NS):
            say(f"{where}, and read back as off")
            return True
    say(f"{where}, and not read back as off")
    return False


def sink(robot: Robot, port: Port, clock: Clock, say: Callable[[str], None], watch: Watch) -> bool:
    """`lower` of a robot that is stopped by a brake: bus servos that say that they hold brake first, as in any stop. Who is
    silent, ill or another's is no reason to go on holding: what follows stops all of them. A moteus' watchdog has let go of it by
    itself. No key holds such a robot, so `watch` is only told of each step."""
    if robot.servos.protocol == "moteus":
        return False
    chain = chain_of(port, robot, clock, starts=False)
    joints = first_reading(chain, clock)
    if not any(mode in HELD for mode in joints.mode):
        return False
    say("it holds, and nobody leads it: it is braked, then let go")
    if UNHEARD not in joints.mode:  # who is mute would be waited for
        with contextlib.suppress(DeviceError):
            chain.adopt()
    watch(False, False)  # it begins the rescue's watch, which is not to fall into the setting up
    profile, due = Profile(robot, chain, STEP_NS * 1e-9, clock.now()), clock.now()
    while profile.step(clock.now(), joints):
        due = max(due + STEP_NS, clock.now())
        clock.sleep_until(due)
        joints = chain.read(-1)
        watch(False, False)
    chain.stop()
    return chain.confirmed_off(CONFIRM_NS)


class PowerDown:
    """A driver's way to torque off. `unconfirmed`: stops in a row that were not read back. `raised`: an arm is not down yet, and
    its torque goes off soon, or went."""

    def __init__(self, robot: Robot, chain: Chain, period_s: float) -> None:
        self.unconfirmed, self.raised = 0, False
        self._robot, self._chain, self._period_s = robot, chain, period_s
        self._on = False
        self._profile: Profile | None = None
        self._sent: tuple[float, ...] | None = None  # targets, where they are the last that was said

    def driven(self, sent: tuple[float, ...]) -> None:
        """Targets (n,) have been written: torque is on, by somebody's word."""
        self._on, self._profile, self.unconfirmed, self._sent, self.raised = True, None, 0, sent, False

    def held(self, joints: Joints) -> tuple[float, ...] | None:
        """The targets (n,) that every servo still goes by, as it has just said itself; None where one is silent, was off, or has
        stopped itself. One reading tells: torque that was gone does not come back without us."""
        return self._sent if not any(joints.missed) and all([mode == LED for mode in joints.mode]) else None

    def _led(self, joints: Joints) -> tuple[float | None, ...] | None:
        """The target (n,) of each servo that has said last that it goes by it, be it silent since; None of the others: one that
        is freed of its watchdog's stop would leap to it. None where nothing was said last."""
        if self._sent is None:
            return None
        return tuple([at if mode == LED else None for at, mode in zip(self._sent, joints.mode, strict=True)])

    def step(self, now: int, tick: int, joints: Joints, hold: bool = False) -> str:
        """The stop profile, one step; returns its stage, empty once the motors read back as off. `hold`: not in this step, an arm
        stays where it is."""
        if self._on:
            self._on = False
            self._profile = Profile(self._robot, self._chain, self._period_s, now, self._led(joints))
        if self._profile is not None:
            stage = self._profile.step(now, joints, hold)
            self.raised = self._profile.raised
            if stage:
                self._sent = self._profile.held
                return stage
            self._profile = self._sent = None
        if off(joints):
            self.unconfirmed = 0
            self.raised = self.raised and not _near(joints.position, self._robot.stow)  # or somebody has laid it down
            if tick % OFF_EVERY == 0:
                self._chain.stop()
            return ""
        self._chain.stop() if self.unconfirmed < TRIES else self._chain.stop_all()
        self.unconfirmed += 1
        return OFF


def _near(position: Sequence[float], pose: Sequence[float]) -> bool:
    """Is an arm down? What its hand, the last joint, holds may keep that open."""
    return all(abs(at - end) < NEAR_RAD for at, end in zip(position[:-1], pose[:-1], strict=True))


def _hot(robot: Robot, joints: Joints) -> bool:
    """Is a servo near the heat at which it lets go by itself?"""
    return any(celsius > robot.limits.temp_c - TOO_HOT_C for celsius in joints.temp_c)


def may_hold(joints: Joints) -> bool:
    """A servo has torque, or has not said that it has none."""
    return any(mode in (*HELD, UNHEARD) for mode in joints.mode)


def off(joints: Joints) -> bool:
    """Every servo answered in this cycle that it is stopped."""
    return not any(joints.missed) and not any(joints.mode)
