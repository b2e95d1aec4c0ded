"""The images in folders of any size, in the order of their names, without keeping the names.

A million names are a hundred megabytes of Python strings. Here the names of a folder are sorted in runs, each a few
joined blocks of bytes, which are merged as they are asked for. Paths are bytes: names need not be text.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from abs_classify.datasets.folders import (
    BY_CONTENT,
    FILE,
    FOLDER,
    LISTED_ALREADY,
    OF_A_SYSTEM,
    entry_kind,
    is_image,
    read_format,
    special_kind,
    unused_kind,
)
from abs_classify.labelling.locations import ListedImage
from abs_core.class_names import is_system_folder
from abs_core.remarks import RemarkCounter
from abs_core.text import valid_unicode

__all__ = ["FolderWalk", "stamp_of"]

# names that are sorted at a time, and those that are joined
_RUN, _BLOCK = 1 << 15, 512

# behind the name of a folder; no name has it
_IS_FOLDER = b"\0"


def stamp_of(status: os.stat_result) -> str:
    """What changes with a file: its size, and when its content and its entry were changed."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


class FolderWalk:
    """Lists images in folders, each folder once.

    What has the name of an image is one; of other files the first bytes decide. Links to files are files. A link to a
    folder is followed when all other folders are done (``linked``), so what is listed under its own name keeps that
    name; a loop of links ends, since no folder is listed twice.

    Args:
        remarks: counts what is left out.
        exclude: folders that are not entered.
    """

    def __init__(self, remarks: RemarkCounter, exclude: Sequence[Path] = ()) -> None:
        self.remarks = remarks
        self._excluded = {identity for path in exclude if (identity := _identity(os.fsencode(path))) is not None}
        # by device, since most are on one, and a set of numbers takes half of what one of pairs does
        self._listed: dict[int, set[int]] = {}
        self._links: list[tuple[bytes, bytes]] = []

    def images(self, folder: bytes, shown: bytes) -> Iterator[ListedImage]:
        """The images in a folder, at any depth, in the order of their names.

        Args:
            folder: its absolute path.
            shown: its path as the user gave it.
        """
        # a stack, because folders may be nested deeper than calls
        open_folders = [self._entries(folder, shown)]
        while open_folders:
            entry = next(open_folders[-1], None)
            if entry is None:
                open_folders.pop()
            elif isinstance(entry, ListedImage):
                yield entry
            else:
                open_folders.append(self._entries(*entry))

    def linked(self) -> Iterator[ListedImage]:
        """The images in folders that only links lead to."""
        while self._links:
            links, self._links = self._links, []
            for folder, shown in links:
                yield from self.images(folder, shown)

    def count(self, folder: bytes) -> int:
        """How many files in a folder have names of images; neither links to folders nor contents are looked at."""
        total, waiting = 0, [folder]
        while waiting:
            place = waiting.pop()
            if _identity(place) in self._excluded:
                continue
            with suppress(OSError), os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    if not entry.is_dir(follow_symlinks=False):
                        total += is_image(_text(entry.name))
                    elif not is_system_folder(_text(entry.name)):
                        waiting.append(entry.path)
        return total

    def _entries(self, folder: bytes, shown: bytes) -> Iterator[ListedImage | tuple[bytes, bytes]]:
        """The images in a folder itself, and the absolute and the shown paths of its sub-folders."""
        if not self._enter(folder, shown):
            return
        start, shown_start = os.path.join(folder, b""), os.path.join(shown, b"")  # noqa: PTH118
        prefix = _text(shown_start)
        for entry in _merged(self._names(folder, shown)):
            if entry.endswith(_IS_FOLDER):
                name = entry[:-1]
                yield start + name, shown_start + name
            elif (image := self._image(entry, start, prefix)) is not None:
                yield image

    def _enter(self, folder: bytes, shown: bytes) -> bool:
        """Whether a folder is to be listed: for the first time, and not one that is excluded."""
        identity = _identity(folder)
        if identity is None:
            return True  # listing it says why
        if identity in self._excluded:
            self._leave_out("the folder of the results", shown)
            return False
        device, number = identity
        listed = self._listed.setdefault(device, set())
        if number in listed:
            self._leave_out(LISTED_ALREADY, shown)
            return False
        listed.add(number)
        return True

    def _names(self, folder: bytes, shown: bytes) -> list[list[bytes]]:
        """The names of the files and sub-folders in a folder, in sorted runs of joined blocks."""
        runs: list[list[bytes]] = []
        names: list[bytes] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if (name := self._kept_name(entry, folder, shown)) is None:
                        continue
                    names.append(name)
                    if len(names) == _RUN:
                        runs.append(_packed(names))
                        names = []
        except OSError as error:
            self._leave_out(f"a folder that cannot be read ({_reason(error)})", shown)
        runs.append(_packed(names))
        return runs

    def _kept_name(self, entry: os.DirEntry[bytes], folder: bytes, shown: bytes) -> bytes | None:
        """The name of a file or, marked, of a folder; None for what is left out, which is counted."""
        name = entry.name
        if name.startswith(b"."):
            self._leave_out(_hidden_kind(entry), shown, name)
            return None
        if entry.is_file(follow_symlinks=False):
            return name
        kind = entry_kind(entry)
        if kind == FILE:
            return name
        if kind != FOLDER:
            self._leave_out(kind, shown, name)
            return None
        if is_system_folder(_text(name)):
            self._leave_out(OF_A_SYSTEM, shown, name)
            return None
        if entry.is_symlink():
            self._links.append((os.path.join(folder, name), os.path.join(shown, name)))  # noqa: PTH118
            return None
        return name + _IS_FOLDER

    def _image(self, name: bytes, start: bytes, prefix: str) -> ListedImage | None:
        """An entry of a folder, if it is an image."""
        path, text = start + name, _text(name)
        problem = ""
        try:
            status = os.stat(path)  # noqa: PTH116
            if not stat.S_ISREG(status.st_mode):
                self.remarks.add(f"left out: {special_kind(status.st_mode)}", prefix + text)
                return None
            if not is_image(text):
                if text.casefold() in _JUNK:
                    self.remarks.add("left out: a file of an operating system", prefix + text)
                    return None
                found = read_format(path)
                if found is None or not found.is_image:
                    self.remarks.add(f"left out: {unused_kind(found)}", prefix + text)
                    return None
                if not found.readable:
                    problem = unused_kind(found)
                else:
                    self.remarks.add(BY_CONTENT, prefix + text)
        except OSError as error:
            self.remarks.add(f"left out: cannot be read ({_reason(error)})", prefix + text)
            return None
        return ListedImage(prefix + text, path, stamp_of(status), problem)

    def _leave_out(self, reason: str, *shown: bytes) -> None:
        self.remarks.add(f"left out: {reason}", _text(os.path.join(*shown)))  # noqa: PTH118


# what systems put into folders
_JUNK = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini"})


def _hidden_kind(entry: os.DirEntry[bytes]) -> str:
    if entry.name.startswith(b"._"):
        return "an AppleDouble file"
    if entry.name in (b".DS_Store", b".localized", b".directory"):
        return "a file of an operating system"
    return "a hidden folder" if entry.is_dir(follow_symlinks=False) else "a hidden file"


def _identity(path: bytes) -> tuple[int, int] | None:
    """Device and number of a folder, behind links; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _text(name: bytes) -> str:
    """A name in valid Unicode."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return valid_unicode(os.fsdecode(name))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _packed(names: list[bytes]) -> list[bytes]:
    names.sort()
    return [b"/".join(names[start : start + _BLOCK]) for start in range(0, len(names), _BLOCK)]


def _merged(runs: list[list[bytes]]) -> Iterator[bytes]:
    if len(runs) == 1:
        return _unpacked(runs[0])
    return heapq.merge(*map(_unpacked, runs))


def _unpacked(blocks: list[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield from block.split(b"/")
