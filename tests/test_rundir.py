"""Run directories: made once, read back as they were, written whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq

from robotrl import config, manager, move, rundir
from robotrl.complaint import ROOT, Complaint
from robotrl.replay import Replay
from robotrl.topics import TOPICS

RUN = config.load(
    Path(__file__).resolve().parent.parent / "launch" / "walk.toml", ["seed=7", "agent.hidden=[8,8]", "agent.target_entropy=nan"]
)


def test_a_run_comes_back_as_it_was(tmp_path):
    directory = rundir.create(RUN, tmp_path / "runs", "lockstep")
    assert directory.name.endswith("-walk") and (directory / "weights").is_dir()
    back = rundir.load(directory)
    assert math.isnan(back.agent.target_entropy)  # nan travels as null
    for run in (back, RUN):
        assert config.to_dict(run) == config.to_dict(RUN)
    assert dataclasses.replace(back, agent=RUN.agent) == RUN


def test_what_it_was_built_from_is_kept(tmp_path):
    kept = json.loads((rundir.create(RUN, tmp_path, "wall") / "run.json").read_text())
    assert kept["clock"] == "wall"
    assert {"commit", "clean", "python", "machine"} <= kept["built_from"].keys()


def test_two_runs_in_one_second_have_two_directories(tmp_path):
    made = [rundir.create(RUN, tmp_path, "lockstep") for _ in range(3)]
    assert len(set(made)) == 3


def test_the_newest_run(tmp_path):
    with pytest.raises(rundir.RunError, match="no runs here"):
        rundir.newest(tmp_path)
    made = [rundir.create(RUN, tmp_path, "lockstep") for _ in range(2)]
    (tmp_path / "zzz").mkdir()  # no run
    assert rundir.newest(tmp_path) == made[-1]


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(rundir.RunError, match="cannot make a run directory"):
        rundir.create(RUN, tmp_path / "runs", "lockstep")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"config": 3}', '{"config": null}', '{"clock": "wall"}'])
def test_a_corrupt_run_json_is_one_line_that_names_it(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises((rundir.RunError, config.ConfigError)) as error:
        rundir.load(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path / "run.json") in str(error.value)


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    rundir.write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        rundir.write_json(path, {"a": math.nan})  # JSON has no nan
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("pulled the plug")))
    with pytest.raises(OSError):
        rundir.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("operate", [manager.operate, move.operate])
@pytest.mark.parametrize("where", ["logs", "run.json", "bus.json", "sockets"])
def test_a_run_on_a_full_disk_is_one_line(tmp_path, monkeypatch, operate, where):
    """It was a traceback, and an exit code by which a service tries again."""
    directory = rundir.create(RUN, tmp_path, "wall", True)
    takes, mkdir = os.fdatasync, os.mkdir

    def full(name):
        raise OSError(errno.ENOSPC, "No space left on device", str(name))

    def sync(descriptor):
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return full(name) if where in name.name else takes(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    makes = lambda path, *how, **kw: full(path) if str(path).endswith(where) else mkdir(path, *how, **kw)  # noqa: E731
    monkeypatch.setattr(os, "mkdir", makes)
    twin = SimpleNamespace(ports={"servos": "/dev/x"}, close=lambda: None)
    for program in (manager, move):
        monkeypatch.setattr(program, "TwinProcess", lambda *_: twin)
        monkeypatch.setattr(program, "Ending", SimpleNamespace)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: full(tmp_path) if where == "sockets" else str(tmp_path / "made"))
    with pytest.raises(rundir.RunError, match="No space left on device; free some space"):
        operate(RUN, directory, 0.0, **({"as_json": False} if operate is manager.operate else {"scripted": False}))
    assert not list(directory.glob(".*")), "nothing half written stays"
    assert directory.exists() is (operate is move.operate), "of a run that did not begin nothing stays"


def test_without_room_for_a_temporary_file_a_run_is_refused_in_one_line(tmp_path, monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(rundir.RunError, match=r"TMPDIR: .*free some space"):
        rundir.create(RUN, tmp_path, "wall", True)


def test_the_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    sync, rename = os.fdatasync, os.replace
    monkeypatch.setattr(os, "fdatasync", lambda fd: done.append("sync") or sync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("rename") or rename(a, b))
    rundir.write_bytes(tmp_path / "x", b"data")
    assert done == ["sync", "rename"] and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_metrics_are_a_line_each_at_once_and_are_gone_on_with(tmp_path):
    for k in range(2):
        metrics = rundir.Metrics(tmp_path)
        metrics.write("episode", speed=0.5, number=k)
        assert (tmp_path / "metrics.jsonl").read_text().count("\n") == k + 1  # before it is closed
        metrics.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"kind": "episode", "speed": 0.5, "number": k} for k in range(2)]
    with pytest.raises(ValueError):
        rundir.Metrics(tmp_path).write("episode", speed=math.nan)


@pytest.mark.parametrize("torn", ['{"kind": "epis', '{"kind": "episode", "number": 1}', ""])
def test_a_line_of_metrics_that_a_power_cut_has_torn_takes_none_with_it(tmp_path, torn):
    """The next one was written behind it: both were lost, and no plot was drawn any more."""
    for whole in ('{"kind": "episode", "number": 0}\n', ""):
        (tmp_path / "metrics.jsonl").write_text(whole + torn)
        metrics = rundir.Metrics(tmp_path)
        metrics.write("episode", number=2)
        metrics.close()
        assert (tmp_path / "metrics.jsonl").read_text() == whole + '{"kind": "episode", "number": 2}\n'


def test_lines_of_metrics_that_a_full_disk_does_not_take_are_counted_and_those_after_them_are_whole(tmp_path, monkeypatch):
    metrics = rundir.Metrics(tmp_path)
    metrics.write("episode", number=0)
    raw = metrics._file

    def full(data):
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return raw.write(data[:20])  # what there was room for

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "_file", SimpleNamespace(write=full, truncate=raw.truncate, fileno=raw.fileno))
        for number in range(1, 4):
            metrics.write("episode", number=number, more="x" * 40 * (number % 2))
    metrics.write("episode", number=4)
    metrics.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [0, 4] and metrics.lost == 3


@pytest.mark.parametrize("text", ["[" * 5000, '{"config": {"steps": ' + "9" * 400 + "}}", "[]", '{"config": []}', "\ufeff{}"])
def test_a_record_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(Complaint) as refused:
        rundir.load(tmp_path)
    assert "\n" not in str(refused.value) and "run.json" in str(refused.value)


OTHER = """
import os, sys
from pathlib import Path
from robotrl import manager, rundir
import robotrl.agents.published, robotrl.checkpoint, robotrl.nodes.learner, robotrl.replay
if os.geteuid() == 0:  # whom no permission stops
    os.setgid(65534)
    os.setuid(65534)
