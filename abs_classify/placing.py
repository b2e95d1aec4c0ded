"""Where the views of an image lie: on the image for crops, on the tower's token grid for feature windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abs_classify.views import AttentionBoxes, RandomCrops, ViewSource, WholeImage

if TYPE_CHECKING:
    from abs_classify.towers.base import Tower

__all__ = ["Geometry", "place_views"]


@dataclass(frozen=True)
class Geometry:
    """What a tower sees of an image.

    Args:
        grid: side of the tower's token grid; 0 where it has no feature views.
        crop_fraction: side of the square that the tower sees of the whole image, as a share of the short side; None
            for a tower that stretches the whole image.
    """

    grid: int
    crop_fraction: float | None

    @classmethod
    def of(cls, tower: Tower) -> Geometry:
        """The geometry of a tower."""
        return cls(tower.grid, tower.crop_fraction)


def place_views(
    geometry: Geometry,
    attention: np.ndarray | None,
    image_id: str,
    size: tuple[int, int],
    views: Sequence[ViewSource],
    *,
    seed: int = 0,
) -> dict[ViewSource, np.ndarray]:
    """Where the views of one image lie.

    Args:
        geometry: the token grid, and the part of the image that the tower sees.
        attention: the image's attention map [g, g], or None when no view is guided.
        image_id: the sha256 of the image's bytes.
        size: width and height in pixels.
        views: the view sources.
        seed: with the image's id and the kind and number of a view it determines every random draw.

    Returns:
        For crops int64 [N, 4]: left, upper, right, lower in pixels. For windows int64 [N, 4]: first row, end row, first
        column, end column on the token grid. For the whole image its own box.
    """
    placed: dict[ViewSource, np.ndarray] = {}
    for view in views:
        if isinstance(view, WholeImage):
            placed[view] = np.array([[0, 0, *size]], dtype=np.int64)
        elif isinstance(view, RandomCrops):
            placed[view] = view.boxes(size, seed, image_id)
        elif isinstance(view, AttentionBoxes):
            placed[view] = view.boxes(size, attention, seed, image_id)
        else:
            placed[view] = view.windows(
                geometry.grid, attention, seed, image_id, size, crop_fraction=geometry.crop_fraction
            )
    return placed
