"""The walk: trains on the twin one seed after another, evaluates what was learned, and says it beside what is asked.

For each seed `robotrl rehearse`, then the deterministic policy on robots drawn from other seeds: as it was after 40,000
transitions, as it is at the end, and, without further training, on slopes, loose blocks, stairs and under pushes. Every
evaluation is a process of its own and the results are written after each: one that fails loses no other.

Run:   nice python bench/walk.py --seeds 0 1 2 --steps 160000        (20 to 40 minutes a seed)
Later: python bench/walk.py --collect runs/20261120-131500-walk ...   evaluates runs that were trained before
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotrl import config, rundir

ROOT = Path(__file__).resolve().parent.parent
RUN_FILE = ROOT / "launch" / "walk.toml"
EARLY = 40_000  # transitions: the first checkpoint asked about
BIN = 4_000  # transitions a point of the learning curve
CROSSED_M = 2.0  # forward in an episode: past the third stair with all four feet; who only stands has crossed nothing
TIMEOUT_S = 1800  # an evaluation takes a minute; one that takes this long has a robot that never stands up


@dataclass(frozen=True)
class Check:
    """One evaluation: its name, its arguments to `robotrl eval`, and the figures asked of it."""

    name: str
    arguments: tuple[str, ...] = ()
    early: bool = False
    speed: float | None = None  # at least, m/s
    total: float | None = None  # return, at least
    falls: int | None = None  # at most, of ten episodes; one that ends lying counts as one
    upright: int | None = None  # at least, of ten episodes: neither fell nor lies at the end
    crossed: int | None = None  # at least, of ten episodes: the same, and came CROSSED_M forward


CHECKS = (
    Check("at 40,000 steps", early=True, speed=0.4),
    Check("at the end", speed=0.45, total=220.0, falls=1),
    *(Check(f"slope {angle} deg", ("--terrain", f"slope:{angle}"), crossed=8) for angle in ("+5", "-5", "+10", "-10")),
    Check("loose blocks", ("--terrain", "blocks"), crossed=8),
    *(Check(f"stairs down, {cm} cm", ("--terrain", f"stairs-down:{cm}"), crossed=8) for cm in (2, 4)),
    *(Check(f"stairs up, {cm} cm", ("--terrain", f"stairs-up:{cm}")) for cm in (2, 4)),
    Check("pushes 120-240 N", ("--push", "240"), upright=8),
    Check("pushes 30-60 N", ("--push", "60")),
    # What Tan et al. 2018 trained under: pressed to the ground meanwhile, which no robot tips over from.
    Check("pushes 120-240 N, 300-500 N down, 0.06 s", ("--push", "240", "--push-down", "500", "--push-s", "0.06")),
)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "robotrl", *words]


def call(words: list[str], timeout_s: float | None = None) -> dict[str, Any]:
    """Run a robotrl command; its JSON object, or {"error": its last words}."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=env, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:.0f} s"}
    lines = done.stdout.strip().split("\n")
    if done.returncode != 0:
        return {"error": f"exit code {done.returncode}; its words are above"}
    try:
        return dict(json.loads(lines[-1]))
    except ValueError:
        return {"error": f"no JSON object last on standard output: {lines[-1][:80]!r}"}


