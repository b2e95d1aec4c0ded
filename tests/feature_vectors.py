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


def soft_tolerance(views: Tensor, texts: Tensor, temperature: float = 0.03) -> float:
    """How far float32 scores of soft matching may be from float64, as a part of the image's largest score.

    A similarity is a sum of d products in four parts, so it is rounded about d/4 + 3 times by up to half a unit in the
    last place of |view| |text - mean text|; roundings are as often up as down, so they add up like a random walk. The
    temperature divides the similarity, and the exponential turns its error into a relative one of the weight.
    """
    roundings = views.shape[-1] / 4 + 3
    size = float(views.norm(dim=-1).max() * (texts - texts.mean(0)).norm(dim=-1).max())
    return roundings**0.5 * 2.0**-24 * size / temperature


def scaled(got: Tensor, want: Tensor) -> float:
    """The largest difference, as a part of the largest score of its image."""
    return float(((got.double() - want).abs() / want.abs().amax(-1, keepdim=True)).max())
