"""One Dynamixel X servo: its registers come alive. After the e-Manual's X series pages; hardware facts 4, safety facts 1.

Chosen where no page says it: an overload is OVERLOAD of the stall current for OVERLOAD_S; torque that is asked for after a
shutdown is refused in silence, but for the Alert; a watchdog that is cleared lets the servo go for its old goal again.
"""

from __future__ import annotations

import math

from robotrl.sim import dynamixeltable as t
from robotrl.sim.dynamixelloops import CYCLES_S, TICKS_PER_RAD, Loops, Settings, stopped
from robotrl.sim.dynamixelregisters import ACCESS, GOALS, INSTRUCTION, OK, RANGE, RESULT_FAIL, Registers
from robotrl.sim.gearmotor import LIMP, Law
from robotrl.sim.powered import Powered

OVERLOAD, OVERLOAD_S = 0.8, 2.0
WATCHDOG_S = 0.02
CLEAR_TURNS = bytes((0x01, 0x44, 0x58, 0x4C, 0x22))
BACKUP_KEY = b"CTRL"
FACTORY_ALL, FACTORY_KEEP_ID, FACTORY_KEEP_ID_BAUD = 0xFF, 1, 2


class DynamixelServo(Powered):
    def __init__(self, model: t.Model, servo: int, sign: float = 1.0, centre_tick: int = t.TURN // 2) -> None:
        """Bus settings as a robot's builder leaves them: 1 Mbit/s, no return delay. `centre_tick` is where the joint is at 0."""
        super().__init__(model.motor, sign, (centre_tick - t.TURN // 2) / TICKS_PER_RAD)
        self.model = model
        self.registers = Registers(model)
        self.loops = Loops(model.motor)
        for name, value in (("id", servo), ("baud", t.BAUD.index(1_000_000)), ("return_delay", 0)):
            self.registers.put(name, value)
        self._turned = 0  # ticks of whole turns that are not counted
        self._asked: tuple[int, bytes] | None = None  # by reg write
        self._saved: bytes | None = None
        self._spoken_s = self._booted_s = self._overloaded_s = 0.0
        self._settings: Settings | None = None
        self._default_goals()

    # ---- what the bus asks

    @property
    def id(self) -> int:
        return self.registers.get("id")

    @property
    def baud(self) -> int:
        return t.BAUD[self.registers.get("baud")]

    @property
    def delay_ns(self) -> int:
        return self.registers.get("return_delay") * 2000

    @property
    def level(self) -> int:
        return self.registers.get("status_level")

    @property
    def alert(self) -> int:
        return 0x80 if self.registers.get("hardware_error") else 0

    def heard(self) -> None:
        """An instruction packet went over the bus, whoever it was for."""
        self._spoken_s = self.now

    def ping(self) -> bytes:
        return self.model.number.to_bytes(2, "little") + bytes((self.registers.get("firmware"),))

    def read(self, address: int, length: int) -> tuple[int, bytes]:
        """Error number and data."""
        self._refresh()
        data = self.registers.read(address, length)
        return (ACCESS, b"") if data is None else (OK, data)

    def write(self, address: int, data: bytes) -> int:
        error, changes = self.registers.changes(address, data)
        for register, value in changes:
            self._change(register.name, value)
        return error

    def reg_write(self, address: int, data: bytes) -> int:
        error, _ = self.registers.changes(address, data)
        if error == OK:
            self._asked = (address, data)
            self.registers.put("registered", 1)
        return error

    def action(self) -> int:
        if self._asked is None:
            return INSTRUCTION
        asked, self._asked = self._asked, None
        self.registers.put("registered", 0)
        return self.write(*asked)

    def factory_reset(self, option: int, broadcast: bool) -> int:
        keep = {FACTORY_ALL: (), FACTORY_KEEP_ID: ("id",), FACTORY_KEEP_ID_BAUD: ("id", "baud")}.get(option)
        if keep is None or (broadcast and option == FACTORY_ALL):
            return RANGE
        self.registers.factory(keep)
        self.boot()
        return OK

    def clear(self, params: bytes) -> int:
        """The turns that were counted; only of a servo that stands still."""
        if params != CLEAR_TURNS:
            return RANGE
        if self._moving():
            return RESULT_FAIL
        self.settle()
        return OK

    def backup(self, params: bytes) -> int:
        if params[1:] != BACKUP_KEY or params[0] not in (1, 2):
            return RANGE
        if self.registers.get("torque"):
            return ACCESS
        if params[0] == 1:
            self._saved = bytes(self.registers.raw[: self.registers.table.named["torque"].address])
            self.registers.put("backup_ready", 1)
        elif self._saved is None:
            return RESULT_FAIL
        else:
            self.registers.raw[: len(self._saved)] = self._saved
            self._settings = None
        return OK

    # ---- inside

    def boot(self) -> None:
        self.registers.power_cycle()
        self._put("backup_ready", self._saved is not None)
        self._asked, self._settings = None, None
        self._booted_s = self._spoken_s = self.now
        self.wakes_s = self.now + self.boots_s
        self._overloaded_s = 0.0
        self._default_goals()
        self.settle()
        if self.registers.get("startup") & 1:
            self._change("torque", 1)

    def settle(self) -> None:
        self._within_a_turn()
        self._hold()

    def trip(self, bits: int) -> None:
        """Hardware errors: those that the mask names take the torque, for good until a reboot."""
        self._put("hardware_error", self.registers.get("hardware_error") | bits)
        if bits & self.registers.get("shutdown"):
            self._put("torque", 0)

    @property
    def ticks(self) -> float:
        """Present position, unrounded."""
        return self.angle * TICKS_PER_RAD * self.settings.way + self.settings.offset

    def _within_a_turn(self) -> None:
        actual = self.angle * TICKS_PER_RAD * self.settings.way + t.TURN / 2
        self._turned = math.floor(actual / t.TURN) * t.TURN
        self._settings = None

    def _default_goals(self) -> None:
        mode, get = self.registers.get("operating_mode"), self.registers.get
        self._put("goal_pwm", 0 if mode == t.PWM else get("pwm_limit"))
        self._put("goal_velocity", 0)
        if self.model.amps:
            self._put("goal_current", 0 if mode == t.CURRENT else get("current_limit"))

    def _hold(self) -> None:
        """Goal and profile where the horn is."""
        here = round(self.ticks)
        self._put("goal_position", here)
        self.loops.start(float(here))

    def _change(self, name: str, value: int) -> None:
        """One register has been written, and what follows from it."""
        if name == "torque":
            self._switch(value)
            return
        self._put(name, value)
        if name in ("operating_mode", "pwm_limit", "current_limit"):
            self._default_goals()
            if self.registers.get("operating_mode") == t.POSITION:
                self._within_a_turn()
        elif name in GOALS:
            if self.registers.get("drive_mode") & t.TORQUE_ON_BY_GOAL:
                self._switch(1)
                self._put(name, value)  # switching on put the goal where the horn is
            self._aim()
        elif name == "bus_watchdog":
            self._spoken_s = self.now
            if value == 0:  # the goal is what it was: off it goes again
                self.loops.start(float(round(self.ticks)))
                self._aim()

    def _switch(self, on: int) -> None:
        if on and self.registers.get("hardware_error") & self.registers.get("shutdown"):
            return
        if on and not self.registers.get("torque"):
            if self.registers.get("operating_mode") == t.POSITION:
                self._within_a_turn()
            self._hold()
            self._spoken_s = self.now
            self._overloaded_s = 0.0
        self._put("torque", on)

    def _aim(self) -> None:
        """Hand the goals to the profiles."""
        get = self.registers.get
        acceleration, speed = get("profile_acceleration"), get("profile_velocity")
        goal = float(get("goal_position"))
        top = speed * t.TICKS_S if speed else math.inf
        ramp = acceleration * t.ACCELERATION_TICKS_S2 if acceleration else math.inf
        if get("drive_mode") & t.TIME_BASED:  # ms: of the whole way, and of getting up to speed
            way, whole, part = abs(goal - self.loops.profile.position), speed / 1000, min(acceleration, speed / 2) / 1000
            top = way / (whole - part) if whole and way else math.inf
            ramp = top / part if part and math.isfinite(top) else math.inf
            self.loops.ramp.aim(get("goal_velocity") * t.RAD_S, math.inf, math.inf)
        else:
            top = min(top, get("velocity_limit") * t.TICKS_S) if math.isfinite(top) else top
            self.loops.ramp.aim(get("goal_velocity") * t.RAD_S, ramp / TICKS_PER_RAD, math.inf)
        self.loops.profile.aim(goal, top, ramp)

    def law(self, dt: float) -> Law:
        now = self.settings
        if not now.torque:
            return LIMP
        if 0 < now.watchdog_s < self.now - self._spoken_s:
            self._put("bus_watchdog", -1)
            now = self.settings
        if now.watchdog_s < 0:
            return stopped(self.motor, now.mode, self.volts)
        drive, damping = self.loops.law(now, round(self.ticks), now.way * self.velocity, self.volts, dt)
        return Law(now.way * drive, damping)

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = self._read_settings()
        return self._settings

    def _put(self, name: str, value: int) -> None:  # a register that every step asks for
        if self.registers.get(name) != value:
            self.registers.put(name, value)
            self._settings = None

    def _read_settings(self) -> Settings:
        get = self.registers.get
        mode, goal = get("operating_mode"), get("goal_pwm")
        limit = get("pwm_limit") if mode == t.PWM else min(get("pwm_limit"), abs(goal))
        current = get("goal_current") * self.model.amps * self.motor.nm_per_a if self.model.amps else math.inf
        return Settings(
            torque=bool(get("torque")),
            watchdog_s=max(-1.0, get("bus_watchdog") * WATCHDOG_S) if get("bus_watchdog") >= 0 else -1.0,
            way=-1 if get("drive_mode") & t.REVERSE else 1,
            offset=t.TURN // 2 - self._turned + get("homing_offset"),
            volts=(get("min_voltage") / 10, get("max_voltage") / 10),
            hottest_c=get("temperature_limit"),
            mode=mode,
            pwm_limit=limit / t.FULL_PWM,
            goal_pwm=goal / t.FULL_PWM,
            current_nm=current,
            p=get("position_p") / 128 / t.FULL_PWM,
            i=get("position_i") / 65536 / t.FULL_PWM * CYCLES_S,
            d=get("position_d") / 16 / t.FULL_PWM / CYCLES_S,
            velocity_p=get("velocity_p") / 128 / t.FULL_PWM,
            velocity_i=get("velocity_i") / 65536 / t.FULL_PWM * CYCLES_S,
        )

    def protect(self, dt: float) -> None:
        low, high = self.settings.volts
        bits = 0
        if not low - 0.05 <= self.volts <= high + 0.05:  # it measures tenths
            bits |= t.VOLTAGE_ERROR
        if self.celsius > self.settings.hottest_c:
            bits |= t.HEAT_ERROR
        busy = abs(self.amps) > OVERLOAD * self.motor.stall_a
        self._overloaded_s = self._overloaded_s + dt if busy else 0.0
        if self._overloaded_s > OVERLOAD_S:
            bits |= t.OVERLOAD_ERROR
        if bits & ~self.registers.get("hardware_error"):
            self.trip(bits)

    def _moving(self) -> bool:
        return abs(self.velocity) / t.RAD_S > self.registers.get("moving_threshold")

    def _refresh(self) -> None:
        """Bring what the servo measures up to now."""
        put, profile, way = self.registers.put, self.loops.profile, self.settings.way
        put("tick", int((self.now - self._booted_s) * 1000) % 32768)
        put("moving", self._moving())
        staged = not math.isinf(profile.top) or not math.isinf(profile.acceleration)
        put("moving_status", profile.arrived | (not profile.arrived) << 1 | (staged and 3) << 4)
        put("present_pwm", round(way * self.pwm * t.FULL_PWM))
        load = self.amps / self.model.amps if self.model.amps else self.amps / self.motor.stall_a * 1000
        put("present_current", round(way * load))
        put("present_velocity", round(way * self.velocity / t.RAD_S))
        put("present_position", round(self.ticks))
        put("velocity_trajectory", round(profile.velocity / t.TICKS_S))
        put("position_trajectory", round(profile.position))
        put("present_voltage", round(self.volts * 10))
        put("temperature", round(self.celsius))
