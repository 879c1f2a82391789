"""The Feetech codec against the manual's bytes, against bytes written here by its rules, and against damage."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from robotrl.drivers import feetech
from robotrl.drivers.feetech import BROADCAST, Parser, Status
from robotrl.drivers.feetech_sts import STS3215

GOLDEN = {
    name: bytes.fromhex("".join(text))
    for name, *text in map(str.split, (Path(__file__).parents[1] / "golden" / "feetech.txt").read_text().splitlines())
    if name != "#"
}


def frame(servo: int, body: bytes) -> bytes:
    """A frame after the manual: the inverted low byte of the sum of all but the header."""
    inner = bytes((servo, len(body) + 1)) + body
    return b"\xff\xff" + inner + bytes((255 - sum(inner) % 256,))


def status(servo: int, params: bytes = b"", error: int = 0) -> bytes:
    return frame(servo, bytes((error,)) + params)


def test_builders_give_the_documented_bytes():
    goal = bytes.fromhex("00080000e803")
    made = {
        "ping": feetech.make_ping(1),
        "read": feetech.make_read(1, 56, 2),
        "write_id": feetech.make_write(BROADCAST, 5, b"\x01"),
        "write_goal": feetech.make_write(1, 42, goal),
        "reg_write": feetech.make_reg_write(1, 42, goal),
        "reg_write_10": feetech.make_reg_write(10, 42, goal),
        "action": feetech.make_action(),
        "sync_write": feetech.make_sync_write(42, 6, b"".join(bytes((i,)) + goal for i in (1, 2, 3, 4))),
        "sync_read": feetech.make_sync_read(56, 8, (1, 2)),
        "reset": feetech.make_reset(1),
        "calibrate": feetech.make_calibrate(1),
        "calibrate_1024": feetech.make_calibrate(1, 1024),
        "recovery": feetech.make_recovery(1),
        "backup": feetech.make_backup(1),
        "reboot": feetech.make_reboot(1),
        "goal_minus_100": feetech.make_write(1, 42, STS3215.GOAL_POSITION.encode(-100)),
        "torque_on": feetech.make_write(1, 40, b"\x01"),
        "torque_off_all": feetech.make_write(BROADCAST, 40, b"\x00"),
        "unlock": feetech.make_lock(1, False),
        "offset_minus_50": feetech.make_write(1, 31, STS3215.HOMING_OFFSET.encode(-50)),
    }
    assert {name: data.hex() for name, data in made.items()} == {name: GOLDEN[name].hex() for name in made}
    assert feetech.make_lock(1, True) == frame(1, bytes.fromhex("033701"))
    assert feetech.make_action(3) == frame(3, b"\x05")


def test_documented_status_frames_are_read():
    names = ("ok", "read_status", "sync_read_status_1", "sync_read_status_2", "load_minus_300", "overload")
    assert Parser().feed(b"".join(GOLDEN[name] for name in names)) == [
        Status(1, 0),
        Status(1, 0, b"\x18\x05"),
        Status(1, 0, bytes.fromhex("000800000000791e")),
        Status(2, 0, bytes.fromhex("ff07000000007723")),
        Status(1, 0, b"\x2c\x05"),
        Status(3, 0x20, b"\x00\x08"),
    ]
    assert STS3215.PRESENT_LOAD.decode(b"\x2c\x05") == -300


@pytest.mark.parametrize("servo", [-1, 255, 256])
def test_ids_that_no_servo_has(servo):
    with pytest.raises(ValueError, match="servo id"):
        feetech.make_ping(servo)


def test_ids_that_answer():
    assert feetech.make_ping(0)[2] == 0 and feetech.make_ping(253)[2] == 253 and feetech.make_ping(254)[2] == 254
    assert Parser().feed(status(0) + status(253) + status(254) + status(5)) == [Status(0, 0), Status(253, 0), Status(5, 0)]


def test_frames_are_bounded():
    assert len(feetech.make_write(1, 0, bytes(243))) == 250
    with pytest.raises(ValueError, match="frame of 251 bytes; 250 at most"):
        feetech.make_write(1, 0, bytes(244))
    assert Parser().feed(status(1, bytes(244))) == [Status(1, 0, bytes(244))]
    assert Parser().feed(status(1, bytes(245)) + status(2)) == [Status(2, 0)]
    assert Parser(longest=10).feed(status(1, bytes(4)) + status(1, bytes(5)) + status(2)) == [
        Status(1, 0, bytes(4)),
        Status(2, 0),
    ]


@pytest.mark.parametrize("rows", [b"", b"\x01\x02\x03", bytes(15)])
def test_rows_of_a_sync_write_come_out_even(rows):
    with pytest.raises(ValueError, match="sync write of"):
        feetech.make_sync_write(42, 6, rows)


def test_torn_and_merged_reads_are_the_same():
    stream = b"".join(status(i, bytes(range(i)), i) for i in range(1, 30))
    whole = Parser().feed(stream)
    assert len(whole) == 29
    for size in (1, 2, 3, 7, 64):
        parser, got = Parser(), []
        for at in range(0, len(stream), size):
            got += parser.feed(stream[at : at + size])
        assert got == whole and parser.errors == 0 and parser.pending == b""


@pytest.mark.parametrize(
    "before", ["ff", "ffff", "ffffff", "00ff", "fffe", "fffffe", "ffffff00", "ffff05fa", "ffff0102", "ffff05fa00ff"]
)
def test_what_stands_before_a_frame_does_not_hide_it(before):
    good = status(7, b"\x10\x20")
    assert Parser().feed(bytes.fromhex(before) + good)[-1:] == [Status(7, 0, b"\x10\x20")]
    parser = Parser()
    assert parser.feed(bytes.fromhex(before)) == []
    assert parser.feed(good) == [Status(7, 0, b"\x10\x20")]


def test_a_lost_sum_that_the_next_header_makes_up_for_does_not_hide_it():
    one = status(1, b"\xfc")
    assert one.endswith(b"\xff")
    for parts in ([one[:-1] + status(2)], [one[:-1], status(2)], [one, status(2)]):
        parser = Parser()
        assert [got for part in parts for got in parser.feed(part)] == [Status(1, 0, b"\xfc"), Status(2, 0)]


def test_every_changed_bit_is_noticed_where_sizes_are_known():
    good, after = status(7, b"\x10\x20\x30\x40"), status(8, b"\x01\x02\x03\x04")
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        assert Parser((7, 8), 10, exact=True).feed(bytes(damaged) + after) == [Status(8, 0, b"\x01\x02\x03\x04")], bit


def test_a_length_one_too_long_always_passes_where_sizes_are_not_known():
    """Sum and its inverse make FF, one more makes 0, whose inverse is the next header's first byte: why `exact` is there."""
    one = bytearray(status(7, b"\x10\x20\x30\x40"))
    one[3] += 1
    longer = b"\x10\x20\x30\x40" + status(7, b"\x10\x20\x30\x40")[-1:]
    assert Parser().feed(bytes(one) + status(8, b"\x01")) == [Status(7, 0, longer), Status(8, 0, b"\x01")]


