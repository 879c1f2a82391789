"""The eyewitness at a line of bus servos: Dynamixel 2.0 and Feetech STS bytes of both directions, by the makers' tables.

It holds them to what `witness.py` holds the moteus' lines to, and to what these servos have beside it: torque is switched on by
a word of its own, at the first goal and never later; an arm may lower itself without a permit, slowly and once, and nothing else
may; goals end in a brake or in torque off. Shares no code with the product: frames, registers and checks are written here from
hardware facts 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.safety.lineframes import Frame
from tests.safety.witness import OPENING, PERMIT_NS, POWERED, ROUND, TAU, Bounds, Moment, Tap, Witness

TICK = TAU / 4096
STARTING_NS = 220_000_000  # from the first goal on, in which torque may be switched on: 0.2 s and a period
HOLD_NS = 280_000_000  # for which an arm that stops comes to rest before it lowers itself: 0.3 s less a period
PERIOD_NS = 20_000_000
FALL_RAD_S = 8.0  # of a limp joint
AWAY_NS = 5_020_000_000  # for which the last word of a guard that is silent holds it: 5 s, and a period
BACK_NS = 300_000_000  # for which one that was silent for long may not be believed yet: what it says may be old
EVERYBODY = 0xFE
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83


@dataclass(frozen=True)
class LineBounds(Bounds):
    """What the robot file says of servos on a line; `ids` in the order of the joints."""

    ids: tuple[int, ...] = ()
    gear: tuple[float, ...] = ()
    stow: tuple[float, ...] = ()  # rad; empty: it has no such pose, and brakes
    stop_s: float = 0.0  # from the stop on, until torque is off
    speed: float = 0.0  # rad/s, of any joint
    power: float = 1.0  # of the supply


class LineWitness(Witness):
    """Servos are called by their places on the line, from 1, as the joints are. What the families do not share is below."""

    wide = 2  # bytes of an address and of a length

    def __init__(self, bounds: LineBounds, keep: bool = True) -> None:
        super().__init__(bounds, keep)
        self.line = bounds
        self._place = {servo: i for i, servo in enumerate(bounds.ids, 1)}
        self._question: tuple[int, int, set[int]] | None = None  # address, length, who has yet to answer
        self._now_t = self._led_t = 0  # of this judgement, and of the last goals
        self._stays = False  # it is on no way down: it is held in PSTOP
        self._opened = self._down_since = -1  # when goals began; when an arm began to lower itself
        self._told_at: dict[int, tuple[int, bool]] = {}  # when a servo was heard last, and whether it was led then
        self._back: dict[int, int] = {}  # when one that was silent for long was heard again
        self._dropped = False  # one that was driven said that it is off
        self._slept = False  # the goals before are older than a permit lives
        self._kept: dict[int, float] = {}  # the goals that were written last, however long ago
        self._braked = False
        self.alone = False  # nobody may lead it any more: its driver is dead
        self.at_stop: dict[int, float] = {}  # where the joints were read last before torque went off

    # ---- what the program writes

    def frames(self, data: bytes, answers: bool) -> Iterator[Frame | None]:
        raise NotImplementedError

    def wrote(self, t: int, data: bytes) -> None:
        self._now.t = t
        for frame in self.frames(data, False):
            if frame is None:
                self._say(f"no packet of this line: {data[:40].hex(' ')}")
            else:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        servo, kind, params = frame
        address, rest = int.from_bytes(params[: self.wide], "little"), params[self.wide :]
        if kind == SYNC_READ and servo == EVERYBODY:
            asked = rest[self.wide :]
            self._question = (address, int.from_bytes(rest[: self.wide], "little"), {self._place.get(i, -1) for i in asked})
            self._now.asked |= self._question[2]
        elif kind == SYNC_WRITE and servo == EVERYBODY:
            size = int.from_bytes(rest[: self.wide], "little")
            rows = rest[self.wide :]
            if not size or len(rows) % (size + 1):
                return self._say(f"a torn sync write: {params.hex(' ')}")
            for at in range(0, len(rows), size + 1):
                self._written(rows[at], address, rows[at + 1 : at + 1 + size])
        elif kind == WRITE:
            self._written(servo, address, rest)
        elif kind not in (PING, READ):
            self._say(f"servo {servo} is told {kind:#x}, which is for a person to do")

    def _written(self, servo: int, address: int, data: bytes) -> None:
        if servo == EVERYBODY:
            return self._said_to_all(address, data)
        place = self._place.get(servo)
        if place is None:
            return self._say(f"servo {servo} is not of this robot")
        self.told(place, self.true(place, address, data))

    def true(self, place: int, address: int, data: bytes) -> dict[int, int]:
        """The bytes by the registers that they are of."""
        return {address + k: byte for k, byte in enumerate(data)}

    def told(self, place: int, put: dict[int, int]) -> None:
        """One servo's registers were written."""
        raise NotImplementedError

    def _said_to_all(self, address: int, data: bytes) -> None:
        raise NotImplementedError

    def _goal_at(self, place: int, ticks: int) -> None:
        i, line = place - 1, self.line
        x = line.sign[i] * (ticks * TICK - line.offset[i]) / line.gear[i]
        if abs(self._now.goal.get(place, x) - x) > ROUND:
            self._say(f"servo {line.ids[i]} is commanded twice")
        self._now.goal[place] = x

    def _torque(self, place: int, on: bool) -> None:
        (self._now.on if on else self._now.stopped).add(place)

    # ---- what it gets to hear

    def heard(self, data: bytes) -> None:
        for frame in self.frames(data, True) if data else ():
            if frame is None or self._question is None:
                continue
            address, length, left = self._question
            place = self._place.get(frame.servo, -1)
            if place in left and len(frame.params) == length:
                left.discard(place)
                self._answer(place, self.true(place, address, frame.params))

    def _answer(self, place: int, says: dict[int, int]) -> None:
        read = self.reading(says)
        if read is None:
            return
        ticks, mode = read
        i, line = place - 1, self.line
        angle = line.sign[i] * (ticks * TICK - line.offset[i]) / line.gear[i]
        before, led = self._told_at.get(place, (0, False))
        passed = (self._now.t - before) * 1e-9 + 0.012  # a reading is up to 12 ms younger than its question
        jump = 1.5 * max(line.speed, FALL_RAD_S) * (passed if led else max(passed, 0.05)) / line.gear[i]
        self._told_at[place] = (self._now.t, led)
        if self._unread.get(place, 3) < 3 and abs(angle - self._seen[place]) > jump:
            return
        if self._unread.get(place, 0) > 3:
            self._back[place] = self._now.t
        self._seen[place], self._unread[place] = angle, 0
        self._told_at[place] = (self._now.t, mode == 10)
        self._now.modes[place] = mode
        self._heard.add(place)

    def reading(self, says: dict[int, int]) -> tuple[int, int] | None:
        """Ticks, and 0 off, 10 led, 11 stopped by its watchdog; None where it says nothing that counts."""
        raise NotImplementedError

    # ---- a period

    def moment(self, t: int, state: str, causes: tuple[str, ...]) -> Moment:
        self._question = None
        before, braked = bool(self._goal), self._braked
        done = super().moment(t, state, causes)
        everyone = set(range(1, len(self.line.ids) + 1))
        led = done.damped == everyone or bool(done.goal)
        if (before or braked) and done.asked and not led and done.stopped != everyone and not _all_off(done, everyone):
            self._say(f"goals end, and {sorted(everyone - done.stopped)} are told nothing")
        if done.on and (not done.goal or done.lowers or done.t - self._opened > STARTING_NS):
            self._say(f"servos {sorted(done.on)} are switched on, {(done.t - self._opened) * 1e-9:.2f} s after the first goal")
        if (before or braked) and done.stopped == everyone:
            self.at_stop = dict(self._seen)
        self._braked = bool(done.damped)
        if not done.goal:
            self._opened = self._down_since = -1
            self._dropped = False
        return done

    def _judge(self, done: Moment) -> None:
        self._now_t = done.t
        self._slept = bool(self._goal) and done.t - self._led_t > PERMIT_NS
        if not self._goal:
            self._opened = done.t
            if self._kept and self._all_led(done) and not done.on:  # nobody let go: they still go by these
                self._goal, self._slept = self._kept, True
        elif self._slept and not self._all_led(done):  # it begins anew, where the joints are
            self._goal = {}
        self._led_t, self._kept = done.t, done.goal
        driven = done.t - self._opened > STARTING_NS
        self._dropped |= driven and 0 in done.modes.values()
        permit = self._permit
        good = permit is not None and permit[2] and permit[1] in POWERED and done.t - permit[0] <= PERMIT_NS
        if self.line.stow and (not good or self._dropped or self.alone):
            return self._lowers(done)
        self._down_since = -1
        super()._judge(done)

    def _hold(self, servo: int, x: float, before: float, seen: float, step: float) -> None:
        back = self._now_t - self._back.get(servo, -BACK_NS) < BACK_NS
        if back and abs(x - seen) > OPENING:  # nobody needs to believe it yet
            seen, before = x, self._goal.get(servo, x)
        elif self._slept and abs(x - before) > step:
            before, step = seen, OPENING
        super()._hold(servo, x, before, seen, step)

    def _all_led(self, done: Moment) -> bool:
        return len(done.modes) == len(self.line.ids) and set(done.modes.values()) == {10}

    def _lowers(self, done: Moment) -> None:
        """It holds, goes slowly where it falls no farther, and in time; nobody is there to permit more."""
        done.lowers = True
        first = self._down_since < 0
        stays = self._permit is not None and self._permit[1] == "PSTOP" and done.t - self._permit[0] <= AWAY_NS
        # Held in PSTOP, it is lowered by a key, when no guard comes back, or by who is alone there.
        self._stays = stays and not self.alone and (first or self._stays)
        self._down_since = done.t if first or self._stays else self._down_since
        passed = done.t - self._down_since
        if passed > self.line.stop_s * 1e9 + PERIOD_NS:
            self._say(f"goals without a permit for {passed * 1e-9:.2f} s")
        loose = any(done.t - t < BACK_NS for t in self._back.values())  # when it begins is the driver's to say
        for place, x in done.goal.items():
            seen, to = self._seen.get(place), self.line.stow[place - 1]
            before = seen if first else self._goal.get(place)
            if before is None or seen is None:
                self._say(f"servo {self.line.ids[place - 1]} is lowered, and nobody knows from where")
                continue
            rests = passed < HOLD_NS and place not in done.led
            step = OPENING if first else TICK / 2 if rests else self.line.slew / 2
            if first and abs(x - before) > step and done.modes.get(place, 10) == 10:
                before = self._goal.get(place, seen)  # it says that it still goes by this, or is silent, and may be held there
            if loose and abs(x - before) > step and abs(x - seen) <= OPENING:
                self._down_since, before, step = done.t, seen, OPENING
            self._hold(place, x, before, seen, step)
            follows = abs(before - seen) > self.line.lead - 0.05  # it may not be farther ahead of the joint
            # One that goes nowhere is led back to where it says that it is, be it deaf, or its reading frozen.
            follows |= abs(x - seen) < abs(before - seen)
            if abs(x - to) > max(abs(before - to), OPENING) + TICK and not follows and not first:
                self._say(f"servo {self.line.ids[place - 1]}: goes away from where it is stowed, without a permit")


class LineTap(Tap):
    """A byte that a lost port does not take was not on the wire."""

    def receive(self, data: bytes) -> None:
        self._far.receive(data)
        self._witness.wrote(self._now(), data)


def _all_off(done: Moment, everyone: set[int]) -> bool:
    return set(done.modes) == everyone and not any(done.modes.values())
