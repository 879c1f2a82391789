"""What is read from a disk: calibration and commissioning records, checkpoints, logs, replays, weights.

For any bytes in the place of a file there is what was written or one line of complaint. Where a hash or check sum stands in the
file, bytes that say something else than what was written are never taken for whole.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import checkpoint, config, logread
from robotrl.agents.actor import Actor
from robotrl.agents.weights import packed
from robotrl.calibration import store
from robotrl.complaint import Complaint
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.nodes.policy import Weights
from robotrl.replay import Replay
from tests.fuzz.engine import Broken

JSON = (b"null", b"NaN", b"-Infinity", b"1e999", b"true", b"{", b"}", b"[" * 2000, b'"', b"\\ud800", b'""', b"[]", b"{}", b"\xff",
        b"\x00", b'"schema": 2,', b'{"a":' * 1200, b"\xef\xbb\xbf")  # fmt: skip


MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # what a disk does with the bytes is no matter of a parser


class OnDisk:
    """One file of a folder that is gone with the target."""

    words: tuple[bytes, ...] = JSON

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="robotrl-fuzz-", dir=MEMORY)
        self.path = Path(self._folder.name)
        self.sound = self.prepare()

    def prepare(self) -> bytes:
        """Write a sound file and what belongs to it; the file's bytes."""
        raise NotImplementedError

    def example(self, rng: random.Random) -> bytes:
        return self.sound

    def held(self) -> int:
        return 0


def complaint(error: Complaint) -> None:
    """Broken unless it is one line."""
    text = str(error)
    if not text or "\n" in text or "\r" in text:
        raise Broken(f"no single line: {text[:200]!r}")


class Calibrations(OnDisk):
    """`store.load` of a calibration."""

    name = "calibration file"
    robot = config.Robot(serial="a1")
    kind: type = store.Calibration

    def record(self) -> Any:
        n = len(self.robot.servos.ids)
        return store.Calibration(
            schema=1, robot="minitaur", kind="minitaur", serial="a1", made=store.today(), ids=self.robot.servos.ids,
            sign=self.robot.servos.sign, offset=(0.25,) * n, pose=(1.57,) * n, spread=(0.001,) * n,
            identity=tuple(f"{i:024x}" for i in range(n)),
        )  # fmt: skip

    def prepare(self) -> bytes:
        self.file = store.path_of(self.kind, self.robot, self.path)
        store.write(self.record(), self.file)
        return self.file.read_bytes()

    def check(self, data: bytes) -> None:
        self.file.write_bytes(data)
        try:
            record = store.load(self.kind, self.robot, self.path)
        except Complaint as error:
            complaint(error)
            return
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not abs(number) <= 1000:
                    raise Broken(f"{field.name} is {number}")
        if record.ids != self.robot.servos.ids:
            raise Broken(f"of other servos: {record.ids}")


class Commissionings(Calibrations):
    """`store.load` of a commissioning record."""

    name = "commissioning file"
    kind = store.Commissioning

    def record(self) -> Any:
        n = len(self.robot.servos.ids)
        return store.Commissioning(
            schema=1, robot="minitaur", kind="minitaur", serial="a1", made=store.today(), ids=self.robot.servos.ids,
            calibration="0" * 64, firmware=("1.2.0",) * n, watchdog_s=0.1, trip_s=(0.1,) * n,
            moved=(0.1,) * n, step=0.1, seen="operator", stop_s=0.5, stop_rad=(0.1,) * n,
        )  # fmt: skip


class Manifests(OnDisk):
    """`checkpoint.newest`, and `save` beside what is there: manifest.json. Its hash is its own."""

    name = "checkpoint manifest"
    words = (*JSON, b"1" * 400, b'"score": 1' + b"0" * 400, b"1e400", b'"score": NaN', b'"files": 3')

    def prepare(self) -> bytes:
        where = checkpoint.save(self.path, 100, 50, {"agent.safetensors": b"weights"}, {"score": 1.5, "version": 3})
        self.file = where / checkpoint.MANIFEST
        self.said = json.loads(self.file.read_bytes())
        return self.file.read_bytes()

    def check(self, data: bytes) -> None:
        self.file.write_bytes(data)
        checkpoint._forget(self.path / checkpoint.FOLDER, checkpoint.KEEP, self.file.parent)
        try:
            kept = checkpoint.newest(self.path)
        except Complaint as error:
            complaint(error)
            return
        if kept is None or (kept.transitions, kept.updates, kept.about) != (100, 50, self.said["about"]):
            raise Broken(f"damaged and passes for whole: {kept}")


class Header(OnDisk):
    """`Replay.open`: header.json."""

    name = "replay header"

    def prepare(self) -> bytes:
        replay = Replay.create(self.path / "replay", 3, 2, 8)
        for k in range(5):
            now, then = np.full(3, k), np.full(3, k + 1)
            ends = {"terminated": False, "truncated": False}
            replay.add(now, np.zeros(2), 1.0, then, **ends, episode=0, step=k, tick=k, policy_version=1)
        replay.close()
        return (self.path / "replay" / "header.json").read_bytes()

    def check(self, data: bytes) -> None:
        (self.path / "replay" / "header.json").write_bytes(data)
        try:
            replay = Replay.open(self.path / "replay")
        except Complaint as error:
            complaint(error)
            return
        if (replay.observation_size, replay.action_size, replay.capacity, replay.check()["damaged"]) != (3, 2, 8, 0):
            raise Broken("a header that says something else passes for whole")


