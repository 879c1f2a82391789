"""What gate, guard and ledger are given in these tests: permits and actions that may hold anything, and a robot that is well."""

from __future__ import annotations

from dataclasses import dataclass

from robotrl.safety.causes import Inputs

# All is well, so that each test shows its one cause only.
WELL = Inputs(
    checks_passed=True,
    still=True,
    drive_age_s=0.0,
    torque_on=True,
    temp_c=20.0,
    imu_age_s=0.0,
    tilt_rad=0.0,
    pose_age_s=0.0,
    action_age_s=0.0,
    console_age_s=0.0,
    human_age_s=0.0,
)


@dataclass(frozen=True)
class Permit:
    state: object = "RUN"
    epoch: object = 1
    holder: object = "policy"
    torque: object = True
    speed_scale: object = 1.0
    t: object = 0


@dataclass(frozen=True)
class Action:
    target: object
    seq: object = 0
    source: object = "policy"
    epoch: object = 1
    t: object = 0
    valid_ns: object = 0
