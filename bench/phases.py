"""Where the time of a fused update goes: each phase's share, the products in it, and how near they come to the processor's rate.

*left*: what is multiplied once the zeros are left out: half of every operand behind a ReLU, with random data; trained networks
have more of them. *of peak*: its rate beside numpy's for two 1024 x 1024 matrices on as many threads, the most that this
processor has shown. The rest of a phase is Adam, lists of what is not zero, tanh, gathering. Medians of single updates.
Run: OPENBLAS_NUM_THREADS=1 python bench/phases.py [--threads 1] [--updates 400] [--out FILE]
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from engine import TRANSITIONS, WALK, Memory

from robotrl import config, rundir
from robotrl.agents.fused.engine import PHASES, Fused

SIZES = (112, 8)  # observation, action: the walk's


def work(agent: config.Agent) -> dict[str, tuple[float, float]]:
    """Of each phase: floating-point operations of its products, and those left without the zeros of ReLUs.

    With every row's least critic in the actor's loss; no layer norm, no dropout, the actor's turn in every update.
    """
    observation, action = SIZES
    actor = list(pairwise((observation, *agent.hidden, 2 * action)))
    critic = list(pairwise((observation + action, *agent.hidden, 1)))

    def layers(net: list[tuple[int, int]], first: float) -> np.ndarray:
        """One product a layer: all, and what is left; `first`: what is left of the first layer's, whose input has no zeros."""
        whole = np.array([2.0 * agent.batch * i * o for i, o in net])
        return np.array([whole.sum(), whole[0] * first + whole[1:].sum() / 2])

    forward_actor, forward_critic = layers(actor, 1.0), layers(critic, 1.0)
    back_actor, back_critic = layers(actor[1:], 0.5), layers(critic[1:-1], 0.5) + layers([(agent.hidden[0], action)], 0.5)
    found = (
        forward_actor + agent.critics * forward_critic,
        agent.critics * (forward_critic + layers(critic[1:-1], 0.5)),
        agent.critics * layers(critic, 0.5),
        forward_actor + agent.critics * forward_critic + back_critic + back_actor,
        layers(actor, 0.5),
    )
    return {phase: (float(a), float(b)) for phase, (a, b) in zip(PHASES, found, strict=True)}


def peak() -> float:
    """FLOP/s of numpy's product of two large matrices."""
    a, b = (np.random.default_rng(k).standard_normal((1024, 1024), np.float32) for k in (0, 1))
    out = np.empty_like(a)
    took = []
    for _ in range(30):
        begun = time.perf_counter()
        np.matmul(a, b, out=out)
        took.append(time.perf_counter() - begun)
    return 2.0 * 1024**3 / float(np.percentile(took, 10))


def measure(agent: config.Agent, updates: int) -> dict[str, float]:
    """Median seconds of each phase, and of a whole update as the learner sees it under "all"."""
    engine, rng = Fused(agent, *SIZES, 0, Memory(*SIZES)), np.random.default_rng(1)
    rows: dict[str, list[float]] = {name: [] for name in (*PHASES, "all")}
    for _ in range(updates):
        indices = rng.integers(0, TRANSITIONS, agent.batch)
        before, begun = engine.spent(), time.perf_counter()
        engine.update(indices)
        rows["all"].append(time.perf_counter() - begun)
        for name, seconds in engine.spent().items():
            rows[name].append(seconds - before[name])
    return {name: float(np.median(values)) for name, values in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    options = parser.parse_args()
    agent = config.load(WALK, [f"agent.threads={options.threads}"]).agent
    took, flops, most = measure(agent, options.updates), work(agent), peak()
    took["the rest"] = took["all"] - sum(took[name] for name in PHASES)
    print(f"peak {most / 1e9:.0f} GFLOP/s\n\n| phase | ms | MFLOP | left | of peak |\n|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    for name, seconds in took.items():
        dense, left = flops.get(name, (0.0, 0.0))
        if name == "all":
            dense, left = (sum(f[k] for f in flops.values()) for k in (0, 1))
        share = left / seconds / most
        rows.append({"phase": name, "ms": round(seconds * 1e3, 3), "mflop": dense / 1e6, "left": left / 1e6, "of_peak": share})
        print(f"| {name} | {seconds * 1e3:.2f} | {dense / 1e6:.0f} | {left / 1e6:.0f} | {share:.2f} |")
    if options.out is not None:
        head = {"built_from": rundir.provenance(), "threads": options.threads, "updates": options.updates, "peak": most}
        rundir.write_json(options.out, head | {"rows": rows})


if __name__ == "__main__":
    main()
