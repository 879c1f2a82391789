"""A cycle at once: the same answers whole, torn, stuffed, damaged, incomplete; frames written by hand from the manuals."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from robotrl.drivers.block import Block, Layout, Rows
from robotrl.drivers.dynamixel_x import XM430
from robotrl.drivers.feetech_sts import STS3215
from robotrl.drivers.sync import DynamixelRead, DynamixelWrite, FeetechRead, FeetechWrite
from robotrl.drivers.tables import Item
from tests.drivers.test_dynamixel import crc, packet
from tests.drivers.test_dynamixel import status as dxl
from tests.drivers.test_feetech import status as sts

IDS = (3, 7, 4)
STATE = (XM430.PRESENT_CURRENT, XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION)
FELT = (STS3215.PRESENT_POSITION, STS3215.PRESENT_SPEED, STS3215.PRESENT_LOAD)
CURRENT, VELOCITY, POSITION = (-100, 20, 32767), (-3, 2, 1000), (2048, -5, 4095)
ROWS = [c.to_bytes(2, "little", signed=True) + v.to_bytes(4, "little", signed=True) + p.to_bytes(4, "little", signed=True)
        for c, v, p in zip(CURRENT, VELOCITY, POSITION, strict=True)]  # fmt: skip
FELT_ROWS = [bytes.fromhex(row) for row in ("000864802c05", "ff0f0000e803", "0080e8030004")]


def fast(rows: list[tuple[int, int, bytes]]) -> bytes:
    """A fast reply by the manual: every servo's CRC runs over all before it."""
    out = b"\xff\xff\xfd\x00\xfe" + (1 + sum(4 + len(data) for _, _, data in rows)).to_bytes(2, "little") + b"\x55"
    for servo, error, data in rows:
        out += bytes((error, servo)) + data
        out += crc(out).to_bytes(2, "little")
    return out


def dynamixel_answer(errors: tuple[int, ...] = (0, 0, 0)) -> bytes:
    return b"".join(dxl(i, row, error) for i, row, error in zip(IDS, ROWS, errors, strict=True))


def feetech_answer(errors: tuple[int, ...] = (0, 0, 0)) -> bytes:
    return b"".join(sts(i, row, error) for i, row, error in zip(IDS, FELT_ROWS, errors, strict=True))


def fast_answer(errors: tuple[int, ...] = (0, 0, 0)) -> bytes:
    return fast(list(zip(IDS, errors, ROWS, strict=True)))


CASES = {
    "dynamixel": (lambda: DynamixelRead(IDS, STATE), dynamixel_answer),
    "fast": (lambda: DynamixelRead(IDS, STATE, fast=True), fast_answer),
    "feetech": (lambda: FeetechRead(IDS, FELT), feetech_answer),
}


@pytest.fixture(params=CASES)
def case(request):
    make, answer = CASES[request.param]
    return make(), answer


def state(read: Block) -> tuple:
    return read.data.tolist(), read.error.tolist(), read.heard.tolist()


def test_requests():
    read = DynamixelRead(IDS, STATE)
    assert (
        read.request == packet(254, bytes.fromhex("827e000a00 030704")) and read.begin() == read.request and read.size == 3 * 21
    )
    read = DynamixelRead(IDS, STATE, fast=True)
    assert read.request == packet(254, bytes.fromhex("8a7e000a00 030704")) and read.size == 8 + 3 * 14 == len(fast_answer())
    read = FeetechRead(IDS, FELT)
    assert read.request == bytes.fromhex("fffffe07823806030704") + bytes((255 - (0xFE + 7 + 0x82 + 0x38 + 6 + 14) % 256,))
    assert read.size == 3 * 12


