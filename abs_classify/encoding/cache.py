"""The cache folder, and what lies in it beside features: what models derived from weights, former caches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from abs_core.errors import CacheError, StorageError
from abs_core.files import ensure_writable

__all__ = [
    "DERIVED",
    "CacheFile",
    "cache_file",
    "derived_files",
    "former_cache",
    "remove_path",
    "require_writable_cache",
]

#: folder, and stage name in listings, of what models unpacked or computed from their weights once
DERIVED = "derived"

# folder of a former version of this toolkit, which kept the results of 32 images together
_FORMER = "v1"


@dataclass(frozen=True)
class CacheFile:
    """A file or folder in the cache folder.

    Args:
        path: of it.
        size: in bytes.
        used: when it was last read or written, in seconds since 1970.
    """

    path: Path
    size: int
    used: float


def cache_file(path: Path) -> CacheFile:
    """A file as it is on the disk.

    Raises:
        OSError: it is gone.
    """
    status = path.stat()
    return CacheFile(path, status.st_size, max(status.st_atime, status.st_mtime))


def require_writable_cache(root: Path) -> None:
    """Prove that the cache folder can be written.

    Raises:
        CacheError: it cannot; names it and the option that moves it.
    """
    try:
        ensure_writable(root)
    except StorageError as error:
        raise CacheError(
            f"the cache folder cannot be used: {error.message}",
            remedy="Free or unlock it, or name another one with --cache DIR or ABS_CACHE",
        ) from error


def derived_files(root: Path) -> Iterator[CacheFile]:
    """What models unpacked or computed from their weights once: files and folders below the cache folder."""
    # hidden is what a process is writing just now, or was when it was killed
    for path in sorted((root / DERIVED).glob("[!.]*")):
        with suppress(FileNotFoundError):
            files = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
            used = max((max(status.st_atime, status.st_mtime) for status in files), default=0.0)
            yield CacheFile(path, sum(status.st_size for status in files), used)


def former_cache(root: Path) -> CacheFile | None:
    """The folder in which a former version of this toolkit kept results; nothing reads it any more."""
    folder = root / _FORMER
    if not folder.is_dir() or folder.is_symlink():
        return None
    size, used = 0, 0.0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = Path(parent, name).lstat()
                size, used = size + status.st_size, max(used, status.st_atime, status.st_mtime)
    return CacheFile(folder, size, used)


def remove_path(path: Path) -> bool:
    """Remove a file or folder; whether it is gone."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return True
    return False
