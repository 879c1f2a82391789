"""How an IMU is mounted, what it says at rest and how noisy it is, from a few poses the robot is laid in.

    robotrl calibrate imu [RUN.toml] [--poses top,left,front] [--yes]

`top`: as it stands, on level ground: what is level from then on. The others: laid on a side, so that the named one is up; they
tell where forwards is, to the few degrees to which a robot can be laid down, and one is enough. All six (top, bottom, left,
right, front, back) also tell the accelerometer's bias and scale.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.calibration import devices, store, tool
from robotrl.calibration.devices import ImuMount
from robotrl.calibration.store import CalibrationError
from robotrl.clock import Clock, WallClock
from robotrl.messages import Imu

Array = NDArray[np.float64]
# The direction in the robot's axes (x forwards, y left, z up) that is up while it lies so.
UP = {"top": (0, 0, 1), "bottom": (0, 0, -1), "left": (0, 1, 0), "right": (0, -1, 0), "front": (1, 0, 0), "back": (-1, 0, 0)}
GRAVITY = 9.80665  # m/s2
SECONDS, LOOK_NS = 2.0, 2_000_000  # of a pose; between two looks
PATIENCE_NS = 1_000_000_000  # without a new sample
STILL_RAD_S, STILL_M_S2 = 0.15, 0.5  # standard deviation above which it was not still: noise is a tenth of it; chosen
BIAS_RAD_S = 0.2  # no gyro that works is farther off at rest: it was being turned; chosen
GRAVITY_OFF = 0.08  # of g, that a reading may be; chosen
LAID_DEG = 25.0  # off a side that a pose may be; chosen


class Source(Protocol):
    """An IMU (drivers/imu.py): the newest sample, None before the first."""

    def read(self) -> Imu | None: ...


@dataclass(frozen=True, eq=False)
class Rest:
    """One pose: `gyro` and `accel` (n, 3), sensor's axes."""

    side: str
    gyro: Array
    accel: Array


def gather(imu: Source, side: str, clock: Clock, seconds: float = SECONDS) -> Rest:
    """All samples of so long. CalibrationError where none come, or the robot was not still."""
    gyro, accel, last, began = [], [], None, clock.now()
    heard = began
    while (now := clock.now()) - began < seconds * 1e9:
        sample = imu.read()
        if sample is not None and sample.t != last and not sample.stale:
            gyro.append(sample.rates)
            accel.append(sample.accel)
            last, heard = sample.t, now
        if now - heard > PATIENCE_NS:
            raise CalibrationError(f"the imu says nothing new for {PATIENCE_NS / 1e9:g} s; check cable and power, run again")
        clock.sleep_until(now + LOOK_NS)
    rest = Rest(side, np.array(gyro, float), np.array(accel, float))
    if len(gyro) < 20:
        raise CalibrationError(f"the imu gave {len(gyro)} samples in {seconds:g} s; set its rate (imu.rate_hz)")
    shaken = rest.gyro.std(0).max() > STILL_RAD_S or rest.accel.std(0).max() > STILL_M_S2
    if shaken or np.abs(rest.gyro.mean(0)).max() > BIAS_RAD_S:
        raise CalibrationError(f"pose {side}: the robot was not still; lay it down, let go of it, run again")
    return rest


def solve(rests: Sequence[Rest]) -> tuple[Array, Array, Array, Array]:
    """Mount (3, 3) sensor to robot, accelerometer's bias and scale (3,) each, residuals (n,) deg. CalibrationError: see below."""
    sides = [rest.side for rest in rests]
    if len(set(sides)) != len(sides) or "top" not in sides or not {*sides} - {"top", "bottom"}:
        raise CalibrationError(f"poses {', '.join(sides) or 'none'}: give each once, top and left, right, front or back")
    means = np.array([rest.accel.mean(0) for rest in rests])
    bias, scale = _bias_and_scale(means) if len(rests) == len(UP) else (np.zeros(3), np.ones(3))
    pull = (means - bias) / scale
    size = np.linalg.norm(pull, axis=1)
    for side, value in zip(sides, size, strict=True):
        if not abs(value / GRAVITY - 1) <= GRAVITY_OFF:
            raise CalibrationError(
                f"pose {side}: the imu feels {value:.2f} m/s2 at rest, not {GRAVITY:.2f}; it is broken or unset"
            )
    seen = pull / size[:, None]
    wanted = np.array([UP[side] for side in sides], float)
    mount = _mount(seen, wanted, sides.index("top"))
    off = np.degrees(np.arccos(np.clip(np.sum((seen @ mount.T) * wanted, axis=1), -1, 1)))
    worst = int(np.argmax(off))
    if off[worst] > LAID_DEG:
        raise CalibrationError(
            f"pose {sides[worst]}: up is {off[worst]:.0f} degrees from where that says; was another side up, did the imu move?"
        )
    return mount, bias, scale, off


