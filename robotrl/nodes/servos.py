"""The servo driver: owns the bus to the motors and the gate, the last code before bytes.

`ServoLoop` is one cycle of it: read, judge, write. One thread does all reads and writes, so that a loop that stalls *is* silence on
the bus, and the servos' own watchdog acts. Imports no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from robotrl.clock import Clock
from robotrl.config import Robot
from robotrl.drivers.chain import Chain
from robotrl.drivers.port import PortError, SerialPort
from robotrl.messages import Action, Applied, Drive, Joints, Permit
from robotrl.node import Node, real_time
from robotrl.safety.gate import Gate, Verdict
from robotrl.safety.limits import legged_limits

POSITION_MODE, LATCHED_MODES = 10, (1, 11)  # moteus: fault and watchdog time-out leave only by a stop
OFF_EVERY = 5  # cycles between repeated stops while the motors are off: a servo that rebooted hears one soon
USB_BAUD = 115200  # a USB adapter has no baud rate; something must be said


class ServoLoop:
    """One robot's servo cycle: `cycle` once a period. What the stop profile of a legged robot says: damp, then off."""

    def __init__(self, robot: Robot, chain: Chain, clock: Clock, period_s: float) -> None:
        self.robot, self.chain, self.clock = robot, chain, clock
        limits = robot.limits
        n = len(robot.servos.ids)
        slew = limits.slew_rad_s * period_s
        self.gate = Gate(
            legged_limits(n, limits.position_min, limits.position_max, slew, limits.lead_rad, limits.gap_min)
        )
        self.tick = -1
        self.overruns = 0
        self.late_us = 0.0
        self.cycles_us: list[float] = []
        self._shown: tuple[str, int, int] | None = None
        self._on = False
        self._damp_until: int | None = None
        self._nothing = (0,) * n

    def cycle(self, permit: Permit | None, action: Action | None) -> tuple[Joints, Applied, Drive]:
        """Read all servos, let the gate judge the newest action, write. Raises PortError when the port is lost."""
        self.tick += 1
        began = self.clock.now()
        joints = self.chain.read(self.tick)
        if permit is not None:
            self.gate.permit(permit, began)
        verdict = self.gate.decide(self.clock.now(), self._unseen(action), joints.position, joints.missed)
        if verdict.target is not None:
            sent, stage = self._write(joints, verdict.target), ""
        else:
            sent, stage = joints.position, self._power_down(began, joints)
        used = action if action is not None and not verdict.refused and verdict.target is not None else None
        return joints, self._applied(verdict, sent, used), self._drive(joints, stage, began)

    def _unseen(self, action: Action | None) -> Action | None:
        """The action if the gate has not judged it before."""
        if action is None or (key := (action.source, action.boot, action.seq)) == self._shown:
            return None
        self._shown = key
        return action

    def _write(self, joints: Joints, target: tuple[float, ...]) -> tuple[float, ...]:
        if not self._on and any(mode in LATCHED_MODES for mode in joints.mode):
            self.chain.clear()
        self._on, self._damp_until = True, None
        return self.chain.write(target)

    def _power_down(self, now: int, joints: Joints) -> str:
        """The stop profile, one step a cycle; returns its stage, empty once the motors read back as off."""
        if self._on:
            self._on = False
            self._damp_until = now + int(self.robot.stop_damp_s * 1e9)
        if self._damp_until is not None and now < self._damp_until:
            self.chain.damp()
            return "damp"
        self._damp_until = None
        off = self._off(joints)
        if not off or self.tick % OFF_EVERY == 0:
            self.chain.stop()
        return "" if off else "off"

    def _off(self, joints: Joints) -> bool:
        """Every servo answered in this cycle that it is stopped."""
        return not any(joints.missed) and not any(joints.mode)

    def _applied(self, verdict: Verdict, sent: tuple[float, ...], used: Action | None) -> Applied:
        common = dict(
            tick=self.tick, t=self.clock.now(), writer=verdict.writer or "off", target=sent, clamped=verdict.clamped,
            held=verdict.held or verdict.target is None, refused=verdict.cause or verdict.refused,
        )  # fmt: skip
        if used is None:
            return Applied(source="servos", epoch=-1, **common)
        return Applied(
            source="servos", epoch=used.epoch, action_seq=used.seq, action_tick=used.tick, episode=used.episode,
            step=used.step, policy_version=used.policy_version, **common,
        )  # fmt: skip

    def _drive(self, joints: Joints, stage: str, began: int) -> Drive:
        self.cycles_us.append((self.clock.now() - began) * 1e-3)
        return Drive(
            source="servos", t=joints.t, tick=self.tick, gate_open=self._on, torque_on=self._on or stage == "damp",
            powered_off_confirmed=self._off(joints), late_us=self.late_us,
            cycle_us=self.cycles_us[-1], overruns=self.overruns,
            frame_errors=self.chain.frame_errors, stop=stage,
        )  # fmt: skip


def main(argv: list[str]) -> int:
    node = Node(Path(argv[0]), "servos")
    robot, period_s = node.run.robot, 1.0 / node.run.task.rate_hz
    port = SerialPort(robot.servos.port, USB_BAUD, node.clock)
    chain = Chain(port, robot.servos, node.clock)
    chain.stop()
    chain.configure()
    for complaint in chain.check():
        print(f"servos: {complaint}", file=sys.stderr, flush=True)
    loop = ServoLoop(robot, chain, node.clock, period_s)
    refused = real_time(20)
    if refused:
        print(f"servos: {refused}", file=sys.stderr, flush=True)
    try:
        serve(node, loop, period_s)
    except PortError as error:
        print(f"servos: {error}", file=sys.stderr, flush=True)
        return 3
    finally:
        np.savez(node.directory / "timing.npz", late_us=node.lateness.late_us, cycle_us=loop.cycles_us)
    chain.stop()
    port.close()
    node.close()
    return 0


def serve(node: Node, loop: ServoLoop, period_s: float) -> None:
    """Own the period until told to stop: newest permit and newest action in, joints and what was applied out."""
    permits, actions = node.bus.subscriber("permit"), node.bus.subscriber("action")
    joints_out, applied_out = node.bus.publisher("joints"), node.bus.publisher("applied")
    drive_out = node.bus.publisher("drive")
    for _ in node.every(int(period_s * 1e9)):
        loop.late_us, loop.overruns = node.lateness.late_us[-1], node.lateness.overruns
        permit = permits.latest()
        action = actions.latest(permit.holder) if permit is not None and permit.holder else None
        joints, applied, drive = loop.cycle(permit, action)
        joints_out.send(joints)
        applied_out.send(applied)
        drive_out.send(drive)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
