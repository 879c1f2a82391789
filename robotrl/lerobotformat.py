"""LeRobotDataset v3 on the disk, written from episodes of numbers; `lerobotread.py` reads it. It knows neither runs nor a replay.

    data/chunk-000/file-000.parquet           a row a frame; episodes one after the other, a file of about 100 MB
    meta/info.json  meta/stats.json           fps, features and sizes; min, max, mean, std, count and quantiles of each feature
    meta/tasks.parquet                        what the robot was to do
    meta/episodes/chunk-000/file-000.parquet  a row an episode: where its frames are, the same statistics of it alone
    videos/NAME/chunk-000/file-000.mp4        what a camera saw, of a run that had one (`lerobotvideo.py`)
    meta/robotrl.json                         ours alone: what it was made of, and the SHA-256 of every other file

The layout is that of the `lerobot` package, versions 0.4 to 0.6 (`lerobot/datasets` there, codebase_version v3.0). A frame holds
no next observation, the next frame has it; that of an episode's last frame is in a column that is ours, `LAST`, of meta/episodes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robotrl.complaint import Complaint
from robotrl.lerobotvideo import FILE_MB as VIDEO_MB
from robotrl.lerobotvideo import SAMPLES, VIDEOS, Images, VideoWriter, sampled

VERSION = "v3.0"
FORMAT = 1  # of meta/robotrl.json
FILE_MB, FILES_A_CHUNK = 100, 1000  # the package's own sizes
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
LAST = "robotrl/last_next_observation"
QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
# What every dataset has beside its own features, (n,) each
INDICES = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
COPY = "restore it from a copy"


class DatasetError(Complaint):
    """What is wrong with a dataset, where, and what to do; one line."""


@dataclass(frozen=True)
class Feature:
    """A column: `shape` of one frame's value, (k,); `names` of its k numbers, or none."""

    dtype: str  # "float32", "int64", "bool"; "video": of shape (height, width, channels), and in no column
    shape: tuple[int, ...] = (1,)
    names: tuple[str, ...] | None = None

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"dtype": self.dtype, "shape": list(self.shape), "names": None if self.names is None else list(self.names)}


class Writer:
    """A dataset that is being written into a directory of its own; whole, and on the disk, once `close` has returned."""

    def __init__(self, root: Path, fps: float, robot: str, features: Mapping[str, Feature]) -> None:
        """`features`: all but `INDICES`. OSError from any call when the disk refuses."""
        self.root, self.fps, self.robot = root, fps, robot
        self.features = {**features, **{name: Feature(dtype) for name, dtype in INDICES.items()}}
        self.frames = 0
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._stats: list[dict[str, dict[str, NDArray[Any]]]] = []
        self._file, self._bytes, self._open = -1, 0, None
        self._columns = {name: f for name, f in self.features.items() if f.dtype != "video"}
        self._schema = pa.schema([(name, _arrow_type(feature)) for name, feature in self._columns.items()])
        self._videos = {
            name: VideoWriter(root, name, fps, (f.shape[0], f.shape[1], f.shape[2]))
            for name, f in self.features.items() if f.dtype == "video"
        }  # fmt: skip

    @property
    def episodes(self) -> int:
        return len(self._episodes)

    def add(
        self, task: str, columns: Mapping[str, NDArray[Any]], last: NDArray[np.float32], seen: Mapping[str, Images] | None = None
    ) -> None:
        """One episode: `columns` (n,) or (n, k) by feature, and the next observation of its last frame, (k,).

        `seen`: by video, (n + 1, height, width, channels): the last is the next image of the last frame.
        """
        videos = {name: seen[name] for name in self._videos} if seen else {}
        assert videos.keys() == self._videos.keys(), (list(videos), list(self._videos))
        n = len(next(iter(columns.values())))
        frame = np.arange(n)
        mine = {
            "timestamp": (frame / self.fps).astype(np.float32), "frame_index": frame, "episode_index": np.full(n, self.episodes),
            "index": self.frames + frame, "task_index": np.full(n, self._tasks.setdefault(task, len(self._tasks))),
        }  # fmt: skip
        arrays = {name: np.asarray({**columns, **mine}[name], f.dtype) for name, f in self._columns.items()}
        table = pa.table([_arrow(arrays[name], f) for name, f in self._columns.items()], schema=self._schema)
        if self._open is None or self._bytes + table.nbytes > FILE_MB * 2**20:
            self._next_file()
        assert self._open is not None
        self._open.write_table(table)
        self._bytes += table.nbytes
        stats = {name: statistics(value.reshape(n, -1)) for name, value in arrays.items()}
        where: dict[str, Any] = {}
        for name, images in videos.items():
            stats[name] = statistics(sampled(images[:n])) | {"count": np.array([min(n, SAMPLES)])}
            where |= self._videos[name].add(images[:n], images[n:])
        self._stats.append(stats)
        self._episodes.append({
            "episode_index": self.episodes, "tasks": [task], "length": n,
            "data/chunk_index": self._file // FILES_A_CHUNK, "data/file_index": self._file % FILES_A_CHUNK,
            "dataset_from_index": self.frames, "dataset_to_index": self.frames + n,
            "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
            **{f"stats/{name}/{what}": self._told(name, what, value) for name, of in stats.items() for what, value in of.items()},
            **where,
            LAST: np.asarray(last, np.float32).tolist(),
        })  # fmt: skip
        self.frames += n

    def _told(self, name: str, what: str, value: NDArray[Any]) -> Any:
        """A statistic as the files have it: that of a video is (3, 1, 1), a pixel's of each colour."""
        return value.reshape(-1, 1, 1).tolist() if name in self._videos and what != "count" else value.tolist()

    def _next_file(self) -> None:
        if self._open is not None:
            self._open.close()
        self._file, self._bytes = self._file + 1, 0
        path = self.root / DATA.format(chunk_index=self._file // FILES_A_CHUNK, file_index=self._file % FILES_A_CHUNK)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open = pq.ParquetWriter(path, self._schema, compression="snappy", write_page_checksum=True)

    def close(self, about: Mapping[str, Any]) -> None:
        """All that is not frames, and everything onto the disk; `about`, ready for JSON, goes into meta/robotrl.json."""
        if self._open is not None:
            self._open.close()
        for video in self._videos.values():
            video.close()
        (self.root / EPISODES).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), self.root / EPISODES, write_page_checksum=True)
        pq.write_table(_tasks(self._tasks), self.root / "meta/tasks.parquet", write_page_checksum=True)
        stats = {name: {what: self._told(name, what, value) for what, value in combined([s[name] for s in self._stats]).items()}
                 for name in self.features}  # fmt: skip
        described = {name: feature.plain() for name, feature in self.features.items()}
        for name, video in self._videos.items():
            described[name] |= {"shape": [*video.shape[:2], 3], "info": video.about()}
        _write_json(self.root / "meta/stats.json", stats)
        _write_json(self.root / "meta/info.json", {
            "codebase_version": VERSION, "robot_type": self.robot, "total_episodes": self.episodes, "total_frames": self.frames,
            "total_tasks": len(self._tasks), "chunks_size": FILES_A_CHUNK, "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": VIDEO_MB, "fps": int(self.fps) if float(self.fps).is_integer() else self.fps,
            "splits": {"train": f"0:{self.episodes}"}, "data_path": DATA, "video_path": VIDEOS if self._videos else None,
            "features": described,
        })  # fmt: skip
        sha256 = {str(path.relative_to(self.root)): digest(path) for path in files(self.root)}
        _write_json(self.root / "meta/robotrl.json", {"format": FORMAT, **about, "sha256": sha256})
        for path in (
            *files(self.root),
            self.root / "meta/robotrl.json",
            *(p for p in self.root.rglob("*") if p.is_dir()),
            self.root,
        ):
            _sync(path)


