"""Which joints are left with little torque because they press on something, from when on, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest

from robotrl import config
from robotrl.drivers.pressing import AFTER_NS, SHARE, Pressing, Shares

ARM = config.load(Path(__file__).resolve().parents[2] / "launch" / "reach.toml", []).robot  # SO-101
LEGS = config.load(Path(__file__).resolve().parents[2] / "launch" / "dkitty_walk.toml", []).robot
HARD = 0.81 * ARM.servos.continuous_torque
N = len(ARM.servos.ids)


def pressed(*readings: tuple[int, float, float]) -> tuple[int, ...]:
    """The second joint's readings: ns, rad/s, Nm."""
    pressing = Pressing(ARM.servos)
    for t, speed, nm in readings:
        pressing.read(t, (0.0, speed) + (0.0,) * (N - 2), (0.0, nm) + (0.0,) * (N - 2))
    return pressing.servos


@pytest.mark.parametrize(
    ("readings", "who"),
    [
        ([(0, 0.0, HARD), (AFTER_NS, 0.0, -HARD)], (1,)),
        ([(0, 0.0, HARD), (AFTER_NS - 1, 0.0, HARD)], ()),
        ([(0, 0.0, HARD), (AFTER_NS, 0.0, 0.79 * ARM.servos.continuous_torque)], ()),
        ([(0, 0.0, HARD), (60_000_000, 0.0, 0.0), (AFTER_NS, 0.0, HARD)], (1,)),
        ([(0, 0.0, HARD), (60_000_001, 0.0, 0.0), (AFTER_NS, 0.0, HARD)], ()),
        ([(0, 0.0, HARD), (60_000_000, 0.21, 0.0), (AFTER_NS, 0.0, HARD)], ()),
        ([(0, 0.0, HARD), (AFTER_NS, -0.21, HARD)], ()),
        ([(0, 0.0, HARD), (AFTER_NS // 2, 0.3, HARD), (AFTER_NS, 0.0, HARD)], ()),
        ([(0, 0.0, HARD), (AFTER_NS, 0.0, HARD), (2 * AFTER_NS, 5.0, 0.0)], (1,)),
    ],
)
def test_who_strains_and_stands_still_presses_from_then_on(readings, who):
    assert pressed(*readings) == who


def test_shares_of_the_supply_by_what_each_joint_does():
    shares, whole = Shares(ARM), ARM.servos.power
    eased = whole * ARM.servos.continuous_torque / ARM.servos.max_torque
    cool, hot = (30.0,) * N, (30.0,) * (N - 1) + (ARM.limits.temp_c - 9,)
    assert shares.of_supply() == [whole] * N
    for t in (0, AFTER_NS):
        shares.read(t, (0.0,) * N, (HARD, *(0.0,) * (N - 1)), hot)
    assert shares.of_supply() == [SHARE * whole, *[whole] * (N - 2), eased]
    shares.let_go()
    shares.read(2 * AFTER_NS, (0.0,) * N, (HARD, *(0.0,) * (N - 1)), cool)
    assert shares.of_supply() == [whole] * N  # its half second begins anew


def test_a_leg_strains_where_it_stands():
    shares, n = Shares(LEGS), len(LEGS.servos.ids)
    for t in range(0, 3 * AFTER_NS, 20_000_000):
        shares.read(t, (0.0,) * n, (0.9 * LEGS.servos.continuous_torque,) * n, (30.0,) * n)
    assert shares.of_supply() == [LEGS.servos.power] * n
