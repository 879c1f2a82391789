"""A video as a camera: each frame at its time on any clock, an end that is said, and files that are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from robotrl.clock import LockstepClock
from robotrl.drivers.camera import CameraError
from robotrl.drivers.recording import Recording

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
