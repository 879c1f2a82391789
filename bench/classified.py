"""How well a task is learned from a person's keys, or through a classifier that they teach: trainings on the twin, then trials.

    python bench/classified.py --out bench/results/classified.json             trains seed 0 of launch/reach_classified.toml
    python bench/classified.py --run launch/push_keys.toml --demonstrations 40 --seeds 0 1 2 --true --out FILE
    python bench/classified.py --collect RUN_DIR ... --out FILE                evaluates what was trained before

The person is the script of `sim/supervisor.py`: 0.3 s late, one verdict in twenty wrong, a fifth of these taken back. He judges
every episode until a classifier may be used, then one in four, and answers its queue. The trials are judged by what is true.
With `--true` a training by the task's own reward stands beside each, and with `--keys` one by keys alone. With
`--demonstrations` each training first has so many episodes of a script, rewarded as the training is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from robotrl import config, rundir
from robotrl.labelled import open_labelled
from robotrl.sim import reaching, trials

ROOT = Path(__file__).resolve().parent.parent
ASKED = 0.8
KEYS = ("success", "return_mean", "distance_mean_m", "steps_mean")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "launch" / "reach_classified.toml", help="run file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, help="of a training (default: the run file's)")
    parser.add_argument("--collect", type=Path, nargs="+", metavar="RUN_DIR", help="evaluate these runs, train none")
    parser.add_argument("--true", action="store_true", help="also by the task's own reward")
    parser.add_argument("--keys", action="store_true", help="also by keys alone")
    parser.add_argument("--demonstrations", type=int, default=0, metavar="N", help="episodes of a script for each training")
    parser.add_argument("--episodes", type=int, default=50, help="trials of each evaluation")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--note", default="", help="words to keep with the results")
    parser.add_argument("--out", type=Path, help="write the figures there, with machine and commit")
    return parser.parse_args()


def robotrl(*words: object) -> dict[str, Any]:
    """What a command says in its last line."""
    line = [sys.executable, "-m", "robotrl", *map(str, words), "--json"]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def train(options: argparse.Namespace, seed: int, reward: str) -> Path:
    """One rehearsal, beside demonstrations of its own where these are asked for; its directory."""
    settings = ["--seed", seed, "--set", f"task.reward={reward}"]
    words = ["--steps", options.steps] if options.steps else []
    if options.demonstrations:
        out = (options.runs / f"demonstrated-{config.load(options.run).name}-{reward}-{seed}").resolve()
        if not out.is_dir():
            robotrl("demonstrate", options.run, "--episodes", options.demonstrations, *settings, "--out", out)
        words += ["--set", f"agent.demonstrations={out}"]
    said = robotrl("rehearse", options.run, *settings, *words, "--out", options.runs.resolve(), "--no-video")
    return Path(said["run"])


def judged(directory: Path, episodes: int) -> dict[str, Any]:
    """A run's trials by what is true, what its person pressed, and how a classifier's versions did."""
    run = rundir.load(directory)
    weights = directory / "weights" / "policy.safetensors"
    evaluate = reaching.evaluate if run.task.name == "reach" else trials.evaluate
    found = evaluate(run, directory, episodes, say=lambda _: None, weights=weights)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    said = json.loads((directory / "result.json").read_text()) if (directory / "result.json").is_file() else {}
    made = versions(directory)
    verdicts = [line for line in lines if line["kind"] == "verdict"]
    done = max(line.get("step_total", 0) for line in lines if line["kind"] == "episode")
    return {
        "task": run.task.name, "seed": run.seed, "reward": run.task.reward, "steps": done, "shown": shown(run),
        "robot_minutes": round(done / run.task.rate_hz / 60, 1), "episodes": episodes,
        "built_from": json.loads((directory / "run.json").read_text())["built_from"],
        **{k: round(found[k], 4) for k in KEYS}, "labels": said.get("labels"), "classifier": said.get("classifier"),
        "verdicts": {word: sum(v["judged"] == word for v in verdicts) for word in ("right", "false", "missed", "quiet")},
        "versions": made, "used_from": next((v["transitions"] for v in made if not v["why"]), None),
        "course": [x for x in lines if x["kind"] == "classifier"],
    }  # fmt: skip


def shown(run: config.Run) -> dict[str, Any] | None:
    """What it was shown first: steps, and what was said of them; None for nothing."""
    directory = Path(run.agent.demonstrations)
    if not run.agent.demonstrations or not (directory / "replay").is_dir():
        return None
    rows = open_labelled(directory)
    episodes = len(set(rows.columns["episode"][: rows.count].tolist()))
    return {"episodes": episodes, "steps": rows.count, "labels": rows.labels, "share": run.agent.demonstrations_share}


def versions(directory: Path) -> list[dict[str, Any]]:
    """Each version's own figures."""
    out = []
    for path in sorted((directory / "classifier").glob("[0-9]*-[0-9]*/manifest.json")):
        kept = json.loads(path.read_text())
        about = {k: v for k, v in kept["about"].items() if k not in ("then", "queue", "tried", "denied")}
        out.append({"version": kept["updates"], "transitions": kept["transitions"], **about, "then": kept["about"]["then"][-1:]})
    return out


def tell(row: dict[str, Any]) -> str:
    v, since = row["verdicts"], row["used_from"]
    what = (
        f"{row['task']} by {row['reward']}, seed {row['seed']}, {row['steps']} steps: {row['success']:.0%} of {row['episodes']}"
    )
    what += f"; a version was shown to do from {since} steps on" if since else ""
    return what + (f"; verdicts {v['right']} right, {v['false']} false, {v['missed']} missed" if any(v.values()) else "")


def main() -> int:
    options = parse()
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "asked": ASKED, "note": options.note, "runs": []}
    own = config.load(options.run).task.reward
    rewards = dict.fromkeys([own, *["task"] * options.true, *["keyboard"] * options.keys])
    jobs = options.collect or [(seed, reward) for seed in options.seeds for reward in rewards]
    for job in jobs:
        directory = job if isinstance(job, Path) else train(options, *job)
        record["runs"].append(judged(directory, options.episodes))
        print(tell(record["runs"][-1]), flush=True)
        if options.out is not None:
            rundir.write_json(options.out, record)
    return 0 if all(row["success"] >= ASKED for row in record["runs"] if row["reward"] == own) else 1


if __name__ == "__main__":
    sys.exit(main())
