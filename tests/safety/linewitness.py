"""The eyewitness at a line of bus servos: Dynamixel 2.0 and Feetech STS bytes of both directions, by the makers' tables.

It holds them to what `witness.py` holds the moteus' lines to, and to what these servos have beside it: torque is switched on by
a word of its own, at the first goal and never later; an arm may lower itself without a permit, slowly and once, and nothing else
may; goals end in a brake or in torque off. Shares no code with the product: frames, registers and checks are written here from
hardware facts 4 and 5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.safety.witness import OPENING, PERMIT_NS, POWERED, ROUND, TAU, Bounds, Moment, Tap, Witness

TICK = TAU / 4096
STARTING_NS = 220_000_000  # from the first goal on, in which torque may be switched on: 0.2 s and a period
HOLD_NS = 280_000_000  # for which an arm that stops comes to rest before it lowers itself: 0.3 s less a period
PERIOD_NS = 20_000_000
FALL_RAD_S = 8.0  # of a limp joint
EVERYBODY = 0xFE
PING, READ, WRITE, SYNC_READ, SYNC_WRITE, STATUS = 1, 2, 3, 0x82, 0x83, 0x55


@dataclass(frozen=True)
class LineBounds(Bounds):
    """What the robot file says of servos on a line; `ids` in the order of the joints."""

    ids: tuple[int, ...] = ()
    gear: tuple[float, ...] = ()
    stow: tuple[float, ...] = ()  # rad; empty: it has no such pose, and brakes
    stop_s: float = 0.0  # from the stop on, until torque is off
    speed: float = 0.0  # rad/s, of any joint
    power: float = 1.0  # of the supply


class Frame(NamedTuple):
    servo: int
    word: int  # the instruction; in an answer the error byte
    params: bytes


def crc16(data: bytes) -> int:
    """Polynomial 0x8005 from 0, most significant bit first."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        crc = (crc << 8 ^ CRC[crc >> 8]) & 0xFFFF
    return crc


def _of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = crc << 1 ^ (0x8005 if crc & 0x8000 else 0)
    return crc & 0xFFFF


CRC = [_of_byte(byte) for byte in range(256)]


def dynamixel(data: bytes, answers: bool) -> Iterator[Frame | None]:
    """The sound packets in `data`, and None for each stretch that is none. `answers`: of status packets."""
    at = lost = 0
    while at < len(data):
        size = int.from_bytes(data[at + 5 : at + 7], "little")
        whole = data[at : at + 7 + size]
        sound = whole[:4] == b"\xff\xff\xfd\x00" and size >= 3 and len(whole) == 7 + size
        if not sound or crc16(whole[:-2]) != int.from_bytes(whole[-2:], "little") or (whole[7] == STATUS) != answers:
            at, lost = at + 1, lost + 1
            continue
        if lost:
            yield None
        body = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")[answers:]
        yield Frame(whole[4], body[0], body[1:])
        at, lost = at + len(whole), 0
    if lost:
        yield None


def feetech(data: bytes, answers: bool) -> Iterator[Frame | None]:
    """As above; nothing in these frames tells a question from an answer."""
    at = lost = 0
    while at < len(data):
        whole = data[at : at + 4 + data[at + 3]] if len(data) > at + 3 else b""
        sound = whole[:2] == b"\xff\xff" and len(whole) >= 6 and len(whole) == 4 + whole[3]
        if not sound or sum(whole[2:]) & 0xFF != 0xFF:
            at, lost = at + 1, lost + 1
            continue
        if lost:
            yield None
        yield Frame(whole[2], whole[4], whole[5:-1])
        at, lost = at + len(whole), 0
    if lost:
        yield None


