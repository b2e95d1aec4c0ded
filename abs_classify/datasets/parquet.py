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
from abs_classify.datasets.folders import claim
from abs_classify.datasets.orientation import all_as_stored, is_as_stored
from abs_classify.datasets.parquet_columns import GroupReader, LabelColumn, column_list, open_parquet_file
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.extras import require, require_installed
from abs_core.files import atomic_write
from abs_core.progress import logged
from abs_core.text import printable

__all__ = [
    "ParquetCell",
    "ParquetImages",
    "download_split",
    "find_image_column",
    "find_parquet_files",
    "open_parquet",
    "stated_rows",
]

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
    image = options.get("image") or find_image_column(files[0])
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


def find_image_column(file: Path) -> str:
    """The column of images of a parquet file, by its metadata or its name.

    Raises:
        DatasetError: the file does not say which it is.
    """
    schema = open_parquet_file(file).schema_arrow
    return _find_column(_features(schema), "Image", ("image", "img"), schema, file)


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


_NUMBERED = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5,9})-of-(?P<count>\d{5,9})(?P<suffix>[-.].*)")
_RESUME = "run the same command again: it resumes"
_MAX_CARD = 1 << 24  # bytes


def find_parquet_files(root: Path, split: str) -> list[Path]:
    """The files of a split, in their order.

    Args:
        root: a file, or a folder with the files in it, in ``data/``, in a folder named after the split, or in that of
            its only configuration.
        split: the prefix of the names.

    Raises:
        DatasetError: there are none, or some of those that the names count are missing.
    """
    if root.is_file():
        return [root]
    splits: dict[str, None] = {}
    for folder in (root, root / "data"):
        if of_split := _split_in(folder, split, splits):
            return of_split
    # one folder for each configuration, such as plain_text/
    inner = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = {path.name: files for path in inner if (files := _split_in(path, split, splits))}
    if len(found) > 1:
        raise DatasetError(
            f"{str(root)!r} has several configurations with a split {split!r}: {', '.join(found)}",
            remedy=f"Name the folder of one, such as {str(root / next(iter(found)))!r}",
        )
    if found:
        return next(iter(found.values()))
    if splits:
        raise DatasetError(
            f"{str(root)!r} has no parquet file of the split {split!r}; its splits: {', '.join(splits)}",
            remedy="Choose one with ?split=NAME",
        )
    raise DatasetError(
        f"{str(root)!r} has no parquet files",
        remedy="Name a folder with .parquet files, or OWNER/NAME@COMMIT?to=DIR of the Hugging Face hub",
    )


def _split_in(folder: Path, split: str, splits: dict[str, None]) -> list[Path]:
    """The files of a split in a folder, or in a folder of its name; what other splits there are is noted."""
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    of_split = [path for path in files if path.name.startswith((f"{split}-", f"{split}."))]
    if of_split:
        _check_numbers(folder, of_split)
        return of_split
    splits |= dict.fromkeys(re.split("[-.]", path.name)[0] for path in files if not path.stem.isdigit())
    # as the hub converts data sets: test/0000.parquet
    numbered = sorted(path for path in (folder / split).glob("*.parquet") if path.stem.isdigit())
    for number, path in enumerate(numbered):
        if int(path.stem) != number:
            raise DatasetError(
                f"{str(folder / split)!r} has no file {number}, but a file {path.stem}",
                remedy="Fetch it from where the others come from; to use one file, name it",
            )
    return numbered


def _check_numbers(folder: Path, files: list[Path]) -> None:
    matches = [match for path in files if (match := _NUMBERED.fullmatch(path.name))]
    counts = {int(match["count"]) for match in matches}
    if not matches:
        return
    numbers = [int(match["number"]) for match in matches]
    if len(counts) > 1 or len(set(numbers)) < len(numbers) or len(matches) < len(files):
        raise DatasetError(
            f"the files of {str(folder)!r} are of several versions of one split: {files[0].name!r}, {files[-1].name!r}",
            remedy="Keep one version, or name one file",
        )
    missing = counts.pop() - len(set(numbers))
    if missing:
        first = next(number for number in range(len(numbers) + 1) if number not in numbers)
        match = matches[0]
        raise DatasetError(
            f"{missing} of {match['count'].lstrip('0')} files are missing in {str(folder)!r}, the first is number "
            f"{first} ({match['prefix']}-{first:0{len(match['number'])}d}-of-{match['count']})",
            remedy="Fetch them from where the others come from; to use one file, name it",
        )


