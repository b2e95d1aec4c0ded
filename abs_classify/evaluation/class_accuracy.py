"""Where a method is right and what it confuses, class by class, from the predictions kept with a run.

Pure. An image counts as the share of the draws of its views in which it is right, so that counts of several draws are
means over them; intervals are over images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.paired_tests import MODELS, PairedTest, align_draws, corrected_p_values
from abs_classify.evaluation.predictions import MethodPredictions, RunPredictions
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import PredictionReader
from abs_classify.evaluation.significance import wilson
from abs_core.errors import UnknownNameError, UsageError
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted

# classes and pairs that a notebook shows
_SHOWN = 20

__all__ = [
    "ClassAccuracy",
    "ClassGain",
    "ClassTable",
    "ConfusedPair",
    "ConfusionMatrix",
    "class_gains",
    "class_table",
    "confusion_matrix",
    "gains_model",
    "predictions_of",
]


@dataclass(frozen=True)
class ClassAccuracy:
    """The images of one class.

    Attributes:
        class_id, class_name: of the class.
        images: how many there are.
        right: how many are right, the mean over the draws.
        accuracy, low, high: their share, and its 95 % Wilson interval.
        predicted: how many images of all classes are given this one, the mean over the draws.
        precision: the share of these that are of the class; None if there are none.
    """

    class_id: str
    class_name: str
    images: int
    right: float
    accuracy: float
    low: float
    high: float
    predicted: float
    precision: float | None


@dataclass(frozen=True)
class ConfusedPair:
    """How many images of one class are given another one, the mean over the draws, and what share of the class."""

    truth: str
    predicted: str
    images: float
    share: float


@dataclass(frozen=True)
class ClassGain:
    """What one class gains from one method over another: the first minus the second, and p corrected for all classes.

    Attributes:
        class_id, class_name: of the class.
        paired: the test on its images.
        corrected_p: by Holm, for all classes with images.
    """

    class_id: str
    class_name: str
    paired: PairedTest
    corrected_p: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = {"class_id": self.class_id, "class_name": self.class_name}
        return {**names, **self.paired.to_dict(), "corrected_p": self.corrected_p}


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """How often images of each class were given each class, over all draws; only cells that are not empty.

    Args:
        class_ids, class_names: of the C classes.
        cells: int64 [m, 3]: true class, predicted class, count; in this order.
        draws: how many draws were counted.
    """

    class_ids: Sequence[str]
    class_names: Sequence[str]
    cells: NDArray[np.int64]
    draws: int

    def dense(self) -> NDArray[np.int64]:
        """[C, C], true classes as rows."""
        matrix = np.zeros((len(self.class_ids),) * 2, np.int64)
        matrix[self.cells[:, 0], self.cells[:, 1]] = self.cells[:, 2]
        return matrix

    def rows(self) -> Iterator[list[object]]:
        """The dense matrix row by row, each with the name of its class first; no more than one is in memory."""
        ends = np.searchsorted(self.cells[:, 0], np.arange(len(self.class_ids) + 1))
        for position, name in enumerate(self.class_names):
            counts = [0] * len(self.class_names)
            for _, predicted, count in self.cells[ends[position] : ends[position + 1]].tolist():
                counts[predicted] = count
            yield [name, *counts]

    def to_dict(self) -> dict[str, Any]:
        """JSON values: ``cells`` holds true class, predicted class and count, as positions in ``classes``."""
        pairs = zip(self.class_ids, self.class_names, strict=True)
        classes = [{"id": class_id, "name": name} for class_id, name in pairs]
        return {"classes": classes, "draws": self.draws, "cells": self.cells.tolist()}


@dataclass(frozen=True)
class ClassTable:
    """What one method does class by class.

    Attributes:
        method: its name.
        images, draws: how many there are.
        classes: with images, in the order of the label space.
        confused: pairs of classes, those first that most images confuse.
    """

    method: str
    images: int
    draws: int
    classes: Sequence[ClassAccuracy]
    confused: Sequence[ConfusedPair]

    def __repr__(self) -> str:
        classes, images = counted(len(self.classes), "class", "classes"), counted(self.images, "image", "images")
        return f"<ClassTable of {self.method!r}: {classes}, {images}>"

    def _repr_html_(self) -> str:
        worst = sorted(self.classes, key=lambda entry: (entry.accuracy, -entry.images))[:_SHOWN]
        of = f", the {_SHOWN} least accurate of {len(self.classes)} classes" if len(self.classes) > _SHOWN else ""
        classes = [
            (entry.class_name, entry.images, f"{entry.accuracy:.4f}", f"{entry.low:.4f}", f"{entry.high:.4f}")
            for entry in worst
        ]
        pairs = [(pair.truth, pair.predicted, f"{pair.images:.4g}") for pair in self.confused[:_SHOWN]]
        return html_table(f"{self.method}{of}", ("class", "images", "accuracy", "low", "high"), classes) + (
            html_table("most confused", ("class", "taken for", "images"), pairs) if pairs else ""
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each class with images.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame(map(asdict, self.classes), [field.name for field in fields(ClassAccuracy)])


def predictions_of(results: RunPredictions | Sequence[ResultRecord]) -> RunPredictions:
    """What the methods of an evaluation said of each image.

    Args:
        results: of one data set, model and label space, as ``evaluate(..., results=FOLDER)`` returned them; or the
            predictions themselves.

    Raises:
        UsageError: results of several combinations, or none.
        ResultError, StorageError: no predictions were kept, or they cannot be read.
    """
    if isinstance(results, RunPredictions):
        return results
    combinations = {record.details.predictions for record in results}
    if len(combinations) != 1:
        raise UsageError(
            f"classes are compared within one data set, model and bundle, and these are {len(combinations)} "
            "combinations of them",
            remedy="Choose the results of one; in Python: results[START:END]",
        )
    return PredictionReader.of(results).read(results[0])


def class_table(results: RunPredictions | Sequence[ResultRecord], method: str) -> ClassTable:
    """The accuracy of each class with images, and which classes are confused.

    Args:
        results: as in ``predictions_of``.
        method: the name of one of their methods.

    Raises:
        UnknownNameError: the method was not run.
        UsageError, ResultError, StorageError: as ``predictions_of``.
    """
    predictions = predictions_of(results)
    passes = _passes(predictions, method)
    labels, count = predictions.labels, len(predictions.class_ids)
    images = np.bincount(labels, minlength=count)
    right = np.bincount(labels, weights=_right_share(passes), minlength=count)
    matrix = confusion_matrix(predictions, method)
    # images that could not be read with a draw make that draw count less
    predicted = np.bincount(matrix.cells[:, 1], weights=matrix.cells[:, 2], minlength=count) / len(passes)
    hits = np.zeros(count)
    diagonal = matrix.cells[matrix.cells[:, 0] == matrix.cells[:, 1]]
    hits[diagonal[:, 0]] = diagonal[:, 2] / len(passes)
    classes = []
    for place in np.flatnonzero(images).tolist():
        low, high = wilson(float(right[place]), int(images[place]))
        precision = float(hits[place] / predicted[place]) if predicted[place] else None
        accuracy = float(right[place] / images[place])
        names = predictions.class_ids[place], predictions.class_names[place]
        counts = int(images[place]), float(right[place])
        classes.append(ClassAccuracy(*names, *counts, accuracy, low, high, float(predicted[place]), precision))
    confused = [
        ConfusedPair(
            predictions.class_names[truth],
            predictions.class_names[guess],
            number / len(passes),
            number / len(passes) / int(images[truth]),
        )
        for truth, guess, number in matrix.cells.tolist()
        if truth != guess
    ]
    confused.sort(key=lambda pair: (-pair.images, -pair.share))
    return ClassTable(method, len(labels), len(passes), classes, confused)


def confusion_matrix(predictions: RunPredictions, method: str) -> ConfusionMatrix:
    """How often images of each class were given each class, over all draws of a method.

    Raises:
        UnknownNameError: the method was not run.
    """
    passes = _passes(predictions, method)
    count = len(predictions.class_ids)
    is_read = [passed.ranks > 0 for passed in passes]
    keys = [
        predictions.labels[mask] * count + passed.predicted[mask] for passed, mask in zip(passes, is_read, strict=True)
    ]
    cells, numbers = np.unique(np.concatenate(keys), return_counts=True)
    columns = [cells // count, cells % count, numbers] if count else [cells] * 3
    return ConfusionMatrix(
        predictions.class_ids, predictions.class_names, np.stack(columns, axis=1).astype(np.int64), len(passes)
    )


def class_gains(predictions: RunPredictions, first: str, second: str) -> list[ClassGain]:
    """What each class with images gains from the first of two methods over the second.

    Returns:
        The classes, those first that gain most.

    Raises:
        UnknownNameError: one of the methods was not run.
    """
    of_first, of_second = _passes(predictions, first), _passes(predictions, second)
    # within a run a method that draws nothing is not repeated
    several = len({passed.seed for passed in predictions.passes}) > 1
    mine, theirs = align_draws(
        of_first,
        of_second,
        first_draws=len(of_first) > 1 or not several,
        second_draws=len(of_second) > 1 or not several,
    )
    a, b = (np.stack([passed.ranks for passed in side]) for side in (mine, theirs))
    is_read = (a > 0).all(0) & (b > 0).all(0)
    places: list[int] = np.unique(predictions.labels[is_read]).tolist()
    tests = []
    for place in places:
        chosen = is_read & (predictions.labels == place)
        tests.append(PairedTest.of(a[:, chosen] == 1, b[:, chosen] == 1))
    gains = [
        ClassGain(predictions.class_ids[place], predictions.class_names[place], test, 1.0 if p is None else p)
        for place, test, p in zip(places, tests, corrected_p_values(tests), strict=True)
    ]
    return sorted(gains, key=lambda gain: -gain.paired.difference)


def gains_model(gains: Sequence[ClassGain]) -> str:
    """What the tests of gains assume, in words."""
    return "; ".join(MODELS[several] for several in sorted({gain.paired.draws > 1 for gain in gains}))


def _passes(predictions: RunPredictions, method: str) -> list[MethodPredictions]:
    passes = predictions.of(method)
    if not passes:
        names = list(dict.fromkeys(passed.method for passed in predictions.passes))
        raise UnknownNameError("method of this run", method, names)
    return passes


def _right_share(passes: Sequence[MethodPredictions]) -> NDArray[np.float64]:
    """[n], of each image the share of the draws, among those in which it could be read, in which it is right."""
    ranks = np.stack([passed.ranks for passed in passes])
    share: NDArray[np.float64] = (ranks == 1).sum(0) / np.maximum((ranks > 0).sum(0), 1)
    return share
