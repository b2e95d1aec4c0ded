"""A folder with one sub-folder of images for each class: ``imagefolder:DIR``."""

from __future__ import annotations

from pathlib import Path

from abs_classify.datasets.base import Dataset, Sample, class_id, classes_of
from abs_classify.datasets.folders import images_below, is_image, list_folder
from abs_core.errors import DatasetError

__all__ = ["open_imagefolder"]


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
    items: list[Sample] = []
    folders, files = list_folder(root)
    for name in folders:
        found = list(images_below(root / name))
        label = class_id(name, f"the folder {str(root / name)!r}") if found else ""
        items.extend(Sample(path, label) for path in found)
    if not items:
        loose = any(is_image(name) for name in files)
        what = "images, but none in a class sub-folder" if loose else "no images in its sub-folders"
        raise DatasetError(f"the image folder {location!r} has {what}", remedy=_LAYOUT)
    return Dataset(f"imagefolder:{location}", classes_of(item.label for item in items), tuple(items))
