"""Rows in which a person led: their part of each batch, counted by hand; no sum of rewards reaches across his coming, going."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robotrl import config
from robotrl.agents.experience import experience
from robotrl.agents.interventions import Taken
from robotrl.agents.sac import Sac
from robotrl.labelled import LABELS, Labelled
from robotrl.messages import PERSON
from robotrl.nodes.student import Student
from robotrl.replay import Replay
from robotrl.tasks.task import sizes
from tests.agents.test_sac import one_thread  # noqa: F401

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
LED = range(40, 60)  # of the first hundred rows, in two episodes of fifty
CAPACITY = 400


def replay_of(path: Path, rows: int = 100, led: range = LED) -> Replay:
    replay = Replay.create(path, 2, 1, CAPACITY)
    grow(replay, rows, led)
    return replay


def grow(replay: Replay, rows: int, led: range) -> None:
    for k in range(replay.count, replay.count + rows):
        replay.add(
            np.array([k, 0.0]), np.array([0.1]), float(k), np.array([k + 1, 0.0]), terminated=False, truncated=k % 50 == 49,
            episode=k // 50, step=k % 50, tick=k + k // 50, policy_version=PERSON if k in led else 3,
        )  # fmt: skip


@pytest.mark.parametrize(("batch", "theirs"), [(20, 10), (40, 20), (256, 20)])
def test_they_are_the_demonstrations_share_but_no_more_than_there_are(tmp_path, batch, theirs):
    """A uniform draw has a fifth of them; with their share, `theirs` come on top of a fifth of the rest."""
    own = replay_of(tmp_path / "own")
    rows = experience(config.Agent(), own, None, Taken(own))
    rng, counted, seen = np.random.default_rng(0), 0, set()
    for _ in range(200):
        drawn = rows.sample(rng, batch, own.count)
        assert len(drawn) == batch and np.isin(drawn[batch - theirs :], LED).all()
        counted += int(np.isin(drawn[: batch - theirs], LED).sum())
        seen |= set(drawn[batch - theirs :].tolist())
    assert seen == set(LED)
    assert counted / (200 * (batch - theirs)) == pytest.approx(0.2, abs=0.03)
    assert rows.rows(drawn).reward.tolist() == drawn.tolist()


def test_beside_demonstrations_they_have_their_part_of_the_share(tmp_path):
    own, given = replay_of(tmp_path / "own"), replay_of(tmp_path / "given", rows=60, led=range(0))
    rows = experience(config.Agent(), own, given, Taken(own))
    drawn = rows.sample(np.random.default_rng(0), 80, own.count)
    assert (drawn >= CAPACITY).sum() == 30 and np.isin(drawn[40:50], LED).all(), "40: 20 and 60 rows, so 10 and 30 of them"
    assert len(rows.rows(drawn).reward) == 80


def test_where_nobody_led_the_numbers_drawn_are_those_of_before(tmp_path):
    own, given = replay_of(tmp_path / "own", led=range(0)), replay_of(tmp_path / "given", led=range(0))
    for demonstrations in (None, given):
        plain, asked = (experience(config.Agent(), own, demonstrations, t) for t in (None, Taken(own)))
        a, b = (r.sample(np.random.default_rng(5), 64, 100) for r in (plain, asked))
        assert np.array_equal(a, b)


def test_rows_that_come_later_and_a_verdict_count(tmp_path):
    own = replay_of(tmp_path / "own")
    labelled = Labelled(own, tmp_path / LABELS)
    labelled.refresh()
    taken = Taken(labelled)
    assert taken.rows(45).tolist() == [40, 41, 42, 43, 44] and taken.rows(100).tolist() == list(LED)
    grow(own, 10, range(105, 200))
    labelled.refresh()
    assert taken.rows(110).tolist() == [*LED, *range(105, 110)] and taken.rows(107).tolist() == [*LED, 105, 106]
    labelled.out[41:45] = True  # behind a verdict
    assert taken.rows(45).tolist() == [40]


def test_no_steps_are_summed_across_his_coming_and_going(tmp_path):
    own = replay_of(tmp_path / "own")
    rows = experience(config.Agent(n_step=3, discount=0.5), own, None, Taken(own))
    rows.sample(np.random.default_rng(0), 8, 100)
    batch = rows.rows(np.array([36, 38, 39, 40, 48, 57, 58, 59, 60]))
    assert batch.steps.tolist() == [3, 2, 1, 3, 2, 3, 2, 1, 3], "it ends before 40, 50 (an episode), 60"
    assert batch.reward[1] == 38 + 0.5 * 39 and batch.next_observation[1][0] == 40


def test_the_learner_draws_them_so(tmp_path, monkeypatch):
    """The learner's own half: of each update's rows, a half are those in which a person led, as soon as there are so many."""
    run = config.load(
        LAUNCH / "reach.toml", ["agent.engine=reference", "agent.hidden=[8]", "agent.batch=16", "agent.learn_after=80"]
    )
    observation, action = sizes(run)
    replay = Replay.create(tmp_path / "replay", observation, action, 500)
    for k in range(160):
        o, n = np.full(observation, k / 160), np.full(observation, (k + 1) / 160)
        replay.add(o, np.zeros(action), 0.0, n, terminated=False, truncated=k % 40 == 39, episode=k // 40, step=k % 40, tick=k,
                   policy_version=PERSON if 60 <= k < 75 else 1)  # fmt: skip
    drawn = []
    update = Sac.update
    monkeypatch.setattr(Sac, "update", lambda self, indices: drawn.append(indices) or update(self, indices))
    Student(run, tmp_path, replay).study(160, limit=8)
    theirs = [np.isin(indices[8:], range(60, 75)).all() and len(indices) == 16 for indices in drawn]
    assert len(drawn) == 8 and all(theirs)
    replay.close()
