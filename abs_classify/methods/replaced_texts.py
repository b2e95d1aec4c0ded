"""Class scores with the texts of a few classes replaced, many times over the same images.

Shapes as in ``similarity.py``: B images, V views of each, M texts of C classes. ``reference_scores`` scores every set
of texts whole: slow, and the oracle of ``replaced_scores``, which computes the classes that stay once.

In soft matching a view spreads its weight over the texts of all classes, so that every score changes with one class's
texts, but by the view's total alone: with P_vc = sum_k e^z / n_c and A_vc = sum_k z e^z / n_c the score of class c is
the sum over views of A_vc / sum_c' P_vc'. The total is summed anew for each replacement, over the classes that stay and
those that are replaced: nothing is subtracted, so nothing cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abs_classify.methods.scoring import (
    ClassTextFeatures,
    CosineToMean,
    MeanSimilarity,
    SoftMatch,
    WeightedCosine,
    all_views,
)
from abs_classify.methods.similarity import class_counts

if TYPE_CHECKING:
    from abs_classify.methods.scoring import Scorer

__all__ = ["Replacement", "reference_scores", "replaced_scores"]

# the score of a class follows from its own texts alone
_BY_CLASS = (CosineToMean, MeanSimilarity, WeightedCosine)

# elements of a tile of similarities
_TILE = 1 << 21

# e^(1/T) of unit vectors stays far inside of float64 from here on
_LOWEST_TEMPERATURE = 1 / 300


@dataclass(frozen=True, eq=False)
class Replacement:
    """Other texts for a few classes.

    Attributes:
        classes: int64 [R], positions of the classes, ascending.
        features: [m, d] unit, all of their texts.
        class_index: int64 [m], 0 to R - 1: the place in ``classes`` of each text's class.
    """

    classes: Tensor
    features: Tensor
    class_index: Tensor

    def applied_to(self, texts: ClassTextFeatures) -> ClassTextFeatures:
        """The texts of all classes."""
        stays = ~torch.isin(texts.class_index, self.classes)
        return ClassTextFeatures(
            torch.cat([texts.features[stays], self.features]),
            torch.cat([texts.class_index[stays], self.classes[self.class_index]]),
            texts.labels,
        )


def replaced_scores(
    scorer: Scorer, views: Mapping[str, Tensor], texts: ClassTextFeatures, replacements: Sequence[Replacement]
) -> Iterator[Tensor]:
    """The scores of some images with the texts as they are, and with each replacement by itself.

    Args:
        scorer: any; of soft matching, and where a score follows from the class's own texts, it is fast.
        views: kind -> unit features [B, N, d].
        texts: of C classes.
        replacements: of any number of classes each.

    Yields:
        [B, C] for the texts as they are, then [B, C] for each replacement; within rounding ``reference_scores``.
    """
    if isinstance(scorer, SoftMatch) and scorer.temperature >= _LOWEST_TEMPERATURE:
        return _soft(views, texts, replacements, scorer.temperature)
    if isinstance(scorer, _BY_CLASS):
        return _by_class(scorer, views, texts, replacements)
    return reference_scores(scorer, views, texts, replacements)


def reference_scores(
    scorer: Scorer, views: Mapping[str, Tensor], texts: ClassTextFeatures, replacements: Sequence[Replacement]
) -> Iterator[Tensor]:
    """The same by its definition, with every text scored each time."""
    yield scorer.scores(views, texts)
    for replacement in replacements:
        yield scorer.scores(views, replacement.applied_to(texts))


def _by_class(
    scorer: Scorer, views: Mapping[str, Tensor], texts: ClassTextFeatures, replacements: Sequence[Replacement]
) -> Iterator[Tensor]:
    before = scorer.scores(views, texts)
    yield before
    for entry in replacements:
        own = ClassTextFeatures(entry.features, entry.class_index, texts.labels[entry.classes])
        yield before.index_copy(1, entry.classes, scorer.scores(views, own))


def _soft(
    views: Mapping[str, Tensor], texts: ClassTextFeatures, replacements: Sequence[Replacement], temperature: float
) -> Iterator[Tensor]:
    features = all_views(views)
    images, count = features.shape[:2]
    flat = features.reshape(images * count, -1)
    powers, products = _class_sums(flat, texts.features, texts.class_index, texts.classes, temperature)
    by_image = products.view(images, count, -1)
    yield (products / powers.sum(1, keepdim=True)).view(images, count, -1).sum(1)
    for entry in replacements:
        own_powers, own_products = _class_sums(flat, entry.features, entry.class_index, len(entry.classes), temperature)
        stays = powers.new_ones(texts.classes).index_fill(0, entry.classes, 0.0)
        shares = 1 / (powers @ stays + own_powers.sum(1))
        scores = torch.bmm(shares.view(images, 1, count), by_image)[:, 0]
        own = (own_products * shares[:, None]).view(images, count, -1).sum(1)
        yield scores.index_copy(1, entry.classes, own)


def _class_sums(
    views: Tensor, texts: Tensor, class_index: Tensor, classes: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """P and A of views [R, d]: float64 [R, C] each."""
    powers = torch.zeros(len(views), classes, dtype=torch.float64)
    products = torch.zeros_like(powers)
    counts, wide = class_counts(class_index, classes), views.double() / temperature
    for block in torch.split(torch.arange(len(texts)), max(1, _TILE // len(views))):
        z = wide @ texts[block].double().T
        e = z.exp()
        powers.index_add_(1, class_index[block], e)
        products.index_add_(1, class_index[block], e.mul_(z))
    return powers / counts, products / counts
