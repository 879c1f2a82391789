"""The power goes between any two calls of whoever writes what must last: log and checkpoint (tests/disk.py has the disk).

In the tests a single operation is torn at every `TEAR`-th byte and each of a pair in the middle; both at every byte is
`python -m tests.test_log_power` (some minutes), and every truncation of a segment is another test's.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from robotrl import checkpoint
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.logread import recover
from tests import logwitness
from tests.disk import File, Folder, crash_states, crashes, laid
from tests.test_log import BOOT, killed, no_disk, payload, quick

__all__ = ["no_disk", "quick"]

SEGMENT = 420
TEAR, PAIR_TEAR = 3, 0  # bytes; 0: in the middle; see `disk.parts`
GIVEN = [(Kind.LABEL, "console") if n % 3 == 2 else (Kind.TRANSITION, "policy") for n in range(40)]  # who gives which record


@pytest.fixture
def work():
    """Where thousands of states are laid out: in memory where there is such a folder, for a disk's journal takes its time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="robotrl-power-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name) / "state"


def write(directory: Path, count: int, logs: list[Log], end) -> None:
    """Append so many, by ones and by threes, and `end` the log's life."""
    log = Log.open(directory, group_s=0.0, segment=SEGMENT)
    logs.append(log)
    begin = log.durable
    for at in range(begin, begin + count):
        kind, source = GIVEN[at]
        log.append(kind, source, BOOT, GIVEN[: at + 1].count(GIVEN[at]), payload(at + 1))
        if at % 4 in (0, 3):
            log.sync()
    log.sync()
    end(log)


def log_crashes(directory: Path, monkeypatch, count: int, end):
    """Of a log's life -> records that were acknowledged by then."""
    logs: list[Log] = []
    promised = lambda: logs[0].durable if logs else len(logwitness.records(directory))  # noqa: E731
    return crashes(directory, monkeypatch, lambda: write(directory, count, logs, end), promised, TEAR, PAIR_TEAR)


def survives(work: Path, state, promised: int) -> None:
    """The log opens, holds at least what was promised, and nothing but what was given to it, in order."""
    laid(work, state)
    durable = recover(work, said := []).state.sequence
    assert not list(work.glob("*.damaged*")), said  # a power cut is no damage
    seen = logwitness.records(work)
    assert len(seen) == durable >= promised, (durable, promised)
    assert [(r.sequence, r.kind, r.source, r.payload) for r in seen] == [
        (n, *GIVEN[n - 1], payload(n)) for n in range(1, len(seen) + 1)
    ]
    assert logwitness.faults(seen) == {"lost": 0, "doubled": 0, "reordered": 0}
    shutil.rmtree(work)


def test_a_power_cut_at_any_moment_of_a_logs_first_life(tmp_path, work, monkeypatch, no_disk):
    """Begun, rolled from segment to segment, and closed."""
    directory = tmp_path / "log"
    directory.mkdir()
    states = log_crashes(directory, monkeypatch, 9, Log.close)
    for state, promised in states.items():
        survives(work, state, promised)
    assert len(states) > 500 and len(list(directory.glob("*.log"))) > 1 and max(states.values()) == 9


def test_a_power_cut_while_a_torn_log_is_made_whole(tmp_path, work, monkeypatch, no_disk):
    directory = tmp_path / "log"
    write(directory, 6, [], killed)
    last = sorted(directory.iterdir())[-1]
    data = last.read_bytes().rstrip(b"\0")
    last.write_bytes(data + b"torn off" + bytes(300))
    states = log_crashes(directory, monkeypatch, 2, killed)
    for state, promised in states.items():
        survives(work, state, promised)
    assert len(states) > 200 and min(states.values()) == 6


def made(n: int) -> dict[str, bytes]:
    """What the n-th checkpoint holds."""
    return {"agent.safetensors": bytes([n]) * 40, "rest.safetensors": bytes([n + 100]) * 3}


