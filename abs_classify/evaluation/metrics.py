"""How good a method is, and how sure one can be: accuracies with intervals, paired comparisons, a chance alarm.

Pure: arrays of scores or ranks in, frozen results out; no file, no network, no device.

The formulas of the intervals and tests are in ``abs_classify.intervals``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.significance import binomial_tail, mcnemar_exact, newcombe_paired, wilson
from abs_core.errors import UsageError

__all__ = [
    "EvaluationResult",
    "PairedComparison",
    "Proportion",
    "Spread",
    "chance_alarm",
    "compare",
    "compare_right",
    "evaluate_ranks",
    "mean_class_recall",
]


_ALPHA = 0.05


@dataclass(frozen=True)
class Proportion:
    """A share of successes with its Wilson 95 % interval; all three numbers between 0 and 1.

    Raises:
        UsageError: no trials, or counts that contradict each other.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if self.trials < 1 or not 0 <= self.successes <= self.trials:
            raise UsageError(
                f"{self.successes} successes in {self.trials} trials are no proportion",
                remedy="Give at least one image",
            )

    @property
    def value(self) -> float:
        """Successes by trials."""
        return self.successes / self.trials

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return wilson(self.successes, self.trials)[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return wilson(self.successes, self.trials)[1]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the counts, the share and the ends of its interval."""
        return {
            "successes": self.successes,
            "trials": self.trials,
            "value": self.value,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True)
class Spread:
    """The same number from several draws of the views.

    Attributes:
        values: one for each seed, in their order; at least one.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation (n - 1); 0 for one value."""
        return stdev(self.values) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same images: how often each was right where the other was not.

    Attributes:
        first, second: the methods' names; every difference is first minus second.
        both, first_only, second_only, neither: numbers of images.
    """

    first: str
    second: str
    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def images(self) -> int:
        """How many images were compared."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the first minus accuracy of the second, -1 to 1."""
        return (self.first_only - self.second_only) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, Newcombe's method 10."""
        return newcombe_paired(self.both, self.first_only, self.second_only, self.neither)

    @property
    def p_value(self) -> float:
        """The two-sided exact McNemar p-value."""
        return mcnemar_exact(self.first_only, self.second_only)

    @property
    def conclusive(self) -> bool:
        """Whether this many images can show a difference: the interval leaves out zero and p < 0.05.

        Both are asked for because on few images they can disagree, and then nothing should be claimed.
        """
        low, high = self.interval
        return (low > 0 or high < 0) and self.p_value < _ALPHA

    def to_dict(self) -> dict[str, Any]:
        """JSON values: names, counts, the difference with its interval, p-value and verdict."""
        low, high = self.interval
        return {
            "first": self.first,
            "second": self.second,
            "both": self.both,
            "first_only": self.first_only,
            "second_only": self.second_only,
            "neither": self.neither,
            "difference": self.difference,
            "low": low,
            "high": high,
            "p_value": self.p_value,
            "conclusive": self.conclusive,
        }


@dataclass(frozen=True)
class EvaluationResult:
    """What one method reached on one data set.

    Attributes:
        method: its name.
        images: n, how many were classified.
        classes: C, how many classes it could choose from.
        classes_seen: how many classes have at least one image; ``mean_recall`` is a mean over these.
        top1, top5: share of images whose class is the first, or among the first five; top5 is None for C <= 5, where
            it says nothing.
        mean_recall: mean over classes of the share of its images that are right, 0 to 1.
        alarm: None, or a sentence that says why the accuracy looks like chance.
        ranks: int64 [n], the place of the true class, 1 is best; in the order of the images.
    """

    method: str
    images: int
    classes: int
    classes_seen: int
    top1: Proportion
    top5: Proportion | None
    mean_recall: float
    alarm: str | None
    ranks: NDArray[np.int64] = field(repr=False, compare=False)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [n]: which images are right."""
        return np.equal(self.ranks, 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON values of everything but the ranks."""
        return {
            "method": self.method,
            "images": self.images,
            "classes": self.classes,
            "classes_seen": self.classes_seen,
            "chance": 1 / self.classes,
            "top1": self.top1.to_dict(),
            "top5": None if self.top5 is None else self.top5.to_dict(),
            "mean_recall": self.mean_recall,
            "alarm": self.alarm,
        }


def evaluate_ranks(
    method: str, ranks: NDArray[np.int64], labels: NDArray[np.integer[Any]], classes: int
) -> EvaluationResult:
    """Accuracies from the place of the true class, for runs whose scores come in shards.

    Args:
        method: its name.
        ranks: int [n], from ``rank_of_truth``, shards joined in the order of the images.
        labels: int [n], the position of the true class.
        classes: C.

    Raises:
        UsageError: no images, or lengths that differ.
    """
    if ranks.shape != labels.shape or ranks.ndim != 1 or ranks.size == 0:
        raise UsageError(
            f"method {method!r} has {ranks.size} results for {labels.size} images",
            remedy="Evaluate at least one image and give one result for each",
        )
    right = ranks == 1
    correct, images = int(right.sum()), int(ranks.size)
    return EvaluationResult(
        method=method,
        images=images,
        classes=classes,
        classes_seen=int(np.unique(labels).size),
        top1=Proportion(correct, images),
        top5=Proportion(int((ranks <= 5).sum()), images) if classes > 5 else None,
        mean_recall=mean_class_recall(right, labels),
        alarm=chance_alarm(correct, images, classes),
        ranks=np.asarray(ranks, dtype=np.int64),
    )


def compare(first: EvaluationResult, second: EvaluationResult) -> PairedComparison:
    """First minus second on the same images in the same order.

    Raises:
        UsageError: results of different numbers of images.
    """
    return compare_right(first.method, first.right, second.method, second.right)


def compare_right(
    first: str, first_right: NDArray[np.bool_], second: str, second_right: NDArray[np.bool_]
) -> PairedComparison:
    """A paired comparison from bool [n] arrays that say which images each method got right.

    Raises:
        UsageError: arrays of different or zero length.
    """
    if first_right.shape != second_right.shape or first_right.size == 0:
        raise UsageError(
            f"{first!r} has {first_right.size} results and {second!r} {second_right.size}, so they cannot be paired",
            remedy="Run both methods on the same images",
        )
    a, b = first_right.astype(bool), second_right.astype(bool)
    return PairedComparison(
        first, second, int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
    )


def mean_class_recall(right: NDArray[np.bool_], labels: NDArray[np.integer[Any]]) -> float:
    """The mean over classes of the share of a class's images that are right; classes without images do not count.

    Args:
        right: bool [n].
        labels: int [n], the position of the true class; n at least 1.
    """
    images = np.bincount(labels)
    hits = np.bincount(labels, weights=right.astype(np.float64), minlength=images.size)
    seen = images > 0
    return float((hits[seen] / images[seen]).mean())


def chance_alarm(correct: int, images: int, classes: int) -> str | None:
    """A warning if the accuracy looks like chance, else None.

    It looks like chance when an exact one-sided binomial test at 5 % does not place it above 1/C, and the upper end
    of its Wilson interval stays below the middle between 1/C and 1. The second condition keeps a handful of images,
    which can prove neither, from raising it.

    Args:
        correct: how many images are right.
        images: n, at least 1.
        classes: C.
    """
    chance = 1 / classes
    if classes < 2 or binomial_tail(correct, images, chance) <= _ALPHA:
        return None
    if wilson(correct, images)[1] >= (1 + chance) / 2:
        return None
    fewer = 1 - binomial_tail(correct + 1, images, chance) if correct < images else 1.0
    side = "under" if fewer <= _ALPHA else "at"
    return (
        f"{correct} of {images} images are right: {side} the level of chance among {classes} classes "
        f"({100 * chance:.2g} %). The labels may be in the wrong order, or name other classes than the descriptions"
    )
