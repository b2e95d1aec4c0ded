"""Parquet files in the layout of the Hugging Face hub, on disk or of a pinned revision: ``hf:DIR``.

A row has an image and a label. The image is a struct of ``bytes`` and ``path``, of which only the bytes are read. The
label is a string, or a number whose class name the file's metadata gives. Read with pyarrow.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Dataset, Sample, class_id, classes_of, label_at, numbered_classes, split_options
from abs_classify.datasets.folders import claim
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.extras import require, require_installed
from abs_core.files import atomic_write

__all__ = ["ParquetCell", "ParquetImages", "open_parquet"]

_USAGE = "hf:DIR?split=test"
_OPTIONS = ("split", "image", "label", "classes", "to")
_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[^/]+)")

# bytes; a row group is decoded as a whole
_MAX_GROUP = 1 << 31


@dataclass(frozen=True)
class ParquetImages:
    """The image column of parquet files. Keeps the row group that was read last, so that reading in order is cheap.

    Args:
        files: the files.
        column: its name.
    """

    files: tuple[Path, ...]
    column: str
    _last: dict[tuple[int, int], list[bytes | None]] = field(default_factory=dict, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def cell(self, file: int, group: int, row: int) -> bytes | None:
        """The bytes of an image; None if the row has none. Safe to call from threads."""
        with self._lock:
            if (file, group) not in self._last:
                self._last.clear()
                self._last[file, group] = _read_group(self.files[file], group, self.column)
            rows = self._last[file, group]
        return rows[row] if row < len(rows) else None

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
            ``classes``, the shipped label set that numbers count in.

    Raises:
        UsageError: an unknown option, a revision that is not pinned, or no folder to download into.
        DatasetError: missing files or columns, or a label that is out of range.
        MissingExtraError: pyarrow, or for a repository huggingface_hub, is not installed.
    """
    source, options = split_options(location, _OPTIONS, _USAGE)
    require_installed("pyarrow", extra="datasets")  # before a download, and imported after the path is known to be good
    split = options.get("split", "test")
    root = Path(source)
    if not root.exists() and (repository := _REPOSITORY.fullmatch(source)):
        root = _download(repository["name"], repository["revision"], options.get("to", ""), split)
    files = _find_files(root, split)
    schema = _open(files[0]).schema_arrow
    features = _features(schema)
    image = options.get("image") or _find_column(features, "Image", ("image", "img"), schema, files[0])
    label = options.get("label") or _find_column(
        features, "ClassLabel", ("label", "labels", "fine_label"), schema, files[0]
    )
    images = ParquetImages(tuple(files), image)
    cells: list[tuple[ParquetCell, Any]] = []
    for file in range(len(files)):
        cells += _cells(images, file, label)
    if not cells:
        raise DatasetError(f"the files of {source!r} have no rows", remedy="Check the path and the split")
    names = features.get(label, {}).get("names")
    return _dataset(location, cells, names if isinstance(names, list) else None, options.get("classes"))


def _dataset(
    location: str, cells: list[tuple[ParquetCell, Any]], names: list[str] | None, label_set: str | None
) -> Dataset:
    numbered = any(type(value) is int for _, value in cells)
    classes = numbered_classes(names, label_set, f"hf:{location}") if numbered else ()
    samples = []
    for cell, value in cells:
        path = cell.images.files[cell.file]
        where = f"row {cell.number} of {str(path)!r}"
        if type(value) is int and numbered:
            label = label_at(classes, value, where)
        elif isinstance(value, str) and not numbered:
            label = class_id(value, where)
        else:
            raise DatasetError(
                f"{where}: the label must be a number or a string, as in the other rows, got {value!r}",
                remedy="Use a column of numbers or of strings",
            )
        samples.append(Sample(path, label, cell))
    return Dataset(f"hf:{location}", classes or classes_of(sample.label for sample in samples), tuple(samples))


