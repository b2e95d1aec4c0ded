"""Arrays and tensors as images: the same pixels, and so the same id, as the PIL image; anything else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import colour

from abs_classify.classifier import Classifier
from abs_classify.encoding.samples import ImageInMemory, as_sample
from abs_classify.image_arrays import image_of_array
from abs_core.errors import UsageError

PIXELS = np.asarray(colour(3))


@pytest.mark.parametrize(
    "array",
    [
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        torch.from_numpy(PIXELS.copy()),
        torch.from_numpy(PIXELS.copy()).permute(2, 0, 1),
        PIXELS.astype(np.float32) / 255,
        torch.from_numpy(PIXELS.copy()).permute(2, 0, 1).double() / 255,
    ],
)
def test_an_array_is_the_image_of_its_pixels(array: Any) -> None:
    sample = as_sample(array)
    assert isinstance(sample, ImageInMemory)
    assert sample.content_id() == ImageInMemory.of(colour(3)).content_id()


def test_where_both_layouts_fit_arrays_have_channels_last_and_tensors_first() -> None:
    values = np.arange(45, dtype=np.uint8).reshape(3, 5, 3)
    assert (np.asarray(image_of_array(values)) == values).all()
    assert image_of_array(torch.from_numpy(values)).size == (3, 5)
    assert np.asarray(image_of_array(values[..., 0])).shape == (3, 5, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 4), np.uint8), r"got \[4, 5, 4\]"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"got \[2, 4, 5, 3\]"),
        (np.zeros((0, 5, 3), np.uint8), r"got \[0, 5, 3\]"),
        (np.zeros((4, 5, 3), np.int64), "got int64"),
        (torch.full((3, 4, 4), -1.5), "between 0 and 1"),
        (np.full((4, 5, 3), np.nan), "between 0 and 1"),
    ],
)
def test_other_arrays_are_refused(array: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        image_of_array(array)


def test_one_array_in_place_of_a_list_is_refused(small_clips: tuple[str, str]) -> None:
    classifier = Classifier(small_clips[0], ["cat", "dog"], method="clip")
    with pytest.raises(UsageError, match="must be a list of images, got one image"):
        classifier.classify(PIXELS)
    assert len(list(classifier.classify(np.stack([PIXELS, PIXELS])))) == 2
