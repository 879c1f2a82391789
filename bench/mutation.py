"""Do the tests notice a fault? Every small fault of `mutants.py`, put into `safety/` and the codecs one at a time.

The suites below run once with every line traced: which tests pass over which lines. Then each mutant is a fork of a warm process
that has imported everything. In it the code of the one function is exchanged (what runs at import is imported anew), and the
tests that pass over the changed lines run, the likeliest first, until one fails; but not the long random ones: what only they
notice nobody can name; and not those that wait for a real clock. A mutant that no test notices has survived. A survivor is
either listed in `mutation_survivors.toml` with the reason why nothing can tell it from the original, or this fails; it fails too
for a listed mutant that is killed or is no more, and below the score asked for: 98 % of safety/, 95 % of the codecs, the listed
ones counted as not killed. Limits are of processor time, so that a busy machine calls nothing an endless loop.

Run: robotrl bench mutation [safety/gate.py ...] [--out FILE]. What was found is kept in build/, and a second run goes on from
there; --sample N --seed S tries N mutants drawn at random.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kinds import enumerations
from mutants import Finder, Mutant, parse
from sources import rests_on
from trial import Trial, Verdict

from robotrl import rundir

ROOT = Path(__file__).resolve().parents[1]
SURVIVORS = Path(__file__).with_name("mutation_survivors.toml")
VERSION = 1  # of verdicts: another one when the trial of a mutant may end otherwise than it did
STATE = ROOT / "build" / "mutation"


@dataclass(frozen=True)
class Group:
    """Files that one suite answers for. `floor`: the part of their mutants it must kill, in %."""

    floor: float
    files: dict[str, tuple[str, ...]]  # path: the functions looked at, all when none is named
    suite: tuple[str, ...]
    without: str = ""  # as pytest's -k


GROUPS = {
    "safety": Group(
        98.0,
        {f"safety/{file.name}": () for file in sorted((ROOT / "safety").glob("*.py")) if file.stem != "__init__"},
        ("tests/safety",),
        "not random and not any_input and not pair_of_causes and not test_gate_bytes and not test_matrix",
    ),
    "codecs": Group(
        95.0,
        {
            "drivers/moteus.py": (),
            "drivers/tables.py": (),
            "drivers/commands.py": (),
            "drivers/dynamixel.py": (),
            "drivers/dynamixel_x.py": (),
            "drivers/feetech.py": (),
            "drivers/feetech_sts.py": (),
            "drivers/block.py": (),
            "drivers/sync.py": (),
            "drivers/handshake.py": (),
            "drivers/imu.py": (),
            "drivers/witmotion.py": (),
            "drivers/tracker.py": (),
            "drivers/attitude.py": (),
            "drivers/diagnostic.py": (),
            "drivers/moteus_settings.py": (),
            "drivers/easing.py": (),
            "drivers/legged.py": (),
            "drivers/tape.py": (),
            "drivers/chain.py": (
                "Chain._take",
                "Chain._take_other",
                "Chain._take_late",
                "Chain._sort",
                "Chain._doubt",
                "Chain._telemetry",
                "_senders",
            ),
        },
        ("tests/drivers",),
        "not test_port and not on_the_twin and not on_a_pty and not fuzzed and not anything and not flipped"
        " and not write_round_trip and not oracle_sdk",
    ),
}


def mutants_of(group: Group, root: Path) -> list[Mutant]:
    trees = {path: parse(root / path) for path in group.files}
    enums = enumerations(list(trees.values()))
    found = []
    for path, tree in trees.items():
        wanted = group.files[path]
        found += [m for m in Finder(tree, path, enums).all() if not wanted or m.where in wanted]
    return found


class Memory:
    """What earlier runs found, a line a mutant. A kill counts while these are as they were: the mutant's file, the file of the
    test that killed, and what either imports of the project; a survivor counts while that of all tests is. So a changed file
    brings back its own mutants and those whose tests pass through it. Who killed a mutant is a hint for ever."""

    def __init__(self, file: Path, group: Group, root: Path) -> None:
        self._root, self._group = root, group
        self._suite = files_of(root, group.suite)
        self._always = files_of(root, ("tests/conftest.py", "tests/golden"))
        self.hints: dict[str, str] = {}
        self.known: dict[str, Verdict] = {}
        for line in file.read_text().splitlines() if file.is_file() else ():
            resting, *found = json.loads(line)
            verdict = Verdict(*found)
            self.hints[verdict.key] = verdict.by
            self.known.pop(verdict.key, None)
            if resting == self._resting(verdict):
                self.known[verdict.key] = verdict
        everything = rests_on((*self._suite, *self._always, *(root / path for path in group.files)), root)
        self.record = file.with_name(f"{file.stem}-{digest(everything, repr(group))}.json")  # of the tests
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out = file.open("a")

    def keep(self, verdict: Verdict) -> None:
        self._out.write(json.dumps([self._resting(verdict), *verdict]) + "\n")
        self._out.flush()

    def _resting(self, verdict: Verdict) -> str:
        """What, if it changes, makes the verdict void."""
        mutated, test = self._root / verdict.key.split(" ")[0], self._root / test_file(verdict.by)
        if verdict.by and test.is_file():
            return digest(resting_on((mutated, test, *self._always), self._root), str(VERSION))
        tests = resting_on((mutated, *self._suite, *self._always), self._root)
        return digest(tests, f"{VERSION} {self._group.suite} {self._group.without}")


def test_file(by: str) -> str:
    return by.removeprefix("time ").split("::")[0].split(" ")[0]


resting_on = cache(rests_on)


def files_of(root: Path, places: Sequence[str]) -> tuple[Path, ...]:
    found = [root / place for place in places]
    return tuple(
        file for at in found for file in ([at] if at.is_file() else sorted(at.glob("*"))) if file.suffix in (".py", ".txt")
    )


@cache
def digest(files: tuple[Path, ...], more: str) -> str:
    kept = hashlib.sha256(more.encode())
    for file in files:
        kept.update(file.read_bytes())
    return kept.hexdigest()[:16]


def judged(name: str, group: Group, mutants: list[Mutant], options: argparse.Namespace) -> Iterator[Verdict]:
    """The verdict on each, as they come."""
    memory = Memory(options.state / f"{name}.jsonl", group, options.root)
    left = [mutant for mutant in mutants if options.fresh or mutant.key not in memory.known]
    yield from (memory.known[mutant.key] for mutant in mutants if not options.fresh and mutant.key in memory.known)
    left.sort(key=lambda mutant: bool(memory.hints.get(mutant.key)))  # what survived or is new first: it is what one waits for
    if left:
        words = [*group.suite, *(["-k", group.without] if group.without else [])]
        trial = Trial(options.root, words, memory.hints, options.jobs, memory.record)
        for verdict in trial.of(left, group.files):
            memory.keep(verdict)
            yield verdict


def listed(file: Path) -> dict[str, str]:
    """The mutants that nothing can tell from the original, each with the reason."""
    entries = tomllib.loads(file.read_text()).get("survivor", []) if file.is_file() else []
    return {mutant: entry["reason"] for entry in entries for mutant in entry["mutants"]}


def complaints(verdicts: dict[str, Verdict], every: set[str], excused: dict[str, str]) -> list[str]:
    """One line for each survivor that is not listed, and for each listed one that is none."""
    out = [f"survived: {key}" for key, verdict in verdicts.items() if not verdict.by and key not in excused]
    out += [f"listed as a survivor, but killed by {v.by}: {key}" for key, v in verdicts.items() if v.by and key in excused]
    return out + [f"listed as a survivor, but there is no such mutant: {key}" for key in excused if key not in every]


def table(verdicts: dict[str, Verdict], mutants: list[Mutant]) -> dict[str, dict[str, Any]]:
    """Of each file, and of all: mutants, killed, by time, survived, score in %."""
    rows: dict[str, Counter[str]] = {}
    for mutant in mutants:
        by = verdicts[mutant.key].by
        for name in (mutant.path, "all"):
            row = rows.setdefault(name, Counter())
            row.update(mutants=1, killed=bool(by), by_time=by.startswith("time"), survived=not by)
    rows["all"] = rows.pop("all")
    return {name: {**row, "score": round(100 * row["killed"] / row["mutants"], 2)} for name, row in rows.items()}


def show(name: str, rows: dict[str, dict[str, Any]]) -> None:
    print(f"\n| {name} | mutants | killed | by time | survived | score % |\n|---|---|---|---|---|---|")
    for file, row in rows.items():
        print(f"| {file} | {row['mutants']} | {row['killed']} | {row['by_time']} | {row['survived']} | {row['score']:.2f} |")


def measure(name: str, group: Group, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    found = mutants_of(group, options.root)
    every = {mutant.key for mutant in found}
    if options.files:
        found = [mutant for mutant in found if mutant.path in options.files]
    if options.sample:
        found = random.Random(options.seed).sample(found, min(options.sample, len(found)))
    began, verdicts, survived, told = time.monotonic(), {}, 0, 0.0
    for verdict in judged(name, group, found, options):
        verdicts[verdict.key] = verdict
        survived += not verdict.by
        if time.monotonic() - told > (1 if sys.stderr.isatty() else 10) or len(verdicts) == len(found):
            told = time.monotonic()
            end = "\r" if sys.stderr.isatty() and len(verdicts) < len(found) else "\n"
            print(f"{name}: {len(verdicts)}/{len(found)}, {survived} survived, {told - began:.0f} s", end=end, file=sys.stderr)
    rows = table(verdicts, found)
    show(name, rows)
    of_group = {key: why for key, why in listed(options.survivors).items() if key.split(" ")[0] in group.files}
    bad = complaints(verdicts, every, of_group)
    if not options.sample and not options.files and rows["all"]["score"] < group.floor:
        bad.append(f"{name}: {rows['all']['score']} % killed, {group.floor} % asked for")
    tests = sorted({verdict.by for verdict in verdicts.values() if verdict.by})
    result = {
        "asked_percent": group.floor,
        "files": rows,
        "killing_tests": len(tests),
        "seconds_of_trials": round(sum(verdict.seconds for verdict in verdicts.values())),  # also of those in earlier runs
    }
    result["survivors"] = {key: of_group.get(key, "") for key, verdict in sorted(verdicts.items()) if not verdict.by}
    return result, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="of safety/ and drivers/; all when none is named")
    parser.add_argument("--suite", nargs="+", metavar="TEST", help="other tests than the group's, e.g. to see a weak suite fail")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="so many mutants of each group, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="mutants tried at a time")
    parser.add_argument("--fresh", action="store_true", help="do not go on from what an earlier run found")
    parser.add_argument("--state", type=Path, default=STATE, help="folder for what is found")
    parser.add_argument("--survivors", type=Path, default=SURVIVORS, help="the list, with reasons")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    options.root = ROOT
    if unknown := set(options.files) - {path for group in GROUPS.values() for path in group.files}:
        parser.error(f"no mutants are made of {', '.join(sorted(unknown))}; see GROUPS in {__file__}")
    result: dict[str, Any] = {"built_from": rundir.provenance()}
    bad: list[str] = []
    for name, group in GROUPS.items():
        if not options.files or set(options.files) & set(group.files):
            if options.suite:
                group = Group(group.floor, group.files, tuple(options.suite))
            result[name], more = measure(name, group, options)
            bad += more
    print(
        "\n" + "\n".join([*bad, "no mutant survived that is not listed with its reason" if not bad else f"{len(bad)} complaints"])
    )
    if options.out is not None:
        rundir.write_json(options.out, result | {"complaints": bad})
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
