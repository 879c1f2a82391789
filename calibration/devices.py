"""Records of devices that see and feel: a camera's lens, where it is mounted, how an IMU is. Written and read as `store.py` does.

Under `$XDG_CONFIG_HOME/robotrl/calibration/`: `cameras/<serial>.<width>x<height>.json`,
`<robot>/<serial>.<camera>.hand-eye.json`, `<robot>/<serial>.imu.json`. A record is of one device: for another it is refused.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from robotrl import config
from robotrl.calibration import store
from robotrl.calibration.making import making
from robotrl.calibration.store import CalibrationError
from robotrl.complaint import command

LENS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")  # Brown and Conrady as OpenCV has them
Vector = tuple[float, ...]


@dataclass(frozen=True)
class Intrinsics:
    """A camera's lens at one resolution. Pixel (0, 0) is the middle of the upper left one."""

    maker: ClassVar[str] = "calibrate intrinsics"
    schema: int
    camera: str  # its serial number
    made: str  # ISO 8601, UTC
    width: int  # px
    height: int
    lens: Vector  # (9,) in the order of LENS: px, px, px, px, then of the distortion; one that is 0 was not needed
    deviation: Vector  # (9,) standard deviation of each, from how far the corners lie off
    rms: float  # px, of all corners
    view_rms: Vector  # px, of each view
    board: str  # in words: what was looked at
    views: tuple[str, ...]  # the pictures that were used
    rejected: tuple[str, ...]  # those that were not, and why
    source: str  # where the pictures lie
    digest: str  # SHA-256 of all of them

    def wrong(self) -> tuple[str, str] | None:
        for field in ("lens", "deviation"):
            if len(getattr(self, field)) != len(LENS):
                return field, f"must have {len(LENS)} numbers: {', '.join(LENS)}"
        if not (0 < self.width <= 20_000 and 0 < self.height <= 20_000):
            return "width", f"and height are {self.width} x {self.height} px, which no camera has"
        if min(self.lens[:2]) <= 0 or not (0 < self.lens[2] < self.width and 0 < self.lens[3] < self.height):
            return "lens", f"is {list(self.lens)}, no lens of this size of picture"
        if len(self.view_rms) != len(self.views):
            return "view_rms", f"has {len(self.view_rms)} values for {len(self.views)} views"
        return None


@dataclass(frozen=True)
class HandEye:
    """Where a camera is mounted: its pose in the gripper's frame (in hand) or in the base's (to base)."""

    maker: ClassVar[str] = "calibrate hand-eye"
    schema: int
    robot: str
    kind: str
    serial: str  # the robot's
    camera: str  # the camera's serial number
    made: str  # ISO 8601, UTC
    mount: str  # "hand" or "base"
    rotation: Vector  # (9,) row by row: camera axes (x right, y down, z ahead) to the gripper's or the base's
    translation: Vector  # (3,) m
    target: Vector  # (12,) rotation and translation of the board in the base's frame (hand) or the gripper's (base)
    deviation: Vector  # (6,) standard deviation: rad about the camera's axes, m along the mount's
    residual_deg: Vector  # of each sample: how far the board is from where the result puts it
    residual_m: Vector
    rms_px: float  # of the corners; 0 where poses were given in their place
    axes_deg: Vector  # (3,) how much the samples turn about their principal axes, the largest first
    samples: tuple[str, ...]
    source: str
    digest: str  # SHA-256 of the samples

    def wrong(self) -> tuple[str, str] | None:
        sizes = {"rotation": 9, "translation": 3, "target": 12, "deviation": 6, "axes_deg": 3}
        sizes |= dict.fromkeys(("residual_deg", "residual_m"), len(self.samples))
        for field, size in sizes.items():
            if len(getattr(self, field)) != size:
                return field, f"must have {size} numbers"
        if self.mount not in ("hand", "base"):
            return "mount", f"must be 'hand' or 'base', not {self.mount!r}"
        return ("rotation", "is no rotation") if not is_rotation(self.rotation) else None


@dataclass(frozen=True)
class ImuMount:
    """An IMU on its robot: which way it is mounted, what it says at rest, how noisy it is."""

    maker: ClassVar[str] = "calibrate imu"
    schema: int
    robot: str
    kind: str
    serial: str  # the robot's: an IMU that is taken off and put on again is another
    device: str  # its port: a stable name holds the adapter's serial number; these sensors have none that they say
    made: str  # ISO 8601, UTC
    mount: Vector  # (9,) row by row: the sensor's axes to the robot's (x forwards, y left, z up)
    gyro_bias: Vector  # (3,) rad/s, sensor's axes; to be taken off
    accel_bias: Vector  # (3,) m/s2, sensor's axes; to be taken off
    accel_scale: Vector  # (3,) of the sensor's reading less its bias, to be divided by
    gyro_noise: Vector  # (3,) rad/s, standard deviation of a sample at rest
    accel_noise: Vector  # (3,) m/s2
    rate_hz: float
    poses: tuple[str, ...]  # that it was held in, by the side of the robot that was up
    residual_deg: Vector  # of each pose: gravity from where that side says it is
    samples: int
    digest: str  # SHA-256 of all samples

    def wrong(self) -> tuple[str, str] | None:
        sizes = {"mount": 9} | dict.fromkeys(("gyro_bias", "accel_bias", "accel_scale", "gyro_noise", "accel_noise"), 3)
        sizes |= {"residual_deg": len(self.poses)}
        for field, size in sizes.items():
            if len(getattr(self, field)) != size:
                return field, f"must have {size} numbers"
        if not all(0.8 <= v <= 1.25 for v in self.accel_scale):
            return "accel_scale", f"is {list(self.accel_scale)}, of no sensor that works"
        return ("mount", "is no rotation") if not is_rotation(self.mount) else None


