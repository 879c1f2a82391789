"""For the layers alone (`layers.py`): how a layer is taken out, and what the faults are."""

from __future__ import annotations

import dataclasses
import math
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from robotrl.clock import Clock
from robotrl.drivers.chains import chain_of
from robotrl.messages import Action
from robotrl.nodes import rescue as rescue_module
from robotrl.nodes import servoloop
from robotrl.nodes.rescue import Rescue, Ward
from robotrl.nodes.tether import ON
from robotrl.sim.faults import Mute, Silence, Unplugged
from tests.safety.linescene import LineScene
from tests.safety.mischief import Act, credulous
from tests.safety.scene import Scene, T

MS = 1_000_000

# ---- a layer taken out


def unguarded(s: Scene) -> None:
    """A guard that never raises a cause and goes on permitting, and nobody at a console: L3 and L5."""
    s.without(*s.rig.sentry.guard.ledger.rows)
    s.console = False


def unwatching(s: Scene) -> None:
    """A driver that does not hold still for what it reads: that part of L2 which does the guard's work before it."""
    servoloop.ill = lambda joints: False


def blind(s: Scene) -> None:
    """Nor does its gate, for a joint that nobody has read for long."""
    unwatching(s)
    gate = s.rig.servos.gate
    gate.limits = dataclasses.replace(gate.limits, stale_cycles=10**9)


def ungated(s: Scene) -> None:
    """A driver that writes whatever it is asked, for ever, on nobody's word: L2. What it last wrote is within the lead."""
    blind(s)
    credulous(s)
    loop = s.rig.servos
    loop.gate._opens = lambda permit, now: True
    loop._dropped_out = lambda joints, now: False
    loop._doubt = lambda joints: None


def inventive(s: Scene) -> None:
    """A driver that makes an action up where none comes."""
    s.rig.servos._unseen = lambda action: action or s.rogue()


def ready_at_once(s: Scene) -> None:
    """A driver that begins with whatever permit it finds."""
    hear = servoloop.ServoLoop._hear

    def armed(self: servoloop.ServoLoop, permit: Any, now: int) -> None:
        self._armed = True
        hear(self, permit, now)

    servoloop.ServoLoop._hear = armed


def unprotected(s: Scene) -> None:
    """Servos without a watchdog; on Feetech, which have none, a goal that no lead bounds: L1."""
    if not isinstance(s, LineScene):
        bank = s.bank
        bank._silence, bank._deadline, bank.next_event = [math.inf] * bank.count, [math.inf] * bank.count, math.inf
        bank._retarget = lambda index, position, velocity, now: None
        bank.obey = lambda index, mode, row: None
        return
    if s.feetech:
        far = [low if q > (low + high) / 2 else high for q, low, high in
               zip(s.rig.twin.joints.angle, s.run.robot.lowest, s.run.robot.highest, strict=True)]  # fmt: skip
        s.rig.servos.chain.write(far)
    for servo in s.servos:
        put = servo._put
        servo._put = lambda name, value, put=put: put(name, 0 if name == "bus_watchdog" else value)
        if not s.feetech:
            servo._put("bus_watchdog", 0)


def unrescued(s: Scene) -> None:
    """A rescue that does nothing: L4."""
    Rescue._save = lambda self, ward: None


def both(*acts: Callable[[Any], object]) -> Act:
    return lambda s: [act(s) for act in acts]


# ---- the faults, the same on every bus


def mute(s: Scene) -> None:
    """One servo is off the bus for half a second."""
    if isinstance(s, LineScene):
        s.tell({"fault": "mute", "servo": s.middle, "for_s": 0.5})
    else:
        s.wire("servos", Mute(3), 0.5)


def cut(s: Scene) -> None:
    s.wire("servos", Silence(), 0.5)


def unplug(s: Scene) -> None:
    """For 0.4 s: whoever tries again after a second finds it there."""
    s.wire("servos", Unplugged(), 0.4)


