"""The policy's books against a brute-force account: every transition once, in order, in its episode, its reward by hand."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from robotrl.config import Run, Task
from robotrl.messages import Applied, Imu, Joints, Permit, Pose
from robotrl.nodes.pilot import Pilot
from robotrl.tasks.walk import Walk

T = 20_000_000
TASK = Task(
    episode_steps=40, tracker_patience_s=0.3, velocity_window_s=0.1, swing_range=0.5, extension_range=0.4, extension_centre=2.0,
    smoothing=0.4, speed_cap=0.5, acceleration_weight=0.1, tilt_weight=0.05, tilt_free=0.2, fold_weight=0.05, fold_free=0.4,
    fall_tilt=0.52, fall_penalty=3.0, stuck_s=0.6, stuck_m=0.2, overspeed_weight=0.7, overspeed_free=0.42, turning_weight=0.03,
    effort_weight=0.02,
)  # fmt: skip
SCALE = np.repeat([0.5, 0.4], 4)  # rad that +-1 stands for: swings, extensions
RUN = dataclasses.replace(Run(), task=TASK)
YAW = 0.4
STOP = Permit(state="HOLD", epoch=0, holder="", torque=True)


def fresh(c) -> Permit | None:
    """The cycle's permit, as a guard that lives says it anew."""
    return c.permit and msgspec.structs.replace(c.permit, t=c.joints.t)


class Rows:
    """In the replay's place: keeps what is added."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    @property
    def count(self) -> int:
        return len(self.rows)

    def add(self, observation, action, reward, next_observation, **rest) -> None:
        self.rows.append(
            {
                "observation": observation.copy(),
                "action": action.copy(),
                "reward": reward,
                "next": next_observation.copy(),
                **rest,
            }
        )


@dataclass
class Cycle:
    """What one servo cycle brings: readings, what was applied, the permit, and the poses that arrive just before it."""

    joints: Joints
    applied: Applied
    imu: Imu
    permit: Permit | None
    poses: list[Pose]
    newest_pose: int = 0  # capture time of the newest pose so far


def cycle(tick: int, rng: np.random.Generator, permit: Permit | None, poses=(), roll: float = 0.0) -> Cycle:
    def eight(low, high):
        return tuple(rng.uniform(low, high, 8).tolist())

    t = tick * T + int(rng.integers(0, T // 4))
    zero, none = (0.0,) * 8, (0,) * 8
    joints = Joints(
        t=t, tick=tick, position=eight(1.0, 3.0), velocity=zero, torque=eight(-3.0, 3.0), temp_c=zero, voltage=zero,
        mode=(10,) * 8, fault=none, missed=none,
    )  # fmt: skip
    imu = Imu(roll=roll or rng.uniform(-0.3, 0.3), pitch=rng.uniform(-0.5, 0.5), yaw=0.0,
              rates=tuple(rng.uniform(-2, 2, 3).tolist()), accel=(0.0, 0.0, 9.8))  # fmt: skip
    applied = Applied(tick=tick, writer="policy", epoch=1, target=eight(1.0, 3.0), clamped=none)
    return Cycle(joints, applied, imu, permit, list(poses))


def play(cycles: list[Cycle]) -> tuple[Pilot, Rows, list]:
    """The cycles through a Pilot; returns it, what it stored, and the episodes it reported."""
    rows = Rows()
    pilot = Pilot(RUN, rows, seed=3)
    finished = []
    for c in cycles:
        for pose in c.poses:
            pilot.see(pose)
        asked = pilot.cycle(c.joints, c.applied, c.imu, fresh(c))
        if asked is not None:
            assert c.permit is not None and (c.permit.state, asked.epoch, asked.tick) == ("RUN", c.permit.epoch, c.joints.tick)
            assert asked.source == "policy" and asked.t == c.joints.t and 0 < asked.valid_ns <= 75_000_000
        finished += pilot.finished
        pilot.finished.clear()
    return pilot, rows, finished


# ---- by hand


def observed(c: Cycle) -> list[float]:
    return [*(p - 2.0 for p in c.joints.position), c.imu.roll, c.imu.pitch, 0.2 * c.imu.rates[0], 0.2 * c.imu.rates[1]]


def legs(c: Cycle) -> np.ndarray:
    """The applied targets in leg space, scaled to +-1: swing of four legs, extension of four legs."""
    m, side = c.applied.target, (1, 1, -1, -1)
    swing = [side[i] * (m[2 * i + 1] - m[2 * i]) / 2 / 0.5 for i in range(4)]
    return np.array([*swing, *(((m[2 * i] + m[2 * i + 1]) / 2 - 2.0) / 0.4 for i in range(4))])


def window(seen: list[Cycle]) -> np.ndarray:
    """The policy's input after these cycles of an episode: six observations, five actions, newest first, the first repeated."""
    back = [seen[max(0, len(seen) - 1 - k)] for k in range(6)]
    return np.concatenate([np.ravel([observed(c) for c in back]), np.ravel([legs(c) for c in back[:5]])])


