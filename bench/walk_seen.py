"""Walking whose reward is seen beside walking whose reward is the truth: the same robot, seeds, everything else.

seen   launch/walk_seen.toml: every pose is a picture that was drawn, late, noisy and now and then lost, and read by the tracker
true   the same run file, its poses from the physics without noise

In both the robot is carried back to its start at a reset, as it must be before a camera that stands still. For each seed
`robotrl rehearse` for each of the two, then the deterministic policy on robots drawn from other seeds. Speed is the physics' own.
Asked: what is learned by sight reaches 0.9 of the speed and of the return of what is learned by the truth, means over the seeds.
Both policies are judged by the truth, on the same robots: by the camera an episode ends where the robot walks out of its view.

Run:   nice robotrl bench walk-seen --seeds 0 --steps 40000 --out FILE     (two trainings a seed; none that the file has already)
       --only seen   one half of it, the other may be beside it or come later: --out keeps what it holds of the other
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from walk import ROOT, call, command, describe

from robotrl import rundir

RUN_FILE = ROOT / "launch" / "walk_seen.toml"
WAYS: dict[str, tuple[str, ...]] = {
    "seen": (),
    "true": (
        "robot.tracker.camera=", "twin.carried_back=true", "twin.tracker_noise_m=0", "twin.tracker_noise_rad=0",
    ),
}  # fmt: skip
SHARE = 0.9  # of what the truth teaches, at least
KEYS = ("return_mean", "return_min", "speed_mean", "speed_min", "falls", "lying", "upright")


def train(way: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training and its evaluation; or an error."""
    words = command(
        "rehearse", str(RUN_FILE), "--steps", str(options.steps), "--seed", str(seed), "--out", str(options.runs),
        "--no-video", "--json",
    )  # fmt: skip
    for item in (*WAYS[way], f"evaluation_episodes={options.episodes}", *options.set):
        words += ["--set", item]
    said = call(words)
    if "error" in said:
        return said
    about = describe(Path(said["run"]))
    keep = ("steps", "run", "built_from", "train_wall_s", "updates", "engine", "stops", "curve")
    return {k: about[k] for k in keep if k in about} | {k: said[k] for k in KEYS} | {"episodes": len(said["episodes"])}


def judged(seed: int, trained: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """What is learned by sight, on the twin and robots of what is learned by the truth; empty while one of them is missing."""
    runs = [trained.get(way, {}).get(str(seed), {}).get("run") for way in ("seen", "true")]
    if None in runs:
        return {}
    seen, true = (options.runs / run for run in runs)
    words = ("eval", str(true), "--weights", str(seen / "weights" / "policy.safetensors"), "--episodes", str(options.episodes))
    said = call(command(*words, "--json"))
    return said if "error" in said else {k: said[k] for k in KEYS}


def compared(trained: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds that both ways have, and the share that sight reaches."""
    whole = {way: {s: r.get("by_truth", r) for s, r in trained.get(way, {}).items() if "error" not in r} for way in WAYS}
    seeds = sorted(set(whole["seen"]) & set(whole["true"]), key=int)
    if not seeds:
        return {"seeds": []}
    out: dict[str, Any] = {"seeds": [int(s) for s in seeds], "asked_share": SHARE}
    for key in ("speed_mean", "return_mean"):
        means = {way: statistics.fmean(whole[way][s][key] for s in seeds) for way in WAYS}
        share = round(means["seen"] / means["true"], 3) if means["true"] > 0 else None  # what has not learned is no measure
        out[key] = {way: round(mean, 3) for way, mean in means.items()} | {"share": share}
    out["reached"] = all((out[key]["share"] or 0.0) >= SHARE for key in ("speed_mean", "return_mean"))
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--only", choices=sorted(WAYS), help="this way alone")
    parser.add_argument("--episodes", type=int, default=10, help="of each evaluation")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, for both")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "walk_seen.json")
    options = parser.parse_args()
    record: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    for seed in options.seeds:
        for way in [options.only] if options.only else WAYS:
            kept = record.get("trained", {}).get(way, {}).get(str(seed), {})
            found = kept if kept.get("run") and not options.only else train(way, seed, options)
            if options.out.is_file():  # the other half may have been written meanwhile
                record = json.loads(options.out.read_text())
            record = {"measured_on": rundir.provenance(), "set": options.set, "trained": record.get("trained", {})}
            record["trained"].setdefault(way, {})[str(seed)] = found
            if by_truth := judged(seed, record["trained"], options):
                record["trained"]["seen"][str(seed)]["by_truth"] = by_truth
            record["compared"] = compared(record["trained"])
            options.out.parent.mkdir(parents=True, exist_ok=True)
            rundir.write_json(options.out, record)
            said = found.get("error") or f"{found['speed_mean']:.2f} m/s, return {found['return_mean']:.0f}"
            print(f"{way}, seed {seed}: {said}", flush=True)
    print(json.dumps(record["compared"]))
    failed = any("error" in run for runs in record["trained"].values() for run in runs.values())
    return 1 if failed or not record["compared"].get("reached") else 0


if __name__ == "__main__":
    sys.exit(main())