def stated_rows(root: Path, split: str) -> int | None:
    """How many rows a split has by the card of its data set (``README.md`` with ``dataset_info``).

    The hub writes that part itself, a key on each line, so it is read line by line: a YAML parser takes minutes for a
    card that is made to be slow.

    Returns:
        None where there is no card, or it describes several configurations.
    """
    card = root / "README.md"
    try:
        if not card.is_file() or card.stat().st_size > _MAX_CARD:
            return None
        _, _, rest = card.read_text(encoding="utf-8").partition("---\n")
    except (OSError, ValueError):
        return None
    _, found, info = f"\n{rest.partition(chr(10) + '---')[0]}".partition("\ndataset_info:\n")
    if not found:
        return None
    name, counts, configurations = "", dict[str, int](), 0
    for line in info.splitlines():
        if line[:1] not in ("", " ", "-"):
            break
        configurations += "config_name:" in line or line.startswith("- ")
        key, _, value = line.strip().removeprefix("- ").partition(": ")
        if key == "name":
            name = value.strip("'\"")
        elif key == "num_examples" and value.isascii() and value.isdigit() and len(value) < 19:
            counts[name] = int(value)
    return counts.get(split) if configurations <= 1 else None


def download_split(name: str, revision: str, to: str, split: str) -> Path:
    """Copy the parquet files of a split that the folder does not have yet.

    Args:
        name: ``OWNER/NAME`` of the repository.
        revision: a full commit hash.
        to: the folder.
        split: the prefix of the names.

    Returns:
        The folder, which has every file of the split with the size that the hub states.

    Raises:
        UsageError: a revision that is not pinned, no folder, or one with other files.
        DatasetError: the hub cannot be reached, has no such files, or did not send all of them.
        MissingExtraError: huggingface_hub is not installed.
    """
    _require_pinned(name, revision, to)
    folder = Path(to).expanduser()
    complete = folder / f".{split}-complete"
    claim(folder, f"{name}@{revision}")
    sizes = _read_sizes(complete)
    if sizes and not _incomplete(folder, sizes):
        return folder
    sizes = _copy_split(name, revision, folder, split)
    # the client takes a connection that breaks while there are files already for an order to work offline
    if missing := _incomplete(folder, sizes):
        raise DatasetError(
            f"{len(missing)} of {len(sizes)} files of {name} ({split}) are not copied in full, the first is "
            f"{missing[0]!r}",
            remedy=f"Check the connection, and {_RESUME}",
        )
    with atomic_write(complete) as stream:
        stream.write(json.dumps(sizes).encode())
    return folder


def _copy_split(name: str, revision: str, folder: Path, split: str) -> dict[str, int]:
    """Copy what can be copied; path and size of all files of the split."""
    hub = require("huggingface_hub", extra="datasets", purpose="to download from the Hugging Face hub")
    try:
        sizes = _list_split(hub, name, revision, split)
        if sizes:
            hub.snapshot_download(
                repo_id=name, repo_type="dataset", revision=revision, local_dir=folder, allow_patterns=list(sizes)
            )
    except UsageError:
        raise
    except Exception as error:  # the hub client has many errors of its own, and those of its HTTP client
        raise DatasetError(
            f"cannot download {name} at {revision}: {type(error).__name__}",
            remedy=f"Check the name and the connection, and {_RESUME}",
        ) from error
    if not sizes:
        raise DatasetError(
            f"{name} has no parquet files of the split {split!r} at {revision}",
            remedy="Choose another split with ?split=NAME, or the commit of its branch refs/convert/parquet",
        )
    return sizes


def _require_pinned(name: str, revision: str, to: str) -> None:
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


def _list_split(hub: Any, name: str, revision: str, split: str) -> dict[str, int]:
    """Path and size in bytes of the files of a split on the hub.

    Raises:
        UsageError: there are several configurations.
    """
    title = re.escape(split)
    wanted = re.compile(rf"(?:(?P<folder>[^/]+)/)?(?:{title}[-.][^/]*parquet|{title}/\d+\.parquet)")
    tree = hub.HfApi().list_repo_tree(name, repo_type="dataset", revision=revision, recursive=True)
    by_folder: dict[str, dict[str, int]] = {}
    for entry in tree:
        if hasattr(entry, "size") and (match := wanted.fullmatch(entry.path)):
            by_folder.setdefault(match["folder"] or "", {})[entry.path] = entry.size
    for usual in ("", "data"):
        if usual in by_folder:
            return by_folder[usual]
    if len(by_folder) > 1:
        raise UsageError(
            f"{name} has several configurations with a split {split!r}: {', '.join(map(printable, by_folder))}",
            remedy="Copy the files of one with `hf download`, and name their folder: hf:DIR",
        )
    return next(iter(by_folder.values()), {})


def _read_sizes(complete: Path) -> dict[str, int]:
    """What a finished copy noted; empty for one that noted nothing."""
    try:
        content = json.loads(complete.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _incomplete(folder: Path, sizes: dict[str, int]) -> list[str]:
    return [
        name for name, size in sizes.items() if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
