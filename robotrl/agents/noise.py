"""Exploration noise with a memory: white noise at 50 Hz shakes a leg, pink noise moves it.

Gaussian sequences with power 1/f^beta, made in the frequency domain (Timmer and Koenig 1995). Each value is N(0, 1) alone, so
the policy's distribution at a step stays what it is; only neighbours in time resemble each other. beta = 1 is the choice of
Eberhard et al. 2023, "Pink Noise Is All You Need".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class ColoredNoise:
    """Rows (size,) float32 of `size` independent sequences that begin anew at `reset`; no mean over `length` steps."""

    def __init__(self, rng: np.random.Generator, size: int, beta: float, length: int) -> None:
        """beta 0: white, 1: pink, 2: Brownian. ValueError below 0 or for fewer than 2 steps."""
        if not beta >= 0.0 or length < 2:
            raise ValueError(f"noise: beta must be 0 or more and length 2 or more, not {beta} and {length}")
        self._rng, self._size, self._length = rng, size, length + length % 2
        frequency = np.arange(1, self._length // 2 + 1) / self._length
        self._amplitude = np.concatenate(([0.0], frequency ** (-beta / 2)))  # nothing at 0: no pose for a whole episode
        self._amplitude /= np.sqrt(4 * np.square(self._amplitude[:-1]).sum() + np.square(self._amplitude[-1])) / self._length
        self.reset()

    def reset(self) -> None:
        """The next row begins a new sequence: an episode does not remember the one before."""
        self._rows = np.zeros((0, self._size), np.float32)
        self._next = 0

    def draw(self) -> NDArray[np.float32]:
        """The next row; after `length` of them a new sequence begins."""
        if self._next == len(self._rows):
            self._rows, self._next = self._sequence(), 0
        self._next += 1
        row: NDArray[np.float32] = self._rows[self._next - 1]
        return row

    def _sequence(self) -> NDArray[np.float32]:
        shape = (self._size, len(self._amplitude))
        spectrum = self._amplitude * (self._rng.standard_normal(shape) + 1j * self._rng.standard_normal(shape))
        return np.ascontiguousarray(np.fft.irfft(spectrum, self._length, axis=1).T, np.float32)


def uniform(normal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard normal values to values uniform in [-1, 1], by the normal distribution function; neighbours stay alike."""
    return np.array([math.erf(x * math.sqrt(0.5)) for x in normal.tolist()], np.float32)
