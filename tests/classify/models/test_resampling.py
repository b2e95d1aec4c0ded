"""Resizing many crops of an image at once: Pillow's pixels, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from abs_classify.models import resampling
from abs_classify.models.resampling import Axis, CropPlan, Resizing

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
BOXES = [(0, 0, 91, 70), (3, 5, 80, 61), (10, 0, 20, 70), (0, 30, 91, 35), (40, 40, 41, 41), (7, 7, 39, 39)]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def tensor_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


sides = st.integers(1, 40) | st.integers(1, 900)


def whole(length: int, target: int, first: int, kept: int) -> Axis:
    """An axis of one crop, which is all of an image."""
    values = (np.array([number]) for number in (0, length, 0.0, float(length), target, first))
    return Axis(*values, kept=kept)


@pytest.mark.fuzz
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.data())
@settings(max_examples=80, deadline=None)
def test_a_part_of_a_resized_image_has_pillows_pixels(
    source: tuple[int, int], target: tuple[int, int], data: st.DataObject
) -> None:
    left, upper = (data.draw(st.integers(0, side - 1)) for side in target)
    right, lower = data.draw(st.integers(left + 1, target[0])), data.draw(st.integers(upper + 1, target[1]))
    box = (left, upper, min(right, left + 20), min(lower, upper + 20))
    kernel = data.draw(st.sampled_from([BICUBIC, BILINEAR]))
    image = noise(*source)
    axes = (whole(source[at], target[at], box[at], box[at + 2] - box[at]) for at in (0, 1))
    crops = CropPlan.of(*axes, kernel).apply(tensor_of(image))
    assert torch.equal(crops[0], tensor_of(image.resize(target, kernel).crop(box)))


@pytest.mark.parametrize("kernel", [BICUBIC, BILINEAR])
@pytest.mark.parametrize("fraction", [1.0, 0.875])
def test_the_central_square_of_every_crop_is_resized_as_with_pillows_box(
    kernel: Image.Resampling, fraction: float
) -> None:
    image, resizing = noise(91, 70), Resizing(32, 32, kernel, "square", fraction)
    crops = resizing.plan(np.array(BOXES)).apply(tensor_of(image))
    for box, pixels in zip(BOXES, crops, strict=True):
        crop = image.crop(box)
        side = fraction * min(crop.size)
        edges = [(length + sign * side) / 2 for sign in (-1, 1) for length in crop.size]
        assert torch.equal(pixels, tensor_of(crop.resize((32, 32), kernel, box=tuple(edges)))), box


def test_an_image_that_would_fill_the_memory_is_resized_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    image, resizing = tensor_of(noise(91, 70)), Resizing(32, 24, BICUBIC, "stretch")
    expected = resizing.plan(np.array(BOXES)).apply(image)
    largest = 0
    along = resampling._along

    def measure(image: Tensor, lines: Tensor, start: Tensor, weights: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, 3 * lines.shape[1] * weights.numel())
        return along(image, lines, start, weights)

    monkeypatch.setattr(resampling, "_along", measure)
    monkeypatch.setattr(resampling, "_PRODUCTS_AT_ONCE", 3 * 32 * 40)
    assert torch.equal(resizing.plan(np.array(BOXES)).apply(image), expected)
    assert 0 < largest <= 3 * 32 * 40


def test_no_crops_give_none() -> None:
    plan = Resizing(8, 6, BICUBIC, "shortest").plan(np.empty((0, 4), np.int64))
    assert plan.apply(tensor_of(noise(9, 9))).shape == (0, 3, 6, 8)
