"""A person takes over from the policy and hands back: judged by the servos' own registers and the rows of the replay.

One long tale on the twin of an arm (codecs, chain, gate, guard, pilot, his hand's node), told once; the tests read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from robotrl import config
from robotrl.clock import LockstepClock
from robotrl.drivers.teleop import HandLost, Reading
from robotrl.messages import KEY_NS, PERSON, Applied, Imu, Joints, Operator, Permit, Teleop
from robotrl.nodes.grip import SILENT_NS, Grip
from robotrl.nodes.pilot import Pilot
from robotrl.nodes.playback import Recorded
from robotrl.nodes.policy import thought
from robotrl.nodes.rethink import Rethink
from robotrl.nodes.teleop import Hand, hand_of
from robotrl.replay import Replay
from robotrl.sim.armrig import ArmRig
from robotrl.tasks.task import sizes
from tests.nodes.test_guard import World

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
TICK = 2 * np.pi / 4096
T = 20_000_000
FORWARDS, LEFT = (1.0, 0, 0, 0, 0, 0), (0, 1.0, 0, 0, 0, 0)


def run_of(*overrides: str) -> config.Run:
    return config.load(LAUNCH / "reach.toml", ["takeover.device=keyboard", "takeover.speed_m_s=0.1", *overrides])


@dataclass
class Device:
    """What the test says that a person pushes."""

    reading: Reading = field(default_factory=Reading)
    broken: str = ""
    closed: int = 0

    def read(self, now):
        if self.broken:
            raise HandLost(self.broken)
        return self.reading

    def hear(self, key, now):
        pass

    def close(self):
        self.closed += 1


@dataclass
class Cycle:
    """What the tale keeps of one period."""

    state: str
    led: bool
    goal: np.ndarray  # (6,) rad, as the servos' own registers have it
    applied: Applied
    trigger: str
    note: str
    session: bool


class Tale:
    """The rig, a person with a device at it, and what happened."""

    def __init__(self, folder: Path) -> None:
        self.run = run_of()
        self.replay = Replay.create(folder / "replay", *sizes(self.run), 5000)
        self.rig = ArmRig(self.run, 3, self.replay)
        self.rig.teacher = self
        self.device = Device()
        self.hand = hand_of(self.run, self.rig.clock, lambda: self.device)
        self.cycles: list[Cycle] = []
        self.marks: dict[str, int] = {}
        self.keys = True
        script = self.rig._script.answer
        self.rig._script.answer = lambda guard: script(guard) if self.keys else ""
        self.recorded, self.thoughts, self._word = Recorded(), [], None

    def look(self, joints, pilot, permit, applied):
        """As the scripted teacher is asked, once a cycle."""
        self._before = pilot.steps
        self._word = self.hand.cycle(permit, applied)
        return self._word

    def key(self, command: str) -> None:
        self.hand.hear(Operator(source="console", command=command, press=1, t=self.rig.clock.now()))

    def go(self, n: int, mark: str = "") -> None:
        if mark:
            self.marks[mark] = len(self.cycles)
        servos = self.run.robot.servos
        for _ in range(n):
            self.rig.cycle()
            registers = [s.registers.get("goal_position") for s in self.rig.twin.bus.servos]
            goal = [s * (r * TICK - o) for s, r, o in zip(servos.sign, registers, servos.offset, strict=True)]
            guard = self.rig.guard
            led = self._word is not None and self._word.active
            self.cycles.append(
                Cycle(guard.state, led, np.array(goal), self.rig.applied, guard.trigger, guard.note, guard.session)
            )
            self._keep()

    def _keep(self) -> None:
        """For the policy to be thought through again: its thought, and all that it was given, numbered as a bus would."""
        rig, seq = self.rig, len(self.cycles)
        stamp = lambda message: msgspec.structs.replace(message, boot=9, seq=seq)  # noqa: E731
        imu, hand = stamp(rig.imu), self._word and stamp(self._word)
        permit = stamp(self._permit) if getattr(self, "_permit", None) else None
        for topic, message in (("teleop", hand), ("permit", permit)):
            if message is not None:
                self.recorded.keep(topic, message)
        action = rig._action if rig._action is not None and rig._action.source == "policy" else None
        told = stamp(thought(rig.pilot, rig.joints, rig.applied, imu, None, permit, self._before, action, "", hand))
        if action is not None:
            self.recorded["action of", 9, told.tick] = stamp(action)
        self.thoughts.append((told, rig.joints, rig.applied, imu))
        self._permit = rig.permit

    def span(self, first: str, last: str) -> list[Cycle]:
        return self.cycles[self.marks[first] : self.marks[last]]


@pytest.fixture(scope="module")
def tale(tmp_path_factory):
    made = Tale(tmp_path_factory.mktemp("tale"))
    while made.rig.pilot.tally is None:
        made.go(1)
    made.go(12, "policy")
    made.key("take")
    made.device.reading = Reading(FORWARDS)
    made.go(15, "forwards")
    made.device.reading = Reading(LEFT)
    made.go(10, "left")
    made.device.reading = Reading()
    made.go(5, "still")
    made.key("give")
    made.go(12, "policy again")
    made.key("take")
    made.device.reading = Reading(FORWARDS)
    made.go(8, "second")
    made.keys = False  # nobody presses anything from here on
    made.device.broken = "torn out"
    made.go(60, "gone")
    made.keys, made.device.broken, made.device.reading = True, "", Reading()
    made.go(60, "run again")
    made.marks["end"] = len(made.cycles)
    yield made
    made.rig.close()
    made.replay.close()


def test_one_of_the_two_leads_and_never_both(tale):
    """The policy acts at random here: where its actions reached the wire, a hand that stands still would not."""
    for first, last, whose in (("policy", "forwards", -1), ("left", "still", PERSON), ("still", "policy again", PERSON)):
        rows = tale.span(first, last)[3:]
        assert {c.applied.policy_version for c in rows} == {whose}, (first, last)
    rest = tale.span("still", "policy again")[3:]
    assert all(np.abs(c.goal - rest[0].goal).max() < 1e-9 for c in rest), "his hand stands still, and so does the arm"
    moving = tale.span("policy again", "second")[3:]
    assert max(np.abs(b.goal - a.goal).max() for a, b in pairwise(moving)) > 0.005
    assert all(c.applied.writer == "policy" and c.applied.epoch == rest[0].applied.epoch for c in rest), "the same lease"


def test_he_leads_the_point_straight_and_as_fast_as_he_asks(tale):
    """Forwards, then left, by the arm's own geometry from the goals on the wire: 0.1 m/s is 2 mm a period."""
    arm = tale.rig.pilot.task.arm
    for first, last, axis in (("forwards", "left", 0), ("left", "still", 1)):
        tips = np.array([arm.tip(c.goal) for c in tale.span(first, last)[3:]])
        steps = np.diff(tips, axis=0)
        assert steps[:, axis].mean() == pytest.approx(0.002, rel=0.1)
        off = np.delete(tips[-1] - tips[0], axis)
        assert np.abs(off).max() < 0.003, off


