"""SAC updates a second of every engine here, and of stable-baselines3 and SBX where they are installed, in one run.

All get the same sizes (batch, two hidden layers of 256, twin critics and targets, automatic temperature) and sample
from 20,000 random transitions. The rounds are interleaved and the median counts: other processes come and go. With
--busy the same again while another process takes a whole core. Activations of random data are about half zeros; a
trained network has more, which the fused engine turns into speed.
Run: python bench/learner.py [--observation N] [--seconds S] [--busy]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from robotrl import config
from robotrl.agents.base import make_agent
from robotrl.replay import Batch

TRANSITIONS, ROUNDS = 20_000, 5
Update = Callable[[int], None]  # do so many updates


class Memory:
    """Random transitions behind the replay's interface."""

    def __init__(self, observation: int, action: int) -> None:
        rng, n = np.random.default_rng(0), TRANSITIONS
        self.count = n
        self.columns = dict(
            observation=rng.standard_normal((n, observation), np.float32),
            action=np.tanh(rng.standard_normal((n, action), np.float32)),
            reward=rng.standard_normal(n, np.float32),
            terminated=(rng.random(n) < 0.01).astype(np.uint8),
            truncated=np.zeros(n, np.uint8),
            next_observation=rng.standard_normal((n, observation), np.float32),
        )

    def rows(self, indices: np.ndarray) -> Batch:
        columns = {name: column.take(indices, axis=0) for name, column in self.columns.items()}
        return Batch(**columns, steps=np.ones(len(indices), np.int64))


def ours(agent: config.Agent, memory: Memory, sizes: tuple[int, int]) -> Update:
    """An engine of this package."""
    engine, rng = make_agent(agent, *sizes, 0, memory), np.random.default_rng(1)

    def run(updates: int) -> None:
        for _ in range(updates):
            engine.update(rng.integers(0, TRANSITIONS, agent.batch))

    return run


def peer(module: str, agent: config.Agent, memory: Memory, sizes: tuple[int, int]) -> Update:
    """stable-baselines3 or SBX: their SAC's own `train` on the same transitions."""
    import gymnasium
    from stable_baselines3.common.logger import configure

    class Still(gymnasium.Env):  # only its spaces are used
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, sizes[:1], np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, sizes[1:], np.float32)

    sac = importlib.import_module(module).SAC(
        "MlpPolicy", Still(), buffer_size=TRANSITIONS, batch_size=agent.batch, device="cpu",
        policy_kwargs={"net_arch": list(agent.hidden)},
    )  # fmt: skip
    sac.set_logger(configure(None, []))
    c = memory.columns
    for i in range(TRANSITIONS):
        done = c["terminated"][i : i + 1]
        sac.replay_buffer.add(c["observation"][i], c["next_observation"][i], c["action"][i], c["reward"][i], done, [{}])
    return lambda updates: sac.train(updates, agent.batch)


def flops(observation: int, action: int, agent: config.Agent) -> float:
    """Floating-point operations of one update as dense products, two a multiply-add; what no engine can avoid."""
    h = agent.hidden
    inner = sum(a * b for a, b in pairwise(h))
    first, head, k = observation * h[0], h[-1] * 2 * action, agent.critics
    critic = (observation + action) * h[0] + inner + h[-1]
    actor = 3 * (first + inner + head) + inner + head  # two forward, gradients of weights and hidden layers
    return 2.0 * agent.batch * (actor + k * (4 * critic + inner) + inner + action * h[0])


def sgemm(threads: int) -> float:
    """GFLOP/s of torch's own product of 256 x 256 matrices."""
    torch.set_num_threads(threads)
    a, rates = torch.randn(256, 256), []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(10):
            torch.mm(a, a)
        rates.append(10 * 2 * 256**3 / (time.perf_counter() - began) / 1e9)
    return max(rates)


def contestants(agent: config.Agent, sizes: tuple[int, int]) -> dict[str, tuple[int, Update]]:
    """Name -> (torch threads, update loop)."""
    memory = Memory(*sizes)
    out = {}
    for threads in (1, 2):
        for engine in ("reference", "torch", "fused"):
            with_threads = dataclasses.replace(agent, engine=engine, threads=threads)
            out[f"{engine} x{threads}"] = (threads, ours(with_threads, memory, sizes))
        for module in ("stable_baselines3", "sbx"):
            if importlib.util.find_spec(module):
                out[f"{module} x{threads}"] = (threads, peer(module, agent, memory, sizes))
    return out


def measure(runs: dict[str, tuple[int, Update]], seconds: float) -> dict[str, float]:
    """Median updates/s of each over interleaved rounds of about `seconds`."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS + 1):
        for name, (threads, run) in runs.items():
            torch.set_num_threads(threads)
            updates = max(3, round(seconds * rates[name][-1])) if rates[name] else 10
            began = time.perf_counter()
            run(updates)
            rate = updates / (time.perf_counter() - began)
            rates[name] = [rate] if turn == 0 else [*rates[name], rate]
    return {name: round(float(np.median(r[1:])), 1) for name, r in rates.items()}


def machine() -> str:
    """Processor and cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}"


def commit() -> str:
    """The commit this ran at, with + when files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() if head.returncode == 0 else "none") + ("+" if dirty.stdout else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observation", type=int, default=112, help="size of an observation")
    parser.add_argument("--action", type=int, default=8, help="size of an action")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each engine in each of the rounds")
    parser.add_argument("--busy", action="store_true", help="measure again beside a process that takes a core")
    options = parser.parse_args()
    agent, sizes = config.Agent(), (options.observation, options.action)
    work = flops(*sizes, agent)
    runs = contestants(agent, sizes)
    table = {"alone": measure(runs, options.seconds)}
    if options.busy:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            try:
                table["beside a busy core"] = measure(runs, options.seconds)
            finally:
                other.kill()
    print(f"{machine()}; commit {commit()}; {work / 1e9:.2f} GFLOP an update; updates/s, GFLOP/s")
    for where, rates in table.items():
        for name, rate in sorted(rates.items(), key=lambda item: item[1]):
            print(f"{where:20} {name:22} {rate:8.1f} {rate * work / 1e9:8.1f}")
    gemm = {f"sgemm x{n}": round(sgemm(n), 1) for n in (1, 2)}
    print(json.dumps({"machine": machine(), "commit": commit(), "gflop": work / 1e9, **gemm, "rates": table}))


if __name__ == "__main__":
    main()
