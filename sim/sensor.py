"""What a camera's lens and sensor make of the light: blur, and noise that grows with light."""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Light = NDArray[np.float32]


class Film(Protocol):
    """Of a camera."""

    @property
    def blur_px(self) -> float: ...  # sd of a point's image
    @property
    def noise(self) -> float: ...  # grey levels, sd, where it is dark
    @property
    def shot(self) -> float: ...  # grey levels of variance for each of light


def exposed(light: NDArray[Any], film: Film, normals: Light) -> Image:
    """The picture of light, 0 to 255; `normals`: of unit sd, as many."""
    light = light.astype(np.float32)
    if film.blur_px > 0:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), film.blur_px), np.float32).reshape(light.shape)
    level = np.sqrt(film.noise**2 + film.shot * np.maximum(light, 0.0))
    return np.clip(np.rint(light + level * normals.reshape(light.shape)), 0, 255).astype(np.uint8)
