"""A robot as its file describes it (`launch/robots/*.toml`): how it is wired, what it may do, how it is stopped."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from robotrl.complaint import command
from robotrl.configfile import ConfigError, Sources, require, within
from robotrl.serialarm import ARMS, Box

MOTORS = 8  # of a Minitaur
CAMERAS = 4  # of a robot at most; each has its place on the bus, `topics.CAMERAS`
CELLS = 6  # of a tag's side, its black rim included
TAGS = 8  # of a roof
ADAPTER_IDS = 63  # CAN ids of moteus servos; those above are the numbers by which the host asks
SAYS_C = 127  # the most that a moteus says of a temperature: it is read in one byte
BOARD_C = 75.0  # at which a moteus's board lets go, as it comes
STOP_MAX_S = 10.0  # of a stop profile: the manager (processes.py) and launch/system/robotrl.service wait for it
LEAD_RAD = 0.5  # of a Feetech servo, at most: it has no watchdog and goes there when nobody talks to it any more; chosen


@dataclass(frozen=True)
class Protection:
    """The most that a servo's own limits may hold, below everything that this program does; nan: nobody looks.

    The start reads them. A moteus is brought to them in RAM; a bus servo that holds more is refused, and
    `setup-servo --robot NAME` writes what is refused into its EEPROM.
    """

    temp_c: float = within(math.nan, 0, 150, nan=True)  # at which it lets go; of a moteus that of its board
    volts_max: float = within(math.nan, 0, 100, nan=True)  # of its supply
    volts_min: float = within(math.nan, 0, 100, nan=True)  # bus servos: the least, below which it lets go
    amps: float = within(math.nan, 0, 1000, nan=True)  # of its motor
    pwm: float = within(math.nan, 0.05, 1, nan=True)  # bus servos: share of the supply; at least `power`
    speed_rad_s: float = within(math.nan, 0, 10_000, nan=True)  # of its horn. Feetech: each goal carries its speed, none is kept


@dataclass(frozen=True)
class Servos:
    """The servo bus. What is marked moteus or bus servos says nothing of the others."""

    protocol: Literal["moteus", "dynamixel", "feetech"] = "moteus"
    port: str = ""  # path of the adapter, a stable /dev/serial/by-id/... name
    ids: tuple[int, ...] = within((1, 2, 3, 4, 5, 6, 7, 8), 0, 252)  # in the robot's motor order
    sign: tuple[Literal[1, -1], ...] = (1, 1, 1, 1, 1, 1, 1, 1)  # robot angle = sign * (servo angle - offset) / gear
    offset: tuple[float, ...] = within((0.0,) * 8, -1000, 1000)  # rad; from the calibration file when there is one
    kp: float = within(8.0, 0.1, 1000)  # moteus, Nm/rad; PD variant of the identified robot (hardware facts 1.3)
    kd: float = within(0.3, 0.001, 100)  # moteus, Nm s/rad; same source
    max_torque: float = within(5.0, 0.1, 100)  # Nm as the servo counts it (0.1 Nm/A): 50 A, 3.25 Nm at the shaft (facts 1.3)
    continuous_torque: float = within(2.8, 0.1, 100)  # Nm, same count: 28 A; 30 A for 1 s shut a motor off (same facts)
    peak_s: float = within(0.4, 0.01, 10)  # s on end above continuous_torque; then a servo is held to that; chosen
    velocity_limit: float = within(60.0, 0.5, 1000)  # rad/s, written to the servo; chosen
    watchdog_s: float = within(0.1, 0.02, 1)  # silence longer than this stops the motor; moteus default. Feetech has none
    joints: tuple[str, ...] = ()  # bus servos: what each turns, for a person
    gear: tuple[float, ...] = within((), 0.01, 100)  # bus servos: turns of the horn a turn of the joint; empty: the horn's own
    baud: int = within(1_000_000, 9_600, 4_500_000)  # bus servos: of the line
    model: int = within(0, 0, 65_535)  # bus servos: the number by which each must call itself
    firmware: int = within(0, 0, 65_535)  # bus servos: the least; Feetech: major * 256 + minor
    quiet_s: float = within(0.0025, 0.0005, 0.1)  # bus servos: a line that is silent for so long will say nothing more; chosen
    nm_per_amp: float = within(1.0, 0.01, 100)  # bus servos: at the horn, of the current they report
    power: float = within(1.0, 0.05, 1)  # bus servos: the most of the supply that a motor may get
    position_p: int = within(-1, -1, 16_383)  # bus servos, steps. Dynamixel: set, -1 is as made; Feetech: looked at, -1 is any
    position_d: int = within(-1, -1, 16_383)  # the same
    thermistors: bool = True  # moteus: each motor has one, at its controller's pads; false: windings are not judged
    protection: Protection = field(default_factory=Protection)
    identity: tuple[str, ...] = ()  # who each of them is, from the calibration file; another is refused. Empty: nobody knows

    @property
    def board_c(self) -> float:
        """deg C at which a moteus's board lets go. The run stops before it does: the margins are those of `limits.temp_c`."""
        return BOARD_C if math.isnan(self.protection.temp_c) else self.protection.temp_c


