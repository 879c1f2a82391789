"""An arm or D'Kitty in one process and in virtual time: line, chain, servo loop with its gate, guard, reset script, keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robotrl import config
from robotrl import messages as m
from robotrl.clock import LockstepClock
from robotrl.drivers.chains import Chain, chain_of
from robotrl.nodes.guard import Sentry
from robotrl.nodes.reset import LEVEL, Resetter
from robotrl.nodes.servoloop import ServoLoop, connected
from robotrl.sim.servotwin import ServoTwin

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
PERIOD_S = 0.02


def run_of(robot: str, folder: Path, overrides: list[str] | None = None) -> config.Run:
    """The run of a robot file of ours."""
    (folder / "robots").mkdir(exist_ok=True)
    (folder / "robots" / f"{robot}.toml").write_text((LAUNCH / "robots" / f"{robot}.toml").read_text())
    (folder / "run.toml").write_text(f'robot = "{robot}"\n')
    return config.load(folder / "run.toml", overrides or [])


class ArmRig:
    """`wish` (n,) rad is what the policy asks for, None: nothing. `states` are those the guard has been in, in order."""

    def __init__(self, robot: str, folder: Path, overrides: list[str] | None = None) -> None:
        self.run = run_of(robot, folder, overrides)
        self.clock = LockstepClock()
        self.twin = ServoTwin(robot, clock=self.clock)
        self.said: list[str] = []
        self.loop = self.connect()
        self._epoch = self._seq = 0
        self.sentry = Sentry(self.run, self._next_epoch, lambda: 7)
        self.resetter = Resetter(self.run)
        self.wish: tuple[float, ...] | None = None
        self.states: list[str] = []
        self.permit: m.Permit | None = None
        self.guard: m.Guard | None = None
        self.joints: m.Joints
        self.applied: m.Applied
        self.drive: m.Drive
        self.sent: list[tuple[float, ...]] = []
        self.step()

    @property
    def chain(self) -> Chain:
        return self.loop.chain

    def connect(self) -> ServoLoop:
        port = self.twin.ports()["servos"]
        connected(self.run.robot, port, TwinClock(self), -1, self.said.append)
        chain = chain_of(port, self.run.robot, self.clock)
        return ServoLoop(self.run.robot, chain, self.clock, PERIOD_S)

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def step(self, key: str = "") -> None:
        """One period; `key` is pressed in it."""
        now, sentry = self.clock.now(), self.sentry
        for beat in ("policy", "reset"):
            sentry.hear(m.Beat(source=beat, progress=1), now)
        nonce = self.guard.nonce if self.guard is not None else 0
        self._seq += 1
        sentry.hear(m.Operator(source="console", t=now, command=key or "beat", press=self._seq, nonce=nonce), now)
        sentry.hear(self.resetter.state, now)
        self.permit, self.guard = sentry.step(now)
        if not self.states or self.states[-1] != self.permit.state:
            self.states.append(self.permit.state)
        self.joints, self.applied, self.drive = self.loop.cycle(self.permit, self._action(now))
        self.sent.append(self.applied.target)
        for message in (self.joints, self.applied, self.drive):
            sentry.hear(message, now)
        self.twin.advance(PERIOD_S)

    def _action(self, now: int) -> m.Action | None:
        assert self.permit is not None
        if self.permit.holder == "reset":
            return self.resetter.cycle(self.joints, LEVEL, self.permit)
        self.resetter.cycle(self.joints, LEVEL, self.permit) if self.sent else None
        if self.permit.holder != "policy" or self.wish is None:
            return None
        self._seq += 1
        return m.Action(source="policy", seq=self._seq, t=now, epoch=self.permit.epoch, tick=self.loop.tick, target=self.wish)

    def until(self, true: Callable[[], bool], key: str = "", seconds: float = 8.0) -> ArmRig:
        """Go on until it is so; the key is pressed first. AssertionError after so long."""
        self.step(key)
        for _ in range(int(seconds / PERIOD_S)):
            if true():
                return self
            self.step()
        assert self.guard is not None
        raise AssertionError(f"not so after {seconds} s: {self.states} {self.guard.causes} {self.guard.note} {self.joints}")

    def reach(self, state: str, key: str = "", seconds: float = 8.0) -> ArmRig:
        return self.until(lambda: self.guard is not None and self.guard.state == state, key, seconds)

    def ready(self) -> ArmRig:
        return self.reach("READY")

    def running(self) -> ArmRig:
        """Enabled, and led by the policy, which asks for where it is."""
        self.ready().reach("HOLD", "enable").until(lambda: all(mode == 10 for mode in self.joints.mode))
        self.reach("RUN", "run")
        return self


class TwinClock:
    """Whoever sleeps lets the twin's physics pass. `powered`: whether any servo had torque meanwhile."""

    def __init__(self, rig: ArmRig) -> None:
        self._rig = rig
        self.powered = False

    def now(self) -> int:
        return self._rig.clock.now()

    def sleep_until(self, deadline: int) -> None:
        self.powered = self.powered or any(s.registers.get("torque") for s in self._rig.twin.bus.servos)
        self._rig.twin.advance(max(0, deadline - self.now()) * 1e-9)
