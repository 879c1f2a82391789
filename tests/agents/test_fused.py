"""The fused engines do what the readable page does: same parameters from the same weights, rows and noise."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl import config
from robotrl import native as libraries
from robotrl.agents.base import Unsupported, make_agent
from robotrl.agents.experience import experience
from robotrl.agents.fused import engine
from robotrl.agents.fused.engine import ISA, Fused
from robotrl.agents.fused.fallback import TorchSac
from robotrl.agents.fused.graph import GraphSac
from robotrl.agents.sac import Sac
from robotrl.observe import Mirror
from robotrl.processes import ONE_THREAD
from robotrl.replay import Batch, Replay

try:
    WIDEST = engine.LIBRARY.load().robotrl_widest()
except libraries.NoLibrary:
    WIDEST = -1
native = pytest.mark.skipif(WIDEST < 0, reason="no C++ compiler on this machine")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU on this machine")
ON_GPU = pytest.param("cuda", id="cuda", marks=gpu)
N = 2000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    """Small products on several threads spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Memory:
    """Random transitions, a tenth of them terminated; with `in_place` it shows its columns, as a replay does."""

    def __init__(self, observation: int, action: int, in_place: bool = False) -> None:
        rng = np.random.default_rng(5)
        self.batch = Batch(
            observation=rng.standard_normal((N, observation), np.float32),
            action=np.tanh(rng.standard_normal((N, action), np.float32)),
            reward=rng.standard_normal(N, np.float32),
            terminated=(rng.random(N) < 0.1).astype(np.uint8),
            truncated=np.zeros(N, np.uint8),
            next_observation=rng.standard_normal((N, observation), np.float32),
            steps=np.ones(N, np.int64),
        )
        if in_place:
            self.count, self.columns = N, self.batch._asdict()

    def rows(self, indices: np.ndarray) -> Batch:
        return Batch(*(column[indices] for column in self.batch))


def backwards(observation: int, action: int) -> Mirror:
    """A mirror that exchanges first and last, second and last but one ..., and turns every sign but of one in the middle."""
    order = [np.arange(n)[::-1].copy() for n in (observation, action)]
    sign = [np.where(o == np.arange(len(o)), 1, -1).astype(np.float32) for o in order]
    return Mirror(order[0], sign[0], order[1], sign[1])


def by_hand(isa: int | str | None, agent, observation, action, seed=3, memory=None, mirror=None):
    """The torch engine for None, the GPU's for the name of a device, else the native one on at most this instruction set."""
    memory = Memory(observation, action) if memory is None else memory
    if isinstance(isa, str):
        return GraphSac(agent, observation, action, seed, memory, mirror, (), torch.device(isa))
    if isa is None:
        return TorchSac(agent, observation, action, seed, memory, mirror)
    return Fused(agent, observation, action, seed, memory, mirror, isa=isa)


def pair(observation, action, agent, isa=WIDEST, seed=3):
    return Sac(agent, observation, action, 3, Memory(observation, action)), by_hand(isa, agent, observation, action, seed)


def gap(a, b):
    """Largest relative error of any network's parameters, by norm."""
    a, b = a.state(), b.state()
    assert a.keys() == b.keys()
    error, size = defaultdict(float), defaultdict(float)
    for name in a:
        if not name.startswith("adam"):
            net = ".".join(name.split(".")[: 1 if name.startswith("actor") else 2])
            error[net] += float(np.square(a[name].astype(float) - b[name]).sum())
            size[net] += float(np.square(a[name].astype(float)).sum())
    return max(math.sqrt(error[net] / (size[net] + 1e-24)) for net in size)


def gradient_gap(a, b):
    """Largest error of any first moment, against the largest of its network: after one update a tenth of the gradient."""
    a, b = a.state(), b.state()
    size = {net: max(np.abs(v).max() for n, v in a.items() if n.startswith(f"adam_m.{net}")) for net in ("actor", "critic")}
    return {
        n: np.abs(a[n] - b[n]).max() / (size[net] + 1e-12) for net in size for n in a if n.startswith(f"adam_m.{net}")
    }  # fmt: skip


def stir(agent, seed=7):
    """Gains and biases of the normalisations that no longer are 1 and 0, and different in the targets."""
    rng, state = np.random.default_rng(seed), agent.state()
    for name in state:
        if ".norm_" in name and not name.startswith("adam"):
            state[name] += 0.3 * rng.standard_normal(state[name].shape, np.float32)
    agent.load_state(state, agent.random_state())


