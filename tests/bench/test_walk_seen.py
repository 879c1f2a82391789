"""The bench of a reward that is seen: what of two halves is compared, and when it is enough."""

from __future__ import annotations

import pytest


@pytest.fixture
def bench(script):
    return script("walk_seen")


def ran(speed: float, total: float) -> dict[str, float]:
    return {"speed_mean": speed, "return_mean": total}


@pytest.mark.parametrize(
    ("seen", "true", "reached"),
    [
        ({"0": ran(0.45, 180)}, {"0": ran(0.5, 200)}, True),
        ({"0": ran(0.44, 200)}, {"0": ran(0.5, 200)}, False),
        ({"0": ran(0.5, 179)}, {"0": ran(0.5, 200)}, False),
        ({"0": ran(0.5, 200), "1": ran(0.1, 1)}, {"0": ran(0.5, 200)}, True),  # a seed that one half lacks counts for neither
        ({"0": ran(0.5, 200)}, {"0": {"error": "no answer"}}, None),
        ({"0": ran(0.1, 5)}, {"0": ran(-0.1, -20)}, False),  # the truth has taught nothing: no measure
    ],
)
def test_sight_reaches_the_truth_when_both_figures_do(bench, seen, true, reached):
    assert bench.compared({"seen": seen, "true": true}).get("reached") is reached
