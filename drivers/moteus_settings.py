"""What a moteus must be set to before it may move, over its text console: in RAM, and read back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from robotrl import config
from robotrl.drivers.diagnostic import Diagnostic
from robotrl.drivers.tables import Mode

ASKS = 3  # of a value: on a busy machine one answer may come too late
THERMISTOR = "servo.enable_motor_temperature"
COLD = "says no temperature of its winding; connect its thermistor, or set robot.servos.thermistors to false"
SILENT = "does not answer; check its id, cable and power"
# Ranges are the gate's, by zeros that are kept on the host: one of the controller's own is counted from another, and who starts
# outside of it has a fault (moteus 39); a goal that slips is none of the gate's.
NONE = ("servopos.position_min", "servopos.position_max", "servo.max_position_slip")


class Setting(NamedTuple):
    """By the servo's own name, in its own units (revolutions). `most`: less will do; a `value` of nan: there must be none."""

    name: str
    value: float
    most: bool = False

    def holds(self, text: str) -> bool:
        """Is that what the servo says it has?"""
        if not _is_number(text):
            return False
        got = float(text)
        if math.isnan(self.value):
            return math.isnan(got)
        return same(got, self.value) or (self.most and 0.0 < got < self.value)

    def __str__(self) -> str:
        return f"{self.value:.6g}" + (" at most" if self.most else "")


def of(servos: config.Servos) -> list[Setting]:
    """Gains and watchdog just so, limits at most, ranges none; thermistors read, where there are any: as it comes, none is."""
    own = servos.protection
    most = {
        "servo.fault_temperature": own.temp_c,
        "servo.max_voltage": own.volts_max,
        "servo.max_current_A": own.amps,
        "servo.max_velocity": own.speed_rad_s / math.tau,
    }
    return [
        Setting("servo.pid_position.kp", servos.kp * math.tau),
        Setting("servo.pid_position.ki", 0.0),
        Setting("servo.pid_position.kd", servos.kd * math.tau),
        Setting("servo.default_timeout_s", servos.watchdog_s),
        Setting("servo.timeout_mode", float(Mode.ZERO_VELOCITY)),
        *([Setting(THERMISTOR, 1.0)] if servos.thermistors else []),
        *[Setting(name, value, most=True) for name, value in most.items() if not math.isnan(value)],
        *[Setting(name, math.nan) for name in NONE],
    ]


def bring(console: Diagnostic, wanted: Sequence[Setting]) -> str:
    """Set what differs. What is wrong with the first that is silent or still differs; empty when all is as wanted."""
    for setting in wanted:
        if setting.holds(_asked(console, setting.name)):
            continue
        answer = console.ask(f"conf set {setting.name} {setting.value:.8g}")
        got = _asked(console, setting.name)
        if setting.holds(got):
            continue
        if not answer and not got:
            return SILENT
        read = f"{setting.name} reads {got or 'nothing'} after setting {setting.value:.6g}"
        return f"{read} (answer {answer!r}); check cable and firmware"
    return ""


def complaints(console: Diagnostic, wanted: Sequence[Setting]) -> list[str]:
    """One line for each that is not as wanted; changes nothing."""
    out = []
    for setting in wanted:
        got = _asked(console, setting.name)
        if not got:
            out.append(f"{setting.name} is not answered; check cable and firmware")
        elif not setting.holds(got):
            out.append(f"{setting.name} is {got}, not {setting}; configure it again")
    return out


def same(got: float, want: float) -> bool:
    """Whether a value that went through the servo's decimal text is still the one wanted; never for nan."""
    return math.isclose(got, want, rel_tol=1e-4, abs_tol=1e-5)


def _asked(console: Diagnostic, name: str) -> str:
    """A configuration value as the servo spells it, what it says instead, or nothing: in ASKS tries no number came."""
    text = ""
    for _ in range(ASKS):
        text = console.ask(f"conf get {name}") or text
        if _is_number(text):
            break
    return text


def _is_number(text: str) -> bool:
    try:
        return not math.isinf(float(text))
    except ValueError:
        return False
