"""Every kind of file that is read: of one that is cut off, damaged, foreign or of a newer version one line is said, and it stays.

For each kind below: how a sound one is made, who reads it, and what a newer robotrl would have written. The reader may only take
the file, or complain in one line that names it; afterwards every byte of the folder is what it was. Foreign bytes and newer
versions must be refused. That nothing which carries a check sum passes when it says something else: tests/fuzz/files.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robotrl import checkpoint, config, keyring, labelled, logread, plots, rundir, session
from robotrl.agents.actor import Actor
from robotrl.agents.weights import packed
from robotrl.calibration import devices, lerobot, store, views
from robotrl.clock import LockstepClock
from robotrl.complaint import Complaint
from robotrl.drivers.recording import Recording
from robotrl.labels import Given
from robotrl.lateness import Lateness
from robotrl.log import Log
from robotrl.logformat import Kind as Record
from robotrl.messages import Drive, Label
from robotrl.nodes.epoch import EpochFile, LockoutFile
from robotrl.replay import Replay
from robotrl.report import overruns

ROBOT = config.Robot(serial="a1")
UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FOREIGN = (b"", b"\n", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, b"PK\x03\x04" + b"\x14" * 300, b"\x00" * 4096, b"hello\n",
           b"[]", b"{}", b"null", b"[" * 100_000, b"\xff\xfe" * 90)  # fmt: skip
NEWER = re.compile("newer|version|schema|format|unknown|known|must|holds")


@dataclasses.dataclass(frozen=True)
class Kind:
    """`make` writes a sound one, with what belongs to it, and returns its path; `read` takes the folder; `newer` makes of its
    bytes those of a later version, None for what has no version. `foreign`, `cut`: such bytes must be refused."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    newer: Callable[[bytes], bytes] | None = None
    foreign: bool = True
    cut: bool = True


def said(data: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(data) | changes).encode()


def run_file(folder: Path) -> Path:
    (folder / "robots").mkdir()
    (folder / "robots" / "minitaur.toml").write_text('name = "minitaur"\nserial = "a1"\n')
    (folder / "run.toml").write_text('robot = "minitaur"\nsteps = 100\n[agent]\nbatch = 64\n')
    return folder / "run.toml"


def robot_file(folder: Path) -> Path:
    run_file(folder)
    return folder / "robots" / "minitaur.toml"


def run_json(folder: Path) -> Path:
    record = {"clock": "wall", "sim": True, "config": config.to_dict(config.Run()), "built_from": {}}
    rundir.write_json(folder / "run.json", record)
    return folder / "run.json"


def newer_run(data: bytes) -> bytes:
    record = json.loads(data)
    return said(data, config=record["config"] | {"telepathy": 1})


def segment(folder: Path) -> Path:
    log = Log.open(folder / "log", group_s=0.0, segment=400)
    for number in range(1, 31):
        log.append(Record.LABEL, "me", 5, number, b"%d" % number)
        log.sync()
    log.close()
    return folder / "log" / "00000002.log"


def newer_segment(data: bytes) -> bytes:
    return data[:8] + (9).to_bytes(2, "little") + (9 ^ 0xFFFF).to_bytes(2, "little") + data[12:]


def read_log(folder: Path) -> list[Any]:
    lines: list[str] = []
    found = list(logread.read(folder / "log", lines))
    if lines:
        raise Complaint(lines[0])
    return found


def replay(folder: Path) -> Path:
    made = Replay.create(folder / "replay", 3, 2, 8)
    for k in range(5):
        made.add(np.full(3, k), np.zeros(2), 1.0, np.full(3, k + 1), terminated=False, truncated=False, episode=0, step=k, tick=k,
                 policy_version=1)  # fmt: skip
    made.close()
    return folder / "replay" / "header.json"


def read_replay(folder: Path) -> None:
    found = Replay.open(folder / "replay")
    if found.check()["damaged"]:
        raise Complaint(f"{folder / 'replay'}: damaged")