def advance(agents, updates, batch, seed=0, lowest=0):
    rng = np.random.default_rng(seed)
    metrics = []
    for _ in range(updates):
        indices = rng.integers(lowest, N, batch)
        metrics = [agent.update(indices) for agent in agents]
    return metrics


OPTIONS = {
    "sizes": [(3, 1), (17, 6), (40, 8)],
    "hidden": [(64, 64), (96, 80, 33), (30,), (17, 65)],
    "batch": [64, 100, 131],
    "critics": [1, 2, 5, 10],
    "threads": [1, 2],
    "layer_norm": [False, True],
    "actor_every": [1, 3],
    "target_subset": [0, 1, 2],
    "actor_value": ["min", "mean"],
    "dropout": [0.0, 0.01, 0.4],
    "mirror": [False, True],
    "in_place": [False, True],
}


def pairwise():
    """Few choices of all options among which every two values of two options meet."""
    rng, names = np.random.default_rng(0), list(OPTIONS)

    def pairs(row):
        return set(itertools.combinations(enumerate(row), 2))

    values = [[(at, i) for i in range(len(OPTIONS[n]))] for at, n in enumerate(names)]
    missing = {pair for two in itertools.combinations(values, 2) for pair in itertools.product(*two)}
    while missing:
        rows = [tuple(int(rng.integers(len(OPTIONS[n]))) for n in names) for _ in range(100)]
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        choice = {n: OPTIONS[n][i] for n, i in zip(names, best, strict=True)}
        yield choice | {"target_subset": min(choice["target_subset"], choice["critics"])}


# Of a million units rounding turns some near zero on or off, and Adam's first steps are as large for these as for any.
SLOW = dict.fromkeys(("actor_lr", "critic_lr", "temperature_lr"), 2e-5)
WIDE = {"sizes": (20, 12), "hidden": (512, 64, 512), "batch": 32} | SLOW
LARGE = [  # as OPTIONS, where absent its first value
    {"sizes": (112, 8), "hidden": (256, 256), "batch": 256, "critics": 2},
    {"sizes": (28, 8), "hidden": (64, 512), "batch": 1024, "critics": 2, "threads": 2, "layer_norm": True},
    {"sizes": (1, 3), "hidden": (2, 7), "batch": 1},
    {"sizes": (30, 60), "hidden": (96, 96), "batch": 256},  # more outputs of the actor than hidden units
    {"sizes": (2, 100), "hidden": (33, 17), "batch": 128, "critics": 2},
    WIDE | {"critics": 10, "layer_norm": True, "target_subset": 2, "actor_value": "mean", "dropout": 0.1, "mirror": True},
    WIDE | {"hidden": (512, 512), "batch": 64, "critics": 2, "threads": 2},
]
CHOICES = [*pairwise(), *({n: v[0] for n, v in OPTIONS.items()} | large for large in LARGE)]
BY_HAND = [pytest.param(None, id="torch"), ON_GPU] + [
    pytest.param(i, id=name, marks=[native, pytest.mark.skipif(i > WIDEST, reason=f"this processor has no {name}")])
    for i, name in enumerate(ISA)
]


class Kept:
    """An agent as it was."""

    def __init__(self, agent):
        self._state, self._random_state = agent.state(), agent.random_state()

    def state(self):
        return self._state

    def random_state(self):
        return self._random_state


def split(choice):
    """Sizes, memory, agent and mirror of a choice, and the lowest row to learn from."""
    fields = dict(choice)
    (observation, action), mirrored = fields.pop("sizes"), fields.pop("mirror")
    memory = Memory(observation, action, fields.pop("in_place"))
    return observation, action, memory, config.Agent(**fields), *((backwards(observation, action), -N) if mirrored else (None, 0))


@functools.lru_cache(maxsize=1)  # for all engines, which follow each other
def reference_of(choice):
    """The reference when it is made, stirred, after one update and after ten; and what the last told."""
    observation, action, memory, agent, mirror, lowest = split(choice)
    reference = Sac(agent, observation, action, 3, memory, mirror)
    kept = [Kept(reference)]
    stir(reference)
    kept.append(Kept(reference))
    advance((reference,), 1, agent.batch, lowest=lowest)
    kept.append(Kept(reference))
    (metrics,) = advance((reference,), 9, agent.batch, seed=1, lowest=lowest)
    return *kept, Kept(reference), metrics


