"""The twin's physics: posture, latency, history, domain, terrain, and the same bits from the same seed."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pybullet
import pytest

from robotrl import config, kinematics
from robotrl.sim import history, model, terrain
from robotrl.sim.domain import Domain
from robotrl.sim.world import CLEARANCE, World

TWIN = config.Twin()
STAND = kinematics.to_motors(np.zeros(4), np.full(4, 2.0))


def servo(goal: np.ndarray):
    """PD of config.Servos: 8 Nm/rad, 0.3 Nm s/rad, as a current."""
    return lambda angle, velocity: (8.0 * (goal - angle) - 0.3 * velocity) / 0.0954


def idle(angle: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    return np.zeros(8)


@pytest.fixture
def make():
    worlds: list[World] = []

    def build(seed: int = 0, **changes: object) -> World:
        worlds.append(World(dataclasses.replace(TWIN, **changes), seed))
        return worlds[-1]

    yield build
    for world in worlds:
        world.close()


def trot(world: World, steps: int, lead: float = -0.3) -> list[np.ndarray]:
    """Open loop at 3.6 Hz; the roll, pitch and yaw on the way."""
    out = []
    for _ in range(steps):
        phase = 2 * np.pi * 3.6 * world.time + np.array([0, np.pi, np.pi, 0])
        goal = kinematics.to_motors(0.35 * np.sin(phase + lead), 1.81 + 0.3 * np.sin(phase))
        world.advance(0.02, servo(goal))
        out.append(world.rpy)
    return out


def test_stands(make) -> None:
    world = make()
    world.advance(1.0, servo(STAND))
    heights, tilts = [], []
    for _ in range(50):
        world.advance(0.02, servo(STAND))
        heights.append(world.position[2])
        tilts.append(world.rpy[:2])
    assert np.mean(heights) == pytest.approx(0.255, abs=0.005)
    assert np.std(tilts, axis=0).max() < 1e-3 and np.abs(tilts).max() < 0.02
    assert world.model.loop_gap() < 5e-4
    np.testing.assert_allclose(world.sensed(0.0).accel, [0, 0, 9.81], atol=0.3)
    assert np.abs(world.torque).max() < 2.45 and not world.overheated.any()


def test_trots_forwards_and_the_loops_stay_shut(make) -> None:
    world = make()
    tilts = trot(world, 150)
    assert 0.4 < world.position[0] / 3.0 < 0.9
    assert np.abs(np.array(tilts)[:, :2]).max() < 0.2
    assert world.model.loop_gap() < 1e-3


@pytest.mark.parametrize(("pose", "up"), [("stand", 1.0), ("lie", 1.0), ("back", -1.0), ("side", 0.0)])
def test_places_without_a_broken_loop_or_a_jump(make, pose: str, up: float) -> None:
    world = make(seed=4)
    world.place(pose)
    assert world.model.loop_gap() < 1e-4
    roll, pitch, _ = world.rpy
    assert math.cos(roll) * math.cos(pitch) == pytest.approx(up, abs=1e-6)
    before = world.position[2]
    world.advance(0.1, servo(world.angle))
    assert before - 0.05 < world.position[2] < before + 0.01  # let down, not thrown up
    with pytest.raises(ValueError, match="stand, lie, back, side"):
        world.place("upside")


def test_merged_links_move_as_the_original_ones(make, monkeypatch) -> None:
    merged = make()
    monkeypatch.setattr(
        model,
        "_load_merged",
        lambda client, path: model._load(
            client,
            str(path),
            pybullet.URDF_USE_INERTIA_FROM_FILE | pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_PARENT,
        ),
    )
    plain = make()
    count = [pybullet.getNumJoints(w.model.body, physicsClientId=w.model.client) for w in (merged, plain)]
    assert count == [16, 26]
    mass = [sum(m for m, _ in w._read_dynamics().values()) for w in (merged, plain)]
    assert mass == pytest.approx([7.473, 7.473])
    for world in (merged, plain):
        for body in (world.model.body,):
            pybullet.resetBasePositionAndOrientation(body, [0, 0, 5], world.model.frame[1], physicsClientId=world.model.client)
        world.advance(0.1, servo(STAND + np.linspace(-0.5, 0.5, 8)))  # in free fall: dynamics without contact
    np.testing.assert_allclose(merged.angle, plain.angle, atol=2e-3)
    np.testing.assert_allclose(merged.rpy, plain.rpy, atol=2e-3)


def test_servo_sees_the_past(make) -> None:
    world = make()
    seen, true = [], []

    def drive(angle: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        seen.append(np.concatenate([angle, velocity]))
        true.append(np.concatenate([world.angle, world.velocity]))
        return np.linspace(-20, 20, 8)

    world.advance(0.04, drive)
    for k in range(2, 20):  # 3 ms are one and a half steps of 2 ms
        np.testing.assert_allclose(seen[k], (true[k - 1] + true[k - 2]) / 2, atol=1e-12)


def test_history_interpolates_a_ramp_exactly() -> None:
    dt, ring = 0.002, history.History(0.002, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)))
    level = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    ring.fill(np.zeros(24), level, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    for k in range(1, 600):
        yaw = k * dt * 8.0  # wraps at pi on the way
        turn = (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
        twist = ((0.0, 0.0, k * dt * 3.0), (0.0, 0.0, 8.0))
        ring.push(((k * dt, 0.0, 0.0), turn), twist)[:] = np.arange(24) * k * dt
    for delay in (*np.arange(0.0, 0.05, 0.0003), 0.1234567, 0.5):  # the wrap lies 20 ms back
        sample, t = ring.sample(delay), 599 * dt - delay
        assert sample.time == pytest.approx(t, abs=1e-9)
        np.testing.assert_allclose(np.concatenate(sample[1:4]), np.arange(24) * t, atol=1e-9)
        assert abs(math.remainder(sample.rpy[2] - 8.0 * t, 2 * math.pi)) < 1e-9
        np.testing.assert_allclose(sample.position, [t, 0, 0], atol=1e-9)
        np.testing.assert_allclose(sample.rates, [0, 0, 8.0], atol=1e-9)
        np.testing.assert_allclose(sample.accel, [0, 0, 9.81 + 3.0], atol=1e-9)
    for delay in (-0.001, 0.6, math.nan):
        with pytest.raises(ValueError, match="history holds"):
            ring.sample(delay)


def test_imu_axes_on_a_robot_lying_on_its_side(make) -> None:
    world = make(seed=1)
    world.place("side")
    world.advance(0.5, servo(world.angle))
    sample = world.sensed(0.0)
    np.testing.assert_allclose(sample.accel, [0, math.copysign(9.81, sample.rpy[0]), 0], atol=1.0)


def test_time_carries_the_rest_of_a_period(make) -> None:
    world = make()
    for _ in range(100):
        world.advance(0.0033, idle)
    assert world.time == pytest.approx(0.33, abs=0.002)
    before = world.time
    world.place("stand")
    assert world.time == before  # time never goes back


def test_domain_is_in_range_and_reaches_the_physics(make) -> None:
    rng = np.random.default_rng(0)
    draws = [Domain.draw(rng) for _ in range(300)]
    ranges = {
        "base_mass": (0.8, 1.2), "leg_mass": (0.8, 1.2), "base_inertia": (0.5, 1.5), "leg_inertia": (0.5, 1.5),
        "strength": (0.8, 1.2), "joint_friction": (0, 0.05), "battery_v": (14, 16.8),
        "foot_friction": (0.5, 1.25), "extra_latency_s": (0, 0.02),
        "imu_noise_rad": (0, 0.05), "period_jitter": (0, 0.3),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        values = [getattr(d, name) for d in draws]
        assert low <= min(values) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(values) <= high
    world = make()
    nominal = world._read_dynamics()
    world.apply(Domain(base_mass=1.2, leg_mass=0.8, foot_friction=0.5, battery_v=14.0, strength=0.9))
    drawn = world._read_dynamics()
    assert drawn[-1][0] == pytest.approx(1.2 * nominal[-1][0])
    assert all(drawn[k][0] == pytest.approx(0.8 * nominal[k][0]) for k in nominal if k != -1)
    toe = pybullet.getDynamicsInfo(world.model.body, world.model.knees[0], physicsClientId=world.model.client)
    assert toe[1] == 0.5 and (world.motors.battery_v, world.motors.strength) == (14.0, 0.9)
    world.apply(Domain.nominal(world.twin))
    assert world._read_dynamics() == nominal
    world.randomise(np.random.default_rng(3))
    assert world.domain == Domain.draw(np.random.default_rng(3))


@pytest.mark.parametrize("degrees", [5, -10])
def test_slope(make, degrees: int) -> None:
    world = make(terrain=f"slope:{degrees:+d}")
    np.testing.assert_allclose(world.rpy, [0, -math.radians(degrees), 0], atol=1e-6)
    world.advance(0.5, servo(STAND))
    assert np.abs(world.rpy - [0, -math.radians(degrees), 0]).max() < 0.15


def test_a_floor_leans_about_the_robot_and_a_course_never(make) -> None:
    world = make()
    world.apply(Domain(lean=(0.05, -0.03)))
    assert world._clearance() == pytest.approx(0.0, abs=1e-4)
    world.advance(0.5, servo(STAND))
    np.testing.assert_allclose(world.rpy[:2], [-0.03, -0.05], atol=0.02)
    pybullet.resetBasePositionAndOrientation(world.model.body, [4, 3, 2.9], [0, 0, 0, 1], physicsClientId=world.model.client)
    world.advance(0.002, servo(STAND))
    x, y, _ = world.position

    def floor(x: float, y: float) -> float:
        return pybullet.rayTest([x, y, 2], [x, y, -9], physicsClientId=world.model.client)[0][3][2]

    before = floor(x, y)
    world.apply(Domain(lean=(-0.05, 0.04)))
    assert before == pytest.approx(0.05 * x - 0.03 * y, abs=0.02) and floor(x, y) == pytest.approx(before, abs=1e-6)
    world.terrain.sink(0.3)
    world.place("stand")
    assert world._clearance() == pytest.approx(0.002, abs=1e-3)
    # What leaning far away and sinking left does not add up.
    assert floor(3.0, 2.0) == pytest.approx(-0.05 * 3.0 + 0.04 * 2.0, abs=0.005)
    course = make(terrain="slope:5")
    course.apply(Domain(lean=(0.05, 0.05)))
    assert course.terrain.tilt == make(terrain="slope:5").terrain.tilt


def test_stairs_and_blocks(make) -> None:
    down = make(terrain="stairs-down:4")
    assert down.position[2] == pytest.approx(make().position[2] + 0.12, abs=1e-3)
    assert make(terrain="stairs-up:2").position[2] == pytest.approx(make().position[2], abs=1e-3)
    world = make(terrain="blocks")
    assert len(world.terrain.loose) == terrain.BLOCKS
    where = [pybullet.getBasePositionAndOrientation(b, physicsClientId=world.model.client)[0] for b in world.terrain.loose]
    world.randomise(np.random.default_rng(1))
    anew = [pybullet.getBasePositionAndOrientation(b, physicsClientId=world.model.client)[0] for b in world.terrain.loose]
    assert where != anew
    world.advance(0.2, servo(STAND))
    assert all(0.0 < pybullet.getBasePositionAndOrientation(b, physicsClientId=world.model.client)[0][2] < 0.2
               for b in world.terrain.loose)  # fmt: skip


def test_placing_cools_the_motors(make) -> None:
    world = make()
    world.motors.overheated[2] = True
    world.push((50.0, 0.0, 0.0), 1.0)
    world.place("stand")
    assert not world.overheated.any() and world._push[1] == 0 and not world.torque.any()


def test_push_moves_the_torso_for_its_time_only(make) -> None:
    world = make()
    world.advance(0.5, servo(STAND))
    still = world.position[1]
    world.push((0.0, 200.0, 0.0), 0.1)
    world.advance(0.1, servo(STAND))
    assert world.position[1] - still > 0.02
    assert world._push[1] == 0


@pytest.mark.parametrize("word", ["hill", "slope", "slope:x", "slope:80", "flat:1", ""])
def test_unknown_terrain(word: str) -> None:
    with pytest.raises(ValueError, match="use flat"):
        World(dataclasses.replace(TWIN, terrain=word), 0)
    with pytest.raises(ValueError, match="rainbow_dash"):
        World(dataclasses.replace(TWIN, urdf="quadruped/spirit40.urdf"), 0)


def test_picture_shows_the_robot(make) -> None:
    picture = make().render(96, 64)
    assert picture.shape == (64, 96, 3) and picture.dtype == np.uint8
    dark = (picture.max(-1) < 90).sum()
    assert dark > 30  # the black torso


def test_the_camera_follows_the_robot_down_a_slope(make) -> None:
    """2.5 m on and 0.44 m down, it is where in the picture it was at the start."""
    world = make(terrain="slope:-10")

    def row() -> float:
        return float(np.nonzero(world.render(96, 64).max(-1) < 90)[0].mean())

    start = row()
    (x, y, z), turn = pybullet.getBasePositionAndOrientation(world.model.body, physicsClientId=world._client)
    there = (x + 2.5, y, z - 2.5 * math.tan(math.radians(10)))
    pybullet.resetBasePositionAndOrientation(world.model.body, there, turn, physicsClientId=world._client)
    stand = world.angle
    world.advance(0.01, lambda angle, speed: 80 * (stand - angle) - 3 * speed)
    assert world.position[2] < 0 and row() == pytest.approx(start, abs=3)


PROGRAM = """
import dataclasses, hashlib, sys
import numpy as np
from robotrl import config
from robotrl.sim.world import World
world = World(config.Twin(), 7)
world.randomise(np.random.default_rng(7))
world.place("stand")
digest = hashlib.sha256()
for k in range(60):
    goal = np.array([1.9, 2.1] * 4) + 0.4 * np.sin(0.4 * k + np.arange(8))
    world.advance(0.02, lambda a, v: (8 * (goal - a) - 0.3 * v) / 0.0954)
    for part in world.sensed(0.0031)[1:]:
        digest.update(part.tobytes())
print("digest", digest.hexdigest())
"""


def test_same_seed_same_bits_in_a_new_process_and_beside_others(make, capsys) -> None:
    fresh = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    expected = [line for line in fresh.stdout.splitlines() if line.startswith("digest")]
    assert len(expected) == 1
    other = make(seed=1, terrain="blocks")
    trot(other, 10)
    exec(compile(PROGRAM, "program", "exec"), {})
    assert [x for x in capsys.readouterr().out.splitlines() if x.startswith("digest")] == expected
    trot(other, 5)
    exec(compile(PROGRAM.replace("Twin(), 7)", "Twin(pd_latency_s=0.004), 7)"), "program", "exec"), {})
    assert [x for x in capsys.readouterr().out.splitlines() if x.startswith("digest")] != expected


def test_a_robot_thrown_out_of_sight_of_the_ground_is_set_up_again(make):
    world = make()
    pybullet.resetBasePositionAndOrientation(world.model.body, [0, 0, 50.0], [0, 0, 0, 1], physicsClientId=world._client)
    world.randomise(np.random.default_rng(0))
    world.place("stand")
    assert world._clearance() == pytest.approx(CLEARANCE, abs=1e-3)
