"""The most attended patches of an image, and how likely a view is centred on each (Cai et al., ICML 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.methods.random import FloatArray, IntArray
from abs_core.errors import ModelError, UsageError

__all__ = ["Focus", "default_top_k", "focus"]


@dataclass(frozen=True, eq=False)
class Focus:
    """The patches that views can be centred on.

    Attributes:
        index: int64 [k], row-major positions on the attention grid, the most attended first.
        probability: float64 [k], sums to 1.
    """

    index: IntArray
    probability: FloatArray


def default_top_k(patches: int) -> int:
    """The published share of patches, 20 of 196, of any number of patches; at least 1."""
    return max(1, round(20 / 196 * patches))


def _check_attention(attention: NDArray[Any]) -> NDArray[Any]:
    """``attention`` itself, if it is a square map of finite numbers.

    Args:
        attention: [g, g] real numbers.

    Raises:
        ModelError: another shape, or NaN or infinity in it.
    """
    if attention.ndim != 2 or attention.shape[0] != attention.shape[1] or attention.size == 0:
        raise ModelError(
            f"the attention map must have the shape [g, g], got {list(attention.shape)}",
            remedy="Use an attention backend that gives one value for each patch of a square grid",
        )
    if not np.isfinite(attention).all():
        count = int((~np.isfinite(attention)).sum())
        raise ModelError(
            f"the attention map holds NaN or infinity in {count} of its {attention.size} patches",
            remedy="Check the weights of the attention backend, and use float32 if it runs in half precision",
        )
    return attention


def focus(attention: NDArray[Any], top_k: int | None = None, temperature: float = 0.03) -> Focus:
    """The most attended patches and the probability of centring a view on each (ABS: softmax over the top k values).

    Patches that tie with the k-th are kept as well: a map that is the same everywhere then means every patch and not
    the first k of them. Real maps have no such ties, so k patches are kept, as published.

    Args:
        attention: [g, g] real numbers.
        top_k: how many patches to keep; None keeps a tenth, 20 of 14 x 14.
        temperature: of the softmax; 0.03 as published.

    Returns:
        The patches in descending order of attention, ties in order of position.

    Raises:
        ModelError: the map is not square or not finite.
        UsageError: ``top_k`` is below 1 or above the number of patches, or ``temperature`` is not above 0.
    """
    flat = _check_attention(attention).ravel()
    k = default_top_k(flat.size) if top_k is None else top_k
    if not 1 <= k <= flat.size:
        raise UsageError(
            f"top_k must be from 1 to {flat.size}, the patches of the attention map, got {k}",
            remedy="Choose a number in that range",
        )
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0, got {temperature}", remedy="Use 0.03, as published")
    order = np.argsort(-flat, kind="stable")
    kept = order[flat[order] >= flat[order[k - 1]]]
    value = flat[kept].astype(np.float64)
    weight = np.exp((value - value[0]) / temperature)
    return Focus(kept.astype(np.int64), weight / weight.sum())
