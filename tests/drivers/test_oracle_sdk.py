"""Both makers' SDKs as judges, from the extra `oracle`: byte for byte what we send, and what they read of what we read.

dynamixel-sdk 4.1.0 computes stuffing and drops the result (`txPacket` does not take what `addStuffing` returns), so its packets
with FF FF FD in them are not what a servo understands. Its own stuffing is put back here, and a test says when that is mended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.feetech_sts import STS3215

ROUNDS = 300
HARD = (0xFF, 0xFF, 0xFD, 0xFD, 0x00, 0x55, 0x03, 0x80)  # what headers and stuffing are made of


class Wire:
    """What both SDKs take for a port: it keeps what is written, and says `answer`."""

    def __init__(self) -> None:
        self.sent, self.answer, self.is_using, self.asked = b"", b"", False, 0

    def writePort(self, packet: Any) -> int:
        self.sent = bytes(packet)
        return len(packet)

    def readPort(self, length: int) -> bytes:
        out, self.answer = self.answer[:length], self.answer[length:]
        return out

    def clearPort(self) -> None:
        pass

    def setPacketTimeout(self, length: float) -> None:
        self.asked = 0

    setPacketTimeoutMillis = setPacketTimeout

    def isPacketTimeout(self) -> bool:
        self.asked += 1
        return not self.answer

    def getBaudRate(self) -> int:
        return 1_000_000


@pytest.fixture
def dxl() -> Any:
    return pytest.importorskip("dynamixel_sdk", reason="dynamixel-sdk is not installed: pip install -e .[oracle]")


@pytest.fixture
def scs() -> Any:
    return pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed: pip install -e .[oracle]")


@pytest.fixture
def judge(dxl) -> Any:
    handler = dxl.PacketHandler(2.0)
    lost = handler.addStuffing
    handler.addStuffing = lambda packet: packet.__setitem__(slice(None), lost(packet))
    return handler


def draw(rng: random.Random, least: int = 1, most: int = 30) -> list[int]:
    n = rng.randint(least, most)
    return [rng.choice(HARD) if rng.random() < 0.6 else rng.randrange(256) for _ in range(n)]


def servos(rng: random.Random, most: int = 252) -> list[int]:
    return rng.sample(range(most + 1), rng.randint(1, 14))


def words(value: int) -> list[int]:
    return [value & 0xFF, value >> 8]


def dynamixel_pairs(judge: Any, wire: Wire, rng: random.Random) -> dict[str, tuple[Callable[[], Any], bytes]]:
    """Of every instruction the SDK has: its call, and our bytes."""
    one, data, ids = rng.randint(0, 252), draw(rng), servos(rng)
    address, length = rng.choice((rng.randrange(700), 0xFFFF, 0xFDFF)), rng.choice((rng.randint(1, 20), 0xFD))
    rows = [[i, *(draw(rng, 5, 5))] for i in ids]
    bulk = [(i, rng.randrange(700), rng.randint(1, 9)) for i in ids]
    bulk_data = [(i, rng.randrange(700), draw(rng, 1, 8)) for i in ids]
    flat = [b for i, a, n in bulk for b in (i, *words(a), *words(n))]
    flat_data = [b for i, a, d in bulk_data for b in (i, *words(a), *words(len(d)), *d)]
    row_bytes = [b for row in rows for b in row]
    what = rng.choice(list(dynamixel.Reset))
    return {
        "ping": (lambda: judge.ping(wire, one), dynamixel.make_ping(one)),
        "ping all": (lambda: judge.broadcastPing(wire), dynamixel.make_ping()),
        "read": (lambda: judge.readTx(wire, one, address, length), dynamixel.make_read(one, address, length)),
        "write": (
            lambda: judge.writeTxOnly(wire, one, address, len(data), data),
            dynamixel.make_write(one, address, bytes(data)),
        ),
        "reg write": (
            lambda: judge.regWriteTxOnly(wire, one, address, len(data), data),
            dynamixel.make_reg_write(one, address, bytes(data)),
        ),
        "action": (lambda: judge.action(wire, one), dynamixel.make_action(one)),
        "factory reset": (lambda: judge.factoryReset(wire, one, int(what)), dynamixel.make_factory_reset(one, what)),
        "reboot": (lambda: judge.reboot(wire, one), dynamixel.make_reboot(one)),
        "clear": (lambda: judge.clearMultiTurn(wire, one), dynamixel.make_clear(one)),
        "sync read": (
            lambda: judge.syncReadTx(wire, address, length, ids, len(ids), False),
            dynamixel.make_sync_read(address, length, ids),
        ),
        "fast sync read": (
            lambda: judge.syncReadTx(wire, address, length, ids, len(ids), True),
            dynamixel.make_sync_read(address, length, ids, fast=True),
        ),
        "sync write": (
            lambda: judge.syncWriteTxOnly(wire, address, 5, row_bytes, len(row_bytes)),
            dynamixel.make_sync_write(address, 5, bytes(row_bytes)),
        ),
        "bulk read": (lambda: judge.bulkReadTx(wire, flat, len(flat), False), dynamixel.make_bulk_read(bulk)),
        "fast bulk read": (lambda: judge.bulkReadTx(wire, flat, len(flat), True), dynamixel.make_bulk_read(bulk, fast=True)),
        "bulk write": (
            lambda: judge.bulkWriteTxOnly(wire, flat_data, len(flat_data)),
            dynamixel.make_bulk_write((i, a, bytes(d)) for i, a, d in bulk_data),
        ),
    }


def test_dynamixel_instructions_are_byte_for_byte_the_makers(judge):
    wire, rng, stuffed = Wire(), random.Random(1), 0
    for n in range(ROUNDS):
        for name, (call, ours) in dynamixel_pairs(judge, wire, rng).items():
            wire.is_using = False
            call()
            assert wire.sent == ours, f"{name}, round {n}"
            stuffed += b"\xff\xff\xfd\xfd" in ours
    assert stuffed > ROUNDS / 3


def test_the_makers_stuffing_is_still_lost(dxl):
    """When this fails, the SDK is mended: take `judge`'s patch away."""
    wire = Wire()
    dxl.PacketHandler(2.0).writeTxOnly(wire, 1, 116, 4, [0xFF, 0xFF, 0xFD, 0x00])
    assert b"\xff\xff\xfd\xfd" not in wire.sent and dynamixel.make_write(1, 116, b"\xff\xff\xfd\x00") != wire.sent


