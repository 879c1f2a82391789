"""What the `lerobot` package itself makes of our datasets, and datasets made by it for us to import.

It cannot share our environment, so it has one of its own (any of its versions 0.4 to 0.6), whose Python runs this file; of this
project it imports nothing. `tests/test_lerobot.py` calls it where the variable ROBOTRL_LEROBOT_PYTHON names that Python:

    python3.11 -m venv /tmp/lerobot && /tmp/lerobot/bin/pip install lerobot
    ROBOTRL_LEROBOT_PYTHON=/tmp/lerobot/bin/python .venv/bin/python -m pytest tests/test_lerobot.py

reads DATASET ARRAYS.npz    the dataset through LeRobotDataset, a DataLoader and the package's own replay buffer: every number
                            must be the one in ARRAYS (rows in order: observation, action, reward, next_observation, terminated,
                            truncated, tick, piece), and its statistics those that the package computes
writes DATASET ARRAYS.npz   ARRAYS recorded by LeRobotDataset.create, add_frame and save_episode, as its users do
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 17  # divides nothing


def reads(root: Path, expected: Any) -> dict[str, Any]:
    """Compare; AssertionError says what differs. What was compared."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("robotrl/oracle", root=root)
    n, pieces = len(expected["reward"]), np.flatnonzero(np.diff(expected["piece"], prepend=-1))
    assert (len(dataset), dataset.num_episodes) == (n, len(pieces)), (len(dataset), dataset.num_episodes)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=False, num_workers=0)
    batches = list(loader)
    seen = {key: torch.cat([b[key] for b in batches]).numpy() for key in batches[0] if key != "task"}
    done = expected["terminated"] | expected["truncated"]
    wanted = {
        "observation.state": expected["observation"], "action": expected["action"], "next.reward": expected["reward"],
        "next.done": done, "next.truncated": expected["truncated"], "complementary_info.tick": expected["tick"],
        "episode_index": expected["piece"], "index": np.arange(n), "frame_index": np.arange(n) - pieces[expected["piece"]],
        "timestamp": ((np.arange(n) - pieces[expected["piece"]]) / dataset.fps).astype(np.float32),
    }  # fmt: skip
    for key, value in wanted.items():
        assert seen[key].dtype == value.dtype and np.array_equal(seen[key], value), key
    assert {task for b in batches for task in b["task"]} == {"walk"}
    shuffled = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0)
    assert sorted(i for b in shuffled for i in b["index"].tolist()) == list(range(n))
    _next_observations(root, expected)
    _statistics(dataset, seen)
    return {"frames": n, "episodes": len(pieces), "buffer": _buffer(dataset, expected)}


def _next_observations(root: Path, expected: Any) -> None:
    """Two states a frame, as policies ask for them: the second is our next observation but at an episode's end."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    fps = json.loads((root / "meta/info.json").read_text())["fps"]
    pairs = LeRobotDataset("robotrl/oracle", root=root, delta_timestamps={"observation.state": [0.0, 1 / fps]})
    last = np.append(np.diff(expected["piece"]) != 0, True)
    for i, ends in enumerate(last):
        frame = pairs[i]
        assert bool(frame["observation.state_is_pad"][1]) == ends, i
        assert ends or np.array_equal(frame["observation.state"][1].numpy(), expected["next_observation"][i]), i


def _statistics(dataset: Any, seen: dict[str, np.ndarray]) -> None:
    """Those that the package computes of the same frames, an episode at a time, and puts together."""
    from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats

    features = {key: dataset.meta.features[key] for key in ("observation.state", "action", "next.reward", "timestamp")}
    parts = [
        compute_episode_stats({key: seen[key][seen["episode_index"] == i] for key in features}, features)
        for i in range(dataset.num_episodes)
    ]
    theirs = aggregate_stats(parts)
    for key in features:
        for what in ("min", "max", "mean", "std", "count"):
            ours = np.asarray(dataset.meta.stats[key][what]).reshape(-1)
            assert np.allclose(ours, np.asarray(theirs[key][what]).reshape(-1), rtol=1e-4, atol=1e-5), (key, what)
        assert set(theirs[key]) <= set(dataset.meta.stats[key]), key


def _buffer(dataset: Any, expected: Any) -> str:
    """The package's own replay of our dataset, where its version has one that can be imported here."""
    try:
        from lerobot.rl.buffer import ReplayBuffer
    except ImportError as error:
        return f"not tried: {error}"
    made = ReplayBuffer._lerobotdataset_to_transitions(dataset, state_keys=["observation.state"])
    last = np.append(np.diff(expected["piece"]) != 0, True)
    for i, t in enumerate(made):
        assert np.array_equal(t["state"]["observation.state"][0].numpy(), expected["observation"][i]), i
        assert np.array_equal(t["action"][0].numpy(), expected["action"][i]) and t["reward"] == expected["reward"][i], i
        assert t["done"] == bool(expected["terminated"][i] or expected["truncated"][i]), i
        if not last[i]:
            assert np.array_equal(t["next_state"]["observation.state"][0].numpy(), expected["next_observation"][i]), i
    return f"{len(made)} transitions"


def writes(root: Path, given: Any) -> dict[str, Any]:
    """Record the arrays as a user of the package does; a camera too, which nobody here can use."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    k, a = given["observation"].shape[1], given["action"].shape[1]
    features = {
        "observation.state": {"dtype": "float32", "shape": (k,), "names": None},
        "observation.images.top": {"dtype": "image", "shape": (8, 8, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (a,), "names": None},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "complementary_info.is_intervention": {"dtype": "bool", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("robotrl/oracle", 30, features, root=root, use_videos=False)
    for i in range(len(given["reward"])):
        dataset.add_frame({
            "observation.state": given["observation"][i], "action": given["action"][i],
            "observation.images.top": np.full((8, 8, 3), i % 256, np.uint8),
            "next.reward": given["reward"][i : i + 1], "next.done": given["terminated"][i : i + 1],
            "complementary_info.is_intervention": given["intervened"][i : i + 1], "task": "reach",
        })  # fmt: skip
        if i + 1 == len(given["reward"]) or given["piece"][i + 1] != given["piece"][i]:
            dataset.save_episode()
    dataset.finalize()
    return {"frames": len(given["reward"])}


def main(argv: list[str]) -> int:
    verb, root, arrays = argv
    with np.load(arrays, allow_pickle=False) as file:
        given = dict(file)
    import lerobot

    print(json.dumps({"lerobot": lerobot.__version__} | {"reads": reads, "writes": writes}[verb](Path(root), given)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
