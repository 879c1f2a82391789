"""Sessions as files: read back by others too, cut or damaged ones as far as they are whole; no room on the disk is no harm."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Chunk
from mcap.stream_reader import StreamReader

from robotrl import config, rundir, session
from robotrl import messages as m
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.session import FORMAT, Attached, Reading, Session, SessionError, Sessions, files, schema_of
from robotrl.topics import TOPICS

ROOT = Path(__file__).resolve().parent.parent
HEAD = 8 + 1 + 8  # the magic, an opcode, a length
CHUNK, MEGABYTE = 0x06, 1 << 20


def words(count: int, begin: int = 0) -> list[tuple[str, m.Message]]:
    """Messages of several kinds, with numbers that JSON has and has not."""
    out: list[tuple[str, m.Message]] = []
    for i in range(begin, begin + count):
        who = {"source": "servos", "boot": 7, "seq": i + 1, "t": 1000 + i}
        values = (0.1 * i, -0.0, 1e-300, math.pi, float(i), math.nan if i % 3 else 2.0, 0.5, 0.25)
        out.append(("joints", m.Joints(tick=i, position=values, velocity=values, torque=values, temp_c=values, voltage=values,
                                       mode=(10,) * 8, fault=(0,) * 8, missed=(0,) * 8, **who)))  # fmt: skip
        exchange = m.Exchange(first=i + 1, calls=(m.Call("cycle", 0, (("guard", 1, i),)),), kinds="cwr", at=(0, 5, 9),
                              data=(bytes(range(i % 256)), b""), **who)  # fmt: skip
        out.append(("wire", exchange))
        out.append(("cause", m.Guard(state="RUN", causes=("tilt",), last_cause="tilt", session=True, epoch=1, holder="policy",
                                     nonce=i, note='a "note"\n', **who)))  # fmt: skip
    return out


def write(path: Path, said: list[tuple[str, m.Message]], every: int) -> list[int]:
    """A session with a chunk every so many messages; where each chunk ends in the file."""
    file = Session(path, {"config": "{}"})
    ends = []
    for i, (topic, message) in enumerate(said, 1):
        file.write(topic, message)
        if i % every == 0:
            file.flush()
            ends.append(file.size)
    file.flush()
    file.finish({})
    return ends


def bits(message: m.Message) -> bytes:
    return msgspec.msgpack.encode(message)


def read(path: Path) -> list[bytes]:
    return [bits(item[1]) for item in Reading(path) if not isinstance(item, Attached)]


def test_all_that_was_written_is_read_back_bit_for_bit(tmp_path):
    said = words(60)
    write(tmp_path / "a.mcap", said, 25)
    reading = Reading(tmp_path / "a.mcap")
    back = [item for item in reading if not isinstance(item, Attached)]
    assert [(t, bits(x)) for t, x in back] == [(t, bits(x)) for t, x in said] and reading.cut == ""
    assert reading.about["format"] == FORMAT


def test_the_library_alone_reads_it_with_a_json_schema_for_each_topic(tmp_path):
    """What Foxglove does: channels with encoding json, schemas with encoding jsonschema, times in the day."""
    write(tmp_path / "a.mcap", words(20), 25)
    with open(tmp_path / "a.mcap", "rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        plain = {t for t, e in TOPICS.items() if e.recorded and t not in ("picture", "depth")}  # these have a channel a camera
        assert {c.topic for c in summary.channels.values()} == plain
        assert summary.statistics.message_count == 60 and summary.statistics.chunk_count == 3
        for schema, channel, message in reader.iter_messages():
            assert schema is not None and schema.encoding == "jsonschema" and channel.message_encoding == "json"
            described, value = json.loads(schema.data), json.loads(message.data)
            assert described["type"] == "object" and set(value) <= set(described["properties"])
            assert set(described.get("required", ())) <= set(value)
            day = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.monotonic_ns()
            assert abs(message.log_time - value["t"] - day) < 60e9 and message.publish_time == message.log_time


def readable(schema: dict, where: str) -> None:
    """What Foxglove's reader of JSON schemas asks of one; ValueError where it would give the channel up."""
    if schema.get("type") != "object":
        raise ValueError(f"{where}: no object")
    for name, field in schema["properties"].items():
        at, kind, inside = f"{where}.{name}", field.get("type"), field.get("items", {})
        if kind == "object":
            readable(field, at)
        elif kind == "array":
            if not isinstance(inside, dict) or inside.get("type") not in ("boolean", "string", "number", "integer", "object"):
                raise ValueError(f"{at}: a list of {inside}")
            if "contentEncoding" in inside:
                raise ValueError(f"{at}: a list of bytes")
            if inside["type"] == "object":
                readable(inside, at)
        elif kind not in ("boolean", "string", "number", "integer") or field.get("contentEncoding", "base64") != "base64":
            raise ValueError(f"{at}: {field}")


