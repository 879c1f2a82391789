"""Homing of an arm against its own stops, pure: one joint after another is wiggled, then led gently against its ends.

The arm begins lying folded without torque, put so by hand (`Plan.rest`): so every angle is known to some 20 degrees (`laid`).
Where a stop is by the model (`limits.stop_min`, `stop_max`), and where its encoder says it is, give the zero. A joint without
stops is where the hand has put it. Every target goes through the gate, whose range is the stops' with that much room, and with
little of the supply.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from robotrl import config
from robotrl.calibration.store import CalibrationError
from robotrl.messages import Action, Joints, Permit
from robotrl.robot import Workspace

TICKS = 4096
TICK = 2 * math.pi / TICKS
PERIOD_S = 0.02
LAID_RAD = 0.35  # by which a joint may lie beside where it must; chosen
SPEED = 0.5  # rad/s; chosen
PRESS_RAD = 0.1  # beyond the stop that a target goes; chosen
LEAD_RAD = 0.15  # of the gate
STILL_S, STILL_RAD = 0.5, 0.004  # a joint that moves by less, led so far ahead, is at a stop; chosen
WIGGLE_RAD = math.radians(2.0)
MOVED_MIN = 0.4  # part of the wiggle that a joint must follow; chosen
TRAVEL_RAD = 0.05  # by which the way between two stops may differ from the model's: 3 degrees; chosen
ACTION_VALID_NS = 50_000_000
Script = Generator[tuple[float, ...], Joints, None]


@dataclass(frozen=True)
class Step:
    """One joint's turn: where the others are meanwhile; rad of the robot's joints, by place. Both its stops are felt for: what is
    in its way feels like one, and only the other tells that it is none."""

    joint: int
    others: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """`rest` (n,) rad: how the arm lies by itself, folded back, straight ahead, its fingers together; then joint by joint.
    `ways`: in words, where its far end goes when its angle grows, in the pose in which it wiggles."""

    rest: tuple[float, ...]
    steps: tuple[Step, ...]
    ways: tuple[str, ...]


# From the hand to the base: so that what reaches far is folded when its turn comes. Tried on the twin alone.
PLANS = {
    "so101": Plan(
        (0.0, -1.70, 1.69, 0.90, 0.0, 0.0),
        (Step(5), Step(4), Step(3), Step(2, {1: -0.5, 3: -1.4}), Step(1, {2: -1.5}), Step(0)),
        ("to the right", "up", "back and down", "back and down", "anticlockwise seen from behind it", "open"),
    ),
    "omx": Plan(
        (0.0, -1.50, 1.40, 1.94, 0.0),
        (Step(4), Step(3, {1: -0.5}), Step(2, {1: -0.5, 3: -1.5}), Step(1, {2: -1.4, 3: -1.6})),
        ("to the left", "up", "back and down", "up", "open"),
    ),
}


@dataclass(frozen=True)
class Found:
    """What a homing has found, by place, rad: `offset` of the servo, `moved` by the wiggle, `spread` by how much two stops
    contradict each other."""

    offset: tuple[float, ...]
    spread: tuple[float, ...]
    moved: tuple[float, ...]
    by_hand: tuple[int, ...]  # joints that have no stops, and are where they were put


def laid(robot: config.Robot, horns: Sequence[float], power: float) -> config.Robot:
    """The robot as it is known while it lies at rest, `horns` (n,) rad being its encoders: offsets by that, the gate's range
    the stops' with room, the reset where it lies. CalibrationError for one that nothing is known of."""
    if robot.kind not in PLANS or not robot.stow or not (robot.limits.stop_min and robot.limits.stop_max):
        raise CalibrationError(f"{robot.name}: no stops are known (limits.stop_min, stop_max, stow); home it by hand: --angle")
    servos, limits, rest = robot.servos, robot.limits, PLANS[robot.kind].rest
    gears = servos.gear or (1.0,) * len(servos.ids)
    offset = tuple(h - s * q * g for h, s, q, g in zip(horns, servos.sign, rest, gears, strict=True))
    low, high = [], []
    for i, (o, s, g) in enumerate(zip(offset, servos.sign, gears, strict=True)):
        ends = sorted(s * (tick * TICK - o) / g for tick in (2, TICKS - 3))  # what the encoder has
        first, last = limits.stop_min[i] - LAID_RAD, limits.stop_max[i] + LAID_RAD
        low.append(max(ends[0], first) if math.isfinite(first) else rest[i] - LAID_RAD)
        high.append(min(ends[1], last) if math.isfinite(last) else rest[i] + LAID_RAD)
    return dataclasses.replace(
        robot,
        stop_profile="damp", home=rest, workspace=Workspace(),  # no stow: where that is nobody knows; it sinks, braked
        servos=dataclasses.replace(servos, offset=offset, power=power),
        limits=dataclasses.replace(limits, joint_min=tuple(low), joint_max=tuple(high), lead_rad=LEAD_RAD, slew_rad_s=2 * SPEED),
    )  # fmt: skip


