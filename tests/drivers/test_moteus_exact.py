"""The moteus codec at the edges of its forms: every byte here is written by hand from the reference."""

from __future__ import annotations

import math

import pytest

from robotrl.drivers import moteus
from robotrl.drivers.moteus import Answer, FrameError, Received, Subframe, decode, make_read, make_reply, make_write, parse_line
from robotrl.drivers.tables import Width

CAN_FD = [*range(9), 12, 16, 20, 24, 32, 48, 64]


@pytest.mark.parametrize("length", range(65))
def test_every_length_is_filled_to_the_next_of_can_fd_with_no_operation(length):
    size = min(n for n in CAN_FD if n >= length)
    assert moteus.pad(b"\x07" * length) == b"\x07" * length + b"\x50" * (size - length)


@pytest.mark.parametrize(
    ("number", "wire"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (16383, "ff7f"), (16384, "808001"), (2**28, "8080808001")],
)
def test_numbers_of_seven_bits_a_byte(number, wire):
    assert moteus.varuint(number).hex() == wire
    assert decode(bytes.fromhex(f"10 01 {wire}")) == [Subframe("read", number, Width.INT8, 1)]


def test_a_number_has_at_most_five_bytes():
    assert decode(bytes.fromhex("1001 ffffffff7f"))[0].register == 2**35 - 1
    with pytest.raises(FrameError, match="more than 5 bytes"):
        decode(bytes.fromhex("1001 ffffffffff01"))


@pytest.mark.parametrize(
    ("count", "head"), [(1, "1d"), (2, "1e"), (3, "1f"), (4, "1c04"), (64, "1c40"), (200, "1cc801"), (0, "1c00")]
)
def test_up_to_three_registers_are_counted_in_the_first_byte(count, head):
    assert make_read(0x131, Width.F32, count).hex() == f"{head}b102"
    assert decode(make_read(0x131, Width.F32, count)) == [Subframe("read", 0x131, Width.F32, count)]
    assert make_read(0x131, Width.F32) == make_read(0x131, Width.F32, 1)


@pytest.mark.parametrize(("width", "head"), [(Width.INT8, 0x00), (Width.INT16, 0x04), (Width.INT32, 0x08), (Width.F32, 0x0C)])
def test_the_first_byte_says_what_is_done_and_in_which_width(width, head):
    assert make_write(0x70, width, 0.0)[0] == head | 1 and make_read(0x70, width)[0] == head | 0x11
    assert make_reply(0x70, width, 0.0)[0] == head | 0x21
    size = {0x00: 1, 0x04: 2, 0x08: 4, 0x0C: 4}[head]
    for make, op in ((make_write, "write"), (make_reply, "reply")):
        frame = make(0x70, width, 1.0, 2.0, 3.0, 4.0, 5.0)
        assert len(frame) == 3 + 5 * size
        assert decode(frame + make_read(0, width)) == [
            Subframe(op, 0x70, width, 5, (1.0, 2.0, 3.0, 4.0, 5.0)),
            Subframe("read", 0, width, 1),
        ]


def test_a_row_of_registers_is_scaled_each_by_its_own_step():
    """int16: position 1e-4, velocity 2.5e-4, torque 0.01, and back."""
    frame = make_write(0x01, Width.INT16, 0.5, 0.5, 0.5)
    assert frame.hex() == "0701" + "8813" + "d007" + "3200"
    assert decode(frame)[0].values == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(("width", "top"), [(Width.INT8, 127), (Width.INT16, 32767), (Width.INT32, 2147483647)])
def test_integers_end_one_above_what_means_nan(width, top):
    """Register 0x70 has no scale."""
    for value in (top, top - 1, -top, 1 - top, 0):
        assert moteus.to_wire(float(value), 0x70, width) == value
        assert moteus.from_wire(value, 0x70, width) == value
    for value in (top + 1.0, top + 0.6, 1e30, math.inf):
        assert moteus.to_wire(value, 0x70, width) == top and moteus.to_wire(-value, 0x70, width) == -top
    assert moteus.to_wire(math.nan, 0x70, width) == -top - 1
    assert math.isnan(moteus.from_wire(-top - 1, 0x70, width)) and moteus.from_wire(-top, 0x70, width) == -top
    assert moteus.to_wire(2.6, 0x70, width) == 3 and moteus.to_wire(-2.6, 0x70, width) == -3


def test_floats_travel_as_they_are():
    assert moteus.to_wire(0.3, 0x01, Width.F32) == 0.3 == moteus.from_wire(0.3, 0x01, Width.F32)
    assert moteus.from_wire(-128, 0x01, Width.F32) == -128 and math.isnan(moteus.to_wire(math.nan, 0x01, Width.F32))


def test_a_write_of_64_values_is_read_and_one_of_more_is_no_frame():
    assert decode(bytes((0x00, 64, 0x70)) + bytes(64))[0].values == (0.0,) * 64
    with pytest.raises(FrameError, match="ends within"):
        decode(bytes((0x00, 65, 0x70)) + bytes(65))
    assert decode(bytes((0x10, 65, 0x70)))[0].size == 65, "of what is asked for nothing is in the frame"


