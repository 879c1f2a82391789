"""The workspace in the gate: whoever writes, no target leads out of it, or farther out than the one before."""

import math
import random
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import ConfigError, load, start_of
from robotrl.messages import Action, Permit
from robotrl.move import described
from robotrl.nodes.powerdown import gate_limits
from robotrl.safety.gate import RANGE, SLEW, Gate
from robotrl.safety.limits import PairSum, jointed_limits
from robotrl.safety.stow import HOLD_NS, STUCK_NS, Stow
from robotrl.serialarm import ARMS
from robotrl.stowtime import LAG_S
from robotrl.tasks.task import task_of

T = 20_000_000
LAUNCH = Path(__file__).resolve().parents[2] / "launch"
FRESH = (0, 0)


def wall(q):
    """A plane: a + b <= 1."""
    return max(0.0, q[0] + q[1] - 1.0)


LIMITS = jointed_limits((-2.0, -2.0), (2.0, 2.0), 0.1, 5.0, 1e-5, wall)


class Led:
    """A gate under one writer, its joints exactly where they were sent."""

    def __init__(self, limits, at, state="RUN", holder="policy"):
        self.gate, self.at, self.k, self.state, self.holder = Gate(limits), tuple(at), 0, state, holder
        self.ask(self.at)

    def ask(self, target):
        self.k += 1
        now = self.k * T
        self.gate.permit(Permit(t=now, state=self.state, epoch=1, holder=self.holder, torque=True), now)
        action = Action(source=self.holder, seq=self.k, t=now, epoch=1, tick=0, target=tuple(target))
        verdict = self.gate.decide(now, action, self.at, (0,) * len(self.at))
        assert verdict.target is not None and not verdict.refused
        self.at = verdict.target
        return verdict


def test_it_stops_at_the_wall_and_says_so():
    led = Led(LIMITS, (0.0, 0.0))
    for _ in range(60):
        verdict = led.ask((2.0, -1.0))  # allowed at the end
    assert led.at == pytest.approx((2.0, -1.0), abs=1e-4)
    for _ in range(60):
        verdict = led.ask((2.0, 0.0))
    assert 0.95 < sum(led.at) <= 1.0 and verdict.clamped[1] & RANGE


