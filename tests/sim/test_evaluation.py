"""What an evaluation calls frozen."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.sim.evaluation import FREEZE_S, froze, summarise

RNG = np.random.default_rng(0)
T = np.cumsum(0.02 * RNG.uniform(0.9, 1.1, 500))  # 10 s, with the twin's jitter


def path(speed: np.ndarray) -> np.ndarray:
    """(n, 2), m: along a slanted line at `speed` (n,)."""
    way = np.concatenate(([0.0], np.cumsum(speed[1:] * np.diff(T))))
    return np.stack((way * 0.6, way * 0.8), 1)


def speeds(pause_s: float, at: float = 4.0, slow: float = 0.0) -> np.ndarray:
    """Half a metre a second, but for a pause."""
    return np.where((at <= T) & (at + pause_s > T), slow, 0.5)


UPRIGHT = np.ones(len(T), bool)


@pytest.mark.parametrize(
    ("pause_s", "slow", "want"), [(0.0, 0.0, False), (2.5, 0.0, False), (3.2, 0.0, True), (3.2, 0.045, True), (5.0, 0.06, False)]
)
@pytest.mark.parametrize("at", [0.0, 4.0, 4.9])
def test_three_seconds_of_getting_nowhere(pause_s, slow, want, at):
    assert froze(T, path(speeds(pause_s, at, slow)), UPRIGHT) is want


def test_trembling_and_circling_on_the_spot_is_frozen_and_walking_backwards_is_not():
    assert froze(T, 0.03 * np.stack((np.sin(9 * T), np.cos(9 * T)), 1), UPRIGHT)
    assert not froze(T, path(np.full(len(T), -0.3)), UPRIGHT)


def test_one_that_lies_still_has_fallen_and_is_not_frozen():
    still = path(speeds(3.5))
    assert froze(T, still, UPRIGHT)
    assert not froze(T, still, (T < 5.5) | (T > 5.6))


def test_an_episode_too_short_to_tell():
    few = T < FREEZE_S
    assert not froze(T[few], np.zeros((few.sum(), 2)), UPRIGHT[few])
    assert not froze(T[:1], np.zeros((1, 2)), UPRIGHT[:1])


def test_the_summary_counts_them():
    result = {"episodes": [{}, {}], "speed_mean": 0.1, "return_mean": 9.0, "falls": 0, "frozen": 2}
    assert summarise(result).endswith("0 falls, 2 frozen")