@dataclass(frozen=True)
class ImuPort:
    """The IMU on its own serial port (WitMotion WT901)."""

    port: str = ""  # path of its serial adapter
    baud: int = within(115200, 4800, 4_000_000)  # carries 4 frames x 11 bytes x 200 Hz
    rate_hz: Literal[50, 100, 200] = 200  # output rate asked for and read back
    smoothing_s: float = within(0.1, 0, 1)  # roll and pitch: noise is averaged so long, the gyro followed at once; 0: as read
    mount: tuple[float, ...] = within(
        (), -1, 1
    )  # 9, row by row: its axes to the robot's; from the calibration file when there is one
    gyro_bias: tuple[float, ...] = within((), -1, 1)  # rad/s, x y z of the sensor, taken off; from the same file
    accel_bias: tuple[float, ...] = within((), -5, 5)  # m/s2, taken off; from the same file
    accel_scale: tuple[float, ...] = within((), 0.5, 2)  # then divided by; from the same file


@dataclass(frozen=True)
class TrackerPort:
    """The pose tracker: a line stream, one pose a line, from a camera or motion-capture computer; or, with `camera`, our own."""

    camera: str = ""  # name, in [cameras.NAME], of the one that sees the tags on the torso; empty: the line stream
    port: str = ""  # path of the line stream's serial adapter
    baud: int = within(921600, 4800, 4_000_000)


@dataclass(frozen=True)
class Roof:
    """A top plate and two long sides with two tags each, and two ends with one: two tags along the torso, one across."""

    tag_m: float = within(0.1, 0.01, 1)  # side of a tag's black square
    margin_m: float = within(0.0167, 0.002, 0.5)  # white on each side of it: less than a cell, and it is not found
    slope_rad: float = within(0.7854, 0.1, 1.4)  # by which the sides lean outwards from flat
    at: tuple[float, ...] = within((0.0, 0.0, 0.17), -2, 2)  # m, torso's frame: the middle of the top plate
    ids: tuple[int, ...] = within((0, 1, 2, 3, 4, 5, 6, 7), 0, 49)  # top front and rear, left two, right two, front, rear


@dataclass(frozen=True)
class CameraPort:
    """A camera: `[cameras.NAME]`, at most four (docs/cameras.md)."""

    kind: Literal["uvc", "realsense", "mjpeg", "file"] = "uvc"  # on USB; Intel's; on the network; a recording of either
    serial: str = ""  # uvc, realsense: its own number, by which it is found at whatever port it is
    path: str = ""  # uvc: a stable /dev/v4l/by-id/... name, where it has no number; file: a video, or RealSense's .db3
    url: str = ""  # mjpeg: http://HOST:PORT/PATH of its stream, or unix:/PATH of one on this machine
    width: int = within(640, 16, 8192)  # pixels; a network camera and a recording have their own
    height: int = within(480, 16, 8192)
    rate_hz: float = within(30.0, 1, 240)  # frames a second; when they stay away is judged by it
    exposure_s: float = within(0.0, 0, 1)  # for which each frame is exposed; 0: the camera's own choice, which changes with light
    focus: int = within(-1, -1, 65_535)  # uvc, the camera's steps; -1: where it is. Never automatic: that moves the lens's model
    depth: bool = False  # realsense: the distance of each pixel too
    imu: bool = False  # realsense: the camera's own IMU too; of a D435i
    record_hz: float = within(0.0, 0, 240)  # frames a second that go into the session; 0: every one


