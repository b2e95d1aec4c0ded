"""How far results can be trusted where things are otherwise: what follows from predictions. Pure arithmetic.

Every interval is for other images and, where there are several, other draws of the same kind: draws and images are
crossed random effects. What is no mean over images, such as the area under a curve, enters by its value for each image,
whose mean it is; this is how readers and cases are treated together in radiology.

Sources:
    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845: areas under correlated curves.
    Dorfman, Berbaum and Metz (1992), Investigative Radiology 27, 723-731: values of images, readers and cases crossed.
    Hendrycks and Gimpel (2017), ICLR: confidence that tells right from wrong labels, and known from unknown classes.
    Liang, Li and Srikant (2018), ICLR: the false positive rate at 95 % true positives.
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13: percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.reliability import (
    Binning,
    CalibrationError,
    ConfidenceBin,
    calibration_error,
    calibration_residuals,
    reliability_table,
)
from abs_classify.evaluation.significance import crossed_difference, wilson
from abs_core.errors import UsageError

__all__ = [
    "BINS",
    "AddedClassEffect",
    "CalibrationEstimate",
    "ClassOrderEffect",
    "ConfidenceQuality",
    "DetectionEstimate",
    "IntervalEstimate",
    "RegimeEffect",
    "StreamOrderEffect",
    "UnknownClassDetection",
    "assess_confidence",
    "auroc",
    "auroc_values",
    "detect",
    "estimate_mean",
    "estimate_share",
    "false_positive_rate",
    "subset_values",
]

FloatArray: TypeAlias = "NDArray[np.floating]"
IntArray: TypeAlias = "NDArray[np.integer]"
BoolArray: TypeAlias = "NDArray[np.bool_]"

#: bins of both calibration errors, as in Guo et al. (2017)
BINS = 15

#: the share of positives that must be kept where negatives are counted
_RECALL = 0.95

_RESAMPLES = 200
_ROUNDING = 1e-12


@dataclass(frozen=True)
class IntervalEstimate:
    """A number with its 95 % interval, as a share of images."""

    value: float
    low: float
    high: float

    @property
    def leaves_out_zero(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class CalibrationEstimate:
    """An expected calibration error.

    Attributes:
        error: with an interval over the images, for these bins.
        perfect, most: the mean and the 95 % quantile of what perfectly calibrated confidences show with so many images.
    """

    error: IntervalEstimate
    perfect: float
    most: float

    @property
    def is_clear(self) -> bool:
        """Whether the error is larger than chance makes it."""
        return self.error.value > self.most


@dataclass(frozen=True)
class DetectionEstimate:
    """How well the confidence tells positives from negatives.

    Attributes:
        auroc: the probability that a positive has the higher confidence, equals counted half.
        false_positives: the share of negatives that have at least the confidence which 95 % of the positives have.
    """

    auroc: IntervalEstimate
    false_positives: IntervalEstimate


@dataclass(frozen=True)
class ConfidenceQuality:
    """What the confidences of a method are worth.

    Attributes:
        method: its name.
        top1: the share of images that are right.
        confidence: the mean confidence.
        equal_width: the calibration error with ``BINS`` bins of equal width.
        equal_mass: that with ``BINS`` bins of equally many images, the adaptive one.
        right_or_wrong: whether the confidence tells right labels from wrong ones; None where there are only one kind.
        bins: the reliability diagram, bins of equal width.
    """

    method: str
    top1: IntervalEstimate
    confidence: float
    equal_width: CalibrationEstimate
    equal_mass: CalibrationEstimate
    right_or_wrong: DetectionEstimate | None
    bins: Sequence[ConfidenceBin]


@dataclass(frozen=True)
class UnknownClassDetection:
    """Whether the confidence tells images of known classes from those of hidden ones.

    Attributes:
        method: its name.
        hidden, classes: how many classes with images are hidden, of how many.
        detection: over all draws of hidden classes.
        top1: of the images of known classes, among these classes alone.
        by_draw: the area under the curve for each draw.
    """

    method: str
    hidden: int
    classes: int
    detection: DetectionEstimate
    top1: IntervalEstimate
    by_draw: Sequence[float]


@dataclass(frozen=True)
class ClassOrderEffect:
    """How many labels change with the order of the classes.

    Attributes:
        method: its name.
        changed: the share of labels that are of another class; 0 for a method that does as it says.
        stream: whether the method depends on the images before.
        images: how many change in at least one order.
    """

    method: str
    changed: IntervalEstimate
    stream: bool
    images: int


@dataclass(frozen=True)
class AddedClassEffect:
    """What classes do that no image shows.

    Attributes:
        method: its name.
        added: how many there are.
        top1: the share of images that are right among all classes.
        difference: that minus the share without them, image by image.
        lost: the share of images that get one of them.
        changed: the share of images that get another class of the data set than before.
    """

    method: str
    added: int
    top1: IntervalEstimate
    difference: IntervalEstimate
    lost: IntervalEstimate
    changed: IntervalEstimate


@dataclass(frozen=True)
class StreamOrderEffect:
    """What the order of the images does to a stream method.

    Attributes:
        method: its name.
        top1: the mean over shuffled orders.
        by_order: top-1 in each of them.
        changed: the share of labels that are others than in the first of them; None for a single one.
        listed: top-1 in the order of the data set.
    """

    method: str
    top1: IntervalEstimate
    by_order: Sequence[float]
    changed: IntervalEstimate | None
    listed: float


@dataclass(frozen=True)
class RegimeEffect:
    """What a part of the images gets by itself, and what it gets among all images.

    A method that looks at each image alone gives both times the same labels. One that learns from the images it sees
    gains or loses.

    Attributes:
        method: its name.
        regime: "few classes" or "long tail".
        images, classes: how many there are, on average over the draws.
        factor: images of the largest class over those of the smallest, on average.
        top1, mean_recall: by itself.
        top1_difference, mean_recall_difference: that minus the same images among all.
        changed: the share of labels that are others.
        stream: whether the method depends on the images before.
    """

    method: str
    regime: str
    stream: bool
    images: float
    classes: float
    factor: float
    top1: IntervalEstimate
    top1_difference: IntervalEstimate
    mean_recall: IntervalEstimate
    mean_recall_difference: IntervalEstimate
    changed: IntervalEstimate


def auroc(scores: FloatArray, positive: BoolArray) -> float:
    """The area under the receiver operating characteristic: how often a positive has more than a negative.

    Args:
        scores: [n]; equal ones count half.
        positive: [n].

    Raises:
        UsageError: there are no positives or no negatives.
    """
    return float(_placements(scores, positive)[positive].mean())


def auroc_values(scores: FloatArray, positive: BoolArray) -> NDArray[np.float64]:
    """Of each image a value [n] whose mean is the area, and whose spread is that of the area for other images.

    Args and errors: as in ``auroc``.
    """
    placements = _placements(scores, positive)
    value = float(placements[positive].mean())
    sizes = np.where(positive, positive.sum(), (~positive).sum())
    values: NDArray[np.float64] = value + len(scores) / sizes * (placements - value)
    return values


def _placements(scores: FloatArray, positive: BoolArray) -> NDArray[np.float64]:
    """Of a positive the share of negatives below it, of a negative that of positives above it; equals count half."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise UsageError(
            f"an area under a curve needs images of both kinds, got {positives} positive and {negatives} negative",
            remedy="Use more images",
        )
    _, places = np.unique(scores, return_inverse=True)
    last = int(places.max()) + 1
    of_positives, of_negatives = (np.bincount(places[kind], minlength=last) for kind in (positive, ~positive))
    below = (np.cumsum(of_negatives) - of_negatives / 2) / negatives
    above = (positives - np.cumsum(of_positives) + of_positives / 2) / positives
    return np.where(positive, below[places], above[places])


