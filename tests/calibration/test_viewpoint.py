"""Where a camera stands, from drawn pictures of a robot at its start: found to a few millimetres, or said why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from robotrl import config, viewpoint
from robotrl.boardpose import angle_between
from robotrl.calibration import devices, store
from robotrl.calibration import viewpoint as tool
from robotrl.calibration.store import CalibrationError
from robotrl.robot import Roof
from robotrl.sim.tagcamera import film_of, lens_of, rotation_of, view_of

TRIPOD = config.Tripod(width=640, height=360, focal_px=480.0, position=(0.2, -1.4, 1.6), target=(0.1, 0.0, 0.35))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lens that was calibrated, and three pictures."""
    lens = lens_of(TRIPOD)
    values = (lens.fx, lens.fy, lens.cx, lens.cy, *lens.distortion)
    record = devices.Intrinsics(
        schema=store.SCHEMA, camera="c1", made=store.today(), width=640, height=360, lens=values, deviation=(0.1,) * 9, rms=0.1,
        view_rms=(), board="", views=(), rejected=(), source="", digest="",
    )  # fmt: skip
    store.write(record, devices.lens_path("c1", 640, 360, tmp_path))
    film = film_of(TRIPOD, Roof(), np.random.default_rng(0))
    (tmp_path / "seen").mkdir()
    for k in range(3):
        cv2.imwrite(str(tmp_path / "seen" / f"{k}.png"), film.take([(rotation_of(0.02, 0, 0), np.array((0, 0, 0.277)))], None))
    return tmp_path


def test_a_camera_is_found_where_it_stands(folder, capsys):
    words = ["--camera", "c1", "--images", str(folder / "seen"), "--calibration", str(folder), "--roll", str(np.degrees(0.02))]
    assert tool.main(words) == 0
    found, true = viewpoint.load("c1", folder), view_of(TRIPOD, "c1")
    assert np.abs(np.subtract(found.position, true.position)).max() < 0.01
    assert angle_between(found.axes, true.axes) < np.radians(0.4)
    assert len(found.pictures) == 3 and found.spread_m < 0.01 and len(found.digest) == 64
    assert "camera c1 stands at" in capsys.readouterr().out


def test_what_no_place_comes_of_is_said(folder):
    def said(camera: str = "c1") -> str:
        with pytest.raises(CalibrationError) as error:
            tool.from_folder(camera, folder / "seen", Roof(), tool.torso_at(0.277, 0.0, 0.0), folder)
        return str(error.value)

    assert "calibrate intrinsics" in said("c2")
    film = film_of(TRIPOD, Roof(), np.random.default_rng(0))
    cv2.imwrite(str(folder / "seen" / "moved.png"), film.take([(np.eye(3), np.array((0.1, 0, 0.277)))], None))
    assert "nothing may move between them" in said()
    cv2.imwrite(str(folder / "seen" / "other.png"), np.zeros((100, 100), np.uint8))
    assert "pictures of 2 sizes" in said()
    for path in (folder / "seen").glob("*.png"):
        path.unlink()
    cv2.imwrite(str(folder / "seen" / "empty.png"), film.take([], None))
    assert "none of 1 pictures shows tags on two plates" in said()


def test_the_middle_of_two_places_is_between_them():
    a = (rotation_of(0, 0, 0.1), np.array((0.0, 0.0, 1.0)))
    b = (rotation_of(0, 0, -0.1), np.array((0.2, 0.0, 1.0)))
    (axes, place), off, turned = tool.mean([a, b])
    assert angle_between(axes, np.eye(3)) < 1e-9 and place.tolist() == [0.1, 0.0, 1.0]
    assert off == pytest.approx(0.1) and turned == pytest.approx(np.degrees(0.1))


def test_fields_of_a_viewpoint_that_were_not_there_once_may_be_missing(tmp_path):
    view = dataclasses.replace(view_of(TRIPOD, "c1"))
    viewpoint.write(view, viewpoint.path_of("c1", tmp_path))
    assert viewpoint.load("c1", tmp_path).pictures == ()
