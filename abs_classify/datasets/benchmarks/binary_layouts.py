"""Layouts whose labels stand in binary files: CIFAR in its binary version, and MATLAB annotations.

The MATLAB files are those of Flowers102, StanfordCars and the ImageNet devkit, of version 5. They are read here, since
scipy's reader believes what a file says of itself, and a damaged one can end the process. What a file unpacks to is
bounded, every element lies inside the one that holds it, and no array has more cells than bytes. CIFAR's pickles are
never read.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Sample, read_bytes
from abs_classify.datasets.benchmarks.disk_search import folder_of_images_like, has_image_like
from abs_classify.datasets.benchmarks.roots import (
    Annotation,
    BenchmarkRoot,
    ListedLayout,
    ListedSample,
    MissingPath,
    missing_file,
    unknown_class,
)
from abs_classify.datasets.folders import list_folder, read_lines
from abs_core.errors import DatasetError
from abs_core.extras import require

__all__ = ["CarsMat", "CifarBinary", "CifarRecord", "FlowersMat", "ImagenetDevkit", "ImagenetSuffixed", "load_variable"]

_FETCH = "Fetch the official file again"

# bytes of the file, and of all that it unpacks to; the largest official one has 4 MB
_MAX_FILE, _MAX_UNPACKED = 1 << 26, 1 << 27
# a struct array of cell arrays of texts has three
_MAX_DEPTH, _MAX_DIMENSIONS = 8, 8
_HEADER = 128

_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32, _LAST_KIND = 1, 5, 6, 18

# of one array; the annotations of Stanford Cars have 49,000
_MAX_PARTS = 1 << 20

# classes of arrays; sparse ones, objects and functions are in no annotation
_CELL, _STRUCT, _TEXT = 1, 2, 4
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}

# how numbers and texts are stored, which may be in fewer bytes than their class has
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


class _DamagedError(ValueError):
    pass


def load_variable(file: Path, key: str) -> Any:
    """A variable of a MATLAB file as a numpy array of at least one dimension, without dimensions of size 1.

    Texts are ``str``, cells are object arrays, and structs are arrays with fields of objects, as ``scipy.io.loadmat``
    gives them with ``squeeze_me``.

    Raises:
        MissingExtraError: numpy is not installed.
        DatasetError: the file cannot be read, is too large once it is unpacked, or has no such variable.
    """
    np = require("numpy", extra="datasets", purpose="to read the .mat annotations of this data set")
    try:
        if file.stat().st_size > _MAX_FILE:
            raise DatasetError(f"{str(file)!r} is larger than {_MAX_FILE >> 20} MB", remedy=_FETCH)
        value = _find_variable(file.read_bytes(), key)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(file)!r}: {reason}", remedy="Check its permissions") from error
    except DatasetError:
        raise
    except Exception as error:  # a damaged file can be wrong in any way
        raise DatasetError(f"{str(file)!r} is not a MATLAB file of version 5, or is damaged", remedy=_FETCH) from error
    if value is None:
        raise DatasetError(f"{str(file)!r} has no variable {key!r}", remedy=_FETCH)
    return np.atleast_1d(value)


def _find_variable(data: bytes, key: str) -> Any:
    """The value of a variable; None if there is none of that name. Every element is walked, needed or not."""
    order = {b"IM": "<", b"MI": ">"}[data[126:128]]
    position, unpacked, value = _HEADER, 0, None
    while position < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        element = data[position : position + 8 + size]
        if kind not in (_MATRIX, _COMPRESSED) or len(element) < 8 + size:
            raise _DamagedError
        position += 8 + size
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            element = inflater.decompress(element[8:], _MAX_UNPACKED - unpacked + 1)
        unpacked += len(element)
        parts = _parts(element, order)
        if unpacked > _MAX_UNPACKED or len(parts) != 1 or parts[0][0] != _MATRIX:
            raise _DamagedError
        name, found = _read_matrix(parts[0][1], order, 0)
        if name == key:
            value = found
    return value


def _read_matrix(content: bytes, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of an array that has no more cells than bytes."""
    import numpy as np

    parts = _parts(content, order)
    if not parts:  # what is written for a field without a value
        return "", np.empty(0)
    tags = [tag for tag, _ in parts]
    if depth > _MAX_DEPTH or tags[:3] != [_UINT32, _INT32, _INT8] or len(parts[0][1]) != 8:
        raise _DamagedError
    flags, sizes = parts[0][1], np.frombuffer(parts[1][1], f"{order}i4")
    shape = tuple(map(int, sizes))
    if not 2 <= len(shape) <= _MAX_DIMENSIONS or min(shape) < 0:
        raise _DamagedError
    name = parts[2][1].decode("latin-1")
    kind = flags[0] if order == "<" else flags[3]
    if kind == _CELL:
        return name, np.squeeze(_read_cells(parts[3:], order, depth, math.prod(shape)).reshape(shape, order="F"))
    if kind == _STRUCT:
        return name, np.squeeze(_read_structs(parts[3:], order, depth, math.prod(shape)).reshape(shape, order="F"))
    if len(parts) != 4 or kind not in (_TEXT, *_NUMBERS):
        raise _DamagedError
    stored, data = parts[3]
    if kind == _TEXT:
        return name, _read_text(stored, data, order, shape)
    numbers = np.frombuffer(data, order + _STORED[stored]).astype(_NUMBERS[kind])
    return name, np.squeeze(numbers.reshape(shape, order="F"))[()]