def path(poses: list[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """When the pictures were taken, ns, and how far forward the torso was in them, m."""
    along = [p.position[0] * math.cos(YAW) + p.position[1] * math.sin(YAW) for p in poses]
    return np.array([p.t for p in poses], float), np.array(along)


def earned(seen: list[Cycle], walked: tuple[np.ndarray, np.ndarray]) -> float:
    t = float(seen[-1].joints.t)
    head, tail = np.interp([t, t - 1e8], *walked).tolist()
    a0, a1, a2 = (legs(seen[max(0, len(seen) - 1 - k)]) * SCALE for k in range(3))
    speed = (head - tail) / 0.1
    reward = min(0.5, max(-0.5, speed)) - 0.7 * max(0.0, speed - 0.42) - 0.1 * float(np.mean(np.abs(a0 - 2 * a1 + a2)))
    reward -= 0.05 * min(math.pi, max(0.0, abs(seen[-1].imu.roll) - 0.2, abs(seen[-1].imu.pitch) - 0.2))
    reward -= 0.03 * abs(seen[-1].imu.rates[2]) + 0.02 * sum(nm**2 for nm in seen[-1].joints.torque) / 8
    return reward - 0.05 * (max(0.0, -a0[0] - 0.4) + max(0.0, -a0[2] - 0.4)) / 2


@dataclass
class Expected:
    row: dict
    made: int  # index of the cycle that made it
    t: int
    free: int = 10**9  # cycle from which it is not the running episode's newest any more


@dataclass
class Told:
    """An episode by hand."""

    first: int
    seen: list[Cycle]
    steps: list[Expected]
    ended: str = ""


def account(cycles: list[Cycle]) -> tuple[list[Told], int]:
    """Episodes and their transitions by the rules of the page alone, and how many steps fell into holes of the tick."""
    walked = path([p for c in cycles for p in c.poses])
    episodes: list[Told] = []
    epoch, holes = -1, 0

    def end(k: int, why: str) -> None:
        if not episodes or episodes[-1].ended:
            return
        episodes[-1].ended = why
        if episodes[-1].steps:
            episodes[-1].steps[-1].free = k
            episodes[-1].steps[-1].row["truncated"] |= why == "stopped"

    for k, c in enumerate(cycles):
        if c.permit is None or c.permit.state != "RUN" or c.permit.holder != "policy":
            end(k, "stopped")
            continue
        if c.permit.epoch != epoch:
            end(k, "stopped")
            epoch = c.permit.epoch
            episodes.append(Told(k, [c], []))
            continue
        told = episodes[-1]
        if told.ended:
            continue
        before = window(told.seen)
        missing = c.joints.tick - told.seen[-1].joints.tick - 1
        told.seen.append(c)
        if missing:
            holes += missing
            continue
        fallen = abs(c.imu.roll) > 0.52 or abs(c.imu.pitch) > 0.52
        lost = c.joints.t - c.newest_pose > 300_000_000
        late = len(told.steps) + 1 >= 40
        made = float(np.diff(np.interp([c.newest_pose - 6e8, c.newest_pose], *walked))[0])
        stuck = c.newest_pose - told.seen[0].joints.t >= 600_000_000 and made < 0.2
        old, new = legs(told.seen[-2]), legs(c)
        row = {
            "observation": before, "action": old + (new - old) / 0.4, "reward": earned(told.seen, walked) - 3.0 * fallen,
            "next": window(told.seen),
            "terminated": fallen, "truncated": not fallen and (lost or late or stuck), "episode": len(episodes) - 1,
            "step": len(told.steps), "tick": c.joints.tick, "policy_version": -1,
        }  # fmt: skip
        if told.steps:
            told.steps[-1].free = k
        told.steps.append(Expected(row, k, c.joints.t))
        if fallen or lost or late or stuck:
            end(k, "fall" if fallen else "tracker lost" if lost else "time" if late else "stuck")
    return episodes, holes


def stored(cycles: list[Cycle], episodes: list[Told]) -> tuple[list[dict], int]:
    """Which transitions get their reward: a pose must reach them before patience ends and the next episode begins."""
    kept, lost = [], 0
    for n, told in enumerate(episodes):
        last = episodes[n + 1].first if n + 1 < len(episodes) else len(cycles) - 1
        for step in told.steps:
            for k in range(step.made + 1, last + 1):
                if cycles[k].newest_pose >= step.t:
                    if k > step.free:
                        kept.append(step.row)
                        break
                elif cycles[k].joints.t - step.t >= 300_000_000:
                    lost += 1
                    break
            else:
                lost += 1
    return kept, lost


# ---- scripts


def script(seed: int) -> list[Cycle]:
    """Forty seconds of trouble: late and lost poses, a tracker that goes away, lost ticks, falls, stops, new leases."""
    rng = np.random.default_rng(seed)
    cycles: list[Cycle] = []
    wire = [pose(n * 16_666_667, rng) for n in range(2600) if rng.random() > 0.1 and not 400 < n % 700 < 440]
    tick, epoch = 30, 0
    while tick < 2000:
        epoch += 1
        running, resting = int(rng.integers(2, 60)), int(rng.choice([0, 1, 3, 25]))
        falls_at = int(rng.integers(1, running + 1)) if rng.random() < 0.3 else -1
        for k in range(running + resting):
            permit = Permit(state="RUN", epoch=epoch, holder="policy", torque=True) if k < running else [STOP, None][k % 2]
            cycles.append(cycle(tick, rng, permit, roll=0.7 if k == falls_at else 0.0))
            tick += 1 if rng.random() > 0.02 else int(rng.integers(2, 5))
    cycles += [cycle(tick + k, rng, None) for k in range(30)]
    for c in cycles:
        while wire[0].t + 33_000_000 <= c.joints.t:
            c.poses.append(wire.pop(0))
    return with_newest(cycles)


def pose(t: int, rng: np.random.Generator) -> Pose:
    along = 0.4 * t * 1e-9 + 0.05 * math.sin(t * 7e-9) + rng.normal(0, 0.002)
    return Pose(t=t, position=(along * math.cos(YAW), along * math.sin(YAW), 0.25), rpy=(0.0, 0.0, YAW))


def with_newest(cycles: list[Cycle]) -> list[Cycle]:
    newest = 0
    for c in cycles:
        newest = c.newest_pose = c.poses[-1].t if c.poses else newest
    return cycles


def same(got: dict, want: dict) -> None:
    for key, value in want.items():
        if isinstance(value, np.ndarray):
            assert got[key] == pytest.approx(value, abs=2e-5), (key, got["tick"])
        else:
            assert got[key] == pytest.approx(value, abs=1e-6), (key, got["tick"])


@pytest.mark.parametrize("seed", range(3))
def test_every_transition_once_in_order_and_by_hand(seed):
    cycles = script(seed)
    pilot, got, finished = play(cycles)
    episodes, holes = account(cycles)
    want, lost = stored(cycles, episodes)
    assert [(r["episode"], r["step"], r["tick"]) for r in got.rows] == [(r["episode"], r["step"], r["tick"]) for r in want]
    for a, b in zip(got.rows, want, strict=True):
        same(a, b)
    assert pilot.dropped == holes + lost
    assert pilot.steps == sum(len(e.steps) for e in episodes)
    assert [f.ended for f in finished] == [e.ended for e in episodes]
    for f, told in zip(finished, episodes, strict=True):
        total = sum(r["reward"] for r in want if r["episode"] == f.episode)
        assert f.step == len(told.steps) and f.total_return == pytest.approx(total, abs=1e-5)
    # the script must have had all of it, or nothing was shown
    assert {e.ended for e in episodes} == {"fall", "time", "stuck", "stopped", "tracker lost"}
    assert holes > 5 and lost > 5 and len(want) > 600


@pytest.mark.parametrize("seed", range(2))
def test_ends_are_one_of_two_and_nothing_crosses_an_episode(seed):
    cycles = script(seed)
    rows = play(cycles)[1].rows
    at = {c.joints.tick: observed(c) for c in cycles}
    for r, after in zip(rows, [*rows[1:], None], strict=True):
        assert not (r["terminated"] and r["truncated"])
        assert r["next"][:12] == pytest.approx(at[r["tick"]], abs=2e-5), "the next observation is the one of this very tick"
        assert r["next"][12:72] == pytest.approx(r["observation"][:60], abs=2e-5), "and its past is this episode's"
        if r["terminated"] or r["truncated"]:
            assert after is None or after["episode"] > r["episode"]


def straight(n: int, permit, **more) -> list[Cycle]:
    """n quiet cycles with poses up to date, then 30 of rest."""
    rng = np.random.default_rng(9)
    cycles = [cycle(30 + k, rng, permit(k) if k < n else STOP, roll=more.get("rolls", {}).get(k, 0.0)) for k in range(n + 30)]
    wire = [pose(k * 16_666_667, rng) for k in range(200)]
    for c in cycles:
        c.poses = [p for p in wire if p.t <= c.joints.t]
        wire = wire[len(c.poses) :]
    return with_newest(cycles)


def test_a_fall_terminates_and_a_time_limit_truncates():
    fall = play(straight(10, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True), rolls={6: 0.6}))[1].rows
    assert [(r["terminated"], r["truncated"]) for r in fall] == [(False, False)] * 5 + [(True, False)]
    limit = play(straight(60, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True)))[1].rows
    assert [(r["terminated"], r["truncated"]) for r in limit] == [(False, False)] * 39 + [(False, True)]


