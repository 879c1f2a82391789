"""What must hold of any history: I7 and I8, of transitions and labels that were acknowledged (safety facts 3.5, 4).

Part of the nemesis's checker (`invariants.py`), and shares no code with the product. What was given and what was acknowledged is
of the bus, what is there of the files' bytes (`kept.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from invariants import Violation
from kept import LABEL, SESSION, TRANSITION, UNBOUND
from told import History

NAMES = {TRANSITION: ("I7", "transition"), LABEL: ("I8", "label")}
Life = tuple[str, int]  # of whoever gives: source, and which life of it


def i7(history: History) -> Iterator[Violation]:
    """What was acknowledged is in the log, the log is a prefix of what was given, and the replay is one of the log."""
    for log in history.kept:
        yield from _sequence(history, log)
        yield from _given_and_kept(history, log, TRANSITION)
        steps = [tuple(says[:2]) for _, kind, _, _, _, says in log["records"] if kind == TRANSITION]
        for found in history.recovered:
            rows = [tuple(row) for row in found["rows"]]
            wrong = next((n for n, row in enumerate(rows) if steps[n : n + 1] != [row]), None)
            if wrong is not None:
                yield Violation("I7", found["t"], f"row {wrong} of the replay, {rows[wrong]}, is not the log's")
    yield from _replay(history)


def _sequence(history: History, log: dict[str, Any]) -> Iterator[Violation]:
    """Records are numbered 1, 2, 3, and reach as far as they were said to be durable; no segment is other than it was sealed."""
    sequences = [record[0] for record in log["records"]]
    if sequences != list(range(1, len(sequences) + 1)):
        at = next(n for n, sequence in enumerate(sequences, 1) if n != sequence)
        yield Violation("I7", log["t"], f"the log's record {at} is number {sequences[at - 1]}")
    durable = max((heard.m["durable"] for heard in history.bus["ack"]), default=0)
    if durable > len(sequences):
        yield Violation("I7", log["t"], f"{durable} records were said to be durable, {len(sequences)} are in the log")
    for name in (*log["unsealed"], *log["damaged"]):
        yield Violation("I7", log["t"], f"{name} of the log is damaged: no disk had failed to keep it")


def _given_and_kept(history: History, log: dict[str, Any], kind: int) -> Iterator[Violation]:
    """Of one kind: each life's are there once, in order, from the first to at least the last acknowledged, and as given."""
    name, what = NAMES[kind]
    given = _given(history, kind)
    when = {mark: t for mark, (t, _) in given.items()}
    last: dict[Life, int] = {}
    for _, _, source, boot, number, says in (record for record in log["records"] if record[1] == kind):
        before, t = last.get((source, boot), 0), when.get((source, boot, number), log["t"])
        if number <= before:
            yield Violation(name, t, f"{what} {number} of {source} {boot} is there after {what} {before}")
        elif number > before + 1:
            yield Violation(name, t, f"{what}s {before + 1} to {number - 1} of {source} {boot} are missing")
        last[source, boot] = max(before, number)
        _, was = given.get((source, boot, number), (0, says))
        if was != says:
            yield Violation(name, t, f"{what} {number} of {source} {boot} is kept as {says}, and was given as {was}")
    for (source, boot), (t, number) in _promised(history, kind).items():
        if number > (there := last.get((source, boot), 0)):
            yield Violation(name, t, f"{what} {number} of {source} {boot} was acknowledged, and {there} are there")


def _promised(history: History, kind: int) -> dict[Life, tuple[int, int]]:
    """Up to which number each life's were acknowledged, and when that was first said."""
    promised: dict[Life, tuple[int, int]] = {}
    for heard in history.bus["ack"]:
        for which, source, boot, number in heard.m["kept"]:
            if which == kind and number > promised.get((source, boot), (0, 0))[1]:
                promised[source, boot] = heard.t, number
    return promised


def _given(history: History, kind: int) -> dict[tuple[str, int, int], tuple[int, Any]]:
    """When each was first heard on the bus, and what it says. It may be sent again, also for a life that has ended."""
    given: dict[tuple[str, int, int], tuple[int, Any]] = {}
    for heard in history.bus[NAMES[kind][1]]:
        boot = heard.m["giver"] if kind == LABEL else heard.m["life"] or heard.m["boot"]
        given.setdefault((heard.source if kind == TRANSITION else "console", boot, heard.m["number"]), (heard.t, heard.m["says"]))
    return given


