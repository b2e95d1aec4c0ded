"""What labelled images say of confidences: a temperature, sets with a coverage, a threshold.

Everything here holds for images of the same kind as the labelled ones only if these were drawn at random, not looked at
because they seemed doubtful. Pure functions on arrays; imports no torch.

Sources:
    Guo et al. (2017), On calibration of modern neural networks, ICML: temperature scaling.
    Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world: split-conformal prediction.
    Sadinle, Lei and Wasserman (2019), J. Am. Stat. Assoc. 114, 223-234: least ambiguous sets (LAC).
    Romano, Sesia and Candes (2020), Classification with valid and adaptive coverage, NeurIPS: APS.
    Angelopoulos et al. (2021), Uncertainty sets for image classifiers, ICLR: RAPS.
    Angelopoulos et al. (2021), Learn then test, arXiv 2110.01052: a threshold with a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.reliability import check_right
from abs_classify.evaluation.significance import binomial_tail
from abs_classify.labelling.confidence import ConfidenceModel
from abs_core.errors import UsageError

__all__ = [
    "AccurateThreshold",
    "ConformalScore",
    "ConformalSets",
    "choose_conformal_sets",
    "choose_threshold",
    "fit_conformal_sets",
    "fit_temperature",
]

FloatArray: TypeAlias = "NDArray[np.floating]"
IntArray: TypeAlias = "NDArray[np.integer]"
BoolArray: TypeAlias = "NDArray[np.bool_]"

#: how little a class fits: by its confidence, by the sum of all from the best down to it, or by that with a penalty
ConformalScore: TypeAlias = Literal["lac", "aps", "raps"]

#: logarithms of the inverse temperatures that are tried; they stand for 0.02 to 50
_LOG_TEMPERATURES = np.linspace(-4.0, 4.0, 401)

#: the penalty of RAPS for each class beyond the first few
_PENALTY, _FREE_CLASSES = 0.01, 2

#: of the mean size of the simplest sets, what others must stay below
_WORTH_CHOOSING = 0.9

#: parts of the images, most confident first, that ``choose_threshold`` asks about
_PARTS = 20


def fit_temperature(probabilities: FloatArray, labels: IntArray) -> float:
    """The inverse temperature b at which q = P^b, made to sum to 1, says most of the true classes (Guo et al. 2017).

    The mean negative log-likelihood of the true classes is minimised. A normal prior on log b with variance 1, which
    weighs as much as one image, keeps a few images that are all right or all wrong from making every confidence 0 or 1.

    Args:
        probabilities: P [n, C] of images drawn at random.
        labels: [n], the positions of their true classes.

    Returns:
        b, from 0.02 to 50, for ``ConfidenceModel``.

    Raises:
        UsageError: no image, or shapes that do not fit.
    """
    _check_labels(probabilities, labels)

    def loss(log_temperature: float) -> float:
        shares = ConfidenceModel(math.exp(log_temperature)).confidences(probabilities)[np.arange(len(labels)), labels]
        return float(log_temperature**2 / 2 - np.log(np.maximum(shares, np.finfo(np.float64).tiny)).sum())

    # the sum may have several minima, so the lowest of a grid is refined
    losses = [loss(value) for value in _LOG_TEMPERATURES]
    position = int(np.argmin(losses))
    low, high = _LOG_TEMPERATURES[max(0, position - 1)], _LOG_TEMPERATURES[min(len(losses) - 1, position + 1)]
    for _ in range(20):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return math.exp((low + high) / 2)


@dataclass(frozen=True)
class ConformalSets:
    """Sets of classes that have the true class of an image of the same kind with a stated probability.

    Attributes:
        score: how classes are put in order, see ``ConformalScore``.
        coverage: the least probability, over the labelled images and the next one, that the set has the true class.
        threshold: the classes with at most this score are in the set; infinite where the images are too few.
        images: how many labelled images it was fitted to.
        mean_size: of the sets of these images.
    """

    score: ConformalScore
    coverage: float
    threshold: float
    images: int
    mean_size: float

    def sets(self, confidences: FloatArray) -> BoolArray:
        """Which classes are in the set of each image, bool [B, C]; a set may be empty.

        Args:
            confidences: [B, C], made as those it was fitted to.
        """
        members: BoolArray = _nonconformity(confidences, self.score) <= self.threshold
        return members


def fit_conformal_sets(
    confidences: FloatArray, labels: IntArray, coverage: float, score: ConformalScore
) -> ConformalSets:
    """Split-conformal sets: the threshold is the ceil((n + 1) coverage)-th smallest score of the true classes.

    Equal scores are all inside, so that with ties the coverage is higher and never lower.

    Args:
        confidences: q [n, C] of images drawn at random.
        labels: [n], the positions of their true classes.
        coverage: between 0 and 1.
        score: see ``ConformalScore``.

    Raises:
        UsageError: no image, shapes that do not fit, or another coverage.
    """
    _check_labels(confidences, labels)
    if not 0 < coverage < 1:
        raise UsageError(f"a coverage must be between 0 and 1, got {coverage}", remedy="Use 0.9")
    scores = _nonconformity(confidences, score)
    of_labels = np.sort(scores[np.arange(len(labels)), labels])
    # a hair less, since 10 * 0.9 may be more than 9
    place = math.ceil((len(labels) + 1) * coverage * (1 - 1e-12))
    threshold = math.inf if place > len(labels) else float(of_labels[place - 1])
    return ConformalSets(score, coverage, threshold, len(labels), float((scores <= threshold).sum(1).mean()))


def choose_conformal_sets(confidences: FloatArray, labels: IntArray, coverage: float = 0.9) -> ConformalSets:
    """The sets of ``fit_conformal_sets`` by the score that makes them smallest on average.

    A choice that looks at the same images costs a little of the coverage, so LAC is left only for sets that are smaller
    by a tenth.
    """
    simplest, *others = (fit_conformal_sets(confidences, labels, coverage, score) for score in get_args(ConformalScore))
    smallest = min(others, key=lambda sets: sets.mean_size)
    return smallest if smallest.mean_size < _WORTH_CHOOSING * simplest.mean_size else simplest


def _nonconformity(confidences: FloatArray, score: ConformalScore) -> FloatArray:
    """How little each class fits each image, [B, C]; larger is worse."""
    exact = confidences.astype(np.float64)
    if score == "lac":
        return 1 - exact
    order = np.argsort(-exact, axis=1, kind="stable")
    ranked = np.take_along_axis(exact, order, axis=1)
    sums = ranked.cumsum(1)
    if score == "raps":
        sums += _PENALTY * np.maximum(np.arange(1, exact.shape[1] + 1) - _FREE_CLASSES, 0)
    # classes of equal confidence share the score of the last of them, whatever their order
    for rank in range(exact.shape[1] - 2, -1, -1):
        equal = ranked[:, rank] == ranked[:, rank + 1]
        sums[equal, rank] = sums[equal, rank + 1]
    scores = np.empty_like(exact)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


@dataclass(frozen=True)
class AccurateThreshold:
    """A threshold of the confidence from which on labels are right often enough.

    Attributes:
        threshold: labels with at least this confidence are right with the wanted accuracy; infinite if that cannot be
            said of any.
        kept: of the labelled images, how many have it.
        right: of those, how many labels are right.
    """

    threshold: float
    kept: int
    right: int


def choose_threshold(
    confidences: FloatArray, right: BoolArray, accuracy: float, error: float = 0.1
) -> AccurateThreshold:
    """The lowest threshold from which on labels are accurate enough, wrong with a probability of at most ``error``.

    The probability is that of drawing the labelled images. Twenty thresholds, which keep twentieths of the images, are
    tested exactly (binomial), and each may err with a twentieth of the probability (Bonferroni; Learn then test).

    Args:
        confidences: [n], of the labels of images drawn at random.
        right: [n], whether the labels are right.
        accuracy: between 0 and 1, among the labels that are kept.
        error: between 0 and 1.

    Raises:
        UsageError: no image, shapes that do not fit, or numbers outside of these ranges.
    """
    check_right(confidences, right)
    for name, value in (("accuracy", accuracy), ("error", error)):
        if not 0 < value < 1:
            raise UsageError(f"the {name} must be between 0 and 1, got {value}")
    order = np.argsort(-confidences, kind="stable")
    ranked, hits = confidences[order], right[order].cumsum()
    chosen = AccurateThreshold(math.inf, 0, 0)
    for part in range(1, _PARTS + 1):
        threshold = ranked[max(0, math.ceil(len(ranked) * part / _PARTS) - 1)]
        kept = int((ranked >= threshold).sum())
        successes = int(hits[kept - 1])
        if kept > chosen.kept and binomial_tail(successes, kept, accuracy) <= error / _PARTS:
            chosen = AccurateThreshold(float(threshold), kept, successes)
    return chosen


def _check_labels(values: FloatArray, labels: IntArray) -> None:
    if values.ndim != 2 or labels.shape != values.shape[:1] or not len(labels):
        raise UsageError(
            f"labels {list(labels.shape)} do not fit confidences {list(values.shape)}, or there is no image",
            remedy="Give every image one label",
        )
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise UsageError(f"labels must be from 0 to {values.shape[1] - 1}, got {labels.min()} to {labels.max()}")
