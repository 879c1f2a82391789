"""The page of a run: what it shows, what it refuses, that it changes nothing, and that a browser draws it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from robotrl import messages as m
from robotrl.bus import Bus
from robotrl.clock import WallClock
from robotrl.config import Run, to_dict
from robotrl.nodes import web
from tests.nodes.test_console import drive, guard, joints

PAGE = web.HERE
BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "ipc").mkdir(mode=0o700)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": to_dict(Run())}))
    rows = [{"kind": "episode", "step_total": 100 * k, "return": k / 2, "speed": 0.1 * k, "ended": "time"} for k in range(1, 6)]
    rows += [{"kind": "learner", "updates": 50 * k, "critic_loss": 1 / k, "actor_loss": -k, "entropy": 0.5} for k in range(1, 4)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "epi')
    return tmp_path / "run"


@contextmanager
def served(directory):
    server, ear = web.serve(directory, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1], ear
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        ear.end()


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer, data


@contextmanager
def living(directory):
    """A robot that speaks, ten times a second."""
    (directory / "bus.json").write_text(json.dumps({"directory": str(directory.parent / "ipc")}))
    said = {"guard": ("guard", lambda: guard("RUN", t=0, note="look <b>there</b>")), "servos": ("drive", lambda: drive(t=0)),
            "camera1": ("picture", lambda: m.Picture(camera="wrist", count=1, data=b"\xff\xd8 a JPEG"))}  # fmt: skip
    buses = {name: Bus(directory.parent / "ipc", name, WallClock()) for name in said}
    voices = [(buses[name].publisher(topic), make) for name, (topic, make) in said.items()]
    voices.append((buses["servos"].publisher("joints"), lambda: joints(t=0)))
    over = threading.Event()

    def speak():
        while not over.wait(0.1):
            for voice, make in voices:
                voice.send(make())

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for bus in buses.values():
            bus.close()


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_run_that_is_over_shows_what_it_has_left(run_dir):
    with served(run_dir) as (port, _):
        state = json.loads(ask(port, "/state.json")[1])
        assert (state["state"], state["live"], state["power"]["word"]) == ("NOT LIVE", False, "UNKNOWN")
        curves = json.loads(ask(port, "/history.json")[1])
        assert [e["return"] for e in curves["episodes"]] == [0.5, 1.0, 1.5, 2.0, 2.5]
        assert [row["updates"] for row in curves["learner"]] == [50, 100, 150], "a line that is being written is left for later"


def test_of_an_arm_the_share_of_its_last_episodes_that_succeeded_is_drawn(run_dir):
    rows = [
        {"kind": "episode", "step_total": k, "return": 0.0, "speed": 0.0, "ended": "reached" if k % 2 else "time"}
        for k in range(4)
    ]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [e["success"] for e in web.history(run_dir, [], True)["episodes"]] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert "success" not in web.history(run_dir, [])["episodes"][0]


def test_a_live_run_is_shown_and_nothing_of_it_is_touched(run_dir):
    """No socket, no lock and no file of the page's is in the run's directories."""
    with living(run_dir), served(run_dir) as (port, _):
        sockets = until(lambda: sorted(p.name for p in (run_dir.parent / "ipc").iterdir()))
        files = sorted(p.name for p in run_dir.iterdir())
        state = until(lambda: (s := json.loads(ask(port, "/state.json")[1]))["live"] and s["servos"] and s["cameras"] and s)
        assert (state["state"], state["power"]["word"], state["lease"]) == ("RUN", "ON", "policy")
        assert state["servos"]["temp_c"] == [41.0] * 8 and state["note"] == "look <b>there</b>"
        assert next(r for r in state["streams"] if r["topic"] == "pose")["word"] == "NONE"
        answer, data = ask(port, "/camera.jpg?name=wrist&1")
        assert (answer.status, answer.getheader("Content-Type"), data) == (200, "image/jpeg", b"\xff\xd8 a JPEG")
        assert ask(port, "/camera.jpg?name=../../run.json")[0].status == 404
        assert sorted(p.name for p in (run_dir.parent / "ipc").iterdir()) == sockets
        assert sorted(p.name for p in run_dir.iterdir()) == files
    assert not any(name.endswith((".view", ".view.lock")) for name in sockets)


def test_a_guard_that_falls_silent_is_said_and_a_run_that_begins_later_is_heard(run_dir):
    with served(run_dir) as (port, _):
        assert json.loads(ask(port, "/state.json")[1])["state"] == "NOT LIVE"
        with living(run_dir):
            until(lambda: json.loads(ask(port, "/state.json")[1])["state"] == "RUN")
        until(lambda: json.loads(ask(port, "/state.json")[1])["state"] == "NO GUARD")
        assert json.loads(ask(port, "/state.json")[1])["power"]["word"] == "STOP UNCONFIRMED"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"])
def test_there_is_no_method_that_writes(run_dir, method):
    with served(run_dir) as (port, _):
        assert ask(port, "/state.json", method)[0].status == 501
        assert not any(hasattr(web.Page, f"do_{word}") for word in ("POST", "PUT", "DELETE", "PATCH"))


@pytest.mark.parametrize(
    "path", ["/run.json", "/../run.json", "/view.js/../run.json", "//etc/passwd", "/%2e%2e/run.json", "/index.html", "/state"]
)
def test_no_other_path_is_there(run_dir, path):
    with served(run_dir) as (port, _):
        answer, data = ask(port, path)
        assert answer.status == 404 and data == b"no such page\n"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example:1", "", "127.0.0.1"])
def test_a_page_of_another_host_gets_nothing(run_dir, host):
    """A name that was made to point here (DNS rebinding): the browser says which name it asked for."""
    with served(run_dir) as (port, _):
        assert ask(port, "/state.json", Host=host)[0].status == 421
        assert ask(port, "/state.json", Host=f"localhost:{port}")[0].status == 200


def test_it_listens_on_this_machine_alone_and_says_so_to_the_browser(run_dir):
    with served(run_dir) as (port, _):
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
        assert [a for a in listening if a.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
        for path in ("/", "/state.json", "/nowhere"):
            answer, data = ask(port, path, "HEAD")
            assert data == b"" and answer.getheader("Cache-Control") == "no-store"
            policy = answer.getheader("Content-Security-Policy")
            assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
            assert answer.getheader("Access-Control-Allow-Origin") is None


def test_the_page_needs_nothing_from_any_other_host():
    for path in PAGE.iterdir():
        assert not re.search(
            r"https?:|//[a-z]|@import|eval\(|innerHTML", re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M)
        ), path


def test_a_port_that_is_taken_is_one_line(run_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(web.ViewError, match="give another --port"):
        web.serve(run_dir, taken.getsockname()[1])


@pytest.mark.skipif(BROWSER is None, reason="no headless Chromium here: apt-get install chromium-headless-shell")
def test_a_browser_draws_it(run_dir):
    """Headless Chromium: the state in words, a row a servo, curves with points, no complaint of its own policy."""
    with living(run_dir), served(run_dir) as (port, _):
        until(lambda: json.loads(ask(port, "/state.json")[1])["live"])
        done = subprocess.run(
            [BROWSER, "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom",
             "--user-data-dir=" + str(run_dir.parent / "browser"), f"http://127.0.0.1:{port}/"],
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    dom = done.stdout
    assert 'id="state">RUN<' in dom and "THE ROBOT MOVES" in dom and "look &lt;b&gt;there&lt;/b&gt;" in dom
    assert dom.count("<tr") >= 2 + 8 and re.search(r'id="return"[^>]*data-points="5"', dom), dom[-3000:]
    assert 'id="camera-wrist"' in dom and "Refused to" not in done.stderr and "Uncaught" not in done.stderr