def train(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One rehearsal; what it says last, or an error."""
    words = command(
        "rehearse", str(RUN_FILE), "--steps", str(options.steps), "--seed", str(seed), "--out", str(options.out),
        "--keep-every", str(min(EARLY, options.steps)), "--no-video", "--json",
    )  # fmt: skip
    for item in options.set:
        words += ["--set", item]
    return call(words)


def evaluate(directory: Path, check: Check, episodes: int) -> dict[str, Any]:
    """One evaluation of one run; its figures, or an error."""
    weights = directory / "weights" / (f"at-{EARLY}.safetensors" if check.early else "policy.safetensors")
    if not weights.is_file():
        return {"error": f"{weights.name} was not kept; train with --keep-every {EARLY}"}
    result = call(
        command("eval", str(directory), "--episodes", str(episodes), "--weights", str(weights), "--json", *check.arguments),
        TIMEOUT_S,
    )
    if "error" in result:
        return result
    keys = ("return_mean", "return_min", "speed_mean", "speed_min", "falls", "lying", "upright")
    out: dict[str, Any] = {k: _short(result[k]) for k in keys} | {"count": len(result["episodes"])}
    rate = json.loads((directory / "run.json").read_text())["config"]["task"]["rate_hz"]
    across = [e["ended"] == "time" and not e["lying"] and e["speed"] * e["steps"] / rate >= CROSSED_M for e in result["episodes"]]
    out["crossed"] = sum(across)
    out["episodes"] = [{k: _short(v) for k, v in e.items()} for e in result["episodes"]]
    return out


def _short(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def describe(directory: Path) -> dict[str, Any]:
    """A run directory: seed, what it was built from, where its configuration differs from walk.toml, its curve."""
    kept = json.loads((directory / "run.json").read_text())
    here = kept["config"]  # as written: the code may have moved on since
    usual, flat = _flat(config.to_dict(config.load(RUN_FILE))), _flat(here)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    walls = [line["wall_s"] for line in lines if "wall_s" in line]
    result = directory / "result.json"
    out: dict[str, Any] = {
        "seed": here["seed"],
        "steps": here["steps"],
        "run": directory.name,
        "overrides": {k: v for k, v in flat.items() if usual.get(k) != v and k not in ("seed", "steps")},
        "built_from": kept["built_from"],
        "train_wall_s": round(walls[-1], 1) if walls else None,
        "episodes": sum(line["kind"] == "episode" for line in lines),
        "stops": dict(Counter(cause for line in lines if line["kind"] == "cause" for cause in line["causes"]).most_common()),
        "curve": curve(lines),
    }
    if result.is_file():
        said = json.loads(result.read_text())
        out |= {k: said[k] for k in ("train_wall_s", "updates", "engine", "falls_in_training") if k in said}
    return out


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return out


def curve(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The learning curve: training episodes (with exploration noise), means over bins of BIN transitions."""
    bins: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        if line["kind"] == "episode":
            bins.setdefault(line["step_total"] // BIN, []).append(line)
    out = []
    for _, found in sorted(bins.items()):
        n = len(found)
        point = {"steps": found[-1]["step_total"], "episodes": n, "falls": sum(e["ended"] == "fall" for e in found)}
        point["stuck"] = sum(e["ended"] == "stuck" for e in found)
        point |= {"speed": _short(sum(e["speed"] for e in found) / n), "return": _short(sum(e["return"] for e in found) / n)}
        out.append(point | {"wall_s": round(found[-1]["wall_s"], 1)} if "wall_s" in found[-1] else point)
    return out


def verdict(check: Check, found: dict[str, Any]) -> bool | None:
    """Whether the figures reach what is asked; None when nothing is asked or nothing was measured."""
    if "error" in found or check == Check(check.name, check.arguments, check.early):
        return None
    tenth = found["count"] / 10
    return (
        (check.speed is None or found["speed_mean"] >= check.speed)
        and (check.total is None or found["return_mean"] >= check.total)
        and (check.falls is None or found["falls"] + found["lying"] <= check.falls * tenth)
        and (check.upright is None or found["upright"] >= check.upright * tenth)
        and (check.crossed is None or found["crossed"] >= check.crossed * tenth)
    )


def asked(check: Check) -> str:
    words = [f"≥ {check.speed} m/s"] if check.speed is not None else []
    words += [f"return ≥ {check.total:.0f}"] if check.total is not None else []
    words += [f"falls ≤ {check.falls}/10"] if check.falls is not None else []
    words += [f"upright ≥ {check.upright}/10"] if check.upright is not None else []
    words += [f"crossed ≥ {check.crossed}/10"] if check.crossed is not None else []
    return ", ".join(words) or "report"


def cell(check: Check, found: dict[str, Any] | None) -> str:
    """One figure of the table; a cross where it falls short."""
    if found is None or "error" in found:
        return "none" if found is None else "failed"
    n = found["count"]
    said = f"{found['speed_mean']:.2f} m/s, return {found['return_mean']:.0f}, upright {found['upright']}/{n}"
    said += f", crossed {found['crossed']}/{n}" if check.arguments[:1] == ("--terrain",) else ""
    return said + (" ✗" if verdict(check, found) is False else "")


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a row a check, a column a run."""
    heads = [f"seed {r['seed']}" for r in runs]
    rows = ["| evaluation | asked | " + " | ".join(heads) + " |", "|---" * (2 + len(heads)) + "|"]
    for check in CHECKS:
        cells = [cell(check, r.get("evaluations", {}).get(check.name)) for r in runs]
        rows.append(f"| {check.name} | {asked(check)} | " + " | ".join(cells) + " |")
    walls = [f"{r['train_wall_s'] / 60:.0f} min, {r['steps']} steps" if r.get("train_wall_s") else "none" for r in runs]
    return "\n".join([*rows, "| training, wall time | | " + " | ".join(walls) + " |"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=160_000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any config field")
    parser.add_argument("--collect", type=Path, nargs="+", metavar="RUN_DIR", help="evaluate these runs, train none")
    parser.add_argument("--episodes", type=int, default=10, help="of each evaluation")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run directories are made (default: runs)")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "walk.json")
    return parser.parse_args()


def main() -> int:
    options = parse()
    record: dict[str, Any] = {"measured_on": rundir.provenance(), "episodes": options.episodes, "set": options.set, "runs": []}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    failed = False
    for job in options.collect or options.seeds:
        trained = train(job, options) if isinstance(job, int) else {"run": str(job)}
        if "error" in trained:
            failed = True
            record["runs"].append({"seed": job, "steps": options.steps, **trained})
            rundir.write_json(options.results, record)
            continue
        directory = Path(trained["run"])
        try:
            run = describe(directory)
        except (OSError, ValueError, KeyError) as error:
            run = {"seed": None, "run": directory.name, "error": f"{directory}: not a whole run directory: {error!r}"}
            failed = True
        run["evaluations"] = {}
        record["runs"].append(run)
        for check in CHECKS:
            print(f"{directory}: {check.name}", file=sys.stderr, flush=True)
            found = run["evaluations"][check.name] = evaluate(directory, check, options.episodes)
            failed |= "error" in found or verdict(check, found) is False
            rundir.write_json(options.results, record)
    print(table(record["runs"]))
    print(f"\n{options.results}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
