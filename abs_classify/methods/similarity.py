"""From the features of views and texts to class scores: pure functions on plain tensors.

Shapes, here and in every function below: B images, V views of each, d dimensions, M texts, C classes. ``class_index``
[M] gives the class (0 .. C-1) of each text; a class has one text or more. Everything works in the dtype of its inputs
(float64 in, float64 out; half precision is widened to float32), on their device.

Soft matching, the heart of ABS, is in ``soft_matching.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from abs_core.errors import ModelError, UsageError

__all__ = [
    "check_texts",
    "class_counts",
    "class_means",
    "class_sums",
    "cosine",
    "hard",
    "row_blocks",
    "text_means",
    "text_weights",
    "unit",
    "view_weights",
    "weighted_texts",
    "weighted_views",
    "wide_dtype",
    "widen",
]

#: elements of the largest temporary of the functions that compare every view with every text
_BLOCK = 1 << 22


def widen(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is float64 already: half precision is for storing, not for summing."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Vectors divided by their L2 norm.

    Args:
        x: [..., d].

    Returns:
        [..., d], float32 or float64.

    Raises:
        ModelError: a vector with a zero or non-finite norm; the message gives its position.
    """
    x = widen(x)
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    bad = _bad(norms.squeeze(-1))
    if bool(bad.any()):
        position = bad.nonzero()[0].tolist()
        raise ModelError(
            f"the feature vector at position {position} of {list(x.shape[:-1])} has no direction: "
            f"its norm is {norms.squeeze(-1)[bad][0].item()}",
            remedy="Check the model's weights",
        )
    directions: Tensor = x / norms
    return directions


def check_texts(features: Tensor, class_index: Tensor) -> None:
    """Check that text features can be compared with views.

    Args:
        features: [M, d], of any norm.
        class_index: int64 [M].

    Raises:
        ModelError: a text whose features are all zero or not finite; the message gives the positions of text and class.
        UsageError: the shapes do not fit.
    """
    if features.dim() != 2 or class_index.shape != features.shape[:1] or not len(features):
        raise UsageError(
            f"text features {list(features.shape)} and class indices {list(class_index.shape)} do not fit together"
        )
    bad = _bad(torch.cat([torch.linalg.vector_norm(widen(block), dim=-1) for block in row_blocks(features)]))
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ModelError(
            f"text {row} of {len(features)}, of class {int(class_index[row])}, was encoded to zeros or to numbers "
            "that are not finite",
            remedy="Check this text and the model's weights",
        )


def class_counts(class_index: Tensor, classes: int) -> Tensor:
    """The number of texts of each class.

    Args:
        class_index: int64 [M].
        classes: C.

    Returns:
        int64 [C], all at least 1.

    Raises:
        UsageError: a class index outside 0 .. C-1, or a class without a text; the message gives its position.
    """
    if len(class_index) and (int(class_index.min()) < 0 or int(class_index.max()) >= classes):
        raise UsageError(
            f"class indices must be from 0 to {classes - 1}, got {int(class_index.min())} to {int(class_index.max())}"
        )
    counts = torch.bincount(class_index, minlength=classes)
    if bool((counts == 0).any()):
        position = int((counts == 0).nonzero()[0])
        raise UsageError(
            f"class {position} has no text", remedy="Give every class at least one description or template"
        )
    return counts


def class_sums(values: Tensor, class_index: Tensor, classes: int) -> Tensor:
    """Sums over the texts of each class: [M, ...] -> [C, ...]."""
    return values.new_zeros(classes, *values.shape[1:]).index_add_(0, class_index, values)


def class_means(features: Tensor, class_index: Tensor, classes: int) -> Tensor:
    """One unit vector a class: normalise each text, take the mean, normalise it.

    The class weights of clip, clip-e, cupl, and of clip-d and waffle as WCA and ABS run them (Radford et al. 2021,
    section 3.1.4; Pratt et al. 2023).

    Args:
        features: [M, d], of any norm.
        class_index: int64 [M].
        classes: C.

    Returns:
        [C, d], unit norm.

    Raises:
        ModelError: a text, or the mean of a class, without a direction.
        UsageError: a class without a text.
    """
    counts = class_counts(class_index, classes)
    check_texts(features, class_index)
    sums = widen(features[:1]).new_zeros(classes, features.shape[1])
    for block, index in zip(row_blocks(features), row_blocks(class_index), strict=True):
        sums.index_add_(0, index, unit(block))
    return unit(sums / counts[:, None])


def cosine(views: Tensor, weights: Tensor) -> Tensor:
    """Cosines of unit vectors: views [..., d], class weights [C, d] -> [..., C]."""
    return views @ weights.T


