"""`robotrl replay check RUN_DIR`: what the replay holds, counted, verified, and held against the log.

`robotrl replay rebuild RUN_DIR` makes the replay anew from the log; the old one stays beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from robotrl import rundir, transitions
from robotrl.logformat import Kind
from robotrl.logread import LogError, free, read, sync
from robotrl.messages import Transition
from robotrl.replay import Replay, ReplayError

CORRUPT = ("doubles", "non_finite", "both_ends", "damaged")  # a gap is a step whose reward never came: told, and harmless


def check(directory: Path) -> str:
    """One line: transitions, episodes, and whether any is missing, doubled or not finite."""
    return told(counted(directory))


def counted(directory: Path) -> dict[str, int]:
    """The counts of `Replay.check` for a run directory; ReplayError when there is no replay to read."""
    replay = Replay.open(directory / "replay")
    counts = replay.check()
    replay.close()
    return counts


def told(counts: dict[str, int]) -> str:
    """The counts in one line."""
    wrong = {k: v for k, v in counts.items() if k in ("gaps", "doubles", "non_finite", "both_ends", "damaged") and v}
    verdict = "; ".join(f"{v} {k}" for k, v in wrong.items()) or "none lost, none doubled"
    return f"replay  {counts['transitions']} transitions in {counts['episodes']} episodes: {verdict}"


def logged(directory: Path, said: list[str]) -> Iterator[Transition | int]:
    """The log's transitions in order; a number n where the run went back: of those so far only the first n count."""
    if not (directory / "log").is_dir():
        raise LogError(f"{directory}: has no log; runs made before there was one cannot be rebuilt, keep the replay")
    for record in read(directory / "log", said):
        if record.kind is Kind.TRANSITION:
            yield transitions.decoded(record.payload)
        elif record.kind is Kind.CUT:
            yield int(json.loads(record.payload)["transitions"])


class Expected:
    """The check sums that a replay must have: those of `Replay.add`, from the bytes of the log."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.frames: list[int] = []
        self._ends: list[tuple[int, tuple[int, int, int] | None]] = []  # each row's next frame, and what would go on from it

    def cut(self, count: int) -> None:
        """The run went back to its first so many transitions."""
        del self.rows[count:], self._ends[count:]
        del self.frames[self._ends[-1][0] + 1 if self._ends else 0 :]

    def add(self, t: Transition) -> None:
        named = b""
        if t.cameras:
            if not t.images and (not self._ends or self._ends[-1][1] != (t.episode, t.step, t.tick)):
                return  # nobody knows its frame
            self.frames += [zlib.crc32(data) for data in (t.images, t.next_images) if data]
            named = struct.pack("<qq", len(self.frames) - 2, len(self.frames) - 1)
        row = b"".join((
            t.observation, t.action, struct.pack("<f", t.reward), t.next_observation,
            struct.pack("<BBqqqq", t.terminated, t.truncated, t.episode, t.step, t.tick, t.policy_version), named,
        ))  # fmt: skip
        self.rows.append(zlib.crc32(row))
        self._ends.append((len(self.frames) - 1, transitions.after(t)))


def compared(directory: Path, said: list[str]) -> dict[str, int]:
    """How many transitions the log has for the replay, and in how many rows, or frames, the replay differs from them."""
    expected = Expected()
    for found in logged(directory, said):
        if isinstance(found, int):
            expected.cut(found)
        else:
            expected.add(found)
    replay = Replay.open(directory / "replay")
    rows, frames = replay.columns["crc"][: replay.count].tolist(), replay.frames.sums[: replay.frame_count].tolist()
    replay.close()
    differ = sum(a != b for a, b in zip(expected.rows + expected.frames, rows + frames, strict=False))
    return {"logged": len(expected.rows), "differ": differ + abs(len(expected.rows) - len(rows))}


def rebuild(directory: Path, said: list[str]) -> int:
    """Make the replay anew from the log; the old one stays as replay.old. How many rows it has.

    RunError when the run is alive; LogError or ReplayError, and nothing changed, when there is no log to make it from.
    """
    held = rundir.hold(directory)
    try:
        aside, path = directory / "replay.new", directory / "replay"
        shutil.rmtree(aside, ignore_errors=True)  # of a rebuilding that was cut off
        replay: Replay | None = None
        for found in logged(directory, said):
            if isinstance(found, int):
                if replay is not None:
                    replay.cut(min(found, replay.count))
                continue
            if replay is None:
                sizes = len(found.observation) // 4, len(found.action) // 4
                replay = Replay.create(aside, *sizes, rundir.load(directory).agent.capacity, found.cameras)
            transitions.add(replay, found)
        if replay is None:
            raise ReplayError(f"{directory}/log: holds no transition; there is nothing to rebuild")
        rows = replay.count
        replay.close()
        sync(aside)
        if path.exists():
            os.rename(path, free(directory / "replay.old"))
        os.rename(aside, path)
        sync(directory)
        return rows
    finally:
        os.close(held)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl replay", description=__doc__)
    parser.add_argument("verb", choices=["check", "rebuild"])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    args = parser.parse_args(argv)
    lines: list[str] = []
    if args.verb == "rebuild":
        print(f"replay  {rebuild(args.run_dir, lines)} transitions rebuilt from the log; the old replay is kept beside it")
    counts = counted(args.run_dir)
    corrupt = any(counts[k] for k in CORRUPT)
    if corrupt:
        cure = f"robotrl replay rebuild {args.run_dir}" if (args.run_dir / "log").is_dir() else "restore it from a copy"
        print(f"robotrl replay: {args.run_dir}/replay: {told(counts)}; {cure}, do not train on it", file=sys.stderr)
    else:
        print(told(counts))
    if (args.run_dir / "log").is_dir():
        lines.clear()
        counts |= compared(args.run_dir, lines)
        print(f"log     {counts['logged']} transitions, {counts['differ']} of them otherwise in the replay")
    for line in lines:
        print(f"robotrl replay: {line}", file=sys.stderr)
    if args.json:
        print(json.dumps(counts))
    return 2 if corrupt or lines or counts.get("differ") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
