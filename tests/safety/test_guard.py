"""The guard against a model written from the safety facts alone: all states, keys, causes, and pairs of causes."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from robotrl.safety.causes import Clear, Command, Inputs, Severity, State, catalogue
from robotrl.safety.guard import AFTER_CAUSE, AFTER_COMMAND, Guard
from tests.safety.inputs import WELL

T = 20_000_000
ROWS = catalogue(falls=2, hiccups=2)
QUICK = tuple(replace(row, debounce_s=0.0, grace_s=0.0) for row in ROWS)  # a cause acts in the step that shows it


# id: how it shows, how severe it is, where it counts. Written from the catalogue, not from the table under test.
ALL = "BOOT CHECK READY HOLD RUN RESET STOPPING PSTOP RELAX LOCKOUT"
ON = "HOLD RUN RESET STOPPING PSTOP"
CAUSES: dict[str, tuple[dict[str, object], str, str]] = {
    "servo_lost": ({"missed_in_row": 3}, "PSTOP", ALL),
    "servo_flaky": ({"missed_share": 0.06}, "PSTOP", ALL),
    "servo_frozen": ({"same_in_row": 5}, "PSTOP", ALL),
    "wrong_mode": ({"wrong_mode": True}, "PSTOP", ON),
    "runaway": ({"runaway_s": 0.11}, "PSTOP", "HOLD RUN RESET"),
    "stalled": ({"stalled_s": 2.01}, "RELAX", "RUN"),
    "oscillation": ({"reversals": 9}, "HOLD", "RUN RESET"),
    "workspace": ({"outside_m": 0.021}, "PSTOP", ON),
    "free_fall": ({"weightless_s": 0.11}, "RELAX", "RUN"),
    "attitude": ({"attitude_gap_rad": 0.36}, "HOLD", "RUN"),
    "tracker_frozen": ({"pose_same_in_row": 3}, "HOLD", "RUN"),
    "tracker_jump": ({"pose_jump": True}, "HOLD", "RUN"),
    **{id: ({id: True}, "HOLD", "RUN") for id in ("camera_frozen", "camera_late", "camera_blind", "camera_gone")},
    "clamped": ({"clamped_share": 0.21}, "WARN", "RUN"),
    "bus_silent": ({"bus_missed_in_row": 3}, "PSTOP", ALL),
    "frame_errors": ({"frame_error_rate": 0.02}, "STOPPING", ALL),
    "temp_warning": ({"temp_c": 71.0}, "WARN", ALL),
    "temp_high": ({"temp_c": 76.0}, "STOPPING", ALL),
    "temp_over": ({"temp_c": 81.0}, "RELAX", ALL),
    "servo_fault": ({"servo_fault": True}, "PSTOP", ALL),
    "servo_timeout": ({"servo_timeout": True}, "PSTOP", ON),
    "let_go": ({"let_go": True}, "PSTOP", "HOLD RUN RESET STOPPING"),
    "port_lost": ({"port_lost": True}, "PSTOP", ALL),
    "imu_stale": ({"imu_age_s": 0.061}, "RELAX", ALL),
    "imu_frozen": ({"imu_same_in_row": 5}, "RELAX", ALL),
    "imu_implausible": ({"imu_implausible_in_row": 3}, "RELAX", ALL),
    "tracker_gone": ({"pose_age_s": 1.6}, "HOLD", "RUN"),
    "action_stale": ({"action_age_s": 0.1}, "HOLD", "RUN"),
    "reset_silent": ({"action_age_s": 0.6}, "HOLD", "RESET"),
    "tracker_dead": ({"tracker_dead": True}, "HOLD", "HOLD RUN"),
    "learner_gone": ({"learner_gone": True}, "WARN", ALL),
    "recorder_gone": ({"recorder_gone": True}, "HOLD", "HOLD RUN"),
    "disk_full": ({"unkept": True}, "HOLD", "HOLD RUN"),
    "rescue_gone": ({"rescue_gone": True}, "WARN", ALL),
    "policy_dead": ({"policy_dead": True}, "HOLD", "HOLD RUN"),
    "reset_dead": ({"reset_dead": True}, "HOLD", "HOLD RESET RELAX"),
    "driver_silent": ({"drive_age_s": 0.061}, "PSTOP", ALL),
    "console_silent": ({"console_age_s": 0.51}, "STOPPING", f"{ON} RELAX"),
    "console_dead": ({"console_dead": True}, "STOPPING", f"{ON} RELAX"),
    "manager_gone": ({"manager_gone": True}, "PSTOP", ALL),
    "manager_silent": ({"manager_silent": True}, "PSTOP", ALL),
    "run_over": ({"run_over": True}, "RELAX", ALL),
    "guard_late": ({"permit_lapsed": True}, "HOLD", "RUN RESET"),
    "overrun": ({"overruns_in_row": 3}, "HOLD", "RUN RESET"),
    "crash_loop": ({"crash_loop": True}, "PSTOP", ALL),
    "nan_action": ({"nan_action": True}, "STOPPING", "RUN RESET"),
    "tilt": ({"tilt_rad": 0.53}, "RELAX", "RUN"),
    "episode_fall": ({"episode_ended": "fall"}, "RELAX", "RUN"),
    "operator_absent": ({"human_age_s": 121.0}, "HOLD", "RUN RESET RELAX"),
    "hand_gone": ({"hand_gone": True}, "HOLD", "RUN"),
    "turned": ({"turned": True}, "HOLD", "RELAX"),
    "operator_stop": ({"commands": (Command("stop", "anyone"),)}, "PSTOP", ALL),
    "stop_unconfirmed": ({"stop_unconfirmed": True}, "LOCKOUT", ALL),
}
OWN = {"guard_restart", "session_over", "pstop_long", "reset_failed", "set_up"}  # each has its own test below
BY_BUDGET = {
    "tilt",
    "episode_fall",
    "free_fall",
    "stalled",
    "action_stale",
    "overrun",
    "guard_late",
    "tracker_jump",
    "camera_late",
}
AUTO = {"frame_errors", "tracker_gone", "action_stale", "reset_silent", "policy_dead", "reset_dead", "overrun"}
AUTO |= {"guard_late", "oscillation", "attitude", "tracker_frozen", "tracker_jump", "clamped"}
AUTO |= {"camera_frozen", "camera_late", "camera_blind", "camera_gone"}
AUTO |= {"tracker_dead", "operator_absent", "temp_warning", "learner_gone", "rescue_gone", "recorder_gone", "disk_full"}
ORDER = ["NONE", "WARN", "HOLD", "STOPPING", "PSTOP", "RELAX", "LOCKOUT"]


def model(state: str, severity: str) -> str:
    """Where the most severe cause leads: never to a lesser stop, never from no torque to torque."""
    if "LOCKOUT" in (state, severity):
        return "LOCKOUT"
    if state in ("BOOT", "CHECK"):
        return "CHECK"
    rank = ORDER.index(severity)
    if state == "READY":
        return "READY" if rank <= 1 else "CHECK" if rank <= 3 else "RELAX"
    standing = {"RUN": 1, "RESET": 1, "HOLD": 2, "STOPPING": 3, "PSTOP": 4, "RELAX": 5}[state]
    return state if rank <= standing else ORDER[rank]


class Bench:
    """A guard, its clock, and a node that persists epochs."""

    def __init__(self, rows=QUICK, **options):
        nonces = itertools.count(1000)
        self.guard = Guard(rows, lambda: next(nonces), **options)
        self.now, self.epoch, self.base = 10**12, 7, WELL
        self.out = None

    def step(self, n: int = 1, **changes):
        for _ in range(n):
            self.now += T
            before = self.guard.state
            self.out = self.guard.step(self.now, self.base._replace(epoch=self.epoch, **changes))
            self.epoch += self.out.next_epoch
            assert bool(self.out.trigger) is (self.out.state is not before)  # every change is explained, in its own step
        return self.out

    def key(self, name: str, role: str = "console", nonce: int | None = None, **changes):
        nonce = self.out.nonce if nonce is None else nonce
        return self.step(commands=(Command(name, role, nonce),), **changes)

    def state(self) -> str:
        return str(self.guard.state)


def at(state: str, rows=QUICK, **options) -> Bench:
    """A bench in a state, come there the way a run does."""
    bench = Bench(rows, **options)
    bench.out = None
    if state == "BOOT":
        return bench
    bench.step(checks_passed=False)
    if state != "CHECK":
        bench.step()
    if state == "RELAX":
        bench.key("stop")
    if state in ON:
        bench.key("enable")
    if state in ("RUN", "RESET"):
        bench.key({"RUN": "run", "RESET": "reset"}[state])
        bench.step(2)
    if state == "STOPPING":
        bench.base = bench.base._replace(frame_error_rate=0.02, still=False)  # a cause that clears by itself
        bench.step()
    if state == "PSTOP":
        bench.key("stop")
    if state == "LOCKOUT":
        bench.step(stop_unconfirmed=True)
    assert bench.state() == state
    return bench


def test_tables_cover_every_state_and_severity():
    assert set(AFTER_CAUSE) == set(State)
    for state, severity in itertools.product(State, Severity):
        expected = model(state, severity.name)
        if state is State.BOOT and expected == "CHECK":
            expected = "BOOT"  # it leaves by itself in the same step
        assert AFTER_CAUSE[state][severity] == expected


def test_model_knows_every_cause():
    assert {row.id for row in ROWS} == set(CAUSES) | OWN
    assert {row.id for row in ROWS if row.clear is Clear.AUTO} == AUTO | {"session_over"}
    for row in ROWS:
        if row.id in CAUSES:
            _, action, where = CAUSES[row.id]
            assert (row.action.name, set(row.states)) == (action, set(where.split())), row.id


@pytest.mark.parametrize("state", ALL.split())
def test_state_by_cause_and_by_pair_of_causes(state):
    """The most severe of those that count here wins, whatever the other is."""
    pairs = [(a,) for a in CAUSES] + list(itertools.combinations(CAUSES, 2))
    for ids in pairs:
        merged = [item for i in ids for item in CAUSES[i][0].items()]
        if len({k for k, _ in merged}) < len(merged):
            continue  # both show in one field: a joint cannot have two temperatures
        changes = dict(merged)
        bench = at(state)
        shows = [i for i in ids if state in CAUSES[i][2].split()]
        if "action_age_s" in changes and state == "RUN" and "reset_silent" in ids:
            shows.append("action_stale")
        if changes.get("temp_c", 0) == 81.0 or changes.get("temp_c", 0) == 76.0:
            shows += ["temp_warning"]
        before = {"STOPPING": "STOPPING", "PSTOP": "PSTOP", "RELAX": "PSTOP"}.get(state, "NONE")
        worst = max([before, *(CAUSES[i][1] for i in shows)], key=ORDER.index)
        expected = model(state, worst)
        if state == "CHECK" and ORDER.index(worst) <= 1:
            expected = "READY"
        if state == "RUN" and expected == "RUN" and changes.get("episode_ended"):
            expected = "RESET"
        bench.step(**changes)
        assert bench.state() == expected, (state, ids)


@pytest.mark.parametrize(
    "id", [i for i, (_, a, where) in CAUSES.items() if "RUN" in where.split() and a not in ("WARN", "LOCKOUT")]
)
def test_a_cause_ends_the_session_unless_its_budget_forgives_it(id):
    """From RUN: no way back to motion without `run`, but for what the budget forgives, and that only so often."""
    changes, action, _ = CAUSES[id]
    bench = at("RUN", damp_s=0.1)
    for visit in range(4):
        bench.step(**changes)
        bench.step(100)
        forgiven = id in BY_BUDGET and visit < 2
        assert (bench.state() == "RESET") is forgiven, (id, visit)
        assert bench.out.session is forgiven
        if not forgiven:
            assert (
                bench.state()
                == {"HOLD": "HOLD", "STOPPING": "PSTOP", "PSTOP": "PSTOP", "RELAX": "RELAX"}[
                    "HOLD" if id == "frame_errors" else action
                ]
            )
            return
        bench.step(reset_outcome="running")
        bench.step(reset_outcome="done")
        bench.step(2)
        assert bench.state() == "RUN"
    raise AssertionError("the budget never ran out")


# from the state table: who leaves by which key, and where to (healthy, still, nothing fresh latched)
KEYS = {
    ("CHECK", "clear"): "CHECK",
    ("CHECK", "disable"): "CHECK",
    ("READY", "disable"): "READY",
    ("READY", "enable"): "HOLD",
    ("HOLD", "run"): "RUN",
    ("HOLD", "reset"): "RESET",
    ("HOLD", "disable"): "READY",
    ("HOLD", "clear"): "HOLD",
    ("HOLD", "pause"): "HOLD",  # a session that would go on by itself: no row of the facts
    ("RELAX", "pause"): "RELAX",
    ("RUN", "pause"): "HOLD",
    ("RESET", "pause"): "HOLD",
    ("PSTOP", "clear"): "HOLD",
    ("PSTOP", "disable"): "RELAX",
    ("RELAX", "clear"): "READY",
    ("RELAX", "disable"): "RELAX",
}
STOPS = {"READY": "RELAX", "HOLD": "PSTOP", "RUN": "PSTOP", "RESET": "PSTOP", "STOPPING": "PSTOP"}


@pytest.mark.parametrize("state", ALL.split()[1:])
@pytest.mark.parametrize("command", ["enable", "run", "pause", "stop", "clear", "reset", "disable", "beat", ""])
@pytest.mark.parametrize("role", ["console", "policy", "learner", ""])
def test_state_by_command_by_role(state, command, role):
    bench = at(state)
    calm = {"checks_passed": False} if state == "CHECK" else {}
    bench.step(60, **calm)
    bench.key(command, role, **calm)
    expected = STOPS.get(state, state) if command == "stop" else state
    if role == "console":
        expected = KEYS.get((state, command), expected)
    assert bench.state() == expected
    assert bool(bench.out.refused) is (command != "stop" and (role != "console" or (state, command) not in KEYS))
    assert {(str(s), c): str(t) for (s, c), t in AFTER_COMMAND.items()} == KEYS


@pytest.mark.parametrize("command", ["enable", "run", "reset", "clear", "disable"])
def test_nonce_must_be_known_fresh_and_unused(command):
    state = next(s for (s, c), to in KEYS.items() if c == command and s != "CHECK" and to != s)
    for nonce, wait in ((None, 250), (0, 60), (31337, 60)):
        bench = at(state)
        bench.step(60)
        shown = bench.out.nonce if nonce is None else nonce
        bench.step(wait)
        bench.key(command, nonce=shown)
        assert bench.state() == state and "press again" in bench.out.refused[0]
    bench = at("PSTOP")
    bench.step(60)
    used = bench.out.nonce
    assert bench.key("clear", nonce=used).state == "HOLD"
    assert "press again" in bench.key("run", nonce=used).refused[0]
    assert bench.out.nonce != used and bench.key("run").state == "RUN"


def test_nonce_is_good_for_just_under_5_s():
    bench = at("PSTOP")
    bench.step(60)
    first = bench.out.nonce
    while bench.out.nonce == first:
        bench.step()
    shown = bench.out.nonce  # made in this step
    bench.step(248)
    assert bench.key("clear", nonce=shown).state == "HOLD"


@pytest.mark.parametrize("id", sorted(set(CAUSES) - AUTO - {"stop_unconfirmed", "hand_gone"}))
def test_clear_waits_for_cause_gone_cooldown_and_stillness(id):
    changes, _, where = CAUSES[id]
    bench = at(next(state for state in ("RUN", "HOLD", "RELAX") if state in where.split()), catalogue(falls=0), damp_s=0.0)
    bench.step(110)  # longer than any grace
    bench.step(30, **changes)  # longer than any debounce
    assert bench.out.last_cause == id and bench.state() in ("PSTOP", "RELAX")
    if {"PSTOP", "RELAX"} & set(where.split()):
        bench.key("clear", **(changes if id != "operator_stop" else {}))
        assert bench.out.refused and bench.state() in ("PSTOP", "RELAX")
    wait = {"temp_over": 60, "temp_high": 30}.get(id, 1)
    bench.key("clear")
    bench.step(20)
    bench.key("clear")
    assert bench.out.refused == () if bench.state() == "READY" else True
    bench.step(50 * wait)
    if bench.state() in ("PSTOP", "RELAX"):
        before = bench.state()
        bench.key("clear", still=False)
        assert bench.out.refused == ("clear: the robot still moves",)
        bench.key("clear")
        assert bench.state() == {"PSTOP": "HOLD", "RELAX": "READY"}[before]
    assert not bench.out.session and not bench.guard.ledger.latched
    assert bench.step(200).state in ("HOLD", "READY")  # it permits, and starts nothing


@pytest.mark.parametrize("gone_steps", [48, 52])
def test_clear_needs_the_cause_gone_for_1_s(gone_steps):
    bench = at("HOLD")
    bench.step(port_lost=True)
    bench.step(gone_steps)
    assert (bench.key("clear").state == "HOLD") is (gone_steps > 50)


def test_debounce_and_its_reset():
    bench = at("RUN", ROWS)
    for _ in range(5):
        bench.step(5, tilt_rad=0.6)
        bench.step()
    assert bench.state() == "RUN"
    bench.step(6, tilt_rad=0.6)
    assert bench.state() == "RELAX"


def test_a_value_that_is_not_a_number_is_not_healthy():
    nan = float("nan")
    assert at("HOLD").step(temp_c=nan).state == "RELAX"
    assert at("RUN").step(tilt_rad=nan).state == "RELAX"
    assert Bench().step().state == "CHECK"
    bench = Bench()
    bench.base = Inputs(checks_passed=True)
    assert bench.step(50).state == "CHECK"


def test_check_names_what_fails_and_ready_falls_back():
    bench = at("CHECK")
    assert bench.step(checks_passed=False, check_note="servo 3 is missing").note == "servo 3 is missing"
    assert bench.step(imu_age_s=1.0).state == "CHECK" and "imu_stale" in bench.out.causes
    assert bench.step().state == "READY" and not bench.guard.ledger.latched
    assert bench.step(checks_passed=False).state == "CHECK"


def test_start_is_refused_while_anything_stands():
    bench = at("HOLD")
    bench.base = bench.base._replace(frame_error_rate=0.02)
    bench.step(2)
    bench.base = bench.base._replace(frame_error_rate=0.0)
    bench.step()
    assert bench.state() == "HOLD"
    bench = at("RESET")
    bench.step(reset_outcome="running")
    bench.step(reset_outcome="failed")
    assert bench.key("run").refused[0].startswith("run: reset_failed stands")


def test_a_reset_that_asks_for_things_is_answered_by_run_and_by_no_other_start():
    bench = at("RUN")
    bench.step(episode_ended="time", reset_outcome="asks")
    assert bench.step(2, reset_outcome="asks").state == "RESET", "of the reset before: it ends nothing"
    bench.step(3, reset_outcome="running")
    assert bench.step(reset_outcome="asks").state == "HOLD" and bench.out.causes == ("set_up",) and not bench.out.session
    bench.step(100)
    assert bench.out.state == "HOLD" and bench.out.torque and not bench.out.holder, "it waits, and nobody moves it"
    assert bench.key("reset").refused[0].startswith("reset: set_up stands: put the task's things")
    assert bench.key("run", role="viewer").refused and bench.key("run", nonce=1).refused
    assert bench.key("run").state == "RUN" and bench.out.session and not bench.out.causes
    assert bench.step().holder == "policy"


def test_a_hand_that_is_gone_is_answered_by_run_or_cleared_and_nothing_goes_on_by_itself():
    bench = at("RUN")
    assert bench.step(hand_gone=True).state == "HOLD" and bench.out.causes == ("hand_gone",) and not bench.out.session
    assert bench.step(500).state == "HOLD" and bench.out.causes == ("hand_gone",) and not bench.out.holder
    assert bench.key("reset").refused[0].startswith("reset: hand_gone stands")
    assert bench.key("run", role="viewer").refused and bench.key("run", nonce=1).refused
    assert bench.key("run").state == "RUN" and bench.out.session and not bench.out.causes
    bench.step(2)
    assert bench.step(hand_gone=True).state == "HOLD" and bench.key("clear").refused, "not in its first second"
    bench.step(60)
    assert bench.key("clear").state == "HOLD" and not bench.out.causes and bench.key("reset").state == "RESET"


def test_episodes_and_resets_follow_each_other_each_under_its_own_epoch():
    bench = at("RUN")
    epochs = [bench.out.epoch]
    for _ in range(5):
        assert bench.step(episode_ended="time", reset_outcome="done").state == "RESET"
        assert bench.out.holder == "" and bench.out.next_epoch
        bench.step(5, reset_outcome="done")  # of the reset before: it ends nothing
        assert (bench.out.state, bench.out.holder) == ("RESET", "reset")
        epochs.append(bench.out.epoch)
        bench.step(3, reset_outcome="running")
        assert bench.step(reset_outcome="done").state == "RUN"
        assert bench.step().holder == "policy"
        epochs.append(bench.out.epoch)
    assert epochs == sorted(set(epochs)) and len(epochs) == 11


def test_no_lease_before_the_epoch_is_persisted():
    bench = at("HOLD")
    bench.key("run")
    stuck = bench.epoch - 1
    for _ in range(10):
        bench.epoch = stuck
        assert bench.step().holder == "" and bench.out.next_epoch
    bench.epoch = stuck + 1
    assert bench.step().holder == "policy" and bench.out.epoch == stuck + 1 and not bench.out.next_epoch


def test_reset_by_key_ends_in_hold_without_a_session():
    bench = at("RESET")
    bench.step(reset_outcome="running")
    assert bench.step(reset_outcome="done").state == "HOLD" and not bench.out.session


def test_failed_reset_asks_the_operator_and_his_answer_starts_it_again():
    bench = at("RUN")
    bench.step(episode_ended="time", reset_outcome="failed")
    bench.step(5, reset_outcome="failed")  # of an older reset
    assert bench.state() == "RESET"
    bench.step(reset_outcome="running")
    bench.step(reset_outcome="failed")
    assert (bench.state(), bench.out.session) == ("HOLD", False) and "press reset" in bench.out.note
    bench.step(100, reset_outcome="failed")
    assert bench.state() == "HOLD"
    assert bench.key("reset", reset_outcome="failed").state == "RESET"
    bench.step(2, reset_outcome="failed")
    bench.step(reset_outcome="running")
    assert bench.step(reset_outcome="done").state == "HOLD" and bench.out.causes == ()
    assert bench.key("run").state == "RUN"


def test_failed_reset_and_disable_is_not_a_trap():
    bench = at("RESET")
    bench.step(reset_outcome="running")
    bench.step(reset_outcome="failed")
    bench.step(60)
    bench.key("disable")
    bench.step(5)
    assert bench.state() == "CHECK" and "press clear" in bench.out.note
    bench.key("clear")
    assert bench.step(2).state == "READY"


def test_fall_is_damped_then_off_then_reset():
    bench = at("RUN", damp_s=1.0)
    stages = []
    bench.step(tilt_rad=1.2)
    while bench.state() == "RELAX" and len(stages) < 200:
        stages.append(bench.out.stop)
        assert not bench.out.torque and bench.out.holder == ""
        bench.step(tilt_rad=1.2)
    assert bench.state() == "RESET"
    assert stages.count("damp") == 50 and stages[-1] == "off"


def test_relax_waits_until_the_robot_lies_still():
    bench = at("RUN", damp_s=0.1)
    bench.step(tilt_rad=1.2)
    assert bench.step(100, still=False).state == "RELAX"
    assert bench.step().state == "RESET"


def test_stopping_takes_at_most_300_ms_and_waits_for_what_clears_itself():
    bench = at("RUN")
    bench.step(nan_action=True, still=False)
    steps = 0
    while bench.state() == "STOPPING" and steps < 100:
        bench.step(still=False)
        steps += 1
    assert bench.state() == "PSTOP" and steps == 15
    bench = at("HOLD")
    assert bench.step(100, frame_error_rate=0.02).state == "STOPPING"
    assert bench.step(2).state == "HOLD"


def test_pstop_gives_way_to_relax_after_10_minutes_or_heat():
    bench = at("PSTOP")
    bench.step()
    bench.now += 600 * 10**9
    assert bench.step().state == "RELAX" and bench.out.last_cause == "pstop_long"
    assert at("PSTOP").step(temp_c=81.0).state == "RELAX"


def test_session_ends_after_4_hours():
    bench = at("RUN")
    bench.now += 4 * 3600 * 10**9
    assert bench.step().state == "HOLD" and not bench.out.session
    bench.step(100)
    assert bench.state() == "HOLD"


@pytest.mark.parametrize(("torque_on", "cleared"), [(True, "HOLD"), (False, "READY")])
def test_restart_lands_in_pstop_and_energises_nothing(torque_on, cleared):
    bench = Bench(restarted=True)
    bench.step(torque_on=torque_on)
    assert bench.state() == "PSTOP" and bench.out.torque is torque_on
    assert bench.out.causes == ("guard_restart",) and not bench.out.session
    bench.step(100)
    assert bench.state() == "PSTOP" and bench.out.torque is torque_on
    assert bench.key("clear").state == cleared


def test_pstop_lets_go_of_torque_that_the_driver_has_not():
    """A driver that was started again, or whose port came back, keeps torque off: `clear` then leads to READY."""
    bench = at("PSTOP")
    assert bench.step(9, torque_on=False).torque
    bench.step(2, torque_on=False)
    assert bench.state() == "PSTOP" and not bench.out.torque
    bench.step(60)
    assert not bench.out.torque and bench.key("clear").state == "READY"


def test_two_commands_in_one_step_need_a_nonce_each():
    bench = at("PSTOP")
    bench.step(60)
    nonce = bench.out.nonce
    bench.step(commands=(Command("clear", "console", nonce), Command("run", "console", nonce)))
    assert bench.state() == "HOLD" and not bench.out.session


def test_random_walks_never_run_without_a_session_opened_after_the_last_latch():
    """What the history must show, whatever happens: the session rule, one epoch a lease, LOCKOUT for ever."""
    names = sorted({c for _, c in KEYS} | {"stop"})
    visited: set[str] = set()
    for seed in range(16):
        rng = random.Random(seed)
        bench, last_latch, last_run, leases, locked = Bench(damp_s=0.1), -1, -1, [], False
        bench.step()
        for k in range(300):
            changes: dict[str, object] = {"reset_outcome": rng.choice(["", "running", "running", "done", "failed"])}
            if rng.random() < 0.04:
                changes |= rng.choice([c for c, a, _ in CAUSES.values() if a != "LOCKOUT"])
            if rng.random() < 0.05:
                changes["episode_ended"] = "time"
            changes["stop_unconfirmed"] = rng.random() < 0.002
            pressed = rng.choice(names[:-1]) if rng.random() < 0.5 else ""
            role = "console" if rng.random() < 0.9 else "policy"
            if pressed and "commands" not in changes:
                changes["commands"] = (Command(pressed, role, bench.out.nonce),)
            was = bench.out
            if rng.random() < 0.3:
                bench.step(rng.randrange(80))
            out = bench.step(**changes)
            visited.add(str(out.state))
            if pressed == "run" and role == "console" and out.state == "RUN" and was.state != "RUN":
                last_run = k
            if bench.guard.ledger.latched:
                last_latch = k
            if out.state == "RUN":
                assert out.session and last_run > last_latch
            assert not locked or out.state == "LOCKOUT"
            locked = out.state == "LOCKOUT"
            assert not out.torque or str(out.state) in ON.split()
            assert out.holder in {"RUN": ("", "policy"), "RESET": ("", "reset")}.get(str(out.state), ("",))
            if out.holder and (not leases or leases[-1] != (out.epoch, out.holder)):
                assert not leases or out.epoch > leases[-1][0]
                leases.append((out.epoch, out.holder))
    assert visited == set(ALL.split()) - {"BOOT"}


@pytest.mark.parametrize("state", ["RUN", "RESET", "HOLD"])
def test_pause_clear_and_disable_end_the_session(state):
    """What the operator stopped does not go on by itself, however well all is."""
    bench = at("RUN")
    if state == "RESET":
        bench.step(episode_ended="time")
    if state == "HOLD":
        bench.step(overruns_in_row=3)  # forgiven: without a key it would go on
        assert bench.state() == "HOLD" and bench.out.session
    bench.key("clear" if state == "HOLD" else "pause")
    assert bench.state() == "HOLD" and not bench.out.session
    assert bench.step(200).state == "HOLD"
    assert bench.key("disable").state == "READY" and bench.step(200).state == "READY"


@pytest.mark.parametrize(("cause", "state"), [({"tilt_rad": 0.53}, "RELAX"), ({"overruns_in_row": 3}, "HOLD")])
def test_pause_ends_a_session_that_would_go_on_by_itself(cause, state):
    """Who reaches for a robot that has just fallen presses it while it is still limp."""
    bench = at("RUN")
    bench.step(**cause)
    assert bench.state() == state and bench.out.session
    assert bench.step().note == "" and bench.state() == state, "nobody need press anything"
    bench.key("pause")
    assert bench.state() == state and not bench.out.session and not bench.out.refused
    assert bench.step(200).state == state and bench.out.torque is (state == "HOLD")
    assert bench.out.note == ("press clear" if state == "RELAX" else "")
    assert bench.key("clear").state == ("READY" if state == "RELAX" else "HOLD")


@pytest.mark.parametrize("id", ["console_silent", "console_dead", "operator_absent", "reset_dead"])
def test_no_session_puts_torque_on_again_with_nobody_there(id):
    bench = at("RUN")
    bench.step(tilt_rad=0.53)
    assert bench.state() == "RELAX" and bench.out.session
    bench.step(200, **CAUSES[id][0])
    assert bench.state() == "RELAX" and not bench.out.torque and not bench.out.session and id in bench.out.causes


@pytest.mark.parametrize(("id", "wait"), [("temp_high", 30), ("temp_over", 60)])
def test_clear_waits_for_the_cooldown(id, wait):
    bench = at("HOLD")
    bench.step(20, **CAUSES[id][0])
    assert "still there" in bench.key("clear", **CAUSES[id][0]).refused[0]
    bench.step(50 * (wait - 1))
    assert f"gone for {wait} s" in bench.key("clear").refused[0]
    bench.step(60)
    assert bench.key("clear").refused == ()


def test_grace_lets_the_policy_begin_but_not_stay_silent():
    bench = at("HOLD", ROWS)
    bench.key("run", action_age_s=60.0)
    assert bench.step(20, action_age_s=60.0).state == "RUN"
    assert bench.step(10, action_age_s=60.0).state == "HOLD"


def test_nonce_is_too_old_after_a_gap_without_steps():
    bench = at("PSTOP")
    bench.step(60)
    bench.now += 5 * 10**9
    assert "press again" in bench.key("clear").refused[0] and bench.state() == "PSTOP"


def test_a_state_is_explained_by_what_led_to_it_and_not_by_an_older_cause():
    bench = at("PSTOP")
    assert bench.out.trigger == "operator_stop (console)"
    bench.step(60)
    told = [bench.key("clear").trigger, bench.key("run").trigger]
    bench.step(2)
    told.append(bench.step(episode_ended="time").trigger)
    bench.step(2, reset_outcome="running")
    told.append(bench.step(reset_outcome="done").trigger)
    bench.step(2)
    told.append(bench.step(tilt_rad=0.6).trigger)
    assert told == ["key clear (console)", "key run (console)", "episode ended: time", "reset done", "tilt"]
    bench.step(60)
    assert bench.state() == "RESET", "the budget forgave it"
    assert bench.step(commands=(Command("stop", "tablet", 0),)).trigger == "operator_stop (tablet)"


def test_of_two_causes_alike_the_one_that_came_last_moved_the_state():
    bench = at("HOLD")
    bench.step(60, learner_gone=True)
    assert bench.step(bus_missed_in_row=3, learner_gone=True).trigger == "bus_silent"
    bench = at("HOLD")
    bench.step(60, temp_c=76.0, still=False)  # STOPPING, latched
    assert bench.step(temp_c=81.0, console_age_s=1.0).trigger == "temp_over"


def test_what_is_not_there_yet_at_the_start_is_no_last_cause():
    bench = Bench()
    bench.step(20, drive_age_s=1.0, imu_age_s=1.0, checks_passed=False)
    assert bench.out.causes and bench.out.last_cause == ""
    bench.step(2)
    assert bench.state() == "READY" and bench.out.last_cause == ""