class Columns(Header):
    """`Replay.check` and `open` to write: all columns at once, one after the other."""

    name = "replay columns"
    words = (b"\x00" * 8, b"\xff" * 8, b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f")

    def prepare(self) -> bytes:
        super().prepare()
        files = sorted(p for p in (self.path / "replay").iterdir() if p.suffix in (".f32", ".u8", ".i64", ".u32"))
        self.files = [file.open("r+b", buffering=0) for file in files]  # held open: by their names they take twice as long
        self.whole = [file.read() for file in self.files]
        self.told = [k for k, file in enumerate(files) if file.stem not in ("count", "durable", "crc")]
        return b"".join(self.whole)

    def check(self, data: bytes) -> None:
        for file, was in zip(self.files, self.whole, strict=True):
            file.truncate(os.pwrite(file.fileno(), data[: len(was)], 0))
            data = data[len(was) :]
        try:
            replay = Replay.open(self.path / "replay")
            counts = replay.check()
            replay.close()
        except Complaint as error:
            complaint(error)
            return
        same = all(rows(os.pread(self.files[k].fileno(), 1 << 16, 0)) == rows(self.whole[k]) for k in self.told)
        if not counts["damaged"] and counts["transitions"] == 5 and not same:
            raise Broken("other rows than were added, and none is damaged")
        try:
            Replay.open(self.path / "replay", write=True).close()
        except Complaint as error:
            complaint(error)


def rows(column: bytes) -> bytes:
    """The part of a column that the five rows are in."""
    return column[: len(column) // 8 * 5]


class Networks(OnDisk):
    """`Actor.load` and the policy's `Weights.poll`: a safetensors file."""

    name = "weights"
    words = (
        *JSON,
        b'"dtype":"BF16"',
        b"F16",
        b"F64",
        b"I64",
        b"BOOL",
        b"F8_E4M3",
        b"U16",
        b"\x00\x00\x80\x7f",
        b"\xff" * 8,
        b'"__metadata__"',
    )

    def prepare(self) -> bytes:
        rng = np.random.default_rng(0)
        shapes = {"actor.0.weight": (6, 3), "actor.0.bias": (6,), "actor.1.weight": (4, 6), "actor.1.bias": (4,)}
        arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
        self.file = self.path / "policy.safetensors"
        self.seen = [np.full(3, 0.5, np.float32)]
        return packed(arrays, {"version": "3"})

    def example(self, rng: random.Random) -> bytes:
        kinds = rng.choice(("F32", "F32", "BF16", "F16", "I32", "F64", "F8_E5M2", "U8", "C64"))
        size = {"BF16": 2, "F16": 2, "F64": 8, "F8_E5M2": 1, "U8": 1, "C64": 8}.get(kinds, 4)
        header, at = {}, 0
        for name, shape in {"actor.0.weight": (4, 3), "actor.0.bias": (4,)}.items():
            end = at + math.prod(shape) * size
            header[name] = {"dtype": kinds, "shape": shape, "data_offsets": (at, end)}
            at = end
        text = json.dumps(header | {"__metadata__": {"version": "4"}}).encode()
        return rng.choice((self.sound, struct.pack("<Q", len(text)) + text + bytes(at)))

    def check(self, data: bytes) -> None:
        self.file.write_bytes(data)
        said: list[str] = []
        with np.errstate(all="ignore"):
            polled = Weights(self.file, 3, 2, said.append).poll(self.seen)
        if (polled is None) != (len(said) == 1):
            raise Broken(f"neither taken nor refused: {said}")
        try:
            actor = Actor.load(self.file)
        except Complaint as error:
            complaint(error)
            if polled is not None:
                raise Broken("the policy acts with what is no actor") from None
            return
        if not all(np.isfinite(value).all() for layer in actor._layers for value in layer):
            raise Broken("weights that are no numbers")


class Segments(OnDisk):
    """`logread.read` and `recover`: the middle one of three segments of a run's log."""

    name = "log segment"
    words = (b"robotlog", b"sealed\r\n", b"\x01\x00\xfe\xff", b"\x02\x00\xfd\xff", b"\x00" * 34, b"\xff" * 8, *JSON)

    def prepare(self) -> bytes:
        log = Log.open(self.path / "log", group_s=0.0, segment=400)
        for number in range(1, 31):
            log.append(Kind.LABEL, "me", 5, number, b"%d" % number)
            log.sync()
        log.close()
        self.files = sorted((self.path / "log").iterdir())[:3]
        self.whole = {file: file.read_bytes() for file in self.files}
        assert len(self.files) == 3
        self.said = {(record.number, record.payload) for record in logread.read(self.path / "log", [])}
        self.recovered = True  # the other two are to be put back
        return self.whole[self.files[1]]

    def check(self, data: bytes) -> None:
        if self.recovered:
            for file in (self.path / "log").iterdir():
                file.unlink()
            for file, was in self.whole.items():
                file.write_bytes(was)
        self.files[1].write_bytes(data)
        self.recovered = zlib.crc32(data) % 8 == 0  # it syncs, which takes its time
        lines: list[str] = []
        try:
            seen = again = list(logread.read(self.path / "log", lines))
            if self.recovered:
                logread.recover(self.path / "log", lines)
                again = list(logread.read(self.path / "log", []))
        except Complaint as error:
            complaint(error)
            return
        for line in lines:
            complaint(Complaint(line))
        for records in (seen, again):
            if not all((record.number, record.payload) in self.said for record in records):
                raise Broken("a record that was never written")
        if seen != again or (data != self.sound and not lines):
            raise Broken(f"lost in silence: {len(seen)} records, then {len(again)}")


TARGETS = (Calibrations, Commissionings, Manifests, Header, Columns, Networks, Segments)
