"""What the servos know of themselves, natively: `ServoBank.warm` and `.telemetry` bit for bit, by `sim/inner.cpp`."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robotrl.sim import firmware as fw
from robotrl.sim.domain import Domain
from robotrl.sim.firmware import Array
from robotrl.sim.motor import RESISTANCE
from robotrl.sim.servo import ServoBank

if TYPE_CHECKING:
    from robotrl.sim.inner import NativeLoop


class Thermal(ctypes.Structure):
    """Mirror of the struct of that name."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("sign", "offset", "trip_c", "thermistor")),
        *((name, ctypes.c_double) for name in (
            "ambient_c", "kelvin_per_a2", "board_share", "nm_per_a", "turn",
        )),
    ]  # fmt: skip


class Readings:
    """`ServoBank.telemetry`, quicker: a call returns (n, 16), good until the next one."""

    def __init__(self, loop: NativeLoop, bank: ServoBank, library: ctypes.CDLL) -> None:
        self._bank, self._plant, self._at = bank, loop.plant, loop.at
        self._warm, self._telemetry = library.robotrl_warm, library.robotrl_telemetry
        self._history = loop.history
        n = bank.count
        self._noise, self._board, self._out = np.zeros(n), np.zeros(n), np.zeros((n, 16), np.float32)
        self._thermal = Thermal(
            bank.sign.ctypes.data, bank.offset.ctypes.data, None, None, fw.AMBIENT_C, fw.THERMAL_K_PER_W * RESISTANCE,
            fw.BOARD_SHARE, fw.NM_PER_A, fw.TURN,
        )  # fmt: skip
        temperatures = (bank.motor_c.ctypes.data, self._board.ctypes.data)
        self._heating = (ctypes.addressof(self._thermal), temperatures)
        self._where = (self._noise.ctypes.data, *temperatures, self._out.ctypes.data)
        self._trip_c = self._thermistor = np.zeros(0)  # as the native side knows them
        self._domain, self._changes = Domain(), -1  # as `_out` knows them

    def __call__(self, joint_noise: Array) -> NDArray[np.float32]:
        bank, history = self._bank, self._history
        self._noise[:] = joint_noise
        if (trip_c := bank.trip_c) is not self._trip_c:
            self._trip_c, self._thermal.trip_c = trip_c, trip_c.ctypes.data
            self._thermistor = bank.thermistor
            self._thermal.thermistor = self._thermistor.ctypes.data
        thermal, temperatures = self._heating
        share = bank.passed()
        self._plant.heat_steps = bank.heat_steps
        hot = self._warm(self._at, thermal, share, *temperatures)
        if share:
            bank.heat_steps = 0
        if hot:
            bank.trip_hot(self._board)
        self._show()
        back = history.back(bank.world.domain.extra_latency_s)
        self._telemetry(self._at, thermal, history.step, back, *self._where)
        return self._out

    def _show(self) -> None:
        """What changes rarely."""
        bank, out = self._bank, self._out
        if bank.changes != self._changes:
            self._changes = bank.changes
            out[:, 0], out[:, 15] = bank.mode, bank.fault
        if (domain := bank.world.domain) is not self._domain:
            self._domain = domain
            out[:, 13] = domain.battery_v
