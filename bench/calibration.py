"""How far calibrations are from the truth, over many seeds: a lens, a camera's place, an arm's zeros, an IMU's mounting.

Lens and place: corners by a projector of its own (optics.py) with 0.2 px of noise, forty views or fifteen samples; and pictures
by its renderer, looked at by OpenCV's detector. `shaky`: the arm's own poses are wrong by a tenth of a degree and
half a millimetre besides.
Zeros: the twin's SO-101 and OpenManipulator-X, whose encoders are turned at random and which lie up to 10 degrees beside where
they must, are homed against their stops in lockstep, through guard, gate, chain and bytes.
Run: robotrl bench calibration [--seeds N] [--out FILE]   (half an hour)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optics

from robotrl import config, rundir
from robotrl.calibration import handeye, imu, intrinsics, stops, views
from robotrl.calibration.board import CHARUCO
from robotrl.calibration.homing import resting
from robotrl.clock import LockstepClock
from robotrl.drivers.servo_chain import ServoChain

ROOT = Path(__file__).resolve().parent.parent
SIZE, NOISE_PX = (640, 480), 0.2
VIEWS, SAMPLES, RENDERED = 40, 15, 16
ASKED = {"focal_percent": 0.2, "hand_eye_deg": 0.2, "hand_eye_mm": 1.0, "homing_ticks": 0}
RUNS = {"so101": "reach.toml", "omx": "reach_omx.toml"}
LAID_RAD = math.radians(10)


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# ---- a lens


def views_of(rng: np.random.Generator, count: int, noise: float = NOISE_PX) -> list[views.View]:
    out = []
    for i, pose in enumerate(optics.held(rng, CHARUCO.size_m, optics.LENS, SIZE[::-1], count)):
        px = optics.projected(CHARUCO.corners(), pose, optics.LENS)
        inside = (px > 1).all(1) & (px < np.subtract(SIZE, 2)).all(1)
        out.append(views.View(str(i), SIZE, (px + rng.normal(0, noise, px.shape))[inside], np.flatnonzero(inside)))
    return out


def rendered(rng: np.random.Generator, poses: list[Any]) -> list[views.View]:
    """Views of pictures."""
    scene = optics.Scene(CHARUCO.black(), CHARUCO.size_m)
    pictures = [scene.picture(pose, optics.LENS, SIZE[::-1], rng) for pose in poses]
    return [view for i, picture in enumerate(pictures) if (view := views.find(CHARUCO, str(i), picture)) is not None]


def lens(seed: int, pictures: bool) -> dict[str, Any]:
    """One lens. `sure`: errors of fx, fy, cx, cy in the deviations that were said of them."""
    rng = np.random.default_rng([seed, 1])
    if pictures:
        seen = rendered(rng, optics.held(rng, CHARUCO.size_m, optics.LENS, SIZE[::-1], RENDERED))
    else:
        seen = views_of(rng, VIEWS)
    found = intrinsics.estimate(CHARUCO, seen)
    off = found.values - optics.LENS
    return {
        "focal_percent": float(np.abs(off[:2] / optics.LENS[:2]).max() * 100), "centre_px": float(np.abs(off[2:4]).max()),
        "rms_px": found.rms, "sure": (off[:4] / found.deviation[:4]).tolist(),
    }  # fmt: skip


# ---- a camera's place


def place(seed: int, mount: handeye.Mount, shaky: bool = False, pictures: bool = False) -> dict[str, Any]:
    """One camera; `shaky`: the robot's own poses are off by 0.1 degrees and 0.5 mm."""
    rng = np.random.default_rng([seed, 2])
    x = optics.pose(optics.turned(rng.normal(0, 1, 3)), rng.normal(0, 0.05 if mount == "hand" else 0.4, 3))
    y = optics.pose(optics.turned(rng.normal(0, 1, 3)), rng.normal(0, 0.3 if mount == "hand" else 0.05, 3))
    robot, board, corners = [], [], []
    poses = optics.held(rng, CHARUCO.size_m, optics.LENS, SIZE[::-1], SAMPLES)
    looks = {int(v.name): v for v in rendered(rng, poses)} if pictures else {}
    for i, pose in enumerate(poses):
        a = y @ np.linalg.inv(pose) @ np.linalg.inv(x)
        if shaky:
            a = a @ optics.pose(optics.turned(rng.normal(0, math.radians(0.1), 3)), rng.normal(0, 0.0005, 3))
        if pictures and i not in looks:
            continue
        ids = looks[i].ids if pictures else np.arange(len(CHARUCO.corners()))
        points = CHARUCO.corners()[ids]
        px = (
            looks[i].corners if pictures else optics.projected(points, pose, optics.LENS) + rng.normal(0, NOISE_PX, (len(ids), 2))
        )
        seen = optics.rays(px, optics.LENS)
        _, turn, way = cv2.solvePnP(points, seen, np.eye(3), None)
        robot.append(a if mount == "hand" else np.linalg.inv(a))
        board.append(optics.pose(cv2.Rodrigues(turn)[0], way.ravel()))
        corners.append(handeye.Corners(points, seen, optics.LENS[0]))
    a, b = np.array(robot), np.array(board)
    found = handeye.solve(a, b, mount, corners)
    closed = handeye.park_martin(*handeye.motions(a if mount == "hand" else np.linalg.inv(a), b))
    return {**off(x, found.camera), "closed": off(x, closed), "by_poses": off(x, handeye.solve(a, b, mount).camera)}