def text_means(texts: Tensor, class_index: Tensor, classes: int) -> Tensor:
    """The mean text of each class, not normalised: [M, d] -> [C, d]. Raises UsageError for a class without a text.

    A unit vector's product with it is the mean cosine with the texts of the class (Menon & Vondrick 2023, equation 1).
    """
    return class_sums(texts, class_index, classes) / class_counts(class_index, classes)[:, None]


def hard(views: Tensor, texts: Tensor, class_index: Tensor, classes: int) -> Tensor:
    """Hard matching: each view gives its largest cosine to the class of that text, and nothing to the others.

    The limit of ``soft`` for a temperature of 0; the ablation of soft matching.

    Args:
        views: [B, V, d], unit.
        texts: [M, d], unit.
        class_index: int64 [M].
        classes: C.

    Returns:
        [B, C]: sums over views.
    """
    flat = views.reshape(-1, views.shape[-1])
    best = [(block @ texts.T).max(1) for block in torch.split(flat, max(1, _BLOCK // len(texts)))]
    value = torch.cat([block.values for block in best]).view(views.shape[:2])
    winner = class_index[torch.cat([block.indices for block in best])].view(views.shape[:2])
    wide = wide_dtype(views.device)
    sums = torch.zeros(len(views), classes, dtype=wide, device=views.device).scatter_add_(1, winner, value.to(wide))
    return sums.to(value.dtype)


def view_weights(full: Tensor, crops: Tensor, image_scale: float, crop_index: Tensor | None = None) -> Tensor:
    """WCA's weight of each crop: softmax of e^image_scale times its cosine with the full image (Li et al. 2024).

    Args:
        full: [B, d], of any norm.
        crops: [B, V, d], of any norm.
        image_scale: the exponent; 4.0 as published.
        crop_index: int64 [n], the crops to use, with repetitions. As published, 60 numbers are sampled with replacement
            once for a whole run; None uses every crop once, the same weighting without the noise of sampling.

    Returns:
        [B, V], summing to 1 over views; a crop that is used twice has twice the weight.
    """
    logits = math.exp(image_scale) * torch.einsum("bd,bvd->bv", unit(full), unit(crops))
    if crop_index is None:
        return torch.softmax(logits, dim=-1)
    weights = torch.softmax(logits[:, crop_index], dim=-1)
    return torch.zeros_like(logits).index_add_(1, crop_index, weights)


def weighted_views(full: Tensor, crops: Tensor, image_scale: float, crop_index: Tensor | None = None) -> Tensor:
    """WCA's image vector: the normalised sum of unit crops under ``view_weights``; same arguments, [B, d]."""
    weights = view_weights(full, crops, image_scale, crop_index)
    return unit(torch.einsum("bv,bvd->bd", weights, unit(crops)))


def text_weights(texts: Tensor, class_index: Tensor, labels: Tensor, text_scale: float) -> Tensor:
    """WCA's weight of each text: softmax, within its class, of e^text_scale times its cosine with the label's text.

    Args:
        texts: [M, d], of any norm.
        class_index: int64 [M].
        labels: [C, d], features of "a photo of a {class}.", of any norm.
        text_scale: the exponent; 2.0 as published.

    Returns:
        [M], summing to 1 over the texts of each class.
    """
    directions = unit(labels)
    logits = math.exp(text_scale) * torch.cat(
        [
            (unit(block) * directions[index]).sum(-1)
            for block, index in zip(row_blocks(texts), row_blocks(class_index), strict=True)
        ]
    )
    largest = logits.new_full((len(labels),), -torch.inf).scatter_reduce(0, class_index, logits, "amax")
    powers = torch.exp(logits - largest[class_index])
    return powers / class_sums(powers, class_index, len(labels))[class_index]


def weighted_texts(texts: Tensor, class_index: Tensor, labels: Tensor, text_scale: float) -> Tensor:
    """WCA's class vectors: the normalised sums of unit texts under ``text_weights``; same arguments, [C, d]."""
    weights = text_weights(texts, class_index, labels, text_scale)
    sums = weights.new_zeros(len(labels), texts.shape[1])
    for block, index, share in zip(row_blocks(texts), row_blocks(class_index), row_blocks(weights), strict=True):
        sums.index_add_(0, index, share[:, None] * unit(block))
    return unit(sums)


def row_blocks(x: Tensor) -> Iterator[Tensor]:
    """``x`` in blocks of at most 1024 rows, so that a wider copy of each stays small."""
    return iter(torch.split(x, 1024))


def wide_dtype(device: torch.device) -> torch.dtype:
    """The dtype of small sums: float64, but for Apple's devices, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def _bad(norms: Tensor) -> Tensor:
    return ~(norms.isfinite() & (norms > 0))