def _cells(images: ParquetImages, position: int, label: str) -> list[tuple[ParquetCell, Any]]:
    """The images of one file with the values of their labels."""
    path = images.files[position]
    file = _open(path)
    columns = file.schema_arrow.names
    missing = [column for column in (images.column, label) if column not in columns]
    if missing:
        raise DatasetError(
            f"{str(path)!r} has no column {missing[0]!r}; its columns: {', '.join(columns)}",
            remedy="Name the columns: ?image=COLUMN&label=COLUMN",
        )
    cells: list[tuple[ParquetCell, Any]] = []
    for group in range(file.num_row_groups):
        values = file.read_row_group(group, columns=[label]).column(label).to_pylist()
        for row, value in enumerate(values):
            cells.append((ParquetCell(images, position, group, row, len(cells)), value))
    return cells


def _read_group(path: Path, group: int, column: str) -> list[bytes | None]:
    try:
        file = _open(path)
        if file.metadata.row_group(group).total_byte_size > _MAX_GROUP:
            raise DatasetError(
                f"a row group of {str(path)!r} has more than {_MAX_GROUP >> 30} GB", remedy="Write smaller row groups"
            )
        values = file.read_row_group(group, columns=[column]).column(column).to_pylist()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(path)!r} is damaged: {error}", remedy="Fetch it again") from error
    cells = [value.get("bytes") if isinstance(value, dict) else value for value in values]
    return [cell if isinstance(cell, bytes) else None for cell in cells]


def _find_files(root: Path, split: str) -> list[Path]:
    if root.is_file():
        return [root]
    for folder in (root, root / "data"):
        files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
        of_split = [path for path in files if path.name.startswith((f"{split}-", f"{split}."))]
        if of_split:
            return of_split
        if files:
            splits = ", ".join(dict.fromkeys(re.split("[-.]", path.name)[0] for path in files))
            raise DatasetError(
                f"{str(folder)!r} has no parquet file of the split {split!r}; its splits: {splits}",
                remedy="Choose one with ?split=NAME",
            )
    raise DatasetError(
        f"{str(root)!r} has no parquet files",
        remedy="Name a folder with .parquet files, or OWNER/NAME@COMMIT?to=DIR of the Hugging Face hub",
    )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """The columns as the hub's metadata describe them; empty if there are none."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return {name: value for name, value in content.items() if isinstance(value, dict)} if content else {}


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
        f"{str(file)!r} does not say which column is the {option}; its columns: {', '.join(schema.names)}",
        remedy=f"Name it: ?{option}=COLUMN",
    )


def _open(path: Path) -> Any:
    parquet = require("pyarrow.parquet", purpose="to read parquet files")
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(path)!r} is not a parquet file, or is damaged", remedy="Fetch it again") from error


def _download(name: str, revision: str, to: str, split: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UsageError(
            f"the revision of {name} must be a full commit hash, since a branch can change, got {revision!r}",
            remedy=f"Write hf:{name}@COMMIT?to=DIR with the 40 digits from the history on the hub",
        )
    if not to:
        raise UsageError(
            f"the files of {name} must be downloaded before they can be read",
            remedy=f"Name a folder for them: hf:{name}@{revision}?to=DIR",
        )
    folder = Path(to).expanduser()
    complete = folder / f".{split}-complete"
    if claim(folder, f"{name}@{revision}") and complete.is_file():
        return folder
    hub = require("huggingface_hub", extra="datasets", purpose="to download from the Hugging Face hub")
    try:
        hub.snapshot_download(
            repo_id=name,
            repo_type="dataset",
            revision=revision,
            local_dir=folder,
            allow_patterns=[f"{split}[-.]*.parquet", f"data/{split}[-.]*.parquet"],
        )
    except Exception as error:  # the hub client has many errors of its own, and those of its HTTP client
        raise DatasetError(
            f"cannot download {name} at {revision}: {type(error).__name__}", remedy="Check the name and the connection"
        ) from error
    with atomic_write(complete):
        return folder