def off(truth: Any, found: Any) -> dict[str, float]:
    cosine = (np.trace(truth[:3, :3].T @ found[:3, :3]) - 1) / 2
    return {"deg": math.degrees(math.acos(min(1.0, cosine))), "mm": 1000 * float(np.linalg.norm(truth[:3, 3] - found[:3, 3]))}


# ---- an arm's zeros


class Asks:
    """A `Homer` where the rehearsal's program has its pilot."""

    just_ended, tally, set_up = "", None, ()

    def __init__(self, homer: stops.Homer) -> None:
        self.homer = homer

    def hear(self, drive: Any) -> None:
        pass

    def cycle(self, joints: Any, applied: Any, imu: Any, permit: Any, hand: Any) -> Any:
        return self.homer.cycle(joints, permit)


def zeros(seed: int, kind: str, steps: tuple[stops.Step, ...] | None = None, lying: float = LAID_RAD) -> dict[str, Any]:
    """One arm, homed; `steps` in the place of its plan's."""
    from robotrl.sim import armrig, fleets, servotwin

    rng = np.random.default_rng([seed, 3])
    run, fleet, plan = config.load(ROOT / "launch" / RUNS[kind]), fleets.FLEETS[kind], stops.PLANS[kind]
    robot, n = run.robot, len(fleet.joints)
    centres = (2048 + rng.integers(-150, 150, n)).tolist()
    ends = np.array([joint.stops for joint in fleet.joints])
    lies = np.clip(np.add(plan.rest, rng.uniform(-lying, lying, n)), ends[:, 0], ends[:, 1])
    joints = tuple(dataclasses.replace(j, centre=c) for j, c in zip(fleet.joints, centres, strict=True))
    fleets.FLEETS[kind] = dataclasses.replace(fleet, joints=joints)
    stops.PLANS[kind] = dataclasses.replace(plan, steps=steps or plan.steps)
    try:
        twin = servotwin.ServoTwin(kind, clock=LockstepClock())
        twin.joints.put(lies)
        twin.advance(3.0)  # it sinks to where it lies
        plain = dataclasses.replace(robot, servos=dataclasses.replace(robot.servos, offset=(0.0,) * n))
        chain = ServoChain(twin.ports()["servos"], plain, twin.clock)
        chain.configure()
        horns, _ = resting(chain, plain, Carried(twin), 10)
        blind = stops.laid(robot, [s * h for s, h in zip(robot.servos.sign, horns, strict=True)], 0.4)
        rig = armrig.ArmRig(dataclasses.replace(run, robot=blind), seed)
        rig.twin.joints.put(twin.joints.angle)
        homer = stops.Homer(blind)
        rig.pilot = Asks(homer)  # type: ignore[assignment]
        while homer.found is None and not homer.failed and rig.seconds < 400:
            rig.cycle()
        guard, seconds = rig.guard, rig.seconds
        rig.close()
    finally:
        fleets.FLEETS[kind], stops.PLANS[kind] = fleet, plan
    if homer.found is None:
        return {"failed": homer.failed or f"{homer.doing}: {guard}", "ticks": [], "seconds": seconds}
    felt = [i for i in range(n) if i not in homer.found.by_hand]
    ticks = [round(homer.found.offset[i] / stops.TICK) - centres[i] for i in felt]
    return {"failed": "", "ticks": ticks, "spread_deg": math.degrees(max(homer.found.spread)), "seconds": seconds}


class Carried:
    """A twin's clock: who waits lets its physics pass."""

    def __init__(self, twin: Any) -> None:
        self._twin = twin

    def now(self) -> int:
        return int(self._twin.clock.now())

    def sleep_until(self, deadline: int) -> None:
        self._twin.advance(max(0, deadline - self.now()) * 1e-9)


# ---- an IMU's mounting


