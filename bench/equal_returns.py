"""Do the engines learn equally well: returns of trainings from scratch, compared in distribution with the reference page's.

Number for number two engines agree for some hundred updates; then rounding has grown, and only distributions can be compared. A
cart in a box, two numbers seen and one force, is learnt in --steps steps by every engine (robotrl/agents), the fused one once
on each instruction set of this processor, each time from another seed: no two trainings share one. Two figures a training: the
reward a step over all of it, which says how fast it was, and the return of the policy it ends with, acting by its mean. Each
engine's are compared with the reference's by an exact rank-sum test (Mann and Whitney 1947), two-sided. The control is the
fused engine with a fault of one index: next observations are the ones before. A test that does not tell that apart says nothing
of the others.

Run: python bench/equal_returns.py [--seeds 10] [--steps 2000]        (3 minutes)
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl import config, rundir
from robotrl.agents.actor import Actor
from robotrl.agents.base import Agent, make_agent
from robotrl.agents.fused import engine
from robotrl.replay import Batch

ROOT = Path(__file__).resolve().parent.parent
AGENT = config.Agent(
    hidden=(32, 32), batch=64, actor_lr=1e-3, critic_lr=1e-3, temperature_lr=1e-3, target_entropy=-1.0, mirror=False,
)  # fmt: skip
RANDOM = 200  # steps of uniform actions before the first update; then one update a step
EPISODE, DT, BOX = 100, 0.1, 1.0
CONTROL = "fused, wrong"
LEVEL = 0.01  # p is to be below it for the control, by both figures, and for no engine by either


class Cart:
    """Position and velocity; an action in [-1, 1] accelerates it. Reward: 1 in the middle, 0 at the walls, which end it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.state = rng.uniform((-0.9 * BOX, -0.5), (0.9 * BOX, 0.5)).astype(np.float32)

    def step(self, action: float) -> tuple[float, bool]:
        """Reward, and whether a wall was reached."""
        x, v = self.state
        v = v + DT * 2.0 * action
        x = x + DT * v
        self.state = np.array((x, v), np.float32)
        return max(0.0, 1.0 - abs(float(x)) / BOX), bool(abs(x) > BOX)


class Memory:
    """The transitions of one training; `wrong` gives the observation for the next one."""

    def __init__(self, size: int, wrong: bool) -> None:
        self.wrong, self.count = wrong, 0
        reals = {"observation": 2, "action": 1, "next_observation": 2}
        self.arrays = {name: np.zeros((size, n), np.float32) for name, n in reals.items()}
        self.arrays |= {"reward": np.zeros(size, np.float32), "terminated": np.zeros(size, np.uint8)}

    def add(self, **values: Any) -> None:
        for name, value in values.items():
            self.arrays[name][self.count] = value
        self.count += 1

    def rows(self, indices: NDArray[np.int64]) -> Batch:
        taken = {name: array[indices] for name, array in self.arrays.items()}
        if self.wrong:
            taken["next_observation"] = taken["observation"]
        n = len(indices)
        return Batch(**taken, truncated=np.zeros(n, np.uint8), steps=np.ones(n, np.int64))


def engines() -> list[str]:
    """Those that run here, and the control; NoLibrary without a compiler."""
    widest = engine.LIBRARY.load().robotrl_widest()
    return ["reference", "torch", *(f"fused {isa}" for isa in engine.ISA[: widest + 1]), CONTROL]


def made(name: str, seed: int, memory: Memory) -> Agent:
    if name in ("reference", "torch"):
        return make_agent(dataclasses.replace(AGENT, engine=name), 2, 1, seed, memory)
    isa = None if name == CONTROL else engine.ISA.index(name.removeprefix("fused "))
    return engine.Fused(AGENT, 2, 1, seed, memory, isa=isa)


