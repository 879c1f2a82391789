"""How many updates a step are worth it: transitions, robot minutes and wall minutes until it walks, by setting and seed.

Each run is `robotrl rehearse` with the walk's own settings (latency, noise, randomisation on) and one row's overrides. Its
weights are kept every KEEP transitions; the deterministic policy of each is evaluated on robots drawn from other seeds, and the
first at ASKED m/s or more that falls in a fifth of its episodes at most counts. Wall time is the training's own, without the
evaluations.

Run: nice python bench/updates.py --seeds 0 1 2 --rows 1 "2, small" 20        (2 to 20 minutes a run)
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import walk

from robotrl import rundir

ASKED = 0.32  # m/s; learning facts 4.1
FALLS = 0.2  # of the episodes, at most
KEEP = 1_000
SMALL = ("agent.hidden=[128,128]", "agent.batch=128")  # a sixth of the work of an update
DROQ = ("agent.layer_norm=true", "agent.dropout=0.01", "agent.actor_value=mean")
ROWS: dict[str, tuple[str, ...]] = {
    "1": (),
    "1, layer norm": ("agent.layer_norm=true",),
    **{str(n): (f"agent.updates_per_step={n}", f"agent.actor_every={n}", *DROQ) for n in (2, 5, 10, 20)},
    **{f"{n}, small": (f"agent.updates_per_step={n}", *SMALL) for n in (1, 2, 4, 8)},
    "5, actor too": ("agent.updates_per_step=5", *DROQ),
    "5, REDQ": (
        "agent.updates_per_step=5", "agent.actor_every=5", "agent.critics=10", "agent.target_subset=2", "agent.actor_value=mean",
    ),
}  # fmt: skip


def train(seed: int, options: argparse.Namespace, overrides: tuple[str, ...]) -> dict[str, Any]:
    """One rehearsal; what it says last, or an error."""
    words = walk.command(
        "rehearse", str(walk.RUN_FILE), "--steps", str(options.steps), "--seed", str(seed), "--out", str(options.out),
        "--keep-every", str(KEEP), "--no-video", "--json",
    )  # fmt: skip
    for item in (*overrides, *options.set):
        words += ["--set", item]
    return walk.call(words)


def evaluated(directory: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The kept policies in order, up to the first that walks twice in a row; wall time from the run's own record."""
    walls = [
        (line["step_total"], line["wall_s"])
        for line in map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
        if line["kind"] == "episode"
    ]
    points: list[dict[str, Any]] = []
    for steps in range(options.first, options.steps + 1, KEEP):
        weights = directory / "weights" / f"at-{steps}.safetensors"
        if not weights.is_file():
            continue
        words = walk.command("eval", str(directory), "--episodes", str(options.episodes), "--weights", str(weights), "--json")
        found = walk.call(words, walk.TIMEOUT_S)
        if "error" in found:
            return [*points, {"steps": steps, **found}]
        wall = next((w for s, w in walls if s >= steps), walls[-1][1])
        speed, falls = round(found["speed_mean"], 3), found["falls"]
        points.append({"steps": steps, "speed": speed, "falls": falls, "episodes": options.episodes, "wall_s": round(wall, 1)})
        print(f"{directory.name}: {points[-1]}", file=sys.stderr, flush=True)
        if len(points) > 1 and walks(points[-1]) and walks(points[-2]):
            break
    return points


def reached(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first policy that walks: a lunge is fast too, and falls."""
    return next((p for p in points if walks(p)), None)


def walks(point: dict[str, Any]) -> bool:
    return point.get("speed", 0.0) >= ASKED and point["falls"] <= FALLS * point["episodes"]


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row a setting, a column a seed."""
    seeds = sorted({r["seed"] for r in runs})
    rows = ["| updates a step | " + " | ".join(f"seed {s}" for s in seeds) + " |", "|---" * (1 + len(seeds)) + "|"]
    for name in dict.fromkeys(r["row"] for r in runs):
        cells = []
        for seed in seeds:
            run = next((r for r in runs if (r["row"], r["seed"]) == (name, seed)), None)
            at = reached(run["points"]) if run else None
            if run is None or at is None:
                cells.append("none" if run is None else f"not in {run['steps']} steps")
                continue
            cells.append(f"{at['steps']} steps, {at['steps'] / 3000:.1f} robot min, {at['wall_s'] / 60:.1f} wall min")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--first", type=int, default=4_000, help="transitions at the first policy evaluated")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, for every row")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--results", type=Path, default=walk.ROOT / "bench" / "results" / "updates.json")
    options = parser.parse_args()
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "asked_m_s": ASKED, "set": options.set, "runs": []}
    for name in options.rows:
        for seed in options.seeds:
            trained = train(seed, options, ROWS[name])
            run: dict[str, Any] = {"row": name, "overrides": ROWS[name], "seed": seed, "steps": options.steps}
            if "error" in trained:
                run |= {"error": trained["error"], "points": []}
            else:
                directory = Path(trained["run"])
                run |= {"engine": trained.get("engine"), "train_wall_s": trained.get("train_wall_s")}
                run["points"] = evaluated(directory, options)
            record["runs"].append(run)
            rundir.write_json(options.results, record)
    print(table(record["runs"]))
    return 1 if any("error" in run for run in record["runs"]) else 0


if __name__ == "__main__":
    sys.exit(main())
