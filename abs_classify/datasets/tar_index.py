"""Where the members of a tar file lie, found without extracting anything; hostile archives are refused.

An own index rather than the webdataset package: items are read in any order, twice, and from several processes, which
needs offsets; and nothing here can run a command, follow a link, write a file or open a pickle, whatever a member's
name says. It is what that package allows with ``WDS_SECURE=1``, always.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from abs_classify.datasets.base import read_bytes
from abs_core.errors import DatasetError

__all__ = ["Member", "tar_members"]

# Headers are read whole: 512 bytes each, and long names. Contents are skipped.
_MAX_HEADER = 1 << 20
_REMEDY = "Fetch the shard again from a source that you trust"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file inside a tar file, which is a ``Source`` of an item.

    Args:
        path: the tar file.
        member: its name in there.
        offset: where its bytes begin.
        size: how many they are.
    """

    path: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Its name in the tar file."""
        return self.member

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            ImageError: the tar file cannot be read, or is shorter than it was.
        """
        return read_bytes(self.path, f"{self.path}::{self.member}", self.offset, self.size)


def tar_members(path: Path) -> Iterator[Member]:
    """The regular files of an uncompressed tar file, in its order. Folders are left out.

    Raises:
        DatasetError: it is no such file, is cut off, or holds a link, a device, a sparse file, a path that leads
            outside or a header that is too large.
    """
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=_headers(stream), mode="r:") as archive:
            for info in archive:
                if info.isdir():
                    continue
                parts = PurePosixPath(info.name).parts
                if not info.isreg() or info.issparse() or info.name.startswith("/") or ".." in parts:
                    raise DatasetError(
                        f"{str(path)!r} holds {info.name[:80]!r}, which is no plain file inside it", remedy=_REMEDY
                    )
                yield Member(path, info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise DatasetError(
            f"{str(path)!r} is no uncompressed tar file, or is cut off: {error}",
            remedy="Fetch the shard again; unpack it first if its name ends in .gz",
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the shard {str(path)!r}: {reason}", remedy="Check the path") from error


def _headers(stream: BinaryIO) -> IO[bytes]:
    return cast("IO[bytes]", _Headers(stream))


class _Headers:
    """A file of which only short pieces may be read, so that a header cannot claim gigabytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._stream.read(size)
