"""Sentences left out without encoding anything again, against the same texts scored without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from leave_one_out_cases import agree, compare, every_class, leave_one_out_case

from abs_classify.methods.leave_one_out import (
    DecisionRule,
    ExhaustiveEffects,
    HardEffects,
    LinearEffects,
    prepare_effects,
    sentence_groups,
    sums_of_others,
)
from abs_classify.methods.scoring import (
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    SoftMatch,
    WeightedCosine,
)
from abs_classify.methods.soft_leave_one_out import SoftEffects
from abs_classify.methods.soft_matching import soft_reference

LINEAR = [CosineToMean(), MeanSimilarity(), WeightedCosine(text_scale=3.0)]


@pytest.mark.parametrize("scorer", [*LINEAR, HardMatch()], ids=lambda scorer: type(scorer).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_effects_are_those_of_texts_without_the_sentence(scorer: Any, seed: int) -> None:
    texts, views, truth = leave_one_out_case(seed, counts=[1, 2, 3, 1, 7, 2, 4] if seed % 2 else [3] * 6, images=20)
    if isinstance(scorer, HardMatch):
        views = {"box": views["box"]}
    effects = compare(scorer, texts, views, truth)
    assert len(effects.changes)
    assert len(effects.names)
    assert not len(compare(scorer, texts, views, None).names)


def test_the_way_is_that_of_the_scorer() -> None:
    texts, _, _ = leave_one_out_case(0, counts=[2, 2])
    kinds = [type(prepare_effects(scorer, texts, range(2))) for scorer in (*LINEAR, HardMatch(), SoftMatch())]
    assert kinds == [LinearEffects] * 3 + [HardEffects, SoftEffects]


def test_the_oracle_is_the_formula() -> None:
    # P' and A' of the definition, summed by hand for one sentence of one class
    texts, views, truth = leave_one_out_case(3, counts=[3, 2, 4])
    z = views["box"][0].double() @ texts.features.double().T / 0.03
    for sentence in (0, 4, 7):
        kept = [m for m in range(9) if m != sentence]
        index = texts.class_index[kept]
        powers, products = torch.exp(z - z.max())[:, kept], (z * torch.exp(z - z.max()))[:, kept]
        count = torch.bincount(index).double()
        p = torch.stack([powers[:, index == c].sum(1) / count[c] for c in range(3)])
        a = torch.stack([products[:, index == c].sum(1) / count[c] for c in range(3)])
        expected = (a / p.sum(0)).sum(1)
        reduced = soft_reference(views["box"][:1], texts.features[kept], index, 3)[0]
        torch.testing.assert_close(reduced, expected, rtol=1e-12, atol=0)
    effects = ExhaustiveEffects(SoftMatch(), texts, every_class(texts)).effects({"box": views["box"]}, truth)
    whole = soft_reference(views["box"], texts.features, texts.class_index, 3)
    torch.testing.assert_close(effects.scores, whole, rtol=1e-9, atol=1e-9)


def test_a_sentence_that_is_most_of_a_sum_leaves_the_digits_of_the_others() -> None:
    values = torch.tensor([1e30, 1.25, -3.0, 0.5], dtype=torch.float64)
    assert sums_of_others(values).tolist() == [-1.25, 1e30, 1e30, 1e30]
    assert sums_of_others(values[:1]).tolist() == [0.0]


def test_sentences_are_grouped_by_the_number_in_their_class() -> None:
    groups = sentence_groups(torch.tensor([0, 0, 1, 2, 2, 2, 3]), 4)
    assert [(group.count, group.classes.tolist()) for group in groups] == [(1, [1, 3]), (2, [0]), (3, [2])]
    assert groups[0].sentences.tolist() == [[2], [6]]
    assert [part.tolist() for _, part in groups[0].parts(1)] == [[[2]], [[6]]]


def test_only_candidates_win() -> None:
    texts, views, truth = leave_one_out_case(2, counts=[2, 3, 2, 2, 3])
    rule = DecisionRule(torch.tensor([True, False, True, False, True]))
    for scorer in (CosineToMean(), HardMatch(), SoftMatch()):
        kinds = {"box": views["box"]} if not isinstance(scorer, CosineToMean) else views
        fast = prepare_effects(scorer, texts, [0, 2, 4]).effects(kinds, truth)
        agree(fast, ExhaustiveEffects(scorer, texts, rule).effects(kinds, truth))
        assert {*fast.labels.tolist(), *fast.changes[:, 2].tolist()} <= {0, 2, 4}


def test_what_differs_by_rounding_is_no_change() -> None:
    rule = DecisionRule(torch.tensor([True, True, True]))
    before = torch.tensor([[100.0, 99.0, 50.0]], dtype=torch.float64)
    label, rounding = rule.labels(before), rule.rounding(before)
    for second, now in ((100.0 + 3e-4, 0), (100.0 + 5e-4, 1)):
        after = torch.tensor([[100.0, second, 50.0]], dtype=torch.float64)
        assert rule.without(after, label, rounding).tolist() == [now]
    assert rule.margins(before, torch.tensor([1])).tolist() == [-1.0]
    # of scores that are equal in float32 the first counts, as in evaluations
    assert rule.labels(torch.tensor([1.0, 1.0 + 1e-9, 0.0], dtype=torch.float64)) == 0
