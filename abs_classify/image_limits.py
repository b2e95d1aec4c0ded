"""What reading an image may cost, whatever its file says: memory that all threads share, scans, metadata.

A picture's pixels alone do not tell: WebP and JPEG 2000 decoders need a multiple of them, and a JPEG file may go over
its pixels thousands of times.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

__all__ = [
    "DECODING_MEMORY",
    "MAX_DECODING_BYTES",
    "MAX_PIXELS",
    "MAX_SCANNED_PIXELS",
    "MemoryLimit",
    "decoding_bytes",
    "largest_image",
    "png_without_metadata",
    "scanned_pixels",
]

#: An image with more pixels is decoded at a reduced size where its format can do that, and refused otherwise. Pillow's
#: own limit, 89 megapixels unless the program changed it, holds as well.
MAX_PIXELS = 100_000_000

#: Memory for decoding, of all threads together.
MAX_DECODING_BYTES = 2_000_000_000

#: Pixels of a JPEG file times its scans, of which ordinary ones have at most twenty. About ten seconds.
MAX_SCANNED_PIXELS = 5_000_000_000

# Measured bytes a pixel of decoding with Pillow 13, rounded up; the other formats need their pixels alone.
_DECODER_BYTES = {"WEBP": 16, "AVIF": 12, "JPEG2000": 20}
_PROGRESSIVE_BYTES, _PIXEL_BYTES = 10, 4

# besides: the RGB copy, and the one that is turned upright
_COPIES_BYTES = 8


def largest_image() -> int:
    """The most pixels of an image."""
    return min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)


def decoding_bytes(image: Image.Image, width: int, height: int) -> int:
    """The memory that decoding an opened image takes.

    Args:
        image: its format decides what a pixel costs.
        width, height: the size at which it is decoded.
    """
    decoder = _DECODER_BYTES.get(image.format or "", _PIXEL_BYTES)
    copies = width * height * (decoder + _COPIES_BYTES)
    if image.info.get("progressive"):
        # the coefficients of the whole image are kept until the last scan, whatever the size of the result
        copies += image.width * image.height * (_PROGRESSIVE_BYTES - _PIXEL_BYTES)
    return copies


class MemoryLimit:
    """Divides memory between threads: one waits until what it needs is free.

    Args:
        limit: bytes; who asks for more waits until nobody else has any.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taking(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes for the block, which must not take any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + size <= self._limit)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


DECODING_MEMORY = MemoryLimit(MAX_DECODING_BYTES)

_SCAN = b"\xff\xda"
_FEW_SCANS = 20
# in the entropy-coded data of a scan a marker is what neither fills, is stuffed, nor restarts
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def scanned_pixels(data: bytes, pixels: int) -> int:
    """How many pixels decoding a JPEG file goes over: those of the image times its scans.

    Args:
        data: the file; of several images in it the first counts.
        pixels: of the image.
    """
    # the two bytes of a scan's marker also occur in thumbnails, which the precise count leaves out
    scans = data.count(_SCAN)
    return pixels * (scans if scans <= _FEW_SCANS else _scans(data))


def _scans(data: bytes) -> int:
    scans, at = 0, 2
    while marker := _MARKER.search(data, at):
        kind = data[marker.start() + 1]
        if kind == 0xD9:  # end of image
            break
        scans += kind == 0xDA
        # every other segment, and the header of a scan, states its length
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big"))
    return scans


_PNG_START = b"\x89PNG\r\n\x1a\n"

# chunks that decide pixels and need not be understood, and uncompressed XMP, which may hold the orientation
_KEPT_CHUNKS = frozenset({b"tRNS", b"eXIf", b"sBIT", b"acTL", b"fcTL", b"fdAT"})
_XMP = b"iTXtXML:com.adobe.xmp\0\0"
_LARGEST_XMP = 1 << 20


def png_without_metadata(data: bytes) -> bytes | None:
    """A PNG file without the metadata that Pillow may refuse: large when unpacked, or damaged. None if it has none."""
    if not data.startswith(_PNG_START):
        return None
    kept, at = [_PNG_START], len(_PNG_START)
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if _is_kept(data[at:end]):
            kept.append(data[at:end])
        at = end
    smaller = b"".join(kept)
    return smaller if len(smaller) < len(data) else None


def _is_kept(chunk: bytes) -> bool:
    kind = chunk[4:8]
    # the case of the first letter tells what a decoder must know from what it may leave out
    if kind[:1].isupper() or kind in _KEPT_CHUNKS:
        return True
    checked = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
    return chunk[4:].startswith(_XMP) and len(chunk) <= _LARGEST_XMP and checked
