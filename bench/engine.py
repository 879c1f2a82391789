"""One way of doing SAC updates, in a process of its own: what bench/learner.py compares and bench/policy.py runs beside.

`Engine` starts one and speaks to it. Started as a script it says in a line of JSON what it is, then does as many updates as
each line of its standard input asks for and answers what they took. A process each, because thread counts are settled when
a library is loaded, and so that the contestants can take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cleanrl_update
import numpy as np

from robotrl import config
from robotrl.agents.base import Unsupported, make_agent
from robotrl.replay import Batch, Cameras, Images

OURS = ("fused", "torch", "reference")
UNCAPTURED = "cuda, no graph"
ON_GPU = ("cuda", UNCAPTURED)  # ours again
PEER_ON_GPU = "stable_baselines3 on cuda"
REWRITTEN = "cleanrl_rewritten"
PEERS = ("stable_baselines3", "sbx", REWRITTEN)
FLOORS = ("torch sgemm", "numpy sgemm")
TRANSITIONS = 20_000
# Updates in a call of a peer's `train`. SBX compiles anew for every other number; 20 costs it least a step, and favours it.
CHUNK = 20
FRAMES = 4_000  # that the transitions from pixels share
CAMERAS = (("left", 64, 64, 1), ("right", 64, 64, 1))  # as launch/reach_pixels.toml has them
WALK = Path(__file__).resolve().parent.parent / "launch" / "walk.toml"
Product = tuple[int, int, int]  # rows, inner, columns of a matrix product


class Memory:
    """Random transitions behind the replay's interface, and random images where there are `cameras`."""

    def __init__(self, observation: int, action: int, cameras: Cameras = ()) -> None:
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
        self.frames = {name: rng.integers(0, 256, (FRAMES, *size), dtype=np.uint8) for name, *size in cameras}

    def rows(self, indices: np.ndarray) -> Batch:
        taken = {name: column.take(indices, axis=0) for name, column in self.columns.items()}
        return Batch(**taken, steps=np.ones(len(indices), np.int64))

    def images(self, indices: np.ndarray) -> Images:
        now, then = indices % FRAMES, (indices + 1) % FRAMES
        return Images(*({name: f.take(at, axis=0) for name, f in self.frames.items()} for at in (now, then)))


def products(observation: int, action: int, agent: config.Agent) -> list[Product]:
    """The matrix products that no engine can avoid in `agent.actor_every` updates of n rows, the last with the actor's turn.

    Every layer (in, out) of the networks. In each update, forward (n, in, out): actor (s'), the targets that count, each critic;
    the weights' gradient (out, n, in) of each critic, and backward (n, out, in) but for its first layer. In the actor's turn:
    forward of actor (s) and each critic; gradient and backward of the actor; backward through the critics down to the action,
    one critic's worth of rows where only the least of a row counts. Left out: biases, the outer product behind a critic's
    single output, and all that is not a matrix product.
    """
    n, h = agent.batch, agent.hidden
    actor = list(pairwise((observation, *h, 2 * action)))
    critic = list(pairwise((observation + action, *h, 1)))

    def forward(net: list[tuple[int, int]]) -> list[Product]:
        return [(n, i, o) for i, o in net]

    def gradient(net: list[tuple[int, int]]) -> list[Product]:
        return [(o, n, i) for i, o in net]

    def backward(net: list[tuple[int, int]]) -> list[Product]:
        return [(n, o, i) for i, o in net]

    critics_turn = forward(actor) + (agent.target_subset or agent.critics) * forward(critic)
    critics_turn += agent.critics * (forward(critic) + gradient(critic) + backward(critic[1:-1]))
    passed = agent.critics if agent.actor_value == "mean" else 1
    actors_turn = forward(actor) + gradient(actor) + backward(actor[1:]) + agent.critics * forward(critic)
    return agent.actor_every * critics_turn + actors_turn + passed * (backward(critic[1:-1]) + [(n, h[0], action)])


def flops(observation: int, action: int, agent: config.Agent) -> float:
    """Floating-point operations of an update, on average: two a multiply-add of `products`."""
    return sum(2 * m * k * n for m, k, n in products(observation, action, agent)) / agent.actor_every


def ours(name: str, agent: config.Agent, sizes: tuple[int, int], cameras: Cameras) -> tuple[str, Callable[[int], int]]:
    """An engine of this package, as the learner calls it: one update at a time."""
    asked = dataclasses.replace(agent, engine="cuda" if name in ON_GPU else name)
    engine, rng = make_agent(asked, *sizes, 0, Memory(*sizes, cameras), None, cameras), np.random.default_rng(1)
    called = engine.engine
    if name in ON_GPU:
        import torch

        if name == UNCAPTURED:
            engine.captures = False  # type: ignore[attr-defined]
        called = f"{name} on {torch.cuda.get_device_name()}, torch {torch.__version__}"

    def run(updates: int) -> int:
        for _ in range(updates):
            engine.update(rng.integers(0, TRANSITIONS, agent.batch))
        return updates

    run(CHUNK)
    return f"{called} ({engine.engine_note})" if engine.engine_note else called, run


def left_out(name: str, agent: config.Agent) -> str:
    """Why a peer cannot take part with these settings, "" when it can: unequal work is no comparison."""
    if name != REWRITTEN and importlib.util.find_spec(name.split()[0]) is None:
        return "not installed"
    can = {"batch", "hidden", "engine", "threads"} | {"sbx": {"critics", "layer_norm"}, REWRITTEN: set()}.get(name, {"critics"})
    usual = config.Agent()
    odd = [f.name for f in dataclasses.fields(agent) if getattr(agent, f.name) != getattr(usual, f.name) and f.name not in can]
    return f"does not know agent.{', agent.'.join(odd)}" if odd else ""