class LineWitness(Witness):
    """Servos are called by their places on the line, from 1, as the joints are. What the families do not share is below."""

    wide = 2  # bytes of an address and of a length

    def __init__(self, bounds: LineBounds, keep: bool = True) -> None:
        super().__init__(bounds, keep)
        self.line = bounds
        self._place = {servo: i for i, servo in enumerate(bounds.ids, 1)}
        self._question: tuple[int, int, set[int]] | None = None  # address, length, who has yet to answer
        self._opened = self._down_since = -1  # when goals began; when an arm began to lower itself
        self._dropped = False  # one that was driven said that it is off
        self._braked = False

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
        jump = 1.5 * max(line.speed, FALL_RAD_S) * 0.05 / line.gear[i]
        if self._unread.get(place, 3) < 3 and abs(angle - self._seen[place]) > jump:
            return
        self._seen[place], self._unread[place] = angle, 0
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
        self._braked = bool(done.damped)
        if not done.goal:
            self._opened = self._down_since = -1
            self._dropped = False
        return done

    def _judge(self, done: Moment) -> None:
        if not self._goal:
            self._opened = done.t
        driven = done.t - self._opened > STARTING_NS
        self._dropped |= driven and 0 in done.modes.values()
        permit = self._permit
        good = permit is not None and permit[2] and permit[1] in POWERED and done.t - permit[0] <= PERMIT_NS
        if self.line.stow and (not good or self._dropped):
            return self._lowers(done)
        self._down_since = -1
        super()._judge(done)

    def _lowers(self, done: Moment) -> None:
        """It holds, goes slowly where it falls no farther, and in time; nobody is there to permit more."""
        done.lowers = True
        first = self._down_since < 0
        self._down_since = done.t if first else self._down_since
        passed = done.t - self._down_since
        if passed > self.line.stop_s * 1e9 + PERIOD_NS:
            self._say(f"goals without a permit for {passed * 1e-9:.2f} s")
        for place, x in done.goal.items():
            seen, to = self._seen.get(place), self.line.stow[place - 1]
            before = seen if first else self._goal.get(place)
            if before is None or seen is None:
                self._say(f"servo {self.line.ids[place - 1]} is lowered, and nobody knows from where")
                continue
            step = OPENING if first else TICK / 2 if passed < HOLD_NS else self.line.slew / 2
            self._hold(place, x, before, seen, step)
            if abs(x - to) > max(abs(before - to), OPENING) + TICK:
                self._say(f"servo {self.line.ids[place - 1]}: goes away from where it is stowed, without a permit")


class DynamixelWitness(LineWitness):
    """X series: what is behind its indirect registers, and its bus watchdog in every goal."""

    TORQUE, LEVEL, WATCHDOG, PWM, GOAL, POSITION, POINTERS, DATA, SLOTS = 64, 68, 98, 100, 116, 132, 168, 224, 28

    def __init__(self, bounds: LineBounds, keep: bool = True) -> None:
        super().__init__(bounds, keep)
        self._pointers: dict[int, dict[int, int]] = {place: {} for place in self._place.values()}

    def frames(self, data: bytes, answers: bool) -> Iterator[Frame | None]:
        return dynamixel(data, answers)

    def true(self, place: int, address: int, data: bytes) -> dict[int, int]:
        known, out = self._pointers.get(place, {}), {}
        for k, byte in enumerate(data):
            slot = address + k - self.DATA
            at = self.POINTERS + 2 * slot
            out[known.get(at, 0) | known.get(at + 1, 0) << 8 if 0 <= slot < self.SLOTS else address + k] = byte
        return out

    def told(self, place: int, put: dict[int, int]) -> None:
        servo = self.line.ids[place - 1]
        if min(put) < self.TORQUE:
            self._say(f"servo {servo}: its EEPROM is written at {min(put)}")
        self._pointers[place] |= {at: byte for at, byte in put.items() if self.POINTERS <= at < self.DATA}
        if self.GOAL in put:
            self._lead(place, put) if self._word(put, self.PWM) else self._now.damped.add(place)
            return
        if self.TORQUE in put:
            self._torque(place, put[self.TORQUE] == 1)
        elif set(put) != {self.WATCHDOG} and self._goal:
            self._say(f"servo {servo}: registers {min(put)} to {max(put)} are set under torque")

    def _lead(self, place: int, put: dict[int, int]) -> None:
        watchdog, power = round(self.line.watchdog_s / 0.02), self._word(put, self.PWM)
        if put.get(self.WATCHDOG) != watchdog or not 0 < power <= self.line.power * 885:
            self._say(f"servo {self.line.ids[place - 1]}: a goal with watchdog {put.get(self.WATCHDOG)}, PWM {power}")
        raw = bytes(put[self.GOAL + k] for k in range(4))
        self._goal_at(place, int.from_bytes(raw, "little", signed=True))

    def _said_to_all(self, address: int, data: bytes) -> None:
        if (address, data) == (self.TORQUE, b"\0"):
            self._now.all_off = True
            self._now.stopped |= set(self._place.values())
        elif (address, data) != (self.WATCHDOG, b"\0"):
            self._say(f"everybody is told {data.hex()} at {address}")

    @staticmethod
    def _word(put: dict[int, int], at: int) -> int:
        return put.get(at, 0) | put.get(at + 1, 0) << 8

    def reading(self, says: dict[int, int]) -> tuple[int, int] | None:
        raw = bytes(says.get(self.POSITION + k, 0) for k in range(4))
        if says.get(self.LEVEL, 2) != 2 or self.POSITION not in says:  # it has lost what the start set up
            return None
        mode = 0 if not says.get(self.TORQUE) else 11 if says.get(self.WATCHDOG) == 0xFF else 10
        return int.from_bytes(raw, "little", signed=True), mode


