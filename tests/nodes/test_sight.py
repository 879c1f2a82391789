"""Sight: corners to a twentieth of a pixel, the pose that fits them and gravity, and no pose where two fit."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from robotrl import boardpose, config, tagcorners, viewpoint
from robotrl.boardpose import Gravity, angle_between
from robotrl.messages import Imu, Joints
from robotrl.nodes.leaning import Leaning, up_of
from robotrl.nodes.odometry import Odometry, pressing
from robotrl.nodes.sight import AGREE, SEARCH_EVERY, Sight
from robotrl.nodes.tagtracker import RECKON_NS, TagTracker, Velocity
from robotrl.sim.tagcamera import Film, lens_of, rotation_of, view_of
from robotrl.sim.tagscene import Stand, TagScene
from robotrl.tagboard import Roof, corners

ROOF = Roof()
STAND = config.Tripod(width=640, height=360, focal_px=480.0, position=(0.0, -1.4, 1.6), target=(0.0, 0.0, 0.35))
MS = 1_000_000


class Stage:
    """A torso before a camera."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.scene = TagScene(lens_of(STAND), Stand.looking(STAND.position, STAND.target), ROOF, rng)
        self.film, self.view = Film(self.scene, STAND, rng), view_of(STAND, "c1")

    def picture(self, place=(0.0, 0.0, 0.27), rpy=(0.0, 0.0, 0.0)):
        return self.film.take([(rotation_of(*rpy), np.array(place))], None)

    def nothing(self):
        return self.film.take([], None)


@pytest.fixture(scope="module")
def stage():
    return Stage()


@pytest.fixture(autouse=True)
def nothing_hidden(stage):
    yield
    stage.scene.hidden = set()


def imu(t: int, roll: float = 0.0, pitch: float = 0.0, rates=(0.0, 0.0, 0.0), stale: bool = False) -> Imu:
    return Imu(t=t, roll=roll, pitch=pitch, yaw=0.0, rates=rates, accel=(0.0, 0.0, 9.81), stale=stale)


def test_corners_are_found_to_a_tenth_of_a_pixel_where_the_detector_s_own_are_not(stage):
    fine, rough, reader = [], [], tagcorners.detector()
    for k in range(12):
        rpy, place = (0.05 * math.sin(k), 0.05, 0.3 * math.sin(2.0 * k)), np.array((0.05 * k - 0.3, 0.02 * k, 0.27))
        image = stage.picture(place, rpy)
        rotation, position = stage.scene.stand.see(rotation_of(*rpy), place)
        found, names, _ = reader.detectMarkers(image)
        raw = {int(n): f[0] for n, f in zip(names.ravel(), found, strict=True)}
        for name, seen in tagcorners.find(reader, image, ROOF.ids).items():
            true = stage.scene.lens.pixels(corners(ROOF)[name] @ rotation.T + position)
            fine.append(seen - true)
            rough.append(raw[name] - true)
    assert len(fine) > 30
    assert np.sqrt(np.mean(np.square(fine))) < 0.12 < 0.4 < np.sqrt(np.mean(np.square(rough)))


def test_a_tag_seen_twice_or_of_another_board_is_none(stage):
    image, reader = stage.picture(), tagcorners.detector()
    found = tagcorners.find(reader, image, ROOF.ids)
    assert found and not tagcorners.find(reader, image, ())
    assert tagcorners.find(reader, np.concatenate((image, image)), ROOF.ids) == {}
    shifted = tagcorners.find(reader, np.ascontiguousarray(image[10:, 20:]), ROOF.ids, (20, 10))
    assert all(np.abs(shifted[name] - found[name]).max() < 0.02 for name in found)


def made(rotation, position, names, noise=0.0, seed=0):
    """Points, where they are seen on the ideal plane, and the rows of each tag's plane, all alone."""
    points = np.concatenate([corners(ROOF)[name] for name in names])
    at = points @ rotation.T + position
    seen = at[:, :2] / at[:, 2:] + np.random.default_rng(seed).normal(0, noise / 480, (len(points), 2))
    return points, seen


def test_a_pose_is_found_again_from_exact_corners_without_gravity_or_guess():
    rng = np.random.default_rng(1)
    for _ in range(20):
        stand = Stand.looking((rng.uniform(-1, 1), -1.8, 1.2), (0, 0, 0.3))
        rotation, position = stand.see(rotation_of(*rng.uniform(-0.2, 0.2, 3)), np.array((0.1, 0.0, 0.27)))
        points, seen = made(rotation, position, (4, 5, 0, 1))
        fit = boardpose.solve(points, seen, 480.0, [range(8), range(8, 16)], None)
        assert fit is not None and boardpose.sound(fit)
        assert angle_between(fit.rotation, rotation) < 1e-5 and np.abs(fit.position - position).max() < 1e-6


