"""Who is on a servo line, at which speed, and a new servo's number and speed: the one place that writes EEPROM, and reads back.

`connect(baud)` opens the line at a speed; the port it gives is closed here. DeviceError names what was not as it must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from robotrl.clock import Clock
from robotrl.drivers import dynamixel_x, feetech_sts
from robotrl.drivers.asking import Asking
from robotrl.drivers.dynamixel_x import X
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.handshake import Present
from robotrl.drivers.port import DeviceError, Port
from robotrl.drivers.tables import Item

BAUDS = {"dynamixel": dynamixel_x.BAUDS, "feetech": feetech_sts.BAUDS}  # by their register's code
QUICK_NS = 6_000_000  # for an answer to a ping; at 9,600 baud one takes longer
SLOW_NS = 40_000_000
SLOW = 38_400
STATE_BYTES = (2, 4, 7, 8, 11, 14)  # from the present position on, of either family
IDS = {"dynamixel": range(253), "feetech": range(254)}
LIKELY = (3, 0, 1, 2, 4, 5, 6, 7)  # codes in the order to try: 1 Mbit/s first of a Dynamixel
Connect = Callable[[int], Port]


class Found(NamedTuple):
    """A servo and the speed at which it answers."""

    servo: Present
    baud: int


def look(connect: Connect, clock: Clock, family: str, ids: Iterable[int], bauds: Iterable[int] = ()) -> list[Found]:
    """Ping `ids` at every speed that the family has, or at `bauds`; who answers, by speed and number."""
    ids, out = list(ids), []
    for baud in bauds or [BAUDS[family][code] for code in LIKELY]:
        port = connect(baud)
        try:
            asking = Asking(port, clock, family, SLOW_NS if baud <= SLOW else QUICK_NS)
            out += [Found(servo, baud) for i in ids if (servo := asking.ping(i, 1)) is not None]
        finally:
            port.close()
    return out


def give(connect: Connect, clock: Clock, family: str, found: Found, number: int, baud: int) -> list[str]:
    """Give the servo its number and speed, and no return delay; what was changed, a line each. Torque goes off first.

    The speed is changed last: whatever fails before leaves a servo that still answers where it was found.
    """
    if baud not in BAUDS[family]:
        raise DeviceError(f"{baud} baud is none it has; choose one of {', '.join(map(str, BAUDS[family]))}")
    table: type[X] | type[STS3215] = X if family == "dynamixel" else STS3215
    says: list[str] = []
    port = connect(found.baud)
    try:
        asking, servo = Asking(port, clock, family), found.servo.id
        if number != servo and asking.ping(number) is not None:
            raise DeviceError(f"id {number}: another servo has it; unplug all but the new one")
        _alone(asking, servo, table.PRESENT_POSITION.address)
        _set(asking, servo, table.TORQUE_ENABLE, 0)
        if family == "feetech":
            _set(asking, servo, STS3215.LOCK, 0)  # until it is locked again, what is written outlives power-off
        if asking.read(servo, (table.RETURN_DELAY_TIME,)).get(table.RETURN_DELAY_TIME) != 0:
            _set(asking, servo, table.RETURN_DELAY_TIME, 0)
            says.append("return delay 0")
        if number != servo:
            asking.write(servo, table.ID.address, table.ID.encode(number))
            if asking.read(number, (table.ID,)).get(table.ID) != number:
                raise DeviceError(f"id {servo}: did not become {number}; switch it off and on, and look who answers: find-port")
            says.append(f"id {servo} is {number} now")
        if baud != found.baud:  # its answer may come at either speed, so it is asked anew
            asking.write(number, table.BAUD_RATE.address, table.BAUD_RATE.encode(BAUDS[family].index(baud)))
            says.append(f"{found.baud} baud is {baud} now")
    finally:
        port.close()
    port = connect(baud)
    try:
        asking = Asking(port, clock, family)
        if asking.read(number, (table.BAUD_RATE,)).get(table.BAUD_RATE) != BAUDS[family].index(baud):
            raise DeviceError(f"id {number}: does not answer at {baud} baud; look where it is: find-port --ping")
        if family == "feetech":
            _set(asking, number, STS3215.LOCK, 1)
    finally:
        port.close()
    return says


def _alone(asking: Asking, servo: int, address: int) -> None:
    """DeviceError where two servos of one number are on the line: both would become the other. They answer a ping alike and at
    once; what they measure is not the same, and garbles. Several lengths, for one alone may happen to have a sound sum."""
    if not all(asking.bytes_at(servo, address, length) for length in STATE_BYTES):
        raise DeviceError(
            f"id {servo}: answers a ping and garbles its reads: two servos have that id, connect one at a time; or its cable"
            " is bad"
        )


def _set(asking: Asking, servo: int, item: Item, steps: int) -> None:
    if not asking.set(servo, item, steps):
        raise DeviceError(f"id {servo}, {item.section}: does not read {steps} after writing it; check cable and power")
