"""The servos' own rules: modes, watchdog, faults, the position law, temperatures. No byte is known here.

Behaviour after the moteus firmware and its reference manual (register map version 5): a mode write starts a fresh command with
default values; a command is obeyed after the frame that carried it has been answered; timeout (mode 11) and fault (mode 1) are
left by a stop alone; NaN in the watchdog means none, 0 means the configured default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.sim import firmware as fw
from robotrl.sim.blocks import Goal
from robotrl.sim.domain import Domain
from robotrl.sim.firmware import TURN, Array, configuration
from robotrl.sim.motor import RESISTANCE, TORQUE_CONSTANT
from robotrl.sim.ramp import Ramp


class Physics(Protocol):
    """What the servos see of the world. Arrays (n,), robot convention."""

    domain: Domain

    @property
    def time(self) -> float: ...  # s
    @property
    def angle(self) -> Array: ...  # rad
    @property
    def velocity(self) -> Array: ...  # rad/s
    @property
    def current(self) -> Array: ...  # A, what the motors draw
    @property
    def overheated(self) -> NDArray[np.bool_]: ...  # motors that shut themselves off
    def sensed(self, delay_s: float) -> Any: ...  # .angle, .velocity as they were


class ServoBank:
    """All servos of the robot, as arrays (n,) in the robot's convention (rad); a command's row is in servo units."""

    def __init__(self, world: Physics, servos: config.Servos, twin: config.Twin) -> None:
        n = len(servos.ids)
        self.world, self.count = world, n
        self.sign = np.asarray(servos.sign, float)
        self.offset = np.asarray(servos.offset, float).copy()  # rad, servo frame; moved by "set output"
        self.conf = [configuration(servos, i) for i in range(n)]
        self._columns: dict[str, Array] = {}  # of the configuration, as the law needs them
        self.mode = [fw.STOPPED] * n
        self.fault = [0] * n
        self.changes = 0  # counts those of modes and configuration: whoever shows what follows from them compares it
        self.command = [list(fw.DEFAULTS) for _ in range(n)]
        self._pending = [fw.STOPPED] * n  # the mode that calibration ends in
        self._ready = [math.inf] * n
        self._deadline = [math.inf] * n
        self.next_event = math.inf
        self._silence = [math.inf] * n  # the watchdog of the last command, s
        self._last: list[list[float]] = [[]] * n  # a command but for its position and velocity
        self._fresh = [False] * n
        self.stale, self.aimed = True, True
        self._signs = [float(s) for s in servos.sign]
        self.ramp = Ramp(n, twin.physics_dt)
        self.bounded = False
        # current = bias - stiffness * angle - damping * velocity, within +-limit (A)
        self.stiffness, self.damping, self.bias = np.zeros(n), np.zeros(n), np.zeros(n)
        self.feedforward, self.limit, self.floor = np.zeros(n), np.zeros(n), np.zeros(n)
        self._a, self._b = np.zeros(n), np.zeros(n)
        self.heat, self.heat_steps = np.zeros(n), 0  # sum of current squared, A^2, since the last look
        self.motor_c = np.full(n, fw.AMBIENT_C)
        self._cooled_at = world.time
        self.quick: Callable[[Array], NDArray[np.float32]] | None = None  # does what `telemetry` does, natively

    # ---- commands

    def obey(self, index: int, mode: int, row: list[float]) -> None:
        """A command of `row` (COLUMNS) in `mode`, as it arrives: what the firmware's mode machine lets through."""
        now, present = self.world.time, self.mode[index]
        if mode == fw.STOPPED:
            self.fault[index] = 0
            self._enter(index, fw.STOPPED)
            return
        if present in (fw.FAULT, fw.TIMEOUT):
            return
        self.command[index] = row
        if present == mode == fw.POSITION and not self._fresh[index] and row[fw.FF :] == self._last[index]:
            self._retarget(index, row[fw.P], row[fw.V], now)
            return
        self._last[index] = row[fw.FF :]
        if mode in fw.STARTED and present in (fw.STOPPED, fw.CALIBRATING):
            self._pending[index] = mode
            if present == fw.STOPPED:
                self._ready[index] = now + fw.CALIBRATION_S
                self._enter(index, fw.CALIBRATING)
        elif present != mode:
            self._enter(index, mode)
        self._fresh[index] = self.stale = True
        watchdog = row[fw.WATCHDOG] or self.conf[index]["servo.default_timeout_s"]
        # A negative one runs out in the next step, not within the bytes that set it.
        self._silence[index] = math.inf if math.isnan(watchdog) or mode not in fw.STARTED else max(0.0, watchdog)
        self._deadline[index] = now + self._silence[index]
        self.next_event = 0.0  # unknown until the next tick

    def aim(self, commands: Sequence[tuple[Goal, float]]) -> None:
        """The everyday commands: position mode goes on with new goals, all else as it was; each with its position."""
        now, mode, fresh, last = self.world.time, self.mode, self._fresh, self._last
        for (index, _, row, rest), position in commands:
            if mode[index] != fw.POSITION or fresh[index] or rest != last[index]:
                self.obey(index, fw.POSITION, [position, *row])
            else:
                self.command[index] = [position, *row]
                self._retarget(index, position, row[0], now)

    def _retarget(self, index: int, position: float, velocity: float, now: float) -> None:
        self._deadline[index] = now + self._silence[index]
        sign = self._signs[index]
        self.ramp.retarget(index, sign * (position * TURN - self.offset.item(index)), sign * velocity * TURN)
        self.aimed = False

    def trip(self, index: int, code: int) -> None:
        """The servo finds fault `code` in itself: mode 1, bridge off, until a stop."""
        self.fault[index] = code
        self._enter(index, fw.FAULT)

    def reboot(self, index: int) -> None:
        """Power lost and back: stopped, no fault, no command."""
        self.fault[index] = 0
        self.command[index] = list(fw.DEFAULTS)
        self._enter(index, fw.STOPPED)

    def reconfigured(self) -> None:
        """The configuration or a zero was written to: gains and goals are taken from it again."""
        self._columns.clear()
        self._last = [[]] * self.count
        self.changes += 1
        self.stale = True

    def _enter(self, index: int, mode: int) -> None:
        self.mode[index] = mode
        self.changes += 1
        self.stale = True
        if mode != fw.CALIBRATING:
            self._ready[index] = math.inf
        if mode in (fw.STOPPED, fw.FAULT, fw.TIMEOUT):
            self._deadline[index] = math.inf
        if mode != fw.POSITION:
            self.ramp.drop(index)

    def tick(self) -> None:
        """Let what is due by now happen: calibration ends, watchdogs run out."""
        now = self.world.time
        if now < self.next_event:
            return
        for i in range(self.count):
            if now >= self._ready[i]:
                self._enter(i, self._pending[i])
                self._fresh[i] = True
            if now > self._deadline[i] and self.mode[i] in fw.STARTED:
                self._enter(i, fw.TIMEOUT)
        self.next_event = min(min(self._deadline), min(self._ready))

    # ---- the control law

    def drive(self, angle: Array, velocity: Array) -> Array:
        """Current demanded (A, robot convention) of all servos for this physics step."""
        if self.world.time >= self.next_event:
            self.tick()
        if self.stale:
            self._settle(angle, velocity)
        if self.ramp.moving:
            self.ramp.step()
            self._aim()
        elif not self.aimed:
            self._aim()
        if self.bounded:
            self._stay_within(angle)
        a, b = self._a, self._b
        np.multiply(self.stiffness, angle, out=a)
        np.multiply(self.damping, velocity, out=b)
        np.subtract(self.bias, a, out=a)
        np.subtract(a, b, out=a)
        np.maximum(a, self.floor, out=a)
        current = self.world.current
        np.multiply(current, current, out=b)
        self.heat += b
        self.heat_steps += 1
        return np.minimum(a, self.limit)

    def _settle(self, angle: Array, velocity: Array) -> None:
        """New commands, modes or gains: set up ramp and coefficients of the law."""
        self.stale = False
        mode = np.asarray(self.mode)
        row = np.array(self.command)
        position = mode == fw.POSITION
        fresh = np.asarray(self._fresh) & position
        self._fresh = [False] * self.count
        if fresh.any():
            self._plan(row, fresh, angle, velocity)
        scale_p, scale_d = np.nan_to_num(row[:, fw.KP]), np.nan_to_num(row[:, fw.KD])
        kp = self._conf("servo.pid_position.kp") / TURN / fw.NM_PER_A
        kd = self._conf("servo.pid_position.kd") / TURN / fw.NM_PER_A
        amps = self._conf("servo.max_current_A")
        fallback = self._conf("servo.timeout_mode")
        timed_out = mode == fw.TIMEOUT
        damped, braked = ((mode == m) | (timed_out & (fallback == m)) for m in (fw.ZERO_VELOCITY, fw.BRAKE))
        held = position | (mode == fw.WITHIN)
        self.stiffness[:] = np.where(held, kp * scale_p, 0.0)
        self.damping[:] = np.where(held | damped, kd * np.where(timed_out, 1.0, scale_d), 0.0)
        self.damping[braked] = TORQUE_CONSTANT / RESISTANCE
        self.feedforward[:] = np.where(held, self.sign * np.nan_to_num(row[:, fw.FF]) / fw.NM_PER_A, 0.0)
        self.feedforward[mode == fw.CURRENT] = (self.sign * np.nan_to_num(row[:, fw.IQ]))[mode == fw.CURRENT]
        asked = np.where(timed_out, self._conf("servo.timeout_max_torque_Nm"), row[:, fw.MAX]) / fw.NM_PER_A
        self.limit[:] = np.where(held | damped, np.fmin(np.abs(asked), amps), amps)
        self.limit[~(held | damped | braked | (mode == fw.CURRENT))] = 0.0
        np.negative(self.limit, out=self.floor)
        self.bounded = bool((mode == fw.WITHIN).any())
        self._outside_damping = self.damping.copy()
        self._aim()

    def _plan(self, row: Array, fresh: Array, angle: Array, velocity: Array) -> None:
        """Hand the freshly commanded servos' goals and limits to the ramp."""
        vlim = np.where(np.isnan(row[:, fw.VLIM]), self._conf("servo.default_velocity_limit"), row[:, fw.VLIM])
        alim = np.where(np.isnan(row[:, fw.ALIM]), self._conf("servo.default_accel_limit"), row[:, fw.ALIM])
        goal = self.sign * (row[:, fw.P] * TURN - self.offset)
        speed = self.sign * np.nan_to_num(row[:, fw.V]) * TURN
        self.ramp.start(fresh, angle, velocity, goal, speed, (vlim * TURN, alim * TURN))

    def _aim(self) -> None:
        """The law's constant part: stiffness times where the ramp stands, damping times its speed, feedforward."""
        ramp = self.ramp
        here = np.where(np.isnan(ramp.place), 0.0, self.stiffness * ramp.place + self.damping * ramp.speed)
        self.bias[:] = here + self.feedforward
        self.aimed = True

    def _stay_within(self, angle: Array) -> None:
        """Mode 13: nothing but feedforward between the bounds, the position law toward the nearer one outside."""
        mode, row = np.asarray(self.mode) == fw.WITHIN, np.array(self.command)
        ends = self.sign[:, None] * (row[:, (fw.LOWER, fw.UPPER)] * TURN - self.offset[:, None])
        inside = np.fmin(np.fmax(angle, np.fmin(ends[:, 0], ends[:, 1])), np.fmax(ends[:, 0], ends[:, 1]))
        self.bias[mode] = (self.stiffness * inside + self.feedforward)[mode]
        outside = inside != angle
        self.damping[mode] = np.where(outside, self._outside_damping, 0.0)[mode]

    def _conf(self, name: str) -> Array:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = np.array([c[name] for c in self.conf], dtype=float)
        return column

    # ---- what the servos know of themselves

    def warm(self) -> Array:
        """Bring temperatures up to now and return those of the boards (n,), deg C. Trips a servo that is too hot."""
        share = self.passed()
        if share:
            amps2 = self.heat / self.heat_steps
            settled = fw.AMBIENT_C + fw.THERMAL_K_PER_W * RESISTANCE * amps2
            self.motor_c += (settled - self.motor_c) * share
            self.heat[:] = 0.0
            self.heat_steps = 0
        board = fw.AMBIENT_C + fw.BOARD_SHARE * (self.motor_c - fw.AMBIENT_C)
        self.trip_hot(board)
        return board

    def passed(self) -> float:
        """How much of the way to where a temperature settles lies behind since the last look; 0 when no step was made."""
        now = self.world.time
        elapsed, self._cooled_at = now - self._cooled_at, now
        return -math.expm1(-elapsed / fw.THERMAL_S) if elapsed > 0 and self.heat_steps else 0.0

    @property
    def trip_c(self) -> Array:
        """Board temperatures (n,) beyond which the servos trip, deg C; another array once they were configured anew."""
        return self._conf("servo.fault_temperature")

    @property
    def thermistor(self) -> Array:
        """1 where a servo reads its winding's thermistor, 0 where it says 0 (n,); another array as of `trip_c`."""
        return self._conf("servo.enable_motor_temperature")

    def trip_hot(self, board: Array) -> None:
        """Trip every servo whose motor shut off or whose board (n,) deg C is too hot."""
        hot = self.world.overheated | (board > self.trip_c)
        for i in np.flatnonzero(hot):
            if self.mode[i] not in (fw.STOPPED, fw.FAULT):
                self.trip(int(i), fw.OVER_TEMPERATURE)

    def telemetry(self, joint_noise: Any) -> NDArray[np.float32]:
        """Registers 0x000 to 0x00F of all servos, shape (n, 16), servo units, single precision as in the firmware.

        `joint_noise` (n,) rad is added to the angles.
        """
        if self.quick is not None:
            return self.quick(joint_noise)
        out = np.zeros((self.count, 16), np.float32)
        board = self.warm()
        amps = self.sign * self.world.current
        late = self.world.domain.extra_latency_s
        seen = self.world.sensed(late) if late else self.world
        turns = (self.sign * (seen.angle + joint_noise) + self.offset) / TURN
        out[:, 0] = self.mode
        out[:, 1] = turns
        out[:, 2] = speed = self.sign * seen.velocity / TURN
        out[:, 3] = torque = amps * fw.NM_PER_A
        out[:, 4] = amps
        out[:, 6] = turns
        out[:, 7] = torque * speed * TURN + RESISTANCE * amps * amps
        out[:, 10] = self.motor_c * self.thermistor
        out[:, 11] = self.ramp.arrived
        out[:, 13] = self.world.domain.battery_v
        out[:, 14] = board
        out[:, 15] = self.fault
        return out
