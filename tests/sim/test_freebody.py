"""D'Kitty on the ground: its motors against their datasheet, what it weighs, and its tasks in lockstep over its wires' bytes."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

import pybullet

from robotrl.config import ConfigError, load
from robotrl.drivers.dynamixel import make_ping
from robotrl.sim import trials
from robotrl.sim.armrig import rig_of
from robotrl.sim.fleets import FLEETS
from robotrl.sim.freebody import FreeBody
from robotrl.sim.freetwin import FreeTwin
from robotrl.sim.gearmotor import LIMP
from robotrl.sim.trot import Trot, leg
from robotrl.sim.truths import truth_of
from robotrl.sim.twin import parse, twin_of

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
RUN = load(LAUNCH / "dkitty_walk.toml", ["twin.randomise=false"])
MOTOR = FLEETS["dkitty"].motor


@pytest.fixture
def body():
    made = FreeBody(FLEETS["dkitty"].body, RUN.twin, RUN.robot.home, 0)
    yield made
    made.close()


def led(body, pwm, seconds, friction=0.0):
    """All joints at one duty, or limp."""
    law = MOTOR.at_pwm(pwm, MOTOR.volts) if pwm is not None else LIMP
    n, dt = 12, body.twin.physics_dt
    for _ in range(round(seconds / dt)):
        body.step(np.full(n, law.drive), np.full(n, law.damping), np.full(n, friction), dt)


def test_a_free_joint_runs_at_the_datasheet_s_speed(body):
    """Without weight, in a hand's grip: half the duty is half the free speed, less what friction takes of it."""
    pybullet.setGravity(0, 0, 0, physicsClientId=body._client)
    knees = [2, 5, 8, 11]
    for friction in (0.0, 0.3):
        body.put([0.0] * 12)
        body.place("stand")
        law, drive, rub = MOTOR.at_pwm(0.5, MOTOR.volts), np.zeros(12), np.full(12, 50.0)
        drive[knees], rub[knees] = law.drive, friction
        for _ in range(15):
            body.step(drive, np.full(12, law.damping), rub, body.twin.physics_dt)
        want = MOTOR.free_rad_s * (0.5 - friction / MOTOR.stall_nm)
        assert body.velocity[knees] == pytest.approx([want] * 4, rel=0.02)


def test_it_weighs_what_its_parts_weigh_and_stands_on_its_feet(body):
    """Its legs braked: the floor carries 1.83 kg; limp, it goes down."""
    for _ in range(100):
        led(body, 0.0, body.twin.physics_dt, 1.0)
    points = pybullet.getContactPoints(body.body, body._floor, physicsClientId=body._client)
    assert sum(p[9] for p in points) == pytest.approx(1.834 * 9.81, rel=0.03)
    high = body.position[2]
    led(body, None, 0.6)
    assert body.position[2] < high - 0.08


def test_its_senses_frame_looks_ahead(body):
    """At rest: level, looking along x, +g upwards; the front legs, y in its own frame, are ahead."""
    led(body, 0.0, 0.1, 1.0)
    seen = body.torso(0.0)
    assert seen.rpy == pytest.approx((0.0, 0.0, 0.0), abs=0.02) and seen.accel[2] == pytest.approx(9.81, abs=0.5)
    front = pybullet.getLinkState(body.body, 0, physicsClientId=body._client)[4]
    assert front[0] == pytest.approx(body.position[0] + 0.122, abs=0.003) and front[1] == pytest.approx(-0.09, abs=0.003)


def test_a_push_is_a_push(body):
    body.push((20.0, 0.0, 0.0), 0.1)
    led(body, 0.0, 0.1, 1.0)
    assert body.position[0] > 0.003 and body._push[1] == 0, "it has ended"


@pytest.mark.parametrize("ahead, depth", [(0.0, 0.15), (0.04, 0.13), (-0.05, 0.16)])
def test_the_legs_inverse_kinematics(ahead, depth):
    """By the forward ones: a positive pitch swings the leg backwards, the knee bends the shank forwards."""
    pitch, knee = leg(ahead, depth)
    assert -0.0945 * math.sin(pitch) - 0.101 * math.sin(pitch + knee) == pytest.approx(ahead, abs=1e-12)
    assert 0.0945 * math.cos(pitch) + 0.101 * math.cos(pitch + knee) == pytest.approx(depth, abs=1e-12)