def test_it_keeps_the_last_observations_acted_on():
    cycles = straight(20, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True))
    (unseen,) = Pilot(RUN, None, 0).seen
    assert unseen.shape == (112,)
    pilot, rows, _ = play(cycles)
    assert len(pilot.seen) == 4
    for kept, row in zip(pilot.seen, rows.rows[-4:], strict=True):
        assert kept == pytest.approx(row["next"])


def test_it_tells_how_old_its_weights_are_and_how_the_last_episode_ended():
    cycles = straight(20, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True))
    pilot, _, (done,) = play(cycles)
    assert done.policy_version == -1 and math.isnan(done.policy_age_s)
    now = cycles[-1].joints.t
    report = pilot.report(now)  # the guard has stopped it, and no episode runs
    assert report == done and report.ended == "stopped" and report.total_return != 0.0 and report.speed != 0.0
    pilot.take(None, 4, now - 3_000_000_000)
    assert pilot.report(now + 2_000_000_000).policy_age_s == pytest.approx(5.0)


def test_a_stop_by_the_guard_truncates_the_step_before_it():
    rows = play(straight(8, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True)))[1].rows
    assert [r["truncated"] for r in rows] == [False] * 6 + [True] and not any(r["terminated"] for r in rows)


def test_a_reward_that_is_known_at_once_is_worked_out_once(monkeypatch):
    asked = []
    monkeypatch.setattr(Walk, "reward_of", lambda self, t, *more: asked.append(t) or 0.5)
    rows = play(straight(12, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True)))[1].rows
    assert len(rows) == len(asked) == len(set(asked)) == 11


