"""The run's log keeps what it acknowledged: torn, damaged, killed at any call, without room, on a disk that fails."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from robotrl import log as log_module
from robotrl import logread
from robotrl.log import Log, Took
from robotrl.logformat import MARKS, Damaged, Kind, read_header, read_records
from robotrl.logread import LogError, examine, read, recover
from tests import logwitness

ROOT = Path(__file__).resolve().parent.parent
SMALL = 700  # bytes of a segment: a few records
BOOT = 77


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Room for a seal that a truncation test can go through byte by byte."""
    monkeypatch.setattr(log_module, "SEAL_ROOM", 64)


@pytest.fixture
def no_disk(monkeypatch):
    """No power goes in this test: what was written is there."""
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, lambda handle: None)


def payload(number: int) -> bytes:
    return b"%d " % number * (number % 7)


def filled(directory: Path, count: int, first: int = 1, segment: int = SMALL) -> Log:
    log = Log.open(directory, group_s=0.0, segment=segment)
    for number in range(first, first + count):
        assert log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number)) is Took.STORED
    log.sync()
    return log


def killed(log: Log) -> None:
    """As kill -9 leaves it: no seal, and the lock is free."""
    with log._change:
        log._closing = True
        log._change.notify_all()
    log._thread.join()
    os.close(log._fd)
    os.close(log._lock_fd)


def numbers(directory: Path) -> list[int]:
    """Of the records that the witness finds, whose payloads must be those that were written."""
    seen = logwitness.records(directory)
    assert all(record.payload == payload(record.number) for record in seen)
    return [record.number for record in seen]


def test_what_was_kept_is_read_by_two_readers(tmp_path):
    log = filled(tmp_path / "log", 40)
    assert (log.durable, log.acked(Kind.TRANSITION, "policy", BOOT), log.counts()) == (40, 40, {1: 40})
    assert [r.number for r in read(tmp_path / "log", [])] == list(range(1, 41)), "while it is being written"
    log.close()
    said: list[str] = []
    mine = [tuple(record) for record in read(tmp_path / "log", said)]
    assert mine == [tuple(record) for record in logwitness.records(tmp_path / "log")] and len(mine) == 40 and not said
    assert [r.number for r in read(tmp_path / "log", [], after=25)] == list(range(26, 41))
    segments = sorted((tmp_path / "log").iterdir())
    assert len(segments) > 3 and all(logwitness.segment(path.read_bytes())[1] for path in segments), "all are sealed"


def test_sent_again_is_acknowledged_again_and_stored_once_also_by_the_next_writer(tmp_path):
    filled(tmp_path / "log", 5).close()
    log = Log.open(tmp_path / "log", group_s=0.0)
    assert log.acked(Kind.TRANSITION, "policy", BOOT) == 5
    assert log.append(Kind.TRANSITION, "policy", BOOT, 3, b"again") is Took.DUPLICATE
    assert log.append(Kind.TRANSITION, "policy", BOOT, 7, payload(7)) is Took.GAP
    assert log.append(Kind.TRANSITION, "policy", BOOT, 6, payload(6)) is Took.STORED
    assert log.append(Kind.TRANSITION, "policy", BOOT + 1, 1, payload(1)) is Took.STORED, "another life"
    assert log.append(Kind.LABEL, "policy", BOOT, 1, payload(1)) is Took.STORED, "another kind"
    assert log.append(Kind.CAUSE, "guard", BOOT, 9, payload(9)) is Took.STORED, "of a kind that nobody sends again"
    assert log.append(Kind.CAUSE, "guard", BOOT, 9, payload(9)) is Took.DUPLICATE
    assert log.append(Kind.TRANSITION, "policy", BOOT, 9, payload(9), oldest=8) is Took.GAP
    assert log.append(Kind.TRANSITION, "policy", BOOT, 9, payload(9), oldest=9) is Took.STORED, "it has no 7 and 8 any more"
    log.close()
    assert numbers(tmp_path / "log") == [1, 2, 3, 4, 5, 6, 1, 1, 9, 9]


