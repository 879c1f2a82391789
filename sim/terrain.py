"""Ground to stand on: flat, slopes, loose blocks, stairs (learning facts 4.2, 4.3).

A terrain is named by a word: `flat`, `slope:+5` (degrees, uphill is +x), `blocks`, `stairs-down`, `stairs-up`,
the last two with the height of a step in cm if wanted (`stairs-down:2`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pybullet
import pybullet_data

from robotrl.sim.history import Quaternion, matrix, product

BLOCKS = 24
BLOCK_AREA = ((0.6, 5.0), (-0.8, 0.8))  # m, ahead of the robot
BLOCK_HEIGHT = (0.025, 0.05)  # m
BLOCK_MASS = (0.1, 0.5)  # kg
STAIRS = 3
STEP_HEIGHTS_CM = (2.0, 4.0)  # one is drawn when the word names none
STAIRS_START = 0.6  # m, the first edge
TREAD = 0.35  # m, chosen: longer than a Minitaur's stride, shorter than its body


@dataclass
class Terrain:
    """What was built: `height` (m) and `tilt` of the ground under the origin, and the bodies it is made of."""

    client: int
    level: bool = True  # nothing but a floor, which a domain may lean
    height: float = 0.0
    tilt: Quaternion = (0.0, 0.0, 0.0, 1.0)
    ground: list[int] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)

    def lay(self, rng: np.random.Generator) -> None:
        """Lay the loose blocks out anew, at rest."""
        for body in self.loose:
            (x0, x1), (y0, y1) = BLOCK_AREA
            at = [float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1)), BLOCK_HEIGHT[1] / 2]
            yaw = float(rng.uniform(-math.pi, math.pi))
            turn = [0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]
            pybullet.resetBasePositionAndOrientation(body, at, turn, physicsClientId=self.client)
            pybullet.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0], physicsClientId=self.client)

    def lean(self, rise: tuple[float, float], under: tuple[float, float]) -> None:
        """Turn the floor about its point at `under` (x, y; m) until it rises by `rise` (rad) along x and along y."""
        (x, y), normal = under, [row[2] for row in matrix(self.tilt)]
        z = self.height - (normal[0] * x + normal[1] * y) / normal[2]
        along_x, along_y = -rise[0] / 2, rise[1] / 2  # nose up is a negative pitch
        self.tilt = product((0.0, math.sin(along_x), 0.0, math.cos(along_x)), (math.sin(along_y), 0.0, 0.0, math.cos(along_y)))
        normal = [row[2] for row in matrix(self.tilt)]
        self.height = z + (normal[0] * x + normal[1] * y) / normal[2]
        self._set_floor()

    def home(self) -> None:
        """The floor's height at the origin is 0 again: leaning about far places, and sinking, add up."""
        self.height = 0.0
        self._set_floor()

    def sink(self, depth: float) -> None:
        """Lower the floor by `depth` m."""
        self.height -= depth
        self._set_floor()

    def _set_floor(self) -> None:
        at = [0.0, 0.0, self.height]
        pybullet.resetBasePositionAndOrientation(self.ground[0], at, self.tilt, physicsClientId=self.client)


def build(client: int, word: str, rng: np.random.Generator) -> Terrain:
    """Build the terrain named by `word` into `client`. Raises ValueError for a word it does not know."""
    kind, _, value = word.partition(":")
    try:
        number = float(value) if value else math.nan
    except ValueError:
        number = math.inf
    wants = {"flat": False, "blocks": False, "slope": True, "stairs-down": True, "stairs-up": True}
    missing = kind == "slope" and not value
    if kind not in wants or missing or math.isinf(number) or (value and not wants[kind]) or abs(number) > 45:
        raise ValueError(f"terrain {word!r}: use flat, slope:+5, blocks, stairs-down or stairs-up[:cm]")
    terrain = Terrain(client, level=kind == "flat")
    if kind == "slope":
        half = -math.radians(number) / 2  # nose up is a negative pitch
        terrain.tilt = (0.0, math.sin(half), 0.0, math.cos(half))
    terrain.ground.append(_plane(client, terrain.tilt))
    if kind == "blocks":
        _blocks(terrain, rng)
    elif kind.startswith("stairs"):
        centimetres = number if value else float(rng.choice(STEP_HEIGHTS_CM))
        _stairs(terrain, centimetres / 100, kind == "stairs-up")
    return terrain


def _plane(client: int, tilt: Quaternion) -> int:
    """A half-space that looks like pybullet_data's chequered plane: cheaper to touch than its big box."""
    shape = pybullet.createCollisionShape(pybullet.GEOM_PLANE, planeNormal=[0, 0, 1], physicsClientId=client)
    mesh = f"{pybullet_data.getDataPath()}/plane100.obj"
    look = pybullet.createVisualShape(pybullet.GEOM_MESH, fileName=mesh, physicsClientId=client)
    body = int(pybullet.createMultiBody(0, shape, look, [0, 0, 0], tilt, physicsClientId=client))
    pybullet.changeDynamics(body, -1, lateralFriction=1.0, physicsClientId=client)
    return body


def _box(client: int, half: tuple[float, float, float], at: tuple[float, float, float], mass: float) -> int:
    shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=client)
    colour = [0.55, 0.42, 0.3, 1.0] if mass else [0.5, 0.55, 0.6, 1.0]
    look = pybullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=half, rgbaColor=colour, physicsClientId=client)
    body = int(pybullet.createMultiBody(mass, shape, look, at, physicsClientId=client))
    pybullet.changeDynamics(body, -1, lateralFriction=1.0, physicsClientId=client)
    return body


def _blocks(terrain: Terrain, rng: np.random.Generator) -> None:
    """Loose planks, half as long as the fixed ones of learning facts 4.2, so that they can be pushed over."""
    for _ in range(BLOCKS):
        half = (
            float(rng.uniform(0.03, 0.1)),
            float(rng.uniform(0.09, 0.18)),
            float(rng.uniform(*BLOCK_HEIGHT)) / 2,
        )
        body = _box(terrain.client, half, (0.0, 0.0, 0.0), float(rng.uniform(*BLOCK_MASS)))
        terrain.loose.append(body)
    terrain.lay(rng)


def _stairs(terrain: Terrain, step: float, up: bool) -> None:
    """Three static steps from STAIRS_START on; downwards the robot starts on top."""
    far = 12.0
    for k in range(STAIRS):
        top = (k + 1) * step
        if up:
            near, end = STAIRS_START + k * TREAD, far
        else:
            near, end = -far, STAIRS_START + (STAIRS - 1 - k) * TREAD
        half = ((end - near) / 2, far, top / 2)
        terrain.ground.append(_box(terrain.client, half, ((near + end) / 2, 0.0, top / 2), 0.0))
    terrain.height = 0.0 if up else STAIRS * step
