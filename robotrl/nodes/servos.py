"""The servo driver: owns the bus to the motors and the gate, the last code before bytes.

`ServoLoop` is one cycle of it: read, judge, write. One thread does all reads and writes, so that a loop that stalls *is* silence
on the bus, and the servos' own watchdog acts. Imports no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from robotrl.clock import Clock
from robotrl.config import Robot
from robotrl.drivers.chains import Chain, baud_of, chain_of
from robotrl.drivers.port import DeviceError, Port, PortError, SerialPort
from robotrl.drivers.tape import Tape
from robotrl.messages import Action, Applied, Drive, Joints, Permit
from robotrl.node import Node
from robotrl.nodes.powerdown import POWERED, TRIES, PowerDown, gate_limits, lower, off
from robotrl.nodes.tether import Tether
from robotrl.nodes.wire import Wire
from robotrl.safety.gate import PERMIT_VALID_NS, Gate, Verdict

STOPPED = 0
WATCHDOG_MODE, FAULT_MODE = LATCHED_MODES = (11, 1)  # moteus: watchdog time-out and fault leave only by a stop
POWER_DOWN_NS = 1_000_000_000  # beside the damping, for the motors to read back as off
UNREAD_MAX = 3  # cycles (safety facts, row 1)
RESCUE_S = 2.0  # for the rescue to be there; one that still stops the motors after our last life takes stop_damp_s longer
STARTING_NS = 200_000_000  # from the first target on, for every servo to have heard it and to leave mode 0


class ServoLoop:
    """One robot's servo cycle: `cycle` once a period. Without a permit it stops the robot by its stop profile (powerdown.py)."""

    def __init__(self, robot: Robot, chain: Chain, clock: Clock, period_s: float) -> None:
        self.robot, self.chain, self.clock = robot, chain, clock
        self.gate = Gate(gate_limits(robot, period_s))
        self.tick = -1
        self.overruns = 0
        self.late_us = 0.0
        self.cycles_us: list[float] = []
        self.unrescued = False
        self._down = PowerDown(robot, chain, period_s)
        self._answered = 0  # cycles in a row in which no servo was missed: who does not answer has not heard us either
        self._heard = clock.now()  # when permits were last looked for
        self._shown: tuple[str, int, int] | None = None
        self._last: tuple[Joints, Drive] | None = None
        self._on = False
        self._on_at = 0
        self._armed = False  # torque comes on only by a permit that says so after one that did not: never by a restart

    def cycle(self, permit: Permit | None, action: Action | None) -> tuple[Joints, Applied, Drive]:
        """Read all servos, let the gate judge the newest action, write. Raises PortError when the port is lost."""
        self.tick += 1
        began = self.clock.now()
        joints = self.chain.read(self.tick)
        self._answered = 0 if any(joints.missed) else self._answered + 1
        if not self._unbroken(permit, began):
            self.gate.lapse(began)  # who slept through the end of a permit begins anew, where the joints are (row 22)
        if self._dropped_out(joints, began):
            self._armed = False
            self.gate.shut()
        self._hear(permit, began)
        action = self._unseen(action)
        if self._on and ill(joints):
            action = None  # the own goal is held at once: the guard's word to stop comes one or two periods later
        verdict = self.gate.decide(self.clock.now(), action, joints.position, joints.missed)
        if verdict.target is not None:
            sent, stage = self._write(joints, verdict.target), ""
        else:
            sent, stage = joints.position, self._power_down(began, joints)
        used = action if action is not None and not verdict.refused and verdict.target is not None else None
        drive = self._drive(joints, stage, began)
        self._last = joints, drive
        return joints, self._applied(verdict, sent, used), drive

    @property
    def lapses_at(self) -> int | None:
        """When the gate must be shut unless another permit comes; None while it is."""
        return None if self.gate.open_until is None else self.gate.open_until + 1

    def lapse(self, permit: Permit | None) -> Drive | None:
        """Between two cycles: if the permit has run out, the stop profile begins now, not in the next cycle. None: it has not."""
        now = self.clock.now()
        self._hear(permit, now)
        if self._last is None or not self.gate.lapse(now):
            return None
        joints, drive = self._last
        stage = self._power_down(now, joints)
        return msgspec.structs.replace(drive, t=now, gate_open=False, torque_on=stage in POWERED, stop=stage)

    def _dropped_out(self, joints: Joints, now: int) -> bool:
        """Does a servo that was driven say that it is stopped? Its power was gone. The next target would start it again, from a
        goal as old as that, and with nobody expecting it: torque stays off until a person has enabled it (rows 8, 14)."""
        driven = self._on and now - self._on_at > STARTING_NS
        return driven and any(mode == STOPPED and not missed for mode, missed in zip(joints.mode, joints.missed, strict=True))

    def _unbroken(self, permit: Permit | None, now: int) -> bool:
        """Was this permit made while the one before it held, and has it only waited for a cycle that came a little late?"""
        until = self.gate.open_until
        return permit is not None and until is not None and permit.t <= until and now - self._heard <= PERMIT_VALID_NS

    def _hear(self, permit: Permit | None, now: int) -> None:
        self._heard = now
        if permit is not None:
            self._armed = self._armed or not permit.torque
        if permit is not None and self._armed:
            self.gate.permit(permit, now)

    def _unseen(self, action: Action | None) -> Action | None:
        """The action if the gate has not judged it before."""
        if action is None or (key := (action.source, action.boot, action.seq)) == self._shown:
            return None
        self._shown = key
        return action

    def _write(self, joints: Joints, target: tuple[float, ...]) -> tuple[float, ...]:
        if not self._on and any(mode in LATCHED_MODES for mode in joints.mode):
            self.chain.clear()
        if not self._on:
            self._on_at = joints.t
        self._on = True
        self._down.driven()
        return self.chain.write(target)

    def _power_down(self, now: int, joints: Joints) -> str:
        """One step of the stop profile; its stage, empty once the motors read back as off. DeviceError for a servo that has been
        off since the start: it is to be set up anew, which nothing hinders now."""
        self._on = False
        stage = self._down.step(now, self.tick, joints)
        if not stage and self.chain.rebooted:
            who = ", ".join(map(str, self.chain.rebooted))
            raise DeviceError(f"servo {who}: was off and on again, or its power was; all are set up anew")
        return stage

    def _applied(self, verdict: Verdict, sent: tuple[float, ...], used: Action | None) -> Applied:
        applied = Applied(
            source="servos", epoch=-1, tick=self.tick, t=self.clock.now(), writer=verdict.writer or "off", target=sent,
            clamped=verdict.clamped, held=verdict.held or verdict.target is None, refused=verdict.cause or verdict.refused,
        )  # fmt: skip
        if used is None:
            return applied
        return msgspec.structs.replace(
            applied, epoch=used.epoch, action_seq=used.seq, action_tick=used.tick, episode=used.episode, step=used.step,
            policy_version=used.policy_version,
        )  # fmt: skip

    def _drive(self, joints: Joints, stage: str, began: int) -> Drive:
        self.cycles_us.append((self.clock.now() - began) * 1e-3)
        return Drive(
            source="servos", t=joints.t, tick=self.tick, gate_open=self._on, torque_on=self._on or stage in POWERED,
            powered_off_confirmed=off(joints), late_us=self.late_us,
            cycle_us=self.cycles_us[-1], overruns=self.overruns,
            frame_errors=self.chain.frame_errors, stop=stage, unrescued=self.unrescued,
            disobeyed=min(self._down.unconfirmed, self._answered) > TRIES + 1,
        )  # fmt: skip


