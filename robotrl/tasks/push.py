"""Push: an arm pushes a thing on the table to a marked place. The tracker says where the thing is, in the arm's base frame.

Observation: angles and speeds of the joints that place the point; the way from the point to the thing; the way from the thing to
its place, plain and with its last centimetres spread out; how far the hand is from pointing down; the place: 21.
With `task.pixels.cameras` pictures in place of all but the joints.
Action: four joints, or the point's motion and the hand's pitch (manipulator.py).
Reward: minus time, the thing's distance from its place, the point's from behind the thing, tilt, jerk.
Termination: the thing was within `tolerance_m` of its place in `hold_steps` readings in a row ("there").
Truncation: time, a thing that has long come no nearer, a tracker that has lost it.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl import config
from robotrl.messages import Imu, Joints, Pose
from robotrl.tasks.manipulator import Manipulator
from robotrl.tasks.stack import DOWN

FAR_M = 0.1  # brings ways to the size of the angles; chosen
NEARER_M = 0.001  # by less a thing has not come nearer: the tracker's noise; chosen


class Push(Manipulator):
    """Where the thing begins and where it goes are drawn from seed and episode alone."""

    senses: tuple[str, ...] = ("tracker",)

    def __init__(self, task: config.Task, robot: config.Robot, seed: int) -> None:
        super().__init__(task, robot, task.push)
        self.settings, self._seed = task.push, seed
        self.sensors = self.numbers(13)
        self._axis = np.array(self.arm.pivots[0].at[:2])
        low, high = self.settings.goal_low, self.settings.goal_high
        self._middle = self._axis + ((low[0] + high[0]) / 2, 0.0)
        self.place = self._middle.copy()  # m, (2,): where the thing is to go
        self.thing: np.ndarray | None = None  # m, (2,): where it was seen last
        self._seen = 0  # ns
        self.holding = 0
        self._nearest, self._idle = math.inf, 0  # how near the thing has been to its place, and for how many readings no nearer

    def see(self, pose: Pose) -> None:
        """A pose from the tracker; one that is no number, or older than the last, is refused."""
        if all(map(math.isfinite, pose.position)) and pose.t > self._seen:
            self.thing, self._seen = np.array(pose.position[:2]), pose.t

    def begin(self, episode: int) -> None:
        """Draw this episode's place."""
        self.place, self.holding = self.drawn(episode)[1], 0
        self._nearest, self._idle = math.inf, 0

    def drawn(self, episode: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the thing stands at the beginning of an episode, and where it goes; (2,) m each."""
        rng, s = np.random.default_rng([self._seed, 7, episode]), self.settings
        begins, goes = rng.uniform(s.thing_low, s.thing_high), rng.uniform(s.goal_low, s.goal_high)
        goes[1] += begins[1]
        thing, place = (self._axis + r * np.array((math.cos(a), math.sin(a))) for r, a in (begins, goes))
        return thing, place

    def set_up(self, episode: int) -> tuple[float, ...]:
        """Where the thing begins, (x, y); and, for a policy that sees, where its place is marked, (x, y)."""
        thing, place = self.drawn(episode)
        return (*thing.tolist(), *place.tolist()) if self._watched else tuple(thing.tolist())

    def seen(self) -> np.ndarray:
        """Where the thing is, (2,) m; where it goes while nobody has seen it."""
        return self.place if self.thing is None else self.thing

    def behind(self) -> np.ndarray:
        """Where the point has the thing between its fingers, (3,) m: this side of it, as seen from the turntable."""
        return np.append(self.before(self.seen()), self.settings.height_m)

    def before(self, thing: np.ndarray) -> np.ndarray:
        """Where the point is, (2,) m, when a thing between its fingers is at `thing`."""
        out = thing - self._axis
        return np.asarray(thing - self.settings.radius_m * out / max(1e-6, float(np.linalg.norm(out))))

    def tilt(self, joints: Joints) -> float:
        """How far the hand is from pointing down, rad."""
        return self.rates.pitch(joints.position) - DOWN

    def observation(self, joints: Joints, imu: Imu) -> np.ndarray:
        """(sensors,) float32, of order one; counts the readings at its place, so it is asked once a cycle."""
        n, s, point = self.actions, self.settings, np.array(self.tip(joints))
        way = self.place - self.seen()
        gap = float(np.linalg.norm(way))
        self.holding = self.holding + 1 if self.thing is not None and gap <= s.tolerance_m else 0
        nearer = gap < self._nearest - NEARER_M
        self._nearest, self._idle = (gap, 0) if nearer else (self._nearest, self._idle + 1)
        out = np.empty(2 * n + 13, np.float32)
        self.felt(joints, out)
        out[2 * n : 2 * n + 2] = (self.seen() - point[:2]) / FAR_M
        out[2 * n + 2] = (s.height_m - point[2]) / FAR_M
        out[2 * n + 3 : 2 * n + 6] = np.tanh((self.behind() - point) / s.near_m)
        out[2 * n + 6 : 2 * n + 8] = way / FAR_M
        out[2 * n + 8 : 2 * n + 10] = np.tanh(way / s.near_m)
        out[2 * n + 10] = self.tilt(joints)
        out[2 * n + 11 :] = (self.place - self._middle) / FAR_M
        return out[: self.sensors]

    def ended(self, joints: Joints, imu: Imu) -> str:
        """ "there", or nothing."""
        return "there" if self.holding >= self.settings.hold_steps else ""

    def cut(self, now: int, begun: int, steps: int) -> str:
        """A tracker that has lost it, a push that leads nowhere, the time limit."""
        if now - self._seen > self.task.tracker_patience_s * 1e9:
            return "tracker lost"
        if self._idle >= self.settings.stuck_steps:
            return "stuck"
        return "time" if steps >= self.settings.episode_steps else ""

    def left(self) -> float:
        """How far the thing has to go, m. What is aside of its way outwards counts more: it can be steered only while it goes
        outwards, and nothing brings back one that has gone too far."""
        way, out = self.place - self.seen(), self.seen() - self._axis
        out = out / max(1e-6, float(np.linalg.norm(out)))
        return math.hypot(way @ out, self.settings.aside * (out[0] * way[1] - out[1] * way[0]))

    def cost(self, joints: Joints, imu: Imu) -> float:
        """Of point and thing being where they are."""
        s, left = self.settings, self.left()
        off = float(np.linalg.norm(self.behind() - self.tip(joints)))
        return (
            s.time_cost + s.distance_weight * left + s.near_weight * math.tanh(left / s.near_m)
            + s.behind_weight * min(off, FAR_M) / FAR_M + s.tilt_weight * min(1.0, abs(self.tilt(joints)))
        )  # fmt: skip

    def reward_of(self, t: int, sent: np.ndarray, cost: float, ended: bool) -> float | None:
        """At most 0; known at once."""
        return -cost - self.settings.jerk_weight * self.jerk(sent)
