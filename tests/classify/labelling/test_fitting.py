"""What labelled images say of confidences: exact small cases, and what random labels must give."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.evaluation.significance import binomial_tail
from abs_classify.labelling import fitting
from abs_classify.labelling.confidence import ConfidenceModel
from abs_classify.labelling.fitting import (
    ConformalScore,
    choose_conformal_sets,
    choose_threshold,
    fit_conformal_sets,
    fit_temperature,
)
from abs_core.errors import UsageError

SCORES: tuple[ConformalScore, ...] = ("lac", "aps", "raps")


def drawn(seed: int, images: int, classes: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(classes, spread), images)
    return shares, np.array([rng.choice(classes, p=row) for row in shares])


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(factor: float) -> None:
    shares, labels = drawn(1, 4000, 6)
    distorted = ConfidenceModel(1 / factor).confidences(shares)
    fitted = fit_temperature(distorted, labels)
    assert fitted == pytest.approx(factor, rel=0.08)


def test_the_temperature_has_the_least_loss() -> None:
    shares, labels = drawn(2, 60, 4)

    def loss(factor: float) -> float:
        confidences = ConfidenceModel(factor).confidences(shares)
        return float(math.log(factor) ** 2 / 2 - np.log(confidences[np.arange(60), labels]).sum())

    fitted = fit_temperature(shares, labels)
    assert all(loss(fitted) <= loss(fitted * step) + 1e-9 for step in (0.5, 0.9, 0.999, 1.001, 1.1, 2))
    order = np.random.default_rng(0).permutation(60)
    assert fit_temperature(shares[order], labels[order]) == pytest.approx(fitted)


def test_a_few_images_never_make_every_confidence_certain() -> None:
    shares = np.array([[0.6, 0.3, 0.1]] * 5)
    assert 1 < fit_temperature(shares, np.zeros(5, dtype=int)) < 5
    assert 0.2 < fit_temperature(shares, np.full(5, 2)) < 1
    assert fit_temperature(np.ones((3, 1)), np.zeros(3, dtype=int)) == pytest.approx(1, abs=1e-4)
    assert fit_temperature(np.array([[1.0, 0.0]]), np.array([1])) < 1


def plain_scores(confidences: np.ndarray, score: str) -> np.ndarray:
    """Scores of sets by their definitions, class by class."""
    scores = np.empty_like(confidences)
    for image, label in itertools.product(range(len(confidences)), range(confidences.shape[1])):
        row = confidences[image]
        if score == "lac":
            scores[image, label] = 1 - row[label]
            continue
        at_least = row >= row[label]
        scores[image, label] = row[at_least].sum() + (0.01 * max(0, at_least.sum() - 2) if score == "raps" else 0)
    return scores


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 30), st.integers(1, 5), st.sampled_from(SCORES), st.booleans())
def test_sets_are_their_definition(seed: int, images: int, classes: int, score: ConformalScore, ties: bool) -> None:
    shares, labels = drawn(seed, images, classes)
    if ties:
        shares = np.round(shares * 4) / 4
    sets = fit_conformal_sets(shares, labels, 0.8, score)
    scores = plain_scores(shares, score)
    of_labels = np.sort(scores[np.arange(images), labels])
    place = math.ceil((images + 1) * 0.8 - 1e-9)
    wanted = math.inf if place > images else of_labels[place - 1]
    assert sets.threshold == pytest.approx(wanted)
    near = np.abs(scores - wanted) < 1e-9  # rounding decides there
    assert (sets.sets(shares) == (scores <= wanted))[~near].all()
    assert sets.mean_size == pytest.approx(sets.sets(shares).sum(1).mean())
    covered = sets.sets(shares)[np.arange(images), labels].mean()
    assert covered >= min(1.0, place / images) - 1e-9


@pytest.mark.parametrize("score", SCORES)
def test_sets_cover_further_images_as_often_as_stated(score: ConformalScore) -> None:
    covered = []
    for seed in range(150):
        shares, labels = drawn(seed, 80, 5)
        distorted = shares**2 / (shares**2).sum(1, keepdims=True)  # whatever the confidences are worth
        sets = fit_conformal_sets(distorted[:40], labels[:40], 0.9, score)
        covered.append(sets.sets(distorted[40:])[np.arange(40), labels[40:]].mean())
    # exactly 37 of 41 on average; the standard error is 0.004
    assert np.mean(covered) == pytest.approx(37 / 41, abs=0.015)


def test_too_few_images_make_sets_of_all_classes() -> None:
    shares, labels = drawn(0, 8, 4)
    sets = fit_conformal_sets(shares, labels, 0.9, "lac")
    assert math.isinf(sets.threshold)
    assert sets.sets(shares).all()
    assert sets.mean_size == 4


def test_other_sets_are_chosen_only_if_they_are_smaller_by_more_than_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, labels = drawn(3, 300, 6)
    lac, aps, raps = (fit_conformal_sets(shares, labels, 0.9, score) for score in SCORES)
    smallest = min(aps, raps, key=lambda sets: sets.mean_size)
    assert choose_conformal_sets(shares, labels) == lac
    monkeypatch.setattr(fitting, "_WORTH_CHOOSING", smallest.mean_size / lac.mean_size + 0.01)
    assert choose_conformal_sets(shares, labels) == smallest
    monkeypatch.setattr(fitting, "_WORTH_CHOOSING", smallest.mean_size / lac.mean_size - 0.01)
    assert choose_conformal_sets(shares, labels) == lac


def test_the_threshold_is_the_lowest_that_passes_its_test() -> None:
    confidences = np.linspace(0, 1, 200)
    right = confidences > 0.3
    chosen = choose_threshold(confidences, right, 0.9)
    passing = []
    for part in range(1, 21):
        threshold = np.sort(confidences)[::-1][10 * part - 1]
        kept = confidences >= threshold
        if binomial_tail(int(right[kept].sum()), int(kept.sum()), 0.9) <= 0.1 / 20:
            passing.append(threshold)
    assert chosen.threshold == min(passing)
    assert chosen.kept == (confidences >= chosen.threshold).sum()
    assert chosen.right == right[confidences >= chosen.threshold].sum()
    order = np.random.default_rng(0).permutation(200)
    assert choose_threshold(confidences[order], right[order], 0.9) == chosen


def test_no_threshold_where_labels_are_too_few_or_too_wrong() -> None:
    few = choose_threshold(np.array([0.9, 0.8]), np.array([True, True]), 0.9)
    assert (few.threshold, few.kept, few.right) == (math.inf, 0, 0)
    wrong = choose_threshold(np.linspace(0, 1, 300), np.zeros(300, dtype=bool), 0.5)
    assert math.isinf(wrong.threshold)
    same = choose_threshold(np.full(300, 0.5), np.ones(300, dtype=bool), 0.9)
    assert (same.threshold, same.kept) == (0.5, 300)


def test_a_threshold_is_wrong_as_seldom_as_stated() -> None:
    """Labels whose true accuracy is just below the wanted one: any threshold at all is an error."""
    rng = np.random.default_rng(0)
    passed = sum(
        math.isfinite(choose_threshold(rng.random(100), rng.random(100) < 0.8, 0.8).threshold) for _ in range(400)
    )
    assert passed / 400 <= 0.1


def test_what_does_not_fit_is_refused() -> None:
    shares, labels = drawn(0, 4, 3)
    for function in (fit_temperature, choose_conformal_sets):
        with pytest.raises(UsageError, match="do not fit confidences"):
            function(shares, labels[:3])
        with pytest.raises(UsageError, match="there is no image"):
            function(shares[:0], labels[:0])
        with pytest.raises(UsageError, match="labels must be from 0 to 2"):
            function(shares, np.array([0, 1, 2, 3]))
    with pytest.raises(UsageError, match="a coverage must be between 0 and 1, got 1"):
        fit_conformal_sets(shares, labels, 1.0, "lac")
    with pytest.raises(UsageError, match="the accuracy must be between 0 and 1"):
        choose_threshold(shares[:, 0], labels == 0, 1.5)
    with pytest.raises(UsageError, match="the error must be between 0 and 1"):
        choose_threshold(shares[:, 0], labels == 0, 0.5, 0.0)
    with pytest.raises(UsageError, match="one confidence"):
        choose_threshold(shares[:, 0], labels[:2] == 0, 0.9)
