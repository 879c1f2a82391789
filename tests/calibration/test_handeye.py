"""A camera's place on a robot is found from samples with a known truth, as by OpenCV's five methods; thin ones are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from robotrl import config
from robotrl.calibration import devices, handeye, handeyetool, intrinsics, samples, store
from robotrl.calibration.board import CHARUCO
from robotrl.calibration.store import CalibrationError
from robotrl.clock import LockstepClock
from robotrl.drivers.servo_chain import ServoChain
from robotrl.serialarm import ARMS

ROOT = Path(__file__).resolve().parents[2]
METHODS = {
    "Tsai": cv2.CALIB_HAND_EYE_TSAI, "Park": cv2.CALIB_HAND_EYE_PARK, "Horaud": cv2.CALIB_HAND_EYE_HORAUD,
    "Andreff": cv2.CALIB_HAND_EYE_ANDREFF, "Daniilidis": cv2.CALIB_HAND_EYE_DANIILIDIS,
}  # fmt: skip


@pytest.fixture
def told(optics):
    """`told(seed, mount, noise)`: X and Y, robot and board poses, corners; noise of the corners in px."""

    def make(seed, mount="hand", noise=0.2, n=15):
        rng = np.random.default_rng(seed)
        x = optics.pose(optics.turned(rng.normal(0, 1, 3)), rng.normal(0, 0.05 if mount == "hand" else 0.4, 3))
        y = optics.pose(optics.turned(rng.normal(0, 1, 3)), rng.normal(0, 0.3 if mount == "hand" else 0.05, 3))
        robot, board, corners = [], [], []
        for pose in optics.held(rng, CHARUCO.size_m, optics.LENS, (480, 640), n):
            a = y @ np.linalg.inv(pose) @ np.linalg.inv(x)
            robot.append(a if mount == "hand" else np.linalg.inv(a))
            px = optics.projected(CHARUCO.corners(), pose, optics.LENS)
            rays = optics.rays(px + rng.normal(0, noise, px.shape) if noise else px, optics.LENS)
            _, turn, way = cv2.solvePnP(CHARUCO.corners(), rays, np.eye(3), None)
            board.append(optics.pose(cv2.Rodrigues(turn)[0], way.ravel()) if noise else pose)
            corners.append(handeye.Corners(CHARUCO.corners(), rays, optics.LENS[0]))
        return x, y, np.array(robot), np.array(board), corners

    return make


def off(truth, found):
    """Degrees and mm between two poses."""
    cosine = (np.trace(truth[:3, :3].T @ found[:3, :3]) - 1) / 2
    return math.degrees(math.acos(min(1.0, cosine))), 1000 * float(np.linalg.norm(truth[:3, 3] - found[:3, 3]))


@pytest.mark.parametrize("mount", ["hand", "base"])
def test_exact_samples_give_the_exact_place(told, mount):
    x, y, robot, board, corners = told(0, mount, 0.0)
    for found in (handeye.solve(robot, board, mount), handeye.solve(robot, board, mount, corners)):
        assert max(off(x, found.camera)) < 1e-4 and max(off(y, found.target)) < 1e-4


@pytest.mark.parametrize("mount", ["hand", "base"])
def test_with_a_fifth_of_a_pixel_of_noise(told, mount):
    """Asked are 0.2 degrees and 1 mm; `robotrl bench calibration` has more seeds."""
    for seed in range(3):
        x, _, robot, board, corners = told(seed, mount)
        found = handeye.solve(robot, board, mount, corners)
        degrees, millimetres = off(x, found.camera)
        assert degrees < 0.03 and millimetres < 0.3
        assert found.rms_px == pytest.approx(0.2, rel=0.1)
        assert degrees < 6 * math.degrees(np.linalg.norm(found.deviation[:3]))
        assert millimetres < 6000 * np.linalg.norm(found.deviation[3:])
        degrees, millimetres = off(x, handeye.solve(robot, board, mount).camera)
        assert degrees < 0.2 and millimetres < 1.0


@pytest.mark.parametrize("mount", ["hand", "base"])
def test_joints_that_are_a_little_off_are_found_out_and_weighed(told, optics, mount):
    """A tenth of a degree and half a millimetre: corners alone, which see a hundredth, would be believed too much, and give a
    place that is off by 0.3 to 0.9 degrees and 2 to 5 mm."""
    degrees, millimetres = [], []
    for seed in range(4):
        x, _, robot, board, corners = told(seed, mount)
        rng = np.random.default_rng(seed)
        robot = [r @ optics.pose(optics.turned(rng.normal(0, math.radians(0.1), 3)), rng.normal(0, 0.0005, 3)) for r in robot]
        found = handeye.solve(np.array(robot), board, mount, corners)
        a, b = off(x, found.camera)
        degrees.append(a)
        millimetres.append(b)
        assert a < 5 * math.degrees(np.linalg.norm(found.deviation[:3])) and b < 5000 * np.linalg.norm(found.deviation[3:])
    assert np.sqrt(np.mean(np.square(degrees))) < 0.2 and np.sqrt(np.mean(np.square(millimetres))) < 1.8


@pytest.mark.parametrize("mount", ["hand", "base"])
def test_the_closed_form_is_opencvs_and_its_other_four_agree(told, mount):
    _, _, robot, board, _ = told(5, mount)
    a = robot if mount == "hand" else np.linalg.inv(robot)
    ours = handeye.park_martin(*handeye.motions(a, board))
    for name, method in METHODS.items():
        turn, way = cv2.calibrateHandEye(a[:, :3, :3], a[:, :3, 3], board[:, :3, :3], board[:, :3, 3], method=method)
        theirs = np.eye(4)
        theirs[:3, :3], theirs[:3, 3] = turn, way.ravel()
        degrees, millimetres = off(theirs, ours)
        if name == "Park":
            assert np.abs(theirs - ours).max() < 1e-9
        assert degrees < 0.3 and millimetres < 5.0, name


def test_logarithm_and_exponential_undo_each_other(optics):
    rng = np.random.default_rng(0)
    for size in (0.0, 1e-9, 1e-3, 1.0, 3.1):
        vector = rng.normal(size=3)
        vector *= size / np.linalg.norm(vector)
        assert handeye.log(optics.turned(vector)) == pytest.approx(vector, abs=1e-9)
        assert handeye.exp(vector) == pytest.approx(optics.turned(vector), abs=1e-12)


def test_turns_about_one_axis_are_refused(told, optics):
    x, y, _, _, _ = told(0, noise=0.0)
    robot = np.array([optics.pose(optics.turned((0.001 * i, 0, 0.15 * i)), (0.3, 0.01 * i, 0.2)) for i in range(10)])
    board = np.linalg.inv(x) @ np.linalg.inv(robot) @ y
    with pytest.raises(CalibrationError, match=r"about one axis only \([\d.]+ degrees, about a second one 0.\d\)"):
        handeye.solve(robot, board, "hand")


def test_contradicting_and_few_samples_are_refused(told):
    _, _, robot, board, corners = told(0)
    with pytest.raises(CalibrationError, match="4 samples; take 5 or more"):
        handeye.solve(robot[:4], board[:4], "hand")
    with pytest.raises(CalibrationError, match=r"contradict each other by .* mount \(hand or base\)"):
        handeye.solve(robot, board, "base", corners)
    robot[4, :3, 3] += 0.1
    with pytest.raises(CalibrationError, match=r"contradict each other by .* most the 5. of them"):
        handeye.solve(robot, board, "hand")


# ---- a folder of samples


ARM = (str(ROOT / "launch" / "arm.toml"), "--serial", "arm1", "--camera", "cam1")


@pytest.fixture(scope="session")
def lens(pictures):
    return intrinsics.from_folder(CHARUCO, "cam1", pictures)


@pytest.fixture
def records(lens, tmp_path):
    """A folder of records with the lens of camera cam1."""
    store.write(lens, devices.lens_path("cam1", 640, 480, tmp_path / "records"))
    return tmp_path / "records"


@pytest.fixture
def folder(pictures, looks, optics, tmp_path):
    """Samples for those pictures: a camera 30 mm beside a gripper. Their truth, X, too."""
    x = optics.pose(optics.turned((0.2, -0.1, 1.5)), (0.03, 0.01, 0.05))
    y = optics.pose(optics.turned((0.0, math.pi, 0.3)), (0.3, 0.1, 0.0))
    out = tmp_path / "samples"
    out.mkdir()
    for i, look in enumerate(looks):
        robot = y @ np.linalg.inv(look) @ np.linalg.inv(x)
        (out / f"{i:03d}.json").write_text(json.dumps({"robot": robot.ravel().tolist()}))
        (out / f"{i:03d}.png").write_bytes((pictures / f"{i:03d}.png").read_bytes())
    return out, x


def calibrate(folder, records, *words):
    return handeyetool.main([*ARM, "--mount", "hand", "--samples", str(folder), "--calibration", str(records), *words])


def test_pictures_and_poses_to_a_record(folder, records, capsys):
    where, x = folder
    assert calibrate(where, records, "--json") == 0
    said = capsys.readouterr().out
    assert "12 samples" in said and json.loads(said.splitlines()[-1])["mount"] == "hand"
    robot = replace(config.load(ROOT / "launch" / "arm.toml").robot, serial="arm1")
    record = devices.hand_eye_of(robot, "cam1", records)
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = np.reshape(record.rotation, (3, 3)), record.translation
    degrees, millimetres = off(x, found)
    assert degrees < 0.2 and millimetres < 1.0
    path = devices.hand_eye_path(robot, "cam1", records)
    path.rename(path.with_name("arm2.cam1.hand-eye.json"))
    with pytest.raises(CalibrationError, match="is of 'so101' 'so101' 'arm1' 'cam1', this is 'so101' 'so101' 'arm2' 'cam1'"):
        devices.hand_eye_of(replace(robot, serial="arm2"), "cam1", records)


def test_a_sample_without_the_board_is_said_and_left_out(folder, records, capsys):
    where, _ = folder
    cv2.imwrite(str(where / "005.png"), np.full((480, 640), 128, np.uint8))
    assert calibrate(where, records) == 0
    assert "no board in view, not used: 005" in capsys.readouterr().out


POSE = np.eye(4).ravel().tolist()


@pytest.mark.parametrize(
    ("file", "holds", "says"),
    [
        ("003.json", b'{"robot": [1, 0', "003.json: not readable"),
        ("003.json", b'{"pose": []}', 'must hold "robot" or "joints"'),
        ("003.json", b'{"robot": [1, 2, 3]}', "robot must be 16 finite numbers"),
        ("003.json", json.dumps({"robot": [2.0, *POSE[1:]]}).encode(), "robot is no pose"),
        ("003.json", json.dumps({"robot": [float("nan"), *POSE[1:]]}).encode(), "16 finite numbers"),
        ("003.json", b'{"joints": [0.1, 0.2]}', "joints must be 6 finite numbers"),
        ("003.json", json.dumps({"robot": POSE, "board": POSE}).encode(), "and not both"),
        ("003.png", None, "needs a picture 003.png beside it"),
        ("003.png", b"\x89PNG", "is no picture, or was cut off"),
        ("small", None, "320 x 240 px, those before it have 640 x 480"),
        ("blank", None, "no board in view in any of 12 pictures"),
    ],
)
def test_a_bad_sample_is_one_line(folder, records, file, holds, says):
    where, _ = folder
    if file == "small":
        cv2.imwrite(str(where / "003.png"), np.zeros((240, 320), np.uint8))
    elif file == "blank":
        for path in where.glob("*.png"):
            cv2.imwrite(str(path), np.full((480, 640), 128, np.uint8))
    elif holds is None:
        (where / file).unlink()
    else:
        (where / file).write_bytes(holds)
    with pytest.raises(CalibrationError, match=says) as error:
        calibrate(where, records)
    assert "\n" not in str(error.value)


def test_a_camera_without_a_lens_is_told_to_get_one(folder, tmp_path):
    with pytest.raises(CalibrationError, match=r"cam1.640x480.json: no such file; make it: .* calibrate intrinsics"):
        calibrate(folder[0], tmp_path / "none")


# ---- live, from an arm that is moved by hand


def test_the_grippers_pose_is_the_products_of_its_turns(optics):
    """Against a chain of homogeneous matrices, and the point against `tip`."""
    axes = np.eye(3)
    for arm in ARMS.values():
        q = np.random.default_rng(1).uniform(-1, 1, len(arm.pivots))
        whole = np.eye(4)
        for pivot, angle in zip(arm.pivots, q, strict=True):
            turn = optics.turned(pivot.sign * angle * axes[pivot.axis])
            whole = whole @ optics.pose(turn, pivot.at - turn @ pivot.at)
        columns, point = arm.pose(q.tolist())
        assert np.abs(np.array(columns).T - whole[:3, :3]).max() < 1e-12
        assert point == pytest.approx(whole[:3, :3] @ arm.tip_at + whole[:3, 3])


class Eye:
    """A camera in the hand of an arm: shows what a picture holds for the pose the arm is in."""

    def __init__(self, image):
        self.identity, self.image = "cam1", image

    def read(self, deadline):
        return self

    def pixels(self):
        return self.image()

    def close(self):
        pass


def test_live_from_an_arm_moved_by_hand(pictures, tmp_path):
    """The twin's servos, their torque off: what is written are the joints as they are read, and the picture."""
    from robotrl.sim.servotwin import ServoTwin

    robot = config.load(ROOT / "launch" / "arm.toml").robot
    twin = ServoTwin(robot.kind, 0, LockstepClock())
    port = twin.ports()["servos"]

    class Carried(LockstepClock):
        def now(self):
            return twin.clock.now()

        def sleep_until(self, deadline):
            twin.joints.put(poses[min(at, len(poses) - 1)])
            twin.advance(max(0, deadline - self.now()) * 1e-9)

    poses = [[0.2, -0.4, 0.5, 0.3, 0.1, 0.0], [-0.3, -0.2, 0.4, 0.6, -0.5, 0.0]]
    at, said = -1, []

    def more(question):
        nonlocal at
        at += 1
        return at < 4

    def looked():
        if at == 3:  # it slips while the camera looks
            poses.append([p + 0.05 for p in poses[1]])
        return blank if at == 2 else seen

    blank = np.full((480, 640), 128, np.uint8)
    seen = cv2.imread(str(pictures / "000.png"), cv2.IMREAD_GRAYSCALE)
    clock = Carried()
    chain = ServoChain(port, robot, clock)
    eye = Eye(looked)
    count = handeyetool.collect(chain, robot, eye, CHARUCO, tmp_path / "live", clock, more, said.append)
    assert count == 2, said
    assert [s.split(":")[0] for s in said[:2]] == ["kept", "kept"] and "no board in view" in said[2] and "moved" in said[3]
    for i in range(2):
        joints = json.loads((tmp_path / "live" / f"{i:03d}.json").read_text())["joints"]
        assert joints == pytest.approx(poses[i], abs=0.01)
    kept = samples.views.picture(tmp_path / "live" / "001.png")
    assert (kept == seen).all()
