"""CIFAR-10 and CIFAR-100 in their binary version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniatures import miniature, write_files
from PIL import Image

from abs_classify.datasets import open_dataset
from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_classify.images import load_image
from abs_core.errors import DatasetError


def cifar(path: Path, head: int, labels: list[int], rng: np.random.Generator) -> np.ndarray:
    """A binary file with random pictures; returns them as [n, 32, 32, 3]."""
    images = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    records = [bytes([19] * (head - 1) + [label]) + image.transpose(2, 0, 1).tobytes()
               for label, image in zip(labels, images, strict=True)]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    return images


@pytest.mark.parametrize(
    ("name", "file", "head", "numbers", "ids"),
    [
        ("cifar10", "test_batch.bin", 1, [3, 0, 9], ["cat", "airplane", "truck"]),
        ("cifar100", "test.bin", 2, [99, 0, 1], ["worm", "apple", "aquarium_fish"]),
    ],
)
def test_cifar_pixels_and_fine_labels(
    tmp_path: Path, name: str, file: str, head: int, numbers: list[int], ids: list[str]
) -> None:
    images = cifar(tmp_path / file, head, numbers, np.random.default_rng(0))
    data = open_benchmark(miniature(name, test=3), str(tmp_path))
    assert [sample.label for sample in data.samples] == ids
    for sample, image in zip(data.samples, images, strict=True):
        np.testing.assert_array_equal(np.asarray(load_image(sample.read(), sample.name).pixels), image)
    assert [sample.name for sample in data.samples][1] == f"{tmp_path / file}::record 1"
    assert len({sample.name for sample in data.samples}) == 3


def test_cifar_training_has_five_files(tmp_path: Path) -> None:
    for number in range(1, 6):
        cifar(tmp_path / f"data_batch_{number}.bin", 1, [number], np.random.default_rng(number))
    data = open_benchmark(miniature("cifar10", train=5), f"{tmp_path}?split=train")
    assert [sample.path.name for sample in data.samples] == [f"data_batch_{number}.bin" for number in range(1, 6)]


def test_the_pickles_of_cifar_are_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "cifar-10-batches-py"
    write_files(root, "test_batch", "data_batch_1", "batches.meta")
    for place in (root, tmp_path):
        with pytest.raises(DatasetError) as caught:
            open_dataset(f"cifar10:{place}")
        assert "pickles are never opened" in caught.value.remedy
        assert "cifar-10-binary.tar.gz" in caught.value.remedy


def test_cifar_files_that_are_cut_off_or_of_another_set_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    cifar(path, 1, [1, 2], np.random.default_rng(0))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="must be a multiple of 3073 bytes, got 6141"):
        open_benchmark(miniature("cifar10", test=2), str(tmp_path))
    cifar(path, 1, [10], np.random.default_rng(0))
    with pytest.raises(DatasetError, match=r"record 0 of .* must be one of the 10 classes .*, got 10"):
        open_benchmark(miniature("cifar10", test=1), str(tmp_path))


def test_cifar_as_folders_of_images(tmp_path: Path) -> None:
    (tmp_path / "test" / "aquarium_fish").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "test" / "aquarium_fish" / "0001.png")
    data = open_benchmark(miniature("cifar100", test=1), str(tmp_path))
    assert [sample.label for sample in data.samples] == ["aquarium_fish"]
    assert load_image(data.samples[0].read()).pixels.size == (32, 32)
