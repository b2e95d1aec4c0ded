"""Why an accuracy is at the level of chance: labels in another order, classes that look alike, or no relation at all.

Pure: arrays in, a sentence out. Two questions tell the causes apart. Do the images of one label go to one and the same
class, each label to another? Then the labels count in another order. Does the true class stand before most others, if
not first? Then the labels are right, and the model does not tell the class from its neighbours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["likely_cause"]

_UNKNOWN = "The labels may be in the wrong order, or name other classes than the descriptions"

# standard errors that a mean rank must lie below that of chance
_CLEARLY = 4.0

# Images that a label needs before its most frequent prediction says something, and how much of them must agree beyond
# what the frequencies of the predictions alone would give.
_MIN_IMAGES, _AGREEMENT = 4, 0.4


def likely_cause(
    ranks: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    classes: int,
) -> str:
    """What probably went wrong where the first place is right as often as by chance: a sentence without its full stop.

    Args:
        ranks: int [n], the place of the true class, 1 is best.
        labels: int [n], the position of the true class.
        predicted: int [n], the position of the class in the first place.
        classes: C, at least 2.
    """
    if (agreeing := _consistently_wrong(labels, predicted)) > _AGREEMENT:
        return (
            "The labels are probably in another order than the candidate classes: the images of one label are mostly "
            f"given one and the same other class, a different one for each label ({100 * agreeing:.0f} % beyond chance)"
        )
    mean, chance = float(ranks.mean()), (classes + 1) / 2
    error = math.sqrt((classes * classes - 1) / 12 / ranks.size)
    if mean < chance - _CLEARLY * error:
        return (
            f"Yet the true class has rank {mean:.1f} of {classes} on average (by chance {chance:.1f}), so the labels "
            "are probably in the right order: the model tells these images from others, but not the classes from their "
            "neighbours. Look at which classes are confused, and at the class names and descriptions"
        )
    return _UNKNOWN


def _consistently_wrong(labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]]) -> float:
    """How far images of one label agree on one wrong class beyond chance, 0 to 1; 0 where too little is known.

    A class that attracts the images of many labels counts for one of them only.
    """
    enough = np.flatnonzero(np.bincount(labels) >= _MIN_IMAGES)
    known = np.isin(labels, enough)
    if enough.size < 2:
        return 0.0
    labels, predicted = labels[known], predicted[known]
    pairs, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    taken: dict[int, int] = {}
    matched = 0
    for position in np.argsort(-counts, kind="stable"):
        label, guess = (int(value) for value in pairs[:, position])
        if label not in taken and guess not in taken.values() and guess != label:
            taken[label] = guess
            matched += int(counts[position])
    # what as many pairs of frequent labels and frequent predictions would give without any relation
    of_label, of_guess = np.bincount(labels), np.bincount(predicted)
    expected = sum(int(of_label[label]) * int(of_guess[guess]) for label, guess in taken.items()) / labels.size
    return (matched - expected) / (labels.size - expected) if labels.size > expected else 0.0