def _read_text(stored: int, data: bytes, order: str, shape: tuple[int, ...]) -> Any:
    import numpy as np

    encoding = _ENCODINGS[stored]
    letters = data.decode(encoding + {"<": "-le", ">": "-be"}[order] if encoding in ("utf-16", "utf-32") else encoding)
    if len(letters) != math.prod(shape):
        raise _DamagedError
    rows = ["".join(letters[row :: shape[0]]) for row in range(shape[0])] if len(shape) == 2 else [letters]
    return rows[0] if len(rows) == 1 else np.array(rows, dtype=object)


def _read_cells(parts: list[tuple[int, bytes]], order: str, depth: int, count: int) -> Any:
    import numpy as np

    if count != len(parts) or any(tag != _MATRIX for tag, _ in parts):
        raise _DamagedError
    cells = np.empty(count, dtype=object)
    for position, (_, content) in enumerate(parts):
        cells[position] = _read_matrix(content, order, depth + 1)[1]
    return cells


def _read_structs(parts: list[tuple[int, bytes]], order: str, depth: int, count: int) -> Any:
    import numpy as np

    if [tag for tag, _ in parts[:2]] != [_INT32, _INT8]:
        raise _DamagedError
    (width,) = struct.unpack(f"{order}i", parts[0][1])
    packed = parts[1][1]
    if width < 1 or len(packed) % width:
        raise _DamagedError
    names = [packed[at : at + width].partition(b"\0")[0].decode("latin-1") for at in range(0, len(packed), width)]
    if not all(names) or (not names and count > 1):
        raise _DamagedError
    values = _read_cells(parts[2:], order, depth, count * len(names))
    structs = np.empty(count, dtype=[(name, object) for name in names])
    for position, name in enumerate(names):
        structs[name] = values[position :: len(names)]
    return structs


