"""Random features for the tests of scorers: views and texts whose cosines are positive, as CLIP's are."""

from __future__ import annotations

import torch
from torch import Tensor

from abs_classify.methods import similarity as matching
from abs_classify.methods.scoring import (
    ClassTextFeatures,
)


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
