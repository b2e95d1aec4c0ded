"""A folder that several people or machines see, such as a network share. Needs no package."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path

from abs_core.errors import StorageError
from abs_core.files import publish, storage_errors
from abs_descriptions.bundles.repository import copy_checked
from abs_descriptions.bundles.storage.base import BLOCK, MAX_NAMES, Location, RemoteBlob

__all__ = ["FolderRemote"]


class FolderRemote:
    """A folder as a remote: ``Remote`` says what the methods do. It is created on the first push, its parent is not."""

    def __init__(self, location: Location) -> None:
        self.root = Path(location.path)

    @property
    def address(self) -> str:
        return str(self.root)

    def names(self, folder: str) -> Sequence[str]:
        path = self.root / folder
        with storage_errors(path, "read"):
            if not path.is_dir():
                self._check_there()
                return []
            with os.scandir(path) as entries:
                return [entry.name for entry in islice(entries, MAX_NAMES)]

    def _check_there(self) -> None:
        """A wrong path, or a share that is not mounted, is no place without bundles."""
        if not self.root.is_dir():
            raise StorageError(
                f"cannot read {str(self.root)!r}: no such folder",
                remedy="Check the path, and that the share is mounted",
            )

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        file = self.root / path
        try:
            # Without waiting: a pipe of that name would hold the reader for ever.
            handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(file, error) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StorageError(f"cannot read {str(file)!r}: it is no regular file", remedy="Remove it")
        with os.fdopen(handle, "rb") as stream:
            while True:
                with storage_errors(file, "read"):
                    block = stream.read(BLOCK)
                if not block:
                    return
                yield block

    def check_writable(self) -> None:
        with storage_errors(self.root, "create"):
            self.root.mkdir(exist_ok=True)

    def publish(self, pieces: Sequence[RemoteBlob], path: str, data: bytes) -> bool:
        for piece in pieces:
            copy_checked(piece.file, self.root / piece.target, piece.digest)
        return publish(self.root / path, data)


def _unreadable(file: Path, error: OSError) -> StorageError:
    reason = (error.strerror or "it cannot be opened").lower()
    return StorageError(f"cannot read {str(file)!r}: {reason}", remedy="Check the path and its permissions")