def peer(name: str, agent: config.Agent, sizes: tuple[int, int]) -> tuple[str, Callable[[int], int]]:
    """stable-baselines3 or SBX: their SAC's own `train` on the same transitions."""
    module, device = name.split()[0], "cuda" if name == PEER_ON_GPU else "cpu"
    import gymnasium
    import torch
    from stable_baselines3.common.logger import configure

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here")  # it would take the processor and say nothing

    class Still(gymnasium.Env):  # only its spaces are used
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, sizes[:1], np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, sizes[1:], np.float32)

    networks = {"net_arch": list(agent.hidden), "n_critics": agent.critics}
    if module == "sbx":
        networks["layer_norm"] = agent.layer_norm
    sac = importlib.import_module(module).SAC(
        "MlpPolicy", Still(), buffer_size=TRANSITIONS, batch_size=agent.batch, device=device, policy_kwargs=networks
    )
    sac.set_logger(configure(None, []))
    c = Memory(*sizes).columns
    for i in range(TRANSITIONS):
        done = c["terminated"][i : i + 1]
        sac.replay_buffer.add(c["observation"][i], c["next_observation"][i], c["action"][i], c["reward"][i], done, [{}])

    def run(updates: int) -> int:
        calls = -(-updates // CHUNK)
        for _ in range(calls):
            sac.train(CHUNK, agent.batch)
        return calls * CHUNK

    return f"{name} {importlib.import_module(module).__version__}", run


def sgemm(library: str, agent: config.Agent, sizes: tuple[int, int]) -> tuple[str, Callable[[int], int]]:
    """The products of the updates and nothing else, by torch's or numpy's own matrix product."""
    import torch

    sets: list[tuple[Any, Any, Any]] = []
    for m, k, n in products(*sizes, agent):
        arrays = [np.random.default_rng(0).standard_normal(shape, np.float32) for shape in ((m, k), (k, n), (m, n))]
        sets.append(tuple(map(torch.from_numpy, arrays)) if library == "torch" else tuple(arrays))  # type: ignore[arg-type]
    multiply: Callable[..., Any] = torch.mm if library == "torch" else np.matmul

    def run(updates: int) -> int:
        rounds = -(-updates // agent.actor_every)
        for _ in range(rounds):
            for a, b, out in sets:
                multiply(a, b, out=out)
        return rounds * agent.actor_every

    return f"{library} {torch.__version__ if library == 'torch' else np.__version__}", run


def make(name: str, agent: config.Agent, sizes: tuple[int, int], cameras: Cameras = ()) -> tuple[str, Callable[[int], int]]:
    """What it calls itself, and a function that does at least so many updates and returns how many it did."""
    if name == REWRITTEN:
        return cleanrl_update.make(agent, sizes, Memory(*sizes).columns)
    if name in (*PEERS, PEER_ON_GPU):
        return peer(name, agent, sizes)
    if name in FLOORS:
        return sgemm(name.split()[0], agent, sizes)
    return ours(name, agent, sizes, cameras)


class Engine:
    """A process that does updates when told to. `ready` before the first."""

    def __init__(
        self, name: str, threads: int, sizes: tuple[int, int], sets: list[str], nice: int = 0, pixels: bool = False
    ) -> None:
        self.name, self.threads = name, threads
        words = [name, "--threads", threads, "--observation", sizes[0], "--action", sizes[1], "--nice", nice]
        words += ["--pixels"] * pixels
        words += [word for item in sets for word in ("--set", item)]
        # Each library's word for it; the last is XLA's.
        count = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), str(threads))
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | count | {"JAX_PLATFORMS": "cpu"},  # SBX is measured on the processor as all others are
        )  # fmt: skip

    def ready(self) -> dict[str, Any]:
        """{"engine": what runs}, or {"error": why nothing does}."""
        return self._answer()

    def ask(self, updates: int) -> None:
        """Begin with so many updates; `run` waits for them, too."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{updates}\n")

    def run(self, updates: int) -> dict[str, float]:
        """{"updates" done, "wall" seconds, "cpu" seconds of all its threads}."""
        self.ask(updates)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: {self.name} ended with exit code {self._process.wait()}; its words are above")
        return dict(json.loads(line))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def requests() -> Iterator[int]:
    """The numbers on standard input, one a line, until it ends."""
    for line in sys.stdin:
        yield int(line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["auto", *OURS, *ON_GPU, *PEERS, PEER_ON_GPU, *FLOORS])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--observation", type=int, default=112)
    parser.add_argument("--action", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, e.g. agent.batch=128")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--pixels", action="store_true", help="with two cameras")
    options = parser.parse_args()
    os.nice(options.nice)
    agent = config.load(WALK, [*options.set, f"agent.threads={options.threads}"]).agent
    if options.name != "numpy sgemm":
        import torch

        torch.set_num_threads(options.threads)
    try:
        engine, run = make(options.name, agent, (options.observation, options.action), CAMERAS if options.pixels else ())
    except (Unsupported, ValueError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    run(CHUNK)  # what is compiled or reserved at the first call
    print(json.dumps({"engine": engine}), flush=True)
    for updates in requests():
        wall, cpu = time.perf_counter(), time.process_time()
        done = run(updates)
        took = {"updates": done, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(took), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
