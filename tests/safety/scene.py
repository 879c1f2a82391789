"""A rig on stage: one robot brought into a state, with a witness at its wire, faults at hand, and no operator but the test."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import numpy as np

from robotrl import config
from robotrl.messages import Action, Beat, Operator, Process
from robotrl.safety.causes import catalogue
from robotrl.safety.fitting import for_arms, for_unwatched, without
from robotrl.safety.guard import Guard
from robotrl.safety.ledger import Ledger
from robotrl.serialarm import ARMS
from robotrl.sim.faults import Fault
from robotrl.sim.rig import Rig
from robotrl.sim.twin import Twin
from tests.safety.witness import Tap, Witness, bounds_of

WALK = Path(__file__).resolve().parents[2] / "launch" / "walk.toml"
SETTINGS = ["twin.period_jitter=0", "twin.randomise=false", "twin.falls=0", "agent.random_steps=0", "task.stuck_s=1e9"]
SETTINGS += ["task.episode_steps=1000000"]
STATES = ("READY", "HOLD", "RUN", "RESET", "STOPPING", "clearing")
T = 20_000_000
REST_RAD_S = 0.4  # below what the guard takes for rest
LIVE = ("policy", "reset", "learner", "manager", "recorder")


class Sway:
    """In the actor's place: the robot stands and bows, so that goals move in every period and nothing falls."""

    def __init__(self) -> None:
        self._step = 0

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        self._step += 1
        return np.array([0.0] * 4 + [0.7 * math.sin(0.35 * self._step)] * 4, np.float32)


