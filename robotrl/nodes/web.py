"""`robotrl view RUN_DIR`: a live page of a run for a browser on this machine. It reads, and there is no way in it to write.

    robotrl view RUN_DIR [--port 8400]        then open http://127.0.0.1:8400/

It listens at 127.0.0.1 alone, answers GET and HEAD of the paths in `FILES` and `MADE` and nothing else, needs nothing of another
host, and says so to the browser. On the bus it only listens: no key of it, no beat, no stop comes from here. Of a run that is
over, or of a rehearsal, it shows what metrics.jsonl has.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from robotrl import node, relabel, rundir
from robotrl.bus import Bus, BusError
from robotrl.clock import WallClock
from robotrl.complaint import Complaint
from robotrl.labelled import LABELS
from robotrl.messages import Learner, Picture
from robotrl.nodes.desk import TOPICS_SHOWN
from robotrl.nodes.panels import DONE, walks
from robotrl.nodes.status import status
from robotrl.nodes.view import SECOND, View, absent
from robotrl.replay import ReplayError

HERE = Path(__file__).resolve().parent / "page"
PORT = 8400
LISTEN_S = 0.05
LOOK_NS = SECOND  # between two looks whether the run lives, and how full the disk is
LAST = 20  # episodes of which an arm's success is the share
POINTS = 2000  # of a curve that a page is given
FILES = {"/": ("index.html", "text/html"), "/view.js": ("view.js", "text/javascript"), "/view.css": ("view.css", "text/css")}
MADE = ("/state.json", "/history.json", "/camera.jpg")  # and no other path is there
TAIL = 4 << 20  # bytes of metrics.jsonl that are read
SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ViewError(Complaint):
    """Why there is no page; one line."""


class Ear(threading.Thread):
    """Hears a run as long as it lives, and again when it lives again. All it knows is behind `lock`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True, name="ear")
        run = rundir.load(directory)
        self.directory, self.clock, self.lock = directory, WallClock(), threading.Lock()
        self.view = View(run=directory.resolve().name, temp_limit_c=run.robot.limits.temp_c, agent=run.agent, absent=absent(run))
        self.pictures: dict[str, bytes] = {}  # JPEG, by camera
        self.learnt: deque[dict[str, float]] = deque(maxlen=POINTS)  # once a second
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            sockets = node.bus_directory(self.directory)
            try:
                bus = Bus(sockets, "view", self.clock)
            except BusError:  # it is not live
                self._ended.wait(LOOK_NS / SECOND)
                continue
            try:
                self._listen(bus, sockets)
            finally:
                bus.close()

    def _listen(self, bus: Bus, sockets: Path) -> None:
        subscribers = [bus.subscriber(topic) for topic in (*TOPICS_SHOWN, "picture")]
        while not self._ended.is_set() and sockets.is_dir():
            bus.wait(subscribers, LISTEN_S)
            now = self.clock.now()
            with self.lock:
                for subscriber in subscribers:
                    for message in subscriber.drain():
                        self._take(subscriber.topic, message, now)
            self._ended.wait(LISTEN_S)

    def _take(self, topic: str, message: Any, now: int) -> None:
        if isinstance(message, Picture):
            self.pictures[message.camera] = message.data
            return
        self.view.receive(topic, message, now)
        last = self.learnt[-1]["t"] if self.learnt else -SECOND
        if isinstance(message, Learner) and now * 1e-9 - last >= 1.0:
            names = ("updates", "critic_loss", "actor_loss", "entropy", "temperature")
            self.learnt.append({"t": now * 1e-9} | {name: float(getattr(message, name)) for name in names})

    def end(self) -> None:
        self._ended.set()
        self.join()


def returns(directory: Path) -> dict[int, float]:
    """Each episode's return as the operator's labels make it; empty where nothing was said, or there is no replay yet."""
    try:
        if not (directory / LABELS).stat().st_size:
            return {}
        rows, found = relabel.episodes(directory)
        rows.close()
    except (OSError, ReplayError):
        return {}
    return {e.number: e.labelled for e in found}


