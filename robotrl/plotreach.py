"""The panels of a run's picture that only an arm that reaches has; `robotrl/plots.py` draws the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from robotrl.picture import BLUE, GREEN, ORANGE, PURPLE, QUIET
from robotrl.plots import SMOOTH, Data, empty, running_mean, thousands

DONE = ("reached", "there", "stacked")  # how an episode of an arm ends when all went well
JOINTS = ((0, BLUE), (1, ORANGE), (2, GREEN), (3, PURPLE))  # those that place the point


def reaches(data: Data) -> bool:
    """Is it such a run?"""
    return any("success" in record for record in data.records.get("evaluation", [])) or "distance" in data.traces


def draw_reached(axis: Any, data: Data) -> None:
    """Share of the last episodes in training that ended at their goal, evaluations as diamonds."""
    title = f"reached, there or stacked, share of {SMOOTH} episodes"
    episodes = data.records.get("episode", [])
    if not episodes:
        return empty(axis, title, "no episodes in metrics.jsonl")
    reached = np.array([float(r.get("ended") in DONE) for r in episodes])
    axis.plot(
        data.column("episode", "step_total"), running_mean(reached), color=GREEN, linewidth=2.2, label="in training, exploring"
    )
    points, success = data.column("evaluation", "step_total"), data.column("evaluation", "success")
    if len(success):
        axis.scatter(points, success, s=90, color=ORANGE, marker="D", edgecolors="white", zorder=5, label="evaluation")
    axis.set_ylim(-0.03, 1.05)
    axis.set_title(title)
    axis.legend(loc="upper left")
    thousands(axis)


def draw_distance(axis: Any, data: Data) -> None:
    """How far the point really is from its goal, in the evaluation's first episode."""
    title = "the point's distance from its goal, mm"
    if "distance" not in data.traces or not len(data.traces["t"]):
        return empty(axis, title, "no traces.npz with a distance: an evaluation writes it")
    time = data.traces["t"] - data.traces["t"][0]
    axis.plot(time, data.traces["distance"] * 1000, color=BLUE, linewidth=1.9)
    axis.set_ylim(bottom=0)
    axis.set_title(title)
    axis.set_xlabel("time in the evaluation, s")
    axis.margins(x=0)


def draw_joints(axis: Any, data: Data) -> None:
    """Target and measured angle of the joints that place the point."""
    title = "joints: target and measured, rad"
    if not data.traces or not len(data.traces["t"]) or data.traces["position"].shape[-1] < len(JOINTS):
        return empty(axis, title, "no traces.npz with these joints: an evaluation writes it")
    time = data.traces["t"] - data.traces["t"][0]
    for joint, colour in JOINTS:
        axis.step(
            time, data.traces["target"][:, joint], where="post", color=colour, alpha=0.55, linewidth=1.0, linestyle=(0, (4, 2))
        )
        axis.plot(time, data.traces["position"][:, joint], color=colour, linewidth=1.9, label=f"joint {joint + 1}")
    axis.plot([], [], color=QUIET, linewidth=1.0, linestyle=(0, (4, 2)), label="target")
    axis.set_title(title)
    axis.set_xlabel("time in the evaluation, s")
    axis.margins(x=0)
    axis.legend(loc="upper right", ncols=3)


def said(last: dict[str, Any]) -> str:
    """The newest evaluation in words."""
    count = len(last.get("episodes", [])) or "?"
    score, far = (float(last.get(key, np.nan)) for key in ("return_mean", "distance_mean_m"))
    reached = last.get("reached", last.get("successes", "?"))
    return f"evaluation: {reached} of {count} goals reached, return {score:.0f}, {far * 1000:.1f} mm at the end"
