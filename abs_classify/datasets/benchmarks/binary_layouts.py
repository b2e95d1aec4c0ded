"""Layouts whose labels stand in binary files: CIFAR in its binary version, and MATLAB annotations, read with scipy.

The MATLAB files are those of Flowers102, StanfordCars and the ImageNet devkit. CIFAR's pickles are never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Sample, read_bytes
from abs_classify.datasets.benchmarks.layouts import (
    BenchmarkRoot,
    MissingPath,
    missing_file,
    missing_folder,
    unknown_class,
)
from abs_classify.datasets.folders import inside, read_lines
from abs_core.errors import DatasetError
from abs_core.extras import require

__all__ = ["CarsMat", "CifarBinary", "CifarRecord", "FlowersMat", "ImagenetDevkit"]

_SIDE = 32
_CHANNEL = _SIDE * _SIDE


@dataclass(frozen=True, slots=True)
class CifarRecord:
    """One image of a binary file; the ``ByteSource`` of a sample.

    Args:
        path: the file.
        index: of the record, from 0 on.
        label_bytes: their number before the pixels.
    """

    path: Path
    index: int
    label_bytes: int

    @property
    def name(self) -> str:
        """``record 17``."""
        return f"record {self.index}"

    def read(self) -> bytes:
        """The image as a PPM file, which keeps every pixel exactly.

        Raises:
            ImageError: the file cannot be read, or is truncated.
        """
        size = self.label_bytes + 3 * _CHANNEL
        channels = read_bytes(self.path, f"{self.path}::{self.name}", self.index * size, size)[self.label_bytes :]
        pixels = bytearray(3 * _CHANNEL)
        for channel in range(3):
            pixels[channel::3] = channels[channel * _CHANNEL : (channel + 1) * _CHANNEL]
        return b"P6 %d %d 255\n" % (_SIDE, _SIDE) + bytes(pixels)


@dataclass(frozen=True)
class CifarBinary:
    """The binary files of one split.

    Args:
        files: in their order, relative to the root.
        label_bytes: their number before each image; the last one is the class.
        pickle: the name of the first file in the Python version, to recognize that version.
        archive: of the binary version.
    """

    files: tuple[str, ...]
    label_bytes: int
    pickle: str
    archive: str

    @property
    def layout(self) -> str:
        """The files that it reads."""
        return ", ".join(self.files)

    @property
    def required_paths(self) -> int:
        """How many files it needs."""
        return len(self.files)

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The files; the remedy says so if only the Python version is there."""
        remedy = (
            f"Download the binary version, {self.archive}, and extract it beside the Python version, whose pickles are "
            "never opened, since a pickle can run any program"
            if (root.path / self.pickle).is_file()
            else ""
        )
        return tuple(
            path for file in self.files for path in missing_file(root.path / file, "images and labels", remedy)
        )

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images in the order of the files."""
        size = self.label_bytes + 3 * _CHANNEL
        for file in self.files:
            path = root.path / file
            total = path.stat().st_size
            if total % size:
                raise DatasetError(
                    f"the size of {str(path)!r} must be a multiple of {size} bytes, got {total}",
                    remedy=f"Extract {self.archive} again",
                )
            for index, number in enumerate(_class_numbers(path, size, self.label_bytes)):
                label = root.labels.id_at(number)
                if label is None:
                    raise unknown_class(f"record {index} of {str(path)!r}", number, root.labels)
                yield Sample(path, label, CifarRecord(path, index, self.label_bytes))


def _class_numbers(path: Path, size: int, label_bytes: int) -> Iterator[int]:
    try:
        with path.open("rb") as stream:
            while record := stream.read(size):
                yield record[label_bytes - 1]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(path)!r}: {reason}", remedy="Check its permissions") from error


_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_FETCH = "Fetch the official file again"


@dataclass(frozen=True)
class FlowersMat:
    """Oxford 102 Flowers (Nilsback and Zisserman, 2008): ``imagelabels.mat`` and ``setid.mat``.

    Args:
        key: the variable of ``setid.mat``: ``trnid``, ``valid`` or ``tstid``. The test split is the largest.
    """

    key: str

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"imagelabels.mat, setid.mat ({self.key}) and jpg/"

    @property
    def required_paths(self) -> int:
        """How many files and folders it needs."""
        return 3

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The two files and the folder of images."""
        labels, split = root.path / "imagelabels.mat", root.path / "setid.mat"
        return (
            *missing_file(labels, "the classes of the images", _download(labels)),
            *missing_file(split, "the split of the images", _download(split)),
            *missing_folder(root.path / "jpg", "the folder of images"),
        )

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images in the order of ``setid.mat``."""
        numbers = _integers(root.path / "imagelabels.mat", "labels")
        split = root.path / "setid.mat"
        for image in _integers(split, self.key):
            where = f"the image number {image} of {str(split)!r}"
            label = root.labels.id_at(numbers[image - 1] - 1) if 1 <= image <= len(numbers) else None
            if label is None:
                raise unknown_class(where, numbers[image - 1 : image], root.labels)
            yield Sample(root.path / "jpg" / f"image_{image:05d}.jpg", label)


@dataclass(frozen=True)
class CarsMat:
    """Stanford Cars (Krause et al., 2013): the annotations of one split.

    Args:
        file: a ``.mat`` file with the fields ``fname`` and ``class`` (from 1 on), relative to the root.
        images: the folder of its images.
    """

    file: str
    images: str

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"{self.file} and {self.images}/"

    @property
    def required_paths(self) -> int:
        """How many files and folders it needs."""
        return 2

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The annotations and the folder of images."""
        remedy = f"Put {Path(self.file).name} (linked in DATASETS.md of the CoOp repository) in {str(root.path)!r}"
        return (
            *missing_file(root.path / self.file, "the classes of the images", "" if "devkit" in self.file else remedy),
            *missing_folder(root.path / self.images, "the folder of images"),
        )

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images in the order of the annotations."""
        file = root.path / self.file
        rows = _load(file, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise DatasetError(
                f"the annotations in {str(file)!r} have no classes", remedy="Use the file that ends in _withlabels.mat"
            )
        for row in rows:
            name, number = str(row["fname"]), int(row["class"])
            where = f"the image {name!r} of {str(file)!r}"
            label = root.labels.id_at(number - 1)
            if label is None:
                raise unknown_class(where, number, root.labels)
            yield Sample(inside(root.path / self.images, name, where), label)


@dataclass(frozen=True)
class ImagenetDevkit:
    """ImageNet's validation images in one folder, with the labels of the official devkit.

    The devkit numbers the classes in an order of its own, which ``meta.mat`` translates into WordNet ids.

    Args:
        images: the folder of images, relative to the root.
    """

    images: str
    _data = "ILSVRC2012_devkit_t12/data"

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"{self._data}/ and images in {self.images}/"

    @property
    def required_paths(self) -> int:
        """How many files and folders it needs."""
        return 3

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The two files of the devkit and the first image."""
        data = root.path / self._data
        return (
            *missing_file(data / "ILSVRC2012_validation_ground_truth.txt", "the classes of the images"),
            *missing_file(data / "meta.mat", "the WordNet ids of the classes"),
            *missing_file(root.path / self.images / "ILSVRC2012_val_00000001.JPEG", "the first image"),
        )

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images by number."""
        truth = root.path / self._data / "ILSVRC2012_validation_ground_truth.txt"
        synsets = _load(root.path / self._data / "meta.mat", "synsets")
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        for image, (number, line) in enumerate(read_lines(truth), 1):
            label = root.labels.find_id(wnids.get(int(line), "")) if line.isdigit() else None
            if label is None:
                raise unknown_class(f"line {number} of {str(truth)!r}", line, root.labels)
            yield Sample(root.path / self.images / f"ILSVRC2012_val_{image:08d}.JPEG", label)


def _download(file: Path) -> str:
    return f"Download {file.name} from {_FLOWERS} to {str(file)!r}"


def _integers(file: Path, key: str) -> list[int]:
    try:
        return [int(value) for value in _load(file, key).reshape(-1)]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{key!r} in {str(file)!r} is not a list of numbers", remedy=_FETCH) from error


def _load(file: Path, key: str) -> Any:
    """A variable of a MATLAB file as a numpy array.

    Raises:
        MissingExtraError: scipy is not installed.
        DatasetError: the file cannot be read, or has no such variable.
    """
    loadmat = require("scipy.io", purpose="to read the .mat annotations of this data set").loadmat
    try:
        content = loadmat(str(file), squeeze_me=True, variable_names=[key])
    except Exception as error:  # scipy raises many kinds for a broken file
        raise DatasetError(f"{str(file)!r} is not a MATLAB file, or is damaged", remedy=_FETCH) from error
    if key not in content:
        raise DatasetError(f"{str(file)!r} has no variable {key!r}", remedy=_FETCH)
    import numpy as np

    return np.atleast_1d(content[key])
