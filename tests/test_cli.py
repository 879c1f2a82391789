"""The command as a person meets it: help that helps, and complaints of one line with exit code 2 and no traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from robotrl import cli, config, rundir
from robotrl.agents import nets
from robotrl.complaint import attach, command
from robotrl.replay import Replay

ROOT = Path(__file__).resolve().parent.parent
WALK = str(ROOT / "launch" / "walk.toml")


def robotrl(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """As from a shell, with nobody at the keyboard."""
    return subprocess.run(
        [sys.executable, "-m", "robotrl", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TERM": "dumb"},
    )  # fmt: skip


def complaint(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that is refused, in this process: for those that start none of their own."""
    assert cli.main(list(words)) == 2
    return one_line(capfd.readouterr().err)


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


# command: a word its help cannot do without
HELP = {
    "rehearse": "--seed", "run": "--sim", "eval": "--terrain", "console": "RUN_DIR", "twin": "--robot", "doctor": "missing",
    "find-port": "port", "find-cameras": "picture", "move": "joint", "setup-servo": "id", "calibrate": "zero", "board": "scale",
    "commission": "record", "inspect": "LOCKOUT",
    "plot": "RUN_DIR", "replay": "check", "bench": "FIGURE", "keys": "reach", "export": "LeRobotDataset",
    "import": "demonstrations", "demonstrate": "script", "relabel": "success", "classifier": "precision", "view": "browser",
}  # fmt: skip


def test_every_command_is_in_the_table_of_this_test():
    assert HELP.keys() <= cli.COMMANDS.keys()
    assert not [name for name in cli.COMMANDS if name not in HELP and name != "resume" and name != "play"]


@pytest.mark.parametrize("command", HELP)
def test_help_says_what_the_command_does(command, capfd):
    try:
        code = cli.main([command, "--help"])
    except SystemExit as done:  # argparse leaves this way
        code = int(done.code or 0)
    said = capfd.readouterr()
    assert code == 0 and said.out.startswith(f"usage: robotrl {command}") and HELP[command] in said.out
    assert "Traceback" not in said.err


def test_the_list_of_commands(capfd):
    assert cli.main(["--help"]) == 0
    shown = capfd.readouterr().out
    assert all(f"\n  {name} " in shown for name in HELP)
    assert cli.main([]) == 2


def test_no_command_imports_another(capfd):
    """`robotrl` alone must not load torch or pybullet: a help text comes at once, and a robot has neither."""
    code = (
        "import sys; from robotrl import cli; cli.main(['--help']); "
        "sys.exit(bool({'torch', 'pybullet', 'numpy', 'zmq'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_unknown_command(capfd):
    assert "no command 'rehears'" in (line := complaint(capfd, "rehears")) and "rehearse" in line


@pytest.mark.parametrize("command", ["rehearse", "run"])
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("agent.bach=3", "did you mean 'batch'?"),
        ("agent.batch=many", "agent.batch must be int, not 'many'"),
        ("twin.battery_v=inf", "must be finite"),
        ("seed=-1", "seed must be 0 or more, not -1"),
        ("agent.n_step=0", "agent.n_step must be 1 or more, not 0"),
        ("task.stuck_s=0", "task.stuck_s must be 0.1 or more, not 0.0"),
        ("agent.engine=warp", 'must be "auto", "fused", "torch", "cuda" or "reference", not'),
        ("agent.name=ppo", 'agent.name must be "sac", not'),
        ("robot.servos.kp=-1", "robot.servos.kp must be 0.1 or more, not -1.0"),
        ("agent", "write --set section.key=value"),
    ],
)
def test_bad_settings(command, setting, said, capfd):
    line = complaint(capfd, command, WALK, "--set", setting)
    assert line.startswith(f"robotrl {command}: ") and said in line and setting.split("=")[0] in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run --sim --seconds nan", "--seconds must be finite and not negative, not nan"),
        ("run --sim --seconds=-1", "--seconds must be finite and not negative, not -1.0"),
        ("rehearse --keep-every=-5", "--keep-every must be 0 or more, not -5"),
    ],
)
def test_bad_options(words, said, capfd):
    with pytest.raises(SystemExit) as done:
        cli.main([*words.split(), str(WALK)])
    assert done.value.code == 2 and said in capfd.readouterr().err


