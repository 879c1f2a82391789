"""What the fused engines share: named parameters as views into their own storage, noise, state, checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl import config
from robotrl.agents import draws, encoder, nets
from robotrl.agents.base import Mirror, Rows

METRICS = ("critic_loss", "actor_loss", "entropy", "temperature", "q_mean")


class Learned:
    """An agent whose `_views` name every parameter, moment and target, shaped as in `robotrl.agents.sac`."""

    engine = ""
    engine_note = ""
    _views: dict[str, NDArray[np.float32]]

    def __init__(
        self, agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None,
        image: tuple[int, int, int] | None = None,
    ) -> None:  # fmt: skip
        """Everything random comes from `seed`, as in the reference: the first parameters and each update's noise."""
        if mirror is not None:
            mirror.check(observation_size, action_size)
        self.config, self.replay, self.mirror = agent, replay, mirror
        self.observation_size, self.action_size = observation_size, action_size
        entropy = agent.target_entropy
        self.target_entropy = -float(action_size) if math.isnan(entropy) else entropy
        size = observation_size + (encoder.FEATURES if image else 0)
        self.shapes = nets.shapes(size, action_size, agent.hidden, agent.critics, agent.layer_norm)
        self.shapes |= encoder.shapes(image) if image else {}
        self._start, self.rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))

    def begin(self) -> None:
        """First values into the views."""
        for name, value in nets.initial(self.shapes, self.config.initial_temperature, self._start).items():
            self._views[name][...] = value
        self._resume(0)

    def _resume(self, step: int) -> None:
        """The views were written from outside; `step` updates have been done."""
        raise NotImplementedError

    def _fetch(self) -> None:
        """The views are about to be read: those that are copies are to be what is copied."""

    @property
    def step(self) -> int:
        """Updates done so far."""
        raise NotImplementedError

    def draws(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None) -> draws.Draws:
        """What the update on `indices` draws, or is given as noise; ValueError for a wrong batch or shape."""
        batch = self.config.batch
        if indices.shape != (batch,):
            raise ValueError(f"sac.update: indices must be {(batch,)}, agent.batch, is {indices.shape}")
        return draws.draw(self.rng, self.config, self.step + 1, (batch, self.action_size), noise)

    def check_rows(self, arrays: Mapping[str, NDArray[Any]], n: int) -> None:
        """ValueError names the column that has not this agent's shape or is not float32."""
        _check("observation", arrays["observation"], (n, self.observation_size))
        _check("next_observation", arrays["next_observation"], (n, self.observation_size))
        _check("action", arrays["action"], (n, self.action_size))
        _check("reward", arrays["reward"], (n,))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """A copy of what acts (`actor.*`, `encoder.*`), what `actor.Actor` takes."""
        self._fetch()
        return {n: v.copy("C") for n, v in self._views.items() if n.startswith(("actor.", "encoder."))}

    def state(self) -> dict[str, NDArray[Any]]:
        """A copy of all that is learned, with the names of `Sac.state`."""
        self._fetch()
        return {n: v.copy("C") for n, v in self._views.items()} | {"step": np.array(self.step, np.int64)}

    def random_state(self) -> dict[str, Any]:
        """The noise generator's state, ready for JSON."""
        return dict(self.rng.bit_generator.state)

    def load_state(self, state: dict[str, NDArray[Any]], random_state: dict[str, Any]) -> None:
        """Take over `state()` and `random_state()` of any engine; ValueError names what does not fit."""
        if odd := sorted((self._views.keys() | {"step"}) ^ state.keys()):
            raise ValueError(f"agent state: {odd[0]!r} is on one side only; it was saved by a different agent")
        for name, view in self._views.items():
            if view.shape != state[name].shape or not np.isfinite(state[name]).all():
                raise ValueError(f"agent state: {name} must be finite and of shape {view.shape}, is {state[name].shape}")
        self.rng.bit_generator.state = random_state
        for name, view in self._views.items():
            view[...] = state[name]
        self._resume(int(state["step"]))


def finite(values: Sequence[float]) -> dict[str, float]:
    """The metrics by name; FloatingPointError when one is not finite."""
    metrics = dict(zip(METRICS, values, strict=True))
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"sac.update: {name} is {value}; the last good state is the one to go back to")
    return metrics


def _check(name: str, value: NDArray[Any], shape: tuple[int, ...]) -> None:
    if value.shape != shape or value.dtype != np.float32:
        raise ValueError(f"sac.update: {name} must be float32 {shape}, is {value.dtype} {value.shape}")
