"""Pictures on a terminal, read back from the bytes: a terminal of our own for half-blocks, kitty's protocol, and sixels."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rich.console import Console

from robotrl import messages as m
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.config import Run, to_dict
from robotrl.nodes.gallery import Gallery
from robotrl.nodes.keys import KeyParser
from robotrl.nodes.terminalpicture import QUERY, fitted, half_blocks, kitty, sixel, way_of
from robotrl.robot import CameraPort
from tests.nodes.test_console import NOW, SECOND, Person, guard, shown, view

MS = SECOND // 1000


def scene(height=96, width=128) -> np.ndarray:
    """Red, green, blue and grey quarters with a bright bar: RGB."""
    out = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    out[:h, :w], out[:h, w:], out[h:, :w], out[h:, w:] = (204, 0, 0), (0, 204, 0), (0, 0, 204), (102, 102, 102)
    out[h - 6 : h + 6] = 255
    return out


def jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


# ---- terminals, as their manuals have them


def from_blocks(text: str) -> np.ndarray:
    """ECMA-48's SGR 38;2 and 48;2, and the upper half-block."""
    lines = []
    for line in text.splitlines():
        colours, cells = [(0, 0, 0), (0, 0, 0)], []
        for found in re.finditer(r"\x1b\[([0-9;]*)m|(.)", line):
            if found[2] is None:
                words = [int(v or 0) for v in found[1].split(";")]
                for k, word in enumerate(words):
                    if word in (38, 48) and words[k + 1 : k + 2] == [2]:
                        colours[word == 48] = tuple(words[k + 2 : k + 5])
            else:
                assert found[2] == "▀"
                cells.append(list(colours))
        lines += [[c[0] for c in cells], [c[1] for c in cells]]
    return np.array(lines, np.uint8)


def from_kitty(data: bytes) -> tuple[np.ndarray, dict[str, str]]:
    """The pixels, and the keys of the first sequence."""
    pieces = re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", data)
    keys = [dict(pair.split("=") for pair in head.decode().split(",")) for head, _ in pieces]
    assert [k["m"] for k in keys] == ["1"] * (len(keys) - 1) + ["0"] and max(len(body) for _, body in pieces) <= 4096
    raw = zlib.decompress(base64.standard_b64decode(b"".join(body for _, body in pieces)))
    return np.frombuffer(raw, np.uint8).reshape(int(keys[0]["v"]), int(keys[0]["s"]), 3), keys[0]


def from_sixel(data: bytes) -> np.ndarray:
    """DEC STD 070: `"` raster, `#` colours, `!` repeats, `$` back to the left, `-` the next band."""
    body = re.fullmatch(rb"\x1bP[0-9;]*q(.*)\x1b\\", data, re.S)[1].decode()
    width, height = map(int, re.match(r'"1;1;(\d+);(\d+)', body).groups())
    out, palette = np.zeros((height + 6, width, 3), np.uint8), {}
    x = top = now = 0
    for found in re.finditer(r'"[0-9;]+|#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|(\$)|(-)|([?-~])', body):
        number, r, g, b, times, repeated, home, down, one = found.groups()
        if number is not None:
            now = int(number)
            if r is not None:
                palette[now] = [round(int(v) * 2.55) for v in (r, g, b)]
        elif home or down:
            x, top = 0, top + 6 * bool(down)
        elif repeated or one:
            for _ in range(int(times or 1)):
                for bit in range(6):
                    if (ord(repeated or one) - 63) >> bit & 1:
                        out[top + bit, x] = palette[now]
                x += 1  # noqa: SIM113
    return out[:height]


# ---- pictures


def test_half_blocks_say_the_pixels():
    pixels = scene(36, 48)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=60)
    for line in half_blocks(pixels):
        console.print(line)
    seen = from_blocks(out.getvalue())
    assert seen.shape == pixels.shape and np.abs(seen.astype(int) - pixels).max() <= 16
    assert len(out.getvalue()) < 36 * 48 * 8, "equal cells are written once"


def test_kitty_and_sixels_say_the_pixels():
    pixels = scene()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for picture in (pixels, noise):
        seen, keys = from_kitty(kitty(picture, 16, 6))
        assert np.array_equal(seen, picture) and (keys["c"], keys["r"], keys["a"], keys["q"]) == ("16", "6", "T", "2")
    assert np.abs(from_sixel(sixel(pixels)).astype(int) - pixels).max() <= 1, "its colours are of the palette"
    assert np.abs(from_sixel(sixel(noise)).astype(int) - noise).max() <= 26


@pytest.mark.parametrize(
    ("box", "cells"), [((480, 640, 80, 18), (48, 18)), ((480, 640, 40, 18), (40, 15)), ((10, 1000, 80, 18), (80, 1))]
)
def test_a_picture_is_not_distorted(box, cells):
    assert fitted(*box) == cells


@pytest.mark.parametrize(("answer", "way"), [
    ("\x1b_Gi=31;OK\x1b\\\x1b[?62;4c", "kitty"), ("\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?62;22c", "blocks"),
    ("\x1b[?62;4;22c", "sixel"), ("\x1b[?64;14;40c", "blocks"), ("", "blocks"),
])  # fmt: skip
def test_what_a_terminal_says_it_can_is_no_key(answer, way):
    """In one piece, and in pieces that a slow line brings: not one letter of it counts as pressed."""
    for pieces in ([answer], list(answer)):
        parser = KeyParser()
        for n, piece in enumerate(pieces):
            assert parser.feed(piece.encode(), NOW + n * 20 * MS) == []
        assert way_of(parser.kitty, parser.attributes) == way
        assert parser.feed(b"p", NOW + 60 * SECOND) == ["p"]
    stopped = KeyParser()
    assert stopped.feed(b"\x1b_Gi=31 ", NOW) == [" "], "a stop counts wherever it stands"


