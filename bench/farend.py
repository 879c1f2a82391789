"""The far end of the stage's servo wire, in a process of its own: nothing that a bench computes may hold up an answer.

`FarEnd` starts one. It prints its port's path, then what it hears and its servos' modes as they change, stamped as they come, an
object a line; and does what lines on its standard input say: {"trip": index}, {"mute": id}, {"clear": true}.
"""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
from typing import Any

PRIORITY = 10  # the world's, below driver and guard: a real one needs no processor
LOOK_S = 0.002


class FarEnd:
    """`heard`: (ns, bytes) of all that came; `modes`: (ns, mode of each servo) at changes. Both a few ms behind."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.modes: list[tuple[int, tuple[int, ...]]] = []
        self._tripped: queue.Queue[int] = queue.Queue()
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        begun = json.loads(self._process.stdout.readline())
        self.path, self.no_real_time = str(begun["path"]), str(begun["no_real_time"])
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    def trip(self, servo: int) -> int:
        """A servo finds a fault in itself; when (ns)."""
        self._ask({"trip": servo})
        return self._tripped.get(timeout=10)

    def mute(self, can_id: int) -> None:
        self._ask({"mute": can_id})

    def clear(self) -> None:
        self._ask({"clear": True})

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._ear.join()
        self._process.stdout.close()

    def _ask(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "heard" in said:
                self.heard.append((said["t"], said["heard"].encode("latin-1")))
            elif "modes" in said:
                self.modes.append((said["t"], tuple(said["modes"])))
            else:
                self._tripped.put(said["tripped"])


def hurry(thread: int, alone: bool = False) -> str:
    """Put one thread before all that is not the robot; what was refused, or "". `alone`: not what it starts from now on."""
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO | (os.SCHED_RESET_ON_FORK if alone else 0), os.sched_param(PRIORITY))
    except OSError as error:
        return f"no real-time priority for the far end: {error.strerror}"
    return ""


def main() -> int:
    from robotrl import config
    from robotrl.sim.bare import BareBus
    from robotrl.sim.faults import Mute

    bus = BareBus(config.Robot())
    refused = hurry(bus.thread.native_id or 0) or hurry(threading.get_native_id())
    print(json.dumps({"path": bus.path, "no_real_time": refused}), flush=True)
    asked, open_ = b"", True
    while open_:
        if select.select([0], [], [], LOOK_S)[0]:
            open_ = bool(data := os.read(0, 4096))
            *lines, asked = (asked + data).split(b"\n")
            for line in map(json.loads, lines):
                if "trip" in line:
                    print(json.dumps({"tripped": bus.trip(line["trip"])}))
                else:
                    with bus.lock:
                        bus.wire.add(Mute(line["mute"])) if "mute" in line else bus.wire.clear()
        while bus.heard:
            t, data = bus.heard.pop(0)
            print(json.dumps({"t": t, "heard": data.decode("latin-1")}))
        while bus.modes:
            t, modes = bus.modes.pop(0)
            print(json.dumps({"t": t, "modes": [int(mode) for mode in modes]}))
        sys.stdout.flush()
    bus.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
