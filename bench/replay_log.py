"""The run's log under a clock: what an append takes, how long an acknowledgement, how long a recovery. For bench/replay.py."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from robotrl import transitions
from robotrl.log import Log, Took
from robotrl.logformat import Kind
from robotrl.messages import Transition
from robotrl.replay import Replay

SIZE, ACTIONS = 112, 8


def made(rng: np.random.Generator, number: int) -> Transition:
    o, a = rng.standard_normal((2, SIZE), np.float32), rng.standard_normal(ACTIONS, np.float32)
    return transitions.make(
        o[0],
        a,
        0.5,
        o[1],
        terminated=False,
        truncated=False,
        episode=number // 400,
        step=number % 400,
        tick=number,
        policy_version=1,
    )


def append(folder: Path, count: int) -> dict[str, Any]:
    """Encode and append, us: what the recorder's loop, and a rehearsal's, spend on one; and what the replay then takes."""
    rng, us, row = np.random.default_rng(0), [], []
    some = [made(rng, k) for k in range(count)]
    log, replay = Log.open(folder / "append"), Replay.create(folder / "rows", SIZE, ACTIONS, count)
    for number, transition in enumerate(some, 1):
        begun = time.perf_counter()
        took = log.append(Kind.TRANSITION, "policy", 1, number, transitions.encoded(transition))
        us.append((time.perf_counter() - begun) * 1e6)
        assert took is Took.STORED
        begun = time.perf_counter()
        transitions.add(replay, transition)
        row.append((time.perf_counter() - begun) * 1e6)
        if number % 50 == 0:
            time.sleep(0.001)  # a robot gives the writer's thread far more
    log.close()
    replay.close()
    return {"append_us_p50": percentile(us, 50), "append_us_p99": percentile(us, 99), "row_us_p50": percentile(row, 50)}


def ack(folder: Path, rate_hz: float, seconds: float) -> dict[str, Any]:
    """ms from append to durable, as the recorder sees it, which looks a hundred times a second."""
    rng, log = np.random.default_rng(1), Log.open(folder / f"ack-{rate_hz:.0f}")
    payload = transitions.encoded(made(rng, 0))
    given: list[float] = []
    ms: list[float] = []
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds or len(ms) < len(given):
        while now < seconds and len(given) < now * rate_hz:
            given.append(time.perf_counter())
            log.append(Kind.TRANSITION, "policy", 1, len(given), payload)
        durable, seen = log.durable, time.perf_counter()
        ms += [(seen - at) * 1e3 for at in given[len(ms) : durable]]
        time.sleep(0.001)
    log.close()
    return {f"ack_ms_p50_at_{rate_hz:.0f}_hz": percentile(ms, 50), f"ack_ms_p99_at_{rate_hz:.0f}_hz": percentile(ms, 99)}


def recover(folder: Path, megabytes: int) -> dict[str, Any]:
    """s to open a log whose writer was killed."""
    payload = transitions.encoded(made(np.random.default_rng(2), 0))
    where, number = folder / "long", 0
    log = Log.open(where, group_s=0.0)
    while number * len(payload) < megabytes * 1_000_000:
        if log.append(Kind.TRANSITION, "policy", 1, number + 1, payload) is Took.STORED:
            number += 1
        else:
            log.sync()
    log.sync()
    os.close(log._lock_fd)  # as if it were gone: no seal, and the lock is free
    began = time.perf_counter()
    again = Log.open(where)
    seconds = time.perf_counter() - began
    assert again.durable == number
    again.close()
    size = sum(path.stat().st_size for path in where.iterdir()) / 1e6
    shutil.rmtree(where)
    return {"recover_mb": round(size), "recover_records": number, "recover_s": round(seconds, 2)}


def percentile(values: list[float], q: float) -> float:
    return round(float(np.percentile(values, q)), 2)
