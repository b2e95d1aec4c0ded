"""What a model sees of a very long image, without resizing the rest of it.

A model that resizes the short side to its input and keeps the central part makes a picture of 224 x 14,672,000 of an
image of 1 x 65,500 before it cuts 224 x 224 out of it. Here only what is kept is computed, with the arithmetic of
Pillow's ``resize``, so the pixels are the same to the bit. ``resize(box=...)`` would not do: its box is in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["CentralPart", "at_least_a_pixel", "resize_cropped"]

Box: TypeAlias = tuple[int, int, int, int]
FloatArray: TypeAlias = NDArray[np.float64]

# up to here Pillow resizes the whole image, as the model's own preprocessing does: it is fast
_MOST_RESIZED = 8

# of Pillow's fixed-point weights
_PRECISION = 1 << 22


@dataclass(frozen=True)
class CentralPart:
    """The preprocessing "resize the short side, keep the central part", for images that are too long for it.

    Args:
        width, height: of the model's input, in pixels.
        resample: Pillow's BICUBIC or BILINEAR.
    """

    width: int
    height: int
    resample: Image.Resampling

    def of(self, image: Image.Image) -> Image.Image:
        """The part of an RGB image that the model keeps, at the size of its input; an image of usual shape as it is."""
        width, height = self._resized(*image.size)
        if width * height <= _MOST_RESIZED * self.width * self.height:
            return image
        # rounded as torchvision's CenterCrop does
        left, upper = round((width - self.width) / 2.0), round((height - self.height) / 2.0)
        box = (left, upper, left + self.width, upper + self.height)
        return resize_cropped(image, (width, height), box, self.resample)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to which the model's own preprocessing resizes the image before it cuts."""
        if self.width != self.height:  # open_clip's ResizeKeepRatio
            ratio = min(height / self.height, width / self.width)
            return round(width / ratio), round(height / ratio)
        if width <= height:  # torchvision's Resize
            return self.width, int(self.width * height / width)
        return int(self.width * width / height), self.width


def at_least_a_pixel(image: Image.Image, *, width: int, height: int) -> Image.Image:
    """An image for a model that resizes the long side to its input: the short side must not vanish.

    Args:
        image: RGB.
        width, height: of the model's input, in pixels.
    """
    ratio = max(image.width / width, image.height / height)
    size = (max(image.width, round(ratio)), max(image.height, round(ratio)))
    vanishes = round(image.width / ratio) < 1 or round(image.height / ratio) < 1
    return image.resize(size, Image.Resampling.NEAREST) if vanishes else image


def resize_cropped(image: Image.Image, size: tuple[int, int], box: Box, resample: Image.Resampling) -> Image.Image:
    """``image.resize(size, resample).crop(box)``, the same pixels, in memory for the box alone.

    Args:
        image: RGB.
        size: width and height of the whole resized image.
        box: left, upper, right, lower in the resized image, inside of it.
        resample: BICUBIC or BILINEAR.
    """
    columns = [_Weights.of(image.width, size[0], at, resample) for at in range(box[0], box[2])]
    rows = [_Weights.of(image.height, size[1], at, resample) for at in range(box[1], box[3])]
    left, upper = columns[0].start, rows[0].start
    part = np.asarray(image.crop((left, upper, columns[-1].stop, rows[-1].stop)))
    # each pass rounds to 8 bits; this is the order in which Pillow 13 does them
    shortened, narrowed = image.height - size[1], image.width - size[0]
    if shortened > max(0, 2 * narrowed):
        return Image.fromarray(_across(columns, _down(rows, part, upper), left))
    return Image.fromarray(_down(rows, _across(columns, part, left), upper))


@dataclass(frozen=True)
class _Weights:
    """How much the source pixels from ``start`` on count in one pixel of the result: whole multiples of 2**-22."""

    start: int
    values: FloatArray

    @property
    def stop(self) -> int:
        return self.start + len(self.values)

    @classmethod
    def of(cls, source: int, target: int, at: int, resample: Image.Resampling) -> _Weights:
        """Those of the pixel ``at`` of ``target``, made of ``source`` pixels. The order of operations matters."""
        support, kernel = _KERNELS[resample]
        scale = source / target
        stretch = max(scale, 1.0)
        support *= stretch
        center = (at + 0.5) * scale
        start = max(int(center - support + 0.5), 0)
        stop = min(int(center + support + 0.5), source)
        weights = kernel(np.abs((np.arange(start, stop) - center + 0.5) * (1.0 / stretch)))
        # a running sum: np.sum adds in another order
        weights = weights / np.cumsum(weights)[-1]
        return cls(start, np.trunc(weights * _PRECISION + np.copysign(0.5, weights)))

    def apply(self, pixels: NDArray[np.uint8], first: int) -> NDArray[np.uint8]:
        """The weighted sum over the first axis of pixels [n, m, 3], whose first row is the source's ``first``."""
        window = pixels[self.start - first : self.stop - first].astype(np.float64)
        # whole numbers below 2**53: exact in any order
        total = np.tensordot(self.values, window, axes=1) + _PRECISION // 2
        rounded: NDArray[np.uint8] = np.clip(np.floor(total / _PRECISION), 0, 255).astype(np.uint8)
        return rounded


def _down(rows: list[_Weights], pixels: NDArray[np.uint8], first: int) -> NDArray[np.uint8]:
    return np.stack([row.apply(pixels, first) for row in rows])


def _across(columns: list[_Weights], pixels: NDArray[np.uint8], first: int) -> NDArray[np.uint8]:
    return np.stack([column.apply(pixels.swapaxes(0, 1), first) for column in columns], axis=1)


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