def test_nothing_jumps_where_he_comes_and_where_he_goes(tale):
    most = tale.run.task.reach.step_rad + 2 * TICK
    for mark in ("forwards", "policy again", "second", "gone"):
        at = tale.marks[mark]
        near = tale.cycles[at - 2 : at + 8]
        assert max(np.abs(b.goal - a.goal).max() for a, b in pairwise(near)) <= most, mark


def test_a_device_that_is_gone_stops_the_robot_until_a_person_runs_it(tale):
    gone = tale.span("gone", "run again")
    held = gone[3].goal
    assert gone[1].state == "HOLD", "in the period after the one in which it was read"
    assert all(np.abs(c.goal - held).max() < 1e-9 and c.state == "HOLD" and not c.session for c in gone[3:])
    assert [c.trigger for c in gone if c.trigger] == ["hand_gone"]
    assert all(c.note == "the hand that led is gone: torn out; press run" for c in gone[3:])
    again = tale.span("run again", "end")
    assert "RUN" in {c.state for c in again} and not any(c.led for c in again), "and then it is the policy's"
    assert {c.applied.policy_version for c in again if c.applied.writer == "policy"} == {-1}


def test_his_rows_are_flagged_in_whole_pieces(tale):
    """Every row's flag against whose command its action is: the one applied in the cycle with which the row ends."""
    n, columns = tale.replay.count, tale.replay.columns
    by_tick = {c.applied.tick: c.applied for c in tale.cycles}
    flags = columns["policy_version"][:n] == PERSON
    pieces = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    assert len(pieces) == 4 and flags.sum() >= 15 + 10 + 5 + 8 - 4
    assert columns["step"][: pieces[3]].tolist() == list(range(pieces[3])), "no step of the episode is missing"
    for row in range(n):
        applied = by_tick[int(columns["tick"][row])]
        if applied.action_seq >= 0:
            assert flags[row] == (applied.policy_version == PERSON), row
    assert np.abs(columns["action"][:n][flags]).max() <= 1.0 + TICK / tale.run.task.reach.step_rad
    first, end = int(pieces[0]), int(pieces[1])
    assert columns["observation"][first + 1 : end + 1].tolist() == columns["next_observation"][first:end].tolist()


