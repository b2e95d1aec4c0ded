"""What is said of an accuracy at the level of chance, for causes that are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from abs_classify.encoding.ranking import rank_of_truth
from abs_classify.evaluation.metrics import likely_cause

CLASSES, IMAGES = 37, 740
TRUTH = np.repeat(np.arange(CLASSES), IMAGES // CLASSES)


def cause(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    ranks = rank_of_truth(scores, labels, "clip")
    return likely_cause(ranks, labels, scores.argmax(1), scores.shape[1])


def noise(seed: int, classes: int = CLASSES, images: int = IMAGES) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(images, classes))


def good(seed: int, strength: float) -> NDArray[np.float64]:
    scores = noise(seed)
    scores[np.arange(IMAGES), TRUTH] += strength
    return scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strength", [3.0, 5.0, 20.0])
def test_labels_in_another_order_are_called_so(seed: int, strength: float) -> None:
    order = np.roll(np.arange(CLASSES), 1) if seed % 2 else np.random.default_rng(seed).permutation(CLASSES)
    assert "are probably in another order" in cause(good(seed, strength), order[TRUTH])


@pytest.mark.parametrize("seed", range(5))
def test_labels_in_another_order_among_neighbours_are_called_so_although_they_rank_well(seed: int) -> None:
    scores = good(seed, 6.0)
    group = TRUTH // 6
    scores += 3.0 * (np.arange(CLASSES)[None, :] // 6 == group[:, None])
    shifted = np.where(group == (TRUTH + 1) // 6, TRUTH + 1, group * 6) % CLASSES
    assert "are probably in another order" in cause(scores, shifted)


@pytest.mark.parametrize("seed", range(5))
def test_a_true_class_that_ranks_well_is_no_sign_of_another_order(seed: int) -> None:
    scores = noise(seed)
    scores += 4.0 * (np.arange(CLASSES)[None, :] // 7 == (TRUTH // 7)[:, None])
    # the first place always goes to a neighbour, whichever
    scores[np.arange(IMAGES), TRUTH] = np.sort(scores, axis=1)[:, -4]
    assert "are probably in the right order" in cause(scores, TRUTH)
    hub = noise(seed) + 2.0 * (np.arange(CLASSES) == 3)  # one class attracts every image
    hub[np.arange(IMAGES), TRUTH] += 1.0
    hub[:, 3] += 9.0
    assert "are probably in the right order" in cause(hub, TRUTH)


@pytest.mark.parametrize("seed", range(20))
def test_labels_without_a_relation_to_the_images_leave_both_open(seed: int) -> None:
    assert cause(noise(seed), TRUTH).startswith("The labels may be in the wrong order")
    shuffled = np.random.default_rng(seed).permutation(TRUTH)
    assert cause(good(seed, 20.0), shuffled).startswith("The labels may be in the wrong order")


def test_one_image_a_class_proves_nothing() -> None:
    labels = np.arange(249)
    assert cause(noise(0, 249, 249), labels).startswith("The labels may be")
    assert cause(np.roll(np.eye(249), 1, axis=1), labels).startswith("The labels may be")


def test_two_classes_the_wrong_way_round() -> None:
    labels = np.repeat([0, 1], 30)
    scores = np.eye(2)[1 - labels]
    assert "are probably in another order" in cause(scores, labels)