def test_a_twin_of_no_seed(capfd):
    assert "seed must be 0 or more, not -1" in complaint(capfd, "twin", "--seed=-1")


def test_bad_run_files(tmp_path, capfd):
    bad = tmp_path / "bad.toml"
    assert f"no config file {bad}" in complaint(capfd, "rehearse", str(bad))
    bad.write_text("name = \n")
    assert str(bad) in complaint(capfd, "rehearse", str(bad))
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "minitaur.toml").write_text('name = "minitaur"\n\n[servos]\nids = [1, 2]\nkpp = 3.0\n')
    bad.write_text('robot = "minitaur"\n')
    line = complaint(capfd, "rehearse", str(bad))
    assert "minitaur.toml:5" in line and "did you mean 'kp'?" in line
    bad.write_text('robot = "spot"\n')
    assert "known robots: minitaur" in complaint(capfd, "rehearse", str(bad))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("twin.terrain=moon", "use flat, slope:+5"),
        ("twin.urdf=quadruped/spirit40.urdf", "rainbow_dash"),
    ],
)
def test_a_setting_of_the_right_type_that_does_not_exist(setting, said, tmp_path):
    done = robotrl("rehearse", WALK, "--out", str(tmp_path), "--set", setting)
    assert done.returncode == 2 and said in one_line(done.stderr) and not done.stdout
    assert not list(tmp_path.iterdir()), "a run that never began left its directory"


@pytest.mark.parametrize("command", ["rehearse", "run --sim"])
def test_demonstrations_that_are_not_there(command, tmp_path, capfd):
    wrong, out = tmp_path / "rnus" / "walk", tmp_path / "runs"
    name, *more = command.split()
    line = complaint(capfd, name, WALK, *more, "--out", str(out), "--set", f"agent.demonstrations={wrong}")
    assert line == f"robotrl {name}: agent.demonstrations: {wrong}: no such directory; name a run that has recorded"
    assert not out.exists(), "nothing was written"


@pytest.mark.parametrize("command", ["eval", "plot", "replay check"])
def test_a_run_directory_that_is_not_there(command, tmp_path, capfd):
    line = complaint(capfd, *command.split(), str(tmp_path / "none"))
    assert str(tmp_path / "none") in line


def test_no_run_yet(tmp_path):
    done = robotrl("eval", cwd=tmp_path)
    assert done.returncode == 2 and "launch/rehearse.sh makes one" in one_line(done.stderr)


def test_a_run_looks_for_the_records_where_it_is_told(tmp_path, capfd):
    assert cli.main(["run", WALK, "--set", "robot.serial=a1", "--calibration", str(tmp_path)]) == 2
    assert f"missing: calibration: {tmp_path / 'minitaur' / 'a1.json'}: no such file" in capfd.readouterr().err


