"""A USB camera's driver against a kernel made of the system's own header (fakevideo.c), and its search through sysfs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robotrl.config import CameraPort
from robotrl.drivers.camera import CameraError, encode
from robotrl.drivers.uvc import devices, find

ROOT = Path(__file__).resolve().parent.parent.parent
HEADER = Path("/usr/include/linux/videodev2.h")

SCRIPT = """
import json, os, sys
from robotrl.clock import WallClock
from robotrl.config import CameraPort
from robotrl.drivers.camera import CameraError
from robotrl.drivers.uvc import UvcCamera
clock = WallClock()

def film(words, unplug):
    told = {}
    try:
        camera = UvcCamera(os.environ["FAKE_DEVICE"], CameraPort(**words), clock)
        frames = [camera.read(clock.now() + 30_000_000_000) for _ in range(8)]
        told["frames"] = [(f.number, f.stamp, (clock.now() - f.t) / 1e9, f.mark, f.mark - f.t, f.pixels().shape) for f in frames]
        told["broken"] = camera.broken
        told["early"] = camera.read(0) is None or camera.read(0) is None
        if unplug:
            open(os.environ["FAKE_GONE"], "w").close()
            while True:
                camera.read(clock.now() + 1_000_000_000)
        camera.close()
    except CameraError as error:
        told["error"] = str(error)
    return told

for what, words, unplug in json.loads(sys.argv[1]):
    os.environ["FAKE_WHAT"] = what
    print(json.dumps(film(words, unplug)))
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """The shim, compiled."""
    compiler = shutil.which("cc")
    if compiler is None or not HEADER.is_file():
        pytest.skip("no C compiler, or no kernel header")
    made = tmp_path_factory.mktemp("kernel") / "fakevideo.so"
    source = Path(__file__).parent / "fakevideo.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", made, source, "-ldl"], check=True)
    return made


def drive(kernel: Path, where: Path, *cases: tuple[str, dict], unplug: bool = False) -> tuple[list[dict], list[str]]:
    """What the driver says of the fake camera, that does `what` with the wiring's `fields`; and what the camera was told."""
    (where / "frame.jpg").write_bytes(encode(np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)))
    usual = {"path": "x", "width": 64, "height": 48, "rate_hz": 60.0}
    words = json.dumps([(what, usual | fields, unplug) for what, fields in cases])
    env = os.environ | {"LD_PRELOAD": str(kernel), "FAKE_DEVICE": str(where / "video0"), "FAKE_JPEG": str(where / "frame.jpg"),
                        "FAKE_LOG": str(where / "log"), "FAKE_GONE": str(where / "gone"), "PYTHONPATH": str(ROOT)}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SCRIPT, words], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    log = where / "log"
    return [json.loads(line) for line in done.stdout.splitlines()], log.read_text().splitlines() if log.exists() else []


def test_frames_have_the_drivers_number_and_time(kernel, tmp_path):
    (told,), log = drive(kernel, tmp_path, ("", {"exposure_s": 0.005, "focus": 30}), unplug=True)
    assert told.pop("error").endswith("is gone; plug it in again"), "it was pulled after eight frames"
    numbers = [f[0] for f in told["frames"]]
    assert numbers == sorted(set(numbers)) and all(f[1] == "driver" and f[5] == [48, 64, 3] for f in told["frames"])
    assert all(1.0 <= f[2] < 30 and f[3] > 0 for f in told["frames"]), "the kernel says: a second ago"
    assert all(f[4] == 2_500_000 for f in told["frames"]), "half the exposure"
    assert log == ["format 1 64x48 MJPG", "interval 1000/60000", "control focus_auto 0", "control exposure_auto_priority 0",
                   "control focus_absolute 30", "control exposure_auto 1", "control exposure_absolute 50",
                   "control auto_white_balance 0", "buffers 4", "on with 4"]  # fmt: skip


def test_a_stamp_by_another_clock_is_none_and_broken_frames_are_not_seen(kernel, tmp_path):
    (told,), _ = drive(kernel, tmp_path, ("realtime broken fixedfocus", {}))
    assert all(f[1] == "arrival" and f[3] == -1 and f[0] % 2 == 1 for f in told["frames"]) and told["broken"] >= 7


def test_what_the_camera_does_not_do_is_one_line(kernel, tmp_path):
    cases = (
        ("smaller", {}, "gives 320x240, not 64x48; set width and height"),
        ("yuyv", {}, "has no MJPG"),
        ("slow", {}, "gives 30 frames a second at this size, not 60; set rate_hz"),
        ("nolock", {"exposure_s": 0.01}, "cannot set exposure_s"),
        ("", {"focus": 33}, "takes 30 steps for 33 of focus"),
        ("metadata", {}, "gives no frames here"),
    )
    told, _ = drive(kernel, tmp_path, *(case[:2] for case in cases))
    for (_, _, says), found in zip(cases, told, strict=True):
        assert says in found["error"] and "\n" not in found["error"] and "frames" not in found


def plug(sys_: Path, number: int, index: int, name: str, serial: str, port: str) -> None:
    """A camera's node as the kernel's sysfs has it: the interface's folder lies in that of the USB device."""
    interface = sys_ / "devices" / port / f"{port}:1.0"
    node = interface / "video4linux" / f"video{number}"
    node.mkdir(parents=True)
    (node / "index").write_text(f"{index}\n")
    (node / "name").write_text(f"{name}\n")
    (node / "device").symlink_to(interface)
    if serial:
        (interface.parent / "serial").write_text(f"{serial}\n")
    (sys_ / "class" / "video4linux").mkdir(parents=True, exist_ok=True)
    (sys_ / "class" / "video4linux" / f"video{number}").symlink_to(node)


def test_a_camera_is_found_by_its_number_wherever_it_is(tmp_path):
    sys_, dev = tmp_path / "sys", tmp_path / "dev"
    (dev / "v4l" / "by-id").mkdir(parents=True)
    plug(sys_, 0, 0, "C920", "ABC123", "1-1")
    plug(sys_, 1, 1, "C920", "ABC123", "1-1")
    plug(sys_, 10, 0, "Other", "", "1-2")
    (dev / "video0").touch()
    (dev / "v4l" / "by-id" / "usb-C920_ABC123-video-index0").symlink_to(dev / "video0")
    found = list(devices(sys_, dev))
    assert [(d.path, d.name, d.serial) for d in found] == [(f"{dev}/video0", "C920", "ABC123"), (f"{dev}/video10", "Other", "")]
    assert found[0].stable.endswith("usb-C920_ABC123-video-index0") and not found[1].stable
    wiring = CameraPort(serial="ABC123", path="/dev/video7")
    assert find(wiring, found) == f"{dev}/video0"
    assert find(wiring, [dataclasses.replace(found[0], path="/dev/video4"), found[1]]) == "/dev/video4"
    assert find(CameraPort(path="/dev/video7"), found) == "/dev/video7"
    with pytest.raises(CameraError, match=r"XYZ: not on USB \(there: ABC123, .*video10\)"):
        find(CameraPort(serial="XYZ"), found)
    with pytest.raises(CameraError, match="two have this number"):
        find(wiring, [found[0], found[0]])
    assert not list(devices(tmp_path / "nothing", dev))
