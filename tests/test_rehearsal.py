"""The main job in small: a thousand steps of the real rehearsal. These tests fail when learning breaks.

Episodes are short and networks small, everything else is what `robotrl rehearse` runs: the twin, bytes, gate, guard, replay, and
the learner in its own process. What is asked of the result is told in each test, with what it caught when it was broken by hand.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from robotrl import checkpoint, cli, config, rundir
from robotrl.agents.sac import Sac
from robotrl.nodes.learner import Student
from robotrl.replay import Batch, Replay
from robotrl.replaycheck import compared
from robotrl.sim.rig import Rig
from tests.smallrun import RANDOM, SMALL, STEPS, WALK, rehearse, train

pytestmark = pytest.mark.learns
POWERED = ("HOLD", "RUN", "RESET", "STOPPING", "PSTOP")  # states in which the guard lets targets be written
ITSELF = [sys.executable, str(Path(__file__).with_name("smallrun.py"))]  # in a process of its own; the arguments follow


def rows_of(directory: Path) -> Batch:
    replay = Replay.open(directory / "replay")
    return replay.rows(np.arange(replay.count))


def policy_and_critic(agent: config.Agent, state: dict[str, np.ndarray], rows: Batch) -> tuple[float, float, float]:
    """By the reference page, on all `rows`: entropy of the policy, temperature, mean value of what was done."""
    sac = Sac(agent, rows.observation.shape[1], rows.action.shape[1], 0, None)
    with torch.no_grad():
        for name, value in sac.parameters.items():
            value.copy_(torch.from_numpy(np.array(state[name])))
        s, a = torch.from_numpy(rows.observation), torch.from_numpy(rows.action)
        _, log_pi = sac.pi(s, torch.from_numpy(np.random.default_rng(0).standard_normal(rows.action.shape, np.float32)))
        return float(-log_pi.mean()), float(sac.log_alpha.exp()), float(sac.q("critic", s, a).mean())


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("rehearsal") / "run"
    return rehearse(directory), directory


def test_the_policy_earns_more_than_chance(rehearsed):
    _, directory = rehearsed
    reward = rows_of(directory).reward
    assert reward[-300:].mean() > reward[:RANDOM].mean() + 0.1


def test_the_policy_keeps_its_entropy(rehearsed):
    """Down from uniform (+5.5 nats) towards the target of -8 and not far below it; the temperature fell and did not vanish."""
    run, directory = rehearsed
    state = safetensors.numpy.load(checkpoint.newest(directory).read("agent.safetensors"))
    entropy, temperature, _ = policy_and_critic(run.agent, state, rows_of(directory))
    assert -16 < entropy < 0
    assert 0.005 < temperature < 0.1


def test_a_value_reaches_beyond_the_time_limit(rehearsed, tmp_path):
    """Policy evaluation with a known answer: the first, almost uniform policy at temperature 1 earns its entropy H at every step.

    The time limit is no end of that, so its value is (mean reward + discount H) / (1 - discount), less what real falls end. Were
    a truncated row a last one, it would be half as much; were the entropy counted the wrong way round, as much below zero.
    """
    run, directory = rehearsed
    agent = dataclasses.replace(
        run.agent, initial_temperature=1.0, temperature_lr=0.0, actor_lr=0.0, polyak=0.1, discount=0.98, learn_after=0
    )
    student = Student(dataclasses.replace(run, agent=agent), tmp_path, Replay.open(directory / "replay"))
    assert student.study(STEPS) == 3 * STEPS
    rows = rows_of(directory)
    assert rows.truncated.sum() > 15, "or nothing was tried"
    entropy, temperature, value = policy_and_critic(agent, student.agent.state(), rows)
    assert temperature == pytest.approx(1.0) and entropy > 4.0
    goes_on = agent.discount * (1 - rows.terminated.mean())
    assert value == pytest.approx((rows.reward.mean() + goes_on * entropy) / (1 - goes_on), rel=0.25)


class Wild:
    """A policy that slams from one end to the other, and now and then says what is no number."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        action = self.rng.choice([-1.0, 1.0], 8).astype(np.float32)
        if self.rng.random() < 0.02:
            action[self.rng.integers(8)] = self.rng.choice([np.nan, np.inf, 1e30])
        return action