def is_rotation(numbers: Vector) -> bool:
    """Nine numbers, row by row: orthonormal and right-handed, within 1e-6."""
    a, b, c = numbers[:3], numbers[3:6], numbers[6:9]
    cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    unit = all(abs(sum(v * v for v in row) - 1) < 1e-6 for row in (a, b, c))
    return unit and abs(sum(x * y for x, y in zip(a, b, strict=True))) < 1e-6 and all(
        abs(x - y) < 1e-6 for x, y in zip(cross, c, strict=True)
    )  # fmt: skip


def lens_path(camera: str, width: int, height: int, override: Path | None = None) -> Path:
    return store.folder(override) / "cameras" / f"{_plain(camera, 'camera')}.{width}x{height}.json"


def pictures_path(camera: str, override: Path | None = None) -> Path:
    """A folder for the pictures of one calibration of a lens."""
    when = "".join(c for c in store.today()[:19] if c.isalnum())
    return store.folder(override) / "cameras" / f"{_plain(camera, 'camera')}.{when}"


def hand_eye_path(robot: config.Robot, camera: str, override: Path | None = None) -> Path:
    return _beside(robot, f"{_plain(camera, 'camera')}.hand-eye", override)


def imu_path(robot: config.Robot, override: Path | None = None) -> Path:
    return _beside(robot, "imu", override)


def lens_of(camera: str, width: int, height: int, override: Path | None = None) -> Intrinsics:
    """The lens of the camera with this serial number. CalibrationError for another's record, or for another resolution's."""
    path = lens_path(camera, width, height, override)
    name = _plain(camera, "camera")
    if not path.exists() and (others := sorted(path.parent.glob(f"{name}.*x*.json"))):
        sizes = ", ".join(other.name.removeprefix(name + ".").removesuffix(".json") for other in others)
        raise CalibrationError(
            f"{path}: no such file; camera {camera} was calibrated at {sizes} px: take such pictures, or"
            f" {command(Intrinsics.maker)}"
        )
    record = store.read(Intrinsics, path)
    _refuse_other(path, partial(command, Intrinsics.maker), (record.camera, record.width, record.height), (camera, width, height))
    return record


def hand_eye_of(robot: config.Robot, camera: str, override: Path | None = None) -> HandEye:
    """Where this camera is mounted on this robot. CalibrationError for another's record."""
    path, how = hand_eye_path(robot, camera, override), partial(making, HandEye.maker, robot, override)
    record = store.read(HandEye, path, how)
    theirs = record.robot, record.kind, record.serial, record.camera
    _refuse_other(path, how, theirs, (robot.name, robot.kind, robot.serial, camera))
    return record


def imu_of(robot: config.Robot, device: str, override: Path | None = None) -> ImuMount:
    """How this robot's IMU on the port `device` is. CalibrationError for another's record."""
    path, how = imu_path(robot, override), partial(making, ImuMount.maker, robot, override)
    record = store.read(ImuMount, path, how)
    theirs = record.robot, record.kind, record.serial, record.device
    _refuse_other(path, how, theirs, (robot.name, robot.kind, robot.serial, device))
    return record


def with_imu(robot: config.Robot, override: Path | None = None) -> config.Robot:
    """The robot with its IMU as it was calibrated, or as it was where it never was. CalibrationError for another's record."""
    if "imu" not in robot.senses or not imu_path(robot, override).exists():
        return robot
    record = imu_of(robot, robot.imu.port, override)
    imu = dataclasses.replace(
        robot.imu, mount=record.mount, gyro_bias=record.gyro_bias, accel_bias=record.accel_bias, accel_scale=record.accel_scale
    )
    return dataclasses.replace(robot, imu=imu)


def _refuse_other(path: Path, how: store.How, theirs: tuple[object, ...], ours: tuple[object, ...]) -> None:
    if theirs != ours:
        raise CalibrationError(
            f"{path}: is of {' '.join(map(repr, theirs))}, this is {' '.join(map(repr, ours))}; make it again: {how()}"
        )


def _beside(robot: config.Robot, name: str, override: Path | None) -> Path:
    """Beside the robot's own record."""
    own = store.path_of(store.Calibration, robot, override)
    return own.with_name(f"{robot.serial}.{name}.json")


def _plain(name: str, what: str) -> str:
    """A file's name for a device, whatever it is called; the record itself holds its name in full."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._")
    if not plain:
        raise CalibrationError(f"{what} {name!r}: records are kept by this name; give its serial number, or a stable path")
    return plain