@pytest.mark.parametrize("isa", BY_HAND)
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(str(v).replace(" ", "") for v in choice.values()))
def test_equals_the_reference(choice, isa):
    observation, action, memory, agent, mirror, lowest = split(choice)
    new, stirred, one, ten, expected = reference_of(tuple(choice.items()))
    other = by_hand(isa, agent, observation, action, 3, memory, mirror)
    assert gap(new, other) == 0
    other.load_state(stirred.state(), stirred.random_state())
    advance((other,), 1, agent.batch, lowest=lowest)
    assert gap(one, other) < 1e-5
    for name, error in gradient_gap(one, other).items():  # the actor's passes critics that Adam has moved meanwhile
        assert error < (1e-5 if "critic" in name else 1e-4), name
    (got,) = advance((other,), 9, agent.batch, seed=1, lowest=lowest)
    assert gap(ten, other) < 1e-5
    assert max(gradient_gap(ten, other).values()) < 1e-3  # a unit near zero may be on in one and off in the other
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)


SWITCHED = {
    "layer_norm": True, "critics": 3, "target_subset": 2, "actor_every": 4, "actor_value": "mean", "dropout": 0.1,
}  # fmt: skip
switches = pytest.mark.parametrize("switches", [{}, SWITCHED], ids=["plain", "switched"])


LONG = {  # few, and small: each takes the reference seconds; what SWITCHED switches on is on in the last two
    "plain": {},
    "DroQ": {"layer_norm": True, "dropout": 0.01, "actor_value": "mean", "actor_every": 20},
    "RLPD, three layers": {
        "hidden": (17, 16, 33), "critics": 5, "target_subset": 2, "layer_norm": True, "actor_value": "mean", "actor_every": 20,
    },
    "all at once": {
        "critics": 3, "target_subset": 2, "layer_norm": True, "dropout": 0.1, "actor_value": "mean", "threads": 2, "polyak": 0.1,
        "mirror": True, "in_place": True,
    },
}  # fmt: skip


def long_run(name, make):
    """A thousand updates with LONG's options, by what `make` makes of agent, sizes, seed, memory and mirror."""
    # Rounding alone leaves the engines 1e-7 apart. At the default 5e-4 it turns a unit on in one of these, and they are 6e-4
    # apart: as far as the reference is from itself once its first weights are the next numbers up.
    slow = dict.fromkeys(SLOW, 1e-4)
    fields = {"hidden": (16, 17), "batch": 16, "mirror": False, "in_place": False} | slow | LONG[name]
    mirror = backwards(6, 2) if fields["mirror"] else None
    memory = Memory(6, 2, fields.pop("in_place"))
    made = make(config.Agent(**fields), 6, 2, 3, memory, mirror)
    advance((made,), 1000, 16, lowest=-N if mirror else 0)
    return made


@functools.cache  # for all engines
def long_reference(name):
    return long_run(name, Sac)


@pytest.mark.parametrize("isa", BY_HAND)
@pytest.mark.parametrize("name", LONG)
def test_stays_with_the_reference_for_a_thousand_updates(name, isa):
    assert gap(long_reference(name), long_run(name, functools.partial(by_hand, isa))) < 1e-4


@pytest.mark.parametrize("isa", BY_HAND)
def test_equals_the_reference_on_several_steps_at_a_time(isa, tmp_path):
    """n-step rows have a discount each: gamma to the number of steps, nothing after a termination."""
    memory = Memory(6, 2).batch
    agent = config.Agent(hidden=(33, 18), batch=64, n_step=3, discount=0.8)
    with contextlib.closing(Replay.create(tmp_path / "replay", 6, 2, capacity=200)) as replay:
        for i in range(200):
            replay.add(
                memory.observation[i], memory.action[i], memory.reward[i], memory.next_observation[i],
                terminated=i % 7 == 6, truncated=i % 14 == 12, episode=i // 14 * 2 + (i % 14 > 6), step=i % 14 % 7,
                tick=i, policy_version=0,
            )  # fmt: skip
        rows = experience(agent, replay, None)
        assert set(rows.rows(np.arange(200)).steps) == {1, 2, 3}
        reference, other = Sac(agent, 6, 2, 3, rows), by_hand(isa, agent, 6, 2, 3, rows)
        rng = np.random.default_rng(0)
        for _ in range(20):
            indices = rng.integers(0, 200, 64)
            expected, got = reference.update(indices), other.update(indices)
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert gap(reference, other) < 1e-5


@native
def test_a_changed_input_is_seen():
    agent = config.Agent(hidden=(64, 64), batch=64)
    reference, fused = pair(6, 2, agent)
    indices = np.arange(64)
    noise = np.zeros((2, 64, 2), np.float32)
    expected = reference.update(indices, noise)["critic_loss"]
    noise[0, :, 0] = 0.5
    assert abs(fused.update(indices, noise)["critic_loss"] / expected - 1) > 1e-5


