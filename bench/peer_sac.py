"""stable-baselines3's SAC, default settings, on our task: same program, wires, latency, noise, randomisation; its own learner.

A reward here is known some periods after its action, when the tracker's pictures have arrived, and the robot does not wait:
no `Env.step` could return it. So the library's parts are called where its own loop would call them, in its order: predict for
each observation, one replay entry and one gradient step for each transition, as its defaults train_freq=1, gradient_steps=1 and
learning_starts=100 say. The run directory that comes out is one like any other: `robotrl eval` and bench/walk.py take it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from robotrl import config, rundir
from robotrl.sim.rig import Rig
from robotrl.tasks.walk import ACTIONS, SENSORS

INSTALL = "pip install stable-baselines3"


class SpacesOnly:
    """Makes the environment the library wants to be given; only its spaces are used."""

    def __new__(cls, observations: int) -> Any:
        import gymnasium

        class Still(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observations,), np.float32)
            action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

        return Still()


class Peer:
    """Sits where our actor and our replay sit: `act` for each observation, `add` for each transition as its reward arrives."""

    def __init__(self, model: Any, seed: int, steps: int) -> None:
        self.model, self.steps = model, steps
        self.rng = np.random.default_rng(seed)
        self.count = 0
        self.updates = 0

    def act(self, observation: NDArray[Any], noise: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """An exploring action: uniform before learning_starts, then a sample of the policy."""
        if self.count < self.model.learning_starts:
            return self.rng.uniform(-1, 1, ACTIONS).astype(np.float32)
        return np.asarray(self.model.predict(observation, deterministic=False)[0], np.float32)

    def add(
        self, observation: NDArray[Any], action: NDArray[Any], reward: float, next_observation: NDArray[Any], *,
        terminated: bool, truncated: bool, **_: int,
    ) -> int:  # fmt: skip
        """Store as the library does (done with a time-limit mark when truncated) and take its gradient step."""
        done = np.array([terminated or truncated])
        mark = [{"TimeLimit.truncated": truncated and not terminated}]
        # What the gate applied may lie slightly outside the box; the library's own actions never do.
        inside = np.clip(action, -1.0, 1.0)[None]
        self.model.replay_buffer.add(observation[None], next_observation[None], inside, np.array([reward]), done, mark)
        self.count += 1
        if self.model.learning_starts < self.count <= self.steps:
            self.model.train(1, self.model.batch_size)
            self.updates += 1
        return self.count - 1

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Its actor under our names: mean and log_std heads are one layer here."""
        state = {k: v.detach().cpu().numpy() for k, v in self.model.actor.state_dict().items()}
        out = {}
        for kind in ("weight", "bias"):
            for layer, theirs in enumerate(("latent_pi.0", "latent_pi.2")):
                out[f"actor.{layer}.{kind}"] = state[f"{theirs}.{kind}"].copy()
            out[f"actor.2.{kind}"] = np.concatenate((state[f"mu.{kind}"], state[f"log_std.{kind}"]))
        return out


def train(run: config.Run, root: Path, keep_every: int) -> Path:
    """Train for `run.steps` transitions on one thread; returns the run directory."""
    import torch
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import configure

    torch.set_num_threads(1)
    size = SENSORS * (1 + run.task.history) + ACTIONS * run.task.history
    # The buffer holds the whole run, so that its default size of a million is not reached either.
    model = SAC("MlpPolicy", SpacesOnly(size), device="cpu", seed=run.seed, buffer_size=run.steps + run.task.episode_steps)
    model.set_logger(configure(None, []))
    peer = Peer(model, run.seed, run.steps)
    directory = rundir.create(run, root, "lockstep")
    metrics = rundir.Metrics(directory)
    rig = Rig(run, run.seed, replay=peer, deterministic=True)  # type: ignore[arg-type]  # acts and adds, which is all that is asked
    rig.pilot.take(peer, 0, 0)  # type: ignore[arg-type]
    began, kept = time.monotonic(), 0
    while peer.count < run.steps:
        rig.cycle()
        for episode in rig.take_finished():
            wall = time.monotonic() - began
            metrics.write(
                "episode", episode=episode.episode, steps=episode.step, step_total=episode.transitions, speed=episode.speed,
                ended=episode.ended, wall_s=wall, **{"return": episode.total_return},
            )  # fmt: skip
            print(f"{peer.count:7d} of {run.steps} steps, {episode.speed:5.2f} m/s, return {episode.total_return:6.1f}, "
                  f"{episode.ended}, {wall:5.0f} s", file=sys.stderr, flush=True)  # fmt: skip
        if keep_every and peer.count // keep_every * keep_every > kept:
            kept = peer.count // keep_every * keep_every
            save(peer, directory / "weights" / f"at-{kept}.safetensors")
    save(peer, directory / "weights" / "policy.safetensors")
    wall = time.monotonic() - began
    rundir.write_json(
        directory / "result.json", {"train_wall_s": round(wall, 1), "updates": peer.updates, "engine": "stable-baselines3"}
    )
    metrics.close()
    rig.close()
    return directory


def save(peer: Peer, path: Path) -> None:
    rundir.write_bytes(path, safetensors.numpy.save(peer.weights(), {"version": "0", "updates": str(peer.updates)}))
