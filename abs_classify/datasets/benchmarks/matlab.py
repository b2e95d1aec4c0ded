"""Layouts whose annotations are MATLAB files: Flowers102, StanfordCars, and the ImageNet devkit. Read with scipy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Sample
from abs_classify.datasets.benchmarks.layouts import MissingPath, unknown_class, wanted_file, wanted_folder
from abs_classify.datasets.folders import inside, read_lines
from abs_core.errors import DatasetError
from abs_core.extras import require
from abs_core.labels import LabelSet

__all__ = ["CarsMat", "FlowersMat", "ImagenetDevkit"]


_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


_AGAIN = "Fetch the official file again"


@dataclass(frozen=True)
class FlowersMat:
    """Oxford 102 Flowers (Nilsback and Zisserman, 2008): ``imagelabels.mat`` and ``setid.mat``.

    Args:
        key: the part of ``setid.mat``: ``trnid``, ``valid`` or ``tstid``. The test is the largest.
    """

    key: str

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return f"imagelabels.mat, setid.mat ({self.key}) and jpg/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 3

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """Either file, and the folder of images."""
        return (
            *wanted_file(root / "imagelabels.mat", "the classes of the images", _download(root, "imagelabels.mat")),
            *wanted_file(root / "setid.mat", "the split of the images", _download(root, "setid.mat")),
            *wanted_folder(root / "jpg", "the folder of images"),
        )

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images in the order of ``setid.mat``."""
        numbers = _integers(root / "imagelabels.mat", "labels")
        for image in _integers(root / "setid.mat", self.key):
            place = f"the image number {image} of {str(root / 'setid.mat')!r}"
            label = labels.id_at(numbers[image - 1] - 1) if 1 <= image <= len(numbers) else None
            if label is None:
                raise unknown_class(place, numbers[image - 1 : image], labels)
            yield Sample(root / "jpg" / f"image_{image:05d}.jpg", label)


@dataclass(frozen=True)
class CarsMat:
    """Stanford Cars (Krause et al., 2013): the annotations of one part.

    Args:
        file: a ``.mat`` file with the fields ``fname`` and ``class`` (from 1 on), relative to the root.
        images: the folder of its images.
    """

    file: str
    images: str

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return f"{self.file} and {self.images}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 2

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """The annotations, the folder of images, or both."""
        remedy = f"Put {Path(self.file).name} (linked in DATASETS.md of the CoOp repository) in {str(root)!r}"
        return (
            *wanted_file(root / self.file, "the classes of the images", "" if "devkit" in self.file else remedy),
            *wanted_folder(root / self.images, "the folder of images"),
        )

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images in the order of the annotations."""
        file = root / self.file
        rows = _load(file, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise DatasetError(
                f"the annotations in {str(file)!r} name no classes", remedy="Use the file that ends in _withlabels.mat"
            )
        for row in rows:
            name, number = str(row["fname"]), int(row["class"])
            place = f"the image {name!r} of {str(file)!r}"
            label = labels.id_at(number - 1)
            if label is None:
                raise unknown_class(place, number, labels)
            yield Sample(inside(root / self.images, name, place), label)


@dataclass(frozen=True)
class ImagenetDevkit:
    """ImageNet's validation images in one folder, with the labels of the official devkit.

    The devkit counts classes in an order of its own, which ``meta.mat`` translates into WordNet ids.

    Args:
        images: the folder of images, relative to the root.
    """

    images: str
    _data = "ILSVRC2012_devkit_t12/data"

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return f"{self._data}/ and images in {self.images}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 3

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """The two files of the devkit, and the folder of images."""
        data = root / self._data
        return (
            *wanted_file(data / "ILSVRC2012_validation_ground_truth.txt", "the classes of the images"),
            *wanted_file(data / "meta.mat", "the WordNet ids of the classes"),
            *wanted_file(root / self.images / "ILSVRC2012_val_00000001.JPEG", "the first image"),
        )

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images by number."""
        truth = root / self._data / "ILSVRC2012_validation_ground_truth.txt"
        synsets = _load(root / self._data / "meta.mat", "synsets")
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        for image, (number, line) in enumerate(read_lines(truth), 1):
            label = labels.find_id(wnids.get(int(line), "")) if line.isdigit() else None
            if label is None:
                raise unknown_class(f"line {number} of {str(truth)!r}", line, labels)
            yield Sample(root / self.images / f"ILSVRC2012_val_{image:08d}.JPEG", label)


def _download(root: Path, name: str) -> str:
    return f"Download {name} from {_FLOWERS} to {str(root / name)!r}"


def _integers(file: Path, key: str) -> list[int]:
    try:
        return [int(value) for value in _load(file, key).reshape(-1)]
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{key!r} in {str(file)!r} is no list of numbers", remedy=_AGAIN) from error


def _load(file: Path, key: str) -> Any:
    """A variable of a MATLAB file as a numpy array.

    Raises:
        MissingExtraError: scipy is not installed.
        DatasetError: the file cannot be read, or has no such variable.
    """
    loadmat = require("scipy.io", purpose="to read the .mat annotations of this data set").loadmat
    try:
        content = loadmat(str(file), squeeze_me=True, variable_names=[key])
    except Exception as error:  # scipy lets through whatever a broken file makes it raise
        raise DatasetError(f"{str(file)!r} is no MATLAB file, or is damaged", remedy=_AGAIN) from error
    if key not in content:
        raise DatasetError(f"{str(file)!r} has no variable {key!r}", remedy=_AGAIN)
    import numpy as np

    return np.atleast_1d(content[key])
