"""Accuracies, paired comparisons and the alarm of chance, from scores and ranks."""

from __future__ import annotations

import numpy as np
import pytest

from abs_classify.encoding.ranking import rank_of_truth
from abs_classify.evaluation.metrics import (
    MethodResult,
    PairedComparison,
    Proportion,
    SeedSpread,
    chance_alarm,
    evaluate_ranks,
    mean_class_recall,
)
from abs_core.errors import ModelError, UsageError


def evaluate_scores(method: str, scores: np.ndarray, labels: np.ndarray) -> MethodResult:
    return evaluate_ranks(method, rank_of_truth(scores, labels, method), labels, scores.shape[1])


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
    result = evaluate_scores("abs", scores, labels)
    assert result.ranks.tolist() == ranks.tolist()
    assert (result.top1.successes, result.top5.successes, result.top1.trials, result.classes) == (3, 4, 6, 8)
    assert result.mean_recall == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert evaluate_ranks("abs", ranks, labels, 8) == result


def test_top5_says_nothing_among_five_classes():
    assert evaluate_scores("clip", np.eye(5), np.arange(5)).top5 is None


@pytest.mark.parametrize(
    ("scores", "labels", "error", "words"),
    [
        (np.full((2, 3), np.nan), np.array([0, 1]), ModelError, "'abs' hold numbers that are not finite"),
        (np.zeros((2, 3)), np.array([0, 3]), UsageError, "a class index from 0 to 2"),
        (np.zeros((2, 3)), np.array([0, -1]), UsageError, "a class index from 0 to 2"),
        (np.zeros((2, 3)), np.array([0]), UsageError, "do not fit"),
        (np.zeros((0, 3)), np.array([], dtype=int), UsageError, "0 results for 0 images"),
    ],
)
def test_evaluate_refuses_what_it_cannot_count(scores, labels, error, words):
    with pytest.raises(error, match=words):
        evaluate_scores("abs", scores, labels)


def counts(both: int, first_only: int, second_only: int, neither: int) -> PairedComparison:
    return PairedComparison.of_counts(
        "abs", "clip", both=both, first_only=first_only, second_only=second_only, neither=neither
    )


def test_a_proportion_of_nothing_is_refused():
    with pytest.raises(UsageError):
        Proportion.of(0, 0)


def test_compare_pairs_image_by_image():
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 0, 1, 0], bool)
    comparison = PairedComparison.of_images("abs", a, "clip", b)
    assert comparison == counts(1, 2, 1, 1)
    assert comparison.difference == pytest.approx(a.mean() - b.mean())
    with pytest.raises(UsageError, match="cannot be paired"):
        PairedComparison.of_images("abs", a, "clip", b[:3])


def test_a_difference_is_conclusive_only_if_interval_and_test_agree():
    # the interval of Altman's table leaves out zero, the exact test does not reach 5 %
    undecided = counts(14, 5, 0, 22)
    assert undecided.low > 0
    assert not undecided.conclusive
    assert counts(100, 30, 5, 40).conclusive


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
    assert evaluate_scores("clip", scores, labels).alarm is None
    assert evaluate_scores("clip", scores, (labels + 1) % 20).alarm is not None


def test_the_spread_over_seeds_is_that_of_a_sample():
    spread = SeedSpread.of([0.5, 0.7, 0.6], first_seed=4)
    assert spread.seeds == [4, 5, 6]
    assert (spread.mean, spread.deviation) == pytest.approx((0.6, 0.1))
    assert (spread.least, spread.most) == (0.5, 0.7)
    assert SeedSpread.of([0.5]).deviation == 0


def test_of_a_method_that_votes_only_the_first_place_counts() -> None:
    """Classes without a vote follow the order of the classes, so the same scores gave any top-5 between two bounds."""
    votes = np.zeros((40, 12))
    labels = np.arange(40) % 12
    votes[np.arange(40), (labels + np.arange(40) % 2) % 12] = 3.0
    accuracies = set()
    for shift in range(12):
        order = np.roll(np.arange(12), shift)
        ranks = rank_of_truth(votes[:, order], np.argsort(order)[labels], "zero")
        assert evaluate_ranks("zero", ranks, labels, 12, votes=True).top5 is None
        top5 = evaluate_ranks("zero", ranks, labels, 12).top5
        assert top5 is not None
        accuracies.add(top5.value)
        assert evaluate_ranks("zero", ranks, labels, 12, votes=True).top1.value == 0.5
    assert len(accuracies) > 1
