"""Gaits that others made, on our twin's physics without our wires, gate or latency: shipped PPO policies, open-loop trots.

The policies (Tan et al. 2018, arXiv 1804.10332; pybullet_data/policies/ppo) run as they were trained: 6 ms control, 20 ms
observation latency, 3 ms PD latency, pwm = clip(-kp (q - q*) - kd q', +-1) of the battery's voltage. What is ours is the physics:
the URDF's own inertias where theirs come from the collision shapes, gravity 9.81 where they had 10, our step and solver; and
the end of an episode: 10 s where they trained 6, a fall beyond 0.52 rad of roll or pitch where they had 0.3.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pybullet_data
from numpy.typing import NDArray
from ppo_checkpoint import load

from robotrl import config, kinematics
from robotrl.sim.history import Sample, matrix
from robotrl.sim.motor import RESISTANCE, TORQUE_CONSTANT
from robotrl.sim.world import World

Array = NDArray[np.float64]
Gait = Callable[[float, World], Array]  # time since its start (s), world -> motor targets (8,), rad

EPISODE_S, SETTLE_S = 10.0, 0.5
CHECKPOINTS = Path(pybullet_data.getDataPath()) / "policies" / "ppo"
POLICY_PERIOD_S, POLICY_LATENCY_S = 0.006, 0.02
POLICY_PHYSICS_S = 0.001  # their simulation step: the bound of their rates, by which observations were scaled, is 2 pi over it
SLACK = 0.01  # they widen every observation's bound by this
ANGLE_BOUND, RATE_BOUND = 2 * math.pi + SLACK, 2 * math.pi / POLICY_PHYSICS_S + SLACK
CENTRE = np.array([0.0] * 4 + [2.0] * 4)  # four swings, four extensions
TROT = (2.0, 0.3, 0.35)  # Hz, rad of swing, rad of extension; about CENTRE
NM_PER_A = 0.1  # as the servos count


class Law(NamedTuple):
    """A servo's control law: gains per rad, in pwm of the battery or in Nm as the servos count."""

    kp: float
    kd: float
    pwm: bool


THEIRS = Law(1.0, 0.015, pwm=True)
OURS = Law(config.Servos().kp, config.Servos().kd, pwm=False)


class Policy:
    """One of the shipped networks, acting by its mean."""

    def __init__(self, name: str) -> None:
        """`name`: trotting (4 observations) or reactive (with the 8 motor angles; the gallop). Raises CheckpointError."""
        found = load(CHECKPOINTS / f"minitaur_{name}_env" / "model.ckpt-14000000")
        path = "network/rnn/policy/fully_connected"
        self._layers = [(found[f"{path}{n}/weights"], found[f"{path}{n}/biases"]) for n in ("", "_1", "_2")]
        count, self._mean = float(found["normalize_observ/Variable"]), found["normalize_observ/Variable_1"]
        variance = found["normalize_observ/Variable_2"] / (count - 1)
        self._sd = np.sqrt(variance + 1e-4) + 1e-8  # their epsilons: part of what the network was trained with
        self.trot = name == "trotting"
        self._reach = 0.25 if self.trot else 0.5
        # What their last training rollouts saw and meant, range-normalised: the oracle for what is read here.
        self.seen = found["memory/Variable_1"].reshape(-1, len(self._mean))
        self.meant = found["memory/Variable_3"].reshape(-1, 8)

    def mean(self, observation: Array) -> Array:
        """Network output in [-1, 1], (..., 8), for range-normalised observations (..., n)."""
        x = np.clip((observation - self._mean) / self._sd, -5, 5)
        for i, (weights, biases) in enumerate(self._layers):
            x = x @ weights + biases
            x = np.tanh(x) if i == len(self._layers) - 1 else np.maximum(x, 0.0)
        return np.asarray(x, float)

    def error(self) -> float:
        """Mean distance of `mean` from what the training wrote down: small, not zero, for the last update came after it."""
        return float(np.abs(self.mean(self.seen.astype(float)) - self.meant).mean())

    def __call__(self, t: float, world: World) -> Array:
        late = world.sensed(POLICY_LATENCY_S)
        turn = np.array(matrix(_quaternion(late.rpy)))
        rates = turn @ late.rates  # theirs are in the world's axes
        values = [*late.rpy[:2] / ANGLE_BOUND, *rates[:2] / RATE_BOUND]
        if not self.trot:
            values += ((late.angle + math.pi) % (2 * math.pi) - math.pi).tolist()
            values[4:] = [v / ANGLE_BOUND for v in values[4:]]
        pose = CENTRE + self._reach * self.mean(np.array(values))
        if self.trot:
            pose += trot_signal(t, *TROT)
        return kinematics.to_motors(pose[:4], pose[4:])


