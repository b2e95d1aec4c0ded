"""When the views seen so far settle the label: stopping rules on the class scores of a part of the views.

The score of a class is what the views add that are computed at once anyway (``known``), plus the sum over N further
views. Given the image those are independent seeded draws from one distribution, so the first n are a simple random
sample, without replacement, of the N that the full run looks at. The class with the largest predicted sum leads, and
that sum is label and score.

Three rules say when to stop. ``NormalRule`` estimates how surely the leader will win. ``GuaranteedRule`` bounds the
probability that it does not, at every moment at once (Waudby-Smith & Ramdas 2020, 2024). ``CalibratedRule`` takes the
threshold of the first from images that were looked at in full (Angelopoulos et al. 2022). docs/adaptive.md has the
derivations.

An image's result depends on its own views alone: looks come after fixed numbers of views; no rule sees other images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from abs_core.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abs_classify.methods.calibration import StoppingCalibration

__all__ = [
    "LOOK",
    "RULES",
    "AdaptiveViews",
    "CalibratedRule",
    "GuaranteedRule",
    "NormalRule",
    "PartialScores",
    "RuleSource",
    "StoppingRule",
    "check_agreement",
    "critical_values",
    "fewest_images",
    "lead_certainty",
    "looks",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Views between two looks: what a processor encodes together. One number for all machines, since results depend on it.
LOOK = 4

#: Shares of the largest bet that the betting rule spreads its wealth over. Half holds where views differ, all of it
#: where they agree.
_BETS = np.array([0.5, 1.0])


def looks(total: int) -> tuple[int, ...]:
    """After how many of ``total`` views a decision is made: 4, 8, 12, ..., and all of them."""
    return (*range(LOOK, total, LOOK), total)


def check_agreement(agreement: float) -> None:
    """Raise UsageError for an agreement that is no probability between 0 and 1."""
    if not 0 < agreement < 1:
        raise UsageError(
            f"the agreement must be between 0 and 1, got {agreement}",
            remedy="Use 0.99 for the label of all views on 99 of 100 images; for all of them, give a number of views",
        )


@dataclass(frozen=True, eq=False)
class PartialScores:
    """The class scores of B images after n of N views.

    Attributes:
        known: float64 [B, C], what the views add that are there from the start; zeros where there are none.
        views: [B, n, C], what each of the views so far adds; n is at least 1.
        total: N.
        margin_bound: the most by which one view can part two classes, see ``PerViewScorer``.
        images: the ids of the images, for a rule that was told how many views each of them gets.
    """

    known: FloatArray
    views: FloatArray
    total: int
    margin_bound: float
    images: Sequence[str] = ()

    @property
    def count(self) -> int:
        """n."""
        return int(self.views.shape[1])

    @cached_property
    def predicted(self) -> FloatArray:
        """The predicted sums of all views, [B, C]; at n = N the sums themselves."""
        predicted: FloatArray = self.known + self.views.sum(1, dtype=np.float64) * (self.total / self.count)
        return predicted

    @cached_property
    def leaders(self) -> NDArray[np.int64]:
        """The class with the largest predicted sum, int64 [B]; of equals the first."""
        leaders: NDArray[np.int64] = self.predicted.argmax(1)
        return leaders

    def first(self, count: int) -> PartialScores:
        """The same images after the first ``count`` views."""
        return replace(self, views=self.views[:, :count])

    def _leads(self) -> FloatArray:
        """How far each view puts the leader before each class, [B, n, C]."""
        rows = np.arange(len(self.leaders))
        return self.views[rows, :, self.leaders][..., None] - self.views.astype(np.float64)


def lead_certainty(scores: PartialScores) -> FloatArray:
    """How surely the leader wins: the smallest predicted margin over a rival in standard errors, as a normal score.

    The remaining N - n views of a rival's margin have the predicted sum (N - n) d, d the mean over the n views, with
    variance s^2 (N - n) N / n: sampling without replacement. s^2 counts one view besides those seen, in which the
    rival is as far ahead of the mean as the best class is, over the views, ahead of the average class: after few views
    that happen to be alike the variance would be too small. The quotient has Student's distribution with n degrees of
    freedom; Wallace (1959) turns it into the normal score of the same probability (within 1 %).

    Returns:
        float64 [B]; infinite after all views, or where nothing varies and the leader is ahead. A tie is 0.
    """
    count, total = scores.count, scores.total
    if count == total:
        return np.full(len(scores.known), np.inf)
    rows = np.arange(len(scores.known))
    margins = scores.predicted[rows, scores.leaders][:, None] - scores.predicted
    means = scores.views.mean(1, dtype=np.float64)
    unseen = means.max(1) - means.mean(1)
    leads = scores._leads()
    squares = np.square(leads - leads.mean(1, keepdims=True)).sum(1) + np.square(unseen)[:, None]
    errors = np.sqrt(squares / count * ((total - count) * total / count))
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = np.where(margins > 0, margins / errors, 0.0)
    quotients[rows, scores.leaders] = np.inf
    return _normal_score(quotients.min(1), count)


def _normal_score(quotient: FloatArray, freedom: int) -> FloatArray:
    """The normal score of Student's t, at least 0 (Wallace 1959, Ann. Math. Stat. 30, 1124-1130)."""
    scores: FloatArray = (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(quotient**2 / freedom))
    return scores


