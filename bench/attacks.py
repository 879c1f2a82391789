"""What a hostile machine can try at the network door: attacks of the safety facts (4, row 18), and the stop that must come.

    robotrl bench attacks [--connects 10000] [--messages 1000000] [--out FILE]

A door in a process of its own, as in a run; beside each attack an authorised viewer presses stop again and again, and the time
until the door hands it over is measured on one clock. `tests/test_door.py` runs the same, smaller, and counts what got in.
Exit code 1, and a line for each complaint, when an attack delivered anything, or a stop was lost or later than three periods.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq

from robotrl import keyring, rundir
from robotrl.clock import WallClock
from robotrl.door import Door
from robotrl.greeting import HELLO
from robotrl.keyring import Key
from robotrl.messages import Operator
from robotrl.remote import Remote

STOPS = 50
MOST_MS = 60  # 3 T: so late a stop may come under attack
GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" * 32  # ZMTP 3.1, rfc.zeromq.org 37


def target(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def hold_connections(address: str, count: int) -> list[socket.socket]:
    """Plain TCP connections that say nothing. As many as the door's machine accepts."""
    held = []
    for _ in range(count):
        plain = socket.socket()
        plain.setblocking(False)
        plain.connect_ex(target(address))
        held.append(plain)
    return held


def announce(address: str, size: int) -> socket.socket:
    """A peer that greets as CURVE asks, and then announces one frame of `size` bytes."""
    plain = socket.create_connection(target(address), 5)
    plain.sendall(GREETING)
    got = b""
    while len(got) < 64:
        got += plain.recv(64 - len(got))
    plain.sendall(b"\x06" + struct.pack(">Q", size) + b"\x05HELLO")  # a long command
    return plain


def dealer(address: str, context: zmq.Context, key: Key | None) -> zmq.Socket:
    """A client of the library, with a key or (None) with the NULL mechanism; without an address not yet connected."""
    peer = context.socket(zmq.DEALER)
    peer.setsockopt(zmq.LINGER, 0)
    if key is not None:
        peer.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
        peer.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
        peer.setsockopt(zmq.CURVE_SERVERKEY, key.server.encode())
    if address:
        peer.connect(address)
    return peer


def packed(command: str, session: int = 0, seq: int = 1, **more: object) -> bytes:
    """An operator's key as the door's wire has it, written without the product's client."""
    return b"operator\0" + msgspec.msgpack.encode(
        {"command": command, "press": 1, "source": "console", "boot": session, "seq": seq, "role": "console"} | more
    )


def flood(peer: zmq.Socket, count: int, over: Callable[[], bool] = lambda: False) -> int:
    """`count` commands as fast as they go; how many the library took before it had no place left for 2 s."""
    content, sent, moved = packed("clear"), 0, time.monotonic()
    while sent < count and not over() and time.monotonic() < moved + 2.0:
        try:
            peer.send(content, zmq.NOBLOCK)
            sent, moved = sent + 1, time.monotonic()
        except zmq.Again:
            time.sleep(0.0005)
    return sent


ENDLESS = """
import sys, zmq, json
from bench.attacks import dealer
from robotrl.keyring import Key
context, frames = zmq.Context(), int(sys.argv[3])
peer = dealer(sys.argv[1], context, Key(**json.loads(sys.argv[2])))
for _ in range(frames):
    peer.send(bytes(8000), zmq.SNDMORE)
peer.send(b"")
print("sent", flush=True)
sys.stdin.read()
"""


@dataclass
class Tries:
    """How far an attack has come: connections, messages."""

    count: int = 0


@contextmanager
def endless(address: str, key: Key, frames: int) -> Iterator[None]:
    """From a process of its own, one message of so many frames of 8 kB: each is within the limit, the whole is not."""
    words = [sys.executable, "-c", ENDLESS, address, json.dumps(msgspec.to_builtins(key)), str(frames)]
    root = str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root})
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def serve(folder: Path) -> None:
    """The door alone; a line for each stop: when it was pressed and when it was handed over. Ends with its standard input."""
    door = Door("tcp://127.0.0.1:0", keyring.load(folder), WallClock())
    print(door.address, flush=True)
    while not select.select([0], [], [], 0)[0]:
        poller = zmq.Poller()
        poller.register(door.socket, zmq.POLLIN)
        poller.register(door.zap, zmq.POLLIN)
        poller.poll(20)
        for received in door.receive():
            stop = isinstance(received.message, Operator) and received.message.command == "stop"
            print(
                json.dumps({"stop": stop, "press": getattr(received.message, "press", 0), "t": time.monotonic_ns()}), flush=True
            )
    door.close()
    print(json.dumps({"refused": door.refused, "cut": door.cut, "max_rss_mb": rss_mb()}), flush=True)


