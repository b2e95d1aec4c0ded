"""Parquet files as the Hugging Face hub has them, on disk or of a pinned revision: ``hf:DIR``.

A row has an image, a struct of ``bytes`` and ``path`` of which only the bytes are read, and a label, a number with the
names in the file's metadata, or a text. Read with pyarrow.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import (
    Dataset,
    Sample,
    class_id,
    classes_of,
    label_at,
    numbered_classes,
    split_options,
)
from abs_classify.datasets.fetching import claim
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.extras import require
from abs_core.files import atomic_write

__all__ = ["ParquetCell", "ParquetImages", "open_parquet"]


_USAGE = "hf:DIR?split=test"


_OPTIONS = ("split", "image", "label", "classes", "to")


_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[^/]+)")


#: A row group is decoded at once; more than this is refused.
_MAX_GROUP = 1 << 31


@dataclass(frozen=True)
class ParquetImages:
    """The image columns of some parquet files. Keeps the row group that was read last, so reading in order is cheap.

    Args:
        files: the files.
        column: of the image.
    """

    files: tuple[Path, ...]
    column: str
    _last: dict[tuple[int, int], list[bytes | None]] = field(default_factory=dict, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def cell(self, file: int, group: int, row: int) -> bytes | None:
        """The bytes of an image; None where the row has none. Safe to call from threads."""
        with self._lock:
            if (file, group) not in self._last:
                self._last.clear()
                self._last[file, group] = _read_group(self.files[file], group, self.column)
            rows = self._last[file, group]
        return rows[row] if row < len(rows) else None

    def __reduce__(self) -> tuple[type[ParquetImages], tuple[tuple[Path, ...], str]]:
        # another process has locks and a last group of its own
        return ParquetImages, (self.files, self.column)


@dataclass(frozen=True, slots=True)
class ParquetCell:
    """The image in one row.

    Args:
        images: the files.
        file: which of them.
        group: the row group in it.
        row: the row in the group.
        number: the row in the file, for messages.
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
        """The image's bytes.

        Raises:
            ImageError: the row has none, or the file is damaged.
        """
        place = f"{self.images.files[self.file]}::{self.name}"
        try:
            data = self.images.cell(self.file, self.group, self.row)
        except DatasetError as error:
            raise ImageError(error.message, remedy=error.remedy) from error
        if data is None:
            raise ImageError(f"the image {place!r} has no bytes in the file", remedy="Use files with embedded images")
        return data


def open_parquet(location: str) -> Dataset:
    """The rows of parquet files.

    Args:
        location: a ``.parquet`` file; a folder with such files, in it or in ``data/``; or ``OWNER/NAME@REVISION`` with
            a full commit hash and the option ``to``, a folder that the files are fetched into, once. Other options:
            ``split`` (by default ``test``: the files whose name begins so), ``image`` and ``label`` (columns),
            ``classes`` (a shipped label set in whose order numbers count).

    Raises:
        UsageError: an unknown option; a revision that is not pinned; no folder to fetch into.
        DatasetError: there are no such files or columns, or a label that is out of range.
        MissingExtraError: pyarrow, or for a repository huggingface_hub, is not installed.
    """
    place, options = split_options(location, _OPTIONS, _USAGE)
    parquet = _pyarrow()
    split = options.get("split", "test")
    root = Path(place)
    if not root.exists() and (repository := _REPOSITORY.fullmatch(place)):
        root = _fetched(repository["name"], repository["revision"], options.get("to", ""), split)
    files = _files(root, split)
    schema = _opened(parquet, files[0]).schema_arrow
    features = _features(schema)
    image = options.get("image") or _pick(features, "Image", ("image", "img"), schema, files[0])
    label = options.get("label") or _pick(features, "ClassLabel", ("label", "labels", "fine_label"), schema, files[0])
    images = ParquetImages(tuple(files), image)
    cells: list[tuple[ParquetCell, Any]] = []
    for at, file in enumerate(files):
        cells += _cells(_opened(parquet, file), images, at, label)
    if not cells:
        raise DatasetError(f"the files of {place!r} have no rows", remedy="Check the path and the split")
    names = features.get(label, {}).get("names")
    return _dataset(location, cells, names if isinstance(names, list) else None, options.get("classes"))


