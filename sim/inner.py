"""The twin between two physics steps, natively: `sim/inner.cpp` does what `World.step` and `History.torso` say, bit for bit.

`NativeHistory` and `NativeLoop` stand in for `History` and `PlainLoop` where a C++ compiler is at hand. Both sides work on the
same arrays, and whatever happens rarely (a mode change, new gains, mode 13) is left to the plain pages.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robotrl import config, native
from robotrl.native import NoLibrary
from robotrl.sim import model, motor, senses
from robotrl.sim.answers import Field, NativeChorus
from robotrl.sim.blocks import Spoken
from robotrl.sim.domain import Domain
from robotrl.sim.history import GRAVITY, NEVER, Array, History, Pair, Quaternion, Torso
from robotrl.sim.layouts import Reply
from robotrl.sim.readings import Readings, Thermal
from robotrl.sim.servo import ServoBank

if TYPE_CHECKING:
    from robotrl.sim.world import World

# No contraction to fused multiply-adds, no fast maths: numpy does none either, and equal seeds give equal bits.
FLAGS = ("-O2", "-ffp-contract=off", "-fno-math-errno")
LIBRARY = native.Library(Path(__file__).resolve().with_name("inner.cpp"), FLAGS, "the twin's inner loop")
STATE = ("stiffness", "damping", "bias", "feedforward", "limit", "floor", "heat")
RAMP = ("place", "speed", "goal", "goal_speed", "vlim", "alim")
MOTORS = ("current", "torque", "overload_s", "overheated")
BUFFERS = ("demand", "forces", "answer")

SAMPLE = 3 * senses.FRAME  # bytes


class _Ring(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rows", "torso", "derived")),
        ("depth", ctypes.c_int64), ("dt", ctypes.c_double), ("gravity", ctypes.c_double),
        ("offset", ctypes.c_double * 3), ("turn", ctypes.c_double * 4),
    ]  # fmt: skip


class _Plant(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("ring", *STATE, *RAMP, *MOTORS, *BUFFERS)),
        *((name, ctypes.c_double * len(motor.AMPERES)) for name in ("amperes", "newton_metres")),
        ("direction", ctypes.c_double * len(model.DIRECTION)),
        *((name, ctypes.c_double) for name in (
            "lag", "dt", "emf_per_speed", "resistance", "overload_a", "overload_max_s", "creep",
            "battery_v", "strength", "friction",
        )),
        ("step", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("moving", "plain", "aimed", "heat_steps", "watching")),
    ]  # fmt: skip


def library() -> ctypes.CDLL:
    """The native library, its functions declared. Raises NoLibrary."""
    found = _library()
    if isinstance(found, NoLibrary):
        raise NoLibrary(*found.args)
    return found


@functools.cache
def _library() -> ctypes.CDLL | NoLibrary:
    try:
        found = LIBRARY.load()
    except NoLibrary as reason:
        return reason  # remembered: a compiler that failed is not asked again for every world
    step, pointer = ctypes.c_int64, ctypes.c_void_p
    found.robotrl_torso.argtypes, found.robotrl_torso.restype = [pointer, step, ctypes.c_double, pointer], None
    found.robotrl_imu.argtypes = [pointer, step, ctypes.c_int32, pointer, pointer, pointer, pointer, pointer]
    found.robotrl_imu.restype = ctypes.c_int
    found.robotrl_warm.argtypes, found.robotrl_warm.restype = [pointer, pointer, ctypes.c_double, pointer, pointer], ctypes.c_int
    found.robotrl_telemetry.argtypes = [pointer, pointer, step, ctypes.c_double, pointer, pointer, pointer, pointer]
    found.robotrl_telemetry.restype = None
    size = ctypes.c_int32
    found.robotrl_answers.argtypes = [pointer, pointer, size, pointer, pointer, size, pointer]
    found.robotrl_answers.restype = None
    for which, mirror in enumerate((_Ring, _Plant, Thermal, Field)):
        assert found.robotrl_sizes(which) == ctypes.sizeof(mirror), mirror
    return found


class NativeHistory(History):
    """A history whose torso is derived natively. Raises NoLibrary."""

    def __init__(self, dt: float, frame: tuple[tuple[float, ...], Quaternion], depth: int = 256) -> None:
        self._torso_at = library().robotrl_torso
        super().__init__(dt, frame, depth)
        self._values, self._marks = np.zeros((depth, 12)), np.full(depth, NEVER, np.int64)
        self.ring = _Ring(
            self.rows.ctypes.data, self._values.ctypes.data, self._marks.ctypes.data, depth, dt, GRAVITY,
            tuple(self.offset), tuple(self.turn),
        )  # fmt: skip
        self.at = ctypes.addressof(self.ring)
        self._out = np.zeros(12)
        self._out_at = self._out.ctypes.data

    def fill(self, joints: Array, pose: Pair, twist: Pair) -> None:
        super().fill(joints, pose, twist)
        self._marks[:] = NEVER

    def _blend(self, whole: int, part: float) -> Torso:
        self._torso_at(self.at, self.step, whole + part, self._out_at)
        row = self._out.tolist()
        return Torso(tuple(row[0:3]), tuple(row[3:6]), tuple(row[6:9]), tuple(row[9:12]))


def history(dt: float, frame: tuple[tuple[float, ...], Quaternion]) -> History:
    """The fastest history that there is here."""
    try:
        return NativeHistory(dt, frame)
    except NoLibrary:
        return History(dt, frame)


class ImuFrames:
    """The frames of an IMU's samples; see `senses.Quick`."""

    def __init__(self, history: NativeHistory, twin: config.Twin) -> None:
        self._imu, self._history = library().robotrl_imu, history
        ranges = (senses.ACCEL_RANGE, senses.RATE_RANGE, senses.ANGLE_RANGE)
        noise = (senses.ACCEL_NOISE, twin.imu_rate_noise, 0.0)
        self._level = np.array((*noise, 0.0, 0.0, *(32768 / full for full in ranges)))
        self._last = np.array((senses.TEMPERATURE, senses.SUPPLY, senses.VERSION), np.int16)
        self._domain = Domain()
        self._make_room(8)

    def _make_room(self, count: int) -> None:
        self._back, self._noise = np.zeros(count), np.zeros(8 * count)
        self._out = ctypes.create_string_buffer(count * SAMPLE)
        arrays = (self._back, self._noise, self._level, self._last)
        self._where = (*(a.ctypes.data for a in arrays), ctypes.addressof(self._out))

    def __call__(self, delays: list[float], noise: Array, domain: Domain) -> bytes:
        """33 bytes a sample; none when a value is not finite."""
        count = len(delays)
        if count > len(self._back):
            self._make_room(count)
        self._noise[: 8 * count] = noise
        if domain is not self._domain:
            self._domain, self._level[2:5] = domain, (domain.imu_noise_rad, *domain.imu_bias)
        history = self._history
        self._back[:count] = [history.back(delay) for delay in delays]
        if self._imu(history.at, history.step, count, *self._where):
            return b""
        return self._out.raw[: count * SAMPLE]


