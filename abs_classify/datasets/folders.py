"""Folders: what they contain, which of it are images, and where files that are fetched go.

Folders and annotation files come from untrusted sources: they are listed in a fixed order, limited in size, and paths
stay inside. Files that are fetched go into a folder that names their source.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from abs_classify.image_formats import HEAD_BYTES, IMAGE_EXTENSIONS, FileFormat, file_format
from abs_core.class_names import is_system_folder
from abs_core.errors import DatasetError, DownloadError, UsageError
from abs_core.files import atomic_write, open_regular
from abs_core.http import download
from abs_core.remarks import RemarkCounter
from abs_core.text import quoted

__all__ = [
    "BY_CONTENT",
    "FILE",
    "FOLDER",
    "LISTED_ALREADY",
    "MAX_ANNOTATION_BYTES",
    "OF_A_SYSTEM",
    "ImageListing",
    "claim",
    "entry_kind",
    "fetch",
    "inside",
    "is_image",
    "list_folder",
    "read_format",
    "read_lines",
    "special_kind",
    "unused_kind",
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

    What is neither, such as a pipe, a device or a broken link, is left out.

    Raises:
        DatasetError: the folder cannot be read.
    """
    return ImageListing(folder).names(folder)


class ImageListing:
    """Lists folders and counts what it leaves out, with the reason.

    Args:
        root: what examples are named relative to.
        used: names of files that are no images and are not left out either.
    """

    def __init__(self, root: Path, used: Collection[str] = ()) -> None:
        self.root, self._used = root, used
        self.remarks = RemarkCounter()

    def leave_out(self, reason: str, path: Path) -> None:
        """Count a file or folder that is not used."""
        self.remarks.add(f"left out: {reason}", self._shown(path))

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        """As ``list_folder``."""
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    kind = entry_kind(entry)
                    if entry.name.startswith("."):
                        self._hidden(entry, kind)
                    elif kind in (FOLDER, FILE):
                        (folders if kind == FOLDER else files).append(entry.name)
                    else:
                        self.leave_out(kind, Path(entry.path))
        except OSError as error:
            raise _unreadable(folder, error) from error
        return sorted(folders), sorted(files)

    def images(self, folder: Path) -> Iterator[Path]:
        """The images in a folder, as ``images_with_folders``."""
        return (path for _, path in self.images_with_folders(folder))

    def images_with_folders(self, folder: Path) -> Iterator[tuple[Path, Path]]:
        """The images in a folder at any depth with the folders that they are in, in the order of their names.

        A file is an image if its name says so; else its first bytes decide. Links are followed, but a folder is listed
        once, so loops of links end. Folders of operating systems are left out.

        Raises:
            DatasetError: a folder cannot be read.
        """
        listed: set[tuple[int, int]] = set()
        # a stack, because folders may be nested deeper than calls
        waiting = [(folder.parent, folder.name, True)]
        while waiting:
            parent, name, is_folder = waiting.pop()
            path = parent / name
            if not is_folder:
                if is_image(name) or self._is_image_inside(path):
                    yield parent, path
                continue
            try:
                status = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from error
            if (status.st_dev, status.st_ino) in listed:
                self.leave_out(LISTED_ALREADY, path)
                continue
            listed.add((status.st_dev, status.st_ino))
            folders, files = self.names(path)
            kinds = dict.fromkeys(files, False) | dict.fromkeys(self.without_system_folders(path, folders), True)
            waiting += ((path, name, kinds[name]) for name in sorted(kinds, reverse=True))

    def without_system_folders(self, folder: Path, names: Iterable[str]) -> list[str]:
        """The names of sub-folders that a user has made."""
        result = []
        for name in names:
            if is_system_folder(name):
                self.leave_out(OF_A_SYSTEM, folder / name)
            else:
                result.append(name)
        return result

    def _hidden(self, entry: os.DirEntry[str], kind: str) -> None:
        # macOS writes ._a.jpg beside a.jpg, which is no image
        if kind == FOLDER or (is_image(entry.name) and not entry.name.startswith("._")):
            self.leave_out(f"a hidden {'folder' if kind == FOLDER else 'file'}", Path(entry.path))

    def _is_image_inside(self, path: Path) -> bool:
        try:
            found = read_format(path)
        except OSError as error:
            self.leave_out(f"cannot be read ({(error.strerror or str(error)).lower()})", path)
            return False
        if found is not None and found.readable:
            self.remarks.add(BY_CONTENT, self._shown(path))
            return True
        if path.name not in self._used:
            self.leave_out(unused_kind(found), path)
        return False

    def _shown(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _unreadable(folder: Path, error: OSError) -> DatasetError:
    reason = (error.strerror or str(error)).lower()
    return DatasetError(f"cannot read the folder {quoted(str(folder), 300)}: {reason}", remedy="Check its permissions")


def read_format(path: str | bytes | Path) -> FileFormat | None:
    """The format of a regular file by its first bytes; None if it is none that is known.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as stream:
        return file_format(stream.read(HEAD_BYTES))


def unused_kind(found: FileFormat | None) -> str:
    """Why a file of a format that is not read is left out, for remarks."""
    if found is None:
        return "not an image"
    return (
        f"{found.name}, which is not read; convert it to JPEG or PNG"
        if found.is_image
        else f"not an image but {found.name}"
    )


#: Remarks on what listing folders leaves out or guesses.
BY_CONTENT = "recognized as an image by its content, not by its name"
LISTED_ALREADY = "a link to a folder that is listed already"
OF_A_SYSTEM = "a folder of an operating system or program"

#: What ``entry_kind`` says of folders and regular files.
FOLDER, FILE = "folder", "file"
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def entry_kind(entry: os.DirEntry[str] | os.DirEntry[bytes]) -> str:
    """``FOLDER`` or ``FILE``, behind links; else what an entry of a folder is, or why that cannot be found out."""
    try:
        if entry.is_dir():
            return FOLDER
        if entry.is_file():
            return FILE
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return "a broken link"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link to itself"
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    return special_kind(mode)


def special_kind(mode: int) -> str:
    """What a file is that is neither a folder nor a regular file, by the mode that ``os.stat`` gives."""
    return next((name for matches, name in _KINDS if matches(mode)), "not a regular file")


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
