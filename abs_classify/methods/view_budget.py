"""A number of views that the images of a run share: who gets the next ones.

Every image gets a first look. Then views go out in waves, to the images whose label is least certain, until the budget
is spent or every image has all its views. docs/adaptive.md has the rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from abs_classify.methods.adaptive import LOOK, PartialScores, StoppingRule, lead_certainty

__all__ = ["AllottedRule", "AllottedViews", "ViewBudget", "next_wave", "views_in_all"]

#: views that a wave may give out however little is left: fewer would not fill a batch. One number for all machines,
#: since results depend on it.
_WAVE = 64


@dataclass(frozen=True)
class ViewBudget:
    """How many views of each adaptive source the images of a run get on average.

    Args:
        views: an image, on average.
        seconds: what they were derived from; None where they were asked for.
        image_seconds: as measured before the start, for the first look at an image with all methods.
        view_seconds: the same for each further view, reading the image again included.
    """

    views: float
    seconds: float | None = None
    image_seconds: float | None = None
    view_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class AllottedRule:
    """Stops each image at the number of views that it was given, and notes how certain its label is by then.

    Args:
        views: of each image id, one of ``looks``; ``LOOK`` where it has none.
        confidences: see ``lead_certainty``, filled in when an image stops before its last view.
    """

    views: Mapping[str, int] = field(default_factory=dict)
    confidences: dict[str, float] = field(default_factory=dict)

    def settled(self, scores: PartialScores) -> NDArray[np.bool_]:
        """See ``StoppingRule``."""
        enough = np.array([scores.count >= self.views.get(image, LOOK) for image in scores.images])
        if enough.any():
            for image, stops, value in zip(scores.images, enough, lead_certainty(scores), strict=True):
                if stops:
                    self.confidences[image] = float(value)
        return enough


@dataclass(frozen=True, eq=False)
class AllottedViews:
    """The rule of each adaptive method of a run, by its name."""

    rules: Mapping[str, AllottedRule]

    def rule(self, name: str, subject: dict[str, str]) -> StoppingRule:  # noqa: ARG002 - a ``RuleSource``
        """See ``RuleSource``."""
        return self.rules[name]


def views_in_all(budget: float, images: int) -> int:
    """The views of a budget for a number of images."""
    return math.floor(budget * images + 1e-6)  # 7.93 * 200 is not 1586


def next_wave(views: Mapping[str, int], confidences: Mapping[str, float], total: int, left: int) -> dict[str, int]:
    """The images that get further views, and how many views each then has.

    They go to the images with the least certain leader, of equals to the one with the lower id: at most to half of the
    images that lack views, and at most half of the views that are left, or ``_WAVE`` of them. An image goes on to the
    next number of views in 4, 8, 12, 16, 24, 36, 52, ..., so that it is not read again for each look.

    Args:
        views: of each image so far, one of ``looks(total)``.
        confidences: of each image that lacks views.
        total: how many views an image can have.
        left: views of the budget that were not given out yet.

    Returns:
        Nothing where the budget is spent: what is left is not enough for a look, or every image has all its views.
    """
    lacking = [image for image, seen in views.items() if seen < total]
    room = min(left, max(_WAVE, left // 2))
    wave: dict[str, int] = {}
    for image in sorted(lacking, key=lambda image: (confidences[image], image)):
        if 2 * len(wave) >= len(lacking) or room == 0:
            break
        seen = views[image]
        stop = min(total, seen + LOOK * max(1, seen // (2 * LOOK)), seen + room)
        if stop < total:
            stop -= stop % LOOK
        if stop > seen:
            wave[image] = stop
            room -= stop - seen
    return wave
