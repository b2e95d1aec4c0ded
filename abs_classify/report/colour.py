"""A colour map whose lightness rises evenly, so that it reads in grey and with any colour vision.

Built in OKLCh, the polar form of OKLab (Björn Ottosson 2020, "A perceptual color space for image processing",
https://bottosson.github.io/posts/oklab/): violet and dark, through red and orange, to a light yellow.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["heat_colours"]

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