def _dataset(
    location: str, cells: list[tuple[ParquetCell, Any]], names: list[str] | None, chosen: str | None
) -> Dataset:
    numbered = any(type(value) is int for _, value in cells)
    classes = numbered_classes(names, chosen, f"hf:{location}") if numbered else ()
    items = []
    for cell, value in cells:
        path = cell.images.files[cell.file]
        place = f"row {cell.number} of {str(path)!r}"
        if type(value) is int and numbered:
            label = label_at(classes, value, place)
        elif isinstance(value, str) and not numbered:
            label = class_id(value, place)
        else:
            raise DatasetError(f"{place} has the label {value!r}", remedy="Use a column of numbers or of texts")
        items.append(Sample(path, label, cell))
    return Dataset(f"hf:{location}", classes or classes_of(item.label for item in items), tuple(items))


def _cells(file: Any, images: ParquetImages, at: int, label: str) -> list[tuple[ParquetCell, Any]]:
    path = images.files[at]
    if label not in file.schema_arrow.names or images.column not in file.schema_arrow.names:
        raise DatasetError(
            f"{str(path)!r} has no column {label!r} or {images.column!r}; its columns: "
            f"{', '.join(file.schema_arrow.names)}",
            remedy="Name them: ?image=COLUMN&label=COLUMN",
        )
    found: list[tuple[ParquetCell, Any]] = []
    for group in range(file.num_row_groups):
        values = file.read_row_group(group, columns=[label]).column(label).to_pylist()
        for row, value in enumerate(values):
            found.append((ParquetCell(images, at, group, row, len(found)), value))
    return found


def _read_group(path: Path, group: int, column: str) -> list[bytes | None]:
    try:
        file = _opened(_pyarrow(), path)
        if file.metadata.row_group(group).total_byte_size > _MAX_GROUP:
            raise DatasetError(
                f"a row group of {str(path)!r} has more than {_MAX_GROUP >> 30} GB", remedy="Write smaller row groups"
            )
        values = file.read_row_group(group, columns=[column]).column(column).to_pylist()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(path)!r} is damaged: {error}", remedy="Fetch it again") from error
    cells = [value.get("bytes") if isinstance(value, dict) else value for value in values]
    return [cell if isinstance(cell, bytes) else None for cell in cells]


def _files(root: Path, split: str) -> list[Path]:
    if root.is_file():
        return [root]
    for folder in (root, root / "data"):
        found = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
        chosen = [path for path in found if path.name.startswith((f"{split}-", f"{split}."))]
        if chosen:
            return chosen
        if found:
            splits = ", ".join(dict.fromkeys(re.split("[-.]", path.name)[0] for path in found))
            raise DatasetError(
                f"there is no parquet file of the split {split!r} in {str(folder)!r}; there are: {splits}",
                remedy="Choose one with ?split=NAME",
            )
    raise DatasetError(
        f"there are no parquet files in {str(root)!r}",
        remedy="Name a folder with .parquet files, or OWNER/NAME@COMMIT?to=DIR of the Hugging Face hub",
    )


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What the hub's own metadata says of the columns; empty where there is none."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return {name: value for name, value in content.items() if isinstance(value, dict)} if content else {}


def _pick(features: dict[str, dict[str, Any]], kind: str, usual: tuple[str, ...], schema: Any, file: Path) -> str:
    said = [name for name, value in features.items() if value.get("_type") == kind]
    found = said or [name for name in usual if name in schema.names]
    if len(said) <= 1 and found:
        return found[0]
    preferred = [name for name in usual if name in said]
    if preferred:
        return preferred[0]
    what = "image" if kind == "Image" else "label"
    raise DatasetError(
        f"{str(file)!r} does not say which column is the {what}; its columns: {', '.join(schema.names)}",
        remedy=f"Name it: ?{what}=COLUMN",
    )


def _opened(parquet: Any, path: Path) -> Any:
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{str(path)!r} is no parquet file, or is damaged", remedy="Fetch it again") from error


def _pyarrow() -> Any:
    return require("pyarrow.parquet", purpose="to read parquet files")


def _fetched(name: str, revision: str, to: str, split: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UsageError(
            f"{revision!r} is no full commit hash, and a branch of {name} can change its images",
            remedy=f"Write hf:{name}@COMMIT?to=DIR with the 40 digits that the hub shows under its history",
        )
    if not to:
        raise UsageError(
            f"the files of {name} must be fetched before they can be read",
            remedy=f"Say into which folder: hf:{name}@{revision}?to=DIR",
        )
    folder = Path(to).expanduser()
    complete = folder / f".{split}-complete"
    if claim(folder, f"{name}@{revision}") and complete.is_file():
        return folder
    hub = require("huggingface_hub", extra="datasets", purpose="to fetch from the Hugging Face hub")
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
            f"cannot fetch {name} at {revision}: {type(error).__name__}", remedy="Check the name and the connection"
        ) from error
    with atomic_write(complete):
        return folder
