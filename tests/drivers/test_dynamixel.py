"""The Dynamixel codec against the manual's bytes, against bytes written here by its rules, and against damage."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from robotrl.drivers import dynamixel
from robotrl.drivers.dynamixel import BROADCAST, Parser, Refusal, Reset, Status, split_fast

GOLDEN = {
    name: bytes.fromhex("".join(text))
    for name, *text in map(str.split, (Path(__file__).parents[1] / "golden" / "dynamixel.txt").read_text().splitlines())
    if name != "#"
}


def crc(data: bytes) -> int:
    """By long division, after the manual's polynomial: x^16 + x^15 + x^2 + 1."""
    rest = 0
    for byte in data:
        rest ^= byte << 8
        for _ in range(8):
            rest = rest << 1 ^ 0x18005 if rest & 0x8000 else rest << 1
    return rest


def packet(servo: int, body: bytes) -> bytes:
    """A packet whose body is sent as it is."""
    out = b"\xff\xff\xfd\x00" + bytes((servo, (len(body) + 2) % 256, (len(body) + 2) // 256)) + body
    return out + crc(out).to_bytes(2, "little")


def status(servo: int, params: bytes = b"", error: int = 0) -> bytes:
    return packet(servo, b"\x55" + bytes((error,)) + params)


def test_builders_give_the_documented_bytes():
    position = (166).to_bytes(4, "little")
    made = {
        "ping": dynamixel.make_ping(1),
        "ping_all": dynamixel.make_ping(),
        "read": dynamixel.make_read(1, 132, 4),
        "write": dynamixel.make_write(1, 116, (512).to_bytes(4, "little")),
        "reg_write": dynamixel.make_reg_write(1, 104, (200).to_bytes(4, "little")),
        "action": dynamixel.make_action(1),
        "factory_reset": dynamixel.make_factory_reset(1, Reset.ALL_BUT_ID),
        "reboot": dynamixel.make_reboot(1),
        "clear": dynamixel.make_clear(1),
        "backup": dynamixel.make_backup(1),
        "restore": dynamixel.make_restore(1),
        "sync_read": dynamixel.make_sync_read(132, 4, (1, 2)),
        "sync_write": dynamixel.make_sync_write(116, 4, bytes((1, 150, 0, 0, 0, 2, 170, 0, 0, 0))),
        "fast_sync_read": dynamixel.make_sync_read(132, 4, (3, 7, 4), fast=True),
        "bulk_read": dynamixel.make_bulk_read([(1, 144, 2), (2, 146, 1)]),
        "bulk_write": dynamixel.make_bulk_write([(1, 32, b"\xa0\x00"), (2, 31, b"\x50")]),
        "fast_bulk_read": dynamixel.make_bulk_read([(3, 132, 4), (7, 124, 2), (4, 146, 1)], fast=True),
        "stuffed": dynamixel.make_write(1, 116, b"\xff\xff\xfd\x00"),
        "goal_current_minus_100": dynamixel.make_write(1, 102, b"\x9c\xff"),
        "watchdog_100_ms": dynamixel.make_write(1, 98, b"\x05"),
        "dkitty_sync_read": dynamixel.make_sync_read(126, 10, (10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42)),
        "read_status": dynamixel.make_packet(1, 0x55, b"\0" + position),
    }
    assert {name: data.hex() for name, data in made.items()} == {name: GOLDEN[name].hex() for name in made}
    on = b"".join(bytes((i, 1)) for i in (10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42))
    assert dynamixel.make_sync_write(64, 1, on) == GOLDEN["dkitty_torque_on"]
    assert dynamixel.make_action() == packet(BROADCAST, b"\x05")


def test_documented_status_packets_are_read():
    names = (
        "ping_status",
        "ping_all_status_2",
        "read_status",
        "write_status",
        "sync_read_status_2",
        "bulk_status_1",
        "bulk_status_2",
    )
    assert Parser().feed(b"".join(GOLDEN[name] for name in names)) == [
        Status(1, 0, b"\x06\x04\x26"),
        Status(2, 0, b"\x06\x04\x26"),
        Status(1, 0, b"\xa6\x00\x00\x00"),
        Status(1, 0),
        Status(2, 0, b"\x1f\x08\x00\x00"),
        Status(1, 0, b"\x77\x00"),
        Status(2, 0, b"\x24"),
    ]


def test_documented_fast_replies_are_split():
    (reply,) = Parser(fast=True).feed(GOLDEN["fast_sync_status"])
    assert reply == Status(BROADCAST, 0, GOLDEN["fast_sync_status"])
    assert split_fast(reply.params, (4, 4, 4)) == [
        Status(3, 0, b"\xa6\x00\x00\x00"), Status(7, 0, b"\x1f\x08\x00\x00"), Status(4, 0, b"\xff\x03\x00\x00")]  # fmt: skip
    (reply,) = Parser(fast=True).feed(GOLDEN["fast_bulk_status"])
    assert split_fast(reply.params, (4, 2, 1)) == [
        Status(3, 0, b"\xa6\x00\x00\x00"), Status(7, 0, b"\xa5\x01"), Status(4, 0, b"\x1f")]  # fmt: skip


def test_a_fast_reply_is_read_as_far_as_it_came():
    whole = GOLDEN["fast_sync_status"]
    for cut in range(len(whole)):
        assert len(split_fast(whole[:cut], (4, 4, 4))) == max(0, (cut - 8) // 8), cut
    damaged = bytearray(whole)
    damaged[20] ^= 1  # in the second servo's data
    assert [part.id for part in split_fast(bytes(damaged), (4, 4, 4))] == [3]
    parser = Parser(fast=True)
    assert (
        parser.pending == b""
        and parser.feed(whole[:20]) == []
        and [part.id for part in split_fast(parser.pending, (4, 4, 4))] == [3]
    )
    parser.reset()
    assert parser.pending == b""


@pytest.mark.parametrize("error", [0, 1, 7, 0x80, 0x87, 0x7F, 0xFF])
def test_the_error_byte_is_kept_and_never_makes_a_read_fail(error):
    (got,) = Parser().feed(status(9, b"abcd", error))
    assert got == Status(9, error, b"abcd") and got.alert == (error >= 0x80) and got.refusal == error % 0x80


def test_error_numbers():
    assert [(r.name, int(r)) for r in Refusal] == [
        ("NONE", 0), ("RESULT_FAIL", 1), ("INSTRUCTION", 2), ("CRC", 3), ("DATA_RANGE", 4), ("DATA_LENGTH", 5), ("DATA_LIMIT", 6),
        ("ACCESS", 7)]  # fmt: skip
    assert [int(r) for r in (Reset.ALL, Reset.ALL_BUT_ID, Reset.ALL_BUT_ID_AND_BAUD)] == [0xFF, 1, 2]


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ("fffffd", "fffffdfd"), ("fffffdfd", "fffffdfdfd"), ("fffffffd", "fffffffdfd"), ("fffd", "fffd"),
        ("fffffefd", "fffffefd"), ("fffffdfffffd", "fffffdfdfffffdfd"), ("fffffd00", "fffffdfd00"), ("ffff", "ffff"),
        ("fdfffffdff", "fdfffffdfdff"),
    ],
)  # fmt: skip
def test_a_header_within_data_is_stuffed_both_ways(data, sent):
    raw = bytes.fromhex(data)
    assert dynamixel.make_write(1, 0x0074, raw) == packet(1, b"\x03\x74\x00" + bytes.fromhex(sent))
    assert Parser().feed(packet(1, b"\x55\x00" + bytes.fromhex(sent))) == [Status(1, 0, raw)]


def test_stuffing_reaches_over_address_and_id():
    """It is of the packet from the instruction on, whatever the bytes mean."""
    assert dynamixel.make_write(1, 0xFFFF, b"\xfd") == packet(1, bytes.fromhex("03fffffdfd"))
    assert dynamixel.make_sync_write(0x10, 1, bytes((1, 255, 2, 255))) == packet(BROADCAST, bytes.fromhex("8310000100 01ff02ff"))
    assert Parser().feed(packet(3, bytes.fromhex("55fffffdfd01"))) == [Status(3, 0xFF, b"\xff\xfd\x01")]


def test_what_a_servo_sends_is_read_back():
    rng = random.Random(5)
    for _ in range(150):
        params = bytes(rng.choices((0xFF, 0xFF, 0xFD, 0x00, 0x55), k=rng.randint(0, 20)))
        servo, error = rng.randint(0, 252), rng.choice((0, 0x80, 0xFF))
        assert Parser().feed(dynamixel.make_packet(servo, 0x55, bytes((error,)) + params)) == [Status(servo, error, params)]


@pytest.mark.parametrize("servo", [-1, 253, 255, 256])
def test_ids_that_no_servo_has(servo):
    with pytest.raises(ValueError, match="servo id"):
        dynamixel.make_ping(servo)
    if 0 <= servo <= 255:
        parser = Parser(fast=True)
        assert parser.feed(status(servo) + status(5)) == [Status(5, 0)] and parser.errors == 0


def test_the_first_and_the_last_id():
    assert dynamixel.make_ping(0)[4] == 0 and dynamixel.make_ping(252)[4] == 252
    assert Parser().feed(status(0) + status(252)) == [Status(0, 0), Status(252, 0)]


def test_packets_are_bounded():
    assert len(dynamixel.make_write(1, 0, bytes(1012))) == 1024
    with pytest.raises(ValueError, match="packet of 1025 bytes; 1024 at most"):
        dynamixel.make_write(1, 0, bytes(1013))
    assert Parser().feed(status(1, bytes(1013))) == [Status(1, 0, bytes(1013))]
    parser = Parser()
    assert parser.feed(status(1, bytes(1014)) + status(2)) == [Status(2, 0)] and parser.errors == 0
    assert Parser(20).feed(status(1, bytes(9)) + status(1, bytes(10)) + status(2)) == [Status(1, 0, bytes(9)), Status(2, 0)]


@pytest.mark.parametrize("rows", [b"", b"\x01\x02\x03", bytes(11)])
def test_rows_of_a_sync_write_come_out_even(rows):
    with pytest.raises(ValueError, match="sync write of"):
        dynamixel.make_sync_write(116, 4, rows)


def test_torn_and_merged_reads_are_the_same():
    stream = b"".join(status(i, bytes(range(i)), i) for i in range(1, 30)) + GOLDEN["stuffed"] + status(9, b"\xff\xff\xfd\xfd")
    whole = Parser().feed(stream)
    assert len(whole) == 30
    for size in (1, 2, 3, 7, 64):
        parser, got = Parser(), []
        for at in range(0, len(stream), size):
            got += parser.feed(stream[at : at + size])
        assert got == whole and parser.errors == 0 and parser.pending == b""


def test_an_echo_of_our_own_is_passed_over():
    ours = b"".join(GOLDEN[name] for name in ("sync_read", "write", "ping_all", "stuffed", "fast_sync_read"))
    parser = Parser(fast=True)
    assert parser.feed(ours + status(3)) == [Status(3, 0)] and parser.errors == 0


def test_every_changed_bit_is_noticed_and_the_next_packet_read():
    good, after = status(7, b"\x10\x20\x30\x40"), status(8, b"\x01")
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        got = Parser().feed(bytes(damaged) + after)
        assert got == [Status(8, 0, b"\x01")], bit


def test_errors_counts_packets_that_were_not_sound():
    parser = Parser()
    parser.feed(status(1)[:-1] + b"\x00")
    assert parser.errors == 1
    parser.feed(status(1)[:9] + status(2))
    assert parser.errors == 2
    parser.feed(b"noise" + status(3))
    assert parser.errors == 2


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_packet_cut_short_does_not_hold_up_the_next(cut):
    """Its length asks for bytes of the next, which begins anew before they are there."""
    parser, next_one = Parser(), status(4, b"\x05")
    head = status(3, bytes(5))[:cut]
    assert parser.feed(head) == []
    assert parser.feed(next_one) == [Status(4, 0, b"\x05")]
    assert parser.pending == b""


def test_a_length_that_lies_waits_no_longer_than_the_next_header():
    parser = Parser()
    assert parser.feed(bytes.fromhex("fffffd0001ff0355")) == []
    assert parser.feed(status(2, b"\x01")[:8]) == []
    assert len(parser.pending) == 8
    assert parser.feed(status(2, b"\x01")[8:]) == [Status(2, 0, b"\x01")]


def test_a_packet_that_holds_a_header_was_damaged_though_its_crc_is_right():
    """The first four bytes of the second packet passed for the end of a first one in one of 65,536 cases, and hid it."""
    inner = status(6, b"\x01")
    for rest in range(1, 12):
        out = b"\xff\xff\xfd\x00\x05" + (len(inner) + rest + 3).to_bytes(2, "little") + b"\x55" + inner + bytes(rest)
        parser = Parser()
        assert parser.feed(out + crc(out).to_bytes(2, "little")) == [Status(6, 0, b"\x01")] and parser.errors == 1


@pytest.mark.parametrize(("params", "lost"), [("4e00", 1), ("4e0a", 2), ("453b00ff", 3)])
def test_a_lost_end_that_the_next_header_makes_up_for_does_not_hide_it(params, lost):
    """Where a packet's last bytes are FF, those of the next header complete it: both are sound."""
    one = status(1, bytes.fromhex(params))
    assert one[-lost:] == b"\xff\xff\xfd"[:lost]
    for parts in ([one[:-lost] + status(2)], [one[:-lost], status(2)], [bytes((byte,)) for byte in one[:-lost] + status(2)]):
        parser = Parser()
        assert [got for part in parts for got in parser.feed(part)] == [Status(1, 0, bytes.fromhex(params)), Status(2, 0)]
    assert Parser().feed(one + status(2)) == [Status(1, 0, bytes.fromhex(params)), Status(2, 0)]


def test_data_that_ought_to_be_stuffed_make_no_packet():
    """FF FF FD at the end of the parameters, unstuffed, and a CRC that begins with 00."""
    one = status(1, bytes.fromhex("490400fffffd"))
    assert one[-2] == 0
    assert Parser().feed(one + status(2)) == [Status(2, 0)]


def test_a_length_that_no_packet_has_is_not_waited_for():
    for length, kept in ((b"\x03\x00", b""), (b"\x00\xff", b"\xff"), (b"\x04\x00", b"\xff\xff\xfd\x00\x01\x04\x00")):
        parser = Parser()
        assert parser.feed(b"\xff\xff\xfd\x00\x01" + length) == [] and parser.pending == kept


def test_a_crc_that_looks_like_a_header_ends_its_packet():
    """Parameters may end in FF FF and the CRC be FD 00: four bytes of a header that none is."""
    one = status(1, bytes.fromhex("a353") + b"\xff\xff")
    assert one.endswith(b"\xff\xff\xfd\x00")
    two = Status(1, 0, one[9:-2])
    assert Parser().feed(one + one + status(2)) == [two, two, Status(2, 0)]
    parser = Parser()
    assert [parser.feed(bytes((byte,))) for byte in one][-1] == [two] and parser.pending == b""


@pytest.mark.parametrize("more", ["", "0000000000", "0700", "07ffff0000"])
def test_a_fast_reply_may_hold_a_header(more):
    """And what looks like a packet, whole and unsound, before the end of the reply has come."""
    data = bytes.fromhex("fffffd000104005500" + more)
    body = b"\x55\x00\x03" + data
    out = b"\xff\xff\xfd\x00\xfe" + (len(body) + 2).to_bytes(2, "little") + body
    reply = out + crc(out).to_bytes(2, "little")
    for cut in range(len(reply)):
        parser = Parser(fast=True)
        assert parser.feed(reply[:cut]) == [], cut
        assert parser.feed(reply[cut:]) == [Status(BROADCAST, 0, reply)], cut
    assert split_fast(reply, (len(data),)) == [Status(3, 0, data)]


def test_a_whole_fast_reply_may_hold_a_whole_packet():
    body = b"\x55\x00\x03" + status(1, b"\x07")
    out = b"\xff\xff\xfd\x00\xfe" + (len(body) + 2).to_bytes(2, "little") + body
    reply = out + crc(out).to_bytes(2, "little")
    for rest in (b"", b"\x00"):
        assert Parser(fast=True).feed(reply + rest) == [Status(BROADCAST, 0, reply)]


def test_a_fast_reply_that_was_not_asked_for_is_none():
    assert Parser().feed(GOLDEN["fast_sync_status"] + status(1)) == [Status(1, 0)]
    parser = Parser(fast=True)
    assert parser.feed(GOLDEN["fast_sync_status"][:15] + status(1)) == [Status(1, 0)], "a sound packet ends the wait"


def test_what_is_kept_is_bounded():
    rng, parser = random.Random(0), Parser()
    for _ in range(300):
        parser.feed(
            rng.choice((b"\xff\xff\xfd\x00\x01\xff\x03\x55", rng.randbytes(50), b"\xff\xff\xfd\x00", status(1, bytes(99))[:80]))
        )
        assert len(parser.pending) < 1024
    parser.reset()
    for rest in (b"", b"\xff", b"\xff\xff", b"\xff\xff\xfd", b"\xff\xff\xfd\x00"):
        parser = Parser()
        assert parser.feed(b"abc" + rest) == [] and parser.pending == rest


def test_crc_goes_on_from_an_earlier_part():
    data = bytes(range(256))
    assert dynamixel.crc16(data) == crc(data) == dynamixel.crc16(data[100:], dynamixel.crc16(data[:100]))
    assert dynamixel.crc16(b"") == 0 and dynamixel.crc16(b"\x01") == 0x8005 and dynamixel.crc16(b"\xff") == 0x0202
