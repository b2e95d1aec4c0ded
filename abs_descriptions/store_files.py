"""The files of a store that several processes share: what is published is whole, and a name is given once."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from abs_core.errors import BundleError
from abs_core.files import atomic_write, sha256_file, storage_errors
from abs_core.printable import printable

__all__ = ["copy_checked", "publish"]

_CHUNK = 1024 * 1024
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def copy_checked(source: Path, target: Path, digest: str) -> int:
    """Copy a file whose bytes have ``digest``, unless the target has them.

    Returns:
        The number of bytes.

    Raises:
        StorageError: a file cannot be read or written.
        BundleError: the source's bytes have another digest.
    """
    with storage_errors(source, "read"), source.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if target.is_file() and sha256_file(target) == digest:
            return size
        seen = hashlib.sha256()
        with atomic_write(target) as out:
            while block := stream.read(_CHUNK):
                seen.update(block)
                out.write(block)
            if "sha256:" + seen.hexdigest() != digest:
                raise BundleError(
                    f"{printable(str(source))} changed while it was copied", remedy="Add it again when it is written"
                )
    return size


def publish(path: Path, data: bytes) -> bool:
    """Let a small file appear under a name that must not exist; False if it does.

    Raises:
        StorageError: the file cannot be written.
    """
    with storage_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            return _link(Path(name), path)
        finally:
            with suppress(OSError):
                Path(name).unlink()


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links (FAT, some network folders): look first, then rename.
        if target.exists():
            return False
        source.replace(target)
    return True
