"""The Dynamixel half of a chain: X series, by indirect registers, with the bus watchdog in every command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from robotrl import config
from robotrl.drivers import dynamixel, handshake
from robotrl.drivers.dynamixel_x import INDIRECT_SLOTS, MODELS, XM430, Model, X
from robotrl.drivers.handshake import Wanted
from robotrl.drivers.port import DeviceError
from robotrl.drivers.servo_line import TURNS, Floats, Reading, Reads, bounds, spans
from robotrl.drivers.sync import DynamixelRead, DynamixelWrite, SyncRead
from robotrl.drivers.tables import Item

FULL_PWM = 885  # steps of Goal PWM(100)
ALERT_ALONE = 128  # fault: the servo says that it has a hardware error and not which
_FEEDBACK: tuple[Item, ...] = (
    X.TORQUE_ENABLE, X.HARDWARE_ERROR_STATUS, X.BUS_WATCHDOG, X.STATUS_RETURN_LEVEL, XM430.PRESENT_CURRENT, X.PRESENT_VELOCITY,
    X.PRESENT_POSITION, X.PRESENT_INPUT_VOLTAGE, X.PRESENT_TEMPERATURE,
)  # fmt: skip
_SPARE = (X.MOVING, X.MOVING_STATUS, X.LED)  # bytes by which one cycle's question is longer than another's
_COMMANDS: tuple[Item, ...] = (X.BUS_WATCHDOG, X.GOAL_PWM, X.GOAL_POSITION)
# As after power-on (e-Manual, XM430-W210 and -W350): a tuner's, or another driver's, stay until then.
_GAIN_RUNS = (X.POSITION_D_GAIN, X.POSITION_I_GAIN, X.POSITION_P_GAIN), (X.FEEDFORWARD_2ND_GAIN, X.FEEDFORWARD_1ST_GAIN)
_GAINS = {item: 800 if item is X.POSITION_P_GAIN else 0 for run in _GAIN_RUNS for item in run}


def _fits(model: Model) -> bool:
    """Has it the registers that a chain needs? In the place of the current a load would be taken for one."""
    return issubclass(model.table, XM430)


def _mapped(items: Sequence[Item], at: int) -> tuple[dict[Item, Item], int]:
    """The same registers where the indirect data show them, from address `at` on; and the address behind them."""
    out = {}
    for item in items:
        out[item] = item._replace(address=at)
        at += item.size
    return out, at


class DynamixelLine:
    """X series with room for all of it, 28 indirect registers where the 330s have 20, and a current that is measured."""

    fault = X.HARDWARE_ERROR_STATUS
    own: tuple[Item, ...] = ()  # its PWM limit it keeps by itself

    def __init__(self, robot: config.Robot) -> None:
        servos = robot.servos
        model = MODELS.get(servos.model)
        if model is None or not _fits(model):
            known = ", ".join(f"{n} ({m.name})" for n, m in MODELS.items() if _fits(m))
            blind = model is not None and not model.measures_current
            why = " (it measures no current: who strains, or presses on somebody, would not be seen)" if blind else ""
            raise DeviceError(f"servos: no chain for Dynamixel model {servos.model}{why}; it knows {known}")
        self.servos, self._reads, self._spans = servos, Reads(), spans(robot, X.GOAL_POSITION.scale)
        self._name, self._table = robot.name, model.table
        base = X.INDIRECT_DATA_1.address
        self._shown, behind = _mapped(_FEEDBACK, base)
        spare, behind = _mapped(_SPARE, behind)
        self._told, behind = _mapped(_COMMANDS, behind)
        assert behind - base <= INDIRECT_SLOTS
        self._turns = [(*self._shown.values(), *list(spare.values())[:turn]) for turn in range(TURNS)]
        self._turns[-1] += (self._told[X.GOAL_POSITION],)  # where it was written it is read back
        self.tick = X.GOAL_POSITION.scale
        self._ends = np.array(self._spans).T * self.tick  # what every servo takes for a goal: its handshake has seen to it
        self._write = DynamixelWrite(servos.ids, tuple(self._told.values()))
        self._write.fill(self._told[X.BUS_WATCHDOG], [self._watchdog] * len(servos.ids))
        self._power = b""
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
        mapped, goal = shown is self._shown, self._told[X.GOAL_POSITION]
        on, watchdog = read.steps(shown[X.TORQUE_ENABLE]) != 0, read.steps(shown[X.BUS_WATCHDOG])
        return Reading(
            angle=read.values(shown[X.PRESENT_POSITION]),
            speed=read.values(shown[X.PRESENT_VELOCITY]),
            amps=np.nan_to_num(read.values(shown[XM430.PRESENT_CURRENT])),
            temp_c=read.values(shown[X.PRESENT_TEMPERATURE]),
            volts=read.values(shown[X.PRESENT_INPUT_VOLTAGE]),
            on=on,
            tripped=watchdog == -1,
            unwatched=on & (watchdog == 0),
            fault=np.where((bits == 0) & alert, ALERT_ALONE, bits),
            set_up=read.steps(shown[X.STATUS_RETURN_LEVEL]) == handshake.ALL_ANSWERS if mapped else np.zeros(n, bool),
            goal=read.values(goal) if goal in read.layout.items else np.full(n, math.nan),
        )

    def goals(self, angles: Floats, power: Floats, but: Sequence[int] = ()) -> tuple[bytes, Floats]:
        goal = self._told[X.GOAL_POSITION]
        self._write.fill_values(goal, angles)
        if (pwm := power.tobytes()) != self._power:  # it seldom changes
            self._write.fill(self._told[X.GOAL_PWM], np.rint(power * FULL_PWM).astype(int))
            self._power = pwm
        return self._write.packet(but), np.rint(angles / goal.scale) * goal.scale

    def damp(self, angles: Floats) -> bytes:
        """No voltage, the bridge closed: Goal PWM 0 in position mode. The goal is of no use, but for one beyond its own limits a
        servo refuses the whole, and would go on as it was."""
        here = np.clip(np.where(np.isfinite(angles), angles, 0.0), *self._ends)
        return self.goals(here, np.zeros(len(here)))[0]

    def switch_on(self, ids: Sequence[int]) -> bytes:
        """The watchdog in a packet of its own: with a goal it is refused where a joint lies beyond the servo's own limits."""
        return self.forgive(ids) + _same_for_all(ids, X.TORQUE_ENABLE, 1)

    def clear(self, ids: Sequence[int]) -> bytes:
        return _same_for_all(ids, X.TORQUE_ENABLE, 0) + _same_for_all(ids, X.BUS_WATCHDOG, 0)

    def forgive(self, ids: Sequence[int]) -> bytes:
        return _same_for_all(ids, X.BUS_WATCHDOG, 0) + _same_for_all(ids, X.BUS_WATCHDOG, self._watchdog)

    def ram(self, servo: int) -> list[tuple[int, bytes]]:
        servos = self.servos
        slots = [at for i in (*_FEEDBACK, *_SPARE, *_COMMANDS) for at in range(i.address, i.address + i.size)]
        out = [(X.INDIRECT_ADDRESS_1.address, b"".join(at.to_bytes(2, "little") for at in slots))]
        file = ((X.POSITION_P_GAIN, servos.position_p), (X.POSITION_D_GAIN, servos.position_d))
        gains = _GAINS | {item: steps for item, steps in file if steps >= 0}
        out += [(run[0].address, b"".join(item.encode(gains[item]) for item in run)) for run in _GAIN_RUNS]
        settings = [(X.PROFILE_ACCELERATION, 0), (X.PROFILE_VELOCITY, X.PROFILE_VELOCITY.steps(servos.velocity_limit))]
        settings += [(X.BUS_WATCHDOG, 0), (X.BUS_WATCHDOG, self._watchdog)]  # 0 first: it may have tripped
        return out + [(item.address, item.encode(steps)) for item, steps in settings]

    def quiet_ram(self, servo: int) -> list[tuple[int, bytes]]:
        return [(address, data) for address, data in self.ram(servo) if address != X.BUS_WATCHDOG.address]

    def heed(self, servo: int, read: Mapping[Item, int]) -> None: ...

    def wanted(self) -> list[Wanted]:
        servos = self.servos
        exact = {X.HOMING_OFFSET: 0}  # offsets are kept on the host: one in the servo would be lost with it
        own = servos.protection
        most = bounds(((X.TEMPERATURE_LIMIT, own.temp_c), (X.MAX_VOLTAGE_LIMIT, own.volts_max), (X.PWM_LIMIT, own.pwm),
                       (getattr(self._table, "CURRENT_LIMIT", None), own.amps), (X.VELOCITY_LIMIT, own.speed_rad_s)))  # fmt: skip
        # A servo refuses a goal whole whose PWM is beyond its limit.
        least = bounds(((X.MIN_VOLTAGE_LIMIT, own.volts_min), (X.PWM_LIMIT, servos.power)))
        return [
            Wanted(i, joint, servos.model, servos.firmware, baud=servos.baud, watchdog=self._watchdog, exact=exact,
                   most={X.MIN_POSITION_LIMIT: low, **most}, least={X.MAX_POSITION_LIMIT: high, **least}, robot=self._name)
            for i, joint, (low, high) in zip(servos.ids, servos.joints, self._spans, strict=True)
        ]  # fmt: skip

    def items(self, wanted: Wanted) -> tuple[Item, ...]:
        return handshake.dynamixel_items(wanted)

    def complaints(self, wanted: Wanted, read: dict[Item, int]) -> list[str]:
        return handshake.dynamixel(wanted, read)

    def settings(self, wanted: Wanted, read: dict[Item, int]) -> dict[Item, int]:
        return handshake.dynamixel_settings(wanted, read)


def _same_for_all(ids: Sequence[int], item: Item, steps: int) -> bytes:
    write = DynamixelWrite(ids, (item,))
    write.fill(item, [steps] * len(ids))
    return write.packet()