@pytest.mark.parametrize(
    "text", ['{"config": {', "[]", '{"config": {"nme": "x"}}', '{"config": {"steps": "many"}}', "\udcff\udcfe"]
)
def test_a_corrupt_run_json(text, tmp_path, capfd):
    (tmp_path / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    assert str(tmp_path / "run.json") in complaint(capfd, "eval", str(tmp_path))


@pytest.fixture
def run_dir(tmp_path):
    """A run directory as a rehearsal leaves it, but for its length: three transitions and an actor that was never trained."""
    run = config.load(Path(WALK), ["task.episode_steps=2", "twin.randomise=false"])
    directory = rundir.create(run, tmp_path, "lockstep")
    with_rows(directory)
    weights = nets.initial(nets.shapes(112, 8, (16,), 2), 0.1, np.random.default_rng(0))
    actor = {name: value for name, value in weights.items() if name.startswith("actor.")}
    safetensors.numpy.save_file(actor, directory / "weights" / "policy.safetensors", {"version": "1"})
    return directory


def with_rows(directory: Path) -> None:
    replay = Replay.create(directory / "replay", 112, 8, 10)
    for step in range(3):
        replay.add(
            np.zeros(112), np.zeros(8), 0.1 * step, np.zeros(112), terminated=False, truncated=step == 2, episode=0, step=step,
            tick=step, policy_version=0,
        )  # fmt: skip
    replay.close()


def test_replay_check_counts_what_is_there(run_dir, capfd):
    assert cli.main(["replay", "check", str(run_dir), "--json"]) == 0
    line, counts = capfd.readouterr().out.splitlines()
    assert "3 transitions in 1 episodes: none lost, none doubled" in line and json.loads(counts)["damaged"] == 0


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def cut(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes()[:at])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda d: flip(d / "reward.f32", 5), "1 damaged"),
        (lambda d: flip(d / "observation.f32", 112 * 4 + 3), "1 damaged"),
        (lambda d: cut(d / "action.f32", 10), "action.f32"),
        (lambda d: (d / "reward.f32").unlink(), "reward.f32"),
        (lambda d: flip(d / "count.i64", 0), "counts do not fit"),
        (lambda d: cut(d / "header.json", 9), "header.json"),
        (lambda d: (d / "header.json").write_text("[1]"), "header.json"),
    ],
)
def test_replay_check_on_a_corrupt_replay(harm, said, run_dir, capfd):
    harm(run_dir / "replay")
    line = complaint(capfd, "replay", "check", str(run_dir))
    assert said in line and str(run_dir / "replay") in line and "copy" in line


def test_corrupt_weights(run_dir, capfd):
    path = run_dir / "weights" / "policy.safetensors"
    whole = path.read_bytes()
    for spoilt in (b"", whole[:100], b"\x00" * len(whole), whole[:-40]):
        path.write_bytes(spoilt)
        assert str(path) in complaint(capfd, "eval", str(run_dir), "--episodes", "1")
    nan = {n: np.full_like(v, np.nan) for n, v in safetensors.numpy.load(whole).items()}
    safetensors.numpy.save_file(nan, path)
    assert "must be finite" in complaint(capfd, "eval", str(run_dir), "--episodes", "1")
    path.unlink()
    assert "no weights yet" in complaint(capfd, "eval", str(run_dir), "--episodes", "1")


def test_eval_of_weights_that_are_not_there_names_what_is(run_dir, capfd):
    typo = run_dir / "weights" / "polciy.safetensors"
    line = complaint(capfd, "eval", str(run_dir), "--episodes", "1", "--weights", str(typo))
    assert f"{typo}: no such weights file" in line and line.endswith(f"{run_dir / 'weights'}: policy.safetensors")


@pytest.mark.parametrize("steps", ["10", "2000"])
def test_a_rehearsal_that_would_end_before_it_learns_is_refused_at_once(steps, tmp_path, capfd):
    line = complaint(capfd, "rehearse", WALK, "--steps", steps, "--out", str(tmp_path / "runs"))
    assert f"steps = {steps} end before the first update" in line and "ask for 2001 or more" in line
    assert not (tmp_path / "runs").exists()


def test_eval_works_on_a_whole_one(run_dir, capfd):
    """The other side of the tests above: what they spoil was good."""
    assert cli.main(["eval", str(run_dir), "--episodes", "1", "--json"]) == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert len(result["episodes"]) == 1 and result["episodes"][0]["steps"] == 2


