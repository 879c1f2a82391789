"""An eyewitness at the servos' wire: reads the bytes of both directions by the protocol's page and holds them to the invariants.

Shares nothing with the product: no codec, no gate, no limits of it. Numbers come from the robot file, by name, as text would.
"""

from __future__ import annotations

import json
import math
import re
import struct
from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Mode 10 | position f32 | kp and kd scale 1 | torque limit | watchdog | velocity limit (moteus reference, register map 5)
GOAL = re.compile(
    rb"(?m)^can send 00([0-9a-f]{2}) 01000a0d20([0-9a-f]{8})02237f7f0d25([0-9a-f]{8})0e27([0-9a-f]{8})[0-9a-f]{8}(?:50)*$"
)
DAMP = re.compile(rb"can send 00([0-9a-f]{2}) 01000a0e200000c07f000000000223007f0d25[0-9a-f]{8}0e27[0-9a-f]{16}(?:50)*")
STOP = re.compile(rb"can send 00([0-9a-f]{2}) 010000")
ASK = re.compile(rb"can send ([c-f][0-9a-f])([0-9a-f]{2}) 11001f01110a130d")
CONSOLE = re.compile(rb"can send [8-9a-f0][0-9a-f]{3} 4[02][0-9a-f]*")
# At the end of a line: one whose own end was lost has swallowed the next. A flipped bit may have made a digit a capital.
ANSWER = re.compile(
    rb"rcv ([0-9a-fA-F]+) 2100([0-9a-fA-F]{2})2[fF]01([0-9a-fA-F]{8})[0-9a-fA-F]{16}210[aA][^\r\n]{2}230[dD][0-9a-fA-F]{6}(?:50)*"
    rb"[ \t\v\f]*(?=[\r\n]|\Z)"
)
TAU = 2 * math.pi
QUESTIONS = 256  # writes remembered
F32, THREE_F32 = struct.Struct("<f"), struct.Struct("<3f")
ROUND = 3e-5  # rad: float32 revolutions, twice
OPENING = 0.035  # rad: 2 degrees (fault catalogue, row 53)
INWARD = 0.5  # rad/s: a joint that came on outside is brought in no faster where nobody drives
PERMIT_NS = 60_000_000
VMAX_JUMP = 1.5 * 60.0 * 0.05  # rad: farther from one reading to the next no joint gets (row 4)
POWERED = {"HOLD", "RUN", "RESET", "STOPPING", "PSTOP"}
DRIVEN = {"RUN", "RESET"}


@dataclass(frozen=True)
class Bounds:
    """What the robot file says. rad; `slew` per period."""

    sign: tuple[int, ...]
    offset: tuple[float, ...]
    low: float | tuple[float, ...]  # of all joints, or one each
    high: float | tuple[float, ...]
    slew: float
    lead: float
    gap: float  # of legs with two motors each; 0: there are none
    torque: float
    watchdog_s: float
    inward: float = field(default=INWARD / 50, kw_only=True)  # per period

    def ends(self, servo: int) -> tuple[float, float]:
        """Of a joint, by its servo's place on the wire, from 1."""
        low, high = self.low, self.high
        return (low if isinstance(low, float) else low[servo - 1]), (high if isinstance(high, float) else high[servo - 1])


@dataclass(slots=True)
class Moment:
    """One period as it was: when, what the guard had permitted before, what was written."""

    t: int
    state: str = ""
    causes: tuple[str, ...] = ()
    goal: dict[int, float] = field(default_factory=dict)  # by CAN id, robot's angle, rad
    damped: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    modes: dict[int, int] = field(default_factory=dict)  # as answered in this period
    led: set[int] = field(default_factory=set)  # servos whose last goal was out of reach or range: it must move
    on: set[int] = field(default_factory=set)  # bus servos that were switched on
    all_off: bool = False  # torque off was said to every number on the bus
    lowers: bool = False  # an arm lowers itself: its stop profile, which needs no permit


