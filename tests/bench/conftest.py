"""What is in bench/, as its own files have it: they are scripts beside each other, no package. The nemesis's checker, too."""

import contextlib
import json
import math
import sys
from pathlib import Path

import pytest

BENCH = str(Path(__file__).resolve().parents[2] / "bench")


@contextlib.contextmanager
def scripts():
    """They see each other as when one of them is run; afterwards none of them is imported."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(BENCH):
            del sys.modules[name]


@pytest.fixture
def script():
    """`script("engine")`: one of them, as a module."""
    with scripts():
        yield __import__


@pytest.fixture(scope="module")
def checker():
    with scripts():
        import lanes
        import nemesis
        import onlooker
        import schedule
        import told
        import watched

        def check(records, until=math.inf):
            return {v.invariant for v in nemesis.check(told.History(records)) if v.t <= until}

        check.draw, check.called = schedule.draw, onlooker.called
        check.nemesis, check.schedule, check.lanes, check.watched = nemesis, schedule, lanes, watched
        yield check


@pytest.fixture
def copied(sound):
    """The sound history again, to be doctored; as a real one is read."""
    return json.loads(json.dumps(sound))