def rss_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measured(name: str, folder: Path, viewer: Key, attack: Callable[[str, Tries], None]) -> dict[str, Any]:
    """Stops pressed while `attack` goes on, at least `STOPS`: how many arrived, how late, and what else got in."""
    words = [sys.executable, __file__, "--serve", str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    address = process.stdout.readline().strip()
    tries = Tries()
    thread = threading.Thread(target=attack, args=(address, tries))
    remote = Remote(address, viewer, WallClock())
    stop = remote.publisher("operator")
    while not remote.welcome.session:
        remote.listen()
        remote.wait([], 0.02)
    thread.start()
    pressed = 0
    while pressed < STOPS or thread.is_alive():
        stop.send(Operator(command="stop", press=time.monotonic_ns()))
        pressed += 1
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            remote.listen()
            remote.wait([], 0.02)
    thread.join()
    time.sleep(0.5)
    remote.close()
    process.stdin.write("end\n")
    process.stdin.close()
    *lines, last = [json.loads(line) for line in process.stdout]
    process.wait()
    late = sorted({line["press"]: (line["t"] - line["press"]) * 1e-6 for line in reversed(lines) if line["stop"]}.values())
    return {
        "attack": name, "tries": tries.count, "stops": pressed, "stops_through": len(late),
        "p50_ms": round(late[len(late) // 2], 2) if late else None,
        "max_ms": round(late[-1], 2) if late else None, "delivered": sum(not line["stop"] for line in lines), **last,
    }  # fmt: skip


def complaints(rows: list[dict[str, Any]]) -> list[str]:
    """What must not have been, of the figures of each attack."""
    found = []
    for row in rows:
        lost = row["stops"] - row["stops_through"]
        found += [f"{row['attack']}: {row['delivered']} messages delivered"] * bool(row["delivered"])
        found += [f"{row['attack']}: {lost} of {row['stops']} stops lost"] * bool(lost)
        late = row["max_ms"] is not None and row["max_ms"] > MOST_MS
        found += [f"{row['attack']}: a stop after {row['max_ms']} ms, not {MOST_MS}"] * late
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--connects", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the result there too, with machine and commit")
    args = parser.parse_args(sys.argv[1:])
    if args.serve:
        serve(args.serve)
        return 0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "keys"
        viewer, hostile = (keyring.read(keyring.new(folder, name, "viewer")) for name in ("viewer", "hostile"))
        rows = [measured(name, folder, viewer, attack) for name, attack in attacks(args, hostile).items()]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.out:
        rundir.write_json(args.out, {"built_from": rundir.provenance(), "load": os.getloadavg(), "attacks": rows})
    for line in (found := complaints(rows)):
        print(line)
    return 1 if found else 0


def attacks(args: argparse.Namespace, hostile: Key) -> dict[str, Callable[[str, Tries], None]]:
    def connects(address: str, tries: Tries) -> None:
        while tries.count < args.connects:  # in lots, for the descriptors of this process
            held = hold_connections(address, min(500, args.connects - tries.count))
            tries.count += len(held)
            time.sleep(0.2)
            for plain in held:
                plain.close()

    def messages(address: str, tries: Tries) -> None:
        context = zmq.Context()
        peer = dealer(address, context, hostile)
        peer.send(HELLO)
        tries.count = flood(peer, args.messages)
        peer.close()
        context.term()

    def announced(address: str, tries: Tries) -> None:
        held = []
        for tries.count in range(1, 101):
            held.append(announce(address, 1 << 30))
            time.sleep(0.05)
        for plain in held:
            plain.close()

    def long_message(address: str, tries: Tries) -> None:
        with endless(address, hostile, 20_000):
            tries.count = 1
            time.sleep(5.0)

    return {
        "none": lambda address, tries: None, "connects": connects, "messages": messages, "1 GB announced": announced,
        "endless message": long_message,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
