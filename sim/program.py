"""The whole robot program in one process on virtual time: the lockstep clock's counterpart of the process tree.

Gate, chain, codecs, guard, reset script and policy are the ones the processes run; the ports are in memory and their far ends are
the twin's. One `cycle` is one control period: the world moves on, then every part does what its process would have done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.drivers.chains import Chain, chain_of
from robotrl.drivers.identity import recognise
from robotrl.drivers.port import DeviceError, MemoryPort, PortError
from robotrl.messages import Action, Applied, Beat, Drive, Episode, Guard, Imu, Joints, Operator, Permit, Teleop, Transition
from robotrl.nodes.guard import Sentry
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.reset import Resetter
from robotrl.nodes.servoloop import ServoLoop
from robotrl.nodes.wire import RETRY_NS
from robotrl.replay import Replay
from robotrl.sim.operator import Script

T = TypeVar("T")
BEATS = tuple(Beat(source=name, progress=0) for name in ("policy", "reset", "learner"))


class Body(Protocol):
    """A robot that is not there: what moves, and the far ends of its wires (`sim/twin.py`, `sim/servotwin.py`)."""

    note: str

    def advance(self, seconds: float) -> None: ...
    def ports(self) -> dict[str, MemoryPort]: ...
    def close(self) -> None: ...


class Program:
    """One robot's program and its operator. What only some robots have, whoever has the body adds: `Rig`, `ArmRig`."""

    def __init__(
        self, run: Run, seed: int, clock: LockstepClock, body: Body, replay: Replay | None = None, deterministic: bool = False,
        keep: Callable[[Transition], object] | None = None,
    ) -> None:  # fmt: skip
        """`keep` takes the pilot's transitions; the replay does without it."""
        self.run, self.clock, self._body = run, clock, body
        self._ports = body.ports()
        self.period_s = 1.0 / run.task.rate_hz
        self._retry = dict.fromkeys(self._ports, 0)  # a lost port's: when to try again; 0: it is there
        self.servos = ServoLoop(run.robot, self._chain(), self.clock, self.period_s)
        self._open_senses()
        self._epoch = 0
        self._nonce = 0
        limits = replace(run.robot.limits, falls=run.twin.falls)
        self.sentry = Sentry(replace(run, robot=replace(run.robot, limits=limits)), self._next_epoch, self._next_nonce)
        self.resetter = Resetter(run)
        self.pilot = Pilot(run, replay, seed, deterministic, keep)
        self.rng = np.random.default_rng([seed, 2])
        self.imu: Imu | None = None
        self.joints: Joints | None = None
        self.applied: Applied | None = None
        self.permit: Permit | None = None
        self.guard: Guard | None = None
        self._action: Action | None = None
        self._press = 0
        self.pushes = 0  # on the robot, so far
        self._script = Script()

    @property
    def note(self) -> str:
        """What a person should know of the twin; often nothing."""
        return self._body.note

    @property
    def seconds(self) -> float:
        """Robot time so far."""
        return self.clock.now() * 1e-9

    def cycle(self) -> None:
        """One control period of robot time."""
        jitter = self._jitter()
        # as `uniform` draws it, in a fifth of the time
        seconds = self.period_s * (1.0 + (2 * jitter * self.rng.random() - jitter)) if jitter else self.period_s
        self._body.advance(seconds)
        now = self.clock.now()
        self._sense(now)
        driven = self._drive(now)
        if driven and self.imu is not None:
            self._think(now, self.imu)
        if self.imu is not None:
            self._live(now)
        before = self.permit.state if self.permit else ""
        self.permit, self.guard = self.sentry.step(now)
        if self.permit.state != before:
            self._entered(self.permit.state)

    def take_finished(self) -> list[Episode]:
        """Episodes whose last reward has become known since the last call."""
        finished, self.pilot.finished = self.pilot.finished, []
        return finished

    def close(self) -> None:
        self._body.close()

    def _open_senses(self) -> None:
        """Open the ports of what it has beside its servos."""

    def _sense(self, now: int) -> None:
        """Read them, and tell guard and pilot."""

    def _jitter(self) -> float:
        """By what fraction of itself a period may vary."""
        raise NotImplementedError

    def _hand(self, now: int) -> Teleop | None:
        """What a person says who may lead it; None where nobody does."""
        return None

    def _help(self, command: str, guard: Guard) -> None:
        """What a person does with his hands before he presses this key."""

    def _entered(self, state: str) -> None:
        """The guard is in another state."""

    def _stepped(self, steps: int) -> None:
        """An episode is so many steps old."""

    def _chain(self) -> Chain:
        chain = chain_of(self._ports["servos"], self.run.robot, self.clock)
        chain.stop()
        chain.configure()
        return chain

    def _try(self, port: str, now: int, read: Callable[[], T], connect: Callable[[], None]) -> T | None:
        """What is read from a port; None while it is lost, which is tried again once a second, as the nodes do."""
        if now < self._retry[port]:
            return None
        try:
            if self._retry[port]:
                connect()
                self._retry[port] = 0
            return read()
        except PortError:
            self._retry[port] = now + RETRY_NS
            return None

    def _cycle_servos(self) -> tuple[Joints, Applied, Drive]:
        return self.servos.cycle(self.permit, self._action)

    def _connect_servos(self) -> None:
        recognise(self._ports["servos"], self.run.robot, self.clock)
        chain, tick = self._chain(), self.servos.tick
        if complaints := chain.check():
            raise DeviceError(complaints[0])
        self.servos = ServoLoop(self.run.robot, chain, self.clock, self.period_s)
        self.servos.tick = tick

    def _drive(self, now: int) -> bool:
        """The servo driver's period; false without its port, which it then says."""
        done = self._try("servos", now, self._cycle_servos, self._connect_servos)
        if done is None:
            self.sentry.hear(
                Drive(source="servos", t=now, tick=self.servos.tick, gate_open=False, torque_on=False,
                      powered_off_confirmed=False, late_us=0.0, cycle_us=0.0, overruns=0, frame_errors=0, stop="", present=False),
                now,
            )  # fmt: skip
            return False
        self.joints, self.applied, drive = done
        self.pilot.hear(drive)
        for message in (self.joints, self.applied, drive):
            self.sentry.hear(message, now)
        return True

    def _think(self, now: int, imu: Imu) -> None:
        """Policy and reset answer the cycle; the gate will see the answer in the next one, a period later."""
        assert self.joints is not None and self.applied is not None
        hand = self._hand(now)
        if hand is not None:
            self.sentry.hear(hand, now)
        asked = self.pilot.cycle(self.joints, self.applied, imu, self.permit, hand)
        self.resetter.places = self.pilot.set_up
        played = self.resetter.cycle(self.joints, imu, self.permit)
        self._action = asked or played
        if self.pilot.just_ended:
            self.sentry.hear(Episode(source="policy", episode=self.pilot.episode, step=0, total_steps=0, total_return=0.0,
                speed=0.0, policy_version=0, policy_age_s=0.0, ended=self.pilot.just_ended), now)  # fmt: skip
        if self.pilot.tally is not None:
            self._stepped(self.pilot.tally.steps)

    def _live(self, now: int) -> None:
        """Beats and the operator: they come whatever the ports do."""
        self.sentry.hear(self.resetter.state, now)
        for beat in BEATS:
            self.sentry.hear(beat, now)
        self._operate(now)

    def _operate(self, now: int) -> None:
        """The scripted operator of `--sim`, with a hand on the robot."""
        command = self._script.answer(self.guard) if self.guard is not None else ""
        self._press += 1
        if self.guard is not None:
            self._help(command, self.guard)
        nonce = self.guard.nonce if self.guard is not None else 0
        self.sentry.hear(Operator(source="console", t=now, command=command or "beat", press=self._press, nonce=nonce), now)

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def _next_nonce(self) -> int:
        self._nonce += 1
        return self._nonce