def late(s: Scene) -> None:
    s.action = lambda a: a and msgspec.structs.replace(a, t=a.t - 80 * MS)


def no_actions(s: Scene) -> None:
    """The policy is dead or stopped, and nobody has been told."""
    s.beats -= {"policy"}
    s.action = lambda a: None


def told_of_death(s: Scene) -> None:
    no_actions(s)
    s.process("policy", "died")


def woken_policy(s: Scene) -> None:
    """It was stopped for a second, and what it had in hand comes now, every period."""

    def old(_: Action | None) -> Action:
        return s.rogue(t=s.now - 1000 * MS, valid_ns=0)

    s.action = old


def spoiled(value: float) -> Act:
    def begin(s: Scene) -> None:
        s.action = lambda a: a and msgspec.structs.replace(a, target=(value,) * len(a.target))

    return begin


def spoiled_to_the_codec(s: Scene) -> None:
    """No number comes as far as to who builds the bytes, and the driver dies of it."""
    spoiled(math.nan)(s)
    drive = s.rig._drive

    def dies(now: int) -> bool:
        try:
            return drive(now)
        except ValueError:
            s.driver_lives = False
            return False

    s.rig._drive = dies


def guard_silent(s: Scene) -> None:
    s.guard_lives = False


def driver_dead(s: Scene) -> None:
    s.driver_lives = False


def driver_stopped(s: Scene) -> None:
    """For half a second; then it goes on where it was."""
    s.driver_lives, until = False, s.now + 500 * MS

    def wake() -> None:
        s.driver_lives = s.now >= until

    s.each = wake


def suspended(s: Scene) -> None:
    """Driver and guard for half a second, and the guard does not come back: an old permit waits for who wakes."""
    s.rig.twin.advance(0.5)
    s.guard_lives = False


# ---- the rescue in virtual time


class Alone(Clock):
    """Whoever sleeps lets the world go on; nobody else lives."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def now(self) -> int:
        return self._scene.now

    def sleep_until(self, deadline: int) -> None:
        while self._scene.now < deadline - T // 10:
            passes(self._scene)


def passes(s: Scene) -> None:
    """A period in which neither driver nor guard does anything."""
    s.rig.twin.advance(s.rig.period_s)
    s.witness.moment(s.now, "", ())


def keeper_of(s: Scene) -> tuple[Rescue, Ward]:
    """A rescue and what it watches: the driver has told it that torque is on, and is not heard again."""
    clock, robot = Alone(s), s.run.robot
    rescue_module.say = lambda what: None
    with tempfile.TemporaryDirectory(prefix="robotrl-") as folder:
        rescue = Rescue(robot, Path(folder), clock, s.rig.period_s)
        rescue._door.close()
    line, driver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.setblocking(False)
    ward = Ward(line, robot, clock, rescue._polls)
    port: Any = s.rig._ports["servos"]
    port.forget = port.close = lambda: None  # of a serial port
    ward.port, ward.chain = port, chain_of(port, robot, clock, s.rig.servos.chain.checksum, starts=False)
    driver.send(ON)
    ward.hear()
    s.guard_lives = s.console = False
    s.keeper = rescue, ward, driver
    return rescue, ward


def orphan(s: Scene) -> None:
    """The driver is killed, with nobody left but the rescue: the kernel tells it at once, it acts within the period."""
    rescue, ward = keeper_of(s)
    s.driver_lives, s.witness.alone = False, True
    passes(s)
    rescue._save(ward)


def hang(s: Scene) -> None:
    """The driver hangs with nobody left but the rescue, which may write when it has killed it, and not before."""
    rescue, ward = keeper_of(s)
    s.driver_lives, s.witness.alone = False, True
    while not ward.hangs() and len(s.witness.history) < 10_000:
        passes(s)
    s.killed = s.now
    passes(s)
    rescue._save(ward)
