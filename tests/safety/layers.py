"""Each layer of stops alone (safety facts 3.3): all above it absent, the faults that it must end by itself, on three buses.

    python -m tests.safety.layers [--bus NAME ...] [--layer NAME ...] [--fault N ...] [-v]

In lockstep, over the bytes of a Minitaur's moteus, an arm's Dynamixel and an arm's Feetech servos, from RUN. It prints N/N for
the cells that held, and N/N for their controls: with the layer itself taken out too, the same cell must turn red. What cannot be
asked of a layer is in NOT_ASKED with its reason. Exit code 1 when anything is missing. How fast processes are told of a death is
no matter of virtual time: `robotrl bench reaction` measures it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.safety import absences as a
from tests.safety import layersights as see
from tests.safety.forked import forked
from tests.safety.matrix import scene_of
from tests.safety.mischief import Act, credulous, eternal
from tests.safety.scene import Scene

BUSES = {"moteus": "minitaur", "dynamixel": "omx", "feetech": "so101"}
LAYERS = ("L1", "L2", "L3", "L4")
FAULTS = (1, 2, 9, 23, 34, 35, 36, 40, 51)
SERVO_MS = 120  # L1: a watchdog of 5 x 20 ms, and the period in which it was fed last
GATE_MS = 25  # L2: T + 5 ms
PERMIT_MS, UNREAD_MS = 60 + GATE_MS, 60 + GATE_MS  # the same, from when the permit has run out, or three answers are missed
GUARD_MS = 60  # L3: 3 T, in which a cause that needs no evidence of some length has been seen and obeyed
RESCUE_MS = 100  # L4
CODEC_MS = SERVO_MS + 20  # of an action there is nothing to see before the next period
HUNG_MS = 200 + RESCUE_MS  # twice the servos' own watchdog, which has acted by then


@dataclass(frozen=True)
class Cell:
    """`absent` takes out the layers above, and what of the ones below would do this layer's work; `out` the layer itself."""

    layer: str
    fault: int
    name: str
    begin: Act
    ms: int
    seen: see.Seen
    absent: Act
    out: Act
    cycles: int = 30
    keeps: bool = True  # the witness's invariants, which are the gate's to keep


def headless(s: Scene) -> None:
    a.unguarded(s)
    a.ungated(s)


def l1(
    fault: int, name: str, begin: Act, who: Callable[[Scene], set[int]] = see.all_of, ms: int = SERVO_MS, cycles: int = 40
) -> Cell:
    return Cell("L1", fault, name, begin, ms, see.stopped_themselves(who), headless, a.unprotected, cycles, keeps=False)


def l2(fault: int, name: str, begin: Act, ms: int, seen: see.Seen, out: Act, cycles: int = 20) -> Cell:
    return Cell("L2", fault, name, begin, ms, seen, a.unguarded, out, cycles)


def l3(fault: int, name: str, begin: Act, ms: int, cause: str, state: str, cycles: int = 20) -> Cell:
    return Cell("L3", fault, name, begin, ms, see.ordered(cause, state), a.unwatching, a.unguarded, cycles)


def l4(fault: int, name: str, begin: Act, ms: int) -> Cell:
    return Cell("L4", fault, name, begin, ms, see.rescued, lambda s: None, a.unrescued, cycles=3)


