"""Files on their way into a store that several processes share."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from abs_core.errors import BundleError
from abs_core.files import atomic_write, sha256_file, storage_errors
from abs_core.printable import printable

__all__ = ["copy_checked"]

_CHUNK = 1024 * 1024


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
