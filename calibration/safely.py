"""A tool's motion, and how it ends: motors damped and off, read back, whatever it was: an error, Ctrl-C, a dropped connection.

No rescue stands behind a tool, and a Feetech servo that nobody talks to holds for ever. So signals that would end Python at once,
or stop it with torque on, are taken as Ctrl-C while motors may have torque. `kill -9` cannot be: that leaves them as they are.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from robotrl import aloud
from robotrl.calibration.store import CalibrationError
from robotrl.calibration.tool import PERIOD_NS, Chain
from robotrl.clock import Clock

T = TypeVar("T")
# kill, a terminal that is gone (SSH), Ctrl-\, Ctrl-Z, Ctrl-C
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGINT)
DAMPED = 25  # periods: half a second
STOP_MAX_S = 2.0  # a robot that takes longer is not stopped; chosen
NOT_OFF = "torque off is not confirmed; cut the motor supply and check the servos"


class Interrupt:
    """What SIGNALS do during a motion: the first is a KeyboardInterrupt. Once `closed`, and so after the first, they change
    nothing; `came` tells that there was one."""

    def __init__(self) -> None:
        self.came = self.closed = False

    def hear(self, *_: object) -> None:
        self.came = True
        if not self.closed:
            self.closed = True
            raise KeyboardInterrupt


def made_safe(chain: Chain, clock: Clock, motion: Callable[[], T]) -> T:
    """Do `motion` and give what it gives; afterwards the motors are damped and off, also when it raised something.

    KeyboardInterrupt for a signal, also for one that came while they were made safe: then no other motion is to begin.
    CalibrationError where it is not read back that they are off.
    """
    interrupt = Interrupt()
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    try:
        for number in SIGNALS:
            signal.signal(number, interrupt.hear)
        out = _ended(chain, clock, motion, interrupt)
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if interrupt.came:
        raise KeyboardInterrupt
    return out


def _ended(chain: Chain, clock: Clock, motion: Callable[[], T], interrupt: Interrupt) -> T:
    """The motion, then damped and off. Two `finally`: a signal just before the inner one's line still meets the outer one, and
    after that line none raises."""
    try:
        try:
            return motion()
        finally:
            interrupt.closed = True
    finally:
        _damped_and_off(chain, clock)


def _damped_and_off(chain: Chain, clock: Clock) -> None:
    try:
        _damped(chain, clock)
    finally:
        let_go(chain, clock)


def _damped(chain: Chain, clock: Clock) -> None:
    """Half a second of damping. An error of it is said, once, and the rest of it goes on."""
    said = False
    for _ in range(DAMPED):
        try:
            chain.damp()
        except Exception as error:
            if not said:
                aloud.say(f"damping failed ({error}); torque goes off all the same", sys.stderr)
            said = True
        clock.sleep_until(clock.now() + PERIOD_NS)


def let_go(chain: Chain, clock: Clock) -> None:
    """Torque off, sent until it is read back: one answer may be late, one write may fail. CalibrationError where it is not within
    STOP_MAX_S."""
    began, why = clock.now(), ""
    while True:
        try:
            chain.stop()
            if chain.confirmed_off():
                return
        except Exception as error:  # whatever it is, torque may be on
            why = f" ({error})"
        if clock.now() - began > STOP_MAX_S * 1e9:
            raise CalibrationError(NOT_OFF + why)
        clock.sleep_until(clock.now() + PERIOD_NS)
