"""For the layers alone (`layers.py`): what must be seen, at the wire and in the servos. `ms`: the bound, from the onset on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tests.safety import linechecks
from tests.safety.absences import MS
from tests.safety.linescene import LineScene
from tests.safety.mischief import still
from tests.safety.scene import Scene, T
from tests.safety.witness import Moment

STOPPED_ITSELF = 11
Seen = Callable[[Scene, int, int], str]  # the scene, the onset, `ms`: what is wrong, or ""


def led(s: Scene) -> set[int]:
    """Places of the servos that go by their goals, as they are inside."""
    if not isinstance(s, LineScene):
        return {i for i, mode in enumerate(s.bank.mode, 1) if mode not in (0, STOPPED_ITSELF)}
    return {p for p, v in enumerate(s.servos, 1) if v.registers.get("torque") and (s.feetech or
            v.registers.get("bus_watchdog") != -1)}  # fmt: skip


def muted(s: Scene) -> set[int]:
    return {s.ids.index(s.middle) + 1} if isinstance(s, LineScene) else {3}


def all_of(s: Scene) -> set[int]:
    return set(range(1, len(s.run.robot.servos.ids) + 1))


def stopped_themselves(who: Callable[[Scene], set[int]]) -> Seen:
    """Those who heard nothing more stopped by themselves and stayed so, whatever they were told later; where they were heard
    again, they said so on the wire. A Feetech has no watchdog: it goes as far as its goal leads, and no farther."""

    def check(s: Scene, onset: int, ms: int) -> str:
        if isinstance(s, LineScene) and s.feetech:
            return max((far for t, _, far in s.trace), default="")
        on = {p for t, on, _ in s.trace if t >= onset + ms * MS for p in on & who(s)}
        said = {p for m in s.witness.history if m.t > onset + ms * MS for p in who(s) if m.modes.get(p, 0) not in (0, 11)}
        return f"servos {sorted(on | said)} were led by nobody after {ms} ms" if on | said else ""

    return check


def since(s: Scene, t: int) -> list[Moment]:
    return [m for m in s.witness.history if m.t > t]


def stands(s: Scene, onset: int, ms: int) -> str:
    """From the bound on goals stand still: the last that may be new is of the cycle before it."""
    told = since(s, onset + ms * MS - 2 * T)
    return " ".join(still(told)) if any(m.goal for m in told) else "no goal at all: not held"


def shut(s: Scene, onset: int, ms: int) -> str:
    """From the bound on no goals, but those by which an arm lowers itself; and the stop was said, or nothing was asked."""
    told = [m for m in since(s, onset + ms * MS - T) if m.goal and not m.lowers]
    if told:
        return f"a goal {(told[0].t - onset) / MS:.0f} ms after it began"
    spoke = [m for m in since(s, onset) if m.asked]
    return "" if any(m.damped or m.lowers or m.stopped for m in spoke) else "no stop was said"


def ordered(cause: str, state: str) -> Seen:
    """The guard has named it and is in its state in time, and 3 T after it has named it goals stand still, whoever is back."""

    def check(s: Scene, onset: int, ms: int) -> str:
        named = next((m.t for m in since(s, onset) if cause in m.causes), None)
        first = next((m.t for m in since(s, onset) if m.state == state and cause in m.causes), None)
        if named is None or first is None or first + T > onset + ms * MS:
            return f"no {state} by {cause} within {ms} ms: {sorted({(m.state, *m.causes) for m in since(s, onset)})[:4]}"
        if any(m.state in ("RUN", "RESET", "HOLD") and m.state != state for m in since(s, first)):
            return f"{state} was left"
        return " ".join(still([m for m in since(s, named + T) if not m.lowers]))

    return check


def rescued(s: Scene, onset: int, ms: int) -> str:
    """The stop profile's first word in time, not one before the driver is dead, and everything off at the end."""
    told = since(s, onset)
    began = next((m.t for m in told if m.damped or m.lowers or m.stopped), None)
    if began is None or began > onset + ms * MS:
        return f"no stop within {ms} ms"
    if began <= getattr(s, "killed", 0):
        return "two writers: the driver was not dead"
    if isinstance(s, LineScene):
        return linechecks.rescued(s, onset)
    damped = [m.t for m in told if m.damped == all_of(s)]
    seconds = len(damped) * T * 1e-9
    if abs(seconds - s.run.robot.stop_damp_s) > 0.1 or any(s.bank.mode) or any(m.goal for m in told):
        return f"damped for {seconds:.2f} s, then in modes {s.bank.mode}"
    return ""


def travelled(s: Scene, onset: int) -> str:
    with contextlib.suppress(ValueError):
        return linechecks.travelled(s, onset) if isinstance(s, LineScene) else ""
    return ""
