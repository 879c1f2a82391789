"""What a chain of bus servos says to its line and makes of the answers, where the two families differ. Bytes and arrays; no port.

Angles here are the horn's, rad from the encoder's zero; `servo_chain.py` gives them the robot's order, signs and zeros.

Every cycle's question is as many bytes longer than the last as tells them apart (`TURNS` in turn): an answer that comes a
cycle late has another length than was asked for and is never taken for fresh. For that, and to have in one piece what the
tables scatter, a Dynamixel's indirect registers are set up at the start. Status Return Level is among them, which the handshake
makes sure is 2: one that was switched off and on, whose registers point nowhere again, shows 0 there and is known at once. Of a
Feetech all of 40 to 70 is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.drivers import dynamixel, feetech, handshake
from robotrl.drivers.dynamixel_x import INDIRECT_SLOTS, MODELS, XM430, X
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.handshake import Wanted
from robotrl.drivers.sync import DynamixelRead, DynamixelWrite, FeetechRead, FeetechWrite, SyncRead
from robotrl.drivers.tables import Item

TURNS = 4  # an answer would have to be four cycles late to be taken for fresh, and three without one stop the robot
FULL_PWM = 885  # steps of Goal PWM(100)
FULL_TORQUE = 1000  # steps of a Feetech's torque limit
ALERT_ALONE = 128  # fault: the servo says that it has a hardware error and not which
KEPT = 64  # reads
DAMPED = 2  # written to a Feetech's torque enable
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Steps = NDArray[np.int64]


class Reading(NamedTuple):
    """What was heard, (n,) each, of the horns: rad, rad/s, A, degrees, V. Where nothing was heard: nan, 0, False."""

    angle: Floats
    speed: Floats
    amps: Floats
    temp_c: Floats
    volts: Floats
    on: Flags  # torque
    tripped: Flags  # the watchdog has stopped it
    fault: Steps  # hardware error, 0 when healthy
    set_up: Flags  # its RAM is as the start left it


class Line(Protocol):
    """One family's half of a chain. Bytes that nobody answers, unless it says otherwise."""

    servos: config.Servos
    stopping: bytes  # torque off, what a watchdog left is cleared
    stopping_all: bytes  # whatever their numbers

    def asked(self, ids: tuple[int, ...], turn: int) -> SyncRead:
        """The read of a cycle, kept; `turn` in range(TURNS)."""
        ...

    def reading(self, read: SyncRead) -> Reading: ...

    def plain(self, servo: int) -> SyncRead | None:
        """A read of one servo that needs nothing set up; None where `asked` never does."""
        ...

    def goals(self, angles: Floats, power: Floats) -> tuple[bytes, Floats]:
        """Targets (n,) and the share of the supply (n,) that each motor may get; and what the bytes hold, rad. ValueError for
        an angle that is not finite or that no register holds."""
        ...

    def switch_on(self, ids: Sequence[int]) -> bytes: ...

    def damp(self, angles: Floats) -> bytes:
        """Brake by the motors' own back-EMF, wherever they are."""
        ...

    def clear(self, ids: Sequence[int]) -> bytes:
        """Torque off for some, and what a watchdog left is cleared."""
        ...

    def ram(self, servo: int) -> list[tuple[int, bytes]]:
        """Address and bytes of what is set at the start, torque off; each is read back."""
        ...

    def wanted(self) -> list[Wanted]: ...

    def items(self, wanted: Wanted) -> tuple[Item, ...]:
        """What `complaints` has to know."""
        ...

    def complaints(self, wanted: Wanted, read: dict[Item, int]) -> list[str]: ...


def line_of(robot: config.Robot) -> Line:
    """ValueError for a model this cannot speak to."""
    return FeetechLine(robot) if robot.servos.protocol == "feetech" else DynamixelLine(robot)


def spans(robot: config.Robot, tick: float) -> list[tuple[int, int]]:
    """First and last tick that each servo has to be able to go to: its joint's range."""
    servos, out = robot.servos, []
    gears = servos.gear or (1.0,) * len(servos.ids)
    for low, high, sign, gear, offset in zip(robot.lowest, robot.highest, servos.sign, gears, servos.offset, strict=True):
        ends = sorted((sign * at * gear + offset) / tick for at in (low, high))
        out.append((math.ceil(ends[0]), math.floor(ends[1])))
    return out


