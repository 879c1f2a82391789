"""Domain randomisation: how a real robot may differ from the identified one, drawn anew at every reset.

Ranges: Tan et al. 2018 (arXiv 1804.10332), table in learning facts 4.2, unless a comment says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robotrl import config


@dataclass(frozen=True)
class Domain:
    """One draw. `World` reads the mechanical half, the senses the other."""

    base_mass: float = 1.0  # factor on the torso's mass
    leg_mass: float = 1.0  # factor on every leg link's mass
    base_inertia: float = 1.0  # factor on the torso's rotational inertia
    leg_inertia: float = 1.0  # factor on every leg link's rotational inertia
    strength: float = 1.0  # factor on all eight motors: they share battery, driver and age, so they are weak together
    joint_friction: float = 0.0  # Nm, Coulomb, at each motor
    battery_v: float = 16.0  # V
    foot_friction: float = 1.0  # coefficient of the lower links
    extra_latency_s: float = 0.0  # s a sensor reading is older than its transport makes it
    imu_bias: tuple[float, float] = (0.0, 0.0)  # rad added to roll and pitch
    imu_noise_rad: float = 0.0  # sd of roll and pitch, sample by sample
    period_jitter: float = 0.0  # in lockstep, each control period is longer or shorter by up to this fraction
    lean: tuple[float, float] = (0.0, 0.0)  # rad by which a floor that should be level rises along x and along y

    @classmethod
    def nominal(cls, twin: config.Twin) -> Domain:
        """The identified robot, nothing drawn."""
        return cls(battery_v=twin.battery_v, imu_noise_rad=twin.imu_noise_rad, period_jitter=twin.period_jitter)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Domain:
        """A robot out of the ranges; consumes a fixed number of draws."""

        def uniform(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        return cls(
            base_mass=uniform(0.8, 1.2),  # mass 80..120 %
            leg_mass=uniform(0.8, 1.2),
            base_inertia=uniform(0.5, 1.5),  # inertia 50..150 %
            leg_inertia=uniform(0.5, 1.5),
            strength=uniform(0.8, 1.2),  # motor strength 80..120 %
            joint_friction=uniform(0.0, 0.05),
            battery_v=uniform(14.0, 16.8),
            foot_friction=uniform(0.5, 1.25),
            # Latency 0..40 ms in the paper; the policy's own period is 20 ms of it here: 20..40 in all.
            extra_latency_s=uniform(0.0, 0.02),
            imu_bias=(uniform(-0.05, 0.05), uniform(-0.05, 0.05)),
            imu_noise_rad=uniform(0.0, 0.05),
            # The paper's control steps were 3 to 20 ms about its 6; ours is 20 ms by absolute deadlines: 14 to 26; chosen.
            period_jitter=uniform(0.0, 0.3),
            lean=(uniform(-0.1, 0.1), uniform(-0.1, 0.1)),  # 6 degrees: no floor is level; chosen
        )
