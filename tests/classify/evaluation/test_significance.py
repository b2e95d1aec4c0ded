"""Intervals and exact tests against scipy, published examples and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from abs_classify.evaluation.significance import (
    binomial_tail,
    crossed_difference,
    holm,
    mcnemar_exact,
    newcombe_paired,
    smallest_difference,
    student_tails,
    wilson,
)


# Newcombe (1998), Stat. Med. 17, 857-872, table I, method 3: four decimals.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts):
    successes, trials = counts
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


# (both, first only, second only, neither) and the limits in print:
# Newcombe (1998), Stat. Med. 17, 2635-2650, method 10; Altman et al. (2000), Statistics with Confidence, table 6.2;
# Fagerland, Lydersen and Laake (2017), Statistical Analysis of Contingency Tables, chapter 8 (two data sets).
@pytest.mark.parametrize(
    ("table", "low", "high", "digits"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404, 4),
        ((14, 5, 0, 22), 0.011, 0.226, 3),
        ((1, 1, 7, 12), -0.507, -0.026, 3),
        ((59, 6, 16, 80), -0.1186, -0.0046, 4),
    ],
)
def test_newcombe_gives_the_published_intervals(table, low, high, digits):
    assert tuple(round(end, digits) for end in newcombe_paired(*table)) == (low, high)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_newcombe_is_antisymmetric_holds_the_difference_and_stays_in_range(table):
    both, first, second, neither = table
    low, high = newcombe_paired(both, first, second, neither)
    difference = (first - second) / sum(table)
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    assert newcombe_paired(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)


def test_newcombe_covers_the_true_difference_about_95_times_in_100():
    rng = np.random.default_rng(0)
    cells = np.array([0.55, 0.15, 0.08, 0.22])
    draws = rng.multinomial(200, cells, size=4000)
    ends = np.array([newcombe_paired(*map(int, draw)) for draw in draws])
    covered = ((ends[:, 0] <= 0.07) & (ends[:, 1] >= 0.07)).mean()
    assert 0.94 < covered < 0.97


@pytest.mark.parametrize(("first", "second", "p"), [(1, 7, 0.0703), (6, 16, 0.0525), (0, 0, 1.0), (5, 0, 0.0625)])
def test_mcnemar_gives_the_published_p_values(first, second, p):
    assert mcnemar_exact(first, second) == pytest.approx(p, abs=5e-5)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_agrees_with_scipy(first, second):
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_exact(first, second) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.001, 0.999))
def test_binomial_tail_agrees_with_scipy(successes, trials, chance):
    assert binomial_tail(successes, trials, chance) == pytest.approx(
        stats.binom.sf(successes - 1, trials, chance), rel=1e-8, abs=1e-300
    )


def test_mcnemar_keeps_its_digits_where_p_is_tiny():
    assert mcnemar_exact(20_000, 25_000) == pytest.approx(2 * stats.binom.cdf(20_000, 45_000, 0.5), rel=1e-6)


def test_holm_is_that_of_the_textbook():
    # Holm (1979), section 3: the smallest times the number of tests, the next times one fewer, never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(p_values):
    corrected = holm(p_values)
    assert all(given <= value <= 1 for given, value in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    rejecting = True
    for rank, position in enumerate(order):
        rejecting = rejecting and p_values[position] * (len(order) - rank) < 0.05
        assert (corrected[position] < 0.05) == rejecting


@pytest.mark.parametrize(("images", "discordant"), [(200, 0.1), (1000, 0.3), (50, 0.5)])
def test_the_smallest_difference_shows_in_four_of_five_tries(images, discordant):
    difference = smallest_difference(images, discordant)
    generator = np.random.default_rng(0)
    first = (discordant + difference) / 2
    shares = [first, discordant - first, 1 - discordant]
    tables = generator.multinomial(images, shares, size=2000)
    # the test of the formula, without the conservatism of the exact one
    statistic = (tables[:, 0] - tables[:, 1]) / np.sqrt(np.maximum(1, tables[:, 0] + tables[:, 1]))
    assert 0.76 < (np.abs(statistic) > 1.96).mean() < 0.86


def test_few_images_show_no_difference():
    assert smallest_difference(3, 0.1) == 1.0
    assert smallest_difference(1000, 0.0) == 1.0


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 4, 30.3, 1500, 5000])
@pytest.mark.parametrize("value", [0.0, 0.3, 2.0, 8.0, 40.0])
def test_the_tails_of_student_agree_with_scipy(freedom, value):
    expected = 2 * stats.t.sf(value, freedom)
    tolerance = {"rel": 1e-5} if freedom < 2000 else {"abs": 2e-4}
    assert student_tails(value, freedom) == pytest.approx(expected, **tolerance)


def crossed(generator, draws, images, image, draw, rest, mean=0.0):
    return (
        mean
        + image * generator.standard_normal(images)
        + draw * generator.standard_normal((draws, 1))
        + rest * generator.standard_normal((draws, images))
    )


@pytest.mark.parametrize("spreads", [(0.3, 0.0, 0.2), (0.3, 0.05, 0.1), (0.1, 0.3, 0.1)])
def test_the_interval_over_images_and_draws_covers_the_mean(spreads):
    generator = np.random.default_rng(1)
    results = [crossed_difference(crossed(generator, 5, 60, *spreads)) for _ in range(1000)]
    covered = np.mean([low <= 0 <= high for _, low, high, _ in results])
    assert 0.92 < covered < 0.985
    assert np.mean([p_value < 0.05 for *_, p_value in results]) == pytest.approx(1 - covered, abs=1e-9)


def test_draws_that_agree_leave_the_test_of_the_images():
    generator = np.random.default_rng(2)
    one_draw = generator.integers(-1, 2, 80).astype(float)
    mean, low, high, p_value = crossed_difference(np.stack([one_draw] * 3))
    expected = stats.ttest_1samp(one_draw, 0)
    assert (mean, p_value) == pytest.approx((one_draw.mean(), expected.pvalue), rel=1e-5)
    interval = expected.confidence_interval(0.95)
    assert (low, high) == pytest.approx((interval.low, interval.high), rel=1e-5)


def test_no_difference_at_all_is_none():
    assert crossed_difference(np.zeros((2, 5))) == (0.0, 0.0, 0.0, 1.0)
    assert crossed_difference(np.ones((2, 5))) == (1.0, 1.0, 1.0, 0.0)
