"""A folder with one sub-folder of images for each class: ``imagefolder:DIR``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from abs_classify.datasets.base import Dataset, Item, class_id, classes_of
from abs_core.errors import DatasetError

__all__ = ["EXTENSIONS", "open_imagefolder"]

#: What an image file's name may end with, in lower case: the formats that ``abs_classify.images`` opens.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".mpo"}
)

_LAYOUT = "Make one sub-folder for each class, named by the class, with its images in it"


def open_imagefolder(location: str) -> Dataset:
    """The images in the sub-folders of a folder, at any depth; the first sub-folder's name is the class id.

    Images are told by their file name endings. Hidden files and folders, other files, and files that lie outside any
    sub-folder are left out; a sub-folder without images is no class. Links are followed.

    Args:
        location: the folder.

    Raises:
        DatasetError: it is no folder, cannot be read, or holds no image in a sub-folder.
    """
    root = Path(location)
    if not root.is_dir():
        state = "is no folder" if root.exists() else "does not exist"
        raise DatasetError(f"the image folder {location!r} {state}", remedy="Check the path")
    items: list[Item] = []
    loose = False
    for entry in _sorted(root):
        if entry.is_dir():
            found = list(_images(entry, frozenset()))
            label = class_id(entry.name, f"the folder {str(entry)!r}") if found else ""
            items.extend(Item(path, label) for path in found)
        else:
            loose = loose or _is_image(entry)
    if not items:
        what = "images, but none in a class sub-folder" if loose else "no images in its sub-folders"
        raise DatasetError(f"the image folder {location!r} has {what}", remedy=_LAYOUT)
    return Dataset(f"imagefolder:{location}", classes_of(item.label for item in items), tuple(items))


def _images(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The images of a folder tree; ``above`` identifies the folders it lies in, so that a link to one ends there."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _sorted(folder):
        if entry.is_dir():
            yield from _images(entry, above | {here})
        elif _is_image(entry):
            yield entry


def _sorted(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(
            f"cannot read the folder {str(folder)!r}: {reason}", remedy="Check its permissions"
        ) from error
    return [folder / name for name in names]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS
