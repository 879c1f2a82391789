"""What a pilot keeps of its steps until they are told: transitions that wait for their reward, and an episode's sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robotrl.nodes.gaze import Glance


@dataclass(slots=True)
class Pending:
    """A transition that waits for what gives its reward, as a walk's for poses."""

    observation: np.ndarray
    action: np.ndarray
    next_observation: np.ndarray
    sent: np.ndarray  # (3, a) targets as applied, normalised, newest first
    cost: float  # of this moment, as the task counts it
    t: int  # capture time of the next observation
    tick: int
    step: int  # of its episode, from 0
    episode: int
    version: int
    terminated: bool
    truncated: bool
    imu_t: int
    pose_t: int  # of the newest pose by then, 0: none
    applied_t: int  # when the action was sent
    frames: tuple[Glance, Glance]  # what the cameras saw at the observation, and at the next one


@dataclass
class Tally:
    """An episode's sums; told to the world once its last reward is known."""

    episode: int
    t_begin: int
    t_end: int = 0
    steps: int = 0
    settled: int = 0
    total: float = 0.0
    ended: str = ""
    speed: float = 0.0
    tick: int = -1  # of the newest step
