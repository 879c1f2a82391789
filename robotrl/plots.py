"""A run's pictures: one PNG that says how it learned, how it moves, and how well it kept time.

Reads `metrics.jsonl`, `traces.npz` and `timing.npz` of a run directory. A file that is not there is an empty
panel that says so; a file that is corrupt is an error.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl import rundir
from robotrl.picture import BLUE, GREEN, INK, ORANGE, PURPLE, QUIET, RED, picture
from robotrl.rundir import RunError
from robotrl.session import SessionError

Array = NDArray[np.float64]
Record = dict[str, Any]
Side = tuple[str, str, str]
LEGS = ((0, "front left"), (6, "back right"))  # first motor of a diagonal pair: they meet in a trot
WINDOW_S = 3.0  # of the joint traces: a few strides, wide enough to read
SMOOTH = 10  # episodes in the running mean


@dataclass
class Data:
    """What a run directory holds; empty where it holds nothing."""

    name: str
    records: dict[str, list[Record]] = field(default_factory=dict)  # metrics by kind, each with its step
    traces: dict[str, Array] = field(default_factory=dict)
    timing: dict[str, Array] = field(default_factory=dict)

    def column(self, kind: str, key: str) -> Array:
        """One key of all records of a kind, nan where a record lacks it."""
        return np.array([float(r.get(key, np.nan)) for r in self.records.get(kind, [])])


def read(run_dir: Path) -> Data:
    """All that is to be drawn. Raises RunError, one line, on a corrupt file or a directory that is no run."""
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: no such directory; give a run directory, they are under runs/")
    data = Data(run_dir.resolve().name)
    data.records = read_metrics(run_dir / "metrics.jsonl")
    data.traces = read_arrays(run_dir / "traces.npz", ("t", "position", "target"))
    data.timing = read_arrays(run_dir / "timing.npz", ())
    if data.timing and not {"late_us", "step_us"} & set(data.timing):
        raise RunError(f"{run_dir / 'timing.npz'}: lacks late_us or step_us; it has {', '.join(sorted(data.timing))}")
    if not (data.records or data.traces or data.timing):
        raise RunError(f"{run_dir}: nothing to draw: no metrics.jsonl, traces.npz or timing.npz; give a run directory")
    return data


def read_metrics(path: Path) -> dict[str, list[Record]]:
    """Records by kind. A last line without its end is left out: it was being written."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); restore it from a copy") from None
    found: dict[str, list[Record]] = {}
    step = 0
    for number, row in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            record = json.loads(row)
            kind = record["kind"]
            step = record.setdefault("step_total", step)  # an evaluation happens where training stands
        except (ValueError, TypeError, KeyError):
            raise RunError(f"{path}, line {number}: not a metrics record; remove the line") from None
        found.setdefault(kind, []).append(record)
    return found


def read_arrays(path: Path, required: tuple[str, ...]) -> dict[str, Array]:
    """The arrays of an .npz as float64, {} when there is no file."""
    if not path.exists():
        return {}
    arrays = rundir.read_arrays(path)
    missing = [name for name in required if name not in arrays]
    if missing:
        raise RunError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}")
    if "t" in arrays and arrays["t"].dtype.kind in "iu":
        arrays["t"] = arrays["t"] * 1e-9  # integer times are ns
    try:
        return {name: np.asarray(value, dtype=np.float64) for name, value in arrays.items()}
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: holds no numbers ({error}); remove it or restore it from a copy") from None


def running_mean(values: Array, width: int = SMOOTH) -> Array:
    """Mean of the last `width` values, nan left out; same shape."""
    recent = (values[max(0, i + 1 - width) : i + 1] for i in range(len(values)))
    return np.array([np.nanmean(v) if np.isfinite(v).any() else np.nan for v in recent])


def plot_run(run_dir: Path) -> Path:
    """Draw the run in `run_dir` into run_dir/plot.png; returns its path. Raises RunError, one line."""
    from robotrl import plotreach  # late: it draws by what is in here

    data = read(run_dir)
    path = run_dir / "plot.png"
    with picture(
        path, 4, 2, (13, 13.5), f"{data.name}\n{summary(data, plotreach.said if plotreach.reaches(data) else walked)}"
    ) as axes:
        draw_learning(axes[0, 0], data, "return", "return of an episode", BLUE)
        if plotreach.reaches(data):
            plotreach.draw_reached(axes[0, 1], data)
            plotreach.draw_joints(axes[1, 0], data)
            plotreach.draw_distance(axes[1, 1], data)
        else:
            draw_learning(axes[0, 1], data, "speed", "forward speed, m/s", GREEN)
            for axis, (motor, leg) in zip(axes[1], LEGS, strict=True):
                draw_leg(axis, data, motor, leg)
        losses = ("critic_loss", "critic", BLUE), ("actor_loss", "actor", ORANGE)
        two_sides(axes[2, 0], data, "losses", *losses)
        exploration = ("entropy", "entropy, nats", GREEN), ("temperature", "temperature", PURPLE)
        two_sides(axes[2, 1], data, "exploration", *exploration)
        draw_pace(axes[3, 0], data)
        draw_timing(axes[3, 1], data)
    return path


