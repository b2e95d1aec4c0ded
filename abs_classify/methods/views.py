"""Views of an image, and where they lie: pure arithmetic, as published and as the authors' code runs it.

    FullImage            the image itself, once (kind "whole")
    RandomCrops          random square crops: WCA (Li et al., ICML 2024) (kind "random")
    RandomResizedCrops   random crops, stretched and mirrored: MTA, ZERO, AWT and others (kind "resized")
    AttentionCrops       crops around attended patches: ABS (Cai et al., ICML 2025, arXiv 2505.13233) (kind "box")
    FeatureWindows       windows of tokens around attended patches: ABS (kind "window")

The names of the kinds enter random numbers and cache keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from abs_classify.methods.attention_focus import focus
from abs_classify.methods.parameters import check_range
from abs_classify.methods.random import (
    RANDOM_SCHEME,
    FloatArray,
    IntArray,
    inverse_cdf,
    scale_to_integers,
    uniform_numbers,
)
from abs_core.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from abs_classify.models.base import Model

__all__ = [
    "Alignment",
    "AttentionCrops",
    "FeatureWindows",
    "FullImage",
    "Geometry",
    "GuidedViews",
    "RandomCrops",
    "RandomResizedCrops",
    "ViewSource",
    "align_centres",
    "crop_ranges",
    "feature_windows",
    "map_centres",
    "pixel_boxes",
    "place_views",
    "square_sides",
    "window_range",
]

Alignment: TypeAlias = Literal["reference", "aligned"]
Ratio: TypeAlias = tuple[float, float]

# An image whose long side is below a quarter of the model's input is tiny: crops of 32 x 32 pixels cost 16 points.
_TINY = 4

#: Side of the attention grid in the paper: DINO ViT-B/16 at 224 pixels.
_PUBLISHED_GRID = 14
_PUBLISHED_PIXELS = 224


def crop_ranges(size: tuple[int, int], ratio: Ratio = (0.6, 0.9)) -> IntArray:
    """Smallest and largest crop width and height of an image (ABS, pixel views).

    Args:
        size: image width and height in pixels.
        ratio: smallest and largest share of a side.

    Returns:
        int64 [2, 2]: rows width and height, columns smallest and largest, both included; at least one pixel, where the
        published formula gives 0 for images of one pixel.
    """
    return np.array([window_range(side, ratio) for side in size], dtype=np.int64)


def window_range(grid: int, ratio: Ratio = (0.6, 0.9)) -> tuple[int, int]:
    """Smallest and largest window size in tokens on a grid of side ``grid``, both included and at least 1 (ABS)."""
    low, high = (max(1, int(share * grid)) for share in ratio)
    return low, high


def square_sides(size: tuple[int, int], scale: FloatArray) -> IntArray:
    """Sides of square crops: the integer part of ``scale`` times the short side (WCA), at least one pixel.

    Args:
        size: image width and height in pixels.
        scale: [N] shares of the short side.

    Returns:
        int64 [N].
    """
    return np.maximum((scale * min(size)).astype(np.int64), 1)


def pixel_boxes(
    size: tuple[int, int],
    centre: IntArray,
    crop_wh: IntArray,
    *,
    grid: int = _PUBLISHED_GRID,
    alignment: Alignment = "reference",
) -> IntArray:
    """Crops of an image around patches of its attention map (ABS, pixel views).

    The attention map covers the full image, stretched to a square of 224 pixels with patches of p = 224 / ``grid``
    pixels. Patch (i, j) starts at x0 = int(float32(p j) * float32(W / 224)), a product in float32 as in the authors'
    code, ends at x1 = min(x0 + int(p (W / 224)), W), and has its centre at (x0 + x1) // 2. The box goes half the crop
    size, rounded down, to both sides and is cut at the border, never shifted; rows likewise. On the published grid of
    14, p is 16. On other grids the same rule holds with their p.

    ``aligned`` changes one thing: the centre is the exact one, the integer part of (2 j + 1) W / (2 ``grid``), free of
    the rounding of patch edges and of float32. Sizes, halves and cuts stay.

    A box that the formula leaves empty, which needs an image or a crop of a pixel or two, is widened to one pixel.

    Args:
        size: image width and height in pixels.
        centre: int [N], row-major positions on the attention grid.
        crop_wh: int [N, 2], sampled crop width and height in pixels.
        grid: side of the attention grid.
        alignment: ``reference`` or ``aligned``.

    Returns:
        int64 [N, 4]: left, upper, right, lower, as PIL's crop takes them; inside the image, never empty.
    """
    row, column = np.divmod(np.asarray(centre, dtype=np.int64), grid)
    middle = _exact_middle if alignment == "aligned" else _patch_middle
    width, height = size
    left, right = _cut(middle(column, width, grid), crop_wh[:, 0], width)
    upper, lower = _cut(middle(row, height, grid), crop_wh[:, 1], height)
    return np.stack([left, upper, right, lower], axis=1)


def _patch_middle(index: IntArray, side: int, grid: int) -> IntArray:
    stride = _PUBLISHED_PIXELS / grid
    scale = side / _PUBLISHED_PIXELS
    # The authors multiply an integer tensor by a number, which is float32 arithmetic: one less at 73 widths up to 4096.
    start = ((stride * index).astype(np.float32) * np.float32(scale)).astype(np.int64)
    end = np.minimum(start + int(stride * scale), side)
    return np.floor_divide(start + end, 2)


def _exact_middle(index: IntArray, side: int, grid: int) -> IntArray:
    return np.floor_divide((2 * index + 1) * side, 2 * grid)


def _cut(middle: IntArray, extent: IntArray, side: int) -> tuple[IntArray, IntArray]:
    half = np.asarray(extent, dtype=np.int64) // 2
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half, side)
    high = np.where(high > low, high, np.minimum(low + 1, side))
    return np.minimum(low, high - 1), high


def map_centres(centre: IntArray, attention_grid: int, grid: int) -> IntArray:
    """Centres on the attention grid, taken over to the model's token grid: row i becomes i * grid // attention_grid.

    The authors' rule, extended to all grids. It ignores that the two grids may cover different parts of the image.

    Args:
        centre: int [N], row-major positions on the attention grid.
        attention_grid: its side.
        grid: side of the token grid.

    Returns:
        int64 [N], row-major positions on the token grid.
    """
    row, column = np.divmod(np.asarray(centre, dtype=np.int64), attention_grid)
    mapped: IntArray = (row * grid // attention_grid) * grid + column * grid // attention_grid
    return mapped


def align_centres(
    centre: IntArray, attention_grid: int, grid: int, size: tuple[int, int], crop_fraction: float | None = 1.0
) -> IntArray:
    """Centres on the attention grid, taken over to the token that shows the same place of the image.

    The attention map covers the full image, the tokens only the square that the model crops from its middle: the exact
    patch centre in image pixels is looked up in that square, and a centre outside it goes to the nearest token.

    Args:
        centre: int [N], row-major positions on the attention grid.
        attention_grid: its side.
        grid: side of the token grid.
        size: image width and height in pixels.
        crop_fraction: side of the model's central square as a share of the short side: 1.0 for CLIP, 0.875 for the
            embedded model; None for a model that stretches the full image.

    Returns:
        int64 [N], row-major positions on the token grid.
    """
    row, column = np.divmod(np.asarray(centre, dtype=np.int64), attention_grid)

    def look_up(index: IntArray, side: int) -> IntArray:
        visible = float(side) if crop_fraction is None else crop_fraction * min(size)
        offset = (index + 0.5) * side / attention_grid - (side - visible) / 2
        return np.clip(np.floor(offset * grid / visible).astype(np.int64), 0, grid - 1)

    return look_up(row, size[1]) * grid + look_up(column, size[0])


def feature_windows(centre: IntArray, attention_grid: int, grid: int, size: IntArray) -> IntArray:
    """Windows of tokens around patches of the attention map (ABS, feature windows).

    With the centre (r, c) on the token grid and h = size // 2: rows r-h .. r+h and columns c-h .. c+h, both ends
    included, cut at the border of the grid and never shifted, so an uncut window has the odd side 2 h + 1.

    Args:
        centre: int [N], row-major positions on the attention grid.
        attention_grid: its side.
        grid: side of the token grid; equal to ``attention_grid`` if the centres are on it already.
        size: int [N], sampled window sizes in tokens.

    Returns:
        int64 [N, 4]: first row, end row, first column, end column; ends are exclusive.
    """
    row, column = np.divmod(map_centres(centre, attention_grid, grid), grid)
    half = np.asarray(size, dtype=np.int64) // 2
    edges = [(np.maximum(middle - half, 0), np.minimum(middle + half + 1, grid)) for middle in (row, column)]
    return np.stack([edge for pair in edges for edge in pair], axis=1)


@dataclass(frozen=True)
class FullImage:
    """The full image, once, as the model preprocesses it."""

    kind: ClassVar[str] = "whole"
    count: ClassVar[int] = 1
    needs_attention: ClassVar[bool] = False

    def key(self) -> dict[str, Any]:
        """JSON values that fix these views."""
        return {"kind": self.kind, "count": self.count}


@dataclass(frozen=True)
class RandomCrops:
    """Random square crops of WCA (Li et al. 2024): side floor(u min(W, H)), u uniform in ``ratio``, at any place.

    Attributes:
        count: number of crops N.
        ratio: smallest and largest side as a share of the short side. The authors' code always uses 0.1 to 0.9,
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
        """JSON values that fix these views."""
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
        scale, top, left = uniform_numbers(seed, image_id, self.kind, self.count, 3).T
        side = square_sides(size, low + scale * (high - low))
        upper = scale_to_integers(top, 0, height - side)
        start = scale_to_integers(left, 0, width - side)
        return np.stack([start, upper, start + side, upper + side], axis=1)


