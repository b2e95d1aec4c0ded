"""Predictions of runs that were never run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from abs_classify.evaluation.predictions import MethodPredictions, RunPredictions

CLASSES = ("ant", "bee", "cat")


def make_pass(method: str, labels: Sequence[int], predicted: Sequence[int], *, seed: int = 0) -> MethodPredictions:
    """What a method said: where it is wrong, the true class comes second. A prediction of -1 could not be read."""
    guesses = np.array(predicted, np.int64)
    ranks = np.where(guesses < 0, 0, np.where(guesses == np.array(labels), 1, 2))
    top = np.maximum(guesses, 0)[:, None]
    return MethodPredictions(method, seed, top, np.zeros((len(guesses), 0), np.float32), ranks)


def make_predictions(
    labels: Sequence[int], passes: Sequence[MethodPredictions] = (), *, images: Sequence[int] | None = None
) -> RunPredictions:
    """Predictions of images of three classes, with ids that are made of numbers."""
    numbers = range(len(labels)) if images is None else images
    ids, paths = [f"sha256:{number:064x}" for number in numbers], [f"{number}.png" for number in numbers]
    return RunPredictions(ids, paths, np.array(labels, np.int64), CLASSES, CLASSES, list(passes))
