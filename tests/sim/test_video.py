"""A film is whole or not there, plays back, and has its colours the right way round."""

import cv2
import numpy as np
import pytest

from robotrl.sim import video
from robotrl.sim.video import VideoError, VideoWriter, caption, film

RED, BLUE = (220, 20, 20), (20, 20, 220)


def flat(colour, height=240, width=320):
    return np.full((height, width, 3), colour, np.uint8)


def frames_of(path):
    """All frames of a film, RGB, and its frame rate."""
    reader = cv2.VideoCapture(str(path))
    rate, frames = reader.get(cv2.CAP_PROP_FPS), []
    while (got := reader.read())[0]:
        frames.append(got[1][..., ::-1])
    reader.release()
    return frames, rate


def test_a_film_plays_back_in_its_colours(tmp_path):
    with VideoWriter(tmp_path / "walk.mp4", 25, (320, 240)) as writer:
        for colour in (RED, BLUE, RED):
            writer.write(flat(colour))
    assert writer.path == tmp_path / "walk.mp4" and writer.frames == 3
    frames, rate = frames_of(writer.path)
    assert len(frames) == 3 and rate == 25
    for frame, colour in zip(frames, (RED, BLUE, RED), strict=True):
        assert np.abs(frame.mean(axis=(0, 1)) - colour).max() < 15


def test_without_mpeg4_it_is_motion_jpeg(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "CODECS", ((".mp4", "nope"), (".avi", "MJPG")))
    path = film(tmp_path / "walk.mp4", [flat(RED), flat(BLUE)])
    assert path == tmp_path / "walk.avi" and len(frames_of(path)[0]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["walk.avi"]


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "walk.mp4") as writer:
        writer.write(flat(RED))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_name_appears_only_when_it_is_whole(tmp_path):
    writer = VideoWriter(tmp_path / "walk.mp4")
    writer.write(flat(RED))
    assert not (tmp_path / "walk.mp4").exists()
    assert writer.close().exists()


@pytest.mark.parametrize("frame", [flat(RED, 120, 160), flat(RED)[..., 0], flat(RED).astype(np.float32) / 255])
def test_a_wrong_frame_is_named(tmp_path, frame):
    writer = VideoWriter(tmp_path / "walk.mp4")
    with pytest.raises(VideoError, match="not uint8"):
        writer.write(frame)
    writer.discard()


def test_no_frames_no_film(tmp_path):
    with pytest.raises(VideoError, match="no film"):
        film(tmp_path / "walk.mp4", [])
    with pytest.raises(VideoError, match="no film"):
        VideoWriter(tmp_path / "walk.mp4").close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(VideoError, match="writable"):
        VideoWriter(tmp_path / "nowhere" / "walk.mp4")


def test_a_caption_is_read_on_black_and_on_white():
    for ground in (0, 255):
        frame = flat((ground,) * 3)
        out = caption(frame, ["t  3.2 s   0.48 m/s", "second line"])
        assert (frame == ground).all(), "the frame itself is left alone"
        assert (out[:40] != ground).any() and (out[60:] == ground).all()
        assert out.min() < 60 and out.max() > 195


def test_caption_takes_a_flipped_view():
    assert caption(flat(RED)[::-1], ["up"]).shape == (240, 320, 3)
