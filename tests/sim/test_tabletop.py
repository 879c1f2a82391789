"""Stack and push in lockstep, over the bytes of the servos' line and, for push, the tracker's: scripts that solve them."""

from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

from robotrl.config import load
from robotrl.replay import Replay
from robotrl.sim import trials
from robotrl.sim.armrig import ArmRig
from robotrl.sim.truths import truth_of
from robotrl.tasks.task import sizes

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
QUICK = "twin.physics_dt=0.004"


@pytest.mark.parametrize(
    "name, setting",
    [("stack", []), ("stack", ["twin.push_n=10", "twin.push_s=0.3", "task.moves.space=joint"]), ("push", [])],
)  # fmt: skip
def test_a_script_solves_it_and_the_physics_agrees(name, setting):
    result = trials.scripted(load(LAUNCH / f"{name}.toml", [QUICK, *setting]), 1)
    episode = result["episodes"][0]
    assert result["success"] == 1.0 and episode["ended"] == {"stack": "stacked", "push": "there"}[name]
    assert episode["distance_m"] < (0.0005 if name == "stack" else 0.015)


class Still:
    """Asks for nothing."""

    def act(self, observation, noise=None):
        return np.zeros(4, np.float32)


def test_a_push_moves_the_hand_and_it_comes_back():
    run = load(LAUNCH / "stack.toml", [QUICK, "twin.push_n=10", "twin.push_s=0.3"])
    rig, tips = ArmRig(run, 0, deterministic=True), []
    rig.pilot.take(Still(), 0, 0)
    while not (rig.pilot.tally and rig.pilot.tally.steps >= 60):
        rig.cycle()
        if rig.pilot.tally:
            tips.append(rig.pilot.task.tip(rig.joints))
    away = np.linalg.norm(np.subtract(tips, tips[0]), axis=1)
    assert away[:3].max() < 0.002 and away.max() > 0.008 and away[-10:].max() < 0.004
    assert not rig.table.bricks.seated and 0.02 < truth_of(rig).look()["distance_m"] < 0.08, "who does nothing stacks nothing"
    rig.close()


def test_what_lies_in_the_replay_is_the_motion_that_was_sent(tmp_path):
    """Cartesian actions, as the joints' targets on the wire say they were: where none was shortened, the tip went there."""
    run = load(
        LAUNCH / "stack.toml", [QUICK, "task.stack.episode_steps=15", "task.moves.step_m=0.003", "task.moves.turn_rad=0.01"]
    )
    replay = Replay.create(tmp_path / "replay", *sizes(run), 1000)
    rig, sent = ArmRig(run, 3, replay), {}
    while replay.count < 20:
        rig.cycle()
        sent[rig.applied.tick] = rig.applied.target
    arm = rig.pilot.task.arm
    for i in range(replay.count):
        tick = int(replay.columns["tick"][i])
        went = np.subtract(arm.tip(sent[tick]), arm.tip(sent[tick - 1]))
        assert replay.columns["action"][i][:3] * 0.003 == pytest.approx(went, abs=2e-4)
        pitched = sum(sent[tick][1:4]) - sum(sent[tick - 1][1:4])
        assert replay.columns["action"][i][3] * 0.01 == pytest.approx(pitched, abs=1e-4)
    assert replay.check()["gaps"] == 0
    rig.close()
    replay.close()


def test_the_thing_is_seen_where_it_is():
    rig = ArmRig(load(LAUNCH / "push.toml", [QUICK]), 2, deterministic=True)
    truth = truth_of(rig)
    while not (rig.pilot.tally and rig.pilot.tally.steps >= 3):
        rig.cycle()
    begins, place = rig.pilot.task.drawn(0)
    assert rig.pilot.task.seen() == pytest.approx(begins, abs=0.01) and rig.pilot.task.place == pytest.approx(place)
    assert truth.look()["distance_m"] == pytest.approx(np.linalg.norm(place - begins), abs=0.005)
    rig.close()
