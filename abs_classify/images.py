"""From image files to upright 8-bit RGB pixels; what cannot be read in full is an error that names the image.

Files come from strangers: Pillow may try a fixed list of formats only, decompression bombs are refused before anything
is decoded, and a file that ends early is an error rather than an image with a grey lower half.
"""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from abs_classify.image_formats import FORMATS, file_format
from abs_core.canonical import sha256_bytes
from abs_core.errors import ImageError
from abs_core.text import printable

__all__ = ["FORMATS", "MAX_PIXELS", "LoadedImage", "load_image", "upright_rgb"]

#: An image with more pixels is refused. Pillow's own limit, 89 megapixels unless the program changed it, holds as well.
MAX_PIXELS = 100_000_000
_ORIENTATION_TAG = 0x0112

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_CONVERT = "Convert it to JPEG or PNG, or leave it out"
_REPLACE = "Fetch the file again, or leave it out"

# warnings.catch_warnings changes filters that all threads share, so one thread at a time may use it here.
_warning_filters = threading.Lock()


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Args:
        id: ``sha256:...`` of the file's bytes; it is the key of the image in caches and seeds its random numbers.
        pixels: RGB, 8 bits a channel, turned upright by its EXIF orientation, at least 1 x 1.
    """

    id: str
    pixels: Image.Image


def load_image(source: Path | bytes, name: str | None = None) -> LoadedImage:
    """Read and decode an image: the first frame, on white where it is transparent, 16-bit grey scaled to 8 bits.

    Safe to call from threads.

    Args:
        source: a file, or the bytes of one.
        name: the name of the image in errors; by default the path.

    Raises:
        ImageError: the file cannot be read, is empty, is in none of the ``FORMATS``, has more than ``MAX_PIXELS``
            pixels, or is cut off or damaged. The message names the image.
    """
    label = repr(name if name is not None else str(source) if isinstance(source, Path) else "image bytes")
    data = _read(source, label) if isinstance(source, Path) else source
    if not data:
        raise ImageError(f"the image {label} is empty (0 bytes)", remedy=_REPLACE)
    return LoadedImage(sha256_bytes(data), upright_rgb(_open(data, label), label))


def upright_rgb(image: Image.Image, label: str) -> Image.Image:
    """The pixels of an opened image as ``load_image`` gives them; of several frames the current one.

    Args:
        image: is not changed, except that Pillow reads the rest of its file.
        label: the name of the image in errors.

    Raises:
        ImageError: it has no pixels or more than ``MAX_PIXELS``, or its file is cut off, damaged or closed.
    """
    width, height = image.size
    if min(width, height) < 1:
        raise ImageError(f"the image {label} has no pixels ({width} x {height})", remedy=_REPLACE)
    if width * height > _most_pixels():
        raise _bomb(label, f"{width} x {height}")
    try:
        image.load()
        pixels = _turn_upright(_to_rgb(image), _orientation(image))
    except Exception as error:  # on broken data Pillow's decoders can raise anything
        reason = printable(str(error) or type(error).__name__, 120).rstrip(".")
        raise ImageError(f"the image {label} is cut off or damaged: {reason}", remedy=_REPLACE) from error
    # an orientation that is kept would turn the pixels once more if they were passed in again
    pixels.info.clear()
    return pixels


def _read(path: Path, label: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ImageError(f"the image {label} is {kind}", remedy="Name an image file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ImageError(f"cannot read the image {label}: {reason}", remedy="Check the path and permissions") from error


def _open(data: bytes, label: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    try:
        with _warning_filters, warnings.catch_warnings():
            # warnings about odd metadata do not concern the pixels
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _bomb(label, "its header claims too many pixels") from error
    except Exception as error:  # a broken header can raise anything, too
        raise _unopened(data, label) from error


def _unopened(data: bytes, label: str) -> ImageError:
    actual = file_format(data)
    if actual is not None and actual.readable:
        return ImageError(f"the image {label} is {actual.name} with a damaged header", remedy=_REPLACE)
    formats = f"not an image in one of the formats {', '.join(FORMATS)}"
    if actual is not None:
        return ImageError(f"{label} is {actual.name}, {formats}", remedy=_CONVERT if actual.is_image else _REPLACE)
    return ImageError(f"{label} is {formats}, or its header is damaged", remedy=_CONVERT)


def _most_pixels() -> int:
    return min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)


def _bomb(label: str, detail: str) -> ImageError:
    limit = _most_pixels() // 1_000_000
    return ImageError(
        f"the image {label} is larger than {limit} megapixels ({detail}) and may be a decompression bomb",
        remedy="Scale it down, or leave it out",
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    with _warning_filters, warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        value = image.getexif().get(_ORIENTATION_TAG, 1)
        return value if isinstance(value, int) else 1
    return 1


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_grey(image).convert("RGB")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    if image.mode == "RGB":
        # a copy keeps neither the bytes of the file nor its decoder
        return image.copy()
    return image.convert("RGB")


def _wide_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as 8-bit grey: from 0..65535 (of floats 0..1), other values from their range."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(np.min(values)), float(np.max(values))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("it holds NaN or infinity")
    top = 1.0 if image.mode == "F" else 65535.0
    if low < 0 or high > top:
        values, top = values - low, (high - low) or 1.0
    return Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8))
