"""Random features for the tests of scorers: views and texts whose cosines are positive, as CLIP's are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abs_classify.methods import similarity as matching
from abs_classify.methods.scoring import ClassTextFeatures, StreamScorer


def vectors(seed: int, *shape: int, offset: float = 1.0) -> Tensor:
    """Unit float64 vectors around a common direction, so that cosines are positive as CLIP's are."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    common = torch.randn(shape[-1], generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return matching.unit(noise + offset * common)


def texts_with(counts: list[int], dims: int = 32, *, shuffled: bool = False) -> ClassTextFeatures:
    class_index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    if shuffled:
        class_index = class_index[torch.randperm(len(class_index), generator=torch.Generator().manual_seed(3))]
    return ClassTextFeatures(vectors(1, len(class_index), dims), class_index, vectors(2, len(counts), dims))


def views_of(images: int = 3, crops: int = 7, dims: int = 32) -> dict[str, Tensor]:
    return {"whole": vectors(4, images, 1, dims), "random": vectors(5, images, crops, dims)}


def relative(got: Tensor, want: Tensor) -> float:
    return float(((got - want) / want).abs().max())


def unit_texts(features: Tensor, class_index: Tensor, labels: Tensor) -> ClassTextFeatures:
    """Text features of any norm, as scorers take them."""
    return ClassTextFeatures(matching.unit(features), class_index, matching.unit(labels))


def run_stream(scorer: StreamScorer[Any], views: dict[str, Tensor], texts: ClassTextFeatures) -> Tensor:
    """Scores [B, C] of B images in their order, from a fresh state."""
    images = len(next(iter(views.values())))
    state = scorer.start(texts, images)
    rows = ({kind: features[image] for kind, features in views.items()} for image in range(images))
    return torch.stack([scorer.step(state, row) for row in rows])