class Screen:
    """In a terminal's place: keeps what it is told."""

    def __init__(self):
        self.said, self.written = "", b""

    def say(self, text):
        self.said += text

    def put(self, data):
        self.written += data


class Pictures:
    """In a subscriber's place."""

    def __init__(self):
        self.new: list[m.Picture] = []
        self.closed = 0

    def close(self):
        self.closed += 1

    def drain(self):
        new, self.new = self.new, []
        return new


def test_it_is_off_until_its_key_and_over_a_slow_line_stays_off():
    screen, stream, parser = Screen(), Pictures(), KeyParser()
    gallery, v = Gallery(screen, lambda: stream), view(guard())
    for answered, why in ((None, "does not answer"), (300 * MS, "answers in 300 ms")):
        v.answered = answered
        assert why in gallery.key(v, NOW) and v.middle is None and not screen.said
    v.answered = 5 * MS
    gallery.key(v, NOW)
    assert screen.said == QUERY and "no picture of a camera has come" in shown(v)
    stream.new = [m.Picture(camera=name, count=1, data=jpeg(scene()), t=NOW - 40 * MS) for name in ("wrist", "front")]
    gallery.listen(parser, NOW + SECOND // 3)
    assert gallery.way is None
    gallery.listen(parser, NOW + SECOND)
    assert gallery.way == "blocks", "it has said nothing"
    plain = shown(v)
    assert "front, 40 ms old" in plain and plain.count("▀") > 400
    assert plain.count("\n") == 23 and "THE ROBOT MOVES" in plain and "SPACE STOP" in plain
    gallery.over()
    assert not screen.written
    gallery.key(v, NOW)
    assert "wrist" in shown(v)
    assert not stream.closed
    assert gallery.key(v, NOW) == "no picture" and v.middle is None and "stream" in shown(v)
    assert stream.closed == 1, "who does not look asks for none"
    gallery.key(v, NOW)
    assert "no picture of a camera has come" in shown(v) and screen.said == QUERY, "an old picture is not shown as one"


@pytest.mark.parametrize(("answer", "read"), [(b"\x1b_Gi=31;OK\x1b\\\x1b[?62c", from_kitty), (b"\x1b[?62;4c", from_sixel)])
def test_over_the_screen_where_the_terminal_can(answer, read):
    screen, stream, parser = Screen(), Pictures(), KeyParser()
    gallery, v = Gallery(screen, lambda: stream), view(guard(), answered=5 * MS)
    gallery.key(v, NOW)
    parser.feed(answer, NOW)
    stream.new = [m.Picture(camera="front", count=1, data=jpeg(scene(240, 320)), t=NOW)]
    gallery.listen(parser, NOW)
    assert "▀" not in shown(v)
    gallery.over()
    data = re.fullmatch(rb"\x1b7\x1b\[6;2H(.*)\x1b8", screen.written, re.S)[1]
    seen = read(data)
    seen = seen[0] if isinstance(seen, tuple) else seen
    height, width, _ = seen.shape
    for (y, x), colour in {(4, 4): (204, 0, 0), (4, -4): (0, 204, 0), (-4, 4): (0, 0, 204), (-4, -4): (102,) * 3}.items():
        assert np.abs(seen[y, x].astype(int) - colour).max() < 30, (y, x)
    assert width / height == pytest.approx(4 / 3, rel=0.1)
    screen.written = b""
    shown(v, NOW + 10 * MS)
    gallery.over()
    assert bool(screen.written) == (read is from_sixel), "text wipes sixels out; kitty's stays"
    screen.written = b""
    gallery.key(v, NOW)
    assert (b"a=d" in screen.written) == (read is from_kitty)


def test_on_a_pty_a_camera_is_seen(tmp_path):
    """The program itself, a camera's voice on the bus, and a terminal that says it is plain."""
    (tmp_path / "ipc").mkdir(mode=0o700)
    (tmp_path / "run").mkdir()
    run = Run()
    run = replace(run, robot=replace(run.robot, cameras={"front": CameraPort(kind="uvc", serial="1")}))
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": to_dict(run)}))
    (tmp_path / "run" / "bus.json").write_text(json.dumps({"directory": str(tmp_path / "ipc")}))
    buses = [Bus(tmp_path / "ipc", name, WallClock()) for name in ("guard", "camera1")]
    says, films = buses[0].publisher("guard"), buses[1].publisher("picture")
    picture, count = jpeg(scene()), [0]
    person = Person(tmp_path / "run")
    answered = [0, 0]

    def speak():
        count[0] += 1
        says.send(guard("RUN", t=0))
        films.send(m.Picture(camera="front", count=count[0], data=picture))
        for k, (question, answer) in enumerate((("\x1b[5n", "\x1b[0n"), ("\x1b[c", "\x1b[?62;22c"))):
            if person.seen.count(question) > answered[k]:
                answered[k] += 1
                person.types(answer)

    try:
        person.until(lambda: "Terminal answers" in person.seen, speak)
        person.types("v")
        person.until(lambda: "▀" in person.seen and "front," in person.seen, speak)
        assert "\x1b_Gi=31" in person.seen and person.process.poll() is None
        person.until(lambda: re.search(r"38;[25];[0-9;]*m▀", person.seen) is not None or "▀" in person.seen, speak)
        person.seen = ""
        person.types("v")
        person.until(lambda: "stream" in person.seen, speak)
    finally:
        person.close()
        for bus in buses:
            bus.close()
