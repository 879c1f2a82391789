"""Speed of physics alone: control steps/s of a bare PyBullet loop, and of `World.advance`, in the same world.

The bare loop has the twin's URDF, constraints, engine settings and motor model, and nothing else: no codec, no
history, no sensor, no latency. What a lockstep rehearsal makes of it is measured against this.
Run: python bench/twin_bare.py [--steps N]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pybullet

from robotrl import config, kinematics
from robotrl.sim import model
from robotrl.sim.motor import TORQUE_CONSTANT
from robotrl.sim.world import World

PERIOD_S = 0.02
KP, KD = 8.0, 0.3  # Nm/rad, Nm s/rad: the servos' gains of config.Servos
ROUNDS = 5  # interleaved, the median counts: other processes come and go


def target(seconds: float) -> np.ndarray:
    """Motor targets (8,) of an open-loop trot at 3.6 Hz."""
    phase = 2 * np.pi * 3.6 * seconds + np.array([0.0, np.pi, np.pi, 0.0])
    return kinematics.to_motors(0.35 * np.sin(phase - 0.3), 1.81 + 0.3 * np.sin(phase))


def bare(world: World, steps: int) -> float:
    """Control steps/s of a loop that only calls PyBullet and the motor model."""
    robot, client, dt = world.model.body, world.model.client, world.twin.physics_dt
    motors, sign = world.model.motors, model.DIRECTION
    count, began = round(PERIOD_S / dt), time.perf_counter()
    for k in range(steps):
        goal = target(k * PERIOD_S)
        for _ in range(count):
            states = pybullet.getJointStates(robot, motors, physicsClientId=client)
            angle = np.array([s[0] for s in states]) * sign
            velocity = np.array([s[1] for s in states]) * sign
            current = (KP * (goal - angle) - KD * velocity) / TORQUE_CONSTANT
            torque = world.motors.step(current, velocity, dt) * sign
            pybullet.setJointMotorControlArray(
                robot, motors, pybullet.TORQUE_CONTROL, forces=torque.tolist(), physicsClientId=client
            )
            pybullet.stepSimulation(physicsClientId=client)
    return steps / (time.perf_counter() - began)


def advance(world: World, steps: int) -> float:
    """Control steps/s of the twin's own world under the same servo law, with history and servo latency."""
    began = time.perf_counter()
    for k in range(steps):
        goal = target(k * PERIOD_S)

        def drive(angle: np.ndarray, velocity: np.ndarray, goal: np.ndarray = goal) -> np.ndarray:
            return (KP * (goal - angle) - KD * velocity) / TORQUE_CONSTANT

        world.advance(PERIOD_S, drive)
    return steps / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="control steps a round (20 ms each)")
    steps = parser.parse_args().steps
    rates: dict[str, list[float]] = {"bare": [], "advance": []}
    for _ in range(ROUNDS):
        for name, loop in (("bare", bare), ("advance", advance)):
            world = World(config.Twin(), seed=0)
            rates[name].append(loop(world, steps))
            world.close()
    middle = {name: round(float(np.median(r)), 1) for name, r in rates.items()}
    print(json.dumps({"unit": "control steps/s", "period_s": PERIOD_S, **middle}))


if __name__ == "__main__":
    main()
