"""A run on hardware that is gone on with: by which limits its robot is driven when the robot file was changed meanwhile."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robotrl import config, manager, robotnow, rundir
from robotrl.replay import Replay

LAUNCH = Path(__file__).resolve().parent.parent / "launch"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A folder of run and robot files, and what `resume` would have looked over of a run that was begun with them."""
    (tmp_path / "robots").mkdir()
    for name in ("reach.toml", "robots/so101.toml"):
        shutil.copy(LAUNCH / name, tmp_path / name)
    looked = []
    monkeypatch.setattr(manager, "looked_over", lambda run, _: looked.append(run))

    def resumed(edit, overrides=(), kept=True):
        """The exit code, and the run that would be looked over. `kept`: it was begun by a version that keeps its robot's file."""
        path = tmp_path / "reach.toml"
        run = config.load(path, [*overrides])
        run = replace(run, robot=replace(run.robot, servos=replace(run.robot.servos, identity=("a",) * 6)))  # its calibration's
        directory = rundir.create(run, tmp_path / "runs", "wall", False, robotnow.origin(path, [*overrides]) if kept else None)
        Replay.create(directory / "replay", 3, 6, 100).close()
        file = tmp_path / "robots" / "so101.toml"
        before, after = file.read_text(), edit(file.read_text())
        assert before != after or edit is unchanged
        file.write_text(after)
        before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
        code = manager.resume(directory, None, 0.0, None, as_json=False)
        assert looked or {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before, "refused, and written to"
        return code, looked[0] if looked else None

    return resumed


def unchanged(text):
    return text


def cooler(text):
    return text.replace("\ntemp_c = 65.0", "\ntemp_c = 50.0", 1)


def elsewhere(text):
    return text.replace('\nport = "/dev/serial/by-id/usb-so101"', '\nport = "/dev/ttyACM7"', 1)


def test_a_limit_that_was_changed_since_refuses_and_says_which(made, capsys):
    code, looked = made(cooler)
    said = capsys.readouterr().err.splitlines()
    assert code == 2 and looked is None and len(said) == 1
    assert "robot.limits.temp_c: 65.0 when the run was begun, 50.0 in " in said[0] and "or write the first back" in said[0]


def test_another_port_is_taken_and_nothing_else(made, capsys):
    code, looked = made(elsewhere)
    assert code == 2 and looked.robot.servos.port == "/dev/ttyACM7" and not capsys.readouterr().err
    assert looked.robot.servos.identity == ("a",) * 6 and np.isclose(looked.robot.limits.temp_c, 65.0)


@pytest.mark.parametrize(
    "overrides", [["robot.limits.temp_c=40"], ["robot.servos.port=/dev/ttyUSB3", "agent.batch=128", "steps=7"]]
)
def test_what_was_set_for_the_run_alone_is_no_change_of_the_file(made, overrides):
    _, looked = made(unchanged, overrides)
    assert looked is not None and (looked.robot.servos.port or "temp_c" in overrides[0])


def test_a_run_that_kept_no_file_is_compared_with_that_of_the_checkout(made):
    assert made(cooler, kept=False)[1] is not None, "it is none of the checkout's that was edited here"
    assert robotnow.now(config.load(LAUNCH / "reach.toml", ["robot.stop_damp_s=7"]), None)[1]


def test_a_robot_file_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(config.ConfigError, match=r"x\.toml: the robot's file is gone, .*; put it back there$"):
        robotnow.now(config.Run(), {"file": str(tmp_path / "x.toml"), "set": []})


def test_a_checkout_that_was_moved_keeps_its_runs(tmp_path):
    run = config.load(LAUNCH / "reach.toml", ["robot.stop_damp_s=7"])
    _, differs = robotnow.now(run, {"file": str(tmp_path / "was" / "here" / "so101.toml"), "set": []})
    assert len(differs) == 1 and differs[0].startswith("robot.stop_damp_s: 7.0 when")
