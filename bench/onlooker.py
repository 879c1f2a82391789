"""A run written down from outside: every topic as a plain subscriber hears it, births and deaths as the kernel tells them.

Shares no code with the product: sockets are found in the run's directory, messages taken apart by MessagePack alone. One thread,
one loop; how late the loop itself was is written down too: on a machine that is too busy to look little can be judged.
Each line is an object with `t` (monotonic, ns), `k` (its kind) and what belongs to it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import IO, Any

import kept
import msgspec
import zmq

LOOK_NS = 50_000_000  # how often processes and sockets are looked for
WEIGH_NS = 1_000_000_000  # how often the memory of each process is
LATE_NS = 10_000_000  # of the loop; it waits 5 ms at most
RAW = {"wire", "thought"}  # bytes, and many: what they say is heard on the wires
SAYS = {"transition": kept.step, "label": kept.said}  # what is given, in the form in which it is looked for at the end
GIVEN = ("boot", "t", "life", "giver", "number", "oldest")
TICKS = os.sysconf("SC_CLK_TCK")


class Onlooker(threading.Thread):
    """Writes until `end`. `pids`: the living processes of the run by name, the manager's and the twin's too."""

    def __init__(self, directory: Path, sockets: Path, manager: int, out: IO[str]) -> None:
        super().__init__(daemon=True)
        self.directory, self.sockets, self.manager, self._out = directory, sockets, manager, out
        self.pids: dict[str, int] = {}
        self.state = self.trouble = ""  # of the guard; of the recorder: why nothing is kept any more
        self._names: dict[int, str] = {}
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._heard: dict[zmq.Socket, tuple[str, str]] = {}
        self._known: set[str] = set()
        self._pidfds: dict[int, int] = {}  # pidfd -> pid
        self._ended = threading.Event()

    def write(self, kind: str, **what: Any) -> None:
        line = json.dumps({"t": time.monotonic_ns(), "k": kind, **what})
        with self._lock:
            self._out.write(line + "\n")

    def run(self) -> None:
        looked = weighed = 0
        before = time.monotonic_ns()
        while not self._ended.is_set():
            ready = dict(self._poller.poll(5))
            now = time.monotonic_ns()
            if now - before > LATE_NS:
                self.write("late", ns=now - before)
            before = now
            for what in ready:
                if isinstance(what, int):
                    self._bury(what)  # first: how long the talk will take nobody knows
            for what in ready:
                if not isinstance(what, int):
                    self._hear(what)
            if now - looked > LOOK_NS:
                looked = now
                self._look()
            if now - weighed > WEIGH_NS:
                weighed = now
                self._weigh()

    def end(self) -> None:
        self._ended.set()
        self.join()
        for fd in self._pidfds:
            os.close(fd)
        self._context.destroy(0)

    def _hear(self, socket: zmq.Socket) -> None:
        topic, source = self._heard[socket]
        for _ in range(1000):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = msgspec.msgpack.decode(frames[0])
            except msgspec.DecodeError:
                message = {}
            if topic in RAW:
                continue
            if topic in SAYS and message:
                message = {name: message[name] for name in GIVEN if name in message} | {"says": SAYS[topic](message)}
            if topic == "permit":
                self.state = message.get("state", "")
            if topic == "ack":
                self.trouble = message.get("trouble", "")
            self.write("bus", topic=topic, source=source, m=message)

    def _look(self) -> None:
        """New sockets and new processes."""
        try:
            names = os.listdir(self.sockets)
        except FileNotFoundError:
            names = []
        for name in set(names) - self._known:
            topic, dot, source = name.partition(".")
            if not dot or source.endswith("lock"):
                continue
            self._known.add(name)
            socket = self._context.socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 1)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(f"ipc://{self.sockets / name}")
            self._heard[socket] = topic, source
            self._poller.register(socket, zmq.POLLIN)
        for pid in {self.manager, *children(self.manager)} - self._names.keys():
            self._meet(pid)

    def _meet(self, pid: int) -> None:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            born = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
            if not (name := called(words, pid == self.manager)):
                return  # not yet what it will be
            fd = os.pidfd_open(pid)
        except (OSError, IndexError, ValueError):
            return
        self._names[pid] = name
        self.pids[name] = pid
        self._pidfds[fd] = pid
        self._poller.register(fd, zmq.POLLIN)
        self.write("born", name=name, pid=pid, at=born * 1_000_000_000 // TICKS)

    def _bury(self, fd: int) -> None:
        pid = self._pidfds.pop(fd)
        self._poller.unregister(fd)
        os.close(fd)
        if self.pids.get(self._names[pid]) == pid:
            del self.pids[self._names[pid]]
        self.write("died", name=self._names[pid], pid=pid)

    def _weigh(self) -> None:
        port = self._port()
        for name, pid in list(self.pids.items()):
            try:
                fds = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            anonymous = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)
            self.write("weight", name=name, pid=pid, kb=anonymous, fds=len(fds), port=fds.count(port))

    def _port(self) -> str:
        try:
            return str(json.loads((self.directory / "run.json").read_text())["config"]["robot"]["servos"]["port"])
        except (OSError, ValueError, KeyError):
            return ""


def children(pid: int) -> list[int]:
    try:
        return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]
    except OSError:
        return []


def called(words: list[bytes], manager: bool) -> str:
    """A process's name in the house, by its command line; "" for what none of the run's processes has."""
    if manager:
        return "manager"
    for n, word in enumerate(words):
        if word == b"robotrl.nodes.camera":  # behind it stands the run's directory, and then its place
            return b"".join(words[n + 2 : n + 3]).decode()
        if word.startswith((b"robotrl.nodes.", b"robotrl.sim.")):
            return word.rpartition(b".")[2].decode()
        if word == b"bench.rewarding":
            return "operator"
    return "twin" if b"twin" in words else ""
