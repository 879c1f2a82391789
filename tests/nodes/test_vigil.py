"""The guard's period: an operator's stop is judged when it comes and not when the period is over."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from robotrl import config, rundir
from robotrl.clock import LockstepClock
from robotrl.config import Run
from robotrl.messages import Drive, Joints, Operator
from robotrl.node import Node
from robotrl.nodes.epoch import LockoutFile
from robotrl.nodes.guard import Sentry
from robotrl.nodes.vigil import PERIOD_NS, Vigil
from robotrl.robot import STOP_MAX_S
from robotrl.safety.causes import State

NS = 1_000_000_000
STOP_HELD_NS = 500_000_000  # by then an orphaned guard gives no torque any more


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

    run = Run()
    said = ()

    def say(self, what):
        self.said += (str(what),)

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


class Full(LockoutFile):
    """Of a disk that has no room for so many tries."""

    tries, full = 0, 0

    def keep(self, causes):
        self.tries += 1
        if self.tries <= self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().keep(causes)


@pytest.mark.parametrize(("full", "seconds"), [(0, 5), (2, 5), (99, 5)])
def test_a_lockout_that_the_disk_did_not_take_is_tried_again_and_the_person_is_told(tmp_path, full, seconds):
    """A disk that was full for a second, and the next start knew of no lockout: nobody had heard of it."""
    node, kept = Here(), Full(tmp_path / "lockout")
    kept.full, tries = full, []
    node.every = lambda period, ended: (
        (node.clock.sleep_until(n * period), setattr(node, "due", (n + 1) * period), tries.append(kept.tries), n)[-1]
        for n in range(seconds * 50)
    )
    sentry = Sentry(Run(), lambda: 1, lambda: 1)
    sentry.guard.ledger.latched.add("stop_unconfirmed")
    assert Vigil(node, sentry, kept, 0).serve()
    assert kept.tries == min(full + 1, seconds) and tries[45] == 1, "once a second: each may hold the guard up"
    assert ("stop_unconfirmed" in kept.causes()) is (full < seconds)
    assert len(node.said) == (full > 0) + (0 < full < seconds)
    assert not full or ("No space left on device" in node.said[0] and "would forget it" in node.said[0])


ARM = config.load(Path("launch/reach.toml"))
SIX = dict.fromkeys(("position", "velocity", "torque"), (0.0,) * 6)
JOINTS = Joints(tick=1, **SIX, temp_c=(30.0,) * 6, voltage=(12.0,) * 6, mode=(0,) * 6, fault=(0,) * 6, missed=(0,) * 6)


class Orphan(Here):
    """The manager dies at once; a driver stops by its profile and says so every 20 ms. It asks at every period whether to end."""

    def __init__(self, *drives: tuple[float, float, dict[str, object]], asleep_at_s: float = -1.0) -> None:
        """`drives`: from when to when (s) the driver says what."""
        super().__init__()
        self.asleep_at_s = asleep_at_s
        for begin, end, said in drives:
            word = dict(gate_open=False, torque_on=True, powered_off_confirmed=False, stop="stow") | said
            for n in range(round(begin * 50), round(end * 50)):
                t = n * PERIOD_NS
                drive = Drive(source="servos", t=t, tick=n, late_us=0, cycle_us=0, overruns=0, frame_errors=0, **word)
                self.subscriber("drive").due.append((t, drive))
        for t in range(0, 20 * NS, PERIOD_NS):
            self.subscriber("joints").due.append((t, JOINTS))
            self.subscriber("operator").due.append((t, Operator(source="console", command="beat", press=0, t=t)))

    def orphaned(self):
        return True

    def suspended(self):
        asleep = 0 <= self.asleep_at_s * 1e9 <= self.clock.now()
        self.asleep_at_s = -1.0 if asleep else self.asleep_at_s
        return asleep

    def every(self, period, ended):
        while not ended():
            assert self.clock.now() < 60e9, "it never ends"
            self.due = self.clock.now() + period
            yield 0
            self.clock.sleep_until(self.due)

    run = ARM

    def live(self, folder: Path) -> tuple[bool, float, set[str]]:
        """Whether it went on to its end, when that was, s, and its states from then on by which it may not give torque."""
        sentry = Sentry(ARM, lambda: 1, lambda: 1)
        sentry.guard.state = State.HOLD
        whole = Vigil(self, sentry, LockoutFile(folder / "lockout"), 0).serve()
        late = [permit for t, permit in self.streams["permit"].sent if t > STOP_HELD_NS]
        assert not any(permit.torque for permit in late)
        return whole, self.clock.now() * 1e-9, {permit.state for permit in late}


OFF = dict(torque_on=False, powered_off_confirmed=True, stop="")
DEAF = dict(torque_on=False, stop="off", disobeyed=True)
LOOSE = dict(torque_on=False, stop="off")  # a servo that does not answer


def test_an_orphaned_guard_judges_until_the_driver_says_that_the_motors_are_off(tmp_path):
    """Half a second later it was gone, and with it the bus: the driver lowers an arm for seconds."""
    whole, ended, states = Orphan((0, 5, {}), (5, 5.5, OFF)).live(tmp_path)
    assert whole and 5 <= ended < 5.2 and states == {"RELAX"} and not (tmp_path / "lockout").exists()


@pytest.mark.parametrize("said", [DEAF, LOOSE])
def test_servos_that_do_not_obey_when_the_manager_is_dead_are_locked_out_on_disk_too(tmp_path, said):
    down = ARM.robot.stop_damp_s
    whole, ended, states = Orphan((0, down, {}), (down, down + 1.1, said)).live(tmp_path)
    assert whole and "LOCKOUT" in states and "stop_unconfirmed" in LockoutFile(tmp_path / "lockout").causes()
    assert down + 1 < ended < down + 4, "and it has ended, the driver being silent"


def test_an_orphaned_guard_leaves_when_the_driver_is_gone_and_never_waits_for_ever(tmp_path):
    """What becomes of a dead driver's motors the rescue knows alone: nobody is locked out for that."""
    _, ended, _ = Orphan((0, 1, {})).live(tmp_path)
    assert 1.5 < ended < 4 and not (tmp_path / "lockout").exists()
    _, ended, _ = Orphan().live(tmp_path)
    assert ended < 3, "it never spoke"
    _, ended, _ = Orphan((0, 50, LOOSE)).live(tmp_path)
    assert ended < STOP_MAX_S + 8