def ill(joints: Joints) -> bool:
    """A servo that reports a fault, has stopped itself, or is unread for as long as the guard bears it."""
    return any(joints.fault) or any(mode in LATCHED_MODES for mode in joints.mode) or max(joints.missed) >= UNREAD_MAX


def prepare(chain: Chain, tick: int, say: Callable[[str], None]) -> None:
    """Stop every servo, configure it, check it. PortError: one is not as it must be; nothing has moved."""
    if WATCHDOG_MODE in chain.read(tick).mode:
        say("the servos' own watchdog had stopped them")
    chain.stop()
    chain.configure()
    if complaints := chain.check():
        raise DeviceError(complaints[0] + (f" (and {len(complaints) - 1} more)" if complaints[1:] else ""))


def connected(robot: Robot, port: Port, clock: Clock, tick: int, say: Callable[[str], None]) -> Chain:
    """The chain on a port that was just opened: an arm that still holds is lowered, then `prepare`."""
    lower(robot, port, clock)
    chain = chain_of(port, robot, clock)
    prepare(chain, tick, say)
    return chain


class Driver:
    """The servo loop on the bus and on its port. Without the port it goes on saying so: silence would tell the guard less."""

    def __init__(self, node: Node, tether: Tether | None = None) -> None:
        """`tether`: to the rescue process; without one nobody is told what happens here."""
        self.node, self.tether = node, tether
        self.period_s = 1.0 / node.run.task.rate_hz
        self.permits, self.actions = node.bus.subscriber("permit"), node.bus.subscriber("action")
        self.joints, self.applied, self.drive = (node.bus.publisher(topic) for topic in ("joints", "applied", "drive"))
        self.exchanges = node.bus.publisher("wire")
        self.tape = Tape(node.clock)
        self.off = False
        self.tick = -1
        self.cycles_us: list[float] = []
        self._lost_servos: tuple[int, ...] = ()
        self.wire = Wire(node, self.connect)

    def connect(self) -> tuple[SerialPort, ServoLoop]:
        """Open the port, stop every servo, configure it, check it. PortError, ValueError: nothing has moved, nothing will."""
        robot = self.node.run.robot
        port = SerialPort(robot.servos.port, baud_of(robot.servos), self.node.clock)
        self.tape.call("connect")
        try:
            chain = connected(robot, self.tape.around(port), self.tape.clock, self.tick, self.node.say)
            loop = ServoLoop(robot, chain, self.tape.clock, self.period_s)
        except (PortError, ValueError):
            port.close()
            raise
        loop.tick, loop.cycles_us = self.tick, self.cycles_us
        if self.tether is not None:
            self.tether.give(port.fileno(), chain.checksum)
        return port, loop

    def serve(self) -> None:
        """Own the period until told to stop, then power down by the robot's profile."""
        period = int(self.period_s * 1e9)
        for _ in self.node.every(period):
            permit = self.permits.latest()
            self.cycle(permit, self.actions.latest(permit.holder) if permit is not None and permit.holder else None)
            self.watch()
        until = self.node.clock.now() + POWER_DOWN_NS + int(self.node.run.robot.stop_damp_s * 1e9)
        for _ in self.node.every(period, lambda: self.off or self.node.clock.now() > until):
            self.cycle(None, None)
        if self.tether is not None and self.off:
            self.tether.done()

    def cycle(self, permit: Permit | None, action: Action | None) -> None:
        """One period: newest permit and newest action in; joints, what was applied, and the drive's health out."""
        loop = self.wire.device
        if loop is None:
            self.wire.again()
            return self._without()
        late = self.node.lateness
        loop.late_us, loop.overruns, loop.unrescued = late.late_us[-1], late.overruns, self._unrescued()
        self.tape.call("cycle", permit, action)
        try:
            joints, applied, drive = loop.cycle(permit, action)
        except PortError as error:
            return self._lost(error)
        if self.tether is not None:
            self.tether.beat(drive.torque_on)
        self.tick, self.off = loop.tick, drive.powered_off_confirmed
        self._name_the_silent(joints)
        first = self.joints.send(joints).seq
        self.applied.send(applied)
        self.drive.send(drive)
        self.exchanges.send(self.tape.take(first))

    def _name_the_silent(self, joints: Joints) -> None:
        """Which servo a chain stalls on: the cause that the guard sees has no name."""
        lost = tuple(servo for servo, n in zip(self.node.run.robot.servos.ids, joints.missed, strict=True) if n >= UNREAD_MAX)
        if lost and lost != self._lost_servos:
            self.node.say(f"servo {', '.join(map(str, lost))} does not answer; look at its cable and power")
        self._lost_servos = lost

    def watch(self) -> None:
        """Until the next period: should the permit run out before it begins, be awake then, and shut the gate."""
        loop = self.wire.device
        if loop is None or loop.lapses_at is None or loop.lapses_at >= self.node.due:
            return
        self.node.clock.sleep_until(loop.lapses_at)
        permit = self.permits.latest()
        self.tape.call("lapse", permit)
        try:
            drive = loop.lapse(permit)
        except PortError as error:
            return self._lost(error)
        if drive is not None:
            self.drive.send(drive)

    def _unrescued(self) -> bool:
        return self.tether is not None and self.tether.lost

    def _lost(self, error: PortError) -> None:
        if self.tether is not None:
            self.tether.drop()
        self.wire.lost(error)
        self._without()

    def _without(self) -> None:
        if self.tether is not None:
            self.tether.beat(False)
        self.off = self.node.stopping  # nobody can be told to power down: the servos' watchdogs do it
        late = self.node.lateness
        self.drive.send(
            Drive(
                tick=self.tick, gate_open=False, torque_on=False, powered_off_confirmed=False, late_us=late.late_us[-1],
                cycle_us=0.0, overruns=late.overruns, frame_errors=0, stop="", present=False,
                unrescued=self._unrescued(),
            )
        )  # fmt: skip


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "servos")
    tether = Tether(node.bus.directory, node.clock)
    if not tether.greet(RESCUE_S + node.run.robot.stop_damp_s):
        node.say("no rescue: should this driver die, the servos' own watchdog alone stops the motors")
    try:
        driver = Driver(node, tether)
    except (PortError, ValueError) as error:
        return node.refuse(error)
    node.pace(20)
    try:
        driver.serve()
    finally:
        node.lateness.save(node.directory / "timing.npz", driver.cycles_us)
    driver.wire.close()
    tether.close()
    node.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
