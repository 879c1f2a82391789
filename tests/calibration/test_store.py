"""The records: written whole, read strictly, and never those of another robot."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robotrl.calibration import making as how
from robotrl.calibration import store
from robotrl.calibration.making import making
from robotrl.calibration.store import Calibration, CalibrationError, Commissioning
from robotrl.config import load


def calibration(**changes) -> Calibration:
    values = {
        "schema": store.SCHEMA,
        "robot": "minitaur",
        "kind": "minitaur",
        "serial": "a1",
        "made": "2026-11-20T12:00:00+00:00",
        "ids": (1, 2, 3, 4, 5, 6, 7, 8),
        "sign": (1,) * 8,
        "offset": tuple(0.1 * i for i in range(8)),
        "pose": (1.57,) * 8,
        "spread": (0.0,) * 8,
    }
    return Calibration(**values | changes)


def commissioning(of: str, **changes) -> Commissioning:
    values = {
        "schema": store.SCHEMA,
        "robot": "minitaur",
        "kind": "minitaur",
        "serial": "a1",
        "made": "2026-11-20T12:00:00+00:00",
        "ids": (1, 2, 3, 4, 5, 6, 7, 8),
        "calibration": of,
        "firmware": ("1.2.0",) * 8,
        "watchdog_s": 0.1,
        "trip_s": (0.1,) * 8,
        "moved": (0.1,) * 8,
        "step": 0.1,
        "seen": "operator",
        "stop_s": 0.1,
        "stop_rad": (0.05,) * 8,
    }
    return Commissioning(**values | changes)


@pytest.fixture
def path(robot, tmp_path):
    out = store.path_of(Calibration, robot, tmp_path)
    store.write(calibration(), out)
    return out


def test_a_record_comes_back_bit_for_bit(path):
    assert store.read(Calibration, path) == calibration()


def test_it_lives_where_configuration_lives(robot, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    expected = tmp_path / "robotrl" / "calibration" / "minitaur" / "a1.json"
    assert store.path_of(Calibration, robot) == expected
    assert store.path_of(Commissioning, robot) == expected.with_name("a1.commissioning.json")


@pytest.mark.parametrize("serial", ["", "../b", "a/b", ".hidden", "a b", "a\n"])
def test_a_serial_that_is_no_file_name_is_refused(robot, tmp_path, serial):
    with pytest.raises(CalibrationError, match="serial"):
        store.path_of(Calibration, replace(robot, serial=serial), tmp_path)


def test_another_robots_record_is_refused_and_both_are_named(robot, path, tmp_path):
    other = store.path_of(Calibration, replace(robot, serial="b2"), tmp_path)
    other.write_bytes(path.read_bytes())
    with pytest.raises(CalibrationError, match=r"serial 'a1', this is .* serial 'b2'"):
        store.load(Calibration, replace(robot, serial="b2"), tmp_path)
    renamed = replace(robot, kind="other")
    with pytest.raises(CalibrationError, match=r"kind 'minitaur' .* kind 'other'"):
        store.load(Calibration, renamed, tmp_path)


@pytest.mark.parametrize(("field", "value"), [("ids", (8, 7, 6, 5, 4, 3, 2, 1)), ("sign", (-1,) * 8)])
def test_a_robot_file_that_changed_since_is_named(robot, path, tmp_path, field, value):
    changed = replace(robot, servos=replace(robot.servos, **{field: value}))
    with pytest.raises(CalibrationError, match=f"field '{field}'"):
        store.calibrated(changed, tmp_path)


def test_commissioning_ends_with_the_calibration_it_was_made_with(robot, path, tmp_path):
    record = store.path_of(Commissioning, robot, tmp_path)
    store.write(commissioning(store.digest(path)), record)
    assert store.commissioned(robot, tmp_path).seen == "operator"
    slower = replace(robot, servos=replace(robot.servos, watchdog_s=0.2))
    with pytest.raises(CalibrationError, match="watchdog_s"):
        store.commissioned(slower, tmp_path)
    store.write(calibration(made="2026-11-21T12:00:00+00:00"), path)
    with pytest.raises(CalibrationError, match="calibrated since"):
        store.commissioned(robot, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ofset": []}, "unknown field 'ofset'; did you mean 'offset'"),
        ({"offset": None}, "'offset' must be a list"),
        ({"offset": [0.0] * 7}, "'offset' has 7 values for 8"),
        ({"offset": [True] + [0.0] * 7}, r"'offset\[0\]' must be float"),
        ({"offset": ["0"] * 8}, r"'offset\[0\]' must be float"),
        ({"offset": [1e9] + [0.0] * 7}, "'offset' is more than"),
        ({"offset": [10**400] + [0.0] * 7}, r"'offset\[0\]' must be float"),
        ({"sign": [2] + [1] * 7}, "'sign' must be 1 or -1"),
        ({"ids": [1] * 8}, "'ids' must name each servo once"),
        ({"ids": []}, "'ids' must name each servo once"),
        ({"schema": 2}, "'schema' is 2"),
        ({"serial": 5}, "'serial' must be str"),
    ],
)
def test_a_wrong_field_is_named(path, change, says):
    path.write_text(json.dumps(dataclasses.asdict(calibration()) | change))
    with pytest.raises(CalibrationError, match=says) as caught:
        store.read(Calibration, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_finite_is_refused(path, word):
    path.write_text(path.read_text().replace("0.1,", f"{word},", 1))
    with pytest.raises(CalibrationError):
        store.read(Calibration, path)


def test_a_missing_field_is_named(path):
    data = dataclasses.asdict(calibration())
    del data["sign"]
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="field 'sign' is missing"):
        store.read(Calibration, path)


def test_a_field_that_is_there_twice_is_refused(path):
    path.write_text(path.read_text().replace('"schema": 1,', '"schema": 1, "schema": 1,'))
    with pytest.raises(CalibrationError, match="twice"):
        store.read(Calibration, path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"schema": 1}', "\x00"])
def test_a_file_that_is_no_record_is_one_line(path, text):
    path.write_text(text)
    with pytest.raises(CalibrationError) as caught:
        store.read(Calibration, path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_make_it(robot, tmp_path):
    with pytest.raises(CalibrationError, match="calibrate homing"):
        store.load(Calibration, robot, tmp_path)
    with pytest.raises(CalibrationError, match="robotrl commission"):
        store.load(Commissioning, robot, tmp_path)


def test_the_command_names_a_run_file_of_the_robot(tmp_path, monkeypatch):
    """By name and serial: two of one kind may be in the folder. Where no file does it says so; a broken one is no hindrance."""
    for at, serial in (("a", "left"), ("b", "right")):
        text = (how.LAUNCH / "robots" / "so101.toml").read_text()
        (tmp_path / "robots").mkdir(exist_ok=True)
        (tmp_path / "robots" / f"so101_{at}.toml").write_text(f'serial = "{serial}"\n{text}')
        (tmp_path / f"{at}.toml").write_text(f'name = "arm"\nrobot = "so101_{at}"\n')
    (tmp_path / "_.toml").write_text("[[[")
    monkeypatch.setattr(how, "LAUNCH", tmp_path)
    robot = replace(load(tmp_path / "a.toml").robot, serial="right")
    assert making(Commissioning.maker, robot).endswith(f" -m robotrl commission {tmp_path / 'b.toml'}")
    assert making(Calibration.maker, replace(robot, serial="third")).endswith(f"homing {tmp_path / 'a.toml'} --serial third")
    other = making(Calibration.maker, replace(robot, name="dkitty"), tmp_path)
    assert other.endswith(f'homing RUN.toml --calibration {tmp_path} (RUN.toml: a run file that says robot = "dkitty")')


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(data)
    with pytest.raises(CalibrationError):
        store.read(Calibration, path)


@given(st.integers(0, 600))
def test_no_torn_file_is_taken_for_a_record(tmp_path_factory, cut):
    path = tmp_path_factory.getbasetemp() / "torn.json"
    store.write(calibration(), path)
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(CalibrationError):
        store.read(Calibration, path)


def test_a_failed_write_leaves_the_old_record(path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CalibrationError, match="No space left on device"):
        store.write(calibration(serial="b2"), path)
    assert store.read(Calibration, path).serial == "a1"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_may_not_be_read_is_not_written(path):
    with pytest.raises(CalibrationError, match="not finite"):
        store.write(calibration(offset=(float("nan"),) * 8), path)
    assert store.read(Calibration, path).serial == "a1"


@pytest.mark.parametrize(("field", "value"), [("pose", 1e7), ("spread", -0.1), ("spread", 40.0)])
def test_a_number_that_nobody_measured_is_refused(tmp_path, field, value):
    path = tmp_path / "a1.json"
    good = dataclasses.asdict(calibration())
    path.write_text(json.dumps(good | {field: [value] + list(good[field][1:])}))
    with pytest.raises(CalibrationError, match=f"field '{field}' must be"):
        store.read(Calibration, path)


@pytest.mark.parametrize(("field", "value"), [("stop_s", -1.0), ("stop_s", 1e5), ("step", 1e5), ("watchdog_s", -0.1)])
def test_a_time_that_nobody_measured_is_refused(tmp_path, field, value):
    path = tmp_path / "a1.commissioning.json"
    path.write_text(json.dumps(dataclasses.asdict(commissioning("0" * 64)) | {field: value}))
    with pytest.raises(CalibrationError, match=f"field '{field}' must be"):
        store.read(Commissioning, path)
