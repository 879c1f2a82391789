"""How well a session kept time: its periods, how old what was acted on was, and how old the policy; as figures and histograms.

Read from the session's own messages (`joints`, `drive`, `thought`), so that every transition can be asked: its `tick` is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robotrl.messages import Drive, Joints, Thought
from robotrl.picture import BLUE, GREEN, ORANGE, PURPLE, picture
from robotrl.session import Attached, Reading


@dataclass
class Timing:
    """Of one session or several, one after the other. Times in ms, but `policy_s`."""

    period: list[float] = field(default_factory=list)  # from one reading of the servos to the next
    late: list[float] = field(default_factory=list)  # how late a period began
    joints: list[float] = field(default_factory=list)  # age of what was acted on, when the answer had been sent
    imu: list[float] = field(default_factory=list)
    pose: list[float] = field(default_factory=list)
    command: list[float] = field(default_factory=list)  # from the reading to the command on the wire, in the same cycle's frame
    policy_s: list[float] = field(default_factory=list)
    overruns: int = 0
    _drive: tuple[int, int] = (0, 0)  # the driver's life, and its overruns so far
    _joints: Joints | None = None

    def take(self, message: object) -> None:
        """One message of the session, in order."""
        match message:
            case Joints():
                last = self._joints
                if last is not None and last.boot == message.boot and message.seq == last.seq + 1:
                    self.period.append((message.t - last.t) * 1e-6)
                self._joints = message
            case Drive():
                before = self._drive[1] if self._drive[0] == message.boot else 0
                self.overruns += max(0, message.overruns - before)
                self._drive = message.boot, message.overruns
                self.late.append(message.late_us * 1e-3)
            case Thought() if message.acted:
                self._thought(message)

    def _thought(self, thought: Thought) -> None:
        self.joints.append((thought.t - thought.joints_t) * 1e-6)
        self.command.append((thought.applied_t - thought.joints_t) * 1e-6)
        if thought.imu_t >= 0:
            self.imu.append((thought.t - thought.imu_t) * 1e-6)
        if thought.pose_t >= 0:
            self.pose.append((thought.t - thought.pose_t) * 1e-6)
        if thought.weights_t >= 0:
            self.policy_s.append((thought.t - thought.weights_t) * 1e-9)

    def row(self) -> dict[str, Any]:
        """Figures for a person or a program: p50, p99 and largest of each, None where there is none."""
        names = ("period", "late", "joints", "imu", "pose", "command", "policy_s")
        return {"periods": len(self.period), "overruns": self.overruns} | {name: _figures(getattr(self, name)) for name in names}


def _figures(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": max(values)}


def read(paths: Iterable[Path]) -> Timing:
    """The timing of these sessions, as far as each is whole."""
    timing = Timing()
    for path in paths:
        for item in Reading(path):
            if not isinstance(item, Attached):
                timing.take(item[1])
    return timing


def draw(paths: list[Path], path: Path, title: str) -> Timing:
    """Histograms of period, observation age and policy age into the picture `path`. RunError when it cannot be written."""
    timing = read(paths)
    head = f"{title}\n{len(timing.period):,} periods, {timing.overruns} overruns: each skipped, never caught up"
    with picture(path, 2, 2, (13, 8), head) as axes:
        _histogram(axes[0, 0], "period of the servo loop, ms", [("", timing.period, BLUE)])
        _histogram(axes[0, 1], "lateness of a period, ms", [("", timing.late, BLUE)])
        ages = [("joints", timing.joints, BLUE), ("imu", timing.imu, ORANGE), ("pose", timing.pose, GREEN)]
        _histogram(axes[1, 0], "age of the observation when its answer had been sent, ms", ages)
        _histogram(axes[1, 1], "age of the policy acted with, s", [("", timing.policy_s, PURPLE)])
    return timing


def _histogram(axis: Any, title: str, sets: list[tuple[str, list[float], str]]) -> None:
    """Logarithmic counts: the tail is what matters."""
    axis.set_title(title)
    values = [np.asarray(v, float) for _, v, _ in sets]
    full = np.concatenate(values) if values else np.empty(0)
    if not len(full):
        axis.text(0.5, 0.5, "nothing of it in this session", transform=axis.transAxes, ha="center", va="center")
        axis.set_yticks([])
        return
    low, high = min(0.0, float(full.min())), max(float(full.max()), 1e-3)
    bins = np.linspace(low, high * 1.001, 80)
    for (name, _, colour), value in zip(sets, values, strict=True):
        if not len(value):
            continue
        p50, p99 = np.percentile(value, (50, 99))
        label = f"{name + '  ' if name else ''}p50 {_short(p50)}  p99 {_short(p99)}  max {_short(float(value.max()))}"
        axis.hist(value, bins=bins, color=colour, alpha=0.85 if len(sets) == 1 else 0.6, log=True, label=label)
    axis.set_ylim(0.5, 15.0 * axis.get_ylim()[1])  # room for the legend
    axis.yaxis.set_minor_formatter("")
    axis.set_ylabel("count")
    axis.legend(loc="upper right")


def _short(value: float) -> str:
    return f"{value:.{max(0, 2 - int(math.log10(max(abs(value), 1e-3))))}f}"
