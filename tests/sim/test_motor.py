"""The motor's table, its electrical bounds, its overload cut-out (hardware facts 1.3, learning facts 4.3)."""

import numpy as np
import pytest

from robotrl.sim.motor import AMPERES, NEWTON_METRES, RESISTANCE, TORQUE_CONSTANT, Motors

DT = 0.002
REST = np.zeros(8)


def one(demand: float, velocity: float = 0.0, **options: float) -> tuple[float, float]:
    motors = Motors(8, options.pop("battery_v", 16.0), **options)
    shaft = motors.step(np.full(8, demand), np.full(8, velocity), DT)
    return float(shaft[0]), float(motors.current[0])


def test_table_is_exact_and_odd() -> None:
    for amperes, torque in zip(AMPERES, NEWTON_METRES, strict=True):
        assert one(amperes)[0] == torque
        assert one(-amperes)[0] == -torque
    assert one(25.0)[0] == pytest.approx((1.9 + 2.45) / 2)


def test_stall_and_no_load() -> None:
    torque, current = one(1e6)
    assert (torque, current) == (3.5, pytest.approx(86.02, abs=0.01))  # 16 V / .186 ohm
    no_load = 16.0 / TORQUE_CONSTANT
    assert no_load == pytest.approx(167.7, abs=0.05)
    assert one(1e6, no_load)[0] == pytest.approx(0.0, abs=1e-9)
    assert one(1e6, 200.0)[0] < 0  # beyond it the winding brakes
    assert one(-1e6, 10.0)[1] == pytest.approx((-16 - 10 * TORQUE_CONSTANT) / RESISTANCE)


def test_strength_battery_friction() -> None:
    assert one(30.0, strength=0.8)[0] == pytest.approx(0.8 * 2.45)
    assert one(1e6, battery_v=14.0)[1] == pytest.approx(14.0 / RESISTANCE)
    assert one(0.0, 5.0, friction=0.05)[0] == pytest.approx(-0.05)
    assert one(0.0, -0.5, friction=0.05)[0] == pytest.approx(0.025)


def test_overload_cuts_one_motor_after_a_second() -> None:
    motors = Motors(8, 16.0)
    demand = np.full(8, 30.0)  # 2.45 Nm: not more than the threshold
    demand[3] = 31.0
    for _ in range(500):
        motors.step(demand, REST, DT)
    assert not motors.overheated.any()
    shaft = motors.step(demand, REST, DT)
    assert list(np.flatnonzero(motors.overheated)) == [3]
    assert shaft[3] == 0.0 and shaft[2] == 2.45
    assert motors.step(np.full(8, 10.0), REST, DT)[3] == 0.0  # it stays off
    motors.reset()
    assert motors.step(np.full(8, 10.0), REST, DT)[3] == 1.0


def test_a_pause_resets_the_overload_clock() -> None:
    motors = Motors(8, 16.0)
    for k in range(1200):
        motors.step(np.full(8, 40.0 if k % 400 else 0.0), REST, DT)
    assert not motors.overheated.any()


def test_nan_is_refused() -> None:
    demand = np.zeros(8)
    demand[5] = np.nan
    with pytest.raises(ValueError, match="nan"):
        Motors(8, 16.0).step(demand, REST, DT)