class _Reads:
    """Reads that were made, by whom they ask and in which turn: making one costs ten cycles' worth of time."""

    def __init__(self) -> None:
        self._made: dict[tuple[tuple[int, ...], int], SyncRead] = {}

    def get(self, key: tuple[tuple[int, ...], int], make: Callable[[], SyncRead]) -> SyncRead:
        if (read := self._made.get(key)) is None:
            if len(self._made) > KEPT:  # who falls silent in ever new orders
                self._made.clear()
            read = self._made[key] = make()
        return read


_FEEDBACK: tuple[Item, ...] = (
    X.TORQUE_ENABLE, X.HARDWARE_ERROR_STATUS, X.BUS_WATCHDOG, X.STATUS_RETURN_LEVEL, XM430.PRESENT_CURRENT, X.PRESENT_VELOCITY,
    X.PRESENT_POSITION, X.PRESENT_INPUT_VOLTAGE, X.PRESENT_TEMPERATURE,
)  # fmt: skip
_SPARE = (X.MOVING, X.MOVING_STATUS, X.LED)  # bytes by which one cycle's question is longer than another's
_COMMANDS: tuple[Item, ...] = (X.BUS_WATCHDOG, X.GOAL_PWM, X.GOAL_POSITION)


def _mapped(items: Sequence[Item], at: int) -> tuple[dict[Item, Item], int]:
    """The same registers where the indirect data show them, from address `at` on; and the address behind them."""
    out = {}
    for item in items:
        out[item] = item._replace(address=at)
        at += item.size
    return out, at


