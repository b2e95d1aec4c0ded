"""Files of features: parquet, NumPy's ``.npz`` and safetensors, written some images at a time.

Each is written beside its name and renamed, so it is there whole or not at all. A parquet file gets a row group now and
then. The other two begin with the number of rows, which is known in the end: until then rows are in a nameless file in
the same folder, so that memory holds a few images, and the disk for a while twice what the file takes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol

from abs_core.errors import UsageError
from abs_core.extras import require
from abs_core.files import atomic_write, ensure_writable, storage_errors
from abs_core.text import format_bytes, printable, valid_unicode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "INFO_KEY",
    "ClassFeatures",
    "EncodedBatch",
    "FeatureRun",
    "SavedFeatures",
    "check_target",
    "warn_of_full_disk",
    "write_features",
]

_logger = logging.getLogger(__name__)

#: under which the metadata of a parquet or safetensors file holds what the features are of, as JSON
INFO_KEY = "abs-features"

_ENDINGS = (".parquet", ".npz", ".safetensors")

# bytes: of a row group of parquet, and of what is copied at once
_GROUP_BYTES = 1 << 25
_BLOCK_BYTES = 1 << 22

# strings of an array of NumPy that are written at once
_STRINGS_AT_ONCE = 4096

_COLUMNS = ("ids", "names", "labels")


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Features of some images.

    Attributes:
        features: float32 [b, d] of unit length, or [b, V, d] of views.
        ids: b ids, the sha256 of each image's bytes.
        names: b paths, or what else there is to call each image by.
        labels: b class ids; empty where the source has none.
    """

    features: NDArray[np.float32]
    ids: Sequence[str]
    names: Sequence[str]
    labels: Sequence[str]


@dataclass(frozen=True, eq=False)
class ClassFeatures:
    """Features of classes: a row for each class, or for each of its texts.

    Attributes:
        features: float32 [C, d] of unit length.
        ids: C class ids.
        names: C class names.
        texts: C texts; None where a row is the mean of all texts of its class.
    """

    features: NDArray[np.float32]
    ids: Sequence[str]
    names: Sequence[str]
    texts: Sequence[str] | None


class FeatureRun(Protocol):
    """Where features are from."""

    @property
    def info(self) -> Mapping[str, Any]:
        """What they are of, as JSON values; with views their ``kind`` and ``count``."""
        ...

    @property
    def classes(self) -> ClassFeatures | None:
        """The features of the classes, if there are any."""
        ...


@dataclass(frozen=True)
class SavedFeatures:
    """What was written.

    Attributes:
        files: the file, and that of the classes if they have one of their own.
        images: how many have a row.
        shape: of the features of one image: [d] or [V, d].
        classes: how many rows the classes have.
    """

    files: tuple[Path, ...]
    images: int
    shape: tuple[int, ...]
    classes: int


