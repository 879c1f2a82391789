"""What the chain is sent, byte for byte, against frames put together here by hand from the moteus reference."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest

from robotrl import config
from robotrl.drivers.commands import HOSTS, Commands

SERVOS = config.Servos(
    ids=(1, 10, 63),
    sign=(1, -1, 1),
    offset=(0.0, 0.5, -2.0),
    max_torque=3.5,
    continuous_torque=2.5,
    velocity_limit=math.tau * 8,
    watchdog_s=0.125,
)
POSITION, STOP = "01000a", "010000"  # write int8: mode 10, mode 0
QUERY = "11001f01110a130d"  # read: mode int8; position, velocity, torque f32; motor temperature; voltage, board, fault


def crc(data: bytes) -> int:
    """CRC-8 by long division, polynomial x^8 + x^7 + x^4 + x^2 + x + 1."""
    value = int.from_bytes(data, "big") << 8
    for bit in range(value.bit_length() - 1, 7, -1):
        if value >> bit & 1:
            value ^= 0x197 << bit - 8
    return value


def f32(*numbers: float) -> str:
    return struct.pack(f"<{len(numbers)}f", *numbers).hex()


def line(can_id: int, frame: str, size: int, checksum: bool) -> bytes:
    text = f"can send {can_id:04x} {frame}{'50' * (size - len(frame) // 2)}"
    return (f"{text} *{crc(f'{text} '.encode()):02X}\n" if checksum else f"{text}\n").encode()


def position(turns: tuple[float, ...], torque: tuple[float, ...], checksum: bool) -> bytes:
    """Mode, target, both gains whole, torque limit, watchdog and velocity limit: 29 bytes, so 32 on the wire."""
    frames = [
        POSITION + "0d20" + f32(t) + "02237f7f" + "0d25" + f32(nm) + "0e27" + f32(0.125, 8.0)
        for t, nm in zip(turns, torque, strict=True)
    ]
    return b"".join(line(i, frame, 32, checksum) for i, frame in zip(SERVOS.ids, frames, strict=True))


def test_no_checksum_is_right_by_chance():
    assert crc(b"OK ") == 0xBD, "the example of the fdcanusb's manual: OK *BD"


@pytest.mark.parametrize("checksum", [False, True])
def test_queries_stops_and_damping(checksum):
    commands = Commands(SERVOS, checksum)
    assert tuple(range(0x40, 0x7F)) == HOSTS, "63 numbers: seven bits, and 0x7F is everybody"
    for host, sent in zip(HOSTS, commands.queries, strict=True):
        assert sent == b"".join(line((0x80 | host) << 8 | i, QUERY, 8, checksum) for i in SERVOS.ids)
    assert commands.stopping == b"".join(line(i, STOP, 3, checksum) for i in SERVOS.ids)
    assert commands.stopping_all == line(0x7F, STOP, 3, checksum), "moteus's broadcast"
    assert commands.stop_of((10,)) == line(10, STOP, 3, checksum) and commands.stop_of(()) == b""
    damping = POSITION + "0e20" + "0000c07f00000000" + "0223007f" + "0d25" + f32(3.5) + "0e27" + f32(0.125, 8.0)
    assert commands.damping == b"".join(line(i, damping, 48, checksum) for i in SERVOS.ids)


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("eased", [(), (0,), (1, 2), (0, 1, 2)])
def test_targets_in_the_servos_own_turns_and_eased_ones_without_the_peak(checksum, eased):
    commands = Commands(SERVOS, checksum)
    targets = (math.tau / 4, -math.tau / 8 + 0.5, math.tau + 2.0)
    turns = (0.25, (math.tau / 8 - 0.5 + 0.5) / math.tau, 1.0)
    sent = commands.position(targets, eased)
    assert sent == position(turns, tuple(2.5 if i in eased else 3.5 for i in range(3)), checksum)
    assert commands.targets(sent) == pytest.approx(targets, abs=1e-6)


def test_turns_keep_the_last_bit_of_a_float32():
    for target in (1.0, -2.345678, 3.3333333, 1e-3, 100.0):
        sent = Commands(SERVOS, False).position((target,) * 3)
        turns = (target / math.tau, (-target + 0.5) / math.tau, (target - 2.0) / math.tau)
        assert sent == position(turns, (3.5,) * 3, False)


@pytest.mark.parametrize("targets", [(0.0,) * 2, (0.0,) * 4, ()])
def test_one_target_a_servo(targets):
    with pytest.raises(ValueError, match=f"{len(targets)} targets for 3 servos"):
        Commands(SERVOS, False).position(targets)


@pytest.mark.parametrize(
    ("bad", "why"), [(math.nan, "is not finite"), (math.inf, "is not finite"), (-math.inf, "is not finite"), (1e40, "float32")]
)
@pytest.mark.parametrize("at", range(3))
def test_no_line_for_what_is_no_number(bad, why, at):
    targets = [0.0] * 3
    targets[at] = bad
    with pytest.raises(ValueError, match=why):
        Commands(SERVOS, False).position(targets)


GOOD: list[dict[str, object]] = [
    {"ids": (1, 2, 3)},
    {"ids": (61, 62, 63)},
    {"offset": (1e6, -1e6, 0.0)},
    *(
        {name: value}
        for name in ("kp", "kd", "max_torque", "continuous_torque", "peak_s", "velocity_limit", "watchdog_s")
        for value in (1e-9, 999999.0)
    ),
]
BAD: list[tuple[dict[str, object], str]] = [
    ({"ids": (), "sign": (), "offset": ()}, "0 ids"),
    ({"ids": (1, 2)}, "2 ids, 3 signs, 3 offsets"),
    ({"sign": (1, 1)}, "3 ids, 2 signs, 3 offsets"),
    ({"offset": (0.0,) * 4}, "3 ids, 3 signs, 4 offsets"),
    ({"ids": (1, 2, 2)}, "give each servo its own, 1 to 63"),
    ({"ids": (0, 1, 2)}, "give each servo its own, 1 to 63"),
    ({"ids": (1, 2, 64)}, "give each servo its own, 1 to 63"),
    ({"sign": (1, 0, 1)}, "signs"),
    ({"sign": (2, 1, 1)}, "signs"),
    ({"sign": (1, 1, -2)}, "signs"),
    ({"offset": (0.0, math.nan, 0.0)}, "offsets"),
    ({"offset": (0.0, 0.0, math.inf)}, "offsets"),
    *(
        ({name: value}, f"servos: {name} = ")
        for name in ("kp", "kd", "max_torque", "continuous_torque", "peak_s", "velocity_limit", "watchdog_s")
        for value in (0.0, -1.0, 1e6, math.nan, math.inf)
    ),
]


@pytest.mark.parametrize("change", GOOD)
def test_wiring_that_can_just_be(change):
    assert Commands(replace(SERVOS, **change), False).queries


@pytest.mark.parametrize(("change", "says"), BAD)
def test_wiring_that_cannot_be(change, says):
    with pytest.raises(ValueError, match=says):
        Commands(replace(SERVOS, **change), False)