# of a random resized crop: attempts at a box inside the image, with two numbers each; then its place, and the mirror
_ATTEMPTS = 10


@dataclass(frozen=True)
class RandomResizedCrops:
    """Random crops stretched to a square, half of them mirrored: the augmentation of MTA, ZERO, AWT and others.

    As ``RandomResizedCrop`` and ``RandomHorizontalFlip`` of torchvision: a crop has a share of the image's area,
    uniform in ``area``, and a ratio of width to height, log-uniform in ``ratio``; where that does not fit into the
    image in ten attempts, it is the centre. It is enlarged bilinearly to the size of the model's input.

    Attributes:
        count: number of crops N.
        area: smallest and largest share of the image's area.
        ratio: smallest and largest ratio of width to height.

    Raises:
        UsageError: ``count``, ``area`` or ``ratio`` is out of range; the message says which.
    """

    kind: ClassVar[str] = "resized"
    needs_attention: ClassVar[bool] = False
    count: int = 63
    area: Ratio = (0.08, 1.0)
    ratio: Ratio = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _check_positive(self.kind, "count", self.count)
        _check_ratio(self.kind, self.area)
        if not 1e-3 <= self.ratio[0] <= self.ratio[1] <= 1e3:
            raise UsageError(f"ratio of the view source 'resized' must be 1e-3 <= low <= high <= 1e3, got {self.ratio}")

    def key(self) -> dict[str, Any]:
        """JSON values that fix these views."""
        return _key(self) | {"area": list(self.area)}

    def boxes(self, size: tuple[int, int], seed: int, image_id: str) -> IntArray:
        """The crops of one image.

        Args:
            size: image width and height in pixels.
            seed: the seed of the run.
            image_id: the image's content id.

        Returns:
            int64 [N, 5]: left, upper, right, lower, and 1 for a crop that is mirrored, else 0.
        """
        uniform = uniform_numbers(seed, image_id, self.kind, self.count, 2 * _ATTEMPTS + 3)
        tries, (top, left, mirror) = uniform[:, : 2 * _ATTEMPTS].reshape(self.count, _ATTEMPTS, 2), uniform[:, -3:].T
        area = size[0] * size[1] * (self.area[0] + tries[..., 0] * (self.area[1] - self.area[0]))
        logs = np.log(self.ratio)
        aspect = np.exp(logs[0] + tries[..., 1] * (logs[1] - logs[0]))
        width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
        height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
        fits = (width > 0) & (width <= size[0]) & (height > 0) & (height <= size[1])
        first = fits.argmax(1)[:, None]
        width, height = (np.take_along_axis(sides, first, 1)[:, 0] for sides in (width, height))
        start = scale_to_integers(left, 0, np.maximum(size[0] - width, 0))
        upper = scale_to_integers(top, 0, np.maximum(size[1] - height, 0))
        boxes = np.stack([start, upper, start + width, upper + height], axis=1)
        boxes[~fits.any(1)] = _central_box(size, self.ratio)
        return np.column_stack([boxes, (mirror < 0.5).astype(np.int64)])


