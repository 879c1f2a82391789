"""An arm in lockstep, over the bytes of its servos' line: it reaches by a script, its books are right, and it can learn to."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

from robotrl import messages as m
from robotrl.agents.actor import Actor
from robotrl.config import load
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.reset import LEVEL
from robotrl.nodes.student import Student
from robotrl.replay import Replay
from robotrl.sim import reaching
from robotrl.sim.armrig import ArmRig
from robotrl.tasks.task import sizes

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
T = 20_000_000


@pytest.mark.parametrize("name", ["reach", "reach_omx"])
def test_a_script_reaches_and_the_point_is_really_there(name):
    """Through policy, gate, chain, bytes, servos and physics; where the point is, the physics says."""
    run = load(LAUNCH / f"{name}.toml")
    result = reaching.scripted(run, 2)
    assert result["reached"] == 2 and result["distance_max_m"] < run.task.reach.tolerance_m + 0.003


def test_what_lies_in_the_replay_is_what_the_bytes_held(tmp_path):
    run = load(LAUNCH / "reach.toml", ["task.reach.episode_steps=30"])
    replay = Replay.create(tmp_path / "replay", *sizes(run), 1000)
    rig = ArmRig(run, 3, replay)
    read, sent = {}, {}
    while replay.count < 50:
        rig.cycle()
        read[rig.joints.tick], sent[rig.applied.tick] = rig.joints.position, np.array(rig.applied.target[:4])
    home, lowest, highest = (np.array(v[:4]) for v in (run.robot.home, run.robot.lowest, run.robot.highest))
    half = (np.minimum(highest, home + 1.5) - np.maximum(lowest, home - 1.5)) / 2
    for i in range(replay.count):
        tick = int(replay.columns["tick"][i])
        assert replay.columns["next_observation"][i][:4] == pytest.approx(read[tick][:4], abs=1e-6)
        assert replay.columns["action"][i] * 0.03 == pytest.approx(sent[tick] - sent[tick - 1], abs=1e-5 * half.max())
        assert replay.columns["reward"][i] < 0
    assert replay.check()["gaps"] == 0 and replay.columns["truncated"][29] and not replay.columns["terminated"][:50].any()
    rig.close()
    replay.close()


def digest(seed):
    rig, said = ArmRig(load(LAUNCH / "reach.toml"), seed), hashlib.sha256()
    for _ in range(120):
        rig.cycle()
        said.update(repr((rig.joints, rig.applied, rig.permit)).encode())
    assert rig.permit.state == "RUN"
    rig.close()
    return said.hexdigest()


def test_the_same_seed_gives_the_same_bits():
    assert digest(1) == digest(1) != digest(2)


EASY = [
    "agent.hidden=[64, 64]", "agent.random_steps=300", "agent.learn_after=200", "agent.threads=1", "task.reach.tolerance_m=0.05",
    "task.reach.near_m=0.1",
    "task.reach.episode_steps=80", "task.reach.goal_low=[0.2, -0.08, 0.1]", "task.reach.goal_high=[0.26, 0.08, 0.2]",
]  # fmt: skip


class Ideal:
    """In the twin's place: servos that go 0.35 of their way in a period, whatever they carry. One `cycle` is one period."""

    def __init__(self, run, pilot):
        self.home, self.pilot, self.tick, self.epoch = np.array(run.robot.home), pilot, 0, 0
        self.ends = []
        self.lay()

    def lay(self):
        self.epoch += 1
        self.q, self.speed, self.target = self.home.copy(), self.home * 0, self.home.copy()

    def cycle(self):
        self.tick += 1
        n = len(self.q)
        zero, none = (0.0,) * n, (0,) * n
        joints = m.Joints(t=self.tick * T, tick=self.tick, position=tuple(self.q), velocity=tuple(self.speed), torque=zero,
                          temp_c=zero, voltage=zero, mode=none, fault=none, missed=none)  # fmt: skip
        applied = m.Applied(tick=self.tick, writer="policy", epoch=self.epoch, target=tuple(self.target), clamped=none)
        permit = m.Permit(t=joints.t, state="RUN", epoch=self.epoch, holder="policy", torque=True)
        asked = self.pilot.cycle(joints, applied, LEVEL, permit)
        step = 0.35 * (self.target - self.q)
        self.q, self.speed = self.q + step, step / 0.02
        if asked is not None:
            self.target = np.array(asked.target)
        self.pilot.finished.clear()
        if self.pilot.just_ended:
            self.ends.append(self.pilot.task.distance(joints))
            self.lay()

    def nearest(self, episodes):
        """Mean distance of the point from its goal at the end of so many episodes, m."""
        while len(self.ends) < episodes:
            self.cycle()
        return sum(self.ends) / len(self.ends)


def test_it_can_be_learned(tmp_path):
    """The task, its pilot and the agent on servos without physics: after 24 s of robot time it ends much nearer."""
    run = load(LAUNCH / "reach.toml", EASY)
    replay = Replay.create(tmp_path / "replay", *sizes(run), run.agent.capacity)
    student, pilot = Student(run, tmp_path, replay), Pilot(run, replay, run.seed)
    arm, asked, untrained = Ideal(run, pilot), 0, {k: v.copy() for k, v in student.agent.weights().items()}
    while replay.count < 1200:
        arm.cycle()
        if replay.count >= asked + 50 and (asked := replay.count) > run.agent.learn_after:
            student.study(asked)
            pilot.take(Actor(student.agent.weights()), asked, 0)
    away = []
    for weights in (untrained, student.agent.weights()):
        judged = Pilot(run, None, 9, deterministic=True)
        judged.take(Actor(weights), 1, 0)
        away.append(Ideal(run, judged).nearest(20))
    assert away[1] < 0.6 * away[0], away
    replay.close()