def test_dynamixel_values():
    for make in (CASES["dynamixel"], CASES["fast"]):
        read = make[0]()
        assert read.feed(make[1]((0, 0x80, 0x87)))
        assert read.steps(XM430.PRESENT_CURRENT).tolist() == list(CURRENT)
        assert (
            read.steps(XM430.PRESENT_VELOCITY).tolist() == list(VELOCITY) and read.steps(XM430.PRESENT_VELOCITY).dtype == np.int64
        )
        assert read.values(XM430.PRESENT_POSITION) == pytest.approx([p * 2 * math.pi / 4096 for p in POSITION])
        assert read.values(XM430.PRESENT_CURRENT) == pytest.approx([c * 2.69e-3 for c in CURRENT])
        assert read.error.tolist() == [0, 0x80, 0x87] and read.heard.all()


def test_feetech_values():
    read = FeetechRead(IDS, FELT)
    assert read.feed(feetech_answer((0, 32, 1)))
    assert read.steps(STS3215.PRESENT_POSITION).tolist() == [2048, 4095, 0]
    assert read.steps(STS3215.PRESENT_SPEED).tolist() == [-100, 0, 1000]
    assert read.values(STS3215.PRESENT_LOAD) == pytest.approx([-0.3, 1.0, -0.0])
    assert read.error.tolist() == [0, 32, 1]


def test_whole_torn_and_parsed_answers_are_the_same(case):
    read, answer = case
    assert read.feed(answer((0, 1, 32))) and read.complete
    whole = state(read)
    for size in (1, 5, 20, 40):
        read.begin()
        done = [read.feed(answer((0, 1, 32))[at : at + size]) for at in range(0, len(answer()), size)]
        assert done[-1] and not any(done[:-1]) and state(read) == whole
        assert read.finish() and state(read) == whole and read.strangers == 0
    read.begin()
    read.feed(b"\x00noise")
    assert read.feed(answer((0, 1, 32))) and state(read) == whole and read.strangers == 0 == read.errors


@pytest.mark.parametrize("family", ["dynamixel", "feetech"])
def test_an_undisturbed_answer_needs_no_parser(family, monkeypatch):
    make, answer = CASES[family]
    read = make()
    monkeypatch.setattr(read, "_parse", lambda data: pytest.fail("parsed"))
    assert read.feed(answer((0, 0x7F, 32))) and read.finish() is True and read.strangers == 0


