"""The guard to the nanosecond and to the last field of what it says: times, powers, notes, leases."""

from __future__ import annotations

import itertools
import math

import pytest

from robotrl.safety.causes import Command, State, catalogue
from robotrl.safety.guard import Guard, Outputs
from tests.safety.inputs import WELL

S = 10**9
MS = 10**6


class Desk:
    """A guard, a person who answers the nonce that is shown, a node that persists epochs; time is what the test says."""

    def __init__(self, **options: object) -> None:
        nonces = itertools.count(100)
        self.guard = Guard(catalogue(falls=2), lambda: next(nonces), **options)  # type: ignore[arg-type]
        self.now, self.epoch, self.out = 1000 * S, 7, None

    def at(self, now: int, *commands: Command, **shown: object) -> Outputs:
        self.now = now
        self.out = self.guard.step(now, WELL._replace(epoch=self.epoch, commands=commands, **shown))
        return self.out

    def after(self, ns: int, **shown: object) -> Outputs:
        return self.at(self.now + ns, **shown)

    def passes(self, ns: int, **shown: object) -> Outputs:
        """So long, by steps of 20 ms and what is left."""
        for step in [20 * MS] * (ns // (20 * MS)) + [ns % (20 * MS)] * (ns % (20 * MS) > 0):
            self.after(step, **shown)
        return self.out

    def press(self, *names: str, ns: int = MS, **shown: object) -> Outputs:
        """Keys, one a step, each in answer to what is shown."""
        for name in names:
            self.at(self.now + ns, Command(name, "console", self.out.nonce), **shown)
        return self.out

    def lease(self) -> Outputs:
        self.epoch += 1
        return self.after(MS)

    def to(self, state: str) -> Desk:
        self.after(MS)
        if state == "CHECK":
            return self
        self.after(MS)
        keys = {
            "HOLD": ["enable"],
            "RUN": ["enable", "run"],
            "RESET": ["enable", "reset"],
            "PSTOP": ["enable", "stop"],
            "RELAX": ["stop"],
        }
        self.press(*keys.get(state, ()))
        if state in ("RUN", "RESET"):
            self.lease()
        if state == "STOPPING":
            self.press("enable")
            self.after(MS, nan_action=True, console_dead=True, still=False)
        if state == "LOCKOUT":
            self.after(MS, stop_unconfirmed=True)
        assert self.out.state == state
        return self


# what each state permits: torque, holder of the lease, part of the speed, stop profile's stage
PERMITS = {
    "CHECK": (False, "", 1.0, "off"),
    "READY": (False, "", 1.0, "off"),
    "HOLD": (True, "", 1.0, ""),
    "RUN": (True, "policy", 1.0, ""),
    "RESET": (True, "reset", 0.5, ""),
    "STOPPING": (True, "", 0.5, ""),
    "PSTOP": (True, "", 0.5, ""),
    "RELAX": (False, "", 1.0, "off"),
    "LOCKOUT": (False, "", 1.0, "off"),
}


@pytest.mark.parametrize("state", PERMITS)
def test_what_a_state_permits(state):
    out = Desk().to(state).out
    assert (out.torque, out.holder, out.speed_scale, out.stop) == PERMITS[state]
    assert out.session is (state == "RUN")


@pytest.mark.parametrize("state", ["HOLD", "STOPPING", "PSTOP"])
def test_nobody_is_granted_a_lease_in_a_state_that_has_no_holder(state):
    desk = Desk().to(state)
    desk.epoch += 1
    out = desk.after(MS, still=False)
    assert (out.state, out.epoch, out.holder, out.next_epoch) == (state, 7, "", False)


def test_a_guard_that_has_not_stepped_permits_nothing():
    guard = Desk().guard
    assert (guard.state, guard.session) == (State.BOOT, False)
    out = guard.step(0, WELL._replace(epoch=3))
    assert (out.state, out.torque, out.holder, out.stop, out.session, out.next_epoch) == ("CHECK", False, "", "off", False, False)
    assert (out.epoch, out.causes, out.last_cause, out.refused, out.trigger) == (3, (), "", (), "started")


# times


def test_stopping_is_over_after_300_ms_moving_or_not():
    desk = Desk().to("STOPPING")
    assert desk.after(300 * MS - 1, still=False).state == "STOPPING"
    assert desk.after(1, still=False).state == "PSTOP"
    desk = Desk().to("STOPPING")
    assert desk.after(1).state == "PSTOP", "at rest it is over at once"


def test_stopping_waits_for_a_cause_that_clears_itself():
    desk = Desk().to("HOLD")
    desk.after(0, frame_error_rate=1.0)
    assert desk.after(S, frame_error_rate=1.0).state == "STOPPING"
    assert desk.after(S, frame_error_rate=1.0).state == "STOPPING"
    assert desk.after(1, overruns_in_row=9).state == "HOLD"


def test_a_stop_that_found_an_older_latch_is_latched_too():
    desk = Desk().to("RESET")
    desk.after(MS, reset_outcome="running")
    assert desk.after(MS, reset_outcome="failed").state == "HOLD"
    assert desk.after(MS, console_dead=True).state == "STOPPING"
    assert desk.after(MS).state == "PSTOP"


def test_a_lesser_latch_does_not_make_a_stop_that_clears_itself_one():
    desk = Desk().to("RESET")
    desk.after(MS, reset_outcome="running")
    desk.after(MS, reset_outcome="failed", frame_error_rate=1.0)
    assert desk.after(S, frame_error_rate=1.0).state == "STOPPING"
    assert desk.after(MS).state == "HOLD"


@pytest.mark.parametrize(("age", "good"), [(5 * S - 1, True), (5 * S, False)])
def test_a_nonce_is_good_for_5_s(age, good):
    desk = Desk().to("HOLD")
    desk.after(10 * S)
    nonce = desk.out.nonce
    out = desk.at(desk.now + age, Command("disable", "console", nonce))
    assert (out.state == "READY") is good
    assert out.refused == (() if good else ("disable: not in answer to what the console shows now: press again",))


def test_a_new_nonce_is_shown_each_second_and_after_use():
    desk = Desk().to("HOLD")
    first = desk.after(10 * S).nonce
    assert desk.after(S - 1).nonce == first
    second = desk.after(1).nonce
    assert second != first and desk.after(S - 1).nonce == second
    desk.at(desk.now, Command("clear", "console", first))
    assert desk.out.refused == () and desk.out.nonce == second, "the newest goes on being shown"
    desk.at(desk.now, Command("clear", "console", second))
    assert desk.out.refused == () and desk.out.nonce not in (first, second)


def test_pause_needs_no_nonce():
    desk = Desk().to("RUN")
    assert desk.after(MS).state == "RUN"
    assert desk.at(desk.now + 1, Command("pause", "console", 0)).state == "HOLD" and not desk.out.refused
    desk = Desk().to("RUN")
    assert desk.at(desk.now + 1, Command("pause", "policy", 0)).refused == ("pause: only the console may",)
    assert desk.out.state == "RUN"


def test_pstop_relaxes_after_10_minutes():
    desk = Desk().to("PSTOP")
    assert desk.after(600 * S).state == "PSTOP"
    assert desk.after(1).state == "RELAX" and desk.out.trigger == desk.out.last_cause == "pstop_long"


def test_a_session_lasts_4_hours():
    desk = Desk().to("RUN")
    opened = desk.now - MS  # the lease came a step later
    assert desk.at(opened + 4 * 3600 * S).state == "RUN"
    assert desk.at(opened + 4 * 3600 * S + 1).state == "HOLD" and desk.out.last_cause == "session_over"


def test_pstop_gives_up_torque_that_is_off_for_more_than_200_ms():
    desk = Desk().to("PSTOP")
    assert desk.after(200 * MS, torque_on=False).torque
    out = desk.after(1, torque_on=False)
    assert (out.state, out.torque, out.stop) == ("PSTOP", False, "damp")
    assert desk.after(2 * S).stop == "off" and not desk.out.torque
    assert desk.press("clear").state == "READY"
    assert desk.press("enable").torque, "what was given up is forgotten with the state"


@pytest.mark.parametrize(("options", "damp"), [({}, S), ({"damp_s": 0.25}, S // 4), ({"damp_s": 0.0}, 0)])
def test_the_stop_profile_damps_and_then_lets_go(options, damp):
    desk = Desk(**options).to("HOLD")
    desk.after(MS, run_over=True)
    assert desk.out.stop == ("damp" if damp else "off") and not desk.out.torque
    if damp:
        assert desk.after(damp - 1).stop == "damp"
        assert desk.after(1).stop == "off"


def test_lockout_lets_go_at_once():
    assert Desk().to("HOLD").after(MS, stop_unconfirmed=True).stop == "off"


def test_a_session_goes_on_200_ms_after_what_its_budget_forgave():
    desk = Desk().to("RUN")
    desk.after(S, action_age_s=1.0)
    assert (desk.out.state, desk.out.session) == ("HOLD", True)
    assert desk.after(200 * MS - 1).state == "HOLD"
    assert desk.after(1, still=False).state == "HOLD"
    assert desk.after(1).state == "RESET"


def test_a_fall_is_let_down_before_the_session_goes_on():
    desk = Desk(damp_s=1.0).to("RUN")
    assert desk.after(MS, episode_ended="fall").state == "RELAX" and desk.out.session
    assert desk.after(S - 1).stop == "damp" and desk.after(1).stop == "off" and desk.out.state == "RELAX"
    assert desk.after(1).state == "RESET"


def test_run_begins_the_budget_anew():
    desk = Desk(damp_s=0.0).to("RUN")
    for _ in range(2):
        for k in range(2):
            desk.after(MS, episode_ended="fall")
            assert desk.out.session, k
            desk.after(S)
            assert desk.after(S).state == "RESET"
            desk.lease()
            desk.after(MS, reset_outcome="running")
            assert desk.after(MS, reset_outcome="done").state == "RUN"
            desk.lease()
        desk.press("pause", "run")
        desk.lease()
    assert desk.after(MS, episode_ended="fall").session


# keys


def test_nothing_is_started_while_more_than_a_warning_stands():
    desk = Desk().to("HOLD")
    assert desk.press("run", policy_dead=True).refused == ("run: policy_dead stands: the policy died",)
    assert desk.press("reset", reset_dead=True).refused == ("reset: reset_dead stands: the reset script died",)
    assert desk.out.state == "HOLD" and not desk.out.session
    assert desk.press("run", learner_gone=True).state == "RUN"


def test_a_reset_that_fails_now_is_not_settled_by_a_key_of_the_same_moment():
    desk = Desk().to("RESET")
    desk.after(MS, reset_outcome="running")
    out = desk.press("reset", reset_outcome="failed")
    assert (out.state, len(out.refused)) == ("HOLD", 1) and out.refused[0].startswith("reset: reset_failed stands")
    assert desk.press("run").refused and desk.press("reset").state == "RESET" and desk.out.causes == ()


def test_reset_settles_the_failed_reset_and_nothing_else():
    desk = Desk().to("RESET")
    desk.after(MS, reset_outcome="running")
    desk.after(MS, reset_outcome="failed")
    desk.after(MS, console_dead=True)
    desk.after(2 * S)
    assert desk.out.state == "PSTOP" and set(desk.out.causes) == {"console_dead", "reset_failed"}
    assert desk.press("clear").causes == () and desk.out.state == "HOLD"


def test_several_keys_are_obeyed_or_refused_each():
    desk = Desk().to("HOLD")
    a = desk.after(10 * S).nonce
    b = desk.after(S).nonce
    out = desk.at(desk.now, Command("beat", "console", 0), Command("disable", "console", a), Command("enable", "console", b))
    assert out.refused == ("beat: nothing to do in HOLD",) and out.state == "HOLD" and out.note == out.refused[0]


def test_a_stop_is_explained_by_who_pressed_it():
    desk = Desk().to("HOLD")
    out = desk.at(desk.now + 1, Command("clear", "console", 0), Command("stop", "a", 0), Command("stop", "b", 0))
    assert out.trigger == "operator_stop (a)" and out.refused[0].startswith("clear: ")
    assert Desk().to("HOLD").after(MS, port_lost=True).trigger == "port_lost"
    desk = Desk().to("HOLD")
    assert desk.at(desk.now + 1, Command("stop", "a", 0), run_over=True).trigger == "run_over", "the worse one moved it"


# notes


def test_notes_tell_what_to_do_when_it_can_be_done():
    desk = Desk().to("PSTOP")
    assert desk.after(MS).note == "stopped by the operator"
    assert desk.after(S).note == "stopped by the operator; press clear"
    assert desk.press("clear").note == "" and desk.after(S, check_note="servo 3").note == ""
    assert desk.after(MS, learner_gone=True).note == "the learner is gone"
    desk.after(MS, port_lost=True, learner_gone=True)
    assert desk.out.note == "the servo port is gone: plug it in again", "of the worst one"
    desk = Desk()
    assert desk.after(MS, checks_passed=False, check_note="servo 3").note == "servo 3"
    assert desk.after(MS, checks_passed=False).note == ""
    assert desk.after(MS).trigger == "checks passed" and desk.out.note == ""
    assert desk.after(MS, checks_passed=False).trigger == "checks no longer pass" and desk.out.state == "CHECK"
    desk.after(MS)
    assert desk.after(MS, checks_passed=False, check_note="servo 3").trigger == "servo 3"


def test_a_failed_reset_asks_for_reset_and_not_for_clear():
    desk = Desk().to("RESET")
    desk.after(MS, reset_outcome="running")
    desk.after(MS, reset_outcome="failed")
    assert desk.after(10 * S).note == "put it on its feet, stand clear, press reset"
    desk.press("disable")
    assert desk.out.state == "READY" and desk.out.note.endswith("; press clear")


def test_a_warning_keeps_nobody_in_check():
    desk = Desk()
    desk.after(MS, learner_gone=True)
    assert desk.out.state == "CHECK" and desk.after(MS, learner_gone=True).state == "READY"
    desk = Desk()
    desk.after(MS, port_lost=True)
    assert desk.after(MS, port_lost=True).state == "CHECK" and desk.after(MS).state == "READY"


# leases


def test_a_lease_needs_a_higher_epoch_than_ever():
    desk = Desk()
    desk.to("HOLD")
    desk.press("run")
    assert (desk.out.holder, desk.out.next_epoch, desk.out.epoch) == ("", True, 7)
    desk.epoch = 6
    assert (desk.after(MS).holder, desk.out.next_epoch, desk.out.epoch) == ("", True, 7)
    desk.epoch = 8
    assert (desk.after(MS).holder, desk.out.next_epoch, desk.out.epoch) == ("policy", False, 8)
    desk.epoch = 9
    assert (desk.after(MS).holder, desk.out.next_epoch, desk.out.epoch) == ("policy", False, 8), "a lease is granted once"
    assert desk.after(MS, episode_ended="time").state == "RESET"
    assert (desk.out.holder, desk.out.epoch, desk.out.next_epoch) == ("reset", 9, False)


def test_a_reset_counts_once_its_script_holds_the_lease_and_was_seen_to_run():
    desk = Desk().to("HOLD")
    desk.press("reset")
    desk.after(MS, reset_outcome="running")  # of an older script: the lease is not there yet
    assert desk.after(MS, reset_outcome="done").state == "RESET"
    desk.lease()
    assert desk.after(MS, reset_outcome="done").state == "RESET" and desk.after(MS, reset_outcome="failed").causes == ()
    desk.after(MS, reset_outcome="running")
    assert desk.after(MS, reset_outcome="done").state == "HOLD" and desk.out.trigger == "reset done"


def test_outside_a_session_nothing_goes_on_by_itself():
    for state in ("HOLD", "RELAX", "READY", "PSTOP"):
        desk = Desk().to(state)
        for _ in range(5):
            assert desk.after(S).state == state


@pytest.mark.parametrize("state", ["HOLD", "RUN", "RESET"])
def test_torque_that_is_not_there_yet_goes_on_being_permitted(state):
    """Only PSTOP gives up: elsewhere the driver may still be on its way."""
    desk = Desk().to(state)
    for _ in range(4):
        assert desk.after(S, torque_on=False).torque


def test_without_a_session_its_four_hours_are_nobodys_business():
    desk = Desk()
    desk.now = 6 * 3600 * S
    desk.to("HOLD")
    assert desk.after(5 * 3600 * S).causes == () and desk.press("run").state == "RUN"


def test_checks_that_no_longer_pass_stop_nothing_that_is_on():
    for state in ("HOLD", "RUN", "RESET", "PSTOP", "RELAX"):
        assert Desk().to(state).after(MS, checks_passed=False, check_note="servo 3").state == state
    desk = Desk().to("HOLD")
    for _ in range(3):
        assert desk.after(MS, reset_outcome="done").state == "HOLD"
    assert Desk().to("RUN").after(MS, reset_outcome="done").state == "RUN"


def test_a_lesser_cause_than_the_check_forbids_keeps_it_there():
    desk = Desk()
    desk.after(MS, frame_error_rate=1.0)
    desk.after(S, frame_error_rate=1.0)
    assert desk.out.causes == ("frame_errors",)
    assert desk.after(S, frame_error_rate=1.0).state == "CHECK" and desk.after(MS).state == "READY"
    desk = Desk().to("RESET")
    desk.after(MS, reset_outcome="running")
    desk.after(MS, reset_outcome="failed")
    desk.press("disable")
    assert desk.after(MS).state == "CHECK" and desk.after(MS).state == "CHECK", "a latched HOLD keeps it"


def test_what_was_damped_and_is_let_go_is_not_damped_again():
    desk = Desk(damp_s=1.0).to("HOLD")
    desk.after(MS, run_over=True)
    assert [desk.after(S // 2 - 1).stop, desk.after(S // 2 + 1).stop, desk.after(S // 2).stop] == ["damp", "off", "off"]


def test_of_several_refusals_the_first_is_the_note_and_of_several_causes_the_worst():
    desk = Desk().to("HOLD")
    out = desk.at(desk.now + 1, Command("a", "console", 0), Command("b", "console", 0))
    assert out.note == "a: nothing to do in HOLD" and len(out.refused) == 2
    desk.after(MS, learner_gone=True, policy_dead=True)
    assert desk.out.note == "the policy died"


def test_of_two_nonces_the_newer_is_shown_though_an_older_number_is_larger():
    numbers = iter([900, 100, 50, 20, 10])
    guard = Guard(catalogue(), lambda: next(numbers))
    shown = [guard.step(k * S, WELL).nonce for k in range(4)]
    assert shown == [900, 100, 50, 20] and guard.step(3 * S + 1, WELL).nonce == 20


def test_nonces_that_are_too_old_are_forgotten():
    desk = Desk().to("HOLD")
    for _ in range(100):
        desk.after(S)
        assert len(desk.guard._nonces) <= 6


def test_defaults_of_what_is_said_and_asked():
    assert Command("stop", "x") == Command("stop", "x", 0)
    said = {field: Outputs._field_defaults[field] for field in ("refused", "trigger")}
    assert said == {"refused": (), "trigger": ""}


# restart


@pytest.mark.parametrize(("torque_on", "stop", "then"), [(True, "", "HOLD"), (False, "off", "READY")])
def test_a_restarted_guard_keeps_what_the_driver_has(torque_on, stop, then):
    desk = Desk(restarted=True)
    desk.now = 0
    out = desk.after(MS, torque_on=torque_on)
    assert (out.state, out.torque, out.stop, out.causes) == ("PSTOP", torque_on, stop, ("guard_restart",))
    assert (out.speed_scale, out.holder, out.session, out.epoch) == (0.5, "", False, 7)
    assert desk.after(S, torque_on=torque_on).torque is torque_on
    assert desk.press("clear", torque_on=torque_on).state == then


def test_a_guard_restarted_in_lockout_is_in_it_again_and_nothing_else_comes_back():
    desk = Desk(restarted=True, kept=("operator_stop", "stop_unconfirmed", "servo_fault"))
    out = desk.after(MS, torque_on=True)
    assert (out.state, out.torque, out.stop) == ("LOCKOUT", False, "off")
    assert set(out.causes) == {"stop_unconfirmed", "guard_restart"}
    assert desk.press("clear", ns=5 * S).state == "LOCKOUT" and desk.after(60 * S).state == "LOCKOUT"


def test_what_is_kept_is_of_a_restarted_guard_alone():
    desk = Desk(kept=("stop_unconfirmed",))
    assert desk.after(MS).state == "CHECK" and desk.after(MS).causes == ()


@pytest.mark.parametrize("shown", [{"drive_age_s": 0.0601}, {"drive_age_s": math.nan}, {"port_lost": True}])
def test_a_restarted_guard_takes_nobodys_silence_for_torque_that_is_on(shown):
    desk = Desk(restarted=True)
    assert desk.after(MS, torque_on=True, drive_age_s=0.06).torque
    desk = Desk(restarted=True)
    out = desk.after(MS, torque_on=True, **shown)
    assert (out.state, out.torque) == ("PSTOP", False) and not desk.passes(S, torque_on=True).torque
    assert desk.press("clear").state == "READY" and not desk.out.torque


def test_nothing_is_enabled_in_the_step_in_which_the_checks_fail():
    for note, says in (("servo 3 is missing", "enable: servo 3 is missing"), ("", "enable: checks do not pass")):
        desk = Desk().to("READY")
        out = desk.press("enable", checks_passed=False, check_note=note)
        assert out.refused == (says,) and out.state == "CHECK" and not out.torque


def test_a_restarted_guard_counts_its_10_minutes_from_the_restart():
    desk = Desk(restarted=True)
    desk.after(MS)
    assert desk.after(600 * S).state == "PSTOP" and desk.after(1).state == "RELAX"


# an arm on its way down


def lowered(state: str = "RELAX", **options: object) -> Desk:
    """In a state without torque, a second after it went, while the driver lowers an arm."""
    desk = Desk(**{"damp_s": 5.0, **options}).to("HOLD")
    desk.press("disable", lowering=True) if state == "READY" else desk.after(MS, run_over=True, lowering=True)
    assert desk.after(S, lowering=True).state == state and (desk.out.hold, desk.out.stop) == (False, "damp")
    return desk


@pytest.mark.parametrize("role", ["console", "policy", "viewer", ""])
@pytest.mark.parametrize("state", ["RELAX", "READY"])
def test_anybodys_stop_key_holds_it_until_a_console_disables(state, role):
    desk = lowered(state)
    desk.at(desk.now + MS, Command("stop", role), lowering=True)
    assert (desk.out.state, desk.out.hold, desk.out.torque, desk.out.stop) == ("RELAX", True, False, "damp")
    for _ in range(1000):
        assert desk.after(100 * MS, lowering=True).hold and desk.out.stop == "damp"
    nonce = desk.out.nonce
    for command in (Command("disable", "policy", nonce), Command("disable", "console", 3), Command("run", "console", nonce)):
        assert desk.at(desk.now + MS, command, lowering=True).hold, command
    out = desk.press("disable", lowering=True)
    assert (out.state, out.hold, out.stop, out.refused) == ("RELAX", False, "damp", ())
    assert desk.after(5 * S - MS - 1, lowering=True).stop == "damp" and desk.after(1, lowering=True).stop == "off", "all its time"


def test_clear_frees_the_state_and_not_the_arm_and_enable_takes_it_up_where_it_is():
    desk = lowered("READY")
    desk.press("stop", lowering=True)
    desk.after(2 * S, lowering=True)
    assert desk.press("clear", lowering=True).state == "READY" and desk.out.hold
    assert desk.press("enable", lowering=True).state == "HOLD" and (desk.out.hold, desk.out.torque) == (False, True)
    desk.after(MS, run_over=True, lowering=True)
    assert desk.out.state == "RELAX" and not desk.out.hold, "what was held is forgotten"


def test_disable_lowers_it_on_in_every_state_without_torque():
    for state in ("READY", "CHECK"):
        desk = lowered("READY")
        desk.press("stop", lowering=True)
        desk.after(2 * S, lowering=True)
        desk.press("clear", lowering=True)
        if state == "CHECK":
            desk.after(MS, lowering=True, checks_passed=False)
        assert (desk.out.state, desk.out.hold) == (state, True)
        out = desk.press("disable", lowering=True, checks_passed=state == "READY")
        assert (out.state, out.hold, out.refused) == (state, False, ())


def test_nobody_holds_it_for_longer_than_ten_minutes_and_another_key_begins_them_anew():
    desk = lowered()
    desk.press("stop", lowering=True)
    desk.passes(599 * S, lowering=True)
    desk.press("stop", ns=0, lowering=True)
    assert desk.passes(600 * S, lowering=True).hold
    assert not desk.after(1, lowering=True).hold and desk.out.stop == "damp"
    assert not desk.after(S, lowering=True).hold


def test_it_is_held_only_while_the_driver_says_that_there_is_something_to_hold():
    desk = lowered()
    desk.press("stop")
    assert desk.out.hold and desk.passes(200 * MS).hold, "the driver may not have heard yet that torque is to go"
    assert not desk.after(1).hold and desk.out.stop == "damp"
    assert desk.at(desk.now + 4 * S).stop == "off", "nothing was held: the stop has not got more time by it"
    assert not desk.after(MS, lowering=True).hold
    desk.press("stop", lowering=True)
    desk.after(100 * S, lowering=True)
    assert desk.passes(200 * MS).hold and not desk.after(1).hold, "it is down"


def test_in_pstop_an_arm_stays_where_it_is_whatever_shuts_the_drivers_gate():
    """A servo's own protection, a cable that blinks, a guard that dies: a person may have his hand in it."""
    desk = Desk(damp_s=5.0).to("PSTOP")
    assert desk.out.torque and desk.passes(300 * S).hold
    assert desk.passes(30 * S, torque_on=False, lowering=True, holding=True).hold and desk.out.state == "PSTOP"
    assert desk.press("clear", torque_on=False, lowering=True, holding=True).state == "READY"
    assert desk.passes(30 * S, lowering=True, holding=True).hold, "no key has lowered it"
    assert not desk.press("disable", lowering=True, holding=True).hold


@pytest.mark.parametrize("how", ["d", "heat", "10 minutes"])
def test_what_ends_a_pstop_lets_the_arm_down(how):
    desk = Desk(damp_s=5.0).to("PSTOP")
    desk.passes(S, lowering=True, holding=True)
    if how == "d":
        desk.press("disable", lowering=True, holding=True)
    else:
        desk.after(MS if how == "heat" else 600 * S, lowering=True, holding=True, temp_c=95.0 if how == "heat" else 30.0)
    assert (desk.out.state, desk.out.hold) == ("RELAX", False) and not desk.passes(S, lowering=True, holding=True).hold
    assert desk.press("stop", lowering=True).hold, "a key that is pressed then does"


def test_one_that_is_on_its_way_down_as_pstop_begins_goes_on():
    """A driver that lowers it by itself says so first."""
    desk = Desk(damp_s=5.0).to("HOLD")
    desk.after(MS, lowering=True, torque_on=False, let_go=False, servo_fault=True)
    assert (desk.out.state, desk.out.hold) == ("PSTOP", False)
    assert not desk.passes(S, lowering=True, torque_on=False).hold


def test_a_key_while_torque_is_on_holds_an_arm_that_the_driver_lowers_by_itself():
    desk = Desk(damp_s=5.0).to("HOLD")
    desk.press("stop", lowering=True)
    for torque in (True, False):
        assert desk.passes(S, lowering=True, torque_on=torque).hold
        assert (desk.out.state, desk.out.torque) == ("PSTOP", torque)
    assert desk.press("disable", lowering=True).state == "RELAX" and not desk.out.hold


def test_who_stood_still_together_with_the_driver_goes_on_holding():
    desk = lowered()
    desk.press("stop", lowering=True)
    for pause in (S, 300 * S):
        desk.after(pause)  # its word is older than ours
        assert desk.out.hold and desk.after(20 * MS, lowering=True).hold


@pytest.mark.parametrize("holding", [True, False])
def test_a_restarted_guard_goes_on_holding_what_the_driver_holds(holding):
    desk = Desk(restarted=True, damp_s=5.0)
    assert desk.after(MS, torque_on=False, lowering=True, holding=holding).hold is holding
    assert desk.passes(30 * S, torque_on=False, lowering=True, holding=holding).hold is holding
    assert not desk.press("disable", torque_on=False, lowering=True, holding=True).hold
    assert not Desk(damp_s=5.0).after(MS, lowering=True, holding=True).hold, "nor one that is no restarted one"


def test_a_driver_that_has_lost_its_port_is_waited_for():
    desk = lowered()
    desk.press("stop", lowering=True)
    assert desk.passes(30 * S, port_lost=True).hold
    assert desk.passes(200 * MS).hold and not desk.after(1).hold, "it is back, and lowers nothing"


@pytest.mark.parametrize("age", [0.0601, math.inf, math.nan])
def test_a_driver_that_died_is_waited_for_and_one_of_60_ms_ago_is_not(age):
    desk = lowered()
    desk.press("stop", lowering=True)
    assert desk.passes(30 * S, drive_age_s=age).hold, "the rescue lowers it, and the next driver is told"
    assert desk.passes(200 * MS, drive_age_s=0.06).hold and not desk.after(1, drive_age_s=0.06).hold


def test_a_disable_forgets_the_stop_key_and_a_lockout_holds_nothing():
    desk = Desk(damp_s=5.0).to("PSTOP")
    assert not desk.press("disable", lowering=True).hold and not desk.after(MS, lowering=True).hold
    desk.press("stop", lowering=True)
    assert desk.out.hold
    out = desk.after(MS, lowering=True, stop_unconfirmed=True)
    assert (out.state, out.hold, out.stop) == ("LOCKOUT", False, "off")
    desk.press("stop", lowering=True)
    assert not desk.out.hold


def test_an_arm_that_is_lowered_while_a_restarted_guard_keeps_torque_off_is_held_too():
    desk = Desk(restarted=True, damp_s=5.0)
    desk.after(MS, torque_on=False, lowering=True)
    assert (desk.out.state, desk.out.torque, desk.out.hold) == ("PSTOP", False, False)
    assert desk.press("stop", torque_on=False, lowering=True).hold