def checkpoint_crashes(run: Path, monkeypatch, count: int):
    """Checkpoint after checkpoint, until old ones are forgotten -> the last that was kept by then."""
    kept = [0]

    def work() -> None:
        for n in range(1, count + 1):
            checkpoint.save(run, 10 * n, n, made(n), {"score": float(n == 1)})
            kept[0] = n

    return crashes(run, monkeypatch, work, lambda: kept[0], 4 * TEAR, 4 * PAIR_TEAR, (checkpoint,))


def is_found(run: Path, state, promised: int) -> None:
    """The newest whole checkpoint is no older than the last that was kept, and what is in it belongs together."""
    laid(run, state)
    found = checkpoint.newest(run)
    assert promised == 0 if found is None else found.updates >= promised
    if found is not None:
        assert found.passed == () and found.transitions == 10 * found.updates  # a power cut is no damage
        assert {name: found.read(name) for name in made(1)} == made(found.updates)
    shutil.rmtree(run)


def test_a_power_cut_at_any_moment_while_checkpoints_are_kept(tmp_path, work, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    states = checkpoint_crashes(run, monkeypatch, checkpoint.KEEP + 2)
    for state, promised in states.items():
        is_found(work, state, promised)
    assert len(states) > 250 and set(states.values()) == set(range(checkpoint.KEEP + 3))
    assert len(list((run / "checkpoint").iterdir())) == checkpoint.KEEP + 1, "and the best"


def test_the_model_of_the_disk_forgets_what_was_not_synced():
    """The judge is judged: a write without a sync may be gone, a renaming without one of its directory too."""
    file = File(b"old", [(3, b"new")])
    left = {pair for state in crash_states(Folder({"a": file}, [("a", "b", file)]), 1) for pair in state.items()}
    torn = (b"old", b"oldn", b"oldne", b"oldnew", b"old\0ew", b"old\0\0w")
    assert left == {(name, data) for name in "ab" for data in torn}


def test_the_model_of_the_disk_treats_two_operations_apart_and_in_either_order():
    file = File(b"", [(0, b"AA"), (0, b"bb"), (0, b"C")])
    left = {state["a"] for state in crash_states(Folder({"a": file}), 1)}
    assert {b"CA", b"bA", b"AA", b"Cb", b"bb", b"AC"} - left == {b"AC"}, "C is not written there"
    assert {b"\0b", b"b", b"A", b"", b"C"} <= left
    one, two = File(b"", [(0, b"12")]), File(b"", [(0, b"34")])
    pairs = {(state["a"], state["b"]) for state in crash_states(Folder({"a": one, "b": two}), 1)}
    assert pairs == {(x, y) for x in (b"", b"1", b"\x002", b"12") for y in (b"", b"3", b"\x004", b"34")}
    inner = Folder({}, [("", "f", File(b"x"))])
    tree = [set(state) for state in crash_states(Folder({}, [("", "d", inner), ("d", "e", inner)]), 1)]
    assert all(some in tree for some in (set(), {"d"}, {"e"}, {"d", "d/f"}, {"e", "e/f"}))


def every_byte(folder: Path) -> None:
    """All of one and two operations, torn at every byte: said as it goes."""
    from robotrl import log as log_module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_module, "SEAL_ROOM", 64)
        patch.setitem(globals(), "TEAR", 1)
        patch.setitem(globals(), "PAIR_TEAR", 1)
        for name in ("log", "run"):
            (folder / name).mkdir()
        for what, states, judge in (
            ("checkpoint", checkpoint_crashes(folder / "run", patch, checkpoint.KEEP + 2), is_found),
            ("log", log_crashes(folder / "log", patch, 9, Log.close), survives),
        ):
            for k, (state, promised) in enumerate(states.items(), 1):
                judge(folder / "work", state, promised)
                if k % 1000 == 0 or k == len(states):
                    print(f"{what}: {k} of {len(states)} states hold", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        every_byte(Path(name))
