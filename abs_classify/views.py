"""Which views of an image are looked at: the whole, random squares, attention-guided boxes, windows of tokens.

A view source is a small frozen value: it says how many views and how they are placed, and places them from a seed and
an image id. Pure numpy; images, towers and attention maps are the caller's. Draws come from ``abs_classify.draws``, the
arithmetic from ``abs_classify.placement``, whose names can be imported from here too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, ClassVar, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from abs_classify.draws import DRAW_SCHEME, FloatArray, IntArray, integers, inverse_cdf, uniforms
from abs_classify.placement import (
    PUBLISHED_GRID,
    Alignment,
    Focus,
    Ratio,
    align_centres,
    crop_ranges,
    default_top_k,
    feature_windows,
    focus,
    map_centres,
    pixel_boxes,
    square_sides,
    window_range,
)
from abs_core.errors import UnknownNameError, UsageError

__all__ = [
    "PUBLISHED_GRID",
    "Alignment",
    "AttentionBoxes",
    "FeatureWindows",
    "Focus",
    "GuidedViews",
    "RandomCrops",
    "ViewSource",
    "WholeImage",
    "align_centres",
    "crop_ranges",
    "default_top_k",
    "feature_windows",
    "focus",
    "map_centres",
    "pixel_boxes",
    "square_sides",
    "uniforms",
    "window_range",
]


@dataclass(frozen=True)
class WholeImage:
    """The whole image, once, as the tower preprocesses it."""

    kind: ClassVar[str] = "whole"
    count: ClassVar[int] = 1
    needs_attention: ClassVar[bool] = False

    def key(self) -> dict[str, Any]:
        """JSON values that fix these views; they enter cache keys."""
        return {"kind": self.kind, "count": self.count}


@dataclass(frozen=True)
class RandomCrops:
    """Random square crops (WCA, Li et al. 2024): side floor(u min(W, H)), u uniform in ``ratio``, at any place.

    Attributes:
        count: number of crops N.
        ratio: smallest and largest side as a share of the short side. The authors' code always draws from 0.1 to 0.9,
            whatever its configuration says.

    Raises:
        UsageError: ``count`` is below 1, or ``ratio`` is not 0 < low <= high <= 1.
    """

    kind: ClassVar[str] = "random"
    needs_attention: ClassVar[bool] = False
    count: int = 60
    ratio: Ratio = (0.1, 0.9)

    def __post_init__(self) -> None:
        _check_positive(self.kind, "count", self.count)
        _check_ratio(self.kind, self.ratio)

    def key(self) -> dict[str, Any]:
        """JSON values that fix these views; they enter cache keys."""
        return _key(self)

    def boxes(self, size: tuple[int, int], seed: int, image_id: str) -> IntArray:
        """The crops of one image.

        Args:
            size: image width and height in pixels.
            seed: the seed of the run.
            image_id: the image's content id.

        Returns:
            int64 [N, 4]: left, upper, right, lower.
        """
        width, height = size
        low, high = self.ratio
        scale, top, left = uniforms(seed, image_id, self.kind, self.count, 3).T
        side = square_sides(size, low + scale * (high - low))
        upper = integers(top, 0, height - side)
        start = integers(left, 0, width - side)
        return np.stack([start, upper, start + side, upper + side], axis=1)


@dataclass(frozen=True)
class GuidedViews:
    """What the two kinds of ABS views share: how centres are drawn.

    Attributes:
        count: number of views N.
        top_k: most attended patches that may be centres; None for a tenth of them (20 of 14 x 14, 10 of 10 x 10).
        temperature: of the softmax over their attention.
        ratio: smallest and largest size as a share of a side.
        alignment: ``reference`` places views as the authors' code does; ``aligned`` makes attention and view look at
            the same pixels.
        guided: False draws centres uniformly over all patches and needs no attention map.
    """

    kind: ClassVar[str]
    count: int = 50
    top_k: int | None = None
    temperature: float = 0.03
    ratio: Ratio = (0.6, 0.9)
    alignment: Alignment = "reference"
    guided: bool = True

    def __post_init__(self) -> None:
        _check_positive(self.kind, "count", self.count)
        _check_ratio(self.kind, self.ratio)
        if self.top_k is not None:
            _check_positive(self.kind, "top_k", self.top_k)
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(
                f"temperature of the view source {self.kind!r} is {self.temperature}; it divides and must be above 0",
                remedy="Use 0.03, as published, or another positive number",
            )
        if self.alignment not in get_args(Alignment):
            raise UnknownNameError("alignment", str(self.alignment), get_args(Alignment))

    @property
    def needs_attention(self) -> bool:
        """Whether placing these views takes an attention map."""
        return self.guided

    def key(self) -> dict[str, Any]:
        """JSON values that fix these views; they enter cache keys."""
        return _key(self)

    def _centres(self, attention: NDArray[Any] | None, uniform: FloatArray, free_grid: int) -> tuple[IntArray, int]:
        """Drawn centres [N] and the side of the grid that they are on."""
        if not self.guided:
            return integers(uniform, 0, free_grid * free_grid - 1), free_grid
        if attention is None:
            raise UsageError(
                f"the view source {self.kind!r} is guided by attention, and there is no attention map",
                remedy="Name an attention source, or set guided to False",
            )
        chosen = focus(attention, self.top_k, self.temperature)
        return chosen.index[inverse_cdf(uniform, chosen.probability)], attention.shape[0]


@dataclass(frozen=True)
class AttentionBoxes(GuidedViews):
    """Attention-guided crops of the image (ABS, pixel views). Parameters are those of ``GuidedViews``.

    ``aligned`` takes the exact centre of a patch instead of the middle of its rounded edges; see ``pixel_boxes``.

    Raises:
        UsageError: a parameter that cannot work; the message names it and its value.
    """

    kind: ClassVar[str] = "box"

    def boxes(self, size: tuple[int, int], attention: NDArray[Any] | None, seed: int, image_id: str) -> IntArray:
        """The crops of one image.

        Args:
            size: image width and height in pixels.
            attention: [g, g], over the whole image; not looked at where ``guided`` is False, which takes the published
                grid of 14 x 14 patches.
            seed: the seed of the run.
            image_id: the image's content id.

        Returns:
            int64 [N, 4]: left, upper, right, lower.

        Raises:
            ModelError: the attention map is not square or not finite.
            UsageError: there is no attention map but one is needed, or ``top_k`` is above its number of patches.
        """
        uniform = uniforms(seed, image_id, self.kind, self.count, 3)
        centre, grid = self._centres(attention, uniform[:, 0], PUBLISHED_GRID)
        ranges = crop_ranges(size, self.ratio)
        crop_wh = np.stack([integers(uniform[:, 1 + axis], *ranges[axis]) for axis in (0, 1)], axis=1)
        return pixel_boxes(size, centre, crop_wh, grid=grid, alignment=self.alignment)


@dataclass(frozen=True)
class FeatureWindows(GuidedViews):
    """Attention-guided windows of the tower's tokens (ABS, feature views). Parameters are those of ``GuidedViews``.

    ``aligned`` looks the centre up in the square that the tower sees; see ``align_centres``. It has no effect where
    ``guided`` is False: every token is then equally likely.

    Raises:
        UsageError: a parameter that cannot work; the message names it and its value.
    """

    kind: ClassVar[str] = "window"

    def windows(
        self,
        grid: int,
        attention: NDArray[Any] | None,
        seed: int,
        image_id: str,
        size: tuple[int, int],
        crop_fraction: float | None = 1.0,
    ) -> IntArray:
        """The windows of one image.

        Args:
            grid: side of the tower's token grid.
            attention: [g, g], over the whole image; not looked at where ``guided`` is False.
            seed: the seed of the run.
            image_id: the image's content id.
            size: image width and height in pixels.
            crop_fraction: side of the central square that the tower sees, as a share of the short side: 1.0 for CLIP;
                None for a tower that stretches the whole image. Used by ``aligned`` only.

        Returns:
            int64 [N, 4]: first row, end row, first column, end column; ends are exclusive.

        Raises:
            ModelError: the attention map is not square or not finite.
            UsageError: there is no attention map but one is needed, or ``top_k`` is above its number of patches.
        """
        uniform = uniforms(seed, image_id, self.kind, self.count, 2)
        centre, attention_grid = self._centres(attention, uniform[:, 0], grid)
        if self.guided and self.alignment == "aligned":
            centre = align_centres(centre, attention_grid, grid, size, crop_fraction)
            attention_grid = grid
        extent = integers(uniform[:, 1], *window_range(grid, self.ratio))
        return feature_windows(centre, attention_grid, grid, extent)


ViewSource: TypeAlias = WholeImage | RandomCrops | AttentionBoxes | FeatureWindows


def _key(source: RandomCrops | GuidedViews) -> dict[str, Any]:
    fields = asdict(source)
    return {"kind": source.kind, "draws": DRAW_SCHEME, **fields, "ratio": list(source.ratio)}


def _check_positive(kind: str, parameter: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise UsageError(
            f"{parameter} of the view source {kind!r} is {value}; at least 1 is needed",
            remedy=f"Set {parameter} to a whole number from 1 on",
        )


def _check_ratio(kind: str, ratio: Ratio) -> None:
    low, high = ratio
    if not 0 < low <= high <= 1:
        raise UsageError(
            f"ratio of the view source {kind!r} is ({low}, {high}); it must be 0 < low <= high <= 1",
            remedy="Give the smaller share of a side first, as in (0.6, 0.9)",
        )
