"""Who the servos on a port are, asked before anything may move: those whose zeros are known, or another robot's of the same ids?

A moteus says its board's serial number (moteus reference, registers 0x101: firmware, major << 16 | minor << 8 | micro, and
0x120 to 0x122). A bus servo has none: it is known by its model, its firmware, and what was written into its EEPROM (mode,
direction, offset, ranges, limits), as a digest. Two that were set up alike are alike. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from robotrl import config
from robotrl.clock import Clock
from robotrl.complaint import command
from robotrl.drivers import moteus
from robotrl.drivers.asking import Asking
from robotrl.drivers.dynamixel_x import MODELS, X
from robotrl.drivers.feetech_sts import STS3215 as S
from robotrl.drivers.port import DeviceError, Lines, Port
from robotrl.drivers.tables import Item, Width

FIRMWARE, SERIAL = 0x101, 0x120
HOST = 0x10  # our number on the bus here: a late reply to the servo loop's queries carries another
ANSWER_NS = 20_000_000
TRIES = 3
HOLDS = ". Nothing was written: what holds goes on holding; support the arm, cut its power"
DIGITS = 24  # of a digest: as many as a board's serial number has
DYNAMIXEL: tuple[Item, ...] = (
    X.MODEL_NUMBER, X.FIRMWARE_VERSION, X.DRIVE_MODE, X.OPERATING_MODE, X.SECONDARY_ID, X.HOMING_OFFSET, X.MOVING_THRESHOLD,
    X.TEMPERATURE_LIMIT, X.MAX_VOLTAGE_LIMIT, X.MIN_VOLTAGE_LIMIT, X.PWM_LIMIT, X.VELOCITY_LIMIT, X.MAX_POSITION_LIMIT,
    X.MIN_POSITION_LIMIT, X.SHUTDOWN,
)  # fmt: skip
FEETECH: tuple[Item, ...] = (  # without what LeRobot writes at every start: gains, torques, the gripper's currents
    S.MODEL_NUMBER, S.FIRMWARE_MAJOR, S.FIRMWARE_MINOR, S.MIN_POSITION_LIMIT, S.MAX_POSITION_LIMIT, S.MAX_TEMPERATURE_LIMIT,
    S.MAX_VOLTAGE_LIMIT, S.MIN_VOLTAGE_LIMIT, S.PHASE, S.HOMING_OFFSET, S.OPERATING_MODE,
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """`firmware` as major.minor.micro, `serial` as 24 hexadecimal digits."""

    firmware: str
    serial: str


def recognise(port: Port, robot: config.Robot, clock: Clock) -> None:
    """DeviceError naming the first servo that is not the one `robot` was calibrated with, or does not say who it is."""
    servos = robot.servos
    if not servos.identity:
        return  # nobody knows: the twin's, or one that is being calibrated
    names, holds = servos.joints or ("",) * len(servos.ids), HOLDS if robot.stop_profile == "stow" else ""
    try:
        found = asked(port, servos, clock)
    except DeviceError as error:
        raise DeviceError(f"{error}{holds}") from None
    for servo, joint, was, now in zip(servos.ids, names, servos.identity, found, strict=True):
        if now != was:
            who = f"servo {servo}" + (f" ({joint})" if joint else "")
            raise DeviceError(
                f"{port.name}: {who} is {now}, {robot.name} {robot.serial} was calibrated with {was}: another robot's, or it was"
                f" changed; plug in {robot.name} {robot.serial}, or calibrate anew: {command('calibrate homing')}{holds}"
            )


def asked(port: Port, servos: config.Servos, clock: Clock) -> tuple[str, ...]:
    """Who each servo is, in the order of its ids. DeviceError names the one that does not say."""
    if servos.protocol == "moteus":
        return tuple(one.serial for one in identify(port, servos.ids, clock))
    items = FEETECH
    if servos.protocol == "dynamixel":
        table = MODELS[servos.model].table if servos.model in MODELS else X
        items = (*DYNAMIXEL, *([table.CURRENT_LIMIT] if hasattr(table, "CURRENT_LIMIT") else []))
    asking, out = Asking(port, clock, servos.protocol), []
    for servo in servos.ids:
        read = asking.read(servo, items)
        if len(read) < len(items):
            raise silent(port, servo)
        text = " ".join(f"{item.address}={read[item]}" for item in items)
        out.append(hashlib.sha256(text.encode()).hexdigest()[:DIGITS])
    return tuple(out)


def firmware(port: Port, servos: config.Servos, clock: Clock) -> tuple[str, ...]:
    """Each servo's firmware, in the order of its ids. DeviceError names the one that does not say."""
    if servos.protocol == "moteus":
        return tuple(one.firmware for one in identify(port, servos.ids, clock))
    items = (S.FIRMWARE_MAJOR, S.FIRMWARE_MINOR) if servos.protocol == "feetech" else (X.FIRMWARE_VERSION,)
    asking, out = Asking(port, clock, servos.protocol), []
    for servo in servos.ids:
        read = asking.read(servo, items)
        if len(read) < len(items):
            raise silent(port, servo)
        out.append(".".join(str(read[item]) for item in items))
    return tuple(out)


def silent(port: Port, servo: int) -> DeviceError:
    return DeviceError(f"{port.name}: servo {servo} does not say who it is; check its id, cable and power")


def identify(port: Port, ids: Sequence[int], clock: Clock, checksum: bool = False) -> list[Identity]:
    """Of moteus servos, in the order of `ids`. DeviceError names the servo that does not say. An adapter that asks for checksums
    is spoken to with them from then on."""
    query = moteus.make_read(FIRMWARE, Width.INT32) + moteus.make_read(SERIAL, Width.INT32, 3)
    lines, found = Lines(), []
    for servo in ids:
        for _ in range(TRIES):
            port.write(moteus.make_send((0x80 | HOST) << 8 | servo, query, checksum))
            values, refused = _answer(port, lines, servo, clock)
            checksum = checksum or refused
            if values:
                break
        else:
            raise silent(port, servo)
        found.append(Identity(_version(values[FIRMWARE]), "".join(f"{values[SERIAL + i]:08x}" for i in range(3))))
    return found


def _answer(port: Port, lines: Lines, servo: int, clock: Clock) -> tuple[dict[int, int], bool]:
    """The registers of the servo's reply, empty when none came in time; whether the adapter wants a checksum."""
    deadline = clock.now() + ANSWER_NS
    while data := port.read(deadline):
        for line in lines.feed(data):
            match moteus.parse_line(line):
                case moteus.Received(can_id=can_id, frame=frame) if can_id == servo << 8 | HOST:
                    values = _registers(frame)
                    if FIRMWARE in values and {SERIAL, SERIAL + 1, SERIAL + 2} <= values.keys():
                        return values, False
                case moteus.Answer(ok=False, text=text) if "checksum" in text.lower():
                    return {}, True
        if clock.now() >= deadline:
            break
    return {}, False


def _registers(frame: bytes) -> dict[int, int]:
    try:
        parts = moteus.decode(frame)
    except moteus.FrameError:
        return {}
    # Integers that happen to be the lowest read as nan, floats may be anything; they are no valid identity.
    return {
        part.register + i: int(value) & 0xFFFFFFFF
        for part in parts
        if part.op == "reply"
        for i, value in enumerate(part.values)
        if math.isfinite(value)
    }


def _version(word: int) -> str:
    return f"{word >> 16}.{word >> 8 & 0xFF}.{word & 0xFF}"