def train(name: str, seed: int, steps: int) -> dict[str, float]:
    """One training; reward a step over all of it, and the mean return of its last policy."""
    memory = Memory(steps, name == CONTROL)
    agent = made(name, seed, memory)
    rng = np.random.default_rng([seed, 1])
    cart, age, total, actor = Cart(rng), 0, 0.0, Actor(agent.weights())
    for step in range(steps):
        noise = rng.standard_normal(1)
        action = rng.uniform(-1, 1, 1) if step < RANDOM else actor.act(cart.state, noise)
        before = cart.state
        reward, ended = cart.step(float(action[0]))
        memory.add(observation=before, action=action, reward=reward, next_observation=cart.state, terminated=ended)
        total, age = total + reward, age + 1
        if ended or age == EPISODE:
            cart, age = Cart(rng), 0
        if step >= RANDOM:
            agent.update(rng.integers(0, memory.count, AGENT.batch))
            actor = Actor(agent.weights())
    return {"reward_a_step": total / steps, "last_return": evaluate(actor)}


def evaluate(actor: Actor, episodes: int = 20) -> float:
    """Mean return, acting by the mean, from starts that are the same for all."""
    rng, total = np.random.default_rng(0), 0.0
    for _ in range(episodes):
        cart = Cart(rng)
        for _ in range(EPISODE):
            reward, ended = cart.step(float(actor.act(cart.state)[0]))
            total += reward
            if ended:
                break
    return total / episodes


def rank_sum(a: list[float], b: list[float]) -> float:
    """P that two samples of one distribution have rank sums at least as far from their mean; exact, and ties share ranks."""
    both = np.array([*a, *b])
    twice = [int((both < x).sum() + (both <= x).sum() + 1) for x in both]  # twice the rank, a whole number with ties too
    ways: list[dict[int, int]] = [{0: 1}] + [{} for _ in a]  # of k ranks chosen so far: sum -> how many choices have it
    for rank in twice:
        for k in range(len(a), 0, -1):
            for total, count in ways[k - 1].items():
                ways[k][total + rank] = ways[k].get(total + rank, 0) + count
    mean = sum(twice) * len(a) / len(both)
    far = abs(sum(twice[: len(a)]) - mean)
    return sum(n for total, n in ways[-1].items() if abs(total - mean) >= far - 1e-9) / sum(ways[-1].values())


def judged(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Engine -> figure -> p against the reference."""
    figures = next(iter(runs.values()))[0]
    return {
        name: {f: round(rank_sum([r[f] for r in runs["reference"]], [r[f] for r in found]), 5) for f in figures}
        for name, found in runs.items()
        if name != "reference"
    }


def passed(p: dict[str, dict[str, float]]) -> bool:
    """The control is told apart by both figures, and no engine is by either."""
    return all(max(f.values()) < LEVEL if name == CONTROL else min(f.values()) >= LEVEL for name, f in p.items())


def table(runs: dict[str, list[dict[str, float]]], p: dict[str, dict[str, float]]) -> str:
    """Markdown: median, smallest and largest of each figure, and p."""
    rows = ["| engine | reward a step | p | last return | p |", "|---|---|---|---|---|"]
    for name, found in runs.items():
        cells = [name]
        for figure in found[0]:
            low, middle, high = np.percentile([r[figure] for r in found], (0, 50, 100))
            cells += [f"{middle:.3f} ({low:.3f} to {high:.3f})", f"{p[name][figure]:.4f}" if name in p else ""]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="trainings of each engine")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "equal_returns.json")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in engines()}
    seeds = {name: list(range(1000 * (i + 1), 1000 * (i + 1) + options.seeds)) for i, name in enumerate(runs)}
    for turn in range(options.seeds):
        for name in runs:
            runs[name].append(train(name, seeds[name][turn], options.steps))
            print(f"{name}, seed {seeds[name][turn]}: {runs[name][-1]}", file=sys.stderr, flush=True)
    p = judged(runs)
    print(table(runs, p))
    record = {
        "measured_on": rundir.provenance(),
        "steps": options.steps,
        "seeds": seeds,
        "runs": runs,
        "p": p,
        "passed": passed(p),
    }
    rundir.write_json(options.results, record)
    return 0 if passed(p) else 1


if __name__ == "__main__":
    sys.exit(main())
