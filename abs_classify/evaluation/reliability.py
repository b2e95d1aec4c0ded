"""Whether confidences are what they seem: the reliability table and the expected calibration error. Pure.

Sources:
    Guo et al. (2017), On calibration of modern neural networks, ICML: the error, with bins of equal width.
    Nixon et al. (2019), Measuring calibration in deep learning, CVPR workshops: bins of equally many images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.significance import wilson
from abs_core.errors import UsageError

__all__ = [
    "Binning",
    "CalibrationError",
    "ConfidenceBin",
    "calibration_error",
    "calibration_residuals",
    "check_right",
    "reliability_table",
]

FloatArray: TypeAlias = "NDArray[np.floating]"
BoolArray: TypeAlias = "NDArray[np.bool_]"

#: bins of equally many images, or of equal width over 0 to 1, of which those without an image are left out
Binning: TypeAlias = Literal["mass", "width"]

# images of a bin that count as none: rounding of a mean over equal confidences
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ConfidenceBin:
    """Images of about the same confidence.

    Attributes:
        images: how many.
        confidence: their mean.
        accuracy: the share of them whose label is right.
        low, high: the 95 % Wilson interval of the accuracy.
    """

    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class CalibrationError:
    """How far confidence is from accuracy, and how far perfect calibration would seem to be at this size.

    Attributes:
        value: the expected calibration error: the mean over bins of |confidence - accuracy|.
        perfect: what it is on average where every confidence is the probability of being right.
        most: the 95 % quantile of that; a larger value is miscalibration.
    """

    value: float
    perfect: float
    most: float


@dataclass(frozen=True, eq=False)
class _Bins:
    """The bin of each image; images of equal confidence share what is right of them, so their order decides nothing.

    Attributes:
        confidences: float64 [n], sorted.
        order: int64 [n], the images in the order of their confidences.
        bin_index: int64 [n], in that order.
        group: int64 [n], which images have equal confidence, in that order.
        counts: how many images a bin has; bins without any are left out.
    """

    confidences: NDArray[np.float64]
    order: NDArray[np.int64]
    bin_index: NDArray[np.int64]
    group: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, confidences: FloatArray, bins: int, binning: Binning) -> _Bins:
        order = np.argsort(confidences, kind="stable")
        ranked = confidences[order].astype(np.float64)
        if binning == "mass":
            count = min(bins, len(ranked))
            index = np.repeat(np.arange(count), [len(part) for part in np.array_split(ranked, count)])
        else:
            # as published: a bin has its upper edge, and the first one 0 as well
            index = np.unique(np.clip(np.ceil(ranked * bins) - 1, 0, bins - 1), return_inverse=True)[1]
        group = np.cumsum(np.diff(ranked, prepend=ranked[0]) > 0, dtype=np.int64)
        return cls(ranked, order, index.astype(np.int64), group, np.bincount(index))

    def hits(self, right: BoolArray) -> NDArray[np.float64]:
        """[n], in the order of the confidences: whether images are right, averaged over those of equal confidence."""
        counts = np.bincount(self.group)
        means: NDArray[np.float64] = (np.bincount(self.group, weights=right[self.order]) / counts)[self.group]
        return means

    def gaps(self, hits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each bin the sum of confidence minus accuracy over its images."""
        gaps: NDArray[np.float64] = np.bincount(self.bin_index, weights=self.confidences - hits).astype(np.float64)
        return gaps


def reliability_table(
    confidences: FloatArray, right: BoolArray, bins: int = 10, binning: Binning = "mass"
) -> list[ConfidenceBin]:
    """Confidence beside accuracy, least confident first.

    Images of equal confidence count with their mean, so their order decides nothing.

    Args:
        confidences: [n], of the labels.
        right: [n], whether they are right.
        bins: how many; of equally many images as many as images where these are fewer.
        binning: see ``Binning``.

    Raises:
        UsageError: no image, shapes that do not fit, or no bin.
    """
    _check(confidences, right, bins)
    parts = _Bins.of(confidences, bins, binning)
    hits = parts.hits(right)
    sums, successes = (np.bincount(parts.bin_index, weights=values) for values in (parts.confidences, hits))
    table = []
    for count, total, share in zip(parts.counts.tolist(), sums.tolist(), successes.tolist(), strict=True):
        low, high = wilson(round(share), count)
        table.append(ConfidenceBin(count, total / count, share / count, low, high))
    return table


def calibration_error(
    confidences: FloatArray,
    right: BoolArray,
    bins: int = 10,
    binning: Binning = "mass",
    *,
    repeats: int = 200,
    seed: int = 0,
) -> CalibrationError:
    """The expected calibration error, beside that of simulated perfect calibration.

    Few images make the error of any confidence larger than 0, so the number alone says little: the same confidences
    with labels that are right by chance as often as they say are its yardstick.

    Args and errors: as in ``reliability_table``; ``repeats`` simulations, drawn with ``seed``.
    """
    _check(confidences, right, bins)
    parts = _Bins.of(confidences, bins, binning)

    def error(labels: BoolArray) -> float:
        return float(np.abs(parts.gaps(parts.hits(labels))).sum() / len(confidences))

    rng = np.random.default_rng(seed)
    simulated = [error(rng.random(len(confidences)) < confidences) for _ in range(repeats)]
    return CalibrationError(error(right), float(np.mean(simulated)), float(np.quantile(simulated, 0.95)))


def calibration_residuals(
    confidences: FloatArray, right: BoolArray, bins: int = 10, binning: Binning = "mass"
) -> NDArray[np.float64]:
    """What each image adds to the expected calibration error: float64 [n], of which that error is the mean.

    It is confidence minus right, with the sign that the sum over the image's bin has: so its spread over the images is
    that of the error for other images, as long as the bins keep their signs.

    Args and errors: as in ``reliability_table``.
    """
    _check(confidences, right, bins)
    parts = _Bins.of(confidences, bins, binning)
    hits = parts.hits(right)
    gaps = parts.gaps(hits)
    signs = np.where(np.abs(gaps) < _ROUNDING, 0.0, np.sign(gaps))
    residuals = np.empty(len(confidences))
    residuals[parts.order] = signs[parts.bin_index] * (parts.confidences - hits)
    return residuals


def check_right(confidences: FloatArray, right: BoolArray) -> None:
    """Refuse confidences and labels of different images, or none.

    Raises:
        UsageError: as said.
    """
    if confidences.ndim != 1 or right.shape != confidences.shape or not len(right):
        raise UsageError(
            f"confidences {list(confidences.shape)} and whether labels are right {list(right.shape)} do not fit, or "
            "there is no image",
            remedy="Give every image one confidence",
        )


def _check(confidences: FloatArray, right: BoolArray, bins: int) -> None:
    check_right(confidences, right)
    if bins < 1:
        raise UsageError(f"there must be a bin, got {bins}", remedy="Use 10")
