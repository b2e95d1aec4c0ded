"""Sentences left out without encoding anything again, against the same texts scored without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from leave_one_out_cases import agree, compare, leave_one_out_case

from abs_classify.methods.leave_one_out import HardEffects, LinearEffects, prepare_effects, sentence_groups
from abs_classify.methods.scoring import (
    CosineToMean,
    HardMatch,
    MeanSimilarity,
    SoftMatch,
    WeightedCosine,
)
from abs_classify.methods.sentence_effects import DecisionRule, ExhaustiveEffects
from abs_classify.methods.soft_leave_one_out import SoftEffects

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
