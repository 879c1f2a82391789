"""The camera's node as a process: real frames through the wire, the ring and the bus into a session that others open."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mcap.reader import NonSeekingReader

from robotrl import config, rundir
from robotrl.bus import Bus
from robotrl.clock import LockstepClock, WallClock
from robotrl.config import CameraPort
from robotrl.drivers.camera import Frame, decode, encode
from robotrl.drivers.sessiontape import unpacked
from robotrl.messages import Image, Picture
from robotrl.nodes.camera import Eye
from robotrl.ring import RingReader
from robotrl.session import Attached, Reading
from robotrl.sim.camerawire import CameraServer

ROOT = Path(__file__).resolve().parent.parent.parent
LONG_S = 90.0


def scene(i: int) -> np.ndarray:
    """A picture that tells its number: a bar that moves over noise."""
    image = np.random.default_rng(i).integers(40, 90, (120, 160, 3), np.uint8)
    image[:, (3 * i) % 150 : (3 * i) % 150 + 10] = 220
    return image


class Film(threading.Thread):
    """Shows a frame each 20 ms at a camera's far end; remembers them by their times."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.server, self.over, self.shown = CameraServer(path), threading.Event(), {}
        self.start()

    def run(self) -> None:
        for i in range(1_000_000):
            if self.over.wait(0.02):
                return
            t, image = time.monotonic_ns(), scene(i)
            self.shown[t] = encode(image)
            self.server.show(t, image)

    def end(self) -> None:
        self.over.set()
        self.join()
        self.server.close()


