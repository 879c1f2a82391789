"""The replay: against a list, across processes, and damaged in every way it can be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl.replay import Batch, Replay, ReplayError
from robotrl.replayfiles import NoRoom

OBSERVATION, ACTION = 3, 2


def transition(k: int, length: int = 5) -> dict[str, Any]:
    """The k-th transition of episodes of `length` steps, every value different."""
    step = k % length
    return {
        "observation": np.array([k, k + 0.25, -k], np.float32),
        "action": np.array([0.001 * k, -0.5], np.float32),
        "reward": 0.5 * k,
        "terminated": step == length - 1 and k % 2 == 0,
        "truncated": step == length - 1 and k % 2 == 1,
        "next_observation": np.array([k + 1, k + 1.25, -k - 1], np.float32),
        "episode": k // length,
        "step": step,
        "tick": 100 + k,
        "policy_version": k // 7,
    }


def filled(path: Path, rows: int, capacity: int = 100) -> Replay:
    replay = Replay.create(path, OBSERVATION, ACTION, capacity)
    for k in range(rows):
        assert replay.add(**transition(k)) == k
    return replay


def assert_holds(replay: Replay, rows: list[int]) -> None:
    assert replay.count == len(rows)
    batch = replay.rows(np.arange(len(rows)))
    assert (batch.steps == 1).all()
    for name in Batch._fields[:-1]:
        want = [transition(k)[name] for k in rows]
        np.testing.assert_array_equal(
            getattr(batch, name),
            np.array(want, getattr(batch, name).dtype).reshape(getattr(batch, name).shape),
        )
    for name in ("episode", "step", "tick", "policy_version"):
        assert replay.columns[name][: len(rows)].tolist() == [transition(k)[name] for k in rows]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["add", "add", "add", "flush", "reopen", "refuse"]), max_size=30))
def test_against_a_list(tmp_path_factory: pytest.TempPathFactory, operations: list[str]) -> None:
    path = tmp_path_factory.mktemp("replay") / "r"
    replay, reader = Replay.create(path, OBSERVATION, ACTION, 20), Replay.open(path)
    model: list[int] = []
    promised = 0
    for operation in operations:
        if operation == "add" and len(model) < 20:
            replay.add(**transition(len(model)))
            model.append(len(model))
        elif operation == "add" or operation == "refuse":
            with pytest.raises(ReplayError):
                replay.add(**transition(0) | ({"reward": np.nan} if operation == "refuse" else {}))
        elif operation == "flush":
            replay.flush()
            promised = len(model)
        else:
            replay.close()
            promised = len(model)
            replay = Replay.open(path, write=True)
        assert (replay.count, reader.count, reader.durable) == (len(model), len(model), promised)
    assert_holds(reader, model)
    replay.close()
    shutil.rmtree(path)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        filled(tmp_path / name, 12).close()
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert "header.json.part" not in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_large_capacity_takes_little_disk(tmp_path: Path) -> None:
    replay = Replay.create(tmp_path / "r", 112, 8, 1_000_000)
    replay.add(**transition(0) | {k: np.zeros(n) for k, n in (("observation", 112), ("next_observation", 112), ("action", 8))})
    assert sum(p.stat().st_blocks * 512 for p in (tmp_path / "r").iterdir()) < 2_000_000
    replay.close()


def test_sample_is_uniform_and_seeded(tmp_path: Path) -> None:
    replay = filled(tmp_path / "r", 30)
    draw = lambda seed: replay.sample(np.random.default_rng(seed), 9_000, 20)  # noqa: E731
    np.testing.assert_array_equal(draw(1), draw(1))
    counts = np.bincount(draw(2), minlength=20)
    assert len(counts) == 20 and counts.min() > 350 and counts.max() < 550  # mean 450, sd 21
    with pytest.raises(ReplayError, match="first 31 of 30"):
        replay.sample(np.random.default_rng(0), 1, 31)
    with pytest.raises(IndexError, match="30"):
        replay.rows(np.array([0, 30]))
    replay.close()


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    code = (
        f"import sys, os, signal; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_replay import filled; from pathlib import Path\n"
        f"filled(Path({str(tmp_path / 'r')!r}), 17); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    replay = Replay.open(tmp_path / "r", write=True)
    assert_holds(replay, list(range(17)))
    replay.add(**transition(17))
    assert replay.check()["damaged"] == 0 and replay.count == 18
    replay.close()


def test_torn_rows_that_nobody_promised_are_dropped(tmp_path: Path) -> None:
    replay = filled(tmp_path / "r", 10)
    replay.flush()
    for k in range(10, 15):
        replay.add(**transition(k))
    replay.columns["next_observation"][12, 1] = 7.0  # as a power cut leaves it: count there, row not
    replay._release()  # no flush
    assert Replay.open(tmp_path / "r").check()["damaged"] == 1
    again = Replay.open(tmp_path / "r", write=True)
    assert_holds(again, list(range(12)))
    again.close()


def test_a_damaged_promised_row_is_an_error(tmp_path: Path) -> None:
    replay = filled(tmp_path / "r", 10)
    replay.close()
    with (tmp_path / "r" / "reward.f32").open("r+b") as file:
        file.seek(4 * 6)
        file.write(b"\xff")
    with pytest.raises(ReplayError, match="row 6 is damaged"):
        Replay.open(tmp_path / "r", write=True)
    assert Replay.open(tmp_path / "r").check()["damaged"] == 1


def test_check_counts(tmp_path: Path) -> None:
    replay = Replay.create(tmp_path / "r", OBSERVATION, ACTION, 100)
    assert replay.check()["transitions"] == 0
    for k in (0, 1, 3, 4, 6, 7, 7, 8, 9, 10, 11):  # 2 and 5 lost, 7 twice, episode 2 still running
        replay.add(**transition(k))
    replay.add(**transition(12) | {"terminated": True, "truncated": True})
    replay.columns["observation"][3, 0] = np.nan
    found = replay.check()
    assert found == {
        "transitions": 12, "durable": 0, "episodes": 3, "unfinished": 0, "gaps": 2, "doubles": 1,
        "both_ends": 1, "non_finite": 1, "damaged": 1,
    }  # fmt: skip
    replay.close()


def spoil(path: Path, how: str) -> None:
    header = path / "header.json"
    if how == "no header":
        header.unlink()
    elif how == "not json":
        header.write_text("{")
    elif how == "other schema":
        header.write_text(json.dumps(json.loads(header.read_text()) | {"schema": 2}))
    elif how == "odd size":
        header.write_text(json.dumps(json.loads(header.read_text()) | {"capacity": -1}))
    elif how == "short column":
        with (path / "action.f32").open("r+b") as file:
            file.truncate(11)
    elif how == "no column":
        (path / "tick.i64").unlink()
    else:
        (path / "count.i64").write_bytes(np.array([101], "<i8").tobytes())


@pytest.mark.parametrize(
    "how",
    ["no header", "not json", "other schema", "odd size", "short column", "no column", "count too large"],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_spoilt_directory_is_one_line(tmp_path: Path, how: str, write: bool) -> None:
    filled(tmp_path / "r", 3).close()
    spoil(tmp_path / "r", how)
    with pytest.raises(ReplayError) as caught:
        Replay.open(tmp_path / "r", write=write)
    assert str(tmp_path / "r") in str(caught.value) and "\n" not in str(caught.value) and ";" in str(caught.value)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    replay = Replay.create(tmp_path / "r", OBSERVATION, ACTION, 4)
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(NoRoom, match=r"No space left on device; free"):
        replay.add(**transition(0))
    assert replay.count == 0
    monkeypatch.undo()
    assert replay.add(**transition(0)) == 0, "when there is room it goes on"
    replay.close()


def test_the_counts_have_their_room_from_the_beginning(tmp_path: Path) -> None:
    """The first number into a hole of a file that is mapped is a SIGBUS on a full disk."""
    Replay.create(tmp_path / "r", OBSERVATION, ACTION, 4).close()
    for name in ("count", "durable"):
        with open(tmp_path / "r" / f"{name}.i64", "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0 and file.read() == bytes(8)


def test_the_counts_of_an_older_replay_get_their_room_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Replay.create(tmp_path / "r", OBSERVATION, ACTION, 4).close()
    for name in ("count", "durable"):
        with open(tmp_path / "r" / f"{name}.i64", "wb") as file:
            file.truncate(8)  # a hole
    Replay.open(tmp_path / "r", write=True).close()
    for name in ("count", "durable"):
        assert (tmp_path / "r" / f"{name}.i64").stat().st_blocks > 0

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(NoRoom):
            Replay.open(tmp_path / "r", write=True)
    Replay.open(tmp_path / "r", write=True).close()  # and nobody holds it


def test_refusals(tmp_path: Path) -> None:
    replay = filled(tmp_path / "r", 3, capacity=4)
    with pytest.raises(ReplayError, match="another process"):
        Replay.open(tmp_path / "r", write=True)
    with pytest.raises(ReplayError, match="already holds"):
        Replay.create(tmp_path / "r", OBSERVATION, ACTION, 4)
    with pytest.raises(ReplayError, match="observation, action"):
        Replay.open(tmp_path / "r", sizes=(4, ACTION))
    with pytest.raises(ReplayError, match="not open for writing"):
        Replay.open(tmp_path / "r").add(**transition(3))
    with pytest.raises(ReplayError, match="action must be"):
        replay.add(**transition(3) | {"action": np.zeros(1)})
    for name in ("observation", "action", "next_observation"):
        odd = transition(3)[name]
        odd[-1] = np.inf
        with pytest.raises(ReplayError, match=f"{name} of episode 0 step 3 is not finite"):
            replay.add(**transition(3) | {name: odd})
    replay.add(**transition(3))
    with pytest.raises(ReplayError, match="full at 4"):
        replay.add(**transition(4))
    replay.close()
    with pytest.raises(ReplayError, match="not open for writing"):
        replay.add(**transition(4))
    assert_holds(Replay.open(tmp_path / "r"), [0, 1, 2, 3])


def test_a_header_nested_without_end_is_one_line(tmp_path):
    (tmp_path / "header.json").write_text("[" * 5000)
    with pytest.raises(ReplayError, match=r"header\.json: unreadable"):
        Replay.open(tmp_path)
