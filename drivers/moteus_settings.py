"""What a moteus must be set to before it may move, over its text console: in RAM, and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping

from robotrl import config
from robotrl.drivers.diagnostic import Diagnostic
from robotrl.drivers.tables import Mode

ASKS = 3  # of a value: on a busy machine one answer may come too late
SILENT = "does not answer; check its id, cable and power"


def of(servos: config.Servos) -> dict[str, float]:
    """By the servo's own names, in its own units (gains per revolution)."""
    return {
        "servo.pid_position.kp": servos.kp * math.tau,
        "servo.pid_position.ki": 0.0,
        "servo.pid_position.kd": servos.kd * math.tau,
        "servo.default_timeout_s": servos.watchdog_s,
        "servo.timeout_mode": float(Mode.ZERO_VELOCITY),
    }


def bring(console: Diagnostic, wanted: Mapping[str, float]) -> str:
    """Set what differs. What is wrong with the first that is silent or still differs; empty when all is as wanted."""
    for name, want in wanted.items():
        if same(_asked(console, name), want):
            continue
        answer = console.ask(f"conf set {name} {want:.8g}")
        got = _asked(console, name)
        if same(got, want):
            continue
        if not answer and math.isnan(got):
            return SILENT
        return f"{name} reads {got:.6g} after setting {want:.6g} (answer {answer!r}); check cable and firmware"
    return ""


def complaints(console: Diagnostic, wanted: Mapping[str, float]) -> list[str]:
    """One line for each that is not as wanted; changes nothing."""
    out = []
    for name, want in wanted.items():
        if math.isnan(got := _asked(console, name)):
            out.append(f"{name} is not answered; check cable and firmware")
        elif not same(got, want):
            out.append(f"{name} is {got:.6g}, not {want:.6g}; configure it again")
    return out


def same(got: float, want: float) -> bool:
    """Whether a value that went through the servo's decimal text is still the one wanted; never for nan."""
    return math.isclose(got, want, rel_tol=1e-4, abs_tol=1e-5)


def _asked(console: Diagnostic, name: str) -> float:
    """A configuration value; nan when it was not answered in ASKS tries."""
    return next((got for _ in range(ASKS) if not math.isnan(got := console.get(name))), math.nan)
