"""What commissioning may send, at its bounds, and the key that ends it."""

from __future__ import annotations

import math
import os
import pty
import sys

import pytest

from robotrl.calibration import homing, slow, store
from robotrl.calibration.commission import commission
from robotrl.calibration.safely import made_safe
from robotrl.calibration.slow import SlowChain
from robotrl.calibration.store import CalibrationError

FIRMWARE = ("1.2.0",) * 8
POSE = (math.pi / 2,) * 8


@pytest.fixture
def slowly(chain, robot):
    out = SlowChain(chain, robot)
    out.read(0)
    return out


def moved(by, place=2):
    return (*POSE[:place], POSE[place] + by, *POSE[place + 1 :])


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (0.0, ""), (0.499, ""), (-0.499, ""), (0.501, "servo 3: target 2.07 rad is 0.50 rad ahead"),
        (-0.501, "is 0.50 rad ahead"),
        (math.nan, "is no number"), (math.inf, "is no number"), (-math.inf, "is no number"),
    ],
)  # fmt: skip
def test_a_first_target_is_near_its_joint(slowly, chain, by, says):
    if not says:
        slowly.write(moved(by))
        return
    with pytest.raises(CalibrationError, match=says):
        slowly.write(moved(by))
    assert "write" not in chain.calls


@pytest.mark.parametrize(("by", "fast"), [(0.0399, False), (-0.0399, False), (0.0401, True), (-0.0401, True)])
def test_a_target_moves_slowly(slowly, chain, by, fast):
    slowly.write(POSE)
    if not fast:
        slowly.write(moved(by))
        return
    with pytest.raises(CalibrationError, match="from the last"):
        slowly.write(moved(by))
    assert chain.calls.count("write") == 1
    slowly.stop()
    slowly.read(1)
    slowly.write(moved(by))  # torque was off: it begins where the joints are


def test_out_of_its_range_a_target_may_only_come_in(slowly, chain, robot):
    low = robot.lowest[2]
    chain.angle[2] = low - 0.1
    slowly.read(1)
    with pytest.raises(CalibrationError, match=r"servo 3: target 0\.29 rad is outside of its range"):
        slowly.write(moved(low - 0.11 - POSE[2]))
    for at in (low - 0.1, low - 0.08, low - 0.05, low - 0.02, low):
        slowly.write(moved(at - POSE[2]))
    with pytest.raises(CalibrationError, match="outside of its range"):
        slowly.write(moved(low - 0.001 - POSE[2]))


def test_nothing_is_sent_before_a_reading_or_for_another_count(chain, robot):
    fresh = SlowChain(chain, robot)
    for targets in (POSE, POSE[:7]):
        with pytest.raises(CalibrationError, match="nothing was sent"):
            fresh.write(targets)
    assert not chain.calls


@pytest.mark.parametrize("after", [1, 20, 90, 400])
def test_a_key_ends_it_damped_off_and_read_back(chain, robot, clock, tmp_path, after):
    path, asked = store.path_of(store.Calibration, robot, tmp_path), []
    store.write(homing.measure(chain, robot, POSE, clock), path)

    def stopped():
        asked.append(chain.calls.count("write"))
        return len(asked) > after

    with pytest.raises(CalibrationError, match="stopped by Enter; no record was written"):
        commission(SlowChain(chain, robot, stopped), robot, clock, FIRMWARE, path)
    assert chain.calls[-1] == "stop" and chain.confirmed_off()
    assert set(chain.calls[len(chain.calls) - chain.calls[::-1].index("write") :]) == {"damp", "stop"}


def test_a_sound_robot_is_commissioned_through_it(chain, robot, clock, tmp_path):
    path = store.path_of(store.Calibration, robot, tmp_path)
    store.write(homing.measure(chain, robot, POSE, clock), path)
    chain.angle = [1.2, 2.0] * 4
    assert commission(SlowChain(chain, robot), robot, clock, FIRMWARE, path).stop_s > 0.0


def test_ctrl_c_is_read_back_too(chain, clock):
    chain.deaf = True
    chain.mode = [10] * 8

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(CalibrationError, match="cut the motor supply"):
        made_safe(chain, clock, interrupted)


def test_enter_at_a_terminal_is_a_key_and_a_pipe_has_none(monkeypatch):
    near, far = pty.openpty()
    with os.fdopen(far) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert not slow.pressed()
        os.write(near, b"\n")
        assert slow.pressed() and not slow.pressed()
    reading, writing = os.pipe()
    os.write(writing, b"\n")
    with os.fdopen(reading) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        assert not slow.pressed()
    os.close(writing)
    os.close(near)
