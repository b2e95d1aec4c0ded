"""Intervals and exact tests for shares of right answers. Pure arithmetic on counts.

Sources:
    Wilson (1927), J. Am. Stat. Assoc. 22, 209-212: the score interval of one proportion.
    Newcombe (1998), Stat. Med. 17, 2635-2650, method 10: the interval of a difference of paired proportions.
    McNemar (1947), Psychometrika 12, 153-157, in its exact binomial form: the test of that difference.
    Holm (1979), Scand. J. Stat. 6, 65-70: p-values of several tests, corrected step by step.
    Connor (1987), Biometrics 43, 207-211: the pairs that McNemar's test needs, here solved for the difference.
    Searle, Casella and McCulloch (1992), Variance Components, chapter 5: two crossed random factors, images and draws.
    Satterthwaite (1946), Biometrics Bull. 2, 110-114: the degrees of freedom of a sum of mean squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "binomial_tail",
    "crossed_difference",
    "holm",
    "mcnemar_exact",
    "newcombe_paired",
    "smallest_difference",
    "student_tails",
    "wilson",
]

_Z = NormalDist().inv_cdf(0.975)

# the power that a smallest difference is stated for
_POWER_Z = NormalDist().inv_cdf(0.8)

# degrees of freedom beyond which the normal distribution stands in for Student's
_NORMAL = 2000


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """The Wilson score interval at 95 % of a binomial proportion (Wilson 1927; no continuity correction).

    Returns:
        The lower and the upper end, between 0 and 1. Trials must be at least 1.
    """
    share = successes / trials
    scale = 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / scale
    half = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2)) / scale
    # rounding must not push the ends past what they are exactly
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def newcombe_paired(both: float, first_only: float, second_only: float, neither: float) -> tuple[float, float]:
    """The 95 % interval of first minus second for paired proportions (Newcombe 1998, method 10, square and add).

    The Wilson intervals (l1, u1) and (l2, u2) of the two shares p1 and p2 are joined with their correlation phi:
    low = d - sqrt((p1 - l1)^2 - 2 phi (p1 - l1)(u2 - p2) + (u2 - p2)^2), high likewise with the other ends. A positive
    phi is corrected for continuity: the numerator ad - bc loses n/2 and is not below 0.

    Args:
        both, first_only, second_only, neither: counts of images, at least one in all.

    Returns:
        The lower and the upper end, between -1 and 1.
    """
    n = both + first_only + second_only + neither
    p1, p2 = (both + first_only) / n, (both + second_only) / n
    (l1, u1), (l2, u2) = wilson(both + first_only, n), wilson(both + second_only, n)
    cross = float(both * neither - first_only * second_only)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)
    margins = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    phi = cross / math.sqrt(margins) if margins else 0.0
    down = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    up = (p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2
    return max(-1.0, p1 - p2 - math.sqrt(max(down, 0.0))), min(1.0, p1 - p2 + math.sqrt(max(up, 0.0)))


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """The two-sided exact McNemar test: a fair coin decides every image that only one method got right.

    Returns:
        The p-value, 1.0 where the methods never differ.
    """
    # a fair coin is symmetric, so the upper tail serves for both sides and loses no digits when p is tiny
    return min(1.0, 2 * binomial_tail(max(first_only, second_only), first_only + second_only, 0.5))


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """The probability of ``successes`` or more in ``trials`` draws of probability ``chance``, summed in logarithms.

    Args:
        successes: 0 to trials + 1.
        trials: at least 0.
        chance: above 0 and at most 1.
    """
    if successes <= 0:
        return 1.0
    if successes > trials:
        return 0.0
    if chance >= 1:
        return 1.0
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, trials + 1)))))
    k = np.arange(successes, trials + 1)
    terms = log_factorial[trials] - log_factorial[k] - log_factorial[trials - k]
    terms = terms + k * math.log(chance) + (trials - k) * math.log1p(-chance)
    return float(min(1.0, np.exp(terms).sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests so that all are below 0.05 by chance in at most 5 % of tables (Holm 1979).

    Args:
        p_values: one for each test.

    Returns:
        As many, in the same order; none is below the given one, or above 1.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected


def smallest_difference(images: int, discordant: float) -> float:
    """The difference between two methods that a paired test on so many images would show in four of five tries.

    McNemar's test at 5 %, power 80 % (Connor 1987): (1.96 sqrt(w) + 0.84 sqrt(w - d^2))^2 = n d^2, solved for d.

    Args:
        images: n, at least 1.
        discordant: w, the share of images that just one of the two gets right, 0 to 1.

    Returns:
        d, a share of images; 1 where no difference would show.
    """
    low, high = 0.0, discordant
    # the two methods cannot differ by more than the images on which they differ
    if _needed(high, discordant) > images:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _needed(middle, discordant) > images else (low, middle)
    return high


def _needed(difference: float, discordant: float) -> float:
    if difference <= 0:
        return math.inf
    spread = _POWER_Z * math.sqrt(max(0.0, discordant - difference**2))
    return (_Z * math.sqrt(discordant) + spread) ** 2 / difference**2


def crossed_difference(differences: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """The mean of paired differences over images and draws, for other images and other draws of the same kinds.

    The model: d_si = mean + image_i + draw_s + rest_si, images and draws being random and crossed. The variance of the
    mean is (MS_image + max(0, MS_draw - MS_rest)) / (S n), with Satterthwaite's degrees of freedom. Of one draw it is
    Student's t over the images, and says nothing of other draws.

    Args:
        differences: [S, n] of S >= 1 draws on n >= 2 images: 1 where only the first is right, -1 where only the second
            is, else 0; or another number from -1 to 1 for each draw and image.

    Returns:
        The mean, the lower and the upper end of its 95 % interval, and the two-sided p-value of no difference.
    """
    draws, images = differences.shape
    mean = float(differences.mean())
    of_images, of_draws = differences.mean(0) - mean, differences.mean(1) - mean
    rest = differences - mean - of_images - of_draws[:, None]
    image_square = draws * float((of_images**2).sum()) / (images - 1)
    further = max(1, draws - 1)  # of one draw there is nothing to divide
    draw_square = images * float((of_draws**2).sum()) / further
    rest_square = float((rest**2).sum()) / ((images - 1) * further)
    parts = [(image_square, images - 1.0)]
    if draws > 1 and draw_square > rest_square:
        parts += [(draw_square, draws - 1.0), (-rest_square, (images - 1.0) * (draws - 1.0))]
    square = sum(part for part, _ in parts)
    if square <= 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    freedom = square**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(square / (draws * images))
    half = _student_quantile(freedom) * error
    return mean, max(-1.0, mean - half), min(1.0, mean + half), student_tails(abs(mean) / error, freedom)


def student_tails(value: float, freedom: float) -> float:
    """The probability that Student's t is farther from 0 than ``value``, for ``freedom`` degrees of freedom, above 0.

    With t = sqrt(freedom) tan(angle) the density is a power of a cosine, which is summed at Gauss's points.
    """
    if freedom > _NORMAL:
        return 2 * NormalDist().cdf(-value)
    start = math.atan2(value, math.sqrt(freedom))
    nodes, weights = _gauss_points()
    angles = start + (math.pi / 2 - start) * (nodes + 1) / 2
    density = np.exp((freedom - 1) * np.log(np.cos(angles)))
    factor = 2 * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return float(min(1.0, factor * (math.pi / 2 - start) / 2 * (weights * density).sum()))


@cache
def _gauss_points() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(400)


def _student_quantile(freedom: float) -> float:
    """What Student's t is farther from 0 than in 5 % of cases."""
    low, high = 0.0, 2.0
    while student_tails(high, freedom) > 0.05:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tails(middle, freedom) > 0.05 else (low, middle)
    return high
