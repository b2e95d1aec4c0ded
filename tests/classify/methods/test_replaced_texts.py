"""Scores with the texts of a few classes replaced: the fast ways against the definition."""

from __future__ import annotations

import pytest
import torch

from abs_classify.methods.replaced_texts import Replacement, reference_scores, replaced_scores
from abs_classify.methods.scoring import (
    ClassTextFeatures,
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    Scorer,
    SoftMatch,
    WeightedCosine,
)
from abs_classify.methods.similarity import unit
from abs_classify.methods.soft_matching import soft_reference


def texts_of(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return unit(torch.randn(len(index), 16)), index


@pytest.mark.parametrize(
    "scorer",
    [SoftMatch(), SoftMatch(0.001), CosineToMean(), MeanSimilarity(), WeightedCosine(), HardMatch()],
    ids=["soft", "soft-cold", "cupl", "mean", "wca", "hard"],
)
@pytest.mark.parametrize("tile", [1 << 21, 64])
def test_scores_are_those_of_the_definition(scorer: Scorer, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.methods.replaced_texts._TILE", tile)
    torch.manual_seed(3)
    views = {"whole": unit(torch.randn(4, 1, 16)), "box": unit(torch.randn(4, 5, 16))}
    texts = ClassTextFeatures(*texts_of([3, 1, 4, 2, 2]), unit(torch.randn(5, 16)))
    replacements = [
        Replacement(torch.tensor([1]), *texts_of([2])),
        Replacement(torch.tensor([0, 3]), *texts_of([1, 6])),
        Replacement(torch.arange(5), *texts_of([1, 2, 3, 1, 2])),
    ]
    fast = list(replaced_scores(scorer, views, texts, replacements))
    slow = list(reference_scores(scorer, views, texts, replacements))
    assert len(fast) == len(slow) == 4
    for left, right in zip(fast, slow, strict=True):
        assert left.shape == (4, 5)
        torch.testing.assert_close(left, right, check_dtype=False, rtol=2e-5, atol=2e-5)
    assert not torch.allclose(slow[0], slow[1])


def test_a_class_with_all_the_weight_leaves_the_others_their_digits() -> None:
    torch.manual_seed(3)
    views = unit(torch.randn(1, 1, 16))
    texts = ClassTextFeatures(*texts_of([1, 1, 4, 2]), unit(torch.randn(4, 16)))
    texts.features[0] = views[0, 0]
    replacement = Replacement(torch.tensor([0]), -views[0], torch.tensor([0]))
    before, after = replaced_scores(SoftMatch(), {"box": views}, texts, [replacement])
    for scores, features in ((before, texts.features), (after, torch.cat([-views[0], texts.features[1:]]))):
        expected = soft_reference(views.double(), features.double(), texts.class_index, 4)
        # what is left had e^-30 of the weight before
        torch.testing.assert_close(scores, expected, rtol=1e-11, atol=0)
