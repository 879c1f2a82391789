"""Lines for a person, where they cannot be written: a full disk (/dev/full), a terminal that takes nothing more."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from robotrl import aloud
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.nodes import rescue
from robotrl.processes import Manager

ROOT = Path(__file__).resolve().parents[1]


def test_a_line_is_said_and_one_that_cannot_be_is_lost_without_a_word():
    heard = io.StringIO()
    aloud.say("on its feet", heard)
    assert heard.getvalue() == "on its feet\n"
    words = "import os; from robotrl import aloud; {}; os._exit(7)"
    ends = [
        subprocess.run([sys.executable, "-c", words.format(line)], cwd=ROOT, capture_output=True).returncode
        for line in ("print('a', file=open('/dev/full', 'w'), flush=True)", "aloud.say('a', open('/dev/full', 'w'))")
    ]
    assert ends == [1, 7], "a print ends the process, and this does not"


def test_a_rescue_whose_log_is_full_kills_a_driver_that_hangs(monkeypatch):
    driver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    ward = type("Ward", (), {"pidfd": rescue.os.pidfd_open(driver.pid)})()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Full())
        rescue.Rescue._kill(None, ward)  # type: ignore[arg-type]
    assert driver.wait(10) == -9
    rescue.os.close(ward.pidfd)


def test_a_manager_whose_log_is_full_still_says_it_on_the_bus(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "manager.log").symlink_to("/dev/full")
    sockets = tmp_path / "s"
    sockets.mkdir(mode=0o700)
    manager = Manager(tmp_path, sockets, {}, ())
    manager.say("policy", 1, "died")
    assert manager.events.seq == 1
    manager.bus.close()


class Full(io.StringIO):
    """What a log on a full disk is to its writer."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


TALKER = """
import sys, time
from robotrl import aloud
{before}
worst, last = 0.0, time.monotonic()
for n in range({lines}):
    aloud.say(f"{{n:06d}}" + "." * 193)
    now = time.monotonic()
    worst, last = max(worst, now - last), now
open(sys.argv[1], "w").write(str(worst))
"""
SHARED = "import os; aloud._Spout._own = lambda spout: spout._fd"  # of another user's terminal there is no second description


class Mouth:
    """A process that has more to say than the kernel keeps, to `how` reads it."""

    def __init__(self, folder: Path, how: str, before: str = "", lines: int = 1000) -> None:
        self.told = folder / "worst"
        self.ear, end = os.openpty() if how != "pipe" else os.pipe()
        if how == "stopped":
            os.write(self.ear, b"\x13")  # Ctrl-S
        words = [sys.executable, "-c", TALKER.format(before=before, lines=lines), str(self.told)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=end, stdout=end)
        os.close(end)

    def heard(self) -> list[str]:
        """What comes until the process has ended, in lines."""
        text = b""
        with contextlib.suppress(OSError):  # how a pty ends
            while more := os.read(self.ear, 4096):
                text += more
        return text.decode().split("\n")[:-1]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ear)


@pytest.fixture
def mouth(tmp_path):
    made = []

    def start(*args, **more):
        made.append(Mouth(tmp_path, *args, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("before", ["", SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("how", ["pty", "stopped", "pipe"])
def test_who_speaks_to_nobody_is_not_held_up_and_what_is_lost_is_counted(mouth, how, before):
    one = mouth(how, before, lines=2000)  # 400 kB
    until = time.monotonic() + 20
    while not one.told.exists() or not one.told.read_text():
        assert time.monotonic() < until, "it waits for somebody to read"
        time.sleep(0.02)
    assert float(one.told.read_text()) < 0.5, "some ms, on a busy machine more; while nobody reads it is for ever"
    if how == "stopped":
        os.write(one.ear, b"\x11")
    lines = [line.rstrip("\r") for line in one.heard()]
    *whole, last = lines
    numbers = [int(line[:6]) for line in whole]
    assert numbers == list(range(len(whole))) and {len(line) for line in whole} == {199}, "in order, none torn"
    assert 300 < len(whole) < 2000 and last == f"(here {2000 - len(whole)} lines are lost: nobody read them)"


@pytest.mark.parametrize("how", ["pty", "pipe"])
def test_a_slow_reader_loses_nothing(mouth, how):
    one = mouth(how, lines=400)  # 80 kB: more than the kernel keeps
    time.sleep(1.0)
    assert [int(line[:6]) for line in one.heard()] == list(range(400))


def test_a_reader_who_has_gone_costs_nothing(mouth):
    one = mouth("pipe", before="time.sleep(0.5)")
    os.close(one.ear)
    one.ear = os.open("/dev/null", os.O_RDONLY)
    assert one.process.wait(20) == 0 and float(one.told.read_text()) < 0.5


MANAGER = """
import sys, time
from pathlib import Path
from robotrl import aloud
from robotrl.processes import Manager
manager = Manager(Path(sys.argv[1]), Path(sys.argv[2]), {}, ())
while True:
    aloud.say("." * 8000)
    manager.watch(0.02)
"""


def test_a_manager_on_a_terminal_that_takes_nothing_beats(tmp_path):
    (tmp_path / "logs").mkdir()
    with tempfile.TemporaryDirectory(prefix="robotrl-") as sockets:
        ear, end = os.openpty()
        bus = Bus(Path(sockets), "guard", WallClock())
        beats = bus.subscriber("beat")
        process = subprocess.Popen([sys.executable, "-c", MANAGER, tmp_path, sockets], cwd=ROOT, stdin=end, stdout=end)
        try:
            until = time.monotonic() + 30
            while (beat := beats.latest("manager")) is None or beat.progress < 100:  # 800 kB; a pty keeps 64
                assert time.monotonic() < until, f"the last it said: {beat}"
                bus.wait([beats], 0.1)
        finally:
            process.kill()
            process.wait()
            bus.close()
            os.close(ear)
            os.close(end)
