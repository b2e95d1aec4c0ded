"""A part of an image as an image of its own: what is in a box of it, without loss."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from abs_classify.datasets.base import Sample
from abs_core.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Box", "ImageCrop", "box_text"]

#: x, y, width and height in pixels of the upright image.
Box: TypeAlias = tuple[float, float, float, float]

# Decoded images that are kept: several boxes of an image come one after the other, and to several threads at once.
_KEPT_IMAGES, _KEPT_PIXELS = 4, 50_000_000


def box_text(box: Box) -> str:
    """``#xywh=10,20,30.5,40``, as a media fragment has it, to a hundredth of a pixel."""
    return "#xywh=" + ",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in box)


@dataclass(frozen=True, slots=True)
class ImageCrop:
    """The part of an image that is in a box; the ``ByteSource`` of a sample.

    Args:
        image: the whole image.
        box: the part.
    """

    image: Sample
    box: Box

    @property
    def name(self) -> str:
        """``#xywh=10,20,30,40``, behind the image's name in its file if it is in one."""
        return ("" if self.image.source is None else self.image.source.name) + box_text(self.box)

    def read(self) -> bytes:
        """The pixels that the box touches, as a Netpbm file (P6): the same bytes wherever the image decodes to the same
        pixels.

        Raises:
            ImageError: the image cannot be read, or the box has no pixel of it.
        """
        pixels, upright = _DECODED.image(self.image)
        x, y, width, height = self.box
        # a very large image is decoded at a part of its size
        across, down = pixels.width / upright[0], pixels.height / upright[1]
        left, top = max(0, math.floor(x * across)), max(0, math.floor(y * down))
        right = min(pixels.width, math.ceil((x + width) * across))
        bottom = min(pixels.height, math.ceil((y + height) * down))
        if right <= left or bottom <= top:
            raise ImageError(
                f"the box {box_text(self.box)[1:]} of {self.image.name!r} has no pixel of the image",
                remedy="Correct the box",
            )
        part = pixels.crop((left, top, right, bottom))
        return b"P6\n%d %d\n255\n" % part.size + part.tobytes()


_Decoded: TypeAlias = "tuple[Image.Image, tuple[int, int]]"


class _DecodedImages:
    """The images that were decoded last; each is decoded once, whoever asks for it meanwhile waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: OrderedDict[object, Future[_Decoded]] = OrderedDict()

    def image(self, sample: Sample) -> _Decoded:
        """The upright pixels of an image, and the size that they would have at full size.

        Raises:
            ImageError: it cannot be read.
        """
        try:
            status = sample.path.stat()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageError(f"cannot read the image {sample.name!r}: {reason}", remedy="Check the path") from error
        return self._once((sample, status.st_size, status.st_mtime_ns), lambda: _decode(sample))

    def _once(self, key: object, decode: Callable[[], _Decoded]) -> _Decoded:
        with self._lock:
            future = self._images.get(key)
            is_first = future is None
            if future is None:
                future = self._images[key] = Future()
            self._images.move_to_end(key)
        if is_first:
            try:
                future.set_result(decode())
            except BaseException as error:
                with self._lock:
                    self._images.pop(key, None)
                future.set_exception(error)
            else:
                self._forget()
        return future.result()

    def _forget(self) -> None:
        with self._lock:
            done = {key: future.result()[0] for key, future in self._images.items() if future.done()}
            pixels = sum(image.width * image.height for image in done.values())
            for key, image in list(done.items())[:-1]:
                if len(self._images) <= _KEPT_IMAGES and pixels <= _KEPT_PIXELS:
                    break
                del self._images[key]
                pixels -= image.width * image.height


def _decode(sample: Sample) -> _Decoded:
    from abs_classify.images import image_size, load_image

    data = sample.read()
    return load_image(data, sample.name).pixels, image_size(data, sample.name).upright


_DECODED = _DecodedImages()