class StoppingRule(Protocol):
    """Says which images have seen enough."""

    def settled(self, scores: PartialScores) -> BoolArray:
        """Whether each image has seen enough, bool [B]; after all views it has."""


class RuleSource(Protocol):
    """Gives each method its rule."""

    def rule(self, name: str, subject: dict[str, str]) -> StoppingRule:
        """The rule of a method, by its name and what a calibration must agree with."""


@dataclass(frozen=True)
class NormalRule:
    """Stop when the leader wins with the probability ``agreement``, as far as the views so far tell.

    Attributes:
        agreement: between 0 and 1. Images that stop at a look agree with the full run at least so often on average,
            if the views are as normal as the estimate takes them to be.
    """

    agreement: float
    name: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        check_agreement(self.agreement)

    def key(self) -> dict[str, Any]:
        """See ``StoppingRule``."""
        return {"rule": self.name, "agreement": self.agreement}

    def settled(self, scores: PartialScores) -> BoolArray:
        """See ``StoppingRule``."""
        return lead_certainty(scores) > NormalDist().inv_cdf(self.agreement)


@dataclass(frozen=True)
class GuaranteedRule:
    """Stop when a bet against the leader is lost: wrong with a probability of at most 1 - ``agreement``, proven.

    The probability is that of the draws, for each image by itself, and covers every look: the leader is never wrong at
    any of them but with that probability. All that is assumed is that the views come in random order and that no view
    parts two classes by more than ``margin_bound``.

    Attributes:
        agreement: between 0 and 1.
    """

    agreement: float
    name: ClassVar[str] = "guaranteed"

    def __post_init__(self) -> None:
        check_agreement(self.agreement)

    def key(self) -> dict[str, Any]:
        """See ``StoppingRule``."""
        return {"rule": self.name, "agreement": self.agreement}

    def settled(self, scores: PartialScores) -> BoolArray:
        """See ``StoppingRule``."""
        if scores.count == scores.total:
            return np.ones(len(scores.known), dtype=bool)
        return _evidence(scores) >= -math.log1p(-self.agreement) + math.log(len(_BETS))