@pytest.mark.parametrize("at_s", [0.1, 3.0])
def test_an_orphaned_guard_that_has_slept_goes_on_without_torque_for_nobody_starts_another(tmp_path, at_s):
    orphan = Orphan((0, 5, {}), (5, 5.5, OFF), asleep_at_s=at_s)
    whole, ended, _ = orphan.live(tmp_path)
    assert whole and ended > 5
    assert orphan.streams["permit"].sent[1][1].state == "PSTOP"
    assert not any(permit.torque for t, permit in orphan.streams["permit"].sent if t >= at_s * 1e9)


@pytest.mark.parametrize("resumed", [False, True])
def test_an_orphaned_guard_clears_away_its_own_bus_and_not_that_of_who_went_on_with_the_run(tmp_path, resumed):
    """It lives for seconds now: `resume` right after a kill -9 is faster."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(mode=0o700)
    (tmp_path / "run.json").write_text(json.dumps({"config": config.to_dict(Run())}))
    rundir.write_json(tmp_path / "bus.json", {"directory": str(old)})
    guard = Node(tmp_path, "guard")
    if resumed:
        new.mkdir()
        rundir.write_json(tmp_path / "bus.json", {"directory": str(new)})
    guard.abandon()
    guard.close()
    assert not old.exists() and (tmp_path / "bus.json").exists() is resumed and new.exists() is resumed
