"""What a report shows, as plain data: the page, its images, and their places and predictions.

Arrays, strings and thumbnails only; whoever fills these needs no knowledge of HTML, and the report none of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from abs_classify.evaluation.records import ResultRecord
from abs_classify.explanation import Explanation, RankedClass
from abs_core.errors import UsageError

__all__ = [
    "MethodPrediction",
    "ReportImage",
    "ReportPage",
    "ViewPlaces",
]


@dataclass(frozen=True)
class MethodPrediction:
    """What one method predicts for one image.

    Attributes:
        method: its name.
        top: the best classes, best first; at least one.
        true_rank: place of the true class among all classes, 1 is best; None without a true label.
    """

    method: str
    top: tuple[RankedClass, ...]
    true_rank: int | None = None

    @property
    def right(self) -> bool | None:
        """Whether the first class is the true one; None without a true label."""
        return None if self.true_rank is None else self.true_rank == 1


@dataclass(frozen=True)
class ViewPlaces:
    """Where the views of one kind lie on an image.

    Attributes:
        kind: "whole", "random", "box" or "window".
        boxes: int64 [N, 4]: left, upper, right, lower in pixels of the original image; for windows first row, end
            row, first column, end column on the grid, ends exclusive.
        grid: side of the token grid for windows, 0 for the others.
        area: the part of the image that the grid covers: left, upper, right, lower in pixels of the original; None
            for the full image.

    Raises:
        UsageError: another shape, or windows without a grid.
    """

    kind: str
    boxes: NDArray[np.int64]
    grid: int = 0
    area: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise UsageError(
                f"views of kind {self.kind!r} have the shape {self.boxes.shape}", remedy="Give [N, 4] whole numbers"
            )
        if self.kind == "window" and self.grid < 1:
            raise UsageError("feature windows lack the side of their grid", remedy="Give the model's grid")

    def pixels(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The places in pixels of an image of ``size`` (width, height): float64 [N, 4] left, upper, right, lower."""
        if self.kind != "window":
            return self.boxes.astype(np.float64)
        left, upper, right, lower = self.area or (0.0, 0.0, float(size[0]), float(size[1]))
        row0, row1, col0, col1 = (self.boxes.astype(np.float64) / self.grid).T
        across, down = right - left, lower - upper
        return np.stack([left + col0 * across, upper + row0 * down, left + col1 * across, upper + row1 * down], axis=1)


@dataclass(frozen=True)
class ReportImage:
    """One image with what was computed from it.

    Attributes:
        name: what the user calls it, usually the file name.
        pixels: RGB, upright, of any size; the report shrinks them. Pass a thumbnail if memory matters.
        size: width and height of the original in pixels, after its orientation is applied; boxes refer to it.
        truth: the true class name, or None.
        attention: float [g, g], over the full image stretched to a square; or None.
        views: places by kind, in the order in which they are to be shown.
        predictions: one per method.
        explanation: of the method that the page explains, with the strongest views and sentences; or None.

    Raises:
        UsageError: an attention map that is no finite square matrix.
    """

    name: str
    pixels: PIL.Image.Image
    size: tuple[int, int]
    truth: str | None = None
    attention: NDArray[np.floating] | None = None
    views: tuple[ViewPlaces, ...] = ()
    predictions: tuple[MethodPrediction, ...] = ()
    explanation: Explanation | None = None

    def __post_init__(self) -> None:
        if self.attention is None:
            return
        if self.attention.ndim != 2 or self.attention.size == 0 or not np.isfinite(self.attention).all():
            raise UsageError(
                f"the attention map of {self.name!r} must be a matrix of finite numbers", remedy="Give a [g, g] map"
            )


@dataclass(frozen=True)
class ReportPage:
    """The page.

    Attributes:
        title: one line.
        subtitle: one sentence under it.
        facts: what was run, as pairs of name and value: model, bundle with digest, data set, seed, command line.
        results: the records of the accuracy table; empty if there are no true labels.
        images: in the order of the page.
        warnings: what the reader must not miss: accuracies at chance level, skipped images.
        notes: remarks on how to read the numbers.
        footer: versions and digests, as pairs of name and value.
    """

    title: str
    subtitle: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    results: tuple[ResultRecord, ...] = ()
    images: tuple[ReportImage, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    footer: tuple[tuple[str, str], ...] = ()
