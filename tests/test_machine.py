"""What the doctor sees of the computer, on computers that are made up; and a doctor who can import but half of what he needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from robotrl import cameracheck, config, doctor, machine

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30


def filled(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("free", "bound", "state"),
    [(1.4, "max", "fail"), (1.6, "max", "warn"), (2.9, "max", "warn"), (3.1, "max", "ok"), (30, 3.5, "warn"), (30, 9, "ok")],
)
def test_too_little_memory_is_said_the_control_groups_bound_too(tmp_path, free, bound, state):
    proc = filled(tmp_path / "proc", meminfo=f"MemTotal: 99999999 kB\nMemAvailable: {int(free * GIB) >> 10} kB\n")
    most = bound if bound == "max" else str(int(bound * GIB))
    group = filled(tmp_path / "group", memory__max=most, memory__current=str(GIB))
    row = machine.memory(proc, group)
    assert row.state == state and bool(row.fix) == (state != "ok") and ("control group" in row.found) == (bound != "max")


@pytest.mark.parametrize(
    ("stat", "state"), [("anon 1\ninactive_file {}\nactive_file 9\n", "ok"), ("anon 1\n", "fail"), (None, "fail")]
)
def test_what_a_control_group_keeps_of_files_is_not_taken(tmp_path, stat, state):
    """Of 8 GiB, 7.5 are in use, 6.5 of them pages of files, which give way: who had read much was said to have no memory."""
    proc = filled(tmp_path / "proc", meminfo="MemTotal: 99999999 kB\nMemAvailable: 30000000 kB\n")
    said = {} if stat is None else {"memory__stat": stat.format(int(6.5 * GIB))}
    row = machine.memory(proc, filled(tmp_path / "group", memory__max=str(8 * GIB), memory__current=str(int(7.5 * GIB)), **said))
    assert row.state == state and ("7.0 GiB" if state == "ok" else "0.5 GiB") in row.found and "control group" in row.found


def test_a_system_that_does_not_say_is_a_warning(tmp_path):
    assert machine.memory(filled(tmp_path, meminfo="nonsense")).state == "warn"
    assert machine.memory(tmp_path / "none").state == "warn"


@pytest.mark.parametrize(("source", "state"), [("tsc", "ok"), ("hpet", "warn"), ("acpi_pm", "warn"), ("arch_sys_counter", "ok")])
def test_a_clock_that_is_slow_to_read_is_a_warning(tmp_path, source, state):
    filled(tmp_path / "devices/system/clocksource/clocksource0", current_clocksource=source + "\n")
    row = machine.clock(tmp_path)
    assert row.state == state and source in row.found and bool(row.fix) == (state == "warn")


@pytest.mark.parametrize(("told", "state"), [(0, "ok"), (1, "ok"), (5, "warn"), (-1, "warn")])
def test_a_time_of_day_that_nobody_sets_is_a_warning(monkeypatch, told, state):
    library = namedtuple("Library", "adjtimex")(lambda buffer: told)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    assert machine.time_of_day().state == state


def test_the_disk_is_measured_and_a_slow_one_is_a_warning(tmp_path, monkeypatch):
    row = machine.disk(tmp_path)
    assert row.state in ("ok", "warn") and "a sync takes" in row.found and "MB/s" in row.found and not list(tmp_path.iterdir())
    monkeypatch.setattr(machine, "SYNCS", 3)
    monkeypatch.setattr(machine.os, "fdatasync", lambda fd: time.sleep(0.03))
    slow = machine.disk(tmp_path)
    assert slow.state == "warn" and "--out" in slow.fix
    assert machine.disk(tmp_path / "none").state == "fail"


def test_a_library_is_loaded_or_named_with_what_brings_it():
    assert machine.library("libc", "libc.so.6", "", "all", "").state == "ok"
    row = machine.library("libx", "libnonesuch.so.3", "", "nobody", "sudo apt-get install libx")
    assert row.state == "warn" and "libnonesuch.so.3" in row.found and "nobody" in row.found and "apt-get" in row.fix
    lost = machine.library("libx", "libnonesuch.so.3", "nonesuch", "nobody", "sudo apt-get install libx")
    assert lost.state == "warn" and "nonesuch" in lost.found


def camera(system: Path, number: int, name: str, serial: str, index: str = "0") -> None:
    usb = filled(system / "devices" / f"usb{number}", **({"serial": serial} if serial else {}))
    (usb / "interface").mkdir(exist_ok=True)
    entry = filled(system / "class" / "video4linux" / f"video{number}", name=name, index=index)
    (entry / "device").symlink_to(usb / "interface")


def test_cameras_are_told_by_their_serial_numbers(tmp_path, monkeypatch):
    assert machine.cameras(tmp_path, tmp_path).state == "ok"
    camera(tmp_path, 0, "HD Webcam", "A1B2")
    camera(tmp_path, 1, "HD Webcam", "A1B2", index="1")
    camera(tmp_path, 2, "No Name", "")
    dev = filled(tmp_path / "dev", video0="", video2="")
    found = machine.cameras(dev, tmp_path)
    assert (found.state, found.found) == ("ok", "video0 HD Webcam (serial A1B2); video2 No Name (no serial number)")
    monkeypatch.setattr(machine.os, "access", lambda path, mode: not str(path).endswith("video2"))
    shut = machine.cameras(dev, tmp_path)
    assert shut.state == "warn" and "video2: no permission" in shut.found and "usermod -aG" in shut.fix


def test_each_camera_of_the_robot_file_is_looked_for_by_its_number(tmp_path, monkeypatch):
    dev = filled(tmp_path / "dev", video4="", video6="")
    there = [machine.Camera(str(dev / "video4"), "Webcam", "A1B2"), machine.Camera(str(dev / "video6"), "Webcam", "")]
    monkeypatch.setattr(machine, "video", lambda: there)
    monkeypatch.setattr(cameracheck, "_no_intel", lambda serial: "" if serial == "815" else f"no RealSense {serial}")
    named = {
        "front": config.CameraPort(serial="A1B2"), "gone": config.CameraPort(serial="C3"),
        "side": config.CameraPort(path=there[1].path),
        "none": config.CameraPort(path=str(dev / "video9")), "net": config.CameraPort(kind="mjpeg", url="http://eye:80/x"),
        "deep": config.CameraPort(kind="realsense", serial="815"), "lost": config.CameraPort(kind="realsense", serial="816"),
        "tape": config.CameraPort(kind="file", path=str(tmp_path / "none.mp4")),
        "kept": config.CameraPort(kind="file", path=f"{dev / 'video4'}#front"),
    }  # fmt: skip
    rows = {row.name: row for row in cameracheck.camera_rows(config.Robot(cameras=named))}
    assert {name: rows[f"camera {name}"].state for name in named} == {
        "front": "ok", "gone": "fail", "side": "ok", "none": "fail", "net": "ok", "deep": "ok", "lost": "fail", "tape": "fail",
        "kept": "ok",
    }  # fmt: skip
    assert "no C3 on USB" in rows["camera gone"].found and all(
        "find-cameras" in r.fix for r in rows.values() if r.state == "fail"
    )
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    shut = next(cameracheck.camera_rows(config.Robot(cameras=named)))
    assert shut.state == "fail" and "no permission" in shut.found and "usermod -aG" in shut.fix


def test_librealsense_is_asked_in_a_process_that_may_crash(monkeypatch):
    assert "816" in cameracheck._no_intel("816")
    monkeypatch.setattr(cameracheck, "_INTEL", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "ended by -9" in cameracheck._no_intel("816")
    monkeypatch.setattr(cameracheck, "_INTEL", "print('815 816')")
    assert cameracheck._no_intel("816") == ""


def test_a_gamepad_without_permission_is_named(tmp_path, monkeypatch):
    assert machine.controls(tmp_path).state == "ok"
    pad = filled(tmp_path / "input", js0="")
    assert machine.controls(tmp_path) == machine.Row("gamepad", "ok", str(pad / "js0"))
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    assert machine.controls(tmp_path).state == "warn" and "usermod" in machine.controls(tmp_path).fix


def test_where_no_keys_can_come_from_it_is_said(monkeypatch):
    near, far = os.openpty()
    try:
        monkeypatch.setattr(machine.os, "isatty", lambda fd: True)
        monkeypatch.setattr(machine.os, "ttyname", lambda fd: "/dev/pts/9")
        monkeypatch.setenv("TERM", "xterm")
        assert machine.terminal() == machine.Row("keys", "ok", "/dev/pts/9, xterm")
        monkeypatch.delenv("TERM")
        assert machine.terminal().state == "warn"
        monkeypatch.setattr(machine.os, "isatty", lambda fd: False)
        assert machine.terminal().state == "warn" and machine.terminal().fix
    finally:
        os.close(near), os.close(far)


def test_a_version_that_nobody_has_tested_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "pinned", lambda: {"msgspec": "0.0.1"})
    row = doctor.try_package("msgspec", "msgspec", "")
    assert row.state == "warn" and "tested is 0.0.1" in row.found and row.fix.startswith("set up")
    monkeypatch.undo()
    assert doctor.pinned()["torch"].count(".") == 2 and doctor.pinned(Path("/none")) == {}


@pytest.mark.parametrize("half", [0, 1])
def test_it_works_when_half_the_imports_fail(tmp_path, half):
    """Every other package is hidden by one of its name that cannot be imported, from the doctor and from all that he tries."""
    hidden = [module for module, _, _ in doctor.PACKAGES][half::2]
    for module in hidden:
        (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('No module named {module}', name='{module}')")
    words = [sys.executable, "-m", "robotrl", "doctor", "--json", "--set", "robot.serial=x", "--calibration", str(tmp_path)]
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and not done.stderr, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])["rows"]}
    for module, distribution, loss in doctor.PACKAGES:
        if module in hidden:
            assert rows[distribution]["state"] == ("warn" if loss else "fail") and "launch/env.sh" in rows[distribution]["fix"]
        else:
            assert rows[distribution]["state"] in ("ok", "warn"), rows[distribution]
    for name in ("python", "free memory", "disk speed", "time of day", "libusb", "keys", "cameras", "servos port", "calibration"):
        assert name in rows, name
    assert all(row["fix"] for row in rows.values() if row["state"] != "ok")
    assert {row["state"] for row in rows.values()} == {"ok", "warn", "fail"}
