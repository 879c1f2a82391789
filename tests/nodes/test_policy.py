"""A policy that was killed and started again goes on with the replay it left."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.config import Run
from robotrl.nodes.learner import Student
from robotrl.nodes.policy import Weights, open_replay, resumed
from robotrl.replay import ReplayError

RUN = Run()


def add(replay, episode, step):
    o, a = np.zeros(replay.observation_size, np.float32), np.zeros(replay.action_size, np.float32)
    replay.add(o, a, 0.0, o, terminated=False, truncated=False, episode=episode, step=step, tick=step, policy_version=0)


def test_steps_and_episodes_are_numbered_on(tmp_path):
    replay = open_replay(tmp_path, RUN)
    assert resumed(RUN, replay).episode == -1
    for step in range(3):
        add(replay, 4, step)
    replay.close()
    again = open_replay(tmp_path, RUN)
    pilot = resumed(RUN, again)
    assert (pilot.steps, pilot.episode) == (3, 4)
    assert not np.array_equal(pilot.noise.draw(), resumed(RUN, open_replay(tmp_path / "new", RUN)).noise.draw())
    add(again, pilot.episode + 1, 0)
    found = again.check()
    assert (found["gaps"], found["doubles"], found["unfinished"]) == (0, 0, 2)
    with pytest.raises(ReplayError, match="another process is writing"):
        open_replay(tmp_path, RUN)
    again.close()


def test_weights_that_do_not_check_out_are_refused_and_said(tmp_path):
    path = tmp_path / "policy.safetensors"
    weights = Weights(path)
    assert weights.poll() is None and not weights.refused
    path.write_bytes(b"no weights at all")
    assert weights.poll() is None and "the old ones stay" in weights.refused


def test_a_learner_goes_on_from_its_checkpoint_and_its_files_are_the_same_bytes(tmp_path):
    agent = dataclasses.replace(RUN.agent, engine="reference", hidden=(16, 16), batch=8, learn_after=4)
    run = dataclasses.replace(RUN, agent=agent)
    replay = open_replay(tmp_path, run)
    for step in range(40):
        add(replay, 0, step)
    (tmp_path / "weights").mkdir()
    whole, halves = Student(run, tmp_path, replay), Student(run, tmp_path, replay)
    assert not whole.resume() and whole.published() == 0
    whole.study(24)
    expected = whole.publish().read_bytes()
    halves.study(14)
    halves.save()
    again = Student(run, tmp_path, replay)
    assert again.resume() and again.updates == 10 and again.published() == 1
    again.study(24)
    assert again.publish().read_bytes() == expected
    replay.close()
