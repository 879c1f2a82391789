"""The twin's lens: a pinhole with the distortion of Brown (1966) and Conrady (1919), worked out here from the formulas.

With x, y on the plane at distance 1 and r2 = x^2 + y^2, the image is at

    x (1 + k1 r2 + k2 r2^2 + k3 r2^3) + 2 p1 x y + p2 (r2 + 2 x^2)      times fx, plus cx; y likewise.

A pixel's middle has whole-numbered coordinates. Nothing here is shared with who estimates poses from the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEPS, CLOSE = 100, 1e-10  # at most, and how well the image is met: a ten-millionth of a pixel


@dataclass(frozen=True)
class Lens:
    """Sizes in pixels; `distortion`: k1, k2, p1, p2, k3."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def distorted(self, ideal: Array) -> Array:
        """Where points (..., 2) of the plane at distance 1 come to lie on it by the lens."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = ideal[..., 0], ideal[..., 1]
        r2 = x * x + y * y
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        across = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        return np.stack((across, y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y), -1)

    def pixels(self, points: Array) -> Array:
        """Image (..., 2) of points (..., 3) in the camera's frame: x right, y down, z ahead, m; z > 0."""
        return self.distorted(points[..., :2] / points[..., 2:]) * (self.fx, self.fy) + (self.cx, self.cy)

    def rays(self, pixels: Array) -> Array:
        """The points (..., 2) of the plane at distance 1 whose image is at `pixels` (..., 2).

        By steps along the slope at the first guess (a chord method): each leaves a tenth of the error, or less.
        """
        seen = (np.asarray(pixels, float) - (self.cx, self.cy)) / (self.fx, self.fy)
        at, h = seen.copy(), 1e-6
        across = (self.distorted(at + (h, 0.0)) - self.distorted(at - (h, 0.0))) / (2 * h)
        along = (self.distorted(at + (0.0, h)) - self.distorted(at - (0.0, h))) / (2 * h)
        det = across[..., 0] * along[..., 1] - along[..., 0] * across[..., 1]
        for _ in range(STEPS):
            error = self.distorted(at) - seen
            if float(np.abs(error).max(initial=0.0)) < CLOSE:
                break
            dx = (error[..., 0] * along[..., 1] - along[..., 0] * error[..., 1]) / det
            dy = (across[..., 0] * error[..., 1] - error[..., 0] * across[..., 1]) / det
            at -= np.stack((dx, dy), -1)
        return at

    def all_rays(self) -> NDArray[np.float32]:
        """`rays` of every pixel's middle, (height, width, 2)."""
        columns, rows = np.meshgrid(np.arange(self.width, dtype=float), np.arange(self.height, dtype=float))
        return self.rays(np.stack((columns, rows), -1)).astype(np.float32)