def test_errors_counts_frames_that_were_not_sound():
    parser = Parser()
    parser.feed(status(1)[:-1] + b"\x00")
    assert parser.errors == 1
    parser.feed(status(1, bytes(20))[:9] + status(2))
    assert parser.errors == 2
    parser.feed(b"noise" + status(3))
    assert parser.errors == 2


def test_a_length_that_no_frame_has_is_not_waited_for():
    parser = Parser((1, 2), longest=8)
    for length, waits in ((0, False), (1, False), (2, True), (4, True), (5, False), (255, False)):
        parser.reset()
        assert parser.feed(bytes((0xFF, 0xFF, 1, length))) == []
        assert parser.pending == (bytes((0xFF, 0xFF, 1, length)) if waits else b"\xff" if length == 255 else b""), length


def test_a_frame_has_an_error_byte_at_least():
    assert Parser().feed(bytes.fromhex("ffff90016e") + status(2)) == [Status(2, 0)]


def test_the_next_header_may_begin_with_the_sum_and_no_earlier():
    """A lost sum of FF is the next header's first byte; parameter and sum are no header for what follows without one."""
    one = bytes.fromhex("ffff010400fcffff")
    assert one == status(1, b"\xfc\xff")
    assert Parser().feed(one[:-1] + status(2)) == [Status(1, 0, b"\xfc\xff"), Status(2, 0)]
    assert Parser().feed(one + status(2)[2:]) == [Status(1, 0, b"\xfc\xff")]


def test_an_error_byte_has_seven_bits():
    assert Parser().feed(status(1, b"", 0x7F)) == [Status(1, 0x7F)]
    assert Parser().feed(status(1, b"", 0x80) + frame(BROADCAST, bytes.fromhex("83280101010201")) + status(2)) == [Status(2, 0)]


def test_what_is_expected_leaves_out_what_is_not():
    parser = Parser((3, 4), 10, exact=True)
    stream = status(3, bytes(4)) + status(5, bytes(4)) + status(4, bytes(3)) + status(4, bytes(4), 32) + status(3, b"", 8)
    assert parser.feed(stream) == [Status(3, 0, bytes(4)), Status(4, 32, bytes(4)), Status(3, 8)]
    assert parser.errors == 0


def test_a_header_within_data_is_data():
    one = status(1, bytes.fromhex("ffff020200"))
    assert Parser().feed(one + status(2)) == [Status(1, 0, bytes.fromhex("ffff020200")), Status(2, 0)]
    parser = Parser()
    assert [got for byte in one for got in parser.feed(bytes((byte,)))] == [Status(1, 0, bytes.fromhex("ffff020200"))]


def test_what_is_kept_is_bounded():
    rng, parser = random.Random(0), Parser()
    assert parser.pending == b""
    for _ in range(300):
        parser.feed(rng.choice((b"\xff\xff\x01\xf6", rng.randbytes(50), b"\xff\xff", status(1, bytes(99))[:80])))
        assert len(parser.pending) < 250
    parser.reset()
    assert parser.pending == b""
    for rest in (b"", b"\xff", b"\xff\xff", b"\xff\xff\x07"):
        parser = Parser()
        assert parser.feed(b"abc" + rest) == [] and parser.pending == rest


def test_a_checksum_is_the_inverted_sum():
    assert feetech.checksum(b"\x01\x02\x01") == 0xFB and feetech.checksum(b"") == 0xFF and feetech.checksum(b"\xff\x01") == 0xFF
