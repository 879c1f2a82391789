"""find-cameras: what is there is listed with a picture; nothing is one line."""

from __future__ import annotations

import json
import threading
import time

import cv2
import numpy as np
import pytest

from robotrl import cli
from robotrl.drivers import realsense
from robotrl.sim.camerawire import CameraServer


@pytest.fixture(autouse=True)
def no_intel(monkeypatch):
    """Of this machine's own cameras nothing is said."""
    monkeypatch.setattr(realsense, "serials", lambda rs: [])


def test_none_is_one_line(tmp_path, capsys):
    assert cli.main(["find-cameras", "--sys", str(tmp_path), "--dev", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.err == "find-cameras: no camera on USB; plug one in, or give the address of a network camera\n"
    assert told.out == "" and not (tmp_path / "out").exists()


def test_a_network_camera_and_one_that_cannot_be_opened(tmp_path, capsys):
    node = tmp_path / "sys" / "class" / "video4linux" / "video0"
    node.mkdir(parents=True)
    (node / "name").write_text("Webcam\n")
    server, over = CameraServer(tmp_path / "eye"), threading.Event()
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = (0, 0, 250)

    def film() -> None:
        while not over.wait(0.01):
            server.show(time.monotonic_ns(), image)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        words = ["--sys", str(tmp_path / "sys"), "--dev", str(tmp_path / "dev"), "--out", str(tmp_path / "out"), "--json"]
        assert cli.main(["find-cameras", server.url, *words]) == 2, "one of the two shows nothing"
    finally:
        over.set()
        thread.join()
        server.close()
    *_, last = capsys.readouterr().out.splitlines()
    usb, net = json.loads(last)["cameras"]
    assert usb["line"] == f'path = "{tmp_path}/dev/video0"' and "no such camera" in usb["trouble"] and not usb["snapshot"]
    assert net["size"] == [64, 48] and net["stamp"] == "device" and not net["trouble"]
    seen = cv2.imread(net["snapshot"])
    assert np.abs(seen.astype(int) - image).mean() < 10
