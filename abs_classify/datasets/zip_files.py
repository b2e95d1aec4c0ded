"""The files in a zip file: where each starts and what it unpacks to, read from the central directory alone.

``zipfile`` keeps half a kilobyte for each of what may be millions of members; here a member is forgotten when it was
yielded, and found again by its offset. What a member unpacks to is bounded, and so are all together: members that
overlap, by which a few kilobytes can claim terabytes, are refused.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from abs_classify.image_formats import HEAD_BYTES
from abs_core.errors import DatasetError, ImageError
from abs_core.files import open_regular

__all__ = ["ZipMember", "zip_members"]

#: How the parts of a zip file begin: the local header of a member, an entry of the directory, and the ends.
_LOCAL, _ENTRY, _END, _END64, _LOCATOR64 = (
    b"PK\3\4",
    b"PK\1\2",
    b"PK\5\6",
    b"PK\6\6",
    b"PK\6\7",
)
_LOCAL_HEADER = struct.Struct("<4s22xHH")
# flags, method, checksum, packed size, size, lengths of name, extra and comment, attributes, offset
_DIRECTORY_ENTRY = struct.Struct("<4s4xHH4xIIIHHH4xII")
_DIRECTORY_END = struct.Struct("<4s6xHII")
_DIRECTORY_END64 = struct.Struct("<4s20x8xQQQ")
_LOCATOR = struct.Struct("<4s4xQ4x")
_LARGE = 0xFFFFFFFF
_ZIP64 = 1

_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 1, 1 << 11

# bytes: of the end of a file with its comment, of a member, and of one that shrinks as no image does
_MAX_END = 22 + 0xFFFF
_MAX_IMAGE = 1 << 28
_MIN_BOMB, _MAX_RATIO = 1 << 26, 200

_FETCH = "Fetch the archive again, or unpack it and name the folder"


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file inside a zip file; the ``ByteSource`` of a sample.

    Args:
        path: the zip file.
        member: the name of the file inside.
        offset: where its local header starts, in bytes.
        packed: its size in the zip file, in bytes.
        size: its size, in bytes.
        checksum: the CRC-32 of its content.
        method: how it is compressed, as the format numbers it.
        problem: why it is not read; empty if it is.
    """

    path: Path
    member: str
    offset: int
    packed: int
    size: int
    checksum: int
    method: int
    problem: str = ""

    @property
    def name(self) -> str:
        """Its name inside the zip file."""
        return self.member

    def read(self) -> bytes:
        """Its content.

        Raises:
            ImageError: it is refused or damaged, or the zip file cannot be read or has changed.
        """
        if self.problem:
            raise self._error(self.problem)
        try:
            with open_regular(self.path) as stream:
                data = self._content(stream, self.size)
        except (OSError, ValueError) as error:
            raise self._error(f"cannot be read: {getattr(error, 'strerror', None) or error}".lower()) from error
        if len(data) != self.size or zlib.crc32(data) != self.checksum:
            raise self._error("is damaged, or the archive has changed")
        return data

    def head(self, stream: BinaryIO) -> bytes:
        """Its first bytes, enough to know its format; empty if it cannot be read.

        Args:
            stream: the zip file.
        """
        try:
            return b"" if self.problem else self._content(stream, min(self.size, HEAD_BYTES))
        except (OSError, ValueError):
            return b""

    def _content(self, stream: BinaryIO, limit: int) -> bytes:
        """The first ``limit`` bytes of it; fewer if there are no more.

        Raises:
            ValueError: it is damaged.
        """
        stream.seek(self.offset)
        header = stream.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL):
            raise ValueError("there is no member at its place")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        stream.seek(name + extra, 1)
        # a head is unpacked from little more than its own size
        packed = stream.read(self.packed if limit == self.size else min(self.packed, 2 * limit + 1024))
        if self.method == _STORED:
            return packed[:limit]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, max(1, limit))
        except zlib.error as error:
            raise ValueError(str(error)) from error

    def _error(self, problem: str) -> ImageError:
        return ImageError(f"the image {f'{self.path}::{self.member}'!r} {problem}", remedy=_FETCH)


