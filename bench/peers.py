"""What others have, measured on our twin: the shipped PPO policies, an open-loop trot, stable-baselines3's SAC on our task.

The first two act on the twin's physics directly (bench/peer_gaits.py); the third drives the whole robot program as our own
agent does (bench/peer_sac.py) and needs stable-baselines3. Each part is written to bench/results/peers.json when it is done and
leaves the others there.

Run: nice python bench/peers.py ppo trot            (minutes)
     nice python bench/peers.py sac --steps 160000  (more than an hour)
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import walk
from peer_gaits import OURS, POLICY_PERIOD_S, THEIRS, Policy, open_loop, play

from robotrl import config, rundir

PERIOD_S = 0.02
# Hz, then rad: swing, extension, centre of extension, lead of the swing. The stock trot and the best found (hardware facts 1.5).
TROTS = {
    "stock": (2.0, 0.30, 0.35, 2.0, 0.0),
    "fast, lead .30": (3.6, 0.35, 0.30, 1.81, 0.30),
    "fast, lead .35": (3.6, 0.35, 0.30, 1.81, 0.35),
    "fast, lead .40": (3.6, 0.35, 0.30, 1.81, 0.40),
}


def ppo(options: argparse.Namespace) -> dict[str, Any]:
    """Both policies, nominal and randomised robots, at the twin's physics step and at the one they were trained with."""
    out: dict[str, Any] = {}
    for name, shipped in (("trot", "trotting"), ("gallop", "reactive")):
        policy = Policy(shipped)
        for label, randomise, dt in (("nominal", False, 0.002), ("randomised", True, 0.002), ("nominal, 1 ms", False, 0.001)):
            found = play(policy, THEIRS, POLICY_PERIOD_S, options.episodes, options.seed, randomise, dt)
            out[f"shipped PPO {name}, {label}"] = found | {"error_of_stored_means": round(policy.error(), 4)}
    return out


def trot(options: argparse.Namespace) -> dict[str, Any]:
    """Every listed trot on the nominal robot with our gains at 50 Hz, then the fastest that never fell on randomised ones."""
    dt = config.Twin().physics_dt
    nominal = {
        name: play(open_loop(*shape), OURS, PERIOD_S, options.episodes, options.seed, False, dt) for name, shape in TROTS.items()
    }
    best = max(TROTS, key=lambda name: (-nominal[name]["falls"], nominal[name]["speed_mean"]))
    out = {f"open-loop trot, {name}, nominal": found for name, found in nominal.items()}
    found = play(open_loop(*TROTS[best]), OURS, PERIOD_S, options.episodes, options.seed, True, dt)
    return out | {f"open-loop trot, {best}, randomised": found}


def sac(options: argparse.Namespace) -> dict[str, Any]:
    """stable-baselines3 on our task: trained here, then judged by the same evaluations as our own agent."""
    import peer_sac

    if importlib.util.find_spec("stable_baselines3") is None:
        raise SystemExit(f"bench/peers.py sac: no stable_baselines3 here: {peer_sac.INSTALL}, beside robotrl")
    run = config.load(walk.RUN_FILE, [*options.set, f"steps={options.steps}", f"seed={options.seed}"])
    run = dataclasses.replace(run, name="sb3")
    directory = peer_sac.train(run, options.out, min(walk.EARLY, options.steps))
    found = walk.describe(directory) | {"evaluations": {}}
    for check in walk.CHECKS:
        print(f"{directory}: {check.name}", file=sys.stderr, flush=True)
        found["evaluations"][check.name] = walk.evaluate(directory, check, options.episodes)
    return {f"stable-baselines3 {version('stable_baselines3')} SAC, seed {options.seed}": found}


def table(peers: dict[str, Any]) -> str:
    """Markdown: a row a peer."""
    rows = ["| peer | speed | slowest | falls | mechanical power |", "|---|---|---|---|---|"]
    for name, found in peers.items():
        if "evaluations" not in found:
            rows.append(_row(name, found, f"{found['power_w']:.0f} W"))
            continue
        for check, result in found["evaluations"].items():
            rows.append(f"| {name}, {check} | failed | | | |" if "error" in result else _row(f"{name}, {check}", result, ""))
    return "\n".join(rows)


def _row(name: str, found: dict[str, Any], power: str) -> str:
    said = f"{found['speed_mean']:.2f} m/s | {found['speed_min']:.2f} m/s | {found['falls']}/{found['count']}"
    return f"| {name} | {said} | {power} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("ppo", "trot", "sac"))
    parser.add_argument("--episodes", type=int, default=10, help="of each measurement, 10 s each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=160_000, help="transitions SAC learns from")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field, for SAC's task")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where SAC's run directory is made (default: runs)")
    parser.add_argument("--results", type=Path, default=walk.ROOT / "bench" / "results" / "peers.json")
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(options.results.read_text()) if options.results.is_file() else {"peers": {}}
    for part in options.parts:
        found = {"ppo": ppo, "trot": trot, "sac": sac}[part](options)
        for name, result in found.items():
            record["peers"][name] = {"measured_on": rundir.provenance(), **result}
        rundir.write_json(options.results, record)
    print(table(record["peers"]))
    print(f"\n{options.results}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