def summary(data: Data, words: Callable[[Record], str]) -> str:
    """One line for the title: length, falls, and the newest evaluation in words."""
    episodes, evaluations = data.records.get("episode", []), data.records.get("evaluation", [])
    parts = []
    if episodes:
        falls, stuck = (sum(r.get("ended") == end for r in episodes) for end in ("fall", "stuck"))
        parts.append(
            f"{int(episodes[-1]['step_total']):,} steps, {len(episodes)} episodes, {falls} falls and {stuck} stuck in training"
        )
    if evaluations:
        parts.append(words(evaluations[-1]))
    return "   ·   ".join(parts) or "nothing learned yet"


def walked(last: Record) -> str:
    """An evaluation of a walk."""
    speed, score = (float(last.get(key, np.nan)) for key in ("speed_mean", "return_mean"))
    count = len(last.get("episodes", [])) or "?"
    return f"evaluation: {speed:.2f} m/s, return {score:.0f}, falls {last.get('falls', '?')} of {count}"


def empty(axis: Any, title: str, why: str) -> None:
    """A panel without data says so."""
    axis.set_title(title)
    axis.grid(False)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_facecolor("#f7f8f9")
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", color=QUIET)


def thousands(axis: Any) -> None:
    """Steps along x, as 10k, 20k."""
    axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")
    axis.set_xlabel("environment steps")


def draw_learning(axis: Any, data: Data, key: str, title: str, colour: str) -> None:
    """Each episode as a dot, its fall as a cross, the running mean as a line, evaluations as diamonds."""
    step, value = data.column("episode", "step_total"), data.column("episode", key)
    points, mean = data.column("evaluation", "step_total"), data.column("evaluation", f"{key}_mean")
    if not len(value) and not len(mean):
        return empty(axis, title, "no episodes in metrics.jsonl")
    fell = np.array([r.get("ended") == "fall" for r in data.records.get("episode", [])], dtype=bool)
    if len(value):
        axis.scatter(step[~fell], value[~fell], s=12, color=colour, alpha=0.35, linewidths=0, label="episode")
        axis.scatter(step[fell], value[fell], s=26, color=RED, marker="x", linewidths=1.2, label="ended in a fall")
        axis.plot(step, running_mean(value), color=colour, linewidth=2.2, label=f"mean of {SMOOTH}")
    if len(mean):
        axis.scatter(points, mean, s=90, color=ORANGE, marker="D", edgecolors="white", zorder=5, label="evaluation")
        text = f"{mean[-1]:.2f}" if key == "speed" else f"{mean[-1]:.0f}"
        axis.annotate(
            text, (points[-1], mean[-1]), xytext=(0, -18), textcoords="offset points", ha="center",
            va="center", weight="bold", color="#a35a05", zorder=6, bbox={"fc": "white", "ec": "none", "pad": 1.5},
        )  # fmt: skip
    axis.set_title(title)
    axis.legend(loc="upper left")
    thousands(axis)


def draw_leg(axis: Any, data: Data, motor: int, leg: str) -> None:
    """Target and measured angle of a leg's two motors over a few strides."""
    title = f"{leg} leg: target and measured, rad"
    traces = data.traces
    if not traces or not len(traces["t"]) or min(traces["position"].shape[-1], traces["target"].shape[-1]) < motor + 2:
        return empty(axis, title, "no traces.npz with this leg: an evaluation writes it")
    time = traces["t"] - traces["t"][0]
    start = max(0.0, min(time[-1] / 2, time[-1] - WINDOW_S))
    seen = (time >= start) & (time <= start + WINDOW_S)
    for index, colour in ((motor, BLUE), (motor + 1, ORANGE)):
        target, position = traces["target"][seen, index], traces["position"][seen, index]
        axis.step(time[seen], target, where="post", color=colour, alpha=0.55, linewidth=1.0, linestyle=(0, (4, 2)))
        axis.plot(time[seen], position, color=colour, linewidth=1.9, label=f"motor {index + 1}")
    axis.plot([], [], color=QUIET, linewidth=1.0, linestyle=(0, (4, 2)), label="target")
    here = f"   ·   {np.nanmean(traces['speed'][seen]):.2f} m/s in this window" if "speed" in traces else ""
    axis.set_title(title)
    axis.set_xlabel("time in the evaluation, s" + here)
    axis.margins(x=0)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.22 * (high - low))  # room for the legend
    axis.legend(loc="upper right", ncols=3)


