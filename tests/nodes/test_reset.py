"""The reset's node, as far as a Minitaur's differs: which of its robots wait for a joint that something holds."""

from __future__ import annotations

import pytest

from robotrl import config
from robotrl.drivers.legged import STAND
from robotrl.messages import Joints, Permit
from robotrl.nodes.reset import LEVEL, Resetter
from tests.nodes.armrig import LAUNCH

PERMIT = Permit(state="RESET", epoch=3, holder="reset", torque=True, speed_scale=0.5)


@pytest.mark.parametrize("waits", [True, False])
def test_legs_of_a_minitaur_do_not_rise_away_from_one_that_is_held(monkeypatch, waits):
    """From folded legs, which are far from a stand: the way up is played, and one motor never leaves its place."""
    resetter = Resetter(config.load(LAUNCH / "walk.toml"))
    if not waits:
        monkeypatch.setattr(resetter._robot, "wait_s", 0.0)
    at, zeros, ones, highest = [0.6] * 8, (0.0,) * 8, (1,) * 8, 0.0
    for tick in range(100):
        joints = Joints(t=tick * 20_000_000, tick=tick, position=tuple(at), velocity=zeros, torque=zeros, temp_c=zeros,
                        voltage=zeros, mode=ones, fault=ones, missed=ones)  # fmt: skip
        action = resetter.cycle(joints, LEVEL, PERMIT)
        if action is None or resetter.state.attempt > 1:
            break
        at = [0.6 if i == 3 else angle for i, angle in enumerate(action.target)]
        highest = max(highest, *at)
    assert resetter.state.attempt == 2, "the next way is tried"
    assert (highest < 0.6 + 0.8) == waits and (highest > max(STAND) - 0.01) == (not waits)