def _parts(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """Kind and content of the elements that lie one behind the other, in the long and in the short form."""
    parts: list[tuple[int, bytes]] = []
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        if kind >> 16:  # up to four bytes, in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            start, end = position + 4, position + 8
            if size > 4:
                raise _DamagedError
        else:
            start = position + 8
            end = start + size
            end += -end % 8 if kind != _COMPRESSED else 0
        if start + size > len(data) or not _INT8 <= kind <= _LAST_KIND or len(parts) == _MAX_PARTS:
            raise _DamagedError
        parts.append((kind, data[start : start + size]))
        position = end
    return parts


_SIDE = 32
_CHANNEL = _SIDE * _SIDE

# CIFAR-100 has 50,000 training images in one file
_MAX_RECORDS = 100_000


@dataclass(frozen=True, slots=True)
class CifarRecord:
    """One image of a binary file; the ``ByteSource`` of a sample.

    Args:
        path: the file.
        index: of the record, from 0 on.
        label_bytes: their number before the pixels.
    """

    path: Path
    index: int
    label_bytes: int

    @property
    def name(self) -> str:
        """``record 17``."""
        return f"record {self.index}"

    def read(self) -> bytes:
        """The image as a PPM file, which keeps every pixel exactly.

        Raises:
            ImageError: the file cannot be read, or is truncated.
        """
        size = self.label_bytes + 3 * _CHANNEL
        channels = read_bytes(self.path, f"{self.path}::{self.name}", self.index * size, size)[self.label_bytes :]
        pixels = bytearray(3 * _CHANNEL)
        for channel in range(3):
            pixels[channel::3] = channels[channel * _CHANNEL : (channel + 1) * _CHANNEL]
        return b"P6 %d %d 255\n" % (_SIDE, _SIDE) + bytes(pixels)


@dataclass(frozen=True)
class CifarBinary:
    """The binary files of one split.

    Args:
        files: in their order, relative to the root.
        label_bytes: their number before each image; the last one is the class.
        pickle: the name of the first file in the Python version, to recognize that version.
        archive: of the binary version.
    """

    files: tuple[str, ...]
    label_bytes: int
    pickle: str
    archive: str

    @property
    def layout(self) -> str:
        """The files that it reads."""
        return ", ".join(self.files)

    @property
    def required_paths(self) -> int:
        """How many files it needs."""
        return len(self.files)

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The files; the remedy says so if only the Python version is there."""
        remedy = (
            f"Download the binary version, {self.archive}, and extract it beside the Python version, whose pickles are "
            "never opened, since a pickle can run any program"
            if (root.path / self.pickle).is_file()
            else ""
        )
        return tuple(
            path for file in self.files for path in missing_file(root.path / file, "images and labels", remedy)
        )

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images in the order of the files."""
        size = self.label_bytes + 3 * _CHANNEL
        for file in self.files:
            path = root.path / file
            total = path.stat().st_size
            if total % size or total > _MAX_RECORDS * size:
                rule = f"a multiple of {size} bytes" if total % size else f"up to {_MAX_RECORDS * size} bytes"
                raise DatasetError(
                    f"the size of {str(path)!r} must be {rule}, got {total}", remedy=f"Extract {self.archive} again"
                )
            for index, number in enumerate(_class_numbers(path, size, self.label_bytes)):
                label = root.labels.id_at(number)
                if label is None:
                    raise unknown_class(f"record {index} of {str(path)!r}", number, root.labels)
                yield Sample(path, label, CifarRecord(path, index, self.label_bytes))


def _class_numbers(path: Path, size: int, label_bytes: int) -> Iterator[int]:
    try:
        with path.open("rb") as stream:
            while record := stream.read(size):
                yield record[label_bytes - 1]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(path)!r}: {reason}", remedy="Check its permissions") from error


_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


@dataclass(frozen=True)
class FlowersMat(ListedLayout):
    """Oxford 102 Flowers (Nilsback and Zisserman, 2008): ``imagelabels.mat`` and ``setid.mat``.

    Args:
        key: the variable of ``setid.mat``: ``trnid``, ``valid`` or ``tstid``. The test split is the largest.
    """

    key: str
    images = "jpg"

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The two files."""
        return tuple(
            Annotation(file, title, f"Download {file} from {_FLOWERS} to {{path}}")
            for file, title in (
                ("imagelabels.mat", "the classes of the images"),
                ("setid.mat", "the split of the images"),
            )
        )

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"imagelabels.mat, setid.mat ({self.key}) and jpg/"

    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images in the order of ``setid.mat``."""
        numbers = _integers(root.file("imagelabels.mat"), "labels")
        split = root.file("setid.mat")
        for image in _integers(split, self.key):
            where = f"the image number {image} of {str(split)!r}"
            label = root.labels.id_at(numbers[image - 1] - 1) if 1 <= image <= len(numbers) else None
            if label is None:
                raise unknown_class(where, numbers[image - 1 : image], root.labels)
            yield ListedSample(f"image_{image:05d}.jpg", label, where)


