"""Checkpoints of a run: each a directory that is there whole or not at all, with the SHA-256 of every file in it.

    checkpoint/000012000-000010000/      made after so many transitions and updates
        agent.safetensors  manifest.json

`save` keeps the newest KEEP and the best; `newest` gives the last one whose hashes hold. There is no pointer to the latest that
could be wrong: the names are in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robotrl.complaint import Complaint

SCHEMA = 1
KEEP = 3
EVERY = 2000  # updates, on the wall clock: 40 s of robot time at one update a step are the most that a kill costs
FOLDER, MANIFEST, DAMAGED = "checkpoint", "manifest.json", ".damaged"


class CheckpointError(Complaint):
    """Which checkpoint cannot be gone on from, why, and what to do; one line."""


@dataclass(frozen=True)
class Checkpoint:
    """One whose hashes hold. `about` is what `save` was given, `passed` a line for each newer one that is damaged."""

    path: Path
    transitions: int
    updates: int
    about: dict[str, Any]
    passed: tuple[str, ...] = field(default=())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


def save(
    run: Path, transitions: int, updates: int, files: Mapping[str, bytes], about: Mapping[str, Any], folder: str = FOLDER,
    keep: int = KEEP,
) -> Path:  # fmt: skip
    """Keep `files` and `about` (ready for JSON; `score`, if there, says which is best) on the disk; returns where.

    Returned from, it survives a power cut; interrupted, nothing of it is seen. OSError from a disk that refuses.
    """
    parent = run / folder
    parent.mkdir(exist_ok=True)
    target = parent / f"{transitions:09d}-{updates:09d}"
    if target.exists():
        if isinstance(_verified(target), dict):
            return target  # the same moment was kept before
        os.rename(target, _free(target.with_name(target.name + DAMAGED)))
    aside = parent / f".{target.name}.{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {"schema": SCHEMA, "transitions": transitions, "updates": updates, "files": hashes, "about": dict(about)}
    manifest["sha256"] = _digest(manifest)
    try:
        for name, data in {**files, MANIFEST: (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()}.items():
            with open(aside / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(aside)
        os.rename(aside, target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)  # a full disk needs the room
        raise
    _sync(parent)
    _sync(run)  # the folder itself may be new
    _forget(parent, keep, target)
    return target


def newest(run: Path, folder: str = FOLDER) -> Checkpoint | None:
    """The last checkpoint whose hashes hold; None when none was ever made. CheckpointError when all are damaged."""
    passed: list[str] = []
    for path in reversed(_all(run / folder)):
        found = _verified(path)
        if isinstance(found, dict):
            return Checkpoint(path, found["transitions"], found["updates"], found["about"], tuple(passed))
        passed.append(f"{path}: {found}; passed over")
    if passed:
        raise CheckpointError(f"{run / folder}: none of {len(passed)} is whole ({passed[0]}); restore one from a copy")
    return None


def whole(run: Path, folder: str = FOLDER) -> Iterator[Checkpoint]:
    """All whose hashes hold, the newest first."""
    for path in reversed(_all(run / folder)):
        if isinstance(found := _verified(path), dict):
            yield Checkpoint(path, found["transitions"], found["updates"], found["about"])


def _all(parent: Path) -> list[Path]:
    """In order of their age, oldest first."""
    return sorted(p for p in parent.glob("[0-9]*-[0-9]*") if DAMAGED not in p.name) if parent.is_dir() else []


def _verified(path: Path) -> dict[str, Any] | str:
    """Its manifest when every file is as it was written, else what is wrong."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        if manifest["schema"] != SCHEMA:
            return f"schema {manifest['schema']!r}, this is robotrl of schema {SCHEMA}"
        if manifest["sha256"] != _digest(manifest):
            return f"{MANIFEST} is damaged"
        for name, digest in manifest["files"].items():
            if hashlib.sha256((path / name).read_bytes()).hexdigest() != digest:
                return f"{name} is damaged"
        return dict(manifest)
    except OSError as error:
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{MANIFEST} is damaged: {error!r}"


def _digest(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says but this."""
    said = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _forget(parent: Path, keep: int, made: Path) -> None:
    """Remove what is older than the newest `keep` that are whole, but for what was just `made`, and for the best of those whose
    manifest is whole: no damaged score may be the best.

    What a newer robotrl has made is not ours to remove, nor counted.
    """
    paths = _all(parent)
    scores: dict[Path, float] = {}
    for path in list(paths):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            if type(manifest["schema"]) is int and manifest["schema"] > SCHEMA:
                paths.remove(path)
            elif manifest["sha256"] == _digest(manifest):
                scores[path] = float(manifest["about"]["score"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    best = max(scores, key=lambda path: scores[path], default=None)
    for path in reversed(paths):
        if keep > 0:
            keep -= path == made or isinstance(_verified(path), dict)
        elif path not in (best, made):
            shutil.rmtree(path, ignore_errors=True)


def _free(path: Path) -> Path:
    """`path`, or the first of `path`.2, .3 ... that is not taken."""
    taken = 1
    free = path
    while free.exists():
        taken += 1
        free = path.with_name(f"{path.name}.{taken}")
    return free


def _sync(directory: Path) -> None:
    """The names in a directory onto the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
