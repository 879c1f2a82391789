"""The registers that the witness of a line reads, by either family's table (hardware facts 4.2, 5)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from tests.safety.lineframes import Frame, dynamixel, feetech
from tests.safety.linewitness import TICK, LineBounds, LineWitness
from tests.safety.witness import INWARD


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
    TORQUE, ACCELERATION, GOAL, PWM, SPEED, LIMIT, LOCK, POSITION = 40, 41, 42, 44, 46, 48, 55, 56

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
        elif put not in ({self.LOCK: 1}, {self.ACCELERATION: 0}):  # at the start; open it would let EEPROM be written
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


def line_witness(run: dict[str, Any], keep: bool = True) -> LineWitness:
    """For a run as a plain dict (what run.json holds)."""
    run = json.loads(json.dumps(run))
    robot, servos, limits = run["robot"], run["robot"]["servos"], run["robot"]["limits"]
    n = len(servos["ids"])
    bounds = LineBounds(
        tuple(servos["sign"]), tuple(servos["offset"]), tuple(limits["joint_min"]), tuple(limits["joint_max"]),
        limits["slew_rad_s"] / run["task"]["rate_hz"], limits["lead_rad"], 0.0, servos["max_torque"], servos["watchdog_s"],
        tuple(servos["ids"]), tuple(servos["gear"] or [1.0] * n), tuple(robot["stow"] if robot["stop_profile"] == "stow" else ()),
        robot["stop_damp_s"], servos["velocity_limit"], servos["power"], inward=INWARD / run["task"]["rate_hz"],
    )  # fmt: skip
    return (FeetechWitness if servos["protocol"] == "feetech" else DynamixelWitness)(bounds, keep)


def _signed(word: int) -> int:
    """Sign and magnitude, the sign in bit 15."""
    return -(word & 0x7FFF) if word & 0x8000 else word
