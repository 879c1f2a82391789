"""Stack, push, D'Kitty's walk and stand: trains one seed after another on the twin, then 50 trials each, beside a script.

The script plays the same trials. With --push the trained policy and the script are judged once more under a push a trial.
Run: robotrl bench skills --run launch/stack.toml --push 10  (half an hour a seed on two cores that are free)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from robotrl import config, rundir
from robotrl.sim import trials

ROOT = Path(__file__).resolve().parent.parent
ASKED = {"stack": 0.95, "push": 0.9, "walk_to": 0.9, "stand": 0.9}
ASKED_PUSHED = 0.9
PUSH_S = 0.3  # an arm's; learning facts 5
KEYS = ("success", "return_mean", "distance_mean_m", "distance_max_m", "steps_mean")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "launch" / "stack.toml", help="run file (default: launch/stack.toml)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of a training (default: the run file's)")
    parser.add_argument("--collect", type=Path, nargs="+", metavar="RUN_DIR", help="evaluate these runs, train none")
    parser.add_argument("--weights", default="policy.safetensors", help="which of a run's weights (default: the newest)")
    parser.add_argument("--episodes", type=int, default=50, help="trials of each evaluation")
    parser.add_argument("--push", type=float, default=0.0, metavar="N", help="judge once more under pushes of up to this")
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
    """The figures of an evaluation, and those trials that failed."""
    failed = [e for e in result["episodes"] if not e["success"]]
    counts = {"episodes": len(result["episodes"]), "pushed": result["pushed"], "failed": failed}
    return {k: round(result[k], 4) for k in KEYS} | counts


def judged(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A run's own figures, and the script's on the same trials; pushed too where that is asked."""
    run = rundir.load(directory)
    weights = directory / "weights" / options.weights
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    done = max(line.get("step_total", 0) for line in lines if line["kind"] == "episode")
    steps = int(weights.stem.removeprefix("at-")) if weights.stem.startswith("at-") else done
    built_from = json.loads((directory / "run.json").read_text())["built_from"]
    row = {"seed": run.seed, "task": run.task.name, "robot": run.robot.name, "steps": steps,
           "robot_minutes": round(steps / run.task.rate_hz / 60, 1), "built_from": built_from}  # fmt: skip
    pushed = dataclasses.replace(run, twin=dataclasses.replace(run.twin, push_n=options.push, push_s=PUSH_S))
    for name, job in (("", run), *((("_pushed", pushed),) if options.push else ())):
        learned = trials.evaluate(job, directory, options.episodes, say=lambda _: None, weights=weights)
        row |= {f"learned{name}": short(learned), f"scripted{name}": short(trials.scripted(job, options.episodes))}
    return row


def main() -> int:
    options = parse()
    asked = ASKED[config.load(options.run).task.name]
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "asked": asked, "asked_pushed": ASKED_PUSHED,
                              "push_n": options.push, "note": options.note, "runs": []}  # fmt: skip
    for job in options.collect or options.seeds:
        row = judged(train(options.run, job, options) if isinstance(job, int) else job, options)
        record["runs"].append(row)
        said = "; ".join(f"{name} {row[name]['success']:.0%}" for name in row if name.startswith(("learned", "scripted")))
        print(f"{row['task']} seed {row['seed']}, {row['steps']} steps, {options.episodes} trials: {said}", flush=True)
        if options.out is not None:
            rundir.write_json(options.out, record)
    good = all(r["learned"]["success"] >= asked for r in record["runs"])
    return 0 if good and all(r.get("learned_pushed", {"success": 1})["success"] >= ASKED_PUSHED for r in record["runs"]) else 1


if __name__ == "__main__":
    sys.exit(main())
