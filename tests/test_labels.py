"""Labels into rewards: by hand, and against a model that works step by step, whatever is said in whatever order."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robotrl import transitions
from robotrl.agents.experience import experience, open_demonstrations
from robotrl.config import Agent
from robotrl.labelled import LABELS, Labelled, open_labelled
from robotrl.labels import Given, Rewards, derive, standing
from robotrl.log import Log
from robotrl.logformat import Kind
from robotrl.messages import Label
from robotrl.nodes import labelbook
from robotrl.nodes.labelbook import BookFile
from robotrl.replay import Replay, ReplayError

LIFE, GIVER, SIZE = 77, 5, (2, 1)


def at(episode, step, kind="add", value=1.0, **kw):
    return Label(press=0, value=value, tick=-1, kind=kind, episode=episode, step=step, **kw)


def derived(labels, n=5, reward=0.0):
    base = Rewards(np.full(n, reward, np.float32), np.zeros(n, np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.bool_))
    base.truncated[-1] = 1
    return derive(np.arange(n), base, standing(Given(i, label) for i, label in enumerate(labels, 1)))


def undo(first, last, giver=GIVER):
    return Label(press=0, value=0.0, tick=-1, kind="undo", undoes=(giver, first, last))


def numbered(*labels):
    return [msgspec.structs.replace(label, giver=GIVER, number=i) for i, label in enumerate(labels, 1)]


# by hand


def test_good_and_bad_add_up_and_a_held_key_gives_to_each_of_its_steps():
    found = derived([at(0, 1), at(0, 1, value=-3.0), at(0, 4, first=2, value=0.5)], reward=10.0)
    assert found.reward.tolist() == [10.0, 8.0, 10.5, 10.5, 10.5] and not found.out.any() and not found.terminated.any()


def test_a_success_ends_the_episode_at_its_step_and_what_follows_counts_for_nothing():
    found = derived([at(0, 2, "success", 1.0)])
    assert found.reward.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert found.terminated.tolist() == [0, 0, 1, 0, 0] and found.out.tolist() == [False, False, False, True, True]


def test_the_last_verdict_stands_and_one_taken_back_leaves_the_one_before():
    success, fail, back = numbered(at(0, 3, "success", 1.0), at(0, 2, "fail", -1.0), undo(2, 2))
    assert derived([success, fail]).reward.tolist() == [0.0, 0.0, -1.0, 0.0, 0.0]
    again = derived([success, fail, back])
    assert again.reward.tolist() == [0.0, 0.0, 0.0, 1.0, 0.0] and again.out.tolist() == [False] * 4 + [True]


def test_without_any_verdict_it_is_cut_off_as_it_was_recorded():
    for labels in ([at(0, 3, "success"), at(0, 4, "open")], numbered(at(0, 3, "success"), undo(1, 1))):
        found = derived(labels)
        assert found.truncated.tolist() == [0, 0, 0, 0, 1] and not found.terminated.any() and not found.out.any()


def test_setting_a_span_forgets_what_was_said_of_it_before_and_not_what_is_said_after():
    found = derived([at(0, 2, value=9.0), at(0, 3, "set", 0.25, first=1), at(0, 3, value=1.0)], reward=5.0)
    assert found.reward.tolist() == [5.0, 0.25, 0.25, 1.25, 5.0]


def test_an_undo_takes_back_only_what_was_said_before_it_and_of_its_giver():
    said = [*numbered(at(0, 0), at(0, 1)), undo(1, 9), msgspec.structs.replace(at(0, 2), giver=GIVER, number=3),
            msgspec.structs.replace(at(0, 3), giver=6, number=1)]  # fmt: skip
    assert derived([*said, undo(1, 1, giver=8)]).reward.tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]


# a run's log, replay and labels, and those who read them


class World:
    """Who writes a run, who learns from it, and a model of what the rewards should be that shares no code with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        Replay.create(folder / "replay", *SIZE, 500).close()
        self.open()
        self.learner = Labelled(Replay.open(folder / "replay"), folder / LABELS)
        self.steps: list[tuple[int, int, int, float, bool]] = []  # episode, step, tick, reward, truncated
        self.said: list[Label] = []
        self.episode = self.step = self.tick = self.number = self.last_giver = 0

    def open(self) -> None:
        self.log, self.replay = Log.open(self.folder / "log", 0.0, 1 << 16), Replay.open(self.folder / "replay", write=True)
        self.book = BookFile(self.folder, self.replay)

    def crash(self) -> None:
        """Of who writes: nothing but the log and the replay is there when he begins again."""
        self.log.close()
        self.replay.close()
        self.book.close()
        self.open()

    def act(self, ends: bool) -> None:
        o = np.full(SIZE[0], self.tick, np.float32)
        t = transitions.make(o, np.zeros(1), self.tick / 8, o, terminated=False, truncated=ends, episode=self.episode,
                             step=self.step, tick=self.tick, policy_version=0)  # fmt: skip
        t = msgspec.structs.replace(t, source="policy", boot=LIFE, number=len(self.steps) + 1)
        self.log.append(Kind.TRANSITION, "policy", LIFE, t.number, transitions.encoded(t))
        transitions.add(self.replay, t)
        self.book.book.lived(t.episode, LIFE)
        self.book.settle()
        self.steps.append((self.episode, self.step, self.tick, self.tick / 8, ends))
        self.tick += 1
        self.episode, self.step = (self.episode + 1, 0) if ends else (self.episode, self.step + 1)

    def say(self, label: Label) -> None:
        self.number += 1
        label = msgspec.structs.replace(label, giver=GIVER, number=self.number)
        self.log.append(Kind.LABEL, "console", GIVER, self.number, msgspec.msgpack.encode(label))
        self.book.hear(self.log.sequence, label)
        self.book.settle()
        self.said.append(label)

    def skip(self) -> None:
        """A step whose transition never came."""
        self.step, self.tick = self.step + 1, self.tick + 1

    def wanted(self) -> list[tuple[float, bool, bool, bool]]:
        """Reward, terminated, truncated, out of each step: told again from the beginning, one label after the other."""
        last = {e: s for e, s, *_ in self.steps}
        known = {(e, s): tick for e, s, tick, *_ in self.steps}
        gone = set()
        for i, label in enumerate(self.said):
            if label.kind == "undo":
                gone |= {j for j in range(i) if label.undoes[1] <= self.said[j].number <= label.undoes[2]}
        rewards = {(e, s): np.float32(r) for e, s, _, r, _ in self.steps}
        verdicts: dict[int, Label] = {}
        for i, label in enumerate(self.said):
            true = (label.episode, label.step) in known and label.tick in (-1, known.get((label.episode, label.step)))
            if i in gone or not true or label.life not in (0, LIFE):
                continue
            for s in range(label.first if label.first >= 0 else label.step, label.step + 1):
                if label.kind == "add" and (label.episode, s) in rewards:
                    rewards[label.episode, s] += np.float32(label.value)
                if label.kind == "set" and (label.episode, s) in rewards:
                    rewards[label.episode, s] = np.float32(label.value)
            if label.kind in ("success", "fail"):
                verdicts[label.episode] = label
            if label.kind == "open":
                verdicts.pop(label.episode, None)
        out = []
        for e, s, _, _, truncated in self.steps:
            v = verdicts.get(e)
            ends = v is not None and v.step == s
            reward = rewards[e, s] + np.float32(v.value) if v is not None and ends else rewards[e, s]
            out.append((float(reward), ends, truncated and not ends, v is not None and s > v.step and last[e] >= v.step))
        return out

    def found(self, rows: Labelled) -> list[tuple[float, bool, bool, bool]]:
        n = len(self.steps)
        ends = (rows.columns[name][:n].astype(bool).tolist() for name in ("terminated", "truncated"))
        return list(zip(rows.columns["reward"][:n].tolist(), *ends, rows.out[:n].tolist(), strict=True))

    def look(self) -> None:
        """Who was there all the time knows what the model says."""
        self.learner.refresh()
        assert self.found(self.learner) == self.wanted()

    def check(self) -> None:
        """And so does who begins now."""
        self.look()
        fresh = Labelled(Replay.open(self.folder / "replay"), self.folder / LABELS)
        fresh.refresh()
        assert self.found(fresh) == self.wanted()
        fresh.close()

    def close(self) -> None:
        for end in (self.log, self.replay, self.book, self.learner):
            end.close()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


