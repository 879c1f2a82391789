"""Fuzzing of every parser of foreign bytes: wires, bus messages, files; seeded grammar and mutation (tests/fuzz/engine.py).

Prints a row a target and keeps machine, commit, seed and counts. A broken property ends its target: the input's number and the
least bytes that break it are printed, and the exit code is 1. Again: --target NAME --seed S --first NUMBER --inputs 1.
Run: python bench/fuzz.py [--inputs N] [--target NAME ...] [--seed S] [--seconds T] [--out FILE]   (10 minutes a wire)
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from robotrl import rundir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # its tests hold the targets

from tests.fuzz import codecs, configs, ends, files, network, sensors, servos, wires  # noqa: E402
from tests.fuzz.engine import BLOCK, HELD_MAX, Outcome, campaign  # noqa: E402

NETS = (*ends.TARGETS, *network.TARGETS)
WIRES = {target.name: target for target in (*wires.TARGETS, *sensors.TARGETS, *NETS, *servos.TARGETS, *codecs.TARGETS)}
FILES = {target.name: target for target in (*configs.TARGETS, *files.TARGETS)}
INPUTS = 10_000_000  # of each wire
FILE_INPUTS = 2_000_000  # of each file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, help=f"of each target; else {INPUTS:,} of a wire, {FILE_INPUTS:,} of a file")
    parser.add_argument("--target", action="append", choices=[*WIRES, *FILES], help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end each target after so long, whatever it has done")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("target | inputs | MB | inputs/s of processor time | most bytes kept | finds")
    for name, target in (WIRES | FILES).items():
        if args.target and name not in args.target:
            continue
        wanted = args.inputs or (INPUTS if name in WIRES else FILE_INPUTS)
        cpu, wall = time.process_time(), time.perf_counter()
        outcome = _run(target, wanted, args.seed, args.first, args.seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        row = {"target": name, "wanted": wanted, "inputs": outcome.inputs, "bytes": outcome.bytes, "cpu_s": cpu, "wall_s": wall}
        rows.append(row | {"most_bytes_kept": outcome.held, "find": str(outcome.find) if outcome.find else None})
        rate, size = outcome.inputs / max(cpu, 1e-9), outcome.bytes / 1e6
        print(
            f"\r{name} | {outcome.inputs:,} | {size:.1f} | {rate:,.0f} | {outcome.held:,} | {1 if outcome.find else 0}",
            flush=True,
        )
        if outcome.find:
            print(outcome.find, flush=True)
    if args.out is not None:
        kept = {**rundir.provenance(), "seed": args.seed, "first": args.first, "kept_bytes_allowed": HELD_MAX, "rows": rows}
        rundir.write_json(args.out, kept)
    return 1 if any(row["find"] for row in rows) else 0


def _run(target: Any, wanted: int, seed: int, first: int, seconds: float) -> Outcome:
    """A campaign, in parts where there is a limit of time: one part's parser begins anew."""
    began, done, size, held = time.perf_counter(), 0, 0, 0
    part = wanted if seconds == float("inf") else 10 * BLOCK if target.name in WIRES else BLOCK // 10
    while True:
        outcome = campaign(target, min(part, wanted - done), seed, _told(target.name, done, wanted), first + done)
        done, size, held = done + outcome.inputs, size + outcome.bytes, max(held, outcome.held)
        if outcome.find or done >= wanted or time.perf_counter() - began >= seconds:
            return Outcome(done, size, time.perf_counter() - began, held, outcome.find)


def _told(name: str, before: int, wanted: int) -> Any:
    def told(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{name} {before + done:,} of {wanted:,}", end="", file=sys.stderr, flush=True)

    return told


if __name__ == "__main__":
    sys.exit(main())
