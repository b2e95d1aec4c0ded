"""A folder with one sub-folder of images for each class: ``imagefolder:DIR``."""

from __future__ import annotations

from pathlib import Path

from abs_classify.datasets.base import Dataset, Sample, class_id, classes_of
from abs_classify.datasets.folders import images_below, is_image, list_folder
from abs_core.errors import DatasetError

__all__ = ["open_imagefolder"]


_LAYOUT = "Put the images of each class into a sub-folder named after the class"


def open_imagefolder(location: str) -> Dataset:
    """The images in the sub-folders of a folder, at any depth. The name of the first sub-folder is the class id.

    Images are recognized by their file name extensions. Hidden files and folders, other files and files outside of
    sub-folders are ignored; a sub-folder without images is not a class. Links are followed.

    Args:
        location: the folder.

    Raises:
        DatasetError: it is not a folder, cannot be read, or contains no image in a sub-folder.
    """
    root = Path(location)
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"the image folder {location!r} {problem}", remedy="Check the path")
    samples: list[Sample] = []
    folders, files = list_folder(root)
    for name in folders:
        images = list(images_below(root / name))
        label = class_id(name, f"the folder {str(root / name)!r}") if images else ""
        samples.extend(Sample(path, label) for path in images)
    if not samples:
        loose = any(is_image(name) for name in files)
        content = "images, but none in a class sub-folder" if loose else "no images in its sub-folders"
        raise DatasetError(f"the image folder {location!r} has {content}", remedy=_LAYOUT)
    return Dataset(f"imagefolder:{location}", classes_of(sample.label for sample in samples), tuple(samples))
