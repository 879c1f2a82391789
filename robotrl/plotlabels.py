"""A picture of one episode for who judges it again: what the joints did, what was seen, what each step is worth by now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robotrl.labelled import Labelled

if TYPE_CHECKING:
    from robotrl.relabel import Episode

VIEWS = 8  # thumbnails of a camera


def draw(directory: Path, rows: Labelled, e: Episode) -> Path:
    """relabel-N.png in the run directory: thumbnails of each camera, the first numbers of the observations, rewards and ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    joints = rows.columns["action"].shape[1]  # of those that a task moves
    step = rows.columns["step"][e.first : e.end]
    cameras = [name for name, *_ in rows.cameras]
    figure, axes = pyplot.subplots(2 + len(cameras), 1, figsize=(10, 6 + 1.5 * len(cameras)), layout="constrained", squeeze=False)
    for axis, name in zip(axes[:, 0], cameras, strict=False):
        axis.imshow(_film(rows, e, name))
        axis.set_axis_off()
        axis.set_title(name, fontsize=8)
    angles, rewards = axes[len(cameras) :, 0]
    angles.plot(step, rows.columns["observation"][e.first : e.end, :joints])
    angles.set_ylabel("first numbers seen\n(joints: rad)")
    rewards.step(step, rows.replay.columns["reward"][e.first : e.end], where="mid", color="0.6", label="as recorded")
    rewards.step(step, rows.columns["reward"][e.first : e.end], where="mid", label="as labelled")
    ends = step[rows.columns["terminated"][e.first : e.end] != 0]
    out = step[rows.out[e.first : e.end]]
    for at in ends:
        rewards.axvline(at, color="red", label="ends here")
    if len(out):
        rewards.axvspan(out[0], out[-1], color="0.9", label="counts for nothing")
    rewards.set(xlabel=f"step of episode {e.number}", ylabel="reward")
    rewards.legend(fontsize=8)
    path = directory / f"relabel-{e.number}.png"
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return path


def _film(rows: Labelled, e: Episode, name: str) -> Any:
    """What a camera saw, evenly over the episode, side by side."""
    at = np.linspace(e.first, e.end - 1, min(VIEWS, e.end - e.first)).astype(np.int64)
    return np.concatenate(list(rows.images(at, at).observation[name]), axis=1).squeeze()
