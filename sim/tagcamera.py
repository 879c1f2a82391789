"""The twin's camera beside the track: takes pictures of the robot as it was, late, noisy, and not all of them arrive."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.sim.lens import Lens
from robotrl.sim.sensor import exposed
from robotrl.sim.tagscene import Box, Image, Stand, TagScene
from robotrl.tagboard import Roof
from robotrl.viewpoint import SCHEMA, Viewpoint

Array = NDArray[np.float64]
MOMENTS = 8  # of an exposure
BANK = 1 << 20  # unit normals drawn once: a picture's noise is a piece of them, begun anywhere
BACKDROPS = 4  # what does not move has its noise from as many pictures
STEP_S = 1e-9


def lens_of(stand: config.Tripod) -> Lens:
    """The lens: square pixels; its middle a little off the picture's, as lenses are."""
    f = stand.focal_px
    return Lens(stand.width, stand.height, f, f, stand.width / 2 + 1.3, stand.height / 2 - 1.8, stand.distortion)


def view_of(stand: config.Tripod, camera: str) -> Viewpoint:
    """What a perfect calibration of this camera finds."""
    lens, place = lens_of(stand), Stand.looking(stand.position, stand.target)
    turn = cv2.Rodrigues(place.axes)[0].ravel()
    return Viewpoint(
        schema=SCHEMA, camera=camera, made="2026-01-01T00:00:00+00:00", width=lens.width, height=lens.height,
        focal=(lens.fx, lens.fy), centre=(lens.cx, lens.cy), distortion=(*lens.distortion,),  # type: ignore[arg-type]
        position=(*map(float, place.position),), turn=(*map(float, turn),),  # type: ignore[arg-type]
    )  # fmt: skip


@dataclass(frozen=True)
class Exposure:
    """When its middle was and its picture arrives (s of physics), where the torso was meanwhile, and the motors' angles (8,)."""

    taken: float
    arrives: float
    moments: list[tuple[Array, Array]]
    motors: Array


class Film:
    """Turns a drawing into a picture: what a lens blurs and a sensor adds. Everything random comes from `rng`."""

    def __init__(self, scene: TagScene, stand: config.Tripod, rng: np.random.Generator) -> None:
        self._scene, self._stand, self._rng = scene, stand, rng
        self._bank = rng.standard_normal(BANK, np.float32)
        whole = (0, 0, scene.lens.width, scene.lens.height)
        self._backdrops = [self._exposed(scene.background, whole) for _ in range(BACKDROPS)]

    def take(self, moments: list[tuple[Array, Array]], motors: Array | None) -> Image:
        """Grey (height, width)."""
        drawing, (x0, y0, x1, y1) = self._scene.picture(moments, motors)
        out = self._backdrops[int(self._rng.integers(BACKDROPS))].copy()
        if x1 > x0 and y1 > y0:
            out[y0:y1, x0:x1] = self._exposed(drawing, (x0, y0, x1, y1))
        return out

    def _exposed(self, drawing: Image, box: Box) -> Image:
        x0, y0, x1, y1 = box
        light = drawing[y0:y1, x0:x1]
        if light.size <= BANK:
            begin = int(self._rng.integers(BANK - light.size + 1))
            noise = self._bank[begin : begin + light.size]
        else:
            noise = np.resize(self._bank, light.size)
        return exposed(light, self._stand, noise)

    def develop(self, exposure: Exposure) -> Image:
        """The picture of an exposure."""
        return self.take(exposure.moments, exposure.motors)


def film_of(stand: config.Tripod, roof: Roof, rng: np.random.Generator) -> Film:
    """For this camera, with this roof before it."""
    return Film(TagScene(lens_of(stand), Stand.looking(stand.position, stand.target), roof, rng), stand, rng)


class TagCamera:
    """A camera at the twin's world: exposures fall due in `advance`, and come out when their pictures have arrived."""

    def __init__(self, world: Any, stand: config.Tripod, roof: Roof, rng: np.random.Generator, develops: bool = True) -> None:
        """`develops`: it makes its pictures itself; else somebody else does, of its `exposures` (`darkroom.py`)."""
        self._world, self._stand, self._rng = world, stand, rng
        self._film = film_of(stand, roof, rng) if develops else None
        self.covered = False  # something is before the lens
        self._next = world.time + stand.exposure_s
        self._taken: deque[Exposure] = deque(maxlen=64)

    def advance(self) -> None:
        """Open and shut the shutter as often as fell due since the last call."""
        now, half = self._world.time, self._stand.exposure_s / 2
        if now - self._next > 0.4:  # nobody called for long: no burst
            self._next = now - half
        while self._next + half <= now + STEP_S:
            lost, late = self._rng.random(), self._rng.random()
            if lost >= self._stand.drop:
                arrives = self._next + self._stand.delay_s + late * self._stand.jitter_s
                moments = [] if self.covered and self._film is not None else self._moments(now)
                self._taken.append(Exposure(self._next, arrives, moments, self._world.angle))
            self._next += 1.0 / self._stand.rate_hz

    def exposures(self) -> list[Exposure]:
        """All since the last call, oldest first."""
        out = list(self._taken)
        self._taken.clear()
        return out

    def shoot(self) -> tuple[int, Image] | None:
        """The next picture that has arrived: the middle of its exposure (ns of physics), grey. None: none has."""
        assert self._film is not None
        if not self._taken or self._taken[0].arrives > self._world.time + STEP_S:
            return None
        exposure = self._taken.popleft()
        return round(exposure.taken * 1e9), self._film.develop(exposure)

    def _moments(self, now: float) -> list[tuple[Array, Array]]:
        """Where the torso was while the shutter was open."""
        out = []
        for k in range(MOMENTS):
            at = self._next + ((k + 0.5) / MOMENTS - 0.5) * self._stand.exposure_s
            seen = self._world.torso(max(0.0, now - at))
            out.append((rotation_of(*seen.rpy), np.array(seen.position)))
        return out


def rotation_of(roll: float, pitch: float, yaw: float) -> Array:
    """World from torso: yaw, then pitch, then roll."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(a), math.sin(a)) for a in (roll, pitch, yaw))
    return np.array((
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    ))  # fmt: skip
