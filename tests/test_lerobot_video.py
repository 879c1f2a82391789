"""What cameras saw, as the videos of a LeRobotDataset v3: there by time as the package asks for it, and back into a replay."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from robotrl import cli, config, rundir, transitions
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.messages import Transition
from robotrl.replay import Replay

pq = pytest.importorskip("pyarrow.parquet", reason="the extra [lerobot] is not installed")

ROOT = Path(__file__).resolve().parent.parent
CAMERAS = (("top", 48, 64, 3), ("wrist", 32, 32, 1))
FPS = 50
ALIKE = 6.0  # mean difference of a pixel, of 255: what the video may lose


def view(moment: int, shape: tuple[int, ...]) -> np.ndarray:
    """A picture that tells its moment: a slope whose brightness and colours go with it."""
    height, width, channels = shape
    slope = np.linspace(0, 40, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    tint = np.array([(moment * 37) % 120, (moment * 53) % 150, (moment * 11) % 90])[:channels]
    return (slope + tint + 20).astype(np.uint8)


def frame(moment: int) -> bytes:
    return b"".join(view(moment, shape).tobytes() for _, *shape in CAMERAS)


def made() -> list[tuple[Transition, int]]:
    """Transitions of four episodes, each with the moment of its frame, and as the outbox sends them: images once."""
    rng, rows, tick, before = np.random.default_rng(4), [], 0, None
    for episode in range(4):
        tick, observation = tick + 10, rng.standard_normal(6)
        for step in range(9 + episode):
            new, last = rng.standard_normal(6), step == 8 + episode
            t = transitions.make(observation, rng.uniform(-1, 1, 2), 1.0, new, terminated=last and episode % 2 == 0,
                                 truncated=last and episode % 2 == 1, episode=episode, step=step, tick=tick,
                                 policy_version=1)  # fmt: skip
            t = transitions.framed(t, CAMERAS, frame(tick), frame(tick + 1), before)
            rows.append((msgspec.structs.replace(t, number=len(rows) + 1), tick))
            before, observation, tick = t, new, tick + 1
    return rows


def recorded(directory: Path, rows: list[tuple[Transition, int]]) -> Path:
    (directory / "weights").mkdir(parents=True)
    run = config.load(ROOT / "launch" / "walk.toml")
    rundir.write_json(directory / "run.json", {"clock": "lockstep", "config": config.to_dict(run)})
    log = Log.open(directory / "log")
    for number, (t, _) in enumerate(rows, 1):
        log.append(Kind.TRANSITION, "policy", 1, number, transitions.encoded(t))
    log.sync()
    log.close()
    return directory


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("video")
    rows = made()
    assert cli.main(["export", "--lerobot", str(root / "dataset"), str(recorded(root / "run", rows))]) == 0
    return root / "dataset", rows


def frames_of(path: Path) -> dict[int, np.ndarray]:
    """All of a video's pictures by their times, ms."""
    video, out = cv2.VideoCapture(str(path)), {}
    while True:
        there, image = video.read()
        if not there:
            return out
        out[round(video.get(cv2.CAP_PROP_POS_MSEC))] = image