def test_acknowledged_is_only_what_was_synced(tmp_path, monkeypatch):
    """The caller goes on while the disk takes its time."""
    go = threading.Event()
    real = os.fdatasync
    log = filled(tmp_path / "log", 1)
    monkeypatch.setattr(log_module.os, "fdatasync", lambda fd: (go.wait(60), real(fd))[1])
    for number in (2, 3):
        log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number))
    assert (log.sequence, log.durable, log.acked(Kind.TRANSITION, "policy", BOOT)) == (3, 1, 1)
    go.set()
    log.sync()
    assert (log.durable, log.acked(Kind.TRANSITION, "policy", BOOT)) == (3, 3)
    log.close()


def test_more_waits_for_the_disk_than_it_may_and_no_more_is_taken(tmp_path, monkeypatch):
    go = threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(log_module, "MAX_WAITING", 2000)
    log = filled(tmp_path / "log", 1)
    monkeypatch.setattr(log_module.os, "fdatasync", lambda fd: (go.wait(60), real(fd))[1])
    took = [log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number)) for number in range(2, 60)]
    stored = took.index(Took.REFUSED)
    assert set(took[stored + 1 :]) == {Took.REFUSED, Took.GAP} or set(took[stored + 1 :]) == {Took.GAP}
    go.set()
    log.sync()
    assert log.append(Kind.TRANSITION, "policy", BOOT, stored + 2, payload(stored + 2)) is Took.STORED
    log.close()
    assert numbers(tmp_path / "log") == list(range(1, stored + 3))


def test_lives_remembered_are_bounded(tmp_path):
    log = Log.open(tmp_path / "log", group_s=0.0)
    for boot in range(3 * MARKS):
        log.append(Kind.LABEL, "console", boot, 1, payload(1))
    log.sync()
    assert len(log.acks()) == MARKS and log.acked(Kind.LABEL, "console", 3 * MARKS - 1) == 1
    log.close()


def test_every_truncation_leaves_a_prefix(tmp_path):
    filled(tmp_path / "log", 4).close()
    whole = (tmp_path / "log" / "00000001.log").read_bytes()
    size = read_header(whole).size
    for end in range(size, len(whole)):
        found = examine(read_header(whole[:end]), whole[:end], last=True)
        expected = logwitness.segment(whole[:end])[0]
        assert (found.state.sequence, found.sealed) == (len(expected), False)
        assert found.state.marks.get((1, "policy", BOOT), 0) == len(expected)
    for end in range(1, size):
        with pytest.raises(Damaged, match="its header is cut short"):
            read_header(whole[:end])


def test_a_truncation_leaves_a_prefix_and_the_torn_bytes_beside_it(tmp_path, no_disk):
    log = filled(tmp_path / "whole", 12)
    log.append(Kind.TRANSITION, "policy", BOOT, 13, b"13 " * 6)
    log.sync()
    killed(log)
    last = sorted((tmp_path / "whole").iterdir())[-1]
    before = sum(len(logwitness.segment(p.read_bytes())[0]) for p in sorted((tmp_path / "whole").iterdir())[:-1])
    data = last.read_bytes()
    used = len(data.rstrip(b"\0"))
    for size in [*range(0, used, 5), used - 1, used, len(data) - 1]:
        work = tmp_path / "work"
        shutil.copytree(tmp_path / "whole", work)
        os.truncate(work / last.name, size)
        expected = before + len(logwitness.segment(data[:size])[0])
        log = Log.open(work, group_s=0.0, segment=SMALL)
        assert log.durable == expected == log.acked(Kind.TRANSITION, "policy", BOOT), size
        torn = [p for p in work.iterdir() if p.suffix in (".torn", ".damaged")]
        assert len(log.said) == len(torn) and all("\n" not in line for line in log.said)
        log.append(Kind.TRANSITION, "policy", BOOT, expected + 1, payload(expected + 1))
        log.close()
        seen = [record.number for record in logwitness.records(work)]
        assert seen == list(range(1, expected + 2)), size
        assert not list(work.glob("*.torn")), "a clean close forgets them"
        shutil.rmtree(work)


