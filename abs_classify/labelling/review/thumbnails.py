"""Pictures of images for the review page: small JPEG files, made when they are asked for, a few at a time."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict

from PIL import Image

from abs_classify.images import load_image
from abs_classify.labelling.rows import LabelRow
from abs_core.errors import ImageError

__all__ = ["MAX_SIDE", "ThumbnailMaker"]

#: the longest side of a picture, in pixels
MAX_SIDE = 2000

# sides that pictures have: the next one of what is asked for, so that a hostile page does not fill the memory
_SIDES = (120, 240, 400, 800, 1600, MAX_SIDE)

_QUALITY = 85


class ThumbnailMaker:
    """Makes pictures and keeps those that were asked for last. Safe for threads.

    Args:
        max_bytes: of the pictures that are kept.
    """

    def __init__(self, max_bytes: int = 64_000_000) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()
        # decoding takes memory, and more threads than cores only wait for each other
        self._workers = threading.BoundedSemaphore(max(2, min(8, os.cpu_count() or 2)))

    def picture(self, row: LabelRow, side: int) -> bytes:
        """The JPEG file of an image whose longer side is about as long as asked for, and never longer than the image.

        Raises:
            ImageError: it cannot be read, or has changed since it was labelled.
        """
        key = row.image_id, next((size for size in _SIDES if size >= side), MAX_SIDE)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._workers:
            data = _picture(row, key[1])
        with self._lock:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data


def _picture(row: LabelRow, side: int) -> bytes:
    if row.location is None or not row.image_id:
        raise ImageError(f"the image {row.path!r} could not be read", remedy="See its reason in the table")
    image = load_image(row.location.sample().read(), row.path, truncated="accept", side=2 * side)
    if image.id != row.image_id:
        raise ImageError(f"the image {row.path!r} has changed since it was labelled", remedy="Label it again")
    pixels = image.pixels
    pixels.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    stream = io.BytesIO()
    pixels.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
