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


def test_the_port_itself_is_closed():
    line = Line()
    Tape(LockstepClock()).around(line).close()
    assert line.closed == 1