def _mount(seen: Array, wanted: Array, top: int) -> Array:
    """The rotation of what was seen (n, 3) to what was wanted; the level pose's exactly, the others' as near as may be."""
    up = seen[top]
    aside = np.cross(up, (1.0, 0.0, 0.0) if abs(up[0]) < 0.7 else (0.0, 1.0, 0.0))
    y = aside / np.linalg.norm(aside)
    level = np.array([np.cross(y, up), y, up])  # some axes with z up; what is left is a turn about z
    flat = (seen @ level.T)[:, :2]
    cross = float(np.sum(flat[:, 0] * wanted[:, 1] - flat[:, 1] * wanted[:, 0]))
    turn = math.atan2(cross, float(np.sum(flat * wanted[:, :2])))
    c, s = math.cos(turn), math.sin(turn)
    return np.asarray(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ level)


def _bias_and_scale(means: Array) -> tuple[Array, Array]:
    """(3,) each by which all six readings are as long as gravity: Gauss and Newton, whatever way they point."""
    bias, scale = np.zeros(3), np.ones(3)
    for _ in range(20):
        pull = (means - bias) / scale
        left = np.sum(pull**2, axis=1) - GRAVITY**2
        slopes = np.concatenate([-2 * pull / scale, -2 * pull**2 / scale], axis=1)
        step = np.linalg.lstsq(slopes, -left, rcond=None)[0]
        bias, scale = bias + step[:3], scale + step[3:]
    if not (np.isfinite(bias).all() and np.abs(bias).max() < 0.2 * GRAVITY and np.abs(scale - 1).max() < 0.2):
        raise CalibrationError("the six poses fit no accelerometer: was one of them taken twice?")
    return bias, scale


def record_of(rests: Sequence[Rest], robot: config.Robot) -> ImuMount:
    mount, bias, scale, off = solve(rests)
    gyro, data = np.concatenate([rest.gyro for rest in rests]), hashlib.sha256()
    for rest in rests:
        data.update(rest.side.encode() + b"\0" + rest.gyro.tobytes() + rest.accel.tobytes())
    spread = np.sqrt(np.mean([rest.gyro.var(0) for rest in rests], axis=0))
    return ImuMount(
        schema=store.SCHEMA, robot=robot.name, kind=robot.kind, serial=robot.serial, device=robot.imu.port, made=store.today(),
        mount=tuple(mount.ravel().tolist()), gyro_bias=tuple(gyro.mean(0).tolist()), accel_bias=tuple(bias.tolist()),
        accel_scale=tuple(scale.tolist()), gyro_noise=tuple(spread.tolist()),
        accel_noise=tuple(np.sqrt(np.mean([rest.accel.var(0) for rest in rests], axis=0)).tolist()),
        rate_hz=float(robot.imu.rate_hz), poses=tuple(rest.side for rest in rests), residual_deg=tuple(off.tolist()),
        samples=len(gyro), digest=data.hexdigest(),
    )  # fmt: skip


def measure(
    imu: Source, robot: config.Robot, sides: Sequence[str], clock: Clock, ready: Callable[[str], None],
    say: Callable[[str], None] = print,
) -> ImuMount:  # fmt: skip
    """`ready(side)` returns once the robot lies with that side up. CalibrationError says what was wrong with a pose."""
    rests = []
    for side in sides:
        ready(side)
        rests.append(gather(imu, side, clock))
        say(f"{side}: {len(rests[-1].gyro)} samples, feels {' '.join(f'{v:+.2f}' for v in rests[-1].accel.mean(0))} m/s2")
    return record_of(rests, robot)


def words(mount: Array) -> str:
    """Which way it is mounted, for a person: where each of the sensor's axes points, and by how much not quite."""
    names = [("forwards", "backwards"), ("left", "right"), ("up", "down")]
    out, off = [], 0.0
    for axis, column in zip("xyz", mount.T, strict=True):
        i = int(np.argmax(np.abs(column)))
        out.append(f"its {axis} points {names[i][0 if column[i] > 0 else 1]}")
        off = max(off, math.degrees(math.acos(min(1.0, abs(float(column[i]))))))
    return f"{', '.join(out)}, within {off:.1f} degrees"


def main(argv: list[str]) -> int:
    """`calibrate imu`: 0 when the file is written. Raises Calibration-, Config-, Port- and DeviceError."""
    parser = tool.parser("calibrate imu", (__doc__ or "").split("\n\n")[0] + " Nothing moves by itself.")
    parser.add_argument("--poses", default="top,left,front", metavar="SIDE,...", help=f"which side is up: {', '.join(UP)}")
    args = parser.parse_args(argv)
    sides = args.poses.split(",")
    if unknown := [side for side in sides if side not in UP]:
        parser.error(f"no side {unknown[0]!r}; known: {', '.join(UP)}")
    robot = tool.robot_of(args)
    path = devices.imu_path(robot, args.calibration)
    if "imu" not in robot.senses:
        raise CalibrationError(f"{args.run}: {robot.name} has no imu; name another run file")
    from robotrl.drivers.imu import connect

    clock = WallClock()
    port, imu = connect(robot.imu, clock, print)
    try:
        record = measure(
            imu, robot, sides, clock, lambda side: tool.require(f"Does {robot.name} lie still with its {side} up?", args.yes)
        )
    finally:
        port.close()
    store.write(record, path)
    print(words(np.reshape(record.mount, (3, 3))))
    print(f"gyro at rest {' '.join(f'{math.degrees(v):+.3f}' for v in record.gyro_bias)} deg/s; wrote {path}")
    if args.json:
        print(json.dumps({"wrote": str(path), "mount": record.mount, "gyro_bias": record.gyro_bias}))
    return 0