@dataclass(frozen=True)
class Limits:
    """What the gate lets through, for every writer."""

    position_min: float = within(0.4, -12.6, 12.6)  # rad; PyBullet's class has 0.5..2.5; widened for the swing range; chosen
    position_max: float = within(3.6, -12.6, 12.6)  # rad; chosen
    joint_min: tuple[float, ...] = within((), -12.6, 12.6)  # rad, one a joint, in the place of position_min; empty: that for all
    joint_max: tuple[float, ...] = within((), -12.6, 12.6)  # the same of position_max
    stop_min: tuple[float, ...] = within(
        (), -12.6, 12.6, nan=True
    )  # rad, one a joint: its mechanical ends, nan: none; for homing
    stop_max: tuple[float, ...] = within((), -12.6, 12.6, nan=True)  # the same; empty: nobody knows
    slew_rad_s: float = within(45.0, 0.1, 200)  # fastest change of a target: the walking task's largest step is 0.85 rad; chosen
    lead_rad: float = within(1.8, 0.01, 12.6)  # farthest target from the present angle: what 2 periods at slew_rad_s can travel
    gap_min: float = within(0.1, 0, 3)  # rad, of a Minitaur's legs: pi - 2(extension - pi/2) stays in [gap_min, 2 pi - gap_min]
    temp_c: float = within(100.0, 40, 150)  # winding temperature that stops the run; motors of this class bear 120; chosen
    tilt_rad: float = within(0.52, 0.05, 3.15)  # 30 degrees: a fall (safety facts, row 58)
    tilt_s: float = within(0.1, 0, 10)  # for this long
    falls: int = within(5, 0, 1_000_000_000)  # in 10 minutes of a session, after which a person must look (safety facts, row 58)


@dataclass(frozen=True)
class Workspace:
    """Where an arm's points from its elbow on may be, m in its base's frame: the gate keeps every writer's targets in it."""

    low: tuple[float, ...] = within((), -5, 5)  # x, y, z; empty: anywhere. Above what the arm stands on
    high: tuple[float, ...] = within((), -5, 5)


@dataclass(frozen=True)
class Robot:
    """A robot: how it is wired, what it may do."""

    name: str = "minitaur"
    kind: Literal["minitaur", "so101", "omx", "dkitty"] = "minitaur"
    serial: str = ""  # the robot's own id; calibration and commissioning records carry the same
    senses: tuple[Literal["imu", "tracker"], ...] = ("imu", "tracker")  # beside its servos: without them it does not begin
    stop_profile: Literal["damp", "stow"] = "damp"  # legs: damp, then off; arm: hold, then stow, then off (safety facts 3.2)
    stop_damp_s: float = within(0.5, 0, STOP_MAX_S)  # how long damping lasts, or a stow may, before torque goes off; chosen
    stow: tuple[float, ...] = within((), -12.6, 12.6)  # rad: the pose in which an arm falls no farther; needed by "stow"
    home: tuple[float, ...] = within((), -12.6, 12.6)  # rad: where a reset takes an arm
    servos: Servos = field(default_factory=Servos)
    imu: ImuPort = field(default_factory=ImuPort)
    tracker: TrackerPort = field(default_factory=TrackerPort)
    roof: Roof = field(default_factory=Roof)
    cameras: dict[str, CameraPort] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    workspace: Workspace = field(default_factory=Workspace)

    @property
    def seen_by(self) -> str:
        """What the camera that tracks it is known by: its serial number, or its name where it has none. Empty: there is none."""
        name = self.tracker.camera
        return self.cameras[name].serial or name if name in self.cameras else name

    @property
    def lowest(self) -> tuple[float, ...]:
        """Of each joint, rad."""
        return self.limits.joint_min or (self.limits.position_min,) * len(self.servos.ids)

    @property
    def highest(self) -> tuple[float, ...]:
        """Of each joint, rad."""
        return self.limits.joint_max or (self.limits.position_max,) * len(self.servos.ids)


