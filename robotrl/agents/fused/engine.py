"""The fused SAC update: `make` picks the native engine or, without a compiler, the hand-written torch one.

Both do what `robotrl.agents.sac` does, number for number up to rounding, on the same named parameters and the
same noise; a state saved by one loads into the other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl import config, native
from robotrl.agents import dropout
from robotrl.agents.base import Agent, Mirror, Rows, Unsupported, discounts, seen_rows
from robotrl.agents.fused.learned import METRICS, Learned, finite

# One library holds every instruction set of the processor family and picks one when it runs.
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-pthread")
LIBRARY = native.Library(Path(__file__).resolve().with_name("native.cpp"), FLAGS, "the fused engine")
ISA = ("portable", "AVX2", "AVX-512")
VALUE, M, V, TARGET = range(4)
PHASES = ("targets", "critics' gradients", "critics' steps", "actor's gradients", "actor's steps")
PARTS = ("weight", "bias", "norm_gain", "norm_bias")
MAX_HIDDEN, MAX_CRITICS, MAX_THREADS = 4, 16, 8


def make(
    agent: config.Agent, observation_size: int, action_size: int, seed: int, replay: Rows, mirror: Mirror | None = None
) -> Agent:
    """The native engine for `agent.engine` "fused"; for "auto" the torch one where it cannot, with the reason; or "torch".

    Raises Unsupported when sizes or machine do not allow the native one and it was named.
    """
    note = ""
    if agent.engine != "torch":
        try:
            return Fused(agent, observation_size, action_size, seed, replay, mirror)
        except (native.NoLibrary, Unsupported) as reason:
            if agent.engine == "fused":
                raise Unsupported(str(reason)) from None
            note = str(reason)
    from robotrl.agents.fused.fallback import TorchSac  # late: torch

    made = TorchSac(agent, observation_size, action_size, seed, replay, mirror)
    made.engine_note = note
    return made


def _supported(agent: config.Agent) -> None:
    """Unsupported for what the native engine has no room for; the torch one has none of these bounds."""
    for name, value, low, high in (
        ("hidden layers", len(agent.hidden), 1, MAX_HIDDEN),
        ("critics", agent.critics, 1, MAX_CRITICS),
        ("smallest hidden width", min(agent.hidden, default=0), 2, 65536),
        ("batch", agent.batch, 1, 65536),
    ):
        if not low <= value <= high:
            raise Unsupported(f"the fused engine does {low} to {high} {name}, not {value}")


_INTEGERS = ("critics", "batch", "threads", "isa", "layer_norm", "actor_every", "targets", "actor_mean", "dropout")
_REALS = ("polyak", "actor_lr", "critic_lr", "temperature_lr", "target_entropy")


class _Config(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int32) for n in ("observation", "action", "hidden_count")),
        ("hidden", ctypes.c_int32 * MAX_HIDDEN),
        *((n, ctypes.c_int32) for n in _INTEGERS),
        *((n, ctypes.c_float) for n in _REALS),
    ]


_COLUMNS = ("observation", "action", "reward", "next_observation", "terminated", "discount")


class _Columns(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in _COLUMNS] + [(f"{n}_stride", ctypes.c_int64) for n in _COLUMNS]


def _bind(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, c_int = ctypes.c_void_p, ctypes.c_int
    library.robotrl_open.argtypes, library.robotrl_open.restype = [ctypes.POINTER(_Config)], pointer
    library.robotrl_close.argtypes, library.robotrl_close.restype = [pointer], None
    library.robotrl_refresh.argtypes, library.robotrl_refresh.restype = [pointer], None
    library.robotrl_steps.argtypes, library.robotrl_steps.restype = [pointer], ctypes.POINTER(ctypes.c_int64)
    library.robotrl_spent.argtypes, library.robotrl_spent.restype = [pointer], ctypes.POINTER(ctypes.c_double)
    floats = ctypes.POINTER(ctypes.c_float)
    library.robotrl_log_alpha.argtypes, library.robotrl_log_alpha.restype = [pointer], floats
    library.robotrl_mirror.argtypes, library.robotrl_mirror.restype = [pointer] * 5, None
    library.robotrl_parameter.argtypes = [pointer, c_int, c_int, c_int, c_int, ctypes.POINTER(c_int)]
    library.robotrl_parameter.restype = floats
    library.robotrl_update.argtypes = [pointer, ctypes.POINTER(_Columns), *[pointer] * 3, ctypes.c_uint32, pointer]
    library.robotrl_update.restype = None
    return library


class Fused(Learned):
    """Soft actor-critic in one native call an update; names, noise and order of `robotrl.agents.sac.Sac`."""

    def __init__(
        self,
        agent: config.Agent,
        observation_size: int,
        action_size: int,
        seed: int,
        replay: Rows,
        mirror: Mirror | None = None,
        isa: int | None = None,
    ) -> None:
        """`isa` (index into ISA) narrows the instruction set, for tests. Raises NoLibrary without a compiler, Unsupported for
        sizes beyond its bounds or beyond the machine's memory."""
        self._handle = None
        _supported(agent)
        self._native = _bind(LIBRARY.load())
        widest = self._native.robotrl_widest()
        isa = widest if isa is None else min(isa, widest)
        self.engine, self.engine_note = f"fused {ISA[isa]}", ""
        super().__init__(agent, observation_size, action_size, seed, replay, mirror)
        self._config = _Config(
            observation_size, action_size, len(agent.hidden), agent.hidden, agent.critics, agent.batch,
            min(MAX_THREADS, max(1, agent.threads)),  # the result is the same for any number
            isa, agent.layer_norm, agent.actor_every, agent.target_subset or agent.critics, agent.actor_value == "mean",
            dropout.parts(agent.dropout),
            agent.polyak, agent.actor_lr, agent.critic_lr, agent.temperature_lr, self.target_entropy,
        )  # fmt: skip
        self._handle = self._native.robotrl_open(ctypes.byref(self._config))
        if not self._handle:
            sizes = f"{agent.critics} critics of {agent.hidden} on {agent.batch} rows"
            raise Unsupported(f"the fused engine got no memory, or no threads, for {sizes}")
        if mirror is not None:
            kept = [np.ascontiguousarray(a) for a in mirror.arrays()]  # until the native side has copied them
            self._native.robotrl_mirror(self._handle, *(a.ctypes.data for a in kept))
        self._views = self._parameters()
        columns = getattr(replay, "columns", None)  # mapped files, which stay where they are
        if columns is not None:  # recorded rows are one step each: a column without a stride, one number for all
            columns = columns | {"discount": np.broadcast_to(np.float32(agent.discount), columns["reward"].shape)}
        self._kept = columns  # the native side reads these arrays: they must outlive it
        self._mapped = None if columns is None else self._described(columns, len(columns["reward"]))
        self._metrics = np.zeros(len(METRICS), np.float32)
        self.begin()

    def __del__(self) -> None:
        if self._handle:
            self._native.robotrl_close(self._handle)

    def update(self, indices: NDArray[np.int64], noise: NDArray[np.float32] | None = None) -> dict[str, float]:
        """One update on the rows `indices` (batch,); arguments, results and errors as `Sac.update`."""
        drawn = self.draws(indices, noise)
        columns, rows = self._columns(indices)
        self._native.robotrl_update(
            self._handle, ctypes.byref(columns), rows.ctypes.data, drawn.noise.ctypes.data, drawn.targets.ctypes.data,
            drawn.key, self._metrics.ctypes.data,
        )  # fmt: skip
        return finite(self._metrics.tolist())

    def _columns(self, indices: NDArray[np.int64]) -> tuple[_Columns, NDArray[np.int64]]:
        """Where the rows lie: in the replay's own columns if it shows them, else in a copy from its `rows`."""
        if self._mapped is not None:
            count: int = self.replay.count  # type: ignore[attr-defined]
            lowest = 0 if self.mirror is None else -count  # row ~i in the mirror
            if not lowest <= indices.min() <= indices.max() < count:
                raise IndexError(f"sac.update: rows {indices.min()}..{indices.max()} are not all in the replay")
            return self._mapped, np.ascontiguousarray(indices, np.int64)
        batch = seen_rows(self.replay, indices, self.mirror)
        self._kept = batch._asdict() | {"discount": discounts(batch, self.config.discount)}
        return self._described(self._kept, len(indices)), np.arange(len(indices))

    def _described(self, arrays: Mapping[str, NDArray[Any]], n: int) -> _Columns:
        """The columns' addresses, after a look at shapes and types; ValueError."""
        self.check_rows(arrays, n)
        flat = [arrays[name] for name in _COLUMNS]
        if arrays["terminated"].dtype.itemsize != 1 or any(a.ndim > 1 and a.strides[-1] != a.itemsize for a in flat):
            raise ValueError("sac.update: rows must be contiguous and terminated one byte each")
        return _Columns(*(a.ctypes.data for a in flat), *(a.strides[0] for a in flat))

    def spent(self) -> dict[str, float]:
        """Seconds in each phase of an update since the engine was made; what is missing of the whole is this side's."""
        return dict(zip(PHASES, self._native.robotrl_spent(self._handle)[: len(PHASES)], strict=True))

    @property
    def step(self) -> int:
        """Updates done so far."""
        return int(self._native.robotrl_steps(self._handle)[0])

    def _resume(self, step: int) -> None:
        self._native.robotrl_steps(self._handle)[0] = step
        self._native.robotrl_refresh(self._handle)

    def _parameters(self) -> dict[str, NDArray[np.float32]]:
        """Every named array as a view into the native arena, (out, in) as in the reference, in its order."""
        values: dict[str, NDArray[np.float32]] = {}
        moments: dict[str, NDArray[np.float32]] = {}
        for name, shape in self.shapes.items():
            if name == "log_alpha":
                scalar = np.ctypeslib.as_array(self._native.robotrl_log_alpha(self._handle), (3,))
                views = [scalar[i : i + 1] for i in range(3)]
            else:
                views = [self._view(name, kind, shape) for kind in ((TARGET,) if name.startswith("target.") else (VALUE, M, V))]
            values[name] = views[0]
            if len(views) == 3:
                moments[f"adam_m.{name}"], moments[f"adam_v.{name}"] = views[1:]
        return values | moments

    def _view(self, name: str, kind: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        *net, layer, part = name.split(".")
        ld = ctypes.c_int()
        at = self._native.robotrl_parameter(
            self._handle,
            -1 if net[0] == "actor" else int(net[1]),
            kind,
            int(layer),
            PARTS.index(part),
            ctypes.byref(ld),
        )
        if part != "weight":
            return np.ctypeslib.as_array(at, shape)
        fan_in = shape[1]
        flat = np.ctypeslib.as_array(at, (fan_in * ld.value,))
        return np.lib.stride_tricks.as_strided(flat, shape, (4, 4 * ld.value))