@pytest.mark.parametrize("closed", [True, False])
def test_every_flipped_bit_leaves_a_prefix_of_its_segment(tmp_path, closed):
    log = filled(tmp_path / "log", 3)
    log.close() if closed else killed(log)
    whole = (tmp_path / "log" / "00000001.log").read_bytes()
    for bit in range(8 * len(whole.rstrip(b"\0"))):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        data, expected = bytes(spoilt), logwitness.segment(spoilt)[0]
        try:
            header = read_header(data)
        except Damaged:
            header = None
        if header is None:
            assert not expected, bit
            continue
        found = examine(header, data, last=True)
        records = [r for r, _ in read_records(data, header.size, found.end, header.chain, header.state.sequence)]
        assert [r.number for r in records] == [r.number for r in expected] == list(range(1, found.state.sequence + 1)), bit
        assert all(r.payload == payload(r.number) for r in records)
        assert not found.sealed and (found.why or data[found.end :].strip(b"\0")), f"bit {bit}: it would not be said"


@pytest.mark.parametrize("closed", [True, False])
def test_a_flipped_bit_is_said_and_nothing_is_thrown_away(tmp_path, no_disk, closed):
    """In the first segment, which is sealed, and in the last one, which is or is not."""
    log = Log.open(tmp_path / "whole", group_s=0.0, segment=240)
    for number in range(1, 5):
        log.append(Kind.LABEL, "me", BOOT, number, payload(number)[:3])
        log.sync()
    log.close() if closed else killed(log)
    whole = {path.name: path.read_bytes() for path in sorted((tmp_path / "whole").iterdir())}
    assert len(whole) == 2
    work = tmp_path / "work"
    for name, data in whole.items():
        for bit in range(0, 8 * len(data.rstrip(b"\0")), 101):
            spoilt = bytearray(data)
            spoilt[bit // 8] ^= 1 << bit % 8
            expected = [r for n in whole for r in logwitness.segment(bytes(spoilt) if n == name else whole[n])[0]]
            work.mkdir()
            for each, content in whole.items():
                (work / each).write_bytes(spoilt if each == name else content)
            found = recover(work, said := [])
            assert any(name in line for line in said), (name, bit)
            assert logwitness.records(work) == expected and found.state.sequence == max(r.sequence for r in expected), (name, bit)
            assert expected and all(r.payload == payload(r.number)[:3] for r in expected)
            kept = [p for p in work.iterdir() if p.suffix != ".log"]
            assert kept or "left as it is" in said[0], "nothing of it is thrown away"
            assert all(
                p.read_bytes() in (spoilt, spoilt[-len(p.read_bytes()) :], spoilt.rstrip(b"\0")[-len(p.read_bytes()) :])
                for p in kept
            )
            again: list[str] = []
            recover(work, again)
            assert not any("damaged" in line for line in again), "made whole once"
            shutil.rmtree(work)


def test_a_hole_is_said_and_reading_goes_on(tmp_path):
    filled(tmp_path / "log", 30).close()
    paths = sorted((tmp_path / "log").iterdir())
    gone = [r.sequence for r in logwitness.segment(paths[1].read_bytes())[0]]
    paths[1].unlink()
    said: list[str] = []
    seen = [record.sequence for record in read(tmp_path / "log", said)]
    assert seen == [n for n in range(1, 31) if n not in gone]
    assert said == [f"{tmp_path / 'log'}: records {gone[0]} to {gone[-1]} are missing; restore them from a copy"]
    log = Log.open(tmp_path / "log")
    assert log.said == said and log.durable == 30
    log.close()


def test_foreign_and_newer_files_get_one_line_and_are_left_as_they_are(tmp_path):
    filled(tmp_path / "log", 8).close()
    filled(tmp_path / "other", 3).close()
    renamed = bytearray((tmp_path / "other" / "00000001.log").read_bytes())
    struct.pack_into("<I", renamed, 48, 52)  # it says that it is segment 52
    end = struct.unpack_from("<I", renamed, 12)[0] - 4
    struct.pack_into("<I", renamed, end, zlib.crc32(renamed[:end]))
    files = {
        tmp_path / "log" / "00000051.log": b"a letter",
        tmp_path / "log" / "00000052.log": bytes(renamed),
        tmp_path / "log" / "00000053.log": (tmp_path / "other" / "00000001.log").read_bytes(),
        tmp_path / "log" / "notes.log": b"robotlog",
    }
    for path, data in files.items():
        path.write_bytes(data)
    log = Log.open(tmp_path / "log")
    assert [line.split(": ")[1].split(",")[0] for line in log.said] == [
        "no segment of a log", "this is segment 1", "of another run's log",
    ]  # fmt: skip
    assert log.durable == 8 and (tmp_path / "log" / "00000054.log").exists()
    log.close()
    assert all(path.read_bytes() == data for path, data in files.items())
    newer = tmp_path / "log" / "00000060.log"
    newer.write_bytes(b"robotlog" + struct.pack("<HH", 2, 0xFFFD) + b"anything")
    before = {p.name: p.read_bytes() for p in (tmp_path / "log").iterdir()}
    for attempt in (lambda: Log.open(tmp_path / "log"), lambda: list(read(tmp_path / "log", []))):
        with pytest.raises(LogError, match=r"00000060.log: of version 2, .*use that version"):
            attempt()
    assert {p.name: p.read_bytes() for p in (tmp_path / "log").iterdir()} == before


def test_one_writer_at_a_time(tmp_path):
    log = filled(tmp_path / "log", 1)
    with pytest.raises(LogError, match="another process is writing it"):
        Log.open(tmp_path / "log")
    log.close()
    Log.open(tmp_path / "log").close()


def test_a_full_disk_stops_acknowledgements_until_there_is_room(tmp_path, monkeypatch):
    log = filled(tmp_path / "log", 1)
    full = [True]
    real = os.posix_fallocate

    def fallocate(fd, at, size):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, at, size)

    monkeypatch.setattr(log_module, "RETRY_S", 0.01)
    monkeypatch.setattr(log_module.os, "posix_fallocate", fallocate)
    for number in range(2, 41):
        log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number))
    with pytest.raises(LogError, match=r"disk full: nothing more is kept; free some space"):
        log.sync()
    assert 1 <= log.durable < 40 and not log.failed
    full[0] = False
    with log._change:
        assert log._change.wait_for(lambda: log.durable == 40, 60) and not log.trouble
    log.close()
    assert numbers(tmp_path / "log") == list(range(1, 41))


