"""The fault matrix: every row of the catalogue in every state it can meet, in lockstep, with a witness at the wire.

    python -m tests.safety.matrix [--seeds N] [--robot NAME ...] [--row N ...] [--jobs N] [--out FILE]

It is played over the moteus bytes of a Minitaur, the Dynamixel bytes of an arm and of four legs, the Feetech bytes of an arm, and
on the frames of a tracker's camera (`camerascene.py`). It prints N/N for the matrix, and N/N for its negative controls: with its
detector removed each row must turn red. Those of the rows that other tests show (`altered.py`) are among them, unless only some
robots, rows or states are asked for. Each case on a line is a process of its own, forked from a robot already in the state.
Exit code 1 when anything is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from robotrl import rundir
from tests.safety import altered, camerascene
from tests.safety.floorscene import FLOOR, FLOOR_ROWS, FloorScene
from tests.safety.forked import forked
from tests.safety.linerows import LINES
from tests.safety.linescene import LineScene
from tests.safety.mischief import still
from tests.safety.rows import ROWS, Row
from tests.safety.scene import STATES, Scene, T
from tests.safety.witness import Moment

ORDER = ("NONE", "WARN", "HOLD", "STOPPING", "PSTOP", "RELAX", "LOCKOUT")
STANDING = {"HOLD": 2, "STOPPING": 3, "PSTOP": 4, "RELAX": 5, "LOCKOUT": 6}
NATURAL = {
    "READY": ("READY",), "HOLD": ("HOLD",), "RUN": ("RUN",), "RESET": ("RESET", "HOLD", "RUN"),
    "STOPPING": ("STOPPING", "PSTOP"), "clearing": ("PSTOP",),
}  # fmt: skip
LATCHED = ("PSTOP", "RELAX", "LOCKOUT")
PLAYED = {"minitaur": ROWS} | LINES | {FLOOR: FLOOR_ROWS}
CAMERA, ALTERED = "camera", "altered"


def stopped(state: str, action: str) -> tuple[str, ...]:
    """The states that are right once `action` was taken in `state`; from the table of states alone (safety facts, 3.2)."""
    rank = ORDER.index(action)
    if state == "READY":
        return ("CHECK", "READY", "RELAX")  # torque is off: all of them are as safe, and CHECK may come first
    if state in ("STOPPING", "clearing"):
        rank = max(rank, 4 if state == "clearing" else 3)
    allowed = tuple(name for name, r in STANDING.items() if r == rank)
    return (*allowed, "PSTOP") if rank == 3 else allowed


def play(scene: Scene, row: Row, state: str) -> list[str]:
    """The fault in this state; what is wrong with what came of it. An exception is wrong too."""
    onset = scene.now
    row.begin(scene)
    try:
        scene.cycle(max(row.ms // 20 + 15, 60))
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    told = [m for m in scene.witness.history if m.t > onset]
    judged = state in row.judged and row.action not in ("NONE", "ANY")
    wrong = (_acted if judged else _unmoved)(row, state, told, onset)
    if row.check is not None and (found := row.check(scene, onset)):
        wrong.append(found)
    stops = judged and row.action != "WARN"
    if stops or state == "clearing":
        wrong += _cleared(scene, row, state, stops)
    return wrong + scene.witness.violations[:3]


def _acted(row: Row, state: str, told: list[Moment], onset: int) -> list[str]:
    """The cause on record and the state in time, and from then on no motion of our making."""
    first = next((m for m in told if row.causes[0] in m.causes), None)
    if first is None:
        return [f"no {row.causes[0]}: {sorted({c for m in told for c in m.causes})}"]
    ms = (first.t + T - onset) * 1e-6  # the bytes are written a period later
    wrong = [] if ms <= row.ms + 1 else [f"{row.causes[0]} after {ms:.0f} ms, not {row.ms}"]
    if row.action == "WARN":
        return wrong
    right = stopped(state, row.action)
    settled = next((m for m in told if m.t >= first.t and m.state in right), None)
    if settled is None or told[-1].state not in right:
        return [*wrong, f"in {told[-1].state}, not {' or '.join(right)}"]
    ms = (settled.t + T - onset) * 1e-6
    if ms > row.ms + 1:
        wrong.append(f"{settled.state} after {ms:.0f} ms, not {row.ms}")
    return wrong + _still([m for m in told if m.t > settled.t])


def _still(told: list[Moment]) -> list[str]:
    """Torque off: no goals at all. Torque on: goals that do not move."""
    off = [m for m in told if m.state in ("CHECK", "READY", "RELAX", "LOCKOUT") and m.goal and not m.lowers]
    if off:
        return [f"a goal in {off[0].state}"]
    return still(told)


def _unmoved(row: Row, state: str, told: list[Moment], onset: int) -> list[str]:
    """Where the row is not judged the run takes its own course, and nobody speaks of the cause there."""
    if row.action == "ANY":
        return []
    wrong = [f"{c} in {m.state}" for m in told for c in row.causes[:1] if c in m.causes and m.state not in row.judged][:1]
    natural = NATURAL[state] + (("HOLD",) if row.action == "NONE" else ())
    if row.number in (4, 49) and state == "READY":
        natural = (*natural, "CHECK")  # of a limp leg one motor's angle stands still or runs away: it does not fit the other's
    if row.action == "NONE" and row.number == 35:
        return wrong  # a guard that is silent changes no state
    return wrong if told[-1].state in natural else [*wrong, f"in {told[-1].state}, not {' or '.join(natural)}"]


def _cleared(scene: Scene, row: Row, state: str, stops: bool) -> list[str]:
    """Too early, clear is refused; once the fault is gone nothing starts by itself; then clear leads to HOLD or READY."""
    operator = row.clear == "OPERATOR"
    latched = state == "clearing" or (state != "READY" and stops and operator and row.action in ("STOPPING", *LATCHED))
    if latched and stops and operator and row.lasts:
        scene.press("clear")
        if scene.state not in LATCHED:
            return [f"cleared while the fault was there: {scene.state}"]
    before = scene.state
    scene.heal()
    if state == "STOPPING":
        scene.boot += 1  # a console died to come there: somebody attaches one
    for _ in range(int(scene.after_s / 0.02)):
        scene.cycle()
        if scene.state in ("RUN", "RESET"):
            return [f"{scene.state} by itself, after {row.name}, from {before}"]
    if latched and scene.state not in LATCHED:
        return [f"{scene.state} by itself: nobody has cleared {row.causes[0]}"]
    if not latched or not row.heals or row.causes[:1] in (("temp_high",), ("temp_over",)):
        return []
    scene.settle()
    lying = scene.state
    scene.press("clear")
    if scene.state == "PSTOP" and (scene.rig.sentry.guard.ledger.active or scene.moves):
        return []  # something of it is left, or a limp leg does not come to rest: torque off first
    wanted = {"PSTOP": ("HOLD", "READY"), "RELAX": ("READY", "CHECK")}.get(lying, (lying,))
    scene.cycle(25)
    return [] if scene.state in wanted else [f"cleared, and then in {scene.state}: {scene.rig.guard}"]


def scene_of(robot: str, seed: int) -> Scene:
    if robot == FLOOR:
        return FloorScene(seed)
    return Scene(seed) if robot == "minitaur" else LineScene(robot, seed)


# ---- one process a case


def cases(rows: Iterable[Row], states: Iterable[str], seed: int, robot: str = "minitaur") -> Iterator[tuple[Row, str, list[str]]]:
    """Each row in each state; what is wrong."""
    rows = list(rows)
    for state in states:
        if not any(state in row.states for row in rows):
            continue
        scene = scene_of(robot, seed)
        scene.reach(state)
        for row in rows:
            if state in row.states:
                yield row, state, forked(lambda row=row, state=state, scene=scene: play(scene, row, state))
        scene.rig.close()


def home(row: Row) -> str:
    """The state in which a row's control is played."""
    states = [s for s in row.states if s in row.judged or row.action in ("NONE", "ANY")]
    return next((s for s in ("RUN", "HOLD", *states) if s in states), states[0])


