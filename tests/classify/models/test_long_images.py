"""What is kept of a long image has the pixels that resizing all of it would give."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image
from tiny_open_clip import ARCH, load

from abs_classify.models.long_images import CentralPart, at_least_a_pixel, resize_cropped

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


sides = st.integers(1, 40) | st.integers(1, 900)


@pytest.mark.fuzz
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.data())
@settings(max_examples=80, deadline=None)
def test_a_part_of_a_resized_image_has_pillows_pixels(
    source: tuple[int, int], target: tuple[int, int], data: st.DataObject
) -> None:
    left, upper = (data.draw(st.integers(0, side - 1)) for side in target)
    right, lower = data.draw(st.integers(left + 1, target[0])), data.draw(st.integers(upper + 1, target[1]))
    box = (left, upper, min(right, left + 20), min(lower, upper + 20))
    resample = data.draw(st.sampled_from([BICUBIC, BILINEAR]))
    image = noise(*source)
    assert resize_cropped(image, target, box, resample) == image.resize(target, resample).crop(box)


@pytest.mark.parametrize("size", [(9, 100), (100, 9), (1, 3000), (3000, 1), (700, 60), (60, 700), (3, 40), (500, 9)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [(32, 32), (24, 32), (32, 24)])
def test_the_models_own_preprocessing_gives_the_same_tensor(
    size: tuple[int, int], interpolation: str, side: tuple[int, int]
) -> None:
    transform = image_transform(side, is_train=False, resize_mode="shortest", interpolation=interpolation)
    image = noise(*size)
    height, width = side
    bilinear = interpolation == "bilinear" and height == width
    part = CentralPart(width, height, BILINEAR if bilinear else BICUBIC).of(image)
    assert part.size == (width, height)
    assert torch.equal(transform(part), transform(image))


@pytest.mark.parametrize("size", [(32, 32), (8, 60), (300, 40), (1, 1)])
def test_an_image_of_usual_shape_is_left_to_the_models_own_preprocessing(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert CentralPart(32, 32, BICUBIC).of(image) is image
    assert at_least_a_pixel(image, width=32, height=32) is image


@pytest.mark.parametrize("size", [(1, 65_500), (65_500, 1)])
def test_a_thin_image_costs_what_the_model_sees(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "navy")
    tracemalloc.start()
    part = CentralPart(224, 224, BICUBIC).of(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part == Image.new("RGB", (224, 224), "navy")
    assert peak < 3_000_000


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 999)])
def test_the_short_side_does_not_vanish_where_the_long_one_is_resized(size: tuple[int, int]) -> None:
    transform = image_transform(32, is_train=False, resize_mode="longest")
    with pytest.raises(ValueError, match="> 0"):
        transform(noise(*size))
    assert transform(at_least_a_pixel(noise(*size), width=32, height=32)).shape == (3, 32, 32)


def test_a_model_sees_a_thin_image_as_its_own_preprocessing_shows_it(checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    image = noise(2, 700)
    transform = image_transform(32, is_train=False, resize_mode="shortest")
    assert torch.equal(model.preprocess(image), transform(image))
    assert torch.equal(model.preprocess_crop(image), transform(image))
