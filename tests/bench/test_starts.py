"""`robotrl bench starts`: what it calls well, by logs that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

GUARD = """\
1000000000 CHECK <- started [temp_high driver_silent] waiting for the servo driver
3000000000 READY <- checks passed [] 
4500000000 RUN <- key run (console) [] 
5000000000 RUN [clamped] the policy asks for too much
6000000000 PSTOP <- servo_lost [servo_lost] a servo does not answer: see its cable
9000000000 RELAX <- run_over [run_over] the run is over
"""


@pytest.fixture
def starts(script):
    return script("starts")


def test_what_the_checks_wait_for_and_what_the_end_brings_are_no_causes(starts):
    assert starts.judged(GUARD, 1_000_000_000, 9_000_000_000) == (
        {"READY": 2.0, "RUN": 3.5},
        ("clamped", "servo_lost"),
        ("servo_lost",),
    )


def test_a_reset_that_fails_is_foreseen_where_the_robot_may_have_fallen_and_not_before(starts):
    log = "1 READY <- checks passed [] \n2 HOLD <- reset_failed [reset_failed] put it on its feet\n"
    assert starts.judged(log, 0, 9)[2] == ("reset_failed",)
    assert starts.judged(log.replace("2 HOLD", "2 RUN [] \n3 HOLD"), 0, 9)[1:] == (("reset_failed",), ())


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("policy", "Traceback (most recent call last):\n  File\nValueError: no\n", "an exception in policy.log: ValueError: no"),
        ("guard", "7 LOCKOUT <- stop_unconfirmed [stop_unconfirmed] cut the power\n", "LOCKOUT"),
        ("manager", '{"t": 1, "name": "reset", "pid": 2, "event": "died", "detail": "exit code 1"}\n', "reset died: exit code 1"),
    ],
)
def test_a_death_a_traceback_and_a_lockout_are_found(starts, tmp_path, name, said, words):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "guard.log").write_text(GUARD)
    (tmp_path / "logs" / "manager.log").write_text('{"t": 1, "name": "reset", "pid": 2, "event": "started", "detail": ""}\n')
    assert not list(starts.complaints(tmp_path))
    (tmp_path / "logs" / f"{name}.log").write_text(said)
    (line,) = starts.complaints(tmp_path)
    assert words in line


@pytest.mark.parametrize(("name", "well"), [("reach_classified", True), ("walk", False)])
def test_a_refusal_is_well_only_where_it_is_meant(starts, monkeypatch, tmp_path, name, well):
    class Refused:
        def __init__(self, out, **_):
            (out / "output.txt").write_text("robotrl run: no\n")
            raise AssertionError

    monkeypatch.setattr(starts, "Live", Refused)
    row = starts.start(Path(f"{name}.toml"), tmp_path)
    assert row.reached == "refused" and (row.why == "") is well


def test_a_program_that_ends_without_a_word_is_not_well(starts, monkeypatch, tmp_path):
    class Killed:
        def __init__(self, out, **_):
            (out / "output.txt").write_text("")
            raise AssertionError

    monkeypatch.setattr(starts, "Live", Killed)
    assert [bool(starts.start(Path(f"{name}.toml"), tmp_path).why) for name in ("walk", "reach_classified")] == [True, True]


def test_who_is_to_be_refused_and_starts_is_not_well(starts, monkeypatch, tmp_path):
    class Begun:
        directory = tmp_path

        def __init__(self, *_, **__):
            pass

        def close(self):
            pass

    monkeypatch.setattr(starts, "Live", Begun)
    monkeypatch.setattr(starts, "_reach", lambda *_: None)
    monkeypatch.setattr(starts, "_end", lambda *_: None)
    assert starts.start(Path("reach_classified.toml"), tmp_path).why == "it was not refused"
    assert not starts.start(Path("walk.toml"), tmp_path).why
