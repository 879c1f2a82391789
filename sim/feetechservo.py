"""One Feetech STS3215: what its registers do. Behaviour after the maker's memory table; hardware facts 5, safety facts 1.

It has no watchdog: a servo nobody talks to goes on to its last goal. Overload is its own: more than overload_torque of the bridge
for protection_time leaves protective_torque until the next command. Believed, as no page says it: what is written outside of a
register's range is not taken, a goal beyond the limits is moved to them, a frame with a bad sum or an unknown instruction is
passed over. D is in the damping as it was identified; I and min_start_force are kept and not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robotrl.sim import feetechtable as t
from robotrl.sim.controltable import Register, RegisterFile
from robotrl.sim.gearmotor import LIMP, Gearmotor, Law
from robotrl.sim.powered import Powered
from robotrl.sim.trapezoid import Trapezoid

STEPS_PER_RAD = t.TURN / (2 * math.pi)
COARSE = 50  # steps/s in a unit of speed, where it is not fine
ACCELERATION = 100  # steps/s2 in a unit
SPEED_GAIN, SPEED_INTEGRAL = 5.0, 10.0  # of speed mode, chosen: bridge at the free speed's error; 1/s
COMMANDS = ("torque", "goal_position", "goal_speed", "goal_time", "torque_limit")


@dataclass
class Settings:
    """Registers that every step asks for, as they were written last."""

    torque: int
    mode: int
    limit: float  # of the bridge
    p: float  # bridge per step
    pwm: float
    dead: tuple[int, int]  # steps
    drive: int  # 1 or -1
    feedback: int
    offset: int


class FeetechServo(Powered):
    boots_s = 0.8

    def __init__(self, motor: Gearmotor, servo: int, sign: float = 1.0, centre: int = t.TURN // 2) -> None:
        """`centre` is the step at which the joint is at 0."""
        super().__init__(motor, sign, (centre - t.TURN // 2) / STEPS_PER_RAD)
        self.registers = RegisterFile(t.table())
        self.registers.put("id", servo)
        self._kept = {r.name: self.registers.get(r.name) for r in self.registers.table.registers if r.rom}
        self.profile = Trapezoid()  # steps
        self._asked: tuple[int, bytes] | None = None
        self._settings: Settings | None = None
        self._overloaded_s = self._surging_s = 0.0
        self._sum = 0.0  # of speed mode's errors, of the bridge
        self._eased = False  # an overload has taken most of the torque
        self._injected = 0  # status bits from outside

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
    def status(self) -> int:
        return self.registers.get("status")

    # ---- what the bus asks

    def read(self, address: int, length: int) -> bytes:
        """Bytes beyond the table and in gaps are 0."""
        self._refresh()
        return bytes(self.registers.raw[address : address + length]).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Byte by byte, as memory is; then what follows from it, register by register."""
        table, raw = self.registers.table, self.registers.raw
        before, touched = bytes(raw), []
        for at, byte in zip(range(address, table.size), data, strict=False):
            register = table.at[at]
            if register is not None and register.writable:
                raw[at] = byte
                if register not in touched:
                    touched.append(register)
        for r in touched:
            if not r.allows(self.registers.get(r.name)):
                raw[r.address : r.address + r.size] = before[r.address : r.address + r.size]
        self._settings = None
        for r in touched:
            self._written(r)
        if any(r.name in ("goal_position", "goal_speed", "acceleration") for r in touched):
            self._aim(any(r.name == "goal_position" for r in touched))

    def reg_write(self, address: int, data: bytes) -> None:
        self._asked = (address, data)
        self.registers.put("registered", 1)

    def action(self) -> None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self.registers.put("registered", 0)
            self.write(*asked)

    def factory_reset(self) -> None:
        """All but the number, where the memory is unlocked."""
        if self.registers.get("lock"):
            return
        for r in self.registers.table.registers:
            if r.rom and r.name != "id":
                self._put(r.name, r.default)
                self._kept[r.name] = r.default

    def reset_state(self) -> None:
        """Turns and protections are forgotten."""
        self._command()
        self._injected = 0

    def calibrate(self) -> None:
        """Call where the horn is the middle."""
        here = round(self.actual) % t.TURN
        self._put("homing_offset", here - t.TURN // 2)
        if not self.registers.get("lock"):
            self._kept["homing_offset"] = self.registers.get("homing_offset")
        self._hold()

    # ---- inside

    def boot(self) -> None:
        for r in self.registers.table.registers:
            self.registers.put(r.name, self._kept[r.name] if r.rom else r.default)
        self._put("torque_limit", self.registers.get("max_torque"))
        self._asked, self._injected = None, 0
        self.wakes_s = self.now + self.boots_s
        self._command()
        self.settle()

    def settle(self) -> None:
        self._hold()

    def trip(self, bits: int) -> None:
        """A fault that it finds in itself, until it boots or is reset; it lets go where its unload conditions say so."""
        self._injected |= bits
        self._report(bits)

    @property
    def actual(self) -> float:
        """Steps of the encoder, unrounded."""
        return self.angle * STEPS_PER_RAD * self.settings.feedback + t.TURN / 2

    @property
    def steps(self) -> float:
        """Present position, unrounded."""
        return self._shown(self.actual - self.settings.offset)

    def _shown(self, steps: float) -> float:
        return steps if self.registers.get("phase") & t.MANY_TURNS else steps % t.TURN

    def _put(self, name: str, value: int) -> None:
        self.registers.put(name, value)
        self._settings = None

    def _written(self, register: Register) -> None:
        if register.rom and not self.registers.get("lock"):
            self._kept[register.name] = self.registers.get(register.name)
        if register.name in COMMANDS:
            self._command()
        if register.name == "torque":
            value = self.registers.get("torque")
            if value == t.CENTRE:
                self._put("torque", 0)
                self.calibrate()
            elif value == 1:
                self._start()
        elif register.name == "mode":
            self.profile.start(0.0 if self.registers.get("mode") == t.SPEED else round(self.steps))

    def _command(self) -> None:
        """A new command ends what an overload left."""
        self._eased, self._overloaded_s, self._surging_s, self._settings = False, 0.0, 0.0, None

    def _hold(self) -> None:
        here = round(self.steps)
        self.registers.put("goal_position", here)
        self.profile.start(float(here))

    def _start(self) -> None:
        """Torque comes on: the profile begins where the horn is and goes for the goal that is there."""
        self._sum = 0.0
        self.profile.start(0.0 if self.registers.get("mode") == t.SPEED else float(round(self.steps)))
        self._aim(False)

    def _aim(self, goal_written: bool) -> None:
        get, unit = self.registers.get, 1 if self.registers.get("phase") & t.FINE_SPEED else COARSE
        ramp = get("acceleration") * ACCELERATION or math.inf
        speed, mode = get("goal_speed") * unit, get("mode")
        if mode == t.SPEED:
            self.profile.aim(float(speed), ramp, math.inf)
        elif mode == t.STEP:
            if goal_written:
                self.profile.aim(self.profile.goal + get("goal_position"), abs(speed) or math.inf, ramp)
        elif mode == t.POSITION:
            self.profile.aim(float(self._within(get("goal_position"))), abs(speed) or math.inf, ramp)

    def _within(self, goal: int) -> int:
        low, high = self.registers.get("min_position"), self.registers.get("max_position")
        return goal if low == high == 0 else max(low, min(high, goal))

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            get = self.registers.get
            phase, share = get("phase"), get("torque_limit") / 1000
            if self._eased:
                share = min(share, get("protective_torque") / 100)
            self._settings = Settings(
                torque=get("torque"),
                mode=get("mode"),
                limit=share,
                p=get("p") * t.STIFFNESS / STEPS_PER_RAD,
                pwm=get("goal_time") / 1000,
                dead=(get("dead_zone_cw"), get("dead_zone_ccw")),
                drive=-1 if phase & t.DRIVE_REVERSED else 1,
                feedback=-1 if phase & t.FEEDBACK_REVERSED else 1,
                offset=get("homing_offset"),
            )
        return self._settings

    def law(self, dt: float) -> Law:
        now = self.settings
        if now.torque == 0:
            return LIMP
        if now.torque == t.DAMPED:
            return self.motor.at_pwm(0.0, self.volts)
        if now.mode == t.PWM:
            return self._bridge(now.drive * max(-now.limit, min(now.limit, now.pwm)), 0.0, now.limit)
        self.profile.step(dt)
        if now.mode == t.SPEED:
            slope, wanted = SPEED_GAIN / self.motor.free_rad_s, self.profile.position / STEPS_PER_RAD
            self._sum += SPEED_INTEGRAL * slope * (wanted - now.feedback * self.velocity) * dt
            self._sum = max(-now.limit, min(now.limit, self._sum))
            return self._bridge(now.drive * (self._sum + slope * wanted), slope, now.limit)
        error = self.profile.position - round(self.steps)
        if -now.dead[0] <= error <= now.dead[1]:
            error = 0.0
        # The spring is taken at the end of the step too: stable at any step, and the same where nothing moves.
        return self._bridge(now.drive * now.p * error, dt * now.p * STEPS_PER_RAD * now.drive * now.feedback, now.limit)

    def _bridge(self, duty: float, slope: float, limit: float) -> Law:
        at_once = duty - slope * self.velocity
        if abs(at_once) > limit:
            return self.motor.at_pwm(math.copysign(limit, at_once), self.volts)
        drive, damping = self.motor.at_pwm(duty, self.volts)
        return Law(drive, damping + self.motor.stall_nm * slope * self.volts / self.motor.volts)

    def protect(self, dt: float) -> None:
        get = self.registers.get
        bits = self._injected
        if not get("min_voltage") <= round(self.volts * 10) <= get("max_voltage"):
            bits |= t.VOLTAGE_BIT
        if self.celsius > get("max_temperature"):
            bits |= t.HEAT_BIT
        self._overloaded_s = self._overloaded_s + dt if abs(self.pwm) * 100 > get("overload_torque") else 0.0
        if self._overloaded_s > get("protection_time") / 100 and not self._eased:
            self._eased, self._settings = True, None
        surge = get("protection_current") and abs(self.amps) > get("protection_current") * t.AMPS
        self._surging_s = self._surging_s + dt if surge else 0.0
        if self._surging_s > get("over_current_time") / 100:
            self._injected |= t.CURRENT_BIT
        self._report(bits | self._injected)

    def _report(self, bits: int) -> None:
        self.registers.put("status", bits | (t.OVERLOAD_BIT if self._eased else 0))
        if bits & self.registers.get("unload_conditions") and self.registers.get("torque"):
            self._put("torque", 0)

    def _refresh(self) -> None:
        put, feedback = self.registers.put, self.settings.feedback
        fine = self.registers.get("phase") & t.FINE_SPEED
        speed = feedback * self.velocity * STEPS_PER_RAD
        put("present_position", round(self.steps))
        put("present_speed", round(speed / (1 if fine else COARSE)))
        put("present_load", round(feedback * self.pwm * 1000))
        put("voltage", round(self.volts * 10))
        put("temperature", round(self.celsius))
        put("moving", abs(speed) > 2 * STEPS_PER_RAD * math.pi / 180 or not self.profile.arrived)
        put("target", round(self.profile.position))
        put("present_current", round(feedback * self.amps / t.AMPS))
