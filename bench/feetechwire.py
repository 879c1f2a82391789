"""The packets of a Feetech STS line, by the maker's protocol manual and memory table of its STS servos (hardware facts 5).

FF FF | id | length | instruction, or error | parameters | inverted sum. Registers by address, little-endian, positions signed by
their bit 15: 40 torque (0 off, 1 on, 2 brakes), 41 acceleration (0 the most), 42 goal, 44 time or PWM, 46 speed, 48 torque
limit, 55 lock, 56 position. A cycle's question ends with 70; four of them differ in where they begin, which is how an answer is
known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from wirelines import Bytes, Chunks, Line, Reading, Robot, packets

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
ALL = 0xFE
TORQUE, ACCELERATION, GOAL, LOCK, POSITION, LAST = 40, 41, 42, 55, 56, 70
ASKED = (31, 32, 33, 34)  # bytes of a cycle's question, in turn
FIRST = 32  # with which who takes the port begins
STEP = math.tau / 4096  # rad; of a speed rad/s
TORQUES = {0: "stop", 1: "on", 2: "damp"}


def signed(two: bytes) -> int:
    raw = int.from_bytes(two, "little")
    return -(raw & 0x7FFF) if raw & 0x8000 else raw


def packet(data: bytes, at: int) -> int:
    """Where the sound packet ends that begins here; 0 where none does."""
    if data[at : at + 2] != b"\xff\xff" or len(data) < at + 6 or data[at + 2] == 0xFF or data[at + 3] < 2:
        return 0
    end = at + 4 + data[at + 3]
    return end if end <= len(data) and data[end - 1] == ~sum(data[at + 2 : end - 1]) & 0xFF else 0


class FeetechWire:
    def __init__(self, robot: Robot) -> None:
        self.robot = robot

    def lines(self, chunks: Chunks) -> list[Line]:
        out: list[Line] = []
        for t, piece, sound in packets(chunks, packet):
            if sound:
                out += self._words(t, piece)
            else:
                begun = piece[:2] == b"\xff\xff"[: len(piece)] and (len(piece) < 4 or len(piece) < 4 + piece[3])
                out.append(Line(t, "torn" if begun else "", text=piece.hex()))
        return out

    def _words(self, t: int, frame: bytes) -> list[Line]:
        servo, instruction, params = frame[2], frame[4], frame[5:-1]
        known = servo in self.robot.ids
        if instruction == SYNC_READ and servo == ALL and params[0] + params[1] == LAST + 1 and params[1] in ASKED:
            ids, all_of_them = list(params[2:]), sorted(params[2:]) == sorted(self.robot.ids)
            return [Line(t, "ask", i, host=params[1], cycle=all_of_them and i == ids[0]) for i in ids]
        if instruction == SYNC_WRITE and servo == ALL and (len(params) - 2) % (params[1] + 1) == 0:
            size = params[1] + 1
            rows = [params[at : at + size] for at in range(2, len(params), size)]
            if all(row[0] in self.robot.ids for row in rows) and (words := self._written(t, params[0], rows)):
                return words
        if instruction == WRITE and servo == ALL and params == bytes((TORQUE, 0)):
            return [Line(t, "stop", i) for i in self.robot.ids]
        if instruction == WRITE and known and params in (bytes((LOCK, 1)), bytes((ACCELERATION, 0))):
            return [Line(t, "talk", servo)]
        if instruction in (PING, READ):  # also of who may stand in a missing one's place
            return [Line(t, "talk", servo)]
        return [Line(t, "", servo, text=frame.hex())]

    def _written(self, t: int, address: int, rows: list[bytes]) -> list[Line]:
        """A synchronous write; nothing where it is none that a driver makes."""
        if address == TORQUE and len(rows[0]) == 2 and rows[0][1] in TORQUES:
            return [Line(t, TORQUES.get(row[1], ""), row[0]) for row in rows]
        if address == GOAL and len(rows[0]) == 9:
            return [self._goal(t, row) for row in rows]
        return []

    def _goal(self, t: int, row: bytes) -> Line:
        """Its speed 0 is the most that the servo can."""
        speed = signed(row[5:7]) * STEP or math.inf
        return Line(t, "goal", row[0], self.robot.angle(row[0], signed(row[1:3]) * STEP), speed=speed)

    def readings(self, chunks: Chunks) -> list[Reading]:
        return [reading for t, frame in self._answers(Bytes(chunks)) if (reading := self._reading(t, frame))]

    def _answers(self, line: Bytes) -> Iterator[tuple[int, bytes]]:
        """Whatever is a sound packet, wherever it begins: which of them a host takes for one nobody knows."""
        at = -1
        while (at := line.data.find(b"\xff\xff", at + 1)) >= 0:
            if end := packet(line.data, at):
                yield line.time(end - 1), line.data[at:end]

    def _reading(self, t: int, frame: bytes) -> Reading | None:
        servo, size, data = frame[2], len(frame) - 6, frame[5:-1]
        if servo not in self.robot.ids or size not in ASKED:
            return None
        first = LAST + 1 - size
        position, torque = signed(data[POSITION - first : POSITION - first + 2]), data[TORQUE - first]
        return Reading(t, servo, size, self.robot.angle(servo, position * STEP), 10 if torque else 0)

    def follows(self, one: Line, two: Line) -> bool:
        turn = ASKED[(ASKED.index(one.host) + 1) % len(ASKED)]
        return two.host in (FIRST, turn)
