"""What a script shows is what was applied, and a run of the same task learns from it."""

from pathlib import Path

import numpy as np
import pytest

from robotrl.sim.bullet import import_bullet

try:
    import_bullet()
except ImportError:
    pytest.skip("no PyBullet here", allow_module_level=True)

from robotrl.agents.experience import open_demonstrations
from robotrl.complaint import Complaint
from robotrl.config import load
from robotrl.relabel import episodes
from robotrl.replay import Replay, ReplayError
from robotrl.sim import trials
from robotrl.sim.demonstrate import demonstrate
from robotrl.tasks.task import sizes

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
QUICK = ["task.reach.episode_steps=60", "agent.capacity=1000", "steps=1000"]


def roughness(replay: Replay, episode: int) -> float:
    """How much an episode's actions change from step to step."""
    actions = replay.columns["action"][: replay.count][replay.columns["episode"][: replay.count] == episode]
    return float(np.abs(np.diff(actions, axis=0)).mean())


def test_a_run_learns_from_what_a_script_showed(tmp_path):
    run = load(LAUNCH / "reach.toml", [*QUICK, "seed=2"])
    said: list[str] = []
    told = demonstrate(run, tmp_path / "shown", 4, 0.5, said.append)
    shown = open_demonstrations(str(tmp_path / "shown"), *sizes(run))
    assert shown is not None and shown.count == told["transitions"] and told["episodes"] == len(said) == 4
    replay = Replay.open(tmp_path / "shown" / "replay")
    counts = replay.check()
    assert counts["gaps"] == counts["damaged"] == 0
    assert np.abs(replay.columns["action"][: replay.count]).max() <= 1.06, "a servo's tick is 0.051 of a step"
    assert replay.columns["terminated"][: replay.count].any(), "one goal at least was reached"
    rough = [roughness(replay, i) for i in range(4)]
    assert max(rough) > 3 * min(rough), f"some are shaken and some are not: {rough}"
    with pytest.raises(ReplayError):
        demonstrate(run, tmp_path / "shown", 1, 0.0, said.append)


def test_a_task_without_a_script_is_one_line(tmp_path):
    with pytest.raises(Complaint, match="no script plays the task 'walk'; name a run file of one of reach, walk_to") as caught:
        demonstrate(load(LAUNCH / "walk.toml"), tmp_path / "out", 1, 0.0, print)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_what_is_shown_for_keys_alone_is_judged_by_keys(tmp_path):
    """Push, by the script; the person presses when the tin is there, and what is learned from are his keys."""
    run = load(LAUNCH / "push_keys.toml", ["agent.capacity=1000", "steps=1000"])
    told = demonstrate(run, tmp_path / "shown", 2, 0.0, lambda _: None)
    labels, rows = told["labels"], open_demonstrations(str(tmp_path / "shown"), *sizes(run))
    assert rows is not None and labels["bound"] == rows.labels == 2 and labels["waiting"] == labels["refused"] == 0
    recorded = rows.replay.columns["reward"][: rows.count]
    assert not recorded.any() and not rows.replay.columns["terminated"][: rows.count].any(), "the task's own word is left out"
    for episode in episodes(tmp_path / "shown")[1]:
        at = slice(episode.first, episode.end)
        (end,) = np.flatnonzero(rows.columns["terminated"][at])
        assert rows.columns["reward"][at].sum() == episode.labelled == (episode.verdict.startswith("success"))
        assert 5 < len(recorded[at]) - end < 25, "he is 0.3 s late, and means what he saw 0.25 s before"
    found = trials.scripted(run, 1)["episodes"][0]
    assert found["ended"] == "there" and found["success"], "a policy is judged by what is true, whatever it learned from"
