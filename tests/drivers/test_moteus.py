"""The moteus codec against bytes of the reference, against itself, and against mad lines."""

import math
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl.drivers import moteus
from robotrl.drivers.moteus import Subframe, decode, make_read, make_send, make_write, parse_line
from robotrl.drivers.port import PENDING_MAX, Lines
from robotrl.drivers.tables import Register, Width, scale

LINES = (Path(__file__).parents[1] / "golden" / "moteus.txt").read_text().splitlines()
GOLDEN = {name: bytes.fromhex(text) for name, text in (line.split() for line in LINES if line and line[0] != "#")}


def test_query_and_position_decode():
    mode, control, read_a, read_b = decode(GOLDEN["query_and_position"])
    assert mode == Subframe("write", 0, Width.INT8, 1, (10.0,))
    assert control.register == 0x20 and control.width == Width.INT16
    assert control.values == pytest.approx((0.0096, 0.072, -1.76))
    assert read_a == Subframe("read", 0, Width.INT16, 4)
    assert read_b == Subframe("read", 0x0D, Width.INT8, 3)


def test_reply_decodes_to_the_documented_values():
    motion, health = decode(GOLDEN["reply_to_it"])
    assert motion.values == pytest.approx((10, 0.0080, 0.064, -1.44))
    assert health.values == pytest.approx((12.0, 20.0, 0.0))
    motion, health = decode(GOLDEN["reply_int16"])
    assert motion.values == pytest.approx((10, 0.0528, -0.128, 0.32))
    assert health.values == (16.0, 48.0, 64.0)
    assert (
        moteus.make_reply(0, Width.INT16, 10, 0.0528, -0.128, 0.32) + moteus.make_reply(0x0D, Width.INT8, 16, 48, 64)
        == GOLDEN["reply_int16"]
    )


def test_builders_give_the_documented_bytes():
    mode = make_write(Register.MODE, Width.INT8, 10)
    query = make_read(0, Width.INT8) + make_read(1, Width.F32, 3) + make_read(0x0D, Width.INT8, 3)
    assert mode == GOLDEN["position"]
    assert query == GOLDEN["query"]
    assert mode + query == GOLDEN["position_and_query"]
    assert make_write(Register.MODE, Width.INT8, 15) == GOLDEN["brake"]
    command = mode + make_write(0x20, Width.F32, math.nan, 2.0, -0.3) + make_write(0x25, Width.F32, 2, 0, 0)
    assert command == GOLDEN["velocity_command"]
    current = make_write(0, Width.INT8, 9) + make_write(0x1C, Width.F32, 2.0, 1.0)
    assert current == GOLDEN["current_command"]
    assert make_write(0x130, Width.F32, 2.0) == GOLDEN["set_nearest"]
    assert moteus.make_poll() == GOLDEN["console_poll"]
    assert decode(GOLDEN["console_reply"]) == [Subframe("from servo", 1, size=4, data=b"DEFG")]


def test_lines_and_checksums_as_documented():
    assert make_send(0x8001, GOLDEN["query_and_position"]) == b"can send 8001 " + (b"01000a07206000200150ff140400130d\n")
    assert make_send(0x0105, b"0123") == b"can send 0105 30313233\n"
    assert moteus.with_checksum(b"OK") == b"OK *BD"
    assert make_send(0x8001, bytes(GOLDEN["position"][:2]) + b"\0", checksum=True) == (b"can send 8001 010000 *FF\n")
    assert make_send(0x8001, GOLDEN["query_and_position"], True).endswith(b" *12\n")
    got = parse_line(b"rcv 100 2404000a005000000170ff230d181400 E B F\r")
    assert got == moteus.Received(0x100, GOLDEN["reply_to_it"], False)
    assert parse_line(b"OK *BD\r") == moteus.Answer(True, "OK", True)
    assert parse_line(b"OK *BE") is None
    assert parse_line(b"ERR unknown command") == moteus.Answer(False, "ERR unknown command", False)


def test_padding_reaches_the_sizes_of_can_fd():
    assert moteus.pad(bytes(9)) == bytes(9) + b"\x50" * 3
    assert len(moteus.pad(bytes(25))) == 32 and len(moteus.pad(bytes(8))) == 8
    assert decode(moteus.pad(GOLDEN["query"] + GOLDEN["query"])) == 2 * decode(GOLDEN["query"])
    with pytest.raises(ValueError, match="64"):
        moteus.pad(bytes(65))
    with pytest.raises(ValueError, match="61"):
        moteus.make_console(bytes(62))


def test_error_subframes():
    write, read = decode(bytes.fromhex("302002 31b00203"))
    assert (write.op, write.register, write.values) == ("write error", 0x20, (2,))
    assert (read.op, read.register, read.values) == ("read error", 0x130, (3,))