def statistics(value: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Of one episode's (n, k) numbers: (k,) each, and `count` (1,)."""
    value = value.astype(np.float64)
    quantiles = np.quantile(value, QUANTILES, axis=0)
    basic = {
        "min": value.min(0),
        "max": value.max(0),
        "mean": value.mean(0),
        "std": value.std(0),
        "count": np.array([len(value)]),
    }
    return basic | {f"q{round(100 * q):02d}": row for q, row in zip(QUANTILES, quantiles, strict=True)}


def combined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Of all episodes together; quantiles are the episodes' means by their lengths, as the lerobot package makes them."""
    count = np.stack([part["count"] for part in parts])
    total = count.sum(0)
    mean = (count * np.stack([part["mean"] for part in parts])).sum(0) / total
    second = (count * np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])).sum(0) / total
    out = {
        "min": np.min([part["min"] for part in parts], axis=0), "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean, "std": np.sqrt(second), "count": total,
    }  # fmt: skip
    return out | {q: (count * np.stack([p[q] for p in parts])).sum(0) / total for q in parts[0] if q.startswith("q")}


def _arrow_type(feature: Feature) -> Any:
    kind = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}[feature.dtype]
    return kind if feature.shape == (1,) else pa.list_(kind, feature.shape[0])


def _arrow(value: NDArray[Any], feature: Feature) -> Any:
    flat = pa.array(value.reshape(-1))
    return flat if feature.shape == (1,) else pa.FixedSizeListArray.from_arrays(flat, feature.shape[0])


def _tasks(tasks: Mapping[str, int]) -> Any:
    """Their numbers, indexed by the task's words: pandas, which the lerobot package reads this by, wants to be told so."""

    def column(name: str, kind: str, numpy: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}

    said = {"index_columns": ["task"], "column_indexes": [], "pandas_version": "2.0.0",
            "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")]}  # fmt: skip
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(said)})


def files(root: Path) -> list[Path]:
    """All files that are read of a dataset, but the one that has their check sums."""
    kinds = (".parquet", ".json", ".mp4")
    return sorted(p for p in root.rglob("*") if p.suffix in kinds and p.is_file() and p != root / "meta/robotrl.json")


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