def test_nobody_is_heard_before_and_after_beginning_anew(case):
    read, answer = case
    nothing = ([[0] * read.layout.length] * 3, [0] * 3, [False] * 3)
    assert state(read) == nothing and np.isnan(read.values(read.layout.items[0])).all() and not read.finish()
    read.begin()
    read.feed(answer((1, 2, 3)))
    kept = read.data, read.error, read.heard
    read.begin()
    assert state(read) == nothing
    read.feed(answer((1, 2, 3))[: len(answer()) // 2])
    read.finish()
    read.begin()
    assert state(read) == nothing and kept[1].tolist() == [1, 2, 3] and kept[2].all(), "what was handed out stays as it was"


def test_a_new_block_has_heard_nobody():
    block = Block((5, 6), STATE)
    assert state(block) == ([[0] * 10] * 2, [0, 0], [False, False]) and block.strangers == 0 and not block.complete


@pytest.mark.parametrize("family", ["dynamixel", "feetech"])
def test_a_cycle_that_ended_early_leaves_nothing_to_the_next(family):
    make, answer = CASES[family]
    read, size = make(), len(answer()) // 3
    read.begin()
    assert not read.feed(answer()[: size + 7]) and not read.finish() and not read.finish()
    assert read.heard.tolist() == [True, False, False] and read.strangers == 0, "what came is taken once"
    assert not read.feed(answer()[size + 7 : 2 * size]) and read.heard.tolist() == [True, True, False]
    read.put(9, 0, b"")
    assert read.strangers == 1
    read.begin()
    assert read.strangers == 0 and not read.feed(answer()[: size + 7]) and not read.finish()
    read.begin()
    assert not read.feed(answer()[size + 7 : 2 * size]) and not read.finish() and not read.heard.any()


@pytest.mark.parametrize(
    ("family", "more", "strangers"),
    [("dynamixel", dxl(9, bytes(10)), 1), ("feetech", sts(9, bytes(6)), 0), ("feetech", sts(3, bytes(6)), 1)],
    ids=["dynamixel", "another's", "twice"],
)
def test_a_whole_answer_with_more_behind_it_is_taken_without_that(family, more, strangers):
    make, answer = CASES[family]
    read, whole = make(), make()
    assert whole.feed(answer()) and read.feed(answer() + more)
    assert state(read) == state(whole) and read.strangers == strangers


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_a_silent_servo_reads_nan_and_the_others_as_they_are(silent):
    for make, answers, item in (
        (CASES["dynamixel"][0], [dxl(i, row) for i, row in zip(IDS, ROWS, strict=True)], XM430.PRESENT_POSITION),
        (CASES["feetech"][0], [sts(i, row) for i, row in zip(IDS, FELT_ROWS, strict=True)], STS3215.PRESENT_POSITION),
    ):
        read = make()
        assert not read.feed(b"".join(a for i, a in enumerate(answers) if i != silent)) and not read.finish()
        assert read.heard.tolist() == [i != silent for i in range(3)]
        assert np.isnan(read.values(item)).tolist() == [i == silent for i in range(3)]
        assert read.steps(item)[silent] == 0


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_a_fast_reply_ends_with_the_first_silent_servo(silent):
    read = DynamixelRead(IDS, STATE, fast=True)
    assert not read.feed(fast_answer((1, 2, 3))[: 8 + 14 * silent]) and not read.finish()
    assert read.heard.tolist() == [i < silent for i in range(3)] and read.error.tolist() == [1, 2, 3][:silent] + [0] * (
        3 - silent
    )


def test_a_fast_reply_damaged_in_the_middle_is_read_up_to_there():
    read, damaged = DynamixelRead(IDS, STATE, fast=True), bytearray(fast_answer())
    damaged[8 + 14 + 5] ^= 4
    assert not read.feed(b"\xff" + bytes(damaged)) and not read.finish()
    assert read.heard.tolist() == [True, False, False] and read.errors == 1


def test_a_fast_reply_that_was_not_asked_for_is_not_taken():
    read = DynamixelRead(IDS, STATE)
    assert not read.feed(fast_answer()[:30]) and not read.finish() and not read.heard.any()


def test_a_feetech_answer_of_another_size_is_none():
    read = FeetechRead(IDS, FELT)
    assert read.feed(sts(3, bytes(5)) + sts(7, bytes(7)) + feetech_answer()) and read.strangers == 0 == read.errors


def test_every_changed_bit_costs_one_servo_at_most():
    for make, answer, size in ((*CASES["dynamixel"], 21), (*CASES["feetech"], 12)):
        read = make()
        assert read.feed(answer())
        sound = state(read)
        for bit in range(8 * len(answer())):
            damaged = bytearray(answer())
            damaged[bit // 8] ^= 1 << bit % 8
            read.begin()
            read.feed(bytes(damaged))
            read.finish()
            hit = bit // 8 // size
            assert read.heard.tolist() == [i != hit for i in range(3)], bit
            assert all(read.data[i].tolist() == sound[0][i] for i in range(3) if i != hit)


def test_stuffed_answers_are_read():
    """A position of FF FD after a speed of FF.. is stuffed: the answer is longer than it was asked to be."""
    rows = [b"\x00\x00\xff\xff\xff\xff\xfd\xff\xff\xff", *ROWS[1:]]
    sent = packet(3, b"\x55\x00\x00\x00\xff\xff\xff\xff\xfd\xfd\xff\xff\xff") + dxl(7, ROWS[1]) + dxl(4, ROWS[2])
    read = DynamixelRead(IDS, STATE)
    assert len(sent) == read.size + 1
    for size in (len(sent), 1, 30, 63):
        read.begin()
        done = [read.feed(sent[at : at + size]) for at in range(0, len(sent), size)]
        assert done[-1] and read.data.tolist() == [list(row) for row in rows]
    assert read.steps(XM430.PRESENT_POSITION)[0] == -3 and read.errors == 0


def test_the_longest_stuffed_answer_is_read():
    read = DynamixelRead((1,), (XM430.PRESENT_VELOCITY, XM430.PRESENT_POSITION, XM430.VELOCITY_TRAJECTORY))
    body = bytes.fromhex("fffffd" * 4)
    assert read.feed(packet(1, b"\x55\x00" + body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"))) and read.data.tobytes() == body
    read = DynamixelRead((1,), (XM430.PRESENT_INPUT_VOLTAGE,))
    assert (
        read.feed(packet(1, bytes.fromhex("55ff fffdfd")))
        and read.data.tobytes() == b"\xff\xfd"
        and read.error.tolist() == [0xFF]
    )


def test_a_packet_of_the_right_size_whose_unstuffed_data_are_short_is_none():
    read = DynamixelRead((1, 2), (XM430.PRESENT_POSITION,))
    assert not read.feed(packet(1, bytes.fromhex("5500fffffdfd")) + dxl(2, bytes(4))) and read.heard.tolist() == [False, True]
    assert read.strangers == 1


def test_answers_come_in_any_order_and_each_once():
    for make, one in ((CASES["dynamixel"][0], dxl), (CASES["feetech"][0], sts)):
        read = make()
        rows = [bytes([k]) * read.layout.length for k in range(5)]
        assert read.feed(one(4, rows[0]) + one(3, rows[1]) + one(3, rows[2]) + one(7, rows[4]))
        assert read.data[:, 0].tolist() == [1, 4, 0] and read.strangers == 1


def test_three_whole_answers_in_another_order_are_each_their_servos():
    for make, one in ((CASES["dynamixel"][0], dxl), (CASES["feetech"][0], sts)):
        read = make()
        rows = [bytes([k]) * read.layout.length for k in range(3)]
        assert read.feed(one(4, rows[0]) + one(7, rows[1]) + one(3, rows[2])) and len(read.data) == 3
        assert read.data[:, 0].tolist() == [2, 1, 0] and read.strangers == 0


@pytest.mark.parametrize(("size", "begun"), [(24, 1), (25, 0)])
def test_a_length_that_no_answer_has_begins_no_packet(size, begun):
    """11 bytes about ten of data, which stuffing makes thirteen at most: one more for three, the error byte among them."""
    read = DynamixelRead(IDS, STATE)
    assert read.feed(b"\xff\xff\xfd\x00\x03" + (size - 7).to_bytes(2, "little") + b"\x55" + dynamixel_answer())
    assert read.errors == begun and read.strangers == 0


def test_an_answer_of_another_servo_or_size_is_a_stranger():
    read = DynamixelRead(IDS, STATE)
    read.feed(dxl(9, bytes(10)) + dxl(3, bytes(9)) + dxl(3, ROWS[0]) + dxl(7, ROWS[1]))
    assert read.heard.tolist() == [True, True, False] and read.strangers == 2


def test_a_refusal_leaves_its_error_and_no_values():
    for make, one in ((CASES["dynamixel"][0], dxl), (CASES["feetech"][0], sts)):
        read = make()
        assert not read.feed(one(3, b"", 0x25) + one(7, bytes(read.layout.length)) + one(4, bytes(read.layout.length)))
        read.finish()
        assert read.error.tolist() == [0x25, 0, 0] and read.heard.tolist() == [False, True, True]


def test_a_feetech_answer_with_an_unknown_error_bit_is_none():
    read = FeetechRead(IDS, FELT)
    assert not read.feed(feetech_answer((0, 0x80, 0))) and read.heard.tolist() == [True, False, True]
    assert FeetechRead(IDS, FELT).feed(feetech_answer((0, 0x7F, 0)))


def test_random_answers_are_read_as_they_were_made(case):
    rng, (read, _) = random.Random(1), case
    length, maker = read.layout.length, {DynamixelRead: dxl, FeetechRead: sts}[type(read)]
    for _ in range(200):
        rows = [bytes(rng.choices((0, 0xFF, 0xFD, 0xFE, 7), k=length)) for _ in IDS]
        read.begin()
        if read.request[7] == 0x8A:
            sent = fast([(i, 0, row) for i, row in zip(IDS, rows, strict=True)])
        elif maker is dxl:
            stuffed = (row.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd") for row in rows)
            sent = b"".join(dxl(i, row) for i, row in zip(IDS, stuffed, strict=True))
        else:
            sent = b"".join(sts(i, row) for i, row in zip(IDS, rows, strict=True))
        assert read.feed(sent) and read.data.tolist() == [list(row) for row in rows]


def test_registers_apart_are_read_in_one_piece():
    block = Block((1, 2), (XM430.PRESENT_POSITION, XM430.PRESENT_PWM, XM430.PRESENT_TEMPERATURE, XM430.PRESENT_POSITION))
    assert (block.layout.address, block.layout.length) == (124, 23)
    block.take(np.array([0, 1], np.uint8), np.arange(46, dtype=np.uint8).reshape(2, 23))
    assert block.steps(XM430.PRESENT_TEMPERATURE).tolist() == [22, 45] and block.steps(XM430.PRESENT_PWM).tolist() == [256, 6167]
    assert block.steps(XM430.PRESENT_POSITION).tolist() == [0x0B0A0908, 0x2221201F]
    for unnamed in (XM430.PRESENT_VELOCITY, XM430.MOVING_STATUS, XM430.BACKUP_READY):
        with pytest.raises(ValueError, match="was not asked for"):
            block.values(unnamed)
    with pytest.raises(ValueError, match="no register named"):
        Layout(())


@pytest.mark.parametrize(("size", "sign"), [(1, 0), (1, 3), (1, 7), (2, 0), (2, 11), (2, 15)])
def test_every_number_whose_sign_is_a_bit_is_read(size, sign):
    """By its digits: the sign's own is taken out of the row."""
    count = 1 << 8 * size
    item = Item(9, size, "nine", "rad", 0.5, sign, top=count // 2 - 1)
    block = Block(range(count), (item,))
    block.take(np.zeros(count, np.uint8), np.arange(count, dtype=f"<u{size}").view(np.uint8).reshape(count, size))
    digits = [f"{number:0{8 * size}b}" for number in range(count)]
    at = 8 * size - 1 - sign
    wanted = [int(row[:at] + row[at + 1 :], 2) * (-1 if row[at] == "1" else 1) for row in digits]
    assert block.steps(item).tolist() == wanted
    assert block.values(item).tolist() == [steps / 2 for steps in wanted]


@pytest.mark.parametrize("ids", [(), (1, 1), (2, 3, 2)])
def test_servos_are_named_once_each(ids):
    with pytest.raises(ValueError, match="name each once"):
        Block(ids, STATE)


def test_dynamixel_goals():
    write = DynamixelWrite(IDS, (XM430.GOAL_POSITION,))
    write.fill_values(XM430.GOAL_POSITION, [math.pi, 0.0, -math.pi / 2])
    assert write.packet() == packet(254, bytes.fromhex("8374000400 0300080000 0700000000 0400fcffff"))
    write.fill(XM430.GOAL_POSITION, np.array([-3, 2**31 - 1, -(2**31)]))
    assert write.packet() == packet(254, bytes.fromhex("8374000400 03fdffffff 07ffffff7f 0400000080"))


def test_feetech_goals():
    write = FeetechWrite(IDS, (STS3215.ACCELERATION, STS3215.GOAL_POSITION, STS3215.GOAL_PWM, STS3215.GOAL_SPEED))
    write.fill(STS3215.ACCELERATION, [50, 0, 255])
    write.fill(STS3215.GOAL_POSITION, [2048, -100, 32767])
    write.fill(STS3215.GOAL_PWM, [0, -300, 1023])
    write.fill_values(STS3215.GOAL_SPEED, [1000 * 2 * math.pi / 4096, 0.0, -2 * math.pi / 4096])
    rows = bytes.fromhex("03 32 0008 0000 e803  07 00 6480 2c05 0000  04 ff ff7f ff03 0180")
    sent = bytes((254, 4 + len(rows), 0x83, 41, 7)) + rows
    assert write.packet() == b"\xff\xff" + sent + bytes((255 - sum(sent) % 256,))
    write = FeetechWrite((1, 2), (STS3215.HOMING_OFFSET,))
    write.fill(STS3215.HOMING_OFFSET, [-4095, 2048])
    assert write.tobytes() == bytes.fromhex("01ff1f 020010")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, 3.3e6, -3.3e6])
def test_a_goal_that_is_none_changes_nothing(bad):
    write = DynamixelWrite(IDS, (XM430.GOAL_POSITION,))
    write.fill_values(XM430.GOAL_POSITION, [1.0, 2.0, 3.0])
    before = write.packet()
    with pytest.raises(ValueError, match="it holds -2147483648 to 2147483647"):
        write.fill_values(XM430.GOAL_POSITION, [0.0, bad, 0.0])
    assert write.packet() == before


def test_goals_are_one_for_each_servo_and_whole_as_steps():
    write = Rows(IDS, (XM430.GOAL_CURRENT, XM430.GOAL_POSITION))
    for wrong in ([1, 2], [1, 2, 3, 4], 5, [[1, 2, 3]]):
        with pytest.raises(ValueError, match="one number for each of 3 servos"):
            write.fill(XM430.GOAL_POSITION, wrong)
    with pytest.raises(ValueError, match="give whole steps"):
        write.fill(XM430.GOAL_POSITION, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="not written here"):
        write.fill(XM430.GOAL_VELOCITY, [1, 2, 3])
    for steps in ([32768, 0, 0], [0, 0, -32769]):
        with pytest.raises(ValueError, match="holds -32768 to 32767"):
            write.fill(XM430.GOAL_CURRENT, steps)
    write.fill(XM430.GOAL_CURRENT, [32767, 0, -32768])
    assert write.tobytes()[:3] == bytes.fromhex("03ff7f")


def test_servos_that_are_left_out_of_a_write_are_not_in_its_bytes_and_the_others_are():
    rows = Rows(IDS, (XM430.GOAL_POSITION,))
    rows.fill(XM430.GOAL_POSITION, [1, 2, 3])
    whole = [bytes((servo,)) + steps.to_bytes(4, "little") for servo, steps in zip(IDS, (1, 2, 3), strict=True)]
    assert rows.tobytes() == b"".join(whole)
    assert rows.tobytes((1,)) == whole[0] + whole[2] and rows.tobytes((0, 2)) == whole[1]


def test_a_register_of_one_byte_leaves_the_next_as_it_is():
    rows = Rows((3,), (XM430.TORQUE_ENABLE, XM430.LED))
    rows.fill(XM430.LED, [1])
    rows.fill(XM430.TORQUE_ENABLE, [0])
    assert rows.tobytes() == b"\x03\x00\x01"


def test_a_magnitude_above_its_sign_leaves_the_next_register_as_it_is():
    """Feetech's offset at 31 with the mode at 33 behind it: sign in bit 11, and the magnitude's own 12th bit above it."""
    rows = Rows((3, 4), (STS3215.HOMING_OFFSET, STS3215.OPERATING_MODE))
    rows.fill(STS3215.OPERATING_MODE, [3, 1])
    rows.fill(STS3215.HOMING_OFFSET, [-50, 7])
    assert rows.tobytes() == bytes.fromhex("03 3208 03 04 0700 01")
