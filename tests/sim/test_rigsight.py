"""The program in lockstep with a tracker that sees: its poses are the twin's, and a board that is away ends the episode."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl import config
from robotrl.messages import Episode, Pose
from robotrl.sim.rig import Rig

WALK = Path(__file__).resolve().parent.parent.parent / "launch" / "walk_seen.toml"
SMALL = [
    "twin.randomise=false", "twin.tripod.rate_hz=15", "twin.tripod.width=640", "twin.tripod.height=360",
    "twin.tripod.focal_px=500", "twin.tripod.position=[0.3, -1.5, 1.5]", "twin.tripod.target=[0.3, 0.0, 0.25]",
]  # fmt: skip


class Still:
    """A policy that stands."""

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        return np.zeros(8, np.float32)


@pytest.fixture(params=[()])
def rig(request):
    made = Rig(config.load(WALK, [*SMALL, "agent.random_steps=0", *request.param]), 0, deterministic=True)
    made.pilot.take(Still(), 1, 0)  # type: ignore[arg-type]
    yield made
    made.close()


def test_a_robot_is_seen_where_it_is_and_an_episode_without_a_sight_of_it_is_cut(rig):
    poses: list[tuple[Pose, float]] = []
    hear = rig.pilot.see

    def see(pose: Pose) -> None:
        true = rig.twin.world.sensed(rig.seconds - pose.t * 1e-9)
        poses.append((pose, math.dist(pose.position, true.position.tolist())))
        hear(pose)

    rig.pilot.see = see
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
    for _ in range(25):
        rig.cycle()
    seen = [off for pose, off in poses if not pose.reckoned]
    assert len(seen) > 0.6 * rig.seconds * 15 and np.quantile(seen, 0.9) < 0.015
    with_speed = [pose for pose, _ in poses if pose.velocity]
    assert with_speed and {pose.t - pose.velocity_t for pose in with_speed} == {100_000_000}

    assert rig.twin.camera is not None
    rig.twin.camera.covered, covered = True, rig.seconds
    ended: list[Episode] = []
    while not ended and rig.seconds < covered + 5:
        rig.cycle()
        ended += rig.take_finished()
    assert [e.ended for e in ended] == ["tracker lost"]
    reckoned = [pose.t * 1e-9 - covered for pose, _ in poses if pose.reckoned and pose.t * 1e-9 > covered]
    assert reckoned and max(reckoned) < 1.05


@pytest.mark.parametrize("rig", [(), ("robot.tracker.camera=", "twin.carried_back=true")], ids=["seen", "told"], indirect=True)
def test_who_leaves_the_view_is_carried_back_to_its_start(rig):
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
    rig.twin.world.push((400.0, 0.0, 0.0), 0.1)
    while rig.permit.state != "RESET":
        rig.cycle()
    assert np.linalg.norm(rig.twin.world.position[:2]) < 0.05


def test_who_is_out_of_sight_for_good_is_carried_back_and_walks_on(rig):
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
    rig.twin.camera.covered = True
    ended: list[Episode] = []
    states: list[str] = []
    begun = rig.seconds
    while rig.seconds < begun + 10.0:
        rig.cycle()
        states += [rig.permit.state] if states[-1:] != [rig.permit.state] else []
        ended += rig.take_finished()
        if states[-2:] == ["HOLD", "RESET"]:
            rig.twin.camera.covered = False  # as if it were the robot that had gone
    assert rig.permit.state == "RUN" and np.linalg.norm(rig.twin.world.position[:2]) < 0.3
    assert "HOLD" in states and states.count("HOLD") <= 2, (states, [e.ended for e in ended])
