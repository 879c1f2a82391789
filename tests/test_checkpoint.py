"""A checkpoint is whole or not there; the last whole one is found, whatever happened to newer ones."""

from __future__ import annotations

import json
import os

import pytest

from robotrl import checkpoint
from robotrl.checkpoint import CheckpointError, newest, save

FILES = {"agent.safetensors": bytes(range(200))}


def names(run):
    return sorted(p.name for p in (run / "checkpoint").iterdir())


def test_what_was_kept_comes_back_and_the_newest_three_stay_with_the_best(tmp_path):
    assert newest(tmp_path) is None
    for count, score in ((100, 0.1), (200, 0.9), (300, 0.2), (400, 0.3), (500, 0.1)):
        save(tmp_path, count, count // 2, {"agent.safetensors": str(count).encode()}, {"score": score, "noise": [count]})
    kept = newest(tmp_path)
    assert (kept.transitions, kept.updates, kept.about["noise"], kept.passed) == (500, 250, [500], ())
    assert kept.read("agent.safetensors") == b"500"
    assert names(tmp_path) == ["000000200-000000100", "000000300-000000150", "000000400-000000200", "000000500-000000250"]


def test_any_byte_that_changed_and_any_file_cut_short_is_found_and_the_one_before_is_taken(tmp_path):
    """All truncations, and one flipped bit in every byte, of both files of the newest."""
    save(tmp_path, 1, 1, FILES, {})
    last = save(tmp_path, 2, 2, FILES, {})
    for path in last.iterdir():
        whole = path.read_bytes()
        for i in range(len(whole)):
            for damaged in (whole[:i], whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]):
                path.write_bytes(damaged)
                kept = newest(tmp_path)
                if kept.transitions == 2:  # a space that is another space, or none: what it says is the same
                    assert json.loads(damaged) == json.loads(whole)
                    continue
                (said,) = kept.passed
                assert kept.transitions == 1 and said.startswith(f"{last}: ") and said.endswith("; passed over")
        path.write_bytes(whole)
    assert newest(tmp_path).transitions == 2


def test_all_damaged_refuses_and_changes_nothing(tmp_path):
    path = save(tmp_path, 1, 1, FILES, {}) / "agent.safetensors"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of 1 is whole \(.*agent.safetensors is damaged.*restore one from a copy"):
        newest(tmp_path)
    assert path.read_bytes() == b""
    (path.parent / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        newest(tmp_path)


def test_one_of_a_newer_robotrl_is_passed_over_and_named(tmp_path):
    save(tmp_path, 1, 1, FILES, {})
    manifest = save(tmp_path, 2, 2, FILES, {}) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 2}))
    assert newest(tmp_path).transitions == 1 and "schema 2" in newest(tmp_path).passed[0]


def test_the_same_moment_again_is_not_written_twice_but_a_damaged_one_is_put_aside(tmp_path):
    path = save(tmp_path, 1, 1, FILES, {})
    before = (path / "manifest.json").stat().st_ino
    assert save(tmp_path, 1, 1, FILES, {}) == path and (path / "manifest.json").stat().st_ino == before
    (path / "agent.safetensors").write_bytes(b"")
    save(tmp_path, 1, 1, FILES, {})
    assert newest(tmp_path).read("agent.safetensors") == FILES["agent.safetensors"]
    assert names(tmp_path) == ["000000001-000000001", "000000001-000000001.damaged"]


def test_damaged_ones_do_not_take_the_place_of_whole_ones(tmp_path):
    """Three newer ones had rotted: what was learnt since from the last whole one was saved, and removed in the same moment."""
    for n in (26, 28, 30, 32, 34):
        save(tmp_path, n, n, FILES, {"score": 1.0})
    for n in (30, 32, 34):
        (tmp_path / "checkpoint" / f"{n:09d}-{n:09d}" / "agent.safetensors").write_bytes(b"rot")
    assert newest(tmp_path).transitions == 26
    assert save(tmp_path, 29, 29, FILES, {"score": 0.5}).is_dir() and newest(tmp_path).transitions == 29
    for n in (31, 33):
        save(tmp_path, n, n, FILES, {"score": 0.5})
    save(tmp_path, 35, 35, FILES, {"score": 0.5})
    whole = [kept.transitions for kept in checkpoint.whole(tmp_path)]
    assert whole[:3] == [35, 33, 31] and len(whole) == 4, "the newest three and the best"
    assert names(tmp_path)[-4:] == [f"{n:09d}-{n:09d}" for n in (32, 33, 34, 35)], "damaged among them stay, older ones do not"
    save(tmp_path, 27, 27, FILES, {"score": 0.5}, keep=1)
    assert names(tmp_path) == [f"{n:09d}-{n:09d}" for n in (26, 27, 35)], "the best, and never is removed what was just saved"


class Cut(BaseException):
    """The power goes."""


def test_cut_off_at_any_call_the_one_before_or_the_new_one_is_found(tmp_path, monkeypatch):
    """At every open, fsync and rename, before it and after it."""
    real = {"fsync": os.fsync, "rename": os.rename}
    for point in range(40):
        run = tmp_path / str(point)
        run.mkdir()
        save(run, 1, 1, FILES, {})
        left = [point]

        def call(name, *arguments, left=left):
            left[0] -= 1
            if left[0] == -1:
                raise Cut
            real[name](*arguments)
            left[0] -= 1
            if left[0] == -1:
                raise Cut

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(checkpoint.os, name, lambda *arguments, name=name: call(name, *arguments))
            try:
                save(run, 2, 2, FILES, {})
            except Cut:
                assert newest(run).transitions in (1, 2)
                continue
        assert newest(run).transitions == 2 and point >= 11, "every call was met"
        return
    raise AssertionError("it never came to an end")


def test_a_damaged_score_is_not_the_best(tmp_path):
    for n in range(1, 6):
        path = save(tmp_path, n, n, {"a": b"x"}, {"score": 5.0 if n == 2 else 1.0})
        if n == 1:
            manifest = path / "manifest.json"
            manifest.write_text(manifest.read_text().replace('"score": 1.0', '"score": 1e9'))
    assert [p.name[:9] for p in sorted((tmp_path / "checkpoint").iterdir())] == [f"{n:09d}" for n in (2, 3, 4, 5)]


@pytest.mark.parametrize("text", ["[" * 5000, '{"schema": "a\\nb"}', '{"about": {"score": ' + "9" * 400 + "}}"])
def test_a_manifest_that_is_none_is_passed_over(tmp_path, text):
    save(tmp_path, 1, 1, {"a": b"x"}, {})
    (save(tmp_path, 2, 2, {"a": b"y"}, {}) / "manifest.json").write_text(text)
    save(tmp_path, 3, 3, {"a": b"z"}, {})
    (tmp_path / "checkpoint" / "000000003-000000003" / "manifest.json").write_text(text)
    found = newest(tmp_path)
    assert found.transitions == 1 and len(found.passed) == 2 and not any("\n" in line for line in found.passed)