def _central_box(size: tuple[int, int], ratio: Ratio) -> tuple[int, int, int, int]:
    """The largest box at the centre of an image whose ratio of width to height is in a range."""
    width, height = size
    if width / height < ratio[0]:
        height = round(width / ratio[0])
    elif width / height > ratio[1]:
        width = round(height * ratio[1])
    left, upper = (size[0] - width) // 2, (size[1] - height) // 2
    return left, upper, left + width, upper + height


@dataclass(frozen=True)
class GuidedViews:
    """What the two kinds of ABS views share: how their centres are sampled.

    Attributes:
        count: number of views N.
        top_k: how many of the most attended patches can be centres; None for a tenth (20 of 14 x 14, 10 of 10 x 10).
        temperature: of the softmax over their attention.
        ratio: smallest and largest size as a share of a side.
        alignment: ``reference`` places views as the authors' code does; ``aligned`` makes attention and view look at
            the same pixels.
        guided: False samples centres uniformly over all patches and needs no attention map.
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
        check_range(f"the view source {self.kind!r}", {"temperature": self.temperature}, 0, above=True)
        if self.alignment not in get_args(Alignment):
            raise UnknownNameError("alignment", str(self.alignment), get_args(Alignment))

    @property
    def idle_fields(self) -> frozenset[str]:
        """The fields that change nothing as the others are set."""
        return frozenset() if self.guided else frozenset({"top_k", "temperature"})

    @property
    def needs_attention(self) -> bool:
        """Whether placing these views takes an attention map."""
        return self.guided

    def key(self) -> dict[str, Any]:
        """JSON values that fix these views."""
        return _key(self)

    def _centres(self, attention: NDArray[Any] | None, uniform: FloatArray, free_grid: int) -> tuple[IntArray, int]:
        """Sampled centres [N] and the side of the grid that they are on."""
        if not self.guided:
            return scale_to_integers(uniform, 0, free_grid * free_grid - 1), free_grid
        if attention is None:
            raise UsageError(
                f"the view source {self.kind!r} is guided by attention, and there is no attention map",
                remedy="Name an attention backend, or set guided to False",
            )
        focused = focus(attention, self.top_k, self.temperature)
        return focused.index[inverse_cdf(uniform, focused.probability)], attention.shape[0]


@dataclass(frozen=True)
class AttentionCrops(GuidedViews):
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
            attention: [g, g], over the full image; ignored where ``guided`` is False, which uses the published grid of
                14 x 14 patches.
            seed: the seed of the run.
            image_id: the image's content id.

        Returns:
            int64 [N, 4]: left, upper, right, lower.

        Raises:
            ModelError: the attention map is not square or not finite.
            UsageError: there is no attention map but one is needed, or ``top_k`` is above its number of patches.
        """
        uniform = uniform_numbers(seed, image_id, self.kind, self.count, 3)
        centre, grid = self._centres(attention, uniform[:, 0], _PUBLISHED_GRID)
        ranges = crop_ranges(size, self.ratio)
        crop_wh = np.stack([scale_to_integers(uniform[:, 1 + axis], *ranges[axis]) for axis in (0, 1)], axis=1)
        return pixel_boxes(size, centre, crop_wh, grid=grid, alignment=self.alignment)


