"""The guard's process: streams in, a judgement once a period and at once for a stop, the permit out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robotrl import aloud
from robotrl import messages as m
from robotrl.bus import Subscriber
from robotrl.node import Node
from robotrl.nodes.epoch import LockoutFile
from robotrl.nodes.lifeline import Lifeline
from robotrl.safety.awake import Awake

if TYPE_CHECKING:
    from robotrl.nodes.guard import Sentry

PERIOD_NS = 20_000_000
EARLY_NS = 2_000_000  # before the next period: no more waiting for a key, whose timer has but milliseconds
LATE_NS = 200_000_000  # a guard that was silent for so long, torque on, has slept through the stop that its silence was
PSTOP_NS = 200_000_000  # for which a guard whose manager is gone is in PSTOP: the driver, who looks for it too, stops by then
LINGER_NS = 500_000_000  # for which it stays at least
GONE_NS = 2_000_000_000  # a driver that has said nothing for so long is gone; chosen for a busy machine
MORE_NS = 5_000_000_000  # beside the robot's stop profile, for which it waits at most for the motors to read back as off; chosen
KEEP_AGAIN_NS = 1_000_000_000  # between two tries to write a lockout down: each may hold the guard up
NEVER = -1
STREAMS = ("joints", "applied", "drive", "imu", "image", "pose", "operator", "process", "episode_end", "reset", "beat", "teleop")


class Vigil:
    """One life of the guard on the bus. It listens for `listen_ns` at most before it judges: silence would be taken for deaths,
    and the gate is shut. Without its manager it stops the robot, gives torque no more, and judges on until it has come to rest.
    """

    def __init__(self, node: Node, sentry: Sentry, lockout: LockoutFile, listen_ns: int) -> None:
        self._node, self._sentry, self._lockout, self._clock = node, sentry, lockout, node.clock
        self._streams = [node.bus.subscriber(topic) for topic in STREAMS]
        self._operator = self._streams[STREAMS.index("operator")]
        self._permits, self._shown, self._causes = (node.bus.publisher(topic) for topic in ("permit", "guard", "cause"))
        self._last: tuple[str, tuple[str, ...], bool] = ("", (), False)
        self._console = Lifeline()
        self._alone = Alone(int(node.run.robot.stop_damp_s * 1e9) + MORE_NS)
        self._listen_until = node.clock.now() + listen_ns
        self._judged, self._torque = NEVER, False
        self._unkept: tuple[str, ...] | None = None  # the causes of a lockout that the disk has not taken yet
        self._keep_at, self._complained = NEVER, False

    def serve(self) -> bool:
        """Until told to end, or alone for long enough. False: it slept, and must be started anew."""
        for _ in self._node.every(PERIOD_NS, self._ended):
            self._hear(*self._streams)
            self._look_after_the_others()
            now = self._clock.now()
            if self._slept(now):
                return False
            if now < self._listen_until and not self._sentry.informed():
                continue
            self._judge()
            while (left := self._node.due - self._clock.now() - EARLY_NS) > 0:
                if not self._node.bus.wait([self._operator], left * 1e-9):
                    break
                if self._hear(self._operator):  # a stop does not wait for the next period
                    if self._slept(self._clock.now()):
                        return False
                    self._judge()
                    break  # once: others rely on the period
        return True

    def _slept(self, now: int) -> bool:
        """Is this life over? As before it must not go on: torque would come back by itself. After a suspension not without torque
        either: by the clock that stood still a key that waits, and the number it answers, are as young as before it. Without a
        manager nobody would start another: it goes on, and gives torque no more, whatever key comes."""
        slept = self._node.suspended() or (self._torque and now - self._judged > LATE_NS)
        if slept and self._alone.begun:
            self._let_go()
        return slept and not self._alone.begun

    def _ended(self) -> bool:
        return self._node.stopping or self._alone.over()

    def _hear(self, *streams: Subscriber) -> bool:
        """Take what has come; whether a stop was among it."""
        stop = False
        for message in (message for stream in streams for message in stream.drain()):
            self._sentry.hear(message, self._clock.now())
            if isinstance(message, m.Drive):
                self._alone.hear(message)
            if isinstance(message, m.Operator):
                self._console.hear(message)
                stop = stop or message.command == "stop"
        return stop

    def _look_after_the_others(self) -> None:
        if self._console.ended():
            self._sentry.hear(m.Process(source="guard", name="console", pid=0, event="died"), self._clock.now())
        if not self._alone.begun and self._node.orphaned():
            self._sentry.hear(m.Process(source="manager", name="manager", pid=0, event="died"), self._clock.now())
            self._alone.begun = True
        if self._alone.step(self._clock.now()) > PSTOP_NS:
            self._let_go()

    def _let_go(self) -> None:
        """As when the manager ends the run: from here on no permit gives torque, and motors that keep it do not obey."""
        self._sentry.hear(m.Process(source="manager", name="manager", pid=0, event="stopping"), self._clock.now())

    def _judge(self) -> None:
        self._judged = self._clock.now()
        permit, state = self._sentry.step(self._judged)
        self._torque = permit.torque
        self._permits.send(permit)
        self._shown.send(state)
        if (state.state, state.causes, state.led) != self._last:
            self._last = (state.state, state.causes, state.led)
            self._causes.send(state)
            aloud.say(logged(state))
            if state.state == "LOCKOUT":
                self._unkept, self._keep_at = state.causes, self._judged
        if self._unkept is not None and self._judged >= self._keep_at:
            self._keep(self._unkept)

    def _keep(self, causes: tuple[str, ...]) -> None:
        """The lockout that stands, onto the disk, and again until that takes it: a restarted guard, or the next run, would be as
        after any other stop. The person is told, once."""
        try:
            self._lockout.keep(causes)
        except OSError as error:
            self._keep_at = self._judged + KEEP_AGAIN_NS
            if not self._complained:
                self._node.say(f"the lockout is not kept, and a new start would forget it: {error}; look after the disk")
            self._complained = True
        else:
            if self._complained:
                self._node.say("the lockout is kept now")
            self._unkept, self._complained = None, False


class Alone:
    """A guard without a manager: how long it is still needed. All else by the time that it was awake, ns."""

    def __init__(self, most: int) -> None:
        self.begun, self._most = False, most
        self._awake, self._drive_at = Awake(), 0
        self._drive: m.Drive | None = None

    def hear(self, drive: m.Drive) -> None:
        self._drive, self._drive_at = drive, self._awake.now

    def step(self, now: int) -> int:
        """For how long it has been alone."""
        return self._awake.step(now) if self.begun else 0

    def over(self) -> bool:
        """The motors read back as off, or nobody is left who would say so: of a dead driver's the rescue knows. Never before
        LINGER_NS, nor long after a stop profile must have come to its end."""
        alone = self._awake.now
        if not self.begun or alone <= LINGER_NS:
            return False
        off = self._drive is None or self._drive.powered_off_confirmed
        return off or alone - self._drive_at > GONE_NS or alone > self._most


def logged(state: m.Guard) -> str:
    """A line of logs/guard.log: when, the state, what led to it, what stands, what the operator is told."""
    why = f" <- {state.trigger}" if state.trigger else ""
    return f"{state.t} {state.state}{why} [{' '.join(state.causes)}] {state.note}"