class Homer:
    """Asks for targets as a policy does, one a cycle. `found` once it is done, `failed` where it cannot go on: in words."""

    def __init__(self, robot: config.Robot) -> None:
        """`robot`: what `laid` has made."""
        self.found: Found | None = None
        self.failed = self.doing = ""
        self._robot, self._n = robot, len(robot.servos.ids)
        self._plan = PLANS[robot.kind]
        self._names = robot.servos.joints or tuple(map(str, robot.servos.ids))
        self._gears = robot.servos.gear or (1.0,) * self._n
        self._epoch, self._seq = -1, 0
        self._script: Script | None = None
        self._last: Joints | None = None

    def cycle(self, joints: Joints, permit: Permit | None) -> Action | None:
        """Answer one servo cycle, when it is our turn. A lease that was taken away begins it anew."""
        ours = permit is not None and permit.state == "RUN" and permit.holder == "policy"
        if permit is None or not ours or any(joints.missed) or self.failed:
            return None
        try:
            if permit.epoch != self._epoch or self._script is None:
                self._epoch, self._target = permit.epoch, tuple(joints.position)
                self._script = self._run(joints)
                target = next(self._script)
            else:
                target = self._script.send(joints)
        except StopIteration:
            self._script, target = _stay(self._target), self._target
            next(self._script)
        except CalibrationError as error:
            self.failed = str(error)
            return None
        self._target, self._seq = target, self._seq + 1
        return Action(
            source="policy",
            seq=self._seq,
            t=joints.t,
            valid_ns=ACTION_VALID_NS,
            epoch=permit.epoch,
            tick=joints.tick,
            target=target,
        )

    # ---- the script: it is sent the newest reading, and gives the next targets

    def _run(self, joints: Joints) -> Script:
        self.found = None
        self._at = joints
        self._shift = [0.0] * self._n  # where each joint's zero is, in the angles of `laid`
        spread, moved, done = [0.0] * self._n, [0.0] * self._n, set()
        up = [0.0 if self._has_stops(i) else q for i, q in enumerate(self._plan.rest)]
        yield from self._go(up)
        for step in self._plan.steps:
            i, name = step.joint, self._names[step.joint]
            pose = [step.others.get(k, q) for k, q in enumerate(up)]
            yield from self._go(pose)
            self.doing = f"{name}: wiggles by +2 degrees"
            moved[i] = yield from self._wiggle(i)
            zeros = []
            for way in (-1, 1):
                self.doing = f"{name}: to its {'lower' if way < 0 else 'upper'} stop"
                felt = yield from self._press(i, way)
                zeros.append(felt - (self._robot.limits.stop_min if way < 0 else self._robot.limits.stop_max)[i])
            self._shift[i], spread[i] = sum(zeros) / 2, max(zeros) - min(zeros)
            self._check(i, spread[i])
            done.add(i)
            yield from self._go(pose)
            yield from self._go(up)
        self.doing = "back to the stow pose"
        yield from self._go(list(self._robot.stow))
        self.found = self._result(spread, moved, tuple(i for i in range(self._n) if i not in done))
        self.doing = "done"

    def _has_stops(self, i: int) -> bool:
        return math.isfinite(self._robot.limits.stop_min[i])

    def _go(self, pose: Sequence[float]) -> Script:
        """All joints to a pose by the zeros that are known by now, none faster than SPEED; then a moment's rest."""
        start = self._target
        goal = [q + shift for q, shift in zip(pose, self._shift, strict=True)]
        ways = [b - a for a, b in zip(start, goal, strict=True)]
        steps = max(1, math.ceil(max(map(abs, ways)) / (SPEED * PERIOD_S)))
        for k in range(1, steps + 16):
            part = min(1.0, k / steps)
            yield from self._ask([a + part * w for a, w in zip(start, ways, strict=True)])

    def _ask(self, target: Sequence[float]) -> Script:
        self._target = tuple(target)
        self._at = yield self._target

    def _moved(self, i: int, to: float) -> list[float]:
        return [*self._target[:i], to, *self._target[i + 1 :]]

    def _wiggle(self, i: int) -> Generator[tuple[float, ...], Joints, float]:
        """Two degrees up, a look, and back; how far it went."""
        start, before = self._target[i], self._at.position[i]
        for k in range(1, 101):  # 0.6 s; one that sticks is given two
            yield from self._ask(self._moved(i, start + min(1.0, k / 10) * WIGGLE_RAD))
            went = self._at.position[i] - before
            if k >= 30 and abs(went) > 0.8 * WIGGLE_RAD:
                break
        for part in [k / 10 for k in range(9, -1, -1)] + [0.0] * 20:
            yield from self._ask(self._moved(i, start + part * WIGGLE_RAD))
        if went < -MOVED_MIN * WIGGLE_RAD:
            raise CalibrationError(f"{self._names[i]} goes the other way than it is sent; see the servo's direction register")
        if went < MOVED_MIN * WIGGLE_RAD:
            raise CalibrationError(
                f"{self._names[i]} went {math.degrees(went):+.1f} degrees when sent +2; free it, or give more --power"
            )
        return went

    def _press(self, i: int, way: int) -> Generator[tuple[float, ...], Joints, float]:
        """Slowly on until it stands still while its target does not; where it stands, rad."""
        end = (self._robot.limits.joint_min if way < 0 else self._robot.limits.joint_max)[i]
        window: list[float] = []
        while True:
            here = self._at.position[i]
            window = [*window[-round(STILL_S / PERIOD_S) :], here]
            if abs(end - here) < 3 * TICK:
                raise CalibrationError(
                    f"{self._names[i]} found no stop where its {'lower' if way < 0 else 'upper'} one must be: its encoder begins"
                    " anew before it, or it did not lie as it must; lay it so, or turn its horn by a tooth, and run again"
                )
            still = len(window) > STILL_S / PERIOD_S and max(window) - min(window) < STILL_RAD
            if still and way * (self._target[i] - here) > 0.9 * PRESS_RAD:
                return sorted(window[-9:])[4]
            ahead = self._target[i] + way * SPEED * PERIOD_S
            yield from self._ask(self._moved(i, here + max(-PRESS_RAD, min(PRESS_RAD, ahead - here))))

    def _check(self, i: int, spread: float) -> None:
        if not spread <= TRAVEL_RAD:
            raise CalibrationError(
                f"{self._names[i]}: the way between its stops is {math.degrees(spread):.1f} degrees from the model's:"
                " something is in its way, or the stops in the robot file are not its own"
            )
        if not abs(self._shift[i]) <= LAID_RAD:
            raise CalibrationError(
                f"{self._names[i]}: its zero is {math.degrees(self._shift[i]):+.0f} degrees from where it lay; lay the arm as it"
                " must be (docs/calibration.md) and run again"
            )

    def _result(self, spread: Sequence[float], moved: Sequence[float], by_hand: tuple[int, ...]) -> Found:
        """Zeros to the whole tick: no goal is finer."""
        servos, offset = self._robot.servos, []
        for o, s, g, shift in zip(servos.offset, servos.sign, self._gears, self._shift, strict=True):
            offset.append(round((o + s * g * shift) / TICK) * TICK)
        return Found(tuple(offset), tuple(spread), tuple(moved), by_hand)


