"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their binary version. The pickles of the Python version are never read.

A record is one label byte (two in CIFAR-100: coarse, fine) and 3 x 1024 bytes: a 32 x 32 image, plane by plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import Sample, read_bytes
from abs_classify.datasets.benchmarks.layouts import MissingPath, unknown_class, wanted_file
from abs_core.errors import DatasetError
from abs_core.labels import LabelSet

__all__ = ["CifarBinary", "CifarRecord"]


_SIDE = 32


_PLANE = _SIDE * _SIDE


@dataclass(frozen=True, slots=True)
class CifarRecord:
    """One image of a binary file.

    Args:
        path: the file.
        index: the record, from 0 on.
        head: label bytes before the pixels.
    """

    path: Path
    index: int
    head: int

    @property
    def name(self) -> str:
        """``record 17``."""
        return f"record {self.index}"

    def read(self) -> bytes:
        """The image as a PPM file, which keeps every pixel as it is.

        Raises:
            ImageError: the file cannot be read, or ends before.
        """
        size = self.head + 3 * _PLANE
        planes = read_bytes(self.path, f"{self.path}::{self.name}", self.index * size, size)[self.head :]
        pixels = bytearray(3 * _PLANE)
        for channel in range(3):
            pixels[channel::3] = planes[channel * _PLANE : (channel + 1) * _PLANE]
        return b"P6 %d %d 255\n" % (_SIDE, _SIDE) + bytes(pixels)


@dataclass(frozen=True)
class CifarBinary:
    """The binary files of one part.

    Args:
        files: in their order, relative to the root.
        head: label bytes before each image; the last of them is the class.
        python: what the Python version of the first file is called, for a helpful message.
        archive: the archive of the binary version.
    """

    files: tuple[str, ...]
    head: int
    python: str
    archive: str

    @property
    def layout(self) -> str:
        """The files it reads."""
        return ", ".join(self.files)

    @property
    def needs(self) -> int:
        """How many things must be there."""
        return len(self.files)

    def missing(self, root: Path, labels: LabelSet) -> tuple[MissingPath, ...]:  # noqa: ARG002 - as of every reader
        """Each of the files; says so where only the Python version is there."""
        pickled = (root / self.python).is_file()
        remedy = (
            f"Only the Python version is there, whose pickles are never opened, since a pickle can run any program: "
            f"download the binary version, {self.archive}, and extract it beside it"
        )
        found = [wanted_file(root / file, "images and labels", remedy if pickled else "") for file in self.files]
        return tuple(missing for each in found for missing in each)

    def samples(self, root: Path, labels: LabelSet) -> Iterator[Sample]:
        """The images in the order of the files."""
        size = self.head + 3 * _PLANE
        for file in self.files:
            path = root / file
            total = path.stat().st_size
            if total % size:
                raise DatasetError(
                    f"{str(path)!r} has {total} bytes, which is no multiple of {size}",
                    remedy=f"Extract {self.archive} again",
                )
            for index, number in enumerate(_labels(path, size, self.head)):
                label = labels.id_at(number)
                if label is None:
                    raise unknown_class(f"record {index} of {str(path)!r}", number, labels)
                yield Sample(path, label, CifarRecord(path, index, self.head))


def _labels(path: Path, size: int, head: int) -> Iterator[int]:
    try:
        with path.open("rb") as stream:
            while record := stream.read(size):
                yield record[head - 1]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DatasetError(f"cannot read {str(path)!r}: {reason}", remedy="Check its permissions") from error