class DynamixelLine:
    """X series with room for all of it: 28 indirect registers. The 330s have 20."""

    def __init__(self, robot: config.Robot) -> None:
        servos = robot.servos
        model = MODELS.get(servos.model)
        if model is None or model.table.INDIRECT_DATA_1 != X.INDIRECT_DATA_1:
            known = ", ".join(f"{n} ({m.name})" for n, m in MODELS.items() if m.table.INDIRECT_DATA_1 == X.INDIRECT_DATA_1)
            raise ValueError(f"servos: no chain for Dynamixel model {servos.model}; it knows {known}")
        self.servos, self._reads, self._spans = servos, _Reads(), spans(robot, X.GOAL_POSITION.scale)
        base = X.INDIRECT_DATA_1.address
        current = getattr(model.table, "PRESENT_CURRENT", None)
        self._amps = current.scale if current is not None else 0.0  # the XL430 shows a load there
        self._shown, behind = _mapped(_FEEDBACK, base)
        spare, behind = _mapped(_SPARE, behind)
        self._told, behind = _mapped(_COMMANDS, behind)
        assert behind - base <= INDIRECT_SLOTS
        self._turns = [(*self._shown.values(), *list(spare.values())[:turn]) for turn in range(TURNS)]
        self._write = DynamixelWrite(servos.ids, tuple(self._told.values()))
        self._write.fill(self._told[X.BUS_WATCHDOG], [self._watchdog] * len(servos.ids))
        self.stopping = self.clear(servos.ids)
        everybody = dynamixel.BROADCAST
        self.stopping_all = dynamixel.make_write(everybody, X.TORQUE_ENABLE.address, b"\0") + dynamixel.make_write(
            everybody, X.BUS_WATCHDOG.address, b"\0"
        )

    @property
    def _watchdog(self) -> int:
        return max(1, round(self.servos.watchdog_s / X.BUS_WATCHDOG.scale))

    def asked(self, ids: tuple[int, ...], turn: int) -> SyncRead:
        return self._reads.get((ids, turn), lambda: DynamixelRead(ids, self._turns[turn]))

    def plain(self, servo: int) -> SyncRead | None:
        return self._reads.get(
            ((servo,), -1), lambda: DynamixelRead((servo,), [i for i in _FEEDBACK if i is not X.STATUS_RETURN_LEVEL])
        )

    def reading(self, read: SyncRead) -> Reading:
        n = len(read.ids)
        shown = self._shown if X.TORQUE_ENABLE not in read.layout.items else {item: item for item in _FEEDBACK}
        bits, alert = read.steps(shown[X.HARDWARE_ERROR_STATUS]), read.error & dynamixel.ALERT != 0
        mapped = shown is self._shown
        return Reading(
            angle=read.values(shown[X.PRESENT_POSITION]),
            speed=read.values(shown[X.PRESENT_VELOCITY]),
            amps=read.steps(shown[XM430.PRESENT_CURRENT]) * self._amps,
            temp_c=read.values(shown[X.PRESENT_TEMPERATURE]),
            volts=read.values(shown[X.PRESENT_INPUT_VOLTAGE]),
            on=read.steps(shown[X.TORQUE_ENABLE]) != 0,
            tripped=read.steps(shown[X.BUS_WATCHDOG]) == -1,
            fault=np.where((bits == 0) & alert, ALERT_ALONE, bits),
            set_up=read.steps(shown[X.STATUS_RETURN_LEVEL]) == handshake.ALL_ANSWERS if mapped else np.zeros(n, bool),
        )

    def goals(self, angles: Floats, power: Floats) -> tuple[bytes, Floats]:
        goal = self._told[X.GOAL_POSITION]
        self._write.fill_values(goal, angles)
        self._write.fill(self._told[X.GOAL_PWM], np.rint(power * FULL_PWM).astype(int))
        return self._write.packet(), np.rint(angles / goal.scale) * goal.scale

    def damp(self, angles: Floats) -> bytes:
        """No voltage, the bridge closed: Goal PWM 0 in position mode."""
        here = np.where(np.isfinite(angles), angles, 0.0)
        return self.goals(here, np.zeros(len(here)))[0]

    def switch_on(self, ids: Sequence[int]) -> bytes:
        return _same_for_all(ids, X.TORQUE_ENABLE, 1)

    def clear(self, ids: Sequence[int]) -> bytes:
        return _same_for_all(ids, X.TORQUE_ENABLE, 0) + _same_for_all(ids, X.BUS_WATCHDOG, 0)

    def ram(self, servo: int) -> list[tuple[int, bytes]]:
        servos = self.servos
        slots = [at for i in (*_FEEDBACK, *_SPARE, *_COMMANDS) for at in range(i.address, i.address + i.size)]
        out = [(X.INDIRECT_ADDRESS_1.address, b"".join(at.to_bytes(2, "little") for at in slots))]
        gains = ((X.POSITION_P_GAIN, servos.position_p), (X.POSITION_D_GAIN, servos.position_d))
        settings = [(X.PROFILE_ACCELERATION, 0), (X.PROFILE_VELOCITY, X.PROFILE_VELOCITY.steps(servos.velocity_limit))]
        settings += [(item, steps) for item, steps in gains if steps >= 0]
        settings += [(X.BUS_WATCHDOG, 0), (X.BUS_WATCHDOG, self._watchdog)]  # 0 first: it may have tripped
        return out + [(item.address, item.encode(steps)) for item, steps in settings]

    def wanted(self) -> list[Wanted]:
        servos = self.servos
        exact = {X.HOMING_OFFSET: 0}  # offsets are kept on the host: one in the servo would be lost with it
        return [
            Wanted(i, joint, servos.model, servos.firmware, baud=servos.baud, watchdog=self._watchdog, exact=exact,
                   most={X.MIN_POSITION_LIMIT: low}, least={X.MAX_POSITION_LIMIT: high})
            for i, joint, (low, high) in zip(servos.ids, servos.joints, self._spans, strict=True)
        ]  # fmt: skip

    def items(self, wanted: Wanted) -> tuple[Item, ...]:
        return handshake.dynamixel_items(wanted)

    def complaints(self, wanted: Wanted, read: dict[Item, int]) -> list[str]:
        return handshake.dynamixel(wanted, read)


def _same_for_all(ids: Sequence[int], item: Item, steps: int) -> bytes:
    write = DynamixelWrite(ids, (item,))
    write.fill(item, [steps] * len(ids))
    return write.packet()


