"""LOCKOUT outlives every start: a launch on a robot's ports refuses until a person has inspected it and said so at a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from robotrl import cli, config, doctor, inspection, manager, rundir
from robotrl.calibration import lockout, store
from robotrl.nodes.epoch import LockoutFile

ROOT = Path(__file__).resolve().parent.parent
ROBOT = replace(config.Robot(), serial="a1")
WORDS = "looked at servo 3's plug: it was loose, and is fixed"


@pytest.fixture
def locked(tmp_path):
    """The folder of records of a robot that its guard has just locked out."""
    path = lockout.path_of(ROBOT, tmp_path)
    path.parent.mkdir()
    LockoutFile(path, "/runs/7").keep(["stop_unconfirmed", "servo_fault"])
    return tmp_path


@pytest.fixture
def person(monkeypatch):
    """Answers at the terminal, in turn."""

    def sit(*answers, terminal=True):
        left = iter(answers)
        monkeypatch.setattr("builtins.input", lambda question: next(left))
        monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: terminal})())

    return sit


def launch(folder, *words):
    return cli.main([*words, "--set", 'robot.serial="a1"', "--calibration", str(folder)])


def inspect(folder):
    return cli.main(["inspect", "minitaur", "a1", "--calibration", str(folder)])


@pytest.mark.parametrize("words", [("run", "launch/walk.toml"), ("move", "launch/arm.toml"), ("commission", "launch/walk.toml")])
def test_no_launch_on_hardware_starts_and_one_line_says_why_when_and_what_to_do(locked, capsys, tmp_path, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = config.load(Path(words[1])).robot.name
    if name != "minitaur":
        (locked / "minitaur").rename(locked / name)
    out = ("--out", str(tmp_path / "runs")) if words[0] != "commission" else ()
    assert launch(locked, *words, *out) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    when = lockout.standing(locked / name / "a1.lockout").when
    assert f"{name} a1 is locked out since {when} by stop_unconfirmed servo_fault (run /runs/7); inspect the robot" in line
    assert line.endswith(f"-m robotrl inspect {name} a1 --calibration {locked}") and said.out == ""
    assert not (tmp_path / "runs").exists()


def test_a_run_on_hardware_is_told_where_its_robots_lockout_is_kept_and_the_twins_is_not(tmp_path):
    assert manager.of_robot(ROBOT, tmp_path) == {"guard": ["--lockout", str(tmp_path / "minitaur" / "a1.lockout")]}


def test_the_doctor_shows_it(locked):
    (row,) = (row for row in doctor.record_rows(ROBOT, locked) if row.name == "lockout")
    assert row.state == "fail" and "stop_unconfirmed" in row.found and "robotrl inspect minitaur a1" in row.fix
    lockout.path_of(ROBOT, locked).unlink()
    (row,) = (row for row in doctor.record_rows(ROBOT, locked) if row.name == "lockout")
    assert (row.state, row.found) == ("ok", "none of minitaur a1")


def test_an_inspection_is_kept_with_its_time_and_words_and_ends_it(locked, capsys, person):
    before = lockout.standing(lockout.path_of(ROBOT, locked))
    person(WORDS, "yes")
    assert inspect(locked) == 0
    said = capsys.readouterr().out
    assert "locked out since" in said and "CUT POWER" in said, "the cause, as the operator was told it"
    assert lockout.require_none(ROBOT, locked) and [p.suffix for p in (locked / "minitaur").iterdir()] == [".json"]
    (file,) = (locked / "minitaur").iterdir()
    record = store.read(lockout.Inspection, file)
    assert (record.looked, record.causes, record.locked, record.run) == (WORDS, before.causes, before.when, before.run)
    assert record.made >= before.when and (record.robot, record.serial) == ("minitaur", "a1")
    assert inspect(locked) == 0 and "is not locked out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "terminal", "says"),
    [
        ((), False, "at a terminal"),
        (("", "yes"), True, "nothing was said"),
        (("  ", "yes"), True, "nothing was said"),
        ((WORDS, "no"), True, "nothing was written"),
        ((WORDS, ""), True, "nothing was written"),
    ],
)
def test_without_a_person_who_says_so_it_stays(locked, capsys, person, answers, terminal, says):
    person(*answers, terminal=terminal)
    assert inspect(locked) == 2
    assert says in capsys.readouterr().err
    assert lockout.standing(lockout.path_of(ROBOT, locked)) and len(list((locked / "minitaur").iterdir())) == 1


def test_an_inspection_that_cannot_be_written_ends_nothing(locked, capsys, person, monkeypatch):
    def full(*_):
        raise store.CalibrationError("no room")

    monkeypatch.setattr(store, "write", full)
    person(WORDS, "yes")
    assert inspect(locked) == 2 and lockout.standing(lockout.path_of(ROBOT, locked))


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"nonsense", b"\n\n\n\n", None])
def test_a_file_that_says_nothing_is_a_lockout_and_can_be_left_like_one(locked, person, text):
    path = lockout.path_of(ROBOT, locked)
    path.write_bytes(text) if text is not None else (path.unlink(), path.symlink_to("nowhere"))
    with pytest.raises(store.CalibrationError, match="locked out since"):
        lockout.require_none(ROBOT, locked)
    assert LockoutFile(path).causes() == ("stop_unconfirmed",)
    person(WORDS, "yes")
    assert inspect(locked) == 0 and lockout.standing(path) is None


def test_it_stands_since_it_came_whatever_joins_it(locked, monkeypatch):
    path = lockout.path_of(ROBOT, locked)
    first = lockout.standing(path)
    monkeypatch.setattr(store, "today", lambda: "2099-01-01T00:00:00+00:00")
    LockoutFile(path, "/runs/8").keep(["stop_unconfirmed"])
    assert lockout.standing(path) == lockout.Lockout("stop_unconfirmed", first.when, "/runs/8")


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden"])
def test_no_name_leads_out_of_the_folder(tmp_path, capsys, name):
    assert cli.main(["inspect", "minitaur", name, "--calibration", str(tmp_path)]) == 2
    assert "records are kept by it" in capsys.readouterr().err


def guard(directory, *words):
    """A guard without a manager: it says what it has to say, and ends; and takes the bus's folder with it."""
    (sockets := directory / "bus").mkdir(mode=0o700, exist_ok=True)
    rundir.write_json(directory / "bus.json", {"directory": str(sockets)})
    done = subprocess.run(
        [sys.executable, "-m", "robotrl.nodes.guard", str(directory), *words],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_guard_forgets_a_twins_lockout_at_a_fresh_start_and_never_a_robots(tmp_path):
    directory = rundir.create(config.load(ROOT / "launch" / "walk.toml"), tmp_path, "wall", False)
    of_robot, of_run = tmp_path / "a1.lockout", directory / "lockout"
    for path in (of_robot, of_run):
        LockoutFile(path).keep(["stop_unconfirmed"])
    code, said = guard(directory, "--lockout", str(of_robot))
    assert code == 2 and "nobody has inspected it" in said and lockout.standing(of_robot)
    code, said = guard(directory, "--lockout", str(of_robot), "--restarted")
    assert code == 0 and "inspected" not in said and lockout.standing(of_robot), "started again in the same run it goes on"
    code, said = guard(directory)
    assert code == 0 and lockout.standing(of_run) is None and lockout.standing(of_robot)


def test_a_notice_of_each_cause(locked):
    assert inspection.notes("servo_fault stop_unconfirmed nonsense") != inspection.notes("servo_fault")
    assert json.dumps(inspection.notes("")) == "[]"
