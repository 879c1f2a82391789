"""What is taught and measured, out of a small replay and what was said of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robotrl import relabel
from robotrl.labels import Given, Rewards, derive, standing
from robotrl.messages import Label
from robotrl.replay import Replay
from robotrl.rewards import lessons

HZ = 20.0  # a step is a twentieth of a second
LENGTH = 40


@pytest.fixture
def replay(tmp_path):
    """Four episodes of LENGTH steps; the last has not ended."""
    made = Replay.create(tmp_path / "replay", 1, 1, 1000)
    zero = np.zeros(1, np.float32)
    for episode in range(4):
        for step in range(LENGTH - (episode == 3)):
            made.add(zero, zero, 0.0, zero, terminated=False, truncated=step == LENGTH - 1, episode=episode, step=step,
                     tick=0, policy_version=0)  # fmt: skip
    yield made
    made.close()


def at(episode, step, kind, version=0, **kw):
    return Label(press=0, value=1.0, tick=-1, kind=kind, episode=episode, step=step, version=version, **kw)


def given(*labels):
    return [Given(i, label) for i, label in enumerate(labels, 1)]


def outcomes(replay, *labels):
    return {of.episode: of for of in lessons.outcomes(replay, replay.count, given(*labels), HZ)}


def shown(replay, *labels, episode=1):
    of = lessons.by_episode(given(*labels))
    found = lessons.frames(replay, outcomes(replay, *labels)[episode], of.get(episode, []), HZ)
    steps = replay.columns["step"][found.rows].tolist()
    assert all(replay.columns["episode"][found.rows] == episode)
    return {s for s, yes in zip(steps, found.success, strict=True) if yes}, {
        s for s, yes in zip(steps, found.success, strict=True) if not yes
    }


def test_an_episode_that_nobody_said_a_word_of_was_no_success_and_one_that_runs_is_none_yet(replay):
    assert {number: of.success for number, of in outcomes(replay).items()} == {0: False, 1: False, 2: False}
    assert shown(replay) == (set(), set(range(LENGTH)))


def test_a_success_shows_at_its_step_and_none_long_before_and_between_nobody_can_tell(replay):
    yes, no = shown(replay, at(1, 25, "success"))
    assert yes == {24, 25, 26} and no == set(range(22))
    assert shown(replay, at(1, 3, "success")) == ({2, 3, 4}, set())


def test_a_fail_shows_none_until_then_and_the_last_verdict_counts(replay):
    assert shown(replay, at(1, 25, "success"), at(1, 20, "fail")) == (set(), set(range(21)))
    assert outcomes(replay, at(1, 20, "fail"), at(1, 25, "success"))[1].success


def test_what_a_classifier_judged_alone_is_not_known_until_a_person_says_so(replay):
    assert outcomes(replay, at(1, 9, "success", 3))[1].success is None
    assert outcomes(replay, at(1, 39, "no", 3, first=0))[1].success is None
    of = outcomes(replay, at(1, 9, "success", 3), at(1, 39, "no", first=0))[1]
    assert of.success is False and of.judged == 3 and of.said
    assert outcomes(replay, at(1, 39, "no", 3, first=0), at(1, 30, "success"))[1].success
    assert outcomes(replay, at(1, 9, "success", 3), at(1, 12, "no", first=0))[1].success is None, "of a part of it alone"


def test_what_is_said_of_single_frames_is_taught_whatever_the_outcome(replay):
    yes, no = shown(replay, at(1, 25, "success"), at(1, 5, "yes"), at(1, 23, "no"))
    assert yes == {5, 24, 25, 26} and no == set(range(22)) - {5} | {23}
    assert shown(replay, at(1, 9, "success", 3), at(1, 30, "yes"), at(1, 30, "no", 3)) == ({30}, set())


def test_of_a_replay_without_a_row_nothing_is_known_and_nothing_listed(tmp_path):
    Replay.create(tmp_path / "replay", 1, 1, 10).close()
    rows, found = relabel.episodes(tmp_path)
    assert found == [] and lessons.outcomes(rows.replay, 0, [], HZ) == []
    rows.close()


def test_an_undo_takes_a_lesson_back(replay):
    said = at(1, 25, "success", giver=5, number=1)
    assert not outcomes(replay, said, Label(press=0, value=0.0, tick=-1, kind="undo", undoes=(5, 1, 1)))[1].success


def test_half_of_the_episodes_are_held_out_for_good():
    held = [lessons.held_out(e, 0.5) for e in range(20_000)]
    assert abs(np.mean(held) - 0.5) < 0.02 and abs(np.mean([lessons.held_out(e, 0.2) for e in range(20_000)]) - 0.2) < 0.02
    assert all(lessons.held_out(e, 0.5) for e in range(2000) if lessons.held_out(e, 0.2)), "more are held out, none comes back"
    after = np.mean([b for a, b in itertools.pairwise(held) if a])
    assert abs(after - 0.5) < 0.05, "neighbours are apart"


def test_the_first_of_so_many_in_a_row():
    p = np.array([0.9, 0.9, 0.1, 0.8, 0.8, 0.8, 0.9])
    assert lessons.first_run(p, 0.8, 3) == 5 and lessons.first_run(p, 0.8, 1) == 0 and lessons.first_run(p, 0.85, 3) == -1


def test_success_long_before_the_person_said_so_is_not_right(replay):
    of = outcomes(replay, at(1, 25, "success"))[1]
    assert not lessons.right(of, 21, HZ) and lessons.right(of, 22, HZ) and lessons.right(of, 31, HZ)
    assert of.end - of.first == 26 + 6 and not lessons.right(outcomes(replay)[1], 30, HZ)


def test_what_a_person_said_of_the_very_frame_counts_before_when_he_said_it_succeeded(replay):
    of, said = (
        outcomes(replay, at(1, 25, "success"))[1],
        [at(1, 10, "yes"), at(1, 30, "no"), at(1, 12, "yes", 3), at(1, 31, "mark")],
    )
    words = {step: lessons.word(said, step, HZ) for step in range(LENGTH)}
    assert {s for s, w in words.items() if w} == {9, 10, 11} and {s for s, w in words.items() if w is False} == {29, 30, 31}
    assert lessons.word([at(1, 10, "no"), at(1, 10, "yes")], 10, HZ) is True, "the last word"
    assert lessons.word([at(1, 39, "no", first=0)], 5, HZ) is False
    assert lessons.right(of, 10, HZ, True) and not lessons.right(of, 30, HZ, False) and lessons.right(of, 30, HZ, None)


# what follows from a classifier's label


def derived(*labels, n=5):
    base = Rewards(np.zeros(n, np.float32), np.zeros(n, np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.bool_))
    return derive(np.arange(n), base, standing(given(*labels))).reward.tolist()


def test_a_person_overrules_a_classifier_whoever_was_first():
    for said in ([at(0, 1, "fail"), at(0, 3, "success", 7)], [at(0, 3, "success", 7), at(0, 1, "fail")]):
        assert derived(*said) == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert derived(at(0, 3, "success", 7), at(0, 4, "open")) == derived(at(0, 4, "open"), at(0, 3, "success", 7)) == [0.0] * 5
    assert derived(at(0, 3, "success", 7), at(0, 2, "success", 8)) == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_what_a_frame_shows_is_worth_nothing():
    assert derived(at(0, 3, "yes"), at(0, 4, "no", first=0), at(0, 4, "no", 7, first=0)) == [0.0] * 5
