"""Configuration: every field read, every mistake one line with file, line and the nearest name."""

import dataclasses
import json
import math
import typing
from pathlib import Path

import pytest

from robotrl import config

LAUNCH = Path(__file__).parent.parent / "launch"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "minitaur.toml").write_text((LAUNCH / "robots" / "minitaur.toml").read_text())

    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


def complaint(path, overrides=()):
    with pytest.raises(config.ConfigError) as caught:
        config.load(path, list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_run_loads():
    run = config.load(LAUNCH / "walk.toml")
    assert run.robot.servos.ids == (1, 2, 3, 4, 5, 6, 7, 8) and run.task.history == 5


def test_a_robot_may_fall_five_times_before_a_person_looks_and_the_twin_as_often_as_learning_takes():
    run = config.load(LAUNCH / "walk.toml")
    assert run.robot.limits.falls == 5 and run.twin.falls >= 100


def test_an_unknown_key_names_file_line_and_neighbour(files):
    path = files('name = "x"\n[agent]\nbatch = 64\nbach = 3\n')
    assert complaint(path) == f"{path}:4: unknown key 'agent.bach'; did you mean 'batch'?"


def test_an_unknown_key_of_the_robot_names_the_robot_file(files, tmp_path):
    path = files('robot = "minitaur"\n')
    robot = tmp_path / "robots" / "minitaur.toml"
    robot.write_text(robot.read_text().replace("ids =", "idz ="))
    assert complaint(path).startswith(f"{robot}:8: unknown key 'robot.servos.idz'")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('steps = "many"', "steps must be int, not 'many'"),
        ("steps = 1.5", "steps must be int, not 1.5"),
        ("steps = true", "steps must be int, not True"),
        ("[agent]\ndiscount = inf", "agent.discount must be finite"),
        ("[agent]\nhidden = [64, 'a']", "agent.hidden must be int, not 'a'"),
        ("agent = 3", "agent must be a section"),
        ("[agent", "not readable as TOML"),
        ('robot = "unicorn"', "known robots: minitaur"),
    ],
)
def test_mistakes_in_a_file(files, text, want):
    assert want in complaint(files(text))


@pytest.mark.parametrize("item", ["agent.batch", "=3", "agent.nothing=1", "agent.batch=many", "steps.deep=3"])
def test_mistakes_in_an_override(files, item):
    complaint(files(""), [item])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("actor_every = 0", "agent.actor_every must be 1 or more, not 0"),
        ("temperature_lr = -1e-4", "agent.temperature_lr must be 0 or more, not -0.0001"),
        ("target_subset = -1", "agent.target_subset must be 0 or more, not -1"),
        ("critics = 4\ntarget_subset = 5", "agent.target_subset must be at most agent.critics, 4, not 5"),
        ('actor_value = "max"', """agent.actor_value must be "min" or "mean", not 'max'"""),
        ("dropout = 1", "agent.dropout must be 0.99 or less, not 1.0"),
        ("hidden = []", "agent.hidden must be 1 to 8 layers, not []"),
        ("capacity = 100", "steps must be at most agent.capacity, 100, not 36000"),
        ("dropout = -0.1", "agent.dropout must be 0 or more, not -0.1"),
    ],
)
def test_an_agent_that_makes_no_sense(files, text, want):
    path = files(f"[agent]\n{text}\n")
    line = "" if want.startswith("steps") else f":{2 + text.count(chr(10))}"  # a default stands in no line
    assert complaint(path) == f"{path}{line}: {want}"


def numbers(cls=config.Run, path=""):
    """Every setting that is a number or a list of them: dotted key, its field, whether it is a list, whether it is whole."""
    for field in dataclasses.fields(cls):
        kind, key = typing.get_type_hints(cls)[field.name], f"{path}{field.name}"
        if dataclasses.is_dataclass(kind):
            yield from numbers(kind, f"{key}.")
        item = (typing.get_args(kind) or [kind])[0]
        if item in (int, float):
            yield key, field, typing.get_origin(kind) is tuple, item is int


NUMBERS = [pytest.param(*row, id=row[0]) for row in numbers()]


def test_the_numbers_are_all_found():
    assert len(NUMBERS) > 80


@pytest.mark.parametrize(("key", "field", "many", "whole"), NUMBERS)
def test_every_number_has_a_bound_and_its_default_is_within(key, field, many, whole):
    bound = field.metadata["within"]
    assert math.isfinite(bound.low) and math.isfinite(bound.high)
    defaults = field.default if many else [field.default]
    assert all(bound.low <= value <= bound.high or (bound.nan and math.isnan(value)) for value in defaults)


