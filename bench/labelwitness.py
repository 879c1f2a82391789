"""Whether each label of a run is bound to its own step or refused: from the records of its log, by code of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

TRANSITION, LABEL = 1, 2  # kinds of records


def judged(seen: list[Any], directory: Path) -> dict[str, int]:
    """`seen`: the records as tests/logwitness.py reads them. Labels that count, and those that count though no step of theirs is
    in the log, or do not though it is; those that count twice.
    """
    steps, wanted = set(), set()
    for record in seen:
        if record.kind == TRANSITION:
            t = msgspec.msgpack.decode(record.payload)
            steps.add((record.boot, t["episode"], t["step"], t["tick"]))
    for record in seen:
        if record.kind == LABEL:
            label = msgspec.msgpack.decode(record.payload)
            if (label["life"], label["episode"], label["step"], label["tick"]) in steps:
                wanted.add((label["giver"], label["number"]))
    lines = [json.loads(line)["label"] for line in (directory / "labels.jsonl").read_text().splitlines()]
    found = [(label["giver"], label["number"]) for label in lines]
    return {
        "labels_bound": len(found),
        "labels_moved": len(set(found) ^ wanted),
        "labels_twice": len(found) - len(set(found)),
    }
