"""The tape of a device: bounded, complete, and played back to the bit; oracles are the port and the clock themselves."""

from __future__ import annotations

import msgspec
import pytest

from robotrl.clock import LockstepClock
from robotrl.drivers.port import PortError
from robotrl.drivers.tape import BYTES_MAX, CALLS_MAX, EVENTS_MAX, Playback, Tape
from robotrl.messages import Permit
from robotrl.topics import TOPICS


class Line:
    """A port that says what it was given to say, and is lost when it has nothing more."""

    def __init__(self, *answers: bytes) -> None:
        self.name, self.answers, self.written, self.closed = "line", list(answers), [], 0

    def write(self, data: bytes) -> None:
        if not self.answers:
            raise PortError("line: port lost")
        self.written.append(data)

    def read(self, deadline: int, limit: int = 4096) -> bytes:
        if not self.answers:
            raise PortError("line: port lost")
        return self.answers.pop(0)

    def close(self) -> None:
        self.closed += 1


def talk(port, clock) -> list[object]:
    """A driver: asks the clock, writes, reads until it gets nothing; and what it saw."""
    seen: list[object] = [clock.now()]
    port.write(b"ask")
    while data := port.read(clock.now() + 5):
        seen += [data, clock.now()]
    return seen


def taped(*answers: bytes):
    clock, line = LockstepClock(), Line(*answers)
    clock.advance(1000)
    tape = Tape(clock)
    tape.call("cycle", Permit(source="guard", boot=4, seq=9, state="RUN", epoch=1, holder="", torque=True), None)
    seen = talk(tape.around(line), tape.clock)
    return seen, tape.take(7), line, tape


def test_a_driver_that_gets_its_tape_back_does_the_same():
    seen, exchange, line, _ = taped(b"one", b"two", b"")
    assert (exchange.kinds, exchange.data) == ("cwcrccrccr", (b"ask", b"one", b"two", b"")) and line.written == [b"ask"]
    assert (exchange.t, exchange.first, exchange.missing, set(exchange.at)) == (1000, 7, 0, {0})
    (call,) = exchange.calls
    assert (call.kind, call.event, call.heard) == ("cycle", 0, (("guard", 4, 9), ("", 0, -1)))
    back = Playback("back")
    back.load(exchange)
    back.begin(0, len(exchange.kinds))
    assert talk(back, back) == seen
    back.finish()
    assert back.departed == ""


def test_what_was_taken_is_gone_and_nothing_is_kept_of_a_call_that_did_nothing():
    _, _, _, tape = taped(b"")
    for _ in range(3):
        tape.call("connect")
    tape.clock.now()
    again = tape.take(8)
    assert again.kinds == "c" and [call.kind for call in again.calls] == ["connect"] and again.data == ()


def test_a_lost_port_is_lost_again():
    with pytest.raises(PortError):
        taped(b"one")
    clock = LockstepClock()
    tape = Tape(clock)
    port = tape.around(Line(b"one"))
    assert port.read(0) == b"one"
    for call in (lambda: port.read(0), lambda: port.write(b"x")):
        with pytest.raises(PortError):
            call()
    exchange = tape.take(1)
    assert exchange.kinds == "ree" and exchange.data == (b"one", b"line: port lost", b"line: port lost")
    back = Playback("back")
    back.load(exchange)
    back.begin(0, 3)
    assert back.read(0) == b"one"
    with pytest.raises(PortError, match=r"^line: port lost$"):
        back.read(0)
    with pytest.raises(PortError, match=r"^line: port lost$"):
        back.write(b"x")


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (lambda p: (p.now(), p.write(b"asks"), p.now(), p.read(9)), "writes b's' where it wrote b'', 3 bytes into 3"),
        (lambda p: (p.now(), p.write(b"bsk"), p.now(), p.read(9)), "writes b'bsk' where it wrote b'ask', 0 bytes into 3"),
        (lambda p: p.read(9), "reads up to 4096 bytes where it wrote"),
        (lambda p: (p.write(b"ask"), p.write(b"again")), "writes b'again' where it read"),
        (lambda p: p.write(b"ask"), "leaves 1 reads and writes undone"),
        (lambda p: (p.write(b"ask"), p.read(9), p.read(9)), "reads up to 4096 bytes where it had ended"),
        (lambda p: (p.write(b"ask"), p.read(9)), ""),  # who asks the clock less often is none the worse for it
    ],
)
def test_a_driver_that_does_otherwise_is_told_of(driver, says):
    _, exchange, _, _ = taped(b"")
    back = Playback("back")
    back.load(exchange)
    back.begin(0, len(exchange.kinds))
    driver(back)
    back.finish()
    assert back.departed == says


def test_a_clock_that_is_asked_more_often_than_it_was_stands_still():
    clock = LockstepClock()
    tape = Tape(clock)
    tape.clock.now()
    clock.advance(10)
    tape.around(Line(b"x")).read(0)
    back = Playback("back")
    exchange = tape.take(1)
    back.load(exchange)
    back.begin(0, 2)
    assert [back.now(), back.now(), back.read(0), back.now()] == [0, 10, b"x", 10]
    back.sleep_until(50)
    assert back.now() == 50