def test_each_frame_is_at_the_time_where_the_package_looks_for_it(exported):
    dataset, rows = exported
    table = pq.read_table(dataset / "data/chunk-000/file-000.parquet").to_pylist()
    episodes = pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    info = json.loads((dataset / "meta/info.json").read_text())
    assert len(table) == len(rows) and len(episodes) == 4
    for name, height, width, channels in CAMERAS:
        key = f"observation.images.{name}"
        feature = info["features"][key]
        assert key not in table[0] and (feature["dtype"], feature["shape"]) == ("video", [height, width, 3])
        assert feature["names"] == ["height", "width", "channels"] and feature["info"]["video.fps"] == FPS
        seen = frames_of(dataset / info["video_path"].format(video_key=key, chunk_index=0, file_index=0))
        for row, (_, moment) in zip(table, rows, strict=True):
            at = episodes[row["episode_index"]][f"videos/{key}/from_timestamp"] + row["timestamp"]
            image = seen[round(1000 * at)]
            wanted = np.repeat(view(moment, (height, width, channels)), 3 // channels, 2)
            assert np.abs(image.astype(int) - wanted).mean() < ALIKE, (name, moment)
            other = np.repeat(view(moment + 1, (height, width, channels)), 3 // channels, 2)
            assert np.abs(image.astype(int) - other).mean() > 2 * ALIKE, "the control: a frame beside it would be noticed"
        for episode in episodes:
            begin, end = (episode[f"videos/{key}/{what}"] for what in ("from_timestamp", "to_timestamp"))
            assert end - begin == pytest.approx(episode["length"] / FPS)
        mean = np.array(episodes[0][f"stats/{key}/mean"])
        rgb = np.stack([view(m, (height, width, channels)) for t, m in rows if t.episode == 0]).mean((0, 1, 2))[::-1] / 255
        assert mean.shape == (3, 1, 1) and np.allclose(mean.ravel(), rgb, atol=0.01)
        assert np.array(json.loads((dataset / "meta/stats.json").read_text())[key]["std"]).shape == (3, 1, 1)


def test_there_and_back_are_the_same_frames_as_far_as_a_video_keeps_them(exported, tmp_path, capsys):
    dataset, rows = exported
    assert cli.main(["import", "--lerobot", str(dataset), "--out", str(tmp_path / "blind")]) == 0
    assert "observation.images.top: left out, --images keeps it" in capsys.readouterr().err
    assert not Replay.open(tmp_path / "blind").cameras
    assert cli.main(["import", "--images", "--lerobot", str(dataset), "--out", str(tmp_path / "replay")]) == 0
    replay = Replay.open(tmp_path / "replay")
    assert replay.count == len(rows) and replay.cameras == (("top", 48, 64, 3), ("wrist", 32, 32, 3))
    indices = np.arange(replay.count)
    images = replay.images(indices, indices)
    for name, height, width, channels in CAMERAS:
        for i, (t, moment) in enumerate(rows):
            for seen, when in ((images.observation[name][i], moment), (images.next_observation[name][i], moment + 1)):
                wanted = np.repeat(view(when, (height, width, channels)), 3 // channels, 2)
                assert np.abs(seen.astype(int) - wanted).mean() < ALIKE, (name, i, t.terminated)
    frames = replay.columns["frame"][: replay.count], replay.columns["next_frame"][: replay.count]
    assert len(np.unique(np.concatenate(frames))) == len(rows) + 4, "each once, and one more an episode"


def test_a_transition_whose_image_is_lost_is_left_out_and_said(tmp_path, capsys):
    rows = made()
    lost = [*rows[:3], *rows[4:]]
    assert cli.main(["export", "--lerobot", str(tmp_path / "dataset"), str(recorded(tmp_path / "run", lost))]) == 0
    assert "1 transitions have no image" in capsys.readouterr().err
    assert cli.main(["import", "--images", "--lerobot", str(tmp_path / "dataset"), "--out", str(tmp_path / "replay")]) == 0
    replay = Replay.open(tmp_path / "replay")
    assert list(replay.columns["tick"][: replay.count]) == [t.tick for t, _ in (*rows[:3], *rows[5:])]
    seen = replay.images(np.array([3]), np.array([3])).observation["top"][0]
    assert np.abs(seen.astype(int) - view(rows[5][1], (48, 64, 3))).mean() < ALIKE


def test_a_video_that_was_cut_off_or_changed_is_one_line(exported, tmp_path, capsys):
    import shutil

    dataset, _ = exported
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    video = next((copy / "videos").rglob("*.mp4"))
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    words = ["import", "--images", "--lerobot", str(copy), "--out", str(tmp_path / "replay")]
    assert cli.main(words) == 2 and "not as it was exported" in capsys.readouterr().err
    (copy / "meta/robotrl.json").unlink()  # now it is anybody's
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "frames that can be read" in line and not (tmp_path / "replay").exists()