@pytest.mark.parametrize(("key", "field", "many", "whole"), NUMBERS)
def test_a_number_out_of_its_bound_is_named_with_its_place(files, tmp_path, key, field, many, whole):
    bound = field.metadata["within"]
    beyond = (math.floor(bound.low) - 1, math.ceil(bound.high) + 1) if whole else (bound.low - 0.01, bound.high + 0.01)
    wrong = [*beyond, -math.inf, math.inf, *([] if bound.nan else [math.nan])]
    for value in wrong:
        text = f"[{value}]" if many else f"{value}"
        said = complaint(files(""), [f"{key}={text}"])
        assert said.startswith(f"--set {key}={text}: {key} must be ")
    section, _, name = f".{key}".rpartition(".")
    robot = tmp_path / "robots" / "minitaur.toml"
    text = f"[{wrong[0]}]" if many else f"{wrong[0]}"
    if section.startswith(".robot"):
        head = f"[{section.removeprefix('.robot').strip('.')}]\n" if section != ".robot" else ""
        robot.write_text(f"{head}{name} = {text}\n")
        path, place = files(""), f"{robot}:{1 + bool(head)}"
    else:
        head = f"[{section.strip('.')}]\n" if section else ""
        path = files(f"{head}{name} = {text}\n")
        place = f"{path}:{1 + bool(head)}"
    assert complaint(path).startswith(f"{place}: {key} must be ")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("robot.servos.ids=[1,2]", "robot.servos.ids must be 8 ids, no two alike, not [1, 2]"),
        ("robot.servos.ids=[1,1,3,4,5,6,7,8]", "no two alike"),
        ("robot.servos.sign=[1,2]", "robot.servos.sign must be 1 or -1, not 2"),
        ("robot.servos.sign=[1,-1]", "robot.servos.sign must be 8 numbers, one a motor"),
        ("robot.servos.offset=[0]", "robot.servos.offset must be 8 numbers, one a motor"),
        ("robot.limits.position_min=9", "robot.limits.position_min must be less than robot.limits.position_max, 3.6, not 9.0"),
        ("robot.limits.position_max=0.2", "robot.limits.position_min must be less than robot.limits.position_max, 0.2, not 0.4"),
        ("robot.servos.max_torque=1", "robot.servos.continuous_torque must be at most robot.servos.max_torque, 1, not 2.8"),
        ("robot.limits.temp_c=127", "robot.limits.temp_c must be less than 127, the most that a moteus says, not 127.0"),
        ("robot.servos.protection.temp_c=140", "robot.servos.protection.temp_c must be less than 127, the most that a moteus"),
        ("robot.servos.watchdog_s=0.03", "robot.servos.watchdog_s must be 0.04 or more, two periods of task.rate_hz, not 0.03"),
        ("task.name=moon", 'task.name must be "walk", "reach", "walk_to", "stand", "stack" or "push", not \'moon\''),
        ("robot.kind=hexapod", 'robot.kind must be "minitaur", "so101", "omx" or "dkitty", not \'hexapod\''),
        ("robot.stop_profile=hold", 'robot.stop_profile must be "damp" or "stow", not \'hold\''),
        ("robot.imu.rate_hz=150", "robot.imu.rate_hz must be 50, 100 or 200, not 150"),
        ("agent.engine=warp", 'agent.engine must be "auto", "fused", "torch", "cuda" or "reference", not \'warp\''),
        ("name=a/b", "name must be letters, digits, '.', '_' and '-' alone: it names directories, not 'a/b'"),
        ("name=", "name must be letters"),
        ("agent.batch=true", "agent.batch must be int, not True"),
        ("agent.discount=1" + "0" * 400, "agent.discount must be float"),
        ("agent.batch.x=3", "agent.batch must be int, not {'x': 3}"),
        ("agent=3", "agent must be a section, not 3"),
        ("robot=other", "the run file names the robot"),
        ("robot.servos=3", "robot.servos must be a section, not 3"),
    ],
)
def test_an_override_that_makes_no_sense_is_blamed_itself(files, setting, said):
    line = complaint(files(""), ["task.history=4", setting])
    assert line.startswith(f"--set {setting.strip()}") or line.startswith(f"--set {setting!r}: "), line
    assert said in line


def test_of_two_overrides_the_last_is_blamed(files):
    assert complaint(files(""), ["agent.batch=0", "agent.batch=-1"]).startswith("--set agent.batch=-1: ")


def test_overrides_and_round_trip(files):
    run = config.load(files(""), ["agent.batch=64", "twin.terrain=slope:+5", "robot.servos.kp=4", "agent.hidden=[64, 64]"])
    assert (run.agent.batch, run.twin.terrain, run.robot.servos.kp, run.agent.hidden) == (64, "slope:+5", 4.0, (64, 64))
    again = config.from_dict(json.loads(json.dumps(config.to_dict(run))), Path("run.json"))
    assert config.to_dict(again) == config.to_dict(run)


