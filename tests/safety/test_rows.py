"""The rows of the catalogue against a table written from the safety facts: what shows each, for how long, where, what it does."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from robotrl.safety.causes import EVERYWHERE, MOVING, POWERED, Clear, Inputs, Severity, State, catalogue
from robotrl.safety.fitting import changed, for_arms, for_unwatched
from robotrl.safety.ledger import Ledger
from tests.safety.inputs import WELL

S = 10**9
ALL = "BOOT CHECK READY HOLD RUN RESET STOPPING PSTOP RELAX LOCKOUT"
ON = "HOLD RUN RESET STOPPING PSTOP"
FLAG = (False, True)

# id: row of the catalogue, field of Inputs, (the worst value that is well, one that is not), action, who clears it.
# A servo may miss two cycles in a row, and 5 % of a second's (row 1), 1 % of frames (3); 80 C are the limit, warned of 10 C and
# stopped 5 C before it (6); the IMU is stale after 60 ms, frozen after 5 equal samples, implausible after 3 (15, 16); a picture
# is frozen at the third (17); actions 95 ms (23); the driver and the permit 60 ms (36); the console 500 ms (38); three overruns
# (41); an error grows for 100 ms (49); 20 % of a second's actions are clamped (52); 8 reversals a second (54); 30 degrees (58),
# or less than 0.3 g, for 60 ms in the facts, for 100 here, since who bows is as light for 60; no motion under load for 500 ms in
# the facts (59), for 2 s of RUN and as a fall here, where the driver has eased it by then (an arm: below); a box is left by
# 10 mm in the facts (60), by 20 here, since a hand that is stopped at its edge overshoots it; 120 s without a person (61). The
# facts have no figure for a frozen servo and for IMU against tracker: those are today's.
ROWS: dict[str, tuple[int, str, tuple[object, object], str, str]] = {
    "servo_lost": (1, "missed_in_row", (2, 3), "PSTOP", "OPERATOR"),
    "servo_flaky": (1, "missed_share", (0.05, 0.050001), "PSTOP", "OPERATOR"),
    "bus_silent": (2, "bus_missed_in_row", (2, 3), "PSTOP", "OPERATOR"),
    "frame_errors": (3, "frame_error_rate", (0.01, 0.010001), "STOPPING", "AUTO"),
    "servo_frozen": (4, "same_in_row", (4, 5), "PSTOP", "OPERATOR"),
    "temp_warning": (6, "temp_c", (70.0, 70.001), "WARN", "AUTO"),
    "temp_high": (6, "temp_c", (75.0, 75.001), "STOPPING", "OPERATOR_COOLDOWN"),
    "temp_over": (6, "temp_c", (80.0, 80.001), "RELAX", "OPERATOR_COOLDOWN"),
    "servo_fault": (7, "servo_fault", FLAG, "PSTOP", "OPERATOR"),
    "servo_timeout": (8, "servo_timeout", FLAG, "PSTOP", "OPERATOR"),
    "wrong_mode": (8, "wrong_mode", FLAG, "PSTOP", "OPERATOR"),
    "let_go": (8, "let_go", FLAG, "PSTOP", "OPERATOR"),
    "port_lost": (9, "port_lost", FLAG, "PSTOP", "OPERATOR"),
    "imu_stale": (15, "imu_age_s", (0.06, 0.060001), "RELAX", "OPERATOR"),
    "imu_frozen": (15, "imu_same_in_row", (4, 5), "RELAX", "OPERATOR"),
    "imu_implausible": (16, "imu_implausible_in_row", (2, 3), "RELAX", "OPERATOR"),
    "attitude": (16, "attitude_gap_rad", (0.35, 0.350001), "HOLD", "AUTO"),
    "tracker_frozen": (17, "pose_same_in_row", (2, 3), "HOLD", "AUTO"),
    "tracker_jump": (17, "pose_jump", FLAG, "HOLD", "AUTO"),
    "tracker_gone": (17, "pose_age_s", (1.5, 1.50001), "HOLD", "AUTO"),
    "tracker_dead": (17, "tracker_dead", FLAG, "HOLD", "AUTO"),
    "camera_frozen": (17, "camera_frozen", FLAG, "HOLD", "AUTO"),
    "camera_late": (18, "camera_late", FLAG, "HOLD", "AUTO"),
    "camera_blind": (19, "camera_blind", FLAG, "HOLD", "AUTO"),
    "camera_gone": (20, "camera_gone", FLAG, "HOLD", "AUTO"),
    "action_stale": (23, "action_age_s", (0.095, 0.095001), "HOLD", "AUTO"),
    "reset_silent": (23, "action_age_s", (0.5, 0.50001), "HOLD", "AUTO"),
    "learner_gone": (33, "learner_gone", FLAG, "WARN", "AUTO"),
    "policy_dead": (34, "policy_dead", FLAG, "HOLD", "AUTO"),
    "reset_dead": (34, "reset_dead", FLAG, "HOLD", "AUTO"),
    "guard_restart": (35, "", (), "PSTOP", "OPERATOR"),
    "guard_late": (35, "permit_lapsed", FLAG, "HOLD", "AUTO"),
    "rescue_gone": (0, "rescue_gone", FLAG, "WARN", "AUTO"),
    "driver_silent": (36, "drive_age_s", (0.06, 0.060001), "PSTOP", "OPERATOR"),
    "recorder_gone": (37, "recorder_gone", FLAG, "HOLD", "AUTO"),
    "console_silent": (38, "console_age_s", (0.5, 0.50001), "STOPPING", "OPERATOR"),
    "console_dead": (38, "console_dead", FLAG, "STOPPING", "OPERATOR"),
    "manager_gone": (39, "manager_gone", FLAG, "PSTOP", "OPERATOR"),
    "manager_silent": (40, "manager_silent", FLAG, "PSTOP", "OPERATOR"),
    "run_over": (0, "run_over", FLAG, "RELAX", "OPERATOR"),
    "overrun": (41, "overruns_in_row", (2, 3), "HOLD", "AUTO"),
    "crash_loop": (43, "crash_loop", FLAG, "PSTOP", "OPERATOR"),
    "disk_full": (44, "unkept", FLAG, "HOLD", "AUTO"),
    "runaway": (49, "runaway_s", (0.1, 0.100001), "PSTOP", "OPERATOR"),
    "oscillation": (54, "reversals", (8, 9), "HOLD", "AUTO"),
    "nan_action": (51, "nan_action", FLAG, "STOPPING", "OPERATOR"),
    "clamped": (52, "clamped_share", (0.2, 0.200001), "WARN", "AUTO"),
    "tilt": (58, "tilt_rad", (0.52, 0.52001), "RELAX", "OPERATOR"),
    "episode_fall": (58, "episode_ended", ("time", "fall"), "RELAX", "OPERATOR"),
    "free_fall": (58, "weightless_s", (0.1, 0.100001), "RELAX", "OPERATOR"),
    "stalled": (59, "stalled_s", (2.0, 2.00001), "RELAX", "OPERATOR"),
    "workspace": (60, "outside_m", (0.02, 0.020001), "PSTOP", "OPERATOR"),
    "operator_absent": (61, "human_age_s", (120.0, 120.001), "HOLD", "AUTO"),
    "hand_gone": (0, "hand_gone", FLAG, "HOLD", "OPERATOR"),
    "turned": (0, "turned", FLAG, "HOLD", "OPERATOR"),
    "operator_stop": (62, "", (), "PSTOP", "OPERATOR"),
    "stop_unconfirmed": (63, "stop_unconfirmed", FLAG, "LOCKOUT", "RESTART"),
    "session_over": (0, "", (), "HOLD", "AUTO"),
    "pstop_long": (0, "", (), "RELAX", "OPERATOR"),
    "reset_failed": (0, "reset_outcome", ("done", "failed"), "HOLD", "OPERATOR"),
    "set_up": (0, "reset_outcome", ("done", "asks"), "HOLD", "OPERATOR"),
}
STATES = {
    **dict.fromkeys(("servo_timeout", "wrong_mode", "workspace"), ON),
    **dict.fromkeys(("console_silent", "console_dead"), f"{ON} RELAX"),  # a session goes on from there by itself
    **dict.fromkeys(("attitude", "tracker_frozen", "tracker_jump", "tracker_gone", "action_stale", "clamped"), "RUN"),
    **dict.fromkeys(("camera_frozen", "camera_late", "camera_blind", "camera_gone"), "RUN"),
    **dict.fromkeys(("tilt", "episode_fall", "free_fall", "stalled", "hand_gone"), "RUN"),
    **dict.fromkeys(("tracker_dead", "policy_dead", "recorder_gone", "disk_full"), "HOLD RUN"),
    **dict.fromkeys(("reset_silent", "reset_failed", "set_up"), "RESET"),
    **dict.fromkeys(("guard_late", "overrun", "oscillation", "nan_action"), "RUN RESET"),
    "operator_absent": "RUN RESET RELAX",
    "reset_dead": "HOLD RESET RELAX",
    "turned": "RELAX",
    "runaway": "HOLD RUN RESET",
    "let_go": "HOLD RUN RESET STOPPING",
}
DEBOUNCE_S = {
    "frame_errors": 1.0,
    "let_go": 0.3,
    "attitude": 0.3,
    "tilt": 0.1,
    "oscillation": 0.2,
    "workspace": 0.03,
    "turned": 0.1,
}
GRACE_S = {"stalled": 2.0, "servo_timeout": 0.2, "action_stale": 0.5, "reset_silent": 1.0, "clamped": 1.0}
COOLDOWN_S = {"temp_high": 30.0, "temp_over": 60.0}
FALL, HICCUP = ("fall", 5), ("hiccup", 10)
BUDGET = dict.fromkeys(("tilt", "episode_fall", "free_fall", "stalled"), FALL)
BUDGET |= dict.fromkeys(("tracker_jump", "camera_late", "action_stale", "guard_late", "overrun"), HICCUP)
SHOWN = [id for id, row in ROWS.items() if row[1]]


def active(id: str, value: object, state: str = "", after_s: float = 100.0, seen_s: float = 100.0) -> bool:
    """Whether the row is active, judged each 10 ms, the field at `value` since `seen_s`, the state entered `after_s` ago."""
    ledger, entered = Ledger(catalogue()), 7 * S
    now = entered + round(after_s * S)
    inputs = WELL._replace(**{ROWS[id][1]: value})
    for t in (now - round(seen_s * S), now):
        ledger.judge(t, State(state or STATES.get(id, ALL).split()[-1]), entered, False, inputs, set())
    return id in ledger.active


def test_every_row_is_the_tables():
    for row in catalogue():
        number, signal, _, action, clear = ROWS[row.id]
        assert (row.row, row.action.name, row.clear.name) == (number, action, clear), row.id
        shown_as = {"episode_fall": "episode_fall", "reset_failed": "reset_failed", "set_up": "reset_asks"}.get(row.id, signal)
        assert row.signal == shown_as, row.id
        assert {state.value for state in row.states} == set(STATES.get(row.id, ALL).split()), row.id
        times = (DEBOUNCE_S.get(row.id, 0), GRACE_S.get(row.id, 0), COOLDOWN_S.get(row.id, 0))
        assert (row.debounce_s, row.grace_s, row.cooldown_s) == times, row.id
        assert row.answer == {"reset_failed": "reset", "set_up": "run", "hand_gone": "run"}.get(row.id, ""), row.id
        budget = row.budget and (row.budget.name, row.budget.count, row.budget.seconds)
        assert budget == ((*BUDGET[row.id], 600.0) if row.id in BUDGET else None), row.id
    assert [row.id for row in catalogue()] == list(ROWS)


@pytest.mark.parametrize("id", SHOWN)
def test_a_row_shows_beyond_its_threshold_and_not_at_it(id):
    well, ill = ROWS[id][2]
    assert not active(id, well) and active(id, ill)
    if isinstance(well, float):
        assert active(id, math.nan) and not active(id, 0.0), "what nobody can tell is not healthy"


@pytest.mark.parametrize("id", SHOWN)
def test_a_row_counts_in_its_states_and_no_others(id):
    assert {state for state in ALL.split() if active(id, ROWS[id][2][1], state)} == set(STATES.get(id, ALL).split())


@pytest.mark.parametrize("id", SHOWN)
def test_a_row_waits_for_its_debounce_and_its_grace_and_no_longer(id):
    ill, debounce, grace = ROWS[id][2][1], DEBOUNCE_S.get(id, 0.0), GRACE_S.get(id, 0.0)
    assert active(id, ill, seen_s=debounce) and (not debounce or not active(id, ill, seen_s=debounce - 1e-6))
    assert active(id, ill, after_s=grace + debounce, seen_s=debounce)
    assert not grace or not active(id, ill, after_s=grace - 1e-6)


def test_arguments_move_their_rows_alone():
    def table(**options: float) -> dict[str, tuple[object, ...]]:
        rows = catalogue(**options)  # type: ignore[arg-type]
        return {row.id: (row.above, row.debounce_s, row.budget and row.budget.count) for row in rows}

    plain = table()
    moved = {
        "temp_c": (
            {"temp_c": 65.0},
            {"temp_warning": (55.0, 0, None), "temp_high": (60.0, 0, None), "temp_over": (65.0, 0, None)},
        ),
        "tilt": ({"tilt_rad": 0.7, "tilt_s": 0.25}, {"tilt": (0.7, 0.25, 5)}),
        "falls": (
            {"falls": 40},
            {
                "tilt": (0.52, 0.1, 40),
                "episode_fall": (0, 0, 40),
                "free_fall": (0.1, 0, 40),
                "stalled": (2.0, 0, 40),
            },
        ),
        "hiccups": (
            {"hiccups": 3},
            {
                "tracker_jump": (0, 0, 3),
                "camera_late": (0, 0, 3),
                "action_stale": (0.095, 0, 3),
                "guard_late": (0, 0, 3),
                "overrun": (2, 0, 3),
            },
        ),
    }
    for options, rows in moved.values():
        assert table(**options) == plain | rows


def test_what_nobody_fills_is_unhealthy():
    """Ages are those of what never came, measured values no numbers, counts and flags at rest: then a robot stays in CHECK."""
    for name, value in Inputs._field_defaults.items():
        if name.endswith("_age_s"):
            assert value == math.inf, name
        elif name in ("temp_c", "tilt_rad"):
            assert isinstance(value, float) and math.isnan(value), name
        else:
            assert value == {"commands": (), "check_note": "", "episode_ended": "", "reset_outcome": ""}.get(name, 0), name
    assert set(Inputs._fields) == set(Inputs._field_defaults)
    assert Inputs().checks_passed is False and Inputs().still is False and Inputs().torque_on is False


def test_names_and_order_of_what_a_row_may_say():
    assert [state.value for state in State] == ALL.split() == [state.name for state in State]
    order = ["NONE", "WARN", "HOLD", "STOPPING", "PSTOP", "RELAX", "LOCKOUT"]
    assert [(s.name, int(s)) for s in Severity] == [(name, k) for k, name in enumerate(order)]
    assert [rule.value for rule in Clear] == ["AUTO", "OPERATOR", "OPERATOR_COOLDOWN", "RESTART"]
    assert set(State) == EVERYWHERE and {s.value for s in POWERED} == set(ON.split())
    assert {s.value for s in MOVING} == {"RUN", "RESET"}


def test_a_row_that_is_changed_is_changed_alone():
    rows = catalogue()
    out = changed(rows, "tilt", above=1.0, debounce_s=2.0)
    assert [row.id for row in out] == [row.id for row in rows]
    differ = [(a, b) for a, b in zip(rows, out, strict=True) if a != b]
    assert [(b.id, b.above, b.debounce_s) for _, b in differ] == [("tilt", 1.0, 2.0)]


def test_an_arms_table_differs_where_something_may_be_caught_and_where_it_is_hot():
    before = {row.id: row for row in catalogue()}
    differ = {row.id: row for row in for_arms(catalogue()) if row != before[row.id]}
    assert set(differ) == {"stalled", "temp_high", "servo_frozen"}
    frozen = differ["servo_frozen"]
    assert frozen == replace(before["servo_frozen"], note=frozen.note) and "support the arm, press disable" in frozen.note
    stalled, hot = differ["stalled"], differ["temp_high"]
    assert (stalled.above, stalled.action, stalled.clear) == (0.5, Severity.PSTOP, Clear.OPERATOR)
    assert stalled.budget is None and stalled.grace_s == stalled.debounce_s == 0 and set(stalled.states) == set(POWERED)
    assert stalled.note.endswith("press disable"), "what lets go of a hand that is caught"
    assert hot == replace(before["temp_high"], action=Severity.RELAX)


def test_servos_without_a_watchdog_are_led_by_nobody_while_there_is_no_rescue():
    """Elsewhere that is a warning: their own watchdog would stop them."""
    before = {row.id: row for row in catalogue()}
    (row,) = (row for row in for_unwatched(catalogue()) if row != before[row.id])
    assert {state.value for state in row.states} == {"HOLD", "RUN", "RESET"}
    note = "no rescue: nothing would stop these servos, they have no watchdog"
    assert row == replace(before["rescue_gone"], action=Severity.HOLD, states=row.states, note=note)
