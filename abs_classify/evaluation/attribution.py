"""Where a gain comes from: guided views, descriptions or soft matching. Pure arithmetic on what was right.

A full factorial design: 2 x 2 x 2 cells, one for each choice of views, texts and matching, all on the same images with
the same seeds. Every number is a weighted sum over cells, computed image by image, so that every interval is paired.

Sources:
    Box, Hunter and Hunter (2005), Statistics for Experimenters, chapter 5: effects and interactions of 2^3 designs.
    Shapley (1953), Contributions to the Theory of Games II, 307-317: a total divided among those who reach it together.
    Roth et al. (2023), ICCV: random words in place of descriptions, the control for what descriptions mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.metrics import PairedComparison
from abs_classify.evaluation.significance import crossed_difference, holm, smallest_difference, wilson
from abs_core.errors import UsageError

__all__ = [
    "CELLS",
    "FACTORS",
    "AttributionCell",
    "ContrastEstimate",
    "ControlOutcome",
    "FactorContribution",
    "FactorialEffect",
    "GainAttribution",
    "attribute_right",
    "effect_weights",
    "shapley_weights",
]

#: the factors, each with its level 0 and its level 1
FACTORS: Mapping[str, tuple[str, str]] = {
    "views": ("random", "guided"),
    "texts": ("class names", "descriptions"),
    "matching": ("mean", "soft"),
}

#: the levels of each cell, in the order of all arrays here: from all 0 to all 1, the last factor running fastest
CELLS: Sequence[tuple[int, ...]] = tuple(product((0, 1), repeat=len(FACTORS)))

# names only and descriptions, with guided views and soft matching
_NAMES, _FULL = CELLS.index((1, 0, 1)), CELLS.index((1, 1, 1))

_ALPHA = 0.05


@dataclass(frozen=True)
class ContrastEstimate:
    """A mean of paired differences, as a share of images.

    Attributes:
        value, low, high: the mean and its 95 % interval, -1 to 1.
        p_value: two-sided, of no difference; corrected by Holm within its table where that has several.
    """

    value: float
    low: float
    high: float
    p_value: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0 and the p-value is below 0.05."""
        return (self.low > 0 or self.high < 0) and self.p_value < _ALPHA


@dataclass(frozen=True)
class AttributionCell:
    """How often a combination is right.

    Attributes:
        views, texts, matching: its levels.
        top1, low, high: the share of images that are right, the mean over the seeds, with its 95 % interval.
    """

    views: str
    texts: str
    matching: str
    top1: float
    low: float
    high: float


@dataclass(frozen=True)
class FactorContribution:
    """What a factor contributes to the total gain.

    Attributes:
        factor: its name.
        estimate: its Shapley value: the mean, over the 6 orders in which the factors can be switched on, of the gain
            when it is. Those of all factors add up to the total gain.
        least, most: the gains among these orders.
        share: of the total gain; below 0 or above 1 where factors work against each other. None where the total gain
            is not clear, since there is then nothing to divide.
    """

    factor: str
    estimate: ContrastEstimate
    least: float
    most: float
    share: float | None


@dataclass(frozen=True)
class FactorialEffect:
    """A main effect or an interaction of the factorial design.

    Attributes:
        factors: one for a main effect: the mean gain from level 0 to level 1 over all levels of the others. Two for an
            interaction: half the difference between the effects of the first with the second at 1 and at 0; three
            likewise, half the difference between two interactions.
        estimate: with the p-value corrected over the seven effects.
    """

    factors: tuple[str, ...]
    estimate: ContrastEstimate


@dataclass(frozen=True)
class ControlOutcome:
    """What is left of the gain of descriptions when other texts take their place; guided views, soft matching.

    Attributes:
        control: its name.
        cell: how often it is right.
        remaining: the control minus class names.
        meaning: descriptions minus the control: what only the right descriptions win.
        share: ``remaining`` as a share of the gain of descriptions; None where that gain is not clear.
    """

    control: str
    cell: AttributionCell
    remaining: ContrastEstimate
    meaning: ContrastEstimate
    share: float | None


@dataclass(frozen=True)
class GainAttribution:
    """Where the gain of all three factors over none of them comes from.

    Attributes:
        images, seeds: how many of each.
        cells: the eight, in the order of ``CELLS``.
        total: the last cell minus the first.
        contributions: of each factor; they add up to the total.
        effects: the seven effects of the design.
        descriptions: the gain of descriptions over class names, with guided views and soft matching.
        controls: what is left of it.
        visible: the smallest total gain that so many images would show in four of five tries.
    """

    images: int
    seeds: int
    cells: Sequence[AttributionCell]
    total: ContrastEstimate
    contributions: Sequence[FactorContribution]
    effects: Sequence[FactorialEffect]
    descriptions: ContrastEstimate
    controls: Sequence[ControlOutcome]
    visible: float


