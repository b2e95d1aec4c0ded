"""Learning from corrections: what is fitted from which images, and when labels are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from abs_classify.labelling import learning
from abs_classify.labelling.confidence import ConfidenceModel
from abs_classify.labelling.fitting import choose_conformal_sets, fit_temperature
from abs_classify.labelling.learning import MIN_IMAGES, CorrectedImages, learn, rest_weights
from abs_core.errors import UsageError

CLASSES, WIDTH = 4, 6


def images(count: int, seed: int = 0, *, noise: float = 0.4, drawn: Any = None, shuffled: bool = False) -> Any:
    """Images whose features show the class; the method sees it poorly."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, count)
    features = np.eye(CLASSES, WIDTH)[truth] + noise * rng.normal(size=(count, WIDTH))
    logits = rng.normal(size=(count, CLASSES)) + 0.5 * np.eye(CLASSES)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return CorrectedImages(
        [f"sha256:{seed}-{number}" for number in range(count)],
        probabilities,
        features / np.linalg.norm(features, axis=1, keepdims=True),
        probabilities.argmax(1),
        rng.permutation(truth) if shuffled else truth,
        np.ones(count, bool) if drawn is None else drawn,
    )


def test_a_head_that_helps_is_used_and_its_gain_is_what_others_gain() -> None:
    learned, report = learn(images(80))
    others = images(2000, 1)
    labels, confidences = learned.apply(others.probabilities, others.features, others.chosen)
    gain = (labels == others.decided).mean() - (others.chosen == others.decided).mean()
    assert report.used
    assert report.head
    assert report.gain is not None
    assert report.gain[1] <= gain <= report.gain[2]
    assert gain > 0.2
    assert learned.sets is not None
    coverage = learned.sets.sets(confidences)[np.arange(2000), others.decided].mean()
    assert 0.82 < coverage < 0.98
    np.testing.assert_allclose(confidences.sum(1), 1)


def test_decisions_by_chance_change_no_labels() -> None:
    used = [learn(images(30, seed, shuffled=True))[1].used for seed in range(5)]
    assert sum(used) <= 1


@pytest.mark.parametrize("count", [0, 1, 5, MIN_IMAGES - 1])
def test_from_few_images_nothing_is_learned(count: int) -> None:
    learned, report = learn(images(count))
    assert not report.used
    assert str(MIN_IMAGES) in report.reason
    others = images(10, 1)
    labels, confidences = learned.apply(others.probabilities, others.features, others.chosen)
    assert (labels == others.chosen).all()
    np.testing.assert_allclose(confidences, others.probabilities)
    assert learned.threshold is learned.sets is None
    assert learned.images == learned.generation == 0


def test_images_of_one_class_teach_no_label() -> None:
    given = images(30)
    one_class = CorrectedImages(
        given.image_ids, given.probabilities, given.features, np.zeros(30, int), np.zeros(30, int), given.at_random
    )
    _, report = learn(one_class)
    assert not report.used


def test_images_chosen_by_doubt_fit_no_temperature_and_no_sets() -> None:
    drawn = np.arange(60) < 30
    given = images(60, noise=50, drawn=drawn)  # features that show nothing
    learned, report = learn(given)
    assert not report.used
    inverse = fit_temperature(given.probabilities[drawn], given.decided[drawn])
    assert learned.inverse_temperature == pytest.approx(inverse)
    confidences = ConfidenceModel(inverse).confidences(given.probabilities[drawn])
    assert learned.sets == choose_conformal_sets(confidences, given.decided[drawn])
    assert learned.images == report.at_random == 30
    assert report.images == 60


def test_the_order_of_the_images_decides_nothing() -> None:
    given = images(50)
    order = np.random.default_rng(5).permutation(50)
    first, second = learn(given), learn(given.subset(order))
    assert first[1] == second[1]
    assert first[0].generation == second[0].generation


def test_a_held_out_image_is_scored_without_its_decision() -> None:
    given = images(30)
    scores = learning._held_out_scores(given)
    changed = given.decided.copy()
    changed[7] = (changed[7] + 1) % CLASSES
    altered = CorrectedImages(
        given.image_ids, given.probabilities, given.features, given.chosen, changed, given.at_random
    )
    again = learning._held_out_scores(altered)
    assert (again[7] == scores[7]).all()
    assert not np.allclose(np.delete(again, 7, 0), np.delete(scores, 7, 0))


def test_images_of_which_none_are_left_count_nothing() -> None:
    decided = np.concatenate([np.linspace(0, 0.3, 50), [0.75, 0.95]])
    weights = rest_weights(decided, np.linspace(0.5, 1, 48))
    assert (weights[:40] == 0).all()
    assert (weights[-2:] > 0.8).all()
    assert (weights <= 1).all()


def test_weights_decide_whose_gain_counts() -> None:
    given = images(80)
    none_left = CorrectedImages(
        given.image_ids,
        given.probabilities,
        given.features,
        given.chosen,
        given.decided,
        given.at_random,
        weights=np.zeros(80),
    )
    _, report = learn(none_left)
    assert not report.used
    assert report.gain is None


def test_the_accuracy_sets_the_threshold() -> None:
    given = images(40)
    assert learn(given)[0].threshold == 0.5
    strict, lax = (learn(given, accuracy=accuracy)[0].threshold for accuracy in (0.999, 0.3))
    assert strict is not None
    assert lax is not None
    assert strict > 1 > lax


def test_what_does_not_fit_is_refused() -> None:
    given = images(3)
    rows = (given.probabilities, given.features, given.chosen)
    with pytest.raises(UsageError, match="appears twice"):
        CorrectedImages(["a", "a", "b"], *rows, given.decided, given.at_random)
    with pytest.raises(UsageError, match=r"must be a class from 0 to 3, got 4 to 4"):
        CorrectedImages(given.image_ids, *rows, np.full(3, 4), given.at_random)
