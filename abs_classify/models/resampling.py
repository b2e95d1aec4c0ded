"""Pillow's resampling of crops of an RGB image, to the bit, on any torch device.

Pillow resizes one axis after the other, and each pass rounds to 8 bits; its weights are whole multiples of 2**-22. Here
the weights are computed on the CPU, in Pillow's order of operations; the passes are sums of integers, which are the
same in any order and on any device. So a device may cut and resize all crops of an image from one copy of it, and gets
the pixels that Pillow gives. (``torch.nn.functional.interpolate`` does not: with ``antialias`` it differs by rounding.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from abs_classify.models.copies import to_device

__all__ = ["Axis", "CropPlan", "IntArray", "Resizing"]

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]

# of Pillow's fixed-point weights
_PRECISION = 22

# products of a pixel and a weight that are in memory at once, 5 bytes each
_PRODUCTS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Axis:
    """One axis of N crops of an image: what of it is resized, to how many pixels, and which of these are kept.

    Args:
        origin: where each crop begins in the image, in pixels: int64 [N].
        length: of each crop, in pixels: int64 [N]. Pixels outside of a crop play no part in it.
        low, high: the part of each crop that is resized, in pixels from its begin; rounded to float32 as Pillow does.
        target: to how many pixels: int64 [N].
        first: the first of these pixels that is kept: int64 [N].
        kept: how many are kept; the same for all crops.
    """

    origin: IntArray
    length: IntArray
    low: FloatArray
    high: FloatArray
    target: IntArray
    first: IntArray
    kept: int


@dataclass(frozen=True)
class Resizing:
    """How the preprocessing of a model resizes an image.

    Args:
        width, height: of the model's input, in pixels.
        resample: Pillow's BICUBIC or BILINEAR.
        fit: "shortest" resizes the short side and keeps the central part, as CLIP does; "stretch" resizes the whole
            image; "square" resizes the central square, whose side is ``fraction`` of the short side.
        fraction: see ``fit``.
    """

    width: int
    height: int
    resample: Image.Resampling
    fit: Literal["shortest", "stretch", "square"]
    fraction: float = 1.0

    def resized(self, width: IntArray, height: IntArray) -> tuple[IntArray, IntArray]:
        """Widths and heights [N] to which "shortest" resizes images of these sizes, before it cuts."""
        if self.width != self.height:  # open_clip's ResizeKeepRatio
            ratio = np.minimum(height / self.height, width / self.width)
            return np.round(width / ratio).astype(np.int64), np.round(height / ratio).astype(np.int64)
        # torchvision's Resize
        long_side = (self.width * np.maximum(width, height) / np.minimum(width, height)).astype(np.int64)
        return np.where(width <= height, self.width, long_side), np.where(width <= height, long_side, self.width)

    def plan(self, boxes: IntArray) -> CropPlan:
        """How crops are resized: int64 [N, 4] with left, upper, right, lower in pixels of the image."""
        return CropPlan.of(*self.axes(boxes), self.resample)

    def axes(self, boxes: IntArray) -> tuple[Axis, Axis]:
        """The columns and the rows of crops, given as in ``plan``."""
        left, upper, right, lower = boxes.T
        width, height = right - left, lower - upper
        columns, rows = np.full(len(boxes), self.width), np.full(len(boxes), self.height)
        if self.fit == "shortest":
            columns, rows = self.resized(width, height)
        # rounded as torchvision's CenterCrop does; the other fits keep all
        first_column = np.round((columns - self.width) / 2.0).astype(np.int64)
        first_row = np.round((rows - self.height) / 2.0).astype(np.int64)
        x, y = (0.0 * width, 1.0 * width), (0.0 * height, 1.0 * height)
        if self.fit == "square":
            side = self.fraction * np.minimum(width, height)
            x, y = ((width - side) / 2, (width + side) / 2), ((height - side) / 2, (height + side) / 2)
        return (
            Axis(left, width, *x, columns, first_column, self.width),
            Axis(upper, height, *y, rows, first_row, self.height),
        )


@dataclass(frozen=True)
class CropPlan:
    """How crops of an image are resized: all that is computed on the CPU, and the passes over pixels on any device.

    Args:
        height, width: of every resized crop.
        passes: crops that are resized together: their numbers, whether their rows are resized before their columns, and
            the pixels that count in the first and in the second pass.
    """

    height: int
    width: int
    passes: Sequence[tuple[IntArray, bool, _Taps, _Taps]]

    @classmethod
    def of(cls, columns: Axis, rows: Axis, resample: Image.Resampling) -> CropPlan:
        """The plan for crops with these columns and rows, with Pillow's BICUBIC or BILINEAR."""
        # the order in which Pillow 13 does the passes; each rounds to 8 bits
        shortened, narrowed = rows.length - rows.target, columns.length - columns.target
        is_vertical_first = shortened > np.maximum(0, 2 * narrowed)
        passes = []
        for vertical_first in (False, True):
            chosen = np.flatnonzero(is_vertical_first == vertical_first)
            axes = (rows, columns) if vertical_first else (columns, rows)
            first, second = (_Taps.of(axis, chosen, resample) for axis in axes)
            for part in _parts(first, second):
                passes.append((chosen[part], vertical_first, first.part(part), second.part(part)))
        return cls(rows.kept, columns.kept, passes)

    def apply(self, image: Tensor, *, fused: bool = False) -> Tensor:
        """Resized crops of an image, with Pillow's pixels. Memory beside them is bounded.

        Args:
            image: uint8 [3, H, W], on any device.
            fused: by kernels that read each pixel once, on a GPU for which Triton is installed.

        Returns:
            uint8 [N, 3, height, width], on the device of the image.
        """
        count = sum(len(numbers) for numbers, *_ in self.passes)
        crops = torch.empty((count, 3, self.height, self.width), dtype=torch.uint8, device=image.device)
        for numbers, vertical_first, first, second in self.passes:
            passed = _two_passes(image.transpose(1, 2) if vertical_first else image, first, second, fused)
            crops[_copied(numbers, image.device)] = passed.transpose(2, 3) if vertical_first else passed
        return crops