def test_a_run_read_back_is_checked_as_one_from_a_file(files, tmp_path):
    data = config.to_dict(config.load(files(""), []))
    data["agent"]["batch"] = 0
    with pytest.raises(config.ConfigError, match=r"agent\.batch must be 1 or more, not 0"):
        config.from_dict(data, tmp_path / "run.json")


def test_a_missing_file(tmp_path):
    assert "no config file" in complaint(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "line",
    [
        "steps = 0x" + "F" * 5000,
        "steps = " + "9" * 5000,
        "steps = 9223372036854775808",
        "[agent]\nhidden = [0x" + "F" * 300 + "]",
        "steps = " + "[" * 3000,
        'robot = "' + "x" * 300 + '"',
        'robot = "a\\nb"',
        'robot = "a\\u0000b"',
    ],
)
def test_what_python_cannot_compare_print_or_open_is_one_line_too(tmp_path, line):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "minitaur.toml").write_text("")
    (tmp_path / "run.toml").write_text(line + "\n")
    assert "run.toml" in complaint(tmp_path / "run.toml")


@pytest.mark.parametrize("value", ["0x" + "F" * 5000, "9" * 5000, "[" * 3000, "1\nw = 2", "1\n[x]"])
def test_an_override_that_is_no_value_is_one_line(tmp_path, value):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "minitaur.toml").write_text("")
    (tmp_path / "run.toml").write_text("")
    assert "--set steps=" in complaint(tmp_path / "run.toml", [f"steps={value}"])


CAMERAS = """
[cameras.front]
kind = "mjpeg"
url = "http://10.0.0.7:81/stream"
rate_hz = 25

[cameras.wrist_2]
serial = "AB12"
exposure_s = 0.004
"""


def test_cameras_are_sections_by_names_of_ones_own(files, tmp_path):
    robot = tmp_path / "robots" / "minitaur.toml"
    robot.write_text(robot.read_text() + CAMERAS)
    run = config.load(files(""), ["robot.cameras.front.rate_hz=50"])
    front, wrist = run.robot.cameras["front"], run.robot.cameras["wrist_2"]
    assert list(run.robot.cameras) == ["front", "wrist_2"]
    assert (front.kind, front.rate_hz, wrist.kind, wrist.serial, wrist.width) == ("mjpeg", 50.0, "uvc", "AB12", 640)
    again = config.from_dict(json.loads(json.dumps(config.to_dict(run))), tmp_path / "run.json")
    assert again == run


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("[cameras.front]\nserail = 'x'", "unknown key 'robot.cameras.front.serail'; did you mean 'serial'?"),
        ("[cameras.front]\nwidth = 640", "robot.cameras.front.serial must be the camera's number, or path its"),
        ("[cameras.front]\nkind = 'mjpg'", 'robot.cameras.front.kind must be "uvc", "realsense", "mjpeg" or "file"'),
        ("[cameras.front]\nkind = 'mjpeg'\nurl = 'rtsp://x'", "robot.cameras.front.url must be http://HOST:PORT/PATH"),
        ("[cameras.front]\nkind = 'file'", "robot.cameras.front.path must be the recording"),
        ("[cameras.front]\npath = 'x'\ndepth = true", "robot.cameras.front.depth must be false"),
        ("[cameras.front]\npath = 'x'\nrate_hz = 500", "robot.cameras.front.rate_hz must be 240 or less, not 500"),
        ("[cameras.'my eye']\npath = 'x'", "named in small letters"),
        ("cameras = 3", "robot.cameras must be sections, [cameras.NAME], not 3"),
        ("".join(f"[cameras.c{i}]\npath = 'x'\n" for i in range(5)), "robot.cameras must be at most 4 cameras, not 5"),
    ],
)
def test_a_mistake_in_a_camera_is_one_line(files, tmp_path, text, want):
    robot = tmp_path / "robots" / "minitaur.toml"
    before = robot.read_text()
    robot.write_text(text + "\n" + before if text.startswith("cameras =") else before + "\n" + text)
    said = complaint(files(""))
    assert want in said and str(robot) in said


@pytest.mark.parametrize("path", sorted((LAUNCH / "robots").glob("*.toml")), ids=lambda path: path.stem)
def test_every_robot_file_says_what_its_servos_own_limits_may_be(path):
    servos = config.from_dict({"robot": config.read(path)}, path).robot.servos
    known = {name for name, most in vars(servos.protection).items() if not math.isnan(most)}
    absent = {"moteus": {"volts_min", "pwm"}, "feetech": {"speed_rad_s"}, "dynamixel": set()}[servos.protocol]
    assert known == set(vars(servos.protection)) - absent