def false_positive_rate(scores: FloatArray, positive: BoolArray) -> float:
    """The share of negatives with at least the score that 95 % of the positives have.

    Args:
        scores: [n].
        positive: [n], some of each kind.
    """
    return _RankedScores.of(scores, positive).false_positive_rate(np.ones(len(scores), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class _RankedScores:
    """Images by falling score, so that resamples of them need no sorting.

    Attributes:
        order: int64 [n].
        positive: bool [n], in that order.
        last: int64 [n], behind the last image with the score of each, in that order.
    """

    order: NDArray[np.int64]
    positive: BoolArray
    last: NDArray[np.int64]

    @classmethod
    def of(cls, scores: FloatArray, positive: BoolArray) -> _RankedScores:
        order = np.argsort(-scores, kind="stable")
        falling = -scores[order]
        return cls(order, positive[order], np.searchsorted(falling, falling, side="right"))

    def false_positive_rate(self, weights: NDArray[np.int64]) -> float:
        """With images that count ``weights`` [n] times; 0 without negatives."""
        counted = weights[self.order]
        kept = np.cumsum(np.where(self.positive, counted, 0))
        passing = self.last[np.searchsorted(kept, _RECALL * kept[-1] * (1 - _ROUNDING))]
        negatives = np.where(self.positive, 0, counted)
        return float(negatives[:passing].sum() / max(1, negatives.sum()))


def detect(draws: Sequence[tuple[FloatArray, BoolArray]], seed: int = 0) -> DetectionEstimate:
    """How well scores tell positives from negatives, over several draws of what is positive.

    Args:
        draws: at least one, of scores [n] and what is positive [n], of the same images.
        seed: of the resampling of images and draws for the interval of the false positives.

    Raises:
        UsageError: as in ``auroc``.
    """
    rows = np.array([auroc_values(scores, positive) for scores, positive in draws])
    ranked = [_RankedScores.of(scores, positive) for scores, positive in draws]
    images, rng = rows.shape[1], np.random.default_rng(seed)
    value = float(np.mean([draw.false_positive_rate(np.ones(images, dtype=np.int64)) for draw in ranked]))
    resampled = []
    for _ in range(_RESAMPLES):
        weights = np.bincount(rng.integers(images, size=images), minlength=images)
        chosen = [ranked[place] for place in rng.integers(len(draws), size=len(draws))]
        resampled.append(np.mean([draw.false_positive_rate(weights) for draw in chosen]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    smaller = min(int(min(positive.sum(), (~positive).sum())) for _, positive in draws)
    rate = IntervalEstimate(value, min(value, float(low)), max(value, float(high)))
    if low == high:
        rate = _without_spread(value, smaller)
    return DetectionEstimate(estimate_mean(rows, informative=smaller), rate)


def subset_values(values: FloatArray | BoolArray, weights: FloatArray) -> NDArray[np.float64]:
    """Of each image a value [n] whose mean is a weighted mean over some images.

    Args:
        values: [n].
        weights: [n], which sum to 1; 0 for an image that is not among them.
    """
    mean = float((weights * values).sum())
    return mean + len(values) * weights * (values - mean)


def estimate_mean(rows: FloatArray, *, informative: int | None = None, least: float = 0.0) -> IntervalEstimate:
    """The mean over draws and images, with an interval for other images and other draws.

    Where all values are equal the interval is as wide as Wilson's of 0 of so many images.

    Args:
        rows: [D, n], values of n images in D draws, each row with the mean that the draw shows.
        informative: how many images decide; None for n.
        least: 0 for a share, -1 for a difference of two.
    """
    images = rows.shape[1] if informative is None else informative
    mean = float(rows.mean())
    if rows.shape[1] < 2 or float(np.abs(rows - mean).max()) < _ROUNDING:
        return _without_spread(mean, images, least)
    value, low, high, _ = crossed_difference(rows.astype(np.float64))
    return IntervalEstimate(value, max(least, low), high)


def _without_spread(value: float, images: int, least: float = 0.0) -> IntervalEstimate:
    half = wilson(0, max(1, images))[1]
    return IntervalEstimate(value, max(least, value - half), min(1.0, value + half))


def estimate_share(happened: BoolArray) -> IntervalEstimate:
    """How often something happens: bool [D, n] for n images in D draws. Wilson's interval for a single draw."""
    if len(happened) == 1:
        return IntervalEstimate(float(happened.mean()), *wilson(int(happened.sum()), happened.size))
    return estimate_mean(happened.astype(np.float64))


def assess_confidence(method: str, confidences: FloatArray, right: BoolArray) -> ConfidenceQuality:
    """What confidences are worth.

    Args:
        method: its name.
        confidences: [n], of the labels.
        right: [n].

    Raises:
        UsageError: as in ``reliability_table``.
    """
    both = bool(right.any() and not right.all())
    return ConfidenceQuality(
        method,
        estimate_share(right[None]),
        float(confidences.mean(dtype=np.float64)),
        _calibration(confidences, right, "width"),
        _calibration(confidences, right, "mass"),
        detect([(confidences, right)]) if both else None,
        reliability_table(confidences, right, BINS, "width"),
    )


def _calibration(confidences: FloatArray, right: BoolArray, binning: Binning) -> CalibrationEstimate:
    error: CalibrationError = calibration_error(confidences, right, BINS, binning)
    residuals = calibration_residuals(confidences, right, BINS, binning)
    interval = estimate_mean(residuals[None])
    return CalibrationEstimate(IntervalEstimate(error.value, interval.low, interval.high), error.perfect, error.most)