def test_it_is_bounded_and_says_what_is_missing():
    clock = LockstepClock()
    tape, heard = Tape(clock), Permit(source="servos", boot=1 << 47, seq=1 << 40, state="RUN", epoch=1, holder="", torque=True)
    port = tape.around(Line(*[b"x" * 4096] * 20))
    for _ in range(20):
        clock.advance(1 << 40)
        tape.call("cycle", heard, heard)
        port.read(0)
    for _ in range(EVENTS_MAX):
        clock.advance(1 << 40)
        tape.call("cycle", heard, heard)
        tape.clock.now()
    full = tape.take(1)
    calls, reads, times = 16 + EVENTS_MAX - CALLS_MAX, 4, 16  # of the 20 calls, 4 reads were too long and left no trace
    assert sum(map(len, full.data)) == BYTES_MAX and len(full.kinds) == EVENTS_MAX and len(full.calls) <= CALLS_MAX
    assert full.missing == calls + reads + times
    full = msgspec.structs.replace(full, source="servos", boot=1 << 47, seq=1 << 40)
    assert len(msgspec.msgpack.encode(full)) <= TOPICS["wire"].limit, "else the bus would refuse it, and end the driver"
    tape.clock.now()
    assert tape.take(2).missing == 0


def test_a_tape_holds_so_much():
    """A message of the bus: 4096 events, 256 calls and 64 KiB a time."""
    assert (EVENTS_MAX, BYTES_MAX, CALLS_MAX) == (4096, 65_536, 256)


def test_the_port_itself_is_asked_and_closed():
    line, asked = Line(), []
    port = Tape(LockstepClock()).around(line)
    line.read = lambda deadline, limit=0: asked.append((deadline, limit)) or b"x"
    assert (port.read(7), port.read(8, 9), port.name, asked) == (b"x", b"x", "line", [(7, 4096), (8, 9)])
    port.close()
    assert line.closed == 1


def test_the_clock_itself_is_asked_and_waited_by():
    clock = LockstepClock()
    tape = Tape(clock)
    tape.clock.sleep_until(70)
    assert clock.now() == 70 == tape.clock.now() and tape.take(1).kinds == "c", "a wait is on no tape"


def test_times_are_told_from_the_first_event_and_an_empty_tape_is_of_now():
    clock = LockstepClock()
    tape, times = Tape(clock), (5, 6, 9)
    port = tape.around(Line(b"x"))
    for at in times:
        clock.sleep_until(at)
        port.write(b"y")
    exchange = tape.take(1)
    assert (exchange.t, exchange.at) == (5, (0, 1, 4))
    clock.sleep_until(12)
    assert (tape.take(2).t, tape.take(2).at) == (12, ())
    back = Playback("back")
    back.load(exchange)
    back.begin(0, 3)
    seen = []
    for _ in times:
        back.write(b"y")
        seen.append(back.now())
    assert seen == [6, 9, 9] and back.departed == "", "between two events it is the time of the next"
    back = Playback("again")
    back.load(exchange)
    back.begin(0, 3)
    for _ in times:
        back.write(b"y")
    assert back.now() == 9, "at the end it is the time of the last"


def test_a_call_is_played_by_itself():
    clock = LockstepClock()
    tape = Tape(clock)
    port = tape.around(Line(b"one", b"two", b"", b"3"))
    for kind in ("connect", "cycle", "cycle"):
        tape.call(kind)
        clock.advance(10)
        tape.clock.now()
        port.write(kind.encode())
        port.read(0)
    exchange = tape.take(1)
    assert [call.event for call in exchange.calls] == [0, 3, 6]
    back = Playback("back")
    back.load(exchange)
    back.begin(3, 6)
    assert back.now() == 20
    back.write(b"cycle")
    assert back.read(0) == b"two" and back.read(0) == b"" and back.departed == "reads up to 4096 bytes where it had ended"
    back.begin(6, 9)
    assert back.departed == "" and back.now() == 30, "each call is judged by itself"
    back.write(b"cyclf")
    back.write(b"more")
    assert back.departed == "writes b'f' where it wrote b'e', 4 bytes into 5", "the first is told"
    back.begin(6, 9)
    back.finish()
    assert back.departed == "leaves 2 reads and writes undone"


def test_only_a_little_of_long_bytes_is_told():
    clock = LockstepClock()
    tape = Tape(clock)
    port = tape.around(Line(b"x"))
    port.write(b"a" + b"b" * 99)
    back, exchange = Playback("back"), tape.take(1)
    back.load(exchange)
    back.begin(0, 1)
    back.write(b"a" + b"c" * 99)
    assert back.departed == f"writes {b'c' * 40!r} where it wrote {b'b' * 40!r}, 1 bytes into 100"
    back.begin(1, 1)
    back.write(b"d" * 99)
    assert back.departed == f"writes {b'd' * 60!r} where it had ended"


def test_a_tape_that_was_not_loaded_is_at_its_end():
    back = Playback("imu")
    assert (back.name, back.departed, back.now(), back.now()) == ("imu", "", 0, 0)
    back.finish()
    back.close()
    assert back.departed == "" and back.read(5) == b"" and back.departed == "reads up to 4096 bytes where it had ended"
    back.sleep_until(9)
    back.sleep_until(3)
    assert back.now() == 9


def test_a_complaint_that_is_no_text_is_still_one():
    clock = LockstepClock()
    exchange = Tape(clock).take(0)
    exchange = msgspec.structs.replace(exchange, kinds="e", at=(0,), data=(b"port \xff lost",))
    back = Playback("back")
    back.load(exchange)
    back.begin(0, 1)
    with pytest.raises(PortError, match=r"^port \N{REPLACEMENT CHARACTER} lost$"):
        back.read(0)
