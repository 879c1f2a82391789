"""How the faults of the matrix are brought about, what more than the state must hold, and how a detector is taken out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise

import msgspec

from robotrl.messages import Action
from robotrl.sim.faults import (
    Mute,
)
from tests.safety.scene import Scene, T
from tests.safety.witness import Moment

ALL = ("READY", "HOLD", "RUN", "RESET", "STOPPING", "clearing")
POWERED = ALL[1:]
MOVING = ("RUN", "RESET")
Act = Callable[[Scene], object]
Check = Callable[[Scene, int], str]  # after the fault's time, from its onset: what is wrong, or ""


def tell(what: str, value: Callable[[float], float], servo: int = 2) -> Act:
    return lambda s: s.rig.twin.bus.lies.tell(servo, what, value)


def on(name: str, fault: Callable[[Scene], object], for_s: float = math.inf) -> Act:
    return lambda s: s.wire(name, fault(s), for_s)  # type: ignore[arg-type]


def instead(change: Callable[[Scene, Action | None], Action | None]) -> Act:
    """The newest action becomes another one, in every period."""

    def begin(s: Scene) -> None:
        s.action = lambda action: change(s, action)

    return begin


def rogue(**changes: object) -> Act:
    """A program that is not its holder, or no longer, asks in every period."""
    return instead(lambda s, _: s.rogue(**{k: v(s) if callable(v) else v for k, v in changes.items()}))


def spoiled(target: tuple[object, ...]) -> Act:
    """The holder's own actions, right but for their targets."""
    return instead(lambda s, a: a if a is None else msgspec.structs.replace(a, target=target))


def tripped(code: int) -> Act:
    return lambda s: s.bank.trip(3, code)


def every(act: Act) -> Act:
    def begin(s: Scene) -> None:
        s.each = lambda: act(s)

    return begin


def clumsy(s: Scene) -> None:
    """A reset that takes long: its pose is none that it could reach."""
    script = s.rig.resetter._script
    assert script is not None
    script._stand = (dataclasses.replace(script._stand[0], max_tilt=1e-9),)
    script._stages = script._stand


def both(*acts: Act) -> Act:
    return lambda s: [act(s) for act in acts]


def died(name: str, *silent: str) -> Act:
    def begin(s: Scene) -> None:
        s.process(name, "died")
        s.beats -= set(silent)
        if "policy" in silent or "reset" in silent:
            s.action = lambda action: None

    return begin


def hushed(name: str) -> Act:
    """It is there, and stands still (SIGSTOP, a debugger): no word comes."""

    def begin(s: Scene) -> None:
        s.beats -= {name}

    return begin


def unkept(s: Scene) -> None:
    """The recorder says that its disk is full."""
    s.unkept = "disk full"


def let_go(s: Scene) -> None:
    """The driver shuts its gate by itself, and nobody has seen why."""
    s.rig.servos.gate.shut()
    s.rig.servos._armed_by = None


def one_action(s: Scene) -> None:
    kept = s.rogue(valid_ns=10**12)
    s.action = lambda action: msgspec.structs.replace(kept, t=s.now, epoch=s.rig.permit.epoch if s.rig.permit else 0)


def flaky(s: Scene) -> None:
    """One answer in five is lost."""
    if s.now // T % 5 == 0:
        s.wire("servos", Mute(3), 0.03)


def drift(s: Scene) -> None:
    """The encoder says that the joint goes off at 8 rad/s, away from where its target can follow."""
    began = s.rig.seconds
    tell("angle", lambda now: now + (s.rig.seconds - began) * 8.0 / math.tau)(s)
    tell("speed", lambda now: 8.0 / math.tau)(s)


def power_cut(s: Scene) -> None:
    """Motor supply off for 0.3 s: all servos mute, and stopped when they come back."""
    for i, can in enumerate(s.run.robot.servos.ids):
        s.wire("servos", Mute(can), 0.3)
        s.bank.reboot(i)


def nobody(s: Scene) -> None:
    s.human_age = 200.0
    s.rig.sentry._human = s.now - 119_990_000_000


def absent(what: str) -> Act:
    return lambda s: setattr(s, what, False)


def dozing(s: Scene) -> None:
    """The guard says nothing for 100 ms, and goes on: the gate has shut, and must not open again as if nothing had been."""
    s.guard_lives, until = False, s.now + 100_000_000

    def wake() -> None:
        s.guard_lives = s.now >= until

    s.each = wake


def overrun(s: Scene) -> None:
    s.rig.servos.overruns += 1


# ---- what more must hold than the state


def still(told: list[Moment]) -> list[str]:
    """Goals may be written, and none of them moves, unless the joint itself was moved out of its goal's reach."""
    pairs = [(a, b) for a, b in pairwise(told) if a.goal and b.goal and not (a.lowers or b.lowers)]
    moved = {i for a, b in pairs for i in b.goal if abs(a.goal.get(i, b.goal[i]) - b.goal[i]) > 3e-5 and i not in b.led}
    return [f"the goals of servos {sorted(moved)} move"] if moved else []


def executed(s: Scene, onset: int) -> str:
    """No action was used from the onset on: the goals stand still."""
    return " ".join(still([m for m in s.witness.history if m.t > onset and m.state in (*ALL, "PSTOP")]))


def watchdog(s: Scene, onset: int) -> str:
    """Whoever was under torque has been stopped by its own watchdog."""
    return "" if set(s.bank.mode) <= {0, 11} else f"modes {s.bank.mode}: the servos' own watchdog did not act"


def unpowered(s: Scene, onset: int) -> str:
    """What came back is off, and stays off."""
    late = [m for m in s.witness.history if m.t > onset + 600_000_000]
    if any(m.goal for m in late) or any(s.bank.mode):
        return f"torque came back by itself: modes {s.bank.mode}"
    return ""


def no_goal_soon(s: Scene, onset: int) -> str:
    late = [m for m in s.witness.history if m.t > onset + 80_000_000]
    return "goals go on without a permit" if any(m.goal for m in late) else ""


def asleep(s: Scene) -> None:
    """The machine was suspended for half a second; the robot was not."""
    s.rig.twin.advance(0.5)


def awake(s: Scene, onset: int) -> str:
    first = next(m for m in s.witness.history if m.t > onset)
    return "the first word after waking is a goal" if first.goal else ""


# ---- controls of what no row of the table sees


def credulous(s: Scene) -> None:
    """A gate that objects to nothing."""
    s.rig.servos.gate._objection = lambda now, action, permit: "no action" if action is None else ""  # type: ignore


def doubly(s: Scene) -> None:
    credulous(s)
    s.rig.servos._unseen = lambda action: action  # type: ignore


def unslewed(s: Scene) -> None:
    s.rig.servos.gate._limited_joint = lambda i, goal, wanted, slew: (wanted, 0)  # type: ignore


def eternal(s: Scene) -> None:
    """A gate whose permit never runs out."""
    s.rig.servos.gate._opens = lambda permit, now: permit.torque  # type: ignore


def forgetful(s: Scene) -> None:
    """A driver that starts whatever comes back."""
    s.rig.servos._dropped_out = lambda joints, now: False  # type: ignore
    s.rig.servos._doubt = lambda joints: None  # type: ignore


def trusting(s: Scene) -> None:
    """A chain that takes every answer for one to its question."""
    chain = s.rig.servos.chain
    everyone = {sender: i for known in chain._senders for sender, i in known.items()}
    chain._senders = [everyone] * len(chain._senders)


FAR, NAN = (0.5, 3.5) * 4, (math.nan,) * 8
SERVO_CAUSES = ("servo_lost", "servo_flaky", "bus_silent")
