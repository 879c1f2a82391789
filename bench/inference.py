"""One call's time in a process of its own, as the policy's node runs it: what bench/policy.py asks for.

`act`: an action of the numpy actor. `take`: a new weights file looked at, read, checked and made an actor (`Weights.poll`),
replaced before each call. `stable_baselines3`: that library's `predict`. Prints {"refused": why there is no real-time priority}
and leaves the nanoseconds of each call in FILE.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robotrl import config
from robotrl.agents import nets
from robotrl.agents.actor import Actor
from robotrl.agents.weights import packed
from robotrl.clock import WallClock
from robotrl.nodes.pilot import SEEN
from robotrl.nodes.policy import Weights
from robotrl.nodes.readiness import EARLY_NS
from robotrl.realtime import real_time

SIZES = (112, 8)  # the walk's observation and action
PRIORITY = 9  # the policy node's
WARM = 50  # calls before the first that counts
Calls = Callable[[int], Callable[[], object]]  # number of the call -> what is timed


def drawn(seed: int) -> dict[str, np.ndarray]:
    """An actor's weights as they are before any training."""
    agent = config.Agent()
    first = nets.initial(nets.shapes(*SIZES, agent.hidden, 1), agent.initial_temperature, np.random.default_rng(seed))
    return {name: value for name, value in first.items() if name.startswith("actor.")}


def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((64, SIZES[0]), np.float32), rng.standard_normal((64, SIZES[1]), np.float32)


def act() -> Calls:
    actor, (observations, noise) = Actor(drawn(0)), inputs()
    return lambda k: lambda: actor.act(observations[k % 64], noise[k % 64])


def take(folder: Path) -> Calls:
    path, observations = folder / "policy.safetensors", inputs()[0]
    weights, new = Weights(path, *SIZES, print), drawn(1)

    def call(k: int) -> Callable[[], object]:
        aside = folder / "aside"
        aside.write_bytes(packed(new, {"version": str(k + 1)}))
        aside.replace(path)
        return lambda: weights.poll(observations[:SEEN])

    return call


def stable_baselines3() -> Calls:
    import gymnasium
    import torch
    from stable_baselines3 import SAC

    class Still(gymnasium.Env):  # only its spaces are used
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, SIZES[:1], np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, SIZES[1:], np.float32)

    torch.set_num_threads(1)
    model, (observations, _) = SAC("MlpPolicy", Still(), buffer_size=1, device="cpu"), inputs()
    return lambda k: lambda: model.predict(observations[k % 64])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("act", "take", "stable_baselines3"))
    parser.add_argument("file", type=Path, help="where the times go, a .npy")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rate-hz", type=float, default=0.0, help="calls a second; 0: one after the other")
    parser.add_argument("--warm", action="store_true", help="as the node does, act once for nobody shortly before each call")
    parser.add_argument("--real-time", action="store_true", help="ask for the policy node's priority")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calls = {"act": act, "take": lambda: take(Path(folder)), "stable_baselines3": stable_baselines3}[options.what]()
        refused = real_time(PRIORITY, lock=False) if options.real_time else "not asked for"
        for k in range(WARM):
            calls(k)()
        clock = WallClock()
        took: list[int] = []
        begin = clock.now()
        while (now := clock.now()) < begin + options.seconds * 1e9 or not took:
            call = calls(WARM + len(took))
            if options.rate_hz:
                due = now + int(1e9 / options.rate_hz)
                if options.warm:
                    clock.sleep_until(due - EARLY_NS)
                while options.warm and clock.now() < due:
                    calls(0)()
                clock.sleep_until(due)
            before = time.perf_counter_ns()
            call()
            took.append(time.perf_counter_ns() - before)
    np.save(options.file, np.array(took, np.int64))
    print(json.dumps({"refused": refused}))


if __name__ == "__main__":
    main()
