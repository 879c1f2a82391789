"""What a moteus servo's firmware starts with: modes, a command's columns and defaults, the stored configuration.

After the moteus reference manual (register map version 5); where it leaves a value to the builder the comment says "chosen".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.sim.motor import AMPERES, NEWTON_METRES, RESISTANCE

Array = NDArray[np.float64]
TURN = 2.0 * math.pi

STOPPED, FAULT, CALIBRATING, CURRENT, POSITION, TIMEOUT, ZERO_VELOCITY, WITHIN, BRAKE = (
    0,
    1,
    3,
    9,
    10,
    11,
    12,
    13,
    15,
)
STARTED = (
    CURRENT,
    POSITION,
    ZERO_VELOCITY,
    WITHIN,
)  # modes that need the bridge enabled and calibrated first
OVER_TEMPERATURE = 38  # fault code of the reference manual

# The servo's calibrated torque constant: the first part of the motor's table. Real torque saturates above it, as on the robot.
NM_PER_A = float(NEWTON_METRES[1] / AMPERES[1])
CURRENT_LIMIT = float(AMPERES[-1])  # A, end of the table

VOLTAGE_LIMIT, VELOCITY_LIMIT = 46.0, 500.0  # V, rev/s: firmware defaults of servo.max_voltage (r4), servo.max_velocity

CALIBRATION_S = 0.010  # current-sense calibration between stop and the first torque; chosen
TIMEOUT_TORQUE = 5.0  # Nm, firmware default of servo.timeout_max_torque_Nm
AMBIENT_C, THERMAL_S, THERMAL_K_PER_W = 25.0, 300.0, 1.0  # winding: 10 A for minutes gives +19 K; chosen
BOARD_SHARE = 0.4  # of the winding's rise that the board shows; chosen
FAULT_BOARD_C = 75.0  # firmware default of servo.fault_temperature

# Columns of a command, in servo units (revolutions, Hz, Nm); what a mode write resets them to.
COLUMNS = (
    "position", "velocity", "feedforward", "kp_scale", "kd_scale", "max_torque", "stop", "watchdog",
    "velocity_limit", "accel_limit", "lower", "upper", "q_current", "d_current",
)  # fmt: skip
DEFAULTS = (
    0.0,
    0.0,
    0.0,
    1.0,
    1.0,
    math.nan,
    math.nan,
    0.0,
    math.nan,
    math.nan,
    math.nan,
    math.nan,
    0.0,
    0.0,
)
P, V, FF, KP, KD, MAX, _STOP, WATCHDOG, VLIM, ALIM, LOWER, UPPER, IQ, _ID = range(len(COLUMNS))


def configuration(servos: config.Servos, index: int) -> dict[str, float]:
    """A servo's stored configuration, by the firmware's names. Gains are per revolution there."""
    return {
        "id.id": servos.ids[index],
        "servo.pid_position.kp": servos.kp * TURN,
        "servo.pid_position.ki": 0.0,
        "servo.pid_position.kd": servos.kd * TURN,
        "servo.pid_position.ilimit": 0.0,
        "servo.default_timeout_s": servos.watchdog_s,
        "servo.timeout_max_torque_Nm": TIMEOUT_TORQUE,
        "servo.timeout_mode": ZERO_VELOCITY,
        "servo.default_velocity_limit": math.nan,
        "servo.default_accel_limit": math.nan,
        "servo.max_current_A": CURRENT_LIMIT,
        "servo.max_voltage": VOLTAGE_LIMIT,
        "servo.max_velocity": VELOCITY_LIMIT,
        "servo.max_position_slip": math.nan,
        "servo.fault_temperature": FAULT_BOARD_C,
        "servo.enable_motor_temperature": 0.0,
        "servo.motor_fault_temperature": math.nan,
        "servopos.position_min": math.nan,
        "servopos.position_max": math.nan,
        "motor.poles": 14,
        "motor.resistance_ohm": RESISTANCE,
        "motor_position.rotor_to_output_ratio": 1.0,
    }
