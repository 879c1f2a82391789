"""A thing that slides on the table, and stands there to be looked at by a tracker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pybullet

from robotrl import config
from robotrl.sim.domain import Domain
from robotrl.sim.history import GRAVITY, Torso

RADIUS_M, HEIGHT_M, KG, MU = 0.025, 0.05, 0.08, 0.4  # a tin; chosen
SPIN_MU = 0.002  # it does not turn for ever


class Puck:
    """The `world` of a tracker: places in the arm's base frame, `height` m over the floor."""

    def __init__(self, client: int, height: float, twin: config.Twin) -> None:
        self._client, self._height, self.domain, self.time = client, height, Domain.nominal(twin), 0.0
        shape = pybullet.createCollisionShape(pybullet.GEOM_CYLINDER, radius=RADIUS_M, height=HEIGHT_M, physicsClientId=client)
        look = pybullet.createVisualShape(
            pybullet.GEOM_CYLINDER, radius=RADIUS_M, length=HEIGHT_M, rgbaColor=[0.2, 0.4, 0.8, 1.0], physicsClientId=client
        )
        self.body = pybullet.createMultiBody(KG, shape, look, physicsClientId=client)
        pybullet.changeDynamics(self.body, -1, lateralFriction=MU, spinningFriction=SPIN_MU, physicsClientId=client)

    def put(self, place: Sequence[float]) -> None:
        """Stand it at (x, y) m of the base frame, at rest."""
        at = [float(place[0]), float(place[1]), HEIGHT_M / 2]
        pybullet.resetBasePositionAndOrientation(self.body, at, [0, 0, 0, 1], physicsClientId=self._client)
        pybullet.resetBaseVelocity(self.body, [0, 0, 0], [0, 0, 0], physicsClientId=self._client)

    def lay(self, position: Sequence[float], turn: Sequence[float]) -> None:
        """At a place (3,) m and turn, a quaternion, of the world's."""
        pybullet.resetBasePositionAndOrientation(self.body, position, turn, physicsClientId=self._client)

    def lies(self) -> tuple[float, ...]:
        """Where `lay` would have to put it, seven numbers."""
        position, turn = pybullet.getBasePositionAndOrientation(self.body, physicsClientId=self._client)
        return (*position, *turn)

    def at(self) -> np.ndarray:
        """Where its middle is, (3,) m, base frame."""
        position, _ = pybullet.getBasePositionAndOrientation(self.body, physicsClientId=self._client)
        return np.array(position) - (0.0, 0.0, self._height)

    def torso(self, delay_s: float) -> Torso:
        """As it stands now: a picture that fell due within this step shows the same."""
        position, turn = pybullet.getBasePositionAndOrientation(self.body, physicsClientId=self._client)
        rpy = tuple(pybullet.getEulerFromQuaternion(turn))
        place = (position[0], position[1], position[2] - self._height)
        return Torso(rpy, (0.0, 0.0, 0.0), (0.0, 0.0, GRAVITY), place)
