"""One replay buffer, ours or a peer's, behind one face, in a process of its own: `bench/replay.py` asks it for blocks of work.

A line of JSON in, one out: {"fill": rows} -> {}, {"append": n} -> {"us": [...]}, {"sample": n} -> {"us": [...]}. It runs under
whichever interpreter has the peer, so it imports nothing else of this repository. All hold the same: 112 floats or these and two
images of 84 x 84 x 3, in episodes of 400; a batch is 256 transitions, drawn at random and copied, next observations with them.
Run by hand: PYTHON bench/replay_buffers.py ours|torchrl|torchrl-memmap|stable-baselines3|lerobot state|images
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SIZE, ACTIONS, BATCH, EPISODE = 112, 8, 256, 400
CAMERAS = ("wrist", "front")
SHAPE = (84, 84, 3)
Add = Callable[[int, dict[str, Any]], object]
Buffer = tuple[Add, Callable[[], object]]  # add one step, sample a batch


def made(rng: np.random.Generator, images: bool) -> dict[str, Any]:
    """One step's numbers."""
    o, a = rng.standard_normal((2, SIZE), np.float32), rng.uniform(-1, 1, ACTIONS).astype(np.float32)
    frames = {c: rng.integers(0, 256, (2, *SHAPE), np.uint8) for c in CAMERAS} if images else {}
    return {"o": o, "a": a, "frames": frames, "bytes": [b"".join(f[k].tobytes() for f in frames.values()) for k in (0, 1)]}


def ours(rows: int, images: bool, folder: Path) -> Buffer:
    """Mapped from the disk, each frame once; whoever samples images gives the last ones' place back, as a learner would."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from robotrl.replay import Replay

    replay = Replay.create(folder / "replay", SIZE, ACTIONS, rows, tuple((c, *SHAPE) for c in CAMERAS) if images else ())
    rng, out = np.random.default_rng(0), None

    def add(k: int, one: dict[str, Any]) -> object:
        step = k % EPISODE
        return replay.add(
            one["o"][0], one["a"], 0.5, one["o"][1], terminated=False, truncated=step == EPISODE - 1, episode=k // EPISODE,
            step=step, tick=k, policy_version=1, images=b"" if step else one["bytes"][0], next_images=one["bytes"][1],
        )  # fmt: skip

    def sample() -> object:
        nonlocal out
        at = replay.sample(rng, BATCH, replay.count)
        if images:
            out = replay.images(at, at, out)
        return replay.rows(at), out

    return add, sample


def stable_baselines3(rows: int, images: bool, folder: Path) -> Buffer:
    """In memory, uint8 images, observations and next observations each."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

    state, action = spaces.Box(-np.inf, np.inf, (SIZE,), np.float32), spaces.Box(-1, 1, (ACTIONS,), np.float32)
    seen = {c: spaces.Box(0, 255, SHAPE, np.uint8) for c in CAMERAS}
    buffer: Any
    if images:
        whole = spaces.Dict({"state": state, **seen})
        buffer = DictReplayBuffer(rows, whole, action, device="cpu", handle_timeout_termination=True)
    else:
        buffer = ReplayBuffer(rows, state, action, device="cpu", handle_timeout_termination=True)

    def add(k: int, one: dict[str, Any]) -> object:
        o = [{"state": one["o"][i], **{c: f[i] for c, f in one["frames"].items()}} if images else one["o"][i] for i in (0, 1)]
        over = k % EPISODE == EPISODE - 1
        return buffer.add(o[0], o[1], one["a"], np.array([0.5]), np.array([over]), [{"TimeLimit.truncated": over}])

    return add, lambda: buffer.sample(BATCH)


def torchrl(rows: int, images: bool, folder: Path, memmap: bool = False) -> Buffer:
    """In memory, or mapped from the disk; next observations as tensors of their own."""
    import torch
    from tensordict import TensorDict
    from torchrl.data import LazyMemmapStorage, LazyTensorStorage, TensorDictReplayBuffer

    storage = LazyMemmapStorage(rows, scratch_dir=str(folder)) if memmap else LazyTensorStorage(rows)
    buffer = TensorDictReplayBuffer(storage=storage, batch_size=BATCH)

    def add(k: int, one: dict[str, Any]) -> object:
        seen = [
            {"observation": torch.from_numpy(one["o"][i])} | {c: torch.from_numpy(f[i]) for c, f in one["frames"].items()}
            for i in (0, 1)
        ]
        over = torch.tensor([k % EPISODE == EPISODE - 1])
        ends = {"reward": torch.tensor([0.5]), "terminated": torch.tensor([False]), "truncated": over}
        return buffer.add(TensorDict({**seen[0], "action": torch.from_numpy(one["a"]), "next": {**seen[1], **ends}}, []))

    return add, buffer.sample


def torchrl_memmap(rows: int, images: bool, folder: Path) -> Buffer:
    return torchrl(rows, images, folder, memmap=True)


def lerobot(rows: int, images: bool, folder: Path) -> Buffer:
    """In memory as its learner makes it: float32, `optimize_memory`, by which the next observation is that of the next row."""
    import torch

    name = "lerobot.datasets.lerobot_dataset"
    if importlib.util.find_spec("datasets") is None:  # its data sets, which its buffer imports, want much more than this
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].LeRobotDataset = object  # type: ignore[attr-defined]
    from lerobot.rl.buffer import ReplayBuffer

    keys = ["observation.state", *(f"observation.image.{c}" for c in CAMERAS if images)]
    buffer = ReplayBuffer(rows, "cpu", keys, use_drq=False, storage_device="cpu", optimize_memory=True)

    def add(k: int, one: dict[str, Any]) -> object:
        seen = [
            dict(zip(keys, map(torch.from_numpy, (one["o"][i], *(f[i] for f in one["frames"].values()))), strict=True))
            for i in (0, 1)
        ]
        over = k % EPISODE == EPISODE - 1
        return buffer.add(seen[0], torch.from_numpy(one["a"]), 0.5, seen[1], over, over)

    return add, lambda: buffer.sample(BATCH)


BUFFERS: dict[str, tuple[str, Callable[[int, bool, Path], Buffer]]] = {
    # name             package             how it is made
    "ours": ("robotrl", ours),
    "torchrl": ("torchrl", torchrl),
    "torchrl-memmap": ("torchrl", torchrl_memmap),
    "stable-baselines3": ("stable_baselines3", stable_baselines3),
    "lerobot": ("lerobot", lerobot),
}


def serve(name: str, images: bool, folder: Path) -> None:
    """Until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries say is no answer
    package, make = BUFFERS[name]
    about = {"version": version(package) if name != "ours" else "", "python": sys.version.split()[0]}
    print(json.dumps(about), file=out, flush=True)
    rng, k = np.random.default_rng(1), 0
    steps = [made(rng, images) for _ in range(50)]
    add, sample = None, None
    for line in sys.stdin:
        asked = json.loads(line)
        us = []
        if (rows := asked.get("fill")) is not None:
            add, sample = make(rows + asked["room"], images, folder)
        assert add is not None and sample is not None
        for _ in range(asked.get("append", rows or 0)):
            begun = time.perf_counter()
            add(k, steps[k % len(steps)])
            us.append((time.perf_counter() - begun) * 1e6)
            k += 1
        for _ in range(asked.get("sample", 0)):
            begun = time.perf_counter()
            sample()
            us.append((time.perf_counter() - begun) * 1e6)
        print(json.dumps({"us": [] if rows else us}), file=out, flush=True)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="robotrl-buffer-"))
    try:
        serve(sys.argv[1], sys.argv[2] == "images", folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