def test_one_plane_far_away_has_two_poses_and_gravity_tells_which():
    stand = Stand.looking((0.0, -4.0, 1.0), (0.0, 0.0, 0.3))
    rotation, position = stand.see(rotation_of(0.0, 0.0, 0.1), np.array((0.0, 0.0, 0.27)))
    names, up = (4,), stand.axes[2]
    alone = [boardpose.solve(*made(rotation, position, names, 0.2, k), 480.0, [range(4)], None) for k in range(20)]
    assert not any(fit is not None and boardpose.sound(fit) for fit in alone), "two poses fit: there is none to be told"
    told = [
        boardpose.solve(*made(rotation, position, names, 0.2, k), 480.0, [range(4)], Gravity(up, np.array((0, 0, 1.0)), 0.06))
        for k in range(20)
    ]
    assert all(fit is not None and boardpose.sound(fit) and angle_between(fit.rotation, rotation) < 0.3 for fit in told)
    lying = Gravity(up, up_of(math.radians(70), 0.0), 0.06)
    lied = [boardpose.solve(*made(rotation, position, names, 0.2, k), 480.0, [range(4)], lying) for k in range(20)]
    assert not any(fit is not None and boardpose.sound(fit) and angle_between(fit.rotation, rotation) < 0.3 for fit in lied)


def test_corners_of_another_board_are_a_misfit():
    stand = Stand.looking((0.0, -1.8, 1.2), (0.0, 0.0, 0.3))
    rotation, position = stand.see(np.eye(3), np.array((0.0, 0.0, 0.27)))
    points, seen = made(rotation, position, (4, 5, 0, 1))
    larger = boardpose.solve(points * (1, 1, 1.3), seen, 480.0, [range(8)], None)
    assert larger is None or not boardpose.sound(larger)


def test_the_slopes_are_those_of_the_residuals():
    stand = Stand.looking((0.3, -1.8, 1.2), (0.0, 0.0, 0.3))
    rotation, position = stand.see(rotation_of(0.1, -0.1, 0.2), np.array((0.0, 0.0, 0.27)))
    points, seen = made(rotation, position, (4, 5, 0), 2.0)
    gravity = Gravity(stand.axes[2], up_of(0.05, 0.02), 0.06)
    residual, slopes = boardpose._terms(points, seen, 1000.0, gravity, rotation, position)  # type: ignore[misc]
    for k in range(6):
        step = np.zeros(6)
        step[k] = 1e-6
        turn = rotation_of(0, 0, 0) + np.array(((0, -step[2], step[1]), (step[2], 0, -step[0]), (-step[1], step[0], 0)))
        moved, _ = boardpose._terms(points, seen, 1000.0, gravity, turn @ rotation, position + step[3:])  # type: ignore[misc]
        assert (moved - residual) / 1e-6 == pytest.approx(slopes[:, k], rel=1e-3, abs=0.05)


def test_a_pose_by_sight_is_true_to_a_millimetre_and_two(stage):
    sight = Sight(ROOF, stage.view)
    for k in range(6):
        rpy, place = (0.1, -0.05, 0.1 * k), np.array((0.02 * k, 0.0, 0.27))
        sight.hear(imu(k * 16 * MS, 0.1 + 0.04, -0.05))
        got = sight.look(stage.picture(place, rpy), k * 16 * MS)
        assert got is not None and angle_between(got.rotation, rotation_of(*rpy)) < 0.015
        off = stage.view.axes.T @ (got.position - place)
        assert np.abs(off[:2]).max() < 0.002 and abs(off[2]) < 0.008
    assert sight.counts == {"seen": 6}


def test_colour_and_grey_are_read_alike_and_another_size_is_refused(stage):
    image = stage.picture()
    grey, colour = (Sight(ROOF, stage.view).look(picture, 1) for picture in (image, np.repeat(image[..., None], 3, 2)))
    assert grey is not None and colour is not None and grey.position == pytest.approx(colour.position, abs=1e-4)
    with pytest.raises(viewpoint.ViewpointError, match="its picture is 640 x 300, its calibration of 640 x 360"):
        Sight(ROOF, stage.view).look(image[:300], 1)


def test_a_robot_that_the_imu_says_lies_is_not_said_to_stand(stage):
    sight = Sight(ROOF, stage.view)
    sight.hear(imu(0, roll=1.0))
    assert sight.look(stage.picture(), 0) is None and sight.why in ("tilted", "misfit", "ambiguous")
    sight = Sight(ROOF, stage.view)
    sight.hear(imu(-200 * MS, roll=1.0))
    assert sight.look(stage.picture(), 0) is not None, "what was long ago says nothing"