def check_target(path: Path) -> None:
    """Find out before any work whether features can be written to a file.

    Raises:
        UsageError: an unknown ending, or a folder of that name.
        MissingExtraError: pyarrow, which writes parquet, is not installed.
        StorageError: the folder cannot be created or written.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(
            f"features go to a file that ends in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}, got {str(path)!r}",
            remedy="Change the ending of its name",
        )
    if path.is_dir():
        raise UsageError(f"the output must be a file, and {str(path)!r} is a folder", remedy="Name a file in it")
    if path.suffix.lower() == ".parquet":
        require("pyarrow.parquet", purpose="to write parquet files")
    ensure_writable(path.absolute().parent)


def warn_of_full_disk(path: Path, size: int) -> None:
    """Say that a file will not fit on its disk, if that is so.

    Args:
        path: the file; its folder exists.
        size: the bytes of its features.
    """
    # the rows of the others are on the disk twice for a while
    required = size if path.suffix.lower() == ".parquet" else 2 * size
    with suppress(OSError):
        free = shutil.disk_usage(path.absolute().parent).free
        if required > free:
            _logger.warning(
                "writing %r needs up to %s, and its disk has %s free. Name a file on another disk",
                printable(str(path)),
                format_bytes(required),
                format_bytes(free),
            )


def write_features(path: Path, batches: Iterable[EncodedBatch], run: FeatureRun) -> SavedFeatures:
    """Write features; a file of that name is replaced.

    Args:
        path: its ending says in which format.
        batches: at least one row in all.
        run: that they are from.

    Raises:
        as ``check_target``, and what ``batches`` raises.
    """
    check_target(path)
    path = path.absolute()
    write = {".parquet": _write_parquet, ".npz": _write_npz, ".safetensors": _write_safetensors}[path.suffix.lower()]
    return write(path, batches, run)


def _info_text(info: Mapping[str, Any]) -> str:
    return valid_unicode(json.dumps(info, ensure_ascii=False, sort_keys=True))


# Parquet


def _write_parquet(path: Path, batches: Iterable[EncodedBatch], run: FeatureRun) -> SavedFeatures:
    files: list[Path] = []
    images, classes, shape = 0, 0, ()
    with atomic_write(path) as stream, ExitStack() as stack:
        writer: Any = None
        for group in _grouped(batches):
            table = _image_table(group, run.info)
            if writer is None:
                shape = group.features.shape[1:]
                writer = stack.enter_context(_parquet_writer(stream, table.schema))
            writer.write_table(table)
            images += len(group.ids)
        if run.classes is not None:
            # first of the two, so that the classes are there where the images are
            files.append(path.with_name(f"{path.stem}.classes{path.suffix}"))
            classes = _write_class_table(files[0], run.classes, run.info)
    return SavedFeatures((path, *files), images, shape, classes)


def _write_class_table(path: Path, classes: ClassFeatures, info: Mapping[str, Any]) -> int:
    table = _class_table(classes, info)
    with atomic_write(path) as stream, _parquet_writer(stream, table.schema) as writer:
        writer.write_table(table)
    return len(classes.ids)


def _parquet_writer(stream: BinaryIO, schema: Any) -> Any:
    # vectors do not repeat, and a dictionary of them would only cost
    columns = [name for name in schema.names if name != "features"]
    return require("pyarrow.parquet").ParquetWriter(stream, schema, use_dictionary=columns)


def _grouped(batches: Iterable[EncodedBatch]) -> Iterator[EncodedBatch]:
    """The rows of batches in groups of about the size of a row group."""
    waiting: list[EncodedBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.features.nbytes
        if size >= _GROUP_BYTES:
            yield _joined(waiting)
            waiting, size = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[EncodedBatch]) -> EncodedBatch:
    import numpy as np

    columns = ([value for batch in batches for value in getattr(batch, name)] for name in _COLUMNS)
    return EncodedBatch(np.concatenate([batch.features for batch in batches]), *columns)


def _image_table(batch: EncodedBatch, info: Mapping[str, Any]) -> Any:
    """A row for each image; where there are views a row for each view of each image."""
    arrow = require("pyarrow")
    features = batch.features
    columns: dict[str, Any] = {
        "id": list(batch.ids),
        "path": [valid_unicode(name) for name in batch.names],
        "label": [valid_unicode(label) or None for label in batch.labels],
    }
    if features.ndim == 3:
        views = [(view["kind"], number) for view in info["views"] for number in range(view["count"])]
        columns = {name: [value for value in values for _ in views] for name, values in columns.items()}
        columns["kind"] = [kind for kind, _ in views] * len(batch.ids)
        columns["view"] = [number for _, number in views] * len(batch.ids)
        features = features.reshape(-1, features.shape[-1])
    return _table(arrow, columns, features, info)


def _class_table(classes: ClassFeatures, info: Mapping[str, Any]) -> Any:
    texts = [None] * len(classes.ids) if classes.texts is None else list(classes.texts)
    return _table(
        require("pyarrow"),
        {"class": list(classes.ids), "name": list(classes.names), "text": texts},
        classes.features,
        info,
    )


def _table(arrow: Any, columns: Mapping[str, Sequence[Any]], features: NDArray[np.float32], info: Any) -> Any:
    import numpy as np

    types = {name: arrow.int32() if name == "view" else arrow.string() for name in columns}
    arrays = [arrow.array(values, types[name]) for name, values in columns.items()]
    values = arrow.array(np.ascontiguousarray(features).reshape(-1), arrow.float32())
    arrays.append(arrow.FixedSizeListArray.from_arrays(values, features.shape[-1]))
    fields = [*types.items(), ("features", arrays[-1].type)]
    return arrow.Table.from_arrays(arrays, schema=arrow.schema(fields, metadata={INFO_KEY: _info_text(info)}))


# NumPy and safetensors


class _SpooledRows:
    """The rows of a file whose number is not known yet, in nameless files of the same folder.

    Args:
        folder: where the file will be.
        stack: closes them.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def nameless() -> IO[bytes]:
            return stack.enter_context(TemporaryFile(dir=folder))

        self._features, self._columns = nameless(), {name: nameless() for name in _COLUMNS}
        self.widths = dict.fromkeys(_COLUMNS, 1)
        self.images = 0
        self.shape: tuple[int, ...] = ()

    def add(self, batch: EncodedBatch) -> None:
        """Append the rows of a batch."""
        self.shape = batch.features.shape[1:]
        self._features.write(batch.features.astype("<f4", copy=False).tobytes())
        for name, stream in self._columns.items():
            values = [valid_unicode(value) for value in getattr(batch, name)]
            self.widths[name] = max(self.widths[name], *map(len, values))
            stream.write(b",\n" if self.images else b"[")
            stream.write(_json_items(values))
        self.images += len(batch.ids)

    def finish(self) -> None:
        """End the columns."""
        for stream in self._columns.values():
            stream.write(b"]")

    def features(self) -> Iterator[bytes]:
        """The bytes of all features."""
        return _blocks(self._features)

    def json_list(self, name: str) -> tuple[int, Iterator[bytes]]:
        """A column as the text of a JSON list, a value on each line: how many bytes, and these."""
        return self._columns[name].seek(0, os.SEEK_END), _blocks(self._columns[name])

    def strings(self, name: str) -> Iterator[str]:
        """The values of a column."""
        self._columns[name].seek(0)
        return (json.loads(line[line.index(b'"') : line.rindex(b'"') + 1]) for line in self._columns[name])


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    stream.seek(0)
    while block := stream.read(_BLOCK_BYTES):
        yield block


