"""What a data set is: image files, each with the id of its class. Imports no torch and opens no image."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import DatasetError

__all__ = ["ClassName", "Dataset", "Item", "class_id", "classes_of"]


@dataclass(frozen=True)
class ClassName:
    """A class as a data set knows it.

    Args:
        id: the stable id by which labels are compared.
        name: what to call it in a text.
    """

    id: str
    name: str


@dataclass(frozen=True)
class Item:
    """An image file and its class.

    Args:
        path: the file. It is there; whether it is an image is found out when it is opened.
        label: the id of its class.
    """

    path: Path
    label: str


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Args:
        name: what the user named, such as ``imagefolder:./val``.
        classes: the candidate classes; every label of an item is among them.
        items: the images, in a fixed order.
    """

    name: str
    classes: tuple[ClassName, ...]
    items: tuple[Item, ...]

    @property
    def names(self) -> dict[str, str]:
        """Class id to class name, in class order."""
        return {each.id: each.name for each in self.classes}


def class_id(text: str, place: str) -> str:
    """A label as it was found, without spaces around it and in Unicode NFC, as ids in bundles are.

    Args:
        text: a folder name or a table entry.
        place: where it was found, for the error.

    Raises:
        DatasetError: it is empty, or no valid Unicode.
    """
    label = unicodedata.normalize("NFC", text).strip()
    if not label:
        raise DatasetError(f"{place} has an empty label", remedy="Give every image the id of its class")
    try:
        label.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{place} has a label that is not UTF-8: {text!r}", remedy="Rename it") from error
    return label


def classes_of(labels: Iterable[str]) -> tuple[ClassName, ...]:
    """The classes of some labels, sorted by id; underscores in an id are spaces in its name."""
    return tuple(ClassName(label, label.replace("_", " ").strip() or label) for label in sorted(set(labels)))