def two_sides(axis: Any, data: Data, title: str, left: Side, right: Side, bottom: float | None = None) -> None:
    """Two learner metrics over the steps, each (key, label, colour) with its own axis in its colour."""
    step = data.column("learner", "step_total")
    if not len(step):
        return empty(axis, title, "no learner records in metrics.jsonl")
    axis.set_title(title)
    other = axis.twinx()
    other.grid(False)
    other.spines["right"].set_visible(True)
    for side, (key, label, colour) in ((axis, left), (other, right)):
        side.plot(step, data.column("learner", key), color=colour, linewidth=1.6)
        side.set_ylabel(label, color=colour)
        side.set_ylim(bottom=bottom)
        side.tick_params(axis="y", colors=colour)
    thousands(axis)


def draw_pace(axis: Any, data: Data) -> None:
    """Updates per step (what paces learning) and updates per second (what the machine gives)."""
    for record in data.records.get("learner", []):
        steps = record["step_total"]
        record["per_step"] = record.get("updates", np.nan) / steps if steps else np.nan
    right = ("updates_per_s", "updates per second", ORANGE)
    two_sides(axis, data, "pace of learning", ("per_step", "updates per step", BLUE), right, bottom=0.0)


def draw_timing(axis: Any, data: Data) -> None:
    """On the wall clock how late the servo loop's periods began, in lockstep how long a period took to work out."""
    key, title = "late_us", "servo loop: lateness of a period, µs"
    if "step_us" in data.timing:
        key, title = "step_us", "lockstep loop: wall time of a control period, µs"
    value = data.timing.get(key, np.empty(0))
    value = value[np.isfinite(value)]
    if not len(value):
        return empty(axis, title, "no timing.npz: a training that ends writes it")
    top = max(float(value.max()), 1.0)
    axis.hist(value, bins=np.linspace(0.0, top, 60), color=BLUE, alpha=0.85, log=True)  # the tail is what matters
    axis.set_ylim(bottom=0.5)
    for percentile, colour in ((50, INK), (99, ORANGE), (99.9, RED)):
        at = float(np.percentile(value, percentile))
        axis.axvline(at, color=colour, linewidth=1.4, label=f"p{percentile:g}  {at:,.0f} µs")
    told, worst = int(data.timing.get("periods", 0)), float(data.timing.get("worst_us", math.nan))
    newest = f" newest, {worst:,.0f} µs of all {told:,}" if told > len(value) else ""
    axis.plot([], [], " ", label=f"max  {value.max():,.0f} µs of {len(value):,}{newest} periods")
    cycle, waited = data.timing.get("cycle_us"), data.timing.get("waited_s")
    if cycle is not None and len(cycle):
        axis.plot([], [], " ", label=f"bus cycle p50 {np.nanmedian(cycle) / 1000:.1f} ms")
    if waited is not None:
        axis.plot([], [], " ", label=f"{value.sum() * 1e-6:.0f} s at work, {float(waited):.0f} s waiting for the learner")
    axis.set_title(title)
    axis.set_ylabel("periods")
    axis.legend(loc="upper right")


def main(argv: list[str]) -> int:
    """`robotrl plot RUN_DIR|SESSION.mcap [--json]`: prints the pictures' paths; one line and exit code 2 if it cannot."""
    usage = "usage: robotrl plot RUN_DIR [--json]        (draws RUN_DIR/plot.png; of its sessions RUN_DIR/sessions/timing.png)"
    usage += "\n       robotrl plot SESSION.mcap [--json]   (draws SESSION.png beside it)"
    if any(word in ("-h", "--help") for word in argv):
        print(usage)
        return 0
    words = [word for word in argv if word != "--json"]
    if len(words) != 1 or words[0].startswith("-"):
        print(usage, file=sys.stderr)
        return 2
    try:
        told = drawn(Path(words[0]))
    except (RunError, SessionError) as error:
        print(f"robotrl plot: {error}", file=sys.stderr)
        return 2
    pictures = [told[key] for key in ("picture", "timing") if key in told]
    print(json.dumps(told) if "--json" in argv else "\n".join(pictures))
    return 0


def drawn(path: Path) -> dict[str, Any]:
    """All pictures of a run, or that of one session: their paths, and how well time was kept."""
    told: dict[str, Any] = {}
    sessions = [path] if path.suffix == ".mcap" else sorted((path / "sessions").glob("*.mcap"))
    if path not in sessions:
        told["picture"] = str(plot_run(path))
    if sessions:
        from robotrl import timing

        drawing = path.with_suffix(".png") if path in sessions else path / "sessions" / "timing.png"
        told["kept"] = timing.draw(sessions, drawing, f"{path.resolve().name}: how it kept time").row()
        told["timing"] = str(drawing)
    return told
