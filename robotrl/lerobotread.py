"""A LeRobotDataset v3 read back, this project's own or anybody's: what its meta files say, and the frames, an episode at a time.

    dataset = Dataset(directory)
    for columns in dataset.episodes(["observation.state", "action"]): ...

Nothing of it is believed that another part contradicts: episodes must follow each other, and frames be numbered 0, 1, 2, ... in
each. One that was exported here also carries the SHA-256 of every file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robotrl.lerobotformat import COPY, FORMAT, LAST, VERSION, DatasetError, digest, files
from robotrl.lerobotvideo import VIDEOS, VideoReader


class Dataset:
    """A dataset to read. `info` as in meta/info.json; `ours` what meta/robotrl.json says, None for anybody else's dataset."""

    def __init__(self, root: Path) -> None:
        """DatasetError for a directory that is none, of another version, or damaged as far as its meta files tell."""
        self.root = root
        self.info = _read_json(root / "meta/info.json", f"{root}: no LeRobotDataset (no meta/info.json); name its own directory")
        version = str(self.info.get("codebase_version"))
        if version != VERSION:
            old = version.startswith(("v1.", "v2."))
            cure = "convert it with the lerobot package first" if old else "it needs a newer robotrl, or an export as v3.0"
            raise DatasetError(f"{root}: LeRobotDataset of version {version}, this is robotrl for {VERSION}; {cure}")
        self.ours = self._ours() if (root / "meta/robotrl.json").exists() else None
        self.features: dict[str, dict[str, Any]] = self.info.get("features", {})
        well = isinstance(self.features, dict) and all(isinstance(f, dict) and "shape" in f for f in self.features.values())
        if not well or not isinstance(self.info.get("fps"), int | float):
            raise DatasetError(f"{root}/meta/info.json: says no features or no fps; {COPY}")
        self.rows = rows = self._rows()
        self.lengths = self._lengths(rows)
        self.last = [row.get(LAST) for row in rows]

    def _ours(self) -> dict[str, Any]:
        """What the writer above has said; DatasetError where a file is not as it was written."""
        path = self.root / "meta/robotrl.json"
        ours = _read_json(path, "")
        if ours.get("format") != FORMAT:
            raise DatasetError(f"{path}: of format {ours.get('format')}, this is robotrl for format {FORMAT}; use a newer one")
        sums = ours.get("sha256")
        if not isinstance(sums, dict) or sums != {str(p.relative_to(self.root)): digest(p) for p in files(self.root)}:
            raise DatasetError(f"{self.root}: not as it was exported; {COPY}, or remove {path} to take it as anybody's dataset")
        return ours

    def _rows(self) -> list[dict[str, Any]]:
        """Of meta/episodes, less the statistics."""
        rows: list[dict[str, Any]] = []
        for path in sorted((self.root / "meta/episodes").glob("*/*.parquet")):
            wanted = {"episode_index", "dataset_from_index", "dataset_to_index", "tasks", LAST}
            videos = {name for name in _names(path) if name.startswith("videos/")}
            rows += _table(path, sorted(wanted & set(_names(path)) | videos)).to_pylist()
        return rows

    def _lengths(self, rows: list[dict[str, Any]]) -> list[int]:
        """Frames of each episode; DatasetError where meta/episodes and meta/info.json disagree."""
        try:
            told = [(row["episode_index"], row["dataset_from_index"], row["dataset_to_index"]) for row in rows]
            ends = [0, *(end for _, _, end in told)]
            lengths = [b - a for a, b in pairwise(ends)]
            if told != [(i, ends[i], ends[i + 1]) for i in range(len(told))] or not all(n > 0 for n in lengths):
                raise ValueError("episodes do not follow each other")
            total = (self.info.get("total_episodes"), self.info.get("total_frames"))
            if total != (len(rows), ends[-1]):
                raise ValueError(f"{len(rows)} episodes, {ends[-1]} frames; meta/info.json says {total}")
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{self.root}/meta/episodes: damaged: {error}; {COPY}") from None
        return lengths

    def episodes(self, names: list[str]) -> Iterator[dict[str, NDArray[Any]]]:
        """Each episode's columns `names`, (n,) or (n, k), in order. DatasetError where the frames are not as meta says."""
        wanted, episode, frame, parts = [*names, "episode_index", "frame_index"], 0, 0, dict[str, list[NDArray[Any]]]()
        for path in sorted((self.root / "data").glob("*/*.parquet")):
            table = _table(path, wanted)
            columns = {name: _array(table[name], path, name) for name in wanted}
            at = 0
            while at < table.num_rows:
                if episode == len(self.lengths):
                    raise DatasetError(f"{path}: more frames than meta/episodes tells of; {COPY}")
                take = min(self.lengths[episode] - frame, table.num_rows - at)
                piece = {name: column[at : at + take] for name, column in columns.items()}
                right = (piece["episode_index"] == episode).all() and (
                    piece["frame_index"] == np.arange(frame, frame + take)
                ).all()
                if not right:
                    raise DatasetError(f"{path}: the frames of episode {episode} are not numbered 0, 1, 2, ...; {COPY}")
                for name in names:
                    parts.setdefault(name, []).append(piece[name])
                at, frame = at + take, frame + take
                if frame == self.lengths[episode]:
                    yield {name: np.concatenate(pieces) for name, pieces in parts.items()}
                    episode, frame, parts = episode + 1, 0, {}
        if episode < len(self.lengths):
            raise DatasetError(f"{self.root}/data: episode {episode} is not whole, {len(self.lengths)} are told of; {COPY}")

    def video(self, name: str) -> VideoReader:
        """What the camera `name` saw, an episode at a time."""
        return VideoReader(self.root, name, str(self.info.get("video_path") or VIDEOS), float(self.info["fps"]))


def _names(path: Path) -> list[str]:
    """Of the columns in a file."""
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _table(path: Path, columns: list[str]) -> Any:
    if missing := sorted(set(columns) - set(_names(path))):
        raise DatasetError(f"{path}: has no column {missing[0]}; {COPY}")
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path}: cannot be read: {' '.join(str(error).split())}; {COPY}")


def _array(column: Any, path: Path, name: str) -> NDArray[Any]:
    """(n,) or (n, k) of a column of numbers or of lists of numbers, all equally long."""
    column, n = column.combine_chunks(), len(column)
    try:
        gaps, width = column.null_count, 0
        if not pa.types.is_primitive(column.type):
            lengths = set(column.value_lengths().to_pylist())
            column = column.flatten()
            width = lengths.pop() if len(lengths) == 1 else -1
        flat = column.to_numpy(zero_copy_only=False)
        if gaps or column.null_count or width < 0 or flat.dtype.kind not in "biuf":
            raise ValueError("gaps, lists of unequal lengths, or no numbers")
        return np.asarray(flat.reshape(n, width) if width else flat)
    except (pa.ArrowException, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: {name} is no column of numbers: {error}; {COPY}") from None


def _read_json(path: Path, none: str) -> dict[str, Any]:
    """The object in a file; `none` is the complaint when there is no such file."""
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        raise DatasetError(none) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; {COPY}") from None
    return value