class Stage:
    """A run of two cameras with a live bus, and processes that end with the test."""

    def __init__(self, where: Path, video: Path) -> None:
        run = config.load(ROOT / "launch" / "walk.toml")
        cameras = {
            "front": CameraPort(kind="mjpeg", url=f"unix:{where}/front", width=160, height=120, rate_hz=50),
            "tape": CameraPort(kind="file", path=str(video), rate_hz=25, record_hz=5),
        }
        run = dataclasses.replace(run, robot=dataclasses.replace(run.robot, cameras=cameras))
        self.run = rundir.create(run, where, "wall", sim=True)
        self.sockets = where / "bus"
        self.sockets.mkdir(mode=0o700)
        rundir.write_json(self.run / "bus.json", {"directory": str(self.sockets)})
        self.bus = Bus(self.sockets, "manager", WallClock())
        self.images = self.bus.subscriber("image", sources=("camera1", "camera2"))
        self.front, self.processes = where / "front", {}

    def start(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        with open(self.run / f"{module}.log", "ab") as log:
            process = subprocess.Popen([sys.executable, "-m", f"robotrl.nodes.{module}", str(self.run), *words], cwd=ROOT,
                                       stdin=subprocess.PIPE, stderr=log, stdout=log)  # fmt: skip
        self.processes[(module, *words)] = process
        return process

    def until(self, over, what: str) -> None:
        """Hear images until `over(image)`; each is judged."""
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            self.bus.wait([self.images], 0.2)
            if any([over(image) for image in self.images.drain()]):
                return
            for process in self.processes.values():
                assert process.poll() is None, self.logs()
        raise AssertionError(f"{what}: {self.logs()}")

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.run.glob("*.log"))

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()
        self.bus.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Six seconds at 25 Hz, played again and again."""
    path = tmp_path_factory.mktemp("video") / "seen.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for i in range(150):
        writer.write(scene(i))
    writer.release()
    return path


@pytest.fixture
def stage(tmp_path_factory, video):
    stage = Stage(tmp_path_factory.mktemp("eyes"), video)
    yield stage
    stage.close()


def recorded(run: Path) -> list[Picture]:
    """What the session has, read by our own reader."""
    found = [item for path in sorted((run / "sessions").glob("*.mcap")) for item in Reading(path)]
    return [item[1] for item in found if not isinstance(item, Attached) and item[0] == "picture"]


def test_frames_go_whole_from_the_wire_to_readers_and_into_the_session(stage):
    film = Film(stage.front)
    recorder = stage.start("recorder")
    with contextlib.ExitStack() as stack:
        stack.callback(film.end)
        stage.start("camera", "camera1")
        stage.start("camera", "camera2")
        rings = {source: RingReader(stage.sockets, source) for source in ("camera1", "camera2")}
        seen: dict[str, list[int]] = {"camera1": [], "camera2": []}

        def judge(image: Image) -> bool:
            assert image.camera == {"camera1": "front", "camera2": "tape"}[image.source]
            assert image.fault in ("", "late", "unplugged"), image.fault
            pixels = rings[image.source].read(image)
            if pixels is not None:
                seen[image.source].append(image.t)
                assert image.stamp == "device"
                if image.source == "camera1":
                    assert np.array_equal(pixels, decode(film.shown[image.t]))
                else:
                    begin = begun.setdefault(image.source, image.t - round((image.number - 1) * 1e9 / 25))
                    assert image.t - round((image.number - 1) * 1e9 / 25) == begin or image.number == 1
                    begun[image.source] = image.t - round((image.number - 1) * 1e9 / 25)
                    assert np.abs(pixels.astype(int) - scene(image.number - 1)).mean() < 25
            return all(len(times) >= 25 for times in seen.values())

        begun: dict[str, int] = {}  # when the video began, by its frames' times
        stage.until(judge, "frames")
        size = lambda: sum(p.stat().st_size for p in (stage.run / "sessions").glob("*.mcap"))  # noqa: E731
        stage.until(lambda _: size() > 200_000, "recording")
    recorder.send_signal(signal.SIGKILL)
    recorder.wait()
    del stage.processes["recorder",]
    _opens_for_others(stage, film)
    stage.until(lambda image: image.fault == "unplugged" and image.camera == "front", "unplugged")
    again = Film(stage.front)
    try:
        stage.until(lambda image: image.camera == "front" and not image.fault and image.t in again.shown, "plugged in again")
    finally:
        again.end()
    assert "front: is gone" in stage.logs() or "has ended its stream" in stage.logs()
    assert "front: is back" in stage.logs()


def _opens_for_others(stage: Stage, film: Film) -> None:
    """A file that was cut off by kill -9: by the mcap library alone, as Foxglove would; and by our own reader."""
    path = next((stage.run / "sessions").glob("*.mcap"))
    frames: dict[str, int] = {}
    with open(path, "rb") as file, contextlib.suppress(Exception):  # its end is missing
        for schema, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
            if not channel.topic.startswith("picture/"):
                continue
            assert (schema.name, schema.encoding, channel.message_encoding) == ("foxglove.CompressedImage", "jsonschema", "json")
            value = json.loads(message.data)
            stamp = value["timestamp"]["sec"] * 10**9 + value["timestamp"]["nsec"]
            assert stamp == message.log_time and value["format"] == "jpeg" and value["frame_id"] == value["camera"]
            day = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.monotonic_ns()
            assert abs(stamp - value["t"] - day) < 60e9
            data = base64.b64decode(value["data"], validate=True)
            if value["camera"] == "front":
                assert data == film.shown[value["t"]], "the camera's own JPEG, byte for byte"
            frames[value["camera"]] = frames.get(value["camera"], 0) + 1
    pictures = recorded(stage.run)
    assert len(pictures) == sum(frames.values()) and frames["front"] >= 5 and frames["tape"] >= 1
    tape = [p.t for p in pictures if p.camera == "tape"]
    assert all(b - a >= 0.19e9 for a, b in itertools.pairwise(tape)), "five a second of them"
    front = [p.count for p in pictures if p.camera == "front"]
    assert len(set(front)) == len(front), "each once"


def test_a_camera_that_is_killed_leaves_nothing_behind(stage):
    process = stage.start("camera", "camera2")
    ring = RingReader(stage.sockets, "camera2")
    kept: list[Image] = []
    stage.until(lambda image: image.count > 0 and not kept.append(image), "frames")
    assert os.readlink(stage.sockets / "ring.camera2").startswith(f"/proc/{process.pid}/fd/")
    process.send_signal(signal.SIGKILL)
    process.wait()
    del stage.processes["camera", "camera2"]
    assert ring.read(kept[-1]) is None, "nobody has it any more"
    assert not list(Path("/dev/shm").glob("*camera2*"))


def test_a_camera_that_is_not_there_at_the_start_is_one_line(stage):
    process = stage.start("camera", "camera1")
    assert process.wait(LONG_S) == 2
    del stage.processes["camera", "camera1"]
    last = (stage.run / "camera.log").read_text().splitlines()[-1]
    assert last.startswith("camera front: unix:") and "no camera there" in last


@pytest.fixture
def eye(tmp_path):
    """`eye(record_hz)`: the node's thinking on a bus in lockstep time, and what a reader hears of it."""
    clock = LockstepClock()
    clock.advance(10**10)
    bus, ear = Bus(tmp_path, "camera1", clock), Bus(tmp_path, "manager", clock)
    heard = [ear.subscriber(topic, sources=("camera1",)) for topic in ("image", "picture")]
    made: list[Eye] = []
    hellos: list[int] = []

    def make(record_hz: float = 0.0):
        node = SimpleNamespace(bus=bus, clock=clock, source="camera1")
        made.append(Eye(node, "front", CameraPort(kind="mjpeg", rate_hz=30, record_hz=record_hz)))
        for _ in range(2000):  # until the reader has found both
            made[0]._images.send(Image(camera="hello"))
            made[0]._pictures.send(Picture(camera="hello", count=0, data=b""))
            ear.wait([heard[0]], 0.005)
            if all([s.drain() for s in heard]):
                break
        hellos.append(made[0]._pictures.seq)
        return made[0], clock

    def read(count: int) -> tuple[list[Image], list[Picture]]:
        """All of it, once so many images have come, and every picture that was sent."""
        seen = lambda: max((p.seq for p in pictures), default=hellos[0])  # noqa: E731
        images: list[Image] = []
        pictures: list[Picture] = []
        end = time.monotonic() + LONG_S
        while len(images) < count or made[0]._pictures.seq > seen():
            assert time.monotonic() < end, images
            ear.wait(heard, 0.05)
            images += [m for m in heard[0].drain() if m.camera == "front"]
            pictures += [m for m in heard[1].drain() if m.camera == "front"]
        return images, pictures

    make.read = read
    yield make
    made[0].close()
    bus.close()
    ear.close()