def controls(rows: Iterable[Row], seed: int, robot: str = "minitaur") -> Iterator[tuple[Row, str, list[str]]]:
    """Each row with its detector removed; what is then wrong, which must not be nothing."""
    rows = list(rows)
    for state in STATES:
        mine = [row for row in rows if home(row) == state]
        if not mine:
            continue
        scene = scene_of(robot, seed)
        scene.reach(state)
        for row in mine:

            def work(row: Row = row, state: str = state, scene: Scene = scene) -> list[str]:
                (row.disarm or (lambda s: s.without(*row.causes)))(scene)
                return play(scene, row, state)

            yield row, state, forked(work)
        scene.rig.close()


def table_of(robot: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every case of a robot as it came out; of no robot, the controls of what other tests show."""
    if robot == ALTERED:
        return reported(altered.table())
    if robot == CAMERA:
        return table_of_the_camera(args)
    rows, table = [row for row in PLAYED[robot] if not args.row or row.number in args.row], []
    for seed in range(args.seeds):
        played = (False, cases(rows, args.state or STATES, seed, robot)), (True, controls(rows, seed, robot))
        for control, outcomes in played:
            if (args.state and control) or (args.controls and not control):
                continue
            for row, state, wrong in outcomes:
                good = bool(wrong) == control
                table.append({"robot": robot, "row": row.number, "name": row.name, "state": state, "seed": seed,
                              "control": control, "good": good, "said": wrong})  # fmt: skip
                if not good:
                    said = "stayed green" if control else "; ".join(wrong)
                    print(f"{robot}, row {row.number}, {row.name}, in {state}: {said}", flush=True)
    return table


def reported(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, and a line for each that did not come out as it must."""
    for case in table:
        if not case["good"]:
            print(f"row {case['row']}, {case['name']}: {'; '.join(case['said'])}", flush=True)
    return table


def table_of_the_camera(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The same for rows 17 to 20, which a camera's frames play while the policy drives."""
    table: list[dict[str, Any]] = []
    for control in (False, True):
        if (args.state and (control or "RUN" not in args.state)) or (args.controls and not control):
            continue
        for row, wrong in camerascene.cases(control):
            if args.row and row.number not in args.row:
                continue
            good = bool(wrong) == control
            table.append({"robot": CAMERA, "row": row.number, "name": row.name, "state": "RUN", "seed": 0, "control": control,
                          "good": good, "said": wrong})  # fmt: skip
            if not good:
                print(f"{CAMERA}, row {row.number}, {row.name}: {'stayed green' if control else '; '.join(wrong)}", flush=True)
    return table


def counted(table: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """How many of how many came out as they must."""
    counts = {}
    for control, name in ((False, "faults x states held"), (True, "controls red")):
        mine = [case["good"] for case in table if case["control"] == control]
        if mine:
            counts[name] = (sum(mine), len(mine))
    return counts


def line(counts: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {good}/{n}" for name, (good, n) in counts.items())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--robot", action="append", choices=[*PLAYED, CAMERA], help="these robots alone")
    parser.add_argument("--state", action="append", choices=STATES, help="these states alone, and no controls")
    parser.add_argument("--controls", action="store_true", help="the controls alone")
    parser.add_argument("--row", type=int, action="append", help="these rows of the catalogue alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="robots at a time")
    parser.add_argument("--out", type=Path, help="write the result there, with machine and commit")
    args = parser.parse_args(argv)
    began, robots = time.perf_counter(), args.robot or [*PLAYED, CAMERA]
    if not (args.robot or args.row or args.state):
        robots = [*robots, ALTERED]
    with ThreadPoolExecutor(args.jobs) as pool:
        tables = dict(zip(robots, pool.map(lambda robot: forked(lambda: table_of(robot, args)), robots), strict=True))
    table = [case for mine in tables.values() for case in mine]
    by_robot = {robot: counted(mine) for robot, mine in tables.items()}
    for robot, mine in by_robot.items():
        print(f"{robot}: {line(mine)}")
    print(line(counts := counted(table)))
    if args.out is not None:
        result = {"built_from": rundir.provenance(), "seeds": args.seeds, "seconds": round(time.perf_counter() - began, 1)}
        rundir.write_json(args.out, result | {"counts": counts, "robots": by_robot, "cases": table})
    return 0 if all(case["good"] for case in table) else 1


if __name__ == "__main__":
    sys.exit(main())
