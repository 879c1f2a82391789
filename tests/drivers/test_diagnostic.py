"""The console of one servo against a wire written down by hand: every line it sends, every read, every answer it may believe."""

from robotrl.clock import LockstepClock
from robotrl.drivers.diagnostic import Diagnostic

NOW = 5_000
POLL, POLL_SUM = b"can send 8007 420130\n", b"can send 8007 420130 *7B\n"


def printed(text: bytes, servo: int = 7, channel: int = 1) -> bytes:
    """What the adapter says of a servo's console, by the protocol's page: 41, channel, length, text."""
    return b"rcv %x 41%02x%02x%b\n" % (servo << 8, channel, len(text), text.hex().encode())


class Wire:
    """A port that hands out what each poll is to bring, a piece a read, and writes down what it is asked."""

    name = "wire"

    def __init__(self, *polls: list[bytes]) -> None:
        self.polls, self.pieces = list(polls), []
        self.sent: list[bytes] = []
        self.waits: list[int] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)
        if data.startswith(b"can send 8"):
            self.pieces = self.polls.pop(0) if self.polls else []

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        self.waits.append(deadline)
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        raise AssertionError("it is not the console's to close")


def console(wire: Wire, checksum: bool = False) -> Diagnostic:
    clock = LockstepClock()
    clock.advance(NOW)
    return Diagnostic(wire, 7, clock, checksum)


def test_a_value_is_asked_for_and_read() -> None:
    wire = Wire([printed(b"")], [printed(b"4.25\r\n")])
    assert console(wire).ask("conf get servo.pid_position.kp") == "4.25"
    assert wire.sent == [
        POLL,
        b"can send 0007 40011f" + b"conf get servo.pid_position.kp\n".hex().encode() + b"50" * 14 + b"\n",
        POLL,
    ]
    assert wire.waits == [NOW + 10_000_000] * 2  # an answer that came is not waited for again, an empty one no less


def test_old_news_is_no_answer_and_only_the_first_line_is_one() -> None:
    wire = Wire(
        [printed(b"OK\r\n")], [printed(b"7\n8\n")], [printed(b"")], [printed(b" 1.5")], [printed(b"0 \r")], [printed(b"\n2\n3\n")]
    )
    assert console(wire).ask("conf get a") == "1.50"
    assert wire.sent.count(POLL) == 6 and wire.sent[:3] == [POLL] * 3 and not wire.sent[3].startswith(b"can send 8")


def test_what_is_no_text_is_still_an_answer_and_checksums_are_off_unless_asked_for() -> None:
    wire, clock = Wire([], [printed(b"a\xffb\n")]), LockstepClock()
    assert Diagnostic(wire, 7, clock).ask("conf get a") == "a\N{REPLACEMENT CHARACTER}b" and wire.sent[0] == POLL


def test_a_long_command_goes_in_pieces_of_48_bytes() -> None:
    wire = Wire()
    text = b"conf set " + b"x" * 87  # and its end make 97
    assert console(wire).ask(text.decode()) == ""
    typed = [line.split()[3] for line in wire.sent if line.startswith(b"can send 0007 ")]
    assert [bytes.fromhex(frame.decode())[:3] for frame in typed] == [b"\x40\x01\x30", b"\x40\x01\x30", b"\x40\x01\x01"]
    assert b"".join(bytes.fromhex(t.decode())[3 : 3 + bytes.fromhex(t.decode())[2]] for t in typed) == text + b"\n"


def test_a_command_of_just_one_piece_is_sent_as_one() -> None:
    wire = Wire()
    console(wire).ask("x" * 47)
    assert [line[:20] for line in wire.sent if line.startswith(b"can send 0007 ")] == [b"can send 0007 400130"]


def test_who_never_answers_is_asked_20_times() -> None:
    wire = Wire()
    assert console(wire).ask("conf get a") == ""
    assert wire.sent.count(POLL) == 1 + 20 and len(wire.waits) == 21


def test_who_never_comes_to_the_end_of_a_line_is_given_up_as_well() -> None:
    wire = Wire(*([printed(b"old")] for _ in range(20)), *([printed(b"z")] for _ in range(20)))
    assert console(wire).ask("conf get a") == "z" * 20
    assert wire.sent.count(POLL) == 40 and wire.sent[20].startswith(b"can send 0007 ") and len(wire.sent) == 41


def test_a_babbling_wire_is_read_64_times_a_poll() -> None:
    wire = Wire([], [b"OK\n"] * 100, [b"OK\n"] * 64 + [printed(b"late\n")], [b"OK\n"] * 63 + [printed(b"in time\n")])
    assert console(wire).ask("conf get a") == "in time"
    assert len(wire.waits) == 1 + 64 + 64 + 64


def test_what_is_not_this_servos_console_is_passed_over() -> None:
    others = [
        printed(b"8\n", servo=8), printed(b"8\n", channel=2), b"OK\n", b"ERR no\n", b"rcv 700 4\n", b"rcv 700 ff\n",
        b"rcv 700 2400010a\n", b"rcv 708 410102380a\n", b"rcv 7 410102380a\n", b"rcv 700 400102380a\n", b"rcv 700 210138\n",
        b"rcv 700 410109380a\n",
    ]  # fmt: skip
    wire = Wire([], [b"".join(others) + printed(b"5\n")])
    assert console(wire).ask("conf get a") == "5" and len(wire.waits) == 2
    replies_first = Wire([], [b"rcv 700 25000000" + b"410102390a\n"])  # a register's reply, then the console
    assert console(replies_first).ask("conf get a") == "9"


def test_a_line_may_come_in_parts() -> None:
    whole = printed(b"31\n")
    assert console(Wire([], [whole[:9], whole[9:]])).ask("conf get a") == "31"


def test_with_checksums_on_a_line_without_one_is_not_believed() -> None:
    bare, right = printed(b"1\n"), b"rcv 700 410102320a *%02X\n"
    sums = [right % n for n in range(256)]  # one of them is right
    wire = Wire([], [bare + b"".join(sums)])
    assert console(wire, checksum=True).ask("conf get a") == "2"
    assert set(wire.sent) == {POLL_SUM, wire.sent[1]} and wire.sent[1].split()[-1].startswith(b"*")
    assert console(Wire([], [bare])).ask("conf get a") == "1"  # off, it is
