"""The Feetech half of a chain: STS3215. What no watchdog bounds, each goal does: it leads by little and carries its speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from robotrl import config
from robotrl.drivers import feetech, handshake
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.handshake import Wanted
from robotrl.drivers.servo_line import Floats, Reading, Reads, bounds, spans
from robotrl.drivers.sync import FeetechRead, FeetechWrite, SyncRead
from robotrl.drivers.tables import Item

FULL_TORQUE = 1000  # steps of a torque limit
DAMPED = 2  # written to torque enable
_S = STS3215
_BLOCK: tuple[Item, ...] = (
    _S.TORQUE_ENABLE, _S.GOAL_POSITION, _S.PRESENT_POSITION, _S.PRESENT_SPEED, _S.PRESENT_VOLTAGE, _S.PRESENT_TEMPERATURE,
    _S.STATUS, _S.PRESENT_CURRENT, _S.TORQUE_LIMIT,
)  # fmt: skip
_BEFORE = (_S.VELOCITY_I_COEFFICIENT, _S.OVERCURRENT_TIME, _S.VELOCITY_P_COEFFICIENT)  # 39, 38, 37: of no other use here
# As the maker sets them (hardware facts 5): no watchdog stops it, and this is what ends a push against something.
_OVERLOAD = {_S.OVERLOAD_TORQUE: 80, _S.PROTECTION_TIME: 200, _S.PROTECTIVE_TORQUE: 20, _S.OVERCURRENT_TIME: 200}
_GOAL = (_S.GOAL_POSITION, _S.GOAL_PWM, _S.GOAL_SPEED, _S.TORQUE_LIMIT)


class FeetechLine:
    """STS3215. No watchdog: each goal leads by a little and carries its speed; where the host falls silent that is the end."""

    fault = _S.STATUS
    own: tuple[Item, ...] = (_S.MAX_TORQUE_LIMIT,)

    def __init__(self, robot: config.Robot) -> None:
        servos = robot.servos
        self.servos, self._reads, self._spans = servos, Reads(), spans(robot, _S.GOAL_POSITION.scale)
        self._name, self.tick = robot.name, _S.GOAL_POSITION.scale
        self._write = FeetechWrite(servos.ids, _GOAL)
        speed = min(_S.GOAL_SPEED.most, round(servos.velocity_limit / _S.GOAL_SPEED.scale))
        self._write.fill(_S.GOAL_SPEED, [speed] * len(servos.ids))
        self._power = b""
        # Steps that each one's owner allows it (16), and no goal exceeds: the servo only begins with it. nan: not known yet.
        self._own = np.full(len(servos.ids), math.nan)
        self.stopping = self.clear(servos.ids)
        self.stopping_all = feetech.make_write(feetech.BROADCAST, _S.TORQUE_ENABLE.address, b"\0")

    def asked(self, ids: tuple[int, ...], turn: int) -> SyncRead:
        return self._reads.get((ids, turn), lambda: FeetechRead(ids, (*_BEFORE[:turn], *_BLOCK)))

    def plain(self, servo: int) -> SyncRead | None:
        return None

    def reading(self, read: SyncRead) -> Reading:
        n = len(read.ids)
        if np.isnan(self._own).any():
            self._leave(read)
        return Reading(
            angle=read.values(_S.PRESENT_POSITION),
            speed=read.values(_S.PRESENT_SPEED),
            amps=np.nan_to_num(read.values(_S.PRESENT_CURRENT)),
            temp_c=read.values(_S.PRESENT_TEMPERATURE),
            volts=read.values(_S.PRESENT_VOLTAGE),
            on=read.steps(_S.TORQUE_ENABLE) != 0,
            tripped=np.zeros(n, bool),
            unwatched=np.zeros(n, bool),  # no more than any of its kind
            fault=read.steps(_S.STATUS) | read.error,
            set_up=np.ones(n, bool),  # what it needs is in each goal
            goal=read.values(_S.GOAL_POSITION),
        )

    def goals(self, angles: Floats, power: Floats, but: Sequence[int] = ()) -> tuple[bytes, Floats]:
        self._write.fill_values(_S.GOAL_POSITION, angles)
        if (limit := power.tobytes()) != self._power:  # it seldom changes
            self._write.fill(_S.TORQUE_LIMIT, np.fmin(np.rint(power * FULL_TORQUE), self._own).astype(int))
            self._power = limit
        return self._write.packet(but), np.rint(angles / _S.GOAL_POSITION.scale) * _S.GOAL_POSITION.scale

    def damp(self, angles: Floats) -> bytes:
        return self._torque(self.servos.ids, DAMPED)

    def switch_on(self, ids: Sequence[int]) -> bytes:
        return self._torque(ids, 1)

    def clear(self, ids: Sequence[int]) -> bytes:
        return self._torque(ids, 0)

    def forgive(self, ids: Sequence[int]) -> bytes:
        return b""

    def ram(self, servo: int) -> list[tuple[int, bytes]]:
        """LeRobot leaves the lock open, and EPROM keeps what it is told. Acceleration as after power-on, without a bound: with a
        small one, which another program has left, an arm is not down before its stop is over, and is let go where it is."""
        return [(item.address, item.encode(steps)) for item, steps in ((_S.LOCK, 1), (_S.ACCELERATION, 0))]

    quiet_ram = ram

    def heed(self, servo: int, read: Mapping[Item, int]) -> None:
        if (most := read.get(_S.MAX_TORQUE_LIMIT)) is not None:
            self._own[self.servos.ids.index(servo)], self._power = min(most, FULL_TORQUE), b""

    def _leave(self, read: SyncRead) -> None:
        """Who was never asked for his own limit, as by a rescue, which has no time for it, gets no more than he has."""
        for servo, limit, heard in zip(read.ids, read.steps(_S.TORQUE_LIMIT), read.heard, strict=True):
            if heard and np.isnan(self._own[i := self.servos.ids.index(servo)]):
                self._own[i], self._power = min(limit, FULL_TORQUE), b""

    def wanted(self) -> list[Wanted]:
        servos = self.servos
        gains = ((_S.P_COEFFICIENT, servos.position_p), (_S.D_COEFFICIENT, servos.position_d))
        exact = {item: steps for item, steps in gains if steps >= 0}
        own = servos.protection
        most = {_S.MAX_TORQUE_LIMIT: FULL_TORQUE}
        most |= bounds(((_S.MAX_TEMPERATURE_LIMIT, own.temp_c), (_S.MAX_VOLTAGE_LIMIT, own.volts_max),
                       (_S.MAX_TORQUE_LIMIT, own.pwm), (_S.PROTECTION_CURRENT, own.amps)))  # fmt: skip
        least = bounds(((_S.MIN_VOLTAGE_LIMIT, own.volts_min),))
        return [
            Wanted(i, joint, servos.model, servos.firmware, mode=0, baud=servos.baud, exact=exact,
                   most={_S.MIN_POSITION_LIMIT: low, **most, **_OVERLOAD}, least={_S.MAX_POSITION_LIMIT: high, **least},
                   robot=self._name)
            for i, joint, (low, high) in zip(servos.ids, servos.joints, self._spans, strict=True)
        ]  # fmt: skip

    def items(self, wanted: Wanted) -> tuple[Item, ...]:
        return handshake.feetech_items(wanted)

    def complaints(self, wanted: Wanted, read: dict[Item, int]) -> list[str]:
        return handshake.feetech(wanted, read)

    def settings(self, wanted: Wanted, read: dict[Item, int]) -> dict[Item, int]:
        return handshake.feetech_settings(wanted, read)

    @staticmethod
    def _torque(ids: Sequence[int], value: int) -> bytes:
        write = FeetechWrite(ids, (_S.TORQUE_ENABLE,))
        write.fill(_S.TORQUE_ENABLE, [value] * len(ids))
        return write.packet()
