"""What cameras see of an arm on the twin: primitive shapes, drawn by PyBullet's own renderer at the size that is needed.

The goal is a thing to be seen: a red ball where the point is to go, or a red disc on the table where a thing is to be pushed to.
As `twin.optics` is by default cameras are ideal: pinholes without noise, blur or delay, one light, the same colours always. With
it they have a lens and a sensor, stand and are lit a little otherwise in each episode, and are late. A picture of 64 x 64 takes
1.5 ms of one core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pybullet
from numpy.typing import NDArray

from robotrl import config
from robotrl.clock import Clock
from robotrl.config import ConfigError
from robotrl.frames import joined
from robotrl.nodes.gaze import Glance
from robotrl.replay import Cameras
from robotrl.sim.bulletjoints import BulletJoints
from robotrl.sim.fleets import FLEETS
from robotrl.sim.lens import Lens
from robotrl.sim.sensor import exposed
from robotrl.tasks.task import Task, cameras

Image = NDArray[np.uint8]
Matrices = tuple[list[float], list[float]]  # where it stands and looks, and its angle, as PyBullet has them
Light = Sequence[float] | NDArray[np.float64] | None
NEAR, FAR = 0.05, 3.0  # m from a camera: what lies outside is not drawn
GREY = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601, as OpenCV weighs red, green, blue
BALL_M, DISC_M = 0.018, 0.02  # radii: of the goal in the air, 6 pixels across, and of that on the table; chosen
RED = (0.9, 0.1, 0.1, 1.0)
LAMP = (1.0, -1.5, 3.0)  # from where the light comes
ASIDE = np.array((0.0, 0.0, -1.0))  # under the floor
LARGER = 6  # how many times in a picture for a person
WIDER = 1.25  # what is drawn for a lens that bends: more than it shows, so that its corners are not empty
AWAIT = 64  # pictures on their way
NOTHING = np.zeros(0, np.float32)  # in the place of a map that is in the first one


def drawn(joints: BulletJoints, matrices: Matrices, size: int, light: Light = LAMP) -> Image:
    """RGB (size, size, 3). `light` None: PyBullet's own."""
    lamp = {} if light is None else {"lightDirection": list(light)}
    _, _, pixels, _, _ = pybullet.getCameraImage(
        size, size, *matrices, shadow=0, renderer=pybullet.ER_TINY_RENDERER, flags=pybullet.ER_NO_SEGMENTATION_MASK,
        physicsClientId=joints.client, **lamp,
    )  # fmt: skip
    return np.asarray(pixels, np.uint8).reshape(size, size, 4)[:, :, :3]


