"""A folder: the local store of one user, or one that several people or machines see, such as a network share.

Files appear under their names whole or not at all. A manifest is published by linking a finished file to a name that
must not exist, so of two processes exactly one creates it. What is written takes the group and the permissions of the
folder itself, as in a git repository that a group shares: else only the first to push a bundle could push its next
version.
"""

from __future__ import annotations

import hashlib
import os
import stat
import uuid
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from abs_core.errors import BundleError, StorageError
from abs_core.files import atomic_write, publish, sha256_file, storage_errors
from abs_core.permissions import create_folder
from abs_core.text import printable
from abs_descriptions.bundles.storage.base import BLOCK, MAX_NAMES, Blob, EditableStorage, ListedFile

__all__ = ["FolderStorage"]


class FolderStorage(EditableStorage):
    """A folder as a storage.

    Args:
        path: of the folder.
        shared: False for the local store, which is empty until it is written and then created with its parents. A
            shared folder has to be there, or its parent where it is pushed to, so that a share that is not mounted is
            noticed.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.address = str(path)
        self.root = None if shared else path
        self._path = path

    def names(self, folder: str) -> Sequence[str]:
        path = self._path / folder
        with storage_errors(path, "read"):
            if not path.is_dir():
                if self.root is None:
                    self._require_folder()
                return []
            with os.scandir(path) as entries:
                return [entry.name for entry in islice(entries, MAX_NAMES)]

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        file = self._path / path
        try:
            # Without waiting: a pipe of that name would hold the reader for ever.
            handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = (error.strerror or "it cannot be opened").lower()
            raise StorageError(
                f"cannot read {str(file)!r}: {reason}", remedy="Check the path and its permissions"
            ) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StorageError(f"cannot read {str(file)!r}: it is not a regular file", remedy="Remove it")
        with os.fdopen(handle, "rb") as stream:
            while True:
                with storage_errors(file, "read"):
                    block = stream.read(BLOCK)
                if not block:
                    return
                yield block

    def check_writable(self) -> None:
        if self.root is None:
            with storage_errors(self._path, "create"):
                self._path.parent.stat()  # a share that is not mounted is not created
                create_folder(self._path)

    def publish(self, blobs: Sequence[Blob], path: str, data: bytes) -> bool:
        created = False
        while True:
            for blob in blobs:
                _copy(blob, self._path / blob.path, self._path)
            created = publish(self._path / path, data, rights_of=self._path) or created
            # Else somebody removed the version between the two: see ``remove``.
            if all((self._path / blob.path).is_file() for blob in blobs):
                return created

    def replace(self, path: str, data: bytes) -> None:
        with atomic_write(self._path / path, rights_of=self._path) as stream:
            stream.write(data)

    def remove(self, path: str, blob_paths: Sequence[str] = ()) -> bool:
        file, existed = self._path / path, True
        with storage_errors(file, "remove"):
            try:
                file.unlink()
            except FileNotFoundError:
                existed = False
        for blob in (self._path / blob_path for blob_path in blob_paths):
            # Moved away first: whoever publishes the version again in this instant either finds the bytes gone and
            # writes them again, or has published its manifest, which is seen here.
            moved = blob.with_name(f".{blob.name}.{uuid.uuid4().hex}.part")
            with storage_errors(blob, "remove"), suppress(FileNotFoundError):
                blob.replace(moved)
                if file.exists():
                    moved.replace(blob)
                else:
                    moved.unlink()
        return existed

    def files(self, folder: str) -> Sequence[ListedFile]:
        if self.root is None:
            self._require_folder()

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        files: list[ListedFile] = []
        place = self._path / folder
        with storage_errors(self._path, "read"):
            # a killed process may have left a file as well as a folder
            alone: list[tuple[str, list[str], list[str]]] = [(str(place.parent), [], [place.name])]
            for parent, _, names in alone if place.is_file() else os.walk(place, onerror=refuse):
                for name in names:
                    path = Path(parent, name)
                    with suppress(FileNotFoundError):
                        status = path.lstat()
                        relative = path.relative_to(self._path).as_posix()
                        files.append(ListedFile(relative, status.st_size, status.st_mtime))
        return files

    def restore(self, blobs: Sequence[Blob]) -> None:
        for blob in blobs:
            _copy(blob, self._path / blob.path, self._path)

    def delete(self, files: Sequence[ListedFile]) -> Sequence[ListedFile]:
        """As for every storage: a push that needs a file writes it or makes it young, and looks afterwards."""
        return [file for file in files if self._delete(file)]

    def _delete(self, file: ListedFile) -> bool:
        path = self._path / file.path
        # Moved away first: then a push finds it gone and writes it again, or has made it young, which is seen here.
        moved = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex}.part")
        with storage_errors(path, "remove"):
            try:
                path.replace(moved)
            except FileNotFoundError:
                return False
            if moved.lstat().st_mtime != file.modified:
                moved.replace(path)
                return False
            moved.unlink()
        folder = path.parent
        while folder != self._path and folder.name.startswith("."):  # of a pull that was killed
            with suppress(OSError):
                folder.rmdir()
            folder = folder.parent
        return True

    def _require_folder(self) -> None:
        if not self._path.is_dir():
            raise StorageError(
                f"cannot read {self.address!r}: no such folder",
                remedy="Check the path, and that the share is mounted",
            )


def _copy(blob: Blob, target: Path, root: Path) -> None:
    """Copy a file with the permissions of a folder, unless the target has its bytes already.

    Raises:
        StorageError: a file cannot be read or written.
        BundleError: the file's bytes have another digest.
    """
    with storage_errors(blob.file, "read"), blob.file.open("rb") as stream:
        if _is_kept(target, blob.digest):
            return
        copied = hashlib.sha256()
        with atomic_write(target, rights_of=root) as out:
            while block := stream.read(BLOCK):
                copied.update(block)
                out.write(block)
            if "sha256:" + copied.hexdigest() != blob.digest:
                raise BundleError(
                    f"{printable(str(blob.file))} changed while it was copied",
                    remedy="Add it again when it has been written",
                )


def _is_kept(target: Path, digest: str) -> bool:
    """Whether a file has these bytes; it is as young as a new one then, so that no collection of garbage takes it."""
    try:
        if sha256_file(target) != digest:
            return False
        os.utime(target)
    except (OSError, StorageError):
        return False
    return True