def test_what_is_wrong_with_a_frame_is_said_with_it(eye, tmp_path):
    node, clock = eye()
    shot = lambda image, **fields: node.see(Frame(t=clock.now() - 20_000_000, stamp="driver", image=image, **fields))  # noqa: E731
    shot(scene(1))
    clock.advance(33_000_000)
    shot(scene(2)[:60])  # another size
    clock.advance(33_000_000)
    node.see(Frame(t=clock.now(), stamp="driver", jpeg=encode(scene(3))[:-100]))  # cut off, and in time: nothing is said yet
    clock.advance(200_000_000)
    node.see(Frame(t=clock.now(), stamp="driver", jpeg=encode(scene(3))[:-100]))
    node.gone()
    images, pictures = eye.read(4)
    assert [(m.fault, m.count, m.height) for m in images] == [("", 1, 120), ("size", 0, 60), ("late", 0, 0), ("unplugged", 0, 0)]
    assert images[0].arrived - images[0].t == 20_000_000 and images[0].stamp == "driver"
    assert [(p.count, p.t) for p in pictures] == [(1, images[0].t)]
    assert RingReader(tmp_path, "camera1").read(images[0]) is not None


def test_as_many_pictures_a_second_as_are_asked_for_go_into_the_session(eye):
    node, clock = eye(record_hz=10)
    for i in range(60):
        node.see(Frame(t=clock.now(), stamp="driver", image=scene(i)))
        clock.advance(33_333_333)
    _, pictures = eye.read(60)
    assert len(pictures) == 20 and [p.count for p in pictures] == list(range(1, 61, 3))


def test_distances_go_beside_the_picture_and_every_sample_of_an_imu(tmp_path):
    said: dict[str, list] = {topic: [] for topic in ("image", "picture", "depth", "motion")}
    bus = SimpleNamespace(publisher=lambda topic: SimpleNamespace(send=said[topic].append), directory=tmp_path, boot=3)
    clock = LockstepClock()
    wiring = CameraPort(kind="realsense", rate_hz=30, record_hz=10, depth=True, imu=True)
    eye = Eye(SimpleNamespace(bus=bus, clock=clock, source="camera1"), "front", wiring)
    far = {}
    for i in range(1, 10):
        clock.advance(33_000_000)
        t = clock.now()
        far[t] = np.random.default_rng(i).integers(0, 65536, (120, 160), np.uint16)
        rates, accel = ((t - 9, 0.1, 0.2, float(i)), (t - 4, 0.1, 0.2, 0.5)), ((t - 2, 0.0, -9.8, 0.0),)
        eye.see(
            Frame(t=t, stamp="device", number=i, mark=t, image=scene(i), depth=far[t], depth_m=0.0001, rates=rates, accel=accel)
        )
    reader = RingReader(tmp_path, "camera1")
    newest = said["image"][-1]
    assert np.array_equal(reader.read_depth(Image(source="camera1", boot=3, camera="front", count=newest.count)), far[newest.t])
    reader.close()
    eye.close()
    assert [(p.t, p.count) for p in said["depth"]] == [(p.t, p.count) for p in said["picture"]] and len(said["depth"]) == 3
    for message in said["depth"]:
        assert message.format == "png" and message.depth_m == 0.0001 and np.array_equal(unpacked(message.data), far[message.t])
    assert len(said["motion"]) == 9 and [m.rates[0][3] for m in said["motion"]] == list(range(1, 10))
    assert all(m.t == m.accel[0][0] and len(m.rates) == 2 and m.camera == "front" for m in said["motion"])
