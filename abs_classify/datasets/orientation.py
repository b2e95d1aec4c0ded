"""Photos as they are stored: without the turn that their EXIF orientation asks for.

CLIP's own loader and torchvision's do not turn photos, this toolkit does. The bytes that are read here lack the
orientation, so such an image has an id of its own and shares no features with the one that is turned.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

from abs_classify.datasets.base import ByteSource, Sample, read_bytes

__all__ = ["StoredOrientation", "as_stored", "without_orientation"]

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


def as_stored(sample: Sample) -> Sample:
    """The sample whose image is not turned."""
    return replace(sample, source=StoredOrientation(sample.path, sample.source))


def without_orientation(data: bytes) -> bytes:
    """A JPEG whose EXIF orientation, if it has one, is 1 (as stored); other bytes are given back as they are.

    The pixels stay as they are encoded. What is no sound JPEG is left to the decoder to refuse.
    """
    position = 2
    while data[:2] == b"\xff\xd8" and position + 4 <= len(data) and data[position] == 0xFF:
        marker, (length,) = data[position + 1], struct.unpack_from(">H", data, position + 2)
        if marker in (0xDA, 0xD9) or length < 2:
            break
        start, end = position + 4, position + 2 + length
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            field = _orientation_field(data[:end], start + 6)
            if field is not None:
                place, order = field
                return data[:place] + struct.pack(f"{order}H", 1) + data[place + 2 :]
        position = end
    return data


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