@native
@switches
def test_same_bits_for_any_number_of_threads_and_twice(switches):
    states = []
    for threads in (1, 2, 2, 3):
        fused = by_hand(WIDEST, config.Agent(hidden=(96, 65), batch=199, threads=threads, **switches), 11, 3)
        advance((fused,), 20, 199)
        states.append(fused.state())
    for other in states[1:]:
        assert all(np.array_equal(states[0][n], other[n]) for n in other)


@native
@pytest.mark.parametrize("threads", [9, 256])
def test_more_threads_than_the_native_engine_takes_are_as_many_as_it_takes(threads):
    memory, agent = Memory(6, 2), config.Agent(hidden=(48, 33), batch=200, threads=threads)
    made = make_agent(agent, 6, 2, 3, memory)
    assert made.engine.startswith("fused") and not made.engine_note
    reference, one = Sac(agent, 6, 2, 3, memory), by_hand(WIDEST, dataclasses.replace(agent, threads=1), 6, 2, 3, memory)
    advance((reference, one, made), 5, 200)
    assert gap(reference, made) < 1e-5
    assert all(np.array_equal(value, made.state()[name]) for name, value in one.state().items())


ON_ONE_CORE = """
import numpy as np
from robotrl import config
from robotrl.agents.fused.engine import Fused
from tests.agents.test_fused import Memory, advance

states = []
for threads in (1, 3):  # tasks that take longer than the scheduler leaves a thread on its core
    made = Fused(config.Agent(hidden=(256, 256), batch=384, threads=threads), 11, 3, 3, Memory(11, 3), isa=0)
    advance((made,), 20, 384)
    states.append(made.state())
print(all(np.array_equal(value, states[1][name]) for name, value in states[0].items()))
"""


@native
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system lets no process choose its cores")
def test_threads_that_share_a_core_wait_asleep_and_are_woken():
    """The one that has run out of tasks is in the way of those that hold them."""
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE], cwd=ROOT, env=os.environ | ONE_THREAD,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


ONE_MORE = """
import resource

from robotrl import config
from robotrl.agents.base import Unsupported
from robotrl.agents.fused import engine

def make(threads):
    return engine.Fused(config.Agent(hidden=(8, 8), batch=64, threads=threads), 6, 2, 0, object())

make(1)
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 3 * {stack} // 2, resource.RLIM_INFINITY))  # a stack more, and not two
make(2)
try:
    make(3)
except Unsupported as reason:
    print(reason)
"""
STACK = 1 << 30  # of a thread, in address space; much more than all that the rest takes


@native
@pytest.mark.skipif(0 <= resource.getrlimit(resource.RLIMIT_STACK)[1] < STACK, reason="no such stacks are allowed here")
def test_no_thread_for_the_native_engine_ends_nothing():
    """The second of two workers is not to be had: the first is told to end, and waited for."""
    done = subprocess.run(
        [sys.executable, "-c", ONE_MORE.replace("{stack}", str(STACK))], cwd=ROOT, env=os.environ | ONE_THREAD,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (STACK, resource.getrlimit(resource.RLIMIT_STACK)[1])),
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the fused engine got no memory, or no threads, for 2 critics of (8, 8) on 64 rows\n"


@pytest.mark.parametrize("isa", BY_HAND)
@switches
def test_engines_swap_on_resume(isa, switches):
    agent = config.Agent(hidden=(48, 33), batch=64, **switches)
    reference, other = pair(6, 2, agent, isa, seed=4)
    advance((reference,), 5, 64)
    other.load_state(reference.state(), reference.random_state())
    assert all(np.array_equal(value, other.state()[name]) for name, value in reference.state().items())
    assert other.step == reference.step == 5
    advance((reference, other), 4, 64, seed=9)
    assert gap(reference, other) < 1e-5
    back = Sac(agent, 6, 2, 0, Memory(6, 2))
    back.load_state(other.state(), other.random_state())
    assert gap(back, other) == 0


@native
def test_the_padding_of_odd_widths_stays_empty():
    """Another update's sums must not see what lies behind a row's end: mean and variance are over the width alone."""
    reference, wide = pair(6, 2, config.Agent(hidden=(17, 17), batch=64, layer_norm=True))
    advance((reference, wide), 200, 64)
    assert gap(reference, wide) < 1e-3


