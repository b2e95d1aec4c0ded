"""Reliability tables and calibration errors: exact small cases, an independent way to count, what holds of any."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.evaluation.reliability import (
    Binning,
    calibration_error,
    calibration_residuals,
    reliability_table,
)
from abs_core.errors import UsageError

BINNINGS: tuple[Binning, ...] = ("mass", "width")


def drawn(seed: int, images: int, classes: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(classes, spread), images)
    return shares, np.array([rng.choice(classes, p=row) for row in shares])


def error_by_hand(confidences: list[float], right: list[bool], bins: int) -> float:
    """The error with bins of equal width, image by image, as Guo et al. define it."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        members = [place for place, value in enumerate(confidences) if low < value <= high or number == value == 0]
        if members:
            confidence = sum(confidences[place] for place in members) / len(members)
            accuracy = sum(right[place] for place in members) / len(members)
            total += len(members) / len(confidences) * abs(accuracy - confidence)
    return total


def test_bins_have_equally_many_images_and_equal_confidences_their_mean() -> None:
    confidences = np.array([0.9, 0.1, 0.5, 0.5, 0.5, 0.5])
    right = np.array([True, False, True, False, False, True])
    table = reliability_table(confidences, right, 3)
    assert [entry.images for entry in table] == [2, 2, 2]
    assert [entry.confidence for entry in table] == pytest.approx([0.3, 0.5, 0.7])
    assert [entry.accuracy for entry in table] == pytest.approx([0.25, 0.5, 0.75])
    assert all(entry.low <= entry.accuracy <= entry.high for entry in table)
    for order in itertools.permutations(range(6), 6):
        assert reliability_table(confidences[list(order)], right[list(order)], 3) == table
    assert len(reliability_table(confidences, right, 10)) == 6


def test_the_calibration_error_is_the_mean_difference_and_has_its_yardstick() -> None:
    confidences, right = np.array([0.1, 0.1, 0.8, 0.8]), np.array([True, False, True, True])
    error = calibration_error(confidences, right, 2, repeats=4000)
    assert error.value == pytest.approx((0.4 + 0.2) / 2)
    lower = {0: 0.81, 1: 0.18, 2: 0.01}  # how many of two are right at 0.1, and at 0.8
    upper = {0: 0.04, 1: 0.32, 2: 0.64}
    mean = sum(p * abs(0.1 - k / 2) for k, p in lower.items()) + sum(p * abs(0.8 - k / 2) for k, p in upper.items())
    assert error.perfect == pytest.approx(mean / 2, abs=0.01)
    assert error.perfect <= error.most <= 1
    assert calibration_error(confidences, right, 2) == calibration_error(confidences, right, 2)
    assert calibration_error(confidences, right, 2, seed=1).value == error.value
    shares, labels = drawn(4, 3000, 5)
    honest = calibration_error(shares.max(1), shares.argmax(1) == labels)
    assert honest.value <= honest.most
    boastful = calibration_error(shares.max(1) ** 0.3, shares.argmax(1) == labels)
    assert boastful.value > 3 * boastful.most


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 32).map(lambda number: number / 32), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([1, 2, 4, 8, 16]),
)
def test_bins_of_equal_width_give_the_published_error(images: list[tuple[float, bool]], bins: int) -> None:
    confidences, right = [value for value, _ in images], [flag for _, flag in images]
    value = calibration_error(np.array(confidences), np.array(right), bins, "width", repeats=1).value
    assert value == pytest.approx(error_by_hand(confidences, right, bins))
    table = reliability_table(np.array(confidences), np.array(right), bins, "width")
    assert sum(entry.images * abs(entry.confidence - entry.accuracy) for entry in table) / len(images) == (
        pytest.approx(value)
    )
    assert 1 <= len(table) <= bins
    assert sum(entry.images for entry in table) == len(images)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 15),
    st.sampled_from(BINNINGS),
)
def test_what_each_image_adds_has_the_error_as_its_mean_in_any_order(
    images: list[tuple[float, bool]], bins: int, binning: Binning
) -> None:
    confidences, right = np.array([value for value, _ in images]), np.array([flag for _, flag in images])
    error = calibration_error(confidences, right, bins, binning, repeats=1).value
    residuals = calibration_residuals(confidences, right, bins, binning)
    assert residuals.mean() == pytest.approx(error, abs=1e-7)
    assert calibration_residuals(confidences[::-1], right[::-1], bins, binning).mean() == pytest.approx(error, abs=1e-7)
    assert 0 <= error <= 1
    # one bin knows the means alone
    assert calibration_error(confidences, right, 1, binning, repeats=1).value == (
        pytest.approx(abs(confidences.mean() - right.mean()), abs=1e-9)
    )


@pytest.mark.parametrize("binning", BINNINGS)
def test_calibrated_confidences_seldom_exceed_what_chance_shows(binning: Binning) -> None:
    rng, clear = np.random.default_rng(0), 0
    for _ in range(100):
        confidences = rng.random(200)
        error = calibration_error(confidences, rng.random(200) < confidences, 15, binning, repeats=60)
        clear += error.value > error.most
    assert clear <= 14  # of 100 at 5 %


@pytest.mark.parametrize("binning", BINNINGS)
def test_perfect_and_worst_confidences(binning: Binning) -> None:
    certain = np.ones(20)
    assert calibration_error(certain, np.ones(20, dtype=bool), 15, binning).value == 0
    assert calibration_error(certain, np.zeros(20, dtype=bool), 15, binning).value == 1
    assert (calibration_residuals(certain, np.zeros(20, dtype=bool), 15, binning) == 1).all()


@pytest.mark.parametrize("binning", BINNINGS)
def test_what_does_not_fit_is_refused(binning: Binning) -> None:
    values, right = np.array([0.5, 0.7]), np.array([True, False])
    for function in (reliability_table, calibration_error, calibration_residuals):
        with pytest.raises(UsageError, match="one confidence"):
            function(values, right[:1], 10, binning)
        with pytest.raises(UsageError, match="there is no image"):
            function(values[:0], right[:0], 10, binning)
        with pytest.raises(UsageError, match="there must be a bin, got 0"):
            function(values, right, 0, binning)