_S = STS3215
_BLOCK: tuple[Item, ...] = (
    _S.TORQUE_ENABLE, _S.PRESENT_POSITION, _S.PRESENT_SPEED, _S.PRESENT_VOLTAGE, _S.PRESENT_TEMPERATURE, _S.STATUS,
    _S.PRESENT_CURRENT,
)  # fmt: skip
_BEFORE = (_S.VELOCITY_I_COEFFICIENT, _S.OVERCURRENT_TIME, _S.VELOCITY_P_COEFFICIENT)  # 39, 38, 37: of no other use here
_GOAL = (_S.GOAL_POSITION, _S.GOAL_PWM, _S.GOAL_SPEED, _S.TORQUE_LIMIT)


class FeetechLine:
    """STS3215. No watchdog: each goal leads by a little and carries its speed; where the host falls silent that is the end."""

    def __init__(self, robot: config.Robot) -> None:
        servos = robot.servos
        self.servos, self._reads, self._spans = servos, _Reads(), spans(robot, _S.GOAL_POSITION.scale)
        self._write = FeetechWrite(servos.ids, _GOAL)
        speed = min(_S.GOAL_SPEED.most, round(servos.velocity_limit / _S.GOAL_SPEED.scale))
        self._write.fill(_S.GOAL_SPEED, [speed] * len(servos.ids))
        self.stopping = self.clear(servos.ids)
        self.stopping_all = feetech.make_write(feetech.BROADCAST, _S.TORQUE_ENABLE.address, b"\0")

    def asked(self, ids: tuple[int, ...], turn: int) -> SyncRead:
        return self._reads.get((ids, turn), lambda: FeetechRead(ids, (*_BEFORE[:turn], *_BLOCK)))

    def plain(self, servo: int) -> SyncRead | None:
        return None

    def reading(self, read: SyncRead) -> Reading:
        n = len(read.ids)
        return Reading(
            angle=read.values(_S.PRESENT_POSITION),
            speed=read.values(_S.PRESENT_SPEED),
            amps=np.nan_to_num(read.values(_S.PRESENT_CURRENT)),
            temp_c=read.values(_S.PRESENT_TEMPERATURE),
            volts=read.values(_S.PRESENT_VOLTAGE),
            on=read.steps(_S.TORQUE_ENABLE) != 0,
            tripped=np.zeros(n, bool),
            fault=read.steps(_S.STATUS) | read.error,
            set_up=np.ones(n, bool),  # what it needs is in each goal
        )

    def goals(self, angles: Floats, power: Floats) -> tuple[bytes, Floats]:
        self._write.fill_values(_S.GOAL_POSITION, angles)
        self._write.fill(_S.TORQUE_LIMIT, np.rint(power * FULL_TORQUE).astype(int))
        return self._write.packet(), np.rint(angles / _S.GOAL_POSITION.scale) * _S.GOAL_POSITION.scale

    def damp(self, angles: Floats) -> bytes:
        return self._torque(self.servos.ids, DAMPED)

    def switch_on(self, ids: Sequence[int]) -> bytes:
        return self._torque(ids, 1)

    def clear(self, ids: Sequence[int]) -> bytes:
        return self._torque(ids, 0)

    def ram(self, servo: int) -> list[tuple[int, bytes]]:
        return []

    def wanted(self) -> list[Wanted]:
        servos = self.servos
        gains = ((_S.P_COEFFICIENT, servos.position_p), (_S.D_COEFFICIENT, servos.position_d))
        exact = {item: steps for item, steps in gains if steps >= 0}
        return [
            Wanted(i, joint, servos.model, servos.firmware, mode=0, baud=servos.baud, exact=exact,
                   most={_S.MIN_POSITION_LIMIT: low}, least={_S.MAX_POSITION_LIMIT: high})
            for i, joint, (low, high) in zip(servos.ids, servos.joints, self._spans, strict=True)
        ]  # fmt: skip

    def items(self, wanted: Wanted) -> tuple[Item, ...]:
        return handshake.feetech_items(wanted)

    def complaints(self, wanted: Wanted, read: dict[Item, int]) -> list[str]:
        return handshake.feetech(wanted, read)

    @staticmethod
    def _torque(ids: Sequence[int], value: int) -> bytes:
        write = FeetechWrite(ids, (_S.TORQUE_ENABLE,))
        write.fill(_S.TORQUE_ENABLE, [value] * len(ids))
        return write.packet()