@dataclass(frozen=True)
class FeatureWindows(GuidedViews):
    """Attention-guided windows of the model's tokens (ABS, feature windows). Parameters are those of ``GuidedViews``.

    ``aligned`` looks the centre up in the square that the model sees; see ``align_centres``. It has no effect where
    ``guided`` is False: every token is then equally likely.

    Raises:
        UsageError: a parameter that cannot work; the message names it and its value.
    """

    kind: ClassVar[str] = "window"

    @property
    def idle_fields(self) -> frozenset[str]:
        """See ``GuidedViews``."""
        return frozenset() if self.guided else super().idle_fields | {"alignment"}

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
            grid: side of the model's token grid.
            attention: [g, g], over the full image; ignored where ``guided`` is False.
            seed: the seed of the run.
            image_id: the image's content id.
            size: image width and height in pixels.
            crop_fraction: side of the central square that the model sees, as a share of the short side: 1.0 for CLIP;
                None for a model that stretches the full image. Used by ``aligned`` only.

        Returns:
            int64 [N, 4]: first row, end row, first column, end column; ends are exclusive.

        Raises:
            ModelError: the attention map is not square or not finite.
            UsageError: there is no attention map but one is needed, or ``top_k`` is above its number of patches.
        """
        uniform = uniform_numbers(seed, image_id, self.kind, self.count, 2)
        centre, attention_grid = self._centres(attention, uniform[:, 0], grid)
        if self.guided and self.alignment == "aligned":
            centre = align_centres(centre, attention_grid, grid, size, crop_fraction)
            attention_grid = grid
        extent = scale_to_integers(uniform[:, 1], *window_range(grid, self.ratio))
        return feature_windows(centre, attention_grid, grid, extent)


ViewSource: TypeAlias = FullImage | RandomCrops | RandomResizedCrops | AttentionCrops | FeatureWindows


def _key(source: RandomCrops | RandomResizedCrops | GuidedViews) -> dict[str, Any]:
    fields = asdict(source)
    return {"kind": source.kind, "draws": RANDOM_SCHEME, **fields, "ratio": list(source.ratio)}


def _check_positive(kind: str, parameter: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise UsageError(
            f"{parameter} of the view source {kind!r} must be a whole number of at least 1, got {value}",
            remedy=f"Correct {parameter}",
        )
    check_range(f"the view source {kind!r}", {parameter: value}, 1, 10_000)


def _check_ratio(kind: str, ratio: Ratio) -> None:
    low, high = ratio
    if not 0 < low <= high <= 1:
        raise UsageError(
            f"ratio of the view source {kind!r} must satisfy 0 < low <= high <= 1, got ({low}, {high})",
            remedy="Give the smaller share of a side first, as in (0.6, 0.9)",
        )


@dataclass(frozen=True)
class Geometry:
    """What a model sees of an image.

    Args:
        grid: side of the model's token grid; 0 where it has no feature windows.
        crop_fraction: side of the square that the model sees of the full image, as a share of the short side; None
            for a model that stretches the full image.
        input_size: side of the model's input in pixels; 0 to cut crops from images of any size.
    """

    grid: int
    crop_fraction: float | None
    input_size: int = 0

    @classmethod
    def of(cls, model: Model, input_size: int = 0) -> Geometry:
        """The geometry of a model."""
        return cls(model.grid, model.crop_fraction, input_size)

    def is_tiny(self, size: tuple[int, int]) -> bool:
        """Whether an image has so few pixels that a crop of it shows less and nothing more clearly."""
        return _TINY * max(size) < self.input_size


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
        geometry: the token grid, and the part of the image that the model sees.
        attention: the image's attention map [g, g], or None when no view is guided.
        image_id: the sha256 of the image's bytes.
        size: width and height in pixels.
        views: the view sources.
        seed: with the image's id and the kind and number of a view it fixes every random number.

    Returns:
        For crops int64 [N, 4]: left, upper, right, lower in pixels; those of a tiny image are all of it. For random
        resized crops a fifth column says which are mirrored. For windows
        int64 [N, 4]: first row, end row, first column, end column on the token grid. For the full image
        [[0, 0, width, height]].
    """
    placed: dict[ViewSource, np.ndarray] = {}
    for view in views:
        if isinstance(view, FullImage):
            placed[view] = np.array([[0, 0, *size]], dtype=np.int64)
        elif isinstance(view, RandomCrops | AttentionCrops) and geometry.is_tiny(size):
            placed[view] = np.tile(np.array([0, 0, *size], dtype=np.int64), (view.count, 1))
        elif isinstance(view, RandomCrops | RandomResizedCrops):
            placed[view] = view.boxes(size, seed, image_id)
        elif isinstance(view, AttentionCrops):
            placed[view] = view.boxes(size, attention, seed, image_id)
        else:
            placed[view] = view.windows(
                geometry.grid, attention, seed, image_id, size, crop_fraction=geometry.crop_fraction
            )
    return placed
