"""Folders and annotation files as strangers made them: listed in a fixed order, bounded, and never followed outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from abs_core.errors import DatasetError

__all__ = ["EXTENSIONS", "MAX_ANNOTATION_BYTES", "images_below", "inside", "is_image", "list_folder", "read_lines"]


#: What an image file's name may end with, in lower case: the formats that ``abs_classify.images`` opens.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".mpo"}
)


#: An annotation file may be so large; the largest published one that is read here has 10 MB.
MAX_ANNOTATION_BYTES = 1 << 28


def is_image(name: str) -> bool:
    """Whether a file's name ends as an image's does."""
    stem, dot, ending = name.rpartition(".")
    return bool(stem and dot) and f".{ending.lower()}" in EXTENSIONS


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """The names of a folder's sub-folders and of its files, both sorted, without hidden ones. Links are followed.

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


def images_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """The images of a folder tree, in the order of their names.

    Args:
        folder: where to begin.
        above: identifies the folders it lies in, so that a link to one of them ends there.

    Raises:
        DatasetError: a folder cannot be read.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    folders, files = list_folder(folder)
    inner = set(folders)
    for name in sorted((*folders, *filter(is_image, files))):
        if name in inner:
            yield from images_below(folder / name, above | {here})
        else:
            yield folder / name


def inside(folder: Path, relative: str, place: str) -> Path:
    """A path that an annotation file gives, under the folder that it is relative to.

    Raises:
        DatasetError: it is absolute or leads outside.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\\" in relative or "\0" in relative:
        raise DatasetError(
            f"{place} names the file {relative!r}, which is not inside {str(folder)!r}",
            remedy="Do not use this file; fetch the official one",
        )
    return folder.joinpath(*parts)


def read_lines(path: Path, comment: str = "\n") -> Iterator[tuple[int, str]]:
    """Number and text of each line of an annotation file that is neither empty nor a comment.

    Args:
        path: the file.
        comment: what comments begin with; by default there are none, since a class may be called ``#``.

    Raises:
        DatasetError: the file cannot be read, is too large, or is not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise DatasetError(
                f"the annotation file {str(path)!r} has more than {MAX_ANNOTATION_BYTES >> 20} MB",
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
        raise DatasetError(f"{str(path)!r} is no text file", remedy="Fetch the official file again") from error
