"""Ports: what opens, what is refused with which sentence, what unplugging looks like."""

import os
import tty

import pytest

from robotrl.clock import WallClock
from robotrl.drivers.port import PENDING_MAX, DeviceError, Lines, MemoryPort, PortError, SerialPort

CLOCK = WallClock()
MS = 1_000_000


@pytest.fixture
def pty():
    """(master fd, path of the slave); both ends raw."""
    master, slave = os.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    os.close(slave)
    yield master, path
    try:
        os.close(master)
    except OSError:
        pass  # the test unplugged it


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and ";" in text, text
    return text


def test_bytes_go_both_ways_and_all_values_survive(pty):
    master, path = pty
    port = SerialPort(path, 1_000_000, CLOCK)
    every = bytes(range(256))
    port.write(every)
    assert os.read(master, 4096) == every
    os.write(master, every)
    assert port.read(CLOCK.now() + 100 * MS) == every
    os.write(master, b"abcdef")
    assert port.read(CLOCK.now() + 100 * MS, limit=4) == b"abcd"
    assert port.read(CLOCK.now() + 100 * MS) == b"ef"
    assert port.low_latency is False
    port.close()
    port.close()


def test_read_ends_at_its_deadline_and_takes_what_is_there_after_it(pty):
    master, path = pty
    port = SerialPort(path, 115200, CLOCK)
    begin = CLOCK.now()
    assert port.read(begin + 5 * MS) == b""
    assert CLOCK.now() >= begin + 5 * MS
    assert port.read(0) == b""
    os.write(master, b"late")
    assert port.read(0) == b"late"
    port.close()


def test_missing_port():
    with pytest.raises(PortError) as error:
        SerialPort("/dev/ttyNowhere7", 115200, CLOCK)
    assert "/dev/ttyNowhere7" in one_line(error) and "no such port" in str(error.value)
    with pytest.raises(PortError, match="no port given"):
        SerialPort("", 115200, CLOCK)


def test_busy_port(pty):
    _, path = pty
    port = SerialPort(path, 115200, CLOCK)
    with pytest.raises(PortError) as error:
        SerialPort(path, 115200, CLOCK)
    assert path in one_line(error) and "another process" in str(error.value)
    port.close()
    SerialPort(path, 115200, CLOCK).close()


@pytest.mark.parametrize("make", ["file", "folder"])
def test_not_a_terminal(tmp_path, make):
    path = tmp_path / "port"
    if make == "file":
        path.write_text("hello")
    else:
        path.mkdir()
    with pytest.raises(PortError) as error:
        SerialPort(str(path), 115200, CLOCK)
    assert "not a serial port" in one_line(error)


def test_no_permission(monkeypatch):
    def refuse(*_args, **_keywords):
        import serial

        raise serial.SerialException(13, "could not open port: [Errno 13] Permission denied")

    monkeypatch.setattr("robotrl.drivers.port.serial.Serial", refuse)
    with pytest.raises(PortError) as error:
        SerialPort("/dev/null", 115200, CLOCK)
    assert "no permission" in one_line(error)


def test_impossible_baud(pty):
    with pytest.raises(PortError) as error:
        SerialPort(pty[1], -5, CLOCK)
    assert "-5 baud" in one_line(error)


def test_unplug_is_a_lost_port_for_read_and_write(pty):
    master, path = pty
    port = SerialPort(path, 115200, CLOCK)
    os.close(master)
    with pytest.raises(PortError, match="lost") as error:
        port.read(CLOCK.now() + 100 * MS)
    assert path in one_line(error)
    with pytest.raises(PortError, match="lost"):
        port.write(b"can send 8001 010000\n")
    port.close()


def test_a_closed_port_says_so(pty):
    port = SerialPort(pty[1], 115200, CLOCK)
    port.close()
    with pytest.raises(PortError, match="closed"):
        port.read(0)
    with pytest.raises(PortError, match="closed"):
        port.write(b"x")


def test_a_far_end_that_reads_nothing_does_not_block_for_ever(pty):
    port = SerialPort(pty[1], 115200, CLOCK)
    with pytest.raises(PortError, match="takes no bytes"):
        port.write(bytes(1_000_000))
    port.close()


class Echo:
    def __init__(self) -> None:
        self.waiting = b""

    def receive(self, data: bytes) -> None:
        self.waiting += data

    def transmit(self) -> bytes:
        data, self.waiting = self.waiting, b""
        return data


def test_memory_port_never_waits_and_honours_the_limit():
    port = MemoryPort(Echo())
    assert port.read(10**18) == b""
    port.write(b"abcdef")
    assert port.read(0, limit=4) == b"abcd"
    port.write(b"gh")
    assert port.read(0) == b"efgh"
    assert port.read(0) == b""
    port.close()


def test_a_device_error_is_caught_with_the_port_errors():
    assert issubclass(DeviceError, PortError)


def test_lines_are_cut_however_they_come_and_an_endless_one_is_bounded():
    lines = Lines()
    assert [lines.feed(part) for part in (b"a", b"b\nc", b"", b"\n\nd")] == [[], [b"ab"], [], [b"c", b""]]
    for _ in range(50):
        assert lines.feed(b"x" * 5000) == []
        assert lines.pending <= PENDING_MAX
    assert lines.overflows > 0
    assert lines.feed(b"\ngood\n")[1:] == [b"good"]
