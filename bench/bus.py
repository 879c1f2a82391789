"""Frames from two cameras to one reader, 640x480 at 60 Hz, by the ring and by plain ZeroMQ: three processes each time.

Each camera is a process that writes a frame when it is due, stamped then; the reader checks every 4,096th byte and takes the age.
`ring`: `robotrl/ring.py` and the bus, as the nodes have them, each frame copied into the reader's own array; `ring, in place`:
without that copy (`RingReader.look`). `zmq`: the same frames by pyzmq over ipc, copied; `zmq, no copy`: copy=False at both ends.
`no bus`: two processes that wake and copy as often, and one that wakes and looks: what this machine takes for that alone.
Processor time is that of all three processes from the first frame to the last, waiting and bus included, as a share of one core;
what makes the pixels is not in it. Real-time priority as a camera's node asks for, where this user may have it.

Asked of the ring in place: 0 torn, 0 dropped, 4 % of a core or less, p99 of the age 1 ms or less. `control`: a reader that does
not look at the slot's number, beside a writer that never waits: it must find torn frames, or the check for them is none.
Run: robotrl bench bus [--seconds S] [--rounds N] [--out FILE]   (a minute)
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from torn import KINDS, SHAPE, SOURCES, STEP, control, flood, frame

from robotrl import rundir
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.messages import Image
from robotrl.realtime import real_time
from robotrl.ring import SLOTS, Ring, RingReader

HZ = 60.0
BARE = "no bus"
WAYS = ("ring, in place", "zmq, no copy", "ring", "zmq", BARE)
PRIORITY = 18
ASKED = {"torn": 0, "dropped": 0, "core_percent": 4.0, "p99_ms": 1.0}
HEAD = struct.Struct("<Qq")  # count, when it was written


def due(frames: int, source: str) -> Iterator[int]:
    """Counts from 1 on, each at its time; the second camera a third of a period after the first."""
    clock, period = WallClock(), round(1e9 / HZ)
    begin = clock.now() + period + (period // 3 if source == SOURCES[1] else 0)
    for count in range(1, frames + 1):
        if period:
            clock.sleep_until(begin + count * period)
        yield count


class RingEnd:
    """The camera's end of the ring."""

    def __init__(self, where: Path, source: str) -> None:
        self.bus = Bus(where, source, WallClock())
        self.images = self.bus.publisher("image")
        self.ring = Ring(where, source, self.bus.boot, SHAPE)

    def send(self, pixels: Any, t: int) -> None:
        self.images.send(Image(t=t, camera="bench", count=self.ring.write(pixels)))


class ZmqEnd:
    def __init__(self, where: Path, source: str, copy: bool) -> None:
        self.copy, self.count = copy, 0
        self.socket = zmq.Context.instance().socket(zmq.PUB)
        self.socket.setsockopt(zmq.SNDHWM, 8)
        self.socket.bind(f"ipc://{where / source}")

    def send(self, pixels: Any, t: int) -> None:
        self.count += 1
        self.socket.send(HEAD.pack(self.count, t), zmq.SNDMORE)
        self.socket.send(pixels, copy=self.copy)


class BareEnd:
    """What the machine itself costs: a frame is copied into the next of as many places as a ring has, and nobody is told."""

    def __init__(self) -> None:
        self.count, self.places = 0, np.zeros((SLOTS, *SHAPE), np.uint8)

    def send(self, pixels: Any, t: int) -> None:
        self.count += 1
        self.places[self.count % SLOTS] = pixels


def read_bare(heard: Heard, frames: int) -> Iterator[None]:
    """And the reader wakes as often by its own clock, and looks as much at memory that nobody has touched meanwhile."""
    kinds, clock = [frame(i) for i in range(KINDS)], WallClock()
    yield
    begin = clock.now()
    for count in range(1, frames + 1):
        for i, source in enumerate(SOURCES):
            clock.sleep_until(begin + round((count + i / 3) * 1e9 / HZ))
            heard.take(source, count, time.monotonic_ns(), kinds[count % KINDS])
        yield


def write(way: str, where: Path, source: str, frames: int) -> dict[str, float]:
    """A camera: waits for the word on standard input, then writes."""
    end: RingEnd | ZmqEnd | BareEnd
    if way == BARE:
        end = BareEnd()
    else:
        end = RingEnd(where, source) if way.startswith("ring") else ZmqEnd(where, source, way == "zmq")
    kinds = [frame(i) for i in range(KINDS)]
    print("ready", flush=True)
    sys.stdin.readline()
    real_time(PRIORITY, lock=False)
    began, used = time.monotonic(), time.process_time()
    for count in due(frames, source):
        end.send(kinds[count % KINDS], time.monotonic_ns())
    told = {"cpu_s": time.process_time() - used, "wall_s": time.monotonic() - began}
    sys.stdin.readline()  # what was sent must be read before we go
    return told


class Heard:
    """The reader's books."""

    def __init__(self) -> None:
        self.ages: list[int] = []
        self.torn = 0
        self.counts: dict[str, list[int]] = {source: [] for source in SOURCES}

    def take(self, source: str, count: int, t: int, pixels: Any) -> None:
        self.ages.append(time.monotonic_ns() - t)
        self.counts[source].append(count)
        sample = pixels.reshape(-1)[::STEP]
        self.torn += not bool((sample == count % KINDS).all())

    def take_back(self, source: str) -> None:
        """What came of the last frame does not hold: as if it had not been seen."""
        self.counts[source].pop()
        self.ages.pop()

    @property
    def last(self) -> int:
        return min(counts[-1] if counts else 0 for counts in self.counts.values())


