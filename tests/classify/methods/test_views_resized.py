"""Random resized crops beside torchvision's: the same box from the same numbers, and alike in distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from abs_classify.methods.random import uniform_numbers
from abs_classify.methods.views import RandomResizedCrops
from abs_core.errors import UsageError

IMAGE = "sha256:" + "0" * 64


def torchvision_box(size: tuple[int, int], crops: RandomResizedCrops, numbers: Iterator[float]) -> list[int]:
    """One crop as torchvision finds it, from given uniform numbers: attempts, top, left, mirror."""
    width, height = size
    uniform = list(numbers)
    attempts, (top, left, mirror) = uniform[:20], uniform[20:]
    for share, position in zip(attempts[::2], attempts[1::2], strict=True):
        area = width * height * (crops.area[0] + (crops.area[1] - crops.area[0]) * share)
        low, high = (math.log(ratio) for ratio in crops.ratio)
        aspect = math.exp(low + (high - low) * position)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            i, j = math.floor(top * (height - h + 1)), math.floor(left * (width - w + 1))
            return [j, i, j + w, i + h, int(mirror < 0.5)]
    w, h = width, height
    if width / height < crops.ratio[0]:
        h = round(width / crops.ratio[0])
    elif width / height > crops.ratio[1]:
        w = round(height * crops.ratio[1])
    return [(width - w) // 2, (height - h) // 2, (width - w) // 2 + w, (height - h) // 2 + h, int(mirror < 0.5)]


@pytest.mark.parametrize("size", [(640, 480), (300, 300), (1, 500), (2000, 10), (7, 5), (1, 1)])
def test_random_resized_crops_are_those_of_torchvision(size: tuple[int, int]) -> None:
    crops = RandomResizedCrops(50)
    numbers = uniform_numbers(3, IMAGE, "resized", 50, 23)
    boxes = crops.boxes(size, 3, IMAGE)
    assert boxes.tolist() == [torchvision_box(size, crops, iter(row)) for row in numbers]
    assert RandomResizedCrops(7).boxes(size, 3, IMAGE).tolist() == boxes[:7].tolist()  # a prefix
    assert (boxes[:, 0] >= 0).all()
    assert (boxes[:, 2] <= size[0]).all()
    assert (boxes[:, 3] <= size[1]).all()


def test_random_resized_crops_are_distributed_as_those_of_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    size, count = (640, 480), 2000
    ours = RandomResizedCrops(count).boxes(size, 0, IMAGE)
    image = torch.zeros(3, size[1], size[0])
    torch.manual_seed(0)
    theirs = np.array([
        transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)
    ])  # fmt: skip
    for mine, other in (
        (ours[:, 2] - ours[:, 0], theirs[:, 3]), (ours[:, 3] - ours[:, 1], theirs[:, 2]),
        (ours[:, 0], theirs[:, 1]), (ours[:, 1], theirs[:, 0]),
    ):  # fmt: skip
        # Kolmogorov-Smirnov, 1 in 10,000
        assert ks_2samp(mine, other).statistic < 2.23 * math.sqrt(2 / count)
    assert 0.4 < ours[:, 4].mean() < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count of the view source 'resized'"),
        ({"area": (0.5, 0.1)}, "ratio of the view source 'resized'"),
        ({"ratio": (2.0, 1.0)}, "ratio of the view source 'resized' must be 1e-3 <= low <= high"),
    ],
)
def test_random_resized_crops_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RandomResizedCrops(**options)


def test_every_parameter_of_random_resized_crops_is_in_their_key_and_moves_them() -> None:
    plain = RandomResizedCrops(20)
    for options in ({"area": (0.5, 1.0)}, {"ratio": (1.0, 1.0)}):
        other = RandomResizedCrops(20, **options)
        assert other.key() != plain.key()
        assert other.boxes((64, 48), 0, IMAGE).tolist() != plain.boxes((64, 48), 0, IMAGE).tolist()