def learnable(robot: Robot, task: str) -> bool:
    """Is there something to learn? A run file that names no task gets `walk`, which is a Minitaur's."""
    return task != "walk" or robot.kind == "minitaur"


def require_task(robot: Robot, task: str, path: object) -> None:
    """ConfigError for a run file that names no task of its robot's."""
    if not learnable(robot, task):
        raise ConfigError(f"{path}: {robot.name} has no task yet; its first motion: {command(f'move {path}')}")


def check(robot: Robot, rate_hz: float, where: Sources) -> None:
    """ConfigError for a robot that does not fit together, or not the rate at which it is spoken to."""
    servos, limits = robot.servos, robot.limits
    own = len(set(servos.ids)) == len(servos.ids)
    if robot.kind == "minitaur":
        own = own and len(servos.ids) == MOTORS
        require(own, "robot.servos.ids", f"{MOTORS} ids, no two alike", list(servos.ids), where)
    require(own and bool(servos.ids), "robot.servos.ids", "one id a servo, no two alike", list(servos.ids), where)
    n = len(servos.ids)
    for key, values in (("sign", servos.sign), ("offset", servos.offset)):
        require(len(values) == n, f"robot.servos.{key}", f"{n} numbers, one a motor", list(values), where)
    who = servos.identity
    require(len(who) in (0, n), "robot.servos.identity", f"{n} words, one a motor, or none", list(who), where)
    require(servos.continuous_torque <= servos.max_torque, "robot.servos.continuous_torque",
            f"at most robot.servos.max_torque, {servos.max_torque:.10g}", servos.continuous_torque, where,
            "robot.servos.max_torque")  # fmt: skip
    room = limits.position_max - limits.position_min > 0.001
    require(room, "robot.limits.position_min", f"less than robot.limits.position_max, {limits.position_max:g}",
            limits.position_min, where, "robot.limits.position_max")  # fmt: skip
    quick = 2 / rate_hz  # one period may be late
    require(servos.watchdog_s >= quick, "robot.servos.watchdog_s", f"{quick:g} or more, two periods of task.rate_hz",
            servos.watchdog_s, where, "task.rate_hz")  # fmt: skip
    for key, size in (("mount", 9), ("gyro_bias", 3), ("accel_bias", 3), ("accel_scale", 3)):
        numbers = getattr(robot.imu, key)
        require(len(numbers) in (0, size), f"robot.imu.{key}", f"{size} numbers, or none", list(numbers), where)
    _check_cameras(robot, where)
    _check_roof(robot, where)
    if servos.protocol == "moteus":
        said = f"less than {SAYS_C}, the most that a moteus says"
        for key, hot in (("limits.temp_c", limits.temp_c), ("servos.protection.temp_c", servos.board_c)):
            require(hot < SAYS_C, f"robot.{key}", said, hot, where)
        most = max(servos.ids)
        require(min(servos.ids) >= 1 and most <= ADAPTER_IDS, "robot.servos.ids", f"1 to {ADAPTER_IDS}", list(servos.ids), where)
    else:
        _check_bus_servos(robot, where)


def _check_cameras(robot: Robot, where: Sources) -> None:
    """No more than the bus has room for, each with what it is found by."""
    require(len(robot.cameras) <= CAMERAS, "robot.cameras", f"at most {CAMERAS} cameras", len(robot.cameras), where)
    for name, camera in robot.cameras.items():
        key = f"robot.cameras.{name}"
        plain = re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name) is not None
        require(plain, key, "named in small letters, digits and '_', a letter first", repr(name), where)
        if camera.kind == "uvc":
            require(bool(camera.serial or camera.path), f"{key}.serial", "the camera's number, or path its /dev/v4l/by-id name",
                    "neither", where)  # fmt: skip
        elif camera.kind == "mjpeg":
            found = re.match(r"http://[^/]|unix:/", camera.url) is not None
            require(found, f"{key}.url", "http://HOST:PORT/PATH or unix:/PATH", repr(camera.url), where)
        elif camera.kind == "file":
            require(bool(camera.path), f"{key}.path", "the recording", "empty", where)
        for part, wanted in (("depth", camera.depth), ("imu", camera.imu)):
            require(camera.kind in ("realsense", "file") or not wanted, f"{key}.{part}", "false: only a realsense has it", "true",
                    where)  # fmt: skip


