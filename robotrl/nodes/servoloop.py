"""One cycle of the servo driver: read, judge, write. The gate is the last code before bytes.

One thread does all reads and writes, so that a loop that stalls *is* silence on the bus, and the servos' own watchdog acts.
Imports no torch.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TypeGuard

import msgspec

from robotrl.clock import Clock
from robotrl.config import Robot
from robotrl.drivers.chains import Chain, chain_of
from robotrl.drivers.identity import recognise
from robotrl.drivers.port import DeviceError, Port
from robotrl.lateness import keep
from robotrl.messages import Action, Applied, Drive, Joints, Permit
from robotrl.nodes.powerdown import OFF, POWERED, STOPPED, TRIES, PowerDown, Watch, gate_limits, lower, off
from robotrl.safety.awake import LONGEST_STEP_NS, Awake
from robotrl.safety.gate import PERMIT_VALID_NS, Gate, Verdict

WATCHDOG_MODE, FAULT_MODE = LATCHED_MODES = (11, 1)  # moteus: watchdog time-out and fault leave only by a stop
UNREAD_MAX = 3  # cycles (safety facts, row 1)
NOBODYS = Action(seq=-1, epoch=-1, tick=-1, target=(), episode=-1, step=-1, policy_version=-1)
HOLD_NS = 5_000_000_000  # for which a guard's last word holds an arm on its way down: it is started again meanwhile; chosen
STARTING_NS = 200_000_000  # from the first target on, for every servo to have heard it and to leave mode 0


class ServoLoop:
    """One robot's servo cycle: `cycle` once a period. Without a permit it stops the robot by its stop profile (powerdown.py)."""

    def __init__(self, robot: Robot, chain: Chain, clock: Clock, period_s: float) -> None:
        self.robot, self.chain, self.clock = robot, chain, clock
        self.gate = Gate(gate_limits(robot, period_s))
        self.tick = -1
        self.overruns = 0
        self.late_us = 0.0
        self.cycles_us = array("f")  # of the newest cycles
        self.unrescued = False
        self._down = PowerDown(robot, chain, period_s)
        self._answered = 0  # cycles in a row in which no servo was missed: who does not answer has not heard us either
        self._heard = clock.now()  # when permits were last looked for
        self._awake = Awake(max(LONGEST_STEP_NS, int(2e9 * period_s)))
        self._word, self._word_at = (0, 0), 0  # the guard's last, and when it came (ns, awake)
        self._shown: tuple[str, int, int] | None = None
        self._last: tuple[Joints, Drive] | None = None
        self._on = False
        self._on_at = 0
        self._unread = [0] * len(robot.servos.ids)  # cycles in a row, of each
        self._forgetful: set[int] = set()  # numbers of those that were silent, then off: see _doubt
        # Torque comes on only by a guard that has said before, in one life of its own and of ours, that there is to be none.
        self._armed_by: int | None = None

    def cycle(self, permit: Permit | None, action: Action | None, held: bool = False) -> tuple[Joints, Applied, Drive]:
        """Read all servos, let the gate judge the newest action, write. Raises PortError when the port is lost.

        `held`: a stop key was pressed that no guard has heard: an arm on its way down stays where it is.
        """
        self.tick += 1
        began = self.clock.now()
        joints = self.chain.read(self.tick)
        self._answered = 0 if any(joints.missed) else self._answered + 1
        # Who slept through the end of a permit begins anew: where the servos are held, or else where the joints are (row 22).
        anew = not self._unbroken(permit, began) and self.gate.lapse(began)
        self._doubt(joints)
        if self._forgetful or self._dropped_out(joints, began):
            self._armed_by = None
            self.gate.shut()
        self._hear(permit, began)
        action = self._unseen(action)
        if self._on and ill(joints):
            action = None  # the own goal is held at once: the guard's word to stop comes one or two periods later
        verdict = self.gate.decide(self.clock.now(), action, joints.position, joints.missed, self._down.held(joints))
        if verdict.target is not None:
            sent, stage = self._write(joints, verdict.target, anew or not self._on), ""
        else:
            hold = held or (permit is not None and permit.hold and self._awake.now - self._word_at <= HOLD_NS)
            sent, stage = joints.position, self._power_down(began, joints, hold)
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
        return driven and any([mode == STOPPED and not n for mode, n in zip(joints.mode, joints.missed, strict=True)])

    def _doubt(self, joints: Joints) -> None:
        """Who was unread for UNREAD_MAX cycles and is then found stopped may have been without power: its RAM is as its flash has
        it, or another servo is in its place. It is set up anew, and nothing is permitted before that. Torque that is still on, or
        a watchdog's stop, says that it had power all the time."""
        for i, (servo, mode, missed) in enumerate(zip(self.robot.servos.ids, joints.mode, joints.missed, strict=True)):
            if not missed and mode == STOPPED and self._unread[i] >= UNREAD_MAX:
                self._forgetful.add(servo)
            self._unread[i] = self._unread[i] + 1 if missed else 0

    def _unbroken(self, permit: Permit | None, now: int) -> bool:
        """Was this permit made while the one before it held, and has it only waited for a cycle that came a little late?"""
        until = self.gate.open_until
        return permit is not None and until is not None and permit.t <= until and now - self._heard <= PERMIT_VALID_NS

    def _hear(self, permit: Permit | None, now: int) -> None:
        self._heard, awake = now, self._awake.step(now)
        if permit is None:
            return
        if (permit.boot, permit.t) != self._word:
            self._word, self._word_at = (permit.boot, permit.t), awake
        if fresh(permit, now) and not permit.torque:
            self._armed_by = permit.boot
        if permit.boot == self._armed_by:
            self.gate.permit(permit, now)

    def _unseen(self, action: Action | None) -> Action | None:
        """The action if the gate has not judged it before."""
        if action is None or (key := (action.source, action.boot, action.seq)) == self._shown:
            return None
        self._shown = key
        return action

    def _write(self, joints: Joints, target: tuple[float, ...], anew: bool) -> tuple[float, ...]:
        if anew and any(mode in LATCHED_MODES for mode in joints.mode):
            self.chain.clear()
        if not self._on:
            self._on_at = joints.t
        self._on = True
        sent = self.chain.write(target)
        self._down.driven(sent)
        return sent

    def _power_down(self, now: int, joints: Joints, hold: bool = False) -> str:
        """One step of the stop profile; its stage, empty once the motors read back as off. DeviceError for a servo that has been
        off since the start, or may have been: it is to be set up anew, which nothing hinders now."""
        self._on = False
        stage = self._down.step(now, self.tick, joints, hold)
        # A bus whose power was gone is asked one by one, for more than a cycle: in none are all heard, in a round they are.
        round_heard = max(joints.missed) <= len(joints.missed)
        limp = not stage or (stage == OFF and round_heard and not any(joints.mode))
        # Of who was silent only when that all are off has been said: a servo that the handshake refuses is no stop disobeyed.
        said = not stage and self._last is not None and self._last[1].powered_off_confirmed
        anew = {*(self.chain.rebooted if limp else ()), *(self._forgetful if said else ())}
        if anew:
            who = ", ".join(map(str, sorted(anew)))
            raise DeviceError(f"servo {who}: was off and on again, or silent as if it were; all are set up anew")
        return stage

    def _applied(self, verdict: Verdict, sent: tuple[float, ...], used: Action | None) -> Applied:
        a = used or NOBODYS
        return Applied(
            source="servos", epoch=a.epoch, tick=self.tick, t=self.clock.now(), writer=verdict.writer or "off", target=sent,
            clamped=verdict.clamped, held=verdict.held or verdict.target is None, refused=verdict.cause or verdict.refused,
            action_seq=a.seq, action_tick=a.tick, episode=a.episode, step=a.step, policy_version=a.policy_version,
        )  # fmt: skip

    def _drive(self, joints: Joints, stage: str, began: int) -> Drive:
        cycle_us = (self.clock.now() - began) * 1e-3
        keep(self.cycles_us, cycle_us)
        return Drive(
            source="servos", t=joints.t, tick=self.tick, gate_open=self._on, torque_on=self._on or stage in POWERED,
            powered_off_confirmed=off(joints), late_us=self.late_us,
            cycle_us=cycle_us, overruns=self.overruns,
            frame_errors=self.chain.frame_errors, stop=stage, unrescued=self.unrescued, raised=self._down.raised,
            frozen=self.chain.frozen,
            disobeyed=min(self._down.unconfirmed, self._answered) > TRIES + 1,
        )  # fmt: skip


