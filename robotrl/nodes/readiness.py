"""How the policy waits for the next servo cycle."""

from __future__ import annotations

import os

from robotrl.bus import Subscriber
from robotrl.node import Node
from robotrl.nodes.pilot import Pilot

EARLY_NS, LATE_NS = 300_000, 1_000_000  # around the moment at which the next servo cycle is expected


class Readiness:
    """Waits for the next servo cycle; at real-time priority it is awake shortly before, and acts for nobody until it is there.

    Between two cycles the learner fills the caches with its own: an action on cold ones takes 130 us, where 15 would do.
    Without the priority the scheduler would take the core away for this, and it only waits.
    """

    def __init__(self, node: Node, pilot: Pilot, cycles: Subscriber) -> None:
        self._node, self._pilot, self._cycles = node, pilot, cycles
        self._period = int(1e9 / node.run.task.rate_hz)
        self._awake = os.sched_getscheduler(0) == os.SCHED_FIFO
        self._due = -LATE_NS  # unknown

    def wait(self) -> None:
        """Return when a cycle has come, or after a tenth of a second without one."""
        clock, wait = self._node.clock, self._node.bus.wait
        early_ms = (self._due - EARLY_NS - clock.now()) // 1_000_000  # the bus waits in whole ms
        came = self._awake and early_ms > 0 and wait([self._cycles], early_ms / 1000)
        while not came and self._awake and clock.now() < self._due + LATE_NS:
            self._pilot.warm()
            came = wait([self._cycles], 0.0)
        if came or wait([self._cycles], 0.1):
            self._due = clock.now() + self._period
