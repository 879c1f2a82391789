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

Where torch sees a GPU the engine for one takes its turns too, with its CUDA graph and, as "cuda, no graph", with its kernels
launched one by one, and so does stable-baselines3 on that device; each from one thread. Where it sees none they are said to be
missing. The reference page has no device but the processor.

With --pixels the learning is from two grey 64 x 64 cameras besides, on batches of 128 rows: the page and the engine for a GPU
alone, for there is no other, and no peer's encoder is this one.
Run: robotrl bench learner [--set agent.layer_norm=true] [--pixels] [--seconds S] [--busy] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from engine import FLOORS, ON_GPU, OURS, PEER_ON_GPU, PEERS, WALK, Engine, flops, left_out

from robotrl import config, rundir

Row = dict[str, float]
ALL = (*OURS, *ON_GPU, *PEERS, PEER_ON_GPU)


def start(options: argparse.Namespace, agent: config.Agent) -> tuple[list[Engine], dict[str, str], dict[str, str]]:
    """The contestants, what each calls itself, and why others take no part."""
    peers = () if options.pixels else (*PEERS, PEER_ON_GPU)
    missing = {name: why for name in peers if (why := left_out(name, agent))}
    wanted = ("reference", *ON_GPU) if options.pixels else (*OURS, *ON_GPU, *peers, *FLOORS)
    names = [n for n in wanted if n not in missing and (not options.only or n in options.only or n in FLOORS)]
    sizes, one = (options.observation, options.action), options.threads[:1]
    threads = {name: one if name in (*ON_GPU, PEER_ON_GPU) else options.threads for name in names}
    started = [Engine(name, n, sizes, options.set, pixels=options.pixels) for name in names for n in threads[name]]
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


def measure(engines: list[Engine], seconds: float, rounds: int, actor: Any = None) -> dict[str, Row]:
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


def beside() -> Any:
    """The rehearsal's own actor, a process; late: it brings the whole of a robot."""
    from actor import Actor

    return Actor()


def judge(table: dict[str, Row]) -> tuple[dict[str, Row], dict[str, float]]:
    """The rows with their share of the floor at their number of threads; how many times each other's best the fused one's is."""
    best: dict[str, float] = {}
    for name, row in table.items():
        engine, _, threads = name.rpartition(" ")
        floors = [table[f"{f} {threads}"]["updates_per_s"] for f in FLOORS if f"{f} {threads}" in table]
        row |= {"of_floor": round(row["updates_per_s"] / max(floors), 3)} if floors else {}
        best[engine] = max(best.get(engine, 0.0), row["updates_per_s"])
    ours = best.get("fused", 0.0)
    return table, {name: round(ours / rate, 2) for name, rate in best.items() if ours and name != "fused"}


def show(where: str, table: dict[str, Row], work: float) -> None:
    """A Markdown table, slowest first."""
    print(f"\n| {where} | updates/s | GFLOP/s | of the floor | cores used | updates/CPU s | the actor's cores |")
    print("|---" * 7 + "|")
    for name, row in sorted(table.items(), key=lambda item: item[1]["updates_per_s"]):
        rate, actor = row["updates_per_s"], row.get("actor_cores", "")
        speed = f"{rate * work / 1e9:.1f}" if work else ""
        by = f"{row.get('of_floor', '')} | {row['cores']:.2f} | {row['updates_per_cpu_s']:.1f}"
        print(f"| {name} | {rate:.1f} | {speed} | {by} | {actor} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, e.g. agent.critics=10")
    parser.add_argument("--observation", type=int, default=112, help="size of an observation (default: the walk's, 112)")
    parser.add_argument("--action", type=int, default=8, help="size of an action")
    parser.add_argument("--only", action="append", default=[], choices=ALL, help="measure these alone; repeatable")
    parser.add_argument("--pixels", action="store_true", help="learn from two cameras: the page and the engine for a GPU")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to try (default: 1 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each engine in each turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns; the median counts")
    parser.add_argument("--busy", action="store_true", help="measure again beside the rehearsal's actor")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    options.set = (["agent.batch=128"] if options.pixels else []) + options.set
    agent = config.load(WALK, options.set).agent
    work = 0.0 if options.pixels else flops(options.observation, options.action, agent)  # an encoder's are not counted
    engines, called, missing = start(options, agent)
    print(
        "; ".join(
            [f"{work / 1e9:.3f} GFLOP an update in matrix products"] * (work > 0)
            + [f"no {n}: {why}" for n, why in missing.items()]
        )
    )
    result: dict[str, Any] = {
        "built_from": rundir.provenance(), "set": options.set, "observation": options.observation, "action": options.action,
        "seconds": options.seconds, "rounds": options.rounds, "gflop_an_update": work / 1e9 or None, "engines": called,
        "missing": missing,
    }  # fmt: skip
    try:
        for where in ("alone", "beside the actor") if options.busy else ("alone",):
            with beside() if where != "alone" else nullcontext() as actor:
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