def read_ring(where: Path, heard: Heard, copy: bool) -> Iterator[None]:
    bus = Bus(where, "guard", WallClock())
    images = bus.subscriber("image", sources=SOURCES)
    rings = {source: RingReader(where, source) for source in SOURCES}
    into = np.empty(SHAPE, np.uint8)
    while True:
        bus.wait([images], 0.1)
        for image in images.drain():
            ring = rings[image.source]
            pixels = ring.read(image, into) if copy else ring.look(image)
            if pixels is not None:
                heard.take(image.source, image.count, image.t, pixels)
                if not copy and not ring.still(image):
                    heard.take_back(image.source)
        yield


def read_zmq(where: Path, heard: Heard, copy: bool) -> Iterator[None]:
    poller, into, names = zmq.Poller(), np.empty(SHAPE, np.uint8), {}
    for source in SOURCES:
        socket = zmq.Context.instance().socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 8)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(f"ipc://{where / source}")
        poller.register(socket, zmq.POLLIN)
        names[socket] = source
    while True:
        for socket, _ in poller.poll(100):
            count, t = HEAD.unpack(socket.recv())
            part = socket.recv(copy=copy)
            pixels = np.frombuffer(part if copy else part.buffer, np.uint8).reshape(SHAPE)
            if copy:
                into[:] = pixels
            heard.take(names[socket], count, t, into if copy else pixels)
        yield


def read(way: str, where: Path, frames: int) -> dict[str, Any]:
    """The reader, until the last frame of both, or for twice as long as they take."""
    heard = Heard()
    if way == BARE:
        turns = read_bare(heard, frames)
    else:
        turns = read_ring(where, heard, way == "ring") if way.startswith("ring") else read_zmq(where, heard, way == "zmq")
    print("ready", flush=True)
    next(turns)
    sys.stdin.readline()
    real_time(PRIORITY, lock=False)
    began, used = time.monotonic(), time.process_time()
    until = began + 5 + 2 * frames / HZ
    while heard.last < frames and time.monotonic() < until:
        next(turns)
    wall, cpu = time.monotonic() - began, time.process_time() - used
    ages = sorted(heard.ages)
    got = sum(len(counts) for counts in heard.counts.values())
    p50, p99, most = (ages[min(int(share * len(ages)), len(ages) - 1)] * 1e-6 for share in (0.5, 0.99, 1.0))
    return {"cpu_s": cpu, "wall_s": wall, "frames": got, "dropped": 2 * frames - got, "torn": heard.torn,
            "p50_ms": p50, "p99_ms": p99, "max_ms": most}  # fmt: skip


def start(*words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError("an end did not start")
    return process


def measure(way: str, frames: int) -> dict[str, Any]:
    """One round of one way."""
    with tempfile.TemporaryDirectory(prefix="robotrl-") as folder:
        ends = [("write", source) for source in SOURCES] + [("read", "")]
        words = ("--way", way, "--where", folder, "--frames", str(frames))
        processes = [start("--end", end, "--source", source, *words) for end, source in ends]
        time.sleep(0.5)  # for the reader to have found both
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        reader = json.loads(processes[-1].stdout.readline())  # type: ignore[union-attr]
        told = []
        for process in processes[:-1]:
            told.append(json.loads(process.communicate("end\n")[0].splitlines()[-1]))
        processes[-1].communicate()
    shares = [100 * end["cpu_s"] / end["wall_s"] for end in (reader, *told)]
    return {**reader, "core_percent": sum(shares)}


def ends(args: argparse.Namespace) -> None:
    """What the processes that `measure` starts do."""
    if args.end == "flood":
        flood(args.where)
    done = read(args.way, args.where, args.frames) if args.end == "read" else None
    if done is not None:
        print(json.dumps(done), flush=True)
    else:
        told = write(args.way, args.where, args.source, args.frames)
        print(json.dumps(told), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of frames, a round and way")
    parser.add_argument("--rounds", type=int, default=1, help="of all three ways in turn; the median is printed")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    for name, kind in (("end", str), ("way", str), ("where", Path), ("source", str), ("frames", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.end:
        ends(args)
        return 0
    frames = round(args.seconds * HZ)
    rounds = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            rounds[way].append(measure(way, frames))
    rows = {
        way: {key: (sum if key in ("torn", "dropped", "frames") else statistics.median)([r[key] for r in found])
              for key in found[0] if key not in ("cpu_s", "wall_s")}
        for way, found in rounds.items()
    }  # fmt: skip
    print("way            | frames | torn | dropped | % of a core | age p50, p99, max, ms")
    for way, row in rows.items():
        print(f"{way:<14} | {row['frames']:6} | {row['torn']:4} | {row['dropped']:7} | {row['core_percent']:11.1f} | "
              f"{row['p50_ms']:.2f}, {row['p99_ms']:.2f}, {row['max_ms']:.2f}")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="robotrl-") as folder:
        found = control(Path(folder))
    print(f"control: torn of {found['whole']} frames {found['looking']}, without the look {found['not_looking']}")
    refused = real_time(PRIORITY, lock=False)
    print(f"real-time priority {PRIORITY}" if not refused else f"no real-time priority ({refused})")
    if args.out is not None:
        asked = {"asked": ASKED, "control": found, "rows": rows, "real_time": not refused}
        rundir.write_json(args.out, {**rundir.provenance(), **asked})
    sound = found["looking"] == 0 and found["not_looking"] > 0
    return 0 if sound and all(rows["ring, in place"][key] <= most for key, most in ASKED.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
