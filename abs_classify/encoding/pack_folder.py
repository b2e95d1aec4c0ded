"""The packs of one space in a folder of this machine, or of one that it mounts."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

import numpy as np

from abs_classify.encoding.pack_index import IndexedPack
from abs_classify.encoding.packs import (
    PACK_SUFFIX,
    DamagedPackError,
    PackHeader,
    read_entries,
    read_header,
    unreadable_pack,
)

__all__ = ["FolderPacks", "open_pack"]

# nanoseconds for which the time of a folder does not tell whether it changed once more
_RACE = 3_000_000_000


class FolderPacks:
    """The packs in a folder.

    Args:
        folder: it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = -1

    def listing(
        self,
        known: Mapping[str, tuple[int, int]],  # noqa: ARG002 - a folder is listed as a whole
        *,
        force: bool,
    ) -> dict[str, tuple[int, int]] | None:
        """Size and time of modification of every pack; None if the folder did not change.

        Raises:
            CacheError: the folder may not be listed.
        """
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            changed = 0
        if changed == self._changed and not force:
            return None
        present = {name: (size, modified) for name, size, modified in _list_packs(self._folder)}
        # within the resolution of its time a folder may change again
        self._changed = changed if abs(time.time_ns() - changed) > _RACE else -1
        return present

    def tables(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[PackHeader, np.ndarray] | None]]:
        """Header and entries of packs; None for what is not to be believed; what is gone is left out.

        Raises:
            CacheError: a pack may not be read.
        """
        for name in names:
            try:
                with (self._folder / name).open("rb") as stream:
                    header = read_header(stream)
                    yield name, (header, read_entries(stream, header))
            except FileNotFoundError:  # removed since it was listed
                continue
            except PermissionError as error:
                raise unreadable_pack(self._folder / name) from error
            except (DamagedPackError, OSError):
                yield name, None

    def stamp(self, name: str, header: PackHeader) -> tuple[int, int] | None:  # noqa: ARG002 - the file says it
        """Size and time of modification of a pack; None if it is gone."""
        with suppress(OSError):
            status = (self._folder / name).stat()
            return status.st_size, status.st_mtime_ns
        return None

    def open_each(self, wanted: Sequence[tuple[IndexedPack, np.ndarray]]) -> Iterator[BufferedReader | None]:
        """Each pack for reading, one after the other; None for one that is gone.

        Args:
            wanted: packs, and the entries that will be read of them.

        Raises:
            CacheError: a pack may not be read.
        """
        for pack, _ in wanted:
            try:
                stream = open_pack(self._folder / pack.name)
            except FileNotFoundError:
                yield None
                continue
            with stream:
                yield stream


def open_pack(path: Path) -> BufferedReader:
    """A pack for reading.

    Raises:
        FileNotFoundError: it is gone, or is no file any more.
        CacheError: it may not be read.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError
        return path.open("rb")
    except PermissionError as error:
        raise unreadable_pack(path) from error


def _list_packs(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of modification of every file in a folder that has the name of a pack.

    Raises:
        CacheError: the folder may not be listed.
    """
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except PermissionError as error:
        raise unreadable_pack(folder) from error
    except OSError:  # there is none, or something else is in its place
        return
    for entry in entries:
        if entry.name.endswith(PACK_SUFFIX) and not entry.name.startswith("."):
            with suppress(OSError):
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield entry.name, status.st_size, status.st_mtime_ns
