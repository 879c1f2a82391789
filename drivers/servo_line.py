"""What a chain of bus servos asks of either family's half: bytes for the line, arrays of what was answered; no port.

`dynamixel_line.py` and `feetech_line.py` are the halves. Angles here are the horn's, rad from the encoder's zero;
`servo_chain.py` gives them the robot's order, signs and zeros.

Every cycle's question is as many bytes longer than the last as tells them apart (`TURNS` in turn): an answer that comes a
cycle late has another length than was asked for and is never taken for fresh. For that, and to have in one piece what the
tables scatter, a Dynamixel's indirect registers are set up at the start. Status Return Level is among them, which the handshake
makes sure is 2: one that was switched off and on, whose registers point nowhere again, shows 0 there and is known at once. Of a
Feetech all of 40 to 70 is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.drivers.handshake import Wanted
from robotrl.drivers.sync import SyncRead
from robotrl.drivers.tables import Item

TURNS = 4  # an answer would have to be four cycles late to be taken for fresh; three without one stop the robot
KEPT = 64  # reads
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
    unwatched: Flags  # it has torque, and its watchdog is not armed
    fault: Steps  # hardware error, 0 when healthy
    set_up: Flags  # its RAM is as the start left it
    goal: Floats  # that it goes by; nan where it was not asked for, as in all turns but the last


class Line(Protocol):
    """One family's half of a chain. Bytes that nobody answers, unless it says otherwise."""

    servos: config.Servos
    fault: Item  # the register of what it has tripped over
    stopping: bytes  # torque off, what a watchdog left is cleared
    stopping_all: bytes  # whatever their numbers
    tick: float  # rad, of a goal
    own: tuple[Item, ...]  # what `heed` has to know

    def asked(self, ids: tuple[int, ...], turn: int) -> SyncRead:
        """The read of a cycle, kept; `turn` in range(TURNS)."""
        ...

    def reading(self, read: SyncRead) -> Reading: ...

    def plain(self, servo: int) -> SyncRead | None:
        """A read of one servo that needs nothing set up; None where `asked` never does."""
        ...

    def goals(self, angles: Floats, power: Floats, but: Sequence[int] = ()) -> tuple[bytes, Floats]:
        """Targets (n,) and the share of the supply (n,) that each motor may get; and what the bytes hold, rad. `but`: places of
        those that are told nothing. ValueError for an angle that is not finite or that no register holds."""
        ...

    def switch_on(self, ids: Sequence[int]) -> bytes:
        """Torque, and before it the watchdog."""
        ...

    def damp(self, angles: Floats) -> bytes:
        """Brake by the motors' own back-EMF, wherever they are."""
        ...

    def clear(self, ids: Sequence[int]) -> bytes:
        """Torque off for some, and what a watchdog left is cleared."""
        ...

    def forgive(self, ids: Sequence[int]) -> bytes:
        """What a watchdog left is cleared and it is armed again, whatever becomes of the goal that follows; torque stays."""
        ...

    def ram(self, servo: int) -> list[tuple[int, bytes]]:
        """Address and bytes of what is set at the start, torque off; each is read back."""
        ...

    def quiet_ram(self, servo: int) -> list[tuple[int, bytes]]:
        """The same without what moves, frees or stops a servo that holds."""
        ...

    def heed(self, servo: int, read: Mapping[Item, int]) -> None:
        """Goals are to exceed no limit that the servo's owner has set in it, where it does not see to that by itself."""
        ...

    def wanted(self) -> list[Wanted]: ...

    def items(self, wanted: Wanted) -> tuple[Item, ...]:
        """What `complaints` has to know."""
        ...

    def complaints(self, wanted: Wanted, read: dict[Item, int]) -> list[str]: ...

    def settings(self, wanted: Wanted, read: dict[Item, int]) -> dict[Item, int]:
        """Of the registers complained of those in EEPROM that a person may have written, and what."""
        ...


def spans(robot: config.Robot, tick: float) -> list[tuple[int, int]]:
    """First and last tick that each servo has to be able to go to: its joint's range."""
    servos, out = robot.servos, []
    gears = servos.gear or (1.0,) * len(servos.ids)
    for low, high, sign, gear, offset in zip(robot.lowest, robot.highest, servos.sign, gears, servos.offset, strict=True):
        ends = sorted((sign * at * gear + offset) / tick for at in (low, high))
        out.append((math.ceil(ends[0]), math.floor(ends[1])))
    return out


def bounds(limits: Iterable[tuple[Item | None, float]]) -> dict[Item, int]:
    """Steps of the registers that a robot file bounds, in their units; of those that this model has and that are no nan."""
    return {item: item.steps(most) for item, most in limits if item is not None and not math.isnan(most)}


class Reads:
    """Reads that were made, by whom they ask and in which turn: making one costs ten cycles' worth of time."""

    def __init__(self) -> None:
        self._made: dict[tuple[tuple[int, ...], int], SyncRead] = {}

    def get(self, key: tuple[tuple[int, ...], int], make: Callable[[], SyncRead]) -> SyncRead:
        if (read := self._made.get(key)) is None:
            if len(self._made) > KEPT:  # who falls silent in ever new orders
                self._made.clear()
            read = self._made[key] = make()
        return read
