"""A video as a camera: each frame at its time on any clock, an end that is said, and files that are none."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
from mcap.writer import Writer

from robotrl.clock import LockstepClock
from robotrl.drivers.camera import CameraError, encode
from robotrl.drivers.recording import Recording
from robotrl.drivers.sessiontape import packed, unpacked
from robotrl.messages import Image, Picture
from robotrl.session import Session

FPS = 20


def picture(i: int) -> np.ndarray:
    return np.full((32, 48, 3), 20 + 9 * i, np.uint8)


@pytest.fixture(scope="module", params=["avi", "mp4"])
def video(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / f"seen.{request.param}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*("MJPG" if request.param == "avi" else "mp4v")), FPS, (48, 32))
    for i in range(20):
        writer.write(picture(i))
    writer.release()
    return path


def test_each_frame_comes_when_it_came(video):
    clock = LockstepClock()
    clock.advance(5_000_000_000)
    camera, seen = Recording(str(video), clock), []
    with pytest.raises(CameraError, match="has come to its end"):
        while True:
            before = clock.now()
            frame = camera.read(before + 10_000_000)
            if frame is None:
                assert clock.now() == before + 10_000_000, "it waits as long as it was told to, and no longer"
                continue
            assert before <= clock.now() == frame.t and frame.stamp == "device" and frame.number == len(seen) + 1
            seen.append(frame.t)
            assert np.abs(frame.pixels().astype(int) - picture(frame.number - 1)).mean() < 4
    camera.close()
    assert seen == [5_000_000_000 + i * 1_000_000_000 // FPS for i in range(20)]


def test_what_is_no_video_is_one_line(video, tmp_path):
    text, cut = tmp_path / "text.mp4", tmp_path / "cut.mp4"
    text.write_text("no video")
    cut.write_bytes(video.read_bytes()[:200])
    for path, says in (
        (text, "is no video that can be read"),
        (cut, "no video|no frame"),
        (tmp_path / "none.mp4", "no such recording"),
    ):
        with pytest.raises(CameraError, match=says) as caught:
            Recording(str(path), LockstepClock())
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def depth(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 65536, (32, 48), np.uint16)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two cameras, 30 frames a second; as a recorder drains them: the distances of a while after the pictures of that while."""
    path = tmp_path_factory.mktemp("session") / "0001.mcap"
    writer = Session(path, {})
    for begin in range(0, 30, 5):
        for i in range(begin, begin + 5):
            writer.write("picture", Picture(t=10**12 + i * 33_000_000, camera="front", count=i + 1, data=encode(picture(i % 20))))
            writer.write("picture", Picture(t=10**12 + i * 33_000_000, camera="side", count=i + 1, data=encode(picture(3))))
        for i in range(begin, begin + 5):
            if i != 7:  # one was lost
                writer.write("depth", Picture(t=10**12 + i * 33_000_000, camera="front", count=i + 1, data=packed(depth(i)),
                                              format="png", depth_m=0.0001))  # fmt: skip
        writer.write("image", Image(t=10**12 + begin * 33_000_000, camera="front"))
        writer.flush()
    writer.finish({})
    return path


def played(path, name="#front"):
    clock = LockstepClock()
    clock.advance(7_000_000_000)
    camera, seen = Recording(f"{path}{name}", clock), []
    with pytest.raises(CameraError, match="has come to its end"):
        while True:
            if (frame := camera.read(clock.now() + 10_000_000)) is not None:
                assert clock.now() == frame.t
                seen.append(frame)
    camera.close()
    return seen


def test_a_session_plays_its_pictures_with_their_distances_bit_for_bit(session):
    seen = played(session)
    assert [frame.t for frame in seen] == [7_000_000_000 + i * 33_000_000 for i in range(30)]
    for i, frame in enumerate(seen):
        assert np.abs(frame.pixels().astype(int) - picture(i % 20)).mean() < 4 and frame.stamp == "device"
        assert frame.depth is None if i == 7 else np.array_equal(frame.depth, depth(i)) and frame.depth_m == 0.0001
    assert all(frame.depth is None for frame in played(session, "#side"))


def test_a_session_that_was_cut_off_plays_as_far_as_it_is_whole(session, tmp_path):
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(session.read_bytes()[: session.stat().st_size // 2])
    seen = played(cut)
    assert 5 <= len(seen) < 25 and np.array_equal(seen[0].depth, depth(0))


def test_a_flipped_bit_gives_no_other_frames(session, tmp_path):
    data, rng, bad = session.read_bytes(), np.random.default_rng(0), tmp_path / "bad.mcap"
    for _ in range(25):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        bad.write_bytes(flipped)
        try:
            seen = played(bad)
        except CameraError as error:
            assert "\n" not in str(error)
            continue
        assert all(frame.depth is None or np.array_equal(frame.depth, depth(frame.number - 1)) for frame in seen)


def test_a_record_that_is_no_picture_ends_it(tmp_path):
    with open(tmp_path / "bad.mcap", "wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("picture/front", "json", writer.register_schema("Picture", "jsonschema", b"{}"))
        for data in (msgspec.json.encode(Picture(t=5, camera="front", count=1, data=encode(picture(1)))), b"\0", b"{}"):
            writer.add_message(channel, 0, data, 0)
        writer.finish()
    assert len(played(tmp_path / "bad.mcap", "")) == 1


def test_what_is_no_session_or_has_no_such_camera_is_one_line(session, tmp_path):
    short, text = tmp_path / "short.mcap", tmp_path / "text.mcap"
    short.write_bytes(session.read_bytes()[:300])
    text.write_text("no session")
    for path, says in (
        (f"{session}", "has pictures of front, side; name one"),
        (f"{session}#wrist", "has pictures of front, side; name one"),
        (short, "no session with pictures"),
        (text, "no session with pictures"),
        (tmp_path / "none.mcap#front", "no such recording"),
    ):
        with pytest.raises(CameraError, match=says) as caught:
            Recording(str(path), LockstepClock())
        assert "\n" not in str(caught.value)


def test_distances_are_packed_without_loss():
    assert np.array_equal(unpacked(packed(depth(5))), depth(5))
    assert unpacked(b"no png") is None and unpacked(b"") is None and unpacked(encode(picture(1))) is None
