"""Learning from images: what is learned by whom, the same numbers with and without torch, rows and their pictures together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robotrl import config
from robotrl.agents.actor import Actor, WeightsError
from robotrl.agents.base import Unsupported, make_agent
from robotrl.agents.experience import Shared, open_demonstrations
from robotrl.agents.sac import Sac
from robotrl.observe import Mirror
from robotrl.replay import Batch, Images, Replay, ReplayError

SIZE = 32
CAMERAS = (("left", SIZE, SIZE, 1), ("right", SIZE, SIZE, 1))
AGENT = config.Agent(hidden=(32, 32), batch=32, critic_lr=2e-3, actor_lr=2e-3, initial_temperature=0.01, shift_px=1, mirror=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of torch's: two that share a core wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Bandit:
    """A bright bar stands at x, seen by one camera; whoever says x gets 0, all else costs. Each row is an episode."""

    def __init__(self, rows: int = 400) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.uniform(-0.8, 0.8, rows).astype(np.float32)
        self.action = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
        dark = np.zeros((rows, SIZE, SIZE, 1), np.uint8)
        self.seen = dark.copy()
        for image, x in zip(self.seen, self.x, strict=True):
            at = round((x + 1) / 2 * (SIZE - 4))
            image[:, at : at + 4] = 255
        self.dark = dark

    def rows(self, indices: np.ndarray) -> Batch:
        n, reward = len(indices), -((self.action[indices, 0] - self.x[indices]) ** 2)
        nothing, ones = np.zeros((n, 1), np.float32), np.ones(n, np.uint8)
        return Batch(nothing, self.action[indices], reward, ones, ones * 0, nothing, np.ones(n, np.int64))

    def images(self, indices: np.ndarray) -> Images:
        dark = self.dark[indices]
        return Images({"left": self.seen[indices], "right": dark}, {"left": dark, "right": dark})


def made(agent: config.Agent = AGENT, seed: int = 0) -> Any:
    torch.manual_seed(99)  # nothing may come from there
    return make_agent(agent, 1, 1, seed, Bandit(), None, CAMERAS)


def trained(sac: Any, updates: int, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    for _ in range(updates):
        sac.update(rng.integers(0, len(sac.replay.x), AGENT.batch))
    return sac


def test_what_is_seen_decides_what_is_done() -> None:
    """A policy blind to the picture is 0.4 off on average at best."""
    sac = trained(made(), 250)
    actor, bandit = Actor(sac.weights()), sac.replay
    images = np.concatenate([bandit.seen, bandit.dark], axis=-1)
    said = np.array([actor.act(np.zeros(1), None, image)[0] for image in images[:100]])
    assert np.abs(said - bandit.x[:100]).mean() < 0.15


def test_who_acts_without_torch_does_what_the_page_says() -> None:
    sac = trained(made(), 3)
    images = np.concatenate([*sac.replay.images(np.arange(5)).observation.values()], axis=-1)
    observation = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    agent, sac.config = sac.config, config.Agent(shift_px=0)  # who acts shifts nothing
    with torch.no_grad():
        s = torch.cat([torch.from_numpy(observation), sac.f(dict(enumerate(np.split(images, 2, -1))))], -1)
        means = sac.pi(s, torch.zeros(5, 1))[0].numpy()
    sac.config = agent
    actor = Actor(sac.weights())
    assert actor.channels == 2 and actor.observation_size == 1
    found = [actor.act(o, None, image) for o, image in zip(observation, images, strict=True)]
    np.testing.assert_allclose(found, means, atol=1e-5)


def test_the_encoder_learns_with_the_critics_and_never_with_the_actor() -> None:
    def moved(agent: config.Agent, prefix: str) -> bool:
        sac = made(agent)
        before = sac.state()
        after = trained(sac, 1).state()
        return any((before[n] != after[n]).any() for n in before if n.startswith(prefix))

    still = {k: getattr(AGENT, k) for k in config.Agent.__dataclass_fields__}
    critics_off, actor_off = (config.Agent(**{**still, rate: 0.0}) for rate in ("critic_lr", "actor_lr"))
    assert moved(critics_off, "actor.") and not moved(critics_off, "encoder.")
    assert moved(actor_off, "encoder.") and not moved(actor_off, "actor.")


def test_goes_on_bit_for_bit() -> None:
    one = trained(made(), 4)
    other = made(seed=7)
    other.load_state(one.state(), one.random_state())
    for sac in (one, other):
        trained(sac, 3, seed=5)
    assert all((one.state()[name] == value).all() for name, value in other.state().items())


def test_without_images_nothing_is_as_it_was_not() -> None:
    """The first values of the networks do not depend on whether there is an encoder too."""
    seeing, told = made().state(), Sac(AGENT, 51, 1, 0, Bandit()).state()
    assert all((seeing[name] == value).all() for name, value in told.items())
    assert any(name.startswith("encoder.") for name in seeing)


def test_what_cannot_learn_from_images_says_so() -> None:
    with pytest.raises(Unsupported, match="does not learn from images"):
        made(config.Agent(engine="fused", mirror=False))
    mirror = Mirror(np.zeros(1, int), np.ones(1, np.float32), np.zeros(1, int), np.ones(1, np.float32))
    with pytest.raises(Unsupported, match="mirror"):
        make_agent(AGENT, 1, 1, 0, Bandit(), mirror, CAMERAS)


def test_an_actor_refuses_what_it_cannot_see_by() -> None:
    weights = made().weights()
    actor = Actor(weights)
    for image in (None, np.zeros((SIZE, SIZE, 1), np.uint8)):
        with pytest.raises(ValueError, match="image must be"):
            actor.act(np.zeros(1), None, image)
    with pytest.raises(WeightsError, match="no encoder"):
        Actor(weights | {"encoder.1.bias": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError, match="finite"):
        Actor(weights | {"encoder.1.bias": np.full(32, np.nan, np.float32)})


def _kept(path: Path, first: int, rows: int, cameras: Any = CAMERAS) -> Replay:
    """Row k says first + k, and so does every pixel of what was seen at it."""
    replay = Replay.create(path, 1, 1, 20, cameras)
    frame = lambda value: bytes([value]) * (2 * SIZE * SIZE)  # noqa: E731
    for k in range(rows):
        at = first + k
        replay.add(
            np.array([at]), np.zeros(1), 0.0, np.array([at + 1]), terminated=False, truncated=False, episode=0, step=k, tick=k,
            policy_version=0, images=frame(at) if k == 0 and cameras else b"", next_images=frame(at + 1) if cameras else b"",
        )  # fmt: skip
    return replay


def test_own_rows_and_demonstrations_keep_their_pictures(tmp_path: Path) -> None:
    own, given = _kept(tmp_path / "own", 0, 10), _kept(tmp_path / "given", 100, 8)
    shared = Shared(own, own.capacity, given, given.count, 0.5)
    indices = shared.sample(np.random.default_rng(0), 12, own.count)
    np.random.default_rng(1).shuffle(indices)
    batch, images = shared.rows(indices), shared.images(indices)
    for name, *_ in CAMERAS:
        assert (images.observation[name][:, 3, 4, 0] == batch.observation[:, 0]).all()
        assert (images.next_observation[name][:, 3, 4, 0] == batch.next_observation[:, 0]).all()
    assert (batch.observation >= 100).sum() == 6


def test_demonstrations_without_the_cameras_are_refused(tmp_path: Path) -> None:
    _kept(tmp_path / "replay", 0, 5, cameras=()).close()
    with pytest.raises(ReplayError, match="cameras are"):
        open_demonstrations(str(tmp_path), 1, 1, CAMERAS)