def still(run_dir: Path) -> None:
    """An actor of zeros asks for the middle of its range for ever; 200 steps an episode."""
    record = json.loads((run_dir / "run.json").read_text())
    record["config"]["task"]["episode_steps"] = 200
    (run_dir / "run.json").write_text(json.dumps(record))
    path = run_dir / "weights" / "policy.safetensors"
    weights = {name: np.zeros_like(value) for name, value in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file(weights, path, {"version": "1"})


def test_eval_of_a_robot_that_stands_lasts_its_time_and_is_upright(run_dir, capfd):
    still(run_dir)
    assert cli.main(["eval", str(run_dir), "--episodes", "1", "--json"]) == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (result["episodes"][0]["ended"], result["episodes"][0]["steps"]) == ("time", 200)
    assert (result["upright"], result["lying"], result["falls"]) == (1, 0, 0)


def test_eval_on_a_course_measures_the_way_before_the_robot_is_carried_back(run_dir, capfd, monkeypatch):
    """Here every placement is 7 m farther on: a speed of metres a second would be that of being carried."""
    from robotrl.sim.world import World

    still(run_dir)
    carried, place, position = [0.0], World.place, World.position.fget

    def carry(self, pose="stand"):
        carried[0] += 7.0
        return place(self, pose)

    monkeypatch.setattr(World, "place", carry)
    monkeypatch.setattr(World, "position", property(lambda self: position(self) + (carried[0], 0.0, 0.0)))
    assert cli.main(["eval", str(run_dir), "--episodes", "1", "--terrain", "slope:+5", "--json"]) == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert carried[0] > 14.0 and result["episodes"][0]["ended"] == "time"
    assert abs(result["episodes"][0]["speed"]) < 0.2


def test_eval_on_ground_that_is_not_there(run_dir, capfd):
    assert "use flat, slope:+5" in complaint(capfd, "eval", str(run_dir), "--terrain", "moon")


def test_console_without_a_terminal(run_dir):
    done = robotrl("console", str(run_dir))
    assert done.returncode == 2 and "needs a terminal" in one_line(done.stderr)


@pytest.mark.parametrize(
    "words", ["rehearse launch/walk.toml", "run launch/walk.toml --sim", "console", "calibrate homing", "twin"]
)
def test_without_the_packages_every_command_says_how_to_get_them(words, tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from robotrl import cli; sys.exit(cli.main(sys.argv[2].split()))"
    start = [sys.executable, "-I", "-S", "-B", "-c", code, str(ROOT), words]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    line, name = one_line(done.stderr), words.split()[0]
    assert done.returncode == 2 and line.startswith(f"robotrl {name}: No module named ")
    assert line.endswith(f"; set up: bash launch/env.sh, then .venv/bin/python -m robotrl {name}")


def test_a_module_of_our_own_that_is_missing_is_a_bug():
    with pytest.raises(ModuleNotFoundError), pytest.MonkeyPatch.context() as patch:
        patch.setitem(cli.COMMANDS, "plot", ("robotrl.nonsense", ""))
        cli.main(["plot"])


def test_a_command_is_printed_as_it_can_be_typed(monkeypatch, tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    assert command("plot x") == f"{python} -m robotrl plot x"
    monkeypatch.chdir(tmp_path)
    assert command("plot x") == ".venv/bin/python -m robotrl plot x"


def test_a_console_is_attached_by_what_can_be_typed_where_the_run_was_started(monkeypatch, tmp_path):
    script = shlex.quote(f"{ROOT}/launch/supervise.sh")
    monkeypatch.chdir(ROOT)
    assert attach(Path("runs/a b")) == "bash launch/supervise.sh 'runs/a b'"
    monkeypatch.chdir(tmp_path)
    assert attach(Path("runs/x")) == f"bash {script} {tmp_path}/runs/x"
    monkeypatch.setattr("robotrl.complaint.ROOT", tmp_path)
    assert attach(Path("runs/x")).endswith(f"-m robotrl console {tmp_path}/runs/x"), "installed without the scripts"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr("robotrl.complaint.ROOT", ROOT)
    assert attach(tmp_path / "x") == f"bash {script} {tmp_path}/x"


def test_a_bug_is_not_dressed_up_as_a_complaint(monkeypatch):
    """Only errors that the code foresaw are one line; anything else keeps its traceback for the one who mends it."""

    class Module:
        @staticmethod
        def main(argv):
            raise ZeroDivisionError("bug")

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Module)
    with pytest.raises(ZeroDivisionError):
        cli.main(["plot", "x"])