def test_it_slides_along_the_wall():
    """Asked to (1.5, 0) from (0, 0.98): the first may not go on its own at the wall, the second makes room for it."""
    led = Led(LIMITS, (0.0, 0.98))
    for _ in range(80):
        led.ask((1.4, -0.5))
        assert wall(led.at) == 0.0
    assert led.at == pytest.approx((1.4, -0.5), abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_random_wishes_never_lead_out(seed):
    rng = random.Random(seed)
    led = Led(LIMITS, (rng.uniform(-1, 1.5), rng.uniform(-1, 1.5)))  # some begin outside
    for _ in range(400):
        before = led.at
        led.ask((rng.uniform(-3, 3), rng.uniform(-3, 3)))
        assert wall(led.at) <= wall(before)
        assert all(abs(a - b) <= 0.1 for a, b in zip(led.at, before, strict=True))


def test_from_outside_it_comes_in():
    led = Led(LIMITS, (1.0, 0.8))
    for _ in range(60):
        led.ask((0.0, 0.0))
    assert led.at == pytest.approx((0.0, 0.0), abs=1e-4)


def test_from_outside_it_does_not_come_in_by_itself_and_a_joint_out_of_range_does_slowly():
    gate, at = Gate(LIMITS), (1.0, 2.5)
    for k in range(80):
        gate.permit(Permit(t=k * T, state="HOLD", epoch=1, holder="", torque=True), k * T)
        before, at = at, gate.decide(k * T, None, at, FRESH).target
        assert before[1] - 0.01 <= at[1] <= before[1] and at[0] == 1.0
    assert at == pytest.approx((1.0, 2.0), abs=1e-4) and wall(at) > 1.9


@pytest.mark.parametrize(("edge", "part"), [(0.1, 1.0), (0.06, 0.5), (0.03, 0.25), (0.02, 0.0)])
@pytest.mark.parametrize("joint", [0, 1])
def test_a_joint_takes_the_whole_of_its_step_or_a_half_or_a_quarter_or_none(joint, edge, part):
    """The other takes its own, and only who gave way is said to be cut by the box."""
    limits = jointed_limits((-2.0, -2.0), (2.0, 2.0), 0.1, 5.0, 1e-5, lambda q: max(0.0, q[joint] - edge))
    verdict = Led(limits, (0.0, 0.0)).ask((1.0, 1.0))
    step = 0.1 - 1e-5
    assert verdict.target[joint] == pytest.approx(part * step, abs=1e-12) and verdict.target[1 - joint] == pytest.approx(step)
    assert verdict.clamped[joint] == (SLEW if part == 1.0 else SLEW | RANGE) and verdict.clamped[1 - joint] == SLEW


def test_a_step_that_ends_inside_is_taken_whole_though_one_joint_after_another_would_lead_out():
    limits = jointed_limits((-2.0, -2.0), (2.0, 2.0), 0.1, 5.0, 1e-5, lambda q: max(0.0, abs(q[0] - q[1]) - 0.01))
    verdict = Led(limits, (0.0, 0.0)).ask((1.0, 1.0))
    assert verdict.target == pytest.approx((0.1 - 1e-5, 0.1 - 1e-5)) and verdict.clamped == (SLEW, SLEW)


def test_from_where_the_workspace_is_no_number_it_comes_in_by_a_step_that_ends_inside():
    led = Led(jointed_limits((-2.0, -2.0), (2.0, 2.0), 0.1, 5.0, 1e-5, lambda q: math.nan if q[0] > 0.5 else 0.0), (0.55, 0.0))
    assert led.at == (0.55, 0.0) and led.ask((0.0, 0.0)).target == pytest.approx((0.45 + 1e-5, 0.0))


def test_what_is_no_number_counts_as_out():
    led = Led(jointed_limits((-2.0, -2.0), (2.0, 2.0), 0.1, 5.0, 1e-5, lambda q: math.nan if q[0] > 0.5 else 0.0), (0.0, 0.0))
    for _ in range(30):
        led.ask((1.0, 1.0))
    assert led.at[0] <= 0.5 and led.at[1] == pytest.approx(1.0, abs=1e-4)


def test_pairs_and_a_workspace_are_refused_together():
    with pytest.raises(ValueError, match="do not go together"):
        type(LIMITS)((0.0, 0.0), (1.0, 1.0), (0.1, 0.1), (0.1, 0.1), (PairSum(0, 1, 0.1, 1.0),), outside=wall)


@pytest.mark.parametrize("robot", ["so101", "omx"])
@pytest.mark.parametrize("writer", ["policy", "reset"])
def test_no_writer_leads_an_arm_through_its_table(robot, writer):
    """Of robots as their files describe them: elbow, wrist and tip stay over the floor, by closed kinematics."""
    made = described(LAUNCH / "arm.toml", robot, []).robot
    limits, arm, rng = gate_limits(made, 0.02), ARMS[made.kind], random.Random(5)
    floor = made.workspace.low[2]

    def over(q):
        return min(z for _, _, z in arm.points(q)[2:])

    for _ in range(6):
        at = made.home
        while over(at := tuple(rng.uniform(a, b) for a, b in zip(made.lowest, made.highest, strict=True))) < floor + 0.01:
            pass
        led = Led(limits, at, *(("RUN", "policy") if writer == "policy" else ("RESET", "reset")))
        for _ in range(10):
            wish = tuple(rng.uniform(a, b) for a, b in zip(made.lowest, made.highest, strict=True))
            for _ in range(10):
                led.ask(wish)
                assert over(led.at) >= floor


AT_ITS_BASE = {  # the hand at its own base or behind it: no joint alone finds a way to the stow within the workspace
    "omx": [(0.76, 0.7, 0.78, 1.72, 1.02), (-2.71, -0.04, 0.89, 1.77, -0.07), (0.0, 0.25, 1.02, 1.37, 0.41)],
    "so101": [(-1.7, 1.32, 1.43, 0.53, -2.41, 0.65), (-1.05, 1.45, 1.2, 1.25, -1.92, 0.69), (0.43, 0.68, 1.5, 0.98, 1.85, -0.01)],
}


@pytest.mark.parametrize("robot", ["so101", "omx"])
def test_a_stow_arrives_in_time_from_everywhere_and_leaves_the_workspace_only_where_it_stood_still(robot):
    made = described(LAUNCH / "arm.toml", robot, []).robot
    limits, rng, slid = gate_limits(made, 0.02), random.Random(7), 0
    starts = [tuple(rng.uniform(a, b) for a, b in zip(made.lowest, made.highest, strict=True)) for _ in range(100)]
    for start in AT_ITS_BASE[robot] + [at for at in starts if not limits.outside(at)]:
        stow, at, now, stood, slides = Stow(limits, made.stow), start, 0, 0, False
        while (goal := stow.step(now, at, (0,) * len(at))) is not None:
            slides = slides or bool(limits.outside(goal))
            stood = 0 if now < HOLD_NS or not (slides or goal == at) else stood + 1
            assert not slides or stood > STUCK_NS // T, (start, goal)
            at, now = goal, now + T
            assert now < (made.stop_damp_s - LAG_S) * 1e9, f"let go at {at}, from {start}"
        assert at == pytest.approx(made.stow, abs=0.1)
        slid += slides
    assert len(AT_ITS_BASE[robot]) <= slid < 20


@pytest.mark.parametrize("robot", ["so101", "omx"])
@pytest.mark.parametrize("how", ["full hand", "misses", "hangs"])
def test_a_stow_arrives_from_its_own_base_with_a_full_hand_on_a_bad_line_and_with_a_weight(robot, how):
    made = described(LAUNCH / "arm.toml", robot, []).robot
    limits = gate_limits(made, 0.02)
    for start in AT_ITS_BASE[robot]:
        stow, at, n = Stow(limits, made.stow), list(start), 0
        while (goal := stow.step(n * T, at, [int(how == "misses" and n % 8 == i) for i in range(len(at))])) is not None:
            at, n = list(goal), n + 1
            at[-1] = start[-1] if how == "full hand" and stow is not None else at[-1]
            at[1] += 0.09 if how == "hangs" else 0.0
            if n * 0.02 > made.stop_damp_s:
                break
        assert at[:-1] == pytest.approx(made.stow[:-1], abs=0.1 + 1e-9), start


@pytest.mark.parametrize("robot", ["so101", "omx"])
@pytest.mark.parametrize("how", ["mute", "held"])
def test_a_stow_whose_shoulder_does_not_follow_keeps_to_the_workspace(robot, how):
    """Its cable is off, or somebody's arm is in its way: what stands still then is at no edge."""
    made = described(LAUNCH / "arm.toml", robot, []).robot
    limits, rng, slid = gate_limits(made, 0.02), random.Random(3), 0
    starts = [tuple(rng.uniform(a, b) for a, b in zip(made.lowest, made.highest, strict=True)) for _ in range(60)]
    for start in [at for at in starts if not limits.outside(at)][:20]:
        stow, at, out = Stow(limits, made.stow), start, 0.0
        for n in range(round(made.stop_damp_s / 0.02)):
            missed = tuple(max(0, n - 20) if how == "mute" and i == 1 else 0 for i in range(len(at)))
            if (goal := stow.step(n * T, at, missed)) is None:
                break
            at = tuple(a if i == 1 and n > 20 else g for i, (a, g) in enumerate(zip(at, goal, strict=True)))
            out = max(out, limits.outside(goal))
        slid += out > 1e-9
    assert slid <= (0 if how == "mute" else 2), "whom somebody holds where its targets end anyway"


@pytest.mark.parametrize("space", ["joint", "cartesian"])
@pytest.mark.parametrize("name", ["reach", "reach_omx", "stack"])
def test_no_action_leads_an_arm_through_its_table(name, space):
    """A policy's own actions, in joints and in the room: asked down and about at random, every point stays over the floor."""
    run = load(LAUNCH / f"{name}.toml", [f"task.moves.space={space}"])
    task, rng = task_of(run), np.random.default_rng(3)
    limits, arm, floor = gate_limits(run.robot, 0.02), ARMS[run.robot.kind], run.robot.workspace.low[2]
    led = Led(limits, start_of(run.task, run.robot))
    least = math.inf
    for _ in range(12):
        wish = np.append(rng.uniform(-1, 1, 2), (-1.0, rng.uniform(-1, 1))) if space == "cartesian" else rng.uniform(-1, 1, 4)
        for _ in range(40):
            led.ask(task.target(wish, task.applied(led.at)))
            least = min(least, *(z for _, _, z in arm.points(led.at)[2:]))
            assert least >= floor
    assert least < floor + 0.02, "it was asked through the floor, and came to it"


def test_a_file_whose_home_is_under_the_table_is_refused(tmp_path):
    (tmp_path / "robots").mkdir()
    text = (LAUNCH / "robots" / "so101.toml").read_text().replace("low = [-0.6, -0.6, 0.02]", "low = [-0.6, -0.6, 0.1]")
    (tmp_path / "robots" / "so101.toml").write_text(text)
    (tmp_path / "run.toml").write_text('robot = "so101"\n')
    with pytest.raises(ConfigError, match=r"robot.stow must be within robot.workspace, from which it is 75 mm away"):
        load(tmp_path / "run.toml")
