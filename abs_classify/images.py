"""From image files to upright 8-bit RGB pixels; what cannot be read in full is an error that names the image.

Files come from strangers: Pillow may try a fixed list of formats only, what decoding may cost is bounded before it
begins, and a file that ends early is an error rather than an image with a grey lower half, unless the caller accepts
that. What is guessed or left out on the way to 8-bit RGB is said by a remark; it is done in bands, for the sake of
memory.
"""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from abs_classify.image_formats import FORMATS, MAX_FILE_BYTES, file_format
from abs_classify.image_limits import (
    DECODING_MEMORY,
    MAX_DECODING_BYTES,
    MAX_PIXELS,
    MAX_SCANNED_PIXELS,
    decoding_bytes,
    largest_image,
    png_without_metadata,
    scanned_pixels,
)
from abs_core.canonical import sha256_bytes
from abs_core.errors import ImageError
from abs_core.files import open_regular
from abs_core.text import printable

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "TRUNCATED",
    "ImageSize",
    "LoadedImage",
    "Truncated",
    "content_remarks",
    "image_size",
    "load_image",
    "to_rgb",
    "upright_rgb",
]

#: What is done with a file that ends early: it is an error, or what there is of it is the image.
Truncated: TypeAlias = Literal["refuse", "accept"]

#: The remark on an image whose file ends early.
TRUNCATED = "read in part: the file ends early"

_ORIENTATION_TAG = 0x0112
_WIDTH_TAG, _HEIGHT_TAG = 0x0100, 0x0101

# of TIFF: what kind of image a page is; camera raw files begin with a preview
_SUBFILE_TAG, _REDUCED = 0x00FE, 1

# from this orientation on width and height change places
_FIRST_TURNED = 5

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# formats that Pillow decodes at a half, a quarter or an eighth of their size
_REDUCIBLE = ("JPEG", "MPO", "JPEG2000")
_JPEG_END = b"\xff\xd9"
_JPEG_SEGMENTS = (b"\xff\xc4", b"\xff\xda", b"\xff\xdb")

# what decoders leave where a file ended before: libjpeg and the others
_FILLING = ((128, 128, 128), (0, 0, 0))

_CONVERT = "Convert it to JPEG or PNG, or leave it out"
_REPLACE = "Fetch the file again, or leave it out"
_SCALE = "Scale it down, or leave it out"

# warnings.catch_warnings changes filters that all threads share, so one thread at a time may use it here.
_warning_filters = threading.Lock()


@dataclass(frozen=True)
class LoadedImage:
    """A decoded image.

    Args:
        id: ``sha256:...`` of the file's bytes; it is the key of the image in caches and seeds its random numbers.
        pixels: RGB, 8 bits a channel, turned upright by its EXIF orientation, at least 1 x 1.
        remarks: what was guessed, scaled or left out to make these pixels, as the kinds of ``abs_core.remarks``.
    """

    id: str
    pixels: Image.Image
    remarks: tuple[str, ...] = ()


