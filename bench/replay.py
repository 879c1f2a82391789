"""A run's log and replay beside the replay buffers of others: a batch, an append, an acknowledgement, a recovery.

sample    256 transitions of 112 floats, and of these and two images of 84 x 84 x 3, drawn and copied with their next observations
append    one transition: into a peer's buffer, and into our replay; and into our log, by the thread that must not wait
ack       from the append to the moment at which it is durable, at 50 transitions a second as a robot makes them, and at 1000
recover   a log of this many MB that was cut off, until it can be written again
Blocks of all buffers alternate in one run; figures are the median and the 99th percentile over all blocks. Ours is on the disk
and survives its process, as torchrl-memmap does; the others' is memory. Peers that this interpreter does not have are left out,
unless another one is named for them.
Run: robotrl bench replay [--python lerobot=/path/to/python ...] [--mb 1000] [--seconds 20] [--folder DIR] [--out FILE]
(three minutes; DIR: on the disk that is meant; also ROBOTRL_PEERS="lerobot=/path/to/python torchrl=...")
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import replay_log
from replay_buffers import BUFFERS
from replay_log import percentile

from robotrl import rundir
from robotrl.complaint import Complaint

SCRIPT = Path(__file__).resolve().with_name("replay_buffers.py")
REACHED = {"append_us": 30.0, "ack_ms_p99": 50.0, "recover_s_a_gb": 5.0, "sample_us": 150.0, "sample_images_ms": 3.0}
ROWS = {"state": 10_000, "images": 1500}  # in each buffer: the images of 1500 are 130 MB here and 500 MB as float32
SAMPLES = {"state": 200, "images": 10}  # in a block
APPENDS = {"state": 200, "images": 20}

QUIET = os.environ | {"RL_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}


class Served:
    """A buffer in its own process."""

    def __init__(self, name: str, python: str, what: str, room: int) -> None:
        words = [python, str(SCRIPT), name, what]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=QUIET)
        self.name = name
        self.about = self._hear()
        self.ask(fill=ROWS[what], room=room)

    def ask(self, **what: int) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return list(self._hear()["us"])

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise Complaint(f"bench/replay.py: {self.name} ended by itself, see above; leave it out or name a python that has it")
        return dict(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def interpreters(named: list[str]) -> dict[str, str]:
    """Buffer -> the Python that has it, for all that some Python has."""
    asked = dict(word.split("=", 1) for word in (*os.environ.get("ROBOTRL_PEERS", "").split(), *named) if "=" in word)
    found = {}
    for name, (package, _) in BUFFERS.items():
        if python := asked.get(name) or asked.get(package):
            found[name] = python
        elif importlib.util.find_spec(package) is not None:
            found[name] = sys.executable
        else:
            print(f"{name}: not here, left out; --python {name}=PYTHON names one that has it", file=sys.stderr)
    return found


def beside(pythons: dict[str, str], what: str, blocks: int) -> dict[str, Any]:
    """us of each buffer, blocks of all of them in turn."""
    room = blocks * APPENDS[what]
    served: list[Served] = []
    us: dict[str, dict[str, list[float]]] = {name: {"sample": [], "append": []} for name in pythons}
    try:
        served += [Served(name, python, what, room) for name, python in pythons.items()]
        for buffer in served:
            buffer.ask(sample=SAMPLES[what])  # warm
        for k in range(blocks):
            for buffer in served[k % len(served) :] + served[: k % len(served)]:
                us[buffer.name]["sample"] += buffer.ask(sample=SAMPLES[what])
                us[buffer.name]["append"] += buffer.ask(append=APPENDS[what])
            _progress(f"{what}: block {k + 1} of {blocks}")
    finally:
        for buffer in served:
            buffer.__exit__()
    return {
        buffer.name: {f"{do}_us_p{q}": percentile(us[buffer.name][do], q) for do in ("sample", "append") for q in (50, 99)}
        | buffer.about
        for buffer in served
    }


def table(found: dict[str, Any]) -> str:
    """Markdown: a row a buffer, then ours alone."""
    lines = ["| buffer | batch of floats, us | with images, ms | append, us | with images, us |", "|---|---|---|---|---|"]
    for name in found["state"]:
        floats, images = found["state"][name], found["images"][name]
        said = f"{floats['sample_us_p50']:.0f} | {images['sample_us_p50'] / 1000:.2f} | {floats['append_us_p50']:.0f}"
        lines.append(f"| {name} {floats['version']} | {said} | {images['append_us_p50']:.0f} |")
    lines += ["", *(f"{key:<24} {value}" for key, value in found["log"].items())]
    return "\n".join(lines)


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON", help="which interpreter has a peer")
    parser.add_argument("--blocks", type=int, default=20, help="of each buffer")
    parser.add_argument("--mb", type=int, default=1000, help="of log to recover")
    parser.add_argument("--seconds", type=float, default=20.0, help="of acknowledgements at each rate")
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args()
    pythons = interpreters(args.python)
    found: dict[str, Any] = {what: beside(pythons, what, args.blocks) for what in ("state", "images")}
    with tempfile.TemporaryDirectory(prefix="robotrl-replay-", dir=args.folder) as name:
        folder = Path(name)
        found["log"] = replay_log.append(folder, 20_000)
        for rate in (50, 1000):
            _progress(f"acknowledgements at {rate} Hz")
            found["log"] |= replay_log.ack(folder, rate, args.seconds)
        _progress(f"recovery of {args.mb} MB")
        found["log"] |= replay_log.recover(folder, args.mb)
    _progress("")
    print(table(found))
    if args.out is not None:
        rundir.write_json(args.out, {**rundir.provenance(), "to_reach": REACHED, **found})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