def _stay(target: tuple[float, ...]) -> Script:
    while True:
        yield target


def fitted(robot: config.Robot, offset: Sequence[float]) -> tuple[float, ...]:
    """Offsets (n,) rad, each by so many whole turns that its joint's range lies within what the encoder counts: from stop to stop
    where they are known, for a limp joint may be left there. CalibrationError, naming the joint, where it lies across the count's
    end: no goal leads over that, and who is beyond it reads a turn off."""
    servos, limits, out = robot.servos, robot.limits, []
    gears = servos.gear or (1.0,) * len(servos.ids)
    names = servos.joints or tuple(map(str, servos.ids))
    for i, (name, o, s, g) in enumerate(zip(names, offset, servos.sign, gears, strict=True)):
        low, high = robot.lowest[i], robot.highest[i]
        if known := bool(limits.stop_min and limits.stop_max) and math.isfinite(limits.stop_min[i] + limits.stop_max[i]):
            low, high = limits.stop_min[i], limits.stop_max[i]
        first, last = sorted((s * low * g, s * high * g))
        turned = o - 2 * math.pi * math.floor((o + first) / (2 * math.pi) + 1e-9)
        if turned + last > (TICKS - 1) * TICK + 1e-9:
            narrow = "" if known else ", or narrow joint_min and joint_max,"
            raise CalibrationError(
                f"{name}: its zero is tick {round(o / TICK) % TICKS}, so its range lies across the encoder's end (4095 to 0);"
                f" turn its horn by some teeth{narrow} and home it again"
            )
        out.append(turned)
    return tuple(out)
