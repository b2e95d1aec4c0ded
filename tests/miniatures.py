"""Data sets in miniature: the layouts of published data sets with a few images, or files that stand for images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abs_classify.datasets import BENCHMARKS, Benchmark, Dataset

__all__ = ["cars", "dtd", "labels_of", "miniature", "write_files", "write_image", "write_text", "write_texts"]


def miniature(name: str, **sizes: int) -> Benchmark:
    """A declaration with other sizes of its splits, whose names have underscores for hyphens here."""
    benchmark = next(benchmark for benchmark in BENCHMARKS if benchmark.name == name)
    by_keyword = {split.name.replace("-", "_"): split.name for split in benchmark.splits}
    return benchmark.resized({by_keyword[keyword]: size for keyword, size in sizes.items()})


def write_text(path: Path, content: str = "x") -> Path:
    """A text file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def write_texts(root: Path, contents: Mapping[str, str]) -> Path:
    """Text files below a folder."""
    for name, content in contents.items():
        write_text(root / name, content)
    return root


def write_files(root: Path, *names: str) -> Path:
    """Files below a folder that stand for images which no test opens."""
    return write_texts(root, dict.fromkeys(names, "not opened here"))


def write_image(path: Path) -> Path:
    """A tiny image with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "teal").save(path)
    return path


def labels_of(data: Dataset, root: Path) -> dict[str, str]:
    """Path below a folder -> label, in the order of the samples."""
    return {sample.path.relative_to(root).as_posix(): sample.label for sample in data.samples}


def dtd(root: Path) -> Path:
    """DTD with two classes, two partitions and two images for each list."""
    write_files(
        root, *(f"images/{name}/{name}_000{number}.jpg" for name in ("banded", "zigzagged") for number in range(1, 7))
    )
    for part, first in (("test", 1), ("val", 2), ("train", 3)):
        for partition in (1, 2):
            number = first + 3 * (partition - 1)
            lines = f"banded/banded_000{number}.jpg\nzigzagged/zigzagged_000{number}.jpg\n"
            write_texts(root, {f"labels/{part}{partition}.txt": lines})
    return root


def cars(root: Path, annotations: str, classes: bool = True) -> None:
    """Stanford Cars with two test images; needs scipy.

    Args:
        root: of the data set.
        annotations: the file of the annotations, relative to the root.
        classes: whether the annotations have classes.
    """
    savemat = pytest.importorskip("scipy.io").savemat
    fields = ["bbox_x1", "fname"] + (["class"] if classes else [])
    rows = np.zeros((1, 2), dtype=[(field, "O") for field in fields])
    for position, (file, number) in enumerate((("00001.jpg", 181), ("00002.jpg", 1))):
        rows[0, position] = (30, file, number) if classes else (30, file)
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    savemat(root / annotations, {"annotations": rows})
    write_files(root, "cars_test/00001.jpg", "cars_test/00002.jpg")
