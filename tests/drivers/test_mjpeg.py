"""The network camera: pictures and stamps out of any HTTP stream, in any pieces; in lockstep, and over a socket."""

from __future__ import annotations

import socket
import threading

import cv2
import numpy as np
import pytest

from robotrl.clock import LockstepClock, WallClock
from robotrl.drivers.camera import CameraError
from robotrl.drivers.mjpeg import MjpegCamera, Parser, SocketPort, connect, make_request
from robotrl.drivers.port import MemoryPort
from robotrl.sim.camerawire import CameraServer, CameraWire

LONG_NS = 60_000_000_000


def picture(shade: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A gradient, so that something can be seen; told apart by its mean."""
    ramp = np.linspace(0, 60, size[1], dtype=np.uint8)
    return np.broadcast_to((ramp + np.uint8(shade))[None, :, None], (*size, 3)).copy()


def jpeg(shade: int) -> bytes:
    made, data = cv2.imencode(".jpg", picture(shade))
    assert made
    return bytes(data)


# As three servers send it, written from their sources: mjpg-streamer's output_http, esp32-camera's example, IP Webcam.
MJPG_STREAMER = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nServer: MJPG-Streamer/0.2\r\nCache-Control: no-store\r\n"
    b"Content-Type: multipart/x-mixed-replace;boundary=boundarydonotcross\r\n\r\n--boundarydonotcross\r\n"
)


def mjpg_streamer(data: bytes, stamp: str) -> bytes:
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\nX-Timestamp: {stamp}\r\n\r\n"
    return head.encode() + data + b"\r\n--boundarydonotcross\r\n"


ESP32 = (
    b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=123456789000000000000987654321\r\n"
    b"Access-Control-Allow-Origin: *\r\n\r\n"
)


def esp32(data: bytes, stamp: str) -> bytes:
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\nX-Timestamp: {stamp}\r\n\r\n"
    return b"\r\n--123456789000000000000987654321\r\n" + head.encode() + data


PHONE = b'HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary="Ba4oTvQMY8ew04N8dcnM"\r\n\r\n'


def phone(data: bytes, stamp: str) -> bytes:
    return b"--Ba4oTvQMY8ew04N8dcnM\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n"  # neither length nor stamp


@pytest.mark.parametrize(("head", "part", "stamped"), [(MJPG_STREAMER, mjpg_streamer, True), (ESP32, esp32, True),
                                                       (PHONE, phone, False)])  # fmt: skip
@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_each_picture_comes_whole_in_whatever_pieces(head, part, stamped, piece):
    sent = [jpeg(20 * i) for i in range(4)]
    data = head + b"".join(part(one, f"{i}.{i:06d}") for i, one in enumerate(sent)) + part(b"", "9.0")
    parser, found = Parser(), []
    for at in range(0, len(data), piece):
        found += parser.feed(data[at : at + piece])
    assert [p.jpeg for p in found][:4] == sent
    assert [p.mark for p in found][:4] == ([i * 1_000_001_000 for i in range(4)] if stamped else [-1] * 4)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "404"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "no stream of pictures"),
        (b"\x00" * 9000, "no HTTP"),
        (PHONE + b"x" * 9000, "no picture"),
        (PHONE + b"--Ba4oTvQMY8ew04N8dcnM\r\nContent-Length: 999999999\r\n\r\n", "999999999 bytes"),
    ],
)
def test_what_is_no_camera_is_told_in_one_line(answer, says):
    with pytest.raises(ValueError, match=says):
        Parser().feed(answer)


class Source:
    """Frames that are due at given times of a lockstep clock."""

    def __init__(self, clock: LockstepClock, shots) -> None:
        self.clock, self.left = clock, list(shots)

    def __call__(self):
        if self.left and self.left[0][1] <= self.clock.now():
            taken, _, image = self.left.pop(0)
            return taken, image
        return None


def test_in_lockstep_the_newest_frame_has_the_time_at_which_it_was_drawn():
    clock = LockstepClock()
    clock.advance(1_000_000_000)
    shots = [(10**9 + 7 + i * 20_000_000, 10**9 + i * 20_000_000 + 5_000_000, picture(i * 40)) for i in range(4)]
    camera = MjpegCamera(MemoryPort(CameraWire(Source(clock, shots))), "unix:/sim", clock)
    assert camera.read(clock.now()) is None
    clock.advance(5_000_000)
    frame = camera.read(clock.now())
    assert frame is not None and (frame.t, frame.stamp) == (10**9 + 7, "device")
    assert abs(int(frame.pixels().mean()) - int(shots[0][2].mean())) <= 1
    clock.advance(60_000_000)
    frame = camera.read(clock.now())
    assert frame is not None and frame.t == 10**9 + 7 + 60_000_000 and camera.skipped == 2  # of three the newest
    assert camera.read(clock.now()) is None


def test_a_server_with_a_clock_of_its_own_is_moved_onto_ours():
    clock = LockstepClock()
    clock.advance(500 * 10**9)
    delays = [30, 12, 25, 14, 40]  # ms on the way; the least of late stays unknown
    shots = [(10**9 * i // 30, 500 * 10**9 + 10**9 * i // 30 + d * 10**6, picture(i)) for i, d in enumerate(delays)]
    camera = MjpegCamera(MemoryPort(CameraWire(Source(clock, shots))), "http://camera/stream", clock)
    ages = []
    for _, due, _ in shots:
        clock.sleep_until(due)
        frame = camera.read(clock.now())
        assert frame is not None
        ages.append((clock.now() - frame.t) / 1e6)
    assert ages == [0, 0, 13, 2, 28]


def test_over_a_socket_of_this_machine(tmp_path):
    clock, server, stop = WallClock(), CameraServer(tmp_path / "front"), threading.Event()
    taken: list[int] = []

    def film() -> None:
        while not stop.wait(0.002):
            taken.append(clock.now())
            server.show(taken[-1], picture(len(taken) % 100))

    thread = threading.Thread(target=film)
    thread.start()
    try:
        camera = connect(server.url, clock)
        frames = [camera.read(clock.now() + LONG_NS) for _ in range(10)]
        assert all(f is not None and f.t in taken for f in frames)
    finally:
        stop.set()
        thread.join()
    server.close()
    with pytest.raises(CameraError, match=r"ended its stream|is gone"):
        while True:
            camera.read(clock.now() + LONG_NS)
    camera.close()
    with pytest.raises(CameraError, match="no camera there"):
        connect(server.url, clock)


def test_a_real_http_address_and_one_that_is_none():
    clock = WallClock()
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://me:secret@127.0.0.1:{door.getsockname()[1]}/stream?x=1"
        camera = connect(url, clock)
        far, _ = door.accept()
        with far:
            asked = far.recv(4096)
            assert asked.startswith(b"GET /stream?x=1 HTTP/1.0\r\n") and b"Authorization: Basic bWU6c2VjcmV0\r\n" in asked
            far.sendall(ESP32 + esp32(jpeg(50), "12.5"))
            frame = camera.read(clock.now() + LONG_NS)
            assert frame is not None and frame.mark == 12_500_000_000 and frame.t <= clock.now()
        camera.close()
    assert "secret" not in camera.name
    with pytest.raises(CameraError, match="is no address of a camera"):
        SocketPort("rtsp://camera", clock)


def test_the_request_is_one_that_servers_know():
    assert make_request("http://h:8080").startswith(b"GET / HTTP/1.0\r\nHost: h:8080\r\n")
