"""`robotrl bench`: its table, its complaints, and that what the scripts call a figure is one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from robotrl import benches, cli, config

ROOT = Path(__file__).resolve().parents[2]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "robotrl", "bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=250
    )


def test_every_figure_has_its_script():
    assert {name: (ROOT / "bench" / script).is_file() for name, (script, _) in benches.FIGURES.items()} == dict.fromkeys(
        benches.FIGURES, True
    )


def test_a_script_is_run_with_its_own_options(tmp_path, monkeypatch, capfd):
    (tmp_path / "neighbour.py").write_text("WORD = 'seen'\n")
    (tmp_path / "only_here.py").write_text("import sys, neighbour\ndef main():\n    print(sys.argv, neighbour.WORD)\n")
    monkeypatch.setattr(benches, "SCRIPTS", tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(benches.FIGURES, "some", ("only_here.py", ""))
    assert cli.main(["bench", "some", "--steps", "3"]) == 0
    assert capfd.readouterr().out == "['robotrl bench some', '--steps', '3'] seen\n"


def test_what_is_not_there_is_named(tmp_path, monkeypatch, capfd):
    assert cli.main(["bench", "lerner"]) == 2 and "known: learner, phases, policy" in capfd.readouterr().err
    monkeypatch.setattr(benches, "SCRIPTS", tmp_path)
    assert cli.main(["bench", "twin"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert str(tmp_path / "twin.py") in line and "pip install -e" in line


@pytest.mark.parametrize(
    ("critics", "hidden", "switches"),
    [
        (2, (24, 16), {}),
        (5, (16,), {"actor_every": 3}),
        (1, (8, 16, 24), {}),
        (4, (24, 16), {"target_subset": 2, "actor_value": "mean", "actor_every": 2}),
    ],
)
def test_the_floor_counts_the_products_that_the_torch_engine_makes(script, critics, hidden, switches):
    """torch's own counter: it sees those of `products`, and the ones that the text there says are left out or not needed."""
    import numpy as np
    from torch.utils.flop_counter import FlopCounterMode

    from robotrl.agents.base import make_agent

    engine, (o, a, n, h) = script("engine"), (12, 3, 32, hidden)
    agent = dataclasses.replace(config.Agent(), engine="torch", batch=n, critics=critics, hidden=hidden, **switches)
    made = make_agent(agent, o, a, 0, engine.Memory(o, a))
    with FlopCounterMode(display=False) as counter:
        for _ in range(agent.actor_every):
            made.update(np.arange(n))
    inner = sum(x * y for x, y in pairwise(h))
    outer = agent.actor_every * critics * h[-1]  # the gradient behind each critic's only output
    every = critics * (inner + h[-1] + (o + a) * h[0])  # the actor's loss through all critics, down to the observation
    needed = (inner + h[0] * a) * (critics if agent.actor_value == "mean" else 1)
    counted = agent.actor_every * engine.flops(o, a, agent)
    assert counter.get_total_flops() - counted == pytest.approx(2 * n * (outer + every - needed), abs=1)


def test_the_phases_share_out_the_products_of_an_update(script):
    phases, engine, agent = script("phases"), script("engine"), config.Agent()
    work = phases.work(agent)
    assert sum(dense for dense, _ in work.values()) == pytest.approx(engine.flops(*phases.SIZES, agent))
    assert all(dense / 2 <= left <= dense for dense, left in work.values())


def test_a_peer_takes_no_part_in_unequal_work(script, monkeypatch):
    engine, agent = script("engine"), config.Agent()
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: name)
    assert engine.left_out("stable_baselines3", dataclasses.replace(agent, batch=64, critics=5, threads=2)) == ""
    layered = dataclasses.replace(agent, layer_norm=True)
    assert "agent.layer_norm" in engine.left_out("stable_baselines3", layered) and engine.left_out("sbx", layered) == ""
    assert "agent.critics" in engine.left_out(engine.REWRITTEN, dataclasses.replace(agent, critics=5))
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    assert engine.left_out(engine.REWRITTEN, agent) == ""
    assert engine.left_out("sbx", agent) == "not installed"


