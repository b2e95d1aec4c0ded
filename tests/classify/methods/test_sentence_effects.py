"""What leaving out a sentence means: the oracle of the fast ways, and the rule by which labels change."""

from __future__ import annotations

import torch
from leave_one_out_cases import every_class, leave_one_out_case

from abs_classify.methods.scoring import SoftMatch
from abs_classify.methods.sentence_effects import DecisionRule, ExhaustiveEffects, sums_of_others
from abs_classify.methods.soft_matching import soft_reference


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
