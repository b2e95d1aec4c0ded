"""MTA: the robust mode of an image's views (Zanella & Ben Ayed, CVPR 2024, arXiv 2405.02266)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from abs_classify.methods.parameters import MAX_SCALE, MIN_TEMPERATURE, check_range
from abs_classify.methods.scoring import ClassTextFeatures, all_views
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MIN_VIEWS", "MTA", "mta_mode"]

#: with fewer views the nearest 30 % of the others are none
MIN_VIEWS = 5

#: as in the authors' code, where they are constants
_OUTER, _INNER, _SETTLED = 5, 5, 1e-6


@dataclass(frozen=True)
class MTA:
    """Cosine of the mode of the views with each class, times the logit scale.

    The first view is the start of the search, so list the full image first. The authors use random resized crops with
    flips, 64 views in all.

    Attributes:
        scale: logit scale.
        lambda_q: strength of the agreement between views that predict alike.
        lambda_y: temperature of the inlierness scores.

    Raises:
        UsageError: a parameter out of its range.
    """

    scale: float = 100.0
    lambda_q: float = 4.0
    lambda_y: float = 0.2

    def __post_init__(self) -> None:
        check_range("MTA", {"scale": self.scale}, 0, MAX_SCALE, above=True)
        check_range("MTA", {"lambda_y": self.lambda_y}, MIN_TEMPERATURE)
        check_range("MTA", {"lambda_q": self.lambda_q}, 0, MAX_SCALE)

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "mta", **asdict(self)}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``. Raises UsageError for fewer than 5 views, which leave no neighbours for the bandwidth."""
        weights = texts.means
        mode, _ = mta_mode(all_views(views), weights, self.scale, self.lambda_q, self.lambda_y)
        return self.scale * mode @ weights.T


def mta_mode(
    views: Tensor, weights: Tensor, scale: float = 100.0, lambda_q: float = 4.0, lambda_y: float = 0.2
) -> tuple[Tensor, Tensor]:
    """The mode that the authors' solver reaches in its five outer steps.

    Args:
        views: [B, N, d] unit, N >= 5; view 0 starts the search.
        weights: [C, d] unit class vectors.
        scale, lambda_q, lambda_y: see ``MTA``.

    Returns:
        The modes [B, d], unit, and the weighted densities [B, N] of the last step before the mode's last update.

    Raises:
        UsageError: N is below 5.
    """
    width = 2 * _bandwidths(views)
    probability = (scale * views @ weights.T).softmax(-1)
    affinity = lambda_q * probability @ probability.transpose(1, 2)
    mode = views[:, 0]
    inlierness = views.new_full(views.shape[:2], 1 / views.shape[1])
    density = inlierness.new_zeros(inlierness.shape)
    for _ in range(_OUTER):
        kernel = _kernel(views, mode, width)
        inlierness = _inlierness(kernel, affinity, inlierness, lambda_y)
        mode, density = _mean_shift(views, mode, inlierness, width)
    return mode, density


def _bandwidths(views: Tensor) -> Tensor:
    """Half the mean squared distance from each view to the nearest 30 % of the others: [B, N, d] -> [B, N].

    Distances are taken directly, not through a matrix product, so that a view's distance to itself is 0. Views that are
    all alike get a tiny bandwidth instead of 0.

    Raises:
        UsageError: N is below 5, which leaves no neighbours.
    """
    import torch

    count = views.shape[1]
    nearest = int(0.3 * (count - 1))
    if count < MIN_VIEWS:
        raise UsageError(
            f"MTA needs at least {MIN_VIEWS} views of an image, got {count} views", remedy="Give it more random crops"
        )
    distance = torch.cdist(views, views, compute_mode="donot_use_mm_for_euclid_dist").square()
    others = distance.sort(dim=-1).values[..., 1 : nearest + 1]
    return (others.mean(-1) / 2).clamp_min(torch.finfo(views.dtype).eps ** 2)


def _kernel(views: Tensor, mode: Tensor, width: Tensor) -> Tensor:
    return (-(views - mode[:, None]).square().sum(-1) / width).exp()


def _inlierness(kernel: Tensor, affinity: Tensor, start: Tensor, lambda_y: float) -> Tensor:
    """Fixed-point steps y <- softmax((kernel + affinity y) / lambda_y), each image until it has settled."""
    import torch

    current, moving = start, torch.ones_like(start[:, :1], dtype=torch.bool)
    for _ in range(_INNER):
        logits = (kernel + torch.einsum("bij,bj->bi", affinity, current)) / lambda_y
        new = torch.where(moving, torch.softmax(logits, dim=-1), current)
        moving = moving & ((new - current).norm(dim=-1, keepdim=True) >= _SETTLED)
        current = new
    return current


def _mean_shift(views: Tensor, start: Tensor, inlierness: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-shift steps of the mode on the unit sphere, each image until it has settled, and the last densities."""
    import torch

    mode, moving = start, torch.ones_like(start[:, :1], dtype=torch.bool)
    density = torch.zeros_like(inlierness)
    for _ in range(_INNER):
        density = torch.where(moving, _kernel(views, mode, width) * inlierness, density)
        shifted = torch.einsum("bn,bnd->bd", density, views) / density.sum(-1, keepdim=True)
        new = torch.where(moving, shifted / shifted.norm(dim=-1, keepdim=True), mode)
        moving = moving & ((new - mode).norm(dim=-1, keepdim=True) >= _SETTLED)
        mode = new
    return mode, density
