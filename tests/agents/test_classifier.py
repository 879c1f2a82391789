"""A success classifier on pictures whose answer is known: where a white square is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robotrl.agents.classifier import Classifier, Teacher, shapes
from robotrl.agents.weights import WeightsError

IMAGE = (32, 32, 3)


def pictures(n: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a square, at the left in a `share` of them and at the right in the others."""
    rng = np.random.default_rng(seed)
    images, left = rng.integers(0, 200, (n, *IMAGE), dtype=np.uint8), np.arange(n) < share * n
    for image, at_left in zip(images, left, strict=True):
        column = 6 if at_left else 20
        image[12:18, column : column + 6] = 255
    return images, left


@pytest.fixture(scope="module")
def taught() -> Teacher:
    torch.set_num_threads(1)
    teacher = Teacher(IMAGE, [1])
    teacher.teach(*pictures(200, 0.1), updates=60)
    return teacher


def test_it_learns_where_the_square_is_and_says_so_of_pictures_that_it_has_not_seen(taught):
    images, left = pictures(100, 0.5, seed=1)
    assert ((taught.probabilities(images) > 0.5) == left).all()


def test_without_torch_it_says_the_same(taught):
    images, _ = pictures(10, 0.5, seed=2)
    classifier = Classifier(taught.weights(), IMAGE)
    alone = [classifier.probability(image) for image in images]
    assert np.abs(alone - taught.probabilities(images)).max() < 1e-5 and min(alone) < 0.1 < 0.7 < max(alone)


def test_what_tells_nothing_is_as_likely_as_it_was_taught_to_be():
    """Half of each batch are successes, whatever their share: without the correction a grey picture would be one by half."""
    grey = np.full((200, *IMAGE), 99, np.uint8)
    teacher = Teacher(IMAGE, [2])
    teacher.teach(grey, np.arange(200) < 20, updates=40)
    assert teacher.probabilities(grey[:1])[0] == pytest.approx(20 / 200, rel=0.2)


def test_the_same_seed_and_pictures_give_the_same_weights_and_it_goes_on_from_them(taught):
    again = Teacher(IMAGE, [1])
    again.teach(*pictures(200, 0.1), updates=60)
    assert all((value == taught.weights()[name]).all() for name, value in again.weights().items())
    on = Teacher(IMAGE, [1], taught.weights())
    images, _ = pictures(4, 0.5, seed=3)
    assert (on.probabilities(images) == taught.probabilities(images)).all()


def test_weights_that_are_none_are_refused(taught):
    good = taught.weights()
    for broken in ({}, good | {"more": good["head.bias"]}, good | {"offset": np.full(1, np.nan, np.float32)}):
        with pytest.raises(WeightsError, match="train it anew"):
            Classifier(broken, IMAGE)
    with pytest.raises(WeightsError, match="64, 64"):
        Classifier(good, (64, 64, 3))
    with pytest.raises(ValueError, match=r"uint8 \(32, 32, 3\)"):
        Classifier(good, IMAGE).probability(np.zeros((32, 32, 6), np.uint8))
    assert shapes(IMAGE)["head.weight"] == (1, 50)
