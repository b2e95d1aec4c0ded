"""Scorers: their scores, what carried them, bad numbers, streams."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from feature_vectors import run_stream, texts_with, vectors, views_of

from abs_classify.methods.baselines import DMN, MTA, TDA, OnZeta, Zero
from abs_classify.methods.scoring import (
    AdditiveScorer,
    ClassTextFeatures,
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    Scorer,
    SoftMatch,
    WeightedCosine,
)
from abs_classify.methods.similarity import class_sums
from abs_classify.methods.soft_matching import soft
from abs_core.canonical import canonical_json
from abs_core.errors import ModelError, UsageError

SCORERS = [CosineToMean(), MeanSimilarity(), HardMatch(), SoftMatch(), WeightedCosine()]

STREAMS = [TDA(), DMN(), OnZeta()]


def test_hard_match_takes_the_best_text() -> None:
    texts, views = texts_with([2, 3, 1], shuffled=True), vectors(5, 4, 6, 32)
    cosines = views @ texts.features.T
    best = torch.stack([cosines[..., texts.class_index == c].amax(-1) for c in range(3)], dim=-1)
    won = torch.nn.functional.one_hot(best.argmax(-1), 3)
    assert torch.allclose(HardMatch().scores({"box": views}, texts), (won * best).sum(1))


def changed(value: Any) -> list[Any]:
    """Values that differ from one in one number each."""
    if isinstance(value, str):
        return ["upstream"]
    if isinstance(value, tuple):
        return [(value[0] / 2, value[1]), (value[0], value[1] / 2)]
    if is_dataclass(value) and not isinstance(value, type):
        names = [parameter.name for parameter in fields(value)]
        return [replace(value, **{name: other}) for name in names for other in changed(getattr(value, name))]
    return [value + 1 if isinstance(value, int) else value / 2]


@pytest.mark.parametrize("scorer", [*SCORERS, *STREAMS, Zero(), MTA()], ids=lambda scorer: scorer.key()["matcher"])
def test_each_parameter_of_a_scorer_changes_its_key(scorer: Any) -> None:
    variants = [scorer, *(changed(scorer) if fields(scorer) else [])]
    keys = {canonical_json(variant.key()) for variant in variants}
    assert len(keys) == len(variants)
    others = [*SCORERS, *STREAMS, Zero(), MTA()]
    assert sum(other.key()["matcher"] == scorer.key()["matcher"] for other in others) == 1


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.key()["matcher"])
def test_ten_thousand_texts_for_one_class_and_one_for_another(scorer: Scorer) -> None:
    assert scorer.scores(views_of(), texts_with([1, 10_000, 3])).isfinite().all()


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.key()["matcher"])
def test_parts_add_up_to_the_scores(scorer: AdditiveScorer) -> None:
    texts, views = texts_with([2, 3, 1, 4], shuffled=True), views_of()
    scores = scorer.scores(views, texts)
    for image in range(3):
        contributions = scorer.contributions({kind: rows[image] for kind, rows in views.items()}, texts)
        assert contributions.parts.shape == (8, 10)
        assert contributions.views == (("whole", 0), *(("random", index) for index in range(7)))
        sums = class_sums(contributions.parts.sum(0), contributions.class_index, 4)
        assert torch.allclose(sums, scores[image], rtol=1e-12, atol=1e-14)


def test_the_full_image_carries_nothing_in_wca() -> None:
    views = {kind: rows[0] for kind, rows in views_of().items()}
    turned = {"random": views["random"], "whole": views["whole"]}
    texts = texts_with([2, 3])
    first, second = (WeightedCosine().contributions(order, texts) for order in (views, turned))
    assert (first.parts[0] == 0).all()
    assert torch.equal(first.parts[1:], second.parts[:7])
    assert second.views[-1] == ("whole", 0)


@pytest.mark.parametrize("scorer", [MTA(), Zero(), *STREAMS], ids=lambda scorer: scorer.key()["matcher"])
def test_scorers_whose_scores_are_not_sums_have_no_contributions(scorer: Scorer) -> None:
    assert not isinstance(scorer, AdditiveScorer)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_text_without_direction_is_named(bad: float) -> None:
    features = torch.ones(5, 4)
    features[3] = bad
    class_index = torch.tensor([0, 0, 1, 1, 2])
    with pytest.raises(ModelError, match="text 3 of 5, of class 1,"):
        ClassTextFeatures(features, class_index, torch.ones(3, 4))
    with pytest.raises(ModelError, match="text 3 of 5, of class 1,"):
        soft(torch.ones(1, 2, 4), features, class_index, 3)


@pytest.mark.parametrize("scorer", [*SCORERS, Zero()], ids=lambda scorer: scorer.key()["matcher"])
def test_a_view_that_is_not_finite_is_named(scorer: Scorer) -> None:
    views = views_of()
    views["random"][1, 4, 0] = float("nan")
    with pytest.raises(ModelError, match="view 4 of kind 'random' of image 1 "):
        scorer.scores(views, texts_with([2, 2]))


def test_a_class_without_a_text_is_named() -> None:
    with pytest.raises(UsageError, match="class 1 has no text"):
        ClassTextFeatures(torch.ones(2, 4), torch.tensor([0, 2]), torch.ones(3, 4))
    with pytest.raises(UsageError, match="class indices must be from 0 to 2, got 0 to 3"):
        ClassTextFeatures(torch.ones(2, 4), torch.tensor([0, 3]), torch.ones(3, 4))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_cannot_work_is_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match="temperature"):
        SoftMatch(temperature)
    with pytest.raises(UsageError, match="temperature"):
        soft(torch.ones(1, 1, 4), torch.ones(1, 4), torch.tensor([0]), 1, temperature)


def test_shapes_that_do_not_fit_are_refused() -> None:
    texts = texts_with([2, 2])
    with pytest.raises(UsageError, match="cannot be matched"):
        soft(torch.ones(1, 0, 32), texts.features, texts.class_index, 2)
    with pytest.raises(UsageError, match="cannot be matched"):
        soft(torch.ones(1, 3, 16), texts.features, texts.class_index, 2)
    with pytest.raises(UsageError, match="no views"):
        SoftMatch().scores({}, texts)


def test_wca_says_which_views_it_lacks() -> None:
    texts, views = texts_with([2, 2]), views_of()
    with pytest.raises(UsageError, match="needs the full image"):
        WeightedCosine().scores({"random": views["random"]}, texts)
    with pytest.raises(UsageError, match="needs crops"):
        WeightedCosine().scores({"whole": views["whole"]}, texts)


@pytest.mark.parametrize("scorer", STREAMS, ids=lambda scorer: scorer.key()["matcher"])
def test_a_stream_depends_on_what_came_before_and_starts_afresh(scorer: TDA) -> None:
    texts, views = texts_with([1] * 5), {"whole": vectors(8, 30, 1, 32)}
    first = run_stream(scorer, views, texts)
    assert torch.equal(first, run_stream(scorer, views, texts))
    turned = run_stream(scorer, {"whole": views["whole"].flip(0)}, texts).flip(0)
    assert float((first - turned).abs().max()) > 1e-6
    with pytest.raises(UsageError, match="0 images"):
        scorer.start(texts, 0)


@pytest.mark.parametrize("scorer", STREAMS, ids=lambda scorer: scorer.key()["matcher"])
def test_a_stream_runs_with_one_class(scorer: TDA) -> None:
    scores = run_stream(scorer, {"whole": vectors(8, 4, 1, 32)}, texts_with([2]))
    assert scores.shape == (4, 1)
    assert scores.isfinite().all()
