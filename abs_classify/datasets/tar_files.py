"""The regular files in an uncompressed tar file: where each starts and how long it is, read from the headers alone.

The standard library takes a damaged header for the end of the archive and follows whatever a header claims. Here the
headers (ustar, GNU long names, PAX, as ``tarfile`` parses them one by one) must account for every byte of the file:
every member is there in full, and the archive ends in its end-of-archive block with nothing but zeros behind it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from abs_classify.datasets.base import read_bytes
from abs_core.errors import DatasetError
from abs_core.text_files import LFS_POINTER

__all__ = ["Member", "tar_members"]

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)

# bytes of a long name or of PAX records; real ones have a few hundred
_MAX_EXTENSION = 1 << 20
_MAX_NAME = 4096
# extensions before one member: GNU writes a long name and a long link, PAX one block of records and a global one
_MAX_EXTENSIONS = 8
# bytes of zeros behind the end; tar writes 10 kB, a block device or an object store may round up
_MAX_PADDING = 1 << 26

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_GNU_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)

_FETCH = "Delete it and fetch it again"
_UNTRUSTED = "Fetch the shard again from a source that you trust"
_REPACK = "Unpack it and pack its files again with tar"

# How a file begins that is often taken for a tar file, and what to do about it.
_OTHER_FORMATS = (
    (b"\x1f\x8b", "compressed with gzip", "Unpack it with gunzip first"),
    (b"BZh", "compressed with bzip2", "Unpack it with bunzip2 first"),
    (b"\xfd7zXZ", "compressed with xz", "Unpack it with unxz first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard", "Unpack it with unzstd first"),
    (b"PK\x03\x04", "a zip file", "Unpack it and pack its files again with tar"),
    (LFS_POINTER, "a pointer of Git LFS", "Fetch the file that it stands for: git lfs pull"),
    (b"<", "a web page", "Fetch the shard again; the server sent a page in its place"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file inside a tar file; the ``ByteSource`` of a sample.

    Args:
        path: the tar file.
        member: the name of the file inside.
        offset: where it starts, in bytes.
        size: in bytes.
    """

    path: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Its name inside the tar file."""
        return self.member

    def read(self) -> bytes:
        """Its content.

        Raises:
            ImageError: the tar file cannot be read, or has become shorter.
        """
        return read_bytes(self.path, f"{self.path}::{self.member}", self.offset, self.size)


def tar_members(path: Path, left_out: Callable[[str], None] | None = None) -> Iterator[Member]:
    """The regular files in an uncompressed tar file, in its order. Folders are ignored.

    Bytes of a name that are not UTF-8 are written as ``\\xff``. Memory is bounded by 1 MB; time by the number of
    headers, which the size of the file bounds.

    Args:
        path: the tar file.
        left_out: is given the name of each link, device, sparse file and path that leads outside, which is then left
            out; None: there may be none.

    Raises:
        DatasetError: it is not such a file, is damaged, ends early, has something after its end, or contains what may
            not be there or an oversized header.
    """
    if path.exists() and not path.is_file():
        raise DatasetError(f"the shard {str(path)!r} is not a regular file", remedy="Name a .tar file")
    try:
        with path.open("rb") as stream:
            yield from _Archive(path, stream, path.stat().st_size, left_out).members()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the shard {str(path)!r}: {reason}", remedy="Check the path") from error


class _Archive:
    def __init__(self, path: Path, stream: BinaryIO, size: int, left_out: Callable[[str], None] | None) -> None:
        self._path, self._stream, self._size, self._left_out = path, stream, size, left_out

    def members(self) -> Iterator[Member]:
        offset, extensions = 0, 0
        name, records = "", dict[str, str]()
        while header := self._header(offset):
            start = offset + _BLOCK
            size = self._size_of(header, records, offset)
            if header.type in (*_PAX, *_GNU_NAMES):
                extensions += 1
                content = self._extension(start, size, extensions)
                if header.type == tarfile.GNUTYPE_LONGNAME:
                    name = content.partition(b"\0")[0].decode("utf-8", "backslashreplace")
                elif header.type != tarfile.XGLTYPE and header.type in _PAX:
                    records |= self._pax_records(content, offset)
            else:
                member = self._member(records.get("path") or name or header.name, header, records)
                if member is not None:
                    yield Member(self._path, member, start, size)
                extensions, name, records = 0, "", {}
            offset = start + -(-size // _BLOCK) * _BLOCK
        if extensions:
            raise self._problem("ends after the long name of a member", _FETCH)
        self._check_end(offset)

    def _header(self, offset: int) -> tarfile.TarInfo | None:
        """The header at a position; None at the end of the archive."""
        self._stream.seek(offset)
        block = self._stream.read(_BLOCK)
        if block == _ZEROS:
            return None
        if len(block) < _BLOCK:
            raise self._cut_off(offset) if offset else self._foreign(block)
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            if not offset:
                raise self._foreign(block) from error
            raise self._problem(f"is damaged: there is no valid header at byte {offset}", _FETCH) from error

    def _size_of(self, header: tarfile.TarInfo, records: dict[str, str], offset: int) -> int:
        """The size of what follows a header, which is in the file as a whole."""
        is_extension = header.type in (*_PAX, *_GNU_NAMES)
        written = "" if is_extension else records.get("size", "")
        if written and not (written.isascii() and written.isdigit() and len(written) < 20):
            raise self._problem(f"has a member whose size is {written[:40]!r}", _UNTRUSTED)
        size = int(written) if written else header.size
        if header.type in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            return 0
        if size < 0:
            raise self._problem(f"has a member of the size {size}", _UNTRUSTED)
        if is_extension and size > _MAX_EXTENSION:
            raise self._problem(f"is refused: a header is too large ({size} bytes)", _UNTRUSTED)
        if offset + _BLOCK + size > self._size:
            raise self._cut_off(offset)
        return size

    def _extension(self, start: int, size: int, count: int) -> bytes:
        if count > _MAX_EXTENSIONS:
            raise self._problem(f"has a member with more than {_MAX_EXTENSIONS} headers", _UNTRUSTED)
        self._stream.seek(start)
        return self._stream.read(size)

    def _pax_records(self, content: bytes, offset: int) -> dict[str, str]:
        """``LENGTH key=value`` lines, of which the length counts all of its line."""
        records: dict[str, str] = {}
        position = 0
        while position < len(content) and content[position]:
            length, space, _ = content[position : position + 12].partition(b" ")
            end = position + int(length) if length.isdigit() else 0
            line = content[position + len(length) + 1 : max(0, end - 1)]
            key, equals, value = line.partition(b"=")
            if not space or end > len(content) or not equals or content[end - 1 : end] != b"\n":
                raise self._problem(f"is damaged: the PAX records at byte {offset} cannot be read", _FETCH)
            records[key.decode("utf-8", "backslashreplace")] = value.decode("utf-8", "backslashreplace")
            position = end
        return records

    def _member(self, name: str, header: tarfile.TarInfo, records: dict[str, str]) -> str | None:
        """The name of a regular file, None for what is left out."""
        if header.type == tarfile.DIRTYPE or (header.type in _FILES and name.endswith("/")):
            return None
        if len(name) > _MAX_NAME:
            raise self._problem(f"has a member whose name has {len(name)} characters", _UNTRUSTED)
        sparse = any(key.startswith("GNU.sparse") for key in records)
        if header.type not in _FILES or sparse or name.startswith("/") or ".." in PurePosixPath(name).parts:
            if self._left_out is not None:
                self._left_out(name)
                return None
            raise DatasetError(
                f"{str(self._path)!r} may contain regular files only, got {name[:80]!r}", remedy=_UNTRUSTED
            )
        return name

    def _check_end(self, offset: int) -> None:
        """Everything behind the end of the archive is zero."""
        self._stream.seek(offset)
        if self._size - offset > _MAX_PADDING:
            raise self._problem(f"has {self._size - offset} more bytes after its end", _REPACK)
        while block := self._stream.read(1 << 20):
            if block.strip(b"\0"):
                raise self._problem("goes on after its end: other archives may have been appended to it", _REPACK)

    def _cut_off(self, offset: int) -> DatasetError:
        return self._problem(
            f"is truncated: it ends after {self._size} bytes, within or right after the member at byte {offset}"
            if offset < self._size
            else f"is truncated: it ends after {self._size} bytes without the end of an archive",
            _FETCH,
        )

    def _foreign(self, block: bytes) -> DatasetError:
        if not block:
            return self._problem("is empty (0 bytes)", _FETCH)
        for magic, kind, remedy in _OTHER_FORMATS:
            if block.startswith(magic):
                return self._problem(f"is not an uncompressed tar file but {kind}", remedy)
        return self._problem("is not an uncompressed tar file, or its first header is damaged", _FETCH)

    def _problem(self, problem: str, remedy: str) -> DatasetError:
        return DatasetError(f"the shard {str(self._path)!r} {problem}", remedy=remedy)