def test_attitude_that_is_no_number_counts_as_a_fall_and_is_not_acted_on():
    rows = play(straight(6, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True), rolls={3: math.inf}))[1].rows
    assert [r["terminated"] for r in rows] == [False, False, True]


def test_what_was_applied_is_stored_and_not_what_was_asked():
    """The same cycles with other exploration noise: asked differs, stored does not."""
    cycles = straight(20, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True))
    stored_rows, asked = [], []
    for seed in (1, 2):
        rows = Rows()
        pilot = Pilot(RUN, rows, seed)
        for c in cycles:
            for p in c.poses:
                pilot.see(p)
            action = pilot.cycle(c.joints, c.applied, c.imu, fresh(c))
            asked += [action.target] if action else []
        stored_rows.append(np.array([r["action"] for r in rows.rows]))
    assert asked[:20] != asked[20:]
    assert np.array_equal(*stored_rows)


def test_no_lease_no_action():
    for permit in (None, STOP, Permit(state="RUN", epoch=1, holder="", torque=True),
                   Permit(state="RESET", epoch=1, holder="reset", torque=True)):  # fmt: skip
        pilot, rows, _ = play(straight(10, lambda k, permit=permit: permit))
        assert pilot.episode == -1 and rows.count == 0


def test_without_a_learner_it_walks_on_its_last_weights_and_tells_their_age():
    """Ten minutes long nobody gives it others; then somebody does."""
    permit, away = Permit(state="RUN", epoch=1, holder="policy", torque=True), 600_000_000_000
    kept, pilot = Rows(), Pilot(dataclasses.replace(RUN, agent=dataclasses.replace(RUN.agent, random_steps=0)), Rows(), seed=3)
    pilot._keep = lambda t: kept.rows.append(t)
    cycles = straight(30, lambda k: permit)
    pilot.take(Weights(0.25), 7, published := cycles[0].joints.t - away)
    for k, c in enumerate(cycles):
        for one in c.poses:
            pilot.see(one)
        action = pilot.cycle(c.joints, c.applied, c.imu, fresh(c))
        assert (action is not None) == (c.permit is permit)
        if action is not None:
            assert action.policy_version == pilot.version == (7 if k < 20 else 8)
        report = pilot.report(c.joints.t)
        assert report.policy_age_s == pytest.approx((c.joints.t - published) * 1e-9) and report.policy_version == pilot.version
        if k == 19:
            assert report.policy_age_s > 600
            pilot.take(Weights(-0.25), 8, published := c.joints.t)
    assert [t.step for t in kept.rows] == list(range(29)) and pilot.dropped == 0, "each step is kept"
    assert [t.policy_version for t in kept.rows] == [7] * 19 + [8] * 10, "the one that was there when the step was over"