def test_console_frames():
    assert moteus.make_console(b"ab").hex() == "4001026162" and moteus.make_poll().hex() == "420130"
    assert len(moteus.make_console(bytes(61))) == 64
    assert decode(bytes.fromhex("40 01 02 6162  41 02 01 7a  42 01 30  50")) == [
        Subframe("to servo", 1, size=2, data=b"ab"),
        Subframe("from servo", 2, size=1, data=b"z"),
        Subframe("poll", 1, size=48),
    ]
    assert decode(bytes.fromhex("410100")) == [Subframe("from servo", 1, size=0)]
    for cut in ("41010261", "4101", "41", "4201", "400101"):
        with pytest.raises(FrameError, match="ends within"):
            decode(bytes.fromhex(cut))


def test_errors_of_single_registers():
    assert decode(bytes.fromhex("30 20 02")) == [Subframe("write error", 0x20, values=(2,))]
    assert decode(bytes.fromhex("31 b002 8101 50")) == [Subframe("read error", 0x130, values=(129,))]


@pytest.mark.parametrize("first", [*range(0x32, 0x40), *range(0x43, 0x50), *range(0x51, 0x100)])
def test_nothing_else_begins_a_subframe(first):
    with pytest.raises(FrameError, match=f"no subframe begins with {first:#04x}"):
        decode(bytes((first, 1, 1, 1, 1, 1, 1)))


def test_padding_may_stand_between_subframes():
    assert decode(bytes.fromhex("50 50 1101 50 1102 50")) == [Subframe("read", 1, size=1), Subframe("read", 2, size=1)]


@pytest.mark.parametrize("first", range(0x30))
def test_every_first_byte_of_registers(first):
    """Two bits say what, two in which width, two how many; none of them: a count follows."""
    op, size = ("write", "read", "reply")[first >> 4], (1, 2, 4, 4)[first >> 2 & 3]
    count = first & 3 or 5
    frame = bytes((first, *(() if first & 3 else (5,)), 0x70)) + bytes(size * count if op != "read" else 0)
    values = (0.0,) * count if op != "read" else ()
    assert decode(frame) == [Subframe(op, 0x70, Width(first >> 2 & 3), count, values)]


def test_no_frame_and_padding_alone_hold_nothing():
    assert decode(b"") == decode(b"\x50") == decode(b"\x50" * 64) == []
    assert Subframe("read", 3) == ("read", 3, Width.INT8, 0, (), b"")


def test_checksum_goes_on_from_an_earlier_part():
    """The remainder of a division does not depend on where the message is cut."""
    text = b"can send 8001 01000a "
    for cut in range(len(text)):
        assert moteus.crc8(text[cut:], moteus.crc8(text[:cut])) == moteus.crc8(text)
    assert [moteus.crc8(bytes((1 << k,))) for k in range(3)] == [0x97, 0x2E ^ 0x97, 0xE5], "0x97 shifted, reduced"


LINE = b"rcv 2101 2404000a *"


@pytest.mark.parametrize(
    ("line", "got"),
    [
        (b"rcv 2101 2404", Received(0x2101, b"\x24\x04", False)),
        (b"rcv 7f0001 24 E B F t12 f-1\r\n", Received(0x7F0001, b"\x24", False)),
        (b"  \x00 rcv 1 00  ", Received(1, b"\0", False)),
        (b"OK", Answer(True, "OK", False)),
        (b"junkOK\r", Answer(True, "OK", False)),
        (b"ERR 3 bad \xff", Answer(False, "ERR 3 bad \ufffd", False)),
        (b"OKERR too late", Answer(False, "ERR too late", False)),
        (b"ERR xOK", Answer(True, "OK", False)),
        (b"OK rcv 1 00", Received(1, b"\0", False)),
        (b"OK *BD", Answer(True, "OK", True)),
        (b"OK *bd", Answer(True, "OK", True)),
        (b"OK *BC", None),
        (b"OK*BD", None),
        (b"rcv 1", None),
        (b"rcv  ", None),
        (b"rcv 1 0", None),
        (b"rcv 1 0g", None),
        (b"rcv 1 \xff", None),
        (b"rcv g 00", None),
        (b"rcv 0000017e 00", Received(0x17E, b"\0", False)),
        (b"rcv 00000017e 00", None),  # nine digits are no id
        (b"rcv 1_7e 00", None),
        (b"rcv 0x17e 00", None),
        (b"rcv +17e 00", None),
        (b"rcv \xff 00", None),
        (b"rcv", None),
        (b"", None),
        (b"hello *00", None),
    ],
)
def test_lines(line, got):
    assert parse_line(line) == got


def test_a_line_with_its_checksum_is_checked():
    body = b"rcv 2101 2404000a E B "
    value = 0
    for byte in body:  # bit by bit, as the fdcanusb's manual says
        value ^= byte
        for _ in range(8):
            value = ((value << 1) ^ 0x97 if value & 0x80 else value << 1) & 0xFF
    for digits in (b"%02X", b"%02x"):
        assert parse_line(body + b"*" + digits % value) == Received(0x2101, bytes.fromhex("2404000a"), True)
    for end in (b"\n", b"\r\n", b" \r\n"):  # it may have its end with it
        assert parse_line(body + b"*%02X" % value + end) == Received(0x2101, bytes.fromhex("2404000a"), True)
    for wrong in range(256):
        if wrong != value:
            assert parse_line(body + b"*%02X" % wrong) is None


def test_lines_that_are_sent():
    assert moteus.make_send(0x1, b"") == b"can send 0001 \n"
    assert moteus.make_send(0xFE7D, b"\x01\x02") == b"can send fe7d 0102\n"
    assert moteus.make_send(0x8001, bytes.fromhex("010000"), True) == b"can send 8001 010000 *FF\n"