@pytest.fixture
def one_thread():
    """Of torch: a second one waits by spinning, and takes from the other tests more than it does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_rewritten_update_learns(script, one_thread):
    """It is a peer only if it does the work: critics fit rewards that end at once, and the actor finds the better actions."""
    import numpy as np
    import torch

    engine, module = script("engine"), script("cleanrl_update")
    torch.manual_seed(0)
    columns = engine.Memory(3, 1).columns
    columns["terminated"][:], columns["reward"][:] = 1, 2 * columns["action"][:, 0]
    update = module.Update(dataclasses.replace(config.Agent(), batch=64, hidden=(32, 32)), (3, 1), columns)
    for _ in range(300):
        update()
    s = torch.zeros(2, 3)
    low, high = update.critics[0](torch.cat([s, torch.tensor([[-0.5], [0.5]])], 1)).flatten().tolist()
    assert low == pytest.approx(-1, abs=0.3) and high == pytest.approx(1, abs=0.3)
    with torch.no_grad():
        assert np.mean([update.policy(s)[0].mean().item() for _ in range(200)]) > 0.1
    assert not any(torch.equal(a, b) for a, b in zip(*(m[0].parameters() for m in (update.critics, update.targets)), strict=True))


def test_the_learner_is_measured_beside_its_floor(tmp_path):
    small = ("--observation", "12", "--action", "2", "--set", "agent.batch=8", "--set", "agent.hidden=[16, 16]")
    turns = ("--only", "reference", "--threads", "1", "--seconds", "0.01", "--rounds", "1", "--out", str(tmp_path / "out.json"))
    done = bench("learner", *small, *turns)
    assert done.returncode == 0, done.stderr
    assert "| reference x1 |" in done.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["engines"]["reference"] == "reference" and found["set"] == ["agent.batch=8", "agent.hidden=[16, 16]"]
    table = found["alone"]["table"]
    assert table.keys() == {"reference x1", "torch sgemm x1", "numpy sgemm x1"}
    assert all(row["updates_per_s"] > 0 and row["updates_per_cpu_s"] > 0 for row in table.values())
    assert table["reference x1"]["of_floor"] > 0 and max(table[f"{x} sgemm x1"]["of_floor"] for x in ("torch", "numpy")) == 1


def test_the_policy_process_is_small_needs_no_torch_and_takes_what_a_learner_publishes(script, tmp_path):
    run = config.load(ROOT / "launch" / "walk.toml", ["real_time=false", "agent.hidden=[16, 16]"])
    with script("policy_node").PolicyNode(run, tmp_path) as node:
        found = node.hand_over(times=2, cycles=5)
        memory = node.memory()
    assert node.answers[-1][0] == 2 and found["published"] == 2 and found["ms_until_acted_with_max"] > 0
    assert not memory["torch"] and memory["resident_mb"] - memory["replay_mapped_mb"] < 60


def test_the_policy_node_imports_nothing_that_only_others_need():
    code = "import sys, robotrl.nodes.policy; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "cv2", "matplotlib", "rich", "pybullet", "serial"} & set(loaded)


def test_the_rank_sum_test_is_exact(script):
    """Against every choice of which values are the first sample's."""
    bench, rng = script("equal_returns"), random.Random(0)
    assert bench.rank_sum([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert bench.rank_sum([1, 1, 1], [1, 1]) == 1
    for ties in (3, 100):
        a, b = ([rng.randrange(ties) for _ in range(n)] for n in (4, 5))
        ranks = [sum((y < x) + (y <= x) for y in a + b) for x in a + b]
        sums = [sum(ranks[i] for i in chosen) for chosen in itertools.combinations(range(9), 4)]
        mean = 4 * sum(ranks) / 9
        far = [abs(s - mean) >= abs(sum(ranks[:4]) - mean) - 1e-9 for s in sums]
        assert bench.rank_sum(a, b) == pytest.approx(sum(far) / len(far))


def test_equal_returns_asks_for_a_control_that_is_told_apart(script):
    bench = script("equal_returns")
    good = {"torch": {"a": 0.5, "b": 0.02}, "fused": {"a": 1.0, "b": 0.3}, bench.CONTROL: {"a": 0.0001, "b": 0.0002}}
    assert bench.passed(good)
    assert not bench.passed(good | {bench.CONTROL: {"a": 0.0001, "b": 0.02}})
    assert not bench.passed(good | {"torch": {"a": 0.5, "b": 0.009}})
