"""A model's preprocessing of crops on a device, against the same preprocessing by Pillow, crop after crop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from support import GOLDEN
from torch import Tensor

from abs_classify.models.attention import DinoAttention
from abs_classify.models.embedded import EmbeddedAttention, EmbeddedModel, load_embedded_model
from abs_classify.models.open_clip import _preprocessing
from abs_classify.models.preprocessing import PixelPreprocessing

CPU = torch.device("cpu")
BOXES = np.array([[0, 0, 191, 130], [30, 5, 180, 121], [10, 0, 20, 130], [0, 30, 191, 45], [40, 40, 41, 41]])


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 191, 3), dtype=np.uint8))


def assert_same_bits(preprocessing: Callable[[Image.Image], Tensor], image: Image.Image) -> None:
    assert isinstance(preprocessing, PixelPreprocessing)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = torch.stack([preprocessing(image.crop(tuple(box))) for box in BOXES.tolist()])
    assert torch.equal(preprocessing.normalise(preprocessing.resizing.plan(BOXES).apply(pixels)), expected)
    assert preprocessing.works_on(CPU)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(64, 64), (48, 64)])
def test_models_of_open_clip(image: Image.Image, mode: str, interpolation: str, size: tuple[int, int]) -> None:
    settings = {"size": size, "resize_mode": mode, "interpolation": interpolation, "std": (0.3, 0.2, 0.1)}
    transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    assert_same_bits(_preprocessing(transform, settings), image)


def test_a_model_that_pads_is_left_to_pillow(image: Image.Image) -> None:
    settings = {"size": 64, "resize_mode": "longest"}
    preprocessing = _preprocessing(image_transform_v2(PreprocessCfg(**settings), is_train=False), settings)
    assert not isinstance(preprocessing, PixelPreprocessing)
    assert preprocessing(image).shape == (3, 64, 64)


def test_the_attention_of_dino(image: Image.Image) -> None:
    assert_same_bits(DinoAttention(str(GOLDEN / "models" / "dino")).preprocess, image)


@pytest.mark.slow
def test_the_embedded_model(image: Image.Image) -> None:
    model = load_embedded_model()
    assert isinstance(model, EmbeddedModel)
    for preprocessing in (model.preprocess, model.preprocess_crop, EmbeddedAttention(model).preprocess):
        assert_same_bits(preprocessing, image)


@pytest.fixture
def plain() -> PixelPreprocessing:
    settings: dict[str, Any] = {"size": 32}
    transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    preprocessing = _preprocessing(transform, settings)
    assert isinstance(preprocessing, PixelPreprocessing)
    return preprocessing


def test_a_device_that_gives_other_pixels_is_not_used(
    plain: PixelPreprocessing, caplog: pytest.LogCaptureFixture
) -> None:
    off = plain.values.clone()
    off[1, 130] += 1e-6
    wrong = replace(plain, values=off)
    with caplog.at_level(logging.WARNING):
        assert not wrong.works_on(CPU)
        assert not wrong.works_on(CPU)
    # said once
    (message,) = caplog.messages
    assert message.startswith("crops are resized on the CPU; cpu cannot do it exactly: ")
    assert message.endswith("of 15360 values differ from Pillow's")


def test_a_device_that_cannot_compute_it_is_not_used(
    plain: PixelPreprocessing, caplog: pytest.LogCaptureFixture
) -> None:
    # a device without numbers stands for one that lacks an operation
    with caplog.at_level(logging.WARNING):
        assert not plain.works_on(torch.device("meta"))
    assert "meta cannot do it exactly: " in caplog.text