def test_a_wild_policy_never_gets_past_the_gate(wire_tap):
    """Its targets overshoot the range several times over; what is on the wire is in range, within slew and lead, or not there."""
    run = config.load(WALK, [*SMALL, "agent.random_steps=0", "task.fall_tilt=3.0", "twin.randomise=false"])
    run = dataclasses.replace(run, task=dataclasses.replace(run.task, smoothing=5.0))  # more than a run file may ask for
    rig, limits = Rig(run, 0), run.robot.limits
    rig.twin.wires["servos"].add(wire_tap)
    rig.pilot.take(Wild(1), 1, 0)  # type: ignore[arg-type]
    last, written, clamped, far = None, 0, 0, 0
    for _ in range(400):
        permit, asked = rig.permit, rig._action
        rig.cycle()
        sent = wire_tap.read().position
        assert not sent or (permit is not None and permit.torque and permit.state in POWERED), "targets without a permit"
        if not sent or permit is None:
            last = None
            continue
        target, present = np.array([sent[i + 1] for i in range(8)]), np.array(rig.joints.position)
        assert np.isfinite(target).all() and target == pytest.approx(np.array(rig.applied.target), abs=1e-6)
        if last is not None:
            assert np.abs(target - last).max() <= limits.slew_rad_s * 0.02 * permit.speed_scale + 1e-4
            inside = (last >= limits.position_min) & (last <= limits.position_max)
            assert (target[inside] >= limits.position_min - 1e-4).all() and (target[inside] <= limits.position_max + 1e-4).all()
            near = np.abs(last - present) <= limits.lead_rad
            assert (np.abs(target - present)[near] <= limits.lead_rad + 1e-4).all()
        last, written, clamped = target, written + 1, clamped + any(rig.applied.clamped)
        far += asked is not None and asked.source == "policy" and not np.abs(np.array(asked.target) - 2.0).max() < 2.0
    rig.close()
    assert written > 200 and clamped > 60 and far > 20, "or nothing was tried"


def files_of(directory: Path) -> dict[str, str]:
    """Every file of replay, weights and the last checkpoint by its hash, but the manifest, which tells wall time."""
    last = {"agent": hashlib.sha256(checkpoint.newest(directory).read("agent.safetensors")).hexdigest()}
    return last | {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("replay", "weights")
        for path in sorted((directory / part).rglob("*"))
        if path.is_file()
    }


def test_one_seed_gives_the_same_replay_and_weights_bit_for_bit(tmp_path):
    """Two processes with seed 5 and one with 6, at the same time, so that the machine's load differs for each."""
    few = ["steps=600", "agent.random_steps=200", "agent.learn_after=200", "task.episode_steps=200", "agent.updates_per_step=1"]
    started = [
        subprocess.Popen([*ITSELF, str(tmp_path / name), *few, f"seed={seed}"]) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    ]
    try:
        assert [process.wait(200) for process in started] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    a, b, c = (files_of(tmp_path / name) for name in "abc")
    assert len(a) > 14 and any("weights" in name for name in a)
    assert a == b
    assert all(a[name] != c[name] for name in ("replay/observation.f32", "weights/policy.safetensors", "agent"))


def test_a_killed_rehearsal_goes_on_to_the_same_bits(tmp_path):
    """Killed with its learner somewhere behind its first checkpoint, and resumed: replay, weights, learner."""
    few = ["steps=700", "checkpoint_every=150", "agent.random_steps=100", "agent.learn_after=100", "agent.updates_per_step=1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen([*ITSELF, str(killed), *few], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 200
        while not list(killed.glob("checkpoint/0*")) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.01)
        run = rehearse(whole, *few)  # meanwhile the other goes on, how far is chance
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = checkpoint.newest(killed)
    assert kept is not None
    if kept.transitions >= run.steps:  # it was the faster one: begin again from an earlier moment
        shutil.rmtree(kept.path)
        kept = checkpoint.newest(killed)
    train(run, killed, kept)
    assert files_of(killed) == files_of(whole)
    count = Replay.open(whole / "replay").count  # the last cycle may have completed two
    assert compared(killed, []) == compared(whole, []) == {"logged": count, "differ": 0}, "the log knows what was gone back on"
    episodes = [(d / "metrics.jsonl").read_text().count('"episode"') for d in (whole, killed)]
    assert episodes[0] == episodes[1] > 0


def test_what_cannot_be_gone_on_from_is_one_line_and_nothing_is_changed(tmp_path, capsys):
    def refusal(*words: str) -> str:
        assert cli.main(["resume", *words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.startswith("robotrl resume: ")
        return said

    run = config.load(WALK, SMALL)
    assert "no run directory" in refusal(str(tmp_path / "none"))
    rundir.write_json(tmp_path / "run.json", {"clock": "lockstep", "config": config.to_dict(run)})
    assert "before its first checkpoint" in refusal(str(tmp_path))
    path = checkpoint.save(tmp_path, STEPS, 600, {"agent.safetensors": b"x"}, {})
    assert f"all {STEPS} steps are done; ask for more" in refusal(str(tmp_path))
    assert "holds 2000 transitions" in refusal(str(tmp_path), "--steps", "3000")
    (path / "agent.safetensors").write_bytes(b"y")
    assert "none of 1 is whole" in refusal(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "run.json"]
