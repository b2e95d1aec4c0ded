"""Photos as they are stored: without the turn that their EXIF orientation asks for.

CLIP's own loader and torchvision's do not turn photos, this toolkit does. The bytes that are read here lack the
orientation, so such an image has an id of its own and shares no features with the one that is turned.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from abs_classify.datasets.base import ByteSource, Dataset, read_bytes
from abs_core.errors import UnknownNameError

__all__ = ["StoredOrientation", "all_as_stored", "is_as_stored", "without_orientation"]

# Photos turned as their EXIF orientation says, or as they are stored, which CLIP's and torchvision's loaders take.
_ORIENTATIONS = ("upright", "stored")
_NOTE = "photos are read as they are stored, not turned by their EXIF orientation"

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_TAG = 0x0112
_SHORT = 3


@dataclass(frozen=True, slots=True)
class StoredOrientation:
    """An image without its EXIF orientation; the ``ByteSource`` of a sample.

    Args:
        path: the image's file, or the one that contains it.
        source: where in ``path`` it is; None if the file is the image.
    """

    path: Path
    source: ByteSource | None

    @property
    def name(self) -> str:
        """``photo.jpg, as stored``."""
        return f"{self.path.name if self.source is None else self.source.name}, as stored"

    def read(self) -> bytes:
        """The encoded image.

        Raises:
            ImageError: it cannot be read.
        """
        data = read_bytes(self.path, str(self.path)) if self.source is None else self.source.read()
        return without_orientation(data)


def is_as_stored(options: Mapping[str, str]) -> bool:
    """Whether ``?orientation=stored`` is given.

    Raises:
        UnknownNameError: it has another value than ``upright``, the default, or ``stored``.
    """
    value = options.get("orientation", _ORIENTATIONS[0])
    if value not in _ORIENTATIONS:
        raise UnknownNameError("value of ?orientation", value, _ORIENTATIONS)
    return value == _ORIENTATIONS[1]


def all_as_stored(dataset: Dataset) -> Dataset:
    """The data set with photos that are not turned, and a note that says so."""
    samples = tuple(replace(sample, source=StoredOrientation(sample.path, sample.source)) for sample in dataset.samples)
    return replace(dataset, samples=samples, notes=(*dataset.notes, _NOTE))


def without_orientation(data: bytes) -> bytes:
    """A JPEG, PNG or WebP file whose EXIF orientation, if it has one, is 1 (as stored); other bytes as they are.

    The pixels stay as they are encoded. What is no sound file is left to the decoder to refuse.
    """
    for start, end in _exif_blocks(data):
        field = _orientation_field(data[:end], start)
        if field is not None:
            place, order = field
            data = data[:place] + struct.pack(f"{order}H", 1) + data[place + 2 :]
            if data[:8] == _PNG:
                data = data[:end] + struct.pack(">I", zlib.crc32(data[start - 4 : end])) + data[end + 4 :]
    return data


def _exif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each block of EXIF data begins, with its byte order, and where it ends."""
    if data[:2] == b"\xff\xd8":
        yield from _jpeg_blocks(data)
    elif data[:8] == _PNG:
        yield from _chunks(data, 8, ">I4s", b"eXIf", trailer=4)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield from _chunks(data, 12, "<4sI", b"EXIF", trailer=0)


def _jpeg_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, (length,) = data[position + 1], struct.unpack_from(">H", data, position + 2)
        if marker in (0xDA, 0xD9) or length < 2:
            return
        start, end = position + 4, position + 2 + length
        if marker == 0xE1 and data.startswith(_EXIF, start):
            yield start + len(_EXIF), end
        position = end


def _chunks(data: bytes, position: int, header: str, wanted: bytes, trailer: int) -> Iterator[tuple[int, int]]:
    while position + 8 <= len(data):
        fields = struct.unpack_from(header, data, position)
        kind, size = fields if isinstance(fields[0], bytes) else fields[::-1]
        start = position + 8
        if kind == wanted and start + size + trailer <= len(data):
            # some writers put the name of JPEG's block before it
            yield start + (len(_EXIF) if trailer == 0 and data.startswith(_EXIF, start) else 0), start + size
        position = start + size + (trailer or size % 2)


def _orientation_field(data: bytes, tiff: int) -> tuple[int, str] | None:
    """Where the orientation stands, and in which byte order; None if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[tiff : tiff + 2], "")
    if not order or tiff + 8 > len(data):
        return None
    directory = tiff + struct.unpack_from(f"{order}I", data, tiff + 4)[0]
    if directory + 2 > len(data):
        return None
    for number in range(struct.unpack_from(f"{order}H", data, directory)[0]):
        entry = directory + 2 + 12 * number
        if entry + 12 > len(data):
            return None
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag == _TAG and kind == _SHORT:
            return entry + 8, order
    return None