def test_a_trot_by_hand_goes_to_its_place_and_a_script_stands_up():
    """Through pilot, gate, chain, bytes, servos and physics; 0.3 m in 4 s, and legs straight in 2."""
    walk = load(LAUNCH / "dkitty_walk.toml", ["twin.randomise=false", "task.walk_to.episode_steps=120",
                "task.walk_to.near=[0.7, 0.3]", "task.walk_to.far=[0.7, 0.3]", "twin.physics_dt=0.005"])  # fmt: skip
    done = trials.scripted(walk, 1)["episodes"][0]
    assert done["success"] and done["distance_m"] < 0.45 and done["facing"] > 0.95
    stand = load(LAUNCH / "dkitty_stand.toml", ["task.stand.episode_steps=60", "twin.physics_dt=0.005"])
    assert trials.scripted(stand, 1)["episodes"][0]["error_rad"] < 0.05


class Over:
    """Throws itself over: one side stretched, the other folded."""

    def act(self, observation, noise=None):
        return np.array([1, -1, 1, 1, 1, -1] * 2, np.float32)


def test_who_fell_is_lifted_and_stands_again():
    """A fall ends the episode; a person holds it up while the reset moves its legs, and sets it down."""
    run = load(LAUNCH / "dkitty_walk.toml", ["twin.randomise=false", "twin.physics_dt=0.005", "task.legs.roll_range=0.5"])
    rig = rig_of(run, 0, deterministic=True)
    rig.pilot.take(Over(), 0, 0)
    ends, held = [], 0
    for _ in range(900):
        rig.cycle()
        ends += [e.ended for e in rig.take_finished()]
        held += rig.twin.world.held
        if ends and rig.permit.state == "RUN":
            break
    assert ends == ["fall"] and rig.permit.state == "RUN" and not rig.twin.world.held
    assert rig.twin.world.position[2] > 0.2 and np.abs(rig.twin.world.rpy[:2]).max() < 0.1
    rig.close()


def digest(seed):
    rig, said = rig_of(load(LAUNCH / "dkitty_walk.toml"), seed), hashlib.sha256()
    for _ in range(30):
        rig.cycle()
        said.update(repr((rig.joints, rig.applied, rig.imu, rig.pilot.task.path.newest())).encode())
    rig.close()
    return said.hexdigest()


def test_the_same_seed_gives_the_same_bits():
    assert digest(1) == digest(1) != digest(2)


def test_ground_that_it_has_not_is_refused():
    with pytest.raises(ConfigError, match="flat ground alone"):
        FreeTwin(load(LAUNCH / "dkitty_walk.toml", ["twin.terrain=blocks"]), 0)


def test_the_script_stands_still_where_it_is_to_go():
    rig = rig_of(load(LAUNCH / "dkitty_walk.toml", ["twin.randomise=false"]), 0, deterministic=True)
    assert truth_of(rig).look()["distance_m"] == pytest.approx(2.0, abs=0.05)
    poses = {tuple(Trot(rig).pose(t, 0.0, 1.0, 1.0)) for t in (0.0, 0.1, 0.37)}
    assert len(poses) == 1
    rig.close()


def test_its_twin_on_the_wall_clock_is_the_one_that_stands_on_the_ground():
    """By its robot file; `--robot dkitty` is still the one on its stand, and omx_table an arm."""
    kinds = []
    for words in (["--robot", "dkitty_floor"], ["--robot", "dkitty"], ["--robot", "omx_table"]):
        made, _, _ = twin_of(parse(["--run", str(LAUNCH / "dkitty_walk.toml"), *words]))
        kinds.append((type(made).__name__, sorted(made.wires)))
        made.close()
    assert kinds == [("FreeTwin", ["imu", "servos", "tracker"]), ("ServoTwin", ["servos"]), ("ServoTwin", ["servos"])]


@pytest.mark.parametrize("robot", ["dkitty_floor", "omx"])
def test_on_the_wall_clock_an_answer_waits_for_its_bytes_and_the_adapters_timer(robot):
    made, _, _ = twin_of(parse(["--run", str(LAUNCH / "dkitty_walk.toml"), "--robot", robot]))
    begun = made.clock.now()
    made.bus.receive(make_ping(made.bus.servos[0].id))
    assert made.bus.due() - begun >= (10 + 14) * 10_000 + 1_000_000, "both ways at 1 Mbit/s, and 1 ms"
    made.close()