class Witness:
    """`wrote` and `heard` get the bytes; `permit` each permit as it is given; `moment` ends a period. `violations` tells all."""

    def __init__(self, bounds: Bounds, keep: bool = True) -> None:
        self.bounds, self.keep = bounds, keep
        self.violations: list[str] = []
        self.history: list[Moment] = []
        self.goals = 0
        self._now = Moment(0)
        self._host = -1
        self._permit: tuple[int, str, bool, float] | None = None  # when, state, torque, speed
        self._goal: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._unread: dict[int, int] = {}
        self._heard: set[int] = set()
        self._ends = {servo: bounds.ends(servo) for servo in range(len(bounds.sign) + 1)}
        self._everyone = set(range(1, len(bounds.sign) + 1))
        self._questions: dict[bytes, tuple[int, set[int]]] = {}  # writes that only ask, as read once: by what host, and whom

    def permit(self, t: int, state: str, torque: bool, speed: float) -> None:
        self._permit = (t, state, torque, speed)

    def wrote(self, t: int, data: bytes) -> None:
        self._now.t = t
        if known := self._questions.get(data):  # the same bytes say the same
            self._host = known[0]
            self._now.asked |= known[1]
            return
        lines, asked = data.splitlines(), []
        goals = GOAL.findall(data)
        if len(goals) == len(lines):  # nearly always; else one after another, in their order
            numbers = unhexlify(b"".join([turns + torque + watchdog for _, turns, torque, watchdog in goals]))
            for (servo, *_), three in zip(goals, THREE_F32.iter_unpack(numbers), strict=True):
                self._take_goal(int(servo, 16), *three)
            return
        for line in lines:
            if found := GOAL.fullmatch(line):
                self._take_goal(int(found[1], 16), *THREE_F32.unpack(unhexlify(found[2] + found[3] + found[4])))
            elif found := DAMP.fullmatch(line):
                self._now.damped.add(int(found[1], 16))
            elif found := STOP.fullmatch(line):
                self._now.stopped.add(int(found[1], 16))
            elif found := ASK.fullmatch(line):
                self._host = int(found[1], 16) & 0x7F
                asked.append(int(found[2], 16))
            elif not CONSOLE.fullmatch(line):
                self._say(f"nobody knows this line: {line[:80]!r}")
        self._now.asked.update(asked)
        if asked and len(asked) == len(lines) and len(self._questions) < QUESTIONS:
            self._questions[data] = self._host, set(asked)

    def heard(self, data: bytes) -> None:
        sign, offset, seen, unread = self.bounds.sign, self.bounds.offset, self._seen, self._unread
        for sender, mode, digits in ANSWER.findall(data):
            number, (turns,) = int(sender, 16), F32.unpack(unhexlify(digits))
            servo = number >> 8
            i = servo - 1
            if number & 0xFF != self._host or not 0 <= i < len(sign) or not abs(turns) < 1e6:
                continue
            angle = sign[i] * (turns * TAU - offset[i])
            known = unread.get(servo, 3) < 3
            if known and abs(angle - seen[servo]) > VMAX_JUMP:
                continue
            seen[servo], unread[servo] = angle, 0
            self._now.modes[servo] = int(mode, 16)
            self._heard.add(servo)

    def moment(self, t: int, state: str, causes: tuple[str, ...]) -> Moment:
        """The period is over: hold what was written in it to the invariants."""
        done, self._now = self._now, Moment(t)
        done.t, done.state, done.causes = t, state, causes
        for servo in done.asked:  # silence counts from here, before the goals below are judged
            if servo not in self._heard:
                self._unread[servo] = self._unread.get(servo, 3) + 1
        self._heard = set()
        done.led = self._must_move()
        if done.goal:
            self._judge(done)
        self._goal = done.goal
        if self.keep:
            self.history.append(done)
        return done

    def _must_move(self) -> set[int]:
        """Whose goal may not stay where it is: the joint was pushed out of its reach, or came on out of its range."""
        goal, seen, gap = self._goal, self._seen, self.bounds.gap
        reach, led = self.bounds.lead - 0.05, set()
        for s, x in goal.items():
            low, high = self._ends[s]
            if x < low or x > high or (s in seen and abs(x - seen[s]) > reach):
                led.add(s)
            if gap and s % 2 and s + 1 in goal and not gap <= x + goal[s + 1] <= TAU - gap:
                led |= {s, s + 1}
        return led

    def _take_goal(self, servo: int, turns: float, torque: float, watchdog: float) -> None:
        bounds = self.bounds
        if servo in self._now.goal:
            self._say(f"servo {servo} is commanded twice")
        if not math.isfinite(turns):
            return self._say(f"servo {servo}: goal {turns}")
        if not 0 < torque <= bounds.torque + 1e-6 or not abs(watchdog - bounds.watchdog_s) <= 1e-6:
            self._say(f"servo {servo}: torque limit {torque}, watchdog {watchdog}")
        i = servo - 1
        self._now.goal[servo] = bounds.sign[i] * (turns * TAU - bounds.offset[i])

    def _judge(self, done: Moment) -> None:
        self.goals += 1
        permit = self._permit
        if permit is None or not permit[2] or permit[1] not in POWERED or done.t - permit[0] > PERMIT_NS:
            return self._say(f"a goal without a permit: {permit}")
        if done.goal.keys() != self._everyone or done.damped or done.stopped - done.goal.keys():
            self._say(f"goals for {sorted(done.goal)}, damped {done.damped}, stopped {done.stopped}")
        opening = not self._goal
        for servo, x in done.goal.items():
            seen = self._seen.get(servo)
            before = seen if opening else self._goal.get(servo)
            if before is None or seen is None:
                self._say(f"servo {servo}: a goal, and nobody knows where it is")
                continue
            step = OPENING if opening else self.bounds.slew * permit[3]
            if permit[1] not in DRIVEN and abs(before - seen) <= self.bounds.lead - 0.05:  # nobody drives, and it was not pushed
                step = min(step, self.bounds.inward)
            self._hold(servo, x, before, seen, step)
        self._legs(done.goal, opening)

    def _hold(self, servo: int, x: float, before: float, seen: float, step: float) -> None:
        (low, high), lead = self._ends[servo], self.bounds.lead
        if abs(x - before) > step + ROUND:
            self._say(f"servo {servo}: jumps from {before:.4f} to {x:.4f}")
        if not low <= x <= high and _out(x, low, high) > _out(before, low, high) + ROUND:
            self._say(f"servo {servo}: leaves its range: {x:.4f}")
        if self._unread.get(servo, 0) > 3:
            if abs(x - before) > ROUND:
                self._say(f"servo {servo}: is moved, and nobody knows where it is")
        elif abs(before - seen) <= lead and abs(x - seen) > lead + ROUND:
            self._say(f"servo {servo}: led to {x:.4f} from {seen:.4f}")

    def _legs(self, goal: dict[int, float], opening: bool) -> None:
        if not self.bounds.gap:
            return
        low, high = self.bounds.gap, TAU - self.bounds.gap
        base = self._seen if opening else self._goal
        for a in range(1, len(self.bounds.sign), 2):
            if a in goal and a + 1 in goal and a in base and a + 1 in base:
                now, was = goal[a] + goal[a + 1], base[a] + base[a + 1]
                if not low <= now <= high and _out(now, low, high) > _out(was, low, high) + 2 * ROUND:
                    self._say(f"servos {a} and {a + 1}: their leg closes")

    def _say(self, what: str) -> None:
        self.violations.append(f"{self._now.t * 1e-9:.3f} s: {what}")


class Tap:
    """Between a port and its far end: what the program writes and what it gets to hear, faults included."""

    def __init__(self, far: Any, witness: Witness, now: Callable[[], int]) -> None:
        self._far, self._witness, self._now = far, witness, now

    def receive(self, data: bytes) -> None:
        self._witness.wrote(self._now(), data)
        self._far.receive(data)

    def transmit(self) -> bytes:
        data: bytes = self._far.transmit()
        self._witness.heard(data)
        return data


def bounds_of(run: dict[str, Any]) -> Bounds:
    """From a run as a plain dict (what run.json holds)."""
    run = json.loads(json.dumps(run))
    servos, limits = run["robot"]["servos"], run["robot"]["limits"]
    return Bounds(
        tuple(servos["sign"]), tuple(servos["offset"]), limits["position_min"], limits["position_max"],
        limits["slew_rad_s"] / run["task"]["rate_hz"], limits["lead_rad"], limits["gap_min"], servos["max_torque"],
        servos["watchdog_s"], inward=INWARD / run["task"]["rate_hz"],
    )  # fmt: skip


def _out(x: float, low: float, high: float) -> float:
    return max(low - x, x - high, 0.0)
