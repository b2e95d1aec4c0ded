"""Scores with other texts of one class against scoring all texts anew."""

from __future__ import annotations

import pytest
import torch

from abs_classify.methods.class_variants import ClassVariant, variant_scores
from abs_classify.methods.scoring import (
    ClassTextFeatures,
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    Scorer,
    SoftMatch,
    WeightedCosine,
)
from abs_classify.methods.soft_matching import soft_reference


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=GENERATOR), dim=-1)


GENERATOR = torch.Generator().manual_seed(3)
COUNTS = (3, 1, 4, 2)
TEXTS = ClassTextFeatures(unit(10, 8), torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 3, 3]), unit(4, 8))
VIEWS = {"whole": unit(5, 1, 8), "box": unit(5, 6, 8)}
VARIANTS = [ClassVariant(2, unit(3, 8)), ClassVariant(1, unit(4, 8)), ClassVariant(0, TEXTS.features[:1])]


def replaced(variant: ClassVariant) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and class index, put together class by class."""
    rows = [variant.features if c == variant.position else TEXTS.features[TEXTS.class_index == c] for c in range(4)]
    return torch.cat(rows), torch.cat([torch.full((len(part),), c) for c, part in enumerate(rows)])


@pytest.mark.parametrize("temperature", [0.03, 0.003], ids=["summed once", "beyond float64, so scored anew"])
def test_soft_matching_replaces_one_class_exactly(temperature: float) -> None:
    views = torch.cat(list(VIEWS.values()), dim=1)
    for variant, scores in zip(VARIANTS, variant_scores(SoftMatch(temperature), VIEWS, TEXTS, VARIANTS), strict=True):
        features, index = replaced(variant)
        expected = soft_reference(views.double(), features.double(), index, 4, temperature)
        limit = 1e-12 if temperature == 0.03 else 1e-5
        assert torch.allclose(scores.double(), expected, rtol=limit, atol=limit * float(expected.abs().max()))


def test_a_class_with_all_the_weight_leaves_the_others_their_digits() -> None:
    near = ClassTextFeatures(torch.cat([VIEWS["box"][0, :1], TEXTS.features[3:]]), TEXTS.class_index[2:], TEXTS.labels)
    views = VIEWS["box"][:1, :1]
    variant = ClassVariant(0, -views[0])
    (scores,) = variant_scores(SoftMatch(), {"box": views}, near, [variant])
    features = torch.cat([variant.features, near.features[1:]])
    expected = soft_reference(views.double(), features.double(), near.class_index, 4)
    # what is left had e^-30 of the weight before
    assert torch.allclose(scores, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scorer", [CosineToMean(), MeanSimilarity(), HardMatch(), WeightedCosine()], ids=repr)
def test_other_scorers_see_the_replaced_texts(scorer: Scorer) -> None:
    for variant, scores in zip(VARIANTS, variant_scores(scorer, VIEWS, TEXTS, VARIANTS), strict=True):
        features, index = replaced(variant)
        expected = scorer.scores(VIEWS, ClassTextFeatures(features, index, TEXTS.labels))
        assert torch.allclose(scores, expected, atol=1e-6)
        assert not torch.allclose(scores, scorer.scores(VIEWS, TEXTS), atol=1e-3)
