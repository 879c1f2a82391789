"""Fuzzing of every parser of foreign bytes: wires, bus messages, files; seeded grammar and mutation (tests/fuzz/engine.py).

Prints a row a target and keeps machine, commit, seed and counts. A broken property ends its target: the input's number and the
least bytes that break it are printed, and the exit code is 1. Again: --target NAME --seed S --first NUMBER --inputs 1.
Hours of work: with --out it is kept after each part, and the same command goes on from what the file holds (of its seed); each
row names the commits that played it.
Run: python bench/fuzz.py [--inputs N] [--target NAME ...] [--seed S] [--seconds T] [--jobs N] [--out FILE]   (12 minutes a wire)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from robotrl import rundir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # its tests hold the targets

from tests.fuzz import codecs, configs, ends, files, network, sensors, servos, wires  # noqa: E402
from tests.fuzz.engine import HELD_MAX, Outcome, campaign  # noqa: E402

NETS = (*ends.TARGETS, *network.TARGETS)
WIRES = {target.name: target for target in (*wires.TARGETS, *sensors.TARGETS, *NETS, *servos.TARGETS, *codecs.TARGETS)}
FILES = {target.name: target for target in (*configs.TARGETS, *files.TARGETS)}
INPUTS = 10_000_000  # of each wire
FILE_INPUTS = 2_000_000  # of each file
WIRE_PART, FILE_PART = 100_000, 10_000  # inputs played in one go, by a parser that begins anew

Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, help=f"of each target; else {INPUTS:,} of a wire, {FILE_INPUTS:,} of a file")
    parser.add_argument("--target", action="append", choices=[*WIRES, *FILES], help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of processor time, and a target ends where it is")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="keep the result there, with machine and commit, and go on from what it holds")
    args = parser.parse_args()
    kept = {**rundir.provenance(), "seed": args.seed, "first": args.first, "kept_bytes_allowed": HELD_MAX}
    rows = _before(args.out, args.seed, args.first)
    for name in args.target or WIRES | FILES:
        wanted = args.inputs or (INPUTS if name in WIRES else FILE_INPUTS)
        rows[name] = rows.get(name, _empty(name)) | {"wanted": wanted}
    print("target | inputs | MB | inputs/s of processor time | most bytes kept | finds")
    with ProcessPoolExecutor(args.jobs) as pool:
        playing: dict[Future[tuple[Outcome, float]], str] = {}
        while True:
            left = (name for name in args.target or WIRES | FILES if not _ended(rows[name], args.seconds))
            for name in [name for name in left if name not in playing.values()][: args.jobs - len(playing)]:
                first, inputs = args.first + rows[name]["inputs"], rows[name]["wanted"] - rows[name]["inputs"]
                part = min(inputs, WIRE_PART if name in WIRES else FILE_PART)
                playing[pool.submit(_play, name, first, part, args.seed)] = name
            if not playing:
                break
            for future in wait(playing, return_when=FIRST_COMPLETED).done:
                row = rows[playing.pop(future)]
                _count(row, *future.result(), kept["commit"])
                _show(row, last=_ended(row, args.seconds))
                if args.out is not None:
                    rundir.write_json(args.out, kept | {"rows": list(rows.values())})
    return 1 if any(row["find"] for row in rows.values()) else 0


def _play(name: str, first: int, inputs: int, seed: int) -> tuple[Outcome, float]:
    """In a process of its own: what came of it, and the processor time in s."""
    began = time.process_time()
    return campaign((WIRES | FILES)[name], inputs, seed, first=first), time.process_time() - began


def _before(out: Path | None, seed: int, first: int) -> dict[str, Row]:
    if out is None or not out.is_file():
        return {}
    kept = json.loads(out.read_text())
    return {row["target"]: row for row in kept["rows"] if (kept["seed"], kept["first"]) == (seed, first) and "commits" in row}


def _empty(name: str) -> Row:
    return {"target": name, "wanted": 0, "inputs": 0, "bytes": 0, "cpu_s": 0.0, "most_bytes_kept": 0, "find": None, "commits": []}


def _count(row: Row, outcome: Outcome, cpu: float, commit: str) -> None:
    row["inputs"] += outcome.inputs
    row["bytes"] += outcome.bytes
    row["cpu_s"] += cpu
    row["most_bytes_kept"] = max(row["most_bytes_kept"], outcome.held)
    row["find"] = row["find"] or (str(outcome.find) if outcome.find else None)
    if commit not in row["commits"]:
        row["commits"].append(commit)


def _ended(row: Row, seconds: float) -> bool:
    return bool(row["find"]) or row["inputs"] >= row["wanted"] or row["cpu_s"] >= seconds


def _show(row: Row, last: bool) -> None:
    if not last:
        if sys.stderr.isatty():
            print(f"\r{row['target']} {row['inputs']:,} of {row['wanted']:,}", end="", file=sys.stderr, flush=True)
        return
    rate, size, finds = row["inputs"] / max(row["cpu_s"], 1e-9), row["bytes"] / 1e6, 1 if row["find"] else 0
    print(f"\r{row['target']} | {row['inputs']:,} | {size:.1f} | {rate:,.0f} | {row['most_bytes_kept']:,} | {finds}", flush=True)
    if row["find"]:
        print(row["find"], flush=True)


if __name__ == "__main__":
    sys.exit(main())