def imu_frames(world: World, twin: config.Twin) -> ImuFrames | None:
    """The fast way to an IMU's bytes, where there is one."""
    return ImuFrames(world.history, twin) if isinstance(world.history, NativeHistory) else None


def chorus() -> Callable[[Reply, Sequence[int], Sequence[bytes]], Spoken] | None:
    """The fast way to what servos answer, where there is one."""
    try:
        return functools.partial(NativeChorus, library())
    except NoLibrary:
        return None


class PlainLoop:
    """Servos and physics by turns, as their pages say. `note`: why it is not the native loop."""

    def __init__(self, world: World, bank: ServoBank, note: str = "") -> None:
        self._world, self._bank, self.note = world, bank, note

    def advance(self, seconds: float) -> None:
        """Move on by whole physics steps; the rest is carried."""
        self._world.advance(seconds, self._bank.drive)


class NativeLoop:
    """The same, and what lies between two physics steps is one native call. Raises NoLibrary."""

    note = ""

    def __init__(self, world: World, bank: ServoBank) -> None:
        if not isinstance(world.history, NativeHistory) or bank.count != len(model.DIRECTION):
            raise NoLibrary("the twin's inner loop is made for eight servos and a native history")
        self._world, self._bank, self.history = world, bank, world.history
        self._steps = ctypes.PyDLL(library()._name).robotrl_steps  # it calls Python
        self._steps.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.py_object]
        self._buffers = {"demand": np.zeros(8), "forces": np.zeros(8), "answer": np.zeros(29)}
        self.plant = _Plant()
        self.at = ctypes.addressof(self.plant)
        self._describe()
        bank.quick = Readings(self, bank, library())

    def advance(self, seconds: float) -> None:
        """Move on by whole physics steps; the rest is carried. ValueError for a current that is not a number."""
        world, bank, history, plant = self._world, self._bank, self.history, self.plant
        self._lend()
        last = history.step + world.steps_due(seconds)
        while history.step < last:
            if history.step * history.dt >= bank.next_event:
                bank.tick()
            if bank.stale or bank.bounded:
                self._take_back()
                world.step(bank.drive)
                self._lend()
                continue
            plant.step = history.step
            try:
                refused = self._steps(self.at, last, bank.next_event, world.simulate)
            finally:
                history.step = plant.step
            if refused:
                self._refuse()
        self._take_back()

    def _refuse(self) -> None:
        """Say what is wrong with what the motors were asked for."""
        history = self.history
        self._world.motors.step(self._buffers["demand"], history.newest[8:16], history.dt)

    def _describe(self) -> None:
        """Fill in what never changes: where the arrays are, and the motors' constants."""
        plant, world, bank = self.plant, self._world, self._bank
        plant.ring = self.history.at
        for owner, names in ((bank, STATE), (bank.ramp, RAMP), (world.motors, MOTORS)):
            for name in names:
                setattr(plant, name, getattr(owner, name).ctypes.data)
        for name, buffer in self._buffers.items():
            setattr(plant, name, buffer.ctypes.data)
        plant.amperes[:], plant.newton_metres[:] = motor.AMPERES.tolist(), motor.NEWTON_METRES.tolist()
        plant.direction[:] = model.DIRECTION.tolist()
        plant.lag, plant.dt = world.lag, self.history.dt
        plant.emf_per_speed, plant.resistance = -motor.TORQUE_CONSTANT / motor.RESISTANCE, motor.RESISTANCE
        plant.overload_a, plant.overload_max_s, plant.creep = motor.OVERLOAD_A, motor.OVERLOAD_MAX_S, motor.CREEP

    def _lend(self) -> None:
        """Tell the native side how the flags stand."""
        plant, bank, motors = self.plant, self._bank, self._world.motors
        plant.moving, plant.plain, plant.aimed = bank.ramp.moving, bank.ramp.plain, bank.aimed
        plant.heat_steps, plant.watching = bank.heat_steps, motors.watching
        plant.battery_v, plant.strength, plant.friction = motors.battery_v, motors.strength, motors.friction

    def _take_back(self) -> None:
        """Take over how they stand now."""
        plant, bank = self.plant, self._bank
        bank.ramp.moving, bank.aimed = bool(plant.moving), bool(plant.aimed)
        bank.heat_steps, self._world.motors.watching = plant.heat_steps, bool(plant.watching)


def loop(world: World, bank: ServoBank) -> PlainLoop | NativeLoop:
    """The fastest loop that there is here."""
    try:
        library()
        return NativeLoop(world, bank)
    except NoLibrary as reason:
        return PlainLoop(world, bank, str(reason))
