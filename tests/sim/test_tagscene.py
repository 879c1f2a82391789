"""The twin's pictures of tags: what is printed, where it falls, how it is blurred, and what the camera does with it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from robotrl import config
from robotrl.sim.lens import Lens
from robotrl.sim.tagcamera import Film, TagCamera, rotation_of, view_of
from robotrl.sim.tagscene import BLACK, TAGS, WHITE, Print, Stand, TagScene
from robotrl.tagboard import CELLS, DICTIONARY, Roof, corners, plates

ROOF = Roof()
LENS = Lens(320, 240, 300.0, 300.0, 160.0, 120.0)
ABOVE = Stand.looking((0.0, -0.001, 1.3), (0.0, 0.0, 0.0))


def test_tags_are_those_of_opencv_s_dictionary():
    family = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, DICTIONARY))
    for name, cells in enumerate(TAGS):
        bits = cv2.aruco.generateImageMarker(family, name, CELLS)[1:-1, 1:-1] > 0
        assert int("".join(str(int(bit)) for bit in bits.ravel()), 2) == cells


def test_plates_lean_away_from_each_other_and_their_tags_lie_on_them():
    outwards = [plate.outwards for plate in plates(ROOF)]
    assert outwards[0] == pytest.approx((0, 0, 1))
    assert all(side[2] == pytest.approx(math.cos(ROOF.slope_rad)) for side in outwards[1:])
    middle = np.array(ROOF.at) - (0, 0, 0.1)
    for plate, out in zip(plates(ROOF), outwards, strict=True):
        assert (plate.centre - middle) @ out > 0, "it is seen from outside"
        for name, _ in plate.tags:
            at = corners(ROOF)[name]
            assert np.abs((at - plate.centre) @ out).max() < 1e-12
            assert np.cross(at[1] - at[0], at[3] - at[0]) @ out < 0, "corners go clockwise to who reads it"
    assert sorted(corners(ROOF)) == sorted(ROOF.ids)


def test_a_pixel_is_as_grey_as_the_share_of_it_that_is_black():
    """The top plate's rim seen straight from above, against the area that the square's edge leaves of each pixel."""
    scene = TagScene(LENS, ABOVE, ROOF, np.random.default_rng(0))
    image, _ = scene.picture([(np.eye(3), np.array((0.0037, 0.0021, 0.0)))])
    at = np.array(corners(ROOF)[ROOF.ids[0]]) + (0.0037, 0.0021, 0.0)
    seen = LENS.pixels((at - ABOVE.position) @ ABOVE.axes)
    left, right = seen[:, 0].min(), seen[:, 0].max()
    row = int(seen[:, 1].mean())
    line = image[row, int(left) - 3 : int(right) + 4].astype(float)
    white, black = line.max(), line.min()
    edge = int(left) - 3 + int(np.argmax(line < (white + black) / 2))  # the first pixel that is more black than white
    share = (white - image[row, edge - 1 : edge + 1].astype(float)).sum() / (white - black)
    assert abs((edge + 0.5 - share) - left) < 0.07, "an eighth of a pixel is what eight samples tell, half of it the most it errs"
    assert black / white == pytest.approx(BLACK / WHITE, abs=0.01)


def test_what_moves_while_the_shutter_is_open_is_blurred_by_its_way():
    scene = TagScene(LENS, ABOVE, ROOF, np.random.default_rng(0))

    def greys(way: float) -> int:
        image, _ = scene.picture([(np.eye(3), np.array((way * k / 7, 0.0, 0.0))) for k in range(8)])
        return int(((image > 60) & (image < 150)).sum())

    assert greys(0.02) > greys(0.0) + 100


def test_a_board_that_faces_away_or_is_behind_us_is_not_drawn():
    scene = TagScene(LENS, ABOVE, ROOF, np.random.default_rng(0))
    for rotation, place in ((rotation_of(math.pi, 0.0, 0.0), (0, 0, 0.3)), (np.eye(3), (0, 0, 3.0)), (np.eye(3), (9.0, 0, 0))):
        image, _ = scene.picture([(rotation, np.array(place, float))])
        assert image.max() < 0.9 * WHITE
        assert scene.picture([])[0].tobytes() == scene.background.tobytes(), "and what was drawn is gone again"


def test_legs_that_cannot_close_are_left_out():
    scene = TagScene(LENS, ABOVE, ROOF, np.random.default_rng(0))
    at = [(np.eye(3), np.zeros(3))]
    torn = scene.picture(at, np.array((math.pi, math.pi, *(2.0,) * 6)))[0].copy()
    assert (torn == scene.picture(at)[0]).all() and (torn != scene.picture(at, np.full(8, 2.0))[0]).any()


def test_a_print_holds_nothing_beside_the_plate():
    print_ = Print(plates(ROOF)[1], ROOF.tag_m)
    assert set(np.unique(print_.texels)) == {BLACK, WHITE}


class StillWorld:
    """Time that goes on, and a robot that walks at 1 m/s."""

    def __init__(self) -> None:
        self.time, self.angle = 0.0, np.full(8, 2.0)

    def torso(self, delay: float) -> SimpleNamespace:
        return SimpleNamespace(rpy=(0.0, 0.0, 0.0), position=(self.time - delay, 0.0, 0.27))


SMALL = config.Tripod(width=160, height=90, focal_px=80.0, drop=0.0, jitter_s=0.0, rate_hz=50.0)


def run(camera: TagCamera, world: StillWorld, seconds: float) -> list[tuple[float, int]]:
    """(when a picture came, when it was taken)."""
    out = []
    for _ in range(round(seconds / 0.002)):
        world.time += 0.002
        camera.advance()
        while (shot := camera.shoot()) is not None:
            out.append((world.time, shot[0]))
    return out


def test_pictures_come_late_by_their_delay_and_say_when_they_were_taken():
    world = StillWorld()
    came = run(TagCamera(world, SMALL, ROOF, np.random.default_rng(0)), world, 1.0)
    assert len(came) in (48, 49)
    assert np.diff([taken for _, taken in came]) == pytest.approx(0.02e9, abs=2)
    assert all(0.0 <= now - taken * 1e-9 - SMALL.delay_s < 0.0021 for now, taken in came)


def test_a_share_of_them_never_comes():
    world = StillWorld()
    camera = TagCamera(world, config.Tripod(width=160, height=90, focal_px=80.0, drop=0.5), ROOF, np.random.default_rng(0))
    assert 15 < len(run(camera, world, 1.0)) < 45


def test_the_same_seed_gives_the_same_picture_and_a_dark_one_has_less_noise():
    stand = config.Tripod(width=320, height=180, focal_px=160.0)
    pictures = []
    for seed in (0, 0, 1):
        rng = np.random.default_rng(seed)
        scene = TagScene(Lens(320, 180, 160.0, 160.0, 160.0, 90.0), Stand.looking(stand.position, stand.target), ROOF, rng)
        pictures.append(Film(scene, stand, rng).take([(np.eye(3), np.array((1.0, 0.0, 0.3)))], None))
    assert pictures[0].tobytes() == pictures[1].tobytes() != pictures[2].tobytes()


def test_a_perfect_calibration_is_where_the_camera_stands():
    view = view_of(SMALL, "c1")
    assert view.axes == pytest.approx(Stand.looking(SMALL.position, SMALL.target).axes, abs=1e-12)
    assert (view.width, view.height, view.camera) == (160, 90, "c1")
