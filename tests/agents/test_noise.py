"""Coloured noise against closed forms: unit variance at every step, a power spectrum of slope -beta."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.agents.noise import ColoredNoise


def sequences(beta: float, length: int = 256, count: int = 400) -> np.ndarray:
    """(count, length), one column of as many resets."""
    noise = ColoredNoise(np.random.default_rng(0), 1, beta, length)
    out = []
    for _ in range(count):
        noise.reset()
        out.append([noise.draw()[0] for _ in range(length)])
    return np.array(out)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_every_step_is_standard_normal(beta: float) -> None:
    x = sequences(beta)
    assert np.abs(x.mean(0)).max() < 0.25 and x.var(0).mean() == pytest.approx(1.0, abs=0.05)
    # no step of the sequence is special: the largest and smallest of 256 variances of 400 draws (chi square, 6 sigma)
    assert x.var(0).min() > 0.55 and x.var(0).max() < 1.5
    assert (np.abs(x) > 1.96).mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_power_falls_with_frequency_to_the_beta(beta: float) -> None:
    power = np.square(np.abs(np.fft.rfft(sequences(beta), axis=1))).mean(0)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.05)


def test_columns_are_independent_and_the_seed_decides() -> None:
    def rows(seed: int) -> np.ndarray:
        noise = ColoredNoise(np.random.default_rng(seed), 8, 1.0, 500)
        return np.array([noise.draw() for _ in range(700)])  # goes on after its length

    x = rows(3)
    assert x.shape == (700, 8) and x.dtype == np.float32 and np.isfinite(x).all()
    assert np.abs(np.corrcoef(x.T) - np.eye(8)).max() < 0.6
    assert np.array_equal(x, rows(3)) and not np.array_equal(x, rows(4))


@pytest.mark.parametrize(("beta", "length"), [(-0.1, 500), (float("nan"), 500), (1.0, 1)])
def test_nonsense_is_refused(beta: float, length: int) -> None:
    with pytest.raises(ValueError, match="noise: beta must be"):
        ColoredNoise(np.random.default_rng(0), 8, beta, length)