class FeetechWitness(LineWitness):
    """STS3215: no watchdog, so every goal has its speed with it."""

    wide = 1
    TORQUE, GOAL, PWM, SPEED, LIMIT, POSITION = 40, 42, 44, 46, 48, 56

    def frames(self, data: bytes, answers: bool) -> Iterator[Frame | None]:
        return feetech(data, answers)

    def told(self, place: int, put: dict[int, int]) -> None:
        if min(put) < self.TORQUE:
            self._say(f"servo {self.line.ids[place - 1]}: its EEPROM is written at {min(put)}")
        elif self.GOAL in put:
            self._lead(place, put)
        elif put == {self.TORQUE: 2}:
            self._now.damped.add(place)
        elif set(put) == {self.TORQUE} and put[self.TORQUE] in (0, 1):
            self._torque(place, put[self.TORQUE] == 1)
        else:
            self._say(f"servo {self.line.ids[place - 1]}: {put}")

    def _lead(self, place: int, put: dict[int, int]) -> None:
        pwm, speed, limit = (put.get(at, 0) | put.get(at + 1, 0) << 8 for at in (self.PWM, self.SPEED, self.LIMIT))
        if pwm or not 0 < speed <= math.ceil(self.line.speed / TICK) or not 0 < limit <= self.line.power * 1000:
            self._say(f"servo {self.line.ids[place - 1]}: a goal with PWM {pwm}, speed {speed}, torque {limit}")
        self._goal_at(place, _signed(put[self.GOAL] | put[self.GOAL + 1] << 8))

    def _said_to_all(self, address: int, data: bytes) -> None:
        if (address, data) != (self.TORQUE, b"\0"):
            return self._say(f"everybody is told {data.hex()} at {address}")
        self._now.all_off = True
        self._now.stopped |= set(self._place.values())

    def reading(self, says: dict[int, int]) -> tuple[int, int] | None:
        if self.POSITION + 1 not in says or self.TORQUE not in says:
            return None
        return _signed(says[self.POSITION] | says[self.POSITION + 1] << 8), 10 if says[self.TORQUE] else 0


class LineTap(Tap):
    """A byte that a lost port does not take was not on the wire."""

    def receive(self, data: bytes) -> None:
        self._far.receive(data)
        self._witness.wrote(self._now(), data)


def line_witness(run: dict[str, Any], keep: bool = True) -> LineWitness:
    """For a run as a plain dict (what run.json holds)."""
    run = json.loads(json.dumps(run))
    robot, servos, limits = run["robot"], run["robot"]["servos"], run["robot"]["limits"]
    n = len(servos["ids"])
    bounds = LineBounds(
        tuple(servos["sign"]), tuple(servos["offset"]), tuple(limits["joint_min"]), tuple(limits["joint_max"]),
        limits["slew_rad_s"] / run["task"]["rate_hz"], limits["lead_rad"], 0.0, servos["max_torque"], servos["watchdog_s"],
        tuple(servos["ids"]), tuple(servos["gear"] or [1.0] * n), tuple(robot["stow"] if robot["stop_profile"] == "stow" else ()),
        robot["stop_damp_s"], servos["velocity_limit"], servos["power"],
    )  # fmt: skip
    return (FeetechWitness if servos["protocol"] == "feetech" else DynamixelWitness)(bounds, keep)


def _signed(word: int) -> int:
    """Sign and magnitude, the sign in bit 15."""
    return -(word & 0x7FFF) if word & 0x8000 else word


def _all_off(done: Moment, everyone: set[int]) -> bool:
    return set(done.modes) == everyone and not any(done.modes.values())