@pytest.mark.parametrize("width, lowest", [(Width.INT8, -128), (Width.INT16, -(2**15)), (Width.INT32, -(2**31))])
def test_lowest_integer_is_nan_and_values_saturate(width, lowest):
    assert moteus.to_wire(math.nan, 1, width) == lowest
    assert math.isnan(moteus.from_wire(lowest, 1, width))
    assert moteus.to_wire(math.inf, 1, width) == -lowest - 1
    assert moteus.to_wire(-1e30, 1, width) == lowest + 1


@given(
    st.sampled_from([int(r) for r in Register] + [0x130]),
    st.sampled_from(list(Width)),
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_write_round_trip(register, width, values):
    (got,) = decode(make_write(register, width, *values))
    assert (got.op, got.register, got.width, got.size) == ("write", register, width, len(values))
    for i, (value, back) in enumerate(zip(values, got.values, strict=True)):
        if width == Width.F32:
            assert back == value
        else:
            step = scale(register + i, width)
            top = step * (2 ** (8 * 2 ** int(width) - 1) - 1)
            assert abs(back - max(-top, min(top, value))) <= step * 0.5001


@given(st.binary(max_size=64))
@settings(max_examples=500, deadline=None)
def test_decode_of_anything_gives_subframes_or_a_frame_error(frame):
    try:
        assert all(isinstance(part, Subframe) for part in decode(frame))
    except moteus.FrameError as error:
        assert str(error)


@pytest.mark.parametrize(
    "frame",
    ["01", "0100", "0c", "20ff", "2f01 0000", "ff", "41010544", "31", "10ffffffffff0f01", "20ffff0301"],
)
def test_cut_and_unknown_frames_are_frame_errors(frame):
    with pytest.raises(moteus.FrameError):
        decode(bytes.fromhex(frame))


def _mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        kind, at = rng.randrange(5), rng.randrange(len(out)) if out else 0
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + rng.randint(1, 30)]
        elif kind == 2:
            out[at:at] = rng.randbytes(rng.randint(1, 40))
        elif kind == 3:
            out[at:at] = out[: rng.randint(0, 60)]
        elif out:
            out[at] = rng.choice(b"\r\n *rcvOKER0")
    return bytes(out)


def test_fuzzed_streams_never_raise_and_the_next_good_line_is_found():
    rng = random.Random(7)
    good = [moteus.with_checksum(b"rcv %x %s B F" % (i << 8, rng.randbytes(32).hex().encode())) for i in range(1, 9)]
    last = b"rcv 900 " + struct.pack("<f", 1.5).hex().encode()
    for _ in range(3000):
        lines = Lines()
        stream = _mutate(rng, b"\r\n".join(good)) + b"\n" + last + b"\n"
        found = []
        while stream:
            cut = rng.randint(1, 200)
            found += [parse_line(line) for line in lines.feed(stream[:cut])]
            stream = stream[cut:]
        assert found[-1] == moteus.Received(0x900, struct.pack("<f", 1.5), False)
        for got in found:
            if isinstance(got, moteus.Received):
                for part in [got.frame, got.frame[:7]]:
                    try:
                        decode(part)
                    except moteus.FrameError:
                        pass


def test_a_torn_line_gives_way_to_the_one_glued_to_it():
    assert parse_line(b"rcv 100 2404\x00\xffrcv 200 2001000a") == moteus.Received(0x200, bytes.fromhex("2001000a"), False)
    assert parse_line(b"rcv 100 2001000a\rOK") == moteus.Received(0x100, bytes.fromhex("2001000a"), False)
    assert parse_line(b"rcv 100\r2001000a") is None and parse_line(b"rcv\r100 2001000a") is None
    assert parse_line(b"rcv 100 24040") is None
    assert parse_line(b"rcv zz 24") is None
    assert parse_line(b"rcv 100") is None
    assert parse_line(b"hello") is None


def test_line_buffer_is_bounded_and_recovers():
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * 5000) == []
        assert lines.pending <= PENDING_MAX
    assert lines.overflows > 0
    (merged,) = lines.feed(b"rcv 100 00\n")
    assert parse_line(merged) == moteus.Received(0x100, b"\0", False)


@pytest.mark.parametrize("word", [b"1_00", b"+100", b"-100", b"0x100", b"1 00"])
def test_only_plain_hexadecimal_digits_name_a_sender(word):
    assert parse_line(b"rcv %b 2001000a" % word) in (None, moteus.Received(1, b"\0", False))
    assert parse_line(b"rcv 100 2001000a") == parse_line(b"rcv 0100 2001000a") == moteus.Received(0x100, b" \x01\0\n", False)
