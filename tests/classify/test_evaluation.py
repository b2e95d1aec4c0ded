"""Accuracies, intervals and tests against scipy, published examples and simulation; the accuracy table as text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from abs_classify.encoding.ranking import rank_of_truth
from abs_classify.evaluation.metrics import (
    EvaluationResult,
    PairedComparison,
    Proportion,
    chance_alarm,
    compare,
    compare_right,
    evaluate_ranks,
    mean_class_recall,
)
from abs_classify.evaluation.significance import binomial_tail, mcnemar_exact, newcombe_paired, wilson
from abs_classify.evaluation.tables import accuracy_rows, difference_text, p_value_text, render_table
from abs_core.errors import ModelError, UsageError


def evaluate(method: str, scores: np.ndarray, labels: np.ndarray) -> EvaluationResult:
    return evaluate_ranks(method, rank_of_truth(scores, labels, method), labels, scores.shape[1])


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


def test_rank_of_truth_is_the_place_that_argmax_and_sorting_give():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 5, (200, 12)).astype(np.float32)  # many ties
    labels = rng.integers(0, 12, 200)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = (order == labels[:, None]).argmax(axis=1) + 1
    ranks = rank_of_truth(scores, labels, "abs")
    assert ranks.tolist() == expected.tolist()
    assert ((ranks == 1) == (scores.argmax(axis=1) == labels)).all()


def test_evaluate_counts_top1_top5_and_mean_recall():
    labels = np.array([0, 0, 0, 1, 2, 5])
    ranks = np.array([1, 1, 6, 5, 1, 7])
    scores = np.zeros((6, 8))
    for row, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
        ahead = [c for c in range(8) if c != label][: rank - 1]
        scores[row, label], scores[row, ahead] = 1.0, 2.0
    result = evaluate("abs", scores, labels)
    assert result.ranks.tolist() == ranks.tolist()
    assert (result.top1.successes, result.top5.successes, result.images, result.classes) == (3, 4, 6, 8)
    assert result.classes_seen == 4
    assert result.mean_recall == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert evaluate_ranks("abs", ranks, labels, 8) == result


def test_top5_says_nothing_among_five_classes():
    assert evaluate("clip", np.eye(5), np.arange(5)).top5 is None


def test_results_are_json_and_hold_no_arrays():
    result = evaluate("abs", np.eye(8), np.arange(8))
    again = json.loads(json.dumps(result.to_dict()))
    assert again["top1"] == {"successes": 8, "trials": 8, "value": 1.0, "low": result.top1.low, "high": 1.0}
    assert json.loads(json.dumps(compare(result, result).to_dict()))["both"] == 8


@pytest.mark.parametrize(
    ("scores", "labels", "error", "words"),
    [
        (np.full((2, 3), np.nan), np.array([0, 1]), ModelError, "'abs' hold numbers that are not finite"),
        (np.zeros((2, 3)), np.array([0, 3]), UsageError, "outside 0 to 2"),
        (np.zeros((2, 3)), np.array([0, -1]), UsageError, "outside 0 to 2"),
        (np.zeros((2, 3)), np.array([0]), UsageError, "do not fit"),
        (np.zeros((0, 3)), np.array([], dtype=int), UsageError, "0 results for 0 images"),
    ],
)
def test_evaluate_refuses_what_it_cannot_count(scores, labels, error, words):
    with pytest.raises(error, match=words):
        evaluate("abs", scores, labels)


def test_a_proportion_of_nothing_is_refused():
    with pytest.raises(UsageError):
        Proportion(0, 0)


def test_compare_pairs_image_by_image():
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    comparison = compare_right("abs", a, "clip", b)
    assert comparison == PairedComparison("abs", "clip", 1, 2, 1, 1)
    assert comparison.difference == pytest.approx(a.mean() - b.mean())
    with pytest.raises(UsageError, match="cannot be paired"):
        compare_right("abs", a, "clip", b[:3])


def test_a_difference_is_conclusive_only_if_interval_and_test_agree():
    # the interval of Altman's table leaves out zero, the exact test does not reach 5 %
    undecided = PairedComparison("a", "b", 14, 5, 0, 22)
    assert undecided.interval[0] > 0
    assert not undecided.conclusive
    assert PairedComparison("a", "b", 100, 30, 5, 40).conclusive


def test_mean_class_recall_leaves_out_classes_without_images():
    assert mean_class_recall(np.array([True, False, True]), np.array([4, 4, 9])) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("correct", "images", "classes", "side"),
    [
        (5, 1000, 200, "at"),
        (0, 60, 2, "under"),
        (50, 100, 2, "at"),
        (1, 40, 40, "at"),
        (0, 249, 249, "at"),
        (100, 1000, 10, "at"),
    ],
)
def test_chance_level_raises_the_alarm(correct, images, classes, side):
    alarm = chance_alarm(correct, images, classes)
    assert alarm is not None
    assert f"{side} the level of chance" in alarm
    assert "wrong order" in alarm


@pytest.mark.parametrize(
    ("correct", "images", "classes"),
    [(800, 1000, 200), (15, 20, 40), (0, 1, 1000), (4, 5, 2), (7, 9, 2), (30, 1000, 200), (0, 5, 1)],
)
def test_better_than_chance_or_too_few_images_raise_none(correct, images, classes):
    assert chance_alarm(correct, images, classes) is None


def test_shuffled_labels_raise_the_alarm_and_right_ones_do_not():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 20, 300)
    scores = rng.normal(size=(300, 20))
    scores[np.arange(300), labels] += 3
    assert evaluate("clip", scores, labels).alarm is None
    assert evaluate("clip", scores, (labels + 1) % 20).alarm is not None


def _results():
    labels = np.arange(200) % 20
    rng = np.random.default_rng(3)
    ranks = {name: np.where(rng.random(200) < share, 1, 7) for name, share in (("clip", 0.4), ("abs", 0.7))}
    ranks["cupl"] = ranks["clip"].copy()
    ranks["cupl"][:3] = 1
    return [evaluate_ranks(name, ranks[name], labels, 20) for name in ("clip", "cupl", "abs")]


def test_the_table_has_one_line_per_method_and_marks_what_cannot_be_shown():
    results = _results()
    text = render_table(accuracy_rows(results, {"abs": "50 crops"}, {"clip": "a photo of a {}."}))
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["method", "views", "texts"]
    assert [line.split()[0] for line in lines[2:5]] == ["clip", "cupl", "abs"]
    top1 = results[2].top1
    assert f"{100 * top1.value:.1f} [{100 * top1.low:.1f}, {100 * top1.high:.1f}]" in lines[4]
    assert difference_text(compare(results[2], results[0])) in lines[4]
    assert "<0.001" in lines[4]
    assert " ~ " in lines[3]
    assert "~" not in lines[4]
    assert lines[-1] == "~ no difference that this many images can show"
    assert "200 images" in lines[-2]
    assert all(len(line) <= 140 for line in lines)


def test_the_table_without_the_base_has_no_difference():
    text = render_table(accuracy_rows(_results()[1:], {}, {}))
    assert "minus" not in text
    assert "~" not in text
    assert render_table(()).startswith("method")


def test_the_table_shows_hostile_names_as_escapes():
    result = evaluate_ranks("a\x1b[31m\u202eb\n", np.array([1, 2]), np.array([0, 1]), 8)
    text = render_table(accuracy_rows([result], {}, {}))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a\\x1b[31m\\u202eb\\n" in text
    assert len(text.splitlines()) == 4


def test_figures_are_short_and_zero_has_no_sign():
    assert difference_text(PairedComparison("a", "b", 8, 1, 1, 0)).startswith("0.0 [")
    assert p_value_text(0.0004) == "<0.001"
    assert p_value_text(0.0416) == "0.042"
