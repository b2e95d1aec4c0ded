"""Scores with other texts of one class: what remains of a set of texts when a change of one class is undone.

Shapes as in ``similarity.py``: B images, V views of each, M texts of C classes. Other texts of one class move the
scores of every class, since all share the weight of a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abs_classify.methods.scoring import ClassTextFeatures, SoftMatch, all_views
from abs_classify.methods.similarity import class_counts

if TYPE_CHECKING:
    from abs_classify.methods.scoring import Scorer

__all__ = ["ClassVariant", "variant_scores"]

# elements of the similarities that are held at once
_BLOCK = 1 << 23

# the largest 1 / temperature at which powers of unit vectors' similarities stay within float64, with room for sums
_SAFE = 300.0


@dataclass(frozen=True, eq=False)
class ClassVariant:
    """Other texts of one class.

    Attributes:
        position: of the class.
        features: [k, d] unit, k at least 1: its texts, instead of those that it has.
    """

    position: int
    features: Tensor


def variant_scores(
    scorer: Scorer, views: Mapping[str, Tensor], texts: ClassTextFeatures, variants: Sequence[ClassVariant]
) -> Iterator[Tensor]:
    """Class scores [B, C] of the same images with one variant after the other.

    Args:
        scorer: looks at an image alone. Soft matching sums each class once and replaces the sums of one class.
        views: kind -> unit features [B, N, d].
        texts: of all classes.
        variants: each replaces the texts of its class.
    """
    if isinstance(scorer, SoftMatch) and scorer.temperature * _SAFE > 1:
        yield from _soft(all_views(views), texts, variants, scorer.temperature)
        return
    for variant in variants:
        yield scorer.scores(views, _replaced(texts, variant))


def _replaced(texts: ClassTextFeatures, variant: ClassVariant) -> ClassTextFeatures:
    """All texts, those of one class replaced."""
    others = texts.class_index != variant.position
    index = torch.full((len(variant.features),), variant.position, dtype=torch.int64)
    return ClassTextFeatures(
        torch.cat([texts.features[others], variant.features]),
        torch.cat([texts.class_index[others], index]),
        texts.labels,
    )


@torch.no_grad()
def _soft(
    views: Tensor, texts: ClassTextFeatures, variants: Sequence[ClassVariant], temperature: float
) -> Iterator[Tensor]:
    """Soft matching in float64: with P_vc the mean of e^z over the texts of a class and A_vc that of e^z z, the score
    of class c is the sum over views of A_vc / sum_c P_vc, so other texts of one class change one P, one A and the sum.
    """
    flat = views.reshape(-1, views.shape[-1]).double() / temperature
    powers, products = _class_means(flat, texts)
    for variant in variants:
        z = flat @ variant.features.double().T
        power = z.exp()
        product = (power * z).mean(1)
        # the sum over the other classes anew: a difference would lose all digits where this class has nearly all weight
        place = variant.position
        total = powers[:, :place].sum(1) + powers[:, place + 1 :].sum(1) + power.mean(1)
        shares = total.reciprocal().view(len(views), 1, -1)
        scores = (shares @ products.view(*views.shape[:2], -1)).squeeze(1)
        scores[:, place] = (product / total).view(len(views), -1).sum(1)
        yield scores


def _class_means(flat: Tensor, texts: ClassTextFeatures) -> tuple[Tensor, Tensor]:
    """The means of e^z and of e^z z over the texts of each class: float64 [rows, C] twice."""
    powers = flat.new_zeros(len(flat), texts.classes)
    products = torch.zeros_like(powers)
    step = max(1, _BLOCK // len(flat))
    for start in range(0, len(texts.features), step):
        index = texts.class_index[start : start + step]
        z = flat @ texts.features[start : start + step].double().T
        power = z.exp()
        powers.index_add_(1, index, power)
        products.index_add_(1, index, power.mul_(z))
    counts = class_counts(texts.class_index, texts.classes)
    return powers / counts, products / counts