def _replay(history: History) -> Iterator[Violation]:
    """What was said to be in the replay is there at the end, and what is there has no gap."""
    said = max((h.m["transitions"] for h in history.bus["episode"]), default=0)
    for found in history.recovered:
        if found["count"] < said:
            yield Violation("I7", found["t"], f"{said} transitions were told of, {found['count']} are there")
        if not found["durable"] <= found["count"]:
            yield Violation("I7", found["t"], f"{found['durable']} are said to be durable, of {found['count']}")
        gaps = 0
        for (e1, s1), (e2, s2) in pairwise(found["rows"]):
            gaps += s2 - s1 - 1 if e2 == e1 else s2
            if (e2, s2) <= (e1, s1):
                yield Violation("I7", found["t"], f"after step {s1} of episode {e1} comes step {s2} of episode {e2}")
        dropped: dict[int, int] = {}  # of each life of the policy: steps whose poses never came, which it tells of
        for heard in history.bus["episode"]:
            dropped[heard.m["boot"]] = max(dropped.get(heard.m["boot"], 0), heard.m["dropped"])
        if gaps > sum(dropped.values()):
            yield Violation("I7", found["t"], f"{gaps} steps are missing, {sum(dropped.values())} were said to be")
    for before, after in pairwise(history.bus["episode"]):
        if after.m["transitions"] < before.m["transitions"]:
            yield Violation("I7", after.t, f"{before.m['transitions']} transitions have become {after.m['transitions']}")


def i8(history: History) -> Iterator[Violation]:
    """Labels that were acknowledged: each once, as it was given, of a step that had been shown; the index has those alone."""
    yield from _shown_before(history)
    for log in history.kept:
        yield from _given_and_kept(history, log, LABEL)
        yield from _index(log)


def _shown_before(history: History) -> Iterator[Violation]:
    """Who gives a label has seen its step, whose numbers all belong together."""
    shown: dict[tuple[int, int, int, int], int] = {}  # life, episode, step, tick -> when it was first said
    first: dict[tuple[int, int], int] = {}  # life, episode -> the first step that this bystander heard
    for heard in history.bus["episode"]:
        m = heard.m
        shown.setdefault((m["boot"], m["episode"], m["step"] - 1, m["tick"]), m["t"])
        first.setdefault((m["boot"], m["episode"]), m["step"] - 1)
    for heard in history.bus["label"]:
        _, _, tick, kind, life, episode, step, *_ = heard.m["says"]
        if kind in UNBOUND or step <= first.get((life, episode), step):
            continue
        if not shown.get((life, episode, step, tick), heard.t) < heard.t:
            yield Violation("I8", heard.t, f"a label is about step {step} of episode {episode} at {tick}, which nobody had shown")


def _index(log: dict[str, Any]) -> Iterator[Violation]:
    """Labels that count: each once, in the log, and its step too. All of them, where the recorder ended in order."""
    steps = set()
    labels: dict[tuple[int, int], tuple[int, Any]] = {}
    for sequence, kind, _, boot, number, says in log["records"]:
        if kind == TRANSITION:
            steps.add((boot, *says[:3]))
        elif kind == LABEL:
            labels.setdefault((boot, number), (sequence, says))
    counts = {mark for mark, (_, says) in labels.items() if says[3] in UNBOUND or _place(says) in steps}
    times: dict[tuple[int, int], int] = defaultdict(int)
    for order, giver, number, says in log["index"]:
        times[giver, number] += 1
        if labels.get((giver, number)) != (order, says):
            had = labels.get((giver, number))
            yield Violation("I8", log["t"], f"label {number} of {giver} counts as {says}, and the log has {had}")
        elif (giver, number) not in counts:
            yield Violation("I8", log["t"], f"label {number} of {giver} counts for a step that is not there: {says}")
    for (giver, number), n in times.items():
        if n > 1:
            yield Violation("I8", log["t"], f"label {number} of {giver} counts {n} times")
    ended = [record for record in log["records"] if record[1] == SESSION][-1:]
    if ended and ended[0][5] == "ended" and ended[0][0] == len(log["records"]):
        for giver, number in sorted(counts - times.keys()):
            yield Violation("I8", log["t"], f"label {number} of {giver} does not count, though its step is there")


def _place(says: list[Any]) -> tuple[int, int, int, int]:
    """Of a label: life, episode, step, tick."""
    return says[4], says[5], says[6], says[2]
