"""The encoder and its random shift, beside loops, torch's own modules and numbers that were worked out apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robotrl.agents import encoder, nets

IMAGE = (64, 64, 3)


def _parameters(image: tuple[int, int, int] = IMAGE, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    parameters = nets.initial(encoder.shapes(image), 1.0, rng)
    return {k: v if ".norm_" not in k else rng.normal(size=v.shape).astype(np.float32) for k, v in parameters.items()}


def _images(n: int, image: tuple[int, int, int] = IMAGE, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *image), dtype=np.uint8)


def _torch_module(parameters: dict[str, np.ndarray], channels: int) -> torch.nn.Sequential:
    """The same network of torch's own layers, filled by their order."""
    layers: list[torch.nn.Module] = []
    for filters, kernel, stride in encoder.LAYERS:
        layers += [torch.nn.Conv2d(channels, filters, kernel, stride), torch.nn.ReLU()]
        channels = filters
    flat = parameters[f"encoder.{len(encoder.LAYERS)}.weight"].shape[1]
    layers += [torch.nn.Flatten(), torch.nn.Linear(flat, encoder.FEATURES), torch.nn.LayerNorm(encoder.FEATURES), torch.nn.Tanh()]
    module = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for mine, value in zip(module.parameters(), parameters.values(), strict=True):
            mine.copy_(torch.from_numpy(value).view(mine.shape))
    return module


@pytest.mark.parametrize("image", [(64, 64, 1), (64, 64, 6), (48, 84, 3)])
def test_encodes_as_torchs_layers_do(image: tuple[int, int, int]) -> None:
    parameters, images = _parameters(image), _images(4, image)
    found = encoder.encode({k: torch.from_numpy(v) for k, v in parameters.items()}, torch.from_numpy(images))
    scaled = torch.from_numpy(np.moveaxis(images, 3, 1) / 255.0 - 0.5).float()
    torch.testing.assert_close(found, _torch_module(parameters, image[2])(scaled), rtol=1e-4, atol=1e-5)


def test_one_image_without_torch_gives_the_same() -> None:
    parameters, images = _parameters(), _images(3)
    together = encoder.encode({k: torch.from_numpy(v) for k, v in parameters.items()}, torch.from_numpy(images)).numpy()
    alone = np.array([encoder.seen(parameters, image) for image in images])
    assert alone.dtype == np.float32
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_every_parameter_gets_a_gradient() -> None:
    parameters = {k: torch.from_numpy(v).requires_grad_() for k, v in _parameters().items()}
    encoder.encode(parameters, torch.from_numpy(_images(8))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters.values())


def _shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Pixel by pixel: what lies `down` below and `right` of each, the border repeated."""
    out = np.empty_like(image)
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            out[y, x] = image[min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)]
    return out


def test_a_shift_is_one_of_the_shifts_there_are_and_all_come() -> None:
    pad, n = 2, 200
    image = _images(1, (7, 5, 3))
    found = encoder.random_shift(np.repeat(image, n, axis=0), pad, np.random.default_rng(3))
    moves = {(d, r): _shifted(image[0], d, r).tobytes() for d in range(-pad, pad + 1) for r in range(-pad, pad + 1)}
    known = {data: move for move, data in moves.items()}
    assert len(known) == 25
    assert {known[one.tobytes()] for one in found} == set(moves)  # KeyError: it is no shift at all


def test_each_image_is_shifted_and_stays_itself() -> None:
    images = _images(16, (9, 8, 2))
    found = encoder.random_shift(images, 1, np.random.default_rng(5))
    again = encoder.random_shift(images, 1, np.random.default_rng(5))
    np.testing.assert_array_equal(found, again)
    for before, after in zip(images, found, strict=True):
        assert any((after == _shifted(before, d, r)).all() for d in (-1, 0, 1) for r in (-1, 0, 1))


def test_no_pad_is_a_copy() -> None:
    images = _images(3)
    found = encoder.random_shift(images, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(found, images)
    assert not np.shares_memory(found, images)


def test_what_is_no_image_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="uint8"):
        encoder.random_shift(np.zeros((2, 8, 8, 3), np.float32), 1, rng)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pad >= 0"):
        encoder.random_shift(_images(1), -1, rng)
    with pytest.raises(ValueError, match="too small for layer 1"):
        encoder.shapes((8, 8, 3))
