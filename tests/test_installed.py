"""What the system keeps for the robot: the unit and the rules that ship, how they are installed, what the doctor says of them."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from robotrl import installed
from robotrl.notify import Notify

ROOT = Path(__file__).resolve().parent.parent
ANALYZE = shutil.which("systemd-analyze")


def shipped() -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(strict=True, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(installed.unit(ROOT))
    return {name: dict(parser[name]) for name in parser.sections()}


def test_the_unit_says_what_the_safety_facts_ask_for():
    service = shipped()["Service"]
    assert {
        "Type": "notify", "WatchdogSec": "1", "WatchdogSignal": "SIGKILL", "RuntimeDirectoryMode": "0700",
        "LimitRTPRIO": "50", "LimitMEMLOCK": "infinity", "KillMode": "process", "RestartPreventExitStatus": "2",
    }.items() <= service.items()  # fmt: skip
    assert shipped()["Unit"]["StartLimitBurst"] == "3" and "@" not in installed.unit(ROOT).replace("ExecStart", "")
    assert service["WorkingDirectory"] == str(ROOT) and f'"{ROOT}/.venv/bin/python" -m robotrl run ' in service["ExecStart"]


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit_and_would_name_what_is_wrong_with_it(tmp_path):
    def verify(text: str) -> str:
        path = tmp_path / "robotrl.service"
        path.write_text(text)
        done = subprocess.run([str(ANALYZE), "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60)
        return "\n".join(line for line in done.stderr.splitlines() if "robotrl" in line)

    text = installed.unit(ROOT).replace(f'"{ROOT}/.venv/bin/python"', "/bin/true")  # the interpreter may not be set up here
    assert verify(text) == ""
    assert "WatchdogSecs" in verify(text.replace("WatchdogSec=", "WatchdogSecs="))


KEYS = {"ACTION", "SUBSYSTEM", "DRIVER", "ATTR", "ATTRS", "ENV", "GROUP", "MODE", "SYMLINK"}
RULE = re.compile(r'([A-Z]+)(?:\{([\w/]+)\})?(==|!=|\+=|=)"([^"]*)"')


def test_each_rule_matches_before_it_changes_anything():
    rules = [line for line in installed.rules(ROOT).splitlines() if line and not line.startswith("#")]
    assert len(rules) == 3
    for rule in rules:
        parts = [RULE.fullmatch(part) for part in rule.split(", ")]
        assert all(parts) and {part[1] for part in parts} <= KEYS, rule
        kinds = [part[3] in ("==", "!=") for part in parts]
        assert kinds[0] and kinds == sorted(kinds, reverse=True) and not all(kinds), rule
        assert kinds.count(True) >= 2 and any(part[1] == "SUBSYSTEM" for part in parts), rule  # and what narrows it
    text = "\n".join(rules)
    assert 'ATTR{latency_timer}="1"' in text and text.count('GROUP="dialout", MODE="0660"') == 2 and "SYMLINK+=" in text


def test_installed_stale_and_missing_are_told_apart_and_the_line_that_mends_it_does(tmp_path):
    def states() -> list[str]:
        found = [installed.service(tmp_path, ROOT), installed.adapters(tmp_path, ROOT)]
        assert all(v.fix == ("" if v.state == "ok" else installed.INSTALL) for v in found)
        return [v.state for v in found]

    assert states() == ["warning", "warning"] and "not installed" in installed.service(tmp_path, ROOT).found
    script = ROOT / installed.INSTALL.removeprefix("sudo bash ")
    done = subprocess.run(["bash", str(script), "--root", str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    assert states() == ["ok", "ok"]
    with open(tmp_path / "etc/systemd/system/robotrl.service", "a") as file:
        file.write("Nice=1\n")
    assert states() == ["warning", "ok"] and "not as in this checkout" in installed.service(tmp_path, ROOT).found
    done = subprocess.run(["bash", str(script), "--toor"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stderr


def test_a_place_with_a_space_is_one_word_to_systemd(tmp_path):
    root = tmp_path / "a b"
    shutil.copytree(ROOT / "launch", root / "launch")
    subprocess.run(
        ["bash", str(root / "launch" / "install.sh"), "--root", str(tmp_path / "sys")], check=True, capture_output=True
    )
    assert installed.service(tmp_path / "sys", root).state == "ok"
    assert f'ExecStart="{root}/.venv/bin/python" -m' in (tmp_path / "sys/etc/systemd/system/robotrl.service").read_text()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    """A socket as systemd would name it, and what comes to it."""
    address = f"@robotrl-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + address[1:] if address.startswith("@") else address)
        end.setblocking(False)

        def heard() -> list[str]:
            out = []
            while True:
                try:
                    out.append(end.recv(4096).decode())
                except BlockingIOError:
                    return out

        yield address, heard


def test_what_systemd_is_told(systemd):
    address, heard = systemd
    notify = Notify(address)
    notify.ready()
    for _ in range(100):
        notify.alive()
    assert heard()[:2] == ["READY=1", "WATCHDOG=1"] and len(heard()) <= 1
    notify.ending()
    (last,) = heard()
    assert "STOPPING=1" in last.splitlines() and "WATCHDOG_USEC=720000000" in last.splitlines()


def test_without_systemd_nothing_is_said_and_nothing_fails(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notify().ready()
    Notify(str(tmp_path / "gone")).alive()
