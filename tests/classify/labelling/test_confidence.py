"""From class probabilities to confidences: one definition, and when a label is doubtful."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.labelling.confidence import (
    ConfidenceModel,
    class_rankings,
    doubtful_threshold,
    label_confidences,
)
from abs_core.errors import UsageError


def shares(seed: int, images: int, classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), images)


def test_unfitted_confidences_are_the_probabilities() -> None:
    probabilities = shares(0, 5, 4).astype(np.float32)
    confidences = ConfidenceModel().confidences(probabilities)
    assert confidences.dtype == np.float64
    assert np.allclose(confidences, probabilities, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6), st.floats(0.05, 20))
def test_confidences_are_their_definition(seed: int, classes: int, factor: float) -> None:
    probabilities = shares(seed, 3, classes)
    powers = probabilities**factor
    confidences = ConfidenceModel(factor).confidences(probabilities)
    assert np.allclose(confidences, powers / powers.sum(1, keepdims=True))
    assert np.allclose(confidences.sum(1), 1)
    assert (confidences.argsort(1) == probabilities.argsort(1)).all()


def test_a_class_without_any_probability_keeps_none_and_certainty_stays() -> None:
    confidences = ConfidenceModel(3.0).confidences(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert confidences.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    sharp = ConfidenceModel(50.0).confidences(np.array([[0.5, 0.3, 0.2]] * 2))
    assert sharp[0, 0] > 0.999
    assert ConfidenceModel().confidences(np.empty((0, 3))).shape == (0, 3)


def test_models_that_make_no_sense_are_refused() -> None:
    for factor in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="inverse temperature must be positive"):
            ConfidenceModel(factor)


def test_the_label_is_first_and_the_others_follow_by_confidence() -> None:
    confidences = np.array([[0.1, 0.5, 0.2, 0.2], [0.4, 0.3, 0.2, 0.1]])
    labels = np.array([0, 0])
    assert class_rankings(confidences, labels, 3).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert class_rankings(confidences, np.array([3, 2]), 9).tolist() == [[3, 1, 2, 0], [2, 0, 1, 3]]
    assert label_confidences(confidences, np.array([2, 1])).tolist() == [0.2, 0.3]
    assert confidences[0].tolist() == [0.1, 0.5, 0.2, 0.2]  # as it was given


def test_a_label_is_doubtful_below_one_half_and_of_two_classes_below_two_thirds() -> None:
    assert doubtful_threshold(1) == 0.0
    assert doubtful_threshold(2) == pytest.approx(2 / 3)
    assert [doubtful_threshold(classes) for classes in (3, 4, 1000)] == [0.5] * 3
