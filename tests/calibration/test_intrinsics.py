"""A lens is found again from what a camera with a known one sees (bench/optics.py); what is too little or damaged is one line."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from robotrl import config
from robotrl.calibration import capture, devices, intrinsics, store, views
from robotrl.calibration.board import CHARUCO
from robotrl.calibration.store import CalibrationError
from robotrl.clock import LockstepClock

SIZE = (640, 480)


def view(optics, name, pose, noise=0.0, rng=None):
    """What is seen of the board at `pose`, by the projector."""
    px = optics.projected(CHARUCO.corners(), pose, optics.LENS)
    inside = (px > 1).all(1) & (px < np.subtract(SIZE, 2)).all(1)
    px = px + rng.normal(0, noise, px.shape) if noise else px
    return views.View(name, SIZE, px[inside], np.flatnonzero(inside))


@pytest.fixture
def many(optics):
    def made(seed, n=40, noise=0.2):
        rng = np.random.default_rng(seed)
        poses = optics.held(rng, CHARUCO.size_m, optics.LENS, (480, 640), n)
        return [view(optics, str(i), p, noise, rng) for i, p in enumerate(poses)]

    return made


def test_without_noise_the_lens_is_found_exactly(optics, many):
    lens = intrinsics.estimate(CHARUCO, many(0, 20, 0.0))
    assert lens.values[:4] == pytest.approx(optics.LENS[:4], abs=0.01) and lens.rms < 1e-3
    assert lens.values[4:] == pytest.approx(optics.LENS[4:], abs=1e-3)


def test_with_noise_as_far_off_as_its_deviation_says(optics, many):
    """Two tenths of a pixel, forty views: two seeds; `robotrl bench calibration` has more."""
    off = []
    for seed in range(2):
        lens = intrinsics.estimate(CHARUCO, many(seed))
        off.append((lens.values[:4] - optics.LENS[:4]) / lens.deviation[:4])
        assert np.abs(lens.values[:2] / optics.LENS[:2] - 1).max() < 0.003
        assert lens.rms == pytest.approx(0.2 * 2**0.5, rel=0.05)
    assert 0.4 < np.sqrt(np.mean(np.square(off))) < 1.7


def test_pictures_to_a_record(optics, pictures, tmp_path, capsys):
    words = ["--camera", "cam1", "--images", str(pictures), "--calibration", str(tmp_path)]
    assert intrinsics.main(words) == 0
    record = devices.lens_of("cam1", 640, 480, tmp_path)
    assert np.abs(np.divide(record.lens[:2], optics.LENS[:2]) - 1).max() < 0.002
    assert record.rms < 0.2 and len(record.views) == 12 and record.board == str(CHARUCO)
    assert "fx" in capsys.readouterr().out
    assert intrinsics.main(words) == 0  # again
    again = devices.lens_of("cam1", 640, 480, tmp_path)
    assert again.lens == pytest.approx(record.lens, rel=1e-4) and again.digest == record.digest


def test_a_record_is_of_one_camera_at_one_resolution(pictures, tmp_path):
    record = intrinsics.from_folder(CHARUCO, "cam1", pictures)
    path = devices.lens_path("cam1", 640, 480, tmp_path)
    store.write(record, path)
    with pytest.raises(CalibrationError, match="cam1 was calibrated at 640x480 px"):
        devices.lens_of("cam1", 1280, 720, tmp_path)
    path.rename(devices.lens_path("cam2", 640, 480, tmp_path))
    with pytest.raises(CalibrationError, match="is of 'cam1' 640 480, this is 'cam2' 640 480; make it again"):
        devices.lens_of("cam2", 640, 480, tmp_path)
    with pytest.raises(CalibrationError, match="no such file; make it"):
        devices.lens_of("cam3", 640, 480, tmp_path)
    with pytest.raises(CalibrationError, match=r"camera '\.\./'"):
        devices.lens_of("../", 640, 480, tmp_path)
    assert devices.lens_path("/dev/v4l/by-id/usb-x", 640, 480, tmp_path).name == "dev_v4l_by-id_usb-x.640x480.json"


def test_a_view_that_lies_far_off_is_left_out(many):
    seen = many(1, 30)
    seen[7] = replace(seen[7], corners=seen[7].corners + np.random.default_rng(0).normal(0, 3, seen[7].corners.shape))
    lens = intrinsics.estimate(CHARUCO, seen)
    assert lens.dropped == ["7"] and len(lens.used) == 29


def level(optics, tilt=0.0):
    """Views that all face the camera, tilted by the same, in the middle of the picture."""
    back = optics.pose(optics.turned((tilt, 0, 0)), (0, 0, 0))
    return [
        view(optics, str(i), optics.pose(np.eye(3), (-0.13 + 0.002 * i, -0.09, 0.45)) @ back, 0.2, np.random.default_rng(i))
        for i in range(12)
    ]


def test_thin_data_say_what_is_missing(optics, many):
    with pytest.raises(CalibrationError, match="missing: 4 more views") as error:
        intrinsics.estimate(CHARUCO, many(0, 6, 0.05))
    assert "\n" not in str(error.value)
    with pytest.raises(CalibrationError, match="thin") as error:
        intrinsics.estimate(CHARUCO, level(optics, 0.5))
    says = str(error.value)
    assert "left (0 of 2), right (0 of 2)" in says and "picture's upper left" in says and "nearer and farther" in says


def test_level_views_are_refused(optics):
    """However many: focal length and distance cannot be told apart."""
    with pytest.raises(CalibrationError, match=r"tilted|says? nothing|no lens"):
        intrinsics.estimate(CHARUCO, level(optics))


@pytest.fixture
def some(pictures, tmp_path):
    """A copy of three pictures."""
    folder = tmp_path / "some"
    folder.mkdir()
    for i in range(3):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


def test_bad_input_is_one_line(some, tmp_path):
    def refused(says):
        with pytest.raises(CalibrationError, match=says) as error:
            intrinsics.from_folder(CHARUCO, "cam1", some)
        assert "\n" not in str(error.value)

    refused("3 of 3 pictures show")
    cv2.imwrite(str(some / "001.png"), cv2.imread(str(some / "001.png"))[:240, :320])
    refused(r"001.png: 320 x 240 px, but 000.png has 640 x 480")
    (some / "001.png").write_bytes((some / "002.png").read_bytes()[:-3000])
    refused("001.png: is no picture, or was cut off")
    jpeg = cv2.imencode(".jpg", cv2.imread(str(some / "002.png")))[1].tobytes()
    (some / "001.png").write_bytes(jpeg)
    refused("3 of 3 pictures show")
    (some / "001.png").write_bytes(jpeg[:-4000])
    refused("001.png: is no picture, or was cut off")
    (some / "001.png").write_bytes(b"")
    refused("001.png: is no picture, or was cut off")
    for i in range(3):
        cv2.imwrite(str(some / f"{i:03d}.png"), np.full((480, 640), 128, np.uint8))
    refused("0 of 3 pictures show ChArUco, 9 x 6")
    for path in some.iterdir():
        path.unlink()
    refused("no pictures")
    some.rmdir()
    refused("no such folder")


class Film:
    """A camera before which the board is moved about: each pose comes first blurred by motion, then still twice."""

    def __init__(self, images):
        self.identity, self.images, self.at = "film", images, 0

    def read(self, deadline):
        self.at += 1
        return self if self.at <= 3 * len(self.images) else None

    def pixels(self):
        image = self.images[(self.at - 1) // 3]
        return np.roll(image, 6, axis=1) if self.at % 3 == 1 else image

    def close(self):
        pass


def test_live_keeps_what_is_new_and_still(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(capture, "WANTED", 10)
    monkeypatch.setattr(views, "TILT_DEG", 15.0)  # the rough lens makes of 20 degrees now and then 19
    images = [views.picture(p) for p in views.pictures(pictures)]
    out = io.StringIO()
    film = Film([images[0], *images])
    count = capture.collect(film, CHARUCO, tmp_path / "kept", LockstepClock(), False, out)
    assert 10 <= count <= 12 and len(views.pictures(tmp_path / "kept")) == count
    kept = [views.picture(p) for p in views.pictures(tmp_path / "kept")]
    assert all(any((image == one).all() for one in images) for image in kept), "one was taken while the board moved"
    assert "views 1/10" in out.getvalue() and "missing: nothing" in out.getvalue()
    with pytest.raises(CalibrationError, match="camera film: no picture"):
        capture.collect(Film(images[:2]), CHARUCO, tmp_path / "few", LockstepClock(), False, io.StringIO())


def test_the_command_takes_live_pictures_and_keeps_them(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(capture, "WANTED", 10)
    monkeypatch.setattr(views, "TILT_DEG", 15.0)
    monkeypatch.setattr(capture, "has_display", lambda: True)
    shown = []
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: -1)
    images, asked = [views.picture(p) for p in views.pictures(pictures)], []
    monkeypatch.setattr("robotrl.drivers.cameras.connect", lambda wiring, clock: asked.append(wiring) or Film(images))
    assert intrinsics.main(["--camera", "S123", "--calibration", str(tmp_path)]) == 0
    assert asked[0].kind == "uvc" and asked[0].serial == "S123"
    record = devices.lens_of("S123", 640, 480, tmp_path)
    assert len(views.pictures(tmp_path / "cameras" / record.source.rpartition("/")[2])) >= 10
    assert "wrote" in capsys.readouterr().out
    assert shown[2].shape == (480, 640, 3) and (shown[2] != images[0][..., None]).any(), "the corners are drawn into the picture"


def test_a_camera_of_the_robot_file_is_known_by_its_number_or_its_name():
    robot = replace(
        config.Robot(), cameras={"front": config.CameraPort(serial="S1"), "film": config.CameraPort(kind="file", path="a.avi")}
    )
    assert [capture.identity_of(robot, name) for name in ("front", "film", "S9")] == ["S1", "film", "S9"]
    assert capture.wiring_of(robot, "film").path == "a.avi" and capture.wiring_of(robot, "S9").serial == "S9"
    for name in ("front", "film"):
        assert replace(robot, tracker=config.TrackerPort(camera=name)).seen_by == capture.identity_of(robot, name)