class Scene:
    """`cycle` is one period. Faults: `wire`, `each` (called every period), `action` (what becomes of the newest action)."""

    after_s = 2.4  # so long after a fault is gone nothing may have started again

    def __init__(self, seed: int = 0, *sets: str, twin: type[Twin] = Twin, keep: bool = True) -> None:
        self.run = config.load(WALK, [*SETTINGS, *sets])
        self.rig = Rig(self.run, seed, twin=twin)
        self.witness = Witness(bounds_of(config.to_dict(self.run)), keep)
        port = self.rig._ports["servos"]
        port._far = Tap(port._far, self.witness, self.rig.clock.now)  # type: ignore[assignment]
        self.rig.pilot.take(Sway(), 1, 0)  # type: ignore[arg-type]
        self._set_up()

    def _set_up(self, absent: Collection[str] = ()) -> None:
        """`absent`: the robot lacks these senses (fitting.SHOWN_BY)."""
        limits = self.run.robot.limits
        rows = catalogue(temp_c=limits.temp_c, tilt_rad=limits.tilt_rad, tilt_s=limits.tilt_s, falls=0, hiccups=0)
        rows = for_arms(rows) if self.run.robot.kind in ARMS else rows
        rows = for_unwatched(rows) if self.run.robot.servos.protocol == "feetech" else rows
        self.rig.sentry.guard = Guard(without(rows, absent), self.rig._next_nonce, damp_s=self.run.robot.stop_damp_s)
        self.rig._operate = self._operate  # type: ignore[method-assign]
        self.rig._live = self._live  # type: ignore[method-assign]
        self.key, self.console, self.human_age = "", True, 0.0
        self.each: Callable[[], None] = lambda: None
        self.action: Callable[[Action | None], Action | None] = lambda action: action
        self.beats, self.boot = set(LIVE), 0  # who is there, and in which life
        self.unkept = ""  # why the recorder can keep nothing more
        self.guard_lives = self.driver_lives = True

    # ---- what happens

    def cycle(self, n: int = 1) -> None:
        rig = self.rig
        for _ in range(n):
            self.each()
            rig._action = self.action(rig._action)
            if self.guard_lives and self.driver_lives:
                rig.cycle()
            elif self.guard_lives:
                self._without_driver()
            else:
                self._without_guard()
            self._look()

    def _look(self) -> None:
        """The period is over: the witness hears what there was, and the permit that follows."""
        rig = self.rig
        assert rig.permit is not None and rig.guard is not None
        self.witness.moment(rig.clock.now(), rig.guard.state, rig.guard.causes)
        self.witness.permit(rig.permit.t, rig.permit.state, rig.permit.torque, rig.permit.speed_scale)

    def _without_guard(self) -> None:
        """Its last permit stays the newest one."""
        rig, step = self.rig, self.rig.sentry.step
        kept = (rig.permit, rig.guard)
        rig.sentry.step = lambda now: kept  # type: ignore
        try:
            rig.cycle()
        finally:
            rig.sentry.step = step  # type: ignore[method-assign]

    def _without_driver(self) -> None:
        rig = self.rig
        rig.twin.advance(rig.period_s)
        now = rig.clock.now()
        rig._sense(now)
        rig._live(now)
        rig.permit, rig.guard = rig.sentry.step(now)

    def _live(self, now: int) -> None:
        """As the rig's, each in its life: a reset that has died says nothing more, and beats neither."""
        rig = self.rig
        if "reset" in self.beats:
            state = rig.resetter.state
            rig.sentry.hear(msgspec.structs.replace(state, boot=self.boot) if state.boot != self.boot else state, now)
        for name in sorted(self.beats):
            rig.sentry.hear(_beat(name, self.boot, self.unkept if name == "recorder" else ""), now)
        rig._operate(now)

    def _operate(self, now: int) -> None:
        rig, key = self.rig, self.key
        self.key = ""
        if not self.console:
            return
        nonce = rig.guard.nonce if rig.guard is not None else 0
        rig._press += 1
        rig.sentry.hear(Operator(source="console", t=now, command=key or "beat", press=rig._press, nonce=nonce,
                                 value=self.human_age, boot=self.boot), now)  # fmt: skip

    def press(self, key: str) -> str:
        self.key = key
        self.cycle()
        return self.state

    def process(self, name: str, event: str) -> None:
        self.rig.sentry.hear(Process(source="manager", boot=1, name=name, pid=1, event=event), self.now)

    def wire(self, name: str, fault: Fault, for_s: float = float("inf")) -> None:
        self.rig.twin.wires[name].add(fault, for_s)

    def heal(self) -> None:
        """Every fault ends."""
        for wire in self.rig.twin.wires.values():
            wire.clear()
        self.rig.twin.bus.lies.end()
        self.each, self.action = lambda: None, lambda action: action
        self.console, self.human_age, self.beats, self.unkept = True, 0.0, set(LIVE), ""
        self.guard_lives = self.driver_lives = True

    def settle(self) -> None:
        """Until a stop that is on its way is over: a Minitaur's is, by then."""

    @property
    def moves(self) -> bool:
        """A joint turns, in truth."""
        return max(map(abs, self.rig.twin.world.history.newest[8:16])) > REST_RAD_S

    def without(self, *ids: str) -> None:
        """Remove detectors: these rows are not in the table any more."""
        ledger = self.rig.sentry.guard.ledger
        bare = Ledger(tuple(row for row in ledger.rows.values() if row.id not in ids))
        bare.latched = ledger.latched - set(ids)
        self.rig.sentry.guard.ledger = bare

    # ---- what there is

    @property
    def now(self) -> int:
        return self.rig.clock.now()

    @property
    def state(self) -> str:
        return self.rig.guard.state if self.rig.guard is not None else ""

    @property
    def bank(self):
        return self.rig.twin.bus.bank

    def rogue(self, **changes: object) -> Action:
        """What a program that may not would ask for: under the newest lease, fresh, and far from where the legs are."""
        epoch = self.rig.permit.epoch if self.rig.permit is not None else 0
        fair = Action(source="policy", seq=10**6 + self.now // T, t=self.now, valid_ns=50_000_000, epoch=epoch, tick=0,
                      target=(0.5, 3.5) * 4 if self.now // T % 2 else (3.5, 0.5) * 4)  # fmt: skip
        return msgspec.structs.replace(fair, **changes)

    # ---- how it comes into a state

    def reach(self, state: str) -> None:
        """As a run comes there: by keys."""
        self._until("READY")
        if state == "READY":
            return self.cycle(5)
        self.press("enable")
        self.cycle(25)
        if state == "HOLD":
            return
        self.press("reset")
        if state == "RESET":
            return self.cycle(8)
        self._until("HOLD")
        self.press("run")
        self._until("RUN")
        self.cycle(30)
        if state == "STOPPING":
            self.process("operator", "died")
            self.cycle()
        if state == "clearing":
            self.press("stop")
            self.cycle(70)
        assert self.state == {"clearing": "PSTOP"}.get(state, state), (self.state, state)

    def _until(self, state: str, cycles: int = 200) -> None:
        for _ in range(cycles):
            self.cycle()
            if self.state == state:
                return
        raise AssertionError(f"no {state} within {cycles} periods; {self.state}, {self.rig.guard}")


@functools.lru_cache(maxsize=64)
def _beat(name: str, boot: int, note: str) -> Beat:
    return Beat(source=name, progress=0, boot=boot, note=note)