def _check_roof(robot: Robot, where: Sources) -> None:
    """A tracker's camera that there is, and tags that it can tell apart."""
    name, roof = robot.tracker.camera, robot.roof
    known = ", ".join(robot.cameras) or "none"
    require(not name or name in robot.cameras, "robot.tracker.camera", f"one of [cameras.NAME] ({known})", repr(name), where)
    require(len(roof.at) == 3, "robot.roof.at", "three numbers, x, y, z", list(roof.at), where)
    require(len(roof.ids) == len(set(roof.ids)) == TAGS, "robot.roof.ids", f"{TAGS} ids, no two alike", list(roof.ids), where)
    require(roof.margin_m >= roof.tag_m / CELLS, "robot.roof.margin_m", "a sixth of robot.roof.tag_m or more", roof.margin_m,
            where, "robot.roof.tag_m")  # fmt: skip


def _check_bus_servos(robot: Robot, where: Sources) -> None:
    """What only robots of bus servos have."""
    servos, limits, n = robot.servos, robot.limits, len(robot.servos.ids)
    require(servos.model > 0, "robot.servos.model", "the model number of its servos", servos.model, where)
    require(len(servos.joints) == n, "robot.servos.joints", f"{n} names, one a servo", list(servos.joints), where)
    for key, values in (("servos.gear", servos.gear), ("limits.joint_min", limits.joint_min),
                        ("limits.joint_max", limits.joint_max), ("home", robot.home),
                        ("limits.stop_min", limits.stop_min), ("limits.stop_max", limits.stop_max)):  # fmt: skip
        require(len(values) in (0, n), f"robot.{key}", f"{n} numbers, one a joint, or none", list(values), where)
    for low, high, name in zip(robot.lowest, robot.highest, servos.joints, strict=True):
        require(high - low > 0.02, "robot.limits.joint_min", f"less than joint_max, also for {name}", low, where)
    if robot.stop_profile == "stow":
        inside = len(robot.stow) == n and all(
            low <= at <= high for low, at, high in zip(robot.lowest, robot.stow, robot.highest, strict=True)
        )
        require(inside, "robot.stow", f"{n} angles within the joints' limits, one a joint", list(robot.stow), where)
    own = servos.protection.pwm
    require(not own < servos.power, "robot.servos.protection.pwm", f"robot.servos.power, {servos.power:g}, or more", own, where,
            "robot.servos.power")  # fmt: skip
    _check_workspace(robot, where)
    if servos.protocol == "feetech":
        require(limits.lead_rad <= LEAD_RAD, "robot.limits.lead_rad", f"{LEAD_RAD:g} or less: these servos have no watchdog",
                limits.lead_rad, where)  # fmt: skip


def _check_workspace(robot: Robot, where: Sources) -> None:
    """A box that is one, of an arm, and in which it can be put away and start."""
    low, high = robot.workspace.low, robot.workspace.high
    if not low and not high:
        return
    require(robot.kind in ARMS, "robot.workspace", f"that of an arm, {', '.join(ARMS)}", robot.kind, where)
    ordered = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
    require(ordered, "robot.workspace.low", "x, y, z, each less than workspace.high's", list(low), where, "robot.workspace.high")
    box = Box(ARMS[robot.kind], (low[0], low[1], low[2]), (high[0], high[1], high[2]))
    for key, pose in (("stow", robot.stow), ("home", robot.home)):
        out = box.outside(pose) if pose else 0.0
        require(
            out == 0.0, f"robot.{key}", f"within robot.workspace, from which it is {out * 1000:.0f} mm away", list(pose), where
        )