def test_foxglove_can_read_every_schema():
    for topic, entry in TOPICS.items():
        if entry.recorded:
            schema = schema_of(entry.type)
            readable(schema, topic)
            assert "$ref" not in json.dumps(schema) and set(schema["required"]) <= set(schema["properties"])
    with pytest.raises(ValueError, match="wire"):
        readable(msgspec.json.schema(TOPICS["wire"].type)["$defs"]["Exchange"], "wire")


@pytest.mark.parametrize(
    ("topic", "fields"),
    [
        ("joints", "position velocity torque temp_c voltage mode fault missed"),
        ("imu", "roll pitch yaw rates accel"),
        ("operator", "command press nonce value seen_tick"),
        ("label", "press value tick"),
        ("guard", "state causes last_cause session holder"),
        ("cause", "state causes trigger"),
        ("wire", "kinds at data calls"),
    ],
)
def test_what_is_asked_for_has_a_channel_whose_schema_tells_its_fields(topic, fields):
    assert TOPICS[topic].recorded
    schema = schema_of(TOPICS[topic].type)
    assert {"t", "source", "seq", *fields.split()} <= set(schema["properties"]) and schema["title"] == TOPICS[topic].type.__name__


def records_end(data: bytes) -> list[int]:
    """Where each record of an MCAP file ends: opcode, length, content; after the magic."""
    at, ends = 8, []
    while at + 9 <= len(data):
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
        ends.append(at)
    return ends


def chunk_sizes(path: Path) -> list[int]:
    """Bytes in each chunk before it was packed."""
    sizes = []
    with open(path, "rb") as file:
        try:
            for record in StreamReader(file, emit_chunks=True).records:
                sizes += [record.uncompressed_size] if isinstance(record, Chunk) else []
        except EndOfFile:
            pass
    return sizes


def test_cut_anywhere_it_opens_to_its_last_whole_chunk(tmp_path):
    said = words(40)
    ends = write(tmp_path / "whole.mcap", said, 20)
    data = (tmp_path / "whole.mcap").read_bytes()
    chunks = []  # where each chunk itself ends: its index comes after it
    for begin, end in zip([8, *records_end(data)], records_end(data), strict=False):
        if data[begin] == CHUNK:
            chunks.append(end)
    assert len(chunks) == len(ends) == 6
    rng = random.Random(3)
    first = next(end for begin, end in zip([8, *records_end(data)], records_end(data), strict=False) if data[begin] == 0x0C)
    places = {*chunks, *(c - 1 for c in chunks), *(c + 1 for c in chunks), *records_end(data)[:-1]}
    places |= {rng.randrange(first, len(data)) for _ in range(150)}
    whole = [bits(x) for _, x in said]
    cut = tmp_path / "cut.mcap"
    for place in sorted(p for p in places if first <= p < len(data)):
        cut.write_bytes(data[:place])
        reading = Reading(cut)
        got = [bits(item[1]) for item in reading if not isinstance(item, Attached)]
        assert got == whole[: 20 * sum(c <= place for c in chunks)], place
        assert reading.cut
    for place in range(first):
        cut.write_bytes(data[:place])
        with pytest.raises(SessionError, match=r"cut\.mcap"):
            Reading(cut)


def test_a_flipped_bit_never_gives_other_messages(tmp_path):
    said = words(30)
    write(tmp_path / "whole.mcap", said, 15)
    data = (tmp_path / "whole.mcap").read_bytes()
    whole = [bits(x) for _, x in said]
    rng, bad = random.Random(5), tmp_path / "bad.mcap"
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        bad.write_bytes(flipped)
        try:
            got = read(bad)
        except SessionError as error:
            assert "bad.mcap" in str(error) and "\n" not in str(error)
            continue
        assert got == whole[: len(got)]
    assert bad.read_bytes() == bytes(flipped), "a damaged file is left as it is"


def test_a_record_that_is_no_message_ends_the_reading(tmp_path):
    """Where a flipped bit hits what no chunk's sum covers."""
    from mcap.writer import CompressionType, Writer

    with open(tmp_path / "bad.mcap", "wb") as file:
        writer = Writer(file, use_chunking=False, compression=CompressionType.NONE)
        writer.start()
        writer.add_metadata("session", {"format": FORMAT})
        channel = writer.register_channel("episode", "json", writer.register_schema("Episode", "jsonschema", b"{}"))
        writer.add_message(channel, 0, b"\0\0\0", 0)
        writer.finish()
    reading = Reading(tmp_path / "bad.mcap")
    assert list(reading) == [] and reading.cut.startswith("damaged: episode")


