"""The far end of the servo wire: moteus servos behind an fdcanusb adapter, byte for byte.

A frame is answered with the servo's state as it was before the frame's own command, as the firmware does it. Where bytes take
their time, a servo takes TURN_NS before it answers, so eight queries take about 1.5 ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robotrl import config
from robotrl.clock import Clock
from robotrl.sim.blocks import CACHE, Blocks, Spoken, row_of
from robotrl.sim.diagnostic import Diagnostic
from robotrl.sim.fdcanusb import OK, USB_NS, Adapter
from robotrl.sim.firmware import NM_PER_A, TURN
from robotrl.sim.layouts import Chorus, Plan, Reply
from robotrl.sim.liars import Lies
from robotrl.sim.noise import Normals
from robotrl.sim.registers import (
    COMMAND,
    IDENTITY,
    INTEGER,
    MODES,
    STATUS,
    TELEMETRY,
    Frame,
    Scale,
    dissect,
    value_of,
)
from robotrl.sim.servo import Physics, ServoBank

TURN_NS = 40_000
BROADCAST = 0x7F

Address = tuple[tuple[int, ...], int, bool]  # servos, host, answer wanted


class MoteusBus(Adapter):
    """FarEnd of the servo port, and `drive`, the servos' own control law. With a `clock`, bytes take their time on the wire."""

    def __init__(
        self,
        world: Physics,
        servos: config.Servos,
        twin: config.Twin,
        rng: np.random.Generator,
        clock: Clock | None = None,
        quick: Callable[[Reply, Sequence[int], Sequence[bytes]], Spoken] | None = None,
    ) -> None:
        """`quick` makes what does the same as a `Chorus`, faster."""
        super().__init__(clock if twin.wire_time else None)
        self.world = world
        self.bank = ServoBank(world, servos, twin)
        self.drive = self.bank.drive
        self.lies = Lies()
        self.ids = {can: i for i, can in enumerate(servos.ids)}
        self._canid = list(servos.ids)
        self.boards = list(servos.ids)  # their serial numbers
        self._noise, self._normals = twin.joint_noise_rad, Normals(rng)
        self._consoles = [Diagnostic(self.bank, i) for i in range(self.bank.count)]
        self._plans: dict[tuple[int, bytes], list[Plan]] = {}
        self._addresses: dict[bytes, Address] = {}
        self._known: dict[bytes, tuple[int, int, int, Plan]] = {}  # whole lines of queries: size, servo, host, plan
        self._quick = quick
        self._blocks = Blocks(self._address, self._plan, self._chorus)
        self._seen = (-1.0, -1)  # time and changes that `_telemetry` is from
        self._telemetry = np.zeros((self.bank.count, 16), np.float32)
        self._answers: dict[tuple[Plan, int, bool], list[bytes]] = {}  # by plan and host: the lines of all servos

    def now(self) -> float:
        """Virtual time, s."""
        return self.world.time

    def receive(self, data: bytes) -> None:
        """Bytes from the host; lines may be cut anywhere and come many at once. Nothing is raised for any bytes."""
        self.bank.tick()
        whole = self._clock is None and not self._partial and not self.checked
        if whole and (self._ask_again(data) or self._move_on(data)):
            return
        super().receive(data)
        if whole and not self._partial and not self.checked:
            self._blocks.remember(data, self._known)

    # ---- whole writes

    def _ask_again(self, data: bytes) -> bool:
        answer = self._blocks.queries.get(data)
        if answer is None:
            return False
        self._look()
        self._out.append(answer(self._telemetry))
        return True

    def _chorus(self, servos: list[int], host: int, reply: Reply) -> Spoken:
        heads = [OK + self._head(servo, host) for servo in servos]
        return (self._quick or Chorus)(reply, servos, heads)

    def _move_on(self, data: bytes) -> bool:
        commands = self._blocks.goals(data)
        if commands is None:
            return False
        self.bank.aim(commands)
        self._out.append(OK * len(commands))
        return True

    # ---- frames

    def _known_line(self, line: bytes) -> bool:
        known = self._known.get(line)
        if known is None:
            return False
        size, servo, host, plan = known
        self._accept(size)
        self._answer(servo, host, plan)
        return True

    def _address(self, word: bytes) -> Address:
        """The servos meant, the host's number, whether an answer is wanted. ValueError when it is no hexadecimal number."""
        address = self._addresses.get(word)
        if address is None:
            canid = int(word, 16)
            target = canid & 0x7F
            all_of_them = tuple(range(self.bank.count)) if target == BROADCAST else ()
            servos = (self.ids[target],) if target in self.ids else all_of_them
            if canid >> 16:  # a prefix that no servo is configured for
                servos = ()
            address = (servos, canid >> 8 & 0x7F, bool(canid & 0x8000))
            if len(self._addresses) < CACHE:
                self._addresses[word] = address
        return address

    def _frame(self, address: Address, data: bytes, line: bytes) -> None:
        servos, host, wanted = address
        if not servos:
            return  # nobody there listens
        plan, values, frame = self._plan(data)
        if frame is not None:
            for servo in servos:
                self._streams(servo, host, frame)
        if wanted and plan.is_query and plan.reply and frame is None and len(servos) == 1 and len(self._known) < CACHE:
            self._known[line] = (len(data), servos[0], host, plan)
        for servo in servos:
            if wanted:
                self._answer(servo, host, plan)
            if not plan.is_query:
                self._apply(servo, plan, values)

    def _plan(self, data: bytes) -> tuple[Plan, tuple[Any, ...], Frame | None]:
        """The frame's layout and values; the frame itself too when it has a part for the diagnostic channel."""
        key = (len(data), data[:4])
        plans = self._plans.get(key)
        if plans:
            for plan in plans:
                values = plan.match(data)
                if values is not None:
                    return plan, values, None
        frame = dissect(data)
        plan = Plan(data, frame)
        values = plan.match(data) or ()
        if frame.streams:
            return plan, values, frame  # its bytes are no layout to remember
        if len(self._plans) > CACHE:
            self._plans.clear()
        plans = self._plans.setdefault(key, [])
        plans.insert(0, plan)
        del plans[8:]
        return plan, values, None

    def _apply(self, servo: int, plan: Plan, values: tuple[Any, ...]) -> None:
        for register, place, scale, nan in plan.actions:
            self._act(servo, register, value_of(values[place], scale, nan))
        if plan.mode < 0:
            return  # values without a mode wait for one that would reset them
        mode = values[plan.mode]
        if mode not in MODES:
            return
        self.bank.obey(servo, int(mode), row_of(plan, values))

    def _act(self, servo: int, register: int, value: float) -> None:
        """Set output, nearest turn or exactly: the servo's zero moves, the motor does not."""
        if register not in (0x130, 0x131) or not math.isfinite(value):
            return
        bank = self.bank
        turns = (bank.sign[servo] * self.world.angle[servo] + bank.offset[servo]) / TURN
        move = value - turns
        bank.offset[servo] += (round(move) if register == 0x130 else move) * TURN
        bank.reconfigured()

    # ---- answers

    def _answer(self, servo: int, host: int, plan: Plan) -> None:
        reply = plan.reply
        if reply is None:
            return
        if not reply.bulk:
            self._look()
            self._say_reply(self._reply(servo, host, reply.of_one(lambda register: self._read(servo, register))))
            return
        self._say_reply(self._lines(host, plan)[servo])

    def _lines(self, host: int, plan: Plan) -> list[bytes]:
        """The lines with which all servos answer, as they are now."""
        self._look()
        key = (plan, host, self.checked)
        lines = self._answers.get(key)
        if lines is None:
            assert plan.reply is not None
            texts = plan.reply.of_all(self._telemetry)
            lines = self._answers[key] = [self._reply(i, host, text) for i, text in enumerate(texts)]
        return lines

    def _reply(self, servo: int, host: int, text: str) -> bytes:
        return self._ended(self._head(servo, host) + text.encode())

    def _head(self, servo: int, host: int) -> bytes:
        return b"rcv %x " % (self._canid[servo] << 8 | host)

    def _say_reply(self, line: bytes) -> None:
        if self._clock is None:
            self._out.append(line)
        else:
            self._bus_free += TURN_NS
            self._say(line, self._carry(len(line) // 2 - 4) + USB_NS)

    def _look(self) -> None:
        """Take the servos' state of this moment, once however many ask."""
        seen = (self.world.time, self.bank.changes)
        if seen == self._seen:
            return
        noise = self._normals.take(self.bank.count) * self._noise
        self._telemetry = self.lies.over(self.bank.telemetry(noise))
        self._seen = (self.world.time, self.bank.changes)
        self._answers.clear()

    def _read(self, servo: int, register: int) -> tuple[float, Scale]:
        """One register of one servo, in its unit."""
        bank = self.bank
        if register in TELEMETRY:
            return float(self._telemetry[servo, register]), TELEMETRY[register]
        if register in COMMAND:
            column, scale = COMMAND[register]
            return float(bank.command[servo][column]), scale
        if register in IDENTITY:
            return IDENTITY[register], INTEGER
        if 0x120 <= register <= 0x122:
            return self.boards[servo] if register == 0x120 else 0, INTEGER
        return self._status(servo, register), STATUS[register]

    def _status(self, servo: int, register: int) -> float:
        bank, row = self.bank, self._telemetry[servo]
        if register in (0x38, 0x39, 0x3B, 0x3C):
            sign, offset = float(bank.sign[servo]), float(bank.offset[servo])
            position = (sign * float(bank.ramp.place[servo]) + offset) / TURN
            speed = sign * float(bank.ramp.speed[servo]) / TURN
            return {0x38: position, 0x39: speed, 0x3B: float(row[1]) - position, 0x3C: float(row[2]) - speed}[register]
        if register in (0x34, 0x3A):
            return float(row[4]) * NM_PER_A
        if register == 0x33:
            return float(bank.command[servo][2])
        if register == 0x70:
            return int(self.world.time * 1000) & 0x7FFFFFFF
        return {0x50: float(row[1]), 0x51: float(row[2]), 0x58: 3.0}.get(register, 0.0)

    # ---- the diagnostic channel

    def _streams(self, servo: int, host: int, frame: Frame) -> None:
        console = self._consoles[servo]
        for code, channel, number, length, payload in frame.streams:
            if channel != 1:
                continue
            if code == 0x40:
                console.write(payload)
            elif code == 0x42:
                data = console.read(min(length, 61))
                data = bytes([0x41, channel, len(data)]) + data
                self._say_reply(self._reply(servo, host, data.hex()))
            else:
                number, data = console.read_flow(number, min(length, 60))
                data = bytes([0x43, channel, number, len(data)]) + data
                self._say_reply(self._reply(servo, host, data.hex()))