CELLS = (
    l1(1, "a servo is off the bus", a.mute, see.muted),
    l1(2, "cable cut", a.cut),
    l1(9, "the port is unplugged", a.unplug, cycles=30),
    l1(36, "the driver is dead", a.driver_dead, cycles=30),
    l1(40, "the driver is stopped, and wakes with its old goals", a.driver_stopped),
    l1(51, "no number comes as far as to the codec", a.spoiled_to_the_codec, ms=CODEC_MS),
    l2(1, "a servo is off the bus", a.mute, UNREAD_MS, see.stands, a.blind),
    l2(2, "cable cut", a.cut, UNREAD_MS, see.stands, a.blind),
    l2(9, "the port is unplugged and comes back", a.unplug, GATE_MS, see.shut, a.ready_at_once, cycles=100),
    l2(23, "actions 80 ms late", a.late, GATE_MS, see.stands, credulous),
    l2(34, "no policy any more", a.no_actions, GATE_MS, see.stands, a.inventive),
    l2(35, "the guard is silent", a.guard_silent, PERMIT_MS, see.shut, eternal),
    l2(40, "the policy wakes with its old action", a.woken_policy, GATE_MS, see.stands, credulous),
    l2(40, "driver and guard are stopped, and the driver wakes", a.suspended, GATE_MS, see.shut, eternal),
    l2(51, "actions are no numbers", a.spoiled(math.nan), GATE_MS, see.stands, credulous),
    l2(51, "actions are infinite", a.spoiled(math.inf), GATE_MS, see.stands, credulous),
    # The evidence of the catalogue's row comes first: three misses, 95 ms without an action, two actions that are no numbers.
    l3(1, "a servo is off the bus", a.mute, 80, "servo_lost", "PSTOP"),
    l3(2, "cable cut", a.cut, 80, "bus_silent", "PSTOP"),
    l3(9, "the port is unplugged and comes back", a.unplug, GUARD_MS, "port_lost", "PSTOP", cycles=100),
    l3(23, "actions 80 ms late", a.late, 120, "action_stale", "HOLD"),
    l3(34, "the policy is dead", a.told_of_death, GUARD_MS, "policy_dead", "HOLD"),
    l3(36, "the driver is dead", a.driver_dead, 80, "driver_silent", "PSTOP"),
    l3(40, "the driver is stopped, and wakes", a.driver_stopped, 80, "driver_silent", "PSTOP", cycles=40),
    l3(40, "the policy is stopped", a.no_actions, 120, "action_stale", "HOLD"),
    l3(51, "actions are no numbers", a.spoiled(math.nan), 80, "nan_action", "STOPPING"),
    l4(36, "the driver is dead", a.orphan, RESCUE_MS),
    l4(40, "the driver hangs, and is killed", a.hang, HUNG_MS),
)
ELSE = "a death found by its pidfd takes processes: tests/test_wall_clock.py::test_each_death_leads_to_its_state"
LIVES = "the driver lives and holds the port: beside it the rescue never writes"
NOT_ASKED = {
    ("L1", 23): "a servo hears goals, not actions; where no driver is there to execute one, it is row 36",
    ("L1", 34): "as 23",
    ("L1", 35): "a servo hears no permits; where no driver is there to ask for one, it is row 36",
    ("L2", 36): "it is the layer that is dead",
    ("L3", 35): "it is the layer that is dead; what started again lands in PSTOP: tests/safety/test_guard.py",
    ("L4", 1): LIVES, ("L4", 2): LIVES, ("L4", 9): LIVES, ("L4", 23): LIVES, ("L4", 51): LIVES,
    ("L4", 34): ELSE, ("L4", 35): ELSE,
}  # fmt: skip


def play(s: Scene, cell: Cell, control: bool) -> list[str]:
    """The fault with all above the layer absent; what is wrong with what came of it. An exception is wrong too."""
    cell.absent(s)
    if control:
        cell.out(s)
    onset, told = s.now, len(s.witness.violations)
    s.trace = []
    try:
        cell.begin(s)
        for _ in range(cell.cycles):
            s.cycle() if s.driver_lives or s.guard_lives else a.passes(s)
            s.trace.append((s.now, see.led(s), see.travelled(s, onset)))
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    wrong = [found] if (found := cell.seen(s, onset, cell.ms)) else []
    mark = "nobody knows this line: b'!'"  # by which a rescue ends what a dead driver was writing
    return wrong + [said for said in s.witness.violations[told:] if cell.keeps and not said.endswith(mark)][:3]


def cases(asked: Iterable[tuple[Cell, bool]], bus: str) -> Iterator[tuple[Cell, bool, list[str]]]:
    """Each cell, or its control, in a process of its own, forked from a robot in RUN; what is wrong, of a control not nothing."""
    scene = scene_of(BUSES[bus], 0)
    scene.reach("RUN")
    for cell, control in asked:
        yield cell, control, forked(lambda cell=cell, control=control: play(scene, cell, control))
    scene.rig.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", action="append", choices=BUSES)
    parser.add_argument("--layer", action="append", choices=LAYERS)
    parser.add_argument("--fault", action="append", type=int, choices=FAULTS)
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each cell, and what its control said")
    args = parser.parse_args(argv)
    cells = [c for c in CELLS if c.layer in (args.layer or LAYERS) and c.fault in (args.fault or FAULTS)]
    good, n = Counter[bool](), Counter[bool]()
    for bus in args.bus or BUSES:
        for cell, control, wrong in cases([(cell, control) for cell in cells for control in (False, True)], bus):
            good[control] += bool(wrong) == control
            n[control] += 1
            if args.verbose or bool(wrong) != control:
                said = "; ".join(wrong) or ("stayed green" if control else "held")
                print(f"{bus}, {cell.layer}, row {cell.fault}, {cell.name}{', control' * control}: {said}", flush=True)
    for control, name in ((False, "layers alone held"), (True, "controls red")):
        print(f"{name}: {good[control]}/{n[control]}")
    print(f"not asked: {len(NOT_ASKED)} of {len(LAYERS) * len(FAULTS)} layers x faults, each with its reason")
    return 0 if good == n else 1


if __name__ == "__main__":
    sys.exit(main())