class Eye:
    """One camera. What it has of chance comes from `rng`; with ideal optics it draws none."""

    def __init__(self, view: config.View, size: int, channels: int, optics: config.Optics, rng: np.random.Generator) -> None:
        self._view, self._size, self._channels, self._optics, self._rng = view, size, channels, optics, rng
        self._coming: deque[tuple[int, int, bytes]] = deque(maxlen=AWAIT)  # taken, here from then on, ns, and the picture
        self._newest: tuple[int, bytes] | None = None
        f = size / 2 / np.tan(np.radians(view.fov_deg) / 2)
        self._drawn, self._bend = size, None
        if any(optics.distortion):
            self._drawn = round(size * WIDER)
            middle = (size - 1) / 2
            rays = Lens(size, size, f, f, middle, middle, optics.distortion).all_rays()
            self._bend = (rays * np.float32(f) + np.float32((self._drawn - 1) / 2)).astype(np.float32)
        self._fov_deg = float(np.degrees(2 * np.arctan(self._drawn / 2 / f)))
        self.begin(0.0)

    def begin(self, height: float) -> None:
        """Another episode: it stands and is lit otherwise; nothing of the last one is on its way. `height`: of the base, m."""
        optics, rng = self._optics, self._rng
        eye, target = np.array(self._view.eye), np.array(self._view.target)
        self._light, self._gain = np.array(LAMP), 1.0
        if optics.moved_m or optics.turned_m:
            eye, target = eye + rng.uniform(-1, 1, 3) * optics.moved_m, target + rng.uniform(-1, 1, 3) * optics.turned_m
        if optics.lit:
            self._light = self._light + rng.uniform(-1, 1, 3) * optics.lit * float(np.linalg.norm(LAMP))
            self._gain = 1.0 + rng.uniform(-optics.lit, optics.lit)
        up = (0.0, 0.0, height)
        self._matrices = (
            pybullet.computeViewMatrix((eye + up).tolist(), (target + up).tolist(), [0.0, 0.0, 1.0]),
            pybullet.computeProjectionMatrixFOV(self._fov_deg, 1.0, NEAR, FAR),
        )
        self._coming.clear()
        self._newest = None

    def see(self, joints: BulletJoints) -> Image:
        """What there is now: (size, size, channels)."""
        optics, colours = self._optics, drawn(joints, self._matrices, self._drawn, self._light)
        if self._bend is not None:
            bent = cv2.remap(colours, self._bend, NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            colours = np.asarray(bent, np.uint8)
        if optics.blur_px or optics.noise or optics.shot or self._gain != 1.0:
            normals = self._rng.standard_normal(colours.shape, np.float32)
            colours = exposed(colours * np.float32(self._gain), optics, normals)
        if self._channels == 3:
            return colours
        return np.rint(colours @ GREY).astype(np.uint8)[:, :, None]

    def look(self, joints: BulletJoints, now: int) -> tuple[int, bytes]:
        """The newest picture that is here, and when it was taken; one is taken now. The first is here at once: nothing moved."""
        optics, rng = self._optics, self._rng
        picture = self.see(joints).tobytes()
        if self._newest is None:
            self._newest = now, picture
        elif not optics.drop or rng.random() >= optics.drop:
            late = optics.delay_s + (rng.random() * optics.jitter_s if optics.jitter_s else 0.0)
            self._coming.append((now, now + round(late * 1e9), picture))
        while self._coming and self._coming[0][1] <= now:
            taken, _, picture = self._coming.popleft()
            self._newest = taken, picture
        return self._newest


class Eyes:
    """The cameras of a run over a body in PyBullet. `look` draws; `newest` is what they saw last."""

    def __init__(self, run: config.Run, joints: BulletJoints, seed: int = 0) -> None:
        self.joints, self._cameras = joints, cameras(run)
        streams = np.random.default_rng([seed, 9]).spawn(len(self._cameras))
        self.eyes = [
            Eye(run.twin.views[name], size, channels, run.twin.optics, rng)
            for (name, size, _, channels), rng in zip(self._cameras, streams, strict=True)
        ]
        self.flat = run.task.name == "push"
        kind = pybullet.GEOM_CYLINDER if self.flat else pybullet.GEOM_SPHERE
        shape = pybullet.createVisualShape(
            kind, radius=DISC_M if self.flat else BALL_M, length=0.002, rgbaColor=RED, physicsClientId=joints.client
        )
        self._goal = pybullet.createMultiBody(0, -1, shape, physicsClientId=joints.client)
        self.newest = b""
        self.begin()

    def begin(self) -> None:
        """Another episode."""
        for eye in self.eyes:
            eye.begin(self.joints.height)

    def look(self, goal: NDArray[np.float64], now: int) -> Glance:
        """What all cameras see, one after the other, as a replay takes it; with the goal at (3,) m, or (2,) on the table."""
        self.put(goal)
        seen = [eye.look(self.joints, now) for eye in self.eyes]
        self.put(ASIDE)  # films have their own mark
        self.newest = b"".join(picture for _, picture in seen)
        return Glance(self.newest, tuple(taken for taken, _ in seen))

    def put(self, goal: NDArray[np.float64]) -> None:
        """Show the goal there."""
        point = np.append(goal, 0.001 - self.joints.height) if len(goal) == 2 else goal
        at = (point + (0.0, 0.0, self.joints.height)).tolist()
        pybullet.resetBasePositionAndOrientation(self._goal, at, [0, 0, 0, 1], physicsClientId=self.joints.client)

    def save(self, path: Path) -> None:
        """What they saw last, side by side, larger, as a PNG."""
        seen = joined(self.newest, self._cameras)
        one = self._cameras[0][3]
        row = np.concatenate([seen[..., i : i + one] for i in range(0, seen.shape[-1], one)], axis=1)
        picture = cv2.resize(row if one == 1 else row[..., ::-1], None, fx=LARGER, fy=LARGER, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(path), picture)


def eyes_of(run: config.Run, joints: object, seed: int = 0) -> Eyes:
    """ConfigError without PyBullet."""
    if not isinstance(joints, BulletJoints):
        raise ConfigError("twin: its cameras draw what is in PyBullet, which is not here; its wheels: CPython 3.11")
    return Eyes(run, joints, seed)


def sighted(eyes: Eyes, task: Any, clock: Clock) -> Callable[[], Glance]:
    """The eyes of a policy in lockstep: they look when it does."""
    return lambda: eyes.look(task.place if eyes.flat else task.goal, clock.now())


# Two cameras beside and above an arm's table, for a classifier that judges what is seen: where they stand about CENTRE.
SIZE = 64  # px
CENTRE = (0.28, 0.0, 0.24)  # m, base frame: of what an arm can reach before it
FROM = {"side": (0.0, -5.0), "top": (-90.0, -80.0)}  # yaw and pitch of each, degrees; chosen
BALL = 0.5  # the goal's radius, of the tolerance
DISTANCE, ANGLE = 0.8, 32.0  # m, degrees: 0.46 m across, 7 mm a pixel; chosen
WATCHERS: Cameras = tuple((name, SIZE, SIZE, 3) for name in FROM)


def watching(rig: Any) -> Callable[[Task], bytes]:
    """What they see, camera after camera, when its task is as it is now. ConfigError for one without a goal to be seen."""
    joints = getattr(getattr(rig, "twin", None), "joints", None)
    if not isinstance(joints, BulletJoints) or not hasattr(rig.pilot.task, "goal"):
        raise ConfigError(f"task.reward: no camera of the twin sees what {rig.run.task.name} is about; reach is seen")
    centre = [CENTRE[0], CENTRE[1], CENTRE[2] + FLEETS[rig.run.robot.kind].height]
    lens = pybullet.computeProjectionMatrixFOV(ANGLE, 1.0, 0.05, 20.0)
    views = [pybullet.computeViewMatrixFromYawPitchRoll(centre, DISTANCE, yaw, pitch, 0.0, 2) for yaw, pitch in FROM.values()]

    def look(task: Any) -> bytes:
        joints.mark(task.goal.tolist(), BALL * task.settings.tolerance_m)
        return b"".join(np.ascontiguousarray(drawn(joints, (view, lens), SIZE, None)).tobytes() for view in views)

    return look