def test_a_recording_of_it_gives_the_same_commands_again(tale):
    """And other ones where another word of his is put in the place of one that was said."""
    scores = {}
    for twist in (None, (0.0, 0.1, 0.0, 0.0, 0.0, 0.0)):
        again, recorded = Rethink(tale.run), Recorded(tale.recorded)
        at = tale.marks["forwards"] + 8
        if twist is not None:
            recorded["teleop", 9, at] = msgspec.structs.replace(recorded["teleop", 9, at], twist=twist)
        for told, joints, applied, imu in tale.thoughts:
            again.think(told, joints, applied, imu, recorded)
        scores[twist is None] = again.commands
    assert scores[True].differ == 0 and scores[True].equal > 80, scores[True].first
    assert scores[False].differ == 1 and "target was" in scores[False].first


# ---- his hand's node


RUN = Permit(state="RUN", epoch=4, holder="policy", torque=True)
AT = Applied(tick=0, writer="policy", epoch=4, target=(0.0,) * 6, clamped=(0,) * 6)


@dataclass
class Desk:
    """A hand's node with a device, key by key."""

    run: config.Run = field(default_factory=run_of)
    device: Device = field(default_factory=Device)

    def __post_init__(self) -> None:
        self.clock = LockstepClock()
        self.opened = 0
        self.hand = Hand(self.run, self.clock, self.open, 4)

    def open(self):
        self.opened += 1
        return self.device

    def say(
        self, *keys: str, permit: Permit | None = RUN, source: str = "console", applied: Applied | None = AT, old: int = 0
    ) -> Teleop:
        """`old`: ns from the press until it is heard."""
        self.clock.sleep_until(self.clock.now() + T)
        for key in keys:
            self.hand.hear(Operator(source=source, command=key, press=1, t=self.clock.now() - old))
        return self.hand.cycle(permit, applied)


def test_a_key_that_waited_while_the_node_slept_leads_nobody_but_hands_back():
    """As the guard drops it. Meanwhile the lease may be another one, and the person gone."""
    desk = Desk()
    heard = []
    desk.device.hear = lambda key, now: heard.append(key)
    desk.clock.advance(10**12)
    desk.say()  # the device is opened
    word = desk.say("take", old=KEY_NS + 1)
    assert not word.active and "too late" in word.note and not heard
    desk.say("jog", "beat", old=KEY_NS + 1)
    assert not heard, "nor is the console there because it was"
    assert desk.say("take", old=KEY_NS).active and heard
    assert not desk.say("give", old=30 * 10**9).active
    assert "handed back" in desk.say().note


def test_he_takes_over_by_key_and_only_from_the_policy():
    desk = Desk()
    assert not desk.say("take", permit=None).active
    word = desk.say("take", permit=msgspec.structs.replace(RUN, state="RESET", holder="reset"))
    assert not word.active and "RUN" in word.note
    for source in ("gateway", "viewer", "policy"):
        assert not desk.say("take", source=source).active
    assert desk.say("take").active and desk.say().active and not desk.say("give").active
    assert desk.say("take").active
    over = desk.say(permit=msgspec.structs.replace(RUN, epoch=5))
    assert not over.active and not over.lost and "over" in over.note, "the next episode is the policy's"


