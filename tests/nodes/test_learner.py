"""What the learner draws: rows as they are and, where the run asks for it, half of them in the mirror."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.config import Agent, Run
from robotrl.nodes import learner
from robotrl.replay import Replay

ROWS, UPDATES, BATCH = 40, 50, 64


class Listener:
    """In the agent's place: keeps the indices it is given."""

    def __init__(self, mirror) -> None:
        self.mirror, self.indices, self.step = mirror, [], 0

    def update(self, indices):
        self.indices.append(indices.copy())
        return {}


@pytest.mark.parametrize("mirror", [True, False])
def test_half_of_the_rows_are_seen_in_the_mirror(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "make_agent", lambda *arguments: Listener(arguments[-1]))
    replay = Replay.create(tmp_path / "replay", 112, 8, ROWS)
    for k in range(ROWS):
        replay.add(np.zeros(112), np.zeros(8), 0.0, np.zeros(112), terminated=False, truncated=k == ROWS - 1, episode=0, step=k,
                   tick=k, policy_version=0)  # fmt: skip
    agent = Agent(mirror=mirror, batch=BATCH, learn_after=0, updates_per_step=UPDATES / ROWS)
    student = learner.Student(dataclasses.replace(Run(), agent=agent), tmp_path, replay)
    assert student.study(ROWS) == UPDATES and student.study(ROWS) == 0, "as many updates as the data is worth, and no more"
    drawn = np.concatenate(student.agent.indices)
    assert (student.agent.mirror is not None) == mirror
    rows = np.where(drawn < 0, ~drawn, drawn)
    assert set(rows) == set(range(ROWS))
    assert (drawn < 0).mean() == pytest.approx(0.5 if mirror else 0.0, abs=0.04)  # 4.5 sigma of 3,200 draws
    for row in range(ROWS):
        assert not mirror or {row, ~row} <= set(drawn), "every row both ways"
    replay.close()
