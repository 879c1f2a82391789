"""`calibrate homing --stops`: what it makes of what the homing node has found, and what it refuses; nothing is started here."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from robotrl import calibrate, config, homestops, move
from robotrl.calibration import stops, store
from robotrl.complaint import Complaint
from robotrl.nodes import homer

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
TICK = stops.TICK
WHO = tuple("abcdef")
FOUND = {
    "failed": "", "offset": [(2048 + i) * TICK for i in range(6)], "spread": [0.001] * 6, "moved": [0.035] * 6, "by_hand": [],
}  # fmt: skip


@pytest.fixture
def homed(monkeypatch, tmp_path):
    """`homed(result, *words)`: the command, where the run ends with this in its directory."""

    def run(result, *words):
        def operate(run, directory, seconds, *, scripted, nodes, ready, done, records):
            assert [n.module for n in nodes if n.name == "policy"] == ["robotrl.nodes.homer"] and not done()
            ready(run, None)
            if result is not None:
                (directory / "homing.json").write_text(json.dumps(result))
                assert done()
            return 0

        monkeypatch.setattr(homestops, "operate", operate)
        monkeypatch.setattr(homestops, "encoders", lambda _: ((math.pi,) * 6, WHO))
        words = ["homing", str(LAUNCH / "arm.toml"), "--stops", "--out", str(tmp_path / "runs"), *words]
        return calibrate.main(words)

    return run


ARM = ("--set", 'robot.serial="arm1"', "--yes")


def test_what_was_found_becomes_the_robots_record(homed, tmp_path, capsys):
    assert homed(FOUND, *ARM, "--calibration", str(tmp_path), "--json") == 0
    said = capsys.readouterr().out
    assert "servo 2: zero at tick 2049; stops agree to 0.06 degrees; went +2.0 of +2" in said
    robot = move.described(LAUNCH / "arm.toml", None, ['robot.serial="arm1"']).robot
    assert store.calibrated(robot, tmp_path).servos.offset == pytest.approx(FOUND["offset"])
    assert store.calibrated(robot, tmp_path).servos.identity == WHO
    assert json.loads(said.splitlines()[-1])["robot"] == "so101"


def test_the_twins_zeros_are_not_written_unasked(homed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert homed(FOUND, "--sim", "--set", 'robot.serial="arm1"') == 0
    assert not (tmp_path / "home").exists() and "not written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("result", "words", "says"),
    [
        ({"failed": "jaw went +0.0 degrees when sent +2"}, ARM, r"jaw went \+0.0 degrees when sent \+2; nothing was written"),
        (None, ARM, "ended before its zeros were found; nothing was written"),
        (FOUND | {"offset": [700 * TICK, *FOUND["offset"][1:]]}, ARM, "pan: its zero is tick 700, so its range lies across"),
        (FOUND, ARM[2:], "write serial = "),
        (FOUND, ARM[:2], "no terminal to ask at; add --yes"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(homed, tmp_path, monkeypatch, result, words, says):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(Complaint, match=says) as error:
        homed(result, *words, "--calibration", str(tmp_path / "records"))
    assert "\n" not in str(error.value) and not (tmp_path / "records").exists()


def test_a_person_who_saw_it_turn_the_other_way_is_believed(homed, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or ("no" if "elbow" in question else "yes"))
    with pytest.raises(homestops.HomingError, match=r"elbow turned the other way: write -1 for sign\[2\]"):
        homed(FOUND, *ARM[:2], "--calibration", str(tmp_path / "records"))
    assert len(asked) == 4 and "pan: did it turn to the right first" in asked[1]


def test_a_robot_without_stops_is_refused_before_anything_is_asked(homed):
    with pytest.raises(Complaint, match="dkitty: no stops are known"):
        homed(FOUND, "--robot", "dkitty", *ARM)


def test_stops_outlive_the_runs_own_record():
    """nan, a joint without stops, is null in JSON."""
    run = move.described(LAUNCH / "arm.toml", "omx", [])
    again = config.from_dict(json.loads(json.dumps(config.to_dict(run), allow_nan=False)), Path("run.json"))
    assert math.isnan(again.robot.limits.stop_min[0]) and again.robot.limits.stop_max[1:] == run.robot.limits.stop_max[1:]


def test_a_disk_that_does_not_take_what_was_found_is_said_and_tried_again(tmp_path, monkeypatch):
    """The arm stays where it is; nobody dies with it held."""
    now, said, written, full = 0, [], [], [True]

    def write(path, value):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append((path.name, value))

    class Node:
        def __init__(self, directory, source):
            self.directory, self.stopping, self.progress = directory, False, 0
            self.run = SimpleNamespace(robot=None)
            self.clock = SimpleNamespace(now=lambda: now)
            stream = SimpleNamespace(drain=list, latest=lambda: None)
            self.bus = SimpleNamespace(subscriber=lambda _: stream, publisher=lambda _: None, wait=self.wait)
            self.hurry, self.orphaned, self.say, self.close = (lambda _: ""), (lambda: False), said.append, (lambda: None)

        def wait(self, *_):
            nonlocal now
            now += homer.AGAIN_NS // 4

        def beat(self):
            self.progress += 1
            full[0], self.stopping = self.progress < 10, self.progress == 20

    monkeypatch.setattr(homer, "Node", Node)
    monkeypatch.setattr(homer, "Homer", lambda _: SimpleNamespace(doing="", found=None, failed="a joint slipped"))
    monkeypatch.setattr(homer, "write_json", write)
    assert homer.main([str(tmp_path)]) == 0
    assert written == [("homing.json", {"failed": "a joint slipped"})] and len(said) == 3
    assert said[0] == f"{tmp_path}/homing.json: No space left on device; free some space, and it ends by itself"
