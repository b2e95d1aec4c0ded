"""Intervals and exact tests against scipy, published examples and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from abs_classify.evaluation.significance import binomial_tail, mcnemar_exact, newcombe_paired, wilson


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
