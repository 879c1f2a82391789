"""The guard's period: an operator's stop is judged when it comes and not when the period is over."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.messages import Operator
from robotrl.nodes.epoch import LockoutFile
from robotrl.nodes.guard import Sentry
from robotrl.nodes.vigil import PERIOD_NS, Vigil


class Stream:
    def __init__(self, clock) -> None:
        self.clock, self.due, self.sent = clock, [], []

    def drain(self):
        out = [message for t, message in self.due if t <= self.clock.now()]
        self.due = [(t, message) for t, message in self.due if t > self.clock.now()]
        return out

    def send(self, message):
        self.sent.append((self.clock.now(), message))


class Here:
    """A node in virtual time, with a bus on which waiting passes the time."""

    def __init__(self, stopped_ms: int = 0, suspended: bool = False) -> None:
        self.stopped_ms = stopped_ms  # behind the third period: SIGSTOP, then SIGCONT
        self.asleep = suspended  # there too, and the clock does not show it
        self.clock, self.stopping, self.due, self.bus = LockstepClock(), False, 0, self
        self.streams: dict[str, Stream] = {}

    def subscriber(self, topic):
        return self.streams.setdefault(topic, Stream(self.clock))

    publisher = subscriber

    def wait(self, streams, seconds):
        (stream,) = streams
        until = self.clock.now() + int(seconds * 1e9)
        come = [t for t, _ in stream.due if t <= until]
        self.clock.sleep_until(min(come, default=until))
        return bool(come)

    def orphaned(self):
        return False

    def suspended(self):
        return self.asleep and self.periods == 2

    def every(self, period, ended):
        self.periods = -1
        for n in range(6):
            self.due = (n + 1) * period
            yield n
            self.clock.sleep_until(self.due)
            self.periods = n
            if n == 2 and self.stopped_ms:
                self.clock.advance(self.stopped_ms * 1_000_000)


def judged(*keys: tuple[int, str]) -> list[tuple[int, tuple[str, ...]]]:
    """When permits went out (ms), and what the guard named with them."""
    node = Here()
    operator = node.subscriber("operator")
    operator.due = [(int(ms * 1e6), Operator(source="console", command=key, press=i)) for i, (ms, key) in enumerate(keys)]
    assert Vigil(node, Sentry(Run(), lambda: 1, lambda: 1), LockoutFile(Path("/dev/null/none")), 0).serve()
    shown = [message for _, message in node.streams["guard"].sent]
    return [(t // 1_000_000, g.causes) for (t, _), g in zip(node.streams["permit"].sent, shown, strict=True)]


def test_a_stop_does_not_wait_for_the_period_to_end():
    table = judged((47.0, "stop"))
    assert [t for t, _ in table] == [0, 20, 40, 47, 60, 80, 100]
    assert ["operator_stop" in causes for _, causes in table] == [False] * 3 + [True] + [False] * 3


def test_beats_and_other_keys_do_and_a_storm_of_stops_costs_one_judgement_a_period():
    assert [t for t, _ in judged((47.0, "beat"), (48.0, "enable"))] == [0, 20, 40, 60, 80, 100]
    assert [t for t, _ in judged(*((41.0 + k, "stop") for k in range(15)))] == [0, 20, 40, 41, 60, 80, 100]


def test_a_stop_that_comes_when_the_period_is_all_but_over_waits_for_it():
    assert [t for t, _ in judged((59.0, "stop"))] == [0, 20, 40, 60, 80, 100]
    assert PERIOD_NS == 20_000_000


def test_a_guard_that_was_stopped_with_torque_on_says_no_more_word_once_it_goes_on():
    """Its silence has shut the gate; as after its death a new one begins, in PSTOP. With torque off it just goes on, but for a
    suspension: keys and numbers from before that do not look old."""
    for torque, stopped_ms, asleep, permits in (
        (True, 150, False, 6), (True, 250, False, 3), (False, 250, False, 6), (True, 0, True, 3), (False, 0, True, 3),
    ):  # fmt: skip
        node = Here(stopped_ms, asleep)
        vigil = Vigil(node, sentry := Sentry(Run(), lambda: 1, lambda: 1), LockoutFile(Path("/dev/null/none")), 0)
        step = sentry.step

        def powered(now, step=step, torque=torque):
            permit, state = step(now)
            return replace(permit, torque=torque), state

        sentry.step = powered
        assert vigil.serve() is (permits == 6)
        assert len(node.streams["permit"].sent) == permits


class Nap(Here):
    """The machine is suspended while the guard waits for a key in its third period."""

    nap = False

    def wait(self, streams, seconds):
        self.nap |= self.periods == 1
        return super().wait(streams, seconds)

    def suspended(self):
        nap, self.nap = self.nap, False
        return nap


@pytest.mark.parametrize("keys", [["enable"], ["enable", "stop"]])
def test_a_key_pressed_just_before_a_suspension_is_not_obeyed_after_it(keys):
    """By our clock it waited for no time. A stop wakes the guard at once: nor is what lies beside it obeyed then."""
    node, obeyed = Nap(), []
    operator = node.subscriber("operator")
    operator.due = [(45_000_000, Operator(source="console", command=key, press=1, t=45_000_000)) for key in keys]
    sentry = Sentry(Run(), lambda: 1, lambda: 1)
    step = sentry.step
    sentry.step = lambda now: (obeyed.extend(command.name for command in sentry._commands), step(now))[1]
    assert not Vigil(node, sentry, LockoutFile(Path("/dev/null/none")), 0).serve()
    assert not obeyed and len(node.streams["permit"].sent) == 3


@pytest.mark.parametrize("file", ["lockout", "no/folder"])
def test_a_lockout_outlives_the_guard_that_is_in_it(tmp_path, file):
    """Where the disk takes nothing a restarted guard begins as ever, and the dying one goes on."""
    node, kept = Here(), LockoutFile(tmp_path / file)
    sentry = Sentry(Run(), lambda: 1, lambda: 1)
    sentry.guard.ledger.latched.add("stop_unconfirmed")
    assert Vigil(node, sentry, kept, 0).serve()
    assert {state.state for _, state in node.streams["guard"].sent} == {"LOCKOUT"}
    after = Sentry(Run(), lambda: 1, lambda: 1, True, 1, LockoutFile(tmp_path / file).causes())
    permit, state = after.step(10**12)
    assert not permit.torque and (state.state == "LOCKOUT") is (file == "lockout")
    assert ("stop_unconfirmed" in state.causes) is (file == "lockout")
    kept.forget()
    assert kept.causes() == ()
