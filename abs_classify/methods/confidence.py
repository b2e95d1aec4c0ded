"""The class probabilities of an image, comparable between images, and how well the image fits the label space.

A score of a method orders the classes of one image and says nothing across images: a score of ABS is a sum without a
bound. Here each view spreads a weight of 1 over the classes, and class c of an image has the mean over its views,

    P_c = sum_v w_v (1/n_c) sum_k exp(f_v . t_ck / T) / sum_c' (1/n_c') sum_k exp(f_v . t_c'k / T),

with n_c the number of texts of c, T the temperature of the model (``Model.logit_scale``), and weights w_v that sum to
1. The views are the full image and
the parts of it that the method looked at: its crops, or its feature windows where it looks at no crops. All parts
together weigh twice as much as the full image; a method that looks at no parts has the full image alone. How P becomes
a confidence is in ``abs_classify.labelling.confidence``; what was measured is in docs/confidence.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abs_classify.methods.similarity import unit
from abs_classify.methods.soft_matching import soft_shares
from abs_classify.methods.views import FullImage
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from abs_classify.methods.scoring import ClassTextFeatures

__all__ = ["NEEDED_VIEWS", "CommonNames", "ConfidenceViews", "class_probabilities", "known_scores"]

#: views that enter whatever the method looks at
NEEDED_VIEWS = (FullImage(),)

#: kinds of views that show a part of an image; the first of these that a method looks at enter
_PARTS = (("box", "random", "resized"), ("window",))
_PARTS_WEIGHT = 2.0

#: the share of common names that are kept, farthest from the classes first, so that few of them mean a class
_KEPT_NAMES = 0.85

#: common names whose mean similarity a class must exceed
_BEST_NAMES = 5


@dataclass(frozen=True, eq=False)
class ConfidenceViews:
    """The views of one image that enter its class probabilities.

    Attributes:
        features: [V, d] unit.
        weights: [V], summing to 1.
    """

    features: Tensor
    weights: Tensor

    @classmethod
    def of(cls, views: Mapping[str, Tensor]) -> ConfidenceViews:
        """Choose among the views of an image and weigh them, see the module.

        Args:
            views: by kind, [n, d] each: "box", "random" and "resized" (crops), "window" (feature windows), "whole"
                (the full image). Kinds without a view count as absent.

        Raises:
            UsageError: no view of a known kind.
        """
        present = {kind: features for kind, features in views.items() if len(features)}
        of_parts = ([present[kind] for kind in kinds if kind in present] for kinds in _PARTS)
        parts = next((features for features in of_parts if features), [])
        groups = [torch.cat(parts)] if parts else []
        shares = [_PARTS_WEIGHT] if parts else []
        if "whole" in present:
            groups, shares = [*groups, present["whole"]], [*shares, 1.0]
        if not groups:
            raise UsageError(f"a confidence needs a view of a known kind, got {sorted(present)}")
        weights = [
            rows.new_full((len(rows),), share / sum(shares) / len(rows))
            for rows, share in zip(groups, shares, strict=True)
        ]
        return cls(torch.cat(groups), torch.cat(weights))

    @property
    def mean(self) -> Tensor:
        """The weighted mean of the features, [d] unit."""
        return unit(self.weights @ self.features)


def class_probabilities(images: Sequence[ConfidenceViews], texts: ClassTextFeatures, temperature: float) -> Tensor:
    """P of images with any number of views each. Memory does not grow with the number of views times texts.

    Args:
        images: B images.
        texts: of C classes.
        temperature: T, the reciprocal of the model's ``logit_scale``.

    Returns:
        [B, C], in [0, 1], each row summing to 1; float32, or float64 if views or texts are float64.

    Raises:
        ModelError: a view whose features are zero or not finite; the message has its position among all views.
        UsageError: no image, shapes that do not fit, or a temperature that is not positive.
    """
    rows, image_of_row = _rows(images)
    weights = torch.cat([image.weights for image in images])
    probabilities: Tensor | None = None
    for block, shares in soft_shares(rows, texts.soft_texts, temperature):
        if probabilities is None:
            probabilities = shares.new_zeros(len(images), shares.shape[1])
        probabilities.index_add_(0, image_of_row[block], shares * weights[block, None].to(shares.dtype))
    assert probabilities is not None  # there is a view
    return probabilities


def _rows(images: Sequence[ConfidenceViews]) -> tuple[Tensor, Tensor]:
    """The views of all images [R, d], and the image of each, int64 [R]."""
    if not images:
        raise UsageError("there is no image")
    rows = torch.cat([image.features for image in images])
    counts = torch.tensor([len(image.features) for image in images], device=rows.device)
    return rows, torch.arange(len(images), device=rows.device).repeat_interleave(counts)


@dataclass(frozen=True, eq=False)
class CommonNames:
    """What an image may show besides the classes.

    Attributes:
        common: [K, d] unit, the mean texts of common names, those that are near a class left out; K may be 0.
        negatives: [N, d] unit, the mean texts of names that the user gave; N may be 0.
    """

    common: Tensor
    negatives: Tensor

    @classmethod
    def of(cls, classes: Tensor, common: Tensor, negatives: Tensor | None = None) -> CommonNames:
        """Leave out the common names that are nearest to a class: they may mean the same.

        Nearness is that of the texts, and the share that is left out is fixed, since how similar texts are at most
        differs between models (as NegLabel does it: Jiang et al. 2024, Negative label guided OOD detection with
        pretrained vision-language models, ICLR).

        Args:
            classes: [C, d] unit, the mean text of each class.
            common: [K, d] unit, of common names.
            negatives: [N, d] unit, of names that the user gave, all of which are kept.
        """
        nearness = (common @ classes.T).amax(1)
        kept = torch.argsort(nearness, stable=True)[: int(len(common) * _KEPT_NAMES)]
        return cls(common[kept.sort().values], classes[:0] if negatives is None else negatives)

    @property
    def empty(self) -> bool:
        """Whether there is no name at all."""
        return not len(self.common) and not len(self.negatives)


def known_scores(images: Sequence[ConfidenceViews], classes: Tensor, others: CommonNames) -> Tensor:
    """How much better the best class fits an image than what it may show besides.

    A name fits an image as well as the view that it fits best: the largest cosine of its mean text with the full image
    or a part of it. From the best class is taken what fits besides: the mean over the five best common names, or the
    best negative if that fits better. Above 0 the image is likely to show a class, below 0 something else.

    Args:
        images: B images.
        classes: [C, d] unit, the mean text of each class.
        others: at least one name.

    Returns:
        [B], from -2 to 2.

    Raises:
        UsageError: no image, or no other name.
    """
    if others.empty:
        raise UsageError("there is no name of what images may show besides the classes", remedy="Give negatives")
    rows, image_of_row = _rows(images)
    best = _best_fits(rows, image_of_row, len(images), classes).amax(1)
    besides = rows.new_full((len(images),), -torch.inf)
    if len(others.common):
        fits = _best_fits(rows, image_of_row, len(images), others.common)
        besides = fits.topk(min(_BEST_NAMES, fits.shape[1]), dim=1).values.mean(1)
    if len(others.negatives):
        fits = _best_fits(rows, image_of_row, len(images), others.negatives)
        besides = torch.maximum(besides, fits.amax(1))
    return best - besides


def _best_fits(rows: Tensor, image_of_row: Tensor, images: int, names: Tensor) -> Tensor:
    """The largest cosine of any view of an image with each name: [B, K]."""
    cosines = rows @ names.to(rows.dtype).T
    index = image_of_row[:, None].expand_as(cosines)
    return cosines.new_empty(images, len(names)).scatter_reduce_(0, index, cosines, "amax", include_self=False)