@dataclass(frozen=True)
class CarsMat(ListedLayout):
    """Stanford Cars (Krause et al., 2013): the annotations of one split.

    Args:
        file: a ``.mat`` file with the fields ``fname`` and ``class`` (from 1 on), relative to the root.
        images: the folder of its images.
    """

    file: str
    images: str

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The file."""
        remedy = f"Put {Path(self.file).name} (linked in DATASETS.md of the CoOp repository) at {{path}}"
        return (Annotation(self.file, "the classes of the images", "" if "devkit" in self.file else remedy),)

    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images in the order of the annotations."""
        file = root.file(self.file)
        rows = load_variable(file, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise DatasetError(
                f"the annotations in {str(file)!r} have no classes", remedy="Use the file that ends in _withlabels.mat"
            )
        for row in rows:
            name, number = str(row["fname"]), _integer(row["class"], file)
            where = f"the image {name!r} of {str(file)!r}"
            label = root.labels.id_at(number - 1)
            if label is None:
                raise unknown_class(where, number, root.labels)
            yield ListedSample(name, label, where)


@dataclass(frozen=True)
class ImagenetDevkit(ListedLayout):
    """ImageNet's validation images in one folder, with the labels of the official devkit.

    The devkit numbers the classes in an order of its own, which ``meta.mat`` translates into WordNet ids.

    Args:
        images: the folder of images, relative to the root.
    """

    images: str
    pattern = r"ILSVRC2012_val_\d{8}\.JPEG"
    _data = "ILSVRC2012_devkit_t12/data"
    _truth = f"{_data}/ILSVRC2012_validation_ground_truth.txt"

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """The two files of the devkit."""
        return (
            Annotation(self._truth, "the classes of the images"),
            Annotation(f"{self._data}/meta.mat", "the WordNet ids of the classes"),
        )

    @property
    def layout(self) -> str:
        """The files and folders that it reads."""
        return f"{self._data}/ and images in {self.images}/"

    def _missing_images(self, folder: Path, anywhere: bool = False) -> tuple[MissingPath, ...]:
        return () if not anywhere and has_image_like(folder, self.pattern) else (MissingPath(folder, "the images"),)

    def listed(self, root: BenchmarkRoot) -> Iterator[ListedSample]:
        """The images by number."""
        truth, meta = root.file(self._truth), root.file(f"{self._data}/meta.mat")
        synsets = load_variable(meta, "synsets")
        if not {"ILSVRC2012_ID", "WNID"} <= set(synsets.dtype.names or ()):
            raise DatasetError(f"the synsets in {str(meta)!r} have no WordNet ids", remedy=_FETCH)
        wnids = {_integer(row["ILSVRC2012_ID"], meta): str(row["WNID"]) for row in synsets}
        for image, (number, line) in enumerate(read_lines(truth), 1):
            label = root.labels.find_id(wnids.get(int(line[:9]), "")) if line.isdigit() else None
            where = f"line {number} of {str(truth)!r}"
            if label is None:
                raise unknown_class(where, line, root.labels)
            yield ListedSample(f"ILSVRC2012_val_{image:08d}.JPEG", label, where)


@dataclass(frozen=True)
class ImagenetSuffixed:
    """ImageNet's validation images in one folder, each with its WordNet id at the end of its name.

    ``ILSVRC2012_val_00000001_n01751748.JPEG``, as the Hugging Face hub packs them.

    Args:
        images: the folder of images, relative to the root.
    """

    images: str
    required_paths = 1
    _name = r"ILSVRC2012_val_\d{8}_(n\d{8})\.JPEG"

    @property
    def layout(self) -> str:
        """The files that it reads."""
        return f"images in {self.images}/ with WordNet ids in their names"

    def _folder(self, root: BenchmarkRoot) -> Path | None:
        published = root.path / self.images
        if has_image_like(published, self._name):
            return published
        return folder_of_images_like(root.folders, self._name) if root.search else None

    def missing(self, root: BenchmarkRoot) -> tuple[MissingPath, ...]:
        """The folder of images."""
        return () if self._folder(root) else (MissingPath(root.path / self.images, "the folder of images"),)

    def samples(self, root: BenchmarkRoot) -> Iterator[Sample]:
        """The images by number."""
        folder = self._folder(root) or root.path / self.images
        for name in list_folder(folder)[1]:
            if match := re.fullmatch(self._name, name, re.IGNORECASE):
                label = root.labels.find_id(match[1])
                if label is None:
                    raise unknown_class(f"the name of {str(folder / name)!r}", match[1], root.labels)
                yield Sample(folder / name, label)


def _integers(file: Path, key: str) -> list[int]:
    return [_integer(value, file) for value in load_variable(file, key).reshape(-1)]


def _integer(value: Any, file: Path) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{str(file)!r} has a class or an image number that is not a number", remedy=_FETCH
        ) from error
