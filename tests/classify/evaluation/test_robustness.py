"""What robustness is computed by: against scikit-learn, by hand, and what must hold of any scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from abs_classify.evaluation.robustness import (
    BINS,
    assess_confidence,
    auroc,
    auroc_values,
    detect,
    estimate_mean,
    estimate_share,
    false_positive_rate,
    subset_values,
)
from abs_classify.evaluation.significance import wilson
from abs_core.errors import UsageError

# few values, so that many are equal
IMAGES = st.lists(st.tuples(st.integers(-4, 4).map(lambda number: number / 4), st.booleans()), min_size=2, max_size=40)
BOTH_KINDS = IMAGES.filter(lambda images: 0 < sum(flag for _, flag in images) < len(images))


def arrays(images: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in images]), np.array([flag for _, flag in images])


@settings(max_examples=80, deadline=None)
@given(BOTH_KINDS)
def test_the_area_is_that_of_scikit_learn_and_the_mean_of_its_values(images: list[tuple[float, bool]]) -> None:
    scores, positive = arrays(images)
    area = auroc(scores, positive)
    assert area == pytest.approx(roc_auc_score(positive, scores))
    assert auroc_values(scores, positive).mean() == pytest.approx(area)
    # of the ranks alone, and symmetric in what is positive
    assert auroc(np.exp(3 * scores), positive) == pytest.approx(area)
    assert auroc(-scores, positive) == pytest.approx(1 - area)
    assert auroc(scores, ~positive) == pytest.approx(1 - area)
    order = np.arange(len(scores))[::-1]
    assert auroc_values(scores[order], positive[order]) == pytest.approx(auroc_values(scores, positive)[order])


@settings(max_examples=80, deadline=None)
@given(BOTH_KINDS)
def test_false_positives_are_counted_where_95_per_cent_of_the_positives_pass(images: list[tuple[float, bool]]) -> None:
    scores, positive = arrays(images)
    passing = [value for value in scores if (scores[positive] >= value).mean() >= 0.95]
    assert false_positive_rate(scores, positive) == pytest.approx((scores[~positive] >= max(passing)).mean())
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert false_positive_rate(scores, positive) == pytest.approx(false[true >= 0.95 - 1e-12].min())


def test_the_variance_of_the_area_is_that_of_delong() -> None:
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, 60), rng.normal(0, 1, 40)
    wins = (positives[:, None] > negatives[None]).astype(float)
    variance = wins.mean(1).var(ddof=1) / 60 + wins.mean(0).var(ddof=1) / 40
    values = auroc_values(np.concatenate([positives, negatives]), np.arange(100) < 60)
    assert values.var(ddof=1) / 100 == pytest.approx(variance, rel=0.02)


def test_intervals_of_the_area_hold_the_true_one_as_often_as_they_say() -> None:
    true = 0.5 * (1 + math.erf(1 / 2))  # of normal scores that are 1 apart
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        positive = np.arange(80) < 40
        area = estimate_mean(auroc_values(rng.normal(positive.astype(float), 1), positive)[None])
        held += area.low <= true <= area.high
    assert 0.9 <= held / 200 <= 0.99


def test_perfect_scores_have_an_interval_all_the_same() -> None:
    positive = np.arange(20) < 5
    perfect = detect([(positive.astype(float), positive)])
    assert (perfect.auroc.value, perfect.auroc.high) == (1, 1)
    assert perfect.auroc.low == pytest.approx(1 - wilson(0, 5)[1])
    assert (perfect.false_positives.value, perfect.false_positives.low) == (0, 0)
    assert perfect.false_positives.high == pytest.approx(wilson(0, 5)[1])


def test_scores_that_say_nothing_tell_nothing() -> None:
    same = detect([(np.full(40, 0.3), np.arange(40) < 20)])
    assert (same.auroc.value, same.false_positives.value) == (0.5, 1)
    with pytest.raises(UsageError, match="images of both kinds, got 2 positive and 0 negative"):
        auroc(np.array([0.1, 0.2]), np.array([True, True]))


def test_several_draws_have_the_mean_of_their_areas_and_draws_that_differ_widen_it() -> None:
    rng = np.random.default_rng(2)
    scores = rng.random(200)
    good, bad = scores > 0.3 + 0.2 * rng.random(200), scores + rng.random(200) > 1
    several = detect([(scores, good), (scores, bad)])
    assert several.auroc.value == pytest.approx((auroc(scores, good) + auroc(scores, bad)) / 2)
    assert several.false_positives.low <= several.false_positives.value <= several.false_positives.high
    alone = detect([(scores, bad)])
    assert several.auroc.high - several.auroc.low > alone.auroc.high - alone.auroc.low
    assert detect([(scores, good), (scores, bad)]) == several


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(1, 3))
def test_a_share_lies_in_its_interval(happened: list[bool], draws: int) -> None:
    row = np.array(happened)
    estimate = estimate_share(np.tile(row, (draws, 1)))
    assert estimate.value == pytest.approx(row.mean())
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1
    if draws == 1:
        assert (estimate.low, estimate.high) == wilson(int(row.sum()), len(row))


def test_where_nothing_differs_the_interval_is_that_of_none_of_so_many() -> None:
    nothing = estimate_mean(np.zeros((3, 50)), least=-1)
    assert (nothing.value, nothing.low, nothing.high) == (0, -wilson(0, 50)[1], wilson(0, 50)[1])
    assert not nothing.leaves_out_zero
    assert estimate_mean(np.zeros((3, 50)), informative=5).high == wilson(0, 5)[1]
    assert estimate_mean(np.ones((1, 1))).high == 1
    clear = estimate_mean(np.array([[0.0] * 10 + [1.0] * 90]), least=-1)
    assert clear.leaves_out_zero


def test_a_part_of_the_images_counts_by_its_weights() -> None:
    values, weights = np.array([1.0, 0, 1, 1]), np.array([0.5, 0.25, 0.25, 0])
    of_part = subset_values(values, weights)
    assert of_part.mean() == pytest.approx(0.75)
    assert of_part[3] == 0.75  # which says nothing of the part
    whole = subset_values(values, np.full(4, 0.25))
    assert whole == pytest.approx(values)


def test_what_confidences_are_worth() -> None:
    rng = np.random.default_rng(3)
    confidences = rng.random(500).astype(np.float32)
    honest = assess_confidence("clip", confidences, rng.random(500) < confidences)
    assert honest.confidence == pytest.approx(confidences.mean(), abs=1e-6)
    assert honest.equal_width.error.value < 2 * honest.equal_width.perfect
    assert honest.right_or_wrong is not None
    assert honest.right_or_wrong.auroc.value > 0.7
    assert len(honest.bins) == BINS
    assert sum(entry.images for entry in honest.bins) == 500
    boastful = assess_confidence("clip", np.sqrt(confidences), rng.random(500) < confidences)
    assert boastful.equal_width.is_clear
    assert boastful.equal_mass.is_clear
    error = boastful.equal_mass.error
    assert error.low < error.value < error.high
    assert assess_confidence("clip", confidences, np.ones(500, dtype=bool)).right_or_wrong is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.booleans()), min_size=2, max_size=12), st.integers(1, 4))
def test_no_interval_leaves_what_a_share_can_be(images: list[tuple[float, bool]], draws: int) -> None:
    scores, positive = arrays(images)
    quality = assess_confidence("clip", scores, positive)
    estimates = [quality.top1, quality.equal_width.error, quality.equal_mass.error]
    if positive.any() and not positive.all():
        detection = detect([(scores, np.roll(positive, draw)) for draw in range(draws)])
        estimates += [detection.auroc, detection.false_positives]
    for estimate in estimates:
        assert 0 <= estimate.low <= estimate.value + 1e-9
        assert estimate.value - 1e-9 <= estimate.high <= 1
