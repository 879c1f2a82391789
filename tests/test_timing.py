"""How a session kept time, against times that were put into it; and the pictures of it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from robotrl import checkpoint, config, plots, report, rundir, timing
from robotrl import messages as m
from robotrl.account import Figures
from robotrl.lateness import Lateness
from robotrl.session import Session

MS = 1_000_000


def joints(i: int, t: int, boot: int = 1) -> m.Joints:
    eight = (0.0,) * 8
    return m.Joints(source="servos", boot=boot, seq=i, t=t, tick=i, position=eight, velocity=eight, torque=eight, temp_c=eight,
                    voltage=eight, mode=(0,) * 8, fault=(0,) * 8, missed=(0,) * 8)  # fmt: skip


def drive(i: int, t: int, late_us: float, overruns: int, boot: int = 1) -> m.Drive:
    return m.Drive(source="servos", boot=boot, seq=i, t=t, tick=i, gate_open=True, torque_on=True, powered_off_confirmed=False,
                   late_us=late_us, cycle_us=900.0, overruns=overruns, frame_errors=0, stop="")  # fmt: skip


def thought(i: int, t: int, acted: bool = True, weights_t: int = -1) -> m.Thought:
    return m.Thought(source="policy", boot=2, seq=i, t=t + 3 * MS, tick=i, joints_t=t, applied_t=t + 2 * MS, imu_t=t - 4 * MS,
                     pose_t=t - 30 * MS, imu=(1, i), pose=(1, i), permit=(1, i), episode=0, step=i, steps=i, acted=acted,
                     weights_t=weights_t)  # fmt: skip


@pytest.fixture
def session(tmp_path) -> Path:
    """A hundred periods of 20 ms, one of 60 ms after which the driver counts two overruns; a second life with one of its own."""
    (tmp_path / "sessions").mkdir()
    session = Session(tmp_path / "sessions" / "0001.mcap", {"config": "{}"})
    t = 10**9
    for i in range(1, 102):
        missed = 2 if i > 50 else 0
        t += 60 * MS if i == 51 else 20 * MS
        if i != 20:  # one was lost on its way
            session.write("joints", joints(i, t))
        session.write("drive", drive(i, t, 100.0 if i != 51 else 900.0, missed))
        session.write("thought", thought(i, t, acted=i > 1, weights_t=t - 997 * MS if i > 90 else -1))
    session.write("joints", joints(1, t + 5000 * MS, boot=9))
    session.write("drive", drive(1, t + 5000 * MS, 0.0, 1, boot=9))
    session.finish({})
    return tmp_path / "sessions" / "0001.mcap"


def test_periods_ages_and_overruns_are_those_that_were_put_in(session):
    row = timing.read([session]).row()
    assert row["periods"] == 98 and row["overruns"] == 3
    assert row["period"] == {"p50": 20.0, "p99": pytest.approx(21.2), "max": 60.0}, (
        "no period between two lives, or over a message that is missing"
    )
    assert row["late"]["p50"] == pytest.approx(0.1) and row["late"]["max"] == pytest.approx(0.9)
    assert (row["joints"]["p50"], row["imu"]["p50"], row["pose"]["p50"], row["command"]["p50"]) == (3.0, 7.0, 33.0, 2.0)
    assert row["policy_s"]["max"] == pytest.approx(1.0)
    assert len(timing.read([session]).joints) == 100, "where it did not act nothing was old"


def test_a_robot_without_an_imu_has_no_age_of_one():
    kept = timing.Timing()
    kept.take(msgspec.structs.replace(thought(2, 10**9), imu_t=-1, pose_t=-1))
    assert kept.row()["joints"] == {"p50": 3.0, "p99": 3.0, "max": 3.0} and kept.row()["imu"] is kept.row()["pose"] is None


def test_an_empty_session_has_no_figures_and_a_picture_that_says_so(tmp_path):
    Session(tmp_path / "0001.mcap", {"config": "{}"}).finish({})
    told = plots.drawn(tmp_path / "0001.mcap")
    assert told["kept"] == {"periods": 0, "overruns": 0, **dict.fromkeys(
        ("period", "late", "joints", "imu", "pose", "command", "policy_s"))}  # fmt: skip
    assert cv2.imread(told["timing"]).std() > 1


def test_plot_draws_a_run_and_its_sessions_or_one_session(session, capsys):
    run = session.parent.parent
    (run / "metrics.jsonl").write_text(json.dumps({"kind": "episode", "step_total": 5, "return": 1.0, "speed": 0.1}) + "\n")
    assert plots.main([str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(run / "plot.png"), str(run / "sessions" / "timing.png")]
    assert plots.main([str(session), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["timing"] == str(session.with_suffix(".png")) and "picture" not in told and told["kept"]["overruns"] == 3
    for path in (run / "sessions" / "timing.png", session.with_suffix(".png")):
        picture = cv2.imread(str(path))
        assert picture.shape[1] > 1000 and picture.std() > 10
    (run / "sessions" / "0002.mcap").write_bytes(b"none")
    assert plots.main([str(run)]) == 2 and "0002.mcap" in capsys.readouterr().err


def test_overruns_of_all_lives_are_in_the_summary(tmp_path, capsys):
    for late, missed in (((1.0, 2.0), 3), ((4.0,), 1)):
        kept = Lateness()
        kept.late_us.extend(late)
        kept.overruns = missed
        kept.save(tmp_path / "timing.npz", [900.0] * len(late))
    with np.load(tmp_path / "timing.npz") as file:
        assert file["late_us"].tolist() == [1.0, 2.0, 4.0] and len(file["cycle_us"]) == 3
    assert report.overruns(tmp_path) == (4, 3)
    report.tell(tmp_path, {}, report.overruns(tmp_path), Figures())
    first = capsys.readouterr().out.splitlines()[1]
    assert first.startswith("timing  4 overruns, 3 periods kept; an overrun is skipped") and "HOLD" in first and "PSTOP" in first
    assert report.overruns(tmp_path / "nowhere") is None


def test_what_was_not_learnt_is_in_the_summary(tmp_path, capsys):
    run = config.load(Path(__file__).resolve().parent.parent / "launch" / "walk.toml", ["agent.learn_after=100"])
    directory = rundir.create(run, tmp_path, "wall", sim=True)
    assert report.learnt(directory) == ""
    checkpoint.save(directory, 1_100, 1_000, {"a": b""}, {"dropped": 0})
    assert report.learnt(directory) == "learner 1000 updates, 1 a step of 1 asked"
    checkpoint.save(directory, 10_100, 2_950, {"a": b""}, {"dropped": 7041})
    report.tell(directory, {}, None, Figures())
    first = capsys.readouterr().out.splitlines()[1]
    assert first.startswith(
        "learner 2950 updates, 0.29 a step of 1 asked; 7041 owed beyond agent.max_backlog = 3000 steps' are DROPPED"
    )


def test_what_the_summary_says_of_overruns_is_what_the_causes_do():
    from robotrl.safety.causes import Severity, catalogue

    rows = {row.id: row for row in catalogue()}
    assert rows["overrun"].above == 2 and rows["overrun"].action is Severity.HOLD
    assert rows["driver_silent"].above == 0.06 and rows["driver_silent"].action is Severity.PSTOP