def test_a_log_closed_while_the_disk_is_full_says_what_it_lost_and_keeps_the_rest(tmp_path, monkeypatch):
    log = filled(tmp_path / "log", 1)

    def fallocate(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log_module.os, "posix_fallocate", fallocate)
        for number in range(2, 41):
            log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number))
        with pytest.raises(LogError, match=r"disk full.* records after \d+ are not kept"):
            log.close()
        with pytest.raises(LogError, match="cannot be written: No space left"):
            Log.open(tmp_path / "log")
    log = Log.open(tmp_path / "log")
    assert log.durable >= 1 and numbers(tmp_path / "log") == list(range(1, log.durable + 1))
    log.close()


@pytest.mark.parametrize("call", ["fdatasync", "pwrite", "fsync", "ftruncate"])
def test_the_first_failure_of_the_disk_is_final(tmp_path, monkeypatch, call):
    log = filled(tmp_path / "log", 2)
    failures = []
    real = getattr(os, call)

    def once(*arguments):
        if not failures:
            failures.append(call)
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(log_module.os, call, once)
    for number in range(3, 41):
        log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number))
    with pytest.raises(LogError, match=r"the disk failed: Input/output error: nothing more is kept"):
        log.sync()
    promised = log.durable
    assert log.failed and log.append(Kind.TRANSITION, "policy", BOOT, 41, b"") is Took.REFUSED
    with pytest.raises(LogError, match="the disk failed"):
        log.close()
    assert log.durable == promised, "a later call that succeeds would not know what the first one lost"
    log = Log.open(tmp_path / "log")
    assert log.durable >= promised and numbers(tmp_path / "log") == list(range(1, log.durable + 1))
    log.close()


def test_a_mistake_of_our_own_acknowledges_nothing_either(tmp_path, monkeypatch):
    log = filled(tmp_path / "log", 2)
    monkeypatch.setattr(log_module, "make_record", lambda *_: 1 / 0)
    log.append(Kind.TRANSITION, "policy", BOOT, 3, b"")
    with pytest.raises(LogError, match="ZeroDivisionError"):
        log.sync()
    assert log.durable == 2
    with pytest.raises(LogError):
        log.close()


