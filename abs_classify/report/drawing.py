"""Pixels of a report: thumbnails and heat overlays, as images and as data: URIs. No files, no HTML."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
import PIL.Image
from numpy.typing import NDArray

__all__ = [
    "flattened",
    "heat_colours",
    "heat_overlay",
    "heat_png",
    "jpeg",
    "jpeg_uri",
    "levels",
    "peak_words",
    "thumbnail",
]

# OKLab to the cube roots of cone responses, and from cone responses to linear sRGB (Ottosson's matrices)
_LAB_TO_LMS = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)

_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)

_LIGHTNESS = (0.16, 0.96)
_HUE_DEGREES = (295.0, 465.0)  # violet, over red at 390, to yellow at 105
_CHROMA = 0.17
_STEPS = 256


@cache
def heat_colours() -> NDArray[np.uint8]:
    """The colour map, uint8 [256, 3] sRGB, from the lowest value to the highest. Do not write into it."""
    position = np.linspace(0.0, 1.0, _STEPS)
    lightness = _LIGHTNESS[0] + (_LIGHTNESS[1] - _LIGHTNESS[0]) * position
    hue = np.deg2rad(_HUE_DEGREES[0] + (_HUE_DEGREES[1] - _HUE_DEGREES[0]) * position)
    # towards black and white sRGB has little chroma: halve the interval until each colour is inside
    low, high = np.zeros(_STEPS), np.full(_STEPS, _CHROMA)
    for _ in range(20):
        middle = (low + high) / 2
        linear = _linear_rgb(lightness, middle, hue)
        inside = ((linear >= 0) & (linear <= 1)).all(axis=1)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    colours = _gamma(np.clip(_linear_rgb(lightness, low, hue), 0.0, 1.0))
    table: NDArray[np.uint8] = np.round(255 * colours).astype(np.uint8)
    table.setflags(write=False)
    return table


def _linear_rgb(
    lightness: NDArray[np.float64], chroma: NDArray[np.float64], hue: NDArray[np.float64]
) -> NDArray[np.float64]:
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    rgb: NDArray[np.float64] = (lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T
    return rgb


def _gamma(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light to sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_OVERLAY_SIDE = 64

# The lowest values still dim the image, so that the highest stand out; neither hides it.
_OPACITY = (0.30, 0.72)


def thumbnail(image: PIL.Image.Image, long_side: int) -> PIL.Image.Image:
    """A copy of ``image`` in RGB whose longer side is at most ``long_side`` pixels; the shorter is at least 1."""
    scale = min(1.0, long_side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return flattened(image).resize(size, PIL.Image.Resampling.LANCZOS)


def flattened(image: PIL.Image.Image) -> PIL.Image.Image:
    """``image`` in RGB, transparent parts on white."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = PIL.Image.new("RGBA", layer.size, "white")
    return PIL.Image.alpha_composite(ground, layer).convert("RGB")


def jpeg(image: PIL.Image.Image, long_side: int) -> bytes:
    """A thumbnail as a JPEG file of quality 80, without metadata."""
    buffer = io.BytesIO()
    thumbnail(image, long_side).save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def jpeg_uri(image: PIL.Image.Image, long_side: int) -> str:
    """A ``data:image/jpeg`` URI of ``jpeg``."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, long_side)).decode("ascii")


def levels(attention: NDArray[np.floating]) -> NDArray[np.float64]:
    """The map scaled to 0 (its lowest value) to 1 (its highest), same shape; a flat map is 0 everywhere."""
    values = np.asarray(attention, dtype=np.float64)
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


def heat_overlay(attention: NDArray[np.floating]) -> PIL.Image.Image:
    """The map in colour with transparency, a palette image of 64 x 64 pixels to be stretched over the image.

    Args:
        attention: float [g, g], over the full image.
    """
    small = PIL.Image.fromarray(levels(attention).astype(np.float32))
    smooth = np.asarray(small.resize((_OVERLAY_SIDE, _OVERLAY_SIDE), PIL.Image.Resampling.BICUBIC))
    indices = np.round(255 * np.clip(smooth, 0.0, 1.0)).astype(np.uint8)
    overlay = PIL.Image.frombytes("P", (_OVERLAY_SIDE, _OVERLAY_SIDE), indices.tobytes())
    overlay.putpalette(heat_colours().tobytes())
    overlay.info["transparency"] = bytes(round(255 * a) for a in np.linspace(*_OPACITY, 256))
    return overlay


def heat_png(attention: NDArray[np.floating]) -> bytes:
    """``heat_overlay`` as a PNG file."""
    overlay = heat_overlay(attention)
    buffer = io.BytesIO()
    overlay.save(buffer, "PNG", transparency=overlay.info["transparency"], optimize=True)
    return buffer.getvalue()


def peak_words(attention: NDArray[np.floating]) -> str:
    """Where the map is highest, for people who do not see it: "the upper left", "the centre"."""
    rows, columns = attention.shape
    row, column = divmod(int(np.argmax(attention)), columns)
    vertical = ("upper", "", "lower")[min(2, 3 * row // rows)]
    horizontal = ("left", "", "right")[min(2, 3 * column // columns)]
    words = " ".join(word for word in (vertical, horizontal) if word)
    if not words:
        return "the centre"
    return f"the {words}" if vertical and horizontal else f"the {words} middle"