def history(directory: Path, learnt: list[dict[str, float]], arm: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Curves: each episode's return and speed, of an arm how many of the last succeeded, the learner's losses; of a rehearsal
    from its metrics, else as they were heard.
    """
    episodes: deque[dict[str, Any]] = deque(maxlen=POINTS)
    learner: deque[dict[str, Any]] = deque(learnt, maxlen=POINTS)
    labelled = returns(directory)
    try:
        with open(directory / "metrics.jsonl", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        lines = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # the first one of a tail, or one that is being written
            continue
        if not isinstance(row, dict):
            continue
        if row.get("kind") == "episode":
            row["return"] = labelled.get(row.get("episode", -1), row.get("return"))
            episodes.append({key: row.get(key) for key in ("step_total", "return", "speed", "ended", "steps")})
        elif row.get("kind") == "learner":
            learner.append({key: row.get(key) for key in ("updates", "critic_loss", "actor_loss", "entropy", "temperature")})
    if arm:
        recent: deque[bool] = deque(maxlen=LAST)
        for row in episodes:
            recent.append(row["ended"] in DONE)
            row["success"] = sum(recent) / len(recent)
    return {"episodes": list(episodes), "learner": list(learner)}


class Page(BaseHTTPRequestHandler):
    """GET and HEAD of these paths. A request that names another host than this machine is refused: a page elsewhere sent it."""

    ear: Ear  # of the server's making
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "robotrl", ""
    timeout = 10  # s, for a peer that says nothing

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def _serve(self, body: bool) -> None:
        if self.headers.get("Host", "").rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            return self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"this page is for this machine alone\n", body)
        path, _, asked = self.path.partition("?")
        made: dict[str, Callable[[], tuple[str, bytes]]] = dict(
            zip(MADE, (self._state, self._history, lambda: self._camera(asked)), strict=True)
        )
        if path in FILES:
            name, kind = FILES[path]
            return self._answer(HTTPStatus.OK, f"{kind}; charset=utf-8", (HERE / name).read_bytes(), body)
        if path in made:
            kind, data = made[path]()
            return self._answer(HTTPStatus.OK if data else HTTPStatus.NOT_FOUND, kind, data, body)
        self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n", body)

    def _state(self) -> tuple[str, bytes]:
        ear = self.ear
        with ear.lock:
            said = status(ear.view, ear.clock.now()) | {"cameras": sorted(ear.pictures)}
        said["disk_free"] = shutil.disk_usage(ear.directory).free
        return "application/json", json.dumps(said, allow_nan=False).encode()

    def _history(self) -> tuple[str, bytes]:
        with self.ear.lock:
            learnt = list(self.ear.learnt)
        said = history(self.ear.directory, learnt, not walks(self.ear.view))
        return "application/json", json.dumps(_finite(said), allow_nan=False).encode()

    def _camera(self, asked: str) -> tuple[str, bytes]:
        name = asked.partition("&")[0].removeprefix("name=")
        with self.ear.lock:
            return "image/jpeg", self.ear.pictures.get(name, b"")

    def _answer(self, code: HTTPStatus, kind: str, data: bytes, body: bool) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **SAFE}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def _finite(said: Any) -> Any:
    if isinstance(said, dict):
        return {k: _finite(v) for k, v in said.items()}
    if isinstance(said, list):
        return [_finite(v) for v in said]
    return said if not isinstance(said, float) or abs(said) < float("inf") else None


def serve(directory: Path, port: int) -> tuple[ThreadingHTTPServer, Ear]:
    """The page's server, not yet serving, and the ear, which hears already. ViewError where nobody may listen at that port."""
    ear = Ear(directory)
    page = type("ThisPage", (Page,), {"ear": ear})
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), page)
    except OSError as error:
        raise ViewError(f"127.0.0.1:{port}: {error.strerror}; give another --port, 0 for any") from None
    server.daemon_threads = True
    ear.start()
    return server, ear


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="robotrl view", description="A live page of a run for a browser on this machine.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--port", type=int, default=PORT, help=f"of 127.0.0.1; 0: any (default: {PORT})")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 65536:
        parser.error(f"--port must be from 0 to 65535, not {args.port}")
    server, ear = serve(args.run_dir, args.port)
    print(f"robotrl view: http://127.0.0.1:{server.server_address[1]}/ in a browser on this machine; Ctrl-C ends it", flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        ear.end()
    return 0
