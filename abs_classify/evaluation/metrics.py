"""How good a method is, and how sure one can be: accuracies with intervals, paired comparisons, a chance alarm.

Pure: arrays of ranks in, frozen results out; no file, no network, no device. Result files hold the pydantic models as
they are. The formulas of the intervals and tests are in ``abs_classify.evaluation.significance``.

Two questions tell why an accuracy is at the level of chance. Do the images of one label go to one and the same class,
each label to another? Then the labels count in another order. Does the true class stand before most others, if not
first? Then the labels are right, and the model does not tell the class from its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from abs_classify.evaluation.significance import binomial_tail, mcnemar_exact, newcombe_paired, wilson
from abs_core.errors import UsageError
from abs_core.text import valid_unicode

__all__ = [
    "MethodResult",
    "PairedComparison",
    "Proportion",
    "ResultPart",
    "SeedSpread",
    "chance_alarm",
    "evaluate_ranks",
    "likely_cause",
    "mean_class_recall",
]

_ALPHA = 0.05


class ResultPart(BaseModel):
    """What a result file consists of: frozen, and read as strictly as it was written."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _make_valid_unicode(cls, value: Any) -> Any:
        # names of files and what is said of them may hold bytes that are no text
        return _valid_unicode(value)


def _valid_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return valid_unicode(value)
    if isinstance(value, dict):
        return {_valid_unicode(name): _valid_unicode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid_unicode(item) for item in value]
    return value


class Proportion(ResultPart):
    """A share with its 95 % Wilson interval."""

    successes: int = Field(ge=0)
    trials: int = Field(ge=1)
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, successes: int, trials: int) -> Self:
        """The proportion that two counts make.

        Raises:
            UsageError: no trials, or counts that contradict each other.
        """
        if trials < 1 or not 0 <= successes <= trials:
            raise UsageError(
                f"a proportion needs 1 trial or more, and at most as many successes, got {successes} of {trials}",
                remedy="Give at least one image",
            )
        low, high = wilson(successes, trials)
        return cls(successes=successes, trials=trials, value=successes / trials, low=low, high=high)

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.successes > self.trials:
            raise ValueError(
                f"there must be at most as many successes as trials, got {self.successes} of {self.trials}"
            )
        return self


class SeedSpread(ResultPart):
    """Top-1 accuracies of several draws of the views; one seed where the method draws nothing."""

    seeds: list[int] = Field(min_length=1)
    acc1: list[float] = Field(min_length=1)
    mean: float
    #: the sample standard deviation (n - 1); 0 for one value
    deviation: float
    least: float
    most: float

    @classmethod
    def of(cls, accuracies: Sequence[float], first_seed: int = 0) -> Self:
        """The spread of the accuracies, at least one, of as many seeds from ``first_seed`` on."""
        return cls(
            seeds=list(range(first_seed, first_seed + len(accuracies))),
            acc1=list(accuracies),
            mean=fmean(accuracies),
            deviation=stdev(accuracies) if len(accuracies) > 1 else 0.0,
            least=min(accuracies),
            most=max(accuracies),
        )


class PairedComparison(ResultPart):
    """First minus second on the same images: counts, 95 % Newcombe interval, exact McNemar p."""

    first: str
    second: str
    both: int
    first_only: int
    second_only: int
    neither: int
    difference: float
    low: float
    high: float
    p_value: float
    conclusive: bool

    @classmethod
    def of_counts(cls, first: str, second: str, *, both: int, first_only: int, second_only: int, neither: int) -> Self:
        """The comparison of two methods by how often each was right where the other was not.

        It is conclusive if the interval leaves out zero and p < 0.05. Both are asked for because on few images they can
        disagree, and then nothing should be claimed.

        Args:
            first, second: the methods' names; every difference is first minus second.
            both, first_only, second_only, neither: numbers of images that were right, at least one in all.
        """
        low, high = newcombe_paired(both, first_only, second_only, neither)
        p_value = mcnemar_exact(first_only, second_only)
        return cls(
            first=first,
            second=second,
            both=both,
            first_only=first_only,
            second_only=second_only,
            neither=neither,
            difference=(first_only - second_only) / (both + first_only + second_only + neither),
            low=low,
            high=high,
            p_value=p_value,
            conclusive=(low > 0 or high < 0) and p_value < _ALPHA,
        )

    @classmethod
    def of_images(
        cls, first: str, first_right: NDArray[np.bool_], second: str, second_right: NDArray[np.bool_]
    ) -> Self:
        """The comparison of two methods from bool [n] arrays that say which images each got right.

        Raises:
            UsageError: arrays of different or zero length.
        """
        if first_right.shape != second_right.shape or first_right.size == 0:
            raise UsageError(
                f"{first!r} has {first_right.size} results and {second!r} {second_right.size}, so they cannot be "
                "paired",
                remedy="Run both methods on the same images",
            )
        a, b = first_right.astype(bool), second_right.astype(bool)
        return cls.of_counts(
            first,
            second,
            both=int((a & b).sum()),
            first_only=int((a & ~b).sum()),
            second_only=int((~a & b).sum()),
            neither=int((~a & ~b).sum()),
        )

    @property
    def images(self) -> int:
        """How many images were compared."""
        return self.both + self.first_only + self.second_only + self.neither


@dataclass(frozen=True)
class MethodResult:
    """What one method reached on one data set.

    Attributes:
        method: its name.
        classes: C, how many classes it could choose from.
        top1, top5: share of images whose class is the first, or among the first five; top5 is None for C <= 5 and for
            methods that vote, where it says nothing.
        mean_recall: mean over the classes with images of the share of their images that are right, 0 to 1.
        alarm: None, or a sentence that says why the accuracy looks like chance.
        ranks: int64 [n], the place of the true class, 1 is best; in the order of the images.
    """

    method: str
    classes: int
    top1: Proportion
    top5: Proportion | None
    mean_recall: float
    alarm: str | None
    ranks: NDArray[np.int64] = field(repr=False, compare=False)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [n]: which images are right."""
        return np.equal(self.ranks, 1)

    def minus(self, other: MethodResult) -> PairedComparison:
        """The paired difference to another method on the same images in the same order.

        Raises:
            UsageError: results of different numbers of images.
        """
        return PairedComparison.of_images(self.method, self.right, other.method, other.right)


def evaluate_ranks(
    method: str,
    ranks: NDArray[np.int64],
    labels: NDArray[np.integer[Any]],
    classes: int,
    *,
    votes: bool = False,
    predicted: NDArray[np.integer[Any]] | None = None,
) -> MethodResult:
    """Accuracies from the place of the true class, for runs whose scores come in shards.

    Args:
        method: its name.
        ranks: int [n], from ``rank_of_truth``, shards joined in the order of the images.
        labels: int [n], the position of the true class.
        classes: C.
        votes: whether the method gives most classes no score, so that their places follow the order of the classes.
        predicted: int [n], the position of the class in the first place, if known: tells why an accuracy is at chance.

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
    alarm = chance_alarm(correct, images, classes)
    if alarm is not None and predicted is not None:
        # of a method that votes, only the first places say something
        places = np.full_like(ranks, classes) if votes else ranks
        alarm = f"{alarm.partition('. ')[0]}. {likely_cause(places, labels, predicted, classes)}"
    return MethodResult(
        method=method,
        classes=classes,
        top1=Proportion.of(correct, images),
        top5=Proportion.of(int((ranks <= 5).sum()), images) if classes > 5 and not votes else None,
        mean_recall=mean_class_recall(right, labels),
        alarm=alarm,
        ranks=np.asarray(ranks, dtype=np.int64),
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