def attribute_right(right: NDArray[np.bool_], controls: Mapping[str, NDArray[np.bool_]]) -> GainAttribution:
    """Divide a gain among the factors.

    Args:
        right: bool [8, S, n], whether each cell of ``CELLS`` is right with each of S seeds on each of n images.
        controls: name -> bool [S, n], with guided views and soft matching.

    Returns:
        Intervals are for other images of the same kind and, with two seeds or more, for other seeds, too: images and
        seeds are crossed random factors (see ``crossed_difference``). With one seed, the difference of two cells has
        the interval of Newcombe and the p-value of McNemar's exact test, as everywhere, and sums over more cells have
        Student's t over images.

    Raises:
        UsageError: fewer than two images, or arrays that cannot be paired.
    """
    values = np.asarray(right, dtype=bool)
    if values.ndim != 3 or len(values) != len(CELLS) or any(of.shape != values.shape[1:] for of in controls.values()):
        raise UsageError(
            f"what is right must be given for {len(CELLS)} cells and all controls on the same seeds and images, got "
            f"{values.shape} and {[of.shape for of in controls.values()]}",
            remedy="Give [8, seeds, images], and [seeds, images] for each control",
        )
    _, seeds, images = values.shape
    if images < 2 or seeds < 1:
        raise UsageError(
            f"an attribution needs a seed and two images or more, got {seeds} and {images}",
            remedy="Use more images",
        )
    total, descriptions = _difference(values[-1], values[0]), _difference(values[_FULL], values[_NAMES])
    names = list(effect_weights())
    estimates = _corrected([_estimate(values, weights) for weights in effect_weights().values()])
    return GainAttribution(
        images=images,
        seeds=seeds,
        cells=[_cell(levels, of_cell) for levels, of_cell in zip(CELLS, values, strict=True)],
        total=total,
        contributions=_contributions(values, total),
        effects=[FactorialEffect(factors, estimate) for factors, estimate in zip(names, estimates, strict=True)],
        descriptions=descriptions,
        controls=_controls(values, controls, descriptions),
        visible=smallest_difference(images, float((values[-1] != values[0]).mean())),
    )


def effect_weights() -> dict[tuple[str, ...], NDArray[np.float64]]:
    """Of each effect the weights [8] of the cells: main effects, interactions of two, and that of three."""
    signs = np.array(CELLS) * 2.0 - 1
    places = range(len(FACTORS))
    names = list(FACTORS)
    return {
        tuple(names[place] for place in chosen): signs[:, list(chosen)].prod(1) * 2 / len(CELLS)
        for size in range(1, len(FACTORS) + 1)
        for chosen in combinations(places, size)
    }


def shapley_weights() -> NDArray[np.float64]:
    """The weights [3, 8] of the cells in the Shapley value of each factor: the mean over all orders of its step."""
    orders = list(permutations(range(len(FACTORS))))
    weights = np.zeros((len(FACTORS), len(CELLS)))
    for order in orders:
        levels = [0] * len(FACTORS)
        for factor in order:
            weights[factor, CELLS.index(tuple(levels))] -= 1 / len(orders)
            levels[factor] = 1
            weights[factor, CELLS.index(tuple(levels))] += 1 / len(orders)
    return weights


def _contributions(right: NDArray[np.bool_], total: ContrastEstimate) -> list[FactorContribution]:
    top1 = right.mean(axis=(1, 2))
    contributions = []
    estimates = _corrected([_estimate(right, weights) for weights in shapley_weights()])
    for place, (factor, estimate) in enumerate(zip(FACTORS, estimates, strict=True)):
        steps = [
            float(top1[CELLS.index((*levels[:place], 1, *levels[place + 1 :]))] - top1[number])
            for number, levels in enumerate(CELLS)
            if levels[place] == 0
        ]
        share = estimate.value / total.value if total.is_clear else None
        contributions.append(FactorContribution(factor, estimate, min(steps), max(steps), share))
    return contributions


def _controls(
    right: NDArray[np.bool_], controls: Mapping[str, NDArray[np.bool_]], gain: ContrastEstimate
) -> list[ControlOutcome]:
    of_controls = [np.asarray(of, dtype=bool) for of in controls.values()]
    remaining = [_difference(of, right[_NAMES]) for of in of_controls]
    meaning = [_difference(right[_FULL], of) for of in of_controls]
    corrected = _corrected([*remaining, *meaning])
    return [
        ControlOutcome(
            control,
            replace(_cell((1, 1, 1), of), texts=control),
            left,
            won,
            left.value / gain.value if gain.is_clear else None,
        )
        for control, of, left, won in zip(
            controls, of_controls, corrected[: len(remaining)], corrected[len(remaining) :], strict=True
        )
    ]


def _cell(levels: Sequence[int], right: NDArray[np.bool_]) -> AttributionCell:
    seeds, images = right.shape
    if seeds == 1:
        low, high = wilson(int(right.sum()), images)
    else:
        _, low, high, _ = crossed_difference(right.astype(np.float64))
    views, texts, matching = (names[level] for names, level in zip(FACTORS.values(), levels, strict=True))
    return AttributionCell(views, texts, matching, float(right.mean()), max(0.0, low), high)


def _difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> ContrastEstimate:
    """First minus second: bool [S, n] each."""
    if len(first) > 1:
        return ContrastEstimate(*crossed_difference(first.astype(np.float64) - second))
    pair = PairedComparison.of_images("first", first[0], "second", second[0])
    return ContrastEstimate(pair.difference, pair.low, pair.high, pair.p_value)


def _estimate(right: NDArray[np.bool_], weights: NDArray[np.float64]) -> ContrastEstimate:
    """A weighted sum over the cells, computed for each seed and image before anything is averaged."""
    # multiples of 1/12: rounding would else leave a spread where all images are alike
    contrasts = np.rint(np.tensordot(weights, right, axes=1) * 12) / 12
    return ContrastEstimate(*crossed_difference(contrasts))


def _corrected(estimates: Sequence[ContrastEstimate]) -> list[ContrastEstimate]:
    """The same with p-values corrected for their number; the intervals stay those of each alone."""
    p_values = holm([estimate.p_value for estimate in estimates])
    return [replace(estimate, p_value=p) for estimate, p in zip(estimates, p_values, strict=True)]
