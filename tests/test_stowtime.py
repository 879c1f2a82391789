"""An arm is given the time that its stow takes: what is accepted gets there, and what is not is said in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import config, stowtime
from robotrl.config import ConfigError
from robotrl.drivers.chains import chain_of
from robotrl.nodes import powerdown, rescue
from robotrl.nodes.powerdown import gate_limits
from robotrl.safety.stow import HOLD_NS, SETTLE_NS, SPEED_SCALE, Stow
from tests.nodes.armrig import ArmRig, TwinClock, run_of

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
HAND_DOWN = (1.01, -1.21, 0.64, 1.92, -0.11)  # of an OpenManipulator-X: its wrist has the farthest way of all
DONE = "for the stow to be done when torque goes off"


@pytest.mark.parametrize(
    ("robot", "settings", "said"),
    [
        ("omx", ["robot.limits.slew_rad_s=0.5"],
         f"robot.limits.slew_rad_s must be 0.93 or more, with robot.stop_damp_s 10, {DONE}, not 0.5"),
        ("omx", ["robot.limits.slew_rad_s=0.1"],
         f"robot.limits.slew_rad_s must be 0.93 or more, with robot.stop_damp_s 10, {DONE}, not 0.1"),
        ("omx", ["robot.limits.slew_rad_s=1.1"],
         f"robot.stop_damp_s must be 8.3 or more, or robot.limits.slew_rad_s 1.14 or more, {DONE}, not 8.0"),
        ("so101", ["robot.stop_damp_s=0"], f"robot.stop_damp_s must be 4.5 or more, {DONE}, not 0.0"),
        ("so101", ["robot.stop_damp_s=0.5"], f"robot.stop_damp_s must be 4.5 or more, {DONE}, not 0.5"),
        ("so101", ["robot.servos.velocity_limit=0.5"],
         f"robot.stop_damp_s must be 7.6 or more, or robot.servos.velocity_limit 0.65 or more, {DONE}, not 6.0"),
        ("so101", ["robot.servos.gear=[1,10,1,1,1,1]"],
         f"robot.servos.velocity_limit must be 3.68 or more, with robot.stop_damp_s 10, {DONE}, not 3.0"),
        ("so101", ["task.rate_hz=200", "robot.stop_damp_s=5"],
         f"robot.stop_damp_s must be 5.7 or more, or robot.limits.slew_rad_s 2.22 or more, {DONE}, not 5.0"),
    ],
)  # fmt: skip
def test_an_arm_that_would_be_let_go_on_its_way_is_refused_with_what_would_do(robot, settings, said, tmp_path):
    with pytest.raises(ConfigError) as refused:
        run_of(robot, tmp_path, settings)
    assert str(refused.value) == f"--set {settings[-1]}: {said}"
    key, least = said.split(" must be ")[0], said.split(" must be ")[1].split(" ")[0]
    longest = ["robot.stop_damp_s=10"] if "stop_damp_s 10" in said else []
    run_of(robot, tmp_path, [*settings, *longest, f"{key}={least}"])
    with pytest.raises(ConfigError):
        run_of(robot, tmp_path, [*settings, *longest, f"{key}={float(least) - (0.11 if key == 'robot.stop_damp_s' else 0.011)}"])
    for other in said.split(", or ")[1:]:
        key, least = other.split(" ")[:2]
        run_of(robot, tmp_path, [*settings, f"{key}={least}"])


def test_legs_are_damped_for_as_long_as_their_file_says(tmp_path):
    assert run_of("dkitty", tmp_path, ["robot.stop_damp_s=0", "robot.limits.slew_rad_s=0.5"]).robot.stop_damp_s == 0.0


@pytest.mark.parametrize("name", ["so101", "omx"])
@pytest.mark.parametrize(("slew", "hz"), [(0.95, 50.0), (2.0, 50.0), (2.0, 20.0), (3.0, 100.0), (7.0, 200.0)])
def test_from_both_ends_of_every_joint_the_stow_is_done_in_that_time_and_none_sooner_by_much(name, slew, hz, tmp_path):
    """Of joints that follow at once, led by a driver and by the rescue, without a workspace, whose edge shortens steps."""
    run = run_of(name, tmp_path, ["robot.stop_damp_s=10", f"robot.limits.slew_rad_s={slew}", f"task.rate_hz={hz}"])
    robot = replace(run.robot, workspace=config.robots.Workspace())
    slowest = 0.0
    for period in (1 / hz, rescue.STEP_S):
        for at in (robot.lowest, robot.highest):
            stow, took = Stow(gate_limits(robot, period), robot.stow), 0.0
            while (goal := stow.step(round(took * 1e9), at, (0,) * len(at))) is not None:
                at, took = goal, took + period
            slowest = max(slowest, took)
    least = stowtime.least_s(run.robot, hz)
    assert slowest <= least < slowest + stowtime.LAG_S + 0.5


def test_the_sum_is_made_of_what_a_stow_is_made_of():
    assert (stowtime.HOLD_S, stowtime.SETTLE_S, stowtime.SPEED_SCALE) == (HOLD_NS / 1e9, SETTLE_NS / 1e9, SPEED_SCALE)
    assert rescue.STEP_S * stowtime.STOW_HZ == powerdown.STEP_NS * 1e-9 * stowtime.STOW_HZ == 1.0


@pytest.mark.parametrize("led_by", ["driver", "rescue"])
@pytest.mark.parametrize("slow", ["robot.limits.slew_rad_s=1.2", "robot.servos.velocity_limit=0.8"])
def test_an_arm_as_slow_as_is_accepted_is_down_before_it_is_let_go(slow, led_by, tmp_path):
    longest = run_of("omx", tmp_path, [slow, "robot.stop_damp_s=10"])
    arm = ArmRig("omx", tmp_path, [slow, f"robot.stop_damp_s={stowtime.least_s(longest.robot, 50.0) + 1e-6}"]).running()
    arm.wish = HAND_DOWN
    arm.until(lambda: max(abs(a - b) for a, b in zip(arm.joints.position, HAND_DOWN, strict=True)) < 0.1)
    if led_by == "driver":
        arm.wish = None
        arm.reach("HOLD", "pause").until(lambda: arm.drive.powered_off_confirmed, "disable", 12.0)
    else:
        chain = chain_of(arm.twin.ports()["servos"], arm.run.robot, TwinClock(arm), starts=False)
        assert rescue.stop_motors(arm.run.robot, chain, TwinClock(arm), True, print).confirmed
    assert not any(servo.registers.get("torque") for servo in arm.twin.bus.servos)
    arm.twin.advance(1.0)
    assert tuple(arm.twin.joints.angle) == pytest.approx(arm.run.robot.stow, abs=0.12)
