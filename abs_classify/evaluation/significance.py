"""Intervals and exact tests for shares of right answers. Pure arithmetic on counts.

Sources:
    Wilson (1927), J. Am. Stat. Assoc. 22, 209-212: the score interval of one proportion.
    Newcombe (1998), Stat. Med. 17, 2635-2650, method 10: the interval of a difference of paired proportions.
    McNemar (1947), Psychometrika 12, 153-157, in its exact binomial form: the test of that difference.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

__all__ = ["binomial_tail", "mcnemar_exact", "newcombe_paired", "wilson"]

_Z = NormalDist().inv_cdf(0.975)


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
