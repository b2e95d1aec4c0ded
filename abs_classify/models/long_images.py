"""What a model sees of a very long image, without resizing the rest of it.

A model that resizes the short side to its input and keeps the central part makes a picture of 224 x 14,672,000 of an
image of 1 x 65,500 before it cuts 224 x 224 out of it. Here only what is kept is computed, with the arithmetic of
Pillow's ``resize``, so the pixels are the same to the bit. ``resize(box=...)`` would not do: its box is in float32.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from abs_classify.models.resampling import Axis, CropPlan, Resizing

__all__ = ["at_least_a_pixel", "central_part"]

# up to here Pillow resizes the whole image, as the model's own preprocessing does: it is fast
_MOST_RESIZED = 8


def central_part(image: Image.Image, resizing: Resizing) -> Image.Image:
    """The part of an RGB image that the model keeps, at the size of its input; an image of usual shape as it is.

    Args:
        image: RGB.
        resizing: of the model; its fit is "shortest".
    """
    columns, rows = resizing.axes(np.array([[0, 0, *image.size]]))
    if columns.target.prod() * rows.target.prod() <= _MOST_RESIZED * resizing.width * resizing.height:
        return image
    (left, right), (upper, lower) = _needed(columns), _needed(rows)
    pixels = torch.from_numpy(np.array(image.crop((left, upper, right, lower)))).permute(2, 0, 1)
    columns, rows = replace(columns, origin=-np.array([left])), replace(rows, origin=-np.array([upper]))
    return Image.fromarray(CropPlan.of(columns, rows, resizing.resample).apply(pixels)[0].permute(1, 2, 0).numpy())


def _needed(axis: Axis) -> tuple[int, int]:
    """The pixels of an axis that those which are kept are made of, and a few more."""
    length, target, first = (int(values[0]) for values in (axis.length, axis.target, axis.first))
    scale = length / target
    margin = 3 * max(scale, 1.0)
    return max(0, int(first * scale - margin)), min(length, int((first + axis.kept) * scale + margin) + 1)


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