def test_a_device_that_comes_back_leads_nobody():
    desk = Desk()
    desk.say("take")
    desk.device.broken = "torn out"
    word = desk.say()
    assert not word.active and word.lost == "torn out" and desk.device.closed == 1
    assert desk.say("take").lost == "torn out" and desk.opened == 1, "it is looked for once a second"
    desk.device.broken = ""
    for _ in range(60):
        word = desk.say("take")
    assert desk.opened == 2 and not word.active and "press r" in word.note
    assert desk.say("take", permit=msgspec.structs.replace(RUN, epoch=5)).active


@pytest.mark.parametrize("reading", [
    Reading((2.0, 0, 0, 0, 0, 0)), Reading((float("nan"), 0, 0, 0, 0, 0)), Reading((0.0,) * 3),
    Reading(angles=(float("nan"),) * 6),
])  # fmt: skip
def test_what_no_hand_can_have_meant_is_a_device_that_is_gone(reading):
    desk = Desk()
    assert desk.say("take").active
    desk.device.reading = reading
    word = desk.say()
    assert not word.active and word.lost and not word.twist


def test_a_leader_takes_over_where_the_arm_is_and_no_sooner():
    desk = Desk(run_of("takeover.match_rad=0.1"))
    desk.device.reading = Reading(angles=(0.05, -0.3, 0.0, 0.12, 2.0, 1.0))
    word = desk.say("take")
    assert not word.active and "lift by -0.30, wrist_flex by +0.12 rad" in word.note, "what is not led need not match"
    desk.device.reading = Reading(angles=(0.05, -0.09, 0.0, 0.09, 2.0, 1.0))
    word = desk.say("take")
    assert word.active and word.angles[1] == -0.09
    task = Pilot(desk.run, None, 0).task
    sent = task.applied(AT.target)
    for _ in range(12):  # as the pilot follows it: no faster than the policy could
        before = sent
        action = task.led((), word.angles, sent)
        sent = task.applied(task.target(action, sent))
        assert np.abs(np.subtract(task.pose(sent), task.pose(before))).max() <= desk.run.task.reach.step_rad + 1e-6
    assert task.pose(sent)[:4] == pytest.approx(word.angles[:4], abs=1e-4)


# ---- whoever must not go on without it


def word(**fields) -> Teleop:
    return Teleop(**{"device": "keyboard", "active": True, "epoch": 4, "t": 0, "twist": (0.0,) * 6} | fields)


def test_a_grip_that_is_lost_is_lost_until_the_next_lease():
    grip = Grip()
    assert not grip.look(None, 0, 4) and not grip.gone
    assert grip.look(word(), SILENT_NS, 4) and not grip.look(word(), SILENT_NS, 3)
    assert not grip.gone, "another lease's"
    for wrong in (word(t=-1), word(lost="torn out", active=False), word(epoch=-1, active=False), None):
        grip = Grip()
        assert grip.look(word(), 0, 4)
        assert not grip.look(wrong, SILENT_NS, 4) and grip.gone, wrong
        assert not grip.look(word(t=SILENT_NS), SILENT_NS, 4) and grip.gone, "it does not come back by itself"
        assert not grip.look(word(epoch=5, active=False), 0, 5) and not grip.gone
    grip = Grip()
    grip.look(word(), 0, 4)
    assert not grip.look(word(active=False), 0, 4) and not grip.gone, "handed back"