def test_one_plane_without_an_imu_is_no_pose_and_with_one_it_is(stage):
    stage.scene.hidden = {0, 3, 4}  # all that face us but the right side
    image = stage.picture((0.0, 1.0, 0.27))  # from 2.7 m
    sight = Sight(ROOF, stage.view)
    assert sight.look(image, 0) is None and sight.why == "ambiguous"
    sight.hear(imu(16 * MS))
    assert sight.look(image, 16 * MS) is not None


def test_a_jump_is_refused_until_it_has_been_seen_three_times(stage):
    sight, t = Sight(ROOF, stage.view), 0
    whys = []
    for x in (0.0, 0.0, 0.5, 0.5, 0.5, 0.5):
        sight.look(stage.picture((x, 0.0, 0.27)), t)
        sight.look(stage.picture((x, 0.0, 0.27)), t + 5 * MS) if sight.why in ("nothing", "skipped") else None
        whys.append(sight.why)
        t += 16 * MS
    assert whys.count("seen") >= 3 and "jumped" in whys and whys[-1] == "seen" and AGREE == 3


def test_without_a_trace_of_the_board_a_third_of_the_pictures_is_searched(stage):
    sight = Sight(ROOF, stage.view)
    assert sight.look(stage.picture(), 0) is not None
    for k in range(1, 10):
        sight.look(stage.nothing(), k * 16 * MS)
    assert sight.counts["skipped"] == 9 - 1 - 3 and SEARCH_EVERY == 3
    back = [sight.look(stage.picture(), (20 + k) * 16 * MS) for k in range(3)]
    assert any(back), "found again"


def test_sight_learns_what_the_imu_has_wrong(stage):
    sight = Sight(ROOF, stage.view)
    for k in range(40):
        sight.hear(imu(k * 16 * MS, roll=0.05, pitch=-0.04))
        sight.look(stage.picture(), k * 16 * MS)
    assert sight.leaning.bias == pytest.approx(up_of(0, 0) - up_of(0.05, -0.04), abs=0.008)


def test_up_is_followed_by_the_gyro_between_two_readings():
    leaning = Leaning()
    leaning.hear(imu(0, roll=0.1, rates=(2.0, 0.0, 0.0)))
    up, sigma = leaning.at(10 * MS)  # type: ignore[misc]
    assert up == pytest.approx(up_of(0.12, 0.0), abs=1e-3) and sigma > 0.06
    assert leaning.at(60 * MS) is None
    leaning.hear(imu(60 * MS, roll=math.nan))
    leaning.hear(imu(60 * MS, stale=True))
    assert leaning.at(60 * MS) is None


def test_a_velocity_is_the_way_of_the_last_fifth_of_a_second_and_says_of_when():
    filter_, got = Velocity(), []
    for k in range(40):
        t = k * 16_666_667
        got.append(filter_.add(t, np.array((0.5 * (t * 1e-9) ** 2, 0.3 * t * 1e-9, 0.0))))
    assert got[11] is None and got[13] is not None
    velocity, of = got[-1]  # type: ignore[misc]
    assert of == 39 * 16_666_667 - 100 * MS, "the delay is a tenth of a second, exactly"
    assert velocity == pytest.approx((of * 1e-9, 0.3, 0.0), abs=1e-4), "of a steady acceleration it is the velocity then"


def test_after_a_gap_there_is_no_velocity_before_the_window_is_full_again():
    filter_ = Velocity()
    for k in range(20):
        filter_.add(k * 16 * MS, np.zeros(3))
    later = [filter_.add(3000 * MS + k * 16 * MS, np.ones(3)) is None for k in range(14)]
    assert all(later[:13]) and not later[13]


STANDING = (2.0,) * 8


def joints(t: int, position=STANDING, torque=(-0.5, 0.5) * 4, missed=(0,) * 8) -> Joints:
    zeros = (0.0,) * 8
    return Joints(t=t, tick=0, position=position, velocity=zeros, torque=torque, temp_c=zeros, voltage=zeros, mode=(10,) * 8,
                  fault=(0,) * 8, missed=missed)  # fmt: skip


def test_legs_that_sweep_back_under_load_take_the_torso_forwards():
    """Both motors of a leg turned alike swing it: by how far its toe goes back the torso goes on."""
    from robotrl.kinematics import foot, to_motors

    odometry, load = Odometry(), None
    odometry.hear(imu(0))
    for k in range(26):
        angles = to_motors(np.full(4, 0.3 - 0.02 * k), np.full(4, 2.0))
        load = tuple(np.array(((1.0, 1.0),) * 4).ravel().tolist())
        odometry.step(joints(k * 20 * MS, tuple(angles.tolist()), load))
    way, turned = odometry.way(0, 500 * MS)  # type: ignore[misc]
    first, last = (foot(to_motors(np.full(4, s), np.full(4, 2.0)))[0, 0] for s in (0.3, -0.2))
    assert way == pytest.approx((first - last, 0.0), abs=1e-3) and turned == 0.0
    assert odometry.way(0, 900 * MS) is None, "the path does not reach there"


