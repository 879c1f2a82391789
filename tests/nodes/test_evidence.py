"""What proves a fault over time, beside what looks like it and is none. The matrix plays the faults (tests/safety/matrix.py)."""

from __future__ import annotations

import pytest

from robotrl import messages as m
from robotrl.config import Robot
from robotrl.nodes.evidence import Evidence

T = 20_000_000


@pytest.mark.parametrize(("torque", "seconds"), [(2.0, 0.2), (0.0, 0.2), (-1.0, 0.2), (-2.8, 0.0)])
def test_a_joint_runs_away_by_its_own_doing_and_not_where_the_robots_weight_pushes_it(torque, seconds):
    """2 rad past its target at 8 rad/s, farther off in each cycle; only who brakes with all that it may is pushed."""
    evidence = Evidence(Robot())
    for k in range(41):
        drive = m.Drive(
            source="servos", t=k * T, tick=k, gate_open=True, torque_on=True, powered_off_confirmed=False, late_us=0.0,
            cycle_us=0.0, overruns=0, frame_errors=0, stop="",
        )  # fmt: skip
        away = max(0, k - 30)  # until then all is well: a servo may take its time to start
        evidence.hear(drive)
        evidence.hear(m.Applied(source="servos", t=k * T, tick=k, target=(2.0,) * 8, writer="policy", epoch=1,
                                action_tick=k, clamped=(0,) * 8))  # fmt: skip
        evidence.hear(
            m.Joints(
                source="servos",
                t=k * T,
                tick=k,
                position=(4.0 + 0.16 * away if away else 2.0 + 1e-4 * k,) + (2.0 + 1e-4 * k,) * 7,
                velocity=(8.0 if away else 0.0,) + (0.0,) * 7,
                torque=(torque if away else 0.1,) + (0.1,) * 7,
                temp_c=(30.0,) * 8,
                voltage=(16.0,) * 8,
                mode=(10,) * 8,
                fault=(0,) * 8,
                missed=(0,) * 8,
            )
        )
    assert evidence.fields()["runaway_s"] == pytest.approx(seconds, abs=0.03)


def imu(k: int, g: float, stale: bool = False) -> m.Imu:
    felt = (0.0, 0.6 * g * 9.81, -0.8 * g * 9.81)
    return m.Imu(source="imu", t=k * T, roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0,) * 3, accel=felt, stale=stale)


@pytest.mark.parametrize(
    ("felt", "seconds"),
    [
        ([1.0, 0.31, 1.0], 0.0),
        ([1.0, 0.29, 0.1, 0.0], 0.04),
        ([0.1, 0.1, 1.0, 0.1, 0.1], 0.02),
        ([0.1] * 9, 0.16),
        ([0.1] * 9 + [1.0], 0.0),
    ],
)
def test_a_robot_falls_for_as_long_as_its_imu_feels_next_to_nothing(felt, seconds):
    evidence = Evidence(Robot())
    for k, g in enumerate(felt):
        evidence.hear(imu(k, g))
    assert evidence.fields()["weightless_s"] == pytest.approx(seconds)
    evidence.hear(imu(99, 0.0, stale=True))  # of which nobody knows how old it is
    assert evidence.fields()["weightless_s"] == pytest.approx(seconds)
