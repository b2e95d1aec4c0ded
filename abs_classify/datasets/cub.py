"""CUB-200-2011 (Wah et al., 2011): paths, classes and split stand in three text files that share image numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import Item
from abs_classify.datasets.files import inside, read_lines
from abs_classify.datasets.label_sets import LabelSet
from abs_classify.datasets.layout import Missing, unknown_class, wanted_file, wanted_folder
from abs_core.errors import DatasetError

__all__ = ["CubTables"]

_AGAIN = "Fetch CUB_200_2011.tgz again; all its text files belong together"


@dataclass(frozen=True)
class CubTables:
    """``images.txt``, ``image_class_labels.txt`` and ``train_test_split.txt``: number, then path, class number, 0 or 1.

    Args:
        training: which images: True for those of training, False for those of the test, None for all.
    """

    training: bool | None

    layout = "images.txt, image_class_labels.txt, train_test_split.txt and images/"
    needs = 4

    def missing(self, root: Path, labels: LabelSet) -> tuple[Missing, ...]:  # noqa: ARG002 - as of every reader
        """Each of the three files, and the folder of images."""
        return (
            *wanted_file(root / "images.txt", "the paths of the images"),
            *wanted_file(root / "image_class_labels.txt", "the classes of the images"),
            *wanted_file(root / "train_test_split.txt", "the split into training and test"),
            *wanted_folder(root / "images", "the folder of images"),
        )

    def items(self, root: Path, labels: LabelSet) -> Iterator[Item]:
        """The images in the order of ``images.txt``."""
        numbers = _table(root / "image_class_labels.txt")
        training = _table(root / "train_test_split.txt")
        paths = _table(root / "images.txt")
        for image, relative in paths.items():
            if image not in numbers or training.get(image) not in ("0", "1"):
                raise DatasetError(
                    f"the image number {image} of {str(root / 'images.txt')!r} has no class or no split", remedy=_AGAIN
                )
            if self.training is not None and (training[image] == "1") != self.training:
                continue
            place = f"the image number {image} of {str(root)!r}"
            number = numbers[image]
            label = labels.at(int(number) - 1) if number.isdigit() else None
            folder = relative.partition("/")[0]
            # the folder begins with the class number, so the two files can be held against each other
            if label is None or labels.find(folder) != label:
                raise unknown_class(place, f"{number} ({folder})", labels)
            yield Item(inside(root / "images", relative, place), label)


def _table(path: Path) -> dict[str, str]:
    rows: dict[str, str] = {}
    for number, line in read_lines(path):
        key, _, value = line.partition(" ")
        if not key.isdigit() or not value or key in rows:
            raise DatasetError(f"line {number} of {str(path)!r} is not a new number and a value", remedy=_AGAIN)
        rows[key] = value.strip()
    return rows