def fresh(permit: Permit | None, now: int) -> TypeGuard[Permit]:
    """It holds, for torque and against it."""
    return permit is not None and abs(now - permit.t) <= PERMIT_VALID_NS


def ill(joints: Joints) -> bool:
    """A servo that reports a fault, has stopped itself, or is unread for as long as the guard bears it."""
    return any(joints.fault) or any([mode in LATCHED_MODES for mode in joints.mode]) or max(joints.missed) >= UNREAD_MAX


def prepare(chain: Chain, tick: int, say: Callable[[str], None]) -> None:
    """Stop every servo, configure it, check it. PortError: one is not as it must be; nothing has moved."""
    if WATCHDOG_MODE in chain.read(tick).mode:
        say("the servos' own watchdog had stopped them")
    chain.stop()
    chain.configure()
    if complaints := chain.check():
        raise DeviceError(complaints[0] + (f" (and {len(complaints) - 1} more)" if complaints[1:] else ""))


def taken(
    robot: Robot, port: Port, clock: Clock, say: Callable[[str], None], watch: Watch = lambda hot, raised: False
) -> bool:  # fmt: skip
    """Of a port that was just opened: are these the robot's servos? Then an arm that holds is lowered; `watch` and result as in
    `lower`."""
    recognise(port, robot, clock)  # first of all: with another's zeros nothing may be written, not even to lower it
    return lower(robot, port, clock, say, watch)


def set_up(robot: Robot, port: Port, clock: Clock, tick: int, say: Callable[[str], None]) -> Chain:
    """The chain on a port that is `taken`, prepared."""
    chain = chain_of(port, robot, clock)
    prepare(chain, tick, say)
    return chain


def connected(robot: Robot, port: Port, clock: Clock, tick: int, say: Callable[[str], None]) -> Chain:
    """Both."""
    taken(robot, port, clock, say)
    return set_up(robot, port, clock, tick, say)
