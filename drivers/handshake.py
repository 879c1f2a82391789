"""What is wrong with the servos of a bus, said from what they answered: one line a complaint, nothing asked and nothing written.

`roll_call` judges who is there, `swapped` whose registers are another's, `dynamixel` and `feetech` the registers of one servo;
which those are say `dynamixel_items` and `feetech_items`. A register that was not read is a complaint too. EEPROM is the user's
to change: `dynamixel_settings` and `feetech_settings` are what he may have written (`mending.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from itertools import combinations
from typing import NamedTuple

from robotrl.complaint import command
from robotrl.drivers import dynamixel_x, feetech_sts
from robotrl.drivers.dynamixel_x import MODELS, RAM, Drive, HardwareError, X
from robotrl.drivers.feetech_sts import STS3215, Error, Mode, Phase
from robotrl.drivers.tables import Item

NO_SHADOW = 253  # Secondary ID: from here on none
STARTUP_TORQUE = 1  # Startup Configuration(60), bit 0: torque on as soon as there is power
PROTECTIONS = Error.OVERHEATING | Error.OVERCURRENT | Error.OVERLOAD
ALL_ANSWERS = 2  # Status Return Level(68)
Steps = Mapping[Item, int]


@dataclass(frozen=True)
class Wanted:
    """One servo as the robot's configuration has it; registers in steps.

    `exact` must read just so (homing offset), `most` no more than so (temperature, voltage, current and speed limits,
    the near end of a joint's range), `least` no less (its far end, the least voltage). `firmware` is the least version; of a
    Feetech servo major * 256 + minor. `robot` is the file whose servos `setup-servo --robot` mends.
    """

    id: int
    joint: str
    model: int
    firmware: int = 0
    mode: int = 3
    reverse: bool = False
    baud: int = 1_000_000
    watchdog: int = 5  # x 20 ms
    exact: Steps = field(default_factory=dict)
    most: Steps = field(default_factory=dict)
    least: Steps = field(default_factory=dict)
    robot: str = ""

    def __str__(self) -> str:
        return f"servo {self.id} ({self.joint})"


class Present(NamedTuple):
    """Who answered a ping: a Dynamixel servo says it all, a Feetech one is read."""

    id: int
    model: int
    firmware: int = 0


def roll_call(wanted: Sequence[Wanted], present: Sequence[Present], garbled: Collection[int] = ()) -> list[str]:
    """Servos that are missing, doubled, strangers, of another model, or in each other's places.

    `present` as they answered. Two servos with one id answer a ping at once and alike, so it may look sound; `garbled` are ids
    whose reads are not.
    """
    count, found = Counter(p.id for p in present), {p.id: p for p in present}
    there = [w for w in wanted if w.id in found]
    out = [f"{w}: does not answer; check its id, baud, cable and power" for w in wanted if w.id not in found]
    out += [
        f"id {i}: answers {n} times; unplug all but one servo with it and give that one its own id"
        for i, n in count.items()
        if n > 1
    ]
    out += [
        f"id {i}: answers a ping and garbles its reads; unplug servos until it reads well: two have that id, or its cable is bad"
        for i in garbled
        if count[i] == 1
    ]
    ours = {w.id for w in wanted}
    out += [
        f"id {p.id}: {_model(p.model)} answers and is not in the robot file; unplug it, or give it the id of the one it replaces"
        for p in found.values()
        if p.id not in ours
    ]
    crossed = set()
    for a, b in combinations(there, 2):
        if (found[a.id].model, found[b.id].model) == (b.model, a.model) and a.model != b.model:
            crossed |= {a.id, b.id}
            out.append(f"{a} and {b}: each is of the other's model; their ids are swapped: change them back")
    for w in there:
        if found[w.id].model != w.model and w.id not in crossed:
            out.append(f"{w}: is {_model(found[w.id].model)}, not {_model(w.model)}; fit the right one or correct the robot file")
    return out


def swapped(wanted: Sequence[Wanted], read: Mapping[int, Steps]) -> list[str]:
    """Servos of one model that hold each other's `exact` registers."""

    def is_like(servo: int, other: Wanted) -> bool:
        return all(read.get(servo, {}).get(item) == steps for item, steps in other.exact.items())

    return [
        f"{a} and {b}: each holds the other's limits; their ids are swapped: change them back, or calibrate anew"
        for a, b in combinations(wanted, 2)
        if is_like(a.id, b) and is_like(b.id, a) and not (is_like(a.id, a) or is_like(b.id, b))
    ]


class _Judge:
    """Complaints about one servo's registers, collected; those below address `ram` are written with torque off.

    `settings`: steps by which a register in EEPROM would be as it must be, where that is a question of a number alone; none for
    those `kept` as they are.
    """

    def __init__(self, wanted: Wanted, read: Steps, ram: int, kept: Collection[Item]) -> None:
        self.out: list[str] = []
        self.settings: dict[Item, int] = {}
        self._wanted, self._read, self._ram, self._kept = wanted, read, ram, kept

    def write(self, item: Item, steps: int) -> str:
        return f"write {steps}" + (" with torque off" if item.address < self._ram else "")

    def ask(self, item: Item, good: Callable[[int], bool], why: str, todo: str, to: Callable[[int], int] | None = None) -> None:
        """`to`: what the steps that are there become."""
        steps = self._read.get(item)
        if steps is None:
            self.out.append(f"{self._wanted}, {item.section}: was not read; try again, and check the cable if it happens twice")
        elif not good(steps):
            mends = None if item.address >= self._ram or item in self._kept else to
            by = f": {command(f'setup-servo --robot {self._wanted.robot}')}" if mends and self._wanted.robot else ""
            self.out.append(f"{self._wanted}, {item.section}: {steps}{why}; {todo}{by}")
            if mends is not None:
                self.settings[item] = int(mends(self.settings.get(item, steps)))

    def must_be(self, item: Item, steps: int, why: str) -> None:
        self.ask(item, lambda is_: is_ == steps, f", {why}", self.write(item, steps), lambda _: steps)

    def limits(self) -> None:
        for item, steps in self._wanted.exact.items():
            self.must_be(item, steps, f"the robot file says {steps}")
        for item, most in self._wanted.most.items():
            self._bound(item, lambda is_, most=most: is_ <= most, f", {most} at most", most)  # type: ignore[misc]
        for item, least in self._wanted.least.items():
            self._bound(item, lambda is_, least=least: is_ >= least, f", {least} at least", least)  # type: ignore[misc]

    def _bound(self, item: Item, good: Callable[[int], bool], why: str, to: int) -> None:
        self.ask(item, good, why, self.write(item, to), lambda _: to)

    def no_bit(self, item: Item, bit: int, why: str) -> None:
        todo = f"clear bit {bit.bit_length() - 1} with torque off"
        self.ask(item, lambda is_: not is_ & bit, f", {why}", todo, lambda is_: is_ & ~bit)

    def is_free_of(self, item: Item, flags: type[IntFlag], todo: str) -> None:
        names = ", ".join(str(f.name) for f in flags if self._read.get(item, 0) & f).lower().replace("_", " ") or "unknown"
        self.ask(item, lambda is_: is_ == 0, f", {names}", todo)

    def protects(self, item: Item, mask: IntFlag) -> None:
        lacking = [f for f in type(mask) if f & mask & ~self._read.get(item, 0)]
        names = ", ".join(str(f.name) for f in lacking).lower().replace("_", " ")
        sure = self._read.get(item, 0) | int(mask)
        todo = f"write {sure} with torque off"
        self.ask(item, lambda is_: not mask & ~is_, f" does not let go on {names}", todo, lambda _: sure)

    def baud(self, item: Item, bauds: Sequence[int]) -> None:
        if self._wanted.baud in bauds:
            self.must_be(item, bauds.index(self._wanted.baud), f"{self._wanted.baud} baud is asked for")
        else:
            self.out.append(
                f"{self._wanted}: {self._wanted.baud} baud is none it has; choose one of {', '.join(map(str, bauds))}"
            )


def dynamixel_items(wanted: Wanted) -> tuple[Item, ...]:
    """What `dynamixel` has to know."""
    return (
        X.MODEL_NUMBER, X.FIRMWARE_VERSION, X.BAUD_RATE, X.RETURN_DELAY_TIME, X.DRIVE_MODE, X.OPERATING_MODE, X.SECONDARY_ID,
        X.PROTOCOL_TYPE, X.STARTUP_CONFIGURATION, X.SHUTDOWN, X.STATUS_RETURN_LEVEL, X.HARDWARE_ERROR_STATUS, X.BUS_WATCHDOG,
        *wanted.exact, *wanted.most, *wanted.least,
    )  # fmt: skip


def dynamixel(wanted: Wanted, read: Steps) -> list[str]:
    """Complaints about one Dynamixel servo; `read` are steps."""
    return _dynamixel(wanted, read).out


def dynamixel_settings(wanted: Wanted, read: Steps) -> dict[Item, int]:
    """Steps of those registers in EEPROM that would have to be others: neither number nor speed nor position limits."""
    return dict(_dynamixel(wanted, read).settings)


def _dynamixel(wanted: Wanted, read: Steps) -> _Judge:
    kept = (X.ID, X.BAUD_RATE, X.MIN_POSITION_LIMIT, X.MAX_POSITION_LIMIT)
    judge, model = _Judge(wanted, read, RAM, kept), MODELS.get(wanted.model)
    judge.ask(X.MODEL_NUMBER, lambda is_: is_ == wanted.model, f", not {_model(wanted.model)}", "fit the right one")
    judge.ask(
        X.FIRMWARE_VERSION, lambda is_: is_ >= wanted.firmware, f", {wanted.firmware} is needed", "update it with Wizard 2.0"
    )
    judge.must_be(X.OPERATING_MODE, wanted.mode, f"mode {wanted.mode} is asked for")
    if model and wanted.mode not in model.modes:
        judge.out.append(
            f"{wanted}: {model.name} has no mode {wanted.mode}; choose one of {', '.join(str(int(m)) for m in model.modes)}"
        )
    turned = "the joint turns the other way than the robot file says"
    judge.ask(
        X.DRIVE_MODE, lambda is_: bool(is_ & Drive.REVERSE) == wanted.reverse, f", {turned}", "change bit 0 with torque off",
        lambda is_: is_ ^ Drive.REVERSE,
    )  # fmt: skip
    judge.no_bit(X.DRIVE_MODE, Drive.TIME_PROFILE, "its profile is in ms: each goal would take so long")
    judge.no_bit(X.DRIVE_MODE, Drive.TORQUE_ON_BY_GOAL, "any goal turns torque on")
    shadow = X.SECONDARY_ID
    judge.ask(shadow, lambda is_: is_ >= NO_SHADOW, ", it obeys that id too", judge.write(shadow, 255), lambda _: 255)
    judge.must_be(X.PROTOCOL_TYPE, 2, "protocol 2.0 is spoken here")
    judge.no_bit(X.STARTUP_CONFIGURATION, STARTUP_TORQUE, "torque comes on with power")
    judge.protects(X.SHUTDOWN, HardwareError(model.shutdown if model else 52))
    judge.must_be(X.RETURN_DELAY_TIME, 0, "every answer waits so many times 2 us")
    judge.must_be(X.STATUS_RETURN_LEVEL, ALL_ANSWERS, "writes are not answered")
    judge.baud(X.BAUD_RATE, dynamixel_x.BAUDS)
    judge.is_free_of(X.HARDWARE_ERROR_STATUS, HardwareError, "find the cause, then reboot the servo")
    tripped = ", it has tripped" if read.get(X.BUS_WATCHDOG) == -1 else ""
    todo = f"write 0, then {wanted.watchdog}; a reboot clears it, so write it after every start"
    judge.ask(X.BUS_WATCHDOG, lambda is_: is_ == wanted.watchdog, f"{tripped}, {wanted.watchdog} is asked for", todo)
    judge.limits()
    return judge


def feetech_items(wanted: Wanted) -> tuple[Item, ...]:
    """What `feetech` has to know."""
    S = STS3215
    return (
        S.FIRMWARE_MAJOR, S.FIRMWARE_MINOR, S.BYTE_ORDER, S.MODEL_NUMBER, S.BAUD_RATE, S.RETURN_DELAY_TIME, S.STATUS_RETURN_LEVEL,
        S.PHASE, S.UNLOADING_CONDITION, S.PROTECTION_CURRENT, S.MAX_TORQUE_LIMIT, S.OPERATING_MODE, S.LOCK, S.STATUS,
        *wanted.exact, *wanted.most, *wanted.least,
    )  # fmt: skip


def feetech(wanted: Wanted, read: Steps) -> list[str]:
    """Complaints about one Feetech STS servo; `read` are steps. It has no watchdog, so it must be in position mode."""
    return _feetech(wanted, read).out


def feetech_settings(wanted: Wanted, read: Steps) -> dict[Item, int]:
    """As `dynamixel_settings`."""
    return dict(_feetech(wanted, read).settings)


def _feetech(wanted: Wanted, read: Steps) -> _Judge:
    S = STS3215
    kept = (S.BYTE_ORDER, S.ID, S.BAUD_RATE, S.MIN_POSITION_LIMIT, S.MAX_POSITION_LIMIT)  # the first is the maker's
    judge = _Judge(wanted, read, feetech_sts.EPROM.stop, kept)
    judge.ask(S.MODEL_NUMBER, lambda is_: is_ == wanted.model, f", not {_model(wanted.model)}", "fit the right one")
    needs = divmod(wanted.firmware, 256)
    major = read.get(S.FIRMWARE_MAJOR, needs[0])  # one that was not read is spoken of, the minor one is judged beside the needed
    judge.ask(S.FIRMWARE_MAJOR, lambda is_: is_ >= needs[0], f", version {needs[0]}.{needs[1]} is needed", "update it")
    judge.ask(S.FIRMWARE_MINOR, lambda is_: (major, is_) >= needs, f", version {needs[0]}.{needs[1]} is needed", "update it")
    judge.must_be(S.BYTE_ORDER, 0, "numbers come high byte first")
    judge.must_be(S.OPERATING_MODE, Mode.POSITION, "nothing in the servo stops it when the host is gone")
    turned = "the joint turns the other way than the robot file says"
    judge.ask(
        S.PHASE, lambda is_: bool(is_ & Phase.REVERSE) == wanted.reverse, f", {turned}", "change bit 0 with torque off",
        lambda is_: is_ ^ Phase.REVERSE,
    )  # fmt: skip
    coarse = ", speeds are in 0.732 rpm"
    fine = lambda is_: is_ | Phase.SPEED_UNIT  # noqa: E731
    judge.ask(S.PHASE, lambda is_: bool(is_ & Phase.SPEED_UNIT), coarse, "set bit 2 with torque off", fine)
    judge.no_bit(S.PHASE, Phase.MULTI_TURN, "positions count turns")
    judge.protects(S.UNLOADING_CONDITION, PROTECTIONS)
    todo = "write 511, or less, with torque off"
    judge.ask(S.PROTECTION_CURRENT, lambda is_: is_ > 0, ", no current is too high", todo, lambda _: 511)
    most = wanted.most.get(S.MAX_TORQUE_LIMIT, 1000)
    todo = f"write {most}, or less, with torque off"
    judge.ask(S.MAX_TORQUE_LIMIT, lambda is_: is_ > 0, ", it moves nothing", todo, lambda _: most)
    judge.must_be(S.RETURN_DELAY_TIME, 0, "every answer waits so many times 2 us")
    judge.must_be(S.STATUS_RETURN_LEVEL, 1, "writes are not answered")
    judge.must_be(S.LOCK, 1, "what is written to EPROM stays there")
    judge.baud(S.BAUD_RATE, feetech_sts.BAUDS)
    judge.is_free_of(S.STATUS, Error, "find the cause, then switch torque on again")
    judge.limits()
    return judge


def _model(number: int) -> str:
    if number == feetech_sts.MODEL:
        return "STS3215"
    return MODELS[number].name if number in MODELS else f"model {number}"
