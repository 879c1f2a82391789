"""Buffered noise is the generator's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robotrl.sim.noise import BLOCK, Normals


@given(st.integers(0, 2**32), st.lists(st.integers(0, 2 * BLOCK + 1), max_size=12))
def test_the_same_numbers_as_drawn_singly(seed, counts):
    normals, single = Normals(np.random.default_rng(seed)), np.random.default_rng(seed)
    for count in counts:
        np.testing.assert_array_equal(normals.take(count), single.standard_normal(count))
