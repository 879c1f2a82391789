"""What `tracker.py` measures on the twin: a robot that trots before its camera, and one that trots by the line tracker."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from twin import SETTINGS, Trot

from robotrl import config
from robotrl.messages import Pose
from robotrl.sim.rig import Rig

ROOT = Path(__file__).resolve().parent.parent


def spread(errors: np.ndarray) -> dict[str, float]:
    return {"rms": rms(errors), "p99": round(float(np.quantile(errors, 0.99)), 4), "max": round(float(errors.max()), 4)}


def rms(errors: np.ndarray) -> float:
    return round(float(np.sqrt(np.mean(errors**2))), 4)


def lost(seconds: float, seed: int) -> dict[str, Any]:
    """Reckoned poses against the truth, by how long the board had been away."""
    run = config.load(ROOT / "launch" / "walk_seen.toml", [*SETTINGS, "twin.tripod.rate_hz=60", "twin.tripod.drop=0"])
    rig = Rig(run, seed)
    rig.pilot.take(Trot(run), 1, 0)  # type: ignore[arg-type]
    rows: list[tuple[float, float, float]] = []
    seen, take = [0.0, 0.0, 0.0], rig.pilot.see
    covered_since = math.inf

    def see(pose: Pose) -> None:
        nonlocal seen
        true = rig.twin.world.sensed(max(0.0, rig.seconds - pose.t * 1e-9)).position
        if not pose.reckoned:
            seen = [pose.t * 1e-9, *true[:2]]
        elif covered_since < math.inf:  # in an episode: elsewhere the robot may just be carried back
            way = math.hypot(true[0] - seen[1], true[1] - seen[2])
            rows.append((pose.t * 1e-9 - seen[0], math.dist(pose.position[:2], true[:2]), way))
        take(pose)

    rig.pilot.see = see  # type: ignore[method-assign]
    assert rig.twin.camera is not None
    while rig.seconds < seconds:
        running = rig.permit is not None and rig.permit.state == "RUN"
        phase = rig.seconds % 3.0
        if not running or phase >= 0.9:
            covered_since, rig.twin.camera.covered = math.inf, False
        elif covered_since == math.inf and phase < 0.1:
            covered_since, rig.twin.camera.covered = rig.seconds, True
        rig.cycle()
    rig.close()
    table = np.array(rows)
    last = table[table[:, 0] > 0.8]
    return {
        "poses": len(rows), "error_mm": spread(table[:, 1] * 1000),
        "after_0.8_s_mm": spread(last[:, 1] * 1000), "share_of_the_way": round(float(last[:, 1].sum() / last[:, 2].sum()), 3),
    }  # fmt: skip


def steps(seed: int, count: int = 300) -> dict[str, Any]:
    """A control step in lockstep, ms of processor time, while a robot trots, by the line tracker and by the camera.

    And how wrong the speed is that the walk's reward is made of, m/s (rms), against the true way of the same time.
    """
    out = {}
    for name, file, hz in (
        ("line", "walk.toml", 60),
        ("camera_30_hz", "walk_seen.toml", 30),
        ("camera_60_hz", "walk_seen.toml", 60),
    ):
        run = config.load(ROOT / "launch" / file, [*SETTINGS, f"twin.tripod.rate_hz={hz}"])
        rig = Rig(run, seed)
        rig.pilot.take(Trot(run), 1, 0)  # type: ignore[arg-type]
        while rig.permit is None or rig.permit.state != "RUN":
            rig.cycle()
        spent, wrong = 0.0, []
        for k in range(count):
            begun = time.process_time()
            rig.cycle()
            spent += time.process_time() - begun
            if k > 25 and rig.permit.state == "RUN":
                wrong.append(speed_error(rig))
        out[name] = {"step_ms": round(spent / count * 1000, 2), "speed_m_s": rms(np.array([e for e in wrong if e is not None]))}
        rig.close()
    return out


def speed_error(rig: Any) -> float | None:
    """Of the newest speed that the task's track can tell; None where a pose of it is older than the twin remembers."""
    track, window = rig.pilot.task.track, rig.run.task.velocity_window_s
    newest = track.newest()
    said = None if newest is None else track.speed(newest, window)
    age = 0.0 if newest is None else rig.seconds - newest * 1e-9
    if said is None or not 0.0 <= age < 0.4 - window:
        return None
    way = np.subtract(rig.twin.world.sensed(age).position, rig.twin.world.sensed(age + window).position)[:2]
    return float(said - way @ track.direction / window)