@dataclass(frozen=True)
class _Taps:
    """Which pixels of the image each kept pixel of an axis is made of, and how much they count.

    Args:
        start: the first pixel, int64 [N, kept].
        weights: of the T pixels from there on, in units of 2**-22: int32 [N, kept, T]; 0 behind the end of a crop.
    """

    start: IntArray
    weights: NDArray[np.int32]

    @classmethod
    def of(cls, axis: Axis, chosen: IntArray, resample: Image.Resampling) -> _Taps:
        """Those of the chosen crops."""
        support, kernel = _KERNELS[resample]
        low, high = axis.low[chosen].astype(np.float32), axis.high[chosen].astype(np.float32)
        # Pillow subtracts in float32; from here on the order of operations in float64 is its own, too
        scale = ((high - low).astype(np.float64) / axis.target[chosen])[:, None]
        stretch = np.maximum(scale, 1.0)
        reach = support * stretch
        center = low.astype(np.float64)[:, None] + (axis.first[chosen, None] + np.arange(axis.kept) + 0.5) * scale
        start = np.maximum((center - reach + 0.5).astype(np.int64), 0)
        stop = np.minimum((center + reach + 0.5).astype(np.int64), axis.length[chosen, None])
        pixel = start[..., None] + np.arange(int((stop - start).max(initial=0)))
        values = kernel(np.abs((pixel - center[..., None] + 0.5) * (1.0 / stretch)[..., None]))
        values[pixel >= stop[..., None]] = 0.0
        # a running sum: np.sum adds in another order
        values /= np.cumsum(values, axis=-1)[..., -1:]
        weights = np.trunc(values * (1 << _PRECISION) + np.copysign(0.5, values)).astype(np.int32)
        return cls(start + axis.origin[chosen, None], weights)

    def part(self, part: slice) -> _Taps:
        """Those of some crops."""
        return _Taps(self.start[part], self.weights[part])

    @property
    def extent(self) -> tuple[IntArray, int]:
        """The first pixel that each crop needs, int64 [N], and how many from there on are enough for every crop."""
        begin = self.start.min(axis=1)
        return begin, int((self.start.max(axis=1) - begin).max(initial=0)) + self.weights.shape[2]


def _parts(first: _Taps, second: _Taps) -> Iterator[slice]:
    """As many crops at once as memory allows."""
    _, kept, taps = first.weights.shape
    size = max(1, _PRODUCTS_AT_ONCE // max(1, 3 * second.extent[1] * kept * taps))
    yield from (slice(start, start + size) for start in range(0, len(first.start), size))


def _two_passes(image: Tensor, first: _Taps, second: _Taps, fused: bool) -> Tensor:
    """Crops of an image [3, L, K] whose last axis is resized first: uint8 [n, 3, second kept, first kept]."""
    device = image.device
    begin, length = second.extent
    lines = _copied(np.minimum(begin[:, None] + np.arange(length), image.shape[1] - 1), device)
    along = _copied(first.start, device), _copied(first.weights, device)
    across = _copied(second.start - begin[:, None], device), _copied(second.weights, device)
    if fused:
        from abs_classify.models import resampling_kernels

        # Triton starts kernels on the current device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return resampling_kernels.across(resampling_kernels.along(image, lines, *along), *across)
    at_once = max(1, _PRODUCTS_AT_ONCE // max(1, 3 * first.weights.size))
    narrow = torch.cat([_along(image, block, *along) for block in torch.split(lines, at_once, dim=1)], dim=2)
    return _across(narrow, *across)


def _copied(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return to_device(torch.from_numpy(np.ascontiguousarray(array)), device)


def _along(image: Tensor, lines: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """The first pass, along the lines [n, h] of an image [3, L, K]: uint8 [3, n, h, kept]."""
    pixels = _positions(start, weights.shape[2], image.shape[2])[:, None]
    return _rounded((image[:, lines[:, :, None, None], pixels] * weights[:, None]).sum(-1, dtype=torch.int32))


def _across(narrow: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """The second pass, across the lines of the first [3, n, h, width]: uint8 [n, 3, kept, width]."""
    lines = _positions(start, weights.shape[2], narrow.shape[2])
    crops = torch.arange(len(lines), device=lines.device)[:, None, None]
    return _rounded((narrow[:, crops, lines] * weights[..., None]).sum(-2, dtype=torch.int32)).transpose(0, 1)


def _positions(start: Tensor, taps: int, length: int) -> Tensor:
    """The pixels from ``start`` on, [..., taps]; the last one stands for those behind it, whose weights are 0."""
    return (start[..., None] + torch.arange(taps, device=start.device)).clamp_(max=length - 1)


def _rounded(total: Tensor) -> Tensor:
    return ((total + (1 << (_PRECISION - 1))) >> _PRECISION).clamp_(0, 255).to(torch.uint8)


def _cubic(distance: FloatArray) -> FloatArray:
    a = -0.5
    near = ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    weights: FloatArray = np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
    return weights


def _linear(distance: FloatArray) -> FloatArray:
    weights: FloatArray = np.where(distance < 1.0, 1.0 - distance, 0.0)
    return weights


_KERNELS: dict[Image.Resampling, tuple[float, Callable[[FloatArray], FloatArray]]] = {
    Image.Resampling.BICUBIC: (2.0, _cubic),
    Image.Resampling.BILINEAR: (1.0, _linear),
}
