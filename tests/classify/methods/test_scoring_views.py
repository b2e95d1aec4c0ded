"""What each view adds to the scores: against the scores, the contributions, and the bound on one view."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import relative, scaled, texts_with, vectors, views_of

from abs_classify.methods import soft_matching
from abs_classify.methods.baselines import MTA
from abs_classify.methods.scoring import (
    AdditiveScorer,
    ClassTextFeatures,
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    PerViewScorer,
    SoftMatch,
    WeightedCosine,
)
from abs_classify.methods.similarity import class_sums, unit
from abs_core.errors import ModelError

SCORERS = [MeanSimilarity(), HardMatch(), SoftMatch()]

each_scorer = pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.key()["matcher"])


@each_scorer
def test_the_sum_over_views_is_the_score(scorer: PerViewScorer) -> None:
    texts, views = texts_with([2, 3, 1, 4], shuffled=True), views_of()
    parts = scorer.view_scores(views, texts, 8)
    assert parts.shape == (3, 8, 4)
    assert torch.allclose(parts.sum(1), scorer.scores(views, texts), rtol=1e-12, atol=1e-14)


@each_scorer
def test_each_view_has_the_share_that_its_contributions_have(scorer: PerViewScorer) -> None:
    assert isinstance(scorer, AdditiveScorer)
    texts, views = texts_with([2, 3, 1, 4], shuffled=True), views_of()
    parts = scorer.view_scores(views, texts, 8)
    for image in range(3):
        contributions = scorer.contributions({kind: rows[image] for kind, rows in views.items()}, texts)
        want = class_sums(contributions.parts.T.contiguous(), contributions.class_index, 4).T
        assert torch.allclose(parts[image], want, rtol=1e-11, atol=1e-13)


@each_scorer
def test_a_view_adds_the_same_whatever_views_come_with_it(scorer: PerViewScorer) -> None:
    texts, views = texts_with([2, 3, 1, 4], shuffled=True), vectors(5, 3, 9, 32)
    together = scorer.view_scores({"box": views}, texts, 9)
    alone = torch.cat([scorer.view_scores({"box": views[:, v : v + 1]}, texts, 9) for v in range(9)], dim=1)
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-14)


def test_soft_matching_of_each_view_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, views = texts_with([3, 1, 7, 1, 2], shuffled=True), vectors(5, 3, 7, 32)
    want = torch.stack([_reference(image, texts) for image in views])
    monkeypatch.setattr(soft_matching, "_block_sizes", lambda *_: (3, 4))
    got = soft_matching.soft_views(views, texts.soft_texts)
    assert relative(got, want) < 1e-12
    single = soft_matching.soft_views(views.float(), texts.soft_texts)
    assert single.dtype == torch.float64  # as the scores: the texts are
    sharp = soft_matching.soft_views(views, texts.soft_texts, 1e-4)
    assert scaled(sharp.sum(1), soft_matching.soft_prepared(views, texts.soft_texts, 1e-4)) < 1e-12


def _reference(image: torch.Tensor, texts: ClassTextFeatures) -> torch.Tensor:
    parts = soft_matching.soft_parts(image, texts.features, texts.class_index, texts.classes)
    return class_sums(parts.T.contiguous(), texts.class_index, texts.classes).T


@each_scorer
def test_no_view_parts_two_classes_by_more_than_the_bound(scorer: PerViewScorer) -> None:
    texts = texts_with([2, 3, 1], shuffled=True)
    # a view can be any unit vector; those that are a text, or the opposite of one, come closest
    views = torch.cat([texts.features, -texts.features, unit(vectors(7, 200, 32))])[:, None]
    parts = scorer.view_scores({"box": views}, texts, 5)
    margins = (parts[..., :, None] - parts[..., None, :]).abs().amax((-2, -1))
    bound = scorer.margin_bound(texts, 5)
    assert float(margins.max()) <= bound * (1 + 1e-9)
    assert float(margins.max()) > bound / 4


def test_scores_that_are_no_sum_over_views_have_none() -> None:
    assert not any(isinstance(scorer, PerViewScorer) for scorer in (CosineToMean(), WeightedCosine(), MTA()))


@each_scorer
def test_a_view_that_is_not_finite_is_named(scorer: PerViewScorer) -> None:
    views = vectors(5, 2, 3, 32)
    views[1, 2, 0] = float("nan")
    with pytest.raises(ModelError, match="view 2"):
        scorer.view_scores({"box": views}, texts_with([1, 2]), 3)