@native
def test_a_foreign_state_is_refused():
    _, fused = pair(6, 2, config.Agent(hidden=(48, 48), batch=64))
    _, wider = pair(6, 2, config.Agent(hidden=(48, 49), batch=64))
    with pytest.raises(ValueError, match="shape"):
        fused.load_state(wider.state(), wider.random_state())
    state = fused.state()
    state["actor.0.weight"][0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        fused.load_state(state, fused.random_state())


@native
def test_not_finite_is_said():
    agent = config.Agent(hidden=(48, 48), batch=64)
    memory = Memory(6, 2)
    memory.batch.observation[7] = np.nan
    fused = Fused(agent, 6, 2, 3, memory)
    with pytest.raises(FloatingPointError, match="go back"):
        fused.update(np.arange(64))


@native
def test_reads_the_replay_in_place(tmp_path):
    memory = Memory(6, 2).batch
    with contextlib.closing(Replay.create(tmp_path / "replay", 6, 2, capacity=100)) as replay:
        for i in range(80):
            replay.add(
                memory.observation[i], memory.action[i], memory.reward[i], memory.next_observation[i],
                terminated=bool(memory.terminated[i]), truncated=False,
                episode=i, step=0, tick=i, policy_version=0,
            )  # fmt: skip
        agent = config.Agent(hidden=(48, 48), batch=64)
        reference, fused = Sac(agent, 6, 2, 3, replay), Fused(agent, 6, 2, 3, replay)
        indices = np.arange(79, 15, -1)
        for each in (reference, fused):
            each.update(indices)
        assert gap(reference, fused) < 1e-5
        with pytest.raises(IndexError, match="not all in the replay"):
            fused.update(indices + 1)


@native
def test_wrong_shapes_are_refused():
    _, fused = pair(6, 2, config.Agent(hidden=(48, 48), batch=64))
    with pytest.raises(ValueError, match="indices"):
        fused.update(np.arange(63))
    with pytest.raises(ValueError, match="noise"):
        fused.update(np.arange(64), np.zeros((2, 64, 3), np.float32))


@native
def test_the_phases_of_an_update_are_timed():
    agent = by_hand(WIDEST, config.Agent(hidden=(32, 32), batch=64), 10, 3)
    assert set(agent.spent().values()) == {0.0}
    begun = time.perf_counter()
    for _ in range(3):
        agent.update(np.arange(64))
    assert all(agent.spent().values()) and sum(agent.spent().values()) < time.perf_counter() - begun


BEYOND = {  # what the native engine has no room for, and torch has
    "hidden layers": {"hidden": (8,) * 5},
    "critics": {"critics": 17, "target_subset": 2, "layer_norm": True, "dropout": 0.1},
    "smallest hidden width": {"hidden": (8, 1)},
}


@pytest.mark.parametrize("what", BEYOND)
def test_what_the_native_engine_cannot_do_torch_does(what):
    memory, agent = Memory(6, 2), config.Agent(**{"hidden": (8, 8), "batch": 64} | BEYOND[what])
    made = make_agent(agent, 6, 2, 3, memory)
    assert made.engine == "torch"
    assert what in made.engine_note
    reference = Sac(agent, 6, 2, 3, memory)
    advance((reference, made), 5, 64)
    assert gap(reference, made) < 1e-5
    with pytest.raises(Unsupported, match=what):
        make_agent(dataclasses.replace(agent, engine="fused"), 6, 2, 0, memory)


class NoRoom:
    """A native library that gets no memory."""

    def robotrl_widest(self):
        return 0

    def robotrl_open(self, asked):
        return None


@native
def test_no_memory_for_the_native_engine_is_no_error(monkeypatch):
    monkeypatch.setattr(engine, "_bind", lambda library: NoRoom())
    made = make_agent(config.Agent(hidden=(8, 8), batch=64), 6, 2, 0, Memory(6, 2))
    assert made.engine == "torch"
    assert "got no memory" in made.engine_note
    with pytest.raises(Unsupported, match="got no memory"):
        make_agent(config.Agent(engine="fused", hidden=(8, 8), batch=64), 6, 2, 0, Memory(6, 2))


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_no_memory_at_all_is_one_line(name):
    """An array beyond the address space: refused at once, whatever the system promises."""
    with pytest.raises(Unsupported, match=r"^no memory for 2 critics of \(1\d*, 8\) on 64 rows; make agent.hidden"):
        make_agent(config.Agent(engine=name, hidden=(10**15, 8), batch=64), 6, 2, 0, Memory(6, 2))


def test_no_compiler_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "cache", lambda: tmp_path)
    monkeypatch.setattr(libraries.Library, "fingerprint", lambda self: "none")
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    agent = make_agent(config.Agent(hidden=(8, 8), batch=64), 6, 2, 0, Memory(6, 2))
    assert agent.engine == "torch"
    assert "compiler" in agent.engine_note
    agent.update(np.arange(64))
