"""The usage weight of a text is the weight with which it enters the class scores of soft matching."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from abs_classify.methods import soft_matching
from abs_classify.methods.similarity import class_counts, unit
from abs_classify.methods.soft_matching import soft, soft_parts, soft_usage
from abs_core.errors import ModelError, UsageError

COUNTS = [3, 1, 5, 2]


def vectors(seed: int, *shape: int) -> Tensor:
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return unit(noise + 1)


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    class_index = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS))[torch.randperm(11)]
    return vectors(1, 6, 7, 16), vectors(2, 11, 16), class_index


def test_usage_is_the_weight_in_the_scores(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    """q = (q z) / z, with the parts of the score from the oracle."""
    views, texts, class_index = problem
    usage = soft_usage(views, texts, class_index, 4)
    parts = torch.stack([soft_parts(image, texts, class_index, 4) for image in views])
    weights = parts / (views @ texts.T / 0.03)
    assert torch.allclose(usage, weights.sum((0, 1)), rtol=1e-9)
    assert float(usage.sum()) == pytest.approx(6 * 7)
    assert usage.shape == (11,)


def test_usage_and_similarity_give_the_score_of_a_view(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    views, texts, class_index = problem
    one = views[:1, :1]
    z = one[0, 0] @ texts.T / 0.03
    scores = torch.zeros(4, dtype=torch.float64).index_add_(0, class_index, soft_usage(one, texts, class_index, 4) * z)
    assert torch.allclose(scores, soft(one, texts, class_index, 4)[0], rtol=1e-6)


def test_a_class_gains_no_usage_by_repeating_its_texts() -> None:
    """The 1/n_c of unequal counts: every text of one class written twice halves each and leaves the class as it is."""
    texts, class_index = vectors(3, 4, 8), torch.tensor([0, 0, 1, 1])
    views = vectors(4, 2, 3, 8)
    once = soft_usage(views, texts, class_index, 2)
    twice = soft_usage(views, torch.cat([texts, texts[:2]]), torch.tensor([0, 0, 1, 1, 0, 0]), 2)
    assert torch.allclose(twice[:2] + twice[4:], once[:2])
    assert torch.allclose(twice[2:4], once[2:])
    assert class_counts(class_index, 2).tolist() == [2, 2]


@pytest.mark.parametrize("weights", [1, 30, 1 << 23])
def test_blocks_change_rounding_only(
    problem: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, weights: int
) -> None:
    views, texts, class_index = problem
    whole = soft_usage(views, texts, class_index, 4)
    monkeypatch.setattr(soft_matching, "_WEIGHTS", weights)
    assert torch.allclose(soft_usage(views, texts, class_index, 4), whole, rtol=1e-12)
    assert torch.allclose(soft_usage(views.float(), texts.float(), class_index, 4), whole, rtol=1e-3)
    assert torch.allclose(
        sum((soft_usage(image[None], texts, class_index, 4) for image in views), torch.zeros(11)), whole
    )


def test_bad_inputs_are_refused(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    views, texts, class_index = problem
    broken = views.clone()
    broken[2, 3] = torch.nan
    with pytest.raises(ModelError, match="view 3 of image 2"):
        soft_usage(broken, texts, class_index, 4)
    with pytest.raises(UsageError):
        soft_usage(views, texts, class_index, 5)
    with pytest.raises(UsageError):
        soft_usage(views, texts, class_index, 4, temperature=0.0)