def zip_members(path: Path) -> Iterator[ZipMember]:
    """The files in a zip file, in the order of its directory, with what is refused among them. Folders are ignored.

    Names that are not marked as UTF-8 and are no UTF-8 are read as code page 437.

    Raises:
        DatasetError: it is not a zip file, or its directory is damaged.
    """
    try:
        with open_regular(path) as stream:
            start, size, shift = _directory(path, stream)
            yield from _entries(path, stream, start, size, shift)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read the archive {str(path)!r}: {reason}", remedy="Check the path") from error


def _directory(path: Path, stream: BinaryIO) -> tuple[int, int, int]:
    """Where the directory starts, its size, and by how much all offsets are too small, as behind a program."""
    length = stream.seek(0, 2)
    stream.seek(max(0, length - _MAX_END))
    tail = stream.read(_MAX_END)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise _damaged(path, "is no zip file, or is truncated")
    end = length - len(tail) + at
    _, _, size, start = _DIRECTORY_END.unpack_from(tail, at)
    stream.seek(max(0, end - _LOCATOR.size))
    locator = stream.read(_LOCATOR.size)
    if locator.startswith(_LOCATOR64) and len(locator) == _LOCATOR.size:
        stream.seek(min(_LOCATOR.unpack(locator)[1], length))
        record = stream.read(_DIRECTORY_END64.size)
        if len(record) < _DIRECTORY_END64.size or not record.startswith(_END64):
            raise _damaged(path, "is damaged: its directory is not found")
        _, _, size, start = _DIRECTORY_END64.unpack(record)
        shift = 0
    else:
        shift = end - size - start
    if shift < 0 or start + shift + size > end:
        raise _damaged(path, "is damaged, or one of several parts: its directory is not found")
    return start + shift, size, shift


def _entries(path: Path, stream: BinaryIO, start: int, size: int, shift: int) -> Iterator[ZipMember]:
    position, end, packed_bytes = start, start + size, 0
    stream.seek(start)
    while position < end:
        header = stream.read(_DIRECTORY_ENTRY.size)
        if len(header) < _DIRECTORY_ENTRY.size or not header.startswith(_ENTRY):
            raise _damaged(path, f"is damaged: its directory ends at byte {position}")
        _, flags, method, checksum, packed, length, *lengths, attributes, offset = _DIRECTORY_ENTRY.unpack(header)
        name, extra, _ = (stream.read(length) for length in lengths)
        position += _DIRECTORY_ENTRY.size + sum(lengths)
        length, packed, offset = _large_values(extra, (length, packed, offset))
        text = _decoded(name, flags)
        if text.endswith("/"):
            continue
        packed_bytes += packed
        problem = _problem(text, flags, method, (packed, length), attributes)
        if packed_bytes > start:
            problem = problem or "is refused: the members of the archive overlap, as those of a decompression bomb do"
        yield ZipMember(path, text, offset + shift, packed, length, checksum, method, problem)


def _problem(name: str, flags: int, method: int, sizes: tuple[int, int], attributes: int) -> str:
    """Why a member is not read; empty if it is."""
    packed, size = sizes
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        return "is refused: its name leads outside of the archive"
    if stat.S_ISLNK(attributes >> 16):
        return "is a link"
    if flags & _ENCRYPTED:
        return "is encrypted"
    if method not in (_STORED, _DEFLATED):
        return f"is compressed by method {method}, and only deflate is read"
    if max(size, packed) > _MAX_IMAGE:
        return f"has more than {_MAX_IMAGE >> 20} MB"
    if size > max(_MIN_BOMB, _MAX_RATIO * packed) or (method == _STORED and size != packed):
        return f"is refused: {packed} bytes claim to unpack to {size}, which may be a decompression bomb"
    return ""


def _large_values(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, packed size and offset, of which the large ones are in the extra field."""
    result, position = list(values), 0
    while _LARGE in values and position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == _ZIP64:
            field = extra[position + 4 : position + 4 + length]
            large = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            result = [next(large, value) if value == _LARGE else value for value in values]
            break
        position += 4 + length
    return result[0], result[1], result[2]


def _decoded(name: bytes, flags: int) -> str:
    if flags & _UTF8:
        return name.decode("utf-8", "backslashreplace")
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")


def _damaged(path: Path, problem: str) -> DatasetError:
    return DatasetError(f"the archive {str(path)!r} {problem}", remedy=_FETCH)
