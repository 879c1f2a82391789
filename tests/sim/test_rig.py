"""The whole program on virtual time: what goes over the servos' wire, whoever asks, and that the clocks and books agree."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from robotrl import config
from robotrl.kinematics import to_leg
from robotrl.replay import Replay
from robotrl.sim.domain import Domain
from robotrl.sim.faults import Saturate
from robotrl.sim.motor import AMPERES, NEWTON_METRES
from robotrl.sim.rig import Rig

WALK = Path(__file__).resolve().parent.parent.parent / "launch" / "walk.toml"


class NoNumbers:
    """A policy whose networks have gone to nan."""

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        return np.full(8, np.nan, np.float32)


def rig_of(*overrides: str, seed: int = 0, replay: Replay | None = None) -> Rig:
    return Rig(config.load(WALK, list(overrides)), seed, replay=replay)


def test_targets_that_are_no_numbers_are_never_sent_and_stop_the_run_when_they_go_on(wire_tap):
    rig = rig_of("agent.random_steps=0")
    rig.twin.wires["servos"].add(wire_tap)
    rig.pilot.take(NoNumbers(), 1, 0)  # type: ignore[arg-type]
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
        wire_tap.read()
    states = []
    for _ in range(8):
        rig.cycle()
        states.append(rig.permit.state)
        assert all(math.isfinite(angle) for angle in wire_tap.read().position.values())
    assert "STOPPING" in states and rig.servos.gate.counts["non-finite"] >= 2
    rig.close()


def test_an_imu_out_of_its_range_takes_torque_off_within_a_cycle():
    rig = rig_of()
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
    rig.twin.wires["imu"].add(Saturate())
    rig.cycle()
    assert rig.imu.refused >= 3 and not rig.imu.stale, "seen before the sample is too old"
    assert rig.permit.state == "RELAX" and "imu_implausible" in rig.guard.causes
    rig.close()


@pytest.mark.parametrize(("falls", "resets"), [(0, 0), (400, 1)])
def test_the_twins_budget_of_falls_is_its_own(falls, resets):
    """A fall within it goes to a reset; one beyond it waits for the operator."""
    rig = rig_of(f"twin.falls={falls}", "robot.limits.falls=7")
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
    states = []
    while not states or states[-1] not in ("RESET", "READY"):
        if "RELAX" not in states:
            rig.twin.world.push((0.0, 150.0, 0.0), 0.02)
        rig.cycle()
        states.append(rig.permit.state)
    assert "RELAX" in states and (states[-1] == "RESET") == bool(resets)
    rig.close()


def test_the_motors_are_off_until_the_operator_enables(wire_tap):
    rig = rig_of()
    rig.twin.wires["servos"].add(wire_tap)
    rig._operate = lambda now: None  # nobody presses a key
    for _ in range(50):
        rig.cycle()
        assert not wire_tap.read().position
    assert rig.permit.state == "READY" and not any(rig.joints.mode)
    rig.close()


@pytest.mark.parametrize("strength", [0.8, 1.2])
def test_a_servo_reports_the_current_it_measures_however_strong_its_motor_is(strength):
    rig = rig_of("twin.joint_noise_rad=0")
    for _ in range(30):
        rig.cycle()
    rig.twin.world.apply(Domain(strength=strength))
    shaft = []
    for _ in range(40):
        rig.cycle()
        drawn = rig.twin.world.motors.current
        np.testing.assert_allclose(rig.joints.torque, 0.1 * drawn, atol=0.011)  # a step of its register
        shaft.append(np.interp(np.abs(rig.twin.world.torque), NEWTON_METRES, AMPERES) - np.abs(drawn))
    assert np.abs(shaft).max() > 1.0, "or there is no difference to see"
    rig.close()


@pytest.mark.parametrize("down", [0, 500])
def test_a_push_comes_once_an_episode_from_any_side_as_strong_and_as_long_as_asked(down, monkeypatch):
    rig = rig_of(
        "twin.push_n=240", f"twin.push_down_n={down}", "twin.push_s=0.06", "agent.random_steps=0", "task.episode_steps=201"
    )
    pushes = [rig._push() for _ in range(200)]
    flat, angle = [math.hypot(x, y) for x, y, _ in pushes], [math.atan2(y, x) for x, y, _ in pushes]
    assert 120 <= min(flat) < 125 and 230 < max(flat) <= 240
    assert all(np.histogram(angle, 8, (-math.pi, math.pi))[0] > 5)
    assert all(-down <= z <= -0.6 * down for *_, z in pushes)
    felt = []
    monkeypatch.setattr(rig.twin.world, "push", lambda force, seconds: felt.append((rig.pilot.tally.episode, seconds)))
    while rig.pilot.episode < 2:
        rig.cycle()
    assert felt == [(0, 0.06), (1, 0.06)]
    rig.close()


def test_one_tick_a_cycle_and_a_period_that_jitters_but_does_not_drift():
    rig = rig_of("twin.randomise=false", "twin.period_jitter=0.3")
    ticks, times = [], []
    for _ in range(100):
        rig.cycle()
        ticks.append(rig.joints.tick)
        times.append(rig.joints.t * 1e-9)
    assert ticks == list(range(100))
    periods = np.diff(times)
    assert 0.0139 < periods.min() < 0.0149 and 0.0251 < periods.max() < 0.0261  # 20 ms, 30 % either way, whole physics steps
    assert periods.mean() == pytest.approx(0.02, rel=0.05)
    rig.close()


def test_an_action_is_applied_one_cycle_after_the_reading_it_answers():
    rig = rig_of()
    lags = []
    for _ in range(150):
        rig.cycle()
        if rig.applied.writer == "policy":
            lags.append(rig.applied.tick - rig.applied.action_tick)
    assert len(lags) > 50 and set(lags) == {1}
    rig.close()


def test_what_lies_in_the_replay_is_what_the_bytes_held(tmp_path):
    replay = Replay.create(tmp_path / "replay", 112, 8, 1000)
    rig = rig_of("task.episode_steps=60", replay=replay)
    sent = {}
    while replay.count < 100:
        rig.cycle()
        sent[rig.applied.tick] = rig.pilot.task.sent(*to_leg(np.array(rig.applied.target)))
    for i in range(replay.count):
        tick = int(replay.columns["tick"][i])
        now, before = sent[tick], sent[tick - 1]
        assert replay.columns["next_observation"][i][72:80] == pytest.approx(now, abs=1e-6)
        action = before + (now - before) / rig.run.task.smoothing
        assert replay.columns["action"][i] == pytest.approx(action, abs=1e-4)
    counts = replay.check()
    assert counts["gaps"] == counts["doubles"] == counts["both_ends"] == 0
    rig.close()
    replay.close()


def run_of(seed: int, n: int = 200) -> list[tuple]:
    rig, out = rig_of(seed=seed), []
    for _ in range(n):
        rig.cycle()
        out.append((rig.joints, rig.applied, rig.imu, rig.permit))
    rig.close()
    return out


def test_one_seed_one_robot():
    assert run_of(3) == run_of(3)
    assert run_of(3, 60) != run_of(4, 60)


def test_a_hand_sets_the_robot_on_its_feet_once_and_only_while_no_motor_holds_a_leg(monkeypatch):
    """On its back nothing here turns it over. Legs turned by hand against a motor would be driven back to where they were."""
    rig = rig_of("agent.random_steps=0", "twin.randomise=false")
    while rig.permit is None or rig.permit.state != "RUN":
        rig.cycle()
    place, held, seen = rig.twin.world.place, [], set()
    place("back")
    monkeypatch.setattr(rig.twin.world, "place", lambda pose: held.append(rig.permit.torque) or place(pose))
    for _ in range(1500):
        rig.cycle()
        seen |= set(rig.guard.causes)
        if held and rig.permit.state == "RUN":
            break
    assert rig.permit.state == "RUN" and held == [False]
    assert "reset_failed" in seen and "servo_lost" not in seen
    rig.close()
