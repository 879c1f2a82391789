"""The servo driver: owns the bus to the motors, and with it the cycle and its gate (servoloop.py). Imports no torch."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

from robotrl.drivers.chains import baud_of
from robotrl.drivers.port import PortError, SerialPort
from robotrl.drivers.tape import Tape
from robotrl.messages import Action, Drive, Joints, Permit
from robotrl.node import Node
from robotrl.nodes.lowering import Lowering, StopKey
from robotrl.nodes.powerdown import HOLD, STOW
from robotrl.nodes.servoloop import HOLD_NS, UNREAD_MAX, ServoLoop, fresh, set_up, taken
from robotrl.nodes.tether import Tether
from robotrl.nodes.wire import Wire
from robotrl.safety.awake import LONGEST_STEP_NS, Awake

POWER_DOWN_NS = 1_000_000_000  # beside the damping, for the motors to read back as off
RESCUE_S = 2.0  # for the rescue to be there; one that still stops the motors after our last life takes stop_damp_s longer


class Driver:
    """The servo loop on the bus and on its port. Without the port it goes on saying so: silence would tell the guard less."""

    def __init__(self, node: Node, tether: Tether | None = None) -> None:
        """`tether`: to the rescue process; without one nobody is told what happens here."""
        self.node, self.tether = node, tether
        self.period_s = 1.0 / node.run.task.rate_hz
        self.permits, self.actions = node.bus.subscriber("permit"), node.bus.subscriber("action")
        self.joints, self.applied, self.drive = (node.bus.publisher(topic) for topic in ("joints", "applied", "drive"))
        self.exchanges = node.bus.publisher("wire")
        self.stop_key = StopKey(node.bus.subscriber("operator"))
        self.tape = Tape(node.clock)
        self.off = self._ending = False
        self._tried = 0  # ns, for the port in vain
        self.tick = -1
        self.cycles_us = array("f")  # of the newest cycles
        self._lost_servos: tuple[int, ...] = ()
        if self.tether is not None:
            self._greet(self.tether)
        self.wire = Wire(node, self.connect)

    def _greet(self, tether: Tether) -> None:
        robot = self.node.run.robot
        if not tether.greet(RESCUE_S + robot.stop_damp_s, self._held_by_the_rescue):
            watchdog = "nothing stops the motors: they have no watchdog"
            if robot.servos.protocol != "feetech":
                watchdog = "the servos' own watchdog alone stops the motors"
            self.node.say(f"no rescue: should this driver die, {watchdog}")

    def _held_by_the_rescue(self) -> bool:
        """Is an arm that the rescue lowers after our last life to stay where it is? A stop key says so, which it cannot hear."""
        now = self.node.clock.now()
        self.stop_key.hear(now)
        if self.node.run.robot.stop_profile != STOW or self.node.over():
            return False
        word = self._guards_word()
        if held := self.stop_key.holds(now) or (word is not None and word.hold):
            self._lowers(HOLD)
        return held

    def _guards_word(self) -> Permit | None:
        """The guard's last: it may be started again meanwhile."""
        permit = self.permits.latest()
        return permit if permit is not None and self.node.clock.now() - permit.t <= HOLD_NS else None

    def connect(self) -> tuple[SerialPort, ServoLoop]:
        """Open the port, lower an arm that holds, stop every servo, configure it, check it. PortError, ValueError: nothing but an
        arm that was lowered has moved, nothing will."""
        robot = self.node.run.robot
        port = SerialPort(robot.servos.port, baud_of(robot.servos), self.node.clock)
        lowering = Lowering(
            self.node, self.stop_key, self.tether, port, self._guards_word(), self._lowers, robot.stop_profile
        )  # fmt: skip
        try:
            try:  # not on the tape: it takes seconds, and what a person's key does there the tape would not know
                if taken(robot, port, self.node.clock, self.node.say, lowering.watch):
                    self._lowers("")
            finally:
                lowering.over()
            self.tape.call("connect")
            chain = set_up(robot, self.tape.around(port), self.tape.clock, self.tick, self.node.say)
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
        self._ending = True
        awake = Awake(max(LONGEST_STEP_NS, 2 * period))  # as the stop counts its time: who stood still meanwhile is not done
        enough, self._tried = POWER_DOWN_NS + int(self.node.run.robot.stop_damp_s * 1e9), 0
        for _ in self.node.every(period, lambda: self.off or awake.step(self.node.clock.now()) + self._tried > enough):
            self.cycle(None, None)
        if self.tether is not None and self.off:
            self.tether.done()

    def cycle(self, permit: Permit | None, action: Action | None) -> None:
        """One period: newest permit and newest action in; joints, what was applied, and the drive's health out."""
        loop = self.wire.device
        held = self._held_without_a_guard(permit)
        if loop is None:
            began = self.node.clock.now()
            if not self.wire.again():
                self._tried += self.node.clock.now() - began  # it takes its time, and is no standstill
            return self._without()
        late = self.node.lateness
        if self.node.suspended() and not self._ending:  # at its end nobody leads, and it is to come down
            return self._lost(PortError(f"{self.node.run.robot.servos.port}: this machine was suspended; the servos begin anew"))
        loop.late_us, loop.overruns, loop.unrescued = late.late_us[-1], late.overruns, self._unrescued()
        self.tape.call("held" if held else "cycle", permit, action)
        try:
            joints, applied, drive = loop.cycle(permit, action, held)
        except PortError as error:
            return self._lost(error)
        if self.tether is not None:
            self.tether.beat(drive.torque_on)
        self.tick, self.off = loop.tick, drive.powered_off_confirmed
        first = self.joints.send(joints).seq
        self.applied.send(applied)
        self.drive.send(drive)
        self._name_the_silent(joints)  # a disk may be slow
        self.exchanges.send(self.tape.take(first))

    def _held_without_a_guard(self, permit: Permit | None) -> bool:
        """Was a stop key pressed that no guard has heard, because there is none? The next one takes it from what we say."""
        now = self.node.clock.now()
        led = fresh(permit, now)
        self.stop_key.hear(now, taken_up=led)
        pressed = self.stop_key.pressed if self.stop_key.holds(now) and not led and not self.node.stopping else None
        return pressed is not None and (permit is None or pressed > permit.t)

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

    def _lowers(self, stage: str, raised: bool = False) -> None:
        """An arm that was found holding is at this stage of its way down; "": it is read back as off."""
        self.drive.send(
            Drive(
                tick=self.tick, gate_open=False, torque_on=bool(stage), powered_off_confirmed=not stage, late_us=0.0,
                cycle_us=0.0, overruns=self.node.lateness.overruns, frame_errors=0, stop=stage, raised=raised,
                unrescued=self._unrescued(),
            )
        )  # fmt: skip

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
        self.off = False  # nobody can be told to power down, and who ends looks for the port until its time is up
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
    node.hurry(20)  # the handshake times its answers; what is refused, `pace` will say
    tether = Tether(node.bus.directory, node.clock)
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
