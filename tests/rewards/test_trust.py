"""A classifier's figures against closed forms, exact fractions and counting by hand."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from robotrl.rewards import trust
from robotrl.rewards.trust import (
    FIRST,
    RIGHT,
    SILENT,
    THRESHOLDS,
    WRONG,
    Trial,
    alarm,
    calibration,
    choose,
    confusion,
    judge,
    lower_bound,
    needed,
    shown,
    tail,
    uncertain,
)


def exact(right: int, n: int, p: Fraction) -> Fraction:
    """P(X >= right) of X binomial (n, p), in whole numbers."""
    return sum((math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(right, n + 1)), Fraction(0))


@pytest.mark.parametrize(("right", "n"), [(0, 3), (1, 1), (3, 7), (38, 40), (40, 40), (150, 200)])
def test_the_tail_is_the_sum_of_its_ways(right, n):
    for p in (Fraction(1, 20), Fraction(1, 2), Fraction(9, 10)):
        assert tail(right, n, float(p)) == pytest.approx(float(exact(right, n, p)), rel=1e-9)


@pytest.mark.parametrize("n", [1, 14, 59])
def test_all_right_and_none_right_have_closed_forms(n):
    assert lower_bound(n, n, 0.95) == pytest.approx(0.05 ** (1 / n), rel=1e-9)
    assert lower_bound(0, n, 0.95) == pytest.approx(0.0, abs=1e-12) and lower_bound(0, 0, 0.95) == 0.0
    assert lower_bound(n, n, 0.95) < 0.95 ** (1 / n)


@pytest.mark.parametrize(("n", "confidence"), [(5, 0.95), (20, 0.95), (40, 0.98)])
def test_whatever_is_true_the_bound_is_above_it_in_no_more_cases_than_stated(n, confidence):
    bounds = [lower_bound(k, n, confidence) for k in range(n + 1)]
    assert bounds == sorted(bounds)
    for percent in range(1, 100):
        p = Fraction(percent, 100)
        wrong = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1) if bounds[k] > percent / 100)
        assert wrong <= 1 - confidence + 1e-9, percent


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="4 of 3"):
        lower_bound(4, 3, 0.95)


@pytest.mark.parametrize("errs", [0.0, 0.02, 0.05])
def test_what_is_shown_is_above_what_is_true_in_no_more_cases_than_stated_for_who_errs_no_more_than_that(errs):
    """Counted out: who errs so often says what he thinks of each verdict and is asked again where he denied it; either counts."""
    for n, percent in itertools.product((15, 30, 60), range(50, 100, 2)):
        p, e = Fraction(percent, 100), Fraction(errs)
        counted = p * (1 - e**2) + (1 - p) * (e + (1 - e) * e)
        ways = [math.comb(n, k) * counted**k * (1 - counted) ** (n - k) for k in range(n + 1)]
        assert sum(w for k, w in enumerate(ways) if shown(k, n, 0.95, 0.05) > percent / 100) <= 0.05 + 1e-9, (n, percent)
    assert all(0 <= shown(k, 30, 0.95, 0.05) <= lower_bound(k, 30, 0.95) for k in range(31))


def test_the_threshold_is_chosen_by_what_each_came_to_on_other_episodes():
    few, all_right, often_wrong = (SILENT, RIGHT), (RIGHT, RIGHT), (RIGHT, WRONG)
    none = [[SILENT] * len(THRESHOLDS)] * 9
    assert choose([], 0.95) == choose(none, 0.95) == FIRST

    def tried(**of):
        """Twenty episodes; of each threshold that is named, what it came to in turn."""
        return [[of.get(f"t{round(100 * t)}", (SILENT,))[i % 2] if f"t{round(100 * t)}" in of else SILENT for t in THRESHOLDS]
                for i in range(20)]  # fmt: skip

    assert choose(tried(t50=often_wrong, t80=all_right, t95=few), 0.95) == 0.8
    assert choose(tried(t50=often_wrong, t95=few), 0.95) == 0.95
    assert choose(tried(t65=all_right, t80=all_right), 0.95) == 0.65, "of several the one that finds most"
    one_right = tried(t80=all_right)
    one_right[0] = [{0.8: WRONG, 0.95: RIGHT}.get(t, SILENT) for t in THRESHOLDS]
    assert choose(one_right, 0.95) == 0.8, "19 of 20 show more than 1 of 1"


def test_a_bound_just_below_what_is_stated_is_not_enough_and_it_is_said_why():
    for errs, n in ((0.0, 14), (0.05, 15)):
        assert needed(0.8, 0.95, errs) == n and shown(n, n, 0.95, errs) >= 0.8 > shown(n - 1, n - 1, 0.95, errs)
        for said in (n, n - 1):
            found = judge((0.8, said, said, said), 50, 0.8, 0.95, errs)
            assert (found.why == "") == (said == n) and "\n" not in found.why
    assert "14 of 14 on held-out episodes shows 0.788" in found.why and "15 without an error" in found.why
    assert "too often wrong" in judge((0.5, 100, 60, 60), 200, 0.8, 0.95).why
    assert "none of 7 held-out episodes, 2 of which" in judge((0.5, 0, 0, 2), 7, 0.8, 0.95).why
    assert "0 of 0" not in judge((0.5, 0, 0, 0), 0, 0.8, 0.95).why and math.isnan(Trial(0.5, 0, 0, 0, 0.0).precision)
    assert (found.trial.precision, found.trial.recall, needed(1.0, 0.95)) == (1.0, 1.0, 0)


def test_a_calibration_curve_counts_its_frames():
    p = np.array([0.0, 0.05, 0.31, 0.35, 0.999, 1.0, 1.0])
    bins, error = calibration(p, np.array([0, 0, 1, 0, 1, 1, 0], bool))
    assert [b.frames for b in bins] == [2, 2, 3]
    assert bins[1].said == pytest.approx(0.33) and bins[1].was == 0.5 and bins[2].was == pytest.approx(2 / 3)
    by_hand = (2 * abs(0.025 - 0) + 2 * abs(0.33 - 0.5) + 3 * abs(2.999 / 3 - 2 / 3)) / 7
    assert error == pytest.approx(by_hand) and calibration(p[:0], np.zeros(0, bool)) == ([], 0.0)


def test_frames_that_are_as_often_successes_as_is_said_are_calibrated():
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    assert calibration(p, rng.random(40_000) < p)[1] < 0.02 < calibration(p, rng.random(40_000) < p**2)[1]


def test_verdicts_are_counted_by_kind():
    pairs = [(True, True)] * 4 + [(True, False)] * 3 + [(False, True)] * 2 + [(False, False)]
    assert confusion(pairs) == (4, 3, 2, 1)


def test_an_alarm_comes_with_more_false_successes_than_the_stated_precision_allows():
    def false(k: int, n: int = trust.WINDOW) -> list[tuple[bool, bool]]:
        return [(True, False)] * k + [(True, True)] * (n - k)

    first = next(k for k in range(trust.WINDOW + 1) if exact(k, trust.WINDOW, Fraction(1, 5)) < Fraction(1, 20))
    assert not alarm(false(first - 1), 0.8, 0.95) and f"{first} were none" in alarm(false(first), 0.8, 0.95)
    assert not alarm([], 0.8, 0.95) and not alarm(false(1, 1), 0.8, 0.95) and alarm(false(2, 2), 0.8, 0.95)
    assert not alarm(false(first) + [(True, True)] * trust.WINDOW, 0.8, 0.95), "what is long ago is forgiven"
    assert not alarm([(False, False)] * 50, 0.8, 0.95)


def test_an_alarm_comes_where_it_misses_most_successes():
    assert "it saw 4" in alarm([(False, True)] * 6 + [(True, True)] * 4, 0.8, 0.95)
    assert not alarm([(False, True)] * 5 + [(True, True)] * 5, 0.8, 0.95) and not alarm([(False, True)] * 9, 0.8, 0.95)


def test_who_is_asked_about_is_nearest_to_the_threshold_by_its_odds_and_one_an_episode():
    p, episode = np.array([0.5, 0.99, 0.79, 0.81, 0.0, 0.85]), np.array([1, 2, 3, 3, 4, 5])
    assert uncertain(p, 0.8, episode, 3) == [2, 5, 0]
    assert len(uncertain(p, 0.8, episode, 99)) == 5 and uncertain(p, 0.8, episode, 0) == []