def _quaternion(rpy: Array) -> tuple[float, float, float, float]:
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy / 2), np.cos(rpy / 2)
    return (sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy, cr * cp * cy + sr * sp * sy)


def trot_signal(t: float, hertz: float, swing: float, extension: float, lead: float = 0.0) -> Array:
    """Diagonal legs together, half a period apart, feet on ellipses: swings (4), extensions (4), rad about the pose."""
    phase = 2 * math.pi * hertz * t + np.array([0.0, math.pi, math.pi, 0.0])
    return np.concatenate((swing * np.sin(phase + lead), extension * np.cos(phase)))


def open_loop(hertz: float, swing: float, extension: float, centre: float, lead: float) -> Gait:
    """A trot that feels nothing."""

    def gait(t: float, world: World) -> Array:
        moves = trot_signal(t, hertz, swing, extension, lead)
        return kinematics.to_motors(moves[:4], centre + moves[4:])

    return gait


def drive(world: World, law: Law, target: Array) -> Callable[[Array, Array], Array]:
    """The servo's law as the world wants it: current (A) for the delayed angle and velocity."""
    limit = config.Servos().max_torque

    def current(angle: Array, velocity: Array) -> Array:
        effort = law.kp * (target - angle) - law.kd * velocity
        if not law.pwm:
            return np.clip(effort, -limit, limit) / NM_PER_A
        volts = np.clip(effort, -1.0, 1.0) * world.motors.battery_v
        return np.asarray((volts - TORQUE_CONSTANT * world.velocity) / RESISTANCE)

    return current


def episode(world: World, gait: Gait, law: Law, period_s: float, rng: np.random.Generator, randomise: bool) -> dict[str, Any]:
    """One episode from a stand whose motors are up to 0.05 rad off; speed is true net displacement along the first heading."""
    if randomise:
        world.randomise(rng)
    world.place("stand")
    stand = kinematics.to_motors(CENTRE[:4], CENTRE[4:]) + rng.uniform(-0.05, 0.05, kinematics.MOTORS)
    world.advance(SETTLE_S, drive(world, law, stand))
    start, begun, power, steps = world.sensed(0.0), world.time, 0.0, 0
    while (t := world.time - begun) < EPISODE_S - 1e-9 and not fallen(world.sensed(0.0)):
        world.advance(period_s, drive(world, law, gait(t, world)))
        power += float(np.abs(world.torque @ world.velocity))
        steps += 1
    end = world.sensed(0.0)
    heading = np.array((math.cos(start.rpy[2]), math.sin(start.rpy[2])))
    speed = float((end.position[:2] - start.position[:2]) @ heading / t)
    return {"speed": round(speed, 3), "seconds": round(t, 2), "ended": "fall" if fallen(end) else "time",
            "power_w": round(power / max(1, steps), 1), "motors_shut_off": int(world.overheated.sum())}  # fmt: skip


def fallen(at: Sample) -> bool:
    tilt = config.Task().fall_tilt
    return not (abs(at.rpy[0]) <= tilt and abs(at.rpy[1]) <= tilt)


def play(gait: Gait, law: Law, period_s: float, episodes: int, seed: int, randomise: bool, dt: float) -> dict[str, Any]:
    """Some episodes on flat ground: means, falls and the episodes."""
    world = World(dataclasses.replace(config.Twin(), physics_dt=dt), seed)
    rng = np.random.default_rng(seed)
    try:
        rows = [episode(world, gait, law, period_s, rng, randomise) for _ in range(episodes)]
    finally:
        world.close()
    return {
        "speed_mean": round(float(np.mean([r["speed"] for r in rows])), 3),
        "speed_min": min(r["speed"] for r in rows),
        "falls": sum(r["ended"] == "fall" for r in rows),
        "count": episodes,
        "power_w": round(float(np.mean([r["power_w"] for r in rows])), 1),
        "domain": "randomised" if randomise else "nominal",
        "physics_dt": dt,
        "episodes": rows,
    }