try:
    manager.resume(Path(sys.argv[1]), None, 0.0, None, as_json=False)
except rundir.RunError as error:
    print(error)
"""


@pytest.mark.parametrize("closed", [".", "run.json"])
def test_a_run_of_another_user_is_not_gone_on_with_and_one_line_says_why(closed):
    """It was a traceback, where it was to be written to."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is no other user's to enter
        os.chmod(folder, 0o755)
        directory = rundir.create(RUN, Path(folder), "wall", True)
        Replay.create(directory / "replay", 3, 6, 100).close()
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o777 if closed != "." else 0o755)
        (directory / closed).chmod(0o500 if closed == "." and os.geteuid() else 0o000 if closed != "." else 0o755)
        done = subprocess.run(
            [sys.executable, "-c", OTHER, str(directory)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        directory.chmod(0o755)
    assert "no permission; go on with this run as " in done.stdout and done.stdout.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("room", [0, -1])
def test_a_folder_too_long_for_the_sockets_is_named_before_anything_is_made(tmp_path, monkeypatch, room):
    """ZMQ's complaint came as a traceback, and left an empty run directory."""
    longest = max(len(f"{name}.{source}") for name, topic in TOPICS.items() for source in topic.sources)
    folder = tmp_path / ("x" * 107)
    folder = Path(str(folder)[: 107 - len("/robotrl-xxxxxxxx/") - longest - room])
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    if room == 0:
        context, directory = zmq.Context(), Path(tempfile.mkdtemp(prefix="robotrl-"))
        with context.socket(zmq.PUB) as socket:
            socket.bind(f"ipc://{directory}/{'x' * longest}")
        context.term()
        assert rundir.create(RUN, tmp_path / "runs", "wall", True).is_dir()
        return
    with pytest.raises(rundir.RunError, match=f"TMPDIR.*{folder}"):
        rundir.create(RUN, tmp_path / "runs", "wall", True)
    assert not (tmp_path / "runs").exists()
    assert rundir.create(RUN, tmp_path / "runs", "lockstep").is_dir(), "which has no sockets"
    with pytest.raises(rundir.RunError, match="TMPDIR"):
        manager.resume(rundir.newest(tmp_path / "runs"), None, 0.0, None, as_json=False)
