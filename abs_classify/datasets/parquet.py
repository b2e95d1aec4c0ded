"""Parquet files in the layout of the Hugging Face hub, on disk or of a pinned revision: ``hf:DIR``.

A row has an image and a label. The image is a struct of ``bytes`` and ``path``, of which only the bytes are read. The
label is a string, or a number whose class name the file's metadata gives. Read with pyarrow.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    label_at,
    label_in,
    named_label_set,
    numbered_classes,
    split_options,
)
from abs_classify.datasets.orientation import all_as_stored, is_as_stored
from abs_classify.datasets.parquet_columns import GroupReader, LabelColumn, column_list, open_parquet_file
from abs_classify.datasets.parquet_files import download_split, find_parquet_files, stated_rows
from abs_core.errors import DatasetError, ImageError
from abs_core.extras import require_installed
from abs_core.progress import logged

__all__ = ["ParquetCell", "ParquetImages", "open_parquet"]

_log = logging.getLogger(__name__)
_USAGE = "hf:DIR?split=test"
_OPTIONS = ("split", "image", "label", "classes", "to", "orientation")
_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[^/]+)")


@dataclass(frozen=True)
class ParquetImages:
    """The image column of parquet files. Keeps the rows that were read last, so that reading in order is cheap.

    Args:
        files: the files.
        column: its name.
    """

    files: tuple[Path, ...]
    column: str
    _last: dict[tuple[int, int], GroupReader] = field(default_factory=dict, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def cell(self, file: int, group: int, row: int) -> bytes | None:
        """The bytes of an image; None if the row has none. Safe to call from threads.

        Raises:
            DatasetError: the file is damaged, or has changed.
        """
        with self._lock:
            if (file, group) not in self._last:
                self._last.clear()
                self._last[file, group] = GroupReader(self.files[file], group, self.column)
            return self._last[file, group].cell(row)

    def __reduce__(self) -> tuple[type[ParquetImages], tuple[tuple[Path, ...], str]]:
        # another process needs its own lock and row group
        return ParquetImages, (self.files, self.column)


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """The image in one row; the ``ByteSource`` of a sample.

    Args:
        images: the files.
        file: position of the file.
        group: position of the row group in the file.
        row: position of the row in the group.
        number: position of the row in the file, for messages.
    """

    images: ParquetImages
    file: int
    group: int
    row: int
    number: int

    @property
    def name(self) -> str:
        """``row 17, image``."""
        return f"row {self.number}, {self.images.column}"

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ImageError: the row has none, or the file is damaged.
        """
        image = f"{self.images.files[self.file]}::{self.name}"
        try:
            data = self.images.cell(self.file, self.group, self.row)
        except DatasetError as error:
            raise ImageError(error.message, remedy=error.remedy) from error
        if data is None:
            raise ImageError(f"the image {image!r} has no bytes in the file", remedy="Use files with embedded images")
        return data


def open_parquet(location: str) -> Dataset:
    """The rows of parquet files, in their order.

    Args:
        location: a ``.parquet`` file, a folder with such files in it or in ``data/``, or ``OWNER/NAME@REVISION`` with
            a full commit hash and the option ``to``, the folder that the files are downloaded into, once. Other
            options: ``split`` (default: ``test``), the prefix of the file names; ``image`` and ``label``, the columns;
            ``classes``, the label set that labels are of, by number, id or name.

    Raises:
        UsageError: an unknown option, a revision that is not pinned, or no folder to download into.
        DatasetError: missing files or columns, or a label that is out of range.
        MissingExtraError: pyarrow, or for a repository huggingface_hub, is not installed.
    """
    source, options = split_options(location, _OPTIONS, _USAGE)
    as_stored = is_as_stored(options)
    require_installed("pyarrow", extra="datasets")  # before a download, and imported after the path is known to be good
    split = options.get("split", "test")
    root = Path(source).expanduser()
    if not root.exists() and (repository := _REPOSITORY.fullmatch(source)):
        root = download_split(repository["name"], repository["revision"], options.get("to", ""), split)
    files = find_parquet_files(root, split)
    schema = open_parquet_file(files[0]).schema_arrow
    features = _features(schema)
    image = options.get("image") or _find_column(features, "Image", ("image", "img"), schema, files[0])
    label = options.get("label") or _find_column(
        features, "ClassLabel", ("label", "labels", "fine_label"), schema, files[0]
    )
    images = ParquetImages(tuple(files), image)
    cells = [
        cell
        for file in logged(range(len(files)), _log, "reading parquet files")
        for cell in _cells(images, file, label)
    ]
    if not cells:
        raise DatasetError(f"the files of {source!r} have no rows", remedy="Check the path and the split")
    stated = stated_rows(root, split)
    if stated not in (None, len(cells)):
        raise DatasetError(
            f"the files of {source!r} have {len(cells)} rows, but the card of the data set says {stated} for {split!r}",
            remedy="Fetch the files again; to use those that are there, remove README.md",
        )
    names = features.get(label, {}).get("names")
    is_named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    dataset = _dataset(location, cells, names if is_named else None, options.get("classes"))
    return all_as_stored(dataset) if as_stored else dataset


def _dataset(
    location: str, cells: list[tuple[ParquetCell, int | str]], names: list[str] | None, label_set: str | None
) -> Dataset:
    numbered = any(type(value) is int for _, value in cells)
    named = None if numbered or label_set is None else named_label_set(label_set)
    classes = numbered_classes(names, label_set, f"hf:{location}") if numbered else named.classes if named else ()
    samples = []
    for cell, value in cells:
        path = cell.images.files[cell.file]
        where = f"row {cell.number} of {str(path)!r}"
        if type(value) is int and numbered:
            label = label_at(classes, value, where)
        elif isinstance(value, str) and not numbered:
            label = class_id(value, where)
            label = label if named is None else label_in(named, label, where)
        else:
            raise DatasetError(
                f"{where}: the label must be a number or a string, as in the other rows, got {value!r}",
                remedy="Use a column of numbers or of strings",
            )
        samples.append(Sample(path, label, cell))
    return Dataset(f"hf:{location}", classes or classes_of(sample.label for sample in samples), tuple(samples))


def _cells(images: ParquetImages, position: int, label: str) -> Iterator[tuple[ParquetCell, int | str]]:
    """The images of one file with their labels."""
    path = images.files[position]
    column = LabelColumn(path, images.column, label)
    number = 0
    for group in range(column.groups):
        for row, value in enumerate(column.values(group, number)):
            yield ParquetCell(images, position, group, row, number), value
            number += 1


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """The columns as the hub's metadata describe them; empty if there are none."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: value for name, value in content.items() if isinstance(value, dict)}


def _find_column(
    features: dict[str, dict[str, Any]], kind: str, usual: tuple[str, ...], schema: Any, file: Path
) -> str:
    """The column that the metadata declares to be of a kind, else one with a usual name."""
    declared = [name for name, value in features.items() if value.get("_type") == kind]
    candidates = declared or [name for name in usual if name in schema.names]
    if len(declared) <= 1 and candidates:
        return candidates[0]
    preferred = [name for name in usual if name in declared]
    if preferred:
        return preferred[0]
    option = "image" if kind == "Image" else "label"
    raise DatasetError(
        f"{str(file)!r} does not say which column is the {option}; its columns: {column_list(schema)}",
        remedy=f"Name it: ?{option}=COLUMN",
    )
