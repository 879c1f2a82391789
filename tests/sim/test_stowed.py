"""Where an arm is put before it is let go: how far it falls from there, and whether its stop gets there from every start."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pybullet
import pytest

from robotrl import config
from robotrl.nodes.powerdown import gate_limits
from robotrl.safety.stow import Stow
from robotrl.sim.bulletjoints import BulletJoints
from robotrl.sim.fleets import FLEETS
from robotrl.sim.servotwin import ServoTwin

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
PERIOD_NS = 20_000_000
RUNS = {path.stem: config.load(path) for path in sorted(LAUNCH.glob("*.toml"))}
ARMS = {name: run for name, run in RUNS.items() if run.robot.stop_profile == "stow"}
FALLS_RAD = {"omx": 0.07, "so101": 0.16}  # SO-101's wrist, until its fingers lie on the table


@pytest.mark.parametrize("robot", ["omx", "omx_table", "so101"])
def test_an_arm_that_is_let_go_where_it_is_stowed_falls_a_few_degrees(robot):
    run = next(run for run in ARMS.values() if run.robot.name == robot)
    twin = ServoTwin(run.robot.kind)
    twin.joints.put(run.robot.stow)
    for _ in range(20):
        twin.advance(0.1)
        fell = [abs(a - b) for a, b in zip(twin.joints.angle, run.robot.stow, strict=True)]
        assert max(fell) < FALLS_RAD[run.robot.kind], fell


def way(run: config.Run, start: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The goals of a stop from there, of joints that follow at once. AssertionError where its time is up before."""
    stow, at, out = Stow(gate_limits(run.robot, PERIOD_NS * 1e-9), run.robot.stow), start, [start]
    for now in range(0, int((run.robot.stop_damp_s - 0.3) * 1e9), PERIOD_NS):
        goal = stow.step(now, at, (0,) * len(at))
        if goal is None:
            return out
        out.append(at := goal)
    raise AssertionError(f"let go at {at}, on its way to {run.robot.stow}")


def clearance(joints: BulletJoints, angles: tuple[float, ...]) -> float:
    """The least gap between two parts that no joint joins, or a part that moves and the floor, m; 0.05 where all are farther."""
    joints.put(angles)
    body, client = joints.body, joints.client
    links = range(pybullet.getNumJoints(body, physicsClientId=client))
    parent = [pybullet.getJointInfo(body, i, physicsClientId=client)[16] for i in links]
    near = [0.05]
    for a, b in combinations((-1, *links), 2):
        if parent[b] != a and (a < 0 or parent[a] != parent[b]):
            near += [c[8] for c in pybullet.getClosestPoints(body, body, 0.05, a, b, physicsClientId=client)]
    for a in links[1:]:
        near += [c[8] for c in pybullet.getClosestPoints(body, 0, 0.05, a, -1, physicsClientId=client)]
    return float(min(near))


@pytest.mark.parametrize("name", ARMS)
def test_a_stop_gets_there_in_time_from_where_a_task_begins_and_touches_nothing(name):
    run = ARMS[name]
    joints, _ = FLEETS[run.robot.kind].turned()
    assert isinstance(joints, BulletJoints)
    starts = {tuple(run.task.start or run.robot.home), run.robot.home}
    for start in {q for s in starts for q in (s, (run.robot.highest[0], *s[1:]))}:
        for goal in (goals := way(run, start))[::10] + goals[-1:]:
            assert clearance(joints, goal) > 0.002, goal
    joints.close()