class Weights:
    """In an actor's place."""

    def __init__(self, value: float) -> None:
        self.value = value

    def act(self, observation, noise=None):
        return np.full(8, self.value, np.float32)


@pytest.mark.parametrize(
    ("late_ns", "writer", "acts"), [(60_000_000, "policy", True), (60_000_001, "policy", False), (0, "off", False)]
)
def test_a_dead_guards_permit_and_a_gate_that_is_shut_end_the_episode(late_ns, writer, acts):
    """The robot sinks: nobody's policy did that."""
    kept, pilot = Rows(), Pilot(RUN, Rows(), seed=3)
    pilot._keep = lambda t: kept.rows.append(t)
    for k, c in enumerate(straight(12, lambda k: Permit(state="RUN", epoch=1, holder="policy", torque=True))[:12]):
        for one in c.poses:
            pilot.see(one)
        last = k >= 8
        permit = msgspec.structs.replace(c.permit, t=c.joints.t - late_ns * last)
        applied = msgspec.structs.replace(c.applied, writer=writer) if last else c.applied
        action = pilot.cycle(c.joints, applied, c.imu, permit)
        assert (action is not None) is (acts or not last)
    assert (pilot.just_ended, pilot.tally is None) == (("", False) if acts else (pilot.just_ended, True))
    assert [t.step for t in kept.rows] == list(range(9 if acts else 7)), "what has its poses"
    assert kept.rows[-1].truncated is not acts
