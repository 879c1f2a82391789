"""The walk's judgement, without a run: what passes, what does not, and that nothing passes unmeasured."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "bench" / "walk.py"


@pytest.fixture(scope="module")
def walk():
    spec = importlib.util.spec_from_file_location("bench_walk", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_walk"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_walk"]


GOOD = {"speed_mean": 0.5, "return_mean": 230.0, "falls": 1, "lying": 0, "upright": 9, "crossed": 9, "count": 10}


def test_who_only_stands_has_not_crossed(walk):
    slope = next(c for c in walk.CHECKS if c.name.startswith("slope"))
    assert walk.verdict(slope, GOOD) is True
    assert walk.verdict(slope, GOOD | {"upright": 10, "crossed": 0}) is False


@pytest.mark.parametrize("worse", [{"speed_mean": 0.44}, {"return_mean": 219.0}, {"falls": 2}, {"lying": 1}])
def test_each_figure_at_the_end_counts(walk, worse):
    end = next(c for c in walk.CHECKS if c.name == "at the end")
    assert walk.verdict(end, GOOD) is True
    assert walk.verdict(end, GOOD | worse) is False


def test_what_failed_to_run_has_no_verdict_and_shows(walk):
    assert walk.verdict(walk.CHECKS[0], {"error": "exit code 2"}) is None
    assert walk.cell(walk.CHECKS[0], {"error": "exit code 2"}) == "failed"


def test_a_command_that_fails_becomes_an_error(walk):
    assert "exit code 3" in walk.call([sys.executable, "-c", "raise SystemExit(3)"])["error"]
    assert "no JSON" in walk.call([sys.executable, "-c", "print('words')"])["error"]
    assert walk.call([sys.executable, "-c", "print('words'); print('{\"run\": 1}')"]) == {"run": 1}
    assert "0 s" in walk.call([sys.executable, "-c", "import time; time.sleep(9)"], 0.2)["error"]


def test_the_curve_is_thinned(walk):
    rows = [
        {"kind": "episode", "step_total": 100 * i, "speed": 0.1, "return": 2.0, "ended": "fall", "wall_s": i} for i in range(100)
    ]
    found = walk.curve([*rows, {"kind": "cause"}])
    assert [p["steps"] for p in found] == [3900, 7900, 9900] and found[0]["falls"] == 40
    json.dumps(found)
