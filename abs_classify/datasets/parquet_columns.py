"""Columns of parquet files, read in small steps: memory is bounded by the images at hand, whatever the file claims.

A few kilobytes of parquet can stand for gigabytes: a value that a dictionary repeats, a page of zeros, a hundred
million rows without a value. Dictionaries stay dictionaries here, and sizes that no file of images has are refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from abs_classify.image_formats import HEAD_BYTES, file_format
from abs_core.errors import AbsError, DatasetError
from abs_core.extras import require
from abs_core.text import printable

__all__ = ["GroupReader", "LabelColumn", "column_list", "open_parquet_file"]

_PURPOSE = "to read parquet files"
_FETCH = "Delete it and fetch it again"
_UNTRUSTED = "Fetch the file again from a source that you trust"

# types of columns, in pyarrow's words
_TEXTS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")

# An image has at least 16 bytes; small files may repeat one that is stored once.
_MIN_IMAGE_BYTES, _MIN_ROWS = 16, 10_000

# What a row group may unpack to, of the size of the file: images hardly shrink, raw pixels a few times.
_MAX_RATIO, _MIN_UNPACKED = 200, 1 << 28

_MAX_LABEL = 1 << 16  # bytes
_MAX_NAMES = 30

# rows that are read at a time, and bytes of images that are kept
_IMAGE_ROWS, _LABEL_ROWS = 32, 8192
_MAX_KEPT = 1 << 27
_BUFFER = 1 << 20


@contextmanager
def _reading(path: Path, problem: str = "is damaged") -> Iterator[None]:
    try:
        yield
    except AbsError:
        raise
    except Exception as error:  # pyarrow raises many kinds for a broken file
        lines = str(error).splitlines() or [type(error).__name__]
        raise DatasetError(f"{str(path)!r} {problem}: {printable(lines[0], 120).rstrip('.')}", remedy=_FETCH) from error


def open_parquet_file(path: Path, dictionaries: tuple[str, ...] = ()) -> Any:
    """A parquet file with its footer read.

    Args:
        path: the file.
        dictionaries: the paths of columns whose repeated values stay references to one value.

    Raises:
        DatasetError: it is no such file, or claims more rows than it can have.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", purpose=_PURPOSE)
    if path.exists() and not path.is_file():
        raise DatasetError(f"{str(path)!r} is not a regular file", remedy="Name a .parquet file")
    with _reading(path, "is not a parquet file, or is damaged"):
        _refuse_foreign(path)
        file = parquet.ParquetFile(
            path, read_dictionary=list(dictionaries), buffer_size=_BUFFER, page_checksum_verification=True
        )
        rows, size = file.metadata.num_rows, path.stat().st_size
        _ = file.schema_arrow.names  # damaged ones are found here
    if not 0 <= rows <= max(_MIN_ROWS, size // _MIN_IMAGE_BYTES):
        raise DatasetError(
            f"{str(path)!r} claims {rows} rows, but {size} bytes cannot hold that many images", remedy=_UNTRUSTED
        )
    return file


def _refuse_foreign(path: Path) -> None:
    with path.open("rb") as stream:
        actual = file_format(stream.read(HEAD_BYTES))
    if actual is not None:
        is_pointer = actual.name == "a Git LFS pointer"
        remedy = "Fetch the file that it stands for: git lfs pull" if is_pointer else _FETCH
        raise DatasetError(f"{str(path)!r} is {actual.name}, not a parquet file", remedy=remedy)


def column_list(schema: Any) -> str:
    """The names of the columns, for a message."""
    names = [printable(name, 80) for name in schema.names[:_MAX_NAMES]]
    return ", ".join([*names, *(["..."] if len(schema.names) > _MAX_NAMES else [])])


def _check_size(path: Path, file: Any, group: int) -> None:
    """Refuse a row group that unpacks to far more than the file has."""
    with _reading(path):
        # never the metadata of a column: where they are damaged, some versions of pyarrow end the process
        unpacked, stored = file.metadata.row_group(group).total_byte_size, path.stat().st_size
    if unpacked > max(_MIN_UNPACKED, _MAX_RATIO * stored):
        raise DatasetError(
            f"{str(path)!r} unpacks its {stored} bytes to {unpacked} and may be a decompression bomb",
            remedy=_UNTRUSTED,
        )


class LabelColumn:
    """The labels in one file.

    Args:
        path: the file.
        image, label: the names of its columns.

    Raises:
        DatasetError: the file is damaged, lacks a column, or the column cannot have labels.
    """

    def __init__(self, path: Path, image: str, label: str) -> None:
        self._path, self._label = path, label
        file = open_parquet_file(path)
        with _reading(path):
            schema = file.schema_arrow
        for column in (image, label):
            if schema.names.count(column) != 1:
                problem = "no column" if column not in schema.names else "more than one column"
                raise DatasetError(
                    f"{str(path)!r} has {problem} {column!r}; its columns: {column_list(schema)}",
                    remedy="Name the columns: ?image=COLUMN&label=COLUMN",
                )
        types = require("pyarrow", purpose=_PURPOSE).types
        if _image_leaf(schema, image) is None:
            raise DatasetError(
                f"the images in the column {image!r} of {str(path)!r} must be bytes, or structs that have them as "
                f"'bytes', got {printable(str(schema.field(image).type), 60)}",
                remedy="Name another column: ?image=COLUMN",
            )
        kind = schema.field(label).type
        value_type = kind.value_type if types.is_dictionary(kind) else kind
        is_text = str(value_type) in _TEXTS
        others = (types.is_integer, types.is_floating, types.is_boolean, types.is_null)
        if not is_text and not any(is_type(value_type) for is_type in others):
            raise DatasetError(
                f"the labels in the column {label!r} of {str(path)!r} must be numbers or strings, got "
                f"{printable(str(kind), 60)}",
                remedy="Name another column: ?label=COLUMN",
            )
        self._file = open_parquet_file(path, (label,) if is_text else ())
        self.groups: int = self._file.num_row_groups

    def values(self, group: int, first: int) -> Iterator[int | str]:
        """The labels in a row group.

        Args:
            group: its position.
            first: the position of its first row in the file, for errors.

        Raises:
            DatasetError: a label is no number or string, or not valid UTF-8.
        """
        _check_size(self._path, self._file, group)
        row = first
        with _reading(self._path):
            for batch in self._file.iter_batches(_LABEL_ROWS, row_groups=[group], columns=[self._label]):
                for value in _distinct_values(batch.column(0)):
                    yield self._checked(value, row)
                    row += 1

    def _checked(self, value: Any, row: int) -> int | str:
        where = f"row {row} of {str(self._path)!r}"
        if isinstance(value, bytes) and len(value) <= _MAX_LABEL:
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DatasetError(
                    f"{where} has a label that is not valid UTF-8: {value[:40]!r}", remedy="Rename the class"
                ) from error
        if type(value) is int:
            return value
        shown = f"one of {len(value)} bytes" if isinstance(value, bytes) else repr(value)
        raise DatasetError(
            f"{where}: the label must be a number or a string, as in the other rows, got {shown}",
            remedy="Use a column of numbers or of strings",
        )


def _distinct_values(array: Any) -> Iterator[Any]:
    """The values of an array, of which each distinct text, as bytes, is made once."""
    pa = require("pyarrow", purpose=_PURPOSE)
    if not pa.types.is_dictionary(array.type):
        yield from (bytes(value.encode()) if isinstance(value, str) else value for value in array.to_pylist())
        return
    dictionary, known = array.dictionary, dict[int, Any]()
    if pa.types.is_string(dictionary.type) or pa.types.is_large_string(dictionary.type):
        # a view of the same buffers: as strings, what is not UTF-8 would be an error without a row
        dictionary = dictionary.view(pa.large_binary() if pa.types.is_large_string(dictionary.type) else pa.binary())
    for index in array.indices.to_pylist():
        if index is not None and index not in known:
            known[index] = dictionary[index].as_py()
        yield None if index is None else known[index]


def _image_leaf(schema: Any, column: str) -> str | None:
    """The path of the bytes in a column of images; None if it has none."""
    types = require("pyarrow", purpose=_PURPOSE).types
    kind, leaf = schema.field(column).type, column
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        kind, leaf = (kind.field(index).type if index >= 0 else None), f"{column}.bytes"
    value_type = kind.value_type if kind is not None and types.is_dictionary(kind) else kind
    return leaf if str(value_type) in (*_TEXTS, "null") else None


class GroupReader:
    """The images of one row group, in small steps. Reading on is cheap; reading back beyond what is kept starts again.

    Args:
        path: the file.
        group: the position of the row group.
        column: the column of images: bytes, or a struct that has them as ``bytes``.

    Raises:
        DatasetError: the file is damaged, or claims sizes that no images have.
    """

    def __init__(self, path: Path, group: int, column: str) -> None:
        self._path, self._group = path, group
        with _reading(path):
            file = open_parquet_file(path)
            self._leaf = _image_leaf(file.schema_arrow, column) or column
            columns = map(file.schema.column, range(len(file.schema.names)))
            physical = {leaf.path: leaf.physical_type for leaf in columns}
        is_text = physical.get(self._leaf) == "BYTE_ARRAY"
        self._file = open_parquet_file(path, (self._leaf,) if is_text else ())
        _check_size(path, self._file, group)
        self._restart()

    def cell(self, row: int) -> bytes | None:
        """The bytes of an image; None if the row has none."""
        if self._starts and row < self._starts[0]:
            self._restart()
        while row >= self._end and self._read_on():
            pass
        if row >= self._end:
            return None
        position = bisect_right(self._starts, row) - 1
        with _reading(self._path):
            value = self._batches[position][row - self._starts[position]].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        return value if isinstance(value, bytes) else None

    def _restart(self) -> None:
        self._starts: list[int] = []
        self._batches: list[Any] = []
        self._sizes: list[int] = []
        self._end = 0
        self._iterator = self._file.iter_batches(_IMAGE_ROWS, row_groups=[self._group], columns=[self._leaf])

    def _read_on(self) -> bool:
        with _reading(self._path):
            batch = next(self._iterator, None)
            if batch is None or batch.num_columns == 0:
                return False
            self._starts.append(self._end)
            self._batches.append(batch.column(0))
            self._sizes.append(batch.nbytes)
            self._end += batch.num_rows
        while len(self._batches) > 1 and sum(self._sizes) > _MAX_KEPT:
            for kept in (self._starts, self._batches, self._sizes):
                del kept[0]
        return True