def _json_items(values: Iterable[str]) -> bytes:
    """The values of a JSON list, one on each line."""
    return ",\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode("utf-8")


def _spool(path: Path, batches: Iterable[EncodedBatch], stack: ExitStack) -> _SpooledRows:
    rows = _SpooledRows(path.parent, stack)
    for batch in batches:
        rows.add(batch)
    rows.finish()
    if not rows.images:
        raise UsageError("there are no features to write", remedy="Encode at least one image")
    return rows


def _write_npz(path: Path, batches: Iterable[EncodedBatch], run: FeatureRun) -> SavedFeatures:
    # closing a nameless file on a full disk fails as well
    with storage_errors(path, "write"), ExitStack() as stack:
        rows = _spool(path, batches, stack)
        class_features = run.classes
        with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:
            _add_array(archive, "features", "<f4", (rows.images, *rows.shape), rows.features())
            for name in _COLUMNS:
                _add_strings(archive, name, rows.strings(name), rows.images, rows.widths[name])
            if class_features is not None:
                _add_class_arrays(archive, class_features)
            text = _info_text(run.info)
            _add_array(archive, "info", f"<U{len(text)}", (), [_string_bytes([text], len(text))])
    return SavedFeatures((path,), rows.images, rows.shape, 0 if class_features is None else len(class_features.ids))


def _add_class_arrays(archive: zipfile.ZipFile, classes: ClassFeatures) -> None:
    features = classes.features.astype("<f4", copy=False)
    _add_array(archive, "class_features", "<f4", features.shape, [features.tobytes()])
    for name, values in _class_strings(classes).items():
        _add_strings(archive, name, values, len(values), max(1, *map(len, values)))


def _class_strings(classes: ClassFeatures) -> dict[str, Sequence[str]]:
    strings = {"class_ids": classes.ids, "class_names": classes.names}
    return strings if classes.texts is None else {**strings, "class_texts": classes.texts}


def _add_strings(archive: zipfile.ZipFile, name: str, values: Iterable[str], count: int, width: int) -> None:
    from abs_classify.encoding.samples import batched

    parts = (_string_bytes(part, width) for part in batched(values, _STRINGS_AT_ONCE))
    # strings of one width are mostly zeros
    _add_array(archive, name, f"<U{width}", (count,), parts, zipfile.ZIP_DEFLATED)


def _string_bytes(values: Sequence[str], width: int) -> bytes:
    import numpy as np

    return np.array(values, dtype=f"<U{width}").tobytes()


def _add_array(
    archive: zipfile.ZipFile,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    parts: Iterable[bytes],
    compression: int = zipfile.ZIP_STORED,
) -> None:
    from numpy.lib import format as npy

    member = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date, so that the same features give the same bytes
    member.compress_type = compression
    with archive.open(member, "w", force_zip64=True) as stream:
        npy.write_array_header_2_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
        for part in parts:
            stream.write(part)


def _write_safetensors(path: Path, batches: Iterable[EncodedBatch], run: FeatureRun) -> SavedFeatures:
    # closing a nameless file on a full disk fails as well
    with storage_errors(path, "write"), ExitStack() as stack:
        rows = _spool(path, batches, stack)
        class_features = run.classes
        tensors: dict[str, tuple[str, tuple[int, ...], Iterable[bytes]]] = {
            "features": ("F32", (rows.images, *rows.shape), rows.features())
        }
        if class_features is not None:
            matrix = class_features.features.astype("<f4", copy=False)
            tensors["class_features"] = "F32", matrix.shape, [matrix.tobytes()]
        for name in _COLUMNS:
            size, parts = rows.json_list(name)
            tensors[name] = "U8", (size,), parts
        if class_features is not None:
            for name, values in _class_strings(class_features).items():
                text = b"[" + _json_items(map(valid_unicode, values)) + b"]"
                tensors[name] = "U8", (len(text),), [text]
        with atomic_write(path) as stream:
            stream.write(_safetensors_header(tensors, _info_text(run.info)))
            for _, _, blocks in tensors.values():
                stream.writelines(blocks)
    return SavedFeatures((path,), rows.images, rows.shape, 0 if class_features is None else len(class_features.ids))


def _safetensors_header(tensors: Mapping[str, tuple[str, tuple[int, ...], Iterable[bytes]]], info: str) -> bytes:
    """The first bytes of a safetensors file, whose tensors follow in this order."""
    header: dict[str, Any] = {"__metadata__": {INFO_KEY: info}}
    start = 0
    for name, (dtype, shape, _) in tensors.items():
        size = math.prod(shape) * (4 if dtype == "F32" else 1)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