STEP = st.tuples(st.sampled_from(["act", "act", "act", "act", "end", "skip", "crash"]))
SAY = st.tuples(
    st.just("say"), st.sampled_from(["add", "set", "success", "fail", "open", "mark"]), st.integers(0, 4), st.integers(-2, 6),
    st.integers(-1, 3), st.sampled_from([-1.0, 0.1, 0.3, 2.0]), st.sampled_from(["", "", "", "tick", "life"]),
)  # fmt: skip
BACK = st.tuples(st.just("undo"), st.integers(1, 4))


@settings(max_examples=40, deadline=None)
@given(script=st.lists(st.one_of(STEP, STEP, SAY, SAY, BACK), max_size=40))
def test_any_script_of_steps_labels_undos_and_crashes_gives_the_rewards_of_the_model(script, tmp_path_factory):
    """Labels of steps to come, of lost ones, of another life's and of another's tick; spans; verdicts on verdicts.

    No disk is waited for: what a power cut leaves of a log is tests/test_log_power.py's.
    """
    with patch.multiple("os", fsync=lambda _: None, fdatasync=lambda _: None):
        made = World(tmp_path_factory.mktemp("w"))
        try:
            for word in script:
                play(made, *word)
                made.look()
            made.check()
            made.crash()
            made.check()
        finally:
            made.close()


