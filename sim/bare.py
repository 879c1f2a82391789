"""Servos without a robot: the emulated bus on a pty, served in real time by a thread, each byte stamped as it comes.

For what is about bytes and not about bodies: who writes what on the wire, and when. The motors stand still where they are.
"""

from __future__ import annotations

import os
import pty
import select
import threading
import time
import tty

import numpy as np

from robotrl import config
from robotrl.clock import Clock, WallClock
from robotrl.drivers.legged import STAND
from robotrl.sim.domain import Domain
from robotrl.sim.faults import FaultyWire
from robotrl.sim.moteusbus import MoteusBus

LOOK_S = 0.001  # how often watchdogs are looked at when nothing comes


class Still:
    """Physics in which nothing moves."""

    def __init__(self, clock: Clock, angles: tuple[float, ...]) -> None:
        self._clock, self._began = clock, clock.now()
        self.domain = Domain()
        self.angle = np.asarray(angles, float)
        self.velocity, self.current = np.zeros(len(angles)), np.zeros(len(angles))
        self.overheated = np.zeros(len(angles), np.bool_)

    @property
    def time(self) -> float:
        return (self._clock.now() - self._began) * 1e-9

    def sensed(self, delay_s: float) -> Still:
        return self


class BareBus:
    """A far end of the servo port at `path`. `heard`: (ns, bytes) of all that came; `modes`: (ns, mode of each servo) at changes.

    `deaf`: servos (indices) that answer and obey no stop; `wire` takes faults (sim/faults.py).
    """

    def __init__(self, robot: config.Robot, angles: tuple[float, ...] = STAND) -> None:
        self.clock = WallClock()
        self.world = Still(self.clock, angles)
        twin = config.Twin(joint_noise_rad=0.0005)  # who says the same for ever is taken for frozen
        self.bus = MoteusBus(self.world, robot.servos, twin, np.random.default_rng(0), self.clock)
        self.wire = FaultyWire(self.bus, lambda: self.world.time)
        self.heard: list[tuple[int, bytes]] = []
        self.modes: list[tuple[int, tuple[int, ...]]] = []
        self.deaf: set[int] = set()
        self.lock = threading.Lock()  # around whatever else touches the bus
        self._obey = self.bus.bank.obey
        self.bus.bank.obey = self._obeyed  # type: ignore[method-assign]
        self._fd, near = pty.openpty()
        tty.setraw(near)
        self.path = os.ttyname(near)
        os.close(near)
        os.set_blocking(self._fd, False)
        self._ended = False
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def trip(self, servo: int, code: int = 38) -> int:
        """A servo finds a fault in itself; when (ns)."""
        with self.lock:
            self.bus.bank.trip(servo, code)
            return self.clock.now()

    def since(self, t: int) -> bytes:
        """All bytes that came after `t` (ns)."""
        return b"".join(data for when, data in list(self.heard) if when > t)

    def close(self) -> None:
        self._ended = True
        self.thread.join()
        os.close(self._fd)

    def _obeyed(self, index: int, mode: int, row: list[float]) -> None:
        if mode or index not in self.deaf:
            self._obey(index, mode, row)

    def _serve(self) -> None:
        before: tuple[int, ...] = ()
        while not self._ended:
            due = self.bus.due()
            left = LOOK_S if due is None else min(LOOK_S, max(0.0, (due - time.monotonic_ns()) * 1e-9))
            if select.select([self._fd], [], [], left)[0] and not self._hear():
                time.sleep(LOOK_S)
            with self.lock:
                self.bus.bank.tick()
                if (modes := tuple(self.bus.bank.mode)) != before:
                    before = modes
                    self.modes.append((time.monotonic_ns(), modes))
                if out := self.wire.transmit():
                    self._say(out)

    def _hear(self) -> bool:
        """Take what has come; false when nobody has the near end open."""
        now = time.monotonic_ns()
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.heard.append((now, data))
        with self.lock:
            self.wire.receive(data)
        return True

    def _say(self, out: bytes) -> None:
        try:
            os.write(self._fd, out)
        except OSError:
            pass  # nobody is there, or takes it away
