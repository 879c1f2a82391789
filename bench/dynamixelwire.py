"""The packets of a Dynamixel X line, by the e-Manual's protocol 2.0 and X control table (hardware facts 4).

FF FF FD 00 | id | length, two bytes | instruction, or 55 and error | parameters | CRC-16, two bytes. In between each FF FF FD is
followed by one more FD. Registers by address, little-endian, two's complement: 64 torque, 98 bus watchdog, 100 goal PWM, 116
goal position, 132 present position. From 168 on stand the addresses of what 224 and the following show: who drives such a line
writes them at its start, so what its cycles ask and tell is known from its own words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from wirelines import Bytes, Chunks, Line, Reading, Robot, packets

PING, READ, WRITE, STATUS, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x55, 0x82, 0x83
ALL = 0xFE
TORQUE, WATCHDOG, PWM, GOAL, POSITION = 64, 98, 100, 116, 132
POINTERS, SHOWN, SLOTS = 168, 224, 28
RAM = (98, 80, 84, 88, 108, 112)  # that a start may write to one servo: watchdog, gains, profile
HEADER = b"\xff\xff\xfd\x00"
STEP = math.tau / 4096  # rad
TURNS = 4  # cycles, each of which asks for another number of bytes
FIRST = 1  # more than the least, with which who takes the port begins
TABLE: list[int] = []


def _row(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ 0x8005) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


TABLE += [_row(byte) for byte in range(256)]


def crc(data: bytes) -> int:
    found = 0
    for byte in data:
        found = (found << 8 & 0xFFFF) ^ TABLE[found >> 8 ^ byte]
    return found


def packet(data: bytes, at: int) -> int:
    """Where the sound packet ends that begins here; 0 where none does."""
    if data[at : at + 4] != HEADER or len(data) < at + 10:
        return 0
    end = at + 7 + int.from_bytes(data[at + 5 : at + 7], "little")
    if not at + 10 <= end <= len(data):
        return 0
    return end if crc(data[at : end - 2]) == int.from_bytes(data[end - 2 : end], "little") else 0


def signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


class DynamixelWire:
    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self._shows: dict[int, int] = {}  # a register, by the address at which it is shown
        self._least = 0  # bytes of a cycle's question

    def lines(self, chunks: Chunks) -> list[Line]:
        out: list[Line] = []
        for t, piece, sound in packets(chunks, packet):
            if sound:
                out += self._words(t, piece)
            else:
                begun = piece.startswith(HEADER[: len(piece)])
                out.append(Line(t, "torn" if begun else "", text=piece.hex()))
        return out

    def _words(self, t: int, frame: bytes) -> list[Line]:
        servo, instruction, params = frame[4], frame[7], frame[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        known, address, size = (
            servo in self.robot.ids,
            int.from_bytes(params[:2], "little"),
            int.from_bytes(params[2:4], "little"),
        )
        if instruction == SYNC_READ and servo == ALL:
            return self._question(t, address, size, list(params[4:]))
        if instruction == SYNC_WRITE and servo == ALL and size and (len(params) - 4) % (size + 1) == 0:
            rows = [params[at : at + size + 1] for at in range(4, len(params), size + 1)]
            words = [self._told(t, row[0], address, row[1:]) for row in rows if row[0] in self.robot.ids]
            if len(words) == len(rows) and all(word.kind for word in words):
                return words
        if instruction == WRITE and known and address == POINTERS:
            self._point(params[2:])
            return [Line(t, "talk", servo)]
        if instruction == WRITE and servo == ALL and (address, params[2:]) in ((TORQUE, b"\0"), (WATCHDOG, b"\0")):
            return [Line(t, "stop" if address == TORQUE else "talk", i) for i in self.robot.ids]
        if instruction in (PING, READ) or (instruction == WRITE and known and address in RAM):
            return [Line(t, "talk", servo)]
        return [Line(t, "", servo, text=frame.hex())]

    def _point(self, pointers: bytes) -> None:
        for at in range(0, len(pointers) - 1, 2):
            self._shows[SHOWN + at // 2] = int.from_bytes(pointers[at : at + 2], "little")

    def _question(self, t: int, address: int, size: int, ids: list[int]) -> list[Line]:
        """Of a cycle; or of one servo that may have lost its pointers, and is asked where everything always is."""
        if address == SHOWN:
            self._least = min(self._least or size, size)
        elif not (address == TORQUE and len(ids) == 1):
            return [Line(t, "", text=f"asks for {size} bytes at {address}")]
        cycle = address == SHOWN and sorted(ids) == sorted(self.robot.ids)
        return [Line(t, "ask", i, host=size, cycle=cycle and i == ids[0]) for i in ids]

    def _told(self, t: int, servo: int, address: int, data: bytes) -> Line:
        """What one servo is told by a synchronous write; no kind where no driver says so."""
        registers = {self._shows.get(at, at): byte for at, byte in enumerate(data, address)}
        if set(registers) == {TORQUE}:
            return Line(t, {0: "stop", 1: "on"}.get(registers[TORQUE], ""), servo)
        if set(registers) == {WATCHDOG}:
            return Line(t, "talk", servo)
        if set(registers) != {WATCHDOG, PWM, PWM + 1, *range(GOAL, GOAL + 4)} or not 0 < registers[WATCHDOG] < 128:
            return Line(t, "", servo, text=data.hex())
        if not registers[PWM] and not registers[PWM + 1]:
            return Line(t, "damp", servo)
        goal = signed(bytes(registers[at] for at in range(GOAL, GOAL + 4)))
        return Line(t, "goal", servo, self.robot.angle(servo, goal * STEP))

    def readings(self, chunks: Chunks) -> list[Reading]:
        """Of what `lines` has heard of, which comes first: what the answers show is what was asked."""
        return [reading for t, frame in self._answers(Bytes(chunks)) for reading in self._reading(t, frame)]

    def _answers(self, line: Bytes) -> Iterator[tuple[int, bytes]]:
        at = -1
        while (at := line.data.find(HEADER, at + 1)) >= 0:
            if (end := packet(line.data, at)) and line.data[at + 7] == STATUS:
                yield line.time(end - 1), line.data[at:end]

    def _reading(self, t: int, frame: bytes) -> Iterable[Reading]:
        servo, data = frame[4], frame[9:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        registers = {self._shows.get(at, -1): byte for at, byte in enumerate(data, SHOWN)}
        if len(data) == POSITION + 15 - TORQUE:  # where everything always is
            registers = dict(enumerate(data, TORQUE))
        position = [registers.get(at, -1) for at in range(POSITION, POSITION + 4)]
        if servo not in self.robot.ids or not {TORQUE, WATCHDOG} <= registers.keys() or min(position) < 0:
            return
        mode = 0 if not registers[TORQUE] else 11 if registers[WATCHDOG] == 0xFF else 10
        yield Reading(t, servo, len(data), self.robot.angle(servo, signed(bytes(position)) * STEP), mode)

    def follows(self, one: Line, two: Line) -> bool:
        turn = (self._turn(one) + 1) % TURNS
        return self._turn(two) in (FIRST, turn)

    def _turn(self, line: Line) -> int:
        return max(0, line.host - self._least) if line.host - self._least < TURNS else TURNS - 1
