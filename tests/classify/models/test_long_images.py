"""What is kept of a long image has the pixels that resizing all of it would give."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from tiny_open_clip import ARCH, load

from abs_classify.models.long_images import at_least_a_pixel, central_part
from abs_classify.models.resampling import Resizing

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


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
    part = central_part(image, Resizing(width, height, BILINEAR if bilinear else BICUBIC, "shortest"))
    assert part.size == (width, height)
    assert torch.equal(transform(part), transform(image))


@pytest.mark.parametrize("size", [(32, 32), (8, 60), (300, 40), (1, 1)])
def test_an_image_of_usual_shape_is_left_to_the_models_own_preprocessing(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert central_part(image, Resizing(32, 32, BICUBIC, "shortest")) is image
    assert at_least_a_pixel(image, width=32, height=32) is image


@pytest.mark.parametrize("size", [(1, 65_500), (65_500, 1)])
def test_a_thin_image_costs_what_the_model_sees(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "navy")
    tracemalloc.start()
    part = central_part(image, Resizing(224, 224, BICUBIC, "shortest"))
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
