"""The table of causes, fitted to a robot: rows that it cannot have left out, and those that mean another thing on it changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from robotrl.safety.causes import DRIVEN, POWERED, Cause, Severity

# What only a sense, or somebody who learns, can show.
SHOWN_BY = {
    "imu": ("imu_age_s", "imu_same_in_row", "imu_implausible_in_row", "attitude_gap_rad", "tilt_rad", "weightless_s"),
    "tracker": ("attitude_gap_rad", "pose_same_in_row", "pose_jump", "pose_age_s", "tracker_dead"),
    "camera": ("camera_frozen", "camera_late", "camera_blind", "camera_gone"),
    "noise": ("same_in_row",),  # of readings: a servo that tells whole ticks says the same for ever where it stands still
    "learner": ("learner_gone",),
    "arm": ("reversals",),  # a learned walk turns its joints round more often (row 54)
    "workspace": ("outside_m",),
}


def without(rows: tuple[Cause, ...], absent: Collection[str]) -> tuple[Cause, ...]:
    """The table for a robot that lacks some of `SHOWN_BY`: nobody is missed who was never there."""
    unseen = {signal for name in absent for signal in SHOWN_BY[name]}
    return tuple(row for row in rows if row.signal not in unseen)


def changed(rows: tuple[Cause, ...], id: str, **fields: object) -> tuple[Cause, ...]:
    """The table with some fields of one row changed; ValueError when there is no such row."""
    if id not in {row.id for row in rows}:
        raise ValueError(f"no cause {id!r}; there are: {', '.join(row.id for row in rows)}")
    return tuple(replace(row, **fields) if row.id == id else row for row in rows)  # type: ignore[arg-type]


def for_arms(rows: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """The table for an arm: what blocks it may be a hand, and no stop lets it fall (safety facts, rows 59 and 6).

    It does not have to get up from folded legs, so a blocked joint is judged soon, wherever it is held or led, and nothing but
    a person lets it go on. What is hot is lowered at once: held, it would get no cooler.
    """
    rows = changed(
        rows, "stalled", above=0.5, action=Severity.PSTOP, grace_s=0.0, states=POWERED, budget=None,
        note="a joint is blocked: free what is caught, press disable",
    )  # fmt: skip
    if "servo_frozen" in {row.id for row in rows}:
        rows = changed(rows, "servo_frozen", note="a joint's encoder stands still: support the arm, press disable, see its servo")
    return changed(rows, "temp_high", action=Severity.RELAX)


def for_unwatched(rows: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """The table for servos without a watchdog: nobody leads what would hold, or go on, for ever should the driver die."""
    return changed(
        rows, "rescue_gone", action=Severity.HOLD, states=DRIVEN,
        note="no rescue: nothing would stop these servos, they have no watchdog",
    )  # fmt: skip
