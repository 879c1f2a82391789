"""Whether the program of each launch file starts: on the wall clock, beside the twin, whose wires take as long as a robot's.

One after another: `robotrl run FILE --sim` (`move`, where a file has no task) and its scripted operator, until RUN and HOLD_S
longer; then SIGINT. All is well when RUN came within REACH_S, nothing but what is FORESEEN stopped it, nobody died, no log holds
a traceback, and it ended with exit code 0 and torque read back as off. On a machine that does other things too the twin is late,
and the run stopped for it: a probe on a pty of its own tells. Until it is quiet nothing starts, for --patience at most, and what
went wrong while it was not is tried again. A defect comes again too.
Run: robotrl bench starts [launch/walk.toml ...] [--out bench/results/starts.json]
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import signal
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from farend import hurry
from wall_clock import ROOT, Live

from robotrl import rundir
from robotrl.watch import FORGIVEN

REACH_S, HOLD_S, END_S, TRIES = 60.0, 4.0, 60.0, 4  # chosen, for two cores that do other things too
LATE_S = 0.004  # half the patience of a driver on the twin: there and back
BUSY, LOOK_S = 0.005, 5.0  # share of the probe's bytes that are so late; how long it looks before a start
MOVED = ("arm",)  # it has no task: `robotrl move` is its program
REHEARSED = ("reach_classified",)  # its cameras are the rehearsal's alone: `run` must refuse it in a line
HEAVY = {"walk_seen": 4}  # cores to draw its camera's pictures in time; on fewer only where it is named
SET_UP = {"set_up"}  # before RUN nothing speaks for a stop, but that a person is to put something in its place
# Then a robot that has learned nothing asks for too much, falls, and may have to be set on its feet.
FORESEEN = SET_UP | FORGIVEN | {"clamped", "free_fall", "reset_failed"}
REACHED = ("READY", "HOLD", "RUN")  # in this order
# A line of the guard's log: time (ns), state, what led to it, causes.
JUDGED = re.compile(r"^(?P<t>\d+) (?P<state>[A-Z]+)(?: <- (?P<trigger>.*?))? \[(?P<causes>[\w ]*)\]", re.MULTILINE)


@dataclass
class Start:
    """One try. `why`: what was not as it should be; empty: all is well."""

    name: str
    reached: str = ""  # the last of REACHED; or "refused"
    ready_s: float = 0.0  # from the command to READY
    run_s: float = 0.0
    off_s: float = 0.0  # from SIGINT to torque read back as off
    ended_s: float = 0.0  # from SIGINT to the command's end
    code: int | None = None
    causes: tuple[str, ...] = ()  # between the first READY and SIGINT
    late: float = 0.0  # share of the probe's bytes that came late
    why: str = ""


class Probe(threading.Thread):
    """Sends itself bytes by a pty, as twin and driver do. A context; `late` is the share that came late."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.sent = self.slow = 0
        self._over = threading.Event()

    @property
    def late(self) -> float:
        return round(self.slow / max(1, self.sent), 3)

    def run(self) -> None:
        hurry(threading.get_native_id())  # as they do
        far, near = pty.openpty()
        tty.setraw(near)
        while not self._over.wait(0.005):
            sent = time.monotonic()
            os.write(near, b"?")
            os.read(far, 1)
            self.sent += 1
            self.slow += time.monotonic() - sent > LATE_S
        os.close(near)
        os.close(far)

    def __enter__(self) -> Probe:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def wait(patience_s: float) -> None:
    """Until the machine has time for a run, or patience is over."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        with Probe() as probe:
            time.sleep(LOOK_S)
        if probe.late < BUSY:
            return


def judged(log: str, begun: int, until: int) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
    """When each of REACHED came first, s after `begun`; causes between READY and `until` (ns): all, and those not foreseen."""
    first: dict[str, float] = {}
    causes: dict[str, None] = {}
    strange: dict[str, None] = {}
    for line in JUDGED.finditer(log):
        if int(line["t"]) >= until:
            break
        if line["state"] in REACHED:
            first.setdefault(line["state"], (int(line["t"]) - begun) * 1e-9)
        if first:
            came = line["causes"].split()
            causes |= dict.fromkeys(came)
            strange |= dict.fromkeys(c for c in came if c not in (FORESEEN if "RUN" in first else SET_UP))
    return first, tuple(causes), tuple(strange)


def complaints(directory: Path) -> Iterator[str]:
    """What the logs of a run hold that no start should have."""
    for path in sorted((directory / "logs").glob("*.log")):
        said = path.read_text(errors="replace")
        if "Traceback (most recent call last)" in said:
            yield f"an exception in {path.name}: {said.strip().splitlines()[-1]}"
        if path.name == "guard.log" and "LOCKOUT" in said:
            yield "LOCKOUT"
        if path.name == "manager.log":
            events = [json.loads(line) for line in said.splitlines()]
            yield from (f"{e['name']} {e['event']}: {e['detail']}" for e in events if e["event"] in ("died", "gone", "gave up"))


def start(path: Path, out: Path) -> Start:
    """One try of a launch file's program."""
    row, out = Start(path.stem), Path(tempfile.mkdtemp(dir=out))
    begun = time.monotonic_ns()
    try:
        live = Live(out, run=str(path), command="move" if path.stem in MOVED else "run")
    except AssertionError:  # it has ended before it began
        said = (out / "output.txt").read_text().strip()
        meant = path.stem in REHEARSED and said and "\n" not in said
        row.reached, row.why = "refused", "" if meant else said or "it said nothing"
        return row
    try:
        with Probe() as probe:
            _reach(row, live)
        row.late = probe.late
        asked = time.monotonic_ns()
        _end(row, live, asked)
        guard = live.directory / "logs" / "guard.log"
        first, row.causes, strange = judged(guard.read_text() if guard.is_file() else "", begun, asked)
        row.reached = next((state for state in reversed(REACHED) if state in first), "")
        row.ready_s, row.run_s = round(first.get("READY", 0.0), 1), round(first.get("RUN", 0.0), 1)
        wrong = ["it was not refused" if path.stem in REHEARSED else "", row.why, *complaints(live.directory), *strange]
        row.why = "; ".join(what for what in wrong if what)
    finally:
        live.close()
    return row


