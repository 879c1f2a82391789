"""The press fit by forces alone, no arm: what it needs to go on, what it holds, where it does not fit."""

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

import pybullet

from robotrl.sim.bricks import BRICK_KG, STUD_M, Bricks, Fit

DT, G = 0.002, 9.81
WEIGHT = BRICK_KG * G
SEAT = np.array((0.2, 0.05, 0.1))


class World:
    """One brick over the other."""

    def __init__(self, fit=None, aside=(0.0, 0.0), yaw=0.3):
        self.client = pybullet.connect(pybullet.DIRECT)
        pybullet.setGravity(0, 0, -G, physicsClientId=self.client)
        pybullet.setPhysicsEngineParameter(fixedTimeStep=DT, physicsClientId=self.client)
        self.bricks = Bricks(self.client, fit or Fit())
        turn = pybullet.getQuaternionFromEuler((0, 0, yaw), physicsClientId=self.client)
        self.bricks.lay(SEAT, 0.3, SEAT + (*aside, STUD_M + 0.0005), turn)

    def pulled(self, force, seconds=0.2):
        """A force (3,) N on the free brick for so long; do the studs hold it at the end?"""
        for _ in range(round(seconds / DT)):
            at, _ = pybullet.getBasePositionAndOrientation(self.bricks.free, physicsClientId=self.client)
            pybullet.applyExternalForce(self.bricks.free, -1, list(force), at, pybullet.WORLD_FRAME, physicsClientId=self.client)
            pybullet.stepSimulation(self.client)
            self.bricks.stepped(DT)
        return self.bricks.seated


@pytest.fixture
def world():
    made = []

    def make(*args, **words):
        made.append(World(*args, **words))
        return made[-1]

    yield make
    for one in made:
        pybullet.disconnect(one.client)


@pytest.mark.parametrize("seed", range(6))
def test_it_needs_the_press_and_holds_the_pull_that_it_says(world, seed):
    """Forces drawn at random: 3 % less than what the fit says is too little, 3 % more is enough; up, and sideways."""
    rng = np.random.default_rng(seed)
    fit, yaw = Fit(*rng.uniform(2.0, 20.0, 2)), 0.3 + rng.uniform(-0.05, 0.05)
    aside = rng.uniform(-0.0013, 0.0013, 2)
    one = world(fit, aside, yaw)
    assert not one.pulled((0, 0, WEIGHT - 0.97 * fit.press_n))
    assert one.bricks.off()[1] == pytest.approx(STUD_M, abs=2e-4), "it rests on the studs"
    assert one.pulled((0, 0, WEIGHT - 1.03 * fit.press_n))
    assert one.bricks.off()[:2] == pytest.approx((0.0, 0.0), abs=2e-4)
    assert one.pulled((0, 0, WEIGHT + 0.97 * fit.hold_n))
    assert one.pulled((0.0, 0.9 * fit.hold_n, WEIGHT))
    assert not one.pulled((0, 0, WEIGHT + 1.03 * fit.hold_n))
    assert one.bricks.off()[1] > STUD_M


@pytest.mark.parametrize(
    "aside, yaw, fits",
    [((0.0018, 0.0), 0.3, True), ((0.0, 0.0022), 0.3, False), ((0.0015, 0.0015), 0.3, False), ((0.0, 0.0), 0.39, True),
     ((0.0, 0.0), 0.42, False), ((0.0, 0.0), 0.3 + np.pi / 2, True), ((0.0, 0.0), 0.3 + np.pi / 4, False)],
)  # fmt: skip
def test_it_fits_within_two_millimetres_and_a_tenth_of_a_radian(world, aside, yaw, fits):
    assert world(aside=aside, yaw=yaw).pulled((0, 0, -12.0)) == fits


def test_a_blow_shorter_than_the_studs_take_does_not_seat_it(world):
    one = world()
    assert not one.pulled((0, 0, -20.0), 0.004) and not one.pulled((0, 0, 0.0), 0.1)
    one.pulled((0, 0, -20.0))
    assert one.bricks.seated
    one.bricks.part()
    assert not one.bricks.seated