def test_a_file_of_a_newer_format_or_of_others_is_refused(tmp_path):
    from mcap.writer import Writer

    for name, about in (("newer", {"format": "2"}), ("others", {})):
        with open(tmp_path / f"{name}.mcap", "wb") as file:
            writer = Writer(file)
            writer.start()
            writer.add_metadata("session", about)
            writer.finish()
        with pytest.raises(SessionError, match="of format 2, not 1" if name == "newer" else "no session of this project"):
            Reading(tmp_path / f"{name}.mcap")


def test_a_full_file_is_followed_by_the_next(tmp_path):
    sessions = Sessions(tmp_path / "sessions", {"config": "{}"}, rotate=20_000, floor=0)
    said = words(400)
    sessions.tend()
    for i, (topic, message) in enumerate(said):
        sessions.write(topic, message)
        if i % 30 == 29:
            sessions.tend()
    sessions.close()
    found = files(tmp_path / "sessions")
    assert len(found) > 2 and [p.name for p in found] == [f"{i:04d}.mcap" for i in range(1, len(found) + 1)]
    assert [b for p in found for b in read(p)] == [bits(x) for _, x in said]
    assert not any(Reading(p).cut for p in found) and not sessions.trouble


def test_too_little_room_is_said_and_nothing_else(tmp_path):
    sessions = Sessions(tmp_path / "sessions", {}, floor=1 << 62)
    sessions.tend()
    for topic, message in words(3):
        sessions.write(topic, message)
    assert "are free" in sessions.trouble and "the robot goes on" in sessions.trouble and sessions.unwritten == 9
    assert not list((tmp_path / "sessions").glob("*"))
    sessions.floor = 0
    sessions.tend()
    assert not sessions.trouble and len(list((tmp_path / "sessions").glob("*.mcap"))) == 1
    sessions.close()


@pytest.mark.parametrize("where", ["write", "attach", "tend"])
def test_a_disk_that_is_full_in_the_middle_is_said_and_nothing_is_raised(tmp_path, monkeypatch, where):
    """The kernel's own refusal: the file's descriptor is made that of /dev/full."""
    monkeypatch.setattr(session, "CHUNK", 1 if where == "write" else MEGABYTE)
    sessions = Sessions(tmp_path / "sessions", {}, floor=0)
    sessions.tend()
    assert sessions._open is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, sessions._open._file.fileno())
    os.close(full)
    said = words(40)
    for topic, message in said:
        sessions.write(topic, message)
    if where == "attach":
        sessions.attach("policy.safetensors", 0, b"weights" * 9000)
    if where == "tend":
        assert not sessions.trouble
        sessions.tend()
    assert "No space left" in sessions.trouble and "the robot goes on" in sessions.trouble
    sessions.tend()
    assert not sessions.trouble, "the next file is begun where there is room"
    sessions.write(*said[0])
    sessions.close()
    assert read(tmp_path / "sessions" / "0002.mcap") == [bits(said[0][1])]


@pytest.fixture
def stage(tmp_path):
    """A run directory with a live bus, and what speaks on it; recorders started here end with the test."""
    run = rundir.create(config.load(ROOT / "launch" / "walk.toml"), tmp_path, "wall", sim=True)
    (tmp_path / "bus").mkdir(mode=0o700)
    rundir.write_json(run / "bus.json", {"directory": str(tmp_path / "bus")})
    stage = Stage(run, tmp_path / "bus")
    yield stage
    stage.close()


