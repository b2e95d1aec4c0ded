"""Packs: files of feature rows, in the safetensors format, that are written once and never changed.

A pack holds segments: consecutive rows of one item. Its tensors are ``checksums`` [n, 16], ``ids`` [n, 32], ``starts``
[n], ``counts`` [n] and ``values`` [total, ...], in this order, so that a file that was cut off loses its last rows
only. A checksum covers the id, the place, the type, the shape and the bytes of its segment. Nothing is unpickled, and
nothing that a file says is believed before it was checked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from abs_classify.encoding.spaces import Segment
from abs_core.errors import CacheError
from abs_core.files import atomic_write

__all__ = [
    "ENTRY",
    "LARGEST_SEGMENT",
    "PACK_SUFFIX",
    "DamagedPackError",
    "PackHeader",
    "PackStream",
    "RowForm",
    "item_key",
    "keys_of",
    "make_entries",
    "pack_name",
    "read_entries",
    "read_header",
    "read_segments",
    "segment_checksum",
    "unreadable_pack",
    "write_pack",
    "write_table",
]

PACK_SUFFIX = ".safetensors"

#: a segment as an index holds it: ``row`` is the number of its first row in ``values``, ``pack`` a number of the index
ENTRY = np.dtype(
    [
        ("id", "u1", (32,)),
        ("checksum", "u1", (16,)),
        ("row", "<u8"),
        ("pack", "<u4"),
        ("start", "<u4"),
        ("count", "<u4"),
        ("reserved", "<u4"),
    ]
)

_FORMAT = "1"

# bytes; a header of our own has a few hundred, and the names of the packs that a merged one replaces
_LARGEST_HEADER = 1 << 16
_MOST_SEGMENTS = 1 << 18
_MOST_ROWS = 1 << 31

#: bytes of one segment, which is read as a whole
LARGEST_SEGMENT = 1 << 28

# entries that are Python's numbers at once
_BLOCK = 1 << 13

# of a segment: checksum, id, start, count
_TABLE_BYTES = 64

_CODES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U8": "|u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "|b1",
}  # fmt: skip
_CODE_OF = {dtype: code for code, dtype in _CODES.items()}


class PackStream(Protocol):
    """What the values of a pack are read from."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place, and say which it is."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer as far as the pack goes; how many bytes there were."""
        ...


class DamagedPackError(Exception):
    """A pack that does not say, in a way to be believed, what is in it."""


@dataclass(frozen=True)
class RowForm:
    """Type and shape of the rows of a space.

    Args:
        dtype: as numpy writes it, with its byte order, such as ``<f4``.
        shape: of one row.
    """

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> RowForm:
        """The form of the rows of [n, ...].

        Raises:
            ValueError: a type that packs cannot hold.
        """
        dtype = values.dtype.newbyteorder("<").str
        if dtype not in _CODE_OF:
            raise ValueError(f"the values must be numbers or booleans, got {values.dtype}")
        return cls(dtype, values.shape[1:])

    @cached_property
    def text(self) -> bytes:
        """The form as checksums take it in."""
        return f"{self.dtype} {self.shape}".encode("ascii")

    @cached_property
    def size(self) -> int:
        """The bytes of one row."""
        return int(np.dtype(self.dtype).itemsize) * math.prod(self.shape)


@dataclass(frozen=True)
class PackHeader:
    """What the first bytes of a pack say.

    Args:
        space: the digest of its space.
        segments: how many there are.
        rows: how many there are.
        form: of the rows.
        table: where the table of segments begins in the file, in bytes; the values follow it.
        replaces: the names of the packs that were merged into it.
    """

    space: str
    segments: int
    rows: int
    form: RowForm
    table: int
    replaces: tuple[str, ...] = ()

    @property
    def values(self) -> int:
        """Where the values begin in the file, in bytes."""
        return self.table + _TABLE_BYTES * self.segments

    @property
    def size(self) -> int:
        """The size of the whole file."""
        return self.values + self.rows * self.form.size

    @property
    def is_possible(self) -> bool:
        """Whether its numbers are of a pack that can be read."""
        return (
            0 < self.segments <= self.rows < _MOST_ROWS
            and self.segments <= _MOST_SEGMENTS
            and self.form.dtype in _CODE_OF
            and len(self.form.shape) <= 8
            and all(0 < size <= LARGEST_SEGMENT for size in self.form.shape)
            and self.form.size <= LARGEST_SEGMENT
        )

    def encode(self) -> bytes:
        """The first bytes of the file, to the table; ``table`` is not looked at."""
        n, at = self.segments, 0
        header: dict[str, object] = {
            "__metadata__": {"format": _FORMAT, "space": self.space, "replaces": " ".join(self.replaces)}
        }
        for name, code, shape, size in (
            ("checksums", "U8", [n, 16], 16 * n),
            ("ids", "U8", [n, 32], 32 * n),
            ("starts", "U64", [n], 8 * n),
            ("counts", "U64", [n], 8 * n),
            ("values", _CODE_OF[self.form.dtype], [self.rows, *self.form.shape], self.rows * self.form.size),
        ):
            header[name] = {"dtype": code, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header, separators=(",", ":")).encode("ascii")
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text


def pack_name() -> str:
    """A name that no other pack has; names sort by the time at which they were made."""
    return f"{time.time_ns():016x}-{secrets.token_hex(4)}{PACK_SUFFIX}"


def item_key(item: str) -> bytes:
    """The 32 bytes of ``sha256:`` and 64 hex digits.

    Raises:
        ValueError: it is not such an id.
    """
    key = bytes.fromhex(item.removeprefix("sha256:"))
    if len(key) != 32:
        raise ValueError(f"an id must be 'sha256:' and 64 hex digits, got {item!r}")
    return key


def segment_checksum(key: bytes, start: int, count: int, form: RowForm) -> hashlib._Hash:
    """A hash that has taken in everything of a segment but its values; 16 bytes of its digest are the checksum."""
    return hashlib.sha256(key + struct.pack("<QQ", start, count) + form.text)


def write_pack(folder: Path, space: str, segments: Sequence[Segment]) -> tuple[str, PackHeader, np.ndarray]:
    """Write segments, at least one and all of one form, as a new pack.

    Returns:
        Its name, its header, and its entries with 0 as the number of the pack.

    Raises:
        ValueError: a segment without rows, too large, or with an id or a type that no pack can hold.
        StorageError: a full disk or a read-only folder; nothing half-written stays.
    """
    if not all(len(segment.values) for segment in segments):
        raise ValueError("a segment must have at least one row")
    largest = max(segment.values.nbytes for segment in segments)
    if largest > LARGEST_SEGMENT:
        raise ValueError(f"a segment must have at most {LARGEST_SEGMENT:,} bytes, got {largest:,}")
    form = RowForm.of(segments[0].values)
    rows = sum(len(segment.values) for segment in segments)
    header = PackHeader(space, len(segments), rows, form, 0)
    arrays = [np.ascontiguousarray(segment.values, dtype=form.dtype) for segment in segments]
    keys = [item_key(segment.id) for segment in segments]
    checksums = []
    for key, segment, values in zip(keys, segments, arrays, strict=True):
        check = segment_checksum(key, segment.start, len(values), form)
        check.update(values.data)
        checksums.append(check.digest()[:16])
    entries = make_entries(keys, [segment.start for segment in segments], [len(values) for values in arrays], checksums)
    name = pack_name()
    # what a power cut tears is found by its checksums and computed again; waiting for a busy disk takes 20 ms a pack
    with atomic_write(folder / name, durable=False) as stream:
        first = header.encode()
        stream.write(first)
        write_table(stream, entries)
        for values in arrays:
            stream.write(values.data)
    return name, PackHeader(space, len(segments), rows, form, len(first)), entries


def make_entries(
    keys: Sequence[bytes], starts: Sequence[int], counts: Sequence[int], checksums: Sequence[bytes]
) -> np.ndarray:
    """Entries of the segments of a pack, in their order, with 0 as the number of the pack."""
    entries = np.zeros(len(keys), ENTRY)
    entries["id"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
    entries["checksum"] = np.frombuffer(b"".join(checksums), np.uint8).reshape(-1, 16)
    entries["start"], entries["count"] = starts, counts
    np.cumsum(counts[:-1], out=entries["row"][1:])
    return entries


def write_table(stream: BinaryIO, entries: np.ndarray) -> None:
    """Write what a pack holds of its segments besides their values."""
    for name in ("checksum", "id"):
        stream.write(np.ascontiguousarray(entries[name]).data)
    for name in ("start", "count"):
        stream.write(entries[name].astype("<u8").data)


def read_header(stream: BinaryIO) -> PackHeader:
    """The header of a pack.

    Raises:
        DamagedPackError: it is no pack, or of another version of the format, or contradicts itself.
        OSError: it cannot be read.
    """
    prefix = stream.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= _LARGEST_HEADER:
        raise DamagedPackError("no header")
    try:
        header = json.loads(stream.read(length))
        metadata, values = header["__metadata__"], header["values"]
        segments, rows = header["counts"]["shape"][0], values["shape"][0]
        form = RowForm(_CODES[values["dtype"]], tuple(values["shape"][1:]))
        stated = PackHeader(
            metadata["space"], segments, rows, form, 8 + length, tuple(metadata.get("replaces", "").split())
        )
        if not all(type(number) is int for number in (segments, rows, *form.shape)):
            raise DamagedPackError("sizes that are no numbers")
        # what is written for these sizes is the one header to be believed
        again = json.loads(stated.encode()[8:]) if stated.is_possible else None
        if again is None or {**header, "__metadata__": None} != {**again, "__metadata__": None}:
            raise DamagedPackError("a header that contradicts itself")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DamagedPackError("no header") from error
    return stated


def read_entries(stream: BinaryIO, header: PackHeader) -> np.ndarray:
    """The entries of a pack whose header was just read, with 0 as the number of the pack; the values are not read.

    Raises:
        DamagedPackError: the table is cut off or contradicts the header.
        OSError: it cannot be read.
    """
    n = header.segments
    if stream.seek(0, os.SEEK_END) < header.values:
        raise DamagedPackError("no table")
    stream.seek(header.table)
    table = stream.read(_TABLE_BYTES * n)
    if len(table) < _TABLE_BYTES * n:
        raise DamagedPackError("no table")
    starts = np.frombuffer(table, "<u8", n, 48 * n)
    counts = np.frombuffer(table, "<u8", n, 56 * n)
    if starts.max() >= _MOST_ROWS or counts.max() >= _MOST_ROWS or int(counts.sum()) != header.rows:
        raise DamagedPackError("a table that contradicts the header")
    if counts.min() < 1:
        raise DamagedPackError("an empty segment")
    entries = np.zeros(n, ENTRY)
    entries["checksum"] = np.frombuffer(table, np.uint8, 16 * n).reshape(n, 16)
    entries["id"] = np.frombuffer(table, np.uint8, 32 * n, 16 * n).reshape(n, 32)
    entries["start"], entries["count"] = starts, counts
    np.cumsum(counts[:-1], out=entries["row"][1:])
    return entries


def read_segments(stream: PackStream, header: PackHeader, entries: np.ndarray) -> Iterator[np.ndarray | None]:
    """The values [count, ...] of segments of a pack, or None for each that is damaged.

    Args:
        stream: the pack, best read in ascending order of rows.
        header: of the pack.
        entries: of the segments.
    """
    form, size = header.form, min(header.size, stream.seek(0, os.SEEK_END))
    place = -1
    for block in (entries[first : first + _BLOCK] for first in range(0, len(entries), _BLOCK)):
        keys, checksums = block["id"].tobytes(), block["checksum"].tobytes()
        columns = (block[name].tolist() for name in ("start", "count", "row"))
        for number, (start, count, row) in enumerate(zip(*columns, strict=True)):
            target = header.values + row * form.size
            if target + count * form.size > size or count * form.size > LARGEST_SEGMENT:
                yield None  # before memory is taken for it
                continue
            if target != place:
                stream.seek(target)
            values = np.empty((count, *form.shape), form.dtype)
            place = target + stream.readinto(values.data.cast("B"))
            check = segment_checksum(keys[32 * number : 32 * number + 32], start, count, form)
            check.update(values.data)
            yield values if check.digest()[:16] == checksums[16 * number : 16 * number + 16] else None


def unreadable_pack(path: Path) -> CacheError:
    """The error of a pack, or a folder of packs, that this user may not read."""
    return CacheError(
        f"{str(path)!r} in the cache cannot be read: permission denied",
        remedy="Check the permissions of the cache folder, or name another one with --cache DIR",
    )


def keys_of(items: Iterable[str]) -> np.ndarray:
    """The 32 bytes of each id: uint8 [n, 32]."""
    return np.frombuffer(b"".join(map(item_key, items)), np.uint8).reshape(-1, 32)