def test_dynamixel_status_packets_mean_the_same_to_both(judge):
    wire, rng = Wire(), random.Random(2)
    for n in range(ROUNDS):
        one, error, params = rng.randint(0, 252), rng.choice((0, 0, 1, 7, 0x80, 0x87)), bytes(draw(rng, 1, 40))
        sent = dynamixel.make_packet(one, dynamixel.STATUS, bytes((error,)) + params)
        wire.answer = sent
        data, result, theirs = judge.readRx(wire, one, len(params))
        assert (bytes(data), result, theirs) == (params, 0, error), n
        assert dynamixel.Parser().feed(sent) == [(one, error, params)], n
        damaged = bytearray(sent)
        damaged[rng.randrange(7, len(sent))] ^= 1 << rng.randrange(8)
        wire.answer = bytes(damaged)
        assert judge.readRx(wire, one, len(params))[1] != 0 and dynamixel.Parser().feed(bytes(damaged)) == [], n


def test_dynamixel_sync_and_fast_reads_mean_the_same_to_both(dxl, judge):
    wire, rng = Wire(), random.Random(3)
    for n in range(ROUNDS):
        ids, length = servos(rng), rng.choice((1, 2, 4))
        rows = {i: bytes(draw(rng, length, length)) for i in ids}
        group = dxl.GroupSyncRead(wire, judge, 132, length)
        for servo in ids:
            group.addParam(servo)
        sent = b"".join(dynamixel.make_packet(i, dynamixel.STATUS, b"\x80" + row) for i, row in rows.items())
        wire.answer = sent
        assert group.rxPacket() == 0
        assert {i: group.getData(i, 132, length) for i in ids} == {i: int.from_bytes(row, "little") for i, row in rows.items()}
        assert dynamixel.Parser().feed(sent) == [(i, 0x80, row) for i, row in rows.items()], n
        reply = fast_reply(judge, rows)
        wire.answer = reply
        assert group.fastSyncReadRxPacket() == 0
        assert {i: group.getData(i, 132, length) for i in ids} == {i: int.from_bytes(row, "little") for i, row in rows.items()}
        (status,) = dynamixel.Parser(fast=True).feed(reply)
        assert dynamixel.split_fast(status.params, [length] * len(ids)) == [(i, 0, row) for i, row in rows.items()], n


def fast_reply(judge: Any, rows: dict[int, bytes]) -> bytes:
    """One packet of all, every CRC the SDK's over all before it."""
    out = [0xFF, 0xFF, 0xFD, 0x00, 0xFE, *words(1 + sum(4 + len(row) for row in rows.values())), 0x55]
    for servo, row in rows.items():
        out += [0, servo, *row]
        out += words(judge.updateCRC(0, out, len(out)))
    return bytes(out)


