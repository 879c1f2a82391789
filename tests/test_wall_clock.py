"""The process tree on the wall clock, on the twin: it runs, it survives the death of each process, it ends, it leaves nothing.

Bounds here are generous, for a loaded machine; bench/wall_clock.py measures them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors

from bench.wall_clock import LIGHT, WALK, Live, kills
from robotrl import checkpoint, rundir
from robotrl.nodes.player import Player
from robotrl.replay import Replay
from robotrl.session import Reading, files
from robotrl.topics import CAMERAS, TOPICS, VIEWERS

ROOT = Path(__file__).resolve().parent.parent
# The scripted operator gives no rewards, nobody has asked for a network or to lead it, and the robot has no camera.
ABSENT = {
    *(("label", name) for name in ("console", "relabel")),
    *(("operator", name) for name in VIEWERS),
    *((topic, name) for topic in ("image", "picture", "depth", "motion") for name in CAMERAS),
    *((topic, name) for name in ("gateway", "classifier", "teleop") for topic, entry in TOPICS.items() if name in entry.sources),
}


def command(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "robotrl", "run", "launch/walk.toml", *words],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def rows_of(directory: Path) -> int:
    replay = Replay.open(directory / "replay")
    replay.close()
    return replay.count


def played_again(directory: Path) -> dict[str, Any]:
    player = Player()
    for path in files(directory):
        player.feed(Reading(path))
    player.finish()
    return player.result()


@pytest.fixture
def live(tmp_path, request):
    run = Live(tmp_path, *LIGHT, words=("--json",), run=getattr(request, "param", WALK))
    yield run
    run.close()


def test_it_runs_learns_ends_on_a_signal_and_leaves_nothing(live, listeners):
    live.reach("RUN")
    assert not listeners(live.process.pid)  # of all its processes, not even at loopback
    live.wait(lambda: (live.directory / "weights" / "policy.safetensors").exists(), 40)
    live.wait(lambda: live.episode.latest().policy_version > 0, 10)
    dies = {name: int(Path(f"/proc/{live.pid(name)}/oom_score_adj").read_text()) for name in ("learner", "policy", "servos")}
    assert dies["learner"] > max(dies["policy"], dies["servos"]), "out of memory the learner goes first"
    sockets = {path.name for path in live.sockets.iterdir() if path.is_socket()}
    streams = {tuple(name.split(".")) for name in sockets - {"rescue"}}
    assert streams == {(topic, source) for topic, entry in TOPICS.items() for source in entry.sources} - ABSENT
    assert live.end(signal.SIGINT) == 0
    assert not live.left_over() and not live.sockets.exists() and not (live.directory / "bus.json").exists()
    counts = Replay.open(live.directory / "replay").check()
    assert counts["transitions"] > 64 and not counts["gaps"] and not counts["doubles"]
    assert (live.directory / "timing.npz").exists() and checkpoint.newest(live.directory) is not None
    *_, replay, run, look, told = live.said().splitlines()
    said = json.loads(told)
    account, overruns = said.pop("account"), said.pop("overruns")
    assert said == {"run_dir": str(live.directory), "exit_code": 0, **counts} and account["run_s"] > 0 and overruns >= 0
    assert f"timing  {overruns} overruns, " in live.said()
    assert "none lost, none doubled" in replay and str(live.directory) in run and "plot" in look
    assert "RELAX <- run_over [run_over]" in live.log("guard") and "exit code 0" in live.log("manager")
    assert "LOCKOUT <-" not in live.log("guard")
    played = played_again(live.directory)
    assert played["same"] and not played["cut"], played
    assert played["rows"]["commands"]["equal"] > 64 and played["rows"]["bytes to the servos"]["equal"] > 100


def test_each_death_leads_to_its_state(tmp_path):
    """The manager's is in the next test but one."""
    table = {row.killed: row for row in kills(tmp_path, 1.0, manager=False)}
    assert {name: row.led_to for name, row in table.items() if name not in ("operator", "twin")} == {
        "policy": "HOLD", "tracker": "HOLD", "learner": "RUN", "imu": "RELAX", "reset": "HOLD", "guard": "PSTOP",
        "servos": "PSTOP", "console": "STOPPING", "rescue": "RUN",
    }  # fmt: skip
    assert table["reset"].during == "RESET" and "guard_restart" in table["guard"].causes
    for run in (
        path for path in tmp_path.iterdir() if path.is_dir()
    ):  # what the policy had not yet written is gone, nothing else
        counts = Replay.open(run / "replay").check()
        assert not counts["gaps"] and not counts["doubles"] and not counts["damaged"]


def test_without_the_robot_the_preflight_names_what_is_missing_and_nothing_moves(tmp_path):
    code, out, err = command("--out", str(tmp_path / "runs"))
    assert code == 2 and out == "" and "nothing has moved" in err.splitlines()[-1]
    assert all(line.startswith("missing: ") for line in err.splitlines()[:-1]) and "usb-mjbots_fdcanusb" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("live", ["launch/reach.toml"], indirect=True)
def test_an_arms_run_whose_manager_was_killed_goes_on_and_loses_nothing(live):
    """What a Minitaur's does too; the arm has no IMU and no tracker, and is lowered before it is let go."""
    live.reach("RUN")
    live.wait(lambda: live.episode.latest() is not None and live.episode.latest().policy_version > 0, 120)
    words = [sys.executable, "-m", "robotrl", "resume", str(live.directory)]
    alive = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert alive.returncode == 2 and "this run is alive" in alive.stderr
    live.reach("RUN")
    lowered, stow = live.bus.subscriber("joints"), rundir.load(live.directory).robot.stow
    live.kill_manager()
    assert not stow or lowered.latest().position == pytest.approx(stow, abs=0.15)
    rows = rows_of(live.directory)
    with safetensors.safe_open(live.directory / "weights" / "policy.safetensors", "numpy") as file:
        version = int(file.metadata()["version"])
    resumed = subprocess.Popen(
        [*words, "--json"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 90
    while rows_of(live.directory) <= rows and resumed.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    resumed.send_signal(signal.SIGINT)
    out, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0 and f"goes on after {rows} transitions" in out, out + err
    after = Replay.open(live.directory / "replay")
    counts = after.check()
    assert after.count > rows and not counts["gaps"] and not counts["doubles"]
    assert after.columns["policy_version"][rows : after.count].min() >= version, "none at random, none with older weights"
    played = played_again(live.directory)
    assert played["same"] and played["rows"]["commands"]["equal"] > 64, played


MUTE = """
import os, sys
from robotrl import cli, manager

class Twin(manager.TwinProcess):
    def __init__(self, *words):
        super().__init__(*words)
        os.write(self.write_fd, b'{"fault": "mute", "servo": 3}\\n')

manager.TwinProcess = Twin
sys.exit(cli.main(["run", "launch/walk.toml", "--sim", "--seconds", "30", "--out", sys.argv[1]]))
"""


def test_a_servo_that_is_mute_at_the_start_is_one_line_and_leaves_no_directory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MUTE, str(tmp_path / "runs")],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("robotrl run: servo 3 on ") and "does not answer" in line
    assert "servo 3" not in done.stdout and not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [("robot.servos.sign=[1]", "sign"), ("twin.urdf=none.urdf", "none.urdf"), ("agnet.batch=1", "did you mean 'agent'")],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, wrong, says):
    code, _, err = command("--sim", "--seconds", "20", "--out", str(tmp_path / "runs"), "--set", wrong)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert err.startswith("robotrl run: ") and says in err
