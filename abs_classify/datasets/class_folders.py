"""Layouts in which an image's folder says its class: ImageNet and its relatives, Caltech101, EuroSAT, SUN397, UCF101.

A folder is matched with a class id by its name or, for ImageNet-V2, by its number; never by its place in a sorted list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import Item
from abs_classify.datasets.files import is_image, list_folder
from abs_classify.datasets.label_sets import LabelSet
from abs_classify.datasets.layout import Missing, unknown_class, wanted_folder

__all__ = ["ClassFolders", "by_name", "by_number", "under_letters"]

#: How deep class folders may lie: a/apartment_building/outdoor.
_DEPTH = 3

FolderLabel = Callable[[str, LabelSet], str | None]


def by_name(folder: str, labels: LabelSet) -> str | None:
    """The class that a folder's path names, but for case and separators."""
    return labels.find(folder)


def under_letters(folder: str, labels: LabelSet) -> str | None:
    """The class that a path under a folder of one letter names: ``a/apse/indoor`` is ``apse/indoor``."""
    letter, _, name = folder.partition("/")
    return labels.find(name) if len(letter) == 1 else None


def by_number(folder: str, labels: LabelSet) -> str | None:
    """The class at the position that a folder's name is: ``10`` comes after ``9`` and not after ``1``.

    ImageNet-V2 names its folders so. Copies with WordNet ids as folder names are around, and are read too.
    """
    if folder.isascii() and folder.isdigit():
        return labels.at(int(folder))
    return labels.find(folder)


@dataclass(frozen=True)
class ClassFolders:
    """Images in folders that are named by their class.

    Args:
        folder: where the class folders lie, relative to the root; "." for the root itself.
        label: from a class folder's path, relative to ``folder``, to the class id.
        ignored: folders beside the class folders that are no classes, although they hold images.
        other: words in a root's own name that say it is another part of the data set.
    """

    folder: str
    label: FolderLabel = by_name
    ignored: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """The files and folders it reads."""
        return "class folders" if self.folder == "." else f"class folders in {self.folder}/"

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return 1

    def missing(self, root: Path, labels: LabelSet) -> tuple[Missing, ...]:
        """The folder of class folders, or a class folder in it. Looks at names only."""
        folder = root / self.folder
        absent = wanted_folder(folder, "the folder of class folders")
        if absent:
            return absent
        names, _ = list_folder(folder)
        letters = [f"{name}/{below}" for name in names if len(name) == 1 for below in list_folder(folder / name)[0]]
        other = any(word in folder.resolve().name for word in self.other)
        if not other and any(self.label(name, labels) is not None for name in (*names, *letters)):
            return ()
        return (Missing(folder, f"the folders of its {len(labels.ids)} classes"),)

    def items(self, root: Path, labels: LabelSet) -> Iterator[Item]:
        """The images of the class folders, in the order of the folders' names."""
        yield from self._items(root / self.folder, labels, "")

    def _items(self, top: Path, labels: LabelSet, relative: str) -> Iterator[Item]:
        folders, _ = list_folder(top / relative)
        for name in folders:
            below = f"{relative}/{name}" if relative else name
            if below in self.ignored:
                continue
            label = self.label(below, labels)
            inner, files = list_folder(top / below)
            images = [file for file in files if is_image(file)]
            if images and label is None:
                raise unknown_class(f"the folder {str(top / below)!r}", below, labels)
            for file in images:
                yield Item(top / below / file, label or "")
            if inner and below.count("/") < _DEPTH - 1:
                yield from self._items(top, labels, below)