def test_a_broadcast_ping_means_the_same_to_both(judge):
    wire, rng = Wire(), random.Random(4)
    for _ in range(20):
        found = {i: [rng.randrange(65536), rng.randrange(256)] for i in servos(rng)}
        sent = b"".join(
            dynamixel.make_packet(i, dynamixel.STATUS, bytes((0, *words(model), firmware)))
            for i, (model, firmware) in found.items()
        )
        wire.answer = sent
        theirs, result = judge.broadcastPing(wire)
        assert result == 0 and theirs == found
        ours = dynamixel.Parser().feed(sent)
        assert {s.id: [int.from_bytes(s.params[:2], "little"), s.params[2]] for s in ours} == found


def feetech_pairs(handler: Any, wire: Wire, rng: random.Random) -> dict[str, tuple[Callable[[], Any], bytes]]:
    one, data, ids = rng.randint(0, 253), draw(rng), servos(rng, 253)
    address, length = rng.randrange(87), rng.randint(1, 20)
    rows = [b for i in ids for b in (i, *draw(rng, 6, 6))]
    return {
        "read": (lambda: handler.readTx(wire, one, address, length), feetech.make_read(one, address, length)),
        "write": (
            lambda: handler.writeTxOnly(wire, one, address, len(data), data),
            feetech.make_write(one, address, bytes(data)),
        ),
        "reg write": (
            lambda: handler.regWriteTxOnly(wire, one, address, len(data), data),
            feetech.make_reg_write(one, address, bytes(data)),
        ),
        "ping": (lambda: handler.ping(wire, one), feetech.make_ping(one)),
        "action": (lambda: handler.action(wire, one), feetech.make_action(one)),
        "action of all": (lambda: handler.action(wire, 254), feetech.make_action()),
        "sync read": (
            lambda: handler.syncReadTx(wire, address, length, ids, len(ids)),
            feetech.make_sync_read(address, length, ids),
        ),
        "sync write": (
            lambda: handler.syncWriteTxOnly(wire, address, 6, rows, len(rows)),
            feetech.make_sync_write(address, 6, bytes(rows)),
        ),
        "lock": (lambda: handler.write1ByteTxOnly(wire, one, 55, length & 1), feetech.make_lock(one, bool(length & 1))),
    }


def test_feetech_instructions_are_byte_for_byte_the_makers(scs):
    handler, wire, rng = scs.PacketHandler(0), Wire(), random.Random(5)
    for n in range(ROUNDS):
        for name, (call, ours) in feetech_pairs(handler, wire, rng).items():
            wire.is_using = False
            call()
            assert wire.sent == ours, f"{name}, round {n}"


def test_feetech_status_frames_mean_the_same_to_both(scs):
    handler, wire, rng = scs.PacketHandler(0), Wire(), random.Random(6)
    for n in range(ROUNDS):
        ids, length = servos(rng, 253), rng.choice((1, 2, 8, 15))
        rows = {i: (rng.choice((0, 0, 1, 32, 0x7F)), bytes(draw(rng, length, length))) for i in ids}
        sent = b"".join(feetech.make_frame(i, error, row) for i, (error, row) in rows.items())
        wire.answer = sent
        theirs = {i: handler.readRx(wire, i, length) for i in ids}
        assert {i: (error, bytes(data)) for i, (data, result, error) in theirs.items() if result == 0} == rows, n
        parser = feetech.Parser(ids, length + 6, exact=True)
        assert parser.feed(sent) == [(i, error, row) for i, (error, row) in rows.items()], n
        damaged = bytearray(sent[: length + 6])
        damaged[rng.randrange(4, len(damaged))] ^= 1 << rng.randrange(8)
        wire.answer = bytes(damaged)
        theirs_result = handler.readRx(wire, ids[0], length)[1]
        assert theirs_result != 0 and feetech.Parser(ids, length + 6, exact=True).feed(bytes(damaged)) == [], n


def test_feetech_signs_are_the_makers(scs):
    rng = random.Random(7)
    items = [i for i in vars(STS3215).values() if getattr(i, "sign", -1) >= 0]
    assert {item.sign for item in items} == {10, 11, 15}
    for item in items:
        for _ in range(ROUNDS):
            steps = rng.randint(-((1 << item.sign) - 1), (1 << item.sign) - 1)
            raw = scs.SCS_TOSCS(steps, item.sign)
            assert item.encode(steps) == raw.to_bytes(2, "little") and item.decode(item.encode(steps)) == scs.SCS_TOHOST(
                raw, item.sign
            )