class ImageSize(NamedTuple):
    """How large an image is as it is stored, and how it is turned.

    Args:
        width, height: as stored, in pixels.
        orientation: as EXIF numbers them, 1 to 8.
    """

    width: int
    height: int
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height once it is turned upright."""
        return (self.height, self.width) if self.orientation >= _FIRST_TURNED else (self.width, self.height)


def image_size(source: Path | bytes, name: str) -> ImageSize:
    """The size of an image, from its header; no pixel is decoded.

    Args:
        source: a file, or the bytes of one.
        name: of the image, for errors.

    Raises:
        ImageError: the file cannot be read, or has no header of an image in one of the ``FORMATS``.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as stream:
            image = _open(stream, repr(name))
            orientation = _orientation(image) if image.format != "PNG" or _mentions_orientation(stream) else 1
            # of TIFF Pillow gives the size that the image has upright
            tags = getattr(image, "tag_v2", {})
            stored = tags.get(_WIDTH_TAG, image.width), tags.get(_HEIGHT_TAG, image.height)
            return ImageSize(*stored, orientation if orientation in _UPRIGHT else 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ImageError(
            f"cannot read the image {name!r}: {reason}", remedy="Check the path and permissions"
        ) from error


def _mentions_orientation(stream: BinaryIO) -> bool:
    """Whether a PNG file may have an orientation; Pillow decodes all of a file to find out."""
    stream.seek(0)
    data = stream.read(MAX_FILE_BYTES)
    return any(mark in data for mark in (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp"))


def load_image(
    source: Path | bytes, name: str | None = None, *, truncated: Truncated = "refuse", side: int | None = None
) -> LoadedImage:
    """Read and decode an image: the first frame, on white where it is transparent, 16-bit grey scaled to 8 bits.

    Safe to call from threads. JPEG and JPEG 2000 images that are too large are decoded at a half, a quarter or an
    eighth of their size, with a remark.

    Args:
        source: a file, or the bytes of one.
        name: the name of the image in errors; by default the path.
        truncated: whether a file that ends early is an error. "accept" takes what there is of a JPEG, PNG, GIF, BMP,
            TIFF or PPM file, with the remark ``TRUNCATED``; the rest is grey or black.
        side: pixels that the longer side must have at least, where a smaller image is enough, such as for a thumbnail;
            JPEG and JPEG 2000 images are then decoded at a half, a quarter or an eighth of their size.

    Raises:
        ImageError: the file cannot be read, is empty or no image, is in none of the ``FORMATS``, is too large to be
            decoded, or is cut off or damaged. The message names the image.
    """
    label = repr(name if name is not None else str(source) if isinstance(source, Path) else "image bytes")
    data = _read(source, label) if isinstance(source, Path) else source
    if not data:
        raise ImageError(f"the image {label} is empty (0 bytes)", remedy=_REPLACE)
    try:
        pixels, remarks = _decode(data, label, truncated, side)
    except ImageError:
        smaller = png_without_metadata(data)
        if smaller is None:
            raise
        pixels, remarks = _decode(smaller, label, truncated, side)
        remarks.append("read without its metadata, which is damaged or too large")
    return LoadedImage(sha256_bytes(data), pixels, tuple(remarks))


def upright_rgb(
    image: Image.Image,
    label: str,
    truncated: Truncated = "refuse",
    remarks: list[str] | None = None,
    side: int | None = None,
) -> Image.Image:
    """The pixels of an opened image as ``load_image`` gives them; of several frames the current one.

    Args:
        image: is not changed, except that Pillow reads the rest of its file, at a reduced size if it is too large.
        label: the name of the image in errors.
        truncated: as in ``load_image``.
        remarks: those on the image are appended.
        side: as in ``load_image``.

    Raises:
        ImageError: it has no pixels, is too large to be decoded, or its file is cut off, damaged or closed.
    """
    remarks = [] if remarks is None else remarks
    if min(image.size) < 1:
        raise ImageError(f"the image {label} has no pixels ({image.width} x {image.height})", remedy=_REPLACE)
    size = _reduce(image, label, remarks, side)
    with DECODING_MEMORY.taking(size):
        try:
            _load(image, truncated, remarks)
            pixels = _turn_upright(to_rgb(image, remarks), _orientation(image))
        except Exception as error:  # on broken data Pillow's decoders can raise anything
            raise _damaged(label, error, truncated) from error
    # an orientation that is kept would turn the pixels once more if they were passed in again
    pixels.info.clear()
    remarks += content_remarks(pixels)
    return pixels


def _decode(data: bytes, label: str, truncated: Truncated, side: int | None) -> tuple[Image.Image, list[str]]:
    image = _open(data, label)
    if _is_jpeg(image) and scanned_pixels(data, image.width * image.height) > MAX_SCANNED_PIXELS:
        raise ImageError(
            f"the image {label} has too many scans to be decoded in reasonable time and may be a decompression bomb",
            remedy=_CONVERT,
        )
    remarks: list[str] = []
    pixels = upright_rgb(image, label, truncated, remarks, side)
    if TRUNCATED in remarks and _is_jpeg(image):
        pixels, remarks = _decode_part(data, label)
    if TRUNCATED in remarks and (_SINGLE_COLOUR in remarks or _is_nearly_all(pixels, _FILLING)):
        raise ImageError(f"hardly anything is left of the image {label}, which is cut off", remedy=_REPLACE)
    return pixels, remarks


def _decode_part(data: bytes, label: str) -> tuple[Image.Image, list[str]]:
    """What there is of a JPEG file that ends early."""
    # libjpeg shows all that it has, such as the coarse scans of a progressive image, once the image has an end; that
    # must not stand within a table
    for part in (data, data[: max(data.rfind(marker) for marker in _JPEG_SEGMENTS)]):
        remarks = [TRUNCATED]
        with suppress(ImageError):
            return upright_rgb(_open(part + _JPEG_END, label), label, "refuse", remarks), remarks
    raise ImageError(f"the image {label} is cut off in a way that leaves nothing to decode", remedy=_REPLACE)


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")


def _read(path: Path, label: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise ImageError(f"the image {label} is {kind}", remedy="Name an image file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImageError(f"the image {label} has more than {MAX_FILE_BYTES >> 20} MB", remedy=_SCALE)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ImageError(f"cannot read the image {label}: {reason}", remedy="Check the path and permissions") from error


def _open(file: bytes | BinaryIO, label: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with _warning_filters, warnings.catch_warnings():
            # neither odd metadata nor a size that is looked at later concerns the caller
            warnings.simplefilter("ignore")
            return Image.open(stream, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(label, "its header claims too many pixels") from error
    except Exception as error:  # a broken header can raise anything, too
        stream.seek(0)
        raise _unopened(stream.read(MAX_FILE_BYTES), label) from error


def _unopened(data: bytes, label: str) -> ImageError:
    actual = file_format(data)
    if actual is not None and actual.readable:
        if kind := _unread_kind(data):
            return ImageError(f"the image {label} is {actual.name} {kind}, which is not read", remedy=_CONVERT)
        return ImageError(f"the image {label} is {actual.name} with a damaged header", remedy=_REPLACE)
    formats = f"not an image in one of the formats {', '.join(FORMATS)}"
    if actual is not None:
        return ImageError(f"{label} is {actual.name}, {formats}", remedy=_CONVERT if actual.is_image else _REPLACE)
    return ImageError(f"{label} is {formats}, or its header is damaged", remedy=_CONVERT)


# what the classes of Pillow say of files that are whole and of a kind that they do not decode
_UNREAD_KINDS = (
    (TiffImageFile, "unknown pixel mode", "with pixels of an uncommon kind"),
    (TiffImageFile, "unknown data organization", "with pixels of an uncommon kind"),
    (JpegImageFile, "-bit layers", "of more than 8 bits"),
    (JpegImageFile, "-layer images", "with an uncommon number of channels"),
)


def _unread_kind(data: bytes) -> str:
    """What is uncommon about a file whose header is whole; empty if that is not known."""
    for reader, said, kind in _UNREAD_KINDS:
        try:
            with _warning_filters, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader(io.BytesIO(data))
        except Exception as error:  # as in _open
            if said in str(error):
                return kind
    return ""


def _reduce(image: Image.Image, label: str, remarks: list[str], side: int | None) -> int:
    """Have an image that is too large, or larger than needed, decoded at a smaller size, if its format can do that.

    Returns:
        The bytes of memory that decoding it takes.
    """
    width, height = image.size
    reducible = image.format in _REDUCIBLE and getattr(image, "tile", None)
    needless = max(0, (max(image.size) // side).bit_length() - 1) if side and reducible else 0
    for power in range(min(3, needless), 4 if reducible else 1):
        reduced = max(1, width >> power), max(1, height >> power)
        size = decoding_bytes(image, *reduced)
        if reduced[0] * reduced[1] <= largest_image() and size <= MAX_DECODING_BYTES:
            break
    else:
        if width * height > largest_image():
            raise _too_large(label, f"{width} x {height}")
        message = (
            f"the image {label} ({width} x {height}) needs {size / 1e9:.1f} GB of memory to be decoded, more than "
        )
        raise ImageError(f"{message}{MAX_DECODING_BYTES / 1e9:.1f} GB", remedy=_SCALE)
    if power:
        if image.format == "JPEG2000":
            image.reduce = power  # type: ignore[method-assign, assignment]
        else:
            image.draft(None, reduced)
        if power > needless:
            remarks.append(f"decoded at 1/{1 << power} of width and height: too large")
    if _is_preview(image):
        remarks.append("a preview that a camera raw or TIFF file begins with")
    return size


def _is_preview(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    with suppress(Exception):  # a broken tag can raise anything
        return image.format == "TIFF" and bool(int(tags.get(_SUBFILE_TAG, 0)) & _REDUCED)
    return False


def _load(image: Image.Image, truncated: Truncated, remarks: list[str]) -> None:
    try:
        image.load()
    except OSError as error:
        if truncated == "refuse" or not _is_cut_off(error):
            raise
        # what was decoded before the file ended is there
        image.tile = []  # type: ignore[attr-defined]
        image.load()
        remarks.append(TRUNCATED)


def _is_cut_off(error: Exception) -> bool:
    return "truncated" in str(error).lower()


def _damaged(label: str, error: Exception, truncated: Truncated) -> ImageError:
    reason = printable(str(error) or type(error).__name__, 120).rstrip(".")
    remedy = _REPLACE
    if truncated == "refuse" and isinstance(error, OSError) and _is_cut_off(error):
        remedy = f"{_REPLACE}; --truncated accept reads what there is of it"
    return ImageError(f"the image {label} is cut off or damaged: {reason}", remedy=remedy)


def _too_large(label: str, detail: str) -> ImageError:
    limit = largest_image() // 1_000_000
    return ImageError(
        f"the image {label} is larger than {limit} megapixels ({detail}) and may be a decompression bomb",
        remedy=_SCALE,
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


# The remark on an image without any content.
_SINGLE_COLOUR = "of a single colour"

_BAND_PIXELS = 1_000_000

# Of 255. Below, nobody sees anything; files with such an alpha channel mean something else by it.
_INVISIBLE = 8

# Depths of cameras and scanners, which are stored in 16 bits.
_DEPTHS = (8, 10, 12, 14)
_NEARLY_BLACK = 15

# of TIFF: what the numbers of grey mean
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 0x0106, 0

_SAMPLE = 16
_NEARLY_ALL = 0.98


def to_rgb(image: Image.Image, remarks: list[str]) -> Image.Image:
    """A decoded image as 8-bit RGB, on white where it is transparent. A new image.

    Args:
        image: of any mode; is not changed.
        remarks: what was guessed is appended.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_grey(image, remarks)
    if image.has_transparency_data:
        return _on_white(image, remarks)
    if image.mode == "RGB":
        # a copy keeps neither the bytes of the file nor its decoder
        return image.copy()
    return image.convert("RGB")


def content_remarks(pixels: Image.Image) -> list[str]:
    """What is odd about an RGB image as a whole, and often means that its file was written or read wrongly."""
    # a few pixels tell nearly always, and looking at all takes as long as decoding them
    for sample in (pixels.resize((_SAMPLE, _SAMPLE), Image.Resampling.NEAREST), pixels):
        lows, highs = _extrema(sample)
        if lows != highs and max(highs) > _NEARLY_BLACK:
            return []
    if lows == highs:
        return [_SINGLE_COLOUR] if pixels.width * pixels.height > 1 else []
    return [f"nearly black: no value is above {_NEARLY_BLACK} of 255"]


def _is_nearly_all(pixels: Image.Image, colours: Sequence[tuple[int, int, int]]) -> bool:
    """Whether an RGB image has one of these colours nearly everywhere."""
    sample = np.asarray(pixels.resize((_SAMPLE, _SAMPLE), Image.Resampling.NEAREST))
    return any(np.mean((sample == colour).all(axis=-1)) > _NEARLY_ALL for colour in colours)


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Parts of full width, from the top down, each with its upper edge."""
    height = max(1, _BAND_PIXELS // image.width)
    for upper in range(0, image.height, height):
        yield upper, image.crop((0, upper, image.width, min(image.height, upper + height)))


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An RGB image whose bands are those of ``image``, converted."""
    result = Image.new("RGB", image.size)
    for upper, band in _bands(image):
        result.paste(convert(band), (0, upper))
    return result


def _on_white(image: Image.Image, remarks: list[str]) -> Image.Image:
    if _is_invisible(image):
        remarks.append("shown without transparency: no pixel would be visible")
        return _by_bands(image, lambda band: band.convert("RGBA").convert("RGB"))

    def over_white(band: Image.Image) -> Image.Image:
        pixels = band.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB")

    return _by_bands(image, over_white)


def _is_invisible(image: Image.Image) -> bool:
    """Whether all pixels are transparent although their colours differ."""
    lowest: tuple[int, ...] = (255,) * 3
    highest: tuple[int, ...] = (0,) * 3
    for _, band in _bands(image):
        lows, highs = _extrema(band.convert("RGBA"))
        if highs[3] >= _INVISIBLE:
            return False
        # map ends with the shorter one: without alpha
        lowest, highest = tuple(map(min, lowest, lows)), tuple(map(max, highest, highs))
    return lowest != highest


def _extrema(image: Image.Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The lowest and the highest value of each of several 8-bit channels."""
    ranges = [band for band in image.getextrema() if isinstance(band, tuple)]
    return tuple(int(low) for low, _ in ranges), tuple(int(high) for _, high in ranges)


def _wide_grey(image: Image.Image, remarks: list[str]) -> Image.Image:
    """Grey of more than 8 bits: from 0 to the largest number of its depth, floats from 0..1, others by their range."""
    low, high = _range(image)
    top = 1.0 if image.mode == "F" else 65535.0
    if low < 0 or high > top:
        remarks.append("grey scaled from the image's own range to 8 bits")
        offset, top = low, (high - low) or 1.0
    else:
        offset = 0.0
        if image.mode != "F":
            top = _largest_number(high, remarks)

    is_inverted = _is_inverted(image)

    def scale(band: Image.Image) -> Image.Image:
        values = np.asarray(band).astype(np.float64)
        scaled: NDArray[np.uint8] = np.rint((values - offset) * (255.0 / top)).astype(np.uint8)
        return Image.fromarray(255 - scaled if is_inverted else scaled).convert("RGB")

    return _by_bands(image, scale)


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white, as X-rays are stored; Pillow heeds that in TIFF files of up to 8 bits alone."""
    tags = getattr(image, "tag_v2", {})
    with suppress(Exception):  # a broken tag can raise anything
        return image.format == "TIFF" and int(tags.get(_PHOTOMETRIC_TAG, 1)) == _WHITE_IS_ZERO
    return False


def _largest_number(high: float, remarks: list[str]) -> float:
    """The largest number of the depth that 16-bit grey really has."""
    for bits in _DEPTHS:
        if 0 < high < 1 << bits:
            remarks.append(f"grey of {bits} significant bits in 16, scaled by these")
            return float((1 << bits) - 1)
    return 65535.0


def _range(image: Image.Image) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for _, band in _bands(image):
        values = np.asarray(band)
        low, high = min(low, float(np.min(values))), max(high, float(np.max(values)))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("it holds NaN or infinity")
    return low, high