def column(folder: Path) -> Path:
    return replay(folder).with_name("next_observation.f32")


def manifest(folder: Path) -> Path:
    return checkpoint.save(folder, 100, 50, {"agent.safetensors": b"weights"}, {"score": 1.5}) / "manifest.json"


def kept(folder: Path) -> Path:
    return manifest(folder).with_name("agent.safetensors")


def read_checkpoint(folder: Path) -> None:
    found = checkpoint.newest(folder)
    assert found is not None and (found.transitions, found.updates, found.read("agent.safetensors")) == (100, 50, b"weights")


def weights(folder: Path) -> Path:
    rng, shapes = np.random.default_rng(0), {"0.weight": (6, 3), "0.bias": (6,), "1.weight": (4, 6), "1.bias": (4,)}
    arrays = {f"actor.{name}": rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    (folder / "policy.safetensors").write_bytes(packed(arrays, {"version": "3"}))
    return folder / "policy.safetensors"


def record(folder: Path, kind: type, **fields: Any) -> Path:
    ids = ROBOT.servos.ids
    common = {"schema": 1, "robot": "minitaur", "kind": "minitaur", "serial": "a1", "made": "now", "ids": ids}
    path = store.path_of(kind, ROBOT, folder)
    store.write(kind(**common, **fields), path)
    return path


def calibration(folder: Path) -> Path:
    zeros = (0.0,) * len(ROBOT.servos.ids)
    return record(folder, store.Calibration, sign=ROBOT.servos.sign, offset=zeros, pose=zeros, spread=zeros,
                  identity=tuple(str(i) for i in ROBOT.servos.ids))  # fmt: skip


def commissioning(folder: Path) -> Path:
    n = len(ROBOT.servos.ids)
    return record(folder, store.Commissioning, calibration=store.digest(calibration(folder)), firmware=("1",) * n,
                  watchdog_s=0.1, trip_s=(0.1,) * n, moved=(0.1,) * n, step=0.1, seen="operator",
                  stop_s=0.1, stop_rad=(0.1,) * n)  # fmt: skip


def lens(folder: Path) -> Path:
    made = devices.Intrinsics(
        schema=1, camera="C1", made="now", width=640, height=480, lens=(500.0, 500.0, 320.0, 240.0, *(0.0,) * 5),
        deviation=(0.0,) * 9, rms=0.1, view_rms=(0.1,), board="a board", views=("a.png",), rejected=(), source="here", digest="0",
    )  # fmt: skip
    store.write(made, path := devices.lens_path("C1", 640, 480, folder))
    return path


def hand_eye(folder: Path) -> Path:
    made = devices.HandEye(
        schema=1, robot="minitaur", kind="minitaur", serial="a1", camera="C1", made="now", mount="hand", rotation=UPRIGHT,
        translation=(0.0,) * 3, target=(*UPRIGHT, 0.0, 0.0, 0.0), deviation=(0.0,) * 6, residual_deg=(0.1,), residual_m=(0.1,),
        rms_px=0.1, axes_deg=(9.0,) * 3, samples=("a",), source="here", digest="0",
    )  # fmt: skip
    store.write(made, path := devices.hand_eye_path(ROBOT, "C1", folder))
    return path


def imu_mount(folder: Path) -> Path:
    zeros = (0.0,) * 3
    made = devices.ImuMount(
        schema=1, robot="minitaur", kind="minitaur", serial="a1", device="/dev/imu", made="now", mount=UPRIGHT, gyro_bias=zeros,
        accel_bias=zeros, accel_scale=(1.0,) * 3, gyro_noise=zeros, accel_noise=zeros, rate_hz=200.0, poses=("top",),
        residual_deg=(0.1,), samples=9, digest="0",
    )  # fmt: skip
    store.write(made, path := devices.imu_path(ROBOT, folder))
    return path


def labels(folder: Path) -> Path:
    given = [Given(i, Label(press=i, value=1.0, tick=i, giver=9, number=i, episode=0, step=i)) for i in range(1, 6)]
    (folder / labelled.LABELS).write_bytes(b"".join(map(labelled.line, given)))
    return folder / labelled.LABELS


def video(folder: Path) -> Path:
    writer = cv2.VideoWriter(str(folder / "seen.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for level in range(10):
        writer.write(np.full((48, 64, 3), 20 * level, np.uint8))
    writer.release()
    return folder / "seen.avi"


def read_video(folder: Path) -> None:
    Recording(str(folder / "seen.avi"), LockstepClock()).close()


def picture(folder: Path) -> Path:
    cv2.imwrite(str(folder / "board.png"), np.zeros((48, 64), np.uint8))
    return folder / "board.png"


def foreign_calibration(folder: Path) -> Path:
    joint = {"id": 1, "drive_mode": 0, "homing_offset": 0, "range_min": 100, "range_max": 4000}
    (folder / "arm.json").write_text(json.dumps({name: joint | {"id": i + 1} for i, (name, _) in enumerate(lerobot.JOINTS)}))
    return folder / "arm.json"


def mcap(folder: Path) -> Path:
    file = session.Session(folder / "0001.mcap", {"config": json.dumps(config.to_dict(config.Run()))})
    for seq in range(1, 40):
        file.write("drive", Drive(source="servos", boot=5, seq=seq, t=seq, tick=seq, gate_open=True, torque_on=True,
                                  powered_off_confirmed=False, late_us=0.0, cycle_us=1.0, overruns=0, frame_errors=0,
                                  stop=""))  # fmt: skip
    file.finish({})
    return folder / "0001.mcap"


def newer_mcap(data: bytes) -> bytes:
    from io import BytesIO

    from mcap.writer import Writer

    out = BytesIO()
    writer = Writer(out)
    writer.start()
    writer.add_metadata("session", {"format": "2"})
    writer.finish()
    return out.getvalue()


def read_mcap(folder: Path) -> None:
    reading = session.Reading(folder / "0001.mcap")
    for _ in reading:
        pass
    if reading.cut:
        raise Complaint(f"{reading.path}: {reading.cut}")


def key(folder: Path) -> Path:
    folder.chmod(0o700)
    keyring.new(folder, "desk", "console")
    return folder / "server.json"


def authorised(folder: Path) -> Path:
    return key(folder).parent / "authorised" / "desk.json"


def metrics(folder: Path) -> Path:
    told = rundir.Metrics(folder)
    for step in range(5):
        told.write("episode", episode=step, steps=3, step_total=3 * step, speed=0.1, ended="fall", **{"return": 1.0})
    told.close()
    return folder / "metrics.jsonl"


def traces(folder: Path) -> Path:
    np.savez(folder / "traces.npz", t=np.arange(3), position=np.zeros((3, 8)), target=np.zeros((3, 8)))
    return folder / "traces.npz"


def timing(folder: Path) -> Path:
    np.savez(folder / "timing.npz", late_us=np.zeros(3), cycle_us=np.zeros(3), overruns=4)
    return folder / "timing.npz"


def read_overruns(folder: Path) -> None:
    if overruns(folder) != (4, 3):
        raise Complaint(f"{folder / 'timing.npz'}: nobody says")


def epoch(folder: Path) -> Path:
    (folder / "epoch").write_text("41")
    return folder / "epoch"


def lockout(folder: Path) -> Path:
    LockoutFile(folder / "lockout").keep(["servo_fault"])
    return folder / "lockout"


def dataset(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pytest.importorskip("pyarrow")
        from robotrl.lerobotformat import Feature, Writer

        writer = Writer(folder / "set", 50.0, "minitaur", {"observation.state": Feature("float32", (2,), ("a", "b"))})
        for _ in range(2):
            writer.add("walk", {"observation.state": np.ones((4, 2), np.float32)}, np.ones(2, np.float32))
        writer.close({"run": "none"})
        return folder / "set" / name

    return make


def read_dataset(folder: Path) -> None:
    from robotrl.lerobotread import Dataset

    (folder / "set" / "meta" / "robotrl.json").rename(folder / "aside")  # as anybody's: without the sums of ours
    try:
        list(Dataset(folder / "set").episodes(["observation.state"]))
    finally:
        (folder / "aside").rename(folder / "set" / "meta" / "robotrl.json")


def read_ours(folder: Path) -> None:
    from robotrl.lerobotread import Dataset

    list(Dataset(folder / "set").episodes(["observation.state"]))


KINDS = {
    "run file": Kind(run_file, lambda f: config.load(f / "run.toml"), lambda b: b"telepathy = 1\n" + b, False, False),
    "robot file": Kind(robot_file, lambda f: config.load(f / "run.toml"), lambda b: b"telepathy = 1\n" + b, False, False),
    "run.json": Kind(run_json, rundir.load, newer_run),
    "run.json, its clock": Kind(run_json, rundir.kind, newer_run),
    "log segment": Kind(segment, read_log, newer_segment),
    "replay header": Kind(replay, read_replay, lambda b: said(b, schema=3)),
    "replay column": Kind(column, read_replay),
    "checkpoint manifest": Kind(manifest, read_checkpoint, lambda b: said(b, schema=2)),
    "checkpoint weights": Kind(kept, read_checkpoint),
    "policy weights": Kind(weights, lambda f: Actor.load(f / "policy.safetensors")),
    "calibration": Kind(calibration, lambda f: store.calibrated(ROBOT, f), lambda b: said(b, schema=2)),
    "commissioning": Kind(commissioning, lambda f: store.commissioned(ROBOT, f), lambda b: said(b, schema=2)),
    "lens": Kind(lens, lambda f: devices.lens_of("C1", 640, 480, f), lambda b: said(b, schema=2)),
    "hand-eye": Kind(hand_eye, lambda f: devices.hand_eye_of(ROBOT, "C1", f), lambda b: said(b, schema=2)),
    "IMU's mount": Kind(imu_mount, lambda f: devices.imu_of(ROBOT, "/dev/imu", f), lambda b: said(b, schema=2)),
    "labels": Kind(labels, lambda f: labelled.LabelFile(f / labelled.LABELS).poll(), None, False, False),
    "recorded video": Kind(video, read_video, cut=False),
    "picture of a board": Kind(picture, lambda f: views.picture(f / "board.png")),
    "LeRobot's calibration": Kind(foreign_calibration, lambda f: lerobot._read(f / "arm.json"), lambda b: said(b, camera={})),
    "session": Kind(mcap, read_mcap, newer_mcap),
    "robot's key": Kind(key, keyring.load, lambda b: said(b, telepathy=1)),
    "a person's key": Kind(authorised, keyring.load, lambda b: said(b, telepathy=1)),
    "metrics": Kind(metrics, plots.read, None, False, False),
    "traces": Kind(traces, plots.read),
    "timing": Kind(timing, plots.read),
    "timing, its overruns": Kind(timing, read_overruns),
    "lease counter": Kind(epoch, lambda f: EpochFile(f / "epoch"), cut=False),
    "lockout": Kind(lockout, lambda f: LockoutFile(f / "lockout").causes(), None, False, False),
    "dataset's info": Kind(dataset("meta/info.json"), read_dataset, lambda b: said(b, codebase_version="v4.0")),
    "dataset's frames": Kind(dataset("data/chunk-000/file-000.parquet"), read_dataset),
    "dataset's episodes": Kind(dataset("meta/episodes/chunk-000/file-000.parquet"), read_dataset),
    "dataset, ours": Kind(dataset("meta/robotrl.json"), read_ours, lambda b: said(b, format=2)),
}


def tree(folder: Path) -> dict[str, str]:
    """Each file's name and hash."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def tried(kind: Kind, folder: Path, path: Path, data: bytes) -> str:
    """What is said of a folder in which `path` holds `data`, "" for nothing; checked: one line that names it, nothing changed."""
    path.write_bytes(data)
    before = tree(folder)
    text = ""
    try:
        kind.read(folder)
    except Complaint as error:
        text = str(error)
        assert text.isprintable() and len(text) < 2500, text
        assert any(part.name in text for part in (path, path.parent) if part != folder) or str(folder) in text, text
    assert tree(folder) == before
    return text


@pytest.fixture(params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


def test_a_sound_file_is_taken(kind, tmp_path):
    path = kind.make(tmp_path)
    assert tried(kind, tmp_path, path, path.read_bytes()) == ""


def test_of_what_is_cut_off_or_foreign_it_is_said(kind, tmp_path):
    path = kind.make(tmp_path)
    data = path.read_bytes()
    for foreign in FOREIGN:
        assert tried(kind, tmp_path, path, foreign) or not kind.foreign, foreign[:20]
    for cut in {0, 1, len(data) // 3, 2 * len(data) // 3, len(data) - 2}:
        assert tried(kind, tmp_path, path, data[:cut]) or not kind.cut, cut
    path.unlink()
    path.mkdir()
    try:
        kind.read(tmp_path)
    except Complaint as error:
        assert str(error).isprintable()


def test_a_damaged_one_is_taken_or_complained_of(kind, tmp_path):
    path = kind.make(tmp_path)
    data, rng = path.read_bytes(), random.Random(7)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 8))):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        tried(kind, tmp_path, path, bytes(changed))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.newer])
def test_one_of_a_newer_version_is_named_as_such(name, tmp_path):
    kind = KINDS[name]
    path = kind.make(tmp_path)
    text = tried(kind, tmp_path, path, kind.newer(path.read_bytes()))
    assert NEWER.search(text), text


def test_a_writer_leaves_a_newer_log_alone(tmp_path):
    path = segment(tmp_path)
    path.write_bytes(newer_segment(path.read_bytes()))
    before = tree(tmp_path)
    with pytest.raises(Complaint, match=r"00000002\.log.*newer|version"):
        Log.open(tmp_path / "log")
    assert tree(tmp_path) == before


def test_a_learner_that_goes_on_from_an_older_checkpoint_never_removes_one_of_a_newer_version(tmp_path):
    path = manifest(tmp_path)
    path.write_bytes(said(path.read_bytes(), schema=2))
    before = tree(path.parent)
    for updates in range(60, 70):
        checkpoint.save(tmp_path, 100, updates, {"agent.safetensors": b"later"}, {"score": 2.5})
    assert tree(path.parent) == before and len(list((tmp_path / checkpoint.FOLDER).iterdir())) == 1 + checkpoint.KEEP + 1


@pytest.mark.parametrize("text", [*FOREIGN, b'{"directory": 3}'])
def test_a_run_whose_bus_file_is_not_as_it_was_is_taken_for_one_that_is_not_live(tmp_path, text):
    (tmp_path / "bus.json").write_bytes(text)
    assert rundir.bus_directory(tmp_path) == tmp_path / "no-bus" and (tmp_path / "bus.json").read_bytes() == text


@pytest.mark.parametrize("text", FOREIGN)
def test_a_lockout_that_cannot_be_read_is_one(tmp_path, text):
    assert LockoutFile(tmp_path / "lockout").causes() == ()
    (tmp_path / "lockout").write_bytes(text)
    assert LockoutFile(tmp_path / "lockout").causes() == ("stop_unconfirmed",)
    LockoutFile(tmp_path / "lockout").keep(["stop_unconfirmed", "servo_fault"])
    assert LockoutFile(tmp_path / "lockout").causes() == ("stop_unconfirmed", "servo_fault")


def test_timing_that_is_damaged_is_put_aside_by_the_next_life_of_the_driver(tmp_path):
    path = timing(tmp_path)
    path.write_bytes(whole := path.read_bytes()[:-40])
    lateness = Lateness()
    lateness.late_us.append(2.0)
    lateness.overruns = 1
    lateness.save(path, [900.0])
    assert overruns(tmp_path) == (1, 1) and (tmp_path / "timing.npz.damaged").read_bytes() == whole