def test_a_leg_presses_by_what_its_motors_hold():
    """By virtual work: the force at the toe does as much as the torques do on the way of a small turn."""
    from robotrl.kinematics import foot

    held = pressing(joints(0, torque=(0.4, 0.7) * 4))
    step = np.zeros(8)
    step[0], step[1] = 1e-5, 1e-5  # both at once: toe 0 goes down alone
    moved = (foot(np.array(STANDING) + step) - foot(np.array(STANDING)))[0]
    assert abs(moved[0]) < 0.02 * moved[1]
    assert held[0] == pytest.approx((0.4 + 0.7) * 1e-5 / moved[1], rel=0.02)


def test_a_reading_that_is_not_whole_ends_the_path():
    odometry = Odometry()
    odometry.hear(imu(0))
    for k in range(4):
        odometry.step(joints(k * 20 * MS))
    assert odometry.way(0, 60 * MS) is not None
    odometry.step(joints(80 * MS, missed=(1,) + (0,) * 7))
    assert odometry.way(0, 60 * MS) is None


def test_without_the_board_it_is_reckoned_for_a_second_and_then_said_no_more(stage):
    tracker, poses = TagTracker(ROOF, stage.view), []
    for k in range(100):
        t = k * 20 * MS
        tracker.hear(imu(t))
        stepped = tracker.step(joints(t))
        looked = tracker.look(stage.picture() if k < 3 else stage.nothing(), t)
        poses += [pose for pose in (stepped, looked) if pose is not None]
    seen = [pose for pose in poses if not pose.reckoned]
    assert [pose.t for pose in seen] == [0, 20 * MS, 40 * MS]
    reckoned = [pose for pose in poses if pose.reckoned]
    assert reckoned[-1].t == 40 * MS + RECKON_NS and len(reckoned) == 50
    assert reckoned[-1].position == pytest.approx(seen[-1].position, abs=2e-3), "its legs stood still"
    assert all(a.t < b.t for a, b in pairwise(poses))


def test_a_camera_that_says_nothing_is_stood_in_for_by_the_legs(stage):
    tracker = TagTracker(ROOF, stage.view)
    tracker.hear(imu(0))
    tracker.step(joints(0))
    assert tracker.look(stage.picture(), 0) is not None
    poses = []
    for k in range(1, 80):
        tracker.hear(imu(k * 20 * MS))
        poses.append(tracker.step(joints(k * 20 * MS)))
    times = [pose.t for pose in poses if pose is not None]
    assert times[0] == 120 * MS and times[-1] == RECKON_NS


def test_a_picture_that_came_too_late_is_passed_over(stage):
    tracker = TagTracker(ROOF, stage.view, legs=False)
    assert tracker.look(stage.picture(), 50 * MS) is not None
    assert tracker.look(stage.picture(), 40 * MS) is None and tracker.look(stage.picture(), 50 * MS) is None


def test_a_viewpoint_is_kept_by_its_camera_and_refused_for_another(stage, tmp_path: Path):
    viewpoint.write(stage.view, viewpoint.path_of("c1", tmp_path))
    assert viewpoint.load("c1", tmp_path, (640, 360)) == stage.view
    for wanted, size, says in (
        ("c2", None, "where camera c2 stands was never calibrated"),
        ("c1", (1280, 720), "is of pictures of 640 x 360, these are 1280 x 720"),
        ("../c1", None, "write the camera's serial number"),
    ):
        with pytest.raises(viewpoint.ViewpointError, match=says):
            viewpoint.load(wanted, tmp_path, size)
    viewpoint.path_of("c1", tmp_path).rename(viewpoint.path_of("c3", tmp_path))
    with pytest.raises(viewpoint.ViewpointError, match="is of camera 'c1', this is 'c3'"):
        viewpoint.load("c3", tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 1}', "\xff"])
def test_a_viewpoint_that_is_none_is_said_to_be_so(stage, tmp_path: Path, text: str):
    path = viewpoint.path_of("c1", tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(viewpoint.ViewpointError, match=r"not readable: .*calibrate the camera again"):
        viewpoint.load("c1", tmp_path)


@pytest.mark.parametrize("change", [{"schema": 2}, {"focal": (0.0, 1.0)}, {"width": 0}])
def test_a_viewpoint_that_no_calibration_finds_is_refused(stage, tmp_path: Path, change: dict):
    viewpoint.write(dataclasses.replace(stage.view, **change), viewpoint.path_of("c1", tmp_path))
    with pytest.raises(viewpoint.ViewpointError, match="holds what no calibration finds"):
        viewpoint.load("c1", tmp_path)
