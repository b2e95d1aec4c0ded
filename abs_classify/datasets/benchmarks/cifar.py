"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their binary version. The pickles of the Python version are never read.

A record is one label byte (two in CIFAR-100: coarse, fine) and 3 x 1024 bytes: a 32 x 32 image, channel by channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from abs_classify.datasets.base import Sample, read_bytes
from abs_classify.datasets.benchmarks.layouts import BenchmarkRoot, MissingPath, missing_file, unknown_class
from abs_core.errors import DatasetError

__all__ = ["CifarBinary", "CifarRecord"]


_SIDE = 32


_CHANNEL = _SIDE * _SIDE


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
            if total % size:
                raise DatasetError(
                    f"the size of {str(path)!r} must be a multiple of {size} bytes, got {total}",
                    remedy=f"Extract {self.archive} again",
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
