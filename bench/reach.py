"""An arm reaches: trains one seed after another on the twin, then 50 goals each, beside a scripted controller on the same goals.

Asked: 99 % of the goals reached. A goal is reached when the point is within the tolerance in so many readings in a row; how far
it truly was then is in the results. Run: robotrl bench reach [--run launch/reach_omx.toml]  (minutes a seed)

Of an arm that sees its goal (docs/pixels.md) 80 % are asked, and a script shows it how first:
robotrl bench reach --run launch/reach_pixels.toml --demonstrations 120
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from robotrl import config, rundir
from robotrl.replay import Replay
from robotrl.sim import reaching

ROOT = Path(__file__).resolve().parent.parent
ASKED, ASKED_BY_SIGHT = 0.99, 0.8
STRETCH = 500  # transitions of a learning curve's point
KEYS = ("success", "return_mean", "distance_mean_m", "distance_max_m", "steps_mean")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "launch" / "reach.toml", help="run file (default: launch/reach.toml)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of a training (default: the run file's)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, of the trainings")
    parser.add_argument(
        "--demonstrations", type=int, default=0, metavar="N", help="episodes of the script, to be learned from too"
    )
    parser.add_argument("--collect", type=Path, nargs="+", metavar="RUN_DIR", help="evaluate these runs, train none")
    parser.add_argument("--episodes", type=int, default=50, help="goals of each evaluation")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--note", default="", help="words to keep with the results")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    return parser.parse_args()


def train(run: Path, seed: int, options: argparse.Namespace) -> Path:
    """One rehearsal, after the script's demonstrations where they are asked for; its directory."""
    given = [f"--set={item}" for item in options.set]
    if options.demonstrations:
        shown = options.runs / f"{run.stem}-demonstrated-{seed}"
        words = [sys.executable, "-m", "robotrl", "demonstrate", str(run), "--episodes", str(options.demonstrations), *given]
        subprocess.run([*words, "--seed", str(seed), "--out", str(shown)], stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
        given.append(f"--set=agent.demonstrations={shown.resolve()}")
    words = [sys.executable, "-m", "robotrl", "rehearse", str(run), "--seed", str(seed), "--out", str(options.runs), "--no-video"]
    words += ["--json", *given] + (["--steps", str(options.steps)] if options.steps else [])
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


def curve(lines: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """Transitions, and how many of how many episodes of the exploring policy in the stretch before them were reached."""
    ends = [(line["step_total"], line["ended"]) for line in lines if line["kind"] == "episode"]
    points = range(STRETCH, max((at for at, _ in ends), default=0) + STRETCH, STRETCH)
    stretches = [(point, [ended for at, ended in ends if point - STRETCH <= at < point]) for point in points]
    return [(point, sum(ended == "reached" for ended in those), len(those)) for point, those in stretches]


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
        "demonstrations": _shown(run), "curve": curve(lines),
        "learned": learned, "scripted": short(reaching.scripted(run, episodes)),
    }  # fmt: skip


def _shown(run: config.Run) -> int:
    """Transitions of demonstrations."""
    path = run.agent.demonstrations
    return Replay.open(Path(path) / "replay").count if path else 0


def _processor_s() -> float:
    """Of all that was started and has ended, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    options = parse()
    task = config.load(options.run).task
    reach, asked = task.reach, ASKED_BY_SIGHT if task.pixels.cameras else ASKED
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "asked": asked, "tolerance_m": reach.tolerance_m,
                              "hold_steps": reach.hold_steps, "note": options.note, "runs": []}  # fmt: skip
    for job in options.collect or options.seeds:
        before = _processor_s()
        directory = train(options.run, job, options) if isinstance(job, int) else job
        trained_s = _processor_s() - before
        row = judged(directory, options.episodes) | ({"processor_minutes": round(trained_s / 60, 1)} if trained_s else {})
        record["runs"].append(row)
        said = "; ".join(
            f"{who} {found['success']:.0%}, {found['distance_mean_m'] * 1000:.1f} mm, {found['steps_mean']:.0f} steps a goal"
            for who, found in (("learned", row["learned"]), ("scripted", row["scripted"]))
        )
        print(f"{row['robot']} seed {row['seed']}, {row['steps']} steps, {options.episodes} goals: {said}", flush=True)
        if options.out is not None:
            rundir.write_json(options.out, record)
    return 0 if all(row["learned"]["success"] >= asked for row in record["runs"]) else 1


if __name__ == "__main__":
    sys.exit(main())
