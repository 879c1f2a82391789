"""Configuration: every field read, every mistake one line with file, line and the nearest name."""

import json
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
        ("dropout = 1", "agent.dropout must be less than 1, not 1.0"),
        ("dropout = -0.1", "agent.dropout must be 0 or more, not -0.1"),
    ],
)
def test_an_agent_that_makes_no_sense(files, text, want):
    path = files(f"[agent]\n{text}\n")
    assert complaint(path) == f"{path}:{2 + text.count(chr(10))}: {want}"


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
