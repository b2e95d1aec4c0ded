"""Layouts in which a text file lists the images: Pets, DTD, Food-101, Places365, Aircraft, SUN397, UCF101, ImageNet.

Each line names an image and, by itself or through its folder, a class. ``parse`` is all that differs between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import Item
from abs_classify.datasets.files import inside, read_lines
from abs_classify.datasets.label_sets import LabelSet
from abs_classify.datasets.layout import Missing, unknown_class, wanted_file, wanted_folder
from abs_core.errors import DatasetError

__all__ = ["ListFile", "aircraft", "dtd", "food101", "imagenet_kaggle", "pets", "places365", "sun397", "ucf101"]

#: From a line to the image's path under the folder of images, what the line says of its class, and the class id.
Parse = Callable[[str, LabelSet], tuple[str, str, str | None]]


def dtd(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``banded/banded_0002.jpg``: the folder is the class."""
    folder = line.split("/")[0]
    return line, folder, labels.find(folder)


def food101(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``apple_pie/1011328``: the folder is the class, and ``.jpg`` is left out."""
    folder = line.split("/")[0]
    return f"{line}.jpg", folder, labels.find(folder)


def pets(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``Abyssinian_201 1 1 1``: image, class number from 1 on, species, breed number within the species.

    A sort of the file names puts the cats, which have capitals, before the dogs; only the number counts. The breed in
    the file's name must agree with it.
    """
    image, number = line.split()[:2]
    label = labels.at(int(number) - 1)
    breed = image.rpartition("_")[0]
    return f"{image}.jpg", f"{number} ({breed})", label if label == labels.find(breed) else None


def places365(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``Places365_val_00000001.jpg 165``: image and class number from 0 on."""
    image, number = line.split()
    return image, number, labels.at(int(number))


def aircraft(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``1514522 F-16A/B``: image without ``.jpg``, and the variant, which may hold spaces and slashes."""
    image, _, variant = line.partition(" ")
    return f"{image}.jpg", variant, labels.find(variant)


def sun397(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``/a/apse/indoor/sun_blhbltknhczdswwd.jpg``: the path between the letter and the file is the class."""
    path = line.lstrip("/")
    name = "/".join(path.split("/")[1:-1])
    return path, name, labels.find(name)


def ucf101(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1``: a video; its middle frame lies in ``Apply_Eye_Makeup``."""
    action, _, video = line.split()[0].partition("/")
    folder = "_".join(re.findall("[A-Z][^A-Z]*", action))
    return f"{folder}/{video.removesuffix('.avi')}.jpg", action, labels.find(action)


def imagenet_kaggle(line: str, labels: LabelSet) -> tuple[str, str, str | None]:
    """``ILSVRC2012_val_00000001,n03995372 85 1 499 272``: image, then class and box for each object (of one class)."""
    image, _, objects = line.partition(",")
    wnid = objects.split()[0]
    return f"{image}.JPEG", wnid, labels.find(wnid)


@dataclass(frozen=True)
class ListFile:
    """A text file that lists the images of one part of a data set.

    Args:
        file: the list, relative to the root.
        images: the folder that its paths start from, relative to the root.
        parse: reads a line.
        header: lines at the top that name columns.
        comment: what comments begin with; by default there are none.
    """

    file: str
    images: str
    parse: Parse
    header: int = 0
    comment: str = "\n"

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return f"{self.file} and {self.images}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 2

    def missing(self, root: Path, labels: LabelSet) -> tuple[Missing, ...]:  # noqa: ARG002 - as of every reader
        """The list, the folder of images, or both."""
        return (
            *wanted_file(root / self.file, "the list of the images"),
            *wanted_folder(root / self.images, "the folder of images"),
        )

    def items(self, root: Path, labels: LabelSet) -> Iterator[Item]:
        """The images in the order of the list."""
        path = root / self.file
        for number, line in read_lines(path, self.comment):
            if number <= self.header:
                continue
            place = f"line {number} of {str(path)!r}"
            try:
                relative, said, label = self.parse(line, labels)
            except (ValueError, IndexError) as error:
                raise DatasetError(
                    f"{place} is not as the official list is: {line[:80]!r}", remedy="Fetch the official file again"
                ) from error
            if label is None:
                raise unknown_class(place, said, labels)
            yield Item(inside(root / self.images, relative, place), label)
