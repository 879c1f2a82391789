"""SAC updates a second of every engine here, of CleanRL's way, and of stable-baselines3 and SBX where installed, in one run.

All get the same sizes (--set passes any field of the agent) and sample from 20,000 random transitions. Each engine is tried at
1 and at 2 threads (--threads), in a process of its own; they take turns and the median counts, for other processes come and
go. Updates by processor time say something even while strangers take the cores; by the wall they do not. With --busy
everything is measured again beside the rehearsal's own actor, which wants a core: how much of one it got is the last column.
A peer that cannot do what --set asks is left out. CleanRL is one file a training, whose update nothing can call: what is measured
as `cleanrl_rewritten` is that update written anew (bench/cleanrl_update.py), its defaults but for the sizes.

The floor is the machine's own matrix product, numpy's or torch's, whichever is faster, at the shapes of an update (the formula:
`products` in bench/engine.py): an engine's share of it is at the same number of threads. More than 1 is possible: activations
of random data are about half zeros, which the fused engine skips; a trained network has more of them.

There is no engine for a GPU: agents run on the processor, and no row here says otherwise.
Run: robotrl bench learner [--set agent.layer_norm=true] [--seconds S] [--busy] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from actor import Actor
from engine import FLOORS, OURS, PEERS, WALK, Engine, flops, left_out

from robotrl import config, rundir

Row = dict[str, float]


def start(options: argparse.Namespace, agent: config.Agent) -> tuple[list[Engine], dict[str, str], dict[str, str]]:
    """The contestants, what each calls itself, and why others take no part."""
    missing = {name: why for name in PEERS if (why := left_out(name, agent))}
    names = [n for n in (*OURS, *PEERS, *FLOORS) if n not in missing and (not options.only or n in options.only or n in FLOORS)]
    sizes = (options.observation, options.action)
    started = [Engine(name, threads, sizes, options.set) for name in names for threads in options.threads]
    engines, called = [], {}
    for engine in started:
        hello = engine.ready()
        if "error" in hello:
            missing[engine.name] = hello["error"]
            engine.close()
        else:
            called[engine.name] = hello["engine"]
            engines.append(engine)
    return engines, called, missing


def measure(engines: list[Engine], seconds: float, rounds: int, actor: Actor | None = None) -> dict[str, Row]:
    """Medians over interleaved turns of about `seconds`: updates by the wall and by its own processor time, cores used, and the
    cores that the actor had meanwhile."""
    turns: dict[str, list[Row]] = {f"{e.name} x{e.threads}": [] for e in engines}
    rates = dict.fromkeys(turns, 10.0 / seconds)  # a short first turn, which does not count
    for turn in range(rounds + 1):
        for engine in engines:
            name = f"{engine.name} x{engine.threads}"
            before = actor.cpu() if actor else 0.0
            took = engine.run(max(3, round(seconds * rates[name])))
            rates[name] = took["updates"] / took["wall"]
            row = {
                "updates_per_s": rates[name],
                "cores": took["cpu"] / took["wall"],
                "updates_per_cpu_s": took["updates"] / took["cpu"],
            }
            if actor:
                row["actor_cores"] = (actor.cpu() - before) / took["wall"]
            turns[name] += [row] if turn else []
    return {name: {key: round(float(np.median([r[key] for r in rows])), 3) for key in rows[0]} for name, rows in turns.items()}


def judge(table: dict[str, Row]) -> tuple[dict[str, Row], dict[str, float]]:
    """The rows with their share of the floor at their number of threads; how many times each other's best the fused one's is."""
    best: dict[str, float] = {}
    for name, row in table.items():
        engine, _, threads = name.rpartition(" ")
        floor = max(table[f"{f} {threads}"]["updates_per_s"] for f in FLOORS)
        row["of_floor"] = round(row["updates_per_s"] / floor, 3)
        best[engine] = max(best.get(engine, 0.0), row["updates_per_s"])
    ours = best.get("fused", 0.0)
    return table, {name: round(ours / rate, 2) for name, rate in best.items() if ours and name != "fused"}


def show(where: str, table: dict[str, Row], work: float) -> None:
    """A Markdown table, slowest first."""
    print(f"\n| {where} | updates/s | GFLOP/s | of the floor | cores used | updates/CPU s | the actor's cores |")
    print("|---" * 7 + "|")
    for name, row in sorted(table.items(), key=lambda item: item[1]["updates_per_s"]):
        rate, actor = row["updates_per_s"], row.get("actor_cores", "")
        by = f"{row['of_floor']:.2f} | {row['cores']:.2f} | {row['updates_per_cpu_s']:.1f}"
        print(f"| {name} | {rate:.1f} | {rate * work / 1e9:.1f} | {by} | {actor} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, e.g. agent.critics=10")
    parser.add_argument("--observation", type=int, default=112, help="size of an observation (default: the walk's, 112)")
    parser.add_argument("--action", type=int, default=8, help="size of an action")
    parser.add_argument("--only", action="append", default=[], choices=(*OURS, *PEERS), help="measure these alone; repeatable")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to try (default: 1 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each engine in each turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns; the median counts")
    parser.add_argument("--busy", action="store_true", help="measure again beside the rehearsal's actor")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    agent = config.load(WALK, options.set).agent
    work = flops(options.observation, options.action, agent)
    engines, called, missing = start(options, agent)
    print(f"{work / 1e9:.3f} GFLOP an update in matrix products; " + "; ".join(f"no {n}: {why}" for n, why in missing.items()))
    result: dict[str, Any] = {
        "built_from": rundir.provenance(), "set": options.set, "observation": options.observation, "action": options.action,
        "seconds": options.seconds, "rounds": options.rounds, "gflop_an_update": work / 1e9, "engines": called,
        "missing": missing,
    }  # fmt: skip
    try:
        for where in ("alone", "beside the actor") if options.busy else ("alone",):
            with Actor() if where != "alone" else nullcontext() as actor:
                table, ratios = judge(measure(engines, options.seconds, options.rounds, actor))
            result[where] = {"table": table, "fused_is_times_as_fast_as": ratios}
            show(where, table, work)
    finally:
        for engine in engines:
            engine.close()
    print(json.dumps(result))
    if options.out is not None:
        rundir.write_json(options.out, result)


if __name__ == "__main__":
    main()