def mounting(seed: int, sides: tuple[str, ...] = tuple(imu.UP)) -> dict[str, float]:
    """One IMU mounted anyhow, its robot laid down to 3 degrees, 400 samples a pose; but level to 0.1 degrees."""
    rng = np.random.default_rng([seed, 4])
    mount = optics.turned(rng.normal(0, 1, 3))
    bias, scale, gyro = rng.normal(0, 0.1, 3), 1 + rng.normal(0, 0.01, 3), rng.normal(0, 0.02, 3)
    rests = []
    for side in sides:
        tilted = optics.turned(rng.normal(0, math.radians(0.1 if side == "top" else 3.0), 3))
        up = mount.T @ tilted @ imu.UP[side] * imu.GRAVITY * scale + bias
        rests.append(imu.Rest(side, gyro + rng.normal(0, 0.005, (400, 3)), up + rng.normal(0, 0.03, (400, 3))))
    found, felt, _, _ = imu.solve(rests)
    level = found @ mount.T @ (0, 0, 1)
    still = np.concatenate([r.gyro for r in rests]).mean(0)
    return {
        "level_deg": math.degrees(math.acos(min(1.0, level[2]))), "mount_deg": off(pad(mount), pad(found))["deg"],
        "gyro_rad_s": float(np.abs(still - gyro).max()), "accel_m_s2": float(np.abs(felt - bias).max()),
    }  # fmt: skip


def pad(rotation: Any) -> Any:
    return optics.pose(rotation, (0, 0, 0))


# ---- all of it


def told(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[str, Any]:
    """Root mean square and largest over the seeds."""
    out: dict[str, Any] = {"trials": len(rows)}
    for key in keys:
        values = [row[key] for row in rows]
        out[key] = {"rms": round(rms(values), 4), "max": round(max(values), 4)}
    return out


def measure(seeds: int, say: Any = print) -> dict[str, Any]:
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "asked": ASKED, "noise_px": NOISE_PX, "seeds": seeds}
    for name, pictures, count in (("lens", False, seeds), ("lens_rendered", True, max(4, seeds // 4))):
        rows = [lens(seed, pictures) for seed in range(count)]
        record[name] = told(rows, ("focal_percent", "centre_px", "rms_px")) | {"sure": round(rms([r["sure"] for r in rows]), 2)}
        say(f"{name}: {record[name]}")
    for mount in ("hand", "base"):
        for name, count, how in ((mount, seeds, {}), (f"{mount}_shaky", seeds, {"shaky": True}),
                                 (f"{mount}_rendered", max(2, seeds // 8), {"pictures": True})):  # fmt: skip
            rows = [place(seed, mount, **how) for seed in range(count)]  # type: ignore[arg-type]
            record[f"hand_eye_{name}"] = told(rows, ("deg", "mm")) | {
                k: told([r[k] for r in rows], ("deg", "mm")) for k in ("closed", "by_poses")
            }
            say(f"hand-eye {name}: {record[f'hand_eye_{name}']}")
    rows = [mounting(seed) for seed in range(seeds)]
    record["imu"] = told(rows, ("level_deg", "mount_deg", "gyro_rad_s", "accel_m_s2"))
    say(f"imu: {record['imu']}")
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--homings", type=int, default=20, help="of each arm; two minutes of robot time each")
    parser.add_argument(
        "--arms", nargs="+", choices=tuple(RUNS), default=[], help="home these again, and keep what --out has beside"
    )
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    if options.arms and options.out is not None and options.out.exists():
        record = json.loads(options.out.read_text())
    else:
        record = measure(options.seeds)
    for kind in options.arms or RUNS:
        rows = []
        for seed in range(options.homings):
            rows.append(zeros(seed, kind))
            print(f"homing {kind} {seed}: {rows[-1]}", flush=True)
        wrong = [t for row in rows for t in row["ticks"] if t]
        record[f"homing_{kind}"] = {
            "measured_on": rundir.provenance(), "trials": len(rows), "failed": [row["failed"] for row in rows if row["failed"]],
            "joints": sum(len(row["ticks"]) for row in rows), "wrong_ticks": wrong,
            "spread_deg_max": round(max((row["spread_deg"] for row in rows if not row["failed"]), default=math.nan), 3),
            "robot_seconds": round(float(np.mean([row["seconds"] for row in rows])), 1) if rows else 0.0,
        }  # fmt: skip
        if options.out is not None:
            rundir.write_json(options.out, record)
    return 0 if verdict(record) else 1


def verdict(record: dict[str, Any]) -> bool:
    """Whether all that is asked holds in every trial."""
    good = record["lens"]["focal_percent"]["max"] <= ASKED["focal_percent"]
    for mount in ("hand", "base"):
        found = record[f"hand_eye_{mount}"]
        good = good and found["deg"]["max"] <= ASKED["hand_eye_deg"] and found["mm"]["max"] <= ASKED["hand_eye_mm"]
    arms = [record[f"homing_{kind}"] for kind in RUNS if f"homing_{kind}" in record]
    return good and not any(arm["wrong_ticks"] or arm["failed"] for arm in arms)


if __name__ == "__main__":
    sys.exit(main())
