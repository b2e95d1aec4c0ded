"""The class probabilities of an image, comparable between images: from the views that a method looked at.

A score of a method orders the classes of one image and says nothing across images: a score of ABS is a sum without a
bound. Here each view spreads a weight of 1 over the classes, and class c of an image has the mean over its views,

    P_c = mean_v (1/n_c) sum_k exp(f_v . t_ck / T) / sum_c' (1/n_c') sum_k exp(f_v . t_c'k / T),

with n_c the number of texts of c and one temperature T for all methods and models of unit features. How P becomes a
confidence is in ``abs_classify.labelling.confidence``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.soft_matching import soft_shares
from abs_core.errors import UsageError

__all__ = ["TEMPERATURE", "batch_class_probabilities", "class_probabilities", "confidence_views"]

#: the temperature of class probabilities: warmer than the 0.03 of soft matching, see docs/confidence.md
TEMPERATURE = 0.1

#: kinds of views, those that show an object best first: crops of the image, windows of its features, all of it
_KINDS = (("box", "random"), ("window",), ("whole",))

Features = TypeVar("Features")


def confidence_views(views: Mapping[str, Features]) -> dict[str, Features]:
    """Which of the views that a method looked at enter the class probabilities: crops, else windows, else the image.

    Args:
        views: by kind: "box" and "random" (crops), "window" (feature windows), "whole" (the full image).

    Returns:
        The crops if the method looks at crops; otherwise its feature windows; otherwise the full image.

    Raises:
        UsageError: no view of a known kind.
    """
    for kinds in _KINDS:
        if chosen := {kind: views[kind] for kind in kinds if kind in views}:
            return chosen
    raise UsageError(f"class probabilities need a view of a known kind, got {sorted(views)}")


def class_probabilities(
    views: Mapping[str, Tensor] | Tensor, texts: ClassTextFeatures, temperature: float = TEMPERATURE
) -> Tensor:
    """P of one image or of images with equally many views.

    Args:
        views: unit features [V, d] of one image or [B, V, d] of B images; or these by kind, of which
            ``confidence_views`` enter, each view with the same weight.
        texts: of C classes.
        temperature: T.

    Returns:
        [C] or [B, C], in [0, 1], summing to 1 over the classes; float32, or float64 if views or texts are float64.

    Raises:
        ModelError: a view whose features are zero or not finite.
        UsageError: no view, shapes that do not fit, or a temperature that is not positive.
    """
    features = views if isinstance(views, Tensor) else torch.cat(list(confidence_views(views).values()), dim=-2)
    images = features if features.dim() == 3 else features[None]
    probabilities = batch_class_probabilities(list(images), texts, temperature)
    return probabilities if features.dim() == 3 else probabilities[0]


def batch_class_probabilities(
    images: Sequence[Mapping[str, Tensor] | Tensor], texts: ClassTextFeatures, temperature: float = TEMPERATURE
) -> Tensor:
    """P of images with any number of views each: [B, C], as ``class_probabilities`` gives it for each of them.

    Memory does not grow with the number of views times texts.

    Args:
        images: B images, each [V, d] or by kind, see ``class_probabilities``.
        texts: of C classes.
        temperature: T.

    Raises:
        As ``class_probabilities`` does.
    """
    rows = [
        image if isinstance(image, Tensor) else torch.cat(list(confidence_views(image).values())) for image in images
    ]
    for position, features in enumerate(rows):
        if features.dim() != 2 or not len(features):
            raise UsageError(f"image {position} needs views [V, d], at least one, got {list(features.shape)}")
    sums: Tensor | None = None
    counts = torch.tensor([len(features) for features in rows])
    owner = torch.arange(len(rows)).repeat_interleave(counts)
    for block, shares in soft_shares(torch.cat(rows), texts.soft_texts, temperature):
        if sums is None:
            sums = shares.new_zeros(len(rows), shares.shape[1])
        sums.index_add_(0, owner[block].to(shares.device), shares)
    assert sums is not None  # there is a view
    return sums / counts.to(sums)[:, None]
