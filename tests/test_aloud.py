"""Lines for a person, where they cannot be written: /dev/full is a disk that is full."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from robotrl import aloud
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