def play(made, what, *more):
    """A word of a script."""
    if what in ("act", "end"):
        made.act(what == "end")
    elif what == "skip":
        made.skip()
    elif what == "crash":
        made.crash()
    elif what == "undo":
        made.say(undo(max(1, made.number - more[0] + 1), made.number))
    else:
        kind, back, step, first, value, wrong = more
        episode, step = max(0, made.episode - back), max(0, made.step + step if back == 0 else step)
        known = {(e, s): tick for e, s, tick, *_ in made.steps}
        label = at(episode, step, kind, value, first=min(first, step), life=1 if wrong == "life" else LIFE)
        made.say(msgspec.structs.replace(label, tick=known.get((episode, step), 0) + 1) if wrong == "tick" else label)


def test_a_label_of_a_step_to_come_waits_and_one_of_a_lost_step_is_refused(world):
    world.act(False)
    world.say(at(0, 2))
    assert world.book.book.counts == (0, 1, 0)
    world.act(False)
    assert world.book.book.counts == (0, 1, 0)
    world.skip()
    world.act(False)
    assert world.book.book.counts == (0, 0, 1) and "+1 at 0/2 is refused: its step was never recorded" in world.book.book.refused
    world.check()


def test_labels_that_wait_for_ever_are_bounded_and_are_asked_of_without_a_search(world, monkeypatch):
    """A console that names steps to come, again and again, must not take the recorder's time."""
    monkeypatch.setattr(labelbook, "WAITING", 3)
    world.act(False)
    for step in (900, 901, 902, 1, 2):
        world.say(at(0, step))
    assert world.book.book.counts == (0, 3, 2)
    assert world.book.book.refused[-1] == "+1 at 0/901 is refused: its step has not come, and too many wait for theirs"
    with monkeypatch.context() as patch:
        patch.setattr(labelbook.np, "searchsorted", None)
        assert world.book.book.settle() == []
    world.act(False)
    world.act(False)
    assert world.book.book.counts == (2, 1, 2), "whoever waits for a moment is not refused"


def test_who_was_refused_because_too_many_waited_stays_so_when_the_book_is_made_anew(world, monkeypatch):
    """From the log, whose rows are all there by then."""
    monkeypatch.setattr(labelbook, "WAITING", 3)
    world.act(False)
    for step in (1, 2, 3, 0, 4, 5):
        world.say(at(0, step))
    for _ in range(5):
        world.act(False)
    bound = [(g.label.episode, g.label.step) for g in world.book.book.accepted]
    assert world.book.book.counts == (4, 0, 2) and (0, 1) not in bound and (0, 2) not in bound
    world.crash()
    assert world.book.book.counts == (4, 0, 2)
    assert [(g.label.episode, g.label.step) for g in world.book.book.accepted] == bound


