"""What a run has kept, by its files' bytes alone: log, index of labels, replay. Shares no code with the product.

The log is read by tests/logwitness.py, which was written from the description of its bytes and believes nothing.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # its tests hold the witness

from tests import logwitness

TRANSITION, LABEL, SESSION = 1, 2, 7  # kinds of records
UNBOUND = ("undo", "mark", "note")  # kinds of labels that are about no step
SAYS = ("press", "value", "tick", "kind", "life", "episode", "step", "first", "text", "undoes", "version")  # a label


def step(m: dict[str, Any]) -> list[Any]:
    """Of a transition what tells it from any other: its place, its reward and end, and a check sum of its arrays."""
    arrays = zlib.crc32(m["next_observation"], zlib.crc32(m["action"], zlib.crc32(m["observation"])))
    return [m["episode"], m["step"], m["tick"], m["reward"], m["terminated"], m["truncated"], arrays]


def said(m: dict[str, Any]) -> list[Any]:
    """Of a label all that it says."""
    return [list(m[name]) if name == "undoes" else m[name] for name in SAYS]


def log(directory: Path) -> dict[str, Any] | None:
    """Records, each [sequence, kind, source, boot, number, what it says of the first two kinds]; None where there is no log.

    `unsealed`: segments, but for the last, that are not as they were sealed; `damaged`: files that the product itself found so.
    """
    if not directory.is_dir():
        return None
    paths = sorted(directory.glob("*.log"))
    segments = [logwitness.segment(path.read_bytes()) for path in paths]
    return {
        "records": [[*record[:5], _says(record)] for found, _ in segments for record in found],
        "unsealed": [path.name for path, (_, sealed) in zip(paths[:-1], segments, strict=False) if not sealed],
        "damaged": sorted(path.name for path in directory.glob("*.damaged")),
    }


def _says(record: logwitness.Seen) -> Any:
    if record.kind == TRANSITION:
        return step(msgspec.msgpack.decode(record.payload))
    if record.kind == LABEL:
        return said(msgspec.msgpack.decode(record.payload))
    if record.kind == SESSION:
        return msgspec.msgpack.decode(record.payload).get("event")
    return None


def index(path: Path) -> list[list[Any]]:
    """Of each line of a run's index of labels: the label's place in the log, its giver, its number, what it says."""
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []  # a last one that was cut off counts for nobody
    found = [json.loads(line) for line in lines]
    return [[one["order"], one["label"]["giver"], one["label"]["number"], said(one["label"])] for one in found]


def replay(directory: Path) -> dict[str, Any] | None:
    """Counters of a replay, and (episode, step) of its rows; None where there is none."""
    try:
        count, durable = (int(np.fromfile(directory / f"{name}.i64", "<i8", 1)[0]) for name in ("count", "durable"))
        episode, number = (np.fromfile(directory / f"{name}.i64", "<i8", count).tolist() for name in ("episode", "step"))
    except (OSError, IndexError):
        return None
    return {"count": count, "durable": durable, "rows": list(zip(episode, number, strict=True))}