class Stage:
    def __init__(self, run: Path, sockets: Path) -> None:
        self.run, self.processes = run, []
        self.bus = Bus(sockets, "servos", WallClock())
        self.joints, self.wire = self.bus.publisher("joints"), self.bus.publisher("wire")
        self.sent: list[bytes] = []

    def record(self) -> subprocess.Popen[bytes]:
        with open(self.run / "recorder.log", "ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "robotrl.nodes.recorder", str(self.run)], cwd=ROOT,
                                       stdin=subprocess.PIPE, stderr=log, stdout=log)  # fmt: skip
        self.processes.append(process)
        return process

    def speak(self) -> None:
        """A period's words, and a pause."""
        for topic, message in words(1, len(self.sent)):
            if topic != "cause":
                end = self.joints if topic == "joints" else self.wire
                said = end.send(msgspec.structs.replace(message, t=0, seq=0))
                if topic == "joints":
                    self.sent.append(bits(said))
        time.sleep(0.003)

    def until(self, over, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not over():
            assert time.monotonic() < end, (self.run / "recorder.log").read_text()
            self.speak()

    def kept(self) -> list[bytes]:
        """The joints in all files, in order."""
        return [bits(i[1]) for p in sorted((self.run / "sessions").glob("*.mcap")) for i in Reading(p)
                if not isinstance(i, Attached) and i[0] == "joints"]  # fmt: skip

    def size(self, name: str = "0001") -> int:
        path = self.run / "sessions" / f"{name}.mcap"
        return path.stat().st_size if path.is_file() else 0

    def chunks(self, name: str = "0001") -> list[int]:
        """Of the file as it is now, the whole ones."""
        return chunk_sizes(self.run / "sessions" / f"{name}.mcap") if self.size(name) else []

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """Tell it to end once it has what was sent: on a loaded machine that takes the bus a while. Its exit code."""
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def log(self) -> str:
        return (self.run / "recorder.log").read_text()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.bus.close()


def test_a_recorder_killed_while_it_writes_leaves_a_file_that_opens_and_the_next_life_begins_another(stage):
    process = stage.record()
    stage.until(lambda: len(stage.chunks()) > 0)
    ended = len(stage.chunks())
    for _ in range(50):
        stage.speak()
    end = time.monotonic() + 60
    while len(stage.chunks()) <= ended:  # nothing more is said: a chunk that waits to be full waits for ever
        assert time.monotonic() < end, "it is time that ends a chunk"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    chunks = stage.chunks()
    assert len(chunks) > 1 and chunks[-1] < MEGABYTE, "it is time that ends a chunk"
    reading = Reading(stage.run / "sessions" / "0001.mcap")
    kept = [bits(i[1]) for i in reading if not isinstance(i, Attached) and i[0] == "joints"]
    assert reading.cut and len(kept) > 20
    begin = stage.sent.index(kept[0])
    assert kept == stage.sent[begin : begin + len(kept)], "all of them, in order, up to the last chunk"

    before = (stage.run / "sessions" / "0001.mcap").read_bytes()
    process = stage.record()
    stage.until(lambda: len(stage.chunks("0002")) > 0)
    stage.speak()  # into a chunk that has just been begun
    assert stage.end(process) == 0 and not Reading(stage.run / "sessions" / "0002.mcap").cut
    assert (stage.run / "sessions" / "0001.mcap").read_bytes() == before
    assert stage.kept()[-1] == stage.sent[-1], "who is told to end writes what has come"


def test_a_disk_that_takes_no_more_stops_the_record_and_nothing_else(stage):
    """The kernel refuses every write beyond a file's size; then it lets them pass again."""
    process = stage.record()
    stage.until(lambda: stage.size() > 0)
    room = max(stage.size(), (stage.run / "recorder.log").stat().st_size + 2000) + 15_000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    stage.until(lambda: "nothing is recorded until there is room, the robot goes on" in stage.log())
    assert process.poll() is None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    stage.until(lambda: "there is room again" in stage.log())
    here = len(stage.sent)
    stage.until(lambda: len(stage.sent) > here + 500)
    assert stage.end(process) == 0
    torn = (stage.run / "sessions" / "0001.mcap").read_bytes()
    assert records_end(torn)[-1] == len(torn), "what went out by half is taken back"
    kept = stage.kept()
    assert stage.sent[-1] == kept[-1] and len(kept) == len(set(kept))
    assert [k for k in kept if k not in set(stage.sent)] == []


def test_a_file_that_cannot_be_begun_does_not_stay(tmp_path, monkeypatch):
    """Of a quota no figure of the disk's tells: it took a name each second, and no word."""

    def full(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(session.Writer, "flush", full)
        sessions = Sessions(tmp_path / "sessions", {}, floor=0)
        for _ in range(3):
            sessions.tend()
        assert "Disk quota exceeded" in sessions.trouble and not list((tmp_path / "sessions").iterdir())
    sessions.tend()
    sessions.close()
    assert not sessions.trouble and [path.name for path in (tmp_path / "sessions").iterdir()] == ["0001.mcap"]


def test_a_recorder_that_hangs_holds_nobody_up(stage):
    process = stage.record()
    stage.until(lambda: stage.size() > 20_000)
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    for _ in range(6000):  # more than the bus keeps for it
        stage.joints.send(words(1)[0][1])
    assert time.monotonic() - began < 20
    os.kill(process.pid, signal.SIGCONT)
    stage.until(lambda: "too many to be recorded" in stage.log())
    assert stage.end(process) == 0


def test_without_its_manager_the_recorder_hears_the_robot_come_to_rest_and_ends(stage):
    process = stage.record()
    stage.until(lambda: stage.size() > 0)
    assert process.stdin is not None
    process.stdin.close()
    closed = time.monotonic_ns()
    stage.until(lambda: process.poll() is not None)
    assert process.returncode == 0 and not Reading(stage.run / "sessions" / "0001.mcap").cut
    assert msgspec.msgpack.decode(stage.kept()[-1], type=m.Joints).t > closed + 1_000_000_000
