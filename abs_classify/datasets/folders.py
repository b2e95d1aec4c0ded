"""Folders and annotation files from untrusted sources: listed in a fixed order, limited in size, paths inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from abs_core.errors import DatasetError

__all__ = ["EXTENSIONS", "MAX_ANNOTATION_BYTES", "images_below", "inside", "is_image", "list_folder", "read_lines"]


#: The file name extensions of images, in lower case: of the formats that ``abs_classify.images`` opens.
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".mpo"}
)


#: The largest annotation file that is read; the largest published one has 10 MB.
MAX_ANNOTATION_BYTES = 1 << 28


def is_image(name: str) -> bool:
    """Whether a file name has the extension of an image."""
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot) and f".{extension.lower()}" in EXTENSIONS


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