def _reach(row: Start, live: Live) -> None:
    try:
        live.reach("RUN", REACH_S)
        until = time.monotonic() + HOLD_S
        live.wait(lambda: time.monotonic() > until, 2 * HOLD_S)
    except AssertionError:
        guard = live.guard.latest()
        told = f"{guard.state}: {guard.note or guard.trigger}" if guard is not None else "no guard"
        ended = live.process.poll() is not None
        row.why = f"it ended: {live.said().strip().splitlines()[-1]}" if ended else f"no RUN in {REACH_S:g} s: {told}"


def _end(row: Start, live: Live, asked: int) -> None:
    """SIGINT at `asked` (ns), and what comes of it."""
    if live.process.poll() is None:
        live.process.send_signal(signal.SIGINT)
    while live.process.poll() is None and time.monotonic_ns() < asked + END_S * 1e9:
        drive = live.drive.latest()
        if not row.off_s and drive is not None and drive.t > asked and drive.powered_off_confirmed:
            row.off_s = round((drive.t - asked) * 1e-9, 2)
        live.bus.wait([live.drive], 0.02)
    row.ended_s, row.code = round((time.monotonic_ns() - asked) * 1e-9, 1), live.process.poll()
    left = live.left_over() if row.code is not None else ["the command itself"]
    wrong = {
        "torque was not read back as off": not row.off_s,
        f"exit code {row.code}": row.code != 0,
        f"still there: {len(left)} processes, the first {left[:1]}": bool(left),
    }
    row.why = "; ".join([*filter(None, [row.why]), *(what for what, true in wrong.items() if true)])


def told(row: Start, tries: int) -> str:
    times = f"{row.ready_s:6.1f} {row.run_s:6.1f} {row.off_s:6.2f} {row.ended_s:6.1f} {row.late:6.1%}"
    what = f"NOT WELL: {row.why}" if row.why else " ".join(("well", *row.causes))
    return f"{row.name:<17} {row.reached:<8} {times} {tries:5d}  {what}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="launch files; default: all")
    parser.add_argument("--patience", type=float, default=60.0, metavar="S", help="wait so long for a quiet machine, before each")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    files = [path.resolve() for path in args.files]
    if not files:
        files = [p for p in sorted((ROOT / "launch").glob("*.toml")) if (os.cpu_count() or 1) >= HEAVY.get(p.stem, 1)]
    print("launch file       reached   ready    RUN    off    end   late  try; in seconds", flush=True)
    rows, provenance = [], rundir.provenance()
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            for tries in range(1, TRIES + 1):
                wait(args.patience)
                row = start(path, Path(folder))
                print(told(row, tries), flush=True)
                rows.append({"try": tries, **asdict(row)})
                if args.out is not None:  # anew: a bench that is cut short keeps what it has
                    built = {**provenance, "load": os.getloadavg(), "reach_s": REACH_S, "hold_s": HOLD_S}
                    rundir.write_json(args.out, {**built, "rows": rows})
                if not row.why or row.late < BUSY:
                    break
    bad = sum(bool(row["why"]) for row in {row["name"]: row for row in rows}.values())  # the last try of each
    print(f"{len(files) - bad} of {len(files)} launch files are well")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
