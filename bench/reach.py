"""An arm reaches: trains one seed after another on the twin, then 50 goals each, beside a scripted controller on the same goals.

Asked: 99 % of the goals reached. A goal is reached when the point is within the tolerance in so many readings in a row; how far
it truly was then is in the results. Run: robotrl bench reach [--run launch/reach_omx.toml]  (minutes a seed)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from robotrl import config, rundir
from robotrl.sim import reaching

ROOT = Path(__file__).resolve().parent.parent
ASKED = 0.99
KEYS = ("success", "return_mean", "distance_mean_m", "distance_max_m", "steps_mean")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "launch" / "reach.toml", help="run file (default: launch/reach.toml)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of a training (default: the run file's)")
    parser.add_argument("--collect", type=Path, nargs="+", metavar="RUN_DIR", help="evaluate these runs, train none")
    parser.add_argument("--episodes", type=int, default=50, help="goals of each evaluation")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--note", default="", help="words to keep with the results")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    return parser.parse_args()


def train(run: Path, seed: int, options: argparse.Namespace) -> Path:
    """One rehearsal; its directory."""
    words = [sys.executable, "-m", "robotrl", "rehearse", str(run), "--seed", str(seed), "--out", str(options.runs), "--no-video"]
    words += ["--json"] + (["--steps", str(options.steps)] if options.steps else [])
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    return Path(json.loads(done.stdout.strip().splitlines()[-1])["run"])


def short(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation, and of its goals those that were not reached."""
    missed = [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in e.items()}
        for e in result["episodes"]
        if e["ended"] != "reached"
    ]
    return {k: round(result[k], 4) for k in KEYS} | {"episodes": len(result["episodes"]), "missed": missed}


def judged(directory: Path, episodes: int) -> dict[str, Any]:
    """A run's own figures, and the script's on the same goals."""
    kept = json.loads((directory / "run.json").read_text())
    run = rundir.load(directory)
    weights = directory / "weights" / "policy.safetensors"
    learned = short(reaching.evaluate(run, directory, episodes, say=lambda _: None, weights=weights))
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    done = max(
        line.get("step_total", 0) for line in lines if line["kind"] == "episode"
    )  # fewer than asked where it was ended early
    said = json.loads((directory / "result.json").read_text()) if (directory / "result.json").is_file() else {}
    return {
        "seed": run.seed, "robot": run.robot.name, "steps": done,
        "robot_minutes": round(done / run.task.rate_hz / 60, 1),
        "built_from": kept["built_from"], **{k: said.get(k) for k in ("train_wall_s", "updates", "engine")},
        "learned": learned, "scripted": short(reaching.scripted(run, episodes)),
    }  # fmt: skip


def main() -> int:
    options = parse()
    reach = config.load(options.run).task.reach
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "asked": ASKED, "tolerance_m": reach.tolerance_m,
                              "hold_steps": reach.hold_steps, "note": options.note, "runs": []}  # fmt: skip
    for job in options.collect or options.seeds:
        row = judged(train(options.run, job, options) if isinstance(job, int) else job, options.episodes)
        record["runs"].append(row)
        said = "; ".join(
            f"{who} {found['success']:.0%}, {found['distance_mean_m'] * 1000:.1f} mm, {found['steps_mean']:.0f} steps a goal"
            for who, found in (("learned", row["learned"]), ("scripted", row["scripted"]))
        )
        print(f"{row['robot']} seed {row['seed']}, {row['steps']} steps, {options.episodes} goals: {said}", flush=True)
        if options.out is not None:
            rundir.write_json(options.out, record)
    return 0 if all(row["learned"]["success"] >= ASKED for row in record["runs"]) else 1


if __name__ == "__main__":
    sys.exit(main())
