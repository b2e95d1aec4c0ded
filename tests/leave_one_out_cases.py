"""Random features for tests of what leaving out sentences changes, and the comparison with its definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from abs_classify.methods.leave_one_out import prepare_effects
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.sentence_effects import DecisionRule, Effects, ExhaustiveEffects
from abs_classify.methods.similarity import unit


def leave_one_out_case(
    seed: int, counts: Sequence[int], *, images: int = 6, views: int = 5, dims: int = 16, spread: float = 1.0
) -> tuple[ClassTextFeatures, dict[str, Tensor], list[int]]:
    """Texts around the centres of their classes, views of images around one of these, and which one: float32."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dims, generator=generator)

    centres = noise(len(counts))
    index = torch.arange(len(counts)).repeat_interleave(torch.tensor(list(counts)))
    texts = unit(centres[index] + spread * noise(len(index)))
    truth = torch.randint(len(counts), (images,), generator=generator)
    crops = unit(0.4 * centres[truth][:, None] + 0.5 * noise(images, 1) + 0.8 * noise(images, views))
    features = ClassTextFeatures(texts, index, unit(centres + 0.3 * noise(len(counts))))
    return features, {"whole": crops[:, :1], "box": crops}, truth.tolist()


def every_class(texts: ClassTextFeatures) -> DecisionRule:
    """The rule by which every class can win."""
    return DecisionRule(torch.ones(texts.classes, dtype=torch.bool))


def agree(fast: Effects, slow: Effects) -> None:
    """Fail unless two ways lead to the same labels, and to scores within rounding."""
    scale = float(slow.scores.abs().max())
    torch.testing.assert_close(fast.scores, slow.scores, rtol=1e-5, atol=1e-6 * scale)
    assert fast.labels.tolist() == slow.labels.tolist()
    assert fast.seconds.tolist() == slow.seconds.tolist()
    for changed in ("changes", "names"):
        assert sorted(getattr(fast, changed).tolist()) == sorted(getattr(slow, changed).tolist()), changed
    torch.testing.assert_close(fast.margins, slow.margins, rtol=1e-5, atol=2e-6 * scale)
    torch.testing.assert_close(fast.usage.double(), slow.usage.double(), rtol=0, atol=1e-5)


def compare(scorer: Any, texts: ClassTextFeatures, views: Mapping[str, Tensor], truth: list[int] | None) -> Effects:
    """The effects, the same by the definition."""
    fast = prepare_effects(scorer, texts, range(texts.classes)).effects(views, truth)
    slow = ExhaustiveEffects(scorer, texts, every_class(texts)).effects(views, truth)
    agree(fast, slow)
    return fast