def _evidence(scores: PartialScores) -> FloatArray:
    """The least evidence that the leader beats a rival, as the logarithm of the wealth of a bet: [B].

    For each rival the hypothesis is that its sum is at least the leader's. Scaled to y in [0, 1], the views' leads then
    have a sum of at most ``limit``, so the mean of those still to come is at most what is left of it by their number.
    Betting a share of the wealth on more than that is a fair game at best, so its wealth passes 1 / p with a
    probability of at most p. p is a part of 1 - agreement: each class has one as the possible leader, by its place in
    the scores before the views that are bet on. The first view belongs to those.
    """
    bound = scores.margin_bound * (1 + 1e-6)
    rows, leaders = np.arange(len(scores.known)), scores.leaders
    before = scores.known + scores.views[:, 0]
    ahead = before[rows, leaders][:, None] - before
    remaining = scores.total - 1
    limit = (remaining * bound - ahead) / (2 * bound)
    y = np.clip((scores._leads()[:, 1:] + bound) / (2 * bound), 0.0, 1.0)
    sums = y.cumsum(1)
    left = np.concatenate([limit[:, None], limit[:, None] - sums], axis=1)
    impossible = (left < 0).any(1)
    means = np.maximum(left[:, :-1], np.finfo(float).tiny) / (remaining - np.arange(y.shape[1]))[:, None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        steps = np.log1p(_BETS[:, None, None, None] * (y / means - 1))
        wealth = np.logaddexp.reduce(steps.cumsum(2), axis=0)
    evidence = wealth.max(1, initial=-np.inf) + _log_shares(before, leaders)[:, None]
    evidence[impossible] = np.inf
    evidence[rows, leaders] = np.inf
    least: FloatArray = evidence.min(1)
    return least


def _log_shares(before: FloatArray, leaders: NDArray[np.int64]) -> FloatArray:
    """The leader's share of the error probability, as a logarithm: 1 / (k (k + 1)) for the k-th place, summing to 1."""
    rows = np.arange(len(leaders))
    at_least = before >= before[rows, leaders][:, None]
    # of equals the later ones count as behind, so that no two classes share a place
    later_equal = (before == before[rows, leaders][:, None]) & (np.arange(before.shape[1]) > leaders[:, None])
    place = (at_least & ~later_equal).sum(1)
    shares: FloatArray = -np.log(place * (place + 1.0))
    return shares


@dataclass(frozen=True)
class CalibratedRule:
    """Stop at the threshold of ``lead_certainty`` at which calibration images agreed with their full run often enough.

    Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814): the expected disagreement of a further image of
    the same kind is at most 1 - ``agreement``.

    Attributes:
        agreement: between 0 and 1.
        images: how many images the calibration looked at in full.
        critical: of those, the critical values above 0, see ``critical_values``.

    Raises:
        UsageError: so few images permit no such agreement.
    """

    agreement: float
    images: int
    critical: tuple[float, ...]
    name: ClassVar[str] = "calibrated"

    def __post_init__(self) -> None:
        check_agreement(self.agreement)
        fewest = fewest_images(self.agreement)
        if self.images < fewest:
            raise UsageError(
                f"an agreement of {self.agreement} needs a calibration on at least {fewest} images, and this one has "
                f"{self.images}",
                remedy=f"Calibrate on more images, or ask for {math.floor((1 - 1 / (self.images + 1)) * 1e4) / 1e4}",
            )

    @cached_property
    def threshold(self) -> float:
        """The ``lead_certainty`` that an image must exceed."""
        permitted = _permitted(self.agreement, self.images)
        worst = sorted(self.critical, reverse=True)
        return worst[permitted] if permitted < len(worst) else 0.0

    def key(self) -> dict[str, Any]:
        """See ``StoppingRule``."""
        return {"rule": self.name, "agreement": self.agreement, "threshold": self.threshold}

    def settled(self, scores: PartialScores) -> BoolArray:
        """See ``StoppingRule``."""
        return lead_certainty(scores) > self.threshold


def fewest_images(agreement: float) -> int:
    """The fewest calibration images n for an agreement: 1 / (n + 1) is at most 1 - agreement, and n at least 100."""
    # a hair less, since 1 - 0.999 is not 0.001
    return max(100, math.ceil(1 / (1 - agreement) - 1 - 1e-6))


def _permitted(agreement: float, images: int) -> int:
    """How many calibration images may disagree: (k + 1) / (n + 1) <= 1 - agreement."""
    # a hair more, since 1 - 0.99 is not 0.01
    return math.floor((1 - agreement) * (images + 1) * (1 + 1e-9)) - 1


def critical_values(full: PartialScores) -> FloatArray:
    """The threshold of ``lead_certainty`` from which on each image keeps the label of all its views.

    Below it, some threshold stops at a look whose leader loses in the end. (From it on none does: this is the
    disagreement made monotone.)

    Args:
        full: with all N views.

    Returns:
        float64 [B], 0 where every threshold gives the label.

    Raises:
        UsageError: views are missing.
    """
    if full.count != full.total:
        raise UsageError(f"a calibration needs all {full.total} views, got {full.count}")
    highest = np.zeros(len(full.known))
    critical = np.zeros(len(full.known))
    for count in looks(full.total)[:-1]:
        partial = full.first(count)
        value = lead_certainty(partial)
        stops = value > highest
        wrong = stops & (partial.leaders != full.leaders)
        critical[wrong] = value[wrong]
        highest = np.maximum(highest, value)
    return critical


#: the rules by name, in the order in which help lists them
RULES = (NormalRule.name, GuaranteedRule.name, CalibratedRule.name)


@dataclass(frozen=True)
class AdaptiveViews:
    """Look at views of each image until its label is settled, instead of at a fixed number.

    Attributes:
        agreement: between 0 and 1: how often the label is that of all views. What that means differs by rule.
        stopping: one of ``RULES``.
        calibration: what the rule "calibrated" takes its threshold from, see ``read_calibration``.
        budget_views: instead of all these, how many views an image gets on average over an evaluation, at least
            ``LOOK``; most go where margins are small, so labels depend on the other images.
        budget_seconds: the same as the seconds that an evaluation may take; how many views fit is measured first.

    Raises:
        UsageError: another agreement, a calibration without the rule that takes it, or the other way round; a budget
            that is none, or beside what it replaces.
        UnknownNameError: no such rule.
    """

    agreement: float = 0.99
    stopping: str = NormalRule.name
    calibration: StoppingCalibration | None = None
    budget_views: float | None = None
    budget_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.has_budget:
            self._check_budget()
            return
        check_agreement(self.agreement)
        if self.stopping not in RULES:
            raise UnknownNameError("stopping rule", self.stopping, RULES)
        if (self.calibration is None) == (self.stopping == CalibratedRule.name):
            problem = "needs a calibration" if self.calibration is None else "takes no calibration"
            raise UsageError(
                f"the stopping rule {self.stopping!r} {problem}",
                remedy="Give a file that --save-calibration made to --stopping calibrated, and to no other rule",
            )

    @property
    def has_budget(self) -> bool:
        """Whether the images of a run share a number of views."""
        return self.budget_views is not None or self.budget_seconds is not None

    def _check_budget(self) -> None:
        if self.budget_views is not None and self.budget_seconds is not None:
            raise UsageError("a budget is given in views and in seconds", remedy="Give one of them")
        if (self.agreement, self.stopping, self.calibration) != (0.99, NormalRule.name, None):
            raise UsageError(
                "with a budget no image stops by an agreement",
                remedy="Leave out the agreement, the stopping rule and the calibration, or the budget",
            )
        if self.budget_views is not None and not LOOK <= self.budget_views < math.inf:
            raise UsageError(
                f"a budget must be a number of at least {LOOK} views an image, got {self.budget_views:g}",
                remedy=f"Every image gets {LOOK} views before others get more: give {LOOK} or more",
            )
        if self.budget_seconds is not None and not 0 < self.budget_seconds < math.inf:
            raise UsageError(
                f"a budget must be a positive number of seconds, got {self.budget_seconds:g}",
                remedy="Give the seconds that the evaluation may take",
            )

    def require_no_budget(self) -> None:
        """Raise UsageError if results would depend on other images, where these are not all known."""
        if self.has_budget:
            raise UsageError(
                "a budget is shared by all images of an evaluation, and here images are classified one by one",
                remedy="Use abs eval or evaluate(), or an agreement instead of the budget",
            )

    def rule(self, name: str, subject: dict[str, str]) -> StoppingRule:
        """The rule of a method.

        Args:
            name: of the method.
            subject: what a calibration must agree with, see ``StoppingCalibration.rule``.

        Raises:
            UsageError: the calibration is of something else, or on too few images; or there is a budget.
        """
        self.require_no_budget()
        if self.calibration is not None:
            return self.calibration.rule(self.agreement, name, subject)
        return NormalRule(self.agreement) if self.stopping == NormalRule.name else GuaranteedRule(self.agreement)
