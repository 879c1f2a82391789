"""Who has used the peak torque too long, against a count of readings done by hand."""

import math

import pytest

from robotrl import config
from robotrl.drivers.easing import Easing

STEP = 20_000_000  # ns
SERVOS = config.Servos(ids=(1, 2, 3), sign=(1,) * 3, offset=(0.0,) * 3, continuous_torque=2.0, peak_s=0.39)


def eased(times: list[int], torques: list[tuple[float, ...]]) -> list[tuple[int, ...]]:
    easing = Easing(SERVOS)
    assert easing.servos == ()
    out = []
    for at, torque in zip(times, torques, strict=True):
        easing.read(at, torque)
        out.append(easing.servos)
    return out


def test_it_takes_the_peak_time_on_end_and_one_reading_below_ends_it() -> None:
    hard, rest = (3.0, 0.0, -3.0), (0.0, 3.0, -3.0)
    got = eased([k * STEP for k in range(26)], [*[hard] * 5, (0.0,) * 3, *[hard] * 20])
    assert got == [()] * 25 + [(0, 2)], "and then all of it once more"
    got = eased([k * STEP for k in range(25)], [*[hard] * 22, rest, hard, hard])
    assert got == [()] * 20 + [(0, 2)] * 2 + [(2,)] * 3  # the first reading counts no time: 20 steps of 20 ms are 0.40 s


@pytest.mark.parametrize(
    ("nm", "strains"), [(1.951, True), (-1.951, True), (1.95, False), (1.949, False), (-1.949, False), (1e9, True)]
)
def test_the_limit_as_it_reads_back_counts(nm, strains) -> None:
    """0.05 Nm below it."""
    assert bool(eased([k * STEP for k in range(30)], [(0.0, nm, 0.0)] * 30)[-1]) is strains


def test_the_peak_time_itself_is_too_long() -> None:
    exact = config.Servos(ids=(1,), sign=(1,), offset=(0.0,), peak_s=0.25, continuous_torque=1.0)
    easing = Easing(exact)
    times = [0, 62_500_000, 125_000_000, 187_500_000, 250_000_000]  # sixteenths of a second: exact in binary
    for at in times:
        assert easing.servos == ()
        easing.read(at, [1.0])
    assert easing.servos == (0,)


def test_of_a_long_gap_a_tenth_of_a_second_counts() -> None:
    second = 1_000_000_000
    got = eased([k * second for k in range(6)], [(0.0, 0.0, 5.0)] * 6)
    assert got == [(), (), (), (), (2,), (2,)]
    assert eased([7 * second + k * second for k in range(6)], [(0.0, 0.0, 5.0)] * 6) == got  # whenever it began
    capped = config.Servos(ids=(1,), sign=(1,), offset=(0.0,), peak_s=0.41, continuous_torque=1.0)
    easing, held = Easing(capped), []
    for k in range(6):  # gaps of 105 ms count 100: 0.40 s at the fifth reading, 0.50 s at the sixth
        easing.read(k * 105_000_000, [2.0])
        held.append(bool(easing.servos))
    assert held == [False] * 5 + [True]
    close = config.Servos(ids=(1,), sign=(1,), offset=(0.0,), peak_s=0.45, continuous_torque=1.0)
    easing, held = Easing(close), []
    for k in range(6):  # gaps of 95 ms count in full: 0.475 s at the fifth
        easing.read(k * 95_000_000, [2.0])
        held.append(bool(easing.servos))
    assert held == [False] * 5 + [True]


def test_who_is_warm_is_eased_at_once_and_while_it_is():
    easing, idle = Easing(SERVOS, stop_c=80.0), (0.0, 0.0, 0.0)
    easing.read(0, idle, (70.0,) * 3)
    assert easing.servos == ()
    easing.read(20_000_000, idle, (math.nan, 70.1, 70.0))
    assert easing.servos == (1,)
    easing.read(40_000_000, idle, (70.0,) * 3)
    assert easing.servos == ()


def test_without_a_temperature_that_stops_the_robot_nobody_is_warm():
    easing = Easing(SERVOS)
    easing.read(0, (0.0, 0.0, 0.0), (300.0,) * 3)
    assert easing.servos == ()