def test_the_policy_asks_for_nothing_when_the_hand_is_gone_until_the_next_lease():
    """Whatever the guard does: it may be late, and its permit still holds."""
    run = run_of()
    pilot, home = Pilot(run, None, 0), config.start_of(run.task, run.robot)
    zeros, none = (0.0,) * 6, (0,) * 6
    imu = Imu(roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0,) * 3, accel=(0.0, 0.0, 9.8))
    tick = 0

    def cycle(permit=RUN, **said):
        nonlocal tick
        tick += 1
        joints = Joints(t=tick * T, tick=tick, position=home, velocity=zeros, torque=zeros, temp_c=zeros, voltage=zeros,
                        mode=(10,) * 6, fault=none, missed=none)  # fmt: skip
        applied = Applied(tick=tick, writer="policy", epoch=permit.epoch, target=home, clamped=none)
        fresh = msgspec.structs.replace(permit, t=joints.t)
        return pilot.cycle(joints, applied, imu, fresh, word(t=tick * T, **said) if said else None)

    assert cycle(active=False).policy_version == -1
    assert cycle(epoch=4).policy_version == PERSON
    assert cycle(epoch=4, active=False).policy_version == -1, "handed back"
    assert cycle(epoch=4).policy_version == PERSON
    assert cycle(epoch=4, active=False, lost="torn out") is None
    for said in ({"epoch": 4, "active": False}, {"epoch": 4}, {}):
        assert cycle(**said) is None, said
    again = msgspec.structs.replace(RUN, epoch=5)
    assert cycle(again, epoch=5, active=False).policy_version == -1


@pytest.mark.parametrize("end", ["silent", "lost", "handed back", "another's"])
def test_the_guard_pauses_the_robot_of_a_hand_that_is_gone(end):
    world = World().run()
    epoch = world.permit.epoch
    mine = {"source": "teleop", "boot": 1}
    for _ in range(10):
        world.hear(word(epoch=epoch, t=world.now, **mine))
        assert world.step() == "RUN" and world.shown.led
    if end == "silent":
        assert world.step(4) == "RUN" and world.step(2) == "HOLD"
    else:
        lost = {"lost": "torn out"} if end != "handed back" else {}
        world.hear(word(epoch=epoch + (end == "another's"), active=False, **mine, **lost))
        if end == "handed back":
            assert world.step(30) == "RUN" and not world.shown.led
            return
        if end == "another's":  # a word about another lease is none about this one
            assert world.step(30) == "HOLD"
            return
        assert world.step() == "HOLD"
    assert world.shown.causes == ("hand_gone",) and "the hand that led is gone" in world.shown.note
    assert world.step(100) == "HOLD" and not world.shown.session, "nothing goes on by itself"
    assert world.press("reset") == "HOLD" and "hand_gone stands" in world.shown.note
    assert world.press("run") == "RUN" and world.step(50) == "RUN"


def test_only_an_arm_with_a_task_can_be_led():
    for overrides, said in ((["takeover.device=keyboard"], "only an arm"), (["twin.takeover=0.5"], "only an arm")):
        with pytest.raises(config.ConfigError, match=said):
            config.load(LAUNCH / "walk.toml", overrides)
    with pytest.raises(config.ConfigError, match="where the joystick is"):
        config.load(LAUNCH / "reach.toml", ["takeover.device=joystick"])
    with pytest.raises(config.ConfigError, match="only a Feetech arm"):
        config.load(LAUNCH / "reach_omx.toml", ["takeover.device=leader", "takeover.path=/dev/x"])


def test_no_task_of_another_kind_is_disturbed_by_a_word():
    """A word that is not about this lease: the pilot of a walking robot acts as ever."""
    pilot = Pilot(replace(config.Run()), None, 0)
    zeros = (0.0,) * 8
    joints = Joints(t=T, tick=1, position=(2.0,) * 8, velocity=zeros, torque=zeros, temp_c=zeros, voltage=zeros,
                    mode=(10,) * 8, fault=(0,) * 8, missed=(0,) * 8)  # fmt: skip
    imu = Imu(roll=0.0, pitch=0.0, yaw=0.0, rates=(0.0,) * 3, accel=(0.0, 0.0, 9.8))
    applied = Applied(tick=1, writer="hold", epoch=4, target=(2.0,) * 8, clamped=(0,) * 8)
    action = pilot.cycle(joints, applied, imu, RUN, word(epoch=3, t=T))
    assert action is not None and action.policy_version == -1
