"""Closed-form heads against the formulas written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from abs_classify.labelling.heads import CacheHead, HeadSpec, LinearHead, fit_head


def unit_rows(rng: np.random.Generator, *shape: int) -> Any:
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(params=[(12, 30), (60, 8)], ids=["fewer images than dimensions", "more"])
def labelled(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """Features of labelled images, their classes out of 0 to 4, of which 4 has none, and features of two others."""
    count, width = request.param
    rng = np.random.default_rng(count)
    return unit_rows(rng, count, width), rng.integers(0, 4, count), unit_rows(rng, 2, width)


def fitted(spec: HeadSpec, labelled: tuple[Any, Any, Any], **options: Any) -> LinearHead | CacheHead:
    features, labels, _ = labelled
    return fit_head(spec, features, labels, 5, **{"at_random": np.ones(len(labels), bool), **options})


def test_the_cache_is_that_of_tip_adapter(labelled: tuple[Any, Any, Any]) -> None:
    features, labels, others = labelled
    logits = fitted(HeadSpec("cache", sharpness=5.5), labelled).logits(others)
    expected = np.zeros((2, 5))
    for image in range(2):
        for key, label in zip(features, labels, strict=True):
            expected[image, label] += np.exp(-5.5 * (1 - float(others[image] @ key)))
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    assert (logits[:, 4] == 0).all()


def test_gaussian_discriminant_analysis_is_the_ratio_of_densities(labelled: tuple[Any, Any, Any]) -> None:
    features, labels, others = labelled
    logits = fitted(HeadSpec("gda", smoothing=2.0, sharpness=0.3), labelled).logits(others)
    centre = features.mean(0)
    means = [(features[labels == c].sum(0) + 2.0 * centre) / ((labels == c).sum() + 2.0) for c in range(5)]
    rest = features - np.array([means[label] for label in labels])
    scatter = rest.T @ rest / len(features)
    width = features.shape[1]
    precision = np.linalg.inv(0.7 * scatter + 0.3 * np.trace(scatter) / width * np.eye(width))

    def log_density(value: Any, mean: Any) -> float:
        return float(-(value - mean) @ precision @ (value - mean) / 2)

    expected = [[log_density(value, mean) - log_density(value, centre) for mean in means] for value in others]
    np.testing.assert_allclose(logits, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(logits[:, 4], 0, atol=1e-8)


def test_one_image_of_one_class_gives_finite_logits() -> None:
    features = unit_rows(np.random.default_rng(0), 1, 4)
    for spec in (HeadSpec("gda", 1.0, 0.3), HeadSpec("alignment", 0.1)):
        head = fit_head(spec, features, np.array([1]), 3, at_random=np.array([True]), class_vectors=np.eye(3, 4))
        assert np.isfinite(head.logits(features)).all()


def test_the_alignment_is_ridge_regression_onto_the_class_vectors(labelled: tuple[Any, Any, Any]) -> None:
    features, labels, others = labelled
    vectors = unit_rows(np.random.default_rng(3), 5, features.shape[1])
    logits = fitted(HeadSpec("alignment", smoothing=0.01), labelled, class_vectors=vectors).logits(others)
    centred, targets = features - features.mean(0), vectors - vectors.mean(0)
    # ridge regression as least squares with rows for the penalty
    rows = np.vstack([centred, np.sqrt(0.01 * len(features)) * np.eye(features.shape[1])])
    wanted = np.vstack([targets[labels], np.zeros((features.shape[1], features.shape[1]))])
    mapping = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    np.testing.assert_allclose(logits, (others - features.mean(0)) @ mapping @ targets.T, rtol=1e-7, atol=1e-9)


def test_priors_count_only_images_drawn_at_random(labelled: tuple[Any, Any, Any]) -> None:
    _, labels, others = labelled
    drawn = np.arange(len(labels)) % 2 == 0
    logits = fitted(HeadSpec("priors", smoothing=1.0), labelled, at_random=drawn).logits(others)
    counts = np.array([(labels[drawn] == c).sum() + 1.0 for c in range(5)])
    np.testing.assert_allclose(logits, np.tile(np.log(counts / counts.mean()), (2, 1)), rtol=1e-12)