def test_a_label_of_an_episode_that_died_with_its_policy_is_refused_though_another_life_has_used_its_numbers(world):
    """Also after the recorder has begun again, which reads in the log whose episode it was."""
    world.act(False)
    dead = Label(press=0, value=1.0, tick=0, kind="success", life=LIFE + 1, episode=0, step=0)
    world.say(dead)
    world.crash()
    assert world.book.book.counts == (0, 0, 1)
    world.crash()
    world.say(dead)
    assert world.book.book.counts == (0, 0, 2) and "died with its policy" in world.book.book.refused[-1]


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (at(0, 0, "praise"), "no label is called 'praise'"),
        (at(0, 0, value=float("nan")), "no number"),
        (at(0, 0, value=1e300), "no number"),  # in a row of the replay it would be infinite
        (at(-1, 0), "names no step"),
        (at(0, 0, first=1), "behind its last"),
    ],
)
def test_what_is_no_label_is_refused_in_a_line(world, label, why):
    world.act(False)
    world.say(label)
    assert world.book.book.counts == (0, 0, 1) and why in world.book.book.refused[-1]


def test_only_later_samples_are_changed_and_how_many_rows_that_were_is_told(world):
    for number in range(6):
        world.act(number == 5)
    world.learner.refresh()
    before = world.learner.rows(np.arange(6))
    world.say(at(0, 2, "success", 1.0))
    assert world.learner.refresh() == 4 and world.learner.changed == 4, "its own, and the three after it"
    assert before.reward.tolist() == [number / 8 for number in range(6)], "what was drawn stays what it was"
    assert world.learner.rows(np.array([2])).reward.tolist() == [1.25]


def test_rows_that_count_for_nothing_are_never_drawn_and_all_others_evenly(world):
    for number in range(8):
        world.act(number == 7)
    world.say(at(0, 4, "success", 1.0))
    world.learner.refresh()
    drawn = np.bincount(world.learner.sample(np.random.default_rng(0), 5000, 8), minlength=8)
    assert not drawn[5:].any() and (abs(drawn[:5] - 1000) < 150).all()


def test_without_a_label_the_draws_are_those_of_the_replay(world):
    for _ in range(8):
        world.act(False)
    drawn = [rows.sample(np.random.default_rng(3), 64, 8).tolist() for rows in (world.learner, world.learner.replay)]
    assert drawn[0] == drawn[1]


def test_several_steps_at_a_time_end_with_a_success_by_key(world):
    for number in range(6):
        world.act(number == 5)
    world.say(at(0, 3, "success", 1.0))
    world.learner.refresh()
    rows = experience(Agent(n_step=3, discount=0.5), world.learner, None)
    rows.sample(np.random.default_rng(0), 4, 6)
    batch = rows.rows(np.array([2]))
    assert batch.steps.tolist() == [2] and batch.terminated.tolist() == [1]
    assert batch.reward.tolist() == [2 / 8 + 0.5 * (3 / 8 + 1)]


def test_demonstrations_are_learned_from_as_they_were_labelled(world):
    world.act(True)
    world.say(at(0, 0, "success", 1.0))
    found = open_demonstrations(str(world.folder), *SIZE)
    assert found.columns["reward"][0] == 1.0 and open_labelled(world.folder).columns["terminated"][0] == 1


def test_a_list_of_labels_that_is_none_is_said_in_a_line(world):
    world.act(True)
    (world.folder / LABELS).write_bytes(b'{"order": 1}\n')
    with pytest.raises(ReplayError, match="no list of labels"):
        open_labelled(world.folder)


def test_a_line_that_is_still_being_written_is_not_read(world):
    world.act(True)
    world.say(at(0, 0))
    whole = (world.folder / LABELS).read_bytes()
    (world.folder / LABELS).write_bytes(whole + whole[:20])
    assert open_labelled(world.folder).labels == 1


def test_going_back_takes_the_labels_of_what_goes_with_it_and_no_others(world):
    for number in range(6):
        world.act(number == 2)
    for step in (1, 2):
        world.say(at(0, step))
    world.say(at(1, 1))
    world.log.append(Kind.CUT, "rehearsal", 1, 1, json.dumps({"transitions": 3}).encode())
    world.log.sync()
    world.replay.cut(3)
    world.crash()
    assert [(g.label.episode, g.label.step) for g in world.book.book.accepted] == [(0, 1), (0, 2)]
