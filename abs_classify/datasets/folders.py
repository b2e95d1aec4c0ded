"""Folders of images: one with a sub-folder for each class (``imagefolder:DIR``), and what every folder needs.

Folders and annotation files come from untrusted sources: they are listed in a fixed order, limited in size, and paths
stay inside. Files that are fetched go into a folder that names their source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from abs_classify.datasets.base import Dataset, Sample, class_id, classes_of
from abs_classify.image_formats import IMAGE_EXTENSIONS
from abs_core.errors import DatasetError, DownloadError, UsageError
from abs_core.files import atomic_write
from abs_core.http import download

__all__ = [
    "MAX_ANNOTATION_BYTES",
    "claim",
    "fetch",
    "images_below",
    "inside",
    "is_image",
    "list_folder",
    "open_imagefolder",
    "read_lines",
]

# names the source of the files beside it
_MARKER = ".fetched-from"


def claim(folder: Path, source: str) -> bool:
    """Mark a folder as a copy of one source, so that files of two sources never mix.

    Returns:
        Whether it was marked before.

    Raises:
        UsageError: the folder contains other files, or a copy of another source.
        StorageError: it cannot be written.
    """
    marker = folder / _MARKER
    if marker.is_file():
        marked = marker.read_text(encoding="utf-8").strip()
        if marked != source:
            raise UsageError(
                f"the folder {str(folder)!r} is a copy of {marked}", remedy="Name another folder with ?to=DIR"
            )
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the folder {str(folder)!r} must be new or empty", remedy="Name another folder with ?to=DIR")
    with atomic_write(marker) as stream:
        stream.write(source.encode())
    return False


def fetch(url: str, target: Path, limit: int, optional: bool = False) -> bool:
    """Download a file, unless it exists.

    Args:
        url: an address that passed ``validate_url``.
        target: the file to write.
        limit: its maximum size in bytes.
        optional: whether the server may not have it.

    Returns:
        Whether the file exists now.

    Raises:
        DatasetError: the server does not send it, or it is too large.
        StorageError: it cannot be written.
    """
    try:
        download(url, target, max_bytes=limit)
    except DownloadError as error:
        if optional and error.status in (403, 404):
            return False
        is_answer = error.status is not None and error.status >= 400
        problem = f"the server answered {error.status}" if is_answer else error.reason
        raise DatasetError(f"cannot fetch {url}: {problem}", remedy=error.remedy) from error
    return True


#: The largest annotation file that is read; the largest published one has 10 MB.
MAX_ANNOTATION_BYTES = 1 << 28


def is_image(name: str) -> bool:
    """Whether a file name has the extension of an image."""
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot) and f".{extension.lower()}" in IMAGE_EXTENSIONS


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the sub-folders and of the files in a folder, both sorted, without hidden ones. Follows links.

    Raises:
        DatasetError: the folder cannot be read.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(
            f"cannot read the folder {str(folder)!r}: {reason}", remedy="Check its permissions"
        ) from error
    return sorted(folders), sorted(files)


def images_below(folder: Path) -> Iterator[Path]:
    """The images in a folder at any depth, in the order of their names. Follows links; a loop of links ends.

    Raises:
        DatasetError: a folder cannot be read.
    """
    return _images_below(folder, frozenset())


def _images_below(folder: Path, parents: frozenset[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    folders, files = list_folder(folder)
    is_folder = set(folders)
    for name in sorted((*folders, *filter(is_image, files))):
        if name in is_folder:
            yield from _images_below(folder / name, parents | {identity})
        else:
            yield folder / name


def inside(folder: Path, relative: str, where: str) -> Path:
    """A path from an annotation file, joined to the folder that it is relative to.

    Args:
        folder: the folder.
        relative: the path.
        where: how an error begins: "line 3 of 'list.txt'".

    Raises:
        DatasetError: the path is absolute or leads outside the folder.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\\" in relative or "\0" in relative:
        raise DatasetError(
            f"{where}: the path must lie inside {str(folder)!r}, got {relative!r}",
            remedy="Do not use this file; fetch the official one",
        )
    return folder.joinpath(*parts)


def read_lines(path: Path, comment: str = "\n") -> Iterator[tuple[int, str]]:
    """Number and text of each line of an annotation file that is neither blank nor a comment.

    Args:
        path: the file.
        comment: the prefix of comments; by default there are none, since a class may be called ``#``.

    Raises:
        DatasetError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise DatasetError(
                f"the annotation file {str(path)!r} is larger than {MAX_ANNOTATION_BYTES >> 20} MB",
                remedy="Fetch the official file again",
            )
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                text = line.strip()
                if text and not text.startswith(comment):
                    yield number, text
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(path)!r}: {reason}", remedy="Check its permissions") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{str(path)!r} is not a text file in UTF-8", remedy="Fetch the official file again"
        ) from error


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