CALLS = ("open", "pwrite", "fsync", "fdatasync", "rename", "ftruncate", "unlink", "posix_fallocate", "link")


def child(directory: Path, point: int, witness: int) -> None:
    """Go on with the log and tell `witness` of each acknowledgement; dies at its `point`-th call, or half way through it."""
    left = [point]

    def call(real, name, arguments, words):
        left[0] -= 1
        if left[0] == -1:
            if name == "pwrite":
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], arguments[2])
            os._exit(9)
        done = real(*arguments, **words)
        left[0] -= 1
        if left[0] == -1:
            os._exit(9)
        return done

    for name in CALLS:
        real = getattr(os, name)
        setattr(os, name, lambda *a, real=real, name=name, **k: call(real, name, a, k))
    log = Log.open(directory, group_s=0.0, segment=SMALL)
    first = log.acked(Kind.TRANSITION, "policy", BOOT) + 1
    for number in range(first, first + 9):
        log.append(Kind.TRANSITION, "policy", BOOT, number, payload(number))
        if number % 2:
            log.sync()
            os.write(witness, b"%d " % log.acked(Kind.TRANSITION, "policy", BOOT))
    log.close()
    os.write(witness, b"%d end " % (first + 8))
    os._exit(0)


def kill_points(folder: Path) -> int:
    """A life that dies at each of its calls in turn; how many there are. The first life dies between two calls, so that the next
    ones have something to make whole, too."""
    torn = folder / "torn"
    killed(filled(torn, 5))
    with open(sorted(torn.iterdir())[-1], "r+b") as file:
        file.seek(len(sorted(torn.iterdir())[-1].read_bytes().rstrip(b"\0")))
        file.write(b"torn off")
    for point in range(1000):
        work = folder / "work"
        shutil.copytree(torn, work)
        ear, mouth = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                child(work, point, mouth)
            finally:
                os._exit(1)
        os.close(mouth)
        with os.fdopen(ear) as file:
            heard = file.read().split()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9), code
        promised = max([5, *(int(word) for word in heard if word != "end")])
        log = Log.open(work, group_s=0.0, segment=SMALL)
        assert log.durable >= promised == max(5, min(promised, log.durable)), point
        log.close()
        seen = logwitness.records(work)
        assert [r.number for r in seen] == list(range(1, log.durable + 1)), point
        assert logwitness.faults(seen) == {"lost": 0, "doubled": 0, "reordered": 0}
        shutil.rmtree(work)
        if code == 0:
            assert heard[-1] == "end", "every call was met"
            return point
    raise AssertionError("it never came to an end")


LEAN = """
import os, sys
from pathlib import Path
from tests import test_log
os.fsync = os.fdatasync = lambda handle: None  # no power goes in this test
test_log.log_module.SEAL_ROOM = 64
print(test_log.kill_points(Path(sys.argv[1])))
"""


def test_killed_at_any_call_or_half_way_through_nothing_acknowledged_is_lost(tmp_path):
    """From a process of its own: to fork one that holds torch takes a tenth of a second, and it is done hundreds of times."""
    done = subprocess.run([sys.executable, "-c", LEAN, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and int(done.stdout) > 60, done.stderr


def test_records_of_any_size_up_to_the_largest(tmp_path):
    rng = random.Random(0)
    log = Log.open(tmp_path / "log", group_s=0.0, segment=100_000)
    sizes = [0, 1, 99_000, 100_000, 300_000, *(rng.randrange(5000) for _ in range(100))]
    for number, size in enumerate(sizes, 1):
        log.append(Kind.CAUSE, "guard", BOOT, number, rng.randbytes(size))
    with pytest.raises(ValueError, match="are the most"):
        log.append(Kind.CAUSE, "guard", BOOT, 999, bytes((4 << 20) + 1))
    log.close()
    assert [len(r.payload) for r in logwitness.records(tmp_path / "log")] == sizes == [
        len(r.payload) for r in read(tmp_path / "log", [])
    ]  # fmt: skip


def test_a_directory_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "log").write_text("")
    with pytest.raises(LogError) as caught:
        Log.open(tmp_path / "log")
    assert str(tmp_path / "log") in str(caught.value) and "\n" not in str(caught.value)
    assert logread.survey(tmp_path / "nowhere") == ([], [], 0)
