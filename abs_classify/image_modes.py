"""From the modes of image files to 8-bit RGB: transparency, grey of more than 8 bits. In bands, for the sake of memory.

What is guessed or left out on the way is said by a remark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["SINGLE_COLOUR", "content_remarks", "is_nearly_all", "to_rgb"]

#: The remark on an image without any content.
SINGLE_COLOUR = "of a single colour"

_BAND_PIXELS = 1_000_000

# Of 255. Below, nobody sees anything; files with such an alpha channel mean something else by it.
_INVISIBLE = 8

# Depths of cameras and scanners, which are stored in 16 bits.
_DEPTHS = (8, 10, 12, 14)
_NEARLY_BLACK = 15
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
        return [SINGLE_COLOUR] if pixels.width * pixels.height > 1 else []
    return [f"nearly black: no value is above {_NEARLY_BLACK} of 255"]


def is_nearly_all(pixels: Image.Image, colours: Sequence[tuple[int, int, int]]) -> bool:
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

    def scale(band: Image.Image) -> Image.Image:
        values = np.asarray(band).astype(np.float64)
        scaled: NDArray[np.uint8] = np.rint((values - offset) * (255.0 / top)).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")

    return _by_bands(image, scale)


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
