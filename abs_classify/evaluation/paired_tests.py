"""Two methods compared on the images they share, over every draw of their views: the difference and its test.

Pure. Of one draw the interval is Newcombe's and the test McNemar's exact one. Of several draws, images and draws are
two crossed random factors, see ``crossed_difference``: what is claimed holds for other images and other draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.predictions import MethodPredictions, RunPredictions
from abs_classify.evaluation.significance import (
    crossed_difference,
    holm,
    mcnemar_exact,
    newcombe_paired,
    smallest_difference,
)
from abs_core.errors import ResultError, UsageError

__all__ = [
    "MODELS",
    "PairedTest",
    "align_draws",
    "common_images",
    "corrected_p_values",
    "power_note",
]

#: Of how many draws a test is, to what is assumed.
MODELS = {
    False: "one draw: exact McNemar test, 95 % interval of Newcombe (paired)",
    True: "several draws: images and draws as crossed random factors, t test and 95 % interval with Satterthwaite's "
    "degrees of freedom",
}


@dataclass(frozen=True)
class PairedTest:
    """First minus second on the same images.

    Attributes:
        images: n, how many were compared.
        draws: S, how many draws of the views; 1 for methods that draw nothing.
        both, first_only, second_only, neither: how many images were right, the mean over the draws; n in all.
        difference: first minus second, -1 to 1, the mean over images and draws.
        low, high: its 95 % interval.
        p_value: two-sided, of no difference.
        smallest: the difference that so many images would show in four of five tries, from the share of images that
            just one of the two got right; 1 where none would. For several draws that of one draw.
    """

    images: int
    draws: int
    both: float
    first_only: float
    second_only: float
    neither: float
    difference: float
    low: float
    high: float
    p_value: float
    smallest: float

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedTest:
        """The test of two methods.

        Args:
            first, second: bool [S, n], which images are right with each draw, the draws of both in one order. One of
                them may be [1, n]: a method that draws nothing says the same with every draw.

        Raises:
            UsageError: no images, or shapes that cannot be paired.
        """
        a, b = np.atleast_2d(first), np.atleast_2d(second)
        if a.shape[1] != b.shape[1] or a.shape[1] == 0 or (len(a) != len(b) and min(len(a), len(b)) != 1):
            raise UsageError(
                f"results of {a.shape[1]} and {b.shape[1]} images with {len(a)} and {len(b)} draws cannot be paired",
                remedy="Run both methods on the same images with the same seeds",
            )
        draws, images = max(len(a), len(b)), a.shape[1]
        a, b = np.broadcast_to(a, (draws, images)), np.broadcast_to(b, (draws, images))
        totals = [int(outcome.sum()) for outcome in (a & b, a & ~b, ~a & b, ~a & ~b)]
        if draws == 1:
            difference, (low, high) = (totals[1] - totals[2]) / images, newcombe_paired(*totals)
            p_value = mcnemar_exact(totals[1], totals[2])
        elif images == 1:
            # of a single image nothing is known but what it shows
            difference, low, high, p_value = (totals[1] - totals[2]) / draws, -1.0, 1.0, 1.0
        else:
            difference, low, high, p_value = crossed_difference(a.astype(np.float64) - b)
        discordant = (totals[1] + totals[2]) / (draws * images)
        smallest = smallest_difference(images, discordant)
        both, first_only, second_only, neither = (total if draws == 1 else total / draws for total in totals)
        return cls(images, draws, both, first_only, second_only, neither, difference, low, high, p_value, smallest)

    @property
    def conclusive(self) -> bool:
        """Whether the interval leaves out 0 and p is below 0.05."""
        return self.shows(self.p_value)

    def shows(self, p_value: float) -> bool:
        """The same with a p-value that was corrected."""
        return (self.low > 0 or self.high < 0) and p_value < 0.05

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the model in words."""
        return {**asdict(self), "test": MODELS[self.draws > 1]}


def corrected_p_values(tests: Sequence[PairedTest | None]) -> list[float | None]:
    """The p-values of a table, corrected by Holm for as many tests as it has; None where there is no test."""
    corrected = iter(holm([test.p_value for test in tests if test is not None]))
    return [None if test is None else next(corrected) for test in tests]


def power_note(tests: Sequence[PairedTest]) -> str:
    """What difference so many images could have shown, in a sentence without its full stop; tests: at least one."""
    sizes = [test.smallest for test in tests]
    images = sorted({test.images for test in tests})
    count = str(images[0]) if len(images) == 1 else f"{images[0]} to {images[-1]}"
    low, high = ("none" if size >= 1 else f"{100 * size:.1f}" for size in (min(sizes), max(sizes)))
    span = low if low == high else f"{low} to {high}"
    points = span if high == "none" else f"{span} points"
    return (
        f"the smallest difference that {count} images with these disagreements show in four of five tries: {points} "
        "(one test, two-sided, 5 %)"
    )


def align_draws(
    first: Sequence[MethodPredictions], second: Sequence[MethodPredictions], *, first_draws: bool, second_draws: bool
) -> tuple[list[MethodPredictions], list[MethodPredictions]]:
    """The passes of two methods that belong together: those of the seeds that both have.

    Args:
        first, second: at least one pass each.
        first_draws, second_draws: whether the method draws anything; one that does not has one pass, which stands for
            every seed.

    Returns:
        As many of each; or one of a method that draws nothing. One of each, of the first seeds, where fewer than two
        seeds are shared.
    """
    if len(first) == 1 and not first_draws:
        return list(first), list(second)
    if len(second) == 1 and not second_draws:
        return list(first), list(second)
    of_second = {predictions.seed: predictions for predictions in second}
    shared = [(passed, of_second[passed.seed]) for passed in first if passed.seed in of_second]
    pairs = shared if len(shared) > 1 else [(first[0], second[0])]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def common_images(first: RunPredictions, second: RunPredictions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the images that two runs share are in each, by their ids; copies of one image pair in their order.

    Returns:
        int64 [m] each; empty if there are none.

    Raises:
        ResultError: an image has another class in each.
    """
    positions: dict[tuple[str, int], int] = {}
    for position, key in enumerate(_numbered(first.images)):
        positions[key] = position
    pairs = [(positions[key], place) for place, key in enumerate(_numbered(second.images)) if key in positions]
    places = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    mine, theirs = places[:, 0], places[:, 1]
    for left, right in pairs:
        a, b = int(first.labels[left]), int(second.labels[right])
        if first.class_ids[a] != second.class_ids[b] and first.class_names[a] != second.class_names[b]:
            raise ResultError(
                f"the image {first.paths[left]!r} is {first.class_names[a]!r} in one run and "
                f"{second.class_names[b]!r} in the other, so they are of the same images with other labels",
                remedy="Run the evaluation with the older labels again; the cache makes that quick",
            )
    return mine, theirs


def _numbered(images: Sequence[str]) -> list[tuple[str, int]]:
    seen: dict[str, int] = {}
    keys = []
    for image in images:
        seen[image] = seen.get(image, -1) + 1
        keys.append((image, seen[image]))
    return keys
